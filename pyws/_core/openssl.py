# SPDX-License-Identifier: MIT
"""ws_openssl.h in ctypes, and the OpenSSL that it works with.

libpyws_openssl.so calls OpenSSL through a table of addresses. They are those of the OpenSSL that
the `_ssl` module of this Python is linked to, so that an `ssl.SSLContext` can be used: its SSL_CTX
is what its object begins with. Some Pythons hide these functions (PyPy, and builds that have
OpenSSL inside): there the system's libssl is loaded, which can use certificates in files alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import ssl
import sys
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_long,
    c_size_t,
    c_ssize_t,
    c_uint64,
    c_ulong,
    c_void_p,
)
from typing import Any, Mapping

from .._native import ABI, Errcheck, chars, check, fail, lib
from ..errors import ErrorCode
from .encryption import TlsInfo
from .library import beside

__all__ = ["OpenSSL", "context_pointer", "find", "info"]

NAME = "libpyws_openssl.so"
SYSTEM = ("libssl.so.3", "libssl.so.1.1")
VARIABLE = "PYWS_OPENSSL"
TICKET_KEYS = 80  # WS_OPENSSL_TICKET_KEYS
ERROR_SIZE = 256  # WS_OPENSSL_ERROR_SIZE
SET_SESS_CACHE_MODE, SESS_CACHE_OFF = 44, 0  # SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF
OLD_NAMES = {"SSL_get1_peer_certificate": "SSL_get_peer_certificate"}  # in OpenSSL 1.1.1

# ---- ws_openssl.h -------------------------------------------------------------------------------


class ws_openssl_functions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("OpenSSL_version_num", c_void_p),
        ("OPENSSL_cleanse", c_void_p),
        ("SHA256", c_void_p),
        ("RAND_bytes", c_void_p),
        ("EVP_aes_256_cbc", c_void_p),
        ("EVP_sha256", c_void_p),
        ("EVP_CipherInit_ex", c_void_p),
        ("HMAC_Init_ex", c_void_p),
        ("ERR_clear_error", c_void_p),
        ("ERR_peek_error", c_void_p),
        ("ERR_reason_error_string", c_void_p),
        ("BIO_meth_new", c_void_p),
        ("BIO_meth_free", c_void_p),
        ("BIO_meth_set_read_ex", c_void_p),
        ("BIO_meth_set_write_ex", c_void_p),
        ("BIO_meth_set_ctrl", c_void_p),
        ("BIO_new", c_void_p),
        ("BIO_set_init", c_void_p),
        ("BIO_set_flags", c_void_p),
        ("i2d_X509", c_void_p),
        ("X509_free", c_void_p),
        ("X509_verify_cert_error_string", c_void_p),
        ("TLS_server_method", c_void_p),
        ("SSL_CTX_new", c_void_p),
        ("SSL_CTX_free", c_void_p),
        ("SSL_CTX_up_ref", c_void_p),
        ("SSL_CTX_ctrl", c_void_p),
        ("SSL_CTX_callback_ctrl", c_void_p),
        ("SSL_CTX_get_verify_mode", c_void_p),
        ("SSL_CTX_get0_certificate", c_void_p),
        ("SSL_CTX_set_client_hello_cb", c_void_p),
        ("SSL_CTX_set_alpn_select_cb", c_void_p),
        ("SSL_CTX_set_cipher_list", c_void_p),
        ("SSL_CTX_set_default_passwd_cb", c_void_p),
        ("SSL_CTX_set_default_passwd_cb_userdata", c_void_p),
        ("SSL_CTX_use_certificate_chain_file", c_void_p),
        ("SSL_CTX_use_PrivateKey_file", c_void_p),
        ("SSL_CTX_check_private_key", c_void_p),
        ("SSL_new", c_void_p),
        ("SSL_free", c_void_p),
        ("SSL_get_SSL_CTX", c_void_p),
        ("SSL_set_bio", c_void_p),
        ("SSL_set_accept_state", c_void_p),
        ("SSL_set_read_ahead", c_void_p),
        ("SSL_set_msg_callback", c_void_p),
        ("SSL_ctrl", c_void_p),
        ("SSL_set_options", c_void_p),
        ("SSL_set_session_id_context", c_void_p),
        ("SSL_client_hello_get0_ext", c_void_p),
        ("SSL_do_handshake", c_void_p),
        ("SSL_read", c_void_p),
        ("SSL_has_pending", c_void_p),
        ("SSL_write", c_void_p),
        ("SSL_shutdown", c_void_p),
        ("SSL_get_error", c_void_p),
        ("SSL_get_verify_result", c_void_p),
        ("SSL_get_version", c_void_p),
        ("SSL_get_current_cipher", c_void_p),
        ("SSL_CIPHER_get_name", c_void_p),
        ("SSL_get_servername", c_void_p),
        ("SSL_get0_alpn_selected", c_void_p),
        ("SSL_session_reused", c_void_p),
        ("SSL_get1_peer_certificate", c_void_p),
    ]


class ws_openssl_context(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("context", c_void_p),
    ]


class ws_openssl_info(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("version", c_char_p),
        ("cipher", c_char_p),
        ("server_name", c_char_p),
        ("protocol", chars),
        ("protocol_length", c_size_t),
        ("resumed", c_bool),
    ]


SIGNATURES: dict[str, tuple[Any, tuple[Any, ...], Errcheck | None]] = {
    # name: (restype, argtypes, errcheck)
    "ws_openssl_abi": (c_int, (), None),
    "ws_openssl_new": (c_int, (POINTER(c_void_p), POINTER(ws_openssl_functions)), check),
    "ws_openssl_free": (None, (c_void_p,), None),
    "ws_openssl_tls": (c_void_p, (c_void_p,), None),
    "ws_openssl_set_contexts": (c_int, (c_void_p, POINTER(ws_openssl_context), c_size_t), check),
    "ws_openssl_set_ticket_keys": (c_int, (c_void_p, c_char_p, c_size_t), check),
    "ws_openssl_has_certificate": (c_bool, (c_void_p, c_void_p), None),
    "ws_openssl_set_defaults": (c_int, (c_void_p, c_void_p), check),
    "ws_openssl_load_context": (
        c_int,
        (c_void_p, c_char_p, c_char_p, c_char_p, POINTER(c_void_p), c_char_p),
        None,
    ),
    "ws_openssl_free_context": (None, (c_void_p, c_void_p), None),
    "ws_openssl_get_info": (c_int, (c_void_p, POINTER(ws_openssl_info)), check),
    "ws_openssl_peer_certificate": (c_ssize_t, (c_void_p, c_void_p, c_size_t), check),
}

# ---- finding ------------------------------------------------------------------------------------


class OpenSSL:
    """The OpenSSL that all listeners of this process use, and libpyws_openssl.so.

    Attributes:
        loaded: Its functions, as ctypes has them.
        functions: The addresses of these functions.
        library: The functions of ws_openssl.h, as attributes.
        hidden: Why contexts of Python cannot be used; "" if they can.
    """

    def __init__(self, loaded: Any, hidden: str) -> None:
        """
        Args:
            loaded: OpenSSL, as a library of ctypes that has all functions.
            hidden: See above.

        Raises:
            ImportError: There is no libpyws_openssl.so, or it is of another version.
        """
        self.loaded = loaded
        self.hidden = hidden
        self.functions = ws_openssl_functions(size=ctypes.sizeof(ws_openssl_functions))
        for name in addresses():
            function = getattr(loaded, name, None) or getattr(loaded, OLD_NAMES[name])
            setattr(self.functions, name, ctypes.cast(function, c_void_p))
        self.library = load_library()

    def new(self) -> int:
        """ws_openssl_new; returns the ws_openssl."""
        handle = c_void_p()
        self.library.ws_openssl_new(ctypes.byref(handle), ctypes.byref(self.functions))
        return handle.value or 0

    def set_contexts(self, handle: int, contexts: Mapping[str, int]) -> None:
        """ws_openssl_set_contexts, with an SSL_CTX for each name."""
        array = (ws_openssl_context * len(contexts))()
        for item, (name, context) in zip(array, contexts.items()):
            item.name, item.context = name.encode(), context
        self.library.ws_openssl_set_contexts(handle, array, len(array))

    def set_ticket_keys(self, handle: int, keys: bytes) -> None:
        """ws_openssl_set_ticket_keys: the keys of one or more periods, the current one first."""
        self.library.ws_openssl_set_ticket_keys(handle, keys, len(keys))

    def keep_no_sessions(self, context: int) -> None:
        """Clients resume sessions by tickets alone; OpenSSL would keep 20,480 of others."""
        control = self.loaded.SSL_CTX_ctrl
        control.restype, control.argtypes = c_long, (c_void_p, c_int, c_long, c_void_p)
        control(context, SET_SESS_CACHE_MODE, SESS_CACHE_OFF, None)

    def load_context(
        self, handle: int, cert_file: bytes, key_file: bytes | None, password: bytes | None
    ) -> int:
        """ws_openssl_load_context; returns the SSL_CTX. Raises OSError, ValueError."""
        context, error = c_void_p(), ctypes.create_string_buffer(ERROR_SIZE)
        result = self.library.ws_openssl_load_context(
            handle, cert_file, key_file, password, ctypes.byref(context), error
        )
        if result == ErrorCode.ENOMEM:
            fail(result)
        if result < 0:
            line = error.value.decode("utf-8", "replace")
            raise (OSError if result == ErrorCode.ESYSTEM else ValueError)(line)
        return context.value or 0


def addresses() -> list[str]:
    """The names of OpenSSL's functions that are needed."""
    return [name for name, *_ in ws_openssl_functions._fields_[1:]]


