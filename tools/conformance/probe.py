# SPDX-License-Identifier: MIT
"""Probe a server before the first case: whether it answers and echoes, and how it uses the freedom
that the RFCs leave it.

This module does not decide what is correct; the cases do. If no case can be run, `learn` explains
why in one sentence.
"""

from __future__ import annotations

import random
import ssl
import time
from dataclasses import replace
from typing import Sequence

from . import secure, wire
from .case import Manners
from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Connection,
    Ended,
    Frame,
    Garbled,
    Response,
    Target,
    TimedOut,
)

NEAR = 0.02  # seconds; a shorter round trip does not extend timeouts
ECHOES = 3  # the fastest one is the round trip
OTHERS = 20  # messages that may arrive before an echo
RESERVED = 3  # a reserved opcode (RFC 6455 section 5.2)
USES_TLS = "{} uses TLS: is it wss://?"
WRONG_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL
NETWORK = (Ended, TimedOut, Garbled, OSError)


class Unfit(Exception):
    """The server cannot be tested; the text says why."""


def learn(target: Target, timeout: float) -> Manners:
    """Probe the server like a well-behaved client, or raise Unfit if it cannot be tested.

    The timeout is the number of seconds for an answer.
    """
    with Visit(target, timeout) as visit:
        greetings = visit.echo(0)
        times = []
        for number in range(1, 1 + ECHOES):
            began = time.monotonic()
            if visit.echo(number):
                raise Unfit(f"{target} sends other messages between the echoes")
            times.append(time.monotonic() - began)
        round_trip = min(times) if min(times) > NEAR else 0.0
        manners = Manners(round_trip=round_trip, greetings=greetings, tls=visit.connection.tls)
        problem = other_is_served(target, timeout)
    manners = replace(manners, close_code=visit.close_code)
    if problem:
        # After the first connection has ended, a new one must be served.
        with Visit(target, timeout) as visit:
            visit.echo(0)
        manners = replace(manners, one_connection=True)
    return manners


def other_is_served(target: Target, timeout: float) -> str:
    """Return why a second connection is not served while one is open, or ""."""
    try:
        with Visit(target, timeout) as visit:
            visit.echo(0)
    except Unfit as error:
        return str(error)
    return ""


def failure_code(target: Target, timeout: float) -> int | None:
    """Return the code with which the server fails a connection (RFC 6455 section 7.1.7), or None.

    Raises Unfit if the server sends no Close frame.
    """
    with Visit(target, timeout) as visit:
        try:
            visit.connection.send(wire.frame(b"", RESERVED))
            for _ in range(OTHERS):
                frame = visit.connection.read_frame()
                if frame.opcode == CLOSE:
                    return frame.close_code
        except NETWORK:
            pass
    raise Unfit(f"{target} sends no Close frame when it fails a connection")


def is_gone(target: Target, timeout: float, attempts: int = 3) -> str:
    """Return why a peer no longer answers, or ""."""
    problem = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(0.2)
        try:
            Visit(target, timeout).close()
            return ""
        except Unfit as error:
            problem = str(error)
    return problem


