# SPDX-License-Identifier: MIT
"""L1: which OpenSSL is used, and contexts that cannot be."""

import os
import ssl
import subprocess
import sys
from functools import partial
from typing import Any, Callable, Dict, List

import pytest
from authority import authority, localhost
from common import ROOT, TIMEOUT
from tls_clients import client_context, tls_of, tls_peer
from tls_server import Secure, with_contexts

from pyws import App
from pyws._core import openssl
from pyws._native import lib

cpython = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="about the objects of CPython"
)


def run(text: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A program, with the pyws of this tree."""
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYWS_LIBRARY": lib.path, **environment},
    )


# ---- contexts -----------------------------------------------------------------------------------


@cpython
def test_l1_the_pointer_is_that_of_the_context() -> None:
    loaded, why = openssl.of_python()
    assert why == ""
    contexts: List[ssl.SSLContext] = []
    for number in range(40):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if number % 2:
            context.options |= ssl.OP_NO_TICKET
        context.verify_mode = list(ssl.VerifyMode)[number % 3]
        contexts.append(context)
    assert all(openssl.answers(loaded, one) for one in contexts)
    pointers = {openssl.pointer_of(one) for one in contexts}
    assert len(pointers) == len(contexts)


@cpython
def test_l1_a_pointer_to_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, _ = openssl.of_python()
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.options |= ssl.OP_NO_TICKET
    right = openssl.pointer_of
    wrong = right(other)
    for pointer in (wrong, 0, 3):
        monkeypatch.setattr(openssl, "pointer_of", lambda context, found=pointer: found)
        assert not openssl.layout_is_known(loaded)
        with pytest.raises(ValueError, match="ssl cannot be used: its class keeps it in an unkn"):
            openssl.context_pointer("ssl", authority().server_context())


@with_contexts
def test_l1_a_subclass_of_a_context() -> None:
    class Context(ssl.SSLContext):
        """With attributes of its own."""

    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*localhost())
    context.note = "mine"  # type: ignore[attr-defined]
    app = App()
    app.listen(0, host="127.0.0.1", ssl=context)
    app._runtime.free()


@with_contexts
def test_l1_a_context_without_a_certificate() -> None:
    app = App()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(ValueError, match=r"ssl has no certificate: call its load_cert_chain\(\)"):
        app.listen(0, host="127.0.0.1", ssl=context)
    both = {"a.example": authority().server_context(), "*": context}
    with pytest.raises(ValueError, match=r"ssl\['\*'\] has no certificate"):
        app.listen(0, host="127.0.0.1", ssl=both)
    assert app.url == ""


@with_contexts
def test_l1_a_callback_that_was_set_later() -> None:
    """It is looked for again when the app begins to listen."""
    app = App()
    context = authority().server_context()
    options: Dict[str, Any] = {"host": "127.0.0.1", "ssl": context}
    from pyws import AppListenOptions

    place = AppListenOptions(**options)
    context.sni_callback = lambda *arguments: None
    with pytest.raises(ValueError, match="sni_callback"):
        app.listen(place)


@with_contexts
def test_l1_a_callback_that_is_set_while_the_app_listens(secure: Callable[..., Secure]) -> None:
    """It is refused where it is set: the next client would crash the process."""
    context: Any = authority().server_context()
    server = secure(ssl=context)
    server.check()
    for name, value in (
        ("sni_callback", lambda *arguments: None),
        ("keylog_filename", os.devnull),
        ("_msg_callback", lambda *arguments: None),
    ):
        with pytest.raises(ValueError, match=f"^{name} cannot be set, as an app listens"):
            setattr(context, name, value)
        setattr(context, name, None)
        assert getattr(context, name) is None
    with pytest.raises(ValueError, match="^sni_callback cannot be set"):
        context.set_servername_callback(lambda *arguments: None)
    if getattr(ssl, "HAS_PSK", False):
        with pytest.raises(ValueError, match="^a PSK callback cannot be set, as an app listens"):
            context.set_psk_server_callback(lambda identity: b"secret")
        context.set_psk_server_callback(None)
    server.check()


@with_contexts
def test_l1_what_else_may_change_while_the_app_listens(secure: Callable[..., Secure]) -> None:
    """Other settings hold from the next connection on, except those that never count."""
    context = authority().server_context()
    server = secure(ssl={"localhost": context})
    context.set_alpn_protocols(["h2"])
    client = client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    with tls_peer(server.port, client) as peer:
        assert tls_of(peer).selected_alpn_protocol() == "http/1.1"
        assert tls_of(peer).version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with tls_peer(server.port) as peer:
        assert tls_of(peer).version() == "TLSv1.2"
    assert isinstance(context, ssl.SSLContext)
    other = authority().server_context()
    server.call(server.app.reload_tls, {"localhost": context, "*": other})  # once more
    with tls_peer(server.port) as peer:
        assert tls_of(peer).version() == "TLSv1.2"


@pytest.mark.skipif(not getattr(ssl, "HAS_PSK", False), reason="this Python has no PSK callbacks")
def test_l1_psk_callbacks_are_refused() -> None:
    context: Any = authority().server_context()
    app = App()
    context.set_psk_server_callback(lambda identity: b"secret")
    with pytest.raises(ValueError, match="ssl has a PSK callback"):
        app.listen(0, host="127.0.0.1", ssl=context)
    context.set_psk_server_callback(None)
    app.listen(0, host="127.0.0.1", ssl=context)
    app._runtime.free()


def test_l1_a_function_that_returns_something_else() -> None:
    app = App()
    values: List[Any] = [None, "cert.pem", []]
    for value in values:
        function: Any = partial(dict.get, {1: value}, 1)
        with pytest.raises(TypeError, match="the function ssl must return a context or a dict"):
            app.listen(0, host="127.0.0.1", ssl=function)
    with pytest.raises(ValueError, match="what the function ssl returns is a context for clients"):
        app.listen(0, host="127.0.0.1", ssl=ssl.create_default_context)


# ---- libraries ----------------------------------------------------------------------------------

SERVE = """
import sys, threading
from pyws import App
from pyws._core import openssl

app = App()
app.get("/", lambda res, req: res.end(req.tls.version))
app.listen(0, host="127.0.0.1", cert_file=sys.argv[1], key_file=sys.argv[2])
print(repr(openssl.find().hidden))
import ssl, socket
def ask(port):
    context = ssl.create_default_context(cafile=sys.argv[3])
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
            print(tls.recv(4096).split(b"\\r\\n")[-1].decode())
    app.defer(app.close)
thread = threading.Thread(target=ask, args=(app.port,))
thread.start()
app.run()
thread.join()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:3])
try:
    app.listen(0, host="127.0.0.1", ssl=context)
