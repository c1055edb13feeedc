"""The reference engine, beyond the contract: failing over, forgetting, restarting, answers that never come, clock offsets."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal.core.frontier import Frontier, Position
from causal.core.hlc import Timestamp
from causal.core.watermark import Verdict
from causal.errors import CommitUnknown, ConfigError, StoreError, Unreachable
from causal.kv import wins
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.memory import link as memory_link
from tests.stores.worlds import START_S, MemoryWorld, Time, World, after, memory_world, position


@pytest.fixture
def world() -> World:
    return memory_world(sites=("eu", "us", "asia"))


def cluster_of(world: World) -> MemoryCluster:
    cluster: MemoryCluster = world.controls.cluster
    return cluster


# --- configuration -----------------------------------------------------------------------------------------------------


def test_an_engine_of_its_own_makes_its_cluster() -> None:
    eu = MemoryEngine()
    us = eu.at("us")
    assert (eu.site, us.site) == ("eu", "us")
    assert us.cluster is eu.cluster
    assert [(e.name, e.latency_s) for e in us.open().endpoints] == [("eu", 0.05), ("us", 0.0)]


def test_settings_that_cannot_be_right_are_refused() -> None:
    bad: list[Any] = [
        lambda: MemoryCluster("eu"),
        lambda: MemoryCluster(()),
        lambda: MemoryCluster(("eu", "eu")),
        lambda: MemoryCluster(shards=()),
        lambda: MemoryCluster(shards="main"),
        lambda: MemoryCluster(lag_s=-1),
        lambda: MemoryCluster(store=70_000),
        lambda: MemoryEngine(site="nowhere"),
        lambda: MemoryEngine(cluster=MemoryCluster(), lag_s=1.0),
        lambda: MemoryEngine().open(1),
    ]
    for make in bad:
        with pytest.raises(ConfigError):
            make()


def test_two_blocks_of_one_thread_on_one_shard_end_in_an_error_not_in_a_deadlock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_link, "BUSY_S", 0.0)
    first = world.links["eu"].write("eu", world.shard, Frontier())
    with pytest.raises(Unreachable, match="busy"):
        world.links["eu"].write("eu", world.shard, Frontier())
    first.rollback()
    world.put("eu", "k", 1)


# --- failing over --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("L-1")
def test_a_failover_loses_what_nobody_else_holds() -> None:
    world = memory_world(sites=("eu", "us", "asia"), lag_s=1.0)
    kept = position(world.commit("eu", {"kept": 1}))
    world.settle()
    lost = position(world.commit("eu", {"kept": 2, "lost": 1}))
    before = world.watermark("eu").incarnation
    cluster_of(world).fail_over("eu")
    for site in world.sites:
        watermark = world.watermark(site)
        assert watermark.origins[kept.origin] == (kept.offset, kept.offset)
        assert watermark.judge(Frontier([kept])).verdict is Verdict.APPLIED
        assert watermark.judge(Frontier([lost])).verdict is Verdict.LOST
        assert world.everything(site) == {"kept": 1}
    assert world.watermark("eu").incarnation != before
    new = position(world.commit("eu", {"new": 1}))
    assert new.origin not in (kept.origin, *world.watermark("us").leads, *world.watermark("asia").leads)
    world.settle()
    assert all(world.covers(site, Frontier([new])) for site in world.sites)
    assert all(world.everything(site) == {"kept": 1, "new": 1} for site in world.sites)


@pytest.mark.spec("L-2")
def test_an_origin_ends_where_its_most_advanced_survivor_is_and_others_still_get_there(world: World) -> None:
    cluster_of(world).pause("asia")
    held = world.put("eu", "held", 1)
    world.step()  # us has it, asia does not
    cluster_of(world).fail_over("eu")
    (place,) = held
    assert world.watermark("us").origins[place.origin] == (place.offset, place.offset)
    cluster_of(world).resume("asia")
    assert world.watermark("asia").judge(held).verdict is Verdict.APPLIED  # us forwarded it
    assert world.get("asia", "held") == 1


@pytest.mark.spec("L-3")
def test_ended_is_not_applied() -> None:
    """Closed at 110, applied 100: a demand at 105 is behind, not lost and not applied."""
    world = memory_world(sites=("eu", "us", "asia"), lag_s=10.0)
    writes = [world.put("eu", "k", n) for n in range(3)]
    world.settle()
    later = [world.put("eu", "k", n) for n in range(3)]
    cluster_of(world).catch_up("us")
    cluster_of(world).cut_off("us")  # who holds the rest cannot forward it now
    cluster_of(world).fail_over("eu")
    cluster_of(world).stop("eu")
    asia = world.watermark("asia")
    assert asia.judge(writes[-1]).verdict is Verdict.APPLIED
    assert asia.judge(later[0]).verdict is Verdict.BEHIND
    assert asia.judge(later[-1]).verdict is Verdict.BEHIND


@pytest.mark.spec("L-4")
def test_a_site_that_was_cut_off_learns_at_its_return_and_drops_its_tail(world: World) -> None:
    cluster = cluster_of(world)
    cluster.cut_off("eu")
    lost = world.put("eu", "k", "acknowledged, then lost")
    cluster.fail_over("eu")
    assert world.watermark("eu").judge(lost).verdict is Verdict.APPLIED  # it does not know yet
    more = world.put("eu", "k2", "so is this")
    cluster.rejoin("eu")
    for site in world.sites:
        assert world.watermark(site).judge(lost).verdict is Verdict.LOST
        assert world.watermark(site).judge(more).verdict is Verdict.LOST
    assert world.everything("eu") == {}


def test_a_replica_ahead_of_the_end_is_diverged_until_it_restarts(world: World) -> None:
    first = position(world.commit("eu", {"k": 1}))
    world.commit("eu", {"k": 2})
    world.step()
    cluster_of(world).pause("asia")
    cluster_of(world).forget_tail("eu", first.offset)
    assert world.get("asia", "k") == 2  # it has not heard: another endpoint's word must tell the gate
    assert not world.watermark("asia").diverged
    cluster_of(world).resume("asia")
    assert world.watermark("asia").diverged
    assert world.watermark("asia").judge(Frontier()).verdict is Verdict.UNKNOWN
    before = world.watermark("asia").incarnation
    cluster_of(world).restart("asia")
    assert not world.watermark("asia").diverged
    assert world.watermark("asia").incarnation != before
    assert world.get("asia", "k") == 1


def test_a_new_origin_is_unknown_until_it_is_heard_of(world: World) -> None:
    cluster_of(world).pause("us")
    cluster_of(world).fail_over("eu")
    new = world.put("eu", "k", 1)
    world.step()
    assert world.watermark("us").judge(new).verdict is Verdict.UNKNOWN
    assert world.watermark("asia").judge(new).verdict is Verdict.APPLIED
    cluster_of(world).resume("us")
    world.step()
    assert world.watermark("us").judge(new).verdict is Verdict.APPLIED


def test_an_effect_of_a_lost_cause_still_replicates() -> None:
    """A lost dependency counts at its end: otherwise one lost write would stop every log that saw it."""
    world = memory_world(sites=("eu", "us"), shards=("main", "orders"))
    orders = world.shards["orders"]
    cluster = cluster_of(world)
    cause = world.put("eu", "cause", 1)
    cluster.forget_tail("eu", 0, shard="main")
    effect = world.put("eu", "effect", 1, shard=orders, deps=cause)
    assert world.watermark("us").judge(cause).verdict is Verdict.LOST
    world.step()
    assert world.get("us", "effect", shard=orders) == 1
    assert world.look("us", "effect", shard=orders)[1] >= cause  # who reads it is told, and clips it
    assert world.covers("us", Frontier(p for p in effect if p.shard == orders))


def test_a_transaction_that_a_restart_interrupted_was_not_committed(world: World) -> None:
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    handle.connection.put("k", 1)
    cluster_of(world).restart("eu")
    with pytest.raises(Unreachable, match="nothing was committed"):
        handle.commit(Frontier())
    assert world.everything("eu") == {}
    world.put("eu", "k", 2)


# --- going back ------------------------------------------------------------------------------------------------------------


def test_a_restart_may_go_back_but_keeps_its_own_writes(world: World) -> None:
    """The same server, a new incarnation, an older watermark."""
    theirs = [world.put("eu", f"k{n}", n) for n in range(3)]
    world.step()
    mine = world.put("us", "mine", 1)
    cluster = cluster_of(world)
    before = world.watermark("us")
    cluster.pause("us")
    cluster.restart("us", back=2)
    after_restart = world.watermark("us")
    assert after_restart.incarnation != before.incarnation
    assert [world.covers("us", t) for t in theirs] == [True, False, False]
    assert world.covers("us", mine)
    assert world.everything("us") == {"k0": 0, "mine": 1}
    cluster.resume("us")
    assert all(world.covers("us", t) for t in theirs)
    assert world.everything("us") == world.everything("eu") | {"mine": 1}


def test_stamps_do_not_go_back_with_a_restart() -> None:
    """us met a stamp from the future, forgot the write, and must still not stamp below it."""
    world = memory_world(skew_s={"eu": 600.0})
    world.put("eu", "k", "from the future")
    world.step()
    cluster = cluster_of(world)
    cluster.pause("us")
    cluster.restart("us", back=1)
    assert world.get("us", "k") is None
    world.put("us", "k", "later")
    cluster.resume("us")
    world.settle()
    assert [world.get(site, "k") for site in world.sites] == ["later", "later"]


# --- endpoints that do not answer --------------------------------------------------------------------------------------------


def test_a_stopped_endpoint_answers_nobody(world: World) -> None:
    cluster_of(world).stop("us")
    for site in world.sites:
        with pytest.raises(Unreachable):
            world.links[site].probe("us", 1.0)
        with pytest.raises(Unreachable):
            world.links[site].read("us", [world.shard])
        with pytest.raises(Unreachable):
            world.links[site].write("us", world.shard, Frontier())
    mine = world.put("eu", "k", 1)
    world.settle()
    cluster_of(world).start("us")
    assert world.covers("us", mine)


def test_a_hanging_endpoint_takes_the_whole_timeout() -> None:
    slept: list[float] = []
    cluster = MemoryCluster(sleep=slept.append)
    link = MemoryEngine(cluster=cluster, site="eu").open()
    cluster.stop("us", hang=True)
    with pytest.raises(Unreachable):
        link.probe("us", 0.25)
    assert slept == [0.25]
    cluster.start("us")
    link.probe("us", 0.25)
    assert slept == [0.25]


def test_a_transaction_whose_endpoint_went_away_was_not_committed(world: World) -> None:
    handle = world.links["eu"].write("us", world.shard, Frontier())
    handle.connection.put("k", 1)
    cluster_of(world).cut_off("us")
    with pytest.raises(Unreachable):
        handle.commit(Frontier())
    cluster_of(world).rejoin("us")
    assert world.everything("us") == {}
    world.put("us", "k", 2)


@pytest.mark.parametrize("committed", [True, False])
def test_an_answer_that_never_comes_leaves_the_commit_in_doubt(world: World, committed: bool) -> None:
    cluster_of(world).lose_answer("eu", committed=committed)
    assert world.commit("us", {"other": 1}).position is not None  # only at that site
    with pytest.raises(CommitUnknown):
        world.commit("eu", {"k": 1})
    assert world.get("eu", "k") == (1 if committed else None)
    world.commit("eu", {"k": 2})  # once only, and no lock is left
    assert world.get("eu", "k") == 2


# --- tombstones --------------------------------------------------------------------------------------------------------------


def test_a_tombstone_is_kept_until_nothing_older_can_arrive(world: World) -> None:
    """Asia writes k and is cut off; eu deletes k with a later stamp; collected now, asia's write would come back."""
    cluster = cluster_of(world)
    cluster.cut_off("asia")
    world.put("asia", "k", "old")
    world.pass_s(1)
    world.put("eu", "k", "new")
    world.commit("eu", {}, delete=["k"])
    world.settle()
    cluster.heartbeat()
    world.settle()
    assert cluster.collect() == 0
    cluster.rejoin("asia")
    world.settle()
    assert [world.everything(site) for site in world.sites] == [{}, {}, {}]
    cluster.heartbeat()
    world.settle()
    assert cluster.collect() == 3  # one at each site
    assert cluster.collect() == 0
    assert [world.everything(site) for site in world.sites] == [{}, {}, {}]


