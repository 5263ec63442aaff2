# SPDX-License-Identifier: MIT
"""Where an app is in its life: `Runtime.set_state` alone changes that."""

from __future__ import annotations

from enum import Enum

__all__ = ["BUSY", "OPEN", "REFUSALS", "State"]


class State(Enum):
    """The states of an app.

               begin           finish
        IDLE --------> RUNNING ------> FINISHING --------> STOPPED
         ^                |                ^                  |
         |                | supervise      | end_supervision  |
         |                v                |                  |
         |           SUPERVISING ----------+                  |
         |                         listen                     |
         +----------------------------------------------------+

    STOPPED may begin again, too, where it listens afterwards (`serve` with an address). `free`
    leads from each of them to FREED. A fork leads to FORKED in the child, which stays there, unless
    it is a worker: `renew` leads it to IDLE.
    """

    IDLE = "idle"
    """Nothing runs."""
    RUNNING = "running"
    """A thread serves: in run(), serve() or serving()."""
    SUPERVISING = "supervising"
    """The workers serve, and this process watches over them."""
    FINISHING = "finishing"
    """The server has shut down; what was deferred still runs."""
    STOPPED = "stopped"
    """run() has returned, and nothing may be deferred until the app listens again."""
    FORKED = "forked"
    """This is a forked child, where nothing works."""
    FREED = "freed"
    """There is no server any more."""


BUSY = (State.RUNNING, State.SUPERVISING, State.FINISHING)
OPEN = (State.IDLE, State.RUNNING)  # calls may be deferred
REFUSALS = {
    State.SUPERVISING: "the workers of run() serve, this process only watches over them",
    State.FORKED: "this app belongs to the process that made it: a forked child needs an App of "
    "its own",
}
