# SPDX-License-Identifier: MIT
"""L3: sessions that clients resume: the keys of the tickets, and who may resume what."""

import os
import signal
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import pytest
from authority import Authority, Pair, authority, localhost
from peer import eventually
from tls_clients import CRYPTIC, client_context, opened, tls_of, tls_peer
from tls_server import Secure, with_contexts
from worker_programs import start

from pyws._core.tls import PERIOD, TicketKeys, Tls

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)

# ---- keys ---------------------------------------------------------------------------------------


def test_l3_keys_of_a_period() -> None:
    """They change with the period, and those of the period before follow them."""
    keys = TicketKeys(1000.5 * PERIOD)
    found = [keys.at((1000.5 + number) * PERIOD) for number in range(5)]
    assert [len(one) for one in found] == [80, 160, 160, 160, 160]
    assert len({one[:80] for one in found}) == 5
    assert [one[80:] for one in found[1:]] == [one[:80] for one in found[:-1]]
    assert keys.at(1004.9 * PERIOD) == b""  # those are set already
    assert keys.at(1002 * PERIOD) == b""  # the clock was set back: they stay
    later = keys.at(1007 * PERIOD)
    assert len(later) == 160
    assert found[-1][:80] not in later


def test_l3_workers_agree_on_keys() -> None:
    """From the same secret, whenever each of them has begun, and whatever it has missed."""
    keys, others = TicketKeys(0), TicketKeys(0)
    others._secret = keys._secret
    for number in range(10):
        keys.at(number * PERIOD)
    assert others.at(12 * PERIOD) == keys.at(12 * PERIOD)
    assert TicketKeys(0).at(0) != TicketKeys(0).at(0)


def test_l3_keys_after_a_reload() -> None:
    """Those of before are not accepted, and workers that have reloaded as often agree."""
    keys, others = TicketKeys(0), TicketKeys(0)
    others._secret = keys._secret
    before = keys.at(0)
    keys.forget()
    after = keys.at(0)
    assert len(after) == 80 and after != before
    others.at(PERIOD)
    others.forget()
    assert len(others.at(PERIOD)) == 80
    assert keys.at(PERIOD)[80:] == after
    assert others.at(2 * PERIOD) == keys.at(2 * PERIOD)


def test_l3_old_secrets_are_forgotten() -> None:
    keys = TicketKeys(0)
    before = keys._secret
    keys.at(PERIOD)
    assert before != keys._secret


# ---- resumption ---------------------------------------------------------------------------------


def resumed(
    port: int,
    context: ssl.SSLContext,
    session: Optional[ssl.SSLSession],
    name: str = "localhost",
) -> Tuple[bool, ssl.SSLSession]:
    """Whether a connection has resumed the session, and the session that it leads to."""
    with tls_peer(port, context, name, session) as peer:
        peer.send(b"GET /scheme HTTP/1.1\r\nHost: h\r\n\r\n")
        peer.response()  # with TLS 1.3 the ticket comes before it
        tls = tls_of(peer)
        assert tls.session is not None
        return bool(tls.session_reused), tls.session


@versions
def test_l3_a_session_is_resumed(secure: Callable[..., Secure], version: ssl.TLSVersion) -> None:
    server = secure()
    context = client_context(version)
    first, session = resumed(server.port, context, None)
    assert not first
    for _ in range(3):
        again, session = resumed(server.port, context, session)
        assert again
    with opened(tls_peer(server.port, context, session=session)):
        info = server.infos[-1]
        assert info is not None and info.session_reused
        assert info.server_name == "localhost"


