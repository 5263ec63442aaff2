# SPDX-License-Identifier: MIT
"""The cases for clients (tools/conformance, group C and what fits a client of the others) can be
trusted: a client without faults passes them all, and one that is broken in one place fails those
about it (broken_client.py, broken_clients.txt). And --listen itself: TLS, and other right clients.

A run of pytest takes of each switch the cases that it fails, and some others; all of them:

    CONFORMANCE_TRUST=complete python -m pytest tests/py/test_conformance_clients.py

After a change of cases or switches: what they come to, written as the table, to be read and judged.

    python tests/py/test_conformance_clients.py [SWITCH...]
"""

import io
import os
import random
import re
import socket
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import pytest
from broken_client import Client
from broken_client_switches import MANNERS, SWITCHES
from common import ROOT, TIMEOUT
from delay_proxy import DelayProxy
from program import Program
from test_conformance_trust import Verdicts, compact, expand, read_table, row_of, wrapped
from tls_relay import Certificate, make_certificate

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cli, listen, progress, tls, wire
from conformance.case import CASES, MAY, Result, Settings, natural

TABLE = Path(__file__).with_name("broken_clients.txt")
COMPLETE = os.environ.get("CONFORMANCE_TRUST") == "complete"
THREADS = 8
BAD = ("FAILED", "NON-STRICT")
FINE = ""
OF_OTHERS = 8  # cases of other switches that are run with each switch

Job = Tuple[str, str]
"""Switches and manners joined by "+" ("": none), and the id of a case."""

cli.all_cases()  # registers them
ONLY_CLIENTS = sorted((id for id, case in CASES.items() if "client" in case.tags), key=natural)

# Rules that concern clients with these manners only.
COMBINED = (
    "extensions-unasked+offers-nothing",
    "extensions-ignored+offers-nothing",
    "parameters-not-of-offer+offers-plainly",
    "parameters-not-of-offer+offers-limits",
)
ALONE = ("no-server-name", "extensions-unasked", "parameters-not-of-offer", "close-unchecked")
"""Without them, without TLS, or in group C, these fail nothing."""
NAMES = [*(switch for switch in SWITCHES if switch not in ALONE), *COMBINED]
RACES = {"frame-ahead": ["C.1.19"], "leftover-lost": expand("C.3.*")}
"""What comes of other cases depends on which bytes are there first."""

COMMENT = """\
# What each switch of broken_client.py makes of the cases for clients only (tools/conformance, group
# C); all others are fine. Written by test_conformance_clients.py, in the form of
# broken_switches.txt.
"""

# Cases that no client can fail, and why.
NEVER_FAILED = {
    "C.1.22": "only over TLS, see test_server_name_indication",
}


# ---- runs ---------------------------------------------------------------------------------------


class Listening:
    """A runner for clients in a thread, with all cases that are for clients."""

    def __init__(
        self, timeout: float = 1.0, scale: float = 1.0, context: Optional[ssl.SSLContext] = None
    ) -> None:
        self.said: List[str] = []
        settings = Settings(wire.Target("", 0, "/", False), timeout=timeout, scale=scale)
        cases = listen.for_clients(cli.all_cases())
        self.listener = listen.Listener(
            ("127.0.0.1", 0), cases, settings, self.observe, self.said.append, context
        )
        self.port = self.listener.place[1]
        self.context = context
        self.thread = threading.Thread(target=self.listener.run, args=[1, 3600.0])

    def observe(self, name: str) -> progress.Lines:
        return progress.observer(1000, io.StringIO())

    def __enter__(self) -> "Listening":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        trusting = unchecked() if self.context else None
        Client(self.port, context=trusting).ask("/updateReports?agent=the end")
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive()

    def result(self, name: str, id: str) -> Result:
        """Of a case that the client with that name has asked for."""

        def done() -> bool:
            agent = self.listener.agents.get(name)
            return agent is not None and id in agent.results

        with self.listener.lock:
            assert self.listener.judged.wait_for(done, 3 * TIMEOUT), f"case {id} has no result"
            return self.listener.agents[name].results[id]

    def judged(self, job: Job) -> Result:
        """A case with a client that is broken in that way."""
        switches, id = job
        client = Client(self.port, filter(None, switches.split("+")))
        if id == "C.1.10":
            client.ask("/getCaseCount")  # it is about more than one connection
        name = switches.replace("+", "~") or "good"
        client.echo(f"/case/{id}?agent={name}")
        return self.result(name, id)


