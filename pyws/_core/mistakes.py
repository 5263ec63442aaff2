# SPDX-License-Identifier: MIT
"""Mistakes that the types allow, and that would otherwise have no visible effect.

Each raises an error, or makes a line of the log, that says what was meant and how to write it.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Coroutine
from contextlib import contextmanager
from typing import Any, Callable, Iterator, TypeVar, cast
from urllib.parse import quote

__all__ = [
    "advice",
    "check_arity",
    "check_handler",
    "check_origin",
    "check_pattern",
    "check_result",
    "explain_calls",
    "location",
    "no_event_loop",
    "refuse_running_loop",
    "result_warning",
]

Fn = TypeVar("Fn", bound=Callable[..., Any])

# What each handler is called with.
PARAMETERS = {
    "upgrade": ("res", "req", "socket_context"),
    "open": ("ws",),
    "message": ("ws", "message", "opcode"),
    "drain": ("ws",),
    "dropped": ("ws", "message", "opcode"),
    "ping": ("ws", "data"),
    "pong": ("ws", "data"),
    "subscription": ("ws", "topic", "subscriptions", "subscriptions_before"),
    "close": ("ws", "code", "reason"),
}
REQUEST_PARAMETERS = ("res", "req")

# ---- handlers -----------------------------------------------------------------------------------


# What a plain function does with a coroutine. Only an asyncio loop has tasks.
START_TASK = (
    "may start a task with asyncio.ensure_future(...), in an app that has coroutine handlers or a "
    "broker"
)


def check_handler(name: str, value: Any, parameters: tuple[str, ...]) -> None:
    """Check that `value` is a function that takes these arguments and does its work when called.

    Args:
        name: The name of the handler, for error messages.
        value: What was given as the handler.
        parameters: Names of the arguments that it will get.

    Raises:
        TypeError: It is not such a function; the message says what to write instead.
    """
    if value is None or _is_unstarted(value):
        what = "None" if value is None else _describe(value)
        _discard(value)
        raise TypeError(
            f"{name} must be a function, not {what}: give the function itself, as in "
            f"{name}=on_{name}, not the result of a call, {name}=on_{name}()"
        )
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    check_arity(name, value, parameters)


def check_arity(name: str, value: Any, parameters: tuple[str, ...], hint: str = "") -> None:
    """Raise TypeError, with the hint, unless `value` takes these arguments by position.

    Generators do not pass, since a call runs nothing; functions without a signature do.
    """
    inner = _innermost(value)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"{name} must not be a generator: {location(value)} has a `yield`, "
            "so that a call of it runs nothing"
        )
    try:
        signature = inspect.signature(value, follow_wrapped=False)
    except (TypeError, ValueError):  # many functions that are written in C have none
        return
    try:
        signature.bind(*parameters)
    except TypeError as error:
        count = len(parameters)
        what = f"{count} argument{'s' if count > 1 else ''}, {name}({', '.join(parameters)})"
        raise TypeError(
            f"{name} must take {what if parameters else 'no arguments'}, "
            f"but the parameters of {location(value)} are {signature}: {error}{hint}"
        ) from None


def _innermost(value: Any) -> Any:
    """The function that runs when `value` is called, where that can be known."""
    while isinstance(value, functools.partial):
        value = value.func
    if inspect.isroutine(value) or inspect.isclass(value):
        return value
    return type(value).__call__ if callable(value) else value


def location(handler: Any) -> str:
    """Name, file and line of a handler, as far as they are known."""
    function = inspect.unwrap(_innermost(inspect.unwrap(handler)))
    return _place(function, getattr(function, "__qualname__", None) or repr(handler))


def _place(function: Any, name: str) -> str:
    code = getattr(function, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name


def _remedy(handler: Any) -> str:
    """What to do about a handler that returned a coroutine.

    Of functions that wrap each other, the one around a coroutine function is wrong, whose name
    functools.wraps has given to it.
    """
    function = handler
    if type(handler).__module__.startswith("pyws."):  # a wrapper of the library
        function = getattr(handler, "__wrapped__", handler)
    if inspect.iscoroutinefunction(function):
        return f"{location(handler)} must await it"
    while function is not None and not inspect.iscoroutinefunction(function):
        outer = _innermost(function)
        inner = getattr(outer, "__wrapped__", None)
        function = getattr(function, "__wrapped__", inner)
    who, code = location(handler), getattr(outer, "__code__", None)
    if function is not None and code is not None:
        who = f"{_place(outer, code.co_name)}, which wraps {who},"
    return (
        f"{who} must be a coroutine function itself (async def), and so must a function that "
        "wraps one"
    )


def check_result(what: str, handler: Any, result: Any, may_wait: bool = False) -> None:
    """Raise TypeError if a function returned a coroutine or a generator, which would never run.

    Args:
        what: What it is, for the error message.
        handler: The function.
        result: What it has returned.
        may_wait: It could be a coroutine function.
    """
    if result is not None and _is_unstarted(result):
        _discard(result)
        if not isinstance(result, Coroutine):
            raise TypeError(
                f"{what} returned a generator that nothing iterates over: {location(handler)}"
            )
        remedy = _remedy(handler) if may_wait else f"{location(handler)} {START_TASK}"
        raise TypeError(f"{what} returned a coroutine that nothing awaits: {remedy}")


def result_warning(what: str, handler: Any, result: Any, sender: str) -> str:
    """The warning about a handler that returned `result`, which is not None; "" for none.

    Args:
        what: What the handler is, for the message.
        handler: The function.
        result: What it has returned.
        sender: The parameter of the handler whose method `send` sends an answer.

    Raises:
        TypeError: It is a coroutine or a generator, which would never run.
    """
    check_result(what, handler, result, may_wait=True)
    if isinstance(result, bool) or type(result).__module__.partition(".")[0] == "pyws":
        return ""  # `return ws.send(...)` ends a handler early, and a lambda must return something
    return (
        f"{what} returned {_describe(result)}, which is ignored ({location(handler)}): "
        f"an answer is sent by {sender}.send(...)"
    )


def _is_unstarted(value: Any) -> bool:
    """Whether `value` is work that is done only when it is awaited or iterated over."""
    return isinstance(value, Coroutine) or inspect.isgenerator(value) or inspect.isasyncgen(value)


def _discard(value: Any) -> None:
    """Close a coroutine, so that Python does not warn that it was never awaited."""
    if isinstance(value, Coroutine) or inspect.isgenerator(value):
        value.close()


def _describe(value: Any) -> str:
    if isinstance(value, Coroutine):
        return "a coroutine"
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        return "a generator"
    return f"a value of type {type(value).__name__}"


# ---- routes -------------------------------------------------------------------------------------

_OTHER_PARAMETER = re.compile(r"[{<]([^/{}<>]*)[}>]")
_EXPRESSION = re.compile(r"[\\^|\[\]]|\(\?|[.)][*+?]")
_GROUP = re.compile(r":?\((?:\?P?<(\w+)>)?[^()]*\)[*+?]?|(?:\\\w|\.|\[[^]]*\])[*+?]")
_TYPES = ("int", "float", "str", "string", "path", "uuid", "any")


def check_pattern(pattern: str) -> None:
    """Raise ValueError for what cannot be a path, and for parameters of other libraries."""
    _check_no_expression(pattern)
    found = [part for part in pattern.split("/") if _OTHER_PARAMETER.search(part)]
    if found:
        right = _OTHER_PARAMETER.sub(lambda match: ":" + _parameter_name(match[1]), pattern)
        wholes = all(_OTHER_PARAMETER.fullmatch(part) for part in found)
        raise ValueError(
            f"pattern {pattern!r}: a parameter is written with a colon and is a whole part of the "
            f"path, so not {found[0]!r}" + (f"; did you mean {right!r}?" if wholes else "")
        )
    for part in pattern.split("/"):
        if re.match(":[^:]+:", part):
            names = [text for text in part.split(":") if text and text not in _TYPES]
            right = f"; did you mean ':{names[0]}'?" if len(names) == 1 else ""
            raise ValueError(
                f"pattern {pattern!r}: a parameter has no type and is a whole part of the path, "
                f"so not {part!r}{right}"
            )
    path = re.split("[?#]", pattern)[0]
    if path != pattern:
        raise ValueError(f"pattern {pattern!r}: a path has no query, did you mean {path!r}?")
    sent = re.sub("[^!-~]", lambda match: quote(match[0], safe=""), pattern)
    if sent != pattern:
        raise ValueError(
            f"pattern {pattern!r}: paths are compared as they are sent, in ASCII and "
            f"percent-encoded; did you mean {sent!r}?"
        )


def _parameter_name(text: str) -> str:
    """Flask puts a type before the name ("int:room"), Starlette one after it ("room:int")."""
    names = [part for part in text.split(":") if part and part not in _TYPES]
    return names[0] if names else "name"


def _check_no_expression(pattern: str) -> None:
    """Raise ValueError for a regular expression."""
    if not _EXPRESSION.search(pattern):
        return
    names: list[str] = []

    def named(match: re.Match[str]) -> str:
        names.append(match[1] or f"name{len(names) + 1 if names else ''}")
        return ":" + names[-1]

    plain = re.sub(r"(:\w+)\([^()]*\)[*+?]?", r"\1", re.sub(r"^\^|\$$", "", pattern))
    right = _GROUP.sub(named, plain)
    is_right = all(re.fullmatch(r":\w+|[\w.~-]*", part) for part in right.split("/"))
    raise ValueError(
        f"pattern {pattern!r}: there are no regular expressions, a parameter is any text of a "
        "whole part of the path" + (f"; did you mean {right!r}?" if is_right else "")
    )


_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#@\\*]+)\Z")
_SLOPPY_SCHEME = re.compile(r"(https?):/?(?!\d)")  # "localhost:3000" has a port, and no scheme
_PORT = re.compile(r"(\[.*\]|[^:]*):?(.*)\Z")
_STANDARD_PORTS = {"http": 80, "https": 443}
_AS_SOCKETS = {"ws": "http", "wss": "https"}


def check_origin(name: str, value: str) -> None:
    """Raise ValueError unless a browser may send `value` as Origin (RFC 6454 section 6.2)."""
    why = _origin_fault(value)
    if why:
        example = '"https://example.org"'
        raise ValueError(f"{name} must hold values like {example}, not {value!r}: {why}")


def _origin_fault(value: str) -> str:
    """Why no browser sends this as Origin, and what it sends instead; "" if it may."""
    if value == "null":
        return ""
    if value == "*":
        return "leave origins out to let in every origin"
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        return "it must be printable ASCII without spaces (a host name in its xn-- form)"
    if "*" in value:
        return "there are no patterns, list each origin"
    scheme, separator, rest = value.partition("://")
    if not separator:
        begin = _SLOPPY_SCHEME.match(value)
        rest = value[begin.end() if begin else 0 :].strip("/")
        return f"it has no scheme, did you mean '{begin[1] if begin else 'https'}://{rest}'?"
    host = re.split(r"[/?#\\]", rest.rpartition("@")[2])[0]
    if not host:
        return "it has no host (pages of file:// send 'null')"
    scheme = _AS_SOCKETS.get(scheme.lower(), scheme)
    name, port = _PORT.match(host).groups()  # type: ignore[union-attr]  # it matches always
    if port and not (port.isdigit() and int(port) <= 65535):
        return f"a port is a number from 0 to 65535, not {port!r}"
    if port and int(port) != _STANDARD_PORTS.get(scheme.lower()):
        name += f":{int(port)}"
    right = f"{scheme}://{name}"
    if right != value or not _ORIGIN.match(value):
        return f"an origin is a scheme, a host and a port that is not the usual one: {right!r}"
    return ""


# ---- calls --------------------------------------------------------------------------------------


def explain_calls(sentence: str) -> Callable[[Fn], Fn]:
    """Make a function explain calls with arguments that it does not have.

    Args:
        sentence: What the error message says in addition.
    """

    def decorate(fn: Fn) -> Fn:
        @functools.wraps(fn)
        def explained(*args: Any, **more: Any) -> Any:
            try:
                return fn(*args, **more)
            except TypeError as error:
                traceback = error.__traceback__
                if traceback is not None and traceback.tb_next is not None:
                    raise  # it has begun
                message = f"{error}: {sentence}"
            raise TypeError(message)

        return cast(Fn, explained)

    return decorate


# ---- asyncio ------------------------------------------------------------------------------------


def refuse_running_loop(call: str = "app.run()", instead: str = "`await app.serve()`") -> None:
    """Raise RuntimeError if this call would block an asyncio loop that runs in this thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"{call} would block the asyncio loop that runs in this thread: use {instead} there"
        )


