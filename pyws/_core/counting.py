# SPDX-License-Identifier: MIT
"""How many subscribers a topic has in other apps: questions that go through a broker, and answers.

A question goes to the topic itself, so that only processes that have subscribers get it. They
answer at a topic of the process that asks, which no one can guess. See envelope.py for the format.
"""

from __future__ import annotations

import asyncio
import os
import time
from itertools import islice
from typing import Sequence

from . import envelope

__all__ = ["Counting"]

LONGEST_WAIT = 1.0  # seconds for the answers
QUIET = 0.25  # seconds without another answer, if it is not known how many there will be
MOST_ANSWERS = 1000  # that wait for the broker
MOST_SUBSCRIBERS = 2**32  # in an answer, which anyone can send

Messages = Sequence["tuple[bytes, bytes]"]  # a topic and an envelope each


class Question:
    """One question, and what is known of the answers."""

    def __init__(self, topic: bytes, number: bytes) -> None:
        self.topic = topic
        self.number = number
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.processes: set[bytes] = set()  # that have answered
        self.receivers: int | None = None  # how many should; None: not known
        self.sum = 0
        self.changed = 0.0  # when it was asked, or answered last (time.monotonic)
        self.alarm: asyncio.TimerHandle | None = None


class Counting:
    """The questions and answers of one process.

    Attributes:
        reply: The topic of the answers to its questions.
        is_heard: The broker has subscribed this process to that topic.
    """

    def __init__(self, origin: bytes) -> None:
        """`origin` is that of the app."""
        self.reply = b"reply-" + os.urandom(16).hex().encode()
        self.is_heard = False
        self._origin = origin
        self._process = os.urandom(8)
        self._last = 0  # number of the last question
        self._questions: dict[bytes, Question] = {}  # by number
        self._unasked: dict[bytes, Question] = {}  # by topic
        self._answers: list[tuple[bytes, bytes]] = []

    # ---- who asks -------------------------------------------------------------------------------

    def ask(self, topic: bytes) -> Question:
        """A question that waits to be asked; one for all who ask about the topic at a time.

        Its `sum` is what is known once its `done` is done.
        """
        if topic in self._unasked:
            return self._unasked[topic]
        self._last += 1
        number = self._last.to_bytes(8, "big")
        question = self._questions[number] = self._unasked[topic] = Question(topic, number)
        loop = asyncio.get_running_loop()
        question.alarm = loop.call_later(LONGEST_WAIT, self._end, question)
        return question

    def _end(self, question: Question) -> None:
        """Wait for no more answers."""
        if self._questions.pop(question.number, None) is None:
            return
        if self._unasked.get(question.topic) is question:
            del self._unasked[question.topic]
        if question.alarm is not None:
            question.alarm.cancel()
        question.done.set_result(None)

    def asked(self, questions: Sequence[Question], receivers: Sequence[int] | None) -> None:
        """The broker has the questions, and has sent each to so many connections."""
        loop = asyncio.get_running_loop()
        for at, question in enumerate(questions):
            if receivers is None:
                question.changed = time.monotonic()
                loop.call_later(QUIET, self._look, question)
            else:
                question.receivers = receivers[at]
                self._check(question)

    def _check(self, question: Question) -> None:
        if question.receivers is not None and len(question.processes) >= question.receivers:
            self._end(question)

    def _look(self, question: Question) -> None:
        """End a question if the answers have ceased to come."""
        if question.number not in self._questions:
            return
        rest = question.changed + QUIET - time.monotonic()
        if rest <= 0:
            self._end(question)
        else:
            asyncio.get_running_loop().call_later(rest, self._look, question)

    # ---- what there is to send ------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to send."""
        return bool(self._answers or self._unasked)

    @property
    def has_questions(self) -> bool:
        """Whether there is something to ask."""
        return bool(self._unasked)

    def take_answers(self) -> Messages:
        """Answers to questions of others."""
        answers, self._answers = self._answers, []
        return answers

    def take_questions(self, most: int) -> tuple[Sequence[Question], Messages]:
        """Questions, at most so many, and the messages that ask them."""
        questions = list(islice(self._unasked.values(), most))
        for one in questions:
            del self._unasked[one.topic]
        return questions, [
            (one.topic, envelope.pack_question(self._origin, one.number, self.reply))
            for one in questions
        ]

    def clear(self) -> None:
        """The connection to the broker is lost: no answer will come, and none can be sent."""
        self.is_heard = False
        self._answers.clear()
        for question in list(self._questions.values()):
            self._end(question)

    # ---- what arrives ---------------------------------------------------------------------------

    def take_question(self, payload: bytes, subscribers: int) -> bool:
        """Answer a question. Returns False if too many answers wait."""
        number, reply = payload[:8], payload[8:]
        if reply == self.reply:  # it has come back
            self._note(number, self._process, 0)
            return True
        if len(self._answers) >= MOST_ANSWERS:
            return False
        answer = envelope.pack_answer(self._origin, number, self._process, subscribers)
        self._answers.append((reply, answer))
        return True

    def take_answer(self, topic: bytes, origin: bytes, payload: bytes) -> str:
        """Count an answer. Returns what is wrong with it, or ""."""
        number, process, subscribers = envelope.unpack_answer(payload)
        if topic != self.reply or not 0 < int.from_bytes(number, "big") <= self._last:
            return "is an answer to no question of this process"
        if subscribers > MOST_SUBSCRIBERS:
            return f"counts {subscribers} subscribers"
        # The workers of this app are counted by the local bus.
        self._note(number, process, 0 if origin == self._origin else subscribers)
        return ""

    def _note(self, number: bytes, process: bytes, subscribers: int) -> None:
        question = self._questions.get(number)
        if question is None or process in question.processes:  # the answer comes too late, or twice
            return
        question.processes.add(process)
        question.sum += subscribers
        question.changed = time.monotonic()
        self._check(question)
