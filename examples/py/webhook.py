# SPDX-License-Identifier: MIT
"""A webhook: what another service sends is passed on to all sockets, if its signature is right.

WEBHOOK_SECRET=secret python webhook.py; the sender makes the field X-Signature:

    echo -n '{"build": "green"}' | openssl dgst -sha256 -hmac secret
"""

import hmac
import os

from pyws import App, BadRequest, Request, Response

SECRET = os.environ.get("WEBHOOK_SECRET", "").encode()
if not SECRET:
    raise SystemExit("set WEBHOOK_SECRET")


async def receive(res: Response, req: Request) -> None:
    body = await req.body()  # the signature is that of the bytes, not of the JSON
    wanted = hmac.new(SECRET, body, "sha256").hexdigest()
    given = req.get_header("x-signature") or ""
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        raise BadRequest("the signature is wrong", 403)
    app.publish("events", await req.json())
    res.write_status(204).end()


app = App()
app.post("/webhook", receive, max_body_size=64 * 1024)
app.ws("/events", open=lambda ws: ws.subscribe("events"))
app.listen(9001)
app.run()
