# SPDX-License-Identifier: MIT
"""Windows of permessage-deflate (RFC 7692 sections 7.1.1, 7.1.2 and 7.2; group D): D.7 context
takeover, D.8 references as far back as the window reaches.

Add new rows at the end of a table, because the ids are row numbers; there are gaps for more rows.
"""

from __future__ import annotations

import functools
from typing import Callable

from ..case import Test
from ..deflate import (
    CLIENT_BITS,
    CLIENT_NO_CONTEXT,
    NAME,
    SERVER_NO_CONTEXT,
    Blocks,
    Channel,
    open_channel,
)
from ..verdicts import Closed, Cut, Informational, Late, NonStrict, Unimplemented
from ..wire import BINARY, PING, TEXT
from .compression import noise, words
from .deflate_steps import (
    AGAIN,
    CORRUPT,
    FRESH,
    HELLO,
    PLAIN,
    TAKEN_OVER,
    VALIDATED,
    crossed,
    expect_refusal,
    finish,
    fragments,
    named,
    plain,
    put,
    split,
    stored,
    take_or_refuse,
    taking_over,
)

# ---- D.7: context takeover ----------------------------------------------------------------------


@named(
    "D.7.1",
    TAKEN_OVER,
    'the RFC\'s example: "Hello", then the same as a reference to the first message',
    "both echoes",
)
def example(test: Test) -> None:
    channel = taking_over(test)
    for data in (HELLO, bytes.fromhex("f200110000"), bytes.fromhex("f200110000")):
        channel.send_data(data)
        channel.expect(b"Hello")
    finish(channel)


# Messages between "Hello" and a reference to it, which must not change the window.
INTERLUDES: list[tuple[str, Callable[[Channel], None]]] = [
    ("an uncompressed message", lambda c: plain(c, b"not for the window")),
    ("an uncompressed Binary message of 40000 bytes", lambda c: plain(c, b"x" * 40000, BINARY)),
    ("a compressed empty message", lambda c: crossed(c, b"\x00", b"")),
    ("an uncompressed empty message", lambda c: plain(c, b"")),
    ("a Ping", lambda c: pinged(c)),
    ("a compressed message of empty blocks", lambda c: crossed(c, empty_blocks(), b"")),
]


def pinged(channel: Channel) -> None:
    channel.session.send(channel.session.frame(b"Hello", PING))
    channel.session.expect_pong(b"Hello")


def empty_blocks() -> bytes:
    return Blocks().stored().fixed().stored().message()


def check_interlude(test: Test, interlude: Callable[[Channel], None]) -> None:
    channel = taking_over(test)
    crossed(channel, HELLO, b"Hello")
    interlude(channel)
    crossed(channel, AGAIN, b"Hello")
    finish(channel)


for _number, (_told, _interlude) in enumerate(INTERLUDES, 2):
    put(
        f"D.7.{_number}",
        TAKEN_OVER,
        sends=f'"Hello" compressed, then {_told}, then a reference to the "Hello"',
        expects="every echo",
        run=functools.partial(check_interlude, interlude=_interlude),
    )


@named(
    "D.7.10",
    TAKEN_OVER,
    "60 compressed messages that resemble each other, alternating text and binary",
    "every echo",
)
def many_alike(test: Test) -> None:
    channel = open_channel(test)
    line = words(test.random, 40)
    for i in range(60):
        channel.echo(f"{i}: {line}".encode(), BINARY if i % 3 else TEXT)
    channel.close()


@named(
    "D.7.11",
    TAKEN_OVER,
    "a compressed message in fragments that refers to an earlier one in fragments",
    "both echoes",
)
def fragments_refer(test: Test) -> None:
    channel = taking_over(test)
    for data in (HELLO, AGAIN):
        channel.session.send(b"".join(fragments(channel, split(data, 1))))
        channel.expect(b"Hello")
    finish(channel)


@named(
    "D.7.12",
    PLAIN,
    "only uncompressed messages although compression was negotiated",
    "every echo, compressed or not",
)
def only_plain(test: Test) -> None:
    channel = open_channel(test)
    for payload in (b"", b"Hello", words(test.random, 300).encode(), HELLO[2:4] + b"!"):
        plain(channel, payload, BINARY)
    channel.close()


@named(
    "D.7.13",
    FRESH,
    f"the same message of noise five times; offer: {NAME}; {SERVER_NO_CONTEXT}",
    "every echo, without references to earlier ones",
)
def server_forgets(test: Test) -> None:
    channel = open_channel(test, f"{NAME}; {SERVER_NO_CONTEXT}")
    block = noise(test.random, 500)
    for _ in range(5):
        channel.echo(block, BINARY)
    channel.close()


@named(
    "D.7.14",
    FRESH,
    f"text, then an empty message, then the text again; offer: {NAME}; {SERVER_NO_CONTEXT}",
    "every echo, without references to earlier ones",
)
def server_forgets_around_empty(test: Test) -> None:
    channel = open_channel(test, f"{NAME}; {SERVER_NO_CONTEXT}")
    text = words(test.random, 200).encode()
    for payload in (text, b"", text, b"", text):
        channel.echo(payload)
    channel.close()