@with_contexts
@pytest.mark.parametrize("kind", ["files", "context"])
def test_l4_sessions_are_not_kept_here(secure: Callable[..., Secure], kind: str) -> None:
    """OpenSSL would keep 20,480 of clients that take no tickets, long after their connections."""
    if kind == "files":
        server = secure()
        (tls,) = server.app._runtime.encryptions
        assert isinstance(tls, Tls) and tls._contexts is not None
        (context,) = tls._contexts._objects.values()
    else:
        context = authority().server_context()
        server = secure(ssl=context)
    client = client_context(ssl.TLSVersion.TLSv1_2)
    client.options |= ssl.OP_NO_TICKET
    for _ in range(3):
        assert not resumed(server.port, client, None)[0]
    assert context.session_stats()["accept_good"] == 3
    assert context.session_stats()["number"] == 0


@with_contexts
@versions
def test_l3_sessions_without_tickets(
    secure: Callable[..., Secure], version: ssl.TLSVersion
) -> None:
    """A context that forbids tickets keeps sessions instead."""
    context = authority().server_context()
    context.options |= ssl.OP_NO_TICKET
    server = secure(ssl=context)
    client = client_context(version)
    _, session = resumed(server.port, client, None)
    assert context.session_stats()["number"] > 0
    assert resumed(server.port, client, session)[0]


@versions
def test_l3_a_session_outlives_new_certificates(
    secure: Callable[..., Secure], version: ssl.TLSVersion
) -> None:
    server = secure()
    context = client_context(version)
    _, session = resumed(server.port, context, None)
    pair = authority().issue("second.example", "localhost")
    server.call(lambda: server.app.reload_tls(cert_file=pair.cert, key_file=pair.key))
    again, _ = resumed(server.port, context, session)
    assert again


