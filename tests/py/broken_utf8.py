# SPDX-License-Identifier: MIT
"""UTF-8 of broken_server.py (RFC 3629): strict, or with a switch lenient in one way."""

import codecs
from typing import Callable, Dict

from broken_parts import Failure, Part, Switchboard

UTF8_SWITCHES = (
    "utf8-surrogates", "utf8-overlong", "utf8-above-10ffff", "utf8-long-forms",
    "utf8-stray-accepted", "utf8-fe-ff", "utf8-leads-accepted",
)  # fmt: skip


class Utf8(Part):
    """Checks text as it comes (RFC 3629); Python's decoder where it need not be lenient."""

    def __init__(self, server: Switchboard) -> None:
        super().__init__(server)
        self.strict = codecs.getincrementaldecoder("utf-8")()
        self.lenient = any(self.broken(switch) for switch in UTF8_SWITCHES)
        self.left = 0  # continuation octets that are due
        self.low, self.high = 0x80, 0xBF  # of the next one

    def feed(self, data: bytes, final: bool = False) -> None:
        """Failure."""
        fine = self.feed_lenient(data, final) if self.lenient else self.feed_strict(data, final)
        if not fine:
            raise Failure(1002 if self.broken("utf8-as-1002") else 1007, "no UTF-8")

    def feed_strict(self, data: bytes, final: bool) -> bool:
        if final and self.broken("utf8-cut-accepted"):
            final = False
        try:
            text = self.strict.decode(data, final)
        except UnicodeDecodeError:
            return False
        return self.can_go_on(self.strict.getstate()[0]) and not self.is_refused(text)

    def can_go_on(self, waiting: bytes) -> bool:
        """Whether the beginning of a character is one: Python's decoder waits for more of some."""
        self.left, self.low, self.high = 0, 0x80, 0xBF
        return all(map(self.octet, waiting))

    def is_refused(self, text: str) -> bool:
        """Characters that are valid, and that some switch does not like."""
        refused: Dict[str, Callable[[str], bool]] = {
            "utf8-noncharacters": lambda c: ord(c) & 0xFFFE == 0xFFFE,
            "utf8-bmp-only": lambda c: ord(c) > 0xFFFF,
            "utf8-ascii-only": lambda c: ord(c) > 0x7F,
            "utf8-control-refused": lambda c: c == "\0",
        }
        return any(self.broken(switch) and any(map(test, text)) for switch, test in refused.items())

    def feed_lenient(self, data: bytes, final: bool) -> bool:
        return all(map(self.octet, data)) and not (final and self.left)

    def octet(self, octet: int) -> bool:
        """Whether it may come next; the table of RFC 3629 section 4."""
        if self.left:
            if not self.low <= octet <= self.high:
                if not self.broken("utf8-leads-accepted"):
                    return False
                self.left = 0
                return self.lead(octet)
            self.left -= 1
            self.low, self.high = 0x80, 0xBF
            return True
        return self.lead(octet)

    def lead(self, octet: int) -> bool:
        if octet < 0x80:
            return True
        if octet < 0xC0:
            return self.broken("utf8-stray-accepted")
        if octet >= 0xFE:
            return self.broken("utf8-fe-ff")
        if octet >= 0xF8:
            self.left = 4 if octet < 0xFC else 5
            return self.broken("utf8-long-forms")
        self.left = 1 if octet < 0xE0 else 2 if octet < 0xF0 else 3
        return self.narrow(octet)

    def narrow(self, octet: int) -> bool:
        """What the lead means for the octet behind it."""
        lowest = {0xE0: 0xA0, 0xF0: 0x90}
        if not self.broken("utf8-overlong"):
            self.low = lowest.get(octet, 0x80)
            if octet < 0xC2:
                return False
        if octet == 0xED and not self.broken("utf8-surrogates"):
            self.high = 0x9F
        if octet >= 0xF4 and not self.broken("utf8-above-10ffff"):
            self.high = 0x8F
            return octet == 0xF4
        return True