def test_a_silent_origin_keeps_tombstones(world: World) -> None:
    """It may have a clock behind, and anything to say."""
    world.commit("eu", {}, delete=["k"])
    world.settle()
    assert cluster_of(world).collect() == 0


def test_an_ended_origin_keeps_tombstones_until_all_that_survives_of_it_is_everywhere(world: World) -> None:
    cluster = cluster_of(world)
    slow = position(world.commit("us", {"k": "old"}))
    lags = {("asia", slow.origin): 1e6}
    cluster.lag = SimpleNamespace(delay_s=lambda site, shard, origin, offset: lags.get((site, origin), 0.0))  # type: ignore[assignment]
    world.step()  # eu has it; on its way to asia it is overtaken by all that follows
    cluster.fail_over("us")
    assert world.watermark("asia").origins[slow.origin] == (0, slow.offset)
    world.pass_s(1)
    world.commit("eu", {}, delete=["k"])
    for _ in range(2):
        cluster.heartbeat()
        world.settle()
    assert cluster.collect() == 0
    lags.clear()
    world.settle()
    assert cluster.collect() == 3
    assert [world.everything(site) for site in world.sites] == [{}, {}, {}]


# --- clock offsets -----------------------------------------------------------------------------------------------------------


def clocked(**options: Any) -> World:
    time = Time()
    cluster = MemoryCluster(
        ("eu", "us"), clock_offsets=True, heartbeat_s=0.1, wall=time.wall_ns, monotonic=time.monotonic, **options
    )
    return MemoryWorld(time, ("eu", "us"), {s: MemoryEngine(cluster=cluster, site=s) for s in ("eu", "us")})


