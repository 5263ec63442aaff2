# SPDX-License-Identifier: MIT
"""docs/tls.md, followed from an empty directory: its commands and programs work as they are."""

import re
import shutil
import signal
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Tuple

import pytest
from common import ROOT, TIMEOUT, without_sanitizer
from doc_blocks import RUN_ELSEWHERE, all_blocks
from peer import eventually
from program import Program
from tls_server import with_contexts

PAGE = "docs/tls.md"
BLOCKS = [block for block in all_blocks() if block.page == PAGE]
FILES = {block.file: block.text for block in BLOCKS if block.file}
COMMANDS = re.findall(r"^```bash\n(.*?)^```$", (ROOT / PAGE).read_text(), re.MULTILINE | re.DOTALL)
PORT = "8443"  # that of the page

pytestmark = [
    pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here"),
    pytest.mark.skipif(not shutil.which("curl"), reason="no curl here"),
]


def fragment(phrase: str) -> str:
    """The only block of Python with a phrase, and without the call of listen."""
    (block,) = [block.text for block in BLOCKS if phrase in block.text]
    return block.split("app.listen")[0]


def shell(folder: Path, phrase: str, port: int = 0) -> "subprocess.CompletedProcess[str]":
    """The only block of commands with a phrase, run with the port of a program."""
    (commands,) = [commands for commands in COMMANDS if phrase in commands]
    return subprocess.run(
        ["bash", "-e", "-c", commands.replace(PORT, str(port))],
        cwd=folder, env=without_sanitizer(), capture_output=True, encoding="utf-8", timeout=TIMEOUT,
    )  # fmt: skip


def make_certificate(folder: Path) -> None:
    done = shell(folder, "subjectAltName")
    assert done.returncode == 0, done.stderr


@contextmanager
def started(folder: Path, text: str) -> Iterator[Tuple[Program, int]]:
    """A program of the page, and its port."""
    runner, file = folder / "run_elsewhere.py", folder / "server.py"
    runner.write_text(RUN_ELSEWHERE)
    file.write_text(text)
    with Program(str(runner), str(file)) as program:
        port = int(program.line().rpartition(" ")[2])
        yield program, port
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


def test_trying_it(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    with started(tmp_path, FILES["server.py"]) as (_, port):
        done = shell(tmp_path, "curl --cacert cert.pem https", port)
        assert done.stdout == "https, TLSv1.3\n", done.stderr
        pytest.importorskip("websockets.sync.client")
        client = tmp_path / "client.py"
        client.write_text(FILES["client.py"].replace(PORT, str(port)))
        done = subprocess.run(
            [sys.executable, str(client)], cwd=tmp_path, env=without_sanitizer(),
            capture_output=True, encoding="utf-8", timeout=TIMEOUT,
        )  # fmt: skip
        assert done.stdout == "hello\n", done.stderr


def test_l3_a_renewed_certificate(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    text = FILES["server.py"].replace("app.run()", fragment("on_hangup") + "\n\napp.run()")
    with started(tmp_path, text) as (program, port):

        def serves_the_file() -> bool:
            served = ssl.get_server_certificate(("127.0.0.1", port))
            return ssl.PEM_cert_to_DER_cert(served) == ssl.PEM_cert_to_DER_cert(
                (tmp_path / "cert.pem").read_text()
            )

        assert serves_the_file()
        make_certificate(tmp_path)
        assert not serves_the_file()
        program.process.send_signal(signal.SIGHUP)
        eventually(serves_the_file)


@with_contexts
def test_l1_certificates_of_clients(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    make_certificate(tmp_path)
    assert shell(tmp_path, "jane.csr").returncode == 0
    context = fragment("minimum_version") + fragment("ssl.CERT_REQUIRED")
    server = (
        FILES["server.py"]
        .replace('cert_file="cert.pem", key_file="key.pem"', "ssl=context")
        .replace("req.scheme", "x509.load_der_x509_certificate(req.tls.peer_certificate).subject")
    )
    with started(tmp_path, context + server) as (_, port):
        done = shell(tmp_path, "--cert jane.pem", port)
        assert done.stdout == "<Name(CN=jane)>, TLSv1.3\n", done.stderr
        done = shell(tmp_path, "curl --cacert cert.pem https", port)
        assert done.returncode != 0 and not done.stdout
