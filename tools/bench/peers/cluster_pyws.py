# SPDX-License-Identifier: MIT
"""Topics of pyws across processes: messages to /publish go to the clients of /subscribe.

With --workers N, the workers of one app; with --broker URL, this app and others with the same
broker; with neither, one process. --asyncio and --uvloop choose the loop of an app without workers.
Messages to /timed are published, too, and the times of the calls are printed when it is closed.
"""

import argparse
import asyncio
import gc
import os
import time
from typing import Any, List, Union

from pyws import App, AppListenOptions, OpCode, Request, Response, WebSocket

TOPIC = "all"


def subscribe(ws: WebSocket) -> None:
    ws.subscribe(TOPIC)


def accept(res: Response, req: Request, context: Any) -> None:
    """Name the process that has accepted."""
    res.write_header("X-Process", str(os.getpid()))
    res.upgrade(req.get_header("sec-websocket-key"), "", "", context, None)


def report(times: List[int]) -> None:
    """Print the longest calls, in microseconds."""
    times.sort()
    late = times[int(len(times) * 0.999)] if times else 0
    slow = sum(one > 100_000 for one in times)
    longest = times[-1] if times else 0
    print(
        f"publish calls {len(times)} slow {slow} p999 {late / 1e3} max {longest / 1e3}", flush=True
    )
    times.clear()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--broker")
    parser.add_argument("--asyncio", action="store_true")
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    app = App(broker=options.broker)
    times: List[int] = []

    def publish(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
        app.publish(TOPIC, message)

    def timed(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
        began = time.perf_counter_ns()
        app.publish(TOPIC, message)
        times.append(time.perf_counter_ns() - began)

    app.ws("/subscribe", upgrade=accept, open=subscribe)
    app.ws("/publish", upgrade=accept, message=publish)
    app.ws("/timed", upgrade=accept, message=timed, close=lambda *_: report(times))
    app.listen(
        AppListenOptions(host="127.0.0.1", port=0),
        lambda place: print(f"listening on 127.0.0.1:{place.port}", flush=True),
    )
    gc.freeze()
    if options.uvloop:
        import uvloop  # type: ignore[import-not-found, unused-ignore]

        uvloop.run(app.serve())
    elif options.asyncio:
        asyncio.run(app.serve())
    else:
        app.run(workers=options.workers)


if __name__ == "__main__":
    main()