@versions
def test_l3_a_session_outlives_its_keys_by_a_period(
    secure: Callable[..., Secure], version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that comes back gets a new ticket. One whose ticket is too old is not resumed."""
    now = time.time()
    server = secure()

    def after(periods: int) -> None:
        monkeypatch.setattr(time, "time", lambda: now + periods * PERIOD)
        server.call(lambda: server.app._runtime.encryptions.rotate(server.app._runtime.timers))

    context = client_context(version)
    _, session = resumed(server.port, context, None)
    after(1)
    for _ in range(2):
        again, following = resumed(server.port, context, session)
        assert again
    after(2)
    again, following = resumed(server.port, context, following)
    assert again
    again, _ = resumed(server.port, context, session)
    assert not again


@versions
@with_contexts
def test_l3_a_session_is_for_its_name(
    secure: Callable[..., Secure], version: ssl.TLSVersion
) -> None:
    """Otherwise a client without a certificate could get to a name that asks for one."""
    server = secure(
        ssl={
            "open.example": authority().server_context("open.example"),
            "closed.example": authority().server_context("closed.example", clients=True),
        }
    )
    context = client_context(version)
    context.check_hostname = False
    _, session = resumed(server.port, context, None, "open.example")
    with pytest.raises(CRYPTIC):
        resumed(server.port, context, session, "closed.example")
    again, _ = resumed(server.port, context, session, "open.example")
    assert again


@versions
@with_contexts
def test_l3_a_resumed_session_knows_its_client(
    secure: Callable[..., Secure], version: ssl.TLSVersion
) -> None:
    server = secure(ssl=authority().server_context(clients=True))
    context = authority().client_context(authority().issue("jane.example"))
    context.minimum_version = context.maximum_version = version
    _, session = resumed(server.port, context, None)
    with opened(tls_peer(server.port, context, session=session)) as peer:
        assert tls_of(peer).session_reused
        info = server.infos[-1]
        assert info is not None and info.session_reused and info.peer_certificate


@with_contexts
@versions
def test_l3_a_reload_changes_whose_clients_are_accepted(
    secure: Callable[..., Secure], version: ssl.TLSVersion
) -> None:
    """No ticket of before lets a client in whose certificate is not accepted any more."""
    server = secure(ssl=authority().server_context(clients=True))
    context = authority().client_context(authority().issue("jane.example"))
    context.minimum_version = context.maximum_version = version
    _, session = resumed(server.port, context, None)
    assert resumed(server.port, context, session)[0]
    other = Authority("other")
    changed = authority().server_context()
    changed.load_verify_locations(other.cert)
    changed.verify_mode = ssl.CERT_REQUIRED
    server.call(server.app.reload_tls, changed)
    with pytest.raises(CRYPTIC):
        resumed(server.port, context, session)
    client = authority().client_context(other.issue("john.example"))
    client.minimum_version = client.maximum_version = version
    _, session = resumed(server.port, client, None)
    assert resumed(server.port, client, session)[0]


# ---- workers ------------------------------------------------------------------------------------

# The time of the keys is the length of a file, in periods. Each request asks for it.
WORKERS = """
    import types
    from pyws._core import tls
    tls.time = types.SimpleNamespace(time=lambda: os.path.getsize(sys.argv[3]) * tls.PERIOD)

    def answer(res, req):
        app._runtime.encryptions.rotate(app._runtime.timers)
        res.end(f"{os.getpid()} {req.tls.session_reused}")

    app.get("/", answer)
    app.get("/reload", lambda res, req: (app.reload_tls(), res.end("")) and None)
    app.listen(
        0, lambda place: print(place.port), host="127.0.0.1", cert_file=sys.argv[1],
        key_file=sys.argv[2],
    )
    app.run(workers=3)
"""


def ask(
    port: int, context: ssl.SSLContext, session: Optional[ssl.SSLSession], path: bytes = b"/"
) -> Tuple[bytes, bool, Any]:
    """Which worker has answered, whether it has resumed the session, and the next session."""
    with tls_peer(port, context, session=session) as peer:
        peer.send(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path)
        pid, _, reused = peer.response().body.partition(b" ")
        tls = tls_of(peer)
        assert not reused or (reused == b"True") == tls.session_reused
        return pid, bool(tls.session_reused), tls.session


@versions
@pytest.mark.parametrize("reloads", [False, True], ids=["", "after a reload"])
def test_l3_all_workers_resume_a_session(
    version: ssl.TLSVersion, reloads: bool, tmp_path: Path
) -> None:
    pair: Pair = localhost()
    clock = tmp_path / "clock"
    clock.touch()
    with start(WORKERS, *pair, str(clock)) as program:
        port = int(program.line())
        context = client_context(version)
        if reloads:
            ask(port, context, None, b"/reload")
            time.sleep(0.2)
        first, reused, session = ask(port, context, None)
        assert not reused
        pids: Set[bytes] = {first}
        results: List[bool] = []
        for _ in range(40):
            pid, reused, following = ask(port, context, session)
            pids.add(pid)
            results.append(reused)
            session = following if version is VERSIONS[1] else session
        assert len(pids) == 3
        assert all(results)
        assert program.stop(signal.SIGTERM) == 0


@versions
def test_l3_all_workers_accept_earlier_keys(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """A worker that was started later, too, and each gives the client a ticket of the new keys."""
    clock = tmp_path / "clock"
    clock.touch()
    with start(WORKERS, *localhost(), str(clock)) as program:
        port = int(program.line())
        context = client_context(version)

        def workers() -> Set[bytes]:
            """Those that have asked for the time."""
            found: Set[bytes] = set()

            def knows_all() -> bool:
                with suppress(OSError, AssertionError):  # the one that was killed
                    found.add(ask(port, context, None)[0])
                return len(found) == 3

            eventually(knows_all)
            return found

        before = workers()
        _, _, old = ask(port, context, None)
        clock.write_text("1")
        os.kill(int(min(before)), signal.SIGKILL)
        now = workers()
        assert len(now & before) == 2
        followers: Dict[bytes, Any] = {}

        def has_asked_all() -> bool:
            pid, reused, session = ask(port, context, old)
            assert reused
            followers[pid] = session
            return followers.keys() == now

        eventually(has_asked_all)
        clock.write_text("12")
        workers()
        assert all(ask(port, context, session)[1] for session in followers.values())
        assert not ask(port, context, old)[1]
        assert program.stop(signal.SIGTERM) == 0
