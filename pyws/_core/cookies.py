# SPDX-License-Identifier: MIT
"""Cookies (RFC 6265): what a Cookie field says, and what a Set-Cookie field may say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, Mapping

from . import values

if TYPE_CHECKING:  # it takes long to import
    from datetime import datetime

__all__ = ["received", "set_cookie"]

_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*\Z")  # RFC 6265 section 4.1.1
_ATTRIBUTES = {
    "path": "Path",
    "domain": "Domain",
    "max_age": "Max-Age",
    "expires": "Expires",
    "secure": "Secure",
    "http_only": "HttpOnly",
    "same_site": "SameSite",
}
_ALIASES = {"maxage": "max_age", "httponly": "http_only", "samesite": "same_site"}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def received(field: str) -> Dict[str, str]:
    """All cookies of a Cookie field by name; the first one of a name counts (section 5.4)."""
    cookies: Dict[str, str] = {}
    for pair in field.split(";"):
        name, equals, value = pair.partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if equals:
            cookies.setdefault(name.strip(), value)
    return cookies


def set_cookie(name: Any, value: Any, attributes: Mapping[str, Any]) -> str:
    """The value of a Set-Cookie field (section 4.1). Raises TypeError, ValueError.

    Args:
        name, value, attributes: As for `Response.set_cookie`.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a cookie must be a str, not {values.type_name(name)}")
    if not values.is_token(name):
        raise ValueError(f"the name of a cookie must be a token, not {name!r}")
    if not isinstance(value, str):
        what = values.type_name(value)
        raise TypeError(f"the value of cookie {name} must be a str, not {what}")
    if not _VALUE.match(value):
        raise ValueError(
            f"the value of cookie {name} must be printable ASCII without space, quote, comma, "
            f"semicolon and backslash, as urllib.parse.quote makes it: {value!r}"
        )
    plain = {str(key).lower().replace("-", "_"): item for key, item in attributes.items()}
    plain = {_ALIASES.get(key, key): item for key, item in plain.items()}
    chosen = values.pick(plain, list(_ATTRIBUTES), "cookie")
    lines = [f"{name}={value}", *_lines(chosen)]
    _check_browsers(name, chosen)
    return "; ".join(lines)


def _lines(attributes: Mapping[str, Any]) -> List[str]:
    """The attributes of a cookie, in the order given. Raises TypeError, ValueError."""
    parts = []
    for key, value in attributes.items():
        label = _ATTRIBUTES[key]
        if key in ("secure", "http_only"):
            parts += [label] if values.flag(key, value) else []
        elif value is not None:
            parts.append(f"{label}={_attribute(key, value)}")
    return parts


def _check_browsers(name: str, attributes: Mapping[str, Any]) -> None:
    """Raise ValueError for a cookie that browsers ignore without a word."""
    secure = attributes.get("secure", False)
    if attributes.get("same_site") == "None" and not secure:
        raise ValueError(
            f'cookie {name} with same_site="None" must have secure=True, or browsers ignore it'
        )
    prefix = name[: name.find("-", 2) + 1].lower() if name.startswith("__") else ""
    if prefix in ("__secure-", "__host-") and not secure:
        raise ValueError(f"cookie {name} must have secure=True, or browsers ignore it")
    if prefix == "__host-" and (
        attributes.get("path") != "/" or attributes.get("domain") is not None
    ):
        raise ValueError(f'cookie {name} must have path="/" and no domain, or browsers ignore it')


def _attribute(key: str, value: Any) -> str:
    if key == "max_age":
        return str(values.integer(key, value, -values.MAX_COUNT, values.MAX_COUNT))
    if key == "expires":
        from datetime import datetime, timezone

        if isinstance(value, datetime):
            # RFC 6265 section 5.1.1 wants English names, in any locale; naive times are UTC.
            moment = value if value.tzinfo is None else value.astimezone(timezone.utc)
            return _http_date(moment)
    if not isinstance(value, str):
        allowed = "a datetime or a str" if key == "expires" else "a str"
        raise TypeError(f"{key} of a cookie must be {allowed}, not {values.type_name(value)}")
    if ";" in value or not value.isprintable():
        raise ValueError(f"{key} of a cookie must be printable, without semicolon: {value!r}")
    if key == "same_site" and value not in ("Strict", "Lax", "None"):
        raise ValueError(f'same_site must be "Strict", "Lax" or "None", not {value!r}')
    return value


def _http_date(moment: datetime) -> str:
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02d} {month} {moment.year:04d} {moment:%H:%M:%S} GMT"
