# SPDX-License-Identifier: MIT
"""TLS of a listening address: its contexts, which may be replaced, and its keys for tickets.

Imported only where an app listens with TLS.
"""

from __future__ import annotations

import ast
import hashlib
import hmac
import os
import ssl
import time
from typing import Any, Dict, List, Mapping, Optional, Union

from ..options import AppListenOptions
from . import certificates, openssl
from .encryption import Encryption
from .logs import server_logger
from .runtime import Runtime
from .values import type_name

__all__ = ["Tls", "obey", "order", "reload"]

PERIOD = 12 * 3600  # seconds that keys for tickets are used; they are accepted as long after that
_SETTINGS = ("ssl", "cert_file", "key_file", "key_password")

# ---- contexts -----------------------------------------------------------------------------------


class Contexts:
    """What `ssl`, or `cert_file` and its siblings, lead to at one moment.

    Attributes:
        options: The AppListenOptions that they come from.
        pointers: The SSL_CTX for each server name.
    """

    def __init__(self, handle: int, options: AppListenOptions) -> None:
        """Load them.

        Args:
            handle: The ws_openssl that they are for.
            options: Where they come from.

        Raises:
            OSError: A file cannot be read.
            TypeError, ValueError: They are wrong.
            Exception: What the function of the program has raised.
        """
        self.options = options
        self.pointers: Dict[str, int] = {}
        self._handle = handle
        self._objects: Dict[str, Any] = {}  # the ssl.SSLContext, which must live on
        self._own = 0  # an SSL_CTX to be freed here
        self._openssl = openssl.find()
        if options.ssl is not None:
            self._take(certificates.named_contexts("ssl", options.ssl))
        else:
            self._read()

    def _take(self, contexts: Mapping[str, Any]) -> None:
        self._objects = dict(contexts)
        for name, context in contexts.items():
            what = f"ssl[{name!r}]" if len(contexts) > 1 else "ssl"
            pointer = openssl.context_pointer(what, context)
            if not self._openssl.library.ws_openssl_has_certificate(self._handle, pointer):
                raise ValueError(f"{what} has no certificate: call its load_cert_chain() before")
            if not context.options & ssl.OP_NO_TICKET:
                self._openssl.keep_no_sessions(pointer)
            self.pointers[name] = pointer

    def _read(self) -> None:
        paths = (str(self.options.cert_file), self.options.key_file, self.options.key_password)
        cert_file, key_file, password = paths
        key_path = None if key_file is None else str(key_file)
        context = certificates.read_files(cert_file, key_path, password)
        if not self._openssl.hidden:
            self._take({certificates.EVERY_NAME: context})
            pointer = self.pointers[certificates.EVERY_NAME]
            self._openssl.library.ws_openssl_set_defaults(self._handle, pointer)
            return
        self._own = self._openssl.load_context(
            self._handle,
            os.fsencode(cert_file),
            None if key_path is None else os.fsencode(key_path),
            password.encode() if isinstance(password, str) else password,
        )
        self.pointers = {certificates.EVERY_NAME: self._own}

    @property
    def asks_clients(self) -> bool:
        """Whether clients are asked for certificates."""
        return any(one.verify_mode != ssl.CERT_NONE for one in self._objects.values())

    def guard(self) -> None:
        """They are used from now on, so that callbacks that would crash must not be set."""
        certificates.guard(self._objects.values())

    def free(self) -> None:
        """They are not used for new connections any more."""
        own, self._own = self._own, 0
        if own:
            self._openssl.library.ws_openssl_free_context(self._handle, own)
        self._objects = {}


class Tls(Encryption):
    """TLS of one address. It must live as long as the server that listens with its table."""

    def __init__(self, address: AppListenOptions) -> None:
        """
        Args:
            address: Where the app will listen.

        Raises:
            ImportError: There is no OpenSSL, or no libpyws_openssl.so.
            OSError, TypeError, ValueError, Exception: As for `Contexts`.
        """
        self.address = address
        self._openssl = openssl.find()
        self._handle = self._openssl.new()
        self._contexts: Optional[Contexts] = None
        self._keys = TicketKeys(time.time())
        try:
            self.use(self.load(address))
            self.rotate()
        except BaseException:
            self.free()
            raise
        self.table = self._openssl.library.ws_openssl_tls(self._handle)

    def load(self, options: Optional[AppListenOptions] = None) -> Contexts:
        """Load contexts; None: from where the present ones come. Raises what `Contexts` does."""
        if options is None:
            assert self._contexts is not None
            options = self._contexts.options
        return Contexts(self._handle, options)

    def use(self, contexts: Contexts) -> None:
        """Use these contexts for new connections. Raises MemoryError.

        If they ask clients for certificates, no session of before is resumed: its certificate may
        be one that they do not accept.
        """
        self._openssl.set_contexts(self._handle, contexts.pointers)
        contexts.guard()
        before, self._contexts = self._contexts, contexts
        if before is not None:
            before.free()
            if contexts.asks_clients:
                self._keys.forget()
                self.rotate()

    @property
    def is_reloadable(self) -> bool:
        """Whether the contexts come from files or from a function."""
        assert self._contexts is not None
        options = self._contexts.options
        return options.ssl is None or certificates.is_function(options.ssl)

    def rotate(self) -> float:
        """Use the keys of now for session tickets; returns in how many seconds to do so again."""
        now = time.time()
        keys = self._keys.at(now)
        if keys:
            self._openssl.set_ticket_keys(self._handle, keys)
        return PERIOD - now % PERIOD

    def free(self) -> None:
        """No server uses the table any more."""
        handle, self._handle = self._handle, 0
        contexts, self._contexts = self._contexts, None
        if handle:
            if contexts is not None:
                contexts.free()
            self._openssl.library.ws_openssl_free(handle)


