"""One loader of a key at a time, in a process and across processes; and who waited judges by their own demand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import valkey

from causal import AsyncCausalStore, CausalStore
from causal.caches import AsyncCausalCache, CausalCache, LRUBackend
from causal.caches.valkey import AsyncValkeyBackend, ValkeyBackend
from causal.lab.valkey import ValkeyServer
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.caches.stage import KEYS

MANY = 24
DEADLINE_S = 60.0


class Loader:
    """A loader that waits until it is let go, and counts who calls it."""

    def __init__(self) -> None:
        self.calls = 0
        self.let_go = threading.Event()
        self.called = threading.Event()

    def __call__(self, db: Any) -> Any:
        found = db.get("photo")
        self.calls += 1
        self.called.set()
        assert self.let_go.wait(DEADLINE_S)
        return found


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Threads:
    """Lookups that run at once."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._threads: list[threading.Thread] = []

    def start(self, cache: CausalCache, session: Any, load: Any) -> None:
        def run() -> None:
            self.found.append(cache.get(session, "photo", load))

        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(("eu", "us"))


def store_at(cluster: MemoryCluster, site: str) -> CausalStore[Any, Any]:
    return CausalStore(MemoryEngine(site=site, cluster=cluster), keyring=KEYS, audience="shop")


def test_of_many_threads_one_loads(cluster: MemoryCluster) -> None:
    store = store_at(cluster, "eu")
    cache, load, threads = CausalCache(store, LRUBackend(), lease_s=DEADLINE_S), Loader(), Threads()
    for number in range(MANY):
        threads.start(cache, store.session(subject=f"user {number}"), load)
    assert load.called.wait(DEADLINE_S)
    load.let_go.set()
    threads.join()
    assert threads.found == [None] * MANY
    assert load.calls == 1
    counts = cache.counts
    assert counts["miss"] == counts["stored"] == 1
    assert counts["hit"] + counts.get("shared", 0) == MANY - 1


def test_a_waiter_whose_demand_is_not_covered_does_not_take_the_result(cluster: MemoryCluster) -> None:
    us, eu = store_at(cluster, "us"), store_at(cluster, "eu")
    us.head()
    cluster.pause("us")
    alice = eu.session(subject="alice")
    with alice.write() as tx:
        tx.put("photo", "new")
    accounts: list[Any] = []
    cache = CausalCache(us, LRUBackend(), lease_s=DEADLINE_S, on_account=accounts.append)
    load, threads = Loader(), Threads()
    threads.start(cache, us.session(subject="bob"), load)  # reads the old row, and is slow
    assert load.called.wait(DEADLINE_S)
    hers = Threads()
    hers.start(cache, alice.at(us), lambda db: db.get("photo"))
    his = Threads()
    his.start(cache, us.session(subject="carol"), lambda db: db.get("photo"))
    load.let_go.set()
    for one in (threads, hers, his):
        one.join()
    assert threads.found == [None]
    assert hers.found == ["new"]
    assert his.found in ([None], ["new"])
    mine = [a for a in accounts if a.receipt is not None and a.receipt.endpoint == "eu"]
    assert [a.outcome for a in mine] == ["behind"]


def test_a_load_that_fails_lets_another_one_try(cluster: MemoryCluster) -> None:
    store = store_at(cluster, "eu")
    cache = CausalCache(store, LRUBackend(), lease_s=DEADLINE_S)
    underway, failed = threading.Event(), []

    def fails(_: Any) -> Any:
        underway.set()
        until(lambda: bool(waiting()))
        raise ZeroDivisionError

    def waiting() -> list[Any]:
        return [f for f in cache._flights._flights.values() if f.landed._cond._waiters]  # type: ignore[attr-defined]

    def first() -> None:
        with pytest.raises(ZeroDivisionError):
            cache.get(store.session(), "photo", fails)
        failed.append(True)

    thread = threading.Thread(target=first)
    thread.start()
    assert underway.wait(DEADLINE_S)
    assert cache.get(store.session(), "photo", lambda _: "second") == "second"
    thread.join(DEADLINE_S)
    assert failed


