# SPDX-License-Identifier: MIT
"""tools/conformance: what the cases about permessage-deflate take for right, lax and wrong."""

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Type

import pytest
from broken_deflate import Negotiation
from broken_parts import PONG, T
from broken_server import Server
from broken_websocket import WebSocket
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cases, cli, deflate
from conformance.case import CASES, Manners, Result, Settings, run
from conformance.cases import compression
from conformance.verdicts import Failed
from conformance.wire import Target

assert cases  # its import registers them

NAME = deflate.NAME
SERVER_BITS, CLIENT_BITS = deflate.SERVER_BITS, deflate.CLIENT_BITS
HINT = f"{NAME}; {CLIENT_BITS}"


def judged(id: str, server: Server, **settings: Any) -> Result:
    target = Target("127.0.0.1", server.port, "/", False)
    settings.setdefault("timeout", 10.0)  # which passes where something comes, on a busy machine
    return run(CASES[id], Settings(target, **settings))


def verdicts(
    ids: List[str], *switches: str, kind: Type[Server] = Server, **settings: Any
) -> Dict[str, str]:
    """The results of cases, with a server that is broken in several places."""
    with kind(switches) as server:
        return {id: judged(id, server, **settings).verdict.value for id in ids}


# ---- answers to offers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offers", "answer", "lax", "free"),
    [
        (NAME, NAME, False, False),
        (f"{NAME}; {CLIENT_BITS}=10", f"{NAME}; {CLIENT_BITS}=10", False, False),
        (f"{NAME}; {CLIENT_BITS}=10", f"{NAME}; {CLIENT_BITS}=9", False, False),
        (f"{NAME}; {CLIENT_BITS}=10", f"{NAME}; {CLIENT_BITS}=15", False, True),
        (f"{NAME}; {CLIENT_BITS}=10", NAME, False, False),
        (f"{NAME}; {CLIENT_BITS}", f"{NAME}; {CLIENT_BITS}=15", False, False),
        (f"{NAME}; {SERVER_BITS}=15", NAME, True, False),
        # Of two offers that the answer could belong to, it belongs to the one that it fits.
        (f"{NAME}; {SERVER_BITS}=15, {NAME}", NAME, False, False),
        (
            f"{NAME}; {CLIENT_BITS}=9, {NAME}; {CLIENT_BITS}",
            f"{NAME}; {CLIENT_BITS}=12",
            False,
            False,
        ),
    ],
)
def test_answers_that_belong_to_an_offer(offers: str, answer: str, lax: bool, free: bool) -> None:
    """A value of client_max_window_bits in an offer is a hint, and the answer may have a larger one
    (RFC 7692 7.1.2.2 and 7.2.1)."""
    terms = deflate.agree(offers, answer)
    assert terms is not None
    assert (terms.lax is not None, terms.free is not None) == (lax, free)


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (NAME, f"{NAME}; {CLIENT_BITS}=15"),
        (f"{NAME}; {SERVER_BITS}=10", f"{NAME}; {SERVER_BITS}=11"),
        (f"{NAME}; {SERVER_BITS}=10", NAME),
        (f"{NAME}; {deflate.SERVER_NO_CONTEXT}", NAME),
        (f"{NAME}; {SERVER_BITS}=16", NAME),
        (f"{NAME}; {CLIENT_BITS}", f"{NAME}; {CLIENT_BITS}"),
        (f"{NAME}, {NAME}", f"{NAME}, {NAME}"),
        (NAME, "x-other"),
        (NAME, f"{NAME};"),
    ],
)
def test_answers_that_belong_to_no_offer(offers: str, answer: str) -> None:
    with pytest.raises(Failed):
        deflate.agree(offers, answer)


def test_an_offer_that_is_refused_is_not_accepted() -> None:
    """A handshake refused, or TCP ended, because of an offer: the offer is not accepted, and no
    sentence says that a server must take such a client."""
    invalid = ["D.2.1", "D.2.16", "D.2.48", "D.4.41"]
    both = ("deflate-fallback-refused", "no-error-response")
    assert verdicts(invalid, *both) == dict.fromkeys(invalid, "NON-STRICT")
    assert verdicts(["D.1.85"], *both) == {"D.1.85": "NON-STRICT"}
    # A list with empty elements has to be understood.
    assert verdicts(["D.1.111"], "empty-elements-refused") == {"D.1.111": "FAILED"}


def test_a_malformed_offer_may_be_answered_by_the_end_of_tcp() -> None:
    ids = ["D.3.1", "D.3.8", "D.3.9"]
    assert verdicts(ids, "no-error-response") == dict.fromkeys(ids, "NON-STRICT")


# ---- data that the client should not have sent --------------------------------------------------

