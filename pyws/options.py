"""The settings of an App and of its listening sockets."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import sys
from dataclasses import dataclass
from typing import Any, Callable, Mapping, TypeVar

from ._core import foreign, values
from ._core.settings import c_fields, check_all, in_range, seconds_from, setting, settings

__all__ = ["AppListenOptions", "AppOptions"]

T = TypeVar("T")
Options = TypeVar("Options", "AppOptions", "AppListenOptions")

_NO_ALIASES: dict[str, str] = {}
_LISTEN_ALIASES = {"domain": "path"}


def suggesting(
    others: Mapping[str, str], by_name: bool = False, aliases: Mapping[str, str] = _NO_ALIASES
) -> Callable[[type[T]], type[T]]:
    """Let a dataclass suggest what may be meant when it is given a field that it does not have.

    Fields may be given by other names, too: `aliases`.

    With `by_name` it refuses fields that are given by position, whose meaning a new field could
    change. (Python before 3.10 has no kw_only.)
    """

    def decorate(cls: type[T]) -> type[T]:
        init = cls.__init__

        @functools.wraps(init)
        def checked(self: Any, *args: Any, **fields: Any) -> None:
            if by_name and args:
                example = f"{cls.__name__}({next(iter(cls.__annotations__))}=...)"
                raise TypeError(f"{cls.__name__} takes its settings by name, as in {example}")
            for other in [alias for alias in aliases if alias in fields]:
                name = aliases[other]
                if name in fields:
                    raise TypeError(f"{cls.__name__} got {name} twice, also as {other}")
                fields[name] = fields.pop(other)
            values.pick(fields, list(cls.__annotations__), cls.__name__, others)
            init(self, *args, **fields)

        if by_name:
            own, *rest = inspect.signature(init).parameters.values()
            named = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in rest]
            checked.__signature__ = inspect.Signature([own, *named])  # type: ignore[attr-defined]
        cls.__init__ = checked  # type: ignore[method-assign]
        return cls

    return decorate


def _checked_copy(options: Options) -> Options:
    """A copy, checked anew: the caller may have assigned anything to the fields since."""
    options = copy.copy(options)
    options.__post_init__()
    return options


# ---- the app ------------------------------------------------------------------------------------


@suggesting(foreign.OTHERS_OF_APP, by_name=True)
@dataclass
class AppOptions:
    """Settings of an App. Sizes in bytes, times in seconds; 0 for `max_memory` means no limit.

    max_header_size limits the head of a request, and the request line to half of it; max_headers
    limits the number of its fields. Requests that exceed them are answered with 431 or 414.

    json_dumps, json_loads: functions that write and read JSON, those of orjson for example. The
    default is the json module, which writes compact text in UTF-8 and refuses NaN and Infinity.

    access_log: a line of the logger `pyws.access` for each HTTP response and each closed socket.

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
    json_dumps: Callable[[Any], str | bytes] | None = setting(
        None,
        values.function,
        "makes the JSON text of a value that is sent, like orjson.dumps. None means the json "
        "module, which writes compact text",
        to_c=None,
    )
    json_loads: Callable[[str | bytes], Any] | None = setting(
        None,
        values.function,
        "makes a value of JSON text that was received, like orjson.loads. None means the json "
        "module",
        to_c=None,
    )

    def __post_init__(self) -> None:
        """Check all values. Raises TypeError, ValueError."""
        check_all(self, APP_SETTINGS)

    @classmethod
    def known(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of `value`, whose keys are all fields of this class. Raises TypeError."""
        return values.pick(value, list(cls.__annotations__), "options", foreign.OTHERS_OF_APP)

    @classmethod
    def of(cls, value: AppOptions | Mapping[str, Any] | None) -> AppOptions:
        """A copy of `value`, as AppOptions. Raises TypeError, ValueError."""
        if isinstance(value, AppOptions):
            return _checked_copy(value)
        return cls(**cls.known({} if value is None else value))

    def c_fields(self) -> dict[str, int]:
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


@suggesting(foreign.OTHERS_OF_LISTEN, aliases=_LISTEN_ALIASES)
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
        fd: The descriptor of a stream socket, TCP or Unix, that listens or is bound (then it
            listens with `backlog`), as with socket activation. It stays the caller's, who may close
            it at any time: the App uses a duplicate, through which the socket becomes non-blocking.

    Raises:
        TypeError: A value is of a wrong type, or there is no such option.
        ValueError: A value is out of range, or two of them name different addresses.
    """

    port: int = setting(
        0, in_range(0, 65535), "the TCP port; 0 lets the kernel choose one", unit="port"
    )
    host: str | None = setting(
        None,
        host_name,
        "the address to listen on, or a name that has such addresses. None means all interfaces",
        to_c=lambda host: None if host is None else host.encode(),
    )
    path: str | os.PathLike[str] | None = setting(  # noqa: RUF009  # makes a field
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
    fd: int | None = setting(
        None,
        in_range(0, values.MAX_COUNT),
        "the descriptor of a stream socket that listens or is bound; it stays the caller's",
        unit="descriptor",
        to_c=lambda fd: -1 if fd is None else fd,
    )

    def __post_init__(self) -> None:
        """Check all values. Raises TypeError, ValueError."""
        check_all(self, LISTEN_SETTINGS)
        self._check_address()

    def _check_address(self) -> None:
        """Raise ValueError if there are two addresses: each call of `listen` is about one."""
        given = [name for name in ("fd", "path", "host") if getattr(self, name) is not None]
        if self.path is not None and self.port:
            given.append("port")
        if len(given) > 1:
            both = " and ".join(f"{name}={getattr(self, name)!r}" for name in given[:2])
            raise ValueError(f"{both} name different addresses: call listen() once for each")

    @classmethod
    def of(cls, value: int | AppListenOptions | Mapping[str, Any]) -> AppListenOptions:
        """A copy of `value`, a port, a dict, or options. Raises TypeError, ValueError."""
        if isinstance(value, AppListenOptions):
            return _checked_copy(value)
        if isinstance(value, Mapping):
            known = [*cls.__annotations__, *_LISTEN_ALIASES]
            others = foreign.OTHERS_OF_LISTEN
            return cls(**values.pick(value, known, "listen options", others))
        return cls(port=values.integer("port", value, 0, 65535))

    @property
    def domain(self) -> str | os.PathLike[str] | None:
        """The same as `path`."""
        return self.path

    def c_fields(self) -> dict[str, Any]:
        """The fields of the library's ws_listen_options."""
        return c_fields(self, LISTEN_SETTINGS)

    def __str__(self) -> str:
        """The address, as log lines and error messages show it."""
        if self.fd is not None:
            return f"fd {self.fd}"
        if self.path is not None:
            return str(self.path)
        host = "*" if self.host is None else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


LISTEN_SETTINGS = settings(AppListenOptions)