class Visit:
    """A connection with a normal opening handshake, closed at the end of the with block."""

    def __init__(self, target: Target, timeout: float) -> None:
        """Connect, or raise Unfit if the server does not accept the connection."""
        self.target = target
        self.close_code: int | None = 1000
        """The code of the server's answer to the Close with 1000 at the end, if it answers."""
        self.trace = wire.Trace()
        self.trace.deadline = self.trace.began + 5 * timeout
        try:
            self.connection = Connection(target, timeout, self.trace)
        except ssl.SSLCertVerificationError as error:
            raise Unfit(distrusted(target, error)) from None
        except (ssl.SSLError, secure.NotTls) as error:
            raise Unfit(without_tls(target, error)) from None
        except OSError as error:
            raise Unfit(f"cannot connect to {target}: {error.strerror or error}") from None
        try:
            self.open(timeout)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        """Send a Close, so that a server with one connection at a time can accept the next."""
        try:
            self.connection.send(wire.frame(wire.close_payload(1000), CLOSE))
            frame = self.connection.read_frame()
            while frame.opcode != CLOSE:
                frame = self.connection.read_frame()
            self.close_code = frame.close_code
        except NETWORK:
            pass
        self.close()

    def close(self) -> None:
        self.connection.close()

    def open(self, timeout: float) -> None:
        target = self.target
        try:
            fields = wire.upgrade_fields(target, wire.random_key(random.Random(0)))
            self.connection.send(wire.request(target.resource, fields))
            response = self.connection.read_response()
        except (Ended, TimedOut, Garbled) as error:
            if not target.tls and speaks_tls(target, timeout):
                raise Unfit(USES_TLS.format(target)) from None
            raise Unfit(f"{target} does not answer the opening handshake: {error}") from None
        if response.status == 400 and not target.tls and speaks_tls(target, timeout):
            raise Unfit(USES_TLS.format(target))
        if response.status != 101:
            raise Unfit(refusal(target, response))

    def echo(self, number: int) -> int:
        """Send a message and read its echo; returns the number of other messages before it.

        Raises Unfit if there is no echo.
        """
        payload = b"conformance %d" % number
        came: list[Frame] = []
        try:
            self.connection.send(wire.frame(payload, TEXT))
            while len(came) < OTHERS:
                frame = self.message()
                if frame.opcode == CLOSE:
                    raise Unfit(self.no_echo(payload, [*came, frame]))
                if frame.payload == payload:
                    return len(came)
                came.append(frame)
        except TimedOut as error:
            raise Unfit(self.no_echo(payload, came, str(error))) from None
        except NETWORK as error:
            raise Unfit(self.no_echo(payload, came, str(error))) from None
        raise Unfit(self.no_echo(payload, came))

    def message(self) -> Frame:
        """Read the next message or Close, and answer Pings, or raise Ended, TimedOut or Garbled."""
        parts: list[bytes] = []
        first: Frame | None = None
        while True:
            frame = self.connection.read_frame()
            if frame.opcode == PING:
                self.connection.send(wire.frame(frame.payload, PONG))
            elif frame.opcode == CLOSE:
                return frame
            elif frame.opcode in (TEXT, BINARY, CONTINUATION):
                first = first or frame
                parts.append(frame.payload)
                if frame.fin:
                    return first._replace(fin=True, payload=b"".join(parts))

    def no_echo(self, payload: bytes, came: Sequence[Frame], how: str = "") -> str:
        what = [f"it sent {frame}" for frame in came[:2]] + ([how] if how else [])
        sent = f"after Text {wire.shown(payload)}"
        return f"{self.target} does not echo: {sent}, {', then '.join(what)}"


def refusal(target: Target, response: Response) -> str:
    """Explain a response other than 101 to the user."""
    status = f"{response.status} {response.reason}".strip()
    told = f"{target} answers the opening handshake with {status}"
    if response.status in (401, 403, 407):
        return f"{told}: log in with --header, --cookie or --query"
    place = response.get("Location")
    if place and 300 <= response.status < 400:
        return f"{told}, to {place[:200]!r}"
    return f"{told}: is the path correct?"


def speaks_tls(target: Target, timeout: float) -> bool:
    """Return whether the server unexpectedly performs a TLS handshake."""
    context = secure.client_context(insecure=True)
    try:
        Connection(target._replace(tls=True, context=context), timeout, wire.Trace()).close()
    except OSError:
        return False
    return True


def distrusted(target: Target, error: ssl.SSLCertVerificationError) -> str:
    """Explain why the server's certificate was not accepted, and what to do."""
    if error.verify_code in WRONG_NAME:
        names = "use a name that it has in the URL"
        return f"the certificate of {target} is not for {target.host!r}: {names}, or --insecure"
    told = f"the certificate of {target} is not trusted ({error.verify_message})"
    return f"{told}: give it, or that of its issuer, with --ca FILE, or use --insecure"


def without_tls(target: Target, error: OSError) -> str:
    """Explain a failed TLS handshake: the server may not use TLS at all."""
    reason = getattr(error, "reason", None) or ""
    if "ALERT" in reason:
        return f"{target} refuses the TLS handshake ({reason.replace('_', ' ').lower()})"
    return f"no TLS at {target} ({reason or error}): is it ws://?"
