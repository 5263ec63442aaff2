# SPDX-License-Identifier: MIT
"""Where an app listens."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Callable, Dict, Optional, TypeVar, Union

from .._native import lib
from ..options import AppListenOptions
from ..typing import AppListenOptionsDict
from . import calls, mistakes, values
from .descriptors import watched
from .encryption import Encryption
from .hints import StrPath, TlsContexts, Unpack
from .logs import server_logger
from .runtime import Runtime
from .state import State

__all__ = ["Listening"]

Self = TypeVar("Self", bound="Listening")

_MISSING: Any = values.LeftOut()  # an argument that was left out


class Listening:
    """The methods of `App` for that."""

    _runtime: Runtime

    def listen(
        self: Self,
        where: Union[int, AppListenOptions, AppListenOptionsDict] = _MISSING,
        callback: Optional[Callable[[AppListenOptions], object]] = None,
        **more: Unpack[AppListenOptionsDict],
    ) -> Self:
        """Listen on a port, or where the options say; may be called again for further addresses.

        Args:
            where: A port (0 lets the kernel choose one, see `port`), options, or a dict of them.
                They are never changed. It may be left out if there are keywords.
            callback: ``callback(options)`` runs at once, with a copy of the options that has the
                real port. If it raises, the exception propagates, and nothing listens there.
            more: Options as keywords, which win: ``app.listen(8000, host="127.0.0.1")``.

        Returns:
            The app itself.

        Raises:
            OSError: It is not possible to listen there, `errno` says why. Nothing of it stays open.
                For an unknown host it is a socket.gaierror. Or a certificate cannot be read.
            TypeError, ValueError: The options are wrong, or what is in a file that they name.
            RuntimeError: Called from another thread.
            ImportError: TLS is not possible here; the message says why.
        """
        if where is _MISSING and not more:
            raise TypeError("app.listen() needs a port, a path or options: app.listen(8000)")
        address = AppListenOptions.of({} if where is _MISSING else where, more)
        if callback is not None:
            mistakes.check_arity("callback", values.function("callback", callback), ("options",))
        runtime = self._runtime
        runtime.leave_closed_loop()
        runtime.check_server()
        encryption = _new_encryption(address)
        try:
            address.port = self._listen(address, encryption)
        except OSError as error:
            if encryption is not None:
                encryption.free()
            why = f"cannot listen on {address}: {_refusal(address, error)}"
            if _is_unknown_host(address, error):
                raise socket.gaierror(socket.EAI_NONAME, why) from None
            raise OSError(error.errno, why) from None
        runtime.addresses.append(address)
        if encryption is not None:
            runtime.encryptions.append(encryption)
            if runtime.state is State.RUNNING:
                runtime.encryptions.rotate(runtime.timers)
        server_logger.info("listening on %s", address)
        before = runtime.state
        if before is State.STOPPED:  # it may run again
            runtime.set_state(State.IDLE)
        if callback is not None:
            others = len(runtime.addresses) - 1
            try:
                result = callback(AppListenOptions.of(address))
                mistakes.check_result("the callback of listen", callback, result)
            except BaseException:
                self._unlisten(others)
                if before is State.STOPPED and runtime.state is State.IDLE:
                    runtime.set_state(before)
                raise
        return self

    def _unlisten(self, others: int) -> None:
        """Keep the first so many addresses; the callback may have removed them already."""
        runtime = self._runtime
        for address in runtime.addresses[others:]:
            server_logger.info("no longer listening on %s", address)
            if runtime.server:
                lib.ws_server_unlisten(runtime.server)
        del runtime.addresses[others:]

    def _listen(self, address: AppListenOptions, encryption: Optional[Encryption]) -> int:
        """Listen; returns the port. A descriptor stays the caller's, C gets a duplicate."""
        runtime, fields = self._runtime, address.c_fields()
        kept: Dict[str, Any] = {"proxy_protocol": address.proxy_protocol}
        if encryption is not None:
            kept["tls"] = fields["tls"] = encryption.table
        before = None if runtime.is_busy else set(watched(lib.ws_server_fd(runtime.server)))
        if address.fd is not None:
            fields["fd"] = os.dup(address.fd)
        try:
            port = calls.listen(runtime.server, fields)
        except BaseException:
            if address.fd is not None:
                os.close(fields["fd"])
            raise
        if before is not None:  # workers may follow
            after = set(watched(lib.ws_server_fd(runtime.server)))
            runtime.listeners.update(dict.fromkeys(after - before, kept))
        return port

    def adopt(self, connection: socket.socket, data: Union[bytes, bytearray] = b"") -> None:
        """Serve a connection that the program has accepted, or got from another process.

        The app then does with it what it does with one that it has accepted, in its next turn.

        Args:
            connection: A connected socket, TCP or Unix, whose client speaks HTTP without TLS. From
                now on it belongs to the app, and the object is closed without its connection
                (``detach()``), unless this raises.
            data: What was read of it already, in whatever part of the first request that ended, or
                after it.

        Raises:
            TypeError, ValueError: An argument is wrong.
            OSError: The connection cannot be served; `errno` says why.
            RuntimeError: The app shuts down, has max_connections and already refuses many others,
                or this is another thread.
            MemoryError: There is no memory for it.
        """
        if not callable(getattr(connection, "detach", None)):
            raise TypeError(f"connection must be a socket, not {values.type_name(connection)}")
        if hasattr(connection, "do_handshake"):
            raise TypeError("connection must not be one of TLS: only app.listen() speaks TLS")
        if not isinstance(data, (bytes, bytearray)):
            raise TypeError(f"data must be bytes, not {values.type_name(data)}")
        number = values.descriptor("connection", connection)
        runtime = self._runtime
        runtime.leave_closed_loop()
        runtime.check_server()
        try:
            lib.ws_server_adopt(runtime.server, number, bytes(data), len(data))
        except OSError as error:
            why = _NO_CONNECTION.get(error.errno or 0, error.strerror)
            raise OSError(error.errno, f"cannot serve {connection!r}: {why}") from None
        connection.detach()

    @property
    def port(self) -> int:
        """The first TCP port that `listen` has bound; 0 without one, or once `run` has returned.

        Any thread may read it.
        """
        return next((address.port for address in self._runtime.addresses[:] if address.port), 0)

    @property
    def url(self) -> str:
        """The URL of the first address of `listen`, "ws://127.0.0.1:8000" for example.

        It is for clients on this machine: see `AppListenOptions.url`. "" without an address, or
        once `run` has returned. Any thread may read it.
        """
        return next((address.url for address in self._runtime.addresses[:]), "")

    def reload_tls(
        self,
        ssl: Optional[TlsContexts] = None,
        *,
        cert_file: Optional[StrPath] = None,
        key_file: Optional[StrPath] = None,
        key_password: Union[str, bytes, None] = None,
        where: Union[int, str, None] = None,
    ) -> None:
        """Use new certificates for the connections that come from now on; others keep theirs.

        Without arguments the same files are read again, and a function that was given to `listen`
        is called again. With ``run(workers=N)`` all workers do so, wherever it is called: in one of
        them, or by a signal handler of their parent.

        Args:
            ssl: As for `AppListenOptions`, instead of what was given to `listen`. With workers it
                is refused, because a context cannot be passed to other processes.
            cert_file, key_file, key_password: Likewise.
            where: The port or the path of one address; None means all that use TLS. It is needed
                where there are several, and new certificates.

        Raises:
            OSError: A file cannot be read. Nothing was changed, here as with the others.
            TypeError, ValueError: An argument is wrong, or what is in a file.
            RuntimeError: Called from another thread, or the app does not listen with TLS, or with
                contexts alone, which cannot be read again.
            Exception: What the function has raised.
        """
        files = {"cert_file": cert_file, "key_file": key_file, "key_password": key_password}
        settings: Dict[str, Any] = {"ssl": ssl, **files}
        given = {name: value for name, value in settings.items() if value is not None}
        new = AppListenOptions.of({}, given) if given else None
        runtime = self._runtime
        runtime.leave_closed_loop()
        if runtime.crew is None:  # otherwise called by a signal handler of the parent
            runtime.check_server()
        from . import tls  # it takes long to import

        if runtime.crew is not None:
            tls.chosen(runtime, where)
            runtime.crew.reload(tls.order(new, where))
            return
        line = tls.order(new, where) if runtime.tell_parent is not None else ""
        tls.reload(runtime, new, where)
        if runtime.tell_parent is not None:
            runtime.tell_parent(line)


