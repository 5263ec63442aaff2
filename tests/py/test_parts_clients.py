# SPDX-License-Identifier: MIT
"""Answers in parts for a real client: curl (W1, W2)."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest
from common import HTTP
from curl import curl

from pyws import App, Request, Response

Serve = Callable[..., Any]
PARTS = [bytes([number % 251]) * (number * 7 % 5000) for number in range(1000)]  # some are empty
BODY = b"".join(PARTS)


async def parts(res: Response, req: Request) -> None:
    if req.query.get("length"):
        res.content_length(len(BODY))
    res.write_header("X-Parts", str(len(PARTS)))
    await res.stream(PARTS)


async def upper(res: Response, req: Request) -> None:
    async for chunk in req.stream():
        res.write(chunk.upper())
        await res.drained()
    res.end()


async def broken(res: Response, req: Request) -> None:
    if req.query.get("length"):
        res.content_length(len(BODY))
    res.write(PARTS[1])
    await asyncio.sleep(0.01)  # what is written leaves at the end of the turn
    raise ValueError("in the middle")


def configure(app: App) -> None:
    app.any("/parts", parts)
    app.any("/upper", upper, max_body_size=1 << 30)
    app.any("/broken", broken)


@pytest.mark.parametrize("path", ["/parts", "/parts?length=1"])
@pytest.mark.parametrize(
    "more", [[], ["-0"], ["--raw", "-0"], ["--limit-rate", "8M"], ["-X", "POST", "-d", "body"]]
)
def test_w2_curl_gets_parts(serve: Serve, path: str, more: "list[str]") -> None:
    url = f"{HTTP}://127.0.0.1:{serve(configure).port}{path}"
    assert curl(*more, url) == BODY
    # Three on one connection, of which each one has to end where curl believes.
    assert curl(*more, url, url, url, "-w", "%{num_connects}") == b"".join(
        BODY + (b"1" if number == 0 or "-0" in more else b"0") for number in range(3)
    )
    head = curl("-I", url).lower()
    assert b"x-parts: 1000" in head
    assert (b"content-length: %d\r\n" % len(BODY) in head) == ("length" in path)


@pytest.mark.parametrize("more", [[], ["-H", "Transfer-Encoding: chunked"], ["-0"]])
def test_w1_w2_curl_gets_its_upload_back(serve: Serve, tmp_path: Path, more: "list[str]") -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abcdefghijklmnopqrstuvwxyz\n" * 500_000)
    url = f"{HTTP}://127.0.0.1:{serve(configure).port}/upper"
    assert curl("-T", str(file), *more, url) == file.read_bytes().upper()


@pytest.mark.parametrize("path", ["/broken", "/broken?length=1"])
def test_w2_curl_notices_an_answer_that_is_cut(serve: Serve, path: str) -> None:
    url = f"{HTTP}://127.0.0.1:{serve(configure).port}{path}"
    with pytest.raises(subprocess.CalledProcessError) as error:
        curl(url)
    assert error.value.returncode in (18, 56)  # a partial file, a failure to receive
    assert PARTS[1].startswith(error.value.stdout)
