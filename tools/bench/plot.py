# SPDX-License-Identifier: MIT
"""The picture of compare.py: bars for each case, as an SVG for light and dark pages."""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import escape

from cases import CASES
from results import Results

COLUMNS = 2
WIDTH, GAP, MARGIN = 430, 30, 20  # of a panel; between panels; around all
NAMES, BARS, ROW, BAR, HEAD = 116, 195, 18, 12, 40  # columns and lines within a panel
OWN = {
    "c": "pyws, C",
    "python": "pyws, Python",
    "python-ctypes": "pyws, ctypes",
    "coroutine": "pyws, coroutine",
    "session": "pyws, session",
}
TITLES = {
    "p1": "64 B text, one message in flight",
    "p16": "64 B text, 16 messages in flight",
    "1k": "1 KiB text",
    "64k": "64 KiB binary",
    "connect": "Connect, handshake, close",
    "idle": "An idle connection",
    "broadcast": "Broadcast to 500 subscribers",
    "deflate": "1 KiB JSON, compressed",
}
UNITS = {
    "cpu_us_per_message": "µs for a message",
    "cpu_us_per_connect": "µs for a connection",
    "cpu_us_per_delivery": "µs for a delivery",
    "rss_bytes_per_connection": "bytes of memory",
}
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#59636e}.n,.t{fill:#1f2328}"
    ".t{font-weight:600;font-size:13px}.n{text-anchor:end}.o{font-weight:600}"
    f"path{{stroke-width:{BAR}}}.b{{fill:#fff}}.f{{stroke:#8c959f}}.p{{stroke:#1a7f5a}}"
    ".x{stroke:#9db8d8}@media(prefers-color-scheme:dark){text{fill:#9198a1}.n,.t{fill:#e6edf3}"
    ".b{fill:#0d1117}.f{stroke:#6e7681}.p{stroke:#3fb984}.x{stroke:#3d5a80}}"
)


class Bar(NamedTuple):
    name: str
    value: float
    ratio: float | None


def bars(results: Results, key: str) -> list[Bar]:
    """Return the bars that have a value, smallest first."""
    case, found = CASES[key], []
    for name, cell in results.cases[key].items():
        value = cell.median(case.metric)
        if value is not None and not cell.errors and name not in case.sides:
            ratio = cell.ratio(results.base(key), case.metric) if case.is_time else None
            found.append(Bar(name, value, ratio))
    return sorted(found, key=lambda bar: bar.value)


def number(value: float) -> str:
    """Format a number with three significant digits."""
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def place(x: float, y: float) -> str:
    return f'x="{x:g}" y="{y:g}"'


def draw_bar(bar: Bar, most: float, y: int) -> list[str]:
    kind = "f" if bar.name == "floor" else "p" if bar.name in OWN else "x"
    mark = "n o" if kind == "p" else "n"
    length = max(1, round(BARS * bar.value / most)) if most > 0 else 1
    told = number(bar.value) + (f" · {number(bar.ratio)}\u00d7" if bar.ratio else "")
    text = y + BAR - 2
    name = escape(OWN.get(bar.name, bar.name))
    return [
        f'<text class="{mark}" {place(NAMES - 6, text)}>{name}</text>',
        f'<path class="{kind}" d="M{NAMES} {y + BAR // 2}h{length}"/>',
        f"<text {place(NAMES + length + 5, text)}>{told}</text>",
    ]


def draw_panel(results: Results, key: str, x: int, y: int) -> list[str]:
    shown = bars(results, key)
    most = max((bar.value for bar in shown), default=0.0)
    unit = UNITS[CASES[key].metric]
    lines = [
        f'<g transform="translate({x} {y})">',
        f'<text class="t" {place(0, 12)}>{TITLES[key]}</text>',
        f"<text {place(0, 28)}>{unit}{ratio_to(key)}</text>",
    ]
    for index, bar in enumerate(shown):
        lines += draw_bar(bar, most, HEAD + index * ROW)
    return [*lines, "</g>"]


def ratio_to(key: str) -> str:
    if not CASES[key].is_time:
        return ""
    base = "plain echo in C and zlib alone" if CASES[key].sides else "the floor"
    return f" · ratio to {base}"


def draw(results: Results) -> str:
    keys = list(results.cases)
    tallest = max((len(bars(results, key)) for key in keys), default=0)
    step = HEAD + tallest * ROW + 24
    lines = []
    for index, key in enumerate(keys):
        x = MARGIN + index % COLUMNS * (WIDTH + GAP)
        lines += draw_panel(results, key, x, MARGIN + index // COLUMNS * step)
    width = 2 * MARGIN + COLUMNS * WIDTH + (COLUMNS - 1) * GAP
    height = 2 * MARGIN + -(-len(keys) // COLUMNS) * step - 24
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'width="{width}" height="{height}">'
    )
    title = "<title>CPU time of WebSocket servers, less is better</title>"
    back = f'<rect class="b" width="{width}" height="{height}" rx="8"/>'
    return "\n".join([head, title, f"<style>{STYLE}</style>", back, *lines, "</svg>", ""])