def test_a_loader_that_asks_for_its_own_key_does_not_wait_for_itself(cluster: MemoryCluster) -> None:
    store = store_at(cluster, "eu")
    cache = CausalCache(store, LRUBackend(), lease_s=DEADLINE_S)
    session = store.session()
    assert cache.get(session, "photo", lambda _: cache.get(session, "photo", lambda _: "inner")) == "inner"


def test_without_leases_everybody_loads(cluster: MemoryCluster) -> None:
    store = store_at(cluster, "eu")
    cache, load, threads = CausalCache(store, LRUBackend(), lease_s=0), Loader(), Threads()
    for _ in range(4):
        threads.start(cache, store.session(), load)
    until(lambda: load.calls == 4)
    load.let_go.set()
    threads.join()


def test_a_loader_that_takes_too_long_is_not_waited_for(cluster: MemoryCluster) -> None:
    store = store_at(cluster, "eu")
    cache, load, threads = CausalCache(store, LRUBackend(), lease_s=0.05), Loader(), Threads()
    threads.start(cache, store.session(), load)
    assert load.called.wait(DEADLINE_S)
    assert cache.get(store.session(), "photo", lambda _: "not in line") == "not in line"
    load.let_go.set()
    threads.join()


def test_of_many_tasks_one_loads(cluster: MemoryCluster) -> None:
    async def main() -> None:
        engine = MemoryEngine(site="eu", cluster=cluster)
        async with AsyncCausalStore(engine, keyring=KEYS, audience="shop") as store:
            cache = AsyncCausalCache(store, LRUBackend(), lease_s=DEADLINE_S)
            calls: list[Any] = []

            async def load(db: Any) -> Any:
                calls.append(db)
                await asyncio.sleep(0)
                return db.get("photo")

            found = await asyncio.gather(*(cache.get(store.session(), "photo", load) for _ in range(MANY)))
            assert found == [None] * MANY
            assert len(calls) == 1
            assert cache.counts["shared"] == MANY - 1

            session = store.session()

            async def recursive(_: Any) -> Any:
                return await cache.get(session, "own", load)

            await cache.get(session, "own", recursive)

            async def fails(_: Any) -> Any:
                await asyncio.sleep(0)
                raise ZeroDivisionError

            first = asyncio.ensure_future(cache.get(store.session(), "other", fails))
            await asyncio.sleep(0)
            assert await cache.get(store.session(), "other", load) is None
            with pytest.raises(ZeroDivisionError):
                await first

    asyncio.run(main())


def test_a_task_that_waits_and_is_not_covered_loads_itself(cluster: MemoryCluster) -> None:
    async def main() -> None:
        us = AsyncCausalStore(MemoryEngine(site="us", cluster=cluster), keyring=KEYS, audience="shop")
        async with us:
            cluster.pause("us")
            alice = store_at(cluster, "eu").session(subject="alice")
            with alice.write() as tx:
                tx.put("photo", "new")
            cache = AsyncCausalCache(us, LRUBackend(), lease_s=DEADLINE_S)
            underway, let_go = asyncio.Event(), asyncio.Event()

            async def slow(db: Any) -> Any:
                found = db.get("photo")
                underway.set()
                await let_go.wait()
                return found

            async def load(db: Any) -> Any:
                return db.get("photo")

            his = asyncio.ensure_future(cache.get(us.session(subject="bob"), "photo", slow))
            await underway.wait()
            hers = asyncio.ensure_future(cache.get(alice.at(us), "photo", load))
            await asyncio.sleep(0)
            let_go.set()
            assert (await his, await hers) == (None, "new")

    asyncio.run(main())


# --- across processes: each backend of its own, one server -----------------------------------------------------------


def backend(server: ValkeyServer) -> ValkeyBackend:
    return ValkeyBackend.from_url(server.url, timeout_s=10.0)