def unchecked() -> ssl.SSLContext:
    """For clients that take any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def verdict_of(result: Result) -> str:
    return result.verdict.value if result.verdict.value in BAD else FINE


def all_judged(jobs: Sequence[Job], scale: float = 1.0) -> List[Result]:
    jobs = list(jobs)
    order = sorted(range(len(jobs)), key=lambda i: random.Random(str(jobs[i])).random())
    results: Dict[int, Result] = {}
    with Listening(scale=scale) as listening, ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(listening.judged, [jobs[i] for i in order])
        results = dict(zip(order, found))
    return [results[i] for i in range(len(jobs))]


def differing(jobs: Iterable[Job], table: Mapping[str, Verdicts]) -> List[str]:
    """What does not come to what the table says, in words. Late answers on a busy machine are no
    differences: such cases are run once or twice more, with patience."""
    jobs = sorted(jobs)
    results = dict(zip(jobs, all_judged(jobs)))

    def wrong(job: Job) -> bool:
        return verdict_of(results[job]) != table.get(job[0], {}).get(job[1], FINE)

    for scale in (3.0, 6.0):
        again = [job for job in jobs if wrong(job)]
        if again:
            results.update(zip(again, all_judged(again, scale)))
    return sorted(
        f"{job[0] or 'no switch'}, case {job[1]}: {result.verdict.value} ({result.came}), not "
        f"{table.get(job[0], {}).get(job[1], 'fine')}"
        for job, result in results.items()
        if wrong(job) or result.came.startswith("the case raised")
    )


def ids_of(switch: str) -> List[str]:
    """The cases that are run with it."""
    return RACES.get(switch, ONLY_CLIENTS)


def owners(table: Mapping[str, Verdicts]) -> Set[Job]:
    """Each case with the switch that fails it and the fewest others."""
    jobs: Dict[str, Job] = {}
    for switch in sorted(table, key=lambda switch: len(table[switch])):
        for id in table[switch]:
            jobs.setdefault(id, (switch, id))
    return set(jobs.values())


def chosen(table: Mapping[str, Verdicts]) -> Set[Job]:
    """What is run; always the same."""
    if COMPLETE:
        return {(switch, id) for switch in table for id in ids_of(switch)}
    jobs = owners(table)
    for switch, row in table.items():
        ids = ids_of(switch)
        others = random.Random(switch).sample(ids, min(OF_OTHERS, len(ids)))
        jobs |= {(switch, id) for id in [*others, *sorted(row)[:2]]}
    return jobs


# ---- trust --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> Dict[str, Verdicts]:
    return read_table(TABLE.read_text())


def test_there_is_a_row_for_every_switch(table: Dict[str, Verdicts]) -> None:
    assert list(table) == NAMES
    assert [switch for switch, row in table.items() if not row] == []


def test_a_right_client_passes_its_own_cases() -> None:
    assert differing([("", id) for id in ONLY_CLIENTS], {}) == []


@pytest.mark.timeout(300)
def test_cases_for_servers_fit_a_right_client() -> None:
    """Where they are run with clients as well."""
    ids = [case.id for case in listen.for_clients(cli.all_cases()) if "client" not in case.tags]
    assert len(ids) > 800
    results = all_judged([("", id) for id in ids], 3.0)
    failed = [f"{r.case.id}: {r.came}" for r in results if r.verdict.value == "FAILED"]
    assert failed == []
    assert sum(r.verdict.value == "SKIPPED" for r in results) < 10


@pytest.mark.parametrize("manner", MANNERS)
def test_other_manners_fail_nothing(manner: str) -> None:
    results = all_judged([(manner, id) for id in ONLY_CLIENTS], 3.0)
    failed = [f"{r.case.id}: {r.came}" for r in results if r.verdict.value == "FAILED"]
    assert failed == []


@pytest.mark.timeout(3600 if COMPLETE else 180)
def test_each_switch_fails_the_cases_of_its_row(table: Dict[str, Verdicts]) -> None:
    assert differing(chosen(table), table) == []


def test_every_case_is_failed_by_a_switch(table: Dict[str, Verdicts]) -> None:
    failed = {id for row in table.values() for id in row}
    never = {id for id in ONLY_CLIENTS if CASES[id].level == MAY} | set(NEVER_FAILED)
    assert compact(set(ONLY_CLIENTS) - failed) == compact(never)


# ---- manners ------------------------------------------------------------------------------------


def verdicts(listening: Listening, client: Client, name: str, *ids: str) -> List[str]:
    """Of these cases, one after the other."""
    found = []
    for id in ids:
        client.echo(f"/case/{id}?agent={name}")
        found.append(listening.result(name, id).verdict.value)
    return found


def test_a_client_far_away() -> None:
    """The waits of cases are longer by the round trip that is measured before the first of them."""
    ids = ("1.1.1", "2.2", "7.1.1", "C.1.19", "C.2.1", "C.2.24", "C.5.1", "C.8.33")
    with Listening(timeout=0.3) as listening, DelayProxy(listening.port, 0.2) as proxy:
        client = Client(proxy.port)
        client.ask("/getCaseCount")
        assert verdicts(listening, client, "far", *ids) == ["OK"] * len(ids)


def test_pieces_are_no_matter_of_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits ten seconds for a handshake has it by then, octet by octet or not."""
    monkeypatch.setattr(wire, "HURRY", -1.0)
    with Listening(scale=3.0) as listening:
        client = Client(listening.port)
        assert verdicts(listening, client, "c", "1.1.10", "C.2.21") == ["OK", "OK"]
        notes = [event.data for event in listening.result("c", "1.1.10").trace.events]
        assert b"the machine is slow: the last 130 bytes in one write" in notes
        sent = [
            event.length
            for event in listening.result("c", "C.2.21").trace.events
            if event.what == "sent"
        ]
        assert sent[0] == 1 and sent[1] > 100