WRONG = ["D.5.61", "D.5.62", "D.5.63", "D.7.15", "D.9.1", "D.9.41"]


@pytest.mark.parametrize("switch", ["deflate-broken-unanswered", "failure-without-close"])
def test_the_end_of_tcp_alone_fails_a_connection(switch: str) -> None:
    """RFC 6455 7.1.7: an endpoint SHOULD send a Close frame before it ends TCP."""
    assert verdicts(WRONG, switch) == dict.fromkeys(WRONG, "NON-STRICT")


def test_broken_data_that_is_dropped() -> None:
    """It MUST be validated; that the connection is failed then is a SHOULD."""
    found = verdicts(WRONG, "deflate-broken-dropped", timeout=1.0)  # nothing comes anyway
    assert found == dict.fromkeys(WRONG, "NON-STRICT")


def test_broken_data_that_is_delivered() -> None:
    assert verdicts(["D.7.15", "D.9.1", "D.9.41"], "deflate-errors-ignored") == {
        "D.7.15": "FAILED",
        "D.9.1": "FAILED",
        "D.9.41": "NON-STRICT",  # it is cut, and no sentence says that it must be whole
    }


# ---- peers that are right -----------------------------------------------------------------------


class Declines(Negotiation):
    """Knows no extension."""

    def run(self, offers: Any) -> Any:
        return None, None


class Forgets(Negotiation):
    """Neither side takes a window over, whatever was offered."""

    def answer(self, wanted: Any, offers: int) -> Any:
        flags = dict.fromkeys((deflate.SERVER_NO_CONTEXT, deflate.CLIENT_NO_CONTEXT))
        return super().answer({**wanted, **flags}, offers)


class Plain(WebSocket):
    """Agrees to compression, and sends all messages as they are."""

    def compressed(self, payload: bytes) -> Tuple[bytes, int]:
        return payload, 0


class Coalesces(WebSocket):
    """Of Pings that came together the last one is answered (RFC 6455 5.5.2)."""

    ping: Optional[bytes] = None

    def answer_last(self) -> None:
        if self.ping is not None:
            self.send_frame(self.ping, PONG)
            self.ping = None

    def on_ping(self, payload: bytes) -> None:
        self.ping = payload

    def end_message(self, message: Any) -> None:
        self.answer_last()
        super().end_message(message)

    def read_frame(self) -> None:
        if not self.stream.buffer:
            self.answer_last()
        super().read_frame()


SOME = ["12.1.3", "13.3.4", "D.1", "D.2.1", "D.2.49", "D.3.1", "D.4.1", "D.5", "D.6", "D.7", "D.8"]
SOME += ["D.9.1", "D.10.1", "D.10.22", "D.11.10", "D.12.5"]
FINE = {"OK", "INFORMATIONAL", "UNIMPLEMENTED"}


def under(prefixes: List[str]) -> List[str]:
    return [id for id in CASES if any(f"{id}.".startswith(f"{prefix}.") for prefix in prefixes)]


@pytest.mark.parametrize("part", [Declines, Forgets, Plain, Coalesces])
def test_peers_that_are_right(part: Type[Any]) -> None:
    class Right(Server):
        def part(self, kind: Type[T]) -> Type[T]:
            return part if issubclass(part, kind) else kind

    found = verdicts(under(SOME), kind=Right)
    assert {id: verdict for id, verdict in found.items() if verdict not in FINE} == {}
    if part is Coalesces:
        assert [found["D.6.21"], found["D.6.22"]] == ["INFORMATIONAL"] * 2
    if part is Declines:
        assert set(found.values()) == {"OK", "UNIMPLEMENTED"}


def test_one_connection_at_a_time_is_enough() -> None:
    """But for cases about what two connections have to do with each other."""
    ids = under([*SOME, "D.9.2", "D.11.1"])
    manners = Manners(one_connection=True)
    with Server() as server:
        results = [judged(id, server, manners=manners) for id in ids]
    skipped = [result.case.id for result in results if result.verdict.value not in FINE]
    assert skipped == ["D.7.16", "D.7.17"]


# ---- as many messages as the Autobahn suite sends -----------------------------------------------


def test_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert compression.FULL == 1000
    monkeypatch.setattr(compression, "FULL", 30)
    sent = []
    with Server() as server:
        for option in ([], ["--full"]):
            path = tmp_path / "report.json"
            url = f"ws://127.0.0.1:{server.port}/"
            cli.main([url, "--include", "13.1.11", "--json", str(path), *option])
            (case,) = json.loads(path.read_text())["runs"][0]["cases"]
            assert case["verdict"] == "OK"
            sent.append(len([event for event in case["trace"] if event["what"] == "sent"]))
    assert sent == [6 + 2, 30 + 2]  # besides the messages a handshake and a Close
