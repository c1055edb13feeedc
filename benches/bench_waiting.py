"""Many reads that wait at one endpoint: what waking each costs as they become more, and what each costs in memory.

Three subjects: the queue alone (`core/waiting.py`); read blocks of the asynchronous store; read blocks of the synchronous store, each
in a thread of its own. Every read demands an offset of its own, and nothing is stubbed but the engine, which answers at once: a read
that is woken decides again, opens its snapshot, has it judged, and ends. One advance of the watermark wakes all of them; in the queue
also each advance one.

The bar of a growth is that of log n, between the two numbers that a row names. A second figure, without a bar, says what the event
loop (or threads) cost without us: as many bare tasks on a future each, with the same time limit.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from benches.measure import Case, Effort, Row, interleaved, uncollected
from causal import AsyncCausalStore, CausalStore, Frontier, Keyring, Limits, Position, ReadPolicy
from causal.core.position import pack
from causal.core.waiting import WaitQueue
from causal.core.watermark import Watermark
from causal.engine import Capabilities, Endpoint

FULL = 10_000
THREADS = 100
BYTES = 2048
KEY = pack(0, 1)
LIMITS = Limits(waiters_per_endpoint=10 * FULL)
PATIENT = ReadPolicy(wait_s=600.0)
KEYS = Keyring.generate()


# --- the queue alone -------------------------------------------------------------------------------------------------


def queue_all(n: int) -> float:
    """Return the time of waking each of n waiters by one advance. Units: microseconds."""
    queue: WaitQueue[None] = WaitQueue()
    for offset in _shuffled(n):
        queue.add({KEY: offset}, {}, None)
    began = time.perf_counter_ns()
    woken = queue.advance({KEY: n})
    took = time.perf_counter_ns() - began
    assert len(woken) == n
    return took / n / 1000


def queue_each(n: int) -> float:
    """Return the time of waking each of n waiters by an advance of its own. Units: microseconds."""
    queue: WaitQueue[None] = WaitQueue()
    for offset in _shuffled(n):
        queue.add({KEY: offset}, {}, None)
    began = time.perf_counter_ns()
    for offset in range(n):
        queue.advance({KEY: offset})
    took = time.perf_counter_ns() - began
    assert not queue
    return took / n / 1000


def _shuffled(n: int) -> list[int]:
    """Return 0 .. n - 1 in an order that no heap likes or dislikes: steps of a number that shares no factor with n."""
    step = next(s for s in range(int(n * 0.618) | 1, 2 * n + 3) if math.gcd(s, n) == 1)
    return [i * step % n for i in range(n)]


# --- an engine that answers at once ----------------------------------------------------------------------------------


class Handle:
    """A snapshot of one endpoint."""

    def __init__(self, engine: Instant, name: str) -> None:
        self.connection = engine
        self.watermarks = engine.marks[name]

    def seen(self) -> Frontier:
        return Frontier()

    def close(self) -> None:
        pass


class AsyncHandle(Handle):
    async def close(self) -> None:  # type: ignore[override]
        pass


class Instant:
    """A leader far away, and a replica here that has applied what `apply` last said. Engine and link in one."""

    shards: Mapping[str, int] = {"main": 0}
    capabilities = Capabilities()
    endpoints: Sequence[Endpoint] = (Endpoint("near", "near", 0.0), Endpoint("far", "far", 0.05))

    def __init__(self) -> None:
        self.marks: dict[str, Mapping[int, Watermark]] = {}
        self.head(0)
        self.apply(0)

    def head(self, offset: int) -> None:
        self.marks["far"] = {0: Watermark(0, {1: (offset, None)}, ("far", 1), frozenset({1}))}

    def apply(self, offset: int) -> None:
        self.marks["near"] = {0: Watermark(0, {1: (offset, None)}, ("near", 1), frozenset())}

    def open(self, store: int = 0) -> Any:
        return self

    async def aopen(self, store: int = 0) -> Any:
        return AsyncInstant(self)

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        return self.marks[endpoint]

    def read(self, endpoint: str, shards: Sequence[int]) -> Handle:
        return Handle(self, endpoint)

    def leader(self, shard: int) -> str:
        return "far"

    def close(self) -> None:
        pass


class AsyncInstant:
    """The link of `Instant`, awaited."""

    def __init__(self, engine: Instant) -> None:
        self.engine, self.endpoints, self.leader = engine, engine.endpoints, engine.leader

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        return self.engine.marks[endpoint]

    async def read(self, endpoint: str, shards: Sequence[int]) -> AsyncHandle:
        return AsyncHandle(self.engine, endpoint)

    async def close(self) -> None:
        pass


# --- tasks -----------------------------------------------------------------------------------------------------------


class Waiting:
    """n read blocks that wait at one endpoint of an asynchronous store, until `wake`."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.engine = Instant()
        self.go = asyncio.Event()
        self.store: AsyncCausalStore[Any, Any] = AsyncCausalStore(
            self.engine, sleep=self._sleep, keyring=KEYS, audience="bench", policy=PATIENT, limits=LIMITS
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def _sleep(self, _: float) -> None:
        await self.go.wait()

    async def ready(self) -> list[Coroutine[Any, Any, None]]:
        """Open the store, and return the reads, not yet begun, of n sessions that demand 1 .. n."""
        await self.store.head()
        self.engine.head(self.n)
        sessions = [self.store.session(subject=f"user {i}") for i in range(self.n)]
        for session, offset in zip(sessions, _shuffled(self.n), strict=True):
            session.join(Frontier((Position(0, 1, offset + 1),)))
        return [self._read(session) for session in sessions]

    async def _read(self, session: Any) -> None:
        async with session.read():
            pass

    async def wait(self, reads: list[Coroutine[Any, Any, None]]) -> None:
        """Begin the reads, and return when all of them wait."""
        self.tasks = [asyncio.create_task(read) for read in reads]
        for _ in range(
            20
        ):  # turns of the loop: each read takes a few to get to where it waits, and all take them together
            await asyncio.sleep(0)
        assert sum(self.store._state.waiters.values()) == self.n

    async def wake(self) -> float:
        """Advance the watermark, and return the time from there until the last read has ended, for each. Units: microseconds."""
        self.engine.apply(self.n)
        began = time.perf_counter_ns()
        self.go.set()
        await asyncio.gather(*self.tasks)
        took = time.perf_counter_ns() - began
        await self.store.close()
        return took / self.n / 1000


async def _woken(n: int) -> float:
    waiting = Waiting(n)
    await waiting.wait(await waiting.ready())
    return await waiting.wake()


async def _bare(future: asyncio.Future[None]) -> None:
    async with asyncio.timeout(600):
        await future


async def _bare_woken(n: int) -> float:
    """Return what waking each of n tasks costs that wait on a future each, in the same way."""
    futures = [asyncio.get_running_loop().create_future() for _ in range(n)]
    tasks = [asyncio.create_task(_bare(future)) for future in futures]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    began = time.perf_counter_ns()
    for future in futures:
        future.set_result(None)
    await asyncio.gather(*tasks)
    return (time.perf_counter_ns() - began) / n / 1000


def tasks(n: int) -> float:
    return asyncio.run(_woken(n))


def bare_tasks(n: int) -> float:
    return asyncio.run(_bare_woken(n))


# --- threads ---------------------------------------------------------------------------------------------------------


class TimedInstant(Instant):
    """Notes when the replica first answered with what everybody waits for."""

    def __init__(self, n: int) -> None:
        self.n, self.told_ns = n, 0
        super().__init__()

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        marks = self.marks[endpoint]
        if endpoint == "near" and not self.told_ns and marks[0].origins[1][0] >= self.n:
            self.told_ns = time.perf_counter_ns()
        return marks


def threads(n: int) -> float:
    """Return the time from the answer that covers everybody until the last of n threads has read, for each. Units: microseconds."""
    engine = TimedInstant(n)
    store: CausalStore[Any, Any] = CausalStore(engine, keyring=KEYS, audience="bench", policy=PATIENT, limits=LIMITS)  # type: ignore[arg-type]
    ended: list[int] = []

    def read(offset: int) -> None:
        session = store.session(subject=f"user {offset}")
        session.join(Frontier((Position(0, 1, offset + 1),)))
        with session.read():
            ended.append(time.perf_counter_ns())

    with store:
        engine.head(n)
        _run(read, n, lambda: sum(store._state.waiters.values()) == n, lambda: engine.apply(n))
    return (max(ended) - engine.told_ns) / n / 1000


def bare_threads(n: int) -> float:
    """Return what waking each of n threads costs that wait on an event each. Units: microseconds."""
    events, ended, waiting = [threading.Event() for _ in range(n)], [0], [0]
    lock = threading.Lock()

    def wait(i: int) -> None:
        with lock:
            waiting[0] += 1
        events[i].wait(600)
        ended.append(time.perf_counter_ns())

    def wake() -> None:
        ended[0] = time.perf_counter_ns()
        for event in events:
            event.set()

    _run(wait, n, lambda: waiting[0] == n, wake)
    return (max(ended) - ended[0]) / n / 1000


def _run(body: Callable[[int], None], n: int, all_wait: Callable[[], bool], wake: Callable[[], None]) -> None:
    running = [threading.Thread(target=body, args=(i,)) for i in _shuffled(n)]
    for thread in running:
        thread.start()
    while not all_wait():
        time.sleep(0.001)
    time.sleep(0.002)
    wake()
    for thread in running:
        thread.join()


# --- memory ----------------------------------------------------------------------------------------------------------


def traced(grow: Callable[[], object]) -> int:
    """Return by how many bytes `grow` made what is allocated grow. What it returns stays alive until then."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = grow()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del kept
    finally:
        tracemalloc.stop()
    return after - before


async def atraced(grow: Callable[[], Coroutine[Any, Any, object]]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = await grow()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del kept
    finally:
        tracemalloc.stop()
    return after - before


def queue_bytes(n: int) -> float:
    """Return the memory of a waiter in the queue, without what it demands and its handle."""
    needs = [{KEY: offset} for offset in _shuffled(n)]
    queue: WaitQueue[None] = WaitQueue()
    return traced(lambda: [queue.add(need, {}, None) for need in needs]) / n


async def _read_bytes(n: int) -> float:
    waiting = Waiting(n)
    reads = await waiting.ready()
    grown = await atraced(partial(waiting.wait, reads))
    await waiting.wake()
    return grown / n


async def _bare_bytes(n: int) -> float:
    """Return the memory of a task that waits on a future, as a library that adds nothing would have it."""
    loop = asyncio.get_running_loop()

    async def wait(future: asyncio.Future[None]) -> None:
        await future

    async def grow() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(wait(loop.create_future())) for _ in range(n)]
        await asyncio.sleep(0)
        return tasks

    grown = await atraced(grow)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return grown / n


# --- rows ------------------------------------------------------------------------------------------------------------


def growth(name: str, wake: Callable[[int], float], few: int, many: int, said: str, share: float) -> Case:
    """Measure how much more waking each of many costs than waking each of few."""

    def measure(effort: Effort) -> Row:
        n, m = min(many, effort.most), min(few, effort.most)
        repeats = max(1, min(100, n // m // 10))  # few are woken in no time: the mean of several is one figure
        with uncollected():
            value, other, ratio = interleaved(
                lambda: wake(n), lambda: statistics.fmean(wake(m) for _ in range(repeats)), effort.fewer(share)
            )
        return Row(name, value, "us", said, other, "floor", ratio, math.log2(n + 1) / math.log2(m + 1))

    return Case(name, measure)


def beside(
    name: str, wake: Callable[[int], float], bare: Callable[[int], float], n: int, said: str, share: float
) -> Case:
    """Measure what waking each costs beside what the event loop or the threads cost alone."""

    def measure(effort: Effort) -> Row:
        count = min(n, effort.most)
        with uncollected():
            value, other, ratio = interleaved(lambda: wake(count), lambda: bare(count), effort.fewer(share))
        return Row(name, value, "us", said, other, "floor", ratio, None)

    return Case(name, measure)


def _memory(name: str, used: Callable[[Effort], float]) -> Case:
    def measure(effort: Effort) -> Row:
        value = used(effort)
        return Row(name, value, "bytes", f"a budget of {BYTES:,} bytes", BYTES, "floor", value / BYTES, 1)

    return Case(name, measure)


def cases() -> Iterator[Case]:
    one, some = "the same, 1 waiting", f"the same, {THREADS} waiting"
    for said, wake in (("one advance", queue_all), ("an advance each", queue_each)):
        yield growth(f"queue: wake each of {THREADS}, {said}", wake, 1, THREADS, one, 0.3)
        yield growth(f"queue: wake each of {FULL:,}, {said}", wake, THREADS, FULL, some, 0.1)
    yield growth(f"tasks: wake each of {THREADS} waiting reads", tasks, 1, THREADS, one, 0.1)
    yield growth(f"tasks: wake each of {FULL:,} waiting reads", tasks, THREADS, FULL, some, 0.02)
    said = "bare tasks, each on a future with a time limit"
    yield beside(f"tasks: wake each of {FULL:,} waiting reads, and bare", tasks, bare_tasks, FULL, said, 0.02)
    yield growth(f"threads: wake each of {THREADS} waiting reads", threads, 1, THREADS, one, 0.1)
    said = "bare threads, each on an event"
    yield beside(f"threads: wake each of {THREADS} waiting reads, and bare", threads, bare_threads, THREADS, said, 0.1)
    name = f"memory of a waiting read in the queue, {FULL:,} waiting"
    yield _memory(name, lambda effort: queue_bytes(min(FULL, effort.most)))
    name = f"memory of a waiting read, beyond its bare task, {FULL:,} waiting"
    yield _memory(name, _beyond)
    name = f"memory of a waiting read and its task, {FULL:,} waiting"
    yield Case(name, partial(_whole, name))


def _beyond(effort: Effort) -> float:
    n = min(FULL, effort.most)
    return asyncio.run(_read_bytes(n)) - asyncio.run(_bare_bytes(n))


def _whole(name: str, effort: Effort) -> Row:
    n = min(FULL, effort.most)
    value, bare = asyncio.run(_read_bytes(n)), asyncio.run(_bare_bytes(n))
    return Row(name, value, "bytes", "a bare task on a future", bare, "floor", value / bare, None)