class TicketKeys:
    """The keys for session tickets of each period, which all workers derive from one secret.

    They do not have to talk about it: the secret was made before they were forked, and the keys of
    a period follow from those of the period before it. The way back does not exist, so that keys
    that are not accepted any more cannot be found in the memory of a process.
    """

    def __init__(self, now: float) -> None:
        """
        Args:
            now: The time in seconds since the epoch.
        """
        self._period = int(now // PERIOD)
        self._secret = os.urandom(32)
        self._previous = b""  # the keys of the period before, if it is known
        self._used = -1
        self._generation = 0  # one more in each worker that does the same

    def forget(self) -> None:
        """From now on there are other keys, and those of before are not accepted."""
        self._generation += 1
        self._previous = b""
        self._used = -1

    def at(self, now: float) -> bytes:
        """The keys for this time and the period before; b"" if they are those of the last call."""
        period = int(now // PERIOD)
        while self._period < period:  # the clock may have been set back: then they stay
            self._previous = self._keys()
            self._secret = hashlib.sha256(b"the next secret" + self._secret).digest()
            self._period += 1
        if self._used == self._period:
            return b""
        self._used = self._period
        return self._keys() + self._previous

    def _keys(self) -> bytes:
        labels = [b"keys %d %d" % (self._generation, part) for part in (1, 2)]
        parts = [hmac.new(self._secret, label, "sha512").digest() for label in labels]
        return b"".join(parts)[: openssl.TICKET_KEYS]


# ---- reloading ----------------------------------------------------------------------------------


def chosen(runtime: Runtime, where: Union[int, str, None]) -> List[Tls]:
    """The TLS of the addresses that `App.reload_tls` names, of which it raises the errors."""
    known = [
        one
        for one in runtime.encryptions
        if isinstance(one, Tls) and any(one.address is address for address in runtime.addresses)
    ]
    if not known:
        raise RuntimeError("the app does not listen with TLS: app.listen(8443, cert_file=...)")
    if where is None:
        return known
    if isinstance(where, bool) or not isinstance(where, (int, str)):
        raise TypeError(f"where must be a port or the path of a socket, not {type_name(where)}")
    found = [one for one in known if where in (one.address.port, one.address.path)]
    if not found:
        others = ", ".join(str(one.address) for one in known)
        raise ValueError(f"the app does not listen with TLS on {where!r}, but on {others}")
    return found


def reload(runtime: Runtime, new: Optional[AppListenOptions], where: Union[int, str, None]) -> None:
    """`App.reload_tls` in this process.

    Args:
        runtime: The runtime of the app.
        new: Where new contexts come from; None: from where the present ones come.
        where: The port or the path of an address; None: all.

    Raises:
        RuntimeError, OSError, TypeError, ValueError, Exception: As for `App.reload_tls`. Nothing
            was changed.
    """
    found = chosen(runtime, where)
    if new is None:
        found = [one for one in found if one.is_reloadable]
        if not found:
            raise RuntimeError(
                "the app listens with contexts, which cannot be read again: pass new ones, or "
                "listen with cert_file, or with a function that makes the contexts"
            )
    elif len(found) > 1:
        places = ", ".join(str(one.address) for one in found)
        raise ValueError(f"the app listens with TLS on {places}: say which, by where=")
    loaded = [(one, one.load(new)) for one in found]
    for one, contexts in loaded:
        one.use(contexts)
        server_logger.info("new certificates for %s", one.address)


# ---- workers ------------------------------------------------------------------------------------


def order(new: Optional[AppListenOptions], where: Union[int, str, None]) -> str:
    """A reload as one line, for other processes. Raises RuntimeError."""
    if new is not None and new.ssl is not None:
        raise RuntimeError(
            "a context cannot be passed to the other workers: listen with a function that makes "
            "it, ssl=function, and call reload_tls() without arguments"
        )
    given = None if new is None else {name: getattr(new, name) for name in _SETTINGS[1:]}
    return repr((given, where))


def obey(runtime: Runtime, line: str) -> bool:
    """Do what another process of the app has done; returns whether that was possible."""
    try:
        given, where = ast.literal_eval(line)
        reload(runtime, None if given is None else AppListenOptions(**given), where)
    except Exception as error:
        server_logger.error("the certificates were not replaced: %s", error)
        return False
    return True
