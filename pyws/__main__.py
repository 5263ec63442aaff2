"""The command `pyws`, also as ``python -m pyws``: a server to try WebSockets with in a browser."""

from __future__ import annotations

import argparse
import errno
import json
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Sequence

from . import (
    App,
    AppListenOptions,
    CompressOptions,
    OpCode,
    Request,
    Response,
    WebSocket,
    __version__,
)
from ._native import lib

__all__ = ["main"]

_PAGE = Path(__file__).with_name("page.html")


# ---- the echo -----------------------------------------------------------------------------------


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Send the message back as it came."""
    ws.send(message, opcode)


def echo_compressed(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """The same, compressed where that was agreed on."""
    ws.send(message, opcode, compress=True)


ECHO: dict[str, Any] = {
    "max_payload_length": 1024 * 1024,
    "max_backpressure": 16 * 1024 * 1024,
    "message": echo,
}

COMPRESSIONS = {
    "shared": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR,
    "dedicated": CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR,
}


def echo_behavior(compression: str | None, max_payload: int) -> dict[str, Any]:
    """Of `pyws echo`: some of the largest messages may wait to be read."""
    return {
        "compression": COMPRESSIONS[compression] if compression else CompressOptions.DISABLED,
        "max_payload_length": max_payload,
        "max_backpressure": min(4 * max_payload + 1024 * 1024, 2**31 - 1),
        "message": echo_compressed if compression else echo,
    }


# ---- the chat -----------------------------------------------------------------------------------


class Member(NamedTuple):
    """What a socket in a room knows about itself."""

    name: str
    room: str


class Chat:
    """Rooms to talk in: a room is a topic, and who is in it has subscribed to it.

    Messages are JSON. A client sends ``{"type": "join", "room", "name"}``, then any number of
    ``{"type": "say", "text", "id"}``. Everybody in the room gets "join" and "leave" with "room",
    "name" and "people" (how many there are now), and "say" with "room", "name", "text" and the "id"
    by which its sender knows it again. What is wrong is told to its sender alone: "error", "text".
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.behavior = {
            "max_payload_length": 8 * 1024,
            "max_backpressure": 256 * 1024,  # who reads too slowly misses messages
            "message": self.on_message,
            "subscription": self.on_subscription,
        }

    def on_message(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
        """Do what a client asks for, or tell it what is wrong."""
        try:
            self.act(ws, parsed(message))
        except ValueError as error:
            ws.send({"type": "error", "text": str(error)})

    def act(self, ws: WebSocket, wish: Any) -> None:
        """Join a room, or say something there. ValueError."""
        kind = wish.get("type") if isinstance(wish, dict) else None
        if kind == "join":
            self.join(ws, Member(text_of(wish, "name", 24), text_of(wish, "room", 32)))
        elif kind == "say":
            self.say(ws, text_of(wish, "text", 500), text_of(wish, "id", 40))
        else:
            raise ValueError('a message must be an object with "type": "join" or "say"')

    def join(self, ws: WebSocket, member: Member) -> None:
        """Leave the room before, if there is one, and enter another."""
        ws.for_each_topic(ws.unsubscribe)
        ws.user_data = member
        ws.subscribe(member.room)

    def say(self, ws: WebSocket, text: str, number: str) -> None:
        """Send a text to everybody in the room, its sender included."""
        if not ws.user_data:
            raise ValueError("join a room first")
        name, room = ws.user_data
        said = {"type": "say", "room": room, "name": name, "text": text, "id": number}
        self.app.publish(room, said)

    def on_subscription(self, ws: WebSocket, room: str, people: int, before: int) -> None:
        """Tell everybody in the room who came or went; a closing socket leaves by itself."""
        kind = "join" if people > before else "leave"
        news = {"type": kind, "room": room, "name": ws.user_data.name, "people": people}
        self.app.publish(room, news)


def parsed(message: str | bytes) -> Any:
    """What a message holds. ValueError."""
    try:
        return json.loads(message)
    except (ValueError, RecursionError) as error:  # too deep: a list in a list in a list ...
        raise ValueError(f"a message must be JSON: {error}") from None


def text_of(wish: dict[str, Any], key: str, longest: int) -> str:
    """A text that a client has sent, without space around it. ValueError."""
    value = wish.get(key)
    text = value.strip() if isinstance(value, str) else ""
    if not 0 < len(text) <= longest:
        raise ValueError(f'"{key}" must be a text of 1 to {longest} characters')
    return text.encode(errors="replace").decode()  # JSON can hold halves of characters


# ---- the page -----------------------------------------------------------------------------------


def show_page(res: Response, req: Request) -> None:
    """Answer with the built-in page; a reload shows what an update has changed."""
    page = _PAGE.read_bytes()
    res.write_header("Content-Type", "text/html; charset=utf-8")
    res.write_header("Content-Security-Policy", policy(page))
    res.write_header("X-Content-Type-Options", "nosniff")
    res.write_header("Cache-Control", "no-cache")
    res.end(page)


def policy(page: bytes) -> str:
    """A policy that allows the style and the script in the page, its sockets, and nothing else."""
    return (
        f"default-src 'none'; style-src {source(page, b'style')}; "
        f"script-src {source(page, b'script')}; require-trusted-types-for 'script'; "
        "connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def source(page: bytes, tag: bytes) -> str:
    """The hash of what stands in the page between two tags."""
    text = page.split(b"<%s>" % tag)[1].split(b"</%s>" % tag)[0]
    return f"'sha256-{b64encode(sha256(text).digest()).decode()}'"


# ---- the command --------------------------------------------------------------------------------


def serve(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Serve the page and its sockets; the exit status."""
    place = place_of(parser, args)
    with App() as app:
        app.get("/", show_page).ws("/echo", ECHO).ws("/chat", Chat(app).behavior)
        return run(app, place, "listening on http://{}")


def serve_echo(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Echo on every path; the exit status."""
    place = place_of(parser, args)
    with App() as app:
        try:
            app.ws("/*", echo_behavior(args.compression, args.max_payload))
        except RuntimeError as error:  # built without zlib
            return fail(str(error))
        return run(app, place, "{.port}" if args.print_port else "listening on {}")


def place_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> AppListenOptions:
    """Where to listen; ends the program when that cannot be."""
    try:
        return AppListenOptions(host=args.host, port=args.port)
    except ValueError as error:
        parser.error(str(error))


def run(app: App, place: AppListenOptions, line: str) -> int:
    """Listen, print a line with the place, and run until SIGINT or SIGTERM; the exit status."""

    # Not before the loop takes over SIGTERM: who reads the line may send it at once. Nor does it
    # wait in a buffer: what reads it may be a program.
    def listening(real: AppListenOptions) -> None:
        app.defer(lambda: print(line.format(real), flush=True))

    try:
        app.listen(place, listening)
    except OSError as error:
        return fail(f"{error.strerror}{advice(error)}")
    app.run()
    return 0


def fail(message: str) -> int:
    """Say in one line what went wrong; the exit status."""
    print(f"pyws: {message}", file=sys.stderr)
    return 1


def advice(error: OSError) -> str:
    """What to do about an error of `listen`, where that is known."""
    if error.errno == errno.EADDRINUSE:
        return " (choose another with --port, or 0 for any)"
    if error.errno == errno.EACCES:
        return " (ports below 1024 need privileges: choose another with --port)"
    if error.errno == errno.EADDRNOTAVAIL:
        return " (this machine has no such address: choose another with --host)"
    return ""


def whole(text: str, low: int, high: int) -> int:
    """A number in the text of an argument. ArgumentTypeError."""
    if not text.isdecimal() or len(text) > 20 or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be a number from {low} to {high}, not {text!r}")
    return int(text)


def port_number(text: str) -> int:
    """The value of --port. ArgumentTypeError."""
    return whole(text, 0, 65535)


def payload_size(text: str) -> int:
    """The value of --max-payload. ArgumentTypeError."""
    return whole(text, 1, 2**31 - 1)


def host_name(text: str) -> str:
    """The value of --host. ArgumentTypeError."""
    if not text:
        raise argparse.ArgumentTypeError("must be an address or a name; 0.0.0.0 is all of IPv4")
    return text


def compression_name(text: str) -> str:
    """The value of --compression. ArgumentTypeError."""
    if text not in COMPRESSIONS:
        raise argparse.ArgumentTypeError(f"must be {' or '.join(COMPRESSIONS)}, not {text!r}")
    return text


class Parser(argparse.ArgumentParser):
    """Reports an unknown option or command before argparse takes its value for something else."""

    def __init__(self, **settings: Any) -> None:
        self.takes_value: dict[str, bool] = {}  # by option
        self.commands: tuple[str, ...] = ()  # the first of the other arguments is one of them
        super().__init__(allow_abbrev=False, **settings)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """As argparse's."""
        action = super().add_argument(*names, **settings)
        self.takes_value.update((name, action.nargs != 0) for name in action.option_strings)
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, of arguments that are all known."""
        args = sys.argv[1:] if args is None else list(args)
        self.check(args)
        return super().parse_known_args(args, namespace)

    def check(self, args: Sequence[str]) -> None:
        """End the program where an argument is unknown; what a command gets is its own."""
        words = iter(args)
        for word in words:
            name, equals, _ = word.partition("=")
            if word == "--":
                continue
            if not word.startswith("-") or word == "-":
                self.check_command(word)
                return
            if name not in self.takes_value:
                self.error(f"there is no option {name}{suggestion(name, self.takes_value)}")
            if self.takes_value[name] and not equals:
                next(words, None)

    def check_command(self, word: str) -> None:
        """End the program unless `word` is a command."""
        if not self.commands:
            self.error(f"unexpected argument {word!r}")
        if word not in self.commands:
            close = suggestion(word, self.commands)
            self.error(f"there is no command {word!r}{close or ', only ' + self.commands[0]}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Which of the known words may be meant, if one is close."""
    import difflib

    begins = [name for name in known if word.strip("-") and name.startswith(word)]
    close = begins or difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {close[0]}?" if close else ""


def version() -> str:
    """Of the package, and what its library can do here."""
    bridge = "c" if lib.bridge else "ctypes"
    deflate = "permessage-deflate" if lib.ws_compression_available() else "no compression"
    return f"pyws {__version__} (bridge: {bridge}, {deflate})"


def new_parser() -> argparse.ArgumentParser:
    """The parser; `command` is what runs, so that subcommands may set their own."""
    parser = Parser(
        prog="pyws",
        usage="%(prog)s [-h] [--version] [--host HOST] [--port PORT] [COMMAND ...]",
        description="Serve a page to chat and to try a WebSocket, and the sockets it talks to.",
    )
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument(
        "--host", type=host_name, default="127.0.0.1", help="address to listen on (%(default)s)"
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=8000,
        help="port to listen on, 0 for any free one (%(default)s)",
    )
    parser.set_defaults(command=serve)
    commands = parser.add_subparsers(
        title="commands",
        description="What to do instead of serving the page:",
        metavar="COMMAND",
        prog="pyws",
    )
    add_echo(commands)
    parser.commands = tuple(commands.choices)
    return parser


def add_echo(commands: Any) -> None:
    """The subcommand `echo`, with the options of the command itself before it or behind it."""
    text = "Echo every message, on every path: a server to test clients and conformance with."
    parser = commands.add_parser("echo", help="echo every message", description=text)
    unset = argparse.SUPPRESS  # or the default would replace what stood before the subcommand
    parser.add_argument(
        "--host", type=host_name, default=unset, help="address to listen on (127.0.0.1)"
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=unset,
        help="port to listen on, 0 for any free one (8000)",
    )
    parser.add_argument(
        "--print-port", action="store_true", help="print the port, and nothing else"
    )
    parser.add_argument(
        "--compression",
        type=compression_name,
        metavar="|".join(COMPRESSIONS),
        help="offer permessage-deflate, with one window for all or one for each client (off)",
    )
    parser.add_argument(
        "--max-payload",
        type=payload_size,
        metavar="BYTES",
        default=16 * 1024 * 1024,
        help="longest message that is accepted (%(default)s)",
    )
    parser.set_defaults(command=serve_echo)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, sys.argv without it; the exit status."""
    parser = new_parser()
    args = parser.parse_args(argv)
    try:
        return int(args.command(parser, args))
    except KeyboardInterrupt:  # before the loop took over SIGINT, or for the second time
        return 130


if __name__ == "__main__":
    sys.exit(main())
