# SPDX-License-Identifier: MIT
"""The verdicts of cases, and the exceptions that end a case with one."""

from __future__ import annotations

import enum


class Verdict(str, enum.Enum):
    """The verdict of a case."""

    OK = "OK"
    NON_STRICT = "NON-STRICT"
    """A SHOULD was not followed, or a rule was followed in a way that the RFC discourages."""
    INFORMATIONAL = "INFORMATIONAL"
    """The RFC leaves it open; the report shows what happened."""
    FAILED = "FAILED"
    """A MUST was violated."""
    UNIMPLEMENTED = "UNIMPLEMENTED"
    """The peer does not support the feature that the case is about (an extension)."""
    SKIPPED = "SKIPPED"
    """The case could not be evaluated."""


class Judged(Exception):
    """Ends a case with a verdict; the text says what happened."""

    verdict = Verdict.OK


class Failed(Judged):
    """The requirement of the case was not met: FAILED, or less according to its level."""

    verdict = Verdict.FAILED


class Closed(Failed):
    """The peer sent a Close frame instead."""

    def __init__(self, text: str, code: int | None) -> None:
        super().__init__(text)
        self.code = code


class Cut(Failed):
    """TCP ended instead."""


class Late(Failed):
    """The peer sent nothing until the timeout."""


BUSY = (429, 503)
"""Statuses of a server that is busy or limits its clients."""


class Refused(Failed):
    """The opening handshake was answered with a status other than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the opening handshake was answered with {status}")
        self.status = status


class NonStrict(Judged):
    verdict = Verdict.NON_STRICT


class Informational(Judged):
    verdict = Verdict.INFORMATIONAL


class Limited(NonStrict):
    """A message may exceed a limit of the peer, which sent no Close with 1009."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class Unimplemented(Judged):
    verdict = Verdict.UNIMPLEMENTED


class Skipped(Judged):
    verdict = Verdict.SKIPPED


class Busy(Skipped):
    """A proper opening handshake was answered with one of `BUSY`."""


def refusal(status: int) -> Judged:
    """Return what a status other than 101 means in answer to a proper opening handshake.

    A server that is busy or limits its clients violates nothing, but does not show what a case is
    about either (RFC 9110 15.6.4, RFC 6585 4).
    """
    if status in BUSY:
        return Busy(f"the server is busy: the opening handshake was answered with {status}")
    return Refused(status)
