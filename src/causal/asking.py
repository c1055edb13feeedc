"""How an endpoint is asked what it has applied, and how those share an answer who need it at the same time.

Owns the question, not when it is asked: that is the gate's decision, or the feed's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from causal.core.waiting import WaitQueue
from causal.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from causal.core.view import View
    from causal.engine import AsyncLink, Link
    from causal.state import StoreState

PROBE_TIMEOUT_S: Final = 1.0
"""How long an answer is waited for that a request cannot go on without."""
LEAST_S: Final = 0.02
"""How long any answer is waited for, however little is left: who is a little late does not count as gone."""


def worth_s(state: StoreState, name: str, within_s: float | None) -> float:
    """Return how long an answer is worth waiting for. Who is known to be far away is given the time that takes."""
    if within_s is None:
        return PROBE_TIMEOUT_S
    known = state.view.of(name)
    return min(PROBE_TIMEOUT_S, max(within_s, LEAST_S, 2 * known.latency_s if known is not None else 0.0))


def probe(state: StoreState, link: Link[Any, Any], name: str, timeout_s: float) -> View:
    """Ask one endpoint, and return what is known then."""
    asked, asked_at = state.number_now(), state.monotonic()
    try:
        watermarks = link.probe(name, timeout_s)
    except StoreError as error:  # a damaged endpoint is gone round like one that does not answer
        return state.failed(name, error, asked)
    return state.observe(name, watermarks, asked, asked_at)


async def aprobe(state: StoreState, link: AsyncLink[Any, Any], name: str, timeout_s: float) -> View:
    """Ask one endpoint, and return what is known then."""
    asked, asked_at = state.number_now(), state.monotonic()
    try:
        watermarks = await link.probe(name, timeout_s)
    except StoreError as error:
        return state.failed(name, error, asked)
    return state.observe(name, watermarks, asked, asked_at)


class Sleeper:
    """One waiting thread: woken by its event; `leads` says that it polls for all."""

    __slots__ = ("event", "leads")

    def __init__(self) -> None:
        self.event = threading.Event()
        self.leads = False


class Line:
    """The reads that wait at one endpoint, and whether one of them polls it; and whether a question to it is under way."""

    __slots__ = ("asked", "asking", "lock", "polling", "queue")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.queue: WaitQueue[Sleeper] = WaitQueue()
        self.polling = False
        self.asked = threading.Condition(threading.Lock())
        self.asking = False

    def ask(self, question: Callable[[], object], answered: Callable[[], bool], within_s: float) -> bool:
        """Ask, or share an answer to a question that was sent late enough: one at a time is under way.

        Returns False if that took longer than `within_s`, because of a question that others have asked.
        """
        deadline = time.monotonic() + within_s
        with self.asked:
            while self.asking:
                if not self.asked.wait(deadline - time.monotonic()):
                    return False
                if answered():
                    return True
            self.asking = True
        try:
            question()
        finally:
            with self.asked:
                self.asking = False
                self.asked.notify_all()
        return True


class AsyncLine:
    """The reads that wait at one endpoint, and the one task that polls it for them."""

    __slots__ = ("poller", "queue")

    def __init__(self) -> None:
        self.queue: WaitQueue[asyncio.Future[None]] = WaitQueue()
        self.poller: asyncio.Task[None] | None = None


async def together(questions: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Ask all at once. None outlasts who asked: if one fails, or the caller is cancelled, the others are ended first."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
