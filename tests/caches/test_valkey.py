"""The cache on a real server, and on one that is down, slow, full, evicting, behind, or holds garbage: time is lost, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
import valkey
import valkey.asyncio

from causal import AsyncCausalStore, ConfigError, Frontier, Guarantee
from causal.caches import AsyncCausalCache, CausalCache
from causal.caches.base import NOTHING
from causal.caches.breaker import Breaker
from causal.caches.entry import Entry, decode, encode
from causal.caches.valkey import AsyncValkeyBackend, ValkeyBackend
from causal.core.frontier import pack
from causal.lab.valkey import ValkeyServer
from causal.stores.memory import MemoryEngine
from tests.caches.stage import RYW, SKEW_S, STALE_S, Stage

DEADLINE_S = 60.0
PREFIX = "causal:shop:0:"


@pytest.fixture
def backend(server: ValkeyServer) -> Iterator[ValkeyBackend]:
    with closing(ValkeyBackend.from_url(server.url, timeout_s=10.0)) as backend:
        yield backend


@pytest.fixture
def raw(server: ValkeyServer) -> Iterator[Any]:
    with closing(valkey.Valkey.from_url(server.url, socket_timeout=10.0)) as client:
        yield client


def name(key: str = "photo") -> bytes:
    return b"{%b%b}" % (PREFIX.encode(), key.encode())


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def the_story(stage: Stage) -> None:
    """The old row is served to nobody who knows better, whatever becomes of the cache."""
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    assert stage.get("us", bob) is None
    assert stage.get("us", bob) is None
    stage.put("eu", alice, "new")
    again = stage.session("alice", "us", alice.token())
    for _ in range(3):
        assert stage.get("us", again) == "new"
    assert stage.get("us", bob) in {None, "new"}
    if bob.seen >= alice.own:
        assert stage.get("us", bob) == "new"


# --- as it should be ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarantees", [None, RYW])
def test_the_story_on_a_server(backend: ValkeyBackend, guarantees: Guarantee | None) -> None:
    stage = Stage(backend, guarantees=guarantees)
    the_story(stage)
    assert [account.outcome for account in stage.accounts] == [
        "miss",
        "hit",
        "invalidated",
        "miss",
        "hit",
        "hit",
        "hit",
        "hit",
    ]
    assert backend.counts == {}
    assert not backend.down


def test_redis_py_speaks_the_same(server: ValkeyServer) -> None:
    with closing(redis.Redis.from_url(server.url, socket_timeout=10.0)) as client:
        the_story(Stage(ValkeyBackend(client)))


def test_a_hit_is_one_get_and_a_fill_one_script(backend: ValkeyBackend, raw: Any) -> None:
    stage = Stage(backend, lease_s=0)
    bob = stage.session("bob", "us")
    stage.get("us", bob)  # the server learns the script

    def commands(work: Callable[[], object]) -> dict[str, int]:
        raw.config_resetstat()
        work()
        stats = raw.info("commandstats")
        counted = {key.removeprefix("cmdstat_"): value["calls"] for key, value in stats.items()}
        return {key: counted[key] for key in ("get", "evalsha", "eval", "set", "del") if key in counted}

    stage.put("eu", bob, 1)
    assert commands(lambda: stage.get("eu", stage.session("carol"))) == {"get": 3, "evalsha": 1, "set": 1}
    assert stage.last.stored
    assert commands(lambda: stage.get("us", bob)) == {"get": 1}
    assert stage.last.outcome == "hit"
    assert commands(lambda: stage.caches["us"].invalidate(stage.stores["eu"].head(), "photo")) == {
        "get": 1,
        "evalsha": 1,
    }
    assert stage.last.outcome == "known"


def test_caches_of_several_processes_share_entries_and_invalidations(server: ValkeyServer) -> None:
    with closing(ValkeyBackend.from_url(server.url)) as one, closing(ValkeyBackend.from_url(server.url)) as other:
        stage = Stage(one)
        stage.caches["us"] = CausalCache(stage.stores["us"], other, on_account=stage.accounts.append)
        alice = stage.session("alice")
        assert stage.get("eu", alice) is None
        assert stage.get("us", alice) is None
        assert stage.last.outcome == "hit"
        block = stage.caches["eu"].write(alice, "photo")
        with block as tx:
            tx.put("photo", [1, 2])
            block.set("photo", [1, 2])
        assert stage.last.outcome == "written"
        for _ in range(2):
            found = stage.get("us", alice)
            assert found == [1, 2]
            assert stage.last.outcome == "hit"
            found.clear()


def test_an_entry_lives_as_long_as_it_is_good_and_no_longer(backend: ValkeyBackend, raw: Any) -> None:
    stage = Stage(backend)
    bob = stage.session("bob", "us")
    stage.stores["us"].head()
    stage.pass_s(600)
    stage.get("us", bob)
    assert 0 < raw.pttl(name()) <= (STALE_S - 600) * 1000
    stage.get("us", bob, "brief", ttl_s=5)
    assert 0 < raw.pttl(name("brief")) <= 5000
    stage.put("eu", stage.session("alice"), "new", "gone")
    assert (STALE_S - 600) * 1000 < raw.pttl(name("gone")) <= (STALE_S + SKEW_S) * 1000
    for key in ("photo", "gone"):
        raw.persist(name(key))  # a server that forgets to expire
    stage.pass_s(STALE_S - 600 - SKEW_S)
    stage.get("us", bob)
    assert stage.last.outcome == "hit"
    stage.wall_s += 0.1  # as far off as the clocks of two servers may be
    stage.get("us", bob)
    assert (stage.last.outcome, stage.last.why) == ("miss", "it is not shown to be fresh any more")


def test_caches_whose_clocks_may_differ_by_more_than_entries_live_are_refused(backend: ValkeyBackend) -> None:
    stage = Stage(backend)
    store = stage.stores["us"]
    store._state.max_staleness_s = store._state.max_clock_skew_s
    with pytest.raises(ConfigError, match="max_staleness_s > max_clock_skew_s"):
        CausalCache(store, backend)


def test_what_was_seen_of_other_stores_comes_through_the_bytes(backend: ValkeyBackend) -> None:
    stage = Stage(backend)
    alice, carol = stage.session("alice"), stage.session("carol", "us")
    alice.join(Frontier.of({pack(3 << 16, 7): 2**63}, {4: 9}))
    stage.put("eu", alice, "new")
    assert stage.get("us", alice) == "new"
    assert stage.get("us", carol) == "new"
    assert carol.seen.entries[pack(3 << 16, 7)] == 2**63
    assert carol.seen.floors == {4: 9}


def test_keys_of_any_text(backend: ValkeyBackend) -> None:
    stage = Stage(backend)
    bob = stage.session("bob", "us")
    for key in ("}", "{}", "a}b{", "ü/\u20ac\U0001f600", " ", "\n", "x" * 1000):
        for outcome in ("miss", "hit"):
            assert stage.caches["us"].get(bob, key, lambda _, key=key: key) == key
            assert stage.last.outcome == outcome


# --- garbage -------------------------------------------------------------------------------------------------------------------


def some_garbage() -> dict[str, bytes]:
    entry = Entry({pack(0, 1): 5, pack(0, 2): 0}, 2**63, NOTHING, b"\x63old")
    right = encode(name(), entry)
    return {
        "empty": b"",
        "text": b"a page of another application",
        "cut": right[:-1],
        "longer": right + b"\0",
        "flipped": right[:8] + bytes([right[8] ^ 1]) + right[9:],
        "another key's": encode(name("other"), entry),
        "newer version": b"\xcaC\x02" + right[3:],
        "no value": encode(name(), Entry({pack(0, 1): 5, pack(0, 2): 0}, 2**63, NOTHING, b"\xff")),
        "huge watermark, wrong sum": right[:14] + b"\xff" * 8 + right[22:],
    }


@pytest.mark.parametrize("garbage", some_garbage().values(), ids=some_garbage())
def test_garbage_is_a_miss_and_is_replaced(backend: ValkeyBackend, raw: Any, garbage: bytes) -> None:
    stage = Stage(backend)
    stage.put("eu", stage.session("alice"), "new")
    bob = stage.session("bob", "eu")
    raw.set(name(), garbage)
    assert stage.get("eu", bob) == "new"
    assert stage.last.outcome == "miss"
    assert stage.last.stored
    assert stage.get("eu", bob) == "new"
    assert stage.last.outcome == "hit"


def test_another_type_of_value_is_replaced(backend: ValkeyBackend, raw: Any) -> None:
    stage = Stage(backend)
    raw.rpush(name(), "a list")
    stage.get("us", stage.session("bob", "us"))
    assert stage.last.outcome == "miss"
    assert stage.last.stored
    assert not backend.down
    assert backend.counts == {"errors": 1}


@pytest.mark.parametrize("reply", [5, "text", [], None, True, object()], ids=lambda reply: type(reply).__name__)
def test_a_client_that_answers_nonsense(reply: Any) -> None:
    class Client:
        def __getattr__(self, _: str) -> Any:
            return lambda *_: reply

    the_story(Stage(ValkeyBackend(Client()), lease_s=0.01))


# --- down, slow, full, evicting ------------------------------------------------------------------------------------------------


@contextmanager
def a_server(**options: Any) -> Iterator[ValkeyServer]:
    with ValkeyServer({"repl-diskless-sync-delay": 0, **options}) as server:
        yield server


def test_a_server_that_is_down_costs_one_try_and_is_found_again() -> None:
    with a_server() as server, closing(ValkeyBackend.from_url(server.url, retry_s=3600.0)) as backend:
        now = [0.0]
        backend._breaker = Breaker(5.0, lambda: now[0])
        stage = Stage(backend)
        bob = stage.session("bob", "us")
        stage.get("us", bob)
        server.kill()
        the_story(stage)
        assert {account.outcome for account in stage.accounts[1:]} == {"down"}
        assert backend.down
        assert backend.counts == {"failures": 1}  # nobody else tried
        server.start()
        stage.get("us", bob)
        assert stage.last.outcome == "down"
        now[0] = 5.0
        stage.get("us", bob)
        assert (stage.last.outcome, stage.last.stored) == ("miss", True)
        stage.get("us", bob)
        assert stage.last.outcome == "hit"


def test_a_server_that_stalls_costs_one_timeout() -> None:
    with a_server() as server, closing(ValkeyBackend.from_url(server.url, timeout_s=0.1, retry_s=3600.0)) as backend:
        stage = Stage(backend)
        bob = stage.session("bob", "us")
        stage.get("us", bob)
        server.pause()
        the_story(stage)
        assert backend.counts == {"failures": 1}
        server.resume()


def test_a_socket_that_never_answers() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        with closing(ValkeyBackend.from_url(url, timeout_s=0.1, retry_s=3600.0)) as backend:
            the_story(Stage(backend))
            assert backend.counts == {"failures": 1}


def test_only_one_caller_tries_a_server_that_has_failed() -> None:
    now = [0.0]
    breaker = Breaker(1.0, lambda: now[0])
    assert breaker.allows()
    breaker.failed()
    assert breaker.open
    assert not breaker.allows()
    now[0] = 1.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    now[0] = 2.5
    assert breaker.allows()
    breaker.worked()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]
    assert not breaker.open


def test_a_server_that_is_full_keeps_no_entry_that_is_outdated() -> None:
    with a_server() as server, closing(ValkeyBackend.from_url(server.url, timeout_s=10.0)) as backend:
        stage = Stage(backend)
        bob = stage.session("bob", "us")
        assert stage.get("us", bob) is None
        with closing(valkey.Valkey.from_url(server.url, socket_timeout=10.0)) as raw:
            raw.config_set("maxmemory-policy", "noeviction")
            raw.config_set("maxmemory", "1")
            stage.get("us", bob)
            assert stage.last.outcome == "hit"
            stage.get("us", bob, "other")
            assert (stage.last.stored, stage.last.not_stored) == (False, "the cache failed")
            stage.put("eu", stage.session("alice"), "new")
            assert stage.last.outcome == "down"
            assert raw.get(name()) is None  # there is no room for a tombstone
            the_story(stage)
            assert not backend.down
            assert backend.counts["full"] >= 2


def test_a_server_that_evicts() -> None:
    options: dict[str, Any] = {"maxmemory": "3mb", "maxmemory-policy": "allkeys-random"}
    with (
        a_server(**options) as small,
        closing(ValkeyBackend.from_url(small.url, timeout_s=10.0)) as backend,
        closing(valkey.Valkey.from_url(small.url, socket_timeout=10.0)) as raw,
    ):
        stage = Stage(backend)
        alice = stage.session("alice")
        for number in range(400):
            key = f"k{number % 120}"
            stage.put("eu", alice, f"{number}" + "x" * 40_000, key)
            assert stage.get("eu", alice, key).startswith(f"{number}x")
        assert raw.info("stats")["evicted_keys"] > 0


def test_a_server_that_was_restarted_has_forgotten_its_scripts() -> None:
    with a_server() as server, closing(ValkeyBackend.from_url(server.url, timeout_s=10.0, retry_s=0.0)) as backend:
        the_story(Stage(backend))
        with closing(valkey.Valkey.from_url(server.url, socket_timeout=10.0)) as raw:
            raw.script_flush()
        the_story(Stage(backend, namespace="again"))
        assert backend.counts == {}


# --- a server with a replica of its own ----------------------------------------------------------------------------------------


def test_a_failover_to_a_replica_that_lags() -> None:
    with (
        a_server() as primary,
        a_server() as follower,
        closing(valkey.Valkey.from_url(primary.url, socket_timeout=10.0)) as raw,
        closing(valkey.Valkey.from_url(follower.url, socket_timeout=10.0)) as second,
        closing(ValkeyBackend.from_url(primary.url, timeout_s=10.0)) as before,
        closing(ValkeyBackend.from_url(follower.url, timeout_s=10.0)) as after,
    ):
        second.replicaof("127.0.0.1", primary.port)
        until(lambda: second.info("replication")["master_link_status"] == "up")
        stage = Stage(before)
        alice, bob = stage.session("alice"), stage.session("bob", "us")
        assert stage.get("us", bob) is None
        raw.execute_command("WAIT", 1, 10_000)
        old = second.get(name())
        second.replicaof("NO", "ONE")  # promoted; from here on it misses everything
        stage.put("eu", alice, "new")
        assert stage.get("eu", alice) == "new"
        assert decode(name(), old, NOTHING) is not None
        assert second.get(name()) == old
        for site in ("eu", "us"):
            stage.caches[site] = CausalCache(stage.stores[site], after, on_account=stage.accounts.append)
        assert stage.get("us", stage.session("carol", "us")) is None  # who demands nothing
        assert stage.last.outcome == "hit"
        assert stage.get("us", alice) == "new"
        assert stage.last.outcome == "behind"
        assert stage.last.stored
        assert stage.get("us", bob) == "new"
        assert stage.last.outcome == "hit"


def test_a_replica_that_takes_no_writes() -> None:
    with (
        a_server() as primary,
        a_server() as follower,
        closing(valkey.Valkey.from_url(follower.url, socket_timeout=10.0)) as second,
        closing(ValkeyBackend.from_url(follower.url, timeout_s=10.0)) as backend,
    ):
        second.replicaof("127.0.0.1", primary.port)
        until(lambda: second.info("replication")["master_link_status"] == "up")
        stage = Stage(backend, lease_s=0.05)
        the_story(stage)
        assert not any(account.stored for account in stage.accounts)
        assert backend.counts["errors"] > 0
        assert not backend.down


# --- clients -------------------------------------------------------------------------------------------------------------------


def test_a_client_that_could_wait_for_ever_or_decodes_is_refused(server: ValkeyServer) -> None:
    for options in ({"socket_timeout": None}, {"socket_timeout": 1.0, "decode_responses": True}):
        for made in (valkey.Valkey, valkey.asyncio.Valkey):
            client = made.from_url(server.url, **options)
            with pytest.raises(ConfigError):
                (ValkeyBackend if made is valkey.Valkey else AsyncValkeyBackend)(client)
    with pytest.raises(ConfigError):
        ValkeyBackend.from_url(server.url, retry_s=-1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_connects_for_itself(backend: ValkeyBackend) -> None:
    stage = Stage(backend)
    bob = stage.session("bob", "us")
    stage.get("us", bob)
    child = os.fork()
    if not child:
        code = 1
        signal.alarm(30)
        try:
            stage.get("us", bob)
            code = 0 if stage.last.outcome == "hit" else 2
        finally:
            os._exit(code)
    for _ in range(50):
        stage.get("us", bob)
        assert stage.last.outcome == "hit"
    assert os.waitpid(child, 0)[1] == 0


def test_many_threads_over_one_client(backend: ValkeyBackend) -> None:
    stage = Stage(backend)
    stage.cluster.resume("us")
    wrong: list[object] = []

    def one(number: int) -> None:
        session = stage.session(f"user {number}")
        for value in range(40):
            with stage.caches["eu"].write(session, f"k{number % 3}") as tx:
                tx.put(f"k{number % 3}/{number}", value)
            found = stage.caches["us"].get(
                session.at(stage.stores["us"]), f"k{number % 3}", lambda db: dict(db.scan(f"k{number % 3}/"))
            )
            if found.get(f"k{number % 3}/{number}") != value:
                wrong.append((number, value, found))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("module", [valkey.asyncio.Valkey, redis.asyncio.Redis], ids=["valkey-py", "redis-py"])
def test_the_story_over_asyncio(server: ValkeyServer, module: Any) -> None:
    async def main() -> None:
        stage = Stage()
        backend = AsyncValkeyBackend(module.from_url(server.url, socket_timeout=10.0))
        async with stage.async_store("eu") as eu, stage.async_store("us") as us:
            accounts: list[Any] = []
            at_eu, at_us = (AsyncCausalCache(store, backend, on_account=accounts.append) for store in (eu, us))
            alice, bob = eu.session(subject="alice"), us.session(subject="bob")

            async def load(db: Any) -> Any:
                return db.get("photo")

            for _ in range(2):
                assert await at_us.get(bob, "photo", load) is None
            block = at_eu.write(alice, "photo")
            async with block as tx:
                tx.put("photo", "new")
                assert await at_eu.get(alice, "photo", load) == "new"
            assert [account.outcome for account in block.accounts] == ["invalidated"]
            again = us.session(alice.token(), subject="alice")
            for _ in range(2):
                assert await at_us.get(again, "photo", load) == "new"
            value, account = await at_us.lookup(bob, "photo", load)
            assert (value, account.outcome) == ("new", "hit")

            @at_us.cached("profile:{user}")
            async def profile(db: Any, user: str) -> Any:
                return db.get(user)

            assert await profile(again, "alice") is None
            async with (through := at_eu.write(alice, profile.key("alice"))) as tx:
                tx.put("alice", [1])
                through.set(profile.key("alice"), [1])
            assert through.accounts[0].outcome == "written"
            assert await profile(again, "alice") == [1]
            assert accounts[-1].outcome == "hit"
            await at_us.invalidate(await eu.head(), "photo", profile.key("alice"))
            assert [account.outcome for account in accounts[-2:]] == ["invalidated", "known"]
            await at_us.invalidate(Frontier(), "photo")
            assert accounts[-1].outcome == "deleted"
            with pytest.raises(ZeroDivisionError):
                async with (failing := at_eu.write(alice, "photo")):
                    raise ZeroDivisionError
            assert not failing.accounts
        await backend.close()

    asyncio.run(main())


def test_a_server_that_stalls_or_is_down_over_asyncio() -> None:
    async def main(server: ValkeyServer) -> None:
        stage = Stage()
        backend = AsyncValkeyBackend.from_url(server.url, timeout_s=0.1, retry_s=3600.0)
        async with stage.async_store("us") as us:
            accounts: list[Any] = []
            cache = AsyncCausalCache(us, backend, on_account=accounts.append)
            bob = us.session(subject="bob")

            async def load(db: Any) -> Any:
                return db.get("photo")

            await cache.get(bob, "photo", load)
            server.pause()
            for _ in range(20):
                assert await cache.get(bob, "photo", load) is None
                assert accounts[-1].outcome == "down"
            async with (block := cache.write(bob, "photo")) as tx:
                tx.put("photo", "new")
            assert block.accounts[0].outcome == "down"
            assert backend.counts == {"failures": 1}
            server.resume()
        await backend.close()

    with a_server() as server:
        asyncio.run(main(server))


def test_tasks_that_are_cancelled_mix_nothing_up(server: ValkeyServer) -> None:
    """A reply that nobody waits for any more is not the next one's."""

    async def main() -> None:
        stage = Stage()
        backend = AsyncValkeyBackend.from_url(server.url, timeout_s=10.0, max_connections=4)
        async with stage.async_store("eu") as eu:
            cache = AsyncCausalCache(eu, backend, lease_s=0)
            session = eu.session()
            answered: list[bool] = []

            async def ask(number: int) -> None:
                async def load(_: Any) -> Any:
                    return f"value {number}"

                answered.append(await cache.get(session, f"k{number}", load) == f"value {number}")

            draw = random.Random(5)
            for _ in range(150):
                tasks = [asyncio.ensure_future(ask(draw.randrange(20))) for _ in range(4)]
                for _ in range(draw.randrange(6)):
                    await asyncio.sleep(0)
                draw.choice(tasks).cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            assert all(answered)
            assert len(answered) > 300
            assert backend.counts.get("garbage", 0) == 0
        await backend.close()

    asyncio.run(main())


def test_an_lru_serves_tasks_too() -> None:
    async def main() -> None:
        stage = Stage()
        engine = MemoryEngine(site="us", cluster=stage.cluster)
        async with AsyncCausalStore(engine, **stage._settings) as us:
            cache = AsyncCausalCache(us, stage.backend)
            bob = us.session(subject="bob")

            async def load(db: Any) -> Any:
                return db.get("photo")

            for _ in range(3):
                assert await cache.get(bob, "photo", load) is None
            assert stage.get("us", stage.session("carol", "us")) is None
            assert stage.last.outcome == "hit"  # the same entries as a synchronous cache's
            stage.put("eu", stage.session("alice"), [1])
            stage.cluster.resume("us")
            assert await cache.get(stage.session("alice").at(us), "photo", load) == [1]
            assert cache.counts["hit"] == 2

    asyncio.run(main())
