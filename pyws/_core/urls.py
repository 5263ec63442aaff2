# SPDX-License-Identifier: MIT
"""From the URL of a broker to the object that connects to it."""

from __future__ import annotations

from ..brokers import SCHEMES, Broker
from .places import public_url

__all__ = ["broker_of", "check_max_size"]


def broker_of(broker: str | Broker) -> Broker:
    """The object for a URL that `check_broker` has checked; another object is itself.

    Raises:
        ImportError: The package that talks to such a broker is missing.
        ValueError: The rest of the URL is wrong.
    """
    if isinstance(broker, Broker):
        return broker
    extra = SCHEMES[broker.partition("://")[0]]
    try:
        if extra == "redis":
            from .redis_broker import RedisBroker

            return RedisBroker(broker)
        from .nats_broker import NatsBroker

        return NatsBroker(broker)
    except ImportError as error:
        raise ImportError(
            f"the broker {public_url(broker)} needs a package that cannot be imported ({error}): "
            f'pip install "pyws-server[{extra}]"'
        ) from error


def check_max_size(broker: Broker) -> None:
    """Raise TypeError if that is no number: it is needed where an exception would be lost."""
    if not isinstance(broker.max_size, int):
        kind = type(broker.max_size).__name__
        raise TypeError(f"max_size of the broker {broker} must be an int, not {kind}")
