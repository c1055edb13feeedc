"""PostgreSQL: what the gate costs on real servers, a primary and two standbys on this machine, against the same block on a bare pool.

Client and servers share the machine's cores, so absolute figures mean little. Rows about one standby pin the store to it. Rows with a
delay put a proxy in front of the standby for both subjects: what counts there is the number of round trips. Rows about commits wait for
the disk. Where psycopg or the servers' programs are not installed there are no rows.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import os
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import attrs

from benches.measure import Case, Effort, Row, interleaved, uncollected
from causal import AsyncCausalStore, CausalStore, Keyring, Limits, ReadPolicy

ROWS = 10_000
QUERY = "SELECT v FROM bench WHERE id = %s"
WRITE = "UPDATE bench SET v = %s WHERE id = %s"
THREADS = 8
DELAY_S = 0.001
"""The delay that the proxy adds to a round trip."""
PIN_S = 15.0
SESSIONS = 500
TICK = os.sysconf("SC_CLK_TCK")


class World:
    """A cluster, stores on it, and bare pools beside them; made when the first row needs it."""

    def __init__(self) -> None:
        from psycopg_pool import ConnectionPool

        from causal.lab.postgres import PostgresCluster, Proxy
        from causal.stores.postgres import PoolSettings, PostgresEngine, install

        self.keys = Keyring.generate()
        self.cluster = PostgresCluster(replicas=2, fsync=True)
        self.cluster.start()
        atexit.register(self.close)
        self.primary, (self.near, self.far) = self.cluster.primary, self.cluster.replicas
        install(self.primary._admin_dsn("app"), ("app",))
        self.primary.query("CREATE TABLE bench (id integer PRIMARY KEY, v text)")
        self.primary.query(
            f"INSERT INTO bench SELECT n, 'value ' || n FROM generate_series(0, {ROWS - 1}) AS n RETURNING id"
        )
        self.primary.query("GRANT ALL ON bench TO app")
        self.cluster.wait_caught_up()
        self.proxy = Proxy(self.near, delay_s=DELAY_S / 2)
        self.proxy.__enter__()
        self.pool_settings = PoolSettings(max_size=20)

        def engine(*replicas: str, **settings: Any) -> Any:
            return PostgresEngine(self.primary.dsn, replicas, pool=self.pool_settings, order="listed", **settings)

        self.engine = engine
        self.closing = contextlib.ExitStack()
        self.pools: dict[str, ConnectionPool[Any]] = {}

    def pool(self, dsn: str) -> Any:
        from psycopg_pool import ConnectionPool

        if dsn not in self.pools:
            self.pools[dsn] = ConnectionPool(dsn, min_size=1, max_size=20, open=True)
            self.pools[dsn].wait()
        return self.pools[dsn]

    @cache  # noqa: B019 - there is one world, for as long as the process
    def store(self, *dsns: str, **settings: Any) -> CausalStore[Any, Any]:
        store = CausalStore(
            self.engine(*dsns, **settings), keyring=self.keys, audience="bench", policy=ReadPolicy(wait_s=5.0)
        )
        return self.closing.enter_context(store)

    def settled(self, store: CausalStore[Any, Any]) -> Any:
        """Return a session that has written, and whose write the standby holds: what it reads from now on is the common case."""
        session = store.session(subject="bench")
        with session.write() as connection:
            connection.execute(WRITE, ("settled", 0))
        with session.read() as connection:
            connection.execute(QUERY, (0,)).fetchone()
        return session

    def close(self) -> None:
        self.closing.close()
        for pool in self.pools.values():
            pool.close()
        self.proxy.__exit__(None, None, None)
        self.cluster.close()
        atexit.unregister(self.close)


@cache
def world() -> World:
    return World()


def end() -> None:
    """Stop the servers, if there are any, and close what was opened on them."""
    if world.cache_info().currsize:
        world().close()
        world.cache_clear()


# --- one block -------------------------------------------------------------------------------------------------------


def gated(session: Any) -> Callable[[], object]:
    turn = iter(range(10**9))

    def read() -> object:
        with session.read() as connection:
            return connection.execute(QUERY, (next(turn) % ROWS,)).fetchone()

    return read


def bare(pool: Any) -> Callable[[], object]:
    turn = iter(range(10**9))

    def read() -> object:
        with pool.connection() as connection:
            return connection.execute(QUERY, (next(turn) % ROWS,)).fetchone()

    return read


def batch(read: Callable[[], object], times: int) -> float:
    """Return the time of one block, over some. Units: microseconds."""
    began = time.perf_counter_ns()
    for _ in range(times):
        read()
    return (time.perf_counter_ns() - began) / times / 1000


def middle(read: Callable[[], object], times: int) -> float:
    """Return the median time of a block. Units: microseconds."""
    return statistics.median(batch(read, 1) for _ in range(times))


def at_once(read: Callable[[], object], times: int) -> float:
    """Return the time per block where several threads run blocks at once. Units: microseconds."""
    each = max(1, times // THREADS)
    gate = threading.Barrier(THREADS + 1)

    def work() -> None:
        gate.wait()
        for _ in range(each):
            read()
        gate.wait()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter_ns()
    gate.wait()
    took = time.perf_counter_ns() - began
    for thread in threads:
        thread.join()
    return took / (each * THREADS) / 1000


def compared(
    name: str,
    bar: float | None,
    subjects: Callable[[World], tuple[Callable[[], object], Callable[[], object]]],
    how: Callable[[Callable[[], object], int], float],
    times: int,
    said: str,
) -> Case:
    def measure(effort: Effort) -> Row:
        ours, theirs = subjects(world())
        times_now = max(THREADS, times if effort.rounds > 1 else 8)
        for read in (ours, theirs):
            how(read, times_now)
        with uncollected():
            mine, other, ratio = interleaved(
                lambda: how(ours, times_now), lambda: how(theirs, times_now), effort.fewer(0.2)
            )
        return Row(name, mine, "us", said, other, "peer", 1 / ratio, bar)

    return Case(name, measure)


def direct(w: World) -> tuple[Callable[[], object], Callable[[], object]]:
    return gated(w.settled(w.store(w.near.dsn))), bare(w.pool(w.near.dsn))


def delayed(w: World) -> tuple[Callable[[], object], Callable[[], object]]:
    return gated(w.settled(w.store(w.proxy.dsn))), bare(w.pool(w.proxy.dsn))


def commits(w: World) -> tuple[Callable[[], object], Callable[[], object]]:
    session, pool, turn = w.store(w.near.dsn).session(subject="writer"), w.pool(w.primary.dsn), iter(range(10**9))

    def ours() -> None:
        with session.write() as connection:
            connection.execute(WRITE, ("ours", next(turn) % ROWS))
        session.token()

    def theirs() -> None:
        with pool.connection() as connection:
            connection.execute(WRITE, ("theirs", next(turn) % ROWS))

    return ours, theirs


# --- asyncio ---------------------------------------------------------------------------------------------------------


def asynchronous(effort: Effort) -> Row:
    """Compare blocks of several tasks in one event loop."""
    w, times = world(), 200 if effort.rounds > 1 else 8

    async def run() -> tuple[float, float, float]:
        from psycopg_pool import AsyncConnectionPool

        store = AsyncCausalStore(w.engine(w.near.dsn), keyring=w.keys, audience="bench", policy=ReadPolicy(wait_s=5.0))
        async with store, AsyncConnectionPool(w.near.dsn, min_size=1, max_size=20, open=False) as pool:
            session = store.session(subject="bench")
            async with session.write() as connection:
                await connection.execute(WRITE, ("async", 0))

            async def ours() -> None:
                async with session.read() as connection:
                    await (await connection.execute(QUERY, (7,))).fetchone()

            async def theirs() -> None:
                async with pool.connection() as connection:
                    await (await connection.execute(QUERY, (7,))).fetchone()

            async def timed(read: Any) -> float:
                async def several() -> None:
                    for _ in range(times // THREADS):
                        await read()

                began = time.perf_counter_ns()
                await asyncio.gather(*(several() for _ in range(THREADS)))
                return (time.perf_counter_ns() - began) / times / 1000

            mine, other = [], []
            for read in (ours, theirs):
                await timed(read)
            for turn in range(effort.fewer(0.1)):
                for read, kept in ((ours, mine), (theirs, other)) if turn % 2 else ((theirs, other), (ours, mine)):
                    kept.append(await timed(read))
            ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
            return statistics.median(mine), statistics.median(other), ratio

    mine, other, ratio = asyncio.run(run())
    return Row(
        "PostgreSQL: gated read, 8 tasks", mine, "us", "the same block on a bare pool", other, "peer", 1 / ratio, 0.95
    )


# --- under load ------------------------------------------------------------------------------------------------------

_LOAD = """
import sys, threading, psycopg
def work(n):
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        turn = 0
        while True:
            turn += 1
            connection.execute("UPDATE bench SET v = 'load' WHERE id = %s", ((turn * 7 + n) % 9000 + 500,))
