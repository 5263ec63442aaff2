# SPDX-License-Identifier: MIT
"""The settings of an App and of its listening sockets."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
from dataclasses import dataclass, fields
from typing import Any, Callable, Dict, Mapping, Optional, Type, TypeVar, Union

from ._core import foreign, values
from ._core.hints import Items, StrPath, TlsContexts, dataclass_transform
from ._core.settings import c_fields, check_all, in_range, seconds_from, setting, settings
from .brokers import Broker, check_broker

__all__ = ["AppListenOptions", "AppOptions"]

T = TypeVar("T")
NO_MORE: Mapping[str, Any] = {}
MAX_BODY = 2**63 - 1  # bytes of the body of a request
LONGEST_PASSWORD = 1024  # bytes, which OpenSSL reads

_NO_ALIASES: dict[str, str] = {}
LISTEN_ALIASES = {"domain": "path"}


def suggesting(
    others: Mapping[str, str], by_name: bool = False, aliases: Mapping[str, str] = _NO_ALIASES
) -> Callable[[Type[T]], Type[T]]:
    """Let a dataclass suggest what may be meant when it is given a field that it does not have.

    Fields may be given by other names, too: `aliases`.

    With `by_name` it refuses fields that are given by position, whose meaning a new field could
    change. (Python before 3.10 has no kw_only.)
    """

    def decorate(cls: Type[T]) -> Type[T]:
        init = cls.__init__
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]

        @functools.wraps(init)
        def checked(self: Any, *args: Any, **given: Any) -> None:
            if by_name and args:
                example = f"{cls.__name__}({names[0]}=...)"
                raise TypeError(f"{cls.__name__} takes its settings by name, as in {example}")
            for other in [alias for alias in aliases if alias in given]:
                name = aliases[other]
                if name in given:
                    raise TypeError(f"{cls.__name__} got {name} twice, also as {other}")
                given[name] = given.pop(other)
            values.pick(given, names, cls.__name__, others, "setting")
            init(self, *args, **given)

        if by_name:
            own, *rest = inspect.signature(init).parameters.values()
            named = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in rest]
            checked.__signature__ = inspect.Signature([own, *named])  # type: ignore[attr-defined]
        cls.__init__ = checked  # type: ignore[method-assign]
        return cls

    return decorate


@dataclass_transform(kw_only_default=True)
def named_options(others: Mapping[str, str]) -> Callable[[Type[T]], Type[T]]:
    """Make a class a dataclass whose fields are given by name, with suggestions."""
    decorate = suggesting(others, by_name=True)
    return lambda cls: decorate(dataclass(cls))


def _options(
    cls: Type[T],
    value: Any,
    more: Mapping[str, Any],
    what: str,
    call: str,
    others: Mapping[str, str],
    aliases: Mapping[str, str] = _NO_ALIASES,
) -> T:
    """An object of `cls`, from one, a dict or None, and from keywords, which win.

    All values are checked, even those of an object: a program may have assigned anything to it.
    """
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    known = [*names, *aliases]
    keywords = values.pick(more, known, call, others, "setting")
    if isinstance(value, cls):
        given = {name: getattr(value, name) for name in names}
        keywords = {aliases.get(name, name): item for name, item in keywords.items()}
    else:
        given = values.pick({} if value is None else value, known, what, others)
    return cls(**{**given, **keywords})


# ---- the app ------------------------------------------------------------------------------------


@named_options(foreign.OTHERS_OF_APP)
class AppOptions:
    """Settings of an App. Sizes in bytes, times in seconds; 0 for `max_memory` means no limit.

    max_header_size limits the head of a request, and the request line to half of it; max_headers
    limits the number of its fields. Requests that exceed them are answered with 431 or 414.

    json_dumps, json_loads: functions that write and read JSON, those of orjson for example. The
    default is the json module, which writes compact text in UTF-8 and refuses NaN and Infinity.
    It reads bodies of requests, `Request.json`; messages of sockets arrive as text.

    access_log: a line of the logger `pyws.access` for each HTTP response and each closed socket.

    drain_on_signal: seconds for which clients may finish after SIGTERM, or the first SIGINT, where
    `run` or `serve` handles signals.

    trusted_proxies: behind these, requests and sockets have the address, port and scheme of the
    client, not those of the proxy: docs/proxies.md. The limits for each address then count clients.

    broker: the URL of a message broker, or an object of a subclass of `pyws.brokers.Broker`. What
    is published then reaches the subscribers of all apps at that broker: docs/scaling.md.

    Raises:
        TypeError: A value is of a wrong type or given by position, or there is no such setting.
        ValueError: A value is out of range.
    """

    max_connections: int = setting(
        1_000_000,
        in_range(1, 16_000_000),
        "sockets at a time; a further one is answered with 503",
        unit="connections",
    )
    max_memory: int = setting(
        0,
        in_range(0, sys.maxsize),
        "what all connections together may hold; a connection for which it does not suffice is "
        "ended. 0 means no limit",
        unit="bytes",
    )
    max_header_size: int = setting(
        16 * 1024,
        in_range(1024, 1024 * 1024),
        "the longest head of a request, of which the request line may be half; a longer one is "
        "answered with 431 or 414",
        unit="bytes",
    )
    max_headers: int = setting(
        100,
        in_range(1, 10_000),
        "header fields of a request; more are answered with 431",
        unit="fields",
    )
    max_body_size: int = setting(
        1024 * 1024,
        in_range(0, MAX_BODY),
        "the longest body of a request that a handler reads, unless its route says otherwise; a "
        "longer one is answered with 413",
        unit="bytes",
        to_c=None,
    )
    body_timeout: float = setting(
        30,
        seconds_from(0.001),
        "how long it may take until the body of a request is complete, or 16 KiB more of it have "
        "arrived; then the client gets a 408",
        unit="seconds",
        to_c=values.milliseconds,
    )
    max_response_backpressure: int = setting(
        1024 * 1024,
        in_range(0, values.MAX_BYTES),
        "how much of an answer in parts may wait for a slow client; what res.write() would add is "
        "dropped. 0 means no limit",
        unit="bytes",
    )
    handshake_timeout: float = setting(
        10,
        seconds_from(0.001),
        "how long it may take from accepting a socket until the head of a request is complete",
        unit="seconds",
        to_c=values.milliseconds,
    )
    keep_alive_timeout: float = setting(
        10,
        seconds_from(0.001),
        "how long an HTTP connection is kept without a request",
        unit="seconds",
        to_c=values.milliseconds,
    )
    upgrade_timeout: float = setting(
        30,
        seconds_from(0.001),
        "how long an answer may take that a handler gives later",
        unit="seconds",
        to_c=values.milliseconds,
    )
    trusted_proxies: Optional[Items[str]] = setting(  # makes a field
        None,
        values.proxies,
        "the proxies whose Forwarded, X-Forwarded-For and X-Forwarded-Proto fields tell who the "
        'client is: addresses, networks ("10.0.0.0/8"), and "unix" for Unix sockets. None trusts '
        "no one",
        to_c=lambda names: names and [values.network(name) for name in names],
    )
    max_connections_per_address: int = setting(
        0,
        in_range(0, values.MAX_COUNT),
        "sockets of one client at a time, that is of an IPv4 address or an IPv6 /64; a further one "
        "is answered with 503. 0 means no limit",
        unit="connections",
    )
    max_handshakes_per_second_per_address: int = setting(
        0,
        in_range(0, 1_000_000),
        "opening handshakes of one client in a second, and as many at once; further ones are "
        "answered with 429. 0 means no limit",
        unit="handshakes",
    )
    keep_headers: bool = setting(
        False,
        values.flag,
        "keep the opening handshakes of all routes, as their keep_request does",
        to_c=None,
    )
    access_log: bool = setting(
        False,
        values.flag,
        "write a line of the logger pyws.access for each HTTP response and each closed socket",
        to_c=None,
    )
    drain_on_signal: float = setting(
        0,
        values.duration,
        "how long clients may finish after SIGTERM, or the first SIGINT, before the Close frames "
        "go out, as with drain of app.close(). Another signal ends that time. 0 means no such time",
        unit="seconds",
        to_c=None,
    )
    json_dumps: Optional[Callable[[Any], Union[str, bytes]]] = setting(
        None,
        values.function,
        "makes the JSON text of a value that is sent, like orjson.dumps. None means the json "
        "module, which writes compact text",
        to_c=None,
    )
    json_loads: Optional[Callable[[Union[str, bytes]], Any]] = setting(
        None,
        values.function,
        "makes a value of JSON text for req.json(), like orjson.loads. None means the json module",
        to_c=None,
    )
    broker: Optional[Union[str, Broker]] = setting(
        None,
        check_broker,
        "carries published messages to other machines: the URL of a message broker, like "
        '"redis://127.0.0.1:6379", or an object of a subclass of `pyws.brokers.Broker`',
        to_c=None,
        is_secret=True,
    )
    broker_queue: int = setting(
        16 * 1024 * 1024,
        in_range(64 * 1024, values.MAX_BYTES),
        "what may wait for the broker, with 200 bytes added for each message; messages beyond it "
        "reach only the subscribers of this machine",
        unit="bytes",
        to_c=None,
    )

    def __post_init__(self) -> None:
        """Check all values. Raises TypeError, ValueError."""
        check_all(self, APP_SETTINGS)

    @classmethod
    def of(
        cls, value: Union[AppOptions, Mapping[str, Any], None], more: Mapping[str, Any] = NO_MORE
    ) -> AppOptions:
        """What `App` was given as AppOptions, a copy; `more` wins. Raises TypeError, ValueError."""
        return _options(cls, value, more, "options", "App()", foreign.OTHERS_OF_APP)

    def c_fields(self) -> Dict[str, Any]:
        """The fields of the library's ws_config."""
        return c_fields(self, APP_SETTINGS)


