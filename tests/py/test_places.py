# SPDX-License-Identifier: MIT
"""The URLs of brokers: what is wrong with one is named, with its value and what is allowed."""

import re
from pathlib import Path

import pytest
from chromium import unavailable

from pyws import App
from pyws._core.places import place_of

try:
    import nats  # noqa: F401
    import redis  # noqa: F401
except ImportError:
    unavailable("redis-py or nats-py is not installed")

ENCODE = 'a "/", "?" or "#" in a user, a password or a value must be percent-encoded: %2F, %3F, %23'
PLAIN = (
    "only prefix, client_name, db, health_check_interval, password, socket_connect_timeout, "
    "socket_keepalive, socket_timeout, username"
)
PORT = "a port must be a number from 1 to 65535, not"
ONCE = "user and password are written once, before the first host"


@pytest.mark.parametrize(
    ("url", "name", "why"),
    [
        ("redis://me:secret@h?foo=1", "redis://h", f"there is no option 'foo', {PLAIN}"),
        ("redis://h?host=x", "redis://h", f"there is no option 'host', {PLAIN}"),
        ("redis://h?retry=3", "redis://h", f"there is no option 'retry', {PLAIN}"),
        (
            "valkey://h?ssl_ca_certs=/x",
            "valkey://h",
            "the option 'ssl_ca_certs' is for TLS: the URL must begin with rediss:// or valkeys://",
        ),
        (
            "rediss://h?ssl_ca_certs=/none",
            "rediss://h",
            "ssl_ca_certs names a file that cannot be read, '/none': No such file or directory",
        ),
        (
            "valkeys://h?ssl_keyfile=/none",
            "valkeys://h",
            "ssl_keyfile names a file that cannot be read, '/none': No such file or directory",
        ),
        (
            "rediss://h?ssl_ca_certs=/etc/passwd",
            "rediss://h",
            "ssl_ca_certs must name a file with certificates, not '/etc/passwd'",
        ),
        (
            "tls://h?ca=",
            "tls://h",
            "ca names a file that cannot be read, '': No such file or directory",
        ),
        (
            "nats://h?ca=/etc",
            "nats://h",
            "ca names a file that cannot be read, '/etc': Is a directory",
        ),
        (
            "nats://h?credentials=/none",
            "nats://h",
            "credentials names a file that cannot be read, '/none': No such file or directory",
        ),
        ("redis://h/abc", "redis://h/abc", "the path must be the number of a database, not '/abc'"),
        ("redis://h,i", "redis://h,i", "there can be only one host; several are for NATS"),
        (
            "redis+unix://:secret@run/redis.sock",
            "redis+unix://run/redis.sock",
            "the path of a Unix socket begins with a third slash, redis+unix:///run/redis.sock, "
            "unlike redis+unix://run/redis.sock",
        ),
        (
            "valkey+unix://",
            "valkey+unix://",
            "the path of a Unix socket is missing: valkey+unix:///run/redis.sock",
        ),
        ("redis://me:sec#ret@h:1", "redis://h:1", ENCODE),
        ("redis://me:sec/ret@h:1", "redis://h:1", ENCODE),
        ("nats://me:sec?ret@h:1", "nats://h:1", ENCODE),
        ("nats://sec/ret@h:1", "nats://h:1", ENCODE),
        ("nats://u:secret@h,u:secret@i", "nats://i", ONCE),
        ("redis://h:port", "redis://h:port", f"{PORT} 'port'"),
        ("nats://h:65536", "nats://h:65536", f"{PORT} '65536'"),
        ("nats://h:0", "nats://h:0", f"{PORT} '0'"),
        ("nats://h,i:", "nats://h,i:", f"{PORT} ''"),
        (
            "redis://::1",
            "redis://::1",
            "an IPv6 address needs brackets, like [::1]:6379, unlike '::1'",
        ),
        ("nats:// h", "nats:// h", "a host has no white space, but there is some in ' h'"),
        ("nats://h,:1", "nats://h,:1", "a host is missing"),
        ("redis://h?db=1&db=1", "redis://h", "the option 'db' is there 2 times"),
        ("nats://h?prefix=a&ca=/&prefix=", "nats://h", "the option 'prefix' is there 2 times"),
    ],
)
def test_wrong_urls(url: str, name: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^the broker {re.escape(name)}: {re.escape(why)}$"):
        App(broker=url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h/0?prefix=a@b",
        "redis://u:p%23@[::1]:1/2?client_name=x&db=1&socket_timeout=2.5",
        "redis+unix://:p%2F@/run/a@b.sock?db=1",
        "rediss://h?ssl_ca_path=/etc&ssl_cert_reqs=none&ssl_check_hostname=no",
        "nats://u:p%40@h:1,i,[::1],[::1]:2?prefix=a.b",
        "nats://token@h/",
    ],
)
def test_right_urls(url: str) -> None:
    App(broker=url)


def test_the_parts() -> None:
    place = place_of("nats://a:b%2F@c@h:1,i/path?x=1&y=")
    assert place.login == "a:b%2F@c"
    assert place.hosts == ["h:1", "i"]
    assert (place.scheme, place.path, place.options) == ("nats", "/path", {"x": "1", "y": ""})


def test_a_file_with_certificates(tmp_path: Path) -> None:
    from broker_checks import certificate

    key, file = certificate(tmp_path)
    App(broker=f"tls://h?ca={file}")
    App(broker=f"rediss://h?ssl_ca_certs={file}&ssl_certfile={file}&ssl_keyfile={key}")