def test_clock_offsets_are_hybrid_timestamps() -> None:
    world = clocked()
    assert world.controls.capabilities.clock_offsets
    world.pass_s(1.0)
    offsets = [position(world.commit("eu", {"k": n})).offset for n in range(3)]
    assert [Timestamp(o).physical_ms for o in offsets] == [(START_S + 1) * 1000] * 3
    assert offsets == sorted(set(offsets))


def test_every_origin_sends_heartbeats() -> None:
    """Else a floor, "every origin up to T", would wait for ever for one that has nothing to say."""
    world = clocked(lag_s=0.05)
    mine = position(world.commit("eu", {"k": 1}))
    for _ in range(4):
        world.pass_s(0.1)
    for site in world.sites:
        watermark = world.watermark(site)
        assert len(watermark.origins) == 2
        assert watermark.above(mine.offset)
        assert watermark.judge(Frontier.of({}, {0: mine.offset})).verdict is Verdict.APPLIED
    assert world.everything("us") == {"k": 1}


def test_a_heartbeat_promises_that_no_older_write_follows() -> None:
    world = clocked()
    for n in range(30):
        world.pass_s(0.07 * (n % 3))
        heads = {
            site: max(world.watermark(site).origins[o][0] for o in world.watermark(site).leads) for site in world.sites
        }
        site = world.sites[n % 2]
        assert position(world.commit(site, {"k": n})).offset > heads[site]


