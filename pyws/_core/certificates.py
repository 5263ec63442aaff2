# SPDX-License-Identifier: MIT
"""What the TLS settings of a listening socket mean: certificates and keys as `ssl.SSLContext`.

Only what is wrong with them is found out here; `openssl` and `tls` make connections of them. This
module is imported only where TLS is used, because `ssl` takes long to import.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from ssl import SSLContext
from typing import Any, Dict, Iterable, Mapping, NoReturn, Optional, Union

from . import mistakes, values

__all__ = ["Password", "check_contexts", "guard", "named_contexts", "read_files"]

Password = Union[str, bytes, None]

EVERY_NAME = "*"

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")  # RFC 1123 section 2.1, and the underscore
_LONGEST_NAME = 253
_KINDS = "an ssl.SSLContext, a dict of them by server name, or a function that returns one of both"

# ---- contexts -----------------------------------------------------------------------------------


def check_contexts(name: str, value: Any) -> Any:
    """A check for `ssl`: contexts are checked, a function is called later.

    Returns:
        The context, a copy of the dict with its names in lower case, or the function.

    Raises:
        TypeError, ValueError: The setting is wrong.
    """
    if isinstance(value, SSLContext):
        return _check_context(name, value)
    if isinstance(value, Mapping):
        return _check_mapping(name, value)
    if callable(value) and not isinstance(value, type):
        mistakes.check_arity(name, values.function(name, value), ())
        return value
    raise TypeError(f"{name} must be {_KINDS}, not {values.type_name(value)}")


def is_function(value: Any) -> bool:
    """Whether a checked setting is a function that returns contexts."""
    return not isinstance(value, (SSLContext, Mapping))


def named_contexts(name: str, value: Any) -> Dict[str, SSLContext]:
    """The contexts of a checked setting, by server name; "*" is for all other names.

    Raises:
        TypeError, ValueError: The setting is wrong, or the function has returned something wrong.
        Exception: What the function has raised.
    """
    if not is_function(value):
        value = check_contexts(name, value)  # a context may have been changed since
    else:
        returned = value()
        if is_function(returned):
            kind = values.type_name(returned)
            raise TypeError(f"the function {name} must return a context or a dict, not {kind}")
        value = check_contexts(f"what the function {name} returns", returned)
    return {EVERY_NAME: value} if isinstance(value, SSLContext) else dict(value)


def _check_mapping(name: str, contexts: Mapping[Any, Any]) -> Dict[str, SSLContext]:
    if not contexts:
        raise ValueError(f"{name} must not be empty: it has a context for each server name")
    checked: Dict[str, SSLContext] = {}
    for key, context in contexts.items():
        plain = server_name(name, key)
        if plain in checked:
            raise ValueError(f"{name} has the server name {plain!r} twice")
        if not isinstance(context, SSLContext):
            kind = values.type_name(context)
            raise TypeError(f"{name}[{key!r}] must be an ssl.SSLContext, not {kind}")
        checked[plain] = _check_context(f"{name}[{key!r}]", context)
    return checked


def server_name(name: str, key: Any) -> str:
    """A key of the mapping as TLS has it: ASCII, lower case. Raises TypeError, ValueError."""
    if not isinstance(key, str):
        raise TypeError(f"{name} must have server names as keys, not {values.type_name(key)}")
    if key == EVERY_NAME:
        return key
    star, host = ("*.", key[2:]) if key.startswith("*.") else ("", key)
    if _is_address(host):
        raise ValueError(
            f'{name} has the key {key!r}, and clients name no addresses: use "*", which is for '
            "clients without a server name, too"
        )
    try:
        plain = host.lower() if host.isascii() else host.encode("idna").decode().lower()
    except UnicodeError:
        plain = ""
    fits = 0 < len(star + plain) <= _LONGEST_NAME
    if not fits or not all(map(_LABEL.match, plain.split("."))):
        raise ValueError(
            f'{name} must have server names as keys, like "example.org", "*.example.org" or "*" '
            f"for all others, not {key!r}"
        )
    return star + plain


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_context(name: str, context: SSLContext) -> SSLContext:
    """Raise ValueError for a context that cannot serve.

    CPython's own callbacks expect an object of its `ssl` module with each connection. There is none
    here, so that they would crash the process. (`openssl` finds those that cannot be seen here.)
    """
    if context.protocol == ssl.PROTOCOL_TLS_CLIENT or context.check_hostname:
        raise ValueError(
            f"{name} is a context for clients: make one by ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) "
            "or ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)"
        )
    if getattr(context, "sni_callback", None) is not None:
        raise ValueError(
            f"{name} has an sni_callback, which works only with sockets of Python: give a dict of "
            'contexts by server name, {"example.org": context, "*": other}'
        )
    if getattr(context, "keylog_filename", None) is not None:
        raise ValueError(
            f"{name} has a keylog_filename, which works only with sockets of Python: set it to "
            "None (create_default_context takes it from the environment, SSLKEYLOGFILE)"
        )
    if getattr(context, "_msg_callback", None) is not None:
        raise ValueError(f"{name} has a _msg_callback, which works only with sockets of Python")
    return context


class Guarded(SSLContext):
    """The class that a context gets when an app listens with it.

    The callbacks that `_check_context` refuses before are refused here from then on.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "sni_callback" and value is not None:
            _refuse_callback(name, "; give a dict of contexts by server name instead")
        if name in ("keylog_filename", "_msg_callback") and value is not None:
            _refuse_callback(name)
        super().__setattr__(name, value)

    def set_psk_server_callback(self, callback: Any, *hint: Any, **hints: Any) -> None:
        if callback is not None:
            _refuse_callback("a PSK callback")
        super().set_psk_server_callback(callback, *hint, **hints)  # type: ignore[misc]

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Changes nothing: those of pyws hold."""


def guard(contexts: Iterable[SSLContext]) -> None:
    """Refuse callbacks in contexts from now on. Those of other classes are left as they are."""
    for context in contexts:
        if type(context) is SSLContext:
            context.__class__ = Guarded


def _refuse_callback(what: str, advice: str = "") -> NoReturn:
    raise ValueError(
        f"{what} cannot be set, as an app listens with this context: it would work only with "
        f"sockets of Python{advice}"
    )


# ---- files --------------------------------------------------------------------------------------


def read_files(cert_file: str, key_file: Optional[str], password: Password) -> SSLContext:
    """A context of a certificate chain and its key.

    It has the settings of Python; ws_openssl_set_defaults gives it others.

    Args:
        cert_file: The path of the chain in PEM format, the certificate of the server first.
        key_file: The path of the key in PEM format; None: it is in `cert_file`.
        password: What the key is encrypted with; None: it is not encrypted.

    Raises:
        OSError: A file cannot be read.
        ValueError: There is something else in it than expected, or the password is wrong.
    """
    where = "cert_file" if key_file is None else "key_file"
    key_path = cert_file if key_file is None else key_file
    chain = _read("cert_file", cert_file)
    key = chain if key_file is None else _read("key_file", key_file)
    if b"CERTIFICATE-----" not in chain:
        raise ValueError(f"cert_file has no certificate in PEM format: {cert_file!r}")
    if b"PRIVATE KEY-----" not in key:
        hint = "; key_file names the file that has it" if key_file is None else ""
        raise ValueError(f"{where} has no private key in PEM format: {key_path!r}{hint}")
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def ask() -> Union[str, bytes]:  # otherwise OpenSSL would ask in the terminal, and wait
        if password is None:
            raise ValueError(f"{where} is encrypted: give key_password: {key_path!r}")
        return password

    try:
        context.load_cert_chain(cert_file, key_file, ask)
    except ssl.SSLError as error:
        _explain(error, where, cert_file, key_path, password)
    return context


def _read(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise type(error)(error.errno, f"{name}: {error.strerror}", path) from None


def _explain(
    error: ssl.SSLError, where: str, cert_file: str, key_path: str, password: Password
) -> NoReturn:
    """Raise ValueError for what OpenSSL says about files that could be read."""
    reason = error.reason or ""
    if reason == "KEY_VALUES_MISMATCH":
        raise ValueError(
            f"the key in {key_path!r} is not that of the (first) certificate in {cert_file!r}"
        ) from None
    said = reason.replace("_", " ").lower() or str(error)
    if password is not None and _is_encrypted(key_path):
        raise ValueError(
            f"{where} cannot be decrypted, is key_password right? {key_path!r} ({said})"
        ) from None
    files = repr(cert_file) if cert_file == key_path else f"{cert_file!r} and {key_path!r}"
    raise ValueError(f"OpenSSL cannot use {files}: {said}") from None


def _is_encrypted(path: str) -> bool:
    with open(path, "rb") as file:
        content = file.read()
    return b"ENCRYPTED" in content
