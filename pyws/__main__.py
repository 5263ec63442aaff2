"""The command `pyws`, also as ``python -m pyws``: a server to try WebSockets with in a browser."""

from __future__ import annotations

import argparse
import errno
import sys
from pathlib import Path
from typing import Any, Sequence

from . import App, AppListenOptions, OpCode, Request, Response, WebSocket, __version__

__all__ = ["main"]

_PAGE = Path(__file__).with_name("page.html")


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Send the message back as it came."""
    ws.send(message, opcode)


ECHO: dict[str, Any] = {
    "max_payload_length": 1024 * 1024,
    "max_backpressure": 16 * 1024 * 1024,
    "message": echo,
}


def show_page(res: Response, req: Request) -> None:
    """Answer with the built-in page; a reload shows what an update has changed."""
    res.write_header("Content-Type", "text/html; charset=utf-8")
    res.write_header("Cache-Control", "no-cache")
    res.end(_PAGE.read_bytes())


def serve(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Serve the page and its echo socket until SIGINT or SIGTERM; the exit status."""
    try:
        place = AppListenOptions(host=args.host, port=args.port)
    except ValueError as error:
        parser.error(str(error))
    with App() as app:
        app.get("/", show_page).ws("/echo", ECHO)
        try:
            app.listen(place)
        except OSError as error:
            return fail(f"{error.strerror}{advice(error)}")
        # Not before the loop takes over SIGTERM: who reads the line may send it at once.
        app.defer(announce, place)
        app.run()
    return 0


def announce(place: AppListenOptions) -> None:
    """Print the URL at once, also into a pipe."""
    print(f"listening on http://{place}", flush=True)


def fail(message: str) -> int:
    """Say in one line what went wrong; the exit status."""
    print(f"pyws: {message}", file=sys.stderr)
    return 1


def advice(error: OSError) -> str:
    """What to do about an error of `listen`, where that is known."""
    if error.errno == errno.EADDRINUSE:
        return " (choose another with --port, or 0 for any)"
    return ""


def port_number(text: str) -> int:
    """The value of --port. ArgumentTypeError."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!r}")
    return int(text)


def new_parser() -> argparse.ArgumentParser:
    """The parser; `command` is what runs, so that subcommands may set their own."""
    parser = argparse.ArgumentParser(
        prog="pyws",
        description="Serve a page that tries a WebSocket, and the echo socket it talks to.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pyws {__version__}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=port_number, default=8000, help="0 picks a free one (%(default)s)"
    )
    parser.set_defaults(command=serve)
    return parser


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
