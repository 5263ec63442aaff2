# SPDX-License-Identifier: MIT
"""The command `pyws`, also as ``python -m pyws``: a server to try WebSockets with in a browser.

``pyws publish`` sends a message to the subscribers of apps that use a message broker.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
from base64 import b64encode
from hashlib import sha256
from pkgutil import get_data
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple, Sequence

from . import (
    App,
    AppListenOptions,
    CompressOptions,
    History,
    OpCode,
    Request,
    Response,
    WebSocket,
    WebSocketOptionsDict,
    __version__,
    publish_to,
)
from ._core import systemd
from ._core.values import MAX_SECONDS
from ._native import lib
from .browser import client_source
from .history import MOST_MESSAGES

if TYPE_CHECKING:  # it takes long to import
    from ssl import SSLContext

__all__ = ["main"]


# ---- the echo -----------------------------------------------------------------------------------


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Send the message back as it came."""
    ws.send(message, opcode)


def echo_compressed(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Send the message back compressed, if that was negotiated."""
    ws.send(message, opcode, compress=True)


ECHO: WebSocketOptionsDict = {
    "max_payload_length": 1024 * 1024,
    "max_backpressure": 16 * 1024 * 1024,
    "message": echo,
}

COMPRESSIONS = {
    "shared": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR,
    "dedicated": CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR,
}


def echo_behavior(compression: str | None, max_payload: int) -> WebSocketOptionsDict:
    """The settings of `pyws echo`: a few of the longest messages may wait for a slow client."""
    return {
        "compression": COMPRESSIONS[compression] if compression else CompressOptions.DISABLED,
        "max_payload_length": max_payload,
        "max_backpressure": min(4 * max_payload + 1024 * 1024, 2**31 - 1),
        "message": echo_compressed if compression else echo,
    }


# ---- the chat -----------------------------------------------------------------------------------


class Member(NamedTuple):
    """Who a socket in a room is."""

    name: str
    room: str


class Chat:
    """Rooms to talk in: a room is a topic, and its members have subscribed to it.

    Messages are JSON. A client sends ``{"type": "join", "room", "name"}``, then any number of
    ``{"type": "say", "text", "id"}``. Everyone in the room gets "join" and "leave" with "room",
    "name" and "people" (how many there are now), and "say" with "room", "name", "text" and the "id"
    by which its sender recognizes it. Errors go to the sender alone: "error" with "text".
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.behavior: WebSocketOptionsDict = {
            "max_payload_length": 8 * 1024,
            "max_backpressure": 256 * 1024,  # a client that reads too slowly misses messages
            "message": self.on_message,
            "subscription": self.on_subscription,
        }

    def on_message(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
        """Do what a client asks for, or answer what is wrong."""
        try:
            self.act(ws, parsed(message))
        except ValueError as error:
            ws.send({"type": "error", "text": str(error)})

    def act(self, ws: WebSocket, wish: Any) -> None:
        """Join a room, or say something there. Raises ValueError."""
        kind = wish.get("type") if isinstance(wish, dict) else None
        if kind == "join":
            self.join(ws, Member(text_of(wish, "name", 24), text_of(wish, "room", 32)))
        elif kind == "say":
            self.say(ws, text_of(wish, "text", 500), text_of(wish, "id", 40))
        else:
            raise ValueError('a message must be an object with "type": "join" or "say"')

    def join(self, ws: WebSocket, member: Member) -> None:
        """Enter a room, and leave the one before, if there is one."""
        ws.for_each_topic(ws.unsubscribe)
        ws.user_data = member
        ws.subscribe(member.room)

    def say(self, ws: WebSocket, text: str, id_: str) -> None:
        """Send a text to everyone in the room, its sender included."""
        if not ws.user_data:
            raise ValueError("join a room first")
        name, room = ws.user_data
        said = {"type": "say", "room": room, "name": name, "text": text, "id": id_}
        self.app.publish(room, said)

    def on_subscription(self, ws: WebSocket, room: str, people: int, before: int) -> None:
        """Announce to the room who came or went; a closing socket leaves by itself."""
        kind = "join" if people > before else "leave"
        news = {"type": kind, "room": room, "name": ws.user_data.name, "people": people}
        self.app.publish(room, news)


def parsed(message: str | bytes) -> Any:
    """The value of a JSON message. Raises ValueError."""
    try:
        return json.loads(message)
    except (ValueError, RecursionError) as error:  # too deep: a list in a list in a list ...
        raise ValueError(f"a message must be JSON: {error}") from None


def text_of(wish: dict[str, Any], key: str, longest: int) -> str:
    """A text from a client, without surrounding space. Raises ValueError."""
    value = wish.get(key)
    text = value.strip() if isinstance(value, str) else ""
    if not 0 < len(text) <= longest:
        raise ValueError(f'"{key}" must be a text of 1 to {longest} characters')
    return text.encode(errors="replace").decode()  # JSON can hold halves of characters


# ---- the page -----------------------------------------------------------------------------------


def show_page(res: Response, req: Request) -> None:
    """Answer with the built-in page; a reload shows what an update has changed."""
    content = page()
    res.write_header("Content-Type", "text/html; charset=utf-8")
    res.write_header("Content-Security-Policy", policy(content))
    res.write_header("X-Content-Type-Options", "nosniff")
    res.write_header("Cache-Control", "no-cache")
    res.end(content)


def page() -> bytes:
    """The built-in page, with client.js in it."""
    text = get_data("pyws", "page.html")
    assert text is not None
    return text.replace(b"// client.js\n", client_source())


def policy(page: bytes) -> str:
    """A policy that allows the style and the script in the page, its sockets, and nothing else."""
    return (
        f"default-src 'none'; style-src {source(page, b'style')}; "
        f"script-src {source(page, b'script')}; require-trusted-types-for 'script'; "
        "connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def source(page: bytes, tag: bytes) -> str:
    """The hash of what is between two tags of the page."""
    text = page.split(b"<%s>" % tag)[1].split(b"</%s>" % tag)[0]
    return f"'sha256-{b64encode(sha256(text).digest()).decode()}'"


# ---- the command --------------------------------------------------------------------------------


def serve(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Serve the page and its sockets; returns the exit status."""
    addresses = addresses_of(parser, args)
    with App() as app:
        app.get("/", show_page).ws("/echo", ECHO).ws("/chat", Chat(app).behavior)
        scheme = "https://" if addresses[0].uses_tls else "http://"
        if addresses[0].fd is not None:  # its URL is systemd's
            scheme = ""
        return run(app, addresses, f"listening on {scheme}{{}}")


def serve_echo(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Echo on every path; returns the exit status."""
    addresses = addresses_of(parser, args)
    with App() as app:
        try:
            app.ws("/*", echo_behavior(args.compression, args.max_payload))
        except RuntimeError as error:  # built without zlib
            return fail(str(error))
        return run(app, addresses, "{.port}" if args.print_port else "listening on {}")


def publish(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Publish one message by a broker; returns the exit status."""
    if args.binary and args.json:
        parser.error("--json is about text, and --binary about everything else")
    history = history_of(args)
    try:
        message = message_of(args)
        publish_to(args.url, args.topic, message, timeout=args.timeout, history=history)
    except (OSError, ValueError, ImportError) as error:
        return fail(str(error))
    return 0


def history_of(args: argparse.Namespace) -> History | None:
    """What `pyws publish` says of history."""
    bounds = {"messages": args.messages, "seconds": args.seconds}
    given = {name: value for name, value in bounds.items() if value is not None}
    return History("*", **given) if given else None


def message_of(args: argparse.Namespace) -> Any:
    """The message of `pyws publish`. Raises ValueError."""
    data = sys.stdin.buffer.read() if args.message == "-" else os.fsencode(args.message)
    if args.binary:
        return data
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the message is not UTF-8 ({error.reason}): use --binary") from None
    if not args.json:
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the message is not JSON: {error}") from None
    return text


def addresses_of(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> list[AppListenOptions]:
    """Where to listen: on the sockets of systemd, if it has passed any.

    Ends the program if that is not possible.
    """
    if args.self_signed and (args.cert or args.key):
        parser.error("--self-signed makes a certificate of its own: leave out --cert and --key")
    if args.key and not args.cert:
        parser.error("--key is the key of a certificate: --cert is missing")
    try:
        tls: dict[str, Any] = {"cert_file": args.cert, "key_file": args.key}
        if args.self_signed:
            tls = {"ssl": throw_away(args.host)}
        passed = [AppListenOptions(fd=fd, **tls) for fd in systemd.passed_sockets()]
        return passed or [AppListenOptions(host=args.host, port=args.port, **tls)]
    except ValueError as error:
        parser.error(str(error))
    except ImportError:
        needed = 'trustme: pip install "pyws-server[tls]"'
        parser.exit(1, f"pyws: --self-signed needs {needed}\n")


def throw_away(host: str) -> SSLContext:
    """A context with a certificate for trying, which no client trusts. Raises ImportError."""
    import ssl  # it takes long to import

    import trustme

    names = dict.fromkeys((host, "localhost", "127.0.0.1", "::1"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA(organization_name="pyws").issue_cert(*names).configure_cert(context)
    return context


def reload_on_hangup(app: App) -> None:
    """From now on SIGHUP means that the certificate has been renewed."""

    def reload_tls() -> None:
        try:
            app.reload_tls()
        except (OSError, ValueError) as error:
            fail(f"the certificate was not replaced: {error}")

    signal.signal(signal.SIGHUP, lambda number, frame: app.defer(reload_tls))


def report_to_systemd(app: App) -> None:
    """Let systemd know when the app is ready, that it is alive, and its end. Raises ValueError."""
    interval = systemd.watchdog_seconds() / 2

    def report(text: str) -> None:
        try:
            systemd.notify(text)
        except OSError as error:
            fail(f"NOTIFY_SOCKET: {error.strerror}")

    def report_life() -> None:
        report("WATCHDOG=1")
        app.call_later(interval, report_life)

    app.on_start(lambda: app.defer(report, "READY=1"))
    if interval:
        app.on_start(report_life)
    app.on_stop(lambda: report("STOPPING=1"))


def run(app: App, addresses: list[AppListenOptions], line: str) -> int:
    """Listen, print a line for each address, and run until SIGINT or SIGTERM.

    Returns:
        The exit status.
    """
    if addresses[0].cert_file is not None:
        reload_on_hangup(app)

    # Print once the loop handles SIGTERM: whoever reads the line may send it at once. And print
    # without a buffer: the reader may be a program.
    def listening(real: AppListenOptions) -> None:
        app.defer(lambda: print(line.format(real), flush=True))

    try:
        for address in addresses:
            app.listen(address, listening)
        report_to_systemd(app)
    except OSError as error:
        file = f": {error.filename}" if error.filename else ""
        return fail(f"{error.strerror}{file}{advice(error)}")
    except (ValueError, ImportError) as error:
        return fail(str(error))
    app.run()
    return 0


def fail(message: str) -> int:
    """Print in one line what went wrong; returns the exit status."""
    print(f"pyws: {message}", file=sys.stderr)
    return 1


def advice(error: OSError) -> str:
    """What to do about an error of `listen`, where that is known."""
    if error.errno == errno.EADDRINUSE:
        return " (choose another with --port, or 0 for any)"
    if error.errno == errno.EACCES and not error.filename:
        return " (ports below 1024 need privileges: choose another with --port)"
    if error.errno == errno.EADDRNOTAVAIL:
        return " (this machine has no such address: choose another with --host)"
    return ""


def whole(text: str, low: int, high: int) -> int:
    """The number in the text of an argument. Raises ArgumentTypeError."""
    if not text.isdecimal() or len(text) > 20 or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be a number from {low} to {high}, not {text!r}")
    return int(text)


def port_number(text: str) -> int:
    """The value of --port. Raises ArgumentTypeError."""
    return whole(text, 0, 65535)


def payload_size(text: str) -> int:
    """The value of --max-payload. Raises ArgumentTypeError."""
    return whole(text, 1, 2**31 - 1)


def message_count(text: str) -> int:
    """The value of --messages. Raises ArgumentTypeError."""
    return whole(text, 1, MOST_MESSAGES)


def seconds(text: str, low: float = 0.001, high: int = 3600) -> float:
    """The value of --timeout. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"must be from {low:g} to {high} seconds, not {text!r}")
    return number


def kept_seconds(text: str) -> float:
    """The value of --seconds. Raises ArgumentTypeError."""
    return seconds(text, 1, MAX_SECONDS)


def host_name(text: str) -> str:
    """The value of --host. Raises ArgumentTypeError."""
    if not text:
        raise argparse.ArgumentTypeError("must be an address or a name; 0.0.0.0 is all of IPv4")
    return text


def compression_name(text: str) -> str:
    """The value of --compression. Raises ArgumentTypeError."""
    if text not in COMPRESSIONS:
        raise argparse.ArgumentTypeError(f"must be {' or '.join(COMPRESSIONS)}, not {text!r}")
    return text


class Parser(argparse.ArgumentParser):
    """Reports an unknown option or command before argparse misreads its value."""

    def __init__(self, **settings: Any) -> None:
        self.takes_value: dict[str, bool] = {}  # by option
        self.commands: tuple[str, ...] = ()  # the first of the other arguments is one of them
        self.takes_words = False  # other arguments may be anything
        super().__init__(allow_abbrev=False, **settings)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """As that of argparse."""
        action = super().add_argument(*names, **settings)
        self.takes_value.update((name, action.nargs != 0) for name in action.option_strings)
        self.takes_words |= not action.option_strings
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As that of argparse, for arguments that are all known."""
        args = sys.argv[1:] if args is None else list(args)
        self.check(args)
        return super().parse_known_args(args, namespace)

    def check(self, args: Sequence[str]) -> None:
        """End the program if an argument is unknown; a command checks its own arguments."""
        words = iter(args)
        for word in words:
            name, equals, _ = word.partition("=")
            if word == "--" and self.takes_words:
                return
            if word == "--":
                continue
            if not word.startswith("-") or word == "-":
                if self.takes_words:
                    continue
                self.check_command(word)
                return
            if name not in self.takes_value:
                self.error(f"there is no option {name}{self.hint(name)}")
            if self.takes_value[name] and not equals:
                next(words, None)

    def hint(self, name: str) -> str:
        """What may be meant by an unknown option; "" if nothing is likely."""
        close = suggestion(name, self.takes_value)
        if not close and self.takes_words:
            return " (write -- before the first argument if one of them begins with -)"
        return close

    def check_command(self, word: str) -> None:
        """End the program unless `word` is a command."""
        if not self.commands:
            self.error(f"unexpected argument {word!r}")
        if word not in self.commands:
            close = suggestion(word, self.commands)
            known = close or ", only " + " and ".join(self.commands)
            self.error(f"there is no command {word!r}{known}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """A suggestion of which known word may be meant; "" if none is close."""
    import difflib

    begins = [name for name in known if word.strip("-") and name.startswith(word)]
    close = begins or difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {close[0]}?" if close else ""


def version() -> str:
    """The version of the package, and what its library can do here."""
    bridge = "c" if lib.bridge else "ctypes"
    deflate = "permessage-deflate" if lib.ws_compression_available() else "no compression"
    return f"pyws {__version__} (bridge: {bridge}, {deflate})"


def new_parser() -> argparse.ArgumentParser:
    """The parser; `command` is what runs, so that subcommands may set their own."""
    parser = Parser(
        prog="pyws",
        usage="%(prog)s [-h] [--version] [--host HOST] [--port PORT]\n"
        "            [--cert FILE [--key FILE] | --self-signed] [COMMAND ...]",
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
    add_tls(parser)
    parser.set_defaults(command=serve)
    commands = parser.add_subparsers(
        title="commands",
        description="What to do instead of serving the page:",
        metavar="COMMAND",
        prog="pyws",
    )
    add_echo(commands)
    add_publish(commands)
    parser.commands = tuple(commands.choices)
    return parser


def add_tls(parser: argparse.ArgumentParser, **default: Any) -> None:
    """Add the options for TLS."""
    parser.add_argument(
        "--cert",
        metavar="FILE",
        help="TLS with the certificate chain in this file (PEM); SIGHUP reads it again",
        **default,
    )
    parser.add_argument(
        "--key",
        metavar="FILE",
        help="the file of its key, if that is not in the same file",
        **default,
    )
    parser.add_argument(
        "--self-signed",
        action="store_true",
        help="TLS with a certificate that is made for trying, and that no browser trusts",
        **default,
    )


def add_echo(commands: Any) -> None:
    """Add the command `echo`; the options of `pyws` itself may come before or after it."""
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
    add_tls(parser, default=unset)
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


def add_publish(commands: Any) -> None:
    """Add the command `publish`."""
    text = (
        "Publish a message to the subscribers of a topic, in all apps that use the message broker: "
        "what App.publish does, from the command line. The exit status is 0 once the broker has "
        "the message."
    )
    parser = commands.add_parser("publish", help="publish a message by a broker", description=text)
    parser.add_argument(
        "url", metavar="URL", help="the broker, like redis://127.0.0.1 or nats://127.0.0.1"
    )
    parser.add_argument("topic", metavar="TOPIC", help="the topic")
    parser.add_argument(
        "message", metavar="MESSAGE", help="the message, a text; - reads it from standard input"
    )
    parser.add_argument("--binary", action="store_true", help="the message is binary")
    parser.add_argument("--json", action="store_true", help="refuse a text that is not JSON")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        default=10,
        help="how long it may take (%(default)s)",
    )
    parser.add_argument(
        "--messages",
        type=message_count,
        metavar="N",
        help="the topic has history, as the apps say: the broker keeps its last N messages",
    )
    parser.add_argument(
        "--seconds",
        type=kept_seconds,
        metavar="SECONDS",
        help="likewise, for so long; where only one of both is given, the other is 1000 or 3600",
    )
    parser.set_defaults(command=publish)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    Args:
        argv: The arguments; None means those of sys.argv.
    """
    parser = new_parser()
    args = parser.parse_args(argv)
    try:
        return int(args.command(parser, args))
    except KeyboardInterrupt:  # before the loop handles SIGINT, or the second one
        return 130


if __name__ == "__main__":
    sys.exit(main())