@functools.lru_cache(maxsize=None)
def find() -> OpenSSL:
    """The OpenSSL of this process. Raises ImportError if there is none."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "python", "system"):
        raise ImportError(f'{VARIABLE} must be "python" or "system", not {wanted!r}')
    found, hidden = None, f"{VARIABLE}=system is set"
    if wanted != "system":
        found, hidden = of_python()
    if found is None and wanted == "python":
        raise ImportError(f"{VARIABLE}=python is set, but {hidden}")
    if found is None:
        found = of_system(hidden)
    return OpenSSL(found, hidden)


def of_python() -> tuple[Any, str]:
    """The OpenSSL that `_ssl` uses, and ""; or None, and why it cannot be used."""
    if sys.implementation.name != "cpython":
        return None, f"{sys.implementation.name} hides its OpenSSL"
    import _ssl

    file = getattr(_ssl, "__file__", None)  # None: it is in the interpreter
    try:
        loaded = ctypes.PyDLL(file)
    except OSError as error:
        return None, f"{file} cannot be loaded: {error}"
    missing = missing_function(loaded)
    if missing:
        return None, f"this Python hides the functions of its OpenSSL ({missing})"
    loaded.OpenSSL_version_num.restype = c_ulong
    if loaded.OpenSSL_version_num() != ssl.OPENSSL_VERSION_NUMBER:
        return None, "this Python hides its OpenSSL, and another one is loaded"
    if "OpenSSL" not in ssl.OPENSSL_VERSION:
        return None, f"this Python uses {ssl.OPENSSL_VERSION}"
    if not layout_is_known(loaded):
        return None, "this Python keeps its contexts in an unknown way"
    return loaded, ""


def of_system(hidden: str) -> Any:
    """The system's libssl. Raises ImportError."""
    tried = []
    for name in SYSTEM:
        try:
            loaded = ctypes.CDLL(name)
        except OSError as error:
            tried.append(f"{name}: {error}")
            continue
        missing = missing_function(loaded)
        if not missing:
            return loaded
        tried.append(f"{name}: it has no function {missing}")
    raise ImportError(
        f"TLS needs OpenSSL, and there is none: {hidden}; of the system's, {', '.join(tried)}"
    )


