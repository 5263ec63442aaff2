# SPDX-License-Identifier: MIT
"""The methods of `Request` and `Response` that read the body of a request."""

from __future__ import annotations

import codecs
from encodings import normalize_encoding
from encodings.aliases import aliases
from io import BytesIO
from typing import Any, AsyncIterator, Callable, Dict, List, Optional, TypeVar

from ..errors import BadRequest
from . import values
from .bodies import AS_FORM, BY_FUNCTION, IN_PIECES, UNREAD, WHOLE, Body
from .facts import Facts, body_of, headers_of, runtime_of
from .fields import with_parameters
from .forms import LONGEST_URLENCODED, Form, Multipart, urlencoded
from .requests import Exchange, read_body

__all__ = ["BodyOfRequest", "DataOfResponse"]

AnyResponse = TypeVar("AnyResponse", bound="DataOfResponse")

_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"

# Encodings that encodings.aliases does not have. Python keeps each name that it has looked for, so
# those that clients make up must not be looked for.
_FURTHER_CHARSETS = (
    "cp1006", "cp720", "cp737", "cp856", "cp874", "cp875", "koi8_t", "koi8_u", "utf_8_sig",
)  # fmt: skip

# They are no encodings of texts that clients send, and some take a time that is quadratic.
_NO_CHARSETS = ("idna", "punycode", "raw_unicode_escape", "unicode_escape", "undefined", "utf-7")

# ---- reading ------------------------------------------------------------------------------------


def _begin(
    request: Facts,
    how: str,
    on_chunk: Callable[..., Any] | None = None,
    exchange: Exchange | None = None,
) -> Body:
    """The body of a request, which is read from now on, if it was not before; as `read_body`.

    Raises:
        RuntimeError: It was or is read in another way, the request is over, or this is another
            thread.
    """
    runtime_of(request).check_thread()
    body: Body | None = body_of(request)
    if body is None:
        return read_body(request, how, on_chunk, exchange)
    if body.how != UNREAD and not how == body.how == WHOLE:
        raise RuntimeError(f"the body of this request was read already, by {body.how}")
    return body


class _Pieces(AsyncIterator[bytes]):
    """What `BodyOfRequest.stream` returns."""

    __slots__ = ("_body",)

    def __init__(self, body: Body) -> None:
        self._body = body

    async def __anext__(self) -> bytes:
        data = await self._body.piece()
        if not data:
            raise StopAsyncIteration
        return data


async def _read_text(request: Facts, charset: Optional[str]) -> str:
    data = await _begin(request, WHOLE).whole()
    try:
        return data.decode(charset or _charset(request))
    except UnicodeError as error:
        raise BadRequest(f"the body is not valid text: {error}") from error


async def _read_json(request: Facts) -> Any:
    body = _begin(request, WHOLE)
    data = await body.whole()
    if "json" not in body.kept:
        try:
            body.kept["json"] = runtime_of(request).json.loads(data)
        except Exception as error:  # those of msgspec are no ValueErrors
            raise BadRequest(f"the body is not JSON: {error}") from error
    return body.kept["json"]


def _charset(request: Facts) -> str:
    """The encoding of a text. Raises BadRequest."""
    name = with_parameters(headers_of(request).get("content-type"))[1].get("charset", "utf-8")
    plain = normalize_encoding(name).lower()
    if plain in aliases or plain in aliases.values() or plain in _FURTHER_CHARSETS:
        try:
            known = codecs.lookup(plain)
            " ".encode(plain)  # base64 and the like are no encodings of texts
            if known.name not in _NO_CHARSETS:
                return known.name
        except (LookupError, ValueError):
            pass
    raise BadRequest(f"the charset {name} is not supported", 415)


async def _read_form(request: Facts) -> Form:
    kind, parameters = with_parameters(headers_of(request).get("content-type"))
    if kind == _URLENCODED:
        data = await _begin(request, WHOLE).whole(LONGEST_URLENCODED)
        return urlencoded(data, _charset(request))
    if kind == _MULTIPART:
        return await _read_multipart(request, parameters.get("boundary", ""))
    raise BadRequest(f"the body is no form, which is {_URLENCODED} or {_MULTIPART}", 415)


async def _read_multipart(request: Facts, boundary: str) -> Form:
    with Multipart(boundary) as parts:
        body = body_of(request)
        if body is not None and body.how == WHOLE:
            parts.add(await body.whole())
        else:
            body = _begin(request, AS_FORM)
            while data := await body.piece():
                parts.add(data)
        return parts.finish()


# ---- requests -----------------------------------------------------------------------------------


