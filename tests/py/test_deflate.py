# SPDX-License-Identifier: MIT
"""permessage-deflate (RFC 7692) end to end: against the websockets client, Python's zlib and raw
frames. The C tests hold the details (tests/c/test_deflate.c)."""

import asyncio
import json
import os
import re
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import peer
import pytest
import vectors
from common import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect as connect_sync

from pyws import AppOptions, CompressOptions, OpCode
from pyws._native import lib

with_zlib = pytest.mark.skipif(
    not lib.ws_compression_available(), reason="the library was built without zlib"
)


@pytest.mark.skipif(lib.ws_compression_available(), reason="the library was built with zlib")
def test_without_zlib_the_setting_is_refused(serve: Any) -> None:
    """A clear error names what is missing; without the setting all works."""
    with pytest.raises(RuntimeError, match="compression needs zlib, and .* was built without it"):
        serve(compression=1)
    server = serve(message=echo)
    client, answer = upgraded(server.port)
    assert answer == ""
    client.send(peer.frame(b"plain" * 100))
    assert client.frame().payload == b"plain" * 100
    client.socket.close()


OFFER = "permessage-deflate; client_max_window_bits"
TAIL = b"\x00\x00\xff\xff"
MODES = [
    CompressOptions.SHARED_COMPRESSOR,
    CompressOptions.SHARED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR,
    CompressOptions.DEDICATED_COMPRESSOR_4KB | CompressOptions.DEDICATED_DECOMPRESSOR_1KB,
    CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR,
    CompressOptions.DEDICATED_COMPRESSOR_3KB,
]


def echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode, compress=True)


def upgraded(port: int, offer: str = OFFER) -> Tuple[peer.Peer, str]:
    """A raw peer that offered compression, and what the server answered."""
    client = peer.Peer(port)
    client.send(peer.handshake("/", [("Sec-WebSocket-Extensions", offer)]))
    response = client.response()
    assert response.status == 101
    return client, response.headers.get("sec-websocket-extensions", "")


def deflated(data: bytes, bits: int = -15) -> bytes:
    stream = zlib.compressobj(wbits=bits)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(data: bytes, stream: Optional[Any] = None) -> bytes:
    return (stream or zlib.decompressobj(-15)).decompress(data + TAIL)


def rsv1(payload: bytes, opcode: int = 1, fin: bool = True) -> bytes:
    return vectors.frame((0x80 if fin else 0) | 0x40 | opcode, payload)


def read_raw(client: peer.Peer) -> Tuple[int, bytes]:
    """First byte and payload of the next frame."""
    first = client.read(1)[0]
    length = client.read(1)[0]
    if length == 126:
        length = int.from_bytes(client.read(2), "big")
    elif length == 127:
        length = int.from_bytes(client.read(8), "big")
    return first, client.read(length)


@with_zlib
def test_s12_shared_answers_both_no_context_takeover(serve: Any) -> None:
    """S12, X2, X3: both no_context_takeover parameters, and ws.compression tells so."""
    seen: List[Any] = []
    server = serve(compression=1, open=lambda ws: seen.append(ws.compression))
    client, answer = upgraded(server.port)
    want = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert answer == want
    client.socket.close()
    peer.eventually(lambda: seen == [want])


@with_zlib
@pytest.mark.parametrize("offer", ["", "x-webkit-deflate-frame", "permessage-deflate; x"])
def test_x1_no_offer_that_fits(serve: Any, offer: str) -> None:
    """X1: unknown extensions and parameters are declined, the connection works."""
    server = serve(compression=1, message=echo)
    with peer.Peer(server.port) as client:
        headers = [("Sec-WebSocket-Extensions", offer)] if offer else []
        client.send(peer.handshake("/", headers))
        assert "sec-websocket-extensions" not in client.response().headers
        client.send(peer.frame(b"plain" * 100))
        assert client.frame().payload == b"plain" * 100


@with_zlib
def test_disabled_declines(serve: Any) -> None:
    server = serve(message=echo)
    client, answer = upgraded(server.port)
    assert answer == ""
    client.send(rsv1(deflated(b"a")))
    assert client.frame().close_code == 1002
    client.socket.close()