def late_to_end(listening: Listening, id: str) -> Result:
    """A case with a client that closes TCP only when the case is over."""
    target = wire.Target("127.0.0.1", listening.port, "/", False)
    connection = wire.Connection(target, TIMEOUT, wire.Trace())
    try:
        fields = wire.upgrade_fields(target, "dGhlIHNhbXBsZSBub25jZQ==")
        connection.send(wire.request(f"/case/{id}?agent=late", fields))
        connection.read_response()
        opcode = 0
        while opcode != wire.CLOSE:
            frame = connection.read_frame()
            opcode = frame.opcode
            connection.send(wire.frame(frame.payload, opcode, key=b"abcd"))
        return listening.result("late", id)
    finally:
        connection.close()


def test_no_rule_tells_a_client_how_soon_to_end_tcp() -> None:
    """RFC 6455 section 5.5.1: "The server MUST close the underlying TCP connection immediately"."""
    with Listening(timeout=0.3) as listening:
        about = late_to_end(listening, "7.1.1")
        other = late_to_end(listening, "1.1.1")
    assert (about.verdict, about.close) == ("NON-STRICT", "OK")
    assert (other.verdict, other.close) == ("OK", "NON-STRICT")
    for came in (about.came, other.close_came):
        assert "does not end TCP after the closing handshake" in came


@pytest.mark.parametrize(
    ("switches", "ids", "expected"),
    [
        # An answer with 1000 to a bad Close means something only once others are known.
        (["close-unchecked"], ["7.5.1"], ["NON-STRICT"]),
        (["close-unchecked"], ["3.1", "7.5.1"], ["OK", "FAILED"]),
        (["close-unchecked", "ends-without-close"], ["3.1", "7.5.1"], ["NON-STRICT", "FAILED"]),
        (["ends-without-close"], ["3.1", "7.5.1"], ["NON-STRICT", "NON-STRICT"]),
        (["close-without-code"], ["3.1", "7.5.1"], ["NON-STRICT", "NON-STRICT"]),
        (["resets"], ["3.1", "7.5.1"], ["NON-STRICT", "NON-STRICT"]),
    ],
)
def test_how_a_client_fails_connections_is_remembered(
    switches: List[str], ids: List[str], expected: List[str]
) -> None:
    with Listening(scale=3.0) as listening:
        client = Client(listening.port, switches)
        assert verdicts(listening, client, "c", *ids) == expected


# ---- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def trusting(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate.cert)


def listening(*arguments: str) -> Program:
    return Program(str(ROOT / "tools" / "conformance"), "--listen", *arguments)


def port_of(program: Program, scheme: str) -> int:
    match = re.match(rf"listening on {scheme}://[^ ]+:(\d+)/ with (\d+) cases", program.line())
    assert match
    assert int(match[2]) > 3
    return int(match[1])


def files_of(certificate: Certificate) -> List[str]:
    return ["--cert", certificate.cert, "--key", certificate.key]


@pytest.mark.parametrize("place", ["0", "127.0.0.1:0", "wss://127.0.0.1:0", "wss://127.0.0.1:0/"])
def test_tls(place: str, certificate: Certificate) -> None:
    """All that is said and tested in the clear, encrypted."""
    few = ["--include", "1.1.*", "--include", "C.3.*", "--include", "13.3.*"]
    with listening(place, *files_of(certificate), *few, "--timeout", "10") as program:
        port = port_of(program, "wss")
        Client(port, context=trusting(certificate), host="localhost").run("secure")
        assert program.wait() == cli.FINE
        assert "secure: " in program.rest()
        assert program.error_text() == ""


