# SPDX-License-Identifier: MIT
"""Names that other libraries use, and what to do instead here.

`unknown_key` makes the error message for a setting that does not exist. `explained` makes classes
explain which of their attributes programs for socketify may look for in vain.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Iterable, List, Mapping, NoReturn, Sequence, TypeVar

__all__ = ["Explained", "belongs", "explain_arguments", "explained", "unknown_key"]

T = TypeVar("T")

# ---- settings -----------------------------------------------------------------------------------

# Names that other libraries use, in lower case without "_" and "-", each with the name here or a
# sentence about it.

_WORKERS = "this belongs to app.run(workers=N)"

# Names of TLS settings, each with the name here, or a sentence.
_IN_CONTEXT = "this is set in an ssl.SSLContext, ssl=context: see docs/tls.md"
_TLS = {
    **dict.fromkeys(
        ("cert", "certfilename", "certificate", "certpath", "fullchain", "sslcert", "sslcertfile"),
        "cert_file",
    ),
    **dict.fromkeys(
        ("key", "keyfilename", "keypath", "privatekey", "sslkey", "sslkeyfile"), "key_file"
    ),
    **dict.fromkeys(("passphrase", "sslkeyfilepassword", "sslpassword"), "key_password"),
    **dict.fromkeys(("context", "sslcontext", "sslctx", "tls", "tlscontext"), "ssl"),
    **dict.fromkeys(
        (
            "ca", "cafile", "cafilename", "dhparamsfilename", "sslcacerts", "sslcafile",
            "sslcertreqs", "sslciphers", "sslminimumversion", "sslversion",
        ),
        _IN_CONTEXT,
    ),
    "sslpreferlowmemoryusage": "leave it out, idle connections have no buffers",
}  # fmt: skip
_TLS_IS_OF_LISTEN = {
    name: f"this belongs to app.listen(){f', as {meant}' if meant.isidentifier() else ''}"
    for name, meant in _TLS.items()
    if name != "context"
}

NO_OTHERS: dict[str, str] = {}

_BEFORE = "what runs before handlers is app.router(prefix, before=[function])"

OTHERS_OF_STATIC = dict.fromkeys(("before", "dependencies", "middleware"), _BEFORE)

OTHERS_OF_ROUTE = {
    **_TLS_IS_OF_LISTEN,
    **OTHERS_OF_STATIC,
    **dict.fromkeys(("data", "handler", "receive", "received", "recv", "text"), "message"),
    **dict.fromkeys(("connect", "connected", "connection"), "open"),
    **dict.fromkeys(("closed", "disconnect", "disconnected"), "close"),
    **dict.fromkeys(("error", "exception"), "exceptions of handlers go to app.on_error(handler)"),
    **dict.fromkeys(
        ("maxframesize", "maxmessagesize", "maxmsgsize", "maxpayload", "maxsize", "wsmaxsize"),
        "max_payload_length",
    ),
    **dict.fromkeys(("maxbuffered", "maxbufferedamount", "writelimit"), "max_backpressure"),
    **dict.fromkeys(("receivetimeout", "timeout"), "idle_timeout"),
    **dict.fromkeys(("heartbeat", "keepalive", "wspinginterval"), "ping_interval"),
    **dict.fromkeys(("pongtimeout", "wspingtimeout"), "ping_timeout"),
    **dict.fromkeys(("autoping", "sendpings"), "send_pings_automatically"),
    **dict.fromkeys(("maxqueue", "maxqueuesize", "wsmaxqueue"), "max_pending_messages"),
    **dict.fromkeys(("protocol", "protocols"), "subprotocols"),
    **dict.fromkeys(("allowedorigins", "checkorigin", "corsorigins", "origin"), "origins"),
    **dict.fromkeys(
        ("compress", "deflate", "permessagedeflate", "wspermessagedeflate"), "compression"
    ),
}

OTHERS_OF_LISTEN = {
    **_TLS,
    **dict.fromkeys(("addr", "address", "bind", "hostname", "interface", "ip"), "host"),
    **dict.fromkeys(("socketpath", "uds", "unix", "unixpath", "unixsocket"), "path"),
    **dict.fromkeys(("filedescriptor", "fileno", "sock", "socket"), "fd"),
    **dict.fromkeys(("permissions", "perms", "umask"), "mode"),
    **dict.fromkeys(("bindtodevice", "iface", "nic"), "device"),
    **dict.fromkeys(("acceptproxy", "proxy", "sendproxy"), "proxy_protocol"),
    "handler": "the second argument of app.listen() is the callback",
    "portoroptions": "the first argument of app.listen() is the port, or all options",
    "workers": _WORKERS,
}

OTHERS_OF_APP = {
    **_TLS_IS_OF_LISTEN,
    **dict.fromkeys(("limitconcurrency", "maxclients"), "max_connections"),
    **dict.fromkeys(("keepalive", "timeoutkeepalive"), "keep_alive_timeout"),
    **dict.fromkeys(("clientmaxsize", "maxbody", "maxrequestbodysize"), "max_body_size"),
    **dict.fromkeys(("maxlinesize", "maxheaderssize", "maxheaderlistsize"), "max_header_size"),
    **dict.fromkeys(
        (
            "forwardedallowips", "proxyfix", "proxyheaders", "realipheader", "trusteddownstream",
            "trustedhosts", "trustproxy", "xheaders",
        ),
        "trusted_proxies",
    ),
    **dict.fromkeys(("limitperip", "maxconnectionsperip"), "max_connections_per_address"),
    **dict.fromkeys(("handshakerate", "ratelimit"), "max_handshakes_per_second_per_address"),
    **dict.fromkeys(
        (
            "requestresponsefactorymaxitems", "taskfactorymaxitems", "websocketfactorymaxitems",
        ),
        "leave it out, there are no pools of objects",
    ),
    "idlerelaxationtime": "leave it out, the loop sleeps until there is something to do",
    "lifespan": "leave it out, see app.on_start() and app.on_stop()",
    "uds": "this belongs to app.listen(), as path",
    "workers": _WORKERS,
    "loglevel": "see docs/logging.md",
}  # fmt: skip


OTHERS_OF_REQUESTS = {
    **OTHERS_OF_STATIC,
    **dict.fromkeys(("path", "prefix", "route", "rule", "url"), "pattern"),
    **dict.fromkeys(("callback", "endpoint", "func", "function", "view", "viewfunc"), "handler"),
    **dict.fromkeys(("clientmaxsize", "maxbody", "maxbodylength", "maxsize"), "max_body_size"),
    "methods": "each method has its own, as app.get and app.post; app.any takes all",
}

_places: dict[str, str] = {}  # of the settings here, by their plain names


def belongs(place: str, names: Iterable[str]) -> None:
    """Say where settings belong, for programs that give them to something else."""
    _places.update((_plain(name), f"this belongs to {place}") for name in names)


def unknown_key(
    what: str, key: object, known: Sequence[str], others: Mapping[str, str], kind: str = "key"
) -> str:
    """The error message for an unknown key.

    Args:
        what: The name of the mapping, or of the function that got keywords.
        key: The unknown key.
        known: The keys that there are.
        others: Names that other libraries use, with the name here, or a sentence.
        kind: What the message calls a key.
    """
    plain = {_plain(name): name for name in known}
    wanted = _plain(str(key))
    bare = wanted[2:] if wanted.startswith("on") else wanted  # onmessage
    for name in (wanted, bare):
        meant = plain.get(name) or others.get(name) or _places.get(name)
        if meant is not None:
            break
    else:
        import difflib

        closest = difflib.get_close_matches(wanted, plain, 1)
        meant = plain[closest[0]] if closest else None
    begin = f"{what} has no {kind} {key!r}"
    if meant in known:
        return f"{begin}, did you mean {meant!r}?"
    return f"{begin}: {meant}" if meant else f"{begin}, it has {', '.join(known)}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def explain_arguments(cls: type, methods: Iterable[str], others: Mapping[str, str]) -> None:
    """Have the TypeErrors of methods that get a wrong keyword suggest the right one.

    Args:
        cls: The class.
        methods: The names of its methods, none of which takes any keyword.
        others: As for `unknown_key`.
    """
    for name in methods:
        setattr(cls, name, _explaining(getattr(cls, name), others))


def _explaining(function: Callable[..., Any], others: Mapping[str, str]) -> Callable[..., Any]:
    code: Any = function.__code__
    known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    @functools.wraps(function)
    def call(*args: Any, **more: Any) -> Any:
        for key in more:
            if key not in known:
                what = f"app.{function.__name__}()"
                raise TypeError(unknown_key(what, key, known, others, "argument"))
        return function(*args, **more)

    return call


# ---- attributes ---------------------------------------------------------------------------------

_BODY = "it is `await req.body()`"
_PROXIES = "with App(trusted_proxies=[...]) get_remote_address() is what the proxy reports"
_ROUTERS = "it is app.router(prefix), which has the methods get, post, ws, ..."
_INTERNAL = "it was internal"
_HANDLE = "functions of the C library are found through pyws.library_path"
_SERVER_NAMES = "server names are keys of app.listen(port, ssl={name: context})"

_TASKS = "make the handler a coroutine function (async def)"

NOT_IN_PACKAGE = {
    **dict.fromkeys(
        ("ASGI", "SSGI", "WSGI"), "run such an application in a server for it, beside pyws"
    ),
    "AppExtension": "write a subclass of App, or a function that takes the app",
    "AppRequest": "its name is Request",
    "AppResponse": "its name is Response",
    "Loop": f"there is only the loop of asyncio: {_TASKS}",
    **dict.fromkeys(("MiddlewareRouter", "middleware"), _BEFORE),
    **dict.fromkeys(("RequestTask", "TaskFactory", "create_task"), _TASKS),
    "sendfile": "it is res.send_file(path), and app.static(prefix, directory)",
}

_WS = "it is @app.ws(pattern) above `async def session(ws)`, or app.ws(pattern, message=...)"
_ROUTES = "it is app.get(pattern, handler), app.post(pattern, handler), ..."
_TOPICS = "sockets take part in topics, ws.subscribe(topic), and app.publish(topic, message) sends"
_END = "it is app.close()"

NOT_IN_APP = {
    **dict.fromkeys(("add_websocket_route", "websocket", "websocket_route"), _WS),
    **dict.fromkeys(("add_get", "add_post", "add_route", "add_routes", "route"), _ROUTES),
    **dict.fromkeys(("add_middleware", "before_request", "middleware", "use"), _BEFORE),
    "after_request": "call what is common in the handlers",
    **dict.fromkeys(("not_found", "set_not_found_handler"), "it is app.on_not_found(handler)"),
    "errorhandler": "it is app.set_error_handler(), app.on_not_found(), ...",
    "exception_handler": "it is app.set_error_handler(), app.on_not_found(), ...",
    **dict.fromkeys(("add_router", "include_router", "mount"), _ROUTERS),
    **dict.fromkeys(("add_event_handler", "on_event"), "it is app.on_start() or app.on_stop()"),
    "on_startup": "its name is on_start",
    **dict.fromkeys(("broadcast", "emit"), _TOPICS),
    **dict.fromkeys(("shutdown", "stop", "wait_closed"), _END),
    "clients": "it is app.connections",
    "run_app": "it is app.run(), or `await app.serve()`",
    "serve_forever": "it is app.run(), or `await app.serve()`",
    "state": "write a subclass, or keep it in variables of the program",
    "add_server_name": _SERVER_NAMES,
    "connect": "CONNECT is for proxies, and is never routed",
    "dispose": "leave the block of `with app:`, or drop the last reference, to free the server",
    "get_native_handle": _HANDLE,
    "lifespan": "see on_start() and on_stop()",
    "loop": f"{_TASKS}, in which asyncio.get_running_loop() is the loop",
    "missing_server_name": _SERVER_NAMES,
    "on_shutdown": "its name is on_stop",
    "register": "write a subclass, or a function that takes the app",
    "remove_server_name": _SERVER_NAMES,
    "run_async": _TASKS,
    "template": "call the template engine in the handler: res.end(template.render(...))",
    "trace": "use any(pattern, handler), and req.get_method() in the handler",
    "trigger_error": "raise the exception in a handler",
}
_COOKIES = "it is get_cookie(name), or get_cookies()"
_HEADERS = "it is get_header(lower_case_name), or get_headers()"

NOT_IN_REQUEST = {
    **dict.fromkeys(("content", "data", "get_data", "read"), _BODY),
    **dict.fromkeys(("files", "multipart", "post"), "it is `await req.form()`"),
    **dict.fromkeys(("get_json", "json_body"), "it is `await req.json()`"),
    "get_text": "it is `await req.text()`",
    **dict.fromkeys(("match_info", "path_params"), "its name is parameters"),
    **dict.fromkeys(("args", "query_params"), "its name is query"),
    **dict.fromkeys(("query_string", "rel_url", "url"), "it is get_url(), or get_full_url()"),
    **dict.fromkeys(("client", "remote", "remote_addr"), "it is res.get_remote_address()"),
    "cookies": _COOKIES,
    "headers": _HEADERS,
    "method": "it is get_method()",
    "path": "it is get_url()",
    "get_yield": _INTERNAL,
    "is_ancient": "clients of HTTP/1.0 need no special care",
    "set_yield": _BEFORE,
    "trigger_for_each_header_handler": _INTERNAL,
}
NOT_IN_RESPONSE = {
    **dict.fromkeys(("set_status", "status", "status_code"), "it is write_status(status)"),
    **dict.fromkeys(("add_header", "headers", "set_header"), "it is write_header(name, value)"),
    **dict.fromkeys(("body", "html", "json", "text"), "it is send(body), which knows JSON, too"),
    **dict.fromkeys(("del_cookie", "delete_cookie"), "it is set_cookie(name, '', max_age=0)"),
    "end_without_body": "use end()",
    "get_native_handle": _HANDLE,
    "get_proxied_remote_address": _PROXIES,
    "get_proxied_remote_address_bytes": _PROXIES,
    "grab_aborted_handler": "`aborted` is kept without it; use on_aborted(fn) to answer later",
    "render": "call the template engine: res.end(template.render(...))",
    "run_async": _TASKS,
    "send_chunk": "it is write(chunk), and `await res.drained()`",
    "trigger_aborted": _INTERNAL,
    "trigger_data_handler": _INTERNAL,
    "trigger_writable_handler": _INTERNAL,
    "write_continue": "a client that waits for it gets it when the body is read",
    "write_offset": "it is get_write_offset()",
}
_ALL = "it is get_all(name), or get_files(name)"
_FILENAME = "its name is filename"

NOT_IN_FORM = {
    **dict.fromkeys(("getall", "getlist", "getone", "multi_items"), _ALL),
    **dict.fromkeys(("files", "file"), "it is get_file(name)"),
    "close": "leave it out: the files go with the form",
}
NOT_IN_UPLOAD = {
    **dict.fromkeys(("name", "raw_filename"), _FILENAME),
    **dict.fromkeys(("save", "save_as", "copy_to"), "it is `await upload.write(path)`"),
    **dict.fromkeys(("body", "chunks", "content", "contents"), "it is `await upload.read(size)`"),
    **dict.fromkeys(("stream", "open"), "its name is file"),
    **dict.fromkeys(("mimetype", "type"), "its name is content_type"),
    **dict.fromkeys(("content_length", "length"), "its name is size"),
    "headers": "what browsers send is in filename and content_type",
}
_RECEIVE = (
    "a session receives by `await ws.recv()`, or `async for message in ws`, and a message handler "
    "gets the message"
)
_SEND = "it is ws.send(message), which does not wait"
_ADDRESS = "it is ws.get_remote_address(), and ws.remote_port"
_REQUEST = "it is ws.request.get_cookie(name), while the handshake is kept: see ws.request"
_JOIN = "it is ws.subscribe(topic)"
_CLOSE_INFO = "it is a part of ws.close_info"

NOT_IN_WEBSOCKET = {
    **dict.fromkeys(("accept", "prepare"), "a socket is open already: leave it out"),
    **dict.fromkeys(
        ("receive", "receive_bytes", "receive_json", "receive_str", "receive_text"), _RECEIVE
    ),
    **dict.fromkeys(
        ("emit", "send_bytes", "send_frame", "send_str", "send_text", "write_message"), _SEND
    ),
    **dict.fromkeys(("iter_bytes", "iter_json", "iter_text"), "it is `async for message in ws`"),
    **dict.fromkeys(("client", "peername", "remote_address", "remote_addr"), _ADDRESS),
    **dict.fromkeys(("match_info", "path_params"), "its name is parameters"),
    **dict.fromkeys(("args", "query_params"), "its name is query"),
    **dict.fromkeys(("close_code", "close_reason"), _CLOSE_INFO),
    **dict.fromkeys(("application_state", "client_state", "open", "ready_state"), "see ws.closed"),
    **dict.fromkeys(("data", "session", "state", "user"), "its name is user_data"),
    **dict.fromkeys(("join", "join_room"), _JOIN),
    **dict.fromkeys(("leave", "leave_room"), "it is ws.unsubscribe(topic)"),
    "broadcast": "it is ws.publish(topic, message), to those who subscribe",
    "cookies": _REQUEST,
    "pong": "Pings are answered already; an unsolicited one is ws.send(data, OpCode.PONG)",
    "request_headers": "it is ws.headers",
    "url": "it is ws.path, and ws.query",
    "ws_protocol": "its name is subprotocol",
    "clone": "keep the object itself, it may be kept as long as one likes",
    "get_user_data_uuid": "use id",
    "trigger_for_each_topic_handler": _INTERNAL,
}


class _NotHere:
    """An attribute that does not exist, and whose AttributeError says what to do.

    A __getattr__ of the class would make every access to its attributes slower.
    """

    def __init__(self, message: str) -> None:
        self.__doc__ = message
        self._message = message

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(self._message)


class _NotEvenSet(_NotHere):
    """The same for objects that no attributes can be added to."""

    def __set__(self, instance: object, value: Any) -> NoReturn:
        raise AttributeError(self._message)


class Explained(type):
    """The type of a class that does not list what it only explains."""

    def __dir__(cls) -> List[str]:
        return [name for name in super().__dir__() if not is_explained(cls, name)]


def is_explained(cls: type, name: str) -> bool:
    """Whether the attribute of this class does not exist."""
    found = next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)
    return isinstance(found, _NotHere)


def _dir(self: Any) -> List[str]:
    own = getattr(self, "__dict__", ())
    names = object.__dir__(self)
    return [name for name in names if name in own or not is_explained(type(self), name)]


def explained(table: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """Make a class explain that it does not have these attributes.

    Args:
        table: Each name, with a sentence about it.
    """

    def decorate(cls: type[T]) -> type[T]:
        has_attributes = any("__dict__" in vars(base) for base in cls.__mro__)
        kind = _NotHere if has_attributes else _NotEvenSet
        for name, sentence in table.items():
            message = f"{cls.__name__} has no attribute {name!r}: {sentence}"
            setattr(cls, name, kind(message))
        cls.__dir__ = _dir  # type: ignore[method-assign]
        return cls

    return decorate