APP_SETTINGS = settings(AppOptions)

# ---- listening ----------------------------------------------------------------------------------


def host_name(name: str, value: Any) -> str:
    """A check for `host`. Raises TypeError, ValueError."""
    if not values.c_string(name, value):
        raise ValueError(f"{name} must not be empty; None means all interfaces")
    return str(value)


def socket_path(name: str, value: Any) -> str:
    """A check for `path`. Raises TypeError, ValueError."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise TypeError(f"{name} must be a str or os.PathLike, not {values.type_name(path)}")
    size = len(values.c_string(name, path))
    if not 1 <= size <= 107:  # sun_path, with its NUL
        raise ValueError(f"{name} must have 1 to 107 bytes, not {size}: {path!r}")
    return path


def interface_name(name: str, value: Any) -> str:
    """A check for `device`. Raises TypeError, ValueError."""
    size = len(values.c_string(name, value))
    if not 1 <= size <= 15:  # IFNAMSIZ, with its NUL
        raise ValueError(f"{name} must have 1 to 15 bytes, not {size}: {value!r}")
    return str(value)


def contexts(name: str, value: Any) -> Any:
    """A check for `ssl`. Raises TypeError, ValueError."""
    from ._core.certificates import check_contexts  # it takes long to import

    return check_contexts(name, value)


def file_name(name: str, value: Any) -> str:
    """A check for `cert_file` and `key_file`. Raises TypeError, ValueError."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise TypeError(f"{name} must be a str or os.PathLike, not {values.type_name(path)}")
    if not values.c_string(name, path):
        raise ValueError(f"{name} must not be empty")
    return path