@with_zlib
def test_upgrade_without_extensions_declines(serve: Any) -> None:
    """An upgrade handler that passes None for the extensions gets no compression."""

    def upgrade(res: Any, req: Any, context: Any) -> None:
        extensions = req.get_header("sec-websocket-extensions")
        allowed = extensions if req.get_query("on") else None
        res.upgrade(req.get_header("sec-websocket-key"), None, allowed, context)

    server = serve(compression=1, upgrade=upgrade)
    for path, want in (("/", False), ("/?on=1", True)):
        with peer.upgraded(server.port, path, [("Sec-WebSocket-Extensions", OFFER)]):
            pass
        with peer.Peer(server.port) as client:
            client.send(peer.handshake(path, [("Sec-WebSocket-Extensions", OFFER)]))
            assert ("sec-websocket-extensions" in client.response().headers) is want


@with_zlib
@pytest.mark.parametrize("mode", MODES)
def test_round_trip_with_websockets(serve: Any, mode: int) -> None:
    """X8, X9, X10, X13, S48: every mode against the websockets client and its choices."""
    server = serve(compression=mode, max_payload_length=1 << 20, message=echo)
    messages: List[Any] = [
        "",
        "a",
        "hello " * 1000,
        json.dumps([{"id": i, "name": "x" * (i % 7)} for i in range(300)]),
        os.urandom(5000),
        b"\0" * 100000,
        "héllo wörld €" * 50,
    ]

    async def talk(factory: ClientPerMessageDeflateFactory) -> None:
        async with connect(server.url, compression=None, extensions=[factory], max_size=None) as ws:
            for message in messages * 2:
                await ws.send(message)
                assert await asyncio.wait_for(ws.recv(), 10) == message
            await ws.send(["frag", "ment", "ed " * 500])
            assert await asyncio.wait_for(ws.recv(), 10) == "fragmented " + "ed " * 499

    for choices in (
        {},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 10},
        {"client_max_window_bits": True},
        {"client_max_window_bits": 12, "server_no_context_takeover": True},
    ):
        asyncio.run(talk(ClientPerMessageDeflateFactory(**choices)))


@with_zlib
def test_x13_only_where_asked(serve: Any) -> None:
    """X13: compression is per send, and what would grow is sent plain."""
    server = serve(
        compression=1, message=lambda ws, msg, op: ws.send(msg, op, compress=msg.startswith("c"))
    )
    client, _ = upgraded(server.port)
    for text, compressed in (("plain" * 100, False), ("c" * 500, True), ("c", False)):
        client.send(peer.frame(text.encode()))
        first, payload = read_raw(client)
        assert bool(first & 0x40) is compressed
        assert (inflated(payload) if compressed else payload) == text.encode()
    client.socket.close()


@with_zlib
def test_s48_dedicated_keeps_its_window(serve: Any) -> None:
    """S46, S48: the second of two equal messages is small, with a shared one it is not."""
    noise = os.urandom(700).hex()  # within the window of 2 KiB
    sizes: Dict[int, List[int]] = {}
    for mode in (CompressOptions.SHARED_COMPRESSOR, CompressOptions.DEDICATED_COMPRESSOR_16KB):
        server = serve(compression=mode, max_payload_length=1 << 20, message=echo)
        client, _ = upgraded(server.port)
        stream = None
        if mode != CompressOptions.SHARED_COMPRESSOR:
            stream = zlib.decompressobj(-15)
        sizes[mode] = []
        for _ in range(2):
            client.send(peer.frame(noise.encode()))
            first, payload = read_raw(client)
            assert first == 0xC1 and inflated(payload, stream) == noise.encode()
            sizes[mode].append(len(payload))
        client.socket.close()
    shared, dedicated = sizes.values()
    assert shared[0] == shared[1]
    assert dedicated[1] < dedicated[0] / 10


