# SPDX-License-Identifier: MIT
"""Results and events, of which the tests of conformance reports make their runs."""

import sys
from typing import Any, Dict, List

from common import ROOT
from conformance_runs import case, run_of

sys.path.insert(0, str(ROOT / "tools"))

from conformance import runner, wire
from conformance.case import Case, Result
from conformance.verdicts import Verdict

FAILING = runner.failing("failed")
OPEN = {"close": "FAILED", "close_came": "the server does not end TCP after the closing handshake"}


BAD = run_of(
    [
        *(case(f"4.{i}", "FAILED", f"Text 'a{i}' came", **OPEN) for i in range(1, 8)),
        case("5.1", "OK", "", flaky=["FAILED", "OK"], **OPEN),
        case("5.2", "NON-STRICT", "late"),
    ],
    known=["4.1"],
)


def result(id: str, verdict: str, **more: Any) -> Result:
    one = Case(id, "RFC 6455 5.1", "MUST", "a quote", "things", "others", lambda test: None)
    return Result(one, Verdict(verdict), "came", 0.1, wire.Trace(), **more)


def events(*pairs: Any, kept: int = 256, connection: int = 1) -> List[Dict[str, Any]]:
    common = {"at": 0.0, "connection": connection}
    return [
        {**common, "what": what, "hex": data[:kept].hex(), "length": len(data)}
        for what, data in pairs
    ]


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"
RESPONSE = b"HTTP/1.1 101 x\r\nA: b\r\n\r\n"
HELLO = wire.frame(b"hello")
