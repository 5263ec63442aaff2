# SPDX-License-Identifier: MIT
"""Between the topics of an app and a message broker; imported only for apps that have a broker.

C reports the first subscriber of a topic, the last one, and everything that is published here. One
task hands that to the `Broker`, in batches, and connects again when the connection is lost. What
arrives goes to the subscribers in this process. Nothing here waits for the broker: publishing
appends to a queue, which is bounded.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any, Callable, Sequence

from .. import _native
from .._native import lib
from ..brokers import Broker, Link, Refused
from ..history import History
from . import calls, envelope, mistakes
from .contexts import run_in
from .counting import Counting
from .history import LABELLED, NOTICE, Channel, Keeper, Kept
from .limits import TimeLimit
from .logs import escaped, logger, server_logger
from .messages import COMPRESS, is_text
from .outages import Outage, reason_of
from .outbox import MOST_MESSAGES, Outbox, Waiting, portions
from .places import public_url
from .relays import Relay as AnyRelay
from .runtime import Runtime
from .transports import Direct
from .urls import broker_of, check_max_size

__all__ = ["Relay"]

TIMEOUT = 10.0  # seconds for one call of a method of the broker
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0  # seconds until the next attempt to connect; doubles
LONG_LIFE = 10.0  # seconds of a connection after which that begins anew
CONNECT_TIME = 0.5  # seconds that other apps need to connect and subscribe when they try again
CLOSE_TIME = 1.0  # seconds for Broker.close
BURST = 0.00002  # seconds between messages that have come together, and are delivered together

_TEXT = 1  # WS_TEXT


class Relay(AnyRelay, Link):
    """The connection of one app to its broker."""

    def __init__(self, runtime: Runtime, broker: str | Broker, limit: int) -> None:
        """
        Args:
            runtime: The runtime of the app.
            broker: The setting `broker`.
            limit: The setting `broker_queue`: bytes that may wait.

        Raises:
            ImportError: A package is missing.
            ValueError: The URL is wrong.
        """
        self._runtime = runtime
        self._broker = broker_of(broker)
        self._direct = self._broker if isinstance(self._broker, Direct) else None
        check_max_size(self._broker)
        self._name = public_url(broker) if isinstance(broker, str) else str(broker)
        self._outbox = Outbox(limit)
        self._keeper = Keeper(self._deliver_kept, self._announce, self._need, self._wake)
        self._origin = envelope.new_origin()  # workers are forked later, and share it
        codes = [opcode | flag for opcode in (1, 2) for flag in (0, COMPRESS)]
        self._heads = {code: envelope.head(self._origin, code) for code in codes}
        self._listeners: list[Callable[[bool], Any]] = []
        self._published = self._kept = self._received = self._lost = 0
        self._ignored = self._reconnects = 0
        self._reset()

    def _reset(self) -> None:
        self._topics: set[bytes] = set()  # those that have subscribers here
        self._changes: dict[bytes, bool] = {}  # what the broker does not know yet of them
        self._follows = False  # `_changes` is kept: the broker knew all topics once
        # A burst: topic, id of a kept message, opcode, payload.
        self._arrived: list[tuple[bytes, bytes, int, bytes]] = []
        self._last_arrival = 0.0  # when the last one was delivered (time.monotonic)
        self._counting = Counting(self._origin)
        self._outbox.clear()
        self._keeper.reset()
        self._is_full = False  # messages are being lost, and that has been logged
        self._has_missed = False  # so has the first topic of this connection that is not complete
        self._has_refused = False  # so has the first message of it that is not kept
        self._has_refused_length = False  # so has a message that is too long for the broker
        self._is_up: bool | None = None  # None: not known yet
        self._outage = Outage(self._name)
        self._down_since = 0.0
        self._delay = 0.0  # seconds of the last pause between two attempts to connect
        self._hold: asyncio.TimerHandle | None = None  # messages wait until other apps are back
        self._lost_before = self._lost
        self._error: BaseException | None = None  # why the connection is lost
        self._session: asyncio.Task[None] | None = None  # one connection
        self._task: asyncio.Task[None] | None = None  # connects again and again
        self._waiter: asyncio.Future[None] | None = None  # the session has nothing to do
        self._ending = False
        self._in_turn = False  # of the server
        self._flushes = False  # `_flush` will be called

    # ---- the life of a run ----------------------------------------------------------------------

    def get_keeper(self) -> Keeper:
        """What reads what the broker keeps.

        Raises:
            ValueError: It keeps nothing.
            RuntimeError: The app runs already.
        """
        if not self._broker.keeps:
            raise ValueError(f"history needs a broker that keeps messages, unlike {self._name}")
        if self._task is not None:
            raise RuntimeError("a route with history must be added before the app runs")
        return self._keeper

    def keep(self, history: History) -> None:
        """Let the broker keep messages, from the next run on."""
        if history not in self._keeper.histories:
            self._keeper.histories.append(history)
            self._broker.histories = tuple(self._keeper.histories)

    def add_listener(self, fn: Callable[[bool], Any]) -> None:
        """Call ``fn(up)`` when the connection comes and goes."""
        self._listeners.append(fn)

    def begin(self) -> None:
        """Relay what is published from now on; called in the loop, before any connection."""
        if owners.get(id(self._broker), self) is not self:
            raise RuntimeError(
                f"another app that runs uses the same object as its broker ({self._name}): make "
                "one object for each app"
            )
        owners[id(self._broker)] = self
        self._reset()
        self._loop = asyncio.get_running_loop()
        self._limit = TimeLimit(TIMEOUT, self.lost)  # for each call of the broker
        self._end_begins: asyncio.Future[None] = self._loop.create_future()
        self._key = self._runtime.key
        relays[self._key] = self
        on_take = ON_TAKE if self._keeper.histories else None
        calls.set_relay(self._runtime.server, (ON_TOPIC, ON_PUBLISH, ON_END), self._key, on_take)
        self._task = self._loop.create_task(self._run())

    async def end(self, seconds: float) -> None:
        """Wait until everything is published, but not longer than this, and disconnect."""
        task = self._task
        if task is None:
            return
        self._ending = True
        self._follows = False  # no subscriptions matter any more
        self._changes.clear()
        self._end_begins.set_result(None)
        self._wake()
        with suppress(asyncio.CancelledError):  # a second signal, or cancellation: drop everything
            await asyncio.wait([task], timeout=seconds)
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        self.leave()
        lost = self._lost - self._lost_before
        if lost:
            logger.warning("%d messages for the broker %s were lost", lost, self._name)

    def leave(self) -> None:
        """Relay nothing any more. The tasks may never run again: the loop may be closed."""
        task, self._task = self._task, None
        if task is None:
            return
        relays.pop(self._key, None)
        owners.pop(id(self._broker), None)
        if self._runtime.server and not self._runtime.refusal:
            calls.set_relay(self._runtime.server, None, 0)
        self._limit.cancel()
        self._end_hold()
        if not self._loop.is_closed():
            for one in (task, self._session):
                if one is not None:
                    one.cancel()
        self._lost += self._outbox.clear()

    def descriptors(self) -> list[int]:
        """The connection to the broker, which a forked child must not keep alive."""
        fd = self._broker.fileno() if self._task is not None else -1
        return [fd] if fd >= 0 else []

    async def count(self, topic: bytes) -> int:
        """How many subscribers a topic has in the other apps that answer in time.

        0 while the broker is away.
        """
        if self._is_up is not True or self._ending or self._task is None:
            return 0
        question = self._counting.ask(topic)
        self._wake()
        await asyncio.wait([question.done])
        return question.sum

    # ---- what C reports -------------------------------------------------------------------------

    def on_topic(self, topic: bytes, exists: bool) -> None:
        """A topic has got its first subscriber here, or lost its last one."""
        self._keeper.on_topic(topic, exists)

    def _need(self, topic: bytes, is_needed: bool) -> None:
        """This process needs a topic of the broker, or does so no longer."""
        if is_needed:
            self._topics.add(topic)
        else:
            self._topics.discard(topic)
        if self._follows and self._changes.get(topic, is_needed) is is_needed:
            self._changes[topic] = is_needed
            self._wake()
            return
        self._changes.pop(topic, None)  # the broker has not got the opposite yet
        if not is_needed:
            self._keeper.forget(topic)

    def on_take(self, topic: bytes) -> History | None:
        """A message is about to be published; returns how much is kept if `on_append` follows."""
        return self._keeper.find(topic)

    def on_append(self, topic: bytes, data: bytes, opcode: int, history: History) -> None:
        """A message was published here, at a topic with history."""
        self._put(topic, self._heads[opcode] + data, history)

    def on_publish(self, topic: bytes, data: bytes, opcode: int) -> None:
        """A message was published here; the opcode has the flag of the library."""
        self._put(topic, self._heads[opcode] + data)

    def on_end(self, topic: bytes, code: int, reason: bytes) -> None:
        """The connections of a topic were ended here."""
        self._put(topic, envelope.pack_end(self._origin, code, reason))

    def _put(self, topic: bytes, data: bytes, history: History | None = None) -> None:
        if self._is_too_long(data) or not self._outbox.put(topic, data, history):
            self._refuse(data)
        elif self._waiter is not None and not (self._flushes or self._outbox.under_way):
            self._flushes = True
            if not self._in_turn:
                self._loop.call_soon(self._flush)

    def _is_too_long(self, data: bytes) -> bool:
        return 0 < self._broker.max_size < len(data)

    def _refuse(self, data: bytes) -> None:
        """Lose a message, and log the first one that is too long, or of a row.

        The line is written later: a log handler of the program may call the app, which is not
        allowed in the midst of a publish.
        """
        self._lost += 1
        if self._is_too_long(data):
            if self._has_refused_length:
                return
            self._has_refused_length = True
            line = "a message of %d bytes is lost, the broker %s takes at most %d (logged once)"
            most = self._broker.max_size
            self._loop.call_soon(logger.warning, line, len(data), self._name, most)
        elif not self._is_full:
            self._is_full = True
            line = "messages for the broker %s are lost: more than broker_queue %d bytes wait"
            self._loop.call_soon(logger.warning, line, self._name, self._outbox.limit)

    # ---- what the broker reports ----------------------------------------------------------------

    def receive(self, topic: bytes, data: bytes, id: bytes = b"") -> None:
        """Deliver what has arrived; see `Link.receive`."""
        if type(topic) is not bytes or type(data) is not bytes:
            kinds = f"{type(topic).__name__} and {type(data).__name__}"
            raise TypeError(f"Link.receive() needs topic and data as bytes, not {kinds}")
        message = envelope.unpack(data)
        if message is None:
            self._ignore(topic, "is not of pyws")
            return
        origin, opcode, payload = message
        if opcode < 0:
            self._receive_count(topic, origin, opcode, payload)
        elif origin == self._origin and not id:
            return
        elif self._arrived:
            self._arrived.append((topic, id, opcode, payload))
        elif time.monotonic() - self._last_arrival < BURST:
            self._runtime.postpone(self._deliver_arrived)
            self._arrived.append((topic, id, opcode, payload))
        else:
            self._deliver(topic, id, opcode, payload)
            self._last_arrival = time.monotonic()

    def _deliver_arrived(self) -> None:
        """Deliver a burst, in a turn of the server: it writes to each subscriber once."""
        arrived, self._arrived = self._arrived, []
        for message in arrived:
            self._deliver(*message)
        self._last_arrival = time.monotonic()

    def _deliver(self, topic: bytes, id: bytes, opcode: int, payload: bytes) -> None:
        server = self._runtime.server
        if not server:
            return
        try:
            if opcode & _TEXT and not is_text(payload):
                raise ValueError("its text is not UTF-8")
            if id and opcode and self._keeper.receive(topic, (id, opcode, payload)):
                return
            if opcode:
                lib.ws_server_deliver(server, topic, len(topic), payload, len(payload), opcode)
            else:
                code, reason = int.from_bytes(payload[:2], "big"), payload[2:]
                lib.ws_server_end_topic_here(server, topic, len(topic), code, reason, len(reason))
        except Exception as error:
            self._ignore(topic, f"is wrong: {error}")
            return
        self._received += 1

    def _deliver_kept(self, channel: Channel, message: Kept) -> None:
        """Deliver a message of a topic with history."""
        id, opcode, payload = message
        topic, data = channel.topic, channel.label(id) + payload
        server = self._runtime.server
        lib.ws_server_deliver(server, topic, len(topic), data, len(data), opcode | LABELLED)
        self._received += 1

    def _announce(self, topic: bytes, notice: bytes) -> None:
        """Tell the subscribers who take labels that messages are missing; log the first topic."""
        server, code = self._runtime.server, _TEXT | LABELLED | NOTICE
        lib.ws_server_deliver(server, topic, len(topic), notice, len(notice), code)
        if not self._has_missed:
            self._has_missed = True
            shown = escaped(topic.decode("utf-8", "replace"))
            line = 'subscribers of "%s" have missed messages that the broker %s does not keep any'
            more = " more, perhaps those of other topics, too (logged once for each connection)"
            logger.warning(line + more, shown, self._name)

    def _receive_count(self, topic: bytes, origin: bytes, opcode: int, payload: bytes) -> None:
        """A question how many subscribers a topic has here, or an answer to one of this process."""
        if opcode == -envelope.ANSWER:
            why = self._counting.take_answer(topic, origin, payload)
        else:
            server = self._runtime.server
            found = int(lib.ws_server_subscribers(server, topic, len(topic))) if server else 0
            fits = self._counting.take_question(payload, found)
            why = "" if fits else "is one of too many questions for App.count"
            self._wake()
        if why:
            self._ignore(topic, why)

    def _ignore(self, topic: bytes, why: str) -> None:
        """Count a message that is not delivered, and log the first one."""
        self._ignored += 1
        if self._ignored == 1:
            shown = escaped(topic.decode("utf-8", "replace"))
            line = 'a message of the broker %s at topic "%s" was ignored, it %s'
            logger.warning(line + " (logged once)", self._name, shown, why)

    def lost(self, error: BaseException) -> None:
        """End the connection; see `Link.lost`."""
        if not isinstance(error, BaseException):
            kind = type(error).__name__
            raise TypeError(f"Link.lost() needs the exception that says why, not {kind}")
        session = self._session
        if session is not None and self._error is None and not session.done():
            self._error = error
            session.cancel()

    def refused(self, error: BaseException) -> None:
        """Log what the broker does not accept; see `Link.refused`."""
        line = "the broker %s: %s (logged once for each connection)"
        logger.warning(line, self._name, escaped(reason_of(error)))

    # ---- the task -------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep a connection until the end."""
        while True:
            began = time.monotonic()
            self._error = None
            session = self._session = self._loop.create_task(self._serve())
            try:
                await asyncio.wait([session])
            except asyncio.CancelledError:
                session.cancel()
                await asyncio.wait([session], timeout=CLOSE_TIME)
                await self._disconnect()
                raise
            error = (
                ConnectionError("it was cancelled") if session.cancelled() else session.exception()
            )
            self._limit.end()
            self._lost += len(self._outbox.under_way)
            self._outbox.arrived()
            self._follows = False
            self._counting.clear()
            self._end_hold()
            self._keeper.disconnected()
            await self._disconnect()
            if error is None:
                return
            self._went_down(self._error or error)
            if self._is_done():
                return
            if time.monotonic() - began >= LONG_LIFE:
                self._delay = 0.0
            self._delay = min(max(2 * self._delay, FIRST_DELAY), LONGEST_DELAY)
            await self._pause(self._delay * random.uniform(0.5, 1))
            if self._is_done():
                return

    def _is_done(self) -> bool:
        return self._ending and not self._outbox

    async def _pause(self, seconds: float) -> None:
        """Wait, but not once there is nothing more to do."""
        if self._ending:
            await asyncio.sleep(seconds)
            return
        await asyncio.wait([self._end_begins], timeout=seconds)

    async def _disconnect(self) -> None:
        try:
            await asyncio.wait_for(self._broker.close(), CLOSE_TIME)
        except Exception as error:
            logger.debug("closing the connection to the broker %s: %r", self._name, error)

    async def _serve(self) -> None:
        """The life of one connection. Raises what the broker does, CancelledError after `lost`."""
        await self._limit.wait(self._broker.connect(self))
        check_max_size(self._broker)
        if not self._ending:
            self._changes = dict.fromkeys(self._topics, True)
            self._follows = True
        while self._changes:
            await self._tell_changes()
        self._came_up()
        while True:
            if self._changes:
                await self._tell_changes()
            if self._counting.is_waiting:
                await self._exchange_counts()
            if self._reads():
                requests = self._keeper.next_requests()
                await self._keeper.on_pages(await self._limit.wait(self._broker.read(requests)))
            if self._outbox and not self._is_held():
                await self._publish()
            elif not self._has_work():
                if self._ending:
                    return
                self._waiter = self._loop.create_future()
                await self._waiter

    def _has_work(self) -> bool:
        """Whether there is something to do besides publishing."""
        return bool(self._changes) or self._counting.is_waiting or self._reads()

    def _begin_hold(self, seconds_away: float) -> None:
        """Let messages wait until the other apps are back, too, which would miss them otherwise.

        They have noticed the outage at the same time, probably, and wait for their next attempt:
        not longer than twice the time that it has lasted.
        """
        seconds = min(2 * max(seconds_away, self._delay), LONGEST_DELAY) + CONNECT_TIME
        self._hold = self._loop.call_later(seconds, self._end_hold)

    def _end_hold(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.cancel()
            self._wake()

    def _is_held(self) -> bool:
        """What has history need not wait: the others will read it."""
        if self._hold is None or self._ending or self._outbox.is_kept_next:
            return False
        return self._outbox.size <= self._outbox.limit // 2

    def _reads(self) -> bool:
        """Whether there is something to read; nothing any more at the end."""
        return self._keeper.has_requests and not self._ending

    async def _exchange_counts(self) -> None:
        """Answer the questions of others, and ask those of this process."""
        counting, broker = self._counting, self._broker
        answers = counting.take_answers()
        for at in range(0, len(answers), MOST_MESSAGES):
            await self._limit.wait(broker.publish(answers[at : at + MOST_MESSAGES]))
        if counting.has_questions and not counting.is_heard:
            await self._limit.wait(broker.subscribe([counting.reply]))
            counting.is_heard = True
        while counting.has_questions:
            questions, messages = counting.take_questions(MOST_MESSAGES)
            receivers = await self._limit.wait(broker.publish_counted(messages))
            counting.asked(questions, receivers)

    async def _tell_changes(self) -> None:
        """Subscribe to what has subscribers by now, then unsubscribe from what has none."""
        changes, self._changes = self._changes, {}
        begun = [topic for topic, is_needed in changes.items() if is_needed]
        ended = [topic for topic, is_needed in changes.items() if not is_needed]
        for topic in ended:  # whoever needs it from now on begins anew
            self._keeper.forget(topic)
        for batch in portions(begun):
            for requests in self._keeper.positions(batch):
                pages = await self._limit.wait(self._broker.read(requests))
                self._keeper.on_positions(requests, pages)
            await self._limit.wait(self._broker.subscribe(batch))
            self._keeper.subscribed(batch)
        for batch in portions(ended):
            await self._limit.wait(self._broker.unsubscribe(batch))

    async def _publish(self) -> None:
        """Publish, or append, the first messages of the queue."""
        batch = self._take()
        if not batch:
            return
        if batch[0].history is None:
            await self._limit.wait(self._broker.publish([one[:2] for one in batch]))
            self._published += len(batch)
        else:
            kept = [(topic, data, history) for topic, data, _, history in batch if history]
            try:
                await self._limit.wait(self._broker.append(kept))
            except Refused as error:
                self._not_kept(len(batch), error)
            except BaseException:
                self._outbox.give_back()  # nothing any more if the app has ended meanwhile
                raise
            self._kept += len(batch)
        self._arrived_there()

    def _not_kept(self, count: int, error: Refused) -> None:
        """The broker does not keep some messages of a batch, and `_publish` counts all as kept."""
        self._lost += error.messages or count
        self._kept -= error.messages or count
        if not self._has_refused:
            self.refused(error)
        self._has_refused = True

    def _take(self) -> Sequence[Waiting]:
        """The next messages to publish, or append, in one call."""
        batch, too_long = self._outbox.take(self._broker.max_size)
        for one in too_long:
            self._refuse(one.data)
        return batch

    def _arrived_there(self) -> None:
        """The broker has accepted what was under way."""
        outbox = self._outbox
        outbox.arrived()
        if self._is_full and outbox.size <= outbox.limit // 2:
            self._is_full = False
            line = "the queue for the broker %s has room again, %d messages were lost"
            server_logger.info(line, self._name, self._lost - self._lost_before)
            self._lost_before = self._lost

    def _wake(self) -> None:
        """Let the session go on; `_on_published` does it if messages are under way without it."""
        if self._outbox.under_way:
            return
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done() and not self._loop.is_closed():
            waiter.set_result(None)

    # ---- publishing without the session, which has nothing to do -------------------------------

    def turn(self, turn: Callable[..., Any], *args: Any) -> None:
        """Run a turn of the server, and publish at its end what has been published in it."""
        self._in_turn = True
        try:
            turn(*args)
        finally:
            self._in_turn = False
            if self._flushes:
                self._flush()

    def _flush(self) -> None:
        """Publish what waits, as far as that is possible now."""
        self._flushes = False
        waiter, outbox = self._waiter, self._outbox
        if waiter is None or waiter.done() or outbox.under_way or not self._runtime.owner:
            return  # the session, or `_on_published`, will do it; or this is a forked child
        if self._direct is None or outbox.is_kept_next:
            self._wake()
        elif not self._is_held():
            batch = self._take()
            if batch:
                self._limit.begin()
                try:
                    self._direct.begin_publish([one[:2] for one in batch], self._on_published)
                except Exception as error:  # as one of another method of the broker
                    self.lost(error)

    def _on_published(self) -> None:
        self._limit.end()
        self._published += len(self._outbox.under_way)
        self._arrived_there()
        if self._has_work() or self._ending:
            self._wake()
        elif self._outbox:
            self._flush()

    # ---- reports --------------------------------------------------------------------------------

    def _came_up(self) -> None:
        if self._is_up is False:
            self._reconnects += 1
            self._begin_hold(time.monotonic() - self._down_since)
            server_logger.warning(  # as the line that it was away
                "the broker %s is back after %.1f s, %d messages were lost and %d have waited",
                self._name,
                time.monotonic() - self._down_since,
                self._lost - self._lost_before,
                len(self._outbox),
            )
        else:
            server_logger.info("connected to the broker %s", self._name)
        self._lost_before = self._lost
        self._is_full = self._has_missed = self._has_refused = False
        self._set_up(True)

    def _went_down(self, error: BaseException) -> None:
        if self._is_up is False:
            self._outage.report("is still away", error)
            return
        self._outage = Outage(self._name)
        self._outage.report("cannot be reached" if self._is_up is None else "is away", error)
        self._down_since = time.monotonic()
        self._set_up(False)

    def _set_up(self, up: bool) -> None:
        self._is_up = up
        what, context = "an on_broker function", self._runtime.context
        for fn in self._listeners:
            try:
                mistakes.check_result(what, fn, run_in(context, fn, up))
            except BaseException as error:
                self._runtime.handler_failed(what, error, fn, context)

    def numbers(self) -> dict[str, int]:
        """What `App.stats` says of the broker."""
        return {
            "broker_published": self._published,
            "broker_kept": self._kept,
            "broker_received": self._received,
            "broker_replayed": self._keeper.replayed,
            "broker_incomplete": self._keeper.incomplete,
            "broker_lost": self._lost,
            "broker_ignored": self._ignored,
            "broker_reconnects": self._reconnects,
            "broker_up": int(self._is_up is True),
            "broker_queued": self._outbox.size,
            "broker_lag": int(self._outbox.lag() * 1000),
        }


# ---- called by C --------------------------------------------------------------------------------

relays: dict[int, Relay] = {}  # key of the runtime -> the relay, while the app runs
owners: dict[int, Relay] = {}  # id of a Broker -> the relay that uses it


def _on_topic(topic: Any, length: int, exists: bool, key: int) -> None:
    relay = relays.get(key)
    if relay is not None:
        relay.on_topic(topic[:length], exists)


def _on_take(topic: Any, topic_length: int, data: Any, length: int, opcode: int, key: int) -> bool:
    relay = relays.get(key)
    if relay is None:
        return False
    name = topic[:topic_length]
    history = relay.on_take(name)
    if history is not None:
        relay.on_append(name, data[:length], opcode, history)
    return history is not None


def _on_publish(
    topic: Any, topic_length: int, data: Any, length: int, opcode: int, key: int
) -> None:
    relay = relays.get(key)
    if relay is not None:
        relay.on_publish(topic[:topic_length], data[:length], opcode)


def _on_end(topic: Any, topic_length: int, code: int, reason: Any, length: int, key: int) -> None:
    relay = relays.get(key)
    if relay is not None:
        relay.on_end(topic[:topic_length], code, reason[:length] if length else b"")


ON_TOPIC = _native.topic_function(_on_topic)
ON_TAKE = _native.take_function(_on_take)
ON_PUBLISH = _native.publish_function(_on_publish)
ON_END = _native.end_function(_on_end)