@with_zlib
def test_fragments_are_one_stream(serve: Any) -> None:
    """X7, F18: RSV1 on the first piece only, one compressed stream over all."""

    def message(ws: Any, msg: Any, opcode: Any) -> None:
        ws.send_first_fragment("abc" * 100, compress=True)
        ws.send("held")
        ws.send_fragment("abc" * 100)
        ws.send_last_fragment("abc" * 100)

    for mode in MODES:
        server = serve(compression=mode, message=message)
        client, _ = upgraded(server.port)
        stream = zlib.decompressobj(-15)
        for _ in range(2):
            client.send(peer.frame(b"go"))
            frames = [read_raw(client) for _ in range(4)]
            assert [first for first, _ in frames] == [0x41, 0x00, 0x80, 0x81]
            assert frames[3][1] == b"held"
            data = b"".join(payload for _, payload in frames[:3])
            if "server_no" in server.call(lambda s=server: next(iter(_sockets(s))).compression):
                stream = zlib.decompressobj(-15)
            assert stream.decompress(data + TAIL) == b"abc" * 300
        client.socket.close()


def _sockets(server: Any) -> List[Any]:
    from pyws._core.sockets import sockets as open_sockets

    return [ws for ws in open_sockets.values() if ws._runtime is server.app._runtime]


def is_idle(server: Any) -> bool:
    return bool(server.call(server.app.stats)["open"] == 0)


BOMB = deflated(b"\0" * 10_000_000)
BAD: List[Any] = [
    pytest.param(rsv1(BOMB), 1009, id="X12 bomb"),
    pytest.param(rsv1(deflated(b"x" * 16385)), 1009, id="T41 one byte too many"),
    pytest.param(rsv1(b"\xff" * 40), 1007, id="X12 corrupt"),
    pytest.param(rsv1(deflated(os.urandom(300))[:-40]), 1007, id="X12 truncated"),
    pytest.param(rsv1(deflated(b"\xff\xfe")), 1007, id="F11 not UTF-8"),
    pytest.param(rsv1(b"a", 9), 1002, id="X7 RSV1 on a Ping"),
    pytest.param(vectors.frame(0x41, b"") + rsv1(b"", 0), 1002, id="X7 RSV1 on a continuation"),
    pytest.param(vectors.frame(0xA1, b"a"), 1002, id="F3 RSV2"),
    pytest.param(rsv1(os.urandom(17000), 2), 1009, id="X12 wire limit"),
]