@named(
    "D.7.15",
    VALIDATED,
    f'"Hello", then a reference to it; offer: {NAME}; {CLIENT_NO_CONTEXT}',
    "the second message is refused, or inflated if the server kept the window anyway; nothing else "
    "is delivered",
)
def client_refers_though_fresh(test: Test) -> None:
    channel = open_channel(test, f"{NAME}; {CLIENT_NO_CONTEXT}")
    if not channel.terms.client_no_context:
        raise Unimplemented(f"the server ignores {CLIENT_NO_CONTEXT}, which is allowed")
    crossed(channel, HELLO, b"Hello")
    channel.send_data(AGAIN)
    try:
        channel.expect(b"Hello")
    except Closed as closed:
        if closed.code in CORRUPT:
            return
        raise NonStrict(str(closed)) from None
    except (Cut, Late) as error:
        raise NonStrict(str(error)) from None
    raise Informational("the server keeps the window anyway")


@named(
    "D.7.16",
    VALIDATED,
    'on one connection "Hello"; on another, as its first message, a reference to 5 bytes before',
    "the second connection is failed with 1007 or 1002: windows are not shared",
    tags=("several",),
)
def not_shared(test: Test) -> None:
    first, second = open_channel(test), open_channel(test)
    crossed(first, HELLO, b"Hello")
    second.send_data(AGAIN)
    expect_refusal(second.session)
    finish(first)


@named(
    "D.7.17",
    TAKEN_OVER,
    "alternating on two connections, messages that refer to the previous one on the connection",
    "every echo, each from its own window",
    tags=("several",),
)
def two_windows(test: Test) -> None:
    channels = [taking_over(test), taking_over(test)]
    for channel, text in zip(channels, (b"Hello", b"Salut")):
        crossed(channel, Blocks().fixed(text).message(), text)
    for _ in range(3):
        for channel, text in zip(channels, (b"Hello", b"Salut")):
            crossed(channel, AGAIN, text)
    for channel in channels:
        finish(channel)


# ---- D.8: references to the end of the window ---------------------------------------------------

REACH = (
    "RFC 7692 7.2.2",
    'If the "agreed parameters" contain the "client_max_window_bits" extension parameter with a '
    "value of w, the server MAY reduce the size of its LZ77 sliding window to decompress received "
    "messages down to the w-th power of 2 bytes. Otherwise, the server MUST use a 32,768-byte LZ77 "
    "sliding window to decompress received messages.",
)


def check_reach(test: Test, bits: int) -> None:
    """Repeat the first bytes of the window within one message."""
    channel = open_channel(test, f"{NAME}; {CLIENT_BITS}={bits}")
    window = 1 << channel.terms.client_bits
    block = noise(test.random, window)
    channel.send_data(stored(block, 30000).fixed((258, window), (3, window)).message(), BINARY)
    channel.expect((block * 3)[: window + 261], BINARY)
    finish(channel)


for _bits in range(8, 16):
    put(
        f"D.8.{_bits}",
        REACH,
        sends="a message that refers back exactly as far as the agreed window (32768 bytes if the "
        f"answer names none); offer: {NAME}; {CLIENT_BITS}={_bits}",
        expects="its echo",
        run=functools.partial(check_reach, bits=_bits),
    )


def check_reach_over(test: Test, bits: int) -> None:
    """Refer back over three messages while the window slides."""
    channel = open_channel(test, f"{NAME}; {CLIENT_BITS}={bits}")
    if channel.terms.client_no_context:
        raise Unimplemented(f"the server insists on {CLIENT_NO_CONTEXT}")
    window = 1 << channel.terms.client_bits
    history = noise(test.random, window + 100)
    for part in (history[: window // 2], history[window // 2 :]):
        channel.send_data(stored(part, 30000).message(), BINARY)
        channel.expect(part, BINARY)
    for _ in range(3):
        again = history[-window:][:100]
        channel.send_data(Blocks().fixed((100, window)).message(), BINARY)
        channel.expect(again, BINARY)
        history += again
    finish(channel)


for _bits in (9, 12, 15):
    put(
        f"D.8.{_bits + 10}",
        REACH,
        sends="messages that refer back exactly as far as the agreed window, into earlier "
        f"messages; offer: {NAME}; {CLIENT_BITS}={_bits}",
        expects="every echo",
        run=functools.partial(check_reach_over, bits=_bits),
    )


def check_beyond(test: Test, bits: int) -> None:
    """Refer back one byte too far."""
    channel = open_channel(test, f"{NAME}; {CLIENT_BITS}={bits}")
    if channel.terms.client_bits == 15:
        raise Unimplemented("the server leaves the window at 32768 bytes, which is allowed")
    window = 1 << channel.terms.client_bits
    block = noise(test.random, window + 1)
    data = stored(block).fixed((10, window + 1)).message()
    take_or_refuse(channel, data, block + block[:10])
    raise Informational("the server inflates it anyway")


for _bits in (9, 12):
    put(
        f"D.8.{_bits + 20}",
        VALIDATED,
        sends="a reference one byte beyond the agreed window; offer: "
        f"{NAME}; {CLIENT_BITS}={_bits}",
        expects="the echo, or a failed connection (RFC 7692 7.2.1 binds only the sender); nothing "
        "else is delivered",
        run=functools.partial(check_beyond, bits=_bits),
    )