def test_the_key_may_be_in_the_file_of_the_certificate(
    certificate: Certificate, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    both.write_text(Path(certificate.cert).read_text() + Path(certificate.key).read_text())
    with listening("0", "--cert", str(both), "--include", "1.1.*") as program:
        Client(port_of(program, "wss"), context=trusting(certificate), host="localhost").run("c")
        assert program.wait() == cli.FINE


def test_clients_of_the_wrong_scheme_are_told_of(certificate: Certificate) -> None:
    """Once each, and they keep nothing from going on."""
    with listening("0", *files_of(certificate), "--include", "1.1.*") as program:
        port = port_of(program, "wss")
        slow = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        slow.sendall(b"\x16")
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain:
                plain.sendall(b"GET /getCaseCount HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = b"".join(iter(lambda: plain.recv(65536), b""))
                assert answer.startswith(b"HTTP/1.1 400 ")
                assert answer.endswith(b"\r\n\r\nThis port speaks only TLS\n")
        assert program.line() == "a client does not use TLS, but this is wss://, not ws://"
        stranger = Client(port, context=ssl.create_default_context(), host="localhost")
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.ask("/getCaseCount")
        assert re.fullmatch(
            r"the TLS handshake with a client failed: .*unknown ca"
            r" \(it does not trust the certificate\)",
            program.line(),
        )
        Client(port, context=trusting(certificate), host="localhost").run("c")
        assert program.wait() == cli.FINE
        assert "speaks" not in program.rest()
        slow.close()


def test_a_client_with_tls_where_none_is(certificate: Certificate) -> None:
    with listening("ws://127.0.0.1:0", "--include", "1.1.*") as program:
        port = port_of(program, "ws")
        with pytest.raises(OSError):
            Client(port, context=trusting(certificate)).ask("/getCaseCount")
        expected = "a client uses TLS, but this is ws://, not wss:// (see --cert)"
        assert program.line() == expected
        Client(port).run("c")
        assert program.wait() == cli.FINE


def test_a_tls_handshake_has_a_deadline(certificate: Certificate) -> None:
    context = tls.server_context(certificate.cert, certificate.key)
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"\x16\x03\x01\x02\x00\x01")
        with pytest.raises(tls.Mismatch, match="timed out"):
            tls.opened(near, context, 0.2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--listen", "wss://localhost:0"], "needs a certificate: --cert FILE --key FILE"),
        (["--listen", "ws://localhost:0", "--cert", "{cert}"], "--cert needs wss://"),
        (["--listen", "0", "--key", "{key}"], "--key needs a certificate"),
        (["ws://localhost", "--cert", "{cert}"], "--cert and --key need --listen"),
        (["--listen", "0", "--cert", "missing"], "--cert missing: No such file or directory"),
        (["--listen", "0", "--cert", "{cert}", "--key", "/"], "--key /: Is a directory"),
        (["--listen", "0", "--cert", "{cert}"], "no PEM certificate and private key found"),
        (["--listen", "0", "--cert", "{cert}", "--key", "{cert}"], "no PEM certificate and key"),
        (["--listen", "0", "--cert", "{cert}", "--key", "{other}"], "this is not the key of"),
        (["--listen", "0", "--cert", "{cert}", "--key", "{encrypted}"], "private key is encrypted"),
        (["--listen", "wss://localhost"], "must be [HOST:]PORT or wss://HOST:PORT, not 'wss://"),
        (["--listen", "http://localhost:0"], "must be [HOST:]PORT or wss://HOST:PORT"),
        (["--listen", "wss://:0"], "must be [HOST:]PORT or wss://HOST:PORT"),
        (["ws://localhost", "--include", "C"], "these cases are for clients: see --listen"),
    ],
)
def test_wrong_usage(
    arguments: List[str], text: str, certificate: Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as info:
        cli.main([argument.format(**certificate._asdict()) for argument in arguments])
    assert info.value.code == cli.USAGE
    assert text in capsys.readouterr().err


def test_server_name_indication(certificate: Certificate) -> None:
    context = tls.server_context(certificate.cert, certificate.key)
    told = {}
    with Listening(context=context) as listening:
        for name, switches, host in (
            ("good", [], "localhost"),
            ("bad", ["no-server-name"], "localhost"),
            ("address", [], "127.0.0.1"),
        ):
            client = Client(listening.port, switches, unchecked(), host)
            client.echo(f"/case/C.1.22?agent={name}")
            told[name] = listening.result(name, "C.1.22").verdict.value
    assert told == {"good": "OK", "bad": "FAILED", "address": "SKIPPED"}


# ---- writing ------------------------------------------------------------------------------------


def main(switches: Sequence[str]) -> None:
    """Run these switches with all cases, and write what has become of their rows."""
    table = read_table(TABLE.read_text()) if TABLE.exists() else {}
    for switch in switches or NAMES:
        results = all_judged([(switch, id) for id in ids_of(switch)])
        table[switch] = {
            result.case.id: result.verdict.value
            for result in results
            if result.verdict.value in BAD
        }
        print(wrapped(f"{switch}: {row_of(table[switch])}"), end="", flush=True)
        written = "".join(wrapped(f"{name}: {row_of(table.get(name, {}))}") for name in NAMES)
        TABLE.write_text(f"{COMMENT}\n{written}")


if __name__ == "__main__":
    main(sys.argv[1:])