@with_zlib
@pytest.mark.parametrize(("wire", "code"), BAD)
@pytest.mark.parametrize("mode", [1, CompressOptions.DEDICATED_DECOMPRESSOR_32KB])
def test_bad_messages(serve: Any, mode: int, wire: bytes, code: int) -> None:
    """X7, X12, T40-T43: refused with the right code, whole and in two parts."""
    server = serve(compression=mode, message=echo)
    for cut in (0, 1, len(wire) // 2):
        client, _ = upgraded(server.port)
        client.send(wire[:cut])
        try:
            client.send(wire[cut:])
        except ConnectionError:
            pass
        frame = client.frame()
        assert (frame.opcode, frame.close_code) == (8, code), frame
        client.socket.close()


@with_zlib
def test_exactly_the_limit(serve: Any) -> None:
    """T41: max_payload_length bytes are accepted, counted after decompression."""
    server = serve(compression=1, message=echo)
    client, _ = upgraded(server.port)
    client.send(rsv1(deflated(b"x" * 16384)))
    assert inflated(read_raw(client)[1]) == b"x" * 16384
    client.socket.close()


@with_zlib
@pytest.mark.parametrize("frames", [1, 14])
def test_t40_ten_megabytes_that_become_ten_gigabytes(serve: Any, frames: int) -> None:
    """X12, T40: found out before more than max_payload_length is held; max_memory proves it."""
    limit = 16 << 20
    stream = zlib.compressobj(9, wbits=-15)
    mebibyte = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)
    bomb = mebibyte * (10 << 10)
    # The compressed message in a block that grows by half, what comes out, a fixed amount.
    memory = len(bomb) * 3 // 2 + limit + (1 << 20)
    server = serve(
        app_options=AppOptions(max_memory=memory),
        compression=1,
        max_payload_length=limit,
        message=echo,
    )
    client, _ = upgraded(server.port)
    size = -(-len(bomb) // frames)
    pieces = [bomb[i : i + size] for i in range(0, len(bomb), size)]
    for number, piece in enumerate(pieces):
        opcode = 0 if number else 0x42
        client.send(peer.frame(piece, opcode, fin=number == frames - 1))
    assert client.frame().close_code == 1009
    peer.eventually(lambda: server.call(server.app.stats)["memory"] < 1 << 20)
    client.socket.close()


@with_zlib
def test_x11_bfinal(serve: Any) -> None:
    """X11: blocks with BFINAL=1 are valid, also with context takeover."""
    server = serve(compression=MODES[1], message=echo)
    client, _ = upgraded(server.port)
    for text in (b"final " * 100, b"again " * 100):
        stream = zlib.compressobj(wbits=-15)
        client.send(rsv1(stream.compress(text) + stream.flush(zlib.Z_FINISH) + b"\0"))
        assert inflated(read_raw(client)[1]) == text
        client.send(rsv1(deflated(text)))
        assert inflated(read_raw(client)[1]) == text
    client.socket.close()


@with_zlib
def test_memory_is_told_and_freed(serve: Any) -> None:
    """S45, S46: shared modes hold nothing for a socket, dedicated ones until it closes."""
    held = {}
    for mode in (1, CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR):
        server = serve(compression=mode, message=echo)
        clients = [upgraded(server.port)[0] for _ in range(4)]

        def memory(server: Any = server) -> int:
            return int(server.call(server.app.stats)["compression_memory"])

        for client in clients[:2]:
            client.send(rsv1(deflated(b"x" * 1000)))
            read_raw(client)
        two = memory()
        for client in clients[2:]:
            client.send(rsv1(deflated(b"x" * 1000)))
            read_raw(client)
        held[mode] = (memory() - two) / 2
        for client in clients:
            client.socket.close()
        peer.eventually(partial(is_idle, server))
        assert memory() <= two
    shared, dedicated = held.values()
    assert shared == 0
    assert (1 << 18) + (1 << 15) < dedicated < 448 * 1024  # zlib-ng: 392,768


def _costs() -> Dict[str, int]:
    """The table of docs/compression.md."""
    text = (ROOT / "docs" / "compression.md").read_text()
    row = r"`(DEDICATED_\w+|SHARED_\w+)` \| [^|]+ \| ([\d,]+)"
    return {name: int(cost.replace(",", "")) for name, cost in re.findall(row, text)}


def _uses_documented_zlib() -> bool:
    native_ng = "libz-ng" in Path("/proc/self/maps").read_text()
    return zlib.ZLIB_RUNTIME_VERSION == "1.2.13" and sys.maxsize > 2**32 and not native_ng


@with_zlib
@pytest.mark.skipif(not _uses_documented_zlib(), reason="the costs are those of zlib 1.2.13")
def test_s46_the_documented_costs_are_true(serve: Any) -> None:
    """S46: what each mode costs a connection, as docs/compression.md and ws.h have it."""
    costs = _costs()
    assert len(costs) == 18
    header = (ROOT / "csrc" / "ws.h").read_text()
    for name, cost in costs.items():
        noted = re.search(rf" WS_{name} = \d+,? +/\* ([\d,]+) \*/", header)
        assert noted is None or noted.group(1) == f"{cost:,}"
        server = serve(compression=CompressOptions[name], message=echo)
        held = []
        clients = [upgraded(server.port)[0] for _ in range(2)]
        for client in clients:
            client.send(rsv1(deflated(b"x" * 1000)))
            read_raw(client)
            held.append(server.call(server.app.stats)["compression_memory"])
        assert held[1] - held[0] == cost, name
        for client in clients:
            client.socket.close()


ANY_MODE = [
    compressor | decompressor
    for compressor in CompressOptions
    for decompressor in CompressOptions
    if 0 < compressor < 256 <= decompressor
]
MESSAGE = st.builds(
    lambda text, times: text * times, st.binary(max_size=600), st.sampled_from([1, 2, 20, 200])
)


def split(data: bytes, cuts: List[int]) -> List[bytes]:
    """`data` in pieces, some of them perhaps empty."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip(places, places[1:])]


def echo_in_pieces(ws: Any, message: Any, opcode: Any) -> None:
    """The echo of a message that ends with a digit comes in so many fragments."""
    data = message.encode() if isinstance(message, str) else message
    number = data[-1] - 48 if data and opcode == OpCode.BINARY else 0
    if not 2 <= number <= 9:
        ws.send(message, opcode, compress=True)
        return
    size = len(data) // number
    ws.send_first_fragment(data[:size], OpCode.BINARY, compress=True)
    for i in range(1, number - 1):
        ws.send_fragment(data[i * size : (i + 1) * size])
    ws.send_last_fragment(data[(number - 1) * size :])


@with_zlib
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_hypothesis_round_trip(serve: Any, data: st.DataObject) -> None:
    """X1-X15: random messages, fragmentations, modes and windows against Python's zlib."""
    server = _server_for(serve, data.draw(st.sampled_from(ANY_MODE)))
    bits = data.draw(st.integers(9, 15))
    offer = f"permessage-deflate; client_max_window_bits={bits}"
    if data.draw(st.booleans()):
        offer += f"; server_max_window_bits={data.draw(st.integers(9, 15))}"
    if data.draw(st.booleans()):
        offer += "; client_no_context_takeover"
    client, answer = upgraded(server.port, offer)
    agreed = bits
    for part in answer.split("; "):
        if part.startswith("client_max_window_bits="):
            agreed = int(part.split("=")[1])
    out, back = zlib.compressobj(wbits=-agreed), zlib.decompressobj(-15)
    for _ in range(data.draw(st.integers(1, 4))):
        message = data.draw(MESSAGE) + data.draw(st.sampled_from([b"", b"2", b"5"]))
        if "client_no_context_takeover" in answer:
            out = zlib.compressobj(wbits=-agreed)
        packed = (out.compress(message) + out.flush(zlib.Z_SYNC_FLUSH))[:-4]
        pieces = split(packed, data.draw(st.lists(st.integers(0, 10**6), max_size=5)))
        for number, piece in enumerate(pieces):
            first = (0 if number else 0x42) | (0x80 if number == len(pieces) - 1 else 0)
            client.send(vectors.frame(first, piece))
        first, payload = read_raw(client)
        opened = first
        while not first & 0x80:
            first, piece = read_raw(client)
            payload += piece
        if opened & 0x40:
            if "server_no_context_takeover" in answer:
                back = zlib.decompressobj(-15)
            payload = back.decompress(payload + TAIL)
        assert payload == message
        assert opened & 15 == OpCode.BINARY
    client.socket.close()


@with_zlib
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_hypothesis_round_trip_of_websockets(serve: Any, data: st.DataObject) -> None:
    """X1-X15: the same with every offer that the extension of `websockets` can make."""
    server = _server_for(serve, data.draw(st.sampled_from(ANY_MODE)))
    server_bits = data.draw(st.sampled_from([None, *range(8, 16)]))
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=data.draw(st.booleans()),
        client_no_context_takeover=data.draw(st.booleans()),
        server_max_window_bits=server_bits,
        client_max_window_bits=data.draw(st.sampled_from([None, True, *range(9, 16)])),
        compress_settings={"memLevel": data.draw(st.integers(1, 9))},
    )
    with connect_sync(server.url, extensions=[factory], compression=None) as client:
        # A window of 256 bytes is what zlib cannot compress with (X4).
        assert bool(client.protocol.extensions) == (server_bits != 8)
        for _ in range(data.draw(st.integers(1, 4))):
            message = data.draw(MESSAGE) + data.draw(st.sampled_from([b"", b"2", b"7"]))
            cuts = data.draw(st.lists(st.integers(0, 10**6), max_size=5))
            client.send(split(message, cuts) if cuts else message)
            assert client.recv(timeout=20) == message
            text = data.draw(st.text(max_size=200))
            client.send(text)
            assert client.recv(timeout=20) == text


_SERVERS: Dict[Tuple[Any, int], Any] = {}


def _server_for(serve: Any, mode: int) -> Any:
    """One server per mode for all examples of a test."""
    key = (serve, mode)  # not its id, which may be that of a later one's
    if key not in _SERVERS:
        _SERVERS[key] = serve(
            compression=mode,
            max_payload_length=1 << 20,
            max_backpressure=0,
            message=echo_in_pieces,
        )
    return _SERVERS[key]
