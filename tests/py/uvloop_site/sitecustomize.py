# SPDX-License-Identifier: MIT
"""First in PYTHONPATH, this makes uvloop the loop of asyncio, also in all child processes."""

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
