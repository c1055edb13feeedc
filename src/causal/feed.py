"""What keeps a store's knowledge new while it is in use, so that the common read needs no question of its own.

Owns when to ask, and the threads or tasks that do: one for each endpoint, because a server that hangs must not delay the others. How a
question is asked is in `asking.py`, what its answer means in `core/`. None of them keeps a forgotten store alive, or a process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from causal.asking import PROBE_TIMEOUT_S, aprobe, probe
from causal.session import log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from causal.engine import AsyncLink, Endpoint, Link
    from causal.state import StoreState

IDLE_S: Final = 1.0
"""How long after its last block a store counts as in use; and how often it asks from then on."""
JOIN_S: Final = 2 * PROBE_TIMEOUT_S
"""How long a store that is closed waits for its questions to end. HAZARD: an engine that heeds no timeout leaves its thread behind."""


class _Following:
    """How often to ask, and whom: what both kinds have in common."""

    __slots__ = ("busy_at", "idle", "listed", "poll_s", "polled", "state")

    def __init__(self, state: StoreState, poll_s: float, polled: Callable[[str], bool]) -> None:
        self.state, self.poll_s, self.polled = state, poll_s, polled
        self.busy_at = time.monotonic()
        self.idle = False
        self.listed: Sequence[Endpoint] = ()

    def pause_s(self) -> float:
        """Return how long to pause now, and note whether that is for want of work."""
        state, now = self.state, time.monotonic()
        if state.used:
            state.used, self.busy_at = False, now
        self.idle = now - self.busy_at >= IDLE_S
        return max(IDLE_S, self.poll_s) if self.idle else self.poll_s * state.random.uniform(0.8, 1.0)

    def changed(self, endpoints: Sequence[Endpoint]) -> bool:
        """Take over the list of endpoints, if it is another one than before."""
        if (listed := tuple(endpoints)) == self.listed:
            return False
        self.state.known(listed)
        self.listed = listed
        return True

    def leave(self) -> None:
        """Be told of use no more, unless another feed is already."""
        if self.state.woken == self.wake:
            self.state.woken = None

    def wake(self) -> None:
        """Ask at once if the store was idle."""
        raise NotImplementedError("threads and tasks are woken each in their own way")

    def left(self, name: str) -> bool:
        """Return whether an endpoint has left. Of a list without any, the last ones stay, to see who comes."""
        return bool(self.listed) and all(endpoint.name != name for endpoint in self.listed)


class _Turn:
    """What the threads wait on, and whether they are to end."""

    __slots__ = ("condition", "ended")

    def __init__(self) -> None:
        self.condition = (
            threading.Condition()
        )  # reentrant: the garbage collector may find a forgotten store at any moment
        self.ended = False

    def end(self) -> None:
        with self.condition:
            self.ended = True
            self.condition.notify_all()


class Feed(_Following):
    """The threads that ask for a `CausalStore`, which alone keeps this alive. Thread-safety: safe from any thread."""

    __slots__ = ("__weakref__", "_forgotten", "_link", "_threads", "_turn")

    def __init__(self, state: StoreState, link: Link[Any, Any], poll_s: float, polled: Callable[[str], bool]) -> None:
        super().__init__(state, poll_s, polled)
        self._link = link
        self._turn = _Turn()
        self._threads: dict[str, threading.Thread] = {}
        self._forgotten = weakref.finalize(self, self._turn.end)
        self._forgotten.atexit = False
        state.woken = self.wake
        self._follow()

    def wake(self) -> None:
        """Ask at once if the store was idle."""
        with self._turn.condition:
            if self.idle:
                self.idle, self.busy_at = False, time.monotonic()
                self._turn.condition.notify_all()

    def end(self) -> None:
        """Let every thread end. Idempotent."""
        self.leave()
        self._turn.end()

    def join(self) -> None:
        """Wait until they have ended, for a bounded time."""
        deadline = time.monotonic() + JOIN_S
        for thread in list(self._threads.values()):
            thread.join(max(0.0, deadline - time.monotonic()))

    def forked(self) -> None:
        """In a forked child: the threads are the parent's, and what they wait on may be locked for ever."""
        self._forgotten.detach()

    def ask(self, name: str) -> None:
        """Ask one endpoint, unless it is polled anyway, and follow those that join and leave."""
        if not self.polled(name):
            try:
                probe(self.state, self._link, name, PROBE_TIMEOUT_S)
                self._follow()
            except Exception as error:  # noqa: BLE001 - whoever needs the answer asks, too, and is told
                if not self._turn.ended:
                    log.warning("asking %s failed: %s", name, type(error).__name__)

    def _follow(self) -> None:
        turn = self._turn
        with turn.condition:
            if turn.ended or not self.changed(self._link.endpoints):
                return
            alive = {name: thread for name, thread in self._threads.items() if thread.is_alive()}
            for name in (endpoint.name for endpoint in self.listed):
                if name not in alive:
                    args = weakref.ref(self), turn, name
                    alive[name] = threading.Thread(target=_ask, args=args, name=f"causal feed {name}", daemon=True)
                    alive[name].start()
            self._threads = alive


def _ask(ref: weakref.ref[Feed], turn: _Turn, name: str) -> None:
    """Ask one endpoint again and again. Between two questions nothing of the store is held."""
    while (feed := ref()) is not None:
        with turn.condition:
            pause_s = feed.pause_s()
            del feed
            if not turn.ended:
                turn.condition.wait(pause_s)
            if turn.ended:
                return
        feed = ref()
        if feed is None or feed.left(name):
            return
        feed.ask(name)
        del feed


class AsyncFeed(_Following):
    """The tasks that ask for an `AsyncCausalStore`, which alone keeps this alive. Thread-safety: one event loop."""

    __slots__ = ("__weakref__", "_awake", "_link", "_tasks")

    def __init__(
        self, state: StoreState, link: AsyncLink[Any, Any], poll_s: float, polled: Callable[[str], bool]
    ) -> None:
        super().__init__(state, poll_s, polled)
        self._link = link
        self._awake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        state.woken = self.wake
        self._follow()

    def wake(self) -> None:
        """Ask at once if the store was idle."""
        if self.idle:
            self.idle, self.busy_at = False, time.monotonic()
            self._awake.set()

    async def end(self) -> None:
        """End every task."""
        self.leave()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=JOIN_S)

    async def ask(self, name: str) -> None:
        """Ask one endpoint, unless it is polled anyway, and follow those that join and leave."""
        if not self.polled(name):
            try:
                await aprobe(self.state, self._link, name, PROBE_TIMEOUT_S)
                self._follow()
            except Exception as error:  # noqa: BLE001 - whoever needs the answer asks, too, and is told
                log.warning("asking %s failed: %s", name, type(error).__name__)

    def _follow(self) -> None:
        if not self.changed(self._link.endpoints):
            return
        alive = {name: task for name, task in self._tasks.items() if not task.done()}
        for name in (endpoint.name for endpoint in self.listed):
            if name not in alive:
                asking = _aask(weakref.ref(self), self._awake, name)
                alive[name] = asyncio.get_running_loop().create_task(asking, name=f"causal feed {name}")
        self._tasks = alive


async def _aask(ref: weakref.ref[AsyncFeed], awake: asyncio.Event, name: str) -> None:
    """Ask one endpoint again and again. Between two questions nothing of the store is held."""
    while (feed := ref()) is not None:
        pause_s, idle = feed.pause_s(), feed.idle
        del feed
        if not idle:
            await asyncio.sleep(pause_s)
        else:
            awake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await awake.wait()
        feed = ref()
        if feed is None or feed.left(name):
            return
        await feed.ask(name)
        del feed
