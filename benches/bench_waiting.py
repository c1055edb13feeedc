"""Many reads that wait at one endpoint: what waking one of them costs as they grow in number, and what each occupies.

The queue alone, and whole reads: tasks of an `AsyncCausalStore` that wait for a replica, and threads of a `CausalStore`.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benches.measure import Effort, Row
from causal import AsyncCausalStore, CausalStore, Frontier, Keyring, Limits, Position, ReadPolicy, Watermark
from causal.core.waiting import WaitQueue
from causal.engine import Capabilities, Endpoint

MANY = 10_000
POLICY = ReadPolicy(wait_s=120.0)
LIMITS = Limits(10**6, 10**6, 10**6, 10**6)


def rows(effort: Effort) -> Iterator[Row]:
    many = MANY if effort.turns > 5 else 200
    one = statistics.median(_wake_each(1) for _ in range(effort.turns))
    for n in (100, many):
        value = statistics.median(_wake_each(n) for _ in range(max(3, effort.turns // 20)))
        yield _growth(f"wake one of {n:,} in the queue, one by one", n, value, one)
    yield _memory("a waiter in the queue", many, _queue_bytes(many))
    alone = statistics.median(asyncio.run(_tasks(1))[0] for _ in range(max(3, effort.turns // 5)))
    for n in (100, many):
        took, occupied = asyncio.run(_tasks(n))
        yield _growth(f"wake {n:,} waiting tasks, each", n, took, alone)
        if n == many:
            yield _memory("a waiting read, beyond its task and block", n, occupied)
    single = statistics.median(_threads(1) for _ in range(max(3, effort.turns // 5)))
    yield _growth("wake 100 waiting threads, each", 100, _threads(100), single)


def _growth(name: str, n: int, value: float, one: float) -> Row:
    said = f"waking one alone; asked for: no more than log2 of {n:,} times that"
    return Row(name, value, "us", said, one, "floor", value / one, math.log2(n))


def _memory(name: str, n: int, size: float) -> Row:
    return Row(f"memory of {name}, of {n:,}", size, "bytes", "asked for: 2 KiB", 2048, "floor", size / 2048, 1)


# --- the queue ---------------------------------------------------------------------------------------------------------


def _wake_each(n: int) -> float:
    """Return what an advance costs that wakes one of up to n waiters. Units: microseconds."""
    queue: WaitQueue[int] = WaitQueue()
    for nth in range(n):
        queue.add({1: nth + 1}, {}, nth)
    began = time.perf_counter_ns()
    for nth in range(n):
        assert len(queue.advance({1: nth + 1})) == 1
    return (time.perf_counter_ns() - began) / n / 1000


def _queue_bytes(n: int) -> float:
    needs = [{1: nth + 1} for nth in range(n)]
    gc.collect()
    tracemalloc.start()
    queue: WaitQueue[None] = WaitQueue()
    for need in needs:
        queue.add(need, {}, None)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / n


# --- whole reads -------------------------------------------------------------------------------------------------------


class Lagging:
    """An engine of one replica, behind by as much as the bench says, and the leader it follows: both at 0 until it says so."""

    shards: Mapping[str, int] = {"main": 0}
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.head = self.applied = 0
        self.endpoints = [Endpoint("replica"), Endpoint("leader", latency_s=0.1)]

    def open(self, store: int = 0) -> Any:
        return self

    async def aopen(self, store: int = 0) -> Any:
        return _Async(self)

    def probe(self, endpoint: str, timeout_s: float = 0) -> Mapping[int, Watermark]:
        offset = self.head if endpoint == "leader" else self.applied
        leads = frozenset({1}) if endpoint == "leader" else frozenset[int]()
        return {0: Watermark(0, {1: (offset, None)}, endpoint, leads)}

    def read(self, endpoint: str, shards: Sequence[int]) -> Any:
        return _Handle(self.probe(endpoint))

    def leader(self, shard: int) -> str:
        return "leader"

    def close(self) -> None:
        pass


class _Handle:
    connection = None

    def __init__(self, watermarks: Mapping[int, Watermark]) -> None:
        self.watermarks = watermarks

    def seen(self) -> Frontier:
        return Frontier()

    def close(self) -> None:
        pass


class _AsyncHandle(_Handle):
    async def close(self) -> None:  # type: ignore[override]
        pass


class _Async:
    def __init__(self, engine: Lagging) -> None:
        self.engine, self.endpoints, self.leader = engine, engine.endpoints, engine.leader

    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        return self.engine.probe(endpoint)

    async def read(self, endpoint: str, shards: Sequence[int]) -> Any:
        return _AsyncHandle(self.engine.probe(endpoint))

    async def close(self) -> None:
        pass


async def _tasks(n: int) -> tuple[float, float]:
    """Return what waking costs each of n tasks (microseconds), and what each wait occupies (bytes, without its task, session and block).

    The endpoint is asked again when this says so, not by a timer: its period must not count as the cost of waking.
    """
    engine, ask = Lagging(), asyncio.Event()

    async def until_asked(_: float) -> None:
        await ask.wait()

    store = AsyncCausalStore(
        engine, keyring=Keyring.generate(), audience="bench", policy=POLICY, limits=LIMITS, sleep=until_asked
    )
    async with store:
        sessions = [store.session() for _ in range(n)]
        engine.head = n
        for nth, session in enumerate(sessions):
            session.join(Frontier([Position(0, 1, nth + 1)]))
            await session.route(policy=ReadPolicy.eventual())  # from here on it knows what it demands, waiting or not
        gate = asyncio.Event()

        async def read(block: Any) -> None:
            await gate.wait()
            async with block:
                pass

        tasks = [asyncio.create_task(read(session.read())) for session in sessions]
        await asyncio.sleep(0)
        gc.collect()
        tracemalloc.start()
        gate.set()
        while "replica" not in store._lines or len(store._lines["replica"].queue) < n:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        engine.applied = n
        began = time.perf_counter_ns()
        ask.set()
        await asyncio.gather(*tasks)
        return (time.perf_counter_ns() - began) / n / 1000, size / n


def _threads(n: int) -> float:
    """Return what waking costs each of n threads, and what the one that polls adds. Units: microseconds."""
    engine, ask = Lagging(), threading.Event()
    with CausalStore(engine, keyring=Keyring.generate(), audience="bench", policy=POLICY, limits=LIMITS) as store:
        store._sleep = lambda _: ask.wait()
        engine.head = n

        def read(nth: int) -> None:
            session = store.session()
            session.join(Frontier([Position(0, 1, nth + 1)]))
            with session.read():
                pass

        threads = [threading.Thread(target=read, args=(nth,)) for nth in range(n)]
        for thread in threads:
            thread.start()
        while "replica" not in store._lines or len(store._lines["replica"].queue) < n:
            time.sleep(0.001)
        engine.applied = n
        began = time.perf_counter_ns()
        ask.set()
        for thread in threads:
            thread.join()
        return (time.perf_counter_ns() - began) / n / 1000
