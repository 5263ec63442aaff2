# SPDX-License-Identifier: MIT
"""Publishing from programs that serve no clients themselves."""

from __future__ import annotations

from typing import Optional, Union

from ._core import envelope, mistakes, values
from ._core.hints import AnyOpCode, Message
from ._core.messages import Json, pack_publication
from ._core.urls import broker_of
from .brokers import Broker, check_broker
from .history import History

__all__ = ["end_at", "publish_to"]


def publish_to(
    url: Union[str, Broker],
    topic: Union[str, bytes],
    message: Message,
    opcode: Optional[AnyOpCode] = None,
    compress: bool = False,
    *,
    timeout: float = 10,
    history: Optional[History] = None,
) -> None:
    """Publish one message to the subscribers of all apps that use a broker.

    It connects, publishes, waits until the broker has the message, and disconnects. It belongs
    into programs that serve no clients themselves, like a cron job or a worker of a task queue; an
    app that serves has `App.publish`.

    Args:
        url: The URL of the broker, as the apps have it in ``AppOptions(broker=...)``, or an object
            of a subclass of `pyws.brokers.Broker`.
        topic: Any str, or bytes in UTF-8.
        message, opcode, compress: As for `App.publish`.
        timeout: Seconds that all of it may take.
        history: What the apps have in ``app.ws(..., history=...)``, if the topic has history: the
            broker keeps the message then, for clients that come back.

    Raises:
        TypeError, ValueError: An argument is wrong, the message is too long for the broker, or this
            broker keeps no messages.
        ImportError: The package that talks to the broker is missing.
        ConnectionError: The broker cannot be reached, or refuses. The message was probably not
            published, or not kept.
        TimeoutError: It has taken too long. The message may have been published.
        RuntimeError: An asyncio loop runs in this thread. There,
            ``await asyncio.to_thread(pyws.publish_to, ...)`` does not block it.
    """
    broker = check_broker("url", url)
    name = values.topic(topic)
    data, code = pack_publication(message, opcode, compress, Json())
    connection = _connection("publish_to", broker, timeout)
    _check_history(history, connection, name)
    from ._core import outlet  # it needs asyncio, which takes long to import

    data = envelope.head(envelope.NO_ORIGIN, code) + data
    outlet.publish(connection, name, data, history, timeout)


def end_at(
    url: Union[str, Broker],
    topic: Union[str, bytes],
    code: int = 1000,
    reason: Union[str, bytes] = "",
    *,
    timeout: float = 10,
) -> None:
    """End every connection that has subscribed to `topic`, in all apps that use a broker.

    It does from another program what `App.end` does in an app: to log out a user everywhere whose
    connections have subscribed to a topic of the user, for example.

    Args:
        url, timeout: As for `publish_to`.
        topic: Any str, or bytes in UTF-8.
        code, reason: As for `WebSocket.end`.

    Raises:
        TypeError, ValueError, ImportError, ConnectionError, TimeoutError, RuntimeError: As for
            `publish_to`.
    """
    broker = check_broker("url", url)
    name = values.topic(topic)
    status, text = values.close_arguments(code, reason)
    connection = _connection("end_at", broker, timeout)
    from ._core import outlet

    data = envelope.pack_end(envelope.NO_ORIGIN, status, text)
    outlet.publish(connection, name, data, None, timeout)


def _connection(call: str, broker: Union[str, Broker], timeout: float) -> Broker:
    """What connects to the broker. Raises what the calls above raise before they connect."""
    values.duration("timeout", timeout, 0.001)
    advice = f"`await asyncio.to_thread(pyws.{call}, ...)`"
    mistakes.refuse_running_loop(f"pyws.{call}()", advice)
    return broker_of(broker)


def _check_history(history: Optional[History], broker: Broker, topic: bytes) -> None:
    """Raises TypeError, ValueError."""
    if history is None:
        return
    if not isinstance(history, History):
        raise TypeError(f"history must be a History or None, not {values.type_name(history)}")
    if not history.matches(topic):
        raise ValueError(f"the topic {topic.decode()!r} is none of {history!r}")
    if not broker.keeps:
        raise ValueError(f"the broker {broker} keeps no messages, which history needs")