def password(name: str, value: Any) -> Union[str, bytes]:
    """A check for `key_password`. Raises TypeError, ValueError."""
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a str or bytes, not {values.type_name(value)}")
    size = len(values.encode(name, value) if isinstance(value, str) else value)
    if size > LONGEST_PASSWORD:
        raise ValueError(f"{name} must have at most {LONGEST_PASSWORD} bytes, not {size}")
    return value


@suggesting(foreign.OTHERS_OF_LISTEN, aliases=LISTEN_ALIASES)
@dataclass
class AppListenOptions:
    """Where to listen: TCP `host` and `port`, a Unix socket `path`, or a socket `fd`.

    Attributes:
        port: 0 lets the kernel choose one, which `App.port` and the callback of `App.listen` know.
        host: An address, or a name: then pyws listens on all its addresses, on one port (those that
            this machine does not have are left out, with a warning). None means all interfaces.
        path: The path of a Unix socket. The file is removed at the end, unless another one has
            replaced it. `domain` is another name of it.
        mode: Permission bits of `path`.
        backlog: How many connections may wait to be accepted.
        reuse_port: Share the port with other processes (SO_REUSEPORT).
        proxy_protocol: Each connection begins with a PROXY header of a proxy, as HAProxy sends it
            with send-proxy and send-proxy-v2. Only proxies should be able to connect: see
            docs/proxies.md.
        fd: The descriptor of a stream socket, TCP or Unix, that listens or is bound (then it
            listens with `backlog`), as with socket activation. It stays the caller's, who may close
            it at any time: the App uses a duplicate, through which the socket becomes non-blocking.
        ssl: The socket speaks TLS, with an ssl.SSLContext of the standard library, or with one for
            each server name: ``{"example.org": context, "*.example.org": ..., "*": ...}``. Clients
            that want another name, or none, get that of "*", and without "*" no connection. It may
            be a function without arguments that returns one of both: `App.reload_tls` calls it
            again. docs/tls.md.
        cert_file: The same with the certificate chain in this file (PEM), instead of `ssl`.
        key_file: The key of that certificate. None means that it is in `cert_file`, too.
        key_password: What decrypts the key.
        device: The name of a network interface: the address of another one is not served
            (SO_BINDTODEVICE). Before Linux 5.7 that needs a privilege.

    Raises:
        TypeError: A value is of a wrong type, or there is no such option.
        ValueError: A value is out of range, or two of them exclude each other.
    """

    port: int = setting(
        0, in_range(0, 65535), "the TCP port; 0 lets the kernel choose one", unit="port"
    )
    host: Optional[str] = setting(
        None,
        host_name,
        "the address to listen on, or a name that has such addresses. None means all interfaces",
        to_c=lambda host: None if host is None else host.encode(),
    )
    path: Optional[StrPath] = setting(  # noqa: RUF009  # makes a field
        None,
        socket_path,
        "the path of a Unix socket; the file is removed at the end",
        to_c=lambda path: None if path is None else os.fsencode(path),
    )
    mode: int = setting(0o660, in_range(0, 0o777), "the permission bits of `path`", unit="bits")
    backlog: int = setting(
        1024,
        in_range(1, values.MAX_COUNT),
        "how many connections may wait to be accepted",
        unit="connections",
    )
    reuse_port: bool = setting(
        False, values.flag, "share the port with other processes (SO_REUSEPORT)"
    )
    proxy_protocol: bool = setting(
        False,
        values.flag,
        "each connection begins with a PROXY header (version 1 or 2), which names the client; "
        "others are dropped, and so is who is not in trusted_proxies of the app, if it has any",
    )
    fd: Optional[int] = setting(
        None,
        in_range(0, values.MAX_COUNT),
        "the descriptor of a stream socket that listens or is bound; it stays the caller's",
        unit="descriptor",
        to_c=lambda fd: -1 if fd is None else fd,
    )
    ssl: Optional[TlsContexts] = setting(  # noqa: RUF009  # makes a field
        None,
        contexts,
        "TLS with this ssl.SSLContext, one for each server name, or what a function returns that "
        "app.reload_tls() calls again",
        to_c=None,
    )
    cert_file: Optional[StrPath] = setting(  # noqa: RUF009  # makes a field
        None,
        file_name,
        "TLS with the certificate chain in this file, in PEM format",
        to_c=None,
    )
    key_file: Optional[StrPath] = setting(  # noqa: RUF009  # makes a field
        None, file_name, "the file of its key. None means that it is in cert_file, too", to_c=None
    )
    key_password: Optional[Union[str, bytes]] = setting(
        None, password, "what decrypts the key", to_c=None, is_secret=True
    )
    device: Optional[str] = setting(
        None,
        interface_name,
        "the network interface through which connections must come, such as eth0 "
        "(SO_BINDTODEVICE). None means any",
        to_c=lambda device: None if device is None else device.encode(),
    )

    def __post_init__(self) -> None:
        """Check all values. Raises TypeError, ValueError."""
        check_all(self, LISTEN_SETTINGS)
        self._check_address()
        self._check_tls()

    def _check_address(self) -> None:
        """Raise ValueError if there are two addresses: each call of `listen` is about one."""
        given = [name for name in ("fd", "path", "host") if getattr(self, name) is not None]
        if self.path is not None and self.port:
            given.append("port")
        if len(given) > 1:
            both = " and ".join(f"{name}={getattr(self, name)!r}" for name in given[:2])
            raise ValueError(f"{both} name different addresses: call listen() once for each")
        if self.device is not None and (self.path is not None or self.fd is not None):
            has = "fd" if self.path is None else "path"
            raise ValueError(f"device belongs to a TCP address that listen() binds, not to {has}")

    def _check_tls(self) -> None:
        """Raise ValueError if the settings of TLS contradict each other."""
        if self.ssl is not None and self.cert_file is not None:
            raise ValueError("ssl and cert_file exclude each other: an SSLContext has certificates")
        for name in ("key_file", "key_password"):
            if getattr(self, name) is not None and self.cert_file is None:
                has = "an SSLContext has its key" if self.ssl is not None else "it names the chain"
                raise ValueError(f"{name} belongs to cert_file, which is missing: {has}")

    @property
    def uses_tls(self) -> bool:
        """Whether connections use TLS."""
        return self.ssl is not None or self.cert_file is not None

    @classmethod
    def of(
        cls,
        value: Union[int, AppListenOptions, Mapping[str, Any]],
        more: Mapping[str, Any] = NO_MORE,
    ) -> AppListenOptions:
        """What `listen` was given, a copy; `more` wins. Raises TypeError, ValueError."""
        if isinstance(value, os.PathLike) or (isinstance(value, str) and not value.isdigit()):
            raise TypeError(
                f"where to listen must be a port or options, not {value!r}: "
                f"write listen({_arguments_for(value)})"
            )
        if not isinstance(value, (AppListenOptions, Mapping)):
            value = {"port": values.integer("port", value, 0, 65535)}
        call, others = "app.listen()", foreign.OTHERS_OF_LISTEN
        return _options(cls, value, more, "listen options", call, others, LISTEN_ALIASES)

    @property
    def domain(self) -> Optional[StrPath]:
        """The same as `path`."""
        return self.path

    def c_fields(self) -> Dict[str, Any]:
        """The fields of the library's ws_listen_options."""
        return c_fields(self, LISTEN_SETTINGS)

    @property
    def url(self) -> str:
        """The URL of the address for clients on this machine, "ws://127.0.0.1:8000" for example.

        A wildcard address becomes that of the loopback interface. A Unix socket has
        "ws+unix://" and its path. "" for a descriptor that is not of TCP. With TLS, it begins with
        "wss" in place of "ws".
        """
        from urllib.parse import quote  # it takes long to import

        scheme = "wss" if self.uses_tls else "ws"
        if self.path is not None:
            return f"{scheme}+unix://" + quote(os.path.abspath(self.path))
        if self.fd is not None and not self.port:
            return ""
        host = _LOOPBACKS.get(self.host or "", self.host)
        if host and ":" in host:
            host = f"[{host.replace('%', '%25')}]"  # RFC 6874
        return f"{scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        """The address, as log lines and error messages show it."""
        if self.fd is not None:
            return f"fd {self.fd}"
        if self.path is not None:
            return str(self.path)
        host = "*" if self.host is None else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def _arguments_for(where: Union[str, os.PathLike[Any]]) -> str:
    """The arguments of `listen` that mean what was given as a port: "80, host='::1'"."""
    if not isinstance(where, str) or "/" in where:
        return f"path={where!r}"
    match = _HOST_AND_PORT.fullmatch(where)
    host, port = (match["name"] or match["ipv6"], match["port"]) if match else (where, "8000")
    return f"{port}, host={host!r}" if host else port


_HOST_AND_PORT = re.compile(r"(?:(?P<name>[^:]*)|\[(?P<ipv6>[^]]*)\]):(?P<port>[0-9]+)")
LISTEN_SETTINGS = settings(AppListenOptions)
foreign.belongs("app.listen()", [*AppListenOptions.__annotations__, *LISTEN_ALIASES])
foreign.belongs("App(...)", AppOptions.__annotations__)
foreign.belongs("App(...), or to app.post(...) and its siblings", ["max_body_size"])
_LOOPBACKS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
