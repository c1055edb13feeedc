"""The engine contract, once for every engine: what the gate relies on, and what the controls do."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal.controls import Controls, Lag
from causal.core.frontier import Frontier, Position, pack
from causal.core.watermark import Verdict
from causal.engine import Commit, KeyVersion
from causal.errors import CausalError, CommitUnknown, ConfigError, StoreError, Unreachable
from tests.stores.worlds import NAMES, MakeWorld, after, make_world, opened, position

__all__ = ["make_world"]


# --- what an engine says of itself -------------------------------------------------------------------------------------


def test_an_engine_describes_itself(make_world: MakeWorld) -> None:
    world = make_world(shards=("main", "orders"), store=3)
    engine = world.engines["us"]
    assert dict(engine.shards) == {"main": 0, "orders": 1}
    assert engine.capabilities.dependencies
    assert isinstance(engine, Controls)
    link = world.links["us"]
    assert [e.name for e in link.endpoints if e.site == "us"] == ["us"]
    assert {e.name for e in link.endpoints} == {"eu", "us"}
    assert min(link.endpoints, key=lambda e: e.latency_s).name in {"eu", "us"}
    assert link.leader(3 << 16) == "us"


def test_a_probe_answers_for_every_shard(make_world: MakeWorld) -> None:
    world = make_world(shards=("main", "orders"), store=3)
    for site in world.sites:
        watermarks = world.links["us"].probe(site, 1.0)
        assert set(watermarks) == {3 << 16, 3 << 16 | 1}
        for shard, watermark in watermarks.items():
            assert watermark.shard == shard
            assert len(watermark.leads) == 1
            assert watermark.leads <= watermark.origins.keys()
            assert watermark.incarnation == world.links["eu"].probe(site, 1.0)[shard].incarnation


def test_each_origin_has_one_leader(make_world: MakeWorld) -> None:
    world = make_world(sites=("eu", "us", "asia"))
    marks = {site: world.watermark(site) for site in world.sites}
    leads = [origin for mark in marks.values() for origin in mark.leads]
    assert len(set(leads)) == len(leads) == 3
    assert len({mark.incarnation for mark in marks.values()}) == 3
    assert all(mark.origins.keys() == set(leads) for mark in marks.values())


# --- commits -------------------------------------------------------------------------------------------------------------


def test_a_position_is_the_writing_sites_own_and_grows(make_world: MakeWorld) -> None:
    world = make_world()
    offsets = []
    for n in range(3):
        p = position(world.commit("us", {"k": n}))
        assert p.shard == world.shard
        assert world.watermark("us").leads == {p.origin}
        assert world.watermark("us").verdict(p.origin, p.offset) is Verdict.APPLIED
        offsets.append(p.offset)
    assert offsets == sorted(set(offsets))
    assert min(offsets) > 0  # 0 is "nothing", which every site has


def test_the_position_after_a_commit_is_the_head(make_world: MakeWorld) -> None:
    world = make_world()
    p = position(world.commit("eu", {"k": 1}))
    assert world.watermark("eu").origins[p.origin] == (p.offset, None)


def test_a_block_that_wrote_nothing_has_no_position(make_world: MakeWorld) -> None:
    world = make_world()
    before = world.watermark("eu").origins
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    handle.connection.get("k")
    assert handle.commit(Frontier()).position is None
    assert world.watermark("eu").origins == before


def test_what_is_rolled_back_never_was(make_world: MakeWorld) -> None:
    world = make_world()
    world.put("eu", "k", 1)
    before = world.watermark("eu").origins
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    handle.connection.put("k", 2)
    handle.connection.delete("other")
    handle.rollback()
    handle.rollback()
    assert world.get("eu", "k") == 1
    assert world.watermark("eu").origins == before
    world.put("eu", "k", 3)  # the lock is free


def test_a_block_that_has_ended_cannot_commit(make_world: MakeWorld) -> None:
    """Said aloud: an empty acknowledgement would claim that there was nothing to write."""
    world = make_world()
    for end in ("rollback", "commit"):
        handle = world.links["eu"].write("eu", world.shard, Frontier())
        handle.connection.put("k", end)
        handle.rollback() if end == "rollback" else handle.commit(Frontier())
        with pytest.raises(StoreError):
            handle.commit(Frontier())


def test_a_connection_is_of_no_use_after_its_block(make_world: MakeWorld) -> None:
    world = make_world()
    world.put("eu", "k", 1)
    reading = world.links["eu"].read("eu", [world.shard])
    connection = reading.connection
    reading.close()
    reading.close()
    writing = world.links["eu"].write("eu", world.shard, Frontier())
    writer = writing.connection
    writing.rollback()
    uses: list[Any] = [
        lambda: connection.get("k"),
        lambda: list(connection.scan()),
        lambda: writer.get("k"),
        lambda: writer.put("k", 1),
        lambda: writer.delete("k"),
        lambda: list(writer.scan()),
    ]
    for use in uses:
        with pytest.raises(StoreError):
            use()


def test_concurrent_blocks_of_one_shard_are_one_after_the_other(make_world: MakeWorld) -> None:
    """Read, add one, write: no increment is lost, and each has an offset of its own."""
    world = make_world()
    link, commits = world.links["eu"], list[Commit]()

    def add(times: int) -> None:
        for _ in range(times):
            handle = link.write("eu", world.shard, Frontier())
            handle.connection.put("count", handle.connection.get("count", 0) + 1)
            commits.append(handle.commit(Frontier()))

    threads = [threading.Thread(target=add, args=(10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.get("eu", "count") == 40
    offsets = [position(c).offset for c in commits]
    assert len(set(offsets)) == 40


def test_a_position_covers_what_a_connection_wrote(make_world: MakeWorld) -> None:
    world = make_world()
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    handle.connection.put("k", 1)
    connection = handle.connection
    commit = handle.commit(Frontier())
    assert world.links["eu"].position(connection) >= Frontier([position(commit)])
    with pytest.raises(ConfigError):
        world.links["eu"].position(object())


# --- what a block shows ----------------------------------------------------------------------------------------------------


def test_a_writer_sees_its_own_writes(make_world: MakeWorld) -> None:
    world = make_world()
    world.commit("eu", {"a": 1, "b": 2, "c": 3, "z": 26})
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    tx = handle.connection
    tx.put("b", 20)
    tx.put("bb", 22)
    tx.delete("c")
    tx.delete("not there")
    assert [tx.get(k) for k in ("a", "b", "bb", "c", "d")] == [1, 20, 22, None, None]
    assert list(tx.scan()) == [("a", 1), ("b", 20), ("bb", 22), ("z", 26)]
    assert list(tx.scan("b")) == [("b", 20), ("bb", 22)]
    tx.put("c", 30)
    assert tx.get("c") == 30
    assert world.get("eu", "b") == 2  # nobody else does, before the commit
    handle.commit(Frontier())
    assert world.everything("eu") == {"a": 1, "b": 20, "bb": 22, "c": 30, "z": 26}


def test_none_is_a_value_and_a_missing_key_has_the_default(make_world: MakeWorld) -> None:
    world = make_world()
    world.put("eu", "none", None)
    handle = world.links["eu"].read("eu", [world.shard])
    assert handle.connection.get("none", "default") is None
    assert handle.connection.get("missing", "default") == "default"
    assert dict(handle.connection.scan()) == {"none": None}
    handle.close()


def test_keys_are_scanned_in_their_own_order(make_world: MakeWorld) -> None:
    world = make_world()
    keys = ["a", "a\x00", "ab", "b", "é", "aé", "\uffff", "\U0001f600", "A", "1", "a/b", "a\U0010ffff"]
    world.commit("eu", {k: n for n, k in enumerate(keys)})
    handle = world.links["eu"].read("eu", [world.shard])
    assert [k for k, _ in handle.connection.scan()] == sorted(keys)
    for prefix in ("a", "a\x00", "aé", "\U0001f600", "x", "a\U0010ffff", "ab", ""):
        assert [k for k, _ in handle.connection.scan(prefix)] == sorted(k for k in keys if k.startswith(prefix))
    handle.close()


def test_values_are_copies(make_world: MakeWorld) -> None:
    world = make_world()
    value = {"list": [1]}
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    handle.connection.put("k", value)
    value["list"].append(2)
    handle.connection.get("k")["list"].append(3)
    handle.commit(Frontier())
    world.get("eu", "k")["list"].append(4)
    assert world.get("eu", "k") == {"list": [1]}


def test_bad_keys_and_values_are_refused_and_the_block_goes_on(make_world: MakeWorld) -> None:
    world = make_world()
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    tx = handle.connection
    tx.put("good", 1)
    bad: list[Any] = [
        lambda: tx.put("", 1),
        lambda: tx.put("k", object()),
        lambda: tx.delete("x" * 1025),
        lambda: tx.get(b"k"),
        lambda: tx.scan("\ud800"),
    ]
    for act in bad:
        with pytest.raises(ConfigError):
            act()
    handle.commit(Frontier())
    assert world.everything("eu") == {"good": 1}


def test_a_snapshot_does_not_move(make_world: MakeWorld) -> None:
    world = make_world()
    first = world.put("eu", "k", 1)
    world.step()
    handle = world.links["us"].read("us", [world.shard])
    before = handle.watermarks[world.shard]
    world.put("eu", "k", 2)
    world.commit("us", {"new": 1})
    world.step()
    assert world.get("us", "k") == 2
    assert handle.connection.get("k") == 1
    assert handle.connection.get("new") is None
    assert dict(handle.connection.scan()) == {"k": 1}
    assert handle.watermarks[world.shard] == before
    assert before.judge(first).verdict is Verdict.APPLIED
    assert handle.seen() == first
    handle.close()


def test_a_block_that_showed_nothing_has_seen_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    world.put("eu", "k", 1)
    reading = world.links["eu"].read("eu", [world.shard])
    assert not reading.seen()
    reading.close()
    writing = world.links["eu"].write("eu", world.shard, Frontier())
    writing.connection.put("k", 2)
    writing.connection.get("k")  # its own: no news
    assert not writing.seen()
    writing.rollback()


@pytest.mark.spec("G-25")
@pytest.mark.parametrize("how", ["read", "write"])
def test_seen_covers_what_was_shown_tombstones_and_dependencies_included(make_world: MakeWorld, how: str) -> None:
    world = make_world(shards=("main", "orders"))
    orders = world.shards["orders"]
    cause = world.put("eu", "cause", 1, shard=orders)
    put = world.put("eu", "a/put", 1, deps=cause)
    gone = after(world.commit("eu", {}, delete=["a/gone"], deps=cause))
    other = world.put("eu", "b/other", 1)

    def shown(act: Any) -> Frontier:
        link = world.links["eu"]
        if how == "read":
            reading = link.read("eu", [world.shard])
            act(reading.connection)
            seen: Frontier = reading.seen()
            reading.close()
        else:
            writing = link.write("eu", world.shard, Frontier())
            act(writing.connection)
            seen = writing.seen()
            writing.rollback()
        return seen

    assert shown(lambda db: db.get("a/put")) >= put | cause
    assert shown(lambda db: db.get("a/gone")) >= gone | cause
    assert shown(lambda db: list(db.scan("a/"))) >= put | gone | cause
    assert shown(lambda db: list(db.scan())) >= put | gone | other | cause
    everywhere = shown(lambda db: list(db.scan()))
    assert world.covers("eu", everywhere)


# --- dependencies ----------------------------------------------------------------------------------------------------------


def test_dependencies_are_stored_and_acknowledged(make_world: MakeWorld) -> None:
    world = make_world(shards=("main", "orders"))
    cause = world.put("us", "cause", 1, shard=world.shards["orders"])
    world.step()
    foreign = Frontier([Position(9 << 16, 1, 5)])
    commit = world.commit("eu", {"effect": 1}, deps=cause | foreign)
    assert commit.deps >= cause | foreign
    assert world.look("eu", "effect")[1] == after(commit)
    world.step()
    assert world.look("us", "effect")[1] == after(commit)


def test_dependencies_accumulate_along_a_log(make_world: MakeWorld) -> None:
    """Without it, and without the acknowledgement that returns them, causal memory fails (7 operations, below)."""
    world = make_world(shards=("main", "orders"))
    cause = world.put("us", "cause", 1, shard=world.shards["orders"])
    world.step()
    world.commit("eu", {"first": 1}, deps=cause)
    later = world.commit("eu", {"unrelated": 1})
    assert later.deps >= cause
    assert world.look("eu", "unrelated")[1] >= cause
    # A log's own positions are not dependencies: a position stands for all before it.
    assert pack(world.shard, position(later).origin) not in later.deps.entries


def test_the_smallest_history_that_is_not_causal_memory(make_world: MakeWorld) -> None:
    """Session 1: x1.k=A, x0.k=B. Session 0: x0.k=C (after B in the log), reads x1.k. Session 1: x0.j=D. Session 0 reads j=D, k=C.

    Session 0 joins what its write acknowledged, so it cannot read the initial x1.k after overwriting B.
    """
    world = make_world(shards=("x0", "x1"))
    x0, x1 = world.shards["x0"], world.shards["x1"]
    one = world.put("eu", "k", "A", shard=x1)
    one |= world.put("eu", "k", "B", shard=x0, deps=one)
    zero = world.put("eu", "k", "C", shard=x0)
    assert zero >= Frontier([p for p in one if p.shard == x1])


def test_what_a_block_read_is_a_dependency_of_what_it_wrote(make_world: MakeWorld) -> None:
    world = make_world()
    read = world.put("us", "k", 1)
    world.step()
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    handle.connection.put("copy", handle.connection.get("k"))
    assert handle.seen() >= read
    commit = handle.commit(Frontier())  # said or not
    assert commit.deps >= read


def test_a_write_cannot_depend_on_its_own_future(make_world: MakeWorld) -> None:
    world = make_world()
    head = position(world.commit("eu", {"k": 1}))
    beyond = Frontier([Position(head.shard, head.origin, head.offset + 1)])
    handle = world.links["eu"].write("eu", world.shard, beyond)
    handle.connection.put("k", 2)
    with pytest.raises(StoreError):
        handle.commit(beyond)
    handle.rollback()
    assert world.get("eu", "k") == 1
    world.put("eu", "k", 3)


# --- replication -------------------------------------------------------------------------------------------------------------


def test_a_write_is_applied_elsewhere_after_its_lag(make_world: MakeWorld) -> None:
    world = make_world(lag_s=0.05)
    mine = world.put("eu", "k", 1)
    world.pass_s(0.0625 / 2)
    assert (world.get("us", "k"), world.covers("us", mine)) == (None, False)
    assert (world.get("eu", "k"), world.covers("eu", mine)) == (1, True)
    world.pass_s(0.0625 / 2)
    assert (world.get("us", "k"), world.covers("us", mine)) == (1, True)


def test_lag_can_be_a_distribution(make_world: MakeWorld) -> None:
    lag = Lag(0.05, 1.0, seed=7)
    world = make_world(lag_s=lag)
    p = position(world.commit("eu", {"k": 1}))
    delay_s = lag.delay_s("us", p.shard, p.origin, p.offset)
    world.pass_s(delay_s * 0.99)
    assert world.get("us", "k") is None
    world.pass_s(delay_s * 0.02)
    assert world.get("us", "k") == 1


def test_a_transaction_is_applied_whole(make_world: MakeWorld) -> None:
    world = make_world(lag_s=1.0)
    world.commit("eu", {"gone": 1})
    world.settle()
    world.commit("eu", {f"k{n}": n for n in range(20)}, delete=["gone"])
    assert world.everything("us") == {"gone": 1}
    world.settle()
    assert world.everything("us") == {f"k{n}": n for n in range(20)}


def test_an_origins_log_is_applied_in_order(make_world: MakeWorld) -> None:
    """Delays that would overtake do not: a log has one order."""
    world = make_world(lag_s=Lag(0.05, 2.0, seed=3))
    mine = [world.put("eu", f"k{n}", n) for n in range(12)]
    before = 0
    for _ in range(200):
        world.pass_s(0.01)
        shown = world.everything("us")
        assert shown == {f"k{n}": n for n in range(len(shown))}
        assert [world.covers("us", m) for m in mine] == [n < len(shown) for n in range(12)]
        assert len(shown) >= before
        before = len(shown)
    world.settle()
    assert len(world.everything("us")) == 12


@pytest.mark.parametrize("across", ["shards", "origins"])
def test_an_effect_is_not_applied_before_its_cause(make_world: MakeWorld, across: str) -> None:
    """The cause comes late: the effect waits for it, and all that follows the effect in its log waits, too."""
    slow = Lag(0.05, 3.0, seed=11)
    shards = ("main", "orders")
    world = make_world(sites=("eu", "us", "asia"), shards=shards, lag_s=slow)
    overtaken = 0
    for _ in range(8):
        if across == "shards":
            cause = world.put("eu", "post", 1, shard=world.shards["orders"])
        else:
            cause = world.put("us", "post", 1, shard=world.shards["orders"])
            world.controls.catch_up("eu")
        # Of each only its own position: the rest of what a session joins would cover the cause by itself.
        effect = position(world.commit("eu", {"reply": 1}, deps=cause))
        later, began_s = position(world.commit("eu", {"later": 1})), world.time.now_s
        for _ in range(60):
            world.pass_s(0.005)
            for site in world.sites:
                has_cause, has_effect, has_later = (
                    world.covers(site, f) for f in (cause, Frontier([effect]), Frontier([later]))
                )
                assert has_cause or not has_effect
                assert has_effect or not has_later
                due_s = began_s + slow.delay_s(site, effect.shard, effect.origin, effect.offset)
                overtaken += due_s <= world.time.now_s and not has_cause
        world.settle()
        assert all(world.covers(site, Frontier([later, effect])) for site in world.sites)
    assert overtaken  # there was something to hold back


def test_an_effect_waits_for_a_cause_that_cannot_arrive_yet(make_world: MakeWorld) -> None:
    world = make_world(sites=("eu", "us", "asia"))
    world.controls.cut_off("asia")
    cause = world.put("eu", "post", 1)
    world.step()
    world.controls.cut_off("eu")
    world.put("us", "reply", 1, deps=cause)
    world.controls.rejoin("asia")
    world.settle()
    # us passes eu's post on: what is held can be forwarded.
    assert world.everything("asia") == {"post": 1, "reply": 1}


def test_dependencies_on_other_stores_do_not_hold_a_log_back(make_world: MakeWorld) -> None:
    world = make_world()
    world.put("eu", "k", 1, deps=Frontier([Position(7 << 16, 3, 10**6)]))
    world.step()
    assert world.get("us", "k") == 1


def test_a_dependency_on_an_unknown_origin_holds_a_log_back(make_world: MakeWorld) -> None:
    """Unknown is never covered."""
    world = make_world()
    effect = world.put("eu", "k", 1, deps=Frontier([Position(world.shard, 4000, 1)]))
    world.settle()
    assert not world.covers("us", effect)
    assert world.get("us", "k") is None


# --- conflicts -----------------------------------------------------------------------------------------------------------------


def test_sites_agree_in_the_end(make_world: MakeWorld) -> None:
    world = make_world(sites=("eu", "us", "asia"))
    for site in world.sites:
        world.controls.cut_off(site)
    for turn in range(4):
        for site in world.sites:
            world.put(site, "k", f"{site}{turn}")
            world.put(site, site, turn)
        world.commit(world.sites[turn % 3], {}, delete=["k"])
    for site in world.sites:
        world.controls.rejoin(site)
    world.settle()
    states = [world.everything(site) for site in world.sites]
    assert states[0] == states[1] == states[2]
    assert {k: v for k, v in states[0].items() if k != "k"} == {"eu": 3, "us": 3, "asia": 3}


def test_an_effect_wins_over_its_cause_whatever_the_clocks_say(make_world: MakeWorld) -> None:
    """eu's clock is ten minutes fast; us writes after it has applied eu's write."""
    world = make_world(skew_s={"eu": 600.0})
    cause = world.put("eu", "k", "cause")
    world.step()
    world.put("us", "k", "effect", deps=cause)
    world.settle()
    assert [world.get(site, "k") for site in world.sites] == ["effect", "effect"]
    world.commit("us", {}, delete=["k"], deps=cause)
    world.settle()
    assert [world.get(site, "k") for site in world.sites] == [None, None]


def test_a_fast_clock_does_not_hold_its_log_back(make_world: MakeWorld) -> None:
    world = make_world(skew_s={"eu": 600.0}, lag_s=0.05)
    world.put("eu", "k", 1)
    world.pass_s(0.1)
    assert world.get("us", "k") == 1


OPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "pair", "pass", "long"]),
        st.sampled_from(["eu", "us", "asia"]),
        st.sampled_from(["a", "b"]),
    ),
    max_size=25,
)


@pytest.mark.parametrize("name", NAMES)
@given(ops=OPS)
def test_a_snapshot_shows_exactly_what_its_watermark_says(name: str, ops: list[tuple[str, str, str]]) -> None:
    """For each key, one of the newest of the versions that the watermark covers: none that another covered one had replaced.

    Kept apart from the engine: which commits there were, and which of them each one had applied when it was made.
    """
    commits: list[
        tuple[Position, dict[str, Any], set[int]]
    ] = []  # position, changes, the commits it was made on top of
    with opened(name, sites=("eu", "us", "asia"), lag_s=Lag(0.05, 1.0, seed=5)) as world:

        def covered(watermark: Any) -> set[int]:
            return {
                n for n, (p, _, _) in enumerate(commits) if watermark.verdict(p.origin, p.offset) is Verdict.APPLIED
            }

        def check(site: str) -> None:
            handle = world.links[site].read(site, [world.shard])
            here = covered(handle.watermarks[world.shard])
            shown = dict(handle.connection.scan())
            for key in ("a", "b", "c"):
                writers = {n for n in here if key in commits[n][1]}
                newest = {n for n in writers if not any(n in commits[m][2] for m in writers)}
                assert shown.get(key) == handle.connection.get(key)
                assert shown.get(key) in {commits[n][1][key] for n in newest} | (set() if writers else {None})
            handle.close()

        for n, (op, site, key) in enumerate(ops):
            if op in ("pass", "long"):
                world.pass_s(0.02 if op == "pass" else 0.5)
            else:
                before = covered(world.watermark(site))
                changes: dict[str, Any] = {key: None} if op == "delete" else {key: f"{n}"}
                if op == "pair":
                    changes["c"] = f"{n}c"
                commit = world.commit(
                    site,
                    {k: v for k, v in changes.items() if v is not None},
                    delete=[k for k, v in changes.items() if v is None],
                )
                commits.append((position(commit), changes, before))
            for each in world.sites:
                check(each)
        world.settle()
        states = [world.everything(site) for site in world.sites]
        assert states[0] == states[1] == states[2]
        for each in world.sites:
            assert covered(world.watermark(each)) == set(range(len(commits)))
            check(each)


# --- controls ------------------------------------------------------------------------------------------------------------------


def test_a_paused_site_is_readable_and_falls_behind(make_world: MakeWorld) -> None:
    world = make_world()
    world.put("eu", "k", 1)
    world.step()
    world.controls.pause("us")
    mine = world.put("eu", "k", 2)
    own = world.put("us", "own", 1)
    world.settle()
    assert world.get("us", "k") == 1
    assert not world.covers("us", mine)
    assert world.covers("us", own)
    assert world.get("us", "k", at="eu") == 2  # it is reachable, and so are others from it
    assert world.get("eu", "own") == 1  # its own writes leave it
    world.controls.resume("us")
    world.step()
    assert world.get("us", "k") == 2
    assert world.covers("us", mine)


@pytest.mark.parametrize("why", ["lag", "pause", "both"])
def test_catch_up_applies_everything_in_reach(make_world: MakeWorld, why: str) -> None:
    world = make_world(sites=("eu", "us", "asia"), shards=("main", "orders"), lag_s=0.0 if why == "pause" else 10.0)
    if why != "lag":
        world.controls.pause("us")
    cause = world.put("asia", "cause", 1, shard=world.shards["orders"])
    world.controls.catch_up("eu")
    effect = world.put("eu", "effect", 1, deps=cause)
    world.controls.catch_up("us")
    assert world.covers("us", cause | effect)
    assert world.get("us", "effect") == 1
    if why != "lag":
        later = world.put("eu", "later", 1)
        world.settle()
        assert not world.covers("us", later)  # it is still paused


def test_a_cut_off_site_neither_sends_nor_receives(make_world: MakeWorld) -> None:
    world = make_world(sites=("eu", "us", "asia"))
    world.controls.cut_off("us")
    there, here = world.put("eu", "there", 1), world.put("us", "here", 1)
    world.settle()
    world.controls.catch_up("us")
    world.controls.catch_up("eu")
    assert world.everything("us") == {"here": 1}
    assert world.everything("eu") == world.everything("asia") == {"there": 1}
    world.controls.rejoin("us")
    world.settle()
    assert all(world.covers(site, there | here) for site in world.sites)
    assert all(world.everything(site) == {"here": 1, "there": 1} for site in world.sites)


def test_a_cut_off_endpoint_is_unreachable_from_elsewhere(make_world: MakeWorld) -> None:
    world = make_world(sites=("eu", "us", "asia"))
    world.controls.cut_off("us")
    for here, there in (("eu", "us"), ("us", "eu"), ("us", "asia")):
        link = world.links[here]
        attempts: list[Any] = [
            lambda link=link, there=there: link.probe(there, 1.0),
            lambda link=link, there=there: link.read(there, [world.shard]),
            lambda link=link, there=there: link.write(there, world.shard, Frontier()),
        ]
        for attempt in attempts:
            with pytest.raises(Unreachable):
                attempt()
    assert world.get("us", "k") is None
    assert world.get("eu", "k", at="asia") is None
    world.controls.rejoin("us")
    assert world.get("eu", "k", at="us") is None


def test_controls_can_be_repeated(make_world: MakeWorld) -> None:
    world = make_world()
    controls = world.controls
    for act in (controls.pause, controls.pause, controls.resume, controls.resume, controls.catch_up):
        act("us")
    for act in (controls.cut_off, controls.cut_off, controls.rejoin, controls.rejoin, controls.catch_up):
        act("us")
    world.put("eu", "k", 1)
    world.step()
    assert world.get("us", "k") == 1


def test_every_site_has_the_same_controls(make_world: MakeWorld) -> None:
    world = make_world()
    world.engines["us"].pause("eu")
    world.put("us", "k", 1)
    world.step()
    assert world.get("eu", "k") is None
    world.engines["eu"].resume("eu")
    world.step()
    assert world.get("eu", "k") == 1


@pytest.mark.parametrize("act", ["pause", "resume", "catch_up", "cut_off", "rejoin"])
def test_a_control_over_an_unknown_site_is_refused(make_world: MakeWorld, act: str) -> None:
    with pytest.raises(ConfigError):
        getattr(make_world().controls, act)("nowhere")


# --- links -----------------------------------------------------------------------------------------------------------------------


def test_an_unknown_endpoint_or_shard_is_an_error(make_world: MakeWorld) -> None:
    world = make_world()
    link = world.links["eu"]
    attempts: list[Any] = [
        lambda: link.probe("nowhere", 1.0),
        lambda: link.read("nowhere", [world.shard]),
        lambda: link.read("eu", [77]),
        lambda: link.write("eu", 77, Frontier()),
        lambda: link.read("eu", [1 << 16]),
    ]
    for attempt in attempts:
        with pytest.raises((ConfigError, Unreachable)):
            attempt()
    world.put("eu", "k", 1)  # no lock was left behind


def test_a_closed_link_is_of_no_use(make_world: MakeWorld) -> None:
    world = make_world()
    link = world.engines["eu"].open()
    link.close()
    link.close()
    attempts: list[Any] = [
        lambda: link.probe("us", 1.0),
        lambda: link.read("us", [world.shard]),
        lambda: link.read("eu", [world.shard]),
        lambda: link.write("eu", world.shard, Frontier()),
    ]
    for attempt in attempts:
        with pytest.raises(CausalError):
            attempt()
    world.put("eu", "k", 1)  # other links of the process go on


def test_a_store_keeps_its_number(make_world: MakeWorld) -> None:
    world = make_world(store=2)
    with pytest.raises(ConfigError):
        world.engines["eu"].open(3)


# --- the asynchronous twin -----------------------------------------------------------------------------------------------------------


def test_the_asynchronous_twin_does_the_same(make_world: MakeWorld) -> None:
    world = make_world()

    async def story() -> None:
        link = await world.engines["eu"].aopen()
        assert {e.name for e in link.endpoints} == {"eu", "us"}
        assert link.leader(world.shard) == "eu"
        writing = await link.write("eu", world.shard, Frontier())
        assert await _maybe(writing.connection.get("k")) is None
        await _maybe(writing.connection.put("k", 1))
        mine = after(await writing.commit(Frontier()))
        assert (await link.probe("eu", 1.0))[world.shard].judge(mine).verdict is Verdict.APPLIED
        reading = await link.read("eu", [world.shard])
        assert await _maybe(reading.connection.get("k")) == 1
        assert reading.seen() == mine
        assert reading.watermarks[world.shard].judge(mine).verdict is Verdict.APPLIED
        assert await link.position(reading.connection) >= mine
        await reading.close()
        await reading.close()
        undone = await link.write("eu", world.shard, mine)
        await _maybe(undone.connection.put("k", 2))
        await undone.rollback()
        await undone.rollback()
        world.controls.cut_off("us")
        with pytest.raises(Unreachable):
            await link.probe("us", 1.0)
        with pytest.raises(Unreachable):
            await link.read("us", [world.shard])
        await link.close()
        await link.close()

    asyncio.run(story())
    assert world.get("eu", "k") == 1


def test_a_cancelled_write_leaves_no_lock(make_world: MakeWorld) -> None:
    world = make_world()

    async def story() -> None:
        link = await world.engines["eu"].aopen()
        first = await link.write("eu", world.shard, Frontier())
        second = asyncio.ensure_future(link.write("eu", world.shard, Frontier()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not second.done()  # one after the other
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await first.rollback()
        third = await asyncio.wait_for(link.write("eu", world.shard, Frontier()), 60)
        await third.rollback()
        await link.close()

    asyncio.run(story())
    world.put("eu", "k", 1)


async def _maybe(result: Any) -> Any:
    """A connection's methods may be coroutines or not: that is the engine's own type."""
    return await result if asyncio.iscoroutine(result) else result


def test_a_traced_handle_tells_of_what_it_shows_and_writes(make_world: MakeWorld) -> None:
    world = make_world(shards=("main", "orders"))
    told: list[KeyVersion] = []
    first = position(world.commit("eu", {"a": 1, "b": 2}))
    handle = world.links["eu"].write("eu", world.shard, Frontier())
    handle.trace(told.append)
    tx = handle.connection
    tx.put("c", 3)
    assert (tx.get("a"), tx.get("c"), tx.get("nothing")) == (1, 3, None)
    assert dict(tx.scan("b")) == {"b": 2}
    tx.delete("a")
    assert {(one.key, one.version) for one in handle.written()} == {("a", None), ("c", None)}
    commit = handle.commit(Frontier())
    place = (position(commit).origin, position(commit).offset)
    assert {(one.key, one.version, one.data is None) for one in handle.written()} == {
        ("a", place, True),
        ("c", place, False),
    }
    (stamp,) = {one.stamp for one in handle.written()}
    assert stamp is not None
    assert [(one.key, one.version, one.data is None) for one in told] == [
        ("a", (first.origin, first.offset), False),
        ("nothing", None, True),
        ("b", (first.origin, first.offset), False),
    ]
    assert {one.shard for one in told} == {world.shard}
    assert all(one.stamp < stamp for one in told if one.stamp is not None)
    several = world.links["eu"].read("eu", list(world.shards.values()))
    told.clear()
    several.trace(told.append)
    several.connection.get("a")
    several.close()
    assert [(one.shard, one.version, one.stamp) for one in told if one.version] == [(world.shard, place, stamp)]


def test_a_traced_write_without_an_answer_names_no_version() -> None:
    with opened("memory") as world:
        world.controls.cluster.lose_answer("eu", committed=True)
        handle = world.links["eu"].write("eu", world.shard, Frontier())
        handle.trace(lambda one: None)
        handle.connection.put("a", 1)
        with pytest.raises(CommitUnknown):
            handle.commit(Frontier())
        assert [(one.key, one.version) for one in handle.written()] == [("a", None)]


def test_the_asynchronous_twin_is_traced_alike(make_world: MakeWorld) -> None:
    world = make_world()
    first = position(world.commit("eu", {"a": 1}))
    told: list[KeyVersion] = []

    async def run() -> None:
        link = await world.engines["eu"].aopen()
        handle = await link.read("eu", [world.shard])
        handle.trace(told.append)
        assert handle.connection.get("a") == 1
        await handle.close()
        write = await link.write("eu", world.shard, Frontier())
        write.trace(told.append)
        write.connection.put("a", write.connection.get("a") + 1)
        await write.commit(Frontier())
        told.extend(write.written())
        await link.close()

    asyncio.run(run())
    assert [(one.key, one.version) for one in told] == [
        ("a", (first.origin, first.offset)),
        ("a", (first.origin, first.offset)),
        ("a", (first.origin, first.offset + 1)),
    ]
