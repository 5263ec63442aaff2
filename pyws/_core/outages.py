# SPDX-License-Identifier: MIT
"""What log lines say of a broker that is away, and why."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from typing import Any

from .logs import logger

__all__ = ["Outage", "reason_of"]

MOST_REASONS = 10  # that are logged in one outage

# Networks and servers cause these. Everything else may be a mistake in a program.
_EXPECTED = (OSError, asyncio.TimeoutError)


def reason_of(error: BaseException) -> str:
    """What an error says, with its class unless that is one of the expected ones."""
    if isinstance(error, OSError):
        return _reason_of_system(error) or type(error).__qualname__
    text, name = str(error), type(error).__qualname__
    if isinstance(error, _EXPECTED):
        return text or name
    return f"{name}: {text}" if text else name


def _reason_of_system(error: OSError) -> str:
    """What an error of the system says, without numbers and addresses."""
    text = str(error)
    if isinstance(error, ssl.SSLError):
        return "it offers no TLS" if error.reason == "WRONG_VERSION_NUMBER" else text
    if error.filename is not None:
        return text
    if error.errno:
        # That of a name that cannot be resolved is negative.
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    # asyncio has tried several addresses of a name.
    numbers = re.findall(r"\[Errno (\d+)\]", text) if text.startswith("Multiple exceptions") else ()
    return ", ".join(dict.fromkeys(os.strerror(int(one)) for one in numbers)) or text


def _traceback_of(error: BaseException) -> BaseException | None:
    """The error, if its traceback helps: AttributeError, TypeError ... but none of a library."""
    is_builtin = type(error).__module__ == "builtins"
    return error if is_builtin and not isinstance(error, _EXPECTED) else None


class Outage:
    """The reasons of one outage: each of them is logged once."""

    def __init__(self, name: str) -> None:
        """`name` is that of the broker."""
        self._name = name
        self._reasons: set[str] = set()

    def report(self, what: str, error: BaseException) -> None:
        """Log an attempt to connect that has failed, or that the connection was lost.

        Args:
            what: "is away", or what else it means.
            error: Why.
        """
        reason = reason_of(error)
        if reason in self._reasons or len(self._reasons) == MOST_REASONS:
            logger.debug("the broker %s is still away: %r", self._name, error)
            return
        line = "the broker %s %s, trying again; messages for it wait (broker_queue): %s"
        if self._reasons:
            line = "the broker %s %s, now for another reason: %s"
        self._reasons.add(reason)
        trace: Any = _traceback_of(error)
        logger.warning(line, self._name, what, reason, exc_info=trace)
