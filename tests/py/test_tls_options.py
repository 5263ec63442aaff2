# SPDX-License-Identifier: MIT
"""L1: the settings of TLS, and what is wrong with them."""

import os
import ssl
from pathlib import Path
from typing import Any, Dict, List

import pytest
from authority import PASSWORD, authority, localhost
from tls_server import with_contexts

from pyws import App, AppListenOptions
from pyws._core import certificates
from pyws._core.tls import Tls


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*localhost())
    return context


CLIENT = ssl.create_default_context()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ssl": True}, TypeError, "ssl must be an ssl.SSLContext, a dict of them by server name"),
        ({"ssl": "cert.pem"}, TypeError, "not str"),
        ({"ssl": ssl.SSLContext}, TypeError, "ssl must be an ssl.SSLContext"),
        ({"ssl": lambda name: None}, TypeError, "ssl must take no arguments"),
        ({"ssl": {}}, ValueError, "ssl must not be empty"),
        ({"ssl": {1: CLIENT}}, TypeError, "ssl must have server names as keys, not int"),
        ({"ssl": {"*": "cert.pem"}}, TypeError, "ssl['*'] must be an ssl.SSLContext, not str"),
        ({"ssl": {"*": None}}, TypeError, "ssl['*'] must be an ssl.SSLContext, not None"),
        ({"ssl": CLIENT}, ValueError, "ssl is a context for clients: make one by"),
        ({"ssl": {"a.org": CLIENT}}, ValueError, "ssl['a.org'] is a context for clients"),
        ({"cert_file": 1}, TypeError, "cert_file must be a str or os.PathLike, not int"),
        ({"cert_file": b"cert.pem"}, TypeError, "cert_file must be a str or os.PathLike"),
        ({"cert_file": ""}, ValueError, "cert_file must not be empty"),
        ({"cert_file": "a\0b"}, ValueError, "cert_file must not contain NUL"),
        ({"key_file": "key.pem"}, ValueError, "key_file belongs to cert_file, which is missing"),
        ({"key_password": "x"}, ValueError, "key_password belongs to cert_file"),
        ({"cert_file": "c", "key_password": 5}, TypeError, "key_password must be a str or bytes"),
        ({"cert": "c"}, TypeError, "did you mean 'cert_file'?"),
        ({"certfile": "c"}, TypeError, "did you mean 'cert_file'?"),
        ({"ssl_keyfile": "c"}, TypeError, "did you mean 'key_file'?"),
        ({"ssl_context": "c"}, TypeError, "did you mean 'ssl'?"),
        ({"ca_file": "c"}, TypeError, "this is set in an ssl.SSLContext, ssl=context"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_l1_wrong_settings(options: Dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error) as info:
        AppListenOptions(**options)
    assert text in str(info.value)


def test_l1_settings_exclude_each_other() -> None:
    context = server_context()
    settings: List[Any] = [{"cert_file": "c"}, {"key_file": "k"}, {"key_password": "p"}]
    for more in settings:
        with pytest.raises(ValueError, match="ssl and cert_file exclude|belongs to cert_file"):
            AppListenOptions(ssl=context, **more)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("example.org", "example.org"),
        ("Example.ORG", "example.org"),
        ("*.example.org", "*.example.org"),
        ("*", "*"),
        ("localhost", "localhost"),
        ("a_b.example", "a_b.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
    ],
)
def test_l1_server_names(name: str, plain: str) -> None:
    context = server_context()
    assert AppListenOptions(ssl={name: context}).ssl == {plain: context}


@pytest.mark.parametrize(
    "name",
    [
        "", " ", ".", "a..b", "example.org.", ".example.org", "-a.org", "a-.org", "a b", "a/b",
        "https://example.org", "example.org:443", "**", "*.", "*a.org", "a.*.org", "*.*.org",
        "a" * 64 + ".org", "a." * 127 + "org", "a\0b", "\ud800",
    ],
)  # fmt: skip
def test_l1_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="ssl must have server names as keys, like"):
        AppListenOptions(ssl={name: server_context()})


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "2001:db8::1"])
def test_l1_addresses_are_no_server_names(name: str) -> None:
    with pytest.raises(ValueError, match="clients name no addresses: use"):
        AppListenOptions(ssl={name: server_context()})


def test_l1_a_name_twice() -> None:
    context = server_context()
    with pytest.raises(ValueError, match=r"ssl has the server name 'a\.org' twice"):
        AppListenOptions(ssl={"a.org": context, "A.org": context})