for n in range(4):
    threading.Thread(target=work, args=(n,), daemon=True).start()
sys.stdin.read()
"""


@contextlib.contextmanager
def write_load(w: World) -> Iterator[None]:
    """Let four connections of another process write as fast as they can."""
    load = subprocess.Popen([sys.executable, "-c", _LOAD, w.primary.dsn], stdin=subprocess.PIPE)
    try:
        time.sleep(0.5)
        yield
    finally:
        load.kill()
        load.wait()
        assert load.stdin is not None
        load.stdin.close()


def own_writes(effort: Effort) -> Iterator[Row]:
    """Measure the first read after an own write, while others write: the wait is the standby's lag."""
    w = world()
    session, plain = w.store(w.near.dsn).session(subject="own"), bare(w.pool(w.near.dsn))
    after, without = [], []
    with write_load(w):
        for n in range(1000 if effort.rounds > 1 else 5):
            with session.write() as connection:
                connection.execute(WRITE, (str(n), 1))
            began = time.perf_counter_ns()
            with session.read() as connection:
                found = connection.execute(QUERY, (1,)).fetchone()
            after.append((time.perf_counter_ns() - began) / 1000)
            assert found == (str(n),)
            without.append(batch(plain, 1))
    for what, share in (("p50", 0.5), ("p99", 0.99)):
        mine, other = (sorted(times)[int(share * (len(times) - 1))] for times in (after, without))
        yield Row(
            f"PostgreSQL: read after an own write, 4 other writers, {what}",
            mine,
            "us",
            "a bare read there, which need not have the write",
            other,
            "floor",
            mine / other,
            None,
        )