# --- the fold ------------------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from(["eu", "us", "asia"]), st.sampled_from("ab"), st.booleans(), st.integers(0, 2)),
        max_size=14,
    ),
    st.integers(0, 4),
)
def test_the_state_of_a_site_is_the_fold_of_its_history(ops: list[tuple[str, str, bool, int]], back: int) -> None:
    """Against a dumb twin: the winner of each key among all that was applied, in any order."""
    world = memory_world(sites=("eu", "us", "asia"))
    cluster = cluster_of(world)
    for n, (site, key, delete, then) in enumerate(ops):
        world.commit(site, {} if delete else {key: n}, delete=[key] if delete else [])
        if then == 1:
            cluster.pause(site)
        elif then == 2:
            cluster.resume(site)
    cluster.pause("us")
    cluster.restart("us", back=back)
    for site in cluster.sites.values():
        expected: dict[str, tuple[int, int, bytes | None]] = {}
        for entry in itertools.chain.from_iterable(log for c in site.copies.values() for log in c.logs.values()):
            for key, value in entry.changes.items():
                stamp, origin = entry.stamp, entry.position.origin
                if key not in expected or wins(stamp, origin, *expected[key][:2]):
                    expected[key] = (stamp, origin, value)
        held = {
            k: (v.entry.stamp, v.entry.position.origin, v.value)
            for c in site.copies.values()
            for k, v in c.versions.items()
        }
        assert held == expected
        assert sorted(e.position for e in site.history) == sorted(
            e.position for c in site.copies.values() for log in c.logs.values() for e in log
        )


def test_a_link_error_is_said_in_the_store_words(world: World) -> None:
    link = world.engines["eu"].open()
    link.close()
    with pytest.raises(StoreError, match="closed"):
        link.probe("eu", 1.0)
    assert after(world.commit("eu", {"k": 1})) == Frontier([Position(world.shard, 1, 1)])
