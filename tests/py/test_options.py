# SPDX-License-Identifier: MIT
"""Settings: everything that is out of range or of a wrong type stops in Python (T73, T78)."""

import functools
import inspect
import json
import math
from typing import Any, Callable, Dict, List
from unittest.mock import Mock

import pytest

from pyws import (
    App,
    AppListenOptions,
    AppOptions,
    CompressOptions,
    OpCode,
    Response,
    SendStatus,
    WebSocketOptions,
)
from pyws._core import foreign, values
from pyws._core.settings import BEHAVIOR_KEYS, Behavior
from pyws._core.values import HANDLERS


def behavior(**settings: Any) -> Behavior:
    return Behavior(settings, {})


# ---- enums --------------------------------------------------------------------------------------


def test_s16_public_names() -> None:
    import pyws

    names = "App WebSocket OpCode CompressOptions SendStatus Request Response AppOptions"
    for name in [*names.split(), "AppListenOptions", "__version__", "library_path"]:
        assert hasattr(pyws, name)
        assert name in pyws.__all__


def test_opcodes_are_those_of_rfc_6455() -> None:
    assert {code.name: int(code) for code in OpCode} == {
        "CONTINUATION": 0,
        "TEXT": 1,
        "BINARY": 2,
        "CLOSE": 8,
        "PING": 9,
        "PONG": 10,
    }


def test_s32_send_status() -> None:
    assert [(status.name, int(status)) for status in SendStatus] == [
        ("BACKPRESSURE", 0),
        ("SUCCESS", 1),
        ("DROPPED", 2),
    ]


def test_s44_compress_options() -> None:
    assert {name: int(option) for name, option in CompressOptions.__members__.items()} == {
        "DISABLED": 0,
        "SHARED_COMPRESSOR": 1,
        "SHARED_DECOMPRESSOR": 256,
        "DEDICATED_DECOMPRESSOR_512B": 2304,
        "DEDICATED_DECOMPRESSOR_1KB": 2560,
        "DEDICATED_DECOMPRESSOR_2KB": 2816,
        "DEDICATED_DECOMPRESSOR_4KB": 3072,
        "DEDICATED_DECOMPRESSOR_8KB": 3328,
        "DEDICATED_DECOMPRESSOR_16KB": 3584,
        "DEDICATED_DECOMPRESSOR_32KB": 3840,
        "DEDICATED_DECOMPRESSOR": 3840,
        "DEDICATED_COMPRESSOR_3KB": 145,
        "DEDICATED_COMPRESSOR_4KB": 146,
        "DEDICATED_COMPRESSOR_8KB": 163,
        "DEDICATED_COMPRESSOR_16KB": 180,
        "DEDICATED_COMPRESSOR_32KB": 197,
        "DEDICATED_COMPRESSOR_64KB": 214,
        "DEDICATED_COMPRESSOR_128KB": 231,
        "DEDICATED_COMPRESSOR_256KB": 248,
        "DEDICATED_COMPRESSOR": 248,
    }


def test_compressor_and_decompressor_may_be_ored() -> None:
    both = CompressOptions.DEDICATED_COMPRESSOR_4KB | CompressOptions.DEDICATED_DECOMPRESSOR_1KB
    assert both == 146 | 2560
    assert behavior(compression=both).compression == both
    assert CompressOptions.DISABLED | CompressOptions.SHARED_COMPRESSOR == 1
    assert 2560 | CompressOptions.SHARED_COMPRESSOR == 2561
    same = CompressOptions.SHARED_COMPRESSOR
    assert same | same == 1
    with pytest.raises(TypeError):
        same | "1"  # type: ignore[operator]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CompressOptions.DEDICATED_COMPRESSOR_32KB, CompressOptions.DEDICATED_COMPRESSOR_128KB),
        (CompressOptions.SHARED_COMPRESSOR, CompressOptions.DEDICATED_COMPRESSOR),
        (CompressOptions.SHARED_DECOMPRESSOR, CompressOptions.DEDICATED_DECOMPRESSOR),
    ],
)
def test_two_of_a_kind_cannot_be_ored(one: CompressOptions, other: CompressOptions) -> None:
    with pytest.raises(ValueError, match="two (de)?compressors"):
        one | other
    with pytest.raises(ValueError, match="two (de)?compressors"):
        int(one) | other


# ---- the behavior -------------------------------------------------------------------------------