except ValueError as error:
    print(error)
"""


def test_l1_the_library_of_the_system() -> None:
    """Where Python hides its OpenSSL, files work all the same, and a context gets an error."""
    done = run(SERVE, *localhost(), authority().cert, PYWS_OPENSSL="system")
    assert done.stderr == ""
    hidden, version, error = done.stdout.splitlines()
    assert hidden != "''"
    assert version == "TLSv1.3"
    assert error.startswith("ssl cannot be used: ")
    assert "Give cert_file and key_file instead" in error


@pytest.mark.parametrize(
    ("value", "text"),
    [("openssl", 'must be "python" or "system", not'), ("System", 'must be "python" or "system"')],
)
def test_l1_a_wrong_choice_of_a_library(value: str, text: str) -> None:
    done = run(SERVE, *localhost(), authority().cert, PYWS_OPENSSL=value)
    assert done.returncode == 1
    assert f"ImportError: PYWS_OPENSSL {text}" in done.stderr


def test_l1_nothing_of_tls_is_imported_without_need() -> None:
    text = """
import sys
from pyws import App
App().ws("/*", {})
names = ("ssl", "_ssl", "pyws._core.tls", "pyws._core.openssl", "pyws._core.certificates")
print([name for name in names if name in sys.modules])
"""
    done = run(text)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_l1_errors_of_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, "SYSTEM", ("libnothing.so.3",))
    with pytest.raises(ImportError, match=r"TLS needs OpenSSL, and there is none: why; of the sy"):
        openssl.of_system("why")
    monkeypatch.setattr(openssl, "NAME", "libpyws_nothing.so")
    with pytest.raises(ImportError, match=r"cannot load its library libpyws_nothing\.so"):
        openssl.load_library()