def test_of_many_processes_one_loads(server: ValkeyServer, cluster: MemoryCluster) -> None:
    store = store_at(cluster, "eu")
    backends = [backend(server) for _ in range(MANY)]
    caches = [CausalCache(store, one, lease_s=DEADLINE_S) for one in backends]
    load, threads = Loader(), Threads()
    for cache in caches:
        threads.start(cache, store.session(), load)
    assert load.called.wait(DEADLINE_S)
    load.let_go.set()
    threads.join()
    assert threads.found == [None] * MANY
    assert load.calls == 1
    with valkey.Valkey.from_url(server.url, socket_timeout=10) as client:
        assert client.keys() == [b"{causal:shop:0:photo}"]  # the lease was given back
    for one in backends:
        one.close()


def test_a_process_that_waits_and_is_not_covered_loads_itself(server: ValkeyServer, cluster: MemoryCluster) -> None:
    us, eu = store_at(cluster, "us"), store_at(cluster, "eu")
    us.head()
    cluster.pause("us")
    alice = eu.session(subject="alice")
    with alice.write() as tx:
        tx.put("photo", "new")
    backends = [backend(server) for _ in range(2)]
    first, second = (CausalCache(us, one, lease_s=DEADLINE_S) for one in backends)
    load, threads, hers = Loader(), Threads(), Threads()
    threads.start(first, us.session(subject="bob"), load)
    assert load.called.wait(DEADLINE_S)
    hers.start(second, alice.at(us), lambda db: db.get("photo"))
    until(lambda: bool(second._flights._flights))
    load.let_go.set()
    threads.join()
    hers.join()
    assert (threads.found, hers.found) == ([None], ["new"])
    for one in backends:
        one.close()


def test_a_lease_of_a_process_that_died_ends(
    server: ValkeyServer, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(cluster, "eu")
    one, other = backend(server), backend(server)
    cache = CausalCache(store, one, lease_s=DEADLINE_S)
    assert other.lease(cache.prefix + "photo", DEADLINE_S, None) is True
    looks: list[str] = []
    watch = one.watch
    monkeypatch.setattr(one, "watch", lambda key: looks.append(key) or watch(key))
    found: list[Any] = []
    waits = threading.Thread(
        target=lambda: found.append(cache.lookup(store.session(), "photo", lambda _: "loaded all the same"))
    )
    waits.start()
    until(lambda: len(looks) > 1)
    with valkey.Valkey.from_url(server.url, socket_timeout=10) as client:
        (lease,) = client.keys()
        assert 0 < client.pttl(lease) <= DEADLINE_S * 1000  # nobody need give it back
        client.pexpire(lease, 1)
    waits.join(DEADLINE_S)
    ((_, account),) = found
    assert account.outcome == "miss"
    assert account.waited_s > 0
    assert account.stored
    for each in (one, other):
        each.close()


def test_a_load_that_stores_nothing_gives_its_lease_back(server: ValkeyServer, cluster: MemoryCluster) -> None:
    store = store_at(cluster, "eu")
    one = backend(server)
    cache = CausalCache(store, one, lease_s=DEADLINE_S)
    with pytest.raises(ZeroDivisionError):
        cache.get(store.session(), "photo", lambda _: 1 // 0)
    assert one.watch(cache.prefix + "photo") == (None, False)
    value = object()
    assert cache.get(store.session(), "photo", lambda _: value) is value
    assert one.watch(cache.prefix + "photo") == (None, False)
    one.close()


def test_of_many_tasks_of_several_processes_one_loads(server: ValkeyServer, cluster: MemoryCluster) -> None:
    async def main() -> None:
        async with AsyncCausalStore(MemoryEngine(cluster=cluster), keyring=KEYS, audience="shop") as store:
            backends = [AsyncValkeyBackend.from_url(server.url, timeout_s=10.0) for _ in range(4)]
            caches = [AsyncCausalCache(store, one, lease_s=DEADLINE_S) for one in backends]
            calls: list[Any] = []

            async def load(db: Any) -> Any:
                calls.append(db)
                await asyncio.sleep(0.02)
                return db.get("photo")

            gets = (cache.get(store.session(), "photo", load) for cache in caches for _ in range(6))
            assert await asyncio.gather(*gets) == [None] * MANY
            assert len(calls) == 1
            for one in backends:
                await one.close()

    asyncio.run(main())
