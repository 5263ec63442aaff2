# SPDX-License-Identifier: MIT
"""The manners of unusual_server.py by name, and what each consists of."""

from typing import Any, Callable, Dict, NamedTuple, Tuple, Type

from broken_parts import (
    T,
)
from unusual_deflate import (
    FinalBlocks,
    Forgetful,
    LargeWindows,
    ManyBlocks,
    NeverCompresses,
    NoDeflate,
    NoHints,
    SmallWindows,
    SometimesCompresses,
    StoredBlocks,
)

LATE = 0.15  # seconds, of an answer that is late
SMALL = 16384  # bytes of a message; what every server is expected to take
LOGIN = "Basic dXNlcjpzZWNyZXQ="


class Manner(NamedTuple):
    """What is different."""

    told: str
    parts: Tuple[Type[Any], ...] = ()
    """Classes that do the work of their base classes in broken_server.py."""
    switches: Tuple[str, ...] = ()
    """What is right, too, though the server is called broken with it."""
    one_connection: bool = False
    most: int = 0
    """Connections at a time."""
    sheds: int = 0
    """Of so many connections one is answered with 503."""
    buffers: int = 0
    """Bytes of the buffers of the kernel."""
    distance: float = 0.0
    """Seconds each way."""
    fields: Tuple[Tuple[str, str], ...] = ()
    """That every request needs."""


UNUSUAL: Dict[str, Manner] = {
    "failure-ends-tcp": Manner(
        "failures end TCP without a Close", switches=("failure-without-close",)
    ),
    "failure-resets": Manner(
        "failures reset TCP without a Close", switches=("failure-without-close", "end-as-reset")
    ),
    "ends-by-reset": Manner("TCP is ended by a reset", switches=("end-as-reset",)),
    "refusal-ends-tcp": Manner(
        "what is refused is refused by the end of TCP", switches=("no-error-response",)
    ),
    "no-query": Manner("a query is not found", switches=("query-refused",)),
    "drops-early": Manner("what comes ahead of the 101 is lost", switches=("ignores-early-data",)),
    "text-at-the-end": Manner("text is checked in the end", switches=("utf8-late",)),
    "no-deflate": Manner("permessage-deflate is declined", (NoDeflate,)),
    "large-windows": Manner("offers with server_max_window_bits are declined", (LargeWindows,)),
    "forgetful": Manner("no context is taken over", (Forgetful,)),
    "small-windows": Manner("windows have 512 bytes", (SmallWindows,)),
    "no-hints": Manner("hints of the client are not answered", (NoHints,)),
    "never-compresses": Manner("no message is compressed", (NeverCompresses,)),
    "sometimes-compresses": Manner("each other message is", (SometimesCompresses,)),
    "stored-blocks": Manner("blocks are not compressed", (StoredBlocks,)),
    "final-blocks": Manner("messages end with BFINAL", (FinalBlocks,)),
    "many-blocks": Manner("messages have many blocks", (ManyBlocks,)),
    "small-buffers": Manner(
        "nothing is read while echoes are unsent, and buffers are small", buffers=32768
    ),
    "one-at-a-time": Manner("one connection is served, others wait", one_connection=True),
    "few-connections": Manner("503 for 16 connections", most=16),
    "sheds-load": Manner("503 for each 7th connection", sheds=7),
    "far-away": Manner("bytes take 0.3 s each way", distance=0.3),
}
"""By name; below those that need a class of their own."""


def manner(name: str, told: str, *parts: Type[Any], **more: Any) -> Callable[[Type[T]], Type[T]]:
    """One that is made of the class below, perhaps with others."""

    def register(part: Type[T]) -> Type[T]:
        UNUSUAL[name] = Manner(told, (*parts, part), **more)
        return part

    return register
