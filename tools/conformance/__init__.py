# SPDX-License-Identifier: MIT
"""Scripted conformance runs against any WebSocket server, by `python tools/conformance URL`."""

__version__ = "0.1.0"