def test_s11_keys_and_defaults() -> None:
    found = Behavior(None, {})
    assert {key: getattr(found, key) for key in BEHAVIOR_KEYS if key not in HANDLERS} == {
        "compression": 0,
        "max_payload_length": 16 * 1024,
        "idle_timeout": 120,
        "ping_interval": None,
        "ping_timeout": None,
        "max_backpressure": 64 * 1024,
        "max_topics": 1000,
        "max_topic_length": 1024,
        "max_pending_messages": 16,
        "history": None,
        "keep_request": False,
        "close_on_backpressure_limit": False,
        "reset_idle_timeout_on_send": False,
        "send_pings_automatically": True,
        "max_lifetime": 0,
        "subprotocols": (),
        "origins": None,
        "close_on_error": True,
        "close_timeout": 5,
    }


def test_s3_each_handler_is_optional() -> None:
    assert set(HANDLERS) == {
        "upgrade", "open", "message", "drain", "dropped", "ping", "pong", "subscription", "close",
    }  # fmt: skip
    for name in HANDLERS:
        assert getattr(Behavior(None, {}), name) is None
        assert getattr(behavior(**{name: print}), name) is print


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("maxPayloadLength", "max_payload_length"),
        ("idle_timout", "idle_timeout"),
        ("on_message", "message"),
        ("compresion", "compression"),
        ("sub_protocols", "subprotocols"),
    ],
)
def test_unknown_key_names_the_closest(wrong: Any, right: str) -> None:
    with pytest.raises(TypeError, match=f"did you mean '{right}"):
        Behavior({wrong: 1}, {})


def test_dict_and_keywords_are_joined() -> None:
    found = Behavior({"idle_timeout": 12}, {"max_payload_length": 16 * 1024 * 1024})
    assert (found.idle_timeout, found.max_payload_length) == (12, 16 * 1024 * 1024)
    for wrong in ([("open", print)], "open", 5):
        with pytest.raises(TypeError, match="dict"):
            Behavior(wrong, {})  # type: ignore[arg-type]


SIZES = ("max_payload_length", "max_backpressure")
COUNTS = ("max_topics", "max_topic_length", "max_pending_messages")
TIMES = ("idle_timeout", "close_timeout", "max_lifetime", "ping_interval", "ping_timeout")
FLAGS = (
    "close_on_backpressure_limit",
    "reset_idle_timeout_on_send",
    "send_pings_automatically",
    "close_on_error",
    "keep_request",
)


