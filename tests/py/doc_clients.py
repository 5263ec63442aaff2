"""A client for each program in README.md and docs/, which checks what the page says about it."""

import json
from typing import Any, Callable, Dict, List, Optional, Tuple

from doc_blocks import Client
from peer import Peer, close_frame, frame, handshake, request, upgraded
from program import Program

CLIENTS: Dict[str, Client] = {}


def client(name: str) -> Callable[[Client], Client]:
    def register(function: Client) -> Client:
        assert name not in CLIENTS, name
        CLIENTS[name] = function
        return function

    return register


def receive(peer: Peer) -> str:
    """The next message, which is a text."""
    got = peer.frame()
    assert got.opcode == 1, got
    return got.payload.decode()


def receive_json(peer: Peer) -> Any:
    return json.loads(receive(peer))


def say(peer: Peer, what: Any) -> None:
    peer.send(frame((what if isinstance(what, str) else json.dumps(what)).encode()))


def leave(peer: Peer, code: int = 1000) -> None:
    """Close the connection, which the server answers."""
    peer.send(close_frame(code))
    assert peer.frame().close_code == code
    peer.socket.close()


def closed(peer: Peer) -> Tuple[int, str]:
    """The code and the reason of the server's Close frame, which is answered."""
    got = peer.frame()
    assert got.opcode == 8, got
    peer.send(close_frame(got.close_code))
    return got.close_code, got.payload[2:].decode()


def refused(
    port: int, path: str, headers: Optional[List[Tuple[str, str]]] = None
) -> Tuple[int, str]:
    """The status and the body of the answer to a handshake that is refused."""
    with Peer(port) as peer:
        peer.send(handshake(path, headers))
        response = peer.response()
        return response.status, response.body.decode()


def echoes(port: int, path: str) -> None:
    with upgraded(port, path) as peer:
        say(peer, "one")
        assert receive(peer) == "one"
        peer.send(frame(b"\0\xff", 2))
        assert peer.frame().payload == b"\0\xff"
        leave(peer)


# ---- README.md, index and getting started -------------------------------------------------------


@client("readme")
def readme(program: Program, port: int) -> None:
    with upgraded(port, "/chat/blue") as peer:
        assert receive(peer) == "hello"
        say(peer, "one")
        assert receive(peer) == "one"
        leave(peer, 3001)
    assert program.line() == "closed: 3001 "
    assert request(port, "GET / HTTP/1.1").body == b"a page"


@client("index")
def index(program: Program, port: int) -> None:
    echoes(port, "/echo")


@client("echo")
def echo(program: Program, port: int) -> None:
    with upgraded(port, "/echo") as peer:
        assert program.line() == "a client has connected"
        assert receive(peer) == "hello"
        say(peer, "one")
        assert receive(peer) == "one"
        leave(peer)
    assert program.line() == "a client has left: 1000 "
    assert request(port, "GET / HTTP/1.1").body == b"This server echoes on /echo.\n"


@client("settings")
def settings(program: Program, port: int) -> None:
    echoes(port, "/echo")
    with upgraded(port, "/echo") as peer:
        peer.send(frame(bytes(1024 * 1024 + 1), 2))
        assert closed(peer)[0] == 1009


@client("workers")
def workers(program: Program, port: int) -> None:
    echoes(port, "/")
