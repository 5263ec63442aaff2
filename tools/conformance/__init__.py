"""Scripted conformance runs against any WebSocket server, by `python tools/conformance URL`."""