def cpu_of(w: World) -> float:
    """Return the processor time of our own servers' processes, of those that have ended, too. Units: seconds."""
    total = 0
    for pid in (pid for server in w.cluster.servers.values() for pid in server._postmaster.family()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            total += sum(map(int, stat.read().rpartition(")")[2].split()[11:15]))  # and of children that it waited for
    return total / TICK


def polling(poll_s: float, effort: Effort) -> Row:
    """Measure what asking every server in the background costs, with one read in a while so that the store is in use."""
    w, run_s = world(), 3.0 if effort.rounds > 1 else 0.3
    store = CausalStore(w.engine(w.near.dsn, w.far.dsn, poll_s=poll_s), keyring=w.keys, audience="bench")
    with store:
        read = gated(w.settled(store))
        client, servers, until = time.process_time(), cpu_of(w), time.monotonic() + run_s
        while time.monotonic() < until:
            read()
            time.sleep(0.2)
        client = time.process_time() - client
        servers = max(0.0, cpu_of(w) - servers)  # who ends between two looks at the family may be in neither
    return Row(
        f"PostgreSQL: 3 servers asked every {poll_s * 1000:g} ms, of one core",
        client / run_s * 100,
        "%",
        "what that costs the servers, all three",
        servers / run_s * 100,
        "floor",
        client / max(servers, 1 / TICK),
        None,
    )


# --- a load of many sessions -----------------------------------------------------------------------------------------


@attrs.define
class Tally:
    reads: int = 0
    at_leader: int = 0


def load(effort: Effort, act: Callable[[int, bool, Tally], None]) -> tuple[float, float]:
    """Run a load of reads and a tenth of writes by many users, and return reads a second and the leader's share of them."""
    run_s, tallies, gate = (
        3.0 if effort.rounds > 1 else 0.2,
        [Tally() for _ in range(THREADS)],
        threading.Barrier(THREADS),
    )

    def work(n: int) -> None:
        rng = random.Random(n)
        gate.wait()
        until = time.monotonic() + run_s
        while time.monotonic() < until:
            act(rng.randrange(SESSIONS), rng.random() < 0.1, tallies[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reads = sum(t.reads for t in tallies)
    return reads / run_s, sum(t.at_leader for t in tallies) / max(1, reads)


def by_token(w: World) -> Callable[[int, bool, Tally], None]:
    store = w.store(w.near.dsn, w.far.dsn)
    tokens: dict[int, str | None] = {}

    def act(user: int, writes: bool, tally: Tally) -> None:
        session = store.session(tokens.get(user), subject=str(user))
        if writes:
            with session.write() as connection:
                connection.execute(WRITE, ("x", user))
        else:
            with (block := session.read()) as connection:
                connection.execute(QUERY, (user,)).fetchone()
            tally.reads += 1
            tally.at_leader += block.receipt.endpoint == "primary"
        tokens[user] = session.token()

    return act


def by_pin(w: World, pin_s: float) -> Callable[[int, bool, Tally], None]:
    """Return what teams write without tokens: bare pools, and the primary for a while after each write."""
    primary, standbys = w.pool(w.primary.dsn), (w.pool(w.near.dsn), w.pool(w.far.dsn))
    wrote: dict[int, float] = {}

    def act(user: int, writes: bool, tally: Tally) -> None:
        if writes:
            with primary.connection() as connection:
                connection.execute(WRITE, ("x", user))
            wrote[user] = time.monotonic()
            return
        pinned = time.monotonic() - wrote.get(user, -1e9) < pin_s or pin_s == float("inf")
        with (primary if pinned else standbys[user % 2]).connection() as connection:
            connection.execute(QUERY, (user,)).fetchone()
        tally.reads += 1
        tally.at_leader += pinned

    return act


def shares(effort: Effort) -> Iterator[Row]:
    w = world()
    ours, our_share = load(effort, by_token(w))
    for what, pin_s in (("the primary for 15 s after a write", PIN_S), ("always the primary", float("inf"))):
        theirs, their_share = load(effort, by_pin(w, pin_s))
        yield Row(
            f"PostgreSQL: reads a second, 500 users, 10 % writes, and {what}",
            ours,
            "/s",
            f"bare pools: {what}",
            theirs,
            "floor",
            ours / max(theirs, 1e-9),
            None,
        )
        yield Row(
            f"PostgreSQL: share of those reads at the primary, and {what}",
            our_share * 100,
            "%",
            f"bare pools: {what}",
            their_share * 100,
            "floor",
            our_share / max(their_share, 1e-9),
            None,
        )


# --- many that wait --------------------------------------------------------------------------------------------------


def waiting(count: int, effort: Effort) -> Iterator[Row]:
    """Let many sessions wait at a standby that stands still, and measure what they cost meanwhile."""
    w, n, watch_s = world(), min(count, effort.most), 3.0 if effort.rounds > 1 else 0.3

    async def run() -> tuple[float, float, float]:
        store = AsyncCausalStore(
            w.engine(w.near.dsn, timeout_s=60.0),
            keyring=w.keys,
            audience="bench",
            policy=ReadPolicy(wait_s=300.0),
            limits=Limits(waiters_per_endpoint=10 * count, waiters_per_subject=10 * count, leader_reads=10 * count),
        )
        async with store:
            writer = store.session(subject="writer")
            w.near.pause()
            async with writer.write() as connection:
                await connection.execute(WRITE, ("awaited", 2))
            token = writer.token(subject="reader")
            link = store._live
            probes, probe = 0, link.probe

            async def counted(endpoint: str, timeout_s: float) -> Any:
                nonlocal probes
                probes += 1
                return await probe(endpoint, timeout_s)

            link.probe = counted

            async def wait() -> None:
                async with store.session(token, subject="reader").read() as connection:
                    await (await connection.execute(QUERY, (2,))).fetchone()

            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            tasks = [asyncio.create_task(wait()) for _ in range(n)]
            await asyncio.sleep(1.0 if effort.rounds > 1 else 0.3)
            probes, cpu = 0, time.process_time()
            await asyncio.sleep(watch_s)
            cpu = time.process_time() - cpu
            asked = probes
            memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            w.near.resume()
            await asyncio.gather(*tasks)
            return cpu / watch_s * 100, memory / n, asked / watch_s

    try:
        cpu, memory, asked = asyncio.run(run())
    finally:
        w.near.resume()
    said = "a waiting session of its own poll, every 5 ms" if count > 1 else ""
    yield Row(
        f"PostgreSQL: {count:,} waiting sessions, questions a second",
        asked,
        "/s",
        said,
        n * 200,
        "floor",
        asked / (n * 200),
        None,
    )
    yield Row(
        f"PostgreSQL: {count:,} waiting sessions, of one core", cpu, "%", "one core", 100, "floor", cpu / 100, None
    )
    yield Row(
        f"PostgreSQL: {count:,} waiting sessions, resident memory of each",
        memory,
        "bytes",
        "2 KiB",
        2048,
        "floor",
        memory / 2048,
        None,
    )


# --- the rows --------------------------------------------------------------------------------------------------------


def several(names: list[str], measure: Callable[[Effort], Iterator[Row]]) -> Iterator[Case]:
    """Yield a case for each of several rows that one measurement gives: the first one measures."""
    found: dict[str, Row] = {}

    def row(name: str, effort: Effort) -> Row:
        if not found:
            found.update({one.name: one for one in measure(effort)})
        return found[name]

    for name in names:
        yield Case(name, lambda effort, name=name: row(name, effort))


def installed() -> bool:
    """Return whether there is a driver, and there are programs to start."""
    if importlib.util.find_spec("psycopg_pool") is None:
        return False
    from causal.errors import ConfigError
    from causal.lab.postgres.binaries import Binaries

    try:
        Binaries.find()
    except ConfigError:
        return False
    return True


def cases() -> Iterator[Case]:
    """Yield every row."""
    if not installed():
        return
    pool = "the same block on a bare pool, same standby"
    yield compared("PostgreSQL: gated read, 1 thread", 0.95, direct, batch, 50, pool)
    yield compared("PostgreSQL: gated read, 8 threads", 0.95, direct, at_once, 200, pool)
    yield Case("PostgreSQL: gated read, 8 tasks", asynchronous)
    yield compared("PostgreSQL: gated read, 1 ms away, median", 1 / 1.05, delayed, middle, 10, pool)
    yield compared("PostgreSQL: commit with its token, median", 1 / 1.03, commits, middle, 20, "a bare commit")
    before = "PostgreSQL: read after an own write, 4 other writers, "
    yield from several([before + "p50", before + "p99"], own_writes)
    for poll_s in (0.001, 0.005, 0.01):
        yield Case(
            f"PostgreSQL: 3 servers asked every {poll_s * 1000:g} ms, of one core",
            lambda effort, poll_s=poll_s: polling(poll_s, effort),
        )
    pins = ("the primary for 15 s after a write", "always the primary")
    yield from several(
        [
            name
            for what in pins
            for name in (
                f"PostgreSQL: reads a second, 500 users, 10 % writes, and {what}",
                f"PostgreSQL: share of those reads at the primary, and {what}",
            )
        ],
        shares,
    )
    for count in (1_000, 10_000):
        what = f"PostgreSQL: {count:,} waiting sessions, "
        yield from several(
            [what + "questions a second", what + "of one core", what + "resident memory of each"],
            lambda effort, count=count: waiting(count, effort),
        )