def _set_loop(asyncio: Any) -> Any:
    """The loop that asyncio.get_event_loop() would return in this thread; it makes none."""
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    return getattr(getattr(policy, "_local", None), "_loop", None)


def _pending_calls(loop: Any) -> int:
    """How many calls wait in a loop that does not run."""
    if loop is None or loop.is_running() or loop.is_closed():
        return 0
    return len(getattr(loop, "_ready", ())) + len(getattr(loop, "_scheduled", ()))


@contextmanager
def no_event_loop(warn: Callable[..., Any]) -> Iterator[None]:
    """Leave asyncio without an event loop in this thread while the library's loop runs.

    asyncio.get_event_loop() would otherwise make one, or return one, that accepts calls and never
    runs. It raises RuntimeError instead, as it does after asyncio.run(). Where that is not possible
    (a handler got a loop elsewhere, or imported asyncio), a warning at the end says so.
    """
    before = None
    if "asyncio" in sys.modules:
        asyncio = sys.modules["asyncio"]
        before = _set_loop(asyncio)
        asyncio.set_event_loop(None)
    waiting = _pending_calls(before)
    try:
        yield
    finally:
        if "asyncio" in sys.modules:
            asyncio = sys.modules["asyncio"]
            loop = _set_loop(asyncio) or before
            if loop is before:
                asyncio.set_event_loop(before)
            calls = _pending_calls(loop) - (waiting if loop is before else 0)
            if calls > 0:
                count = f"{calls} call{'s' if calls > 1 else ''}"
                warn("an asyncio loop that never ran has %s waiting: %s", count, _ADVICE)


_ADVICE = (
    "plain handlers run without asyncio; make a handler a coroutine function (async def), "
    "serve by `await app.serve()`, or use app.call_later()"
)


def advice(error: BaseException) -> str:
    """What to add to the message of an asyncio error in a plain handler; "" for nothing."""
    if type(error) is RuntimeError and re.search("no (running|current) event loop", str(error)):
        return "; " + _ADVICE
    return ""