def missing_function(loaded: Any) -> str:
    """The name of a function that a library does not have; "" if it has them all."""
    for name in addresses():
        if not hasattr(loaded, name) and not hasattr(loaded, OLD_NAMES.get(name, name)):
            return name
    return ""


def load_library() -> Any:
    """Load libpyws_openssl.so, which is beside libpyws.so. Raises ImportError."""
    loaded = beside(lib.path, NAME)
    for name, (result, arguments, errcheck) in SIGNATURES.items():
        try:
            function = getattr(loaded, name)
        except AttributeError:
            raise ImportError(f"{loaded._name} has no function {name}") from None
        function.restype, function.argtypes = result, arguments
        if errcheck:
            function.errcheck = errcheck
    theirs = loaded.ws_openssl_abi()
    if theirs != ABI:
        raise ImportError(f"{loaded._name} has ABI {theirs}, pyws needs ABI {ABI}")
    return loaded


# ---- contexts of Python -------------------------------------------------------------------------


def pointer_of(context: ssl.SSLContext) -> int:
    """What the object of a context begins with, its SSL_CTX."""
    return c_void_p.from_address(id(context) + object.__basicsize__).value or 0


def answers(loaded: Any, context: ssl.SSLContext) -> bool:
    """Whether OpenSSL says of the SSL_CTX of a context what Python says of the context."""
    pointer = pointer_of(context)
    if not pointer or pointer % ctypes.alignment(c_void_p):
        return False
    options, mode = loaded.SSL_CTX_get_options, loaded.SSL_CTX_get_verify_mode
    options.restype, options.argtypes, mode.argtypes = c_uint64, (c_void_p,), (c_void_p,)
    mask = 2 ** (8 * ctypes.sizeof(c_ulong)) - 1  # OpenSSL 1.1.1 returns an unsigned long
    if options(pointer) & mask != int(context.options) & mask:
        return False
    return bool(mode(pointer) & 3 == _VERIFY_MODES[context.verify_mode])