def test_l1_callbacks_of_python_are_refused(tmp_path: Path) -> None:
    """Each of them would crash the process in the handshake."""
    for attribute, callback, text in (
        ("sni_callback", lambda *a: None, "has an sni_callback"),
        ("keylog_filename", str(tmp_path / "keys"), "has a keylog_filename"),
        ("_msg_callback", lambda *a: None, "has a _msg_callback"),
    ):
        context = server_context()
        setattr(context, attribute, callback)
        for value in (context, {"a.org": context}):
            with pytest.raises(ValueError, match=text):
                AppListenOptions(ssl=value)


def test_l1_the_file_of_secrets_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """create_default_context sets keylog_filename by itself."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if getattr(context, "keylog_filename", None) is None:
        pytest.skip("not in this Python")
    with pytest.raises(ValueError, match="SSLKEYLOGFILE"):
        AppListenOptions(ssl=context)


def test_l1_the_password_is_not_shown() -> None:
    options = AppListenOptions(cert_file="c.pem", key_password="secret")
    assert "secret" not in repr(options)
    assert options.key_password == "secret"


def test_l1_urls() -> None:
    context = server_context()
    assert AppListenOptions(port=8443, ssl=context).url == "wss://127.0.0.1:8443"
    assert AppListenOptions(port=8443, host="::1", cert_file="c").url == "wss://[::1]:8443"
    assert AppListenOptions(path="/run/x", cert_file="c").url == "wss+unix:///run/x"
    assert AppListenOptions(port=8000).url == "ws://127.0.0.1:8000"


def test_l1_paths() -> None:
    options = AppListenOptions(cert_file=Path("a") / "cert.pem", key_file=Path("key.pem"))
    assert (options.cert_file, options.key_file) == ("a/cert.pem", "key.pem")


# ---- files --------------------------------------------------------------------------------------


def refused(error: Any, cert: Any, key: Any = None, password: Any = None) -> str:
    """What listen() says about these files."""
    app = App()
    with pytest.raises(error) as info:
        app.listen(0, host="127.0.0.1", cert_file=cert, key_file=key, key_password=password)
    assert app.url == ""
    return str(info.value)


def test_l1_files_that_cannot_be_read(tmp_path: Path) -> None:
    cert, key = localhost()
    gone = tmp_path / "gone.pem"
    assert f"cert_file: No such file or directory: '{gone}'" in refused(FileNotFoundError, gone)
    assert "key_file: No such file" in refused(FileNotFoundError, cert, gone)
    assert "cert_file: Is a directory" in refused(IsADirectoryError, tmp_path, key)
    if os.getuid():
        gone.write_text("x")
        gone.chmod(0)
        assert "cert_file: Permission denied" in refused(PermissionError, gone)


def test_l1_files_with_something_else(tmp_path: Path) -> None:
    cert, key = localhost()
    text = tmp_path / "text.pem"
    text.write_text("hello")
    assert f"cert_file has no certificate in PEM format: '{text}'" in refused(ValueError, text)
    assert "key_file has no private key in PEM format" in refused(ValueError, cert, text)
    assert "; key_file names the file that has it" in refused(ValueError, cert)
    assert "key_file has no private key" in refused(ValueError, cert, cert)
    assert "cert_file has no certificate" in refused(ValueError, key, key)
    broken = tmp_path / "broken.pem"
    lines = Path(cert).read_text().splitlines()
    broken.write_text("\n".join([lines[0], "AAAA", lines[-1], ""]))
    assert "OpenSSL cannot use" in refused(ValueError, broken, key)


def test_l1_a_key_of_another_certificate() -> None:
    other = authority().issue("other.example")
    said = refused(ValueError, localhost().cert, other.key)
    assert f"the key in {other.key!r} is not that of the (first) certificate" in said


def test_l1_encrypted_keys() -> None:
    cert, key = authority().issue("localhost", password=PASSWORD)
    assert "key_file is encrypted: give key_password" in refused(ValueError, cert, key)
    for wrong in ("wrong", b"", "x" * 1024):
        said = refused(ValueError, cert, key, wrong)
        assert "key_password" in said and key in said
    for right in (PASSWORD, PASSWORD.encode()):
        certificates.read_files(cert, key, right)


def test_l1_one_file_for_both(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text("".join(Path(file).read_text() for file in localhost()))
    assert isinstance(certificates.read_files(str(both), None, None), ssl.SSLContext)


@with_contexts
def test_l1_what_a_context_of_files_allows() -> None:
    cert_file, key_file = localhost()
    tls = Tls(AppListenOptions(cert_file=cert_file, key_file=key_file))
    assert tls._contexts is not None
    (context,) = tls._contexts._objects.values()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    for cipher in context.get_ciphers():
        assert cipher["protocol"] in ("TLSv1.3", "TLSv1.2")
        assert "GCM" in cipher["name"] or "CHACHA20" in cipher["name"]
        assert cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE-")
    tls.free()
