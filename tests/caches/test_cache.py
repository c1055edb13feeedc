"""A cache serves only what covers the session's demand, and stores only what its snapshot can answer for."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from typing import Any

import pytest

from causal import (
    CausalStore,
    ConfigError,
    Frontier,
    Guarantee,
    Keyring,
    NoEndpoint,
    Position,
    ReadPolicy,
    Token,
    Unreachable,
    WriteLost,
)
from causal.caches import AsyncCausalCache, CausalCache, LRUBackend, lookup
from causal.caches.base import HEARD_S
from causal.caches.entry import Entry
from causal.core.frontier import pack
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.caches.stage import KEYS, RYW, SKEW_S, STALE_S, Stage, loading


@pytest.fixture
def stage() -> Stage:
    return Stage()


def entry_of(stage: Stage, key: str = "photo") -> Entry:
    entry: Entry | None = stage.backend.get(stage.caches["us"].prefix + key)
    assert entry is not None
    return entry


def outcomes(stage: Stage) -> list[str]:
    return [account.outcome for account in stage.accounts]


# --- who is served what ------------------------------------------------------------------------------------------------


def test_the_old_row_is_served_to_nobody_who_knows_better(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    assert stage.get("us", bob) is None
    assert stage.get("us", bob) is None
    assert outcomes(stage) == ["miss", "hit"]
    with alice.write() as tx:
        tx.put("photo", "new")  # nobody tells the cache
    assert stage.get("us", alice) == "new"
    assert stage.last.outcome == "behind"
    assert stage.last.receipt is not None
    assert stage.last.receipt.endpoint == "eu"
    assert stage.last.stored
    assert stage.get("us", alice) == "new"
    assert stage.last.outcome == "hit"
    assert stage.get("us", bob) == "new"
    assert stage.caches["us"].counts == {"hit": 3, "miss": 1, "behind": 1, "stored": 2}


def test_the_token_alone_carries_the_demand(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.get("us", bob)
    with alice.write() as tx:
        tx.put("photo", "new")
    again = stage.session("alice", "us", alice.token())
    assert stage.get("us", again) == "new"


def test_a_hit_joins_what_the_entry_showed(stage: Stage) -> None:
    alice, bob, carol = stage.session("alice"), stage.session("bob", "us"), stage.session("carol", "us")
    stage.put("eu", alice, "new")
    assert stage.get("us", stage.session("alice", "us", alice.token())) == "new"
    quiet = CausalCache(stage.stores["us"], stage.backend)
    assert quiet.get(stage.session("dave", "us"), "photo", loading("photo")) == "new"
    for reader, cache in ((bob, stage.caches["us"]), (carol, quiet)):  # judged at length, and by way of a memo
        assert not reader.seen
        assert cache.get(reader, "photo", loading("photo")) == "new"
        assert reader.seen >= alice.own
        with (read := reader.read()) as db:
            assert db.get("photo") == "new"
        assert read.receipt.endpoint == "eu"


def test_an_effect_from_the_cache_demands_its_cause_of_the_cache_and_of_the_store() -> None:
    stage = Stage(shards=("posts", "replies"))
    alice, bob, carol = stage.session("alice"), stage.session("bob"), stage.session("carol", "us")
    assert stage.get("us", carol, "post", shard="posts") is None
    stage.put("eu", alice, "question", "post", shard="posts")
    stage.backend.clear()
    assert stage.get("us", carol, "post", shard="posts") is None  # an old entry, of a paused replica
    assert stage.get("eu", bob, "post", shard="posts", policy=ReadPolicy.leader()) == "question"
    stage.put("eu", bob, "answer", "reply", shard="replies")
    assert stage.get("us", bob, "reply", shard="replies") == "answer"
    stage.backend.put(  # as an eviction and a slow reader may leave it
        stage.caches["us"].prefix + "post",
        Entry({pack(0, 1): 0, pack(0, 2): 0}, 0, Frontier(), b"\xf6", 1e9),
    )
    assert stage.get("us", carol, "reply", shard="replies") == "answer"
    assert stage.last.outcome == "hit"
    assert stage.get("us", carol, "post", shard="posts") == "question"


def test_monotonic_reads_of_different_keys(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    assert stage.get("us", bob, "a") is None
    with alice.write() as tx:
        tx.put("a", 1)
        tx.put("b", 2)
    assert stage.get("us", alice, "b") == 2
    assert stage.get("us", bob, "b") == 2
    assert stage.get("us", bob, "a") == 1  # the entry of a is older than what b showed


def test_where_only_own_writes_count_what_was_read_does_not() -> None:
    stage = Stage(guarantees=RYW)
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    assert stage.get("us", bob, "a") is None
    with alice.write() as tx:
        tx.put("a", 1)
        tx.put("b", 2)
    assert stage.get("us", alice, "b") == 2
    assert stage.get("us", bob, "b") == 2
    assert stage.get("us", bob, "a") is None  # which monotonic reads would not allow
    assert stage.last.outcome == "hit"
    assert stage.get("us", alice, "a") == 1
    assert bob.seen >= alice.own  # what a hit showed counts at the store all the same


def test_without_guarantees_nothing_counts(stage: Stage) -> None:
    cache = stage.cache("us", guarantees=Guarantee.NONE)
    alice = stage.session("alice")
    assert cache.get(alice.at(stage.stores["us"]), "photo", loading("photo")) is None
    with alice.write() as tx:
        tx.put("photo", "new")
    assert cache.get(alice.at(stage.stores["us"]), "photo", loading("photo")) is None


@pytest.mark.parametrize("guarantees", [Guarantee.MONOTONIC_READS, Guarantee.WRITES_FOLLOW_READS])
def test_where_reads_count_own_writes_do_too(guarantees: Guarantee) -> None:
    stage = Stage(guarantees=guarantees)
    alice = stage.session("alice")
    assert stage.get("us", alice) is None
    with alice.write() as tx:
        tx.put("photo", "new")
    stage.caches["us"].get(alice, "photo", loading("photo"))
    assert stage.last.outcome == "behind"


def test_a_hit_that_was_judged_is_judged_anew_when_anything_moves(stage: Stage) -> None:
    quiet = CausalCache(stage.stores["us"], stage.backend)
    alice = stage.session("alice").at(stage.stores["us"])
    get = lambda **options: quiet.get(alice, "photo", loading("photo"), **options)  # noqa: E731
    assert [get(), get(), get()] == [None] * 3
    assert quiet.counts["hit"] == 2
    with stage.session("bob").write() as tx:
        tx.put("photo", "his")
    assert get() is None  # he is somebody else
    with alice.at(stage.stores["eu"]).write() as tx:
        tx.put("photo", "hers")
    assert get() == "hers"
    assert get() == "hers"
    assert quiet.counts == {"hit": 4, "miss": 1, "behind": 1, "stored": 2}


def test_nor_does_a_judgement_outlast_what_a_session_has_read(stage: Stage) -> None:
    quiet = CausalCache(stage.stores["us"], stage.backend)
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    for _ in range(3):
        assert quiet.get(bob, "a", loading("a")) is None
    with alice.write() as tx:
        tx.put("a", 1)
        tx.put("b", 2)
    assert quiet.get(alice.at(stage.stores["us"]), "b", loading("b")) == 2
    assert quiet.get(bob, "b", loading("b")) == 2
    assert quiet.get(bob, "a", loading("a")) == 1


def test_nor_the_history_that_it_is_of(stage: Stage) -> None:
    quiet = CausalCache(stage.stores["eu"], stage.backend)
    stage.put("eu", stage.session("alice"), "new")
    carol = stage.session("carol")
    for _ in range(3):
        assert quiet.get(carol, "photo", loading("photo")) == "new"
    stage.cluster.fail_over("eu")
    stage.stores["eu"].head()
    assert quiet.get(carol, "photo", loading("photo")) is None
    assert quiet.get(stage.session("dave"), "photo", loading("photo")) is None


def test_nor_its_time(stage: Stage) -> None:
    quiet = CausalCache(stage.stores["us"], stage.backend, ttl_s=10)
    bob = stage.session("bob", "us")
    for passed_s, misses in ((0, 1), (10, 1), (0.1, 2), (10, 2)):
        stage.pass_s(passed_s)
        quiet.get(bob, "photo", loading("photo"))
        quiet.get(stage.session("carol", "us"), "photo", loading("photo"))
        assert quiet.counts["miss"] == misses


def test_two_caches_of_different_promises_share_entries_and_no_judgement(stage: Stage) -> None:
    strict, lax = (CausalCache(stage.stores["us"], stage.backend, guarantees=g) for g in (None, Guarantee.NONE))
    alice = stage.session("alice").at(stage.stores["us"])
    for cache in (strict, strict, strict):
        assert cache.get(alice, "photo", loading("photo")) is None
    with alice.at(stage.stores["eu"]).write() as tx:
        tx.put("photo", "new")
    for _ in range(3):
        assert lax.get(alice, "photo", loading("photo")) is None  # it is not told of her write
    assert strict.get(alice, "photo", loading("photo")) == "new"


# --- when only the gate can answer ---------------------------------------------------------------------------------------


def test_a_leader_mark_bypasses(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob)
    with stage.session("alice").write() as tx:
        tx.put("photo", "new")
    marked = stage.session("alice", "us", Keyring.generate().seal(_some_token(), subject="alice", audience="shop"))
    assert marked.rejected
    for _ in range(2):
        assert stage.get("us", marked) == "new"
        assert stage.last.outcome == "bypass"
        assert "leader mark" in stage.last.why
        assert stage.last.stored  # what was read is as good as any other
    quiet = CausalCache(stage.stores["us"], stage.backend)
    assert quiet.get(marked, "photo", loading("photo")) == "new"
    assert quiet.counts["bypass"] == 1
    stage.pass_s(STALE_S + SKEW_S + 2)  # when it has lapsed, nothing of it counts
    stage.cluster.resume("us")
    stage.get("us", marked)
    assert stage.get("us", marked) == "new"
    assert stage.last.outcome == "hit"


def _some_token() -> Any:
    return Token(Frontier((Position(0, 1, 1),)), expires_at=2_000_000_000)


def test_a_mark_that_lists_the_shard_does_not_bypass() -> None:
    stage = Stage(shards=("x", "y"))
    bob = stage.session("bob", "us")
    for shard in ("x", "y"):
        stage.get("us", bob, shard, shard=shard)
    bob._state.mark(0, int(stage.wall_s) + 100, exact=[0])
    stage.get("us", bob, "x", shard="x")
    assert stage.last.outcome == "hit"
    stage.get("us", bob, "y", shard="y")
    assert stage.last.outcome == "bypass"
    stage.caches["us"].get(bob, "both", lambda *_: None, shard=("x", "y"))
    assert stage.last.outcome == "bypass"


def test_a_floor_bypasses(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob)
    bob.join(Frontier.of({}, {0: 0}))
    stage.get("us", bob)
    assert (stage.last.outcome, stage.last.why) == ("bypass", "what was seen is folded into a floor")
    quiet = CausalCache(stage.stores["us"], stage.backend)
    quiet.get(bob, "photo", loading("photo"))
    assert quiet.counts["bypass"] == 1
    other = CausalCache(stage.stores["us"], stage.backend, guarantees=RYW)
    other.get(bob, "photo", loading("photo"))
    assert other.counts["hit"] == 1  # own writes are never folded


def test_a_lost_write_is_said_and_not_covered_up(stage: Stage) -> None:
    alice = stage.session("alice")
    stage.put("eu", alice, "new")
    assert stage.get("eu", alice) == "new"
    assert stage.get("eu", alice) == "new"
    assert stage.last.outcome == "hit"
    stage.cluster.fail_over("eu")
    stage.stores["eu"].head()
    with pytest.raises(WriteLost) as caught:
        stage.get("eu", alice)
    alice.forget(caught.value.lost)
    assert stage.get("eu", alice) is None


def test_what_was_seen_and_lost_is_the_gate_s_to_clip(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob")
    stage.put("eu", alice, "new")
    assert stage.get("eu", bob) == "new"
    stage.cluster.fail_over("eu")
    stage.stores["eu"].head()
    assert stage.get("eu", bob) is None
    assert (stage.last.outcome, stage.last.why) == ("bypass", "what was seen is past the end of its history")
    assert stage.last.receipt is not None
    assert stage.last.receipt.clipped


def test_an_entry_of_a_dead_branch_is_removed(stage: Stage) -> None:
    alice, carol = stage.session("alice"), stage.session("carol")
    stage.put("eu", alice, "new")
    assert stage.get("eu", alice) == "new"
    quiet = CausalCache(stage.stores["eu"], stage.backend)
    stage.cluster.fail_over("eu")
    stage.stores["eu"].head()
    assert quiet.get(carol, "photo", loading("photo")) is None
    assert quiet.counts["dead"] == 1
    assert quiet.counts["stored"] == 1  # it stood in the way of what survives
    assert stage.get("eu", carol) is None
    assert stage.last.outcome == "hit"


def test_a_tombstone_of_a_dead_branch_is_removed(stage: Stage) -> None:
    alice, carol = stage.session("alice"), stage.session("carol")
    stage.put("eu", alice, "new")
    stage.cluster.fail_over("eu")
    stage.stores["eu"].head()
    assert stage.get("eu", carol) is None
    assert stage.last.outcome == "dead"
    assert stage.last.stored


def test_who_has_asked_nobody_yet_asks_before_the_first_hit(stage: Stage) -> None:
    alice = stage.session("alice")
    stage.put("eu", alice, "new")
    assert stage.get("eu", alice) == "new"
    stage.cluster.fail_over("eu")
    stage.stores["late"] = stage.store("eu")
    stage.caches["late"] = stage.cache("late")
    with pytest.raises(WriteLost):
        stage.get("late", alice)


def test_who_has_asked_nobody_yet_takes_no_short_cut(stage: Stage) -> None:
    stage.put("eu", stage.session("alice"), "lost")
    assert stage.get("eu", stage.session("bob")) == "lost"
    stage.cluster.fail_over("eu")
    late = stage.store("eu")
    quiet = CausalCache(late, stage.backend)  # with a listener, there is no short cut
    assert quiet.get(late.session(), "photo", loading("photo")) is None
    assert quiet.counts["dead"] == 1


def test_nor_does_who_is_asynchronous(stage: Stage) -> None:
    stage.put("eu", stage.session("alice"), "lost")
    assert stage.get("eu", stage.session("bob")) == "lost"
    stage.cluster.fail_over("eu")
    late = stage.async_store("eu")

    async def load(connection: Any) -> Any:
        return connection.get("photo")

    async def main() -> None:
        quiet = AsyncCausalCache(late, stage.backend)
        assert await quiet.get(late.session(), "photo", load) is None
        assert quiet.counts["dead"] == 1
        await late.close()

    asyncio.run(main())


# --- what nobody has told this process -------------------------------------------------------------------------------------


def test_a_hit_is_served_only_if_an_endpoint_was_asked_lately(stage: Stage) -> None:
    alice = stage.session("alice")
    stage.put("eu", alice, "new")
    assert stage.get("eu", alice) == "new"
    stage.cluster.fail_over("eu")  # and nobody says so
    stage.pass_s(HEARD_S / 2)
    assert stage.get("eu", alice) == "new"
    assert stage.last.outcome == "hit"
    stage.pass_s(HEARD_S)
    with pytest.raises(WriteLost):
        stage.get("eu", alice)


def test_nor_is_one_that_was_judged_before(stage: Stage) -> None:
    alice = stage.session("alice")
    stage.put("eu", alice, "new")
    quiet = CausalCache(stage.stores["eu"], stage.backend)
    for _ in range(3):
        assert quiet.get(alice, "photo", loading("photo")) == "new"
    assert quiet.counts["hit"] >= 2
    stage.cluster.fail_over("eu")
    stage.pass_s(2 * HEARD_S)
    with pytest.raises(WriteLost):
        quiet.get(alice, "photo", loading("photo"))


def test_asynchronous_ones_neither(stage: Stage) -> None:
    async def load(connection: Any) -> Any:
        return connection.get("photo")

    async def main() -> None:
        store = stage.async_store("eu")
        cache = AsyncCausalCache(store, stage.backend)
        alice = store.session(subject="alice")
        async with cache.write(alice, "photo") as tx:
            tx.put("photo", "new")
        for _ in range(3):
            assert await cache.get(alice, "photo", load) == "new"
        assert cache.counts["hit"] >= 2
        stage.cluster.fail_over("eu")
        stage.pass_s(2 * HEARD_S)
        with pytest.raises(WriteLost):
            await cache.get(alice, "photo", load)
        await store.close()

    asyncio.run(main())


def test_a_cache_serves_nobody_where_no_endpoint_answers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    bob, store = stage.session("bob"), stage.stores["eu"]
    assert stage.get("eu", bob) is None
    assert stage.get("eu", bob) is None
    assert stage.last.outcome == "hit"

    def silent(*_: Any) -> Any:
        raise Unreachable("no answer")

    for method in ("probe", "read"):
        monkeypatch.setattr(store._live, method, silent)
    stage.pass_s(2 * HEARD_S)
    with pytest.raises(NoEndpoint):
        stage.get("eu", bob)
    outage = stage.session("bob").at(store)
    outage._state.policy = ReadPolicy(unproven="serve")
    assert stage.get("eu", outage) is None  # whoever would rather have an old page than none
    assert stage.last.outcome == "hit"


def test_one_thread_asks_for_all(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    bob, store = stage.session("bob"), stage.stores["eu"]
    stage.get("eu", bob)
    link, asked, together = store._live, [], threading.Barrier(8)
    assert link is not None
    probe = link.probe

    def counted(*given: Any) -> Any:
        asked.append(given)
        return probe(*given)

    monkeypatch.setattr(link, "probe", counted)
    stage.pass_s(10 * HEARD_S)

    def reads() -> None:
        together.wait()
        for _ in range(50):
            stage.caches["eu"].get(stage.session("carol"), "photo", loading("photo"))

    threads = [threading.Thread(target=reads) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


@pytest.mark.parametrize(
    "policy",
    [ReadPolicy.leader(), ReadPolicy.quorum(2), ReadPolicy.bounded(5), ReadPolicy.leader_window(5)],
    ids=str,
)
def test_a_policy_that_asks_for_more_is_not_satisfied_by_a_hit(stage: Stage, policy: ReadPolicy) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob)
    with stage.session("alice").write() as tx:
        tx.put("photo", "new")
    stage.get("us", bob, policy=policy)
    assert stage.last.outcome == "bypass"
    quiet = CausalCache(stage.stores["us"], stage.backend)
    other = stage.stores["us"].session(subject="bob", policy=policy)
    quiet.get(other, "photo", loading("photo"))
    assert quiet.counts["bypass"] == 1
    store = stage.store("us", policy=policy)
    quiet = CausalCache(store, stage.backend)
    for _ in range(2):
        quiet.get(store.session(subject="bob"), "photo", loading("photo"))
    assert quiet.counts["bypass"] == 2


def test_an_eventual_read_takes_what_covers_and_is_never_stored(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob, policy=ReadPolicy.eventual())
    assert (stage.last.outcome, stage.last.stored) == ("miss", False)
    assert stage.last.not_stored == "the read did not hold the session's guarantees"
    stage.get("us", bob)
    stage.get("us", bob, policy=ReadPolicy.eventual())
    assert stage.last.outcome == "hit"


def test_a_stale_read_is_not_stored(stage: Stage) -> None:
    alice = stage.session("alice")
    with alice.write() as tx:
        tx.put("photo", "new")
    stage.cluster.stop("eu")
    assert stage.get("us", alice, policy=ReadPolicy(wait_s=0.01, then="stale")) is None
    assert stage.last.receipt is not None
    assert not stage.last.receipt.held
    assert not stage.last.stored


# --- inside write blocks -------------------------------------------------------------------------------------------------


def test_inside_a_write_block_neither_hit_nor_fill(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob")
    quiet = CausalCache(stage.stores["eu"], stage.backend)
    for _ in range(3):
        assert quiet.get(alice, "photo", loading("photo")) is None
    with suppress(ZeroDivisionError), alice.write() as tx:
        tx.put("photo", "never committed")
        assert quiet.get(alice, "photo", loading("photo")) == "never committed"
        assert stage.get("eu", alice) == "never committed"
        assert stage.last.outcome == "bypass"
        assert not stage.last.stored
        assert stage.get("eu", alice, "another") is None
        assert not stage.last.stored
        raise ZeroDivisionError
    for session in (alice, bob):
        assert stage.get("eu", session) is None
        assert quiet.get(session, "photo", loading("photo")) is None


def test_another_shard_is_hit_inside_a_write_block_and_not_filled() -> None:
    stage = Stage(shards=("x", "y"))
    alice = stage.session("alice")
    stage.get("eu", alice, "y", shard="y")
    with alice.write(shard="x"):
        stage.get("eu", alice, "y", shard="y")
        assert stage.last.outcome == "hit"
        stage.get("eu", alice, "other", shard="y")
        assert (stage.last.outcome, stage.last.stored) == ("miss", False)
        assert stage.last.not_stored == "a write block of the session is open"
    stage.get("eu", alice, "other", shard="y")
    assert stage.last.stored


# --- what may be stored ----------------------------------------------------------------------------------------------------


def test_an_entry_says_what_its_snapshot_held(stage: Stage) -> None:
    alice = stage.session("alice")
    stage.put("eu", alice, "new")
    stage.get("eu", alice)
    entry = entry_of(stage)
    assert dict(entry.wm) == {pack(0, 1): 1, pack(0, 2): 0}
    assert entry.seen == alice.own
    assert entry.fresh_until == stage.now_s + STALE_S
    assert entry.good_until_ms == int((stage.wall_s + STALE_S) * 1000)


def test_an_entry_is_as_old_as_its_replica_was_shown_to_be(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.stores["us"].head()
    began = stage.now_s
    stage.pass_s(600)
    stage.get("us", bob)
    assert stage.last.receipt is not None
    assert stage.last.receipt.endpoint == "us"
    assert entry_of(stage).fresh_until == began + STALE_S
    assert entry_of(stage).good_until_ms == int((stage.wall_s - 600 + STALE_S) * 1000)
    stage.pass_s(STALE_S - 600)
    stage.get("us", bob)
    assert stage.last.outcome == "hit"
    stage.pass_s(0.1)
    stage.get("us", bob)
    assert (stage.last.outcome, stage.last.why) == ("miss", "it is not shown to be fresh any more")


def test_who_numbers_everything_is_current_however_long_ago_that_was_found_out() -> None:
    cluster = MemoryCluster(("only",))
    now = [0.0]
    store = CausalStore(MemoryEngine(cluster=cluster), keyring=KEYS, audience="shop", monotonic=lambda: now[0])
    cache = CausalCache(store, LRUBackend())
    session = store.session()
    for wanted in ("miss", "hit", "miss"):
        _, account = cache.lookup(session, "photo", loading("photo"))
        assert account.outcome == wanted
        assert account.stored == (wanted == "miss")
        now[0] += 500.0


def test_what_is_not_shown_to_be_fresh_is_not_stored(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob)
    stage.cluster.stop("eu")
    stage.pass_s(STALE_S + 1)
    stage.get("us", bob, policy=ReadPolicy(unproven="serve"))
    assert stage.last.outcome == "miss"
    assert not stage.last.stored
    assert stage.last.not_stored in {"it is not shown to be fresh", "it is not shown to be fresh enough"}


def test_the_try_that_answered_is_the_one_that_counts(stage: Stage) -> None:
    alice = stage.session("alice", "us")
    stage.get("us", alice, "other")
    with stage.session("bob").write() as tx:
        tx.put("photo", "new")
    tries: list[str] = []

    def load(db: Any) -> Any:
        tries.append(db.site.name)
        found = db.get("photo")
        if len(tries) == 1:
            raise Unreachable("gone underway")
        return found

    assert stage.caches["us"].get(alice, "photo", load) == "new"
    assert tries == ["us", "eu"]
    assert dict(entry_of(stage).wm) == {pack(0, 1): 1, pack(0, 2): 0}


def test_tries_come_to_an_end(stage: Stage) -> None:
    tries: list[str] = []

    def load(db: Any) -> Any:
        tries.append(db.site.name)
        raise Unreachable("gone underway")

    with pytest.raises(Unreachable):
        stage.caches["us"].get(stage.session("alice", "us"), "photo", load)
    assert len(tries) == 3


def test_a_slow_reader_does_not_bring_the_old_row_back(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")

    def slow(db: Any) -> Any:
        found = db.get("photo")
        stage.put("eu", alice, "new")
        assert stage.get("eu", alice) == "new"  # stored while the slow one is underway
        return found

    assert stage.caches["us"].get(bob, "photo", slow) is None
    assert (stage.last.outcome, stage.last.not_stored) == ("miss", "what is there is newer")
    assert stage.get("us", bob) == "new"
    assert stage.last.outcome == "hit"


def test_nor_past_a_tombstone(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")

    def slow(db: Any) -> Any:
        found = db.get("photo")
        stage.put("eu", alice, "new")
        return found

    assert stage.caches["us"].get(bob, "photo", slow) is None
    assert stage.last.not_stored == "what is there is newer"
    assert stage.get("us", bob) is None  # us is behind, and bob demands nothing of it
    assert (stage.last.outcome, stage.last.why, stage.last.stored) == ("miss", "it was invalidated", False)
    stage.cluster.resume("us")
    stage.stores["us"].head()
    assert stage.get("us", bob) == "new"
    assert stage.last.stored


def test_a_session_that_moves_while_it_loads_gets_what_it_read_then(stage: Stage) -> None:
    alice = stage.session("alice", "us")

    def moving(db: Any) -> Any:
        found = db.get("photo")
        with alice.at(stage.stores["eu"]).write() as tx:
            tx.put("photo", "new")
        return found

    assert stage.caches["us"].get(alice, "photo", moving) is None
    assert stage.last.stored  # true of its snapshot
    assert stage.get("us", alice) == "new"
    assert stage.last.outcome == "behind"


def test_nothing_is_a_value_too(stage: Stage) -> None:
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    assert stage.get("us", bob) is None
    assert stage.get("us", bob) is None
    assert stage.last.outcome == "hit"
    with alice.write() as tx:
        tx.put("photo", "new")
    assert stage.get("us", alice) == "new"


# --- several shards --------------------------------------------------------------------------------------------------------


def test_an_entry_of_several_shards_covers_all_of_them() -> None:
    stage = Stage(shards=("x", "y"))
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    page = lambda session, site="us": stage.caches[site].get(  # noqa: E731
        session.at(stage.stores[site]), "page", lambda x, y: [x.get("a"), y.get("b")], shard=("x", "y")
    )
    assert page(bob) == [None, None]
    assert page(bob) == [None, None]
    assert stage.last.outcome == "hit"
    with alice.write(shard="y") as tx:
        tx.put("b", 2)
    assert page(alice) == [None, 2]
    assert stage.last.outcome == "behind"
    with alice.write(shard="x") as tx:
        tx.put("a", 1)
    assert page(alice) == [1, 2]
    assert entry_of(stage, "page").shards == {0, 1}
    assert page(bob) == [1, 2]
    assert stage.last.outcome == "hit"


def test_what_was_read_from_other_shards_is_another_thing() -> None:
    stage = Stage(shards=("x", "y"))
    bob = stage.session("bob", "us")
    quiet = CausalCache(stage.stores["us"], stage.backend)
    assert quiet.get(bob, "page", lambda _: "of x", shard="x") == "of x"
    assert quiet.get(bob, "page", lambda *_: "of both", shard=("x", "y")) == "of both"
    assert stage.caches["us"].get(bob, "page", lambda *_: "of y", shard="y") == "of y"
    assert (stage.last.outcome, stage.last.why) == ("miss", "what is there was read from other shards")
    for wrong in ((), ("x", "x"), ("z",), "z", None):
        with pytest.raises(ConfigError):
            quiet.get(bob, "page", lambda *_: None, shard=wrong)


def test_a_value_never_shows_an_effect_without_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(shards=("posts", "replies"))
    alice, bob = stage.session("alice"), stage.session("bob", "us")
    stage.stores["us"].head()
    entered = lookup.Reading.entered
    seen: list[Any] = []

    def late(reading: lookup.Reading) -> None:
        """Let the world go on between the two snapshots of the first try."""
        entered(reading)
        if not seen:
            seen.append(reading.block)
            for shard, text in (("posts", "question"), ("replies", "answer")):
                with alice.write(shard=shard) as tx:
                    tx.put(shard, text)
            stage.cluster.catch_up("us")

    monkeypatch.setattr(lookup.Reading, "entered", late)
    tries: list[Any] = []

    def load(posts: Any, replies: Any) -> Any:
        tries.append([posts.get("posts"), replies.get("replies")])
        return tries[-1]

    found = stage.caches["us"].get(bob, "page", load, shard=("posts", "replies"))
    assert tries == [[None, "answer"], ["question", "answer"]]
    assert found == tries[-1]
    assert stage.last.stored


# --- values ----------------------------------------------------------------------------------------------------------------


def test_who_changes_a_value_changes_their_own(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    get = lambda: stage.caches["us"].get(bob, "photo", lambda _: {"likes": [1]})  # noqa: E731
    quiet = CausalCache(stage.stores["us"], stage.backend)
    for _ in range(3):
        found = get()
        assert found == {"likes": [1]}
        found["likes"].append(2)
        found = quiet.get(bob, "photo", lambda _: {"likes": [1]})
        assert found == {"likes": [1]}
        found.clear()


def test_a_miss_hands_out_what_a_hit_would(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    for policy in (None, None, ReadPolicy.leader()):
        assert stage.caches["us"].get(bob, "pair", lambda _: (1, 2), policy=policy) == [1, 2]


def test_values_may_be_shared_by_who_never_changes_them(stage: Stage) -> None:
    cache = stage.cache("us", share=True)
    bob, value = stage.session("bob", "us"), object()
    assert cache.get(bob, "thing", lambda _: value) is value
    assert cache.get(bob, "thing", lambda _: object()) is value


def test_a_value_without_an_encoding_is_handed_out_and_not_stored(stage: Stage) -> None:
    bob, value = stage.session("bob", "us"), object()
    assert stage.caches["us"].get(bob, "thing", lambda _: value) is value
    assert stage.last.not_stored == "the value cannot be encoded"
    assert stage.backend.get(stage.caches["us"].prefix + "thing") is None


def test_another_encoding_and_one_that_fails_to_decode(stage: Stage) -> None:
    cache = stage.cache("us", serialize=repr_bytes, deserialize=lambda data: int(data.decode()))
    bob = stage.session("bob", "us")
    assert cache.get(bob, "n", lambda _: 5) == 5
    assert cache.get(bob, "n", lambda _: 6) == 5
    entry = entry_of(stage, "n")
    broken = Entry(entry.wm, entry.good_until_ms, entry.seen, b"five", entry.fresh_until)
    stage.backend.put(cache.prefix + "n", broken)
    assert cache.get(bob, "n", lambda _: 7) == 7
    assert "cannot be decoded" in stage.last.why
    assert stage.last.stored
    quiet = CausalCache(
        stage.stores["us"], stage.backend, serialize=repr_bytes, deserialize=lambda data: int(data.decode())
    )
    stage.backend.put(cache.prefix + "n", broken)
    assert quiet.get(bob, "n", lambda _: 8) == 8


def repr_bytes(value: object) -> bytes:
    return repr(value).encode()


# --- times to live, names, settings ------------------------------------------------------------------------------------------


def test_a_time_to_live_only_shortens(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob, ttl_s=10)
    stage.pass_s(10)
    stage.get("us", bob)
    assert stage.last.outcome == "hit"
    stage.pass_s(0.1)
    stage.get("us", bob, ttl_s=10_000)
    assert stage.last.outcome == "miss"
    assert entry_of(stage).fresh_until == stage.now_s - 10.1 + STALE_S  # as fresh as us was last shown to be
    cache = stage.cache("us", ttl_s=5)
    cache.get(bob, "other", loading("other"))
    stage.pass_s(5.1)
    cache.get(bob, "other", loading("other"))
    assert stage.last.outcome == "miss"


def test_a_wall_clock_that_jumps_does_not_age_what_is_in_the_process(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob)
    for jump_s in (1e6, -2e6):
        stage.wall_s += jump_s
        stage.get("us", bob)
        assert stage.last.outcome == "hit"
    stage.pass_s(STALE_S + 1)
    stage.get("us", bob)
    assert stage.last.outcome == "miss"


def test_two_stores_with_one_backend_are_kept_apart(stage: Stage) -> None:
    other = Stage(stage.backend)
    bob, eve = stage.session("bob", "us"), other.session("eve", "us")
    with other.session("eve").write() as tx:
        tx.put("photo", "of another application")
    elsewhere = CausalStore(MemoryEngine(), keyring=KEYS, audience="forum")
    numbered = CausalStore(MemoryEngine(store=3), keyring=KEYS, audience="shop", number=3)
    assert stage.get("us", bob) is None
    for store in (elsewhere, numbered):
        cache = CausalCache(store, stage.backend)
        assert cache.get(store.session(), "photo", lambda _: "theirs") == "theirs"
    assert stage.get("us", bob) is None
    assert stage.last.outcome == "hit"  # nor do they take each other's places
    named = CausalCache(other.stores["us"], stage.backend, namespace="other")
    assert named.get(eve, "photo", lambda _: "eve's") == "eve's"
    assert stage.get("us", bob) is None


def test_no_namespace_spells_the_keys_of_another(stage: Stage) -> None:
    shop = CausalCache(stage.stores["eu"], stage.backend, namespace="shop")
    part = CausalCache(stage.stores["eu"], stage.backend, namespace="shop:0:eu")
    bob = stage.session("bob")
    assert shop.get(bob, "eu:0:photo", lambda _: "the shop's") == "the shop's"
    assert part.get(bob, "photo", lambda _: "eu's") == "eu's"


def test_a_session_of_another_store_reads_this_one(stage: Stage) -> None:
    home = CausalStore(MemoryEngine(store=3), keyring=KEYS, audience="shop", number=3)
    session = home.session(subject="alice")
    with session.write() as tx:
        tx.put("photo", "elsewhere")  # a position of another store demands nothing here
    with session.write(stage.stores["eu"]) as tx:
        tx.put("photo", "here")
    for outcome in ("miss", "hit"):
        assert stage.caches["us"].get(session, "photo", loading("photo")) == "here"
        assert stage.last.outcome == outcome


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl_s": -1},
        {"ttl_s": float("nan")},
        {"lease_s": "1"},
        {"namespace": ""},
        {"namespace": "{a}"},
        {"guarantees": "all"},
        {"serialize": 5},
        {"on_account": 5},
    ],
)
def test_settings_that_cannot_be_right(stage: Stage, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CausalCache(stage.stores["us"], LRUBackend(), **wrong)


@pytest.mark.parametrize("wrong", ["", "x" * 2000, 5])
def test_keys_that_cannot_be_right(stage: Stage, wrong: Any) -> None:
    with pytest.raises((ConfigError, TypeError)):
        stage.caches["us"].get(stage.session("bob", "us"), wrong, loading("photo"))


def test_whoever_listens_cannot_make_a_lookup_fail(stage: Stage) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    cache = CausalCache(stage.stores["us"], LRUBackend(), on_account=broken)
    assert cache.get(stage.session("bob", "us"), "photo", loading("photo")) is None


def test_an_account_as_plain_values(stage: Stage) -> None:
    _, account = stage.caches["us"].lookup(stage.session("bob", "us"), "photo", loading("photo"))
    plain = account.as_dict()
    assert plain["outcome"] == "miss"
    assert plain["receipt"]["endpoint"] == "us"
    assert str(account) == "miss (nothing is there); read covered at us; stored"
    assert not account.served


# --- the decorator ------------------------------------------------------------------------------------------------------------


def test_a_cached_loader(stage: Stage) -> None:
    @stage.caches["us"].cached("profile:{user}:{page}")
    def profile(db: Any, user: str, page: int = 1) -> Any:
        """A profile."""
        return db.get(f"{user}/{page}")

    alice = stage.session("alice", "us")
    assert profile(alice, "alice") is None
    assert profile(alice, "alice", page=1) is None
    assert [account.key for account in stage.accounts] == ["profile:alice:1"] * 2
    assert outcomes(stage) == ["miss", "hit"]
    assert profile.key("alice", 2) == "profile:alice:2"
    assert profile.__doc__ == "A profile."
    with stage.caches["eu"].write(alice, profile.key("alice")) as tx:
        tx.put("alice/1", "new")
    assert profile(alice, "alice") == "new"


def test_no_two_calls_share_a_key(stage: Stage) -> None:
    @stage.caches["us"].cached("p:{a}:{b}")
    def page(db: Any, a: str, b: str) -> Any:
        del db
        return [a, b]

    bob = stage.session("bob", "us")
    assert page(bob, "x:y", "z") == ["x:y", "z"]
    assert page(bob, "x", "y:z") == ["x", "y:z"]
    assert page.key("x:y", "z") != page.key("x", "y:z")
    assert page.key("%3A", "") != page.key(":", "")
    for wrong in (True, None, 1.5, ["a"], "\ud800"):
        with pytest.raises(ConfigError):
            page.key(wrong, "b")


@pytest.mark.parametrize(
    ("template", "fn"),
    [
        ("p:{a}", lambda db, a, b: None),
        ("p:{a}:{c}", lambda db, a: None),
        ("p", lambda db, a: None),
        ("p:{a.b}", lambda db, a: None),
        ("p:{a!r}", lambda db, a: None),
        ("p:{a:>5}", lambda db, a: None),
        ("p:{}", lambda db, a: None),
        ("p:{a}{b}", lambda db, a, b: None),  # "1" and "23", or "12" and "3"
        ("p:{a}-{b}", lambda db, a, b: None),  # "x-y" and "z", or "x" and "y-z"
        ("{a}_by_{b}:{c}", lambda db, a, b, c: None),
        ("p:{a}", lambda db, *a: None),
        ("p:{a}", lambda db, **a: None),
    ],
)
def test_a_template_that_leaves_something_out(stage: Stage, template: str, fn: Any) -> None:
    with pytest.raises(ConfigError):
        stage.caches["us"].cached(template)(fn)


# --- processes and threads ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_begins_with_an_empty_cache_and_free_locks(stage: Stage) -> None:
    bob = stage.session("bob", "us")
    stage.get("us", bob)
    cache = stage.caches["us"]
    flight, _ = cache._flights.board(cache.prefix + "photo")
    with stage.backend._lock, cache._counts.lock, cache._flights._lock:
        child = os.fork()
        if not child:
            code = 1
            signal.alarm(30)  # a lock that is held for ever would leave the child behind
            with suppress(BaseException):
                found = cache.get(bob, "photo", lambda _: "of the child")
                code = 0 if found == "of the child" and len(stage.backend) == 1 else 2
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    cache._flights.land(cache.prefix + "photo", flight, None)
    assert stage.get("us", bob) is None
    assert stage.last.outcome == "hit"


def test_the_lru_keeps_to_its_bound_and_to_the_order_of_use() -> None:
    lru = LRUBackend(3)
    entry = Entry({1: 1}, 0, Frontier(), b"")
    for key in "abc":
        lru.put(key, entry)
    assert lru.get("a") is entry
    lru.put("d", entry)
    assert [lru.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert len(lru) == 3
    for wrong in (0, -1, 1.5, True, "3"):
        with pytest.raises(ConfigError):
            LRUBackend(wrong)  # type: ignore[arg-type]


def test_many_threads_lose_no_write() -> None:
    cluster = MemoryCluster(("only",))
    store = CausalStore(MemoryEngine(cluster=cluster), keyring=KEYS, audience="shop")
    cache = CausalCache(store, LRUBackend(4))
    wrong: list[object] = []

    def one(number: int) -> None:
        session = store.session(subject=f"user {number}")
        for value in range(60):
            with cache.write(session, f"k{number % 3}") as tx:
                tx.put(f"k{number % 3}/{number}", value)
            found = cache.get(session, f"k{number % 3}", lambda db: dict(db.scan(f"k{number % 3}/")))
            if found.get(f"k{number % 3}/{number}") != value:
                wrong.append((number, value, found))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