@pytest.mark.parametrize("key", SIZES + COUNTS)
@pytest.mark.parametrize("value", ["5", 1.5, True, None, b"1", [], math.nan, object()])
def test_t73_sizes_must_be_ints(key: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{key} must be an int from "):
        behavior(**{key: value})


@pytest.mark.parametrize("key", SIZES + COUNTS)
@pytest.mark.parametrize("value", [-1, 2**31, 2**32, 2**64, 10**400, -(2**63)])
def test_t78_sizes_out_of_range(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{key} must be from [01] to 2147483647, not "):
        behavior(**{key: value})


def test_t78_sizes_at_their_limits() -> None:
    for key in SIZES + COUNTS:
        lowest = 1 if key in COUNTS else 0
        for value in (lowest, 2**31 - 1):
            assert getattr(behavior(**{key: value}), key) == value
        with pytest.raises(ValueError, match=f"^{key} must be from {lowest} to "):
            behavior(**{key: lowest - 1})


@pytest.mark.parametrize("key", TIMES)
@pytest.mark.parametrize("value", ["5", True, b"1", [], object(), 1j])
def test_t73_times_must_be_numbers(key: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{key} must be a number from 0 to "):
        behavior(**{key: value})


@pytest.mark.parametrize("key", TIMES)
@pytest.mark.parametrize(
    "value", [-1, -0.001, math.nan, math.inf, -math.inf, 2**32, 2**64, 10**400]
)
def test_t78_times_out_of_range(key: str, value: float) -> None:
    unit = "minutes" if key == "max_lifetime" else "seconds"
    with pytest.raises(ValueError, match=f"^{key} must be from 0 to [0-9]+ {unit}, not "):
        behavior(**{key: value})


@pytest.mark.parametrize("key", TIMES)
def test_s5_s14_times_may_be_0_int_or_float(key: str) -> None:
    for value in (0, 12, 0.25):
        assert getattr(behavior(**{key: value}), key) == value


@pytest.mark.parametrize("key", FLAGS)
@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_t73_flags_must_be_bools(key: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{key} must be True or False"):
        behavior(**{key: value})


@pytest.mark.parametrize("key", HANDLERS)
@pytest.mark.parametrize("value", [1, "print", [print], True])
def test_t73_handlers_must_be_callable(key: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{key} must be callable"):
        behavior(**{key: value})


async def coroutine_handler(*args: Any) -> None:
    pass


class CoroutineCallable:
    async def __call__(self, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    "value", [coroutine_handler, functools.partial(coroutine_handler, 1), CoroutineCallable()]
)
def test_coroutine_functions_are_handlers(value: Any) -> None:
    assert behavior(message=value).message is value
    assert values.is_coroutine_handler(value)
    with pytest.raises(TypeError, match="^fn must be a plain function, not a coroutine function"):
        values.function("fn", value)


def test_any_callable_is_a_handler() -> None:
    class Callable:
        def __init__(self, *args: Any) -> None: ...

        def __call__(self, *args: Any) -> None: ...

    plain = (lambda *_: None, functools.partial(print, 1), Callable(), print, Callable, Mock())
    for value in plain:
        assert behavior(message=value).message is value
        assert values.function("fn", value) is value


@pytest.mark.parametrize("value", ["chat", b"chat", 5, None, [1], [b"chat"], [None]])
def test_t73_subprotocols_must_be_a_list_of_str(value: Any) -> None:
    with pytest.raises(TypeError, match="^subprotocols must "):
        behavior(subprotocols=value)


@pytest.mark.parametrize("value", ["", "a b", "a,b", "caf\u00e9", "a\r\nb", "a\0", '"a"', "\ud800"])
def test_t10_subprotocols_must_be_tokens(value: str) -> None:
    with pytest.raises(ValueError, match="^subprotocols must hold only tokens"):
        behavior(subprotocols=["chat", value])


def test_lists_are_copied() -> None:
    names = ["chat", "superchat"]
    found = behavior(subprotocols=names, origins=iter(["https://example.org", "null"]))
    names.clear()
    assert found.subprotocols == ("chat", "superchat")
    assert found.origins == ("https://example.org", "null")
    assert behavior(origins=None).origins is None


def test_origins_that_let_no_client_in_are_refused() -> None:
    with pytest.raises(ValueError, match="origins must not be empty: no client could connect"):
        Behavior({"origins": []}, {})


@pytest.mark.parametrize("value", [5, b"https://example.org"])
def test_t73_origins_must_be_str_or_none(value: Any) -> None:
    name = type(value).__name__
    with pytest.raises(TypeError, match=f"^origins must hold only str and None, not {name}$"):
        behavior(origins=[None, value])


def test_help_shows_no_address_of_an_argument_that_was_left_out() -> None:
    for method in (App.ws, Response.upgrade):
        assert "object at" not in str(inspect.signature(method))


@pytest.mark.parametrize("value", ["", "a b", "https://ex\u00e4mple.org", "a\nb", "a\0"])
def test_t12_origins_must_be_printable(value: str) -> None:
    with pytest.raises(ValueError, match="^origins must hold"):
        behavior(origins=[value])


@pytest.mark.parametrize("value", [-1, 2, 147, 512, 999, 4096, 4097, 2**64, 10**400])
def test_t78_compression_must_be_known(value: int) -> None:
    with pytest.raises(ValueError, match="^compression must be a value of CompressOptions, or "):
        behavior(compression=value)


@pytest.mark.parametrize("value", ["shared", 1.0, True, None])
def test_t73_compression_must_be_an_int(value: Any) -> None:
    with pytest.raises(TypeError, match="^compression must be"):
        behavior(compression=value)


# ---- app and listen options ---------------------------------------------------------------------

APP_WRONG: Dict[str, Any] = {
    "max_connections": (0, -1, 2**32, True, "5"),
    "max_memory": (-1, 2**64, 1e9),
    "max_header_size": (1023, 1024 * 1024 + 1, math.nan),
    "max_headers": (0, 10_001, 1.5, "100"),
    "max_body_size": (-1, 2**63, 1.5, "1 MiB"),
    "body_timeout": (0, math.inf, None),
    "max_response_backpressure": (-1, 2**31, 1.5),
    "handshake_timeout": (0, -1, math.nan, math.inf, 2**64, "10", True),
    "keep_alive_timeout": (0, math.nan, None),
    "upgrade_timeout": (0, math.nan, []),
    "keep_headers": (1, None, "yes"),
    "json_dumps": ("orjson", 1),
    "json_loads": (json, b""),
    "max_connections_per_address": (-1, 2**31, None, 1.5),
    "max_handshakes_per_second_per_address": (-1, 1_000_001, None, 0.5),
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in APP_WRONG.items() for value in values]
)
def test_t78_app_options(key: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{key} must "):
        AppOptions(**{key: value})
    with pytest.raises((TypeError, ValueError), match=f"^{key} must "):
        AppOptions.of({key: value})
    late = AppOptions()
    setattr(late, key, value)
    with pytest.raises((TypeError, ValueError), match=f"^{key} must "):
        AppOptions.of(late)


def test_app_options_reach_the_library_in_its_units() -> None:
    native = AppOptions(
        handshake_timeout=0.0001 + 0.001, max_memory=5, upgrade_timeout=2
    ).c_fields()
    assert (native["handshake_timeout"], native["max_memory"], native["upgrade_timeout"]) == (
        2,
        5,
        2000,
    )
    assert AppOptions.of(None) == AppOptions()
    with pytest.raises(TypeError, match="did you mean 'max_connections'"):
        AppOptions.of({"maxConnections": 5})
    with pytest.raises(TypeError, match="options must be a dict"):
        AppOptions.of(5)  # type: ignore[arg-type]


# What other libraries have, and what is said about it.
OTHERS: Dict[str, Dict[str, str]] = {
    "route": {
        "receive": "did you mean 'message'?",
        "on_message": "did you mean 'message'?",
        "onopen": "did you mean 'open'?",
        "on_disconnect": "did you mean 'close'?",
        "on_error": "exceptions of handlers go to app.on_error(handler)",
        "max_size": "did you mean 'max_payload_length'?",
        "maxPayload": "did you mean 'max_payload_length'?",
        "heartbeat": "did you mean 'ping_interval'?",
        "allowed_origins": "did you mean 'origins'?",
        "perMessageDeflate": "did you mean 'compression'?",
        "max_queue": "did you mean 'max_pending_messages'?",
        "ssl": "this belongs to app.listen()",
        "cert_file_name": "this belongs to app.listen(), as cert_file",
        "ssl_ca_file": "this belongs to app.listen()",
        "idle_timout": "did you mean 'idle_timeout'?",
        "before": "what runs before handlers is app.router(prefix, before=[function])",
        "domain": "this belongs to app.listen()",
        "host": "this belongs to app.listen()",
        "reuse_port": "this belongs to app.listen()",
        "max_connections": "this belongs to App(...)",
        "access_log": "this belongs to App(...)",
    },
    "listen": {
        "ssl_context": "did you mean 'ssl'?",
        "key_file_name": "did you mean 'key_file'?",
        "ssl_ca_file": "this is set in an ssl.SSLContext",
        "uds": "did you mean 'path'?",
        "hostname": "did you mean 'host'?",
        "sock": "did you mean 'fd'?",
        "accept_proxy": "did you mean 'proxy_protocol'?",
        "trusted_proxies": "this belongs to App(...)",
        "reusePort": "did you mean 'reuse_port'?",
        "handler": "the second argument of app.listen() is the callback",
        "port_or_options": "the first argument of app.listen() is the port",
        "idle_timeout": "this belongs to a route",
        "workers": "app.run(workers=N)",
        "max_connections": "this belongs to App(...)",
    },
    "app": {
        "key_file_name": "this belongs to app.listen(), as key_file",
        "passphrase": "this belongs to app.listen(), as key_password",
        "ssl": "this belongs to app.listen()",
        "limit_concurrency": "did you mean 'max_connections'?",
        "forwarded_allow_ips": "did you mean 'trusted_proxies'?",
        "proxy_headers": "did you mean 'trusted_proxies'?",
        "trust_proxy": "did you mean 'trusted_proxies'?",
        "proxy_protocol": "this belongs to app.listen()",
        "timeout_keep_alive": "did you mean 'keep_alive_timeout'?",
        "port": "this belongs to app.listen()",
        "domain": "this belongs to app.listen()",
        "uds": "this belongs to app.listen(), as path",
        "idle_timeout": "this belongs to a route",
        "subprotocols": "this belongs to a route",
        "message": "this belongs to a route",
        "on_open": "this belongs to a route",
        "workers": "app.run(workers=N)",
        "max_conections": "did you mean 'max_connections'?",
    },
}
MAKERS: Dict[str, Any] = {
    "route": lambda key: behavior(**{key: 1}),
    "listen": lambda key: AppListenOptions.of({key: 1}),
    "app": lambda key: AppOptions(**{key: 1}),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(
    ("where", "key", "answer"),
    [(where, key, answer) for where, keys in OTHERS.items() for key, answer in keys.items()],
)
def test_p7_names_of_other_libraries(where: str, key: str, answer: str) -> None:
    with pytest.raises(TypeError) as caught:
        MAKERS[where](key)
    kind = "setting" if where == "app" else "key"  # a keyword here
    assert f"has no {kind} {key!r}" in str(caught.value)
    assert answer in str(caught.value)


def test_p7_a_setting_in_the_wrong_place() -> None:
    places: Dict[str, Any] = {
        "route": [*BEHAVIOR_KEYS, "session"],
        "listen": [*AppListenOptions.__annotations__, "domain"],
        "app": list(AppOptions.__annotations__),
    }
    for where, make in MAKERS.items():
        for key in {key for keys in places.values() for key in keys} - set(places[where]):
            with pytest.raises(TypeError, match=f"has no (key|setting) '{key}': this belongs"):
                make(key)


def test_p7_unknown_keywords_and_keys_are_named_as_what_they_are() -> None:
    def message(call: Callable[[], Any]) -> str:
        with pytest.raises(TypeError) as caught:
            call()
        return str(caught.value)

    new_app: Any = App
    new_options: Any = WebSocketOptions
    with new_app() as app:
        calls: List[Any] = [
            (lambda: app.ws("/", mesage=print), "app.ws() has no setting 'mesage', did you mean"),
            (lambda: app.ws("/", {"mesage": print}), "behavior has no key 'mesage', did you mean"),
            (lambda: app.listen(0, hots="x"), "app.listen() has no setting 'hots', did you"),
            (lambda: app.listen({"hots": "x"}), "listen options has no key 'hots', did you"),
            (lambda: new_app(max_conections=1), "App() has no setting 'max_conections', did you"),
            (lambda: new_app({"max_conections": 1}), "options has no key 'max_conections', did"),
            (lambda: new_options(mesage=print), "WebSocketOptions has no setting 'mesage'"),
        ]
        for call, begin in calls:
            assert message(call).startswith(begin)


@pytest.mark.parametrize("where", sorted(MAKERS))
def test_p7_no_suggestion_where_nothing_is_close(where: str) -> None:
    with pytest.raises(TypeError) as caught:
        MAKERS[where]("zebra")
    assert "did you mean" not in str(caught.value)
    assert ", it has " in str(caught.value)


@pytest.mark.parametrize("where", sorted(MAKERS))
def test_p7_what_other_names_lead_to_exists(where: str) -> None:
    tables = {
        "route": (foreign.OTHERS_OF_ROUTE, BEHAVIOR_KEYS),
        "listen": (foreign.OTHERS_OF_LISTEN, list(AppListenOptions.__annotations__)),
        "app": (foreign.OTHERS_OF_APP, list(AppOptions.__annotations__)),
    }
    others, known = tables[where]
    for name, meant in others.items():
        assert meant in known or " " in meant
        assert name not in [key.replace("_", "") for key in known], name


def test_every_option_takes_another_value_than_its_default() -> None:
    """An option that refuses all of them must not exist yet."""
    for kind in (AppOptions, AppListenOptions):
        for name, default in vars(kind()).items():
            values: Any = (
                7, 2048, 100_000, not default, "127.0.0.1", print, "nats://h", ["unix"],
                lambda: None,
            )  # fmt: skip
            assert any(takes(kind, name, value) for value in values if value != default), name


BESIDES = {name: {"cert_file": "chain.pem"} for name in ("key_file", "key_password")}


def takes(kind: Any, name: str, value: Any) -> bool:
    try:
        kind(**{name: value, **BESIDES.get(name, {})})
    except (TypeError, ValueError):
        return False
    return True


def test_unknown_fields_name_the_closest() -> None:
    with pytest.raises(TypeError, match="'prot', did you mean 'port'"):
        AppListenOptions(prot=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'max_conections', did you mean 'max_connections'"):
        AppOptions(max_conections=1)  # type: ignore[call-arg]
    assert list(inspect.signature(AppListenOptions).parameters)[:2] == ["port", "host"]


def test_app_options_are_given_by_name() -> None:
    with pytest.raises(TypeError, match=r"by name, as in AppOptions\(max_connections=\.\.\.\)"):
        AppOptions(5)  # type: ignore[call-arg]
    parameters = inspect.signature(AppOptions).parameters.values()
    assert {one.kind for one in parameters} == {inspect.Parameter.KEYWORD_ONLY}


LISTEN_WRONG: Dict[str, Any] = {
    "port": (-1, 65536, 2**64, "80", None, True, 80.0),
    "host": ("", "a\0b", b"localhost", 5, "\ud800"),
    "path": ("", "x" * 108, "a\0b", b"/run/x", 5),
    "mode": (-1, 0o1000, "660", None),
    "backlog": (0, -1, 2**31, True),
    "reuse_port": (1, None),
    "proxy_protocol": (1, None),
    "fd": (-1, "3", True, 2**31),
    "ssl": (True, 1, "cert.pem", {}, {1: None}, lambda name: name),
    "cert_file": ("", "a\0b", b"cert.pem", 5),
    "key_file": ("", "a\0b", b"key.pem", 5),
    "key_password": (5, True, "x" * 1025),
    "device": ("", "x" * 16, "a\0b", b"lo", 5),
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in LISTEN_WRONG.items() for value in values]
)
def test_t78_listen_options(key: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{key} "):
        AppListenOptions(**{key: value})
    with pytest.raises((TypeError, ValueError), match=f"^{key} "):
        AppListenOptions.of({key: value})


def test_listen_options_from_int_dict_and_self() -> None:
    assert AppListenOptions.of(9001) == AppListenOptions(9001)
    assert AppListenOptions.of({"port": 9001, "host": "::1"}) == AppListenOptions(9001, "::1")
    place = AppListenOptions(9001)
    assert AppListenOptions.of(place) == place
    assert AppListenOptions.of(place) is not place  # it stays the caller's
    for wrong in (65536, -1):
        with pytest.raises(ValueError, match="^port must be from 0 to 65535"):
            AppListenOptions.of(wrong)
    for other in ("9001", None, 1.5, True):
        with pytest.raises(TypeError, match="^port must be an int from 0 to 65535"):
            AppListenOptions.of(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="did you mean 'reuse_port'"):
        AppListenOptions.of({"reusePort": True})


def test_listen_options_say_where() -> None:
    assert str(AppListenOptions(80)) == "*:80"
    assert str(AppListenOptions(80, "127.0.0.1")) == "127.0.0.1:80"
    assert str(AppListenOptions(80, "::1")) == "[::1]:80"
    assert str(AppListenOptions(path="/run/x")) == "/run/x"
    assert str(AppListenOptions(fd=3)) == "fd 3"


# ---- closing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [999, 1, 1004, 1006, 1015, 1016, 2999, 5000, -1, 65536, 2**64])
def test_t35_close_codes_that_may_not_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match="^code must be .*1000-1003, .* or 3000-4999, not "):
        values.close_arguments(code, "")


@pytest.mark.parametrize("code", [True, "1000", 1000.0, None, math.nan])
def test_t73_close_codes_must_be_ints(code: Any) -> None:
    with pytest.raises(TypeError, match="^code must be"):
        values.close_arguments(code, "")


@pytest.mark.parametrize("value", [3, 11, -1, 10**400, "1", None, 1.0])
def test_t78_a_wrong_opcode_is_told_the_right_ones(value: Any) -> None:
    allowed = "^opcode must be OpCode.TEXT, BINARY, CONTINUATION, PING or PONG, not "
    with pytest.raises((TypeError, ValueError), match=allowed):
        values.opcode(value)


def test_t35_close_arguments() -> None:
    for code in (1000, 1003, 1007, 1014, 3000, 4999):
        assert values.close_arguments(code, "caf\u00e9") == (code, b"caf\xc3\xa9")
    assert values.close_arguments(0, "") == (0, b"")
    assert values.close_arguments(1005, b"") == (1005, b"")
    for code in (0, 1005):
        with pytest.raises(ValueError, match="cannot have a reason"):
            values.close_arguments(code, "bye")
    for reason in ("\ud800", b"\xff"):
        with pytest.raises(ValueError, match="^reason "):
            values.close_arguments(1000, reason)
    for wrong in (None, 5, ["bye"]):
        with pytest.raises(TypeError, match="^reason must be str or bytes"):
            values.close_arguments(1000, wrong)
        with pytest.raises(TypeError, match="^reason must be str or bytes"):
            values.shutdown_arguments(1000, wrong)