class BodyOfRequest(Facts):
    """The methods of `Request` for that."""

    __slots__ = ()

    async def body(self) -> bytes:
        """Read the whole body: ``data = await req.body()``.

        It has at most max_body_size bytes: the client of a longer one gets a 413. If nothing reads
        the body of a request, it is discarded.

        This and the other methods that read are for coroutines in the loop that the app runs in.
        Read before the answer; what was read once is kept with the request.

        Returns:
            The body; b"" for a request without one.

        Raises:
            ClientDisconnect: The client has left, or was refused.
            RuntimeError: The body was read by `stream`, the request is over, or called from another
                thread.
        """
        return await _begin(self, WHOLE).whole()

    async def text(self) -> str:
        """Read the whole body as text, in the charset of its Content-Type, or in UTF-8.

        Raises:
            BadRequest: It is no such text (400), or the charset is unknown (415).
            ClientDisconnect, RuntimeError: As for `body`.
        """
        return await _read_text(self, None)

    async def json(self) -> Any:
        """Read the whole body as JSON, with the json_loads of the app; a second call returns the
        same object. The Content-Type does not matter.

        Raises:
            BadRequest: It is no JSON.
            ClientDisconnect, RuntimeError: As for `body`.
        """
        return await _read_json(self)

    async def form(self) -> Form:
        """Read the whole body as a form; a second call returns the same object.

        Forms with files, multipart/form-data, need the package python-multipart, which
        ``pip install "pyws-server[forms]"`` installs. All their fields together may have 1 MiB.
        When their files have more than that, they are written to disk. A form without files may
        have 1 MiB as it was sent, even if max_body_size is more.

        Raises:
            BadRequest: It is malformed (400), too large (413), or no form (415).
            RuntimeError: python-multipart is missing; or as for `body`.
            ClientDisconnect: As for `body`.
        """
        body = self._body
        if body is not None and "form" in body.kept:
            return body.kept["form"]  # type: ignore[no-any-return]
        form = await _read_form(self)
        assert self._body is not None
        self._body.kept["form"] = form
        return form

    def stream(self) -> AsyncIterator[bytes]:
        """Read the body in pieces, as it arrives: ``async for chunk in req.stream()``.

        While the loop does something else, up to 192 KiB that have arrived are kept; then the
        client has to wait. max_body_size limits the whole.

        Returns:
            An iterator over pieces that are not empty.

        Raises:
            ClientDisconnect: As for `body`.
            RuntimeError: The body was read already, or as for `body`.
        """
        return _Pieces(_begin(self, IN_PIECES))


# ---- responses ----------------------------------------------------------------------------------


class DataOfResponse(Exchange):
    """The methods of `Response` for that, which have the names of other libraries."""

    __slots__ = ()

    def on_data(self: AnyResponse, fn: Callable[[AnyResponse, bytes, bool], object]) -> AnyResponse:
        """Read the body of the request by a function; works without asyncio.

        Args:
            fn: ``fn(res, chunk, is_last)`` runs with each piece that arrives, and with b"" and True
                if there is no body. It is a plain function. The answer may be given there, or
                later: for that, no `on_aborted` is needed.

        Returns:
            The response itself.

        Raises:
            TypeError: `fn` is not a plain function.
            RuntimeError: The body is read already, the request is over, or called from another
                thread.
        """
        values.function("fn", fn)
        _begin(self._request, BY_FUNCTION, fn, self)
        return self

    def pause(self: AnyResponse) -> AnyResponse:
        """Have the function of `on_data` not called until `resume`; the client has to wait.

        Returns:
            The response itself.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        body = body_of(self._request)
        if body is not None:
            body.pause()
        return self

    def resume(self: AnyResponse) -> AnyResponse:
        """Go on after `pause`.

        Returns:
            The response itself.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        body = body_of(self._request)
        if body is not None:
            body.resume()
        return self

    async def get_data(self) -> BytesIO:
        """The same as `Request.body`, as a file in memory. Raises what that does."""
        return BytesIO(await _begin(self._request, WHOLE).whole())

    async def get_text(self, encoding: str = "utf-8") -> str:
        """The body as text. Raises as `Request.text`; LookupError for an unknown encoding."""
        return await _read_text(self._request, encoding)

    async def get_json(self) -> Any:
        """The same as `Request.json`."""
        return await _read_json(self._request)

    async def get_form_urlencoded(self, encoding: str = "utf-8") -> Dict[str, List[str]]:
        """The fields of a form without files, whatever the Content-Type is: all values by name.

        Raises:
            BadRequest: It is malformed (400), or has more than 1 MiB (413).
            LookupError: There is no such encoding.
            ClientDisconnect, RuntimeError: As for `Request.body`.
        """
        data = await _begin(self._request, WHOLE).whole(LONGEST_URLENCODED)
        form = urlencoded(data, encoding)
        return {name: [str(value) for value in form.get_all(name)] for name in form}
