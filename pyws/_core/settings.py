# SPDX-License-Identifier: MIT
"""The tables of settings. Each setting is defined once, as one line in the body of its class.

`AppOptions` and `AppListenOptions` (options.py) and `RouteSettings` (here) are the tables. A line
gives the type that users may pass, the default, the check, the unit, the field of the C structure,
and one sentence. The validation, the values for C, the docstring of `App.ws`, docs/settings.md and
the types of dicts and keywords in pyws/typing.py (tools/settings_page.py) are derived from them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence, TypeVar

from ..enums import CompressOptions
from ..history import History, check_history
from . import foreign, values
from .hints import Items, dataclass_transform
from .values import HANDLERS, Handler

__all__ = [
    "BEHAVIOR_KEYS",
    "Behavior",
    "RouteSettings",
    "Setting",
    "c_fields",
    "check_all",
    "setting",
    "settings",
]

T = TypeVar("T")

# ---- what is known of a setting -----------------------------------------------------------------


class Setting:
    """A line of the table.

    Attributes:
        name: The name, as users write it.
        type: The type annotation, which typing.get_type_hints understands in Python 3.8, too.
        default: The default value.
        check: Takes name and value; returns the value, or raises TypeError or ValueError.
        unit: What a number counts; "" for other values.
        text: What the setting does, as one sentence.
        field: The field of the C structure; "" if only Python uses the setting.
        to_c: Makes the value of that field.
        may_be_none: Whether None is a value, which is not checked further.
    """

    def __init__(self, field: dataclasses.Field[Any]) -> None:
        self.name = field.name
        self.type = str(field.type)
        self.default: Any = field.default
        self.check: Callable[[str, Any], Any] = field.metadata["check"]
        self.unit: str = field.metadata["unit"]
        self.text: str = field.metadata["text"]
        to_c: Callable[[Any], Any] | None = field.metadata["to_c"]
        self.field = field.name if to_c else ""
        self.to_c = to_c or same
        self.may_be_none = self.type.startswith("Optional[")


def same(value: Any) -> Any:
    """The value for C is the value."""
    return value


def setting(
    default: Any,
    check: Callable[[str, Any], Any],
    text: str,
    *,
    unit: str = "",
    to_c: Callable[[Any], Any] | None = same,
    is_secret: bool = False,
) -> Any:
    """A field of a dataclass that is a setting; `to_c` is None where only Python uses it.

    The field of the C structure has the name of the setting. The repr of the dataclass leaves out
    what is secret.
    """
    facts = {"check": check, "text": text, "unit": unit, "to_c": to_c}
    return dataclasses.field(default=default, repr=not is_secret, metadata=facts)


def settings(kind: type) -> tuple[Setting, ...]:
    """The table that a dataclass is, in its order."""
    fields = dataclasses.fields(kind)
    return tuple(Setting(field) for field in fields if field.metadata)


def check_all(options: Any, table: Sequence[Setting]) -> None:
    """Check every setting of `options`. Raises TypeError, ValueError."""
    for one in table:
        value = getattr(options, one.name)
        if value is not None or not one.may_be_none:
            setattr(options, one.name, one.check(one.name, value))


def c_fields(options: Any, table: Sequence[Setting]) -> dict[str, Any]:
    """The fields of the C structure."""
    return {one.field: one.to_c(getattr(options, one.name)) for one in table if one.field}


def in_range(low: int, high: int) -> Callable[[str, Any], int]:
    """A check for ints."""
    return lambda name, value: values.integer(name, value, low, high)


def seconds_from(low: float) -> Callable[[str, Any], float]:
    """A check for times of at least `low` seconds."""
    return lambda name, value: values.duration(name, value, low)


# ---- the settings of a WebSocket route ----------------------------------------------------------

_DERIVED = 2**32 - 1  # WS_DERIVED

_size = in_range(0, values.MAX_BYTES)
_count = in_range(1, values.MAX_COUNT)


def _minutes(name: str, value: Any) -> float:
    return values.duration(name, value, 0, values.MAX_SECONDS // 60, "minutes")


def _or_derived(value: float | None) -> int:
    """Milliseconds; for None, what the library derives from idle_timeout."""
    return _DERIVED if value is None else values.milliseconds(value)


def _without_none(items: Iterable[str | None] | None) -> tuple[str, ...] | None:
    return None if items is None else tuple(item for item in items if item is not None)


@dataclass_transform(kw_only_default=True)
def table(cls: type[T]) -> type[T]:
    """Make a class a table, whose subclasses take their settings by name."""
    return dataclasses.dataclass(init=False, repr=False, eq=False)(cls)


@table
class RouteSettings:
    """The settings of a route of WebSockets."""

    compression: int = setting(
        CompressOptions.DISABLED,
        values.compression,
        "the compressor and the decompressor of permessage-deflate, joined by |",
        to_c=int,
    )
    max_payload_length: int = setting(
        16 * 1024,
        _size,
        "the longest message that is accepted; a longer one ends the connection with 1009",
        unit="bytes",
    )
    max_backpressure: int = setting(
        64 * 1024,
        _size,
        "what may wait for a slow client; messages beyond it are dropped. 0 means no limit",
        unit="bytes",
    )
    close_on_backpressure_limit: bool = setting(
        False, values.flag, "close with 1008 instead of dropping a message"
    )
    close_timeout: float = setting(
        5,
        values.duration,
        "how long the client may take to answer a Close frame",
        unit="seconds",
        to_c=values.milliseconds,
    )
    close_on_error: bool = setting(
        True, values.flag, "close with 1011 when a handler raises", to_c=None
    )
    subprotocols: Items[str] = setting(  # makes a field
        (),
        values.subprotocols,
        "the subprotocols that the route speaks; the first one of the client's list is selected",
        to_c=lambda names: names or None,
    )
    origins: Optional[Items[Optional[str]]] = setting(  # makes a field
        None,
        values.origins,
        'the values of Origin that are accepted, as browsers send them ("https://example.org"); '
        "None in the list stands for clients that send none. None instead of a list accepts all",
        to_c=_without_none,
    )
    idle_timeout: float = setting(
        120,
        values.duration,
        "how long no byte may arrive before the connection is dropped with 1006, "
        '"idle timeout". 0 means forever',
        unit="seconds",
        to_c=values.milliseconds,
    )
    ping_interval: Optional[float] = setting(
        None,
        values.duration,
        "how long no byte may arrive before a Ping is sent, and another one after each further "
        "interval. 0 sends none. None means idle_timeout less a third of it, at most 16 seconds "
        "less",
        unit="seconds",
        to_c=_or_derived,
    )
    ping_timeout: Optional[float] = setting(
        None,
        values.duration,
        "how long no byte may arrive after a Ping before the connection is dropped with 1006, "
        '"ping timeout". 0 or None leaves that to idle_timeout',
        unit="seconds",
        to_c=_or_derived,
    )
    send_pings_automatically: bool = setting(
        True, values.flag, "send Pings; False is the same as ping_interval=0", to_c=None
    )
    reset_idle_timeout_on_send: bool = setting(
        False, values.flag, "data that the kernel takes counts as activity, too"
    )
    max_lifetime: float = setting(
        0,
        _minutes,
        'how long a connection may live before it is closed with 1000, "please reconnect". '
        "0 means forever",
        unit="minutes",
        to_c=lambda minutes: values.milliseconds(minutes * 60),
    )
    max_topics: int = setting(
        1000,
        _count,
        "topics of one connection; beyond it, subscribe() returns False",
        unit="topics",
    )
    max_topic_length: int = setting(
        1024,
        _count,
        "the longest name of a topic in UTF-8; a longer one raises ValueError",
        unit="bytes",
    )
    max_pending_messages: int = setting(
        16,
        _count,
        "while this many messages, or max_payload_length bytes of them, wait for a coroutine "
        "handler or a session, no further message is read; Pings are answered until one has come",
        unit="messages",
        to_c=None,
    )

    history: Optional[History] = setting(  # makes a field
        None,
        check_history,
        "topics whose last messages the broker keeps, for clients that come back: "
        "`History(topics)`. It needs a broker that keeps messages: Redis, Valkey or NATS",
        to_c=None,
    )

    keep_request: bool = setting(
        False,
        values.flag,
        "keep the opening handshake, with its header fields and cookies, as ws.request and "
        "ws.headers",
        to_c=None,
    )


class Behavior(RouteSettings):
    """What a route of WebSockets does: its settings and handlers, checked."""

    def __init__(
        self, behavior: RouteSettings | Mapping[str, Any] | None, more: Mapping[str, Any]
    ) -> None:
        """Check what `app.ws` was given: options or a mapping, and keywords, which win.

        Raises:
            TypeError: A key is unknown, or a value is of a wrong type.
            ValueError: A value is out of range, or has no effect.
        """
        self.upgrade: Handler | None = None
        self.open: Handler | None = None
        self.message: Handler | None = None
        self.drain: Handler | None = None
        self.dropped: Handler | None = None
        self.ping: Handler | None = None
        self.pong: Handler | None = None
        self.subscription: Handler | None = None
        self.close: Handler | None = None
        self.session: Handler | None = None
        self.c_handlers: dict[str, Any] = {}  # handlers that are C functions, kept alive here
        others = foreign.OTHERS_OF_ROUTE
        if isinstance(behavior, RouteSettings):
            behavior = _given(behavior)
        given = values.pick({} if behavior is None else behavior, _KEYS, "behavior", others)
        given.update(values.pick(more, _KEYS, "app.ws()", others, "setting"))
        for key, value in given.items():
            if key in _TABLE:
                if value is not None or not _TABLE[key].may_be_none:
                    setattr(self, key, _TABLE[key].check(key, value))
            elif key == "session":
                self.session = values.session(value)
            elif values.c_handler(key, value):
                self.c_handlers[key] = value
            else:
                setattr(self, key, values.handler(key, value))
        if self.session is not None and (self.message or "message" in self.c_handlers):
            raise TypeError(
                "message and a session exclude each other: the session gets the messages, by "
                "`async for message in ws`"
            )
        self._check_times()

    def has_handlers(self) -> bool:
        """Whether anything happens on a connection."""
        names = (*HANDLERS, "session")
        return bool(self.c_handlers) or any(getattr(self, name) is not None for name in names)

    def _check_times(self) -> None:
        """Raise ValueError if one of the times of silence would have no effect."""
        timeout, idle = self.ping_timeout, self.idle_timeout
        interval = self.ping_interval if self.send_pings_automatically else 0
        if interval and idle and interval >= idle:
            raise ValueError(
                f"ping_interval {interval:g} must be shorter than idle_timeout {idle:g}, which "
                "drops the client before the first Ping (0: never)"
            )
        if timeout and not (idle if interval is None else interval):
            raise ValueError(
                f"ping_timeout {timeout:g} needs Pings, which this route never sends: "
                "set ping_interval"
            )
        if timeout and interval and idle and interval + timeout > idle:
            raise ValueError(
                f"ping_interval {interval:g} + ping_timeout {timeout:g} must not be longer than "
                f"idle_timeout {idle:g}, which drops the client before (0: never)"
            )

    def c_fields(self) -> dict[str, Any]:
        """The fields of the library's ws_behavior, without its callbacks."""
        fields = c_fields(self, ROUTE_SETTINGS)
        fields["origin_optional"] = None in (self.origins or ())
        if not self.send_pings_automatically:
            fields["ping_interval"] = 0
        return fields


def _given(options: RouteSettings) -> dict[str, Any]:
    """The settings of `options`, and the handlers that are there."""
    found = {key: getattr(options, key) for key in _KEYS}
    return {key: value for key, value in found.items() if key in _TABLE or value is not None}


ROUTE_SETTINGS = settings(RouteSettings)
_TABLE = {one.name: one for one in ROUTE_SETTINGS}
BEHAVIOR_KEYS: list[str] = [*_TABLE, *HANDLERS]
_KEYS = [*BEHAVIOR_KEYS, "session"]
foreign.belongs("a route, app.ws(pattern, {...})", _KEYS)
