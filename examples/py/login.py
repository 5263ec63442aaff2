# SPDX-License-Identifier: MIT
"""A page, a login and a chat behind it, all on one port.

The page, login_page/index.html, is a static file. Its form logs in by POST /login, which sets a
signed cookie; GET /me says who that is, and /chat is a socket for those who have it. A handshake
with a wrong cookie, or from a page of another site, is refused.

    python login.py --user ann:wonderland --user bob:builder
"""

import argparse
import asyncio
import hashlib
import hmac
import os
import time
from pathlib import Path
from typing import Any, Optional

from pyws import App, OpCode, Request, Response, WebSocket

HERE = Path(__file__).resolve().parent
SECONDS = 12 * 3600  # that a login is good for

parser = argparse.ArgumentParser(description="Serve a page with a login and a chat.")
parser.add_argument("--port", type=int, default=9001, help="0 picks a free one")
parser.add_argument(
    "--user", metavar="NAME:PASSWORD", action="append", help="may log in (ann:wonderland)"
)
options = parser.parse_args()

# A new secret at each start logs everyone out, so a service keeps it.
SECRET = os.environ["SECRET"].encode() if "SECRET" in os.environ else os.urandom(32)


def hashed(password: str, salt: bytes) -> bytes:
    """What is kept of a password; slow, so that no one can try many."""
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


# A service has a database of names, salts and hashes.
SALT = os.urandom(16)
users = {}
for user in options.user or ["ann:wonderland"]:
    name, _, password = user.partition(":")
    users[name] = hashed(password, SALT)


def sign(text: str) -> str:
    return f"{text}.{hmac.new(SECRET, text.encode(), hashlib.sha256).hexdigest()}"


def user_of(cookie: Optional[str]) -> Optional[str]:
    """The name in a cookie that `log_in` has signed, and that is not too old."""
    text, _, _ = (cookie or "").rpartition(".")
    if not text or not hmac.compare_digest(sign(text).encode(), (cookie or "").encode()):
        return None
    name, _, until = text.rpartition(".")
    return bytes.fromhex(name).decode() if time.time() < int(until) else None


# ---- before the handlers ------------------------------------------------------------------------


def refuse_other_sites(res: Response, req: Request) -> None:
    """Pages of other sites can send forms and open sockets, and the browser adds our cookies."""
    origin = req.get_header("origin")
    if origin is not None and origin.partition("://")[2] != req.get_header("host"):
        res.send("This page may not do that.\n", 403)


def need_user(res: Response, req: Request) -> None:
    req.user_data = user_of(req.get_cookie("session"))
    if req.user_data is None:
        res.send("Log in first.\n", 401)


# ---- handlers -----------------------------------------------------------------------------------


async def log_in(res: Response, req: Request) -> None:
    form = await req.form()
    name, password = form.get_text("name") or "", form.get_text("password") or ""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(None, hashed, password, SALT)
    if not hmac.compare_digest(found, users.get(name, b"")):
        res.send("There is no such name with this password.\n", 403)
        return
    session = sign(f"{name.encode().hex()}.{int(time.time()) + SECONDS}")
    # Behind a proxy with TLS, add secure=True.
    res.set_cookie("session", session, path="/", max_age=SECONDS, http_only=True, same_site="Lax")
    res.redirect("/", 303)


def log_out(res: Response, req: Request) -> None:
    res.set_cookie("session", "", path="/", max_age=0)
    for ws in app.connections:  # also those of other windows
        if ws.user_data == req.user_data:
            ws.end(4001, "logged out")
    res.redirect("/", 303)


def me(res: Response, req: Request) -> None:
    res.send({"name": req.user_data}, headers={"Cache-Control": "no-store"})


def on_open(ws: WebSocket[str]) -> None:
    ws.subscribe("chat")
    app.publish("chat", {"event": f"{ws.user_data} is here"})


def on_message(ws: WebSocket[str], message: Any, opcode: OpCode) -> None:
    if opcode == OpCode.TEXT:
        app.publish("chat", {"name": ws.user_data, "text": message})


def on_not_found(res: Response, req: Request) -> None:
    res.send("<p>There is no such page. <a href='/'>Back</a></p>", content_type="text/html")


app = App()
app.static("/", HERE / "login_page")
app.on_not_found(on_not_found)
ours = app.router("", before=[refuse_other_sites])
ours.post("/login", log_in)
private = ours.router("", before=[need_user])
private.get("/me", me)
private.post("/logout", log_out)
private.ws("/chat", open=on_open, message=on_message, max_payload_length=1000)
app.listen(
    {"port": options.port, "host": "127.0.0.1"},
    lambda place: print(f"http://{place.host}:{place.port}/", flush=True),
)
app.run()