_VERIFY_MODES = {ssl.CERT_NONE: 0, ssl.CERT_OPTIONAL: 1, ssl.CERT_REQUIRED: 3}


def layout_is_known(loaded: Any) -> bool:
    """Whether `pointer_of` is right, tried with contexts of every kind."""
    if not hasattr(loaded, "SSL_CTX_get_options"):
        return False
    for option in (0, ssl.OP_NO_TICKET, ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION):
        for verify_mode in _VERIFY_MODES:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.options |= option
            context.verify_mode = verify_mode
            if not answers(loaded, context):
                return False
    return True


@functools.lru_cache(maxsize=None)
def psk_words() -> tuple[int, ...]:
    """Where the objects of contexts have their PSK callbacks, which Python can set but not tell."""
    import _ssl

    words = []
    for name in ("set_psk_server_callback", "set_psk_client_callback"):
        protocol = ssl.PROTOCOL_TLS_SERVER if "server" in name else ssl.PROTOCOL_TLS_CLIENT
        context: Any = ssl.SSLContext(protocol)
        if not hasattr(context, name) or not getattr(ssl, "HAS_PSK", False):
            continue

        def marker(*_: Any) -> None:
            """What is looked for."""

        if protocol == ssl.PROTOCOL_TLS_CLIENT:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        getattr(context, name)(marker)
        size = _ssl._SSLContext.__basicsize__
        for offset in range(object.__basicsize__, size, ctypes.sizeof(c_void_p)):
            if c_void_p.from_address(id(context) + offset).value == id(marker):
                words.append(offset)
        getattr(context, name)(None)
    return tuple(words)


def context_pointer(name: str, context: ssl.SSLContext) -> int:
    """The SSL_CTX of a context of the program.

    Args:
        name: What to call the context in an error message.
        context: The context, which the caller keeps alive.

    Raises:
        ValueError: It cannot be used.
    """
    openssl = find()
    if openssl.hidden:
        raise ValueError(
            f"{name} cannot be used: {openssl.hidden}. Give cert_file and key_file instead, which "
            "work with the libssl of the system, or use another Python; see docs/tls.md"
        )
    for offset in psk_words():
        if c_void_p.from_address(id(context) + offset).value not in (None, id(None)):
            raise ValueError(f"{name} has a PSK callback, which works only with sockets of Python")
    if not answers(openssl.loaded, context):
        raise ValueError(f"{name} cannot be used: its class keeps it in an unknown way")
    return pointer_of(context)


# ---- connections --------------------------------------------------------------------------------


def info(session: int) -> TlsInfo:
    """What is known of a connection, of which ws_conn_tls or ws_request_tls return the session."""
    library = find().library
    found = ws_openssl_info(size=ctypes.sizeof(ws_openssl_info))
    library.ws_openssl_get_info(session, ctypes.byref(found))
    length = library.ws_openssl_peer_certificate(session, None, 0)
    certificate = ctypes.create_string_buffer(length)
    if length:
        library.ws_openssl_peer_certificate(session, certificate, length)
    protocol = found.protocol[: found.protocol_length] if found.protocol else None
    return TlsInfo(
        version=found.version.decode(),
        cipher=found.cipher.decode(),
        alpn_protocol=None if protocol is None else protocol.decode("latin-1"),
        server_name=None if found.server_name is None else found.server_name.decode("latin-1"),
        peer_certificate=certificate.raw if length else None,
        session_reused=found.resumed,
    )