def _new_encryption(address: AppListenOptions) -> Optional[Encryption]:
    """TLS of the address, if it has it. Raises what `tls.Tls` does."""
    if not address.uses_tls:
        return None
    from .tls import Tls  # it takes long to import

    return Tls(address)


_NO_LISTENER = {
    errno.EBADF: "it is not open",
    errno.ENOTSOCK: "it is not a socket",
    errno.ESOCKTNOSUPPORT: "it is not a stream socket",
    errno.EISCONN: "it is a connection, not a listening socket",
    errno.EDESTADDRREQ: "it is not bound to an address",
}


_NO_CONNECTION = {
    errno.ENOTSOCK: "it is not a socket",
    errno.ESOCKTNOSUPPORT: "it is not a stream socket",
    errno.ENOTCONN: "it is not connected, or not any more",
    errno.EEXIST: "the app has it already, or a reader or writer of it",
}


def _refusal(address: AppListenOptions, error: OSError) -> Optional[str]:
    """Why it is not possible to listen there."""
    if address.fd is not None:
        return _NO_LISTENER.get(error.errno or 0, error.strerror)
    return "unknown host" if _is_unknown_host(address, error) else error.strerror


def _is_unknown_host(address: AppListenOptions, error: OSError) -> bool:
    """The resolver means this by ENOENT."""
    return error.errno == errno.ENOENT and not address.path
