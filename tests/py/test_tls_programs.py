# SPDX-License-Identifier: MIT
"""L1, L2: Node's ws, the client of Java and Chromium ask for a name and show a certificate.

Where one of them is missing, its tests are skipped; with CI=true they fail instead.
"""

import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from authority import Authority, Pair, authority
from chromium import TIMEOUT, Browser, launched, unavailable
from common import without_sanitizer
from peer import eventually
from tls_server import Secure, with_contexts

pytestmark = [with_contexts, pytest.mark.timeout(240)]

NAME = "chat.example"  # every client is told that it is this machine
MESSAGE = "grüße " * 1500
CODE = 1000


@pytest.fixture(autouse=True)
def without_the_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """With PYWS_TEST_TLS=1 all clients would trust it."""
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(secure: Callable[..., Secure]) -> Secure:
    """Whoever asks for NAME needs a certificate; all others get that of another name."""
    return secure(
        ssl={
            NAME: authority().server_context(NAME, clients=True),
            "*": authority().server_context("localhost"),
        }
    )


@pytest.fixture
def jane() -> Pair:
    return authority().issue("jane.example")


def check_info(server: Secure, shown: Pair) -> None:
    """What ws.tls of the last connection says of its client."""
    eventually(lambda: server.infos)
    info = server.infos[-1]
    assert info is not None
    assert info.server_name == NAME
    assert info.version == "TLSv1.3"
    expected = ssl.PEM_cert_to_DER_cert(Path(shown.cert).read_text(encoding="ascii"))
    assert info.peer_certificate == expected


def run(command: List[str], **more: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=TIMEOUT, env=without_sanitizer(),
        **more,
    )  # fmt: skip


def key_store(pair: Pair, file: Path, password: str) -> str:
    """A PKCS #12 file with the certificate and its key, as Java and Chromium import it."""
    done = run(
        ["openssl", "pkcs12", "-export", "-in", pair.cert, "-inkey", pair.key, "-name", "jane",
         "-passout", f"pass:{password}", "-out", str(file)]
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(file)


# ---- Node's ws ----------------------------------------------------------------------------------

NODE = """
const fs = require('fs');
const WebSocket = require('ws');
const {url, ca, cert, key, message} = JSON.parse(fs.readFileSync(0));
const lookup = (host, options, found) =>
    options.all ? found(null, [{address: '127.0.0.1', family: 4}]) : found(null, '127.0.0.1', 4);
const read = file => file && fs.readFileSync(file);
const ws = new WebSocket(url, {lookup, ca: read(ca), cert: read(cert), key: read(key)});
const result = {};
ws.on('open', () => ws.send(message));
ws.on('message', data => { result.echo = data.toString(); ws.close(1000, 'done'); });
ws.on('error', error => result.error = error.code);
ws.on('close', code => { result.code = code; console.log(JSON.stringify(result)); });
"""


def test_l1_l2_node_ws(
    node: Callable[[str, Dict[str, Any]], Any], server: Secure, jane: Pair
) -> None:
    url = f"wss://{NAME}:{server.port}/chat"
    known = {"url": url, "ca": authority().cert, "message": MESSAGE}
    got = node(NODE, {**known, "cert": jane.cert, "key": jane.key})
    assert got == {"echo": MESSAGE, "code": CODE}
    check_info(server, jane)
    assert node(NODE, known)["error"] == "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED"
    strangers = Authority("strangers")  # whose files are there as long as the object
    stranger = {"cert": jane.cert, "key": jane.key, "ca": strangers.cert}
    assert "SELF_SIGNED_CERT_IN_CHAIN" in node(NODE, {**known, **stranger})["error"]
    assert len(server.infos) == 1
    server.check()


# ---- Java ---------------------------------------------------------------------------------------


def java(server: Secure, folder: Path, ca: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """Runs TlsClient.java, which compiles it first: it needs a JDK."""
    program = shutil.which("java") or unavailable("no java here")
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 {NAME}\n")
    source = Path(__file__).with_name("TlsClient.java")
    return run(
        [program, f"-Djdk.net.hosts.file={hosts}", "-Dfile.encoding=UTF-8",
         "-Dsun.jnu.encoding=UTF-8", str(source), f"wss://{NAME}:{server.port}/chat", ca, *more]
    )  # fmt: skip


def test_l1_l2_java(server: Secure, jane: Pair, tmp_path: Path) -> None:
    store = key_store(jane, tmp_path / "jane.p12", "changeit")
    message = "message " * 1500
    done = java(server, tmp_path, authority().cert, message, store, "changeit")
    assert done.stdout.splitlines() == [message, str(CODE)], done.stderr
    check_info(server, jane)
    done = java(server, tmp_path, authority().cert, message)
    assert done.returncode == 1 and not done.stdout
    assert "certificate_required" in done.stderr
    strangers = Authority("strangers")
    done = java(server, tmp_path, strangers.cert, message, store, "changeit")
    assert done.returncode == 1 and not done.stdout
    assert "PKIX path" in done.stderr
    assert len(server.infos) == 1
    server.check()


# ---- Chromium -----------------------------------------------------------------------------------

ECHO = """new Promise((done, fail) => {
    const ws = new WebSocket(%s);
    ws.onopen = () => ws.send(%s);
    ws.onmessage = event => { ws.echo = event.data; ws.close(1000); };
    ws.onclose = event => done([ws.echo, event.code]);
})"""


def nss(*command: str) -> None:
    """Runs a tool of NSS, whose database in the home of a user Chromium reads."""
    if shutil.which(command[0]) is None:
        unavailable(f"no {command[0]} of libnss3-tools here")
    done = run(list(command))
    assert done.returncode == 0, done.stdout + done.stderr


def give_certificates(home: Path, pair: Pair) -> None:
    """Chromium trusts the authority, and shows the certificate to all who ask for one."""
    folder = home / ".pki" / "nssdb"
    folder.mkdir(parents=True)
    database = ["-d", f"sql:{folder}"]
    nss("certutil", *database, "-N", "--empty-password")
    nss("certutil", *database, "-A", "-n", "authority", "-t", "C,,", "-i", authority().cert)
    store = key_store(pair, home / "client.p12", "secret")
    nss("pk12util", *database, "-i", store, "-W", "secret", "-K", "")
    profile = home / "profile" / "Default"
    profile.mkdir(parents=True)
    select = [json.dumps({"pattern": f"https://{NAME}", "filter": {}})]
    preferences = {"profile": {"managed_auto_select_certificate_for_urls": select}}
    (profile / "Preferences").write_text(json.dumps(preferences))


def visit(browser: Browser, server: Secure) -> Any:
    """The echo that a page of the server gets from it."""
    browser.open(f"https://{NAME}:{server.port}/scheme")
    assert browser.evaluate("document.body.textContent") == '["https",true]'
    url = f"wss://{NAME}:{server.port}/chat"
    return browser.evaluate(ECHO % (json.dumps(url), json.dumps(MESSAGE)))


def test_l1_l2_chromium(server: Secure, jane: Pair) -> None:
    flag = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
    with launched(flag, prepare=lambda home: give_certificates(home, jane)) as browser:
        assert visit(browser, server) == [MESSAGE, CODE]
        check_info(server, jane)
    with launched(flag) as browser:  # which neither trusts the authority nor has a certificate
        wrong = browser.call("Page.navigate", url=f"https://{NAME}:{server.port}/scheme")
        assert wrong["errorText"] == "net::ERR_CERT_AUTHORITY_INVALID"
    assert len(server.infos) == 1
    server.check()
