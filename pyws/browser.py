# SPDX-License-Identifier: MIT
"""client.js, for pages that talk to a server: a WebSocket that connects again when it was lost.

app.get("/client.js", pyws.browser.client_js)
"""

from __future__ import annotations

from pkgutil import get_data

from .http import Request, Response

__all__ = ["client_js", "client_source"]


def client_source() -> bytes:
    """The content of client.js."""
    source = get_data("pyws", "client.js")  # also from a zip file
    assert source is not None
    return source


def client_js(res: Response, req: Request) -> None:
    """Answer a request with client.js.

    Args:
        res, req: What `App.get` passes to its handler.
    """
    res.write_header("Content-Type", "text/javascript; charset=utf-8")
    res.write_header("X-Content-Type-Options", "nosniff")
    res.write_header("Cache-Control", "no-cache")
    res.end(client_source())
