# SPDX-License-Identifier: MIT
"""The parts of the URL of a broker, and what may be wrong with them.

Error messages show no user and no password, also not a part of one that was not percent-encoded.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Dict, Iterable, NamedTuple, Sequence
from urllib.parse import parse_qsl

if TYPE_CHECKING:  # it takes long to import
    import ssl

__all__ = ["Place", "certificates", "check_file", "check_options", "place_of", "public_url"]


class Place(NamedTuple):
    """The parts of a URL.

    Attributes:
        scheme: What is before "://".
        login: User and password, with a colon in between, as they are encoded in the URL.
        hosts: Names or addresses, each with its port if it has one.
        path: What follows them, with its slash.
        options: What follows a question mark.
    """

    scheme: str
    login: str
    hosts: Sequence[str]
    path: str
    options: Dict[str, str]


def place_of(url: str) -> Place:
    """Take a URL apart. Raises ValueError."""
    scheme, _, rest = url.partition("://")
    authority = _authority(rest)
    if _is_cut(rest, authority) or "#" in rest:
        raise ValueError(
            'a "/", "?" or "#" in a user, a password or a value must be percent-encoded: '
            "%2F, %3F, %23"
        )
    path, _, query = rest[len(authority) :].partition("?")
    login, _, places = authority.rpartition("@")
    if "@" in login and "," in login.rpartition("@")[2]:
        raise ValueError("user and password are written once, before the first host")
    hosts = places.split(",") if places else []
    for host in hosts:
        _check_host(host)
    return Place(scheme, login, hosts, path, _options(query))


def _options(query: str) -> Dict[str, str]:
    """What follows the question mark, taken apart. Raises ValueError."""
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    names = [name for name, _ in pairs]
    for name in options:
        if names.count(name) > 1:
            raise ValueError(f"the option {name!r} is there {names.count(name)} times")
    return options


def _authority(rest: str) -> str:
    """What is between "://" and the path, the options, or the end (RFC 3986 section 3.2)."""
    return rest[: min((rest.find(end) for end in "/?#" if end in rest), default=len(rest))]


def _is_cut(rest: str, authority: str) -> bool:
    """Whether the authority ends within a login, which was not percent-encoded."""
    if "@" in authority or not authority or "@" not in rest:
        return False
    _, colon, port = authority.partition(":")
    if colon and not port.isdigit():
        return True
    return "@" in rest.partition("=")[0]  # in a path, or in the name of an option


def _check_host(host: str) -> None:
    name, colon, port = host.rpartition(":")
    if host.startswith("["):
        name, _, port = host.partition("]")
        name, colon, port = name + "]", port[:1], port[1:]
    elif ":" in name:
        raise ValueError(f"an IPv6 address needs brackets, like [::1]:6379, unlike {host!r}")
    if colon and not (port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"a port must be a number from 1 to 65535, not {port!r}")
    if not (name if colon else host):
        raise ValueError("a host is missing")
    if any(character.isspace() for character in host):
        raise ValueError(f"a host has no white space, but there is some in {host!r}")


def public_url(url: str) -> str:
    """A URL without user, password and options, for log lines and error messages."""
    scheme, _, rest = url.partition("://")
    authority = _authority(rest)
    if _is_cut(rest, authority):
        rest = rest.rpartition("@")[2]
        authority = _authority(rest)
    path = rest[len(authority) :].partition("?")[0].partition("#")[0]
    return f"{scheme}://{authority.rpartition('@')[2]}{path}"


def check_options(options: Iterable[str], allowed: Sequence[str], with_tls: Sequence[str]) -> None:
    """Raise ValueError for an option that does not exist, or needs TLS."""
    for name in options:
        if name in with_tls:
            raise ValueError(
                f"the option {name!r} is for TLS: the URL must begin with rediss:// or valkeys://"
            )
        if name not in allowed:
            raise ValueError(f"there is no option {name!r}, only {', '.join(allowed)}")


# ---- files --------------------------------------------------------------------------------------


def check_file(option: str, path: str) -> None:
    """Raise ValueError if a file that an option names cannot be read."""
    try:
        open(path, "rb").close()
    except OSError as error:
        raise ValueError(_unreadable(option, path, error)) from None


def certificates(option: str, path: str) -> ssl.SSLContext:
    """What trusts the authorities in a file, or a folder, that an option names.

    Raises:
        ValueError: There are none.
    """
    import ssl

    folder = os.path.isdir(path) and option.endswith("path")
    try:
        if not path:  # would be those of the system
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if folder:
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise ValueError(f"{option} must name a file with certificates, not {path!r}") from None
    except OSError as error:
        raise ValueError(_unreadable(option, path, error)) from None


def _unreadable(option: str, path: str, error: OSError) -> str:
    return f"{option} names a file that cannot be read, {path!r}: {error.strerror}"
