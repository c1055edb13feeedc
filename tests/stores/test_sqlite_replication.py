"""Replication: whole, in order, after its causes, when due; pauses and partitions."""

from __future__ import annotations

import sqlite3
import time
from contextlib import AbstractContextManager

import pytest

from causal.controls import Controls, Lag
from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.core.watermark import Verdict
from causal.errors import ConfigError, Unreachable
from causal.kv import decode_changes
from causal.stores.sqlite.files.shard import ShardFile
from causal.stores.sqlite.replication import apply
from tests.stores.sqlite_world import World, frontier, world

__all__ = ["world"]


@pytest.fixture
def two(world: World) -> World:
    world.open("eu", "us", lag_s=0.05)
    return world


def test_the_engine_speaks_the_shared_vocabulary(two: World) -> None:
    assert isinstance(two.engines["eu"], Controls)


def test_a_write_arrives_when_its_lag_is_over(two: World) -> None:
    mine = frontier(two.put("eu", "k", 1))
    assert two.step("us") == 0
    assert two.watermark("us").judge(mine).verdict is Verdict.BEHIND
    two.pass_s(0.049)
    assert two.step("us") == 0
    two.pass_s(0.001)
    assert two.step("us") == 1
    assert two.watermark("us").judge(mine).verdict is Verdict.APPLIED
    assert two.look("us", "k") == (1, mine)


def test_the_link_says_when_the_next_write_is_due(two: World) -> None:
    assert two.links["us"].step().due_ns is None
    two.put("eu", "k", 1)
    assert two.links["us"].step().due_ns == two.now_ns + 50_000_000


def test_a_lag_can_be_a_distribution_and_order_is_kept(world: World) -> None:
    lag = Lag(0.05, sigma=1.0, seed=7)
    world.open("eu", "us", lag_s=lag)
    delays = [lag.delay_s("us", 0, 1, n) for n in range(1, 21)]
    for n in range(20):
        world.put("eu", "k", n)
    applied = []
    for _ in range(400):
        world.pass_s(0.005)
        world.step("us")
        applied.append(world.watermark("us").origins[1][0])
    due = [max(delays[: n + 1]) for n in range(20)]  # nobody overtakes in a log
    expected = [sum(d <= 0.005 * (i + 1) for d in due) for i in range(400)]
    assert applied == expected
    assert len(set(applied)) > 3


def test_a_transaction_is_applied_whole(two: World) -> None:
    handle = two.links["eu"].write("eu", 0, Frontier())
    for n in range(10):
        handle.connection.put(f"k{n}", 1)
    handle.connection.delete("k3")
    handle.commit(Frontier())
    assert two.everything("us") == {}
    two.pass_s(1)
    assert two.step("us") == 1
    assert len(two.everything("us")) == 9


def test_many_transactions_are_applied_in_order(two: World) -> None:
    for n in range(600):  # more than a batch
        two.put("eu", f"k{n}", n)
    two.pass_s(1)
    assert two.step("us") == 600
    assert two.watermark("us").origins[1] == (600, None)
    assert two.everything("us") == two.everything("eu")


def test_conflicts_end_the_same_everywhere(world: World) -> None:
    sites = ("eu", "us", "asia")
    world.open(*sites)
    for turn in range(5):
        for site in sites:
            world.put(site, "k", f"{site}{turn}")
            world.put(site, f"{site}/{turn}", turn)
        world.delete(sites[turn % 3], "k")
        world.pass_s(0.001 * turn)
    world.settle()
    assert world.everything("eu") == world.everything("us") == world.everything("asia")


def test_equal_stamps_are_decided_by_the_origin(world: World) -> None:
    world.open("eu", "us")
    world.put("eu", "k", "eu")
    world.put("us", "k", "us")  # neither has seen the other; the wall stands still, so the stamps are equal
    world.settle()
    assert world.get("eu", "k") == world.get("us", "k") == "us"


def test_an_effect_is_not_applied_before_its_cause(world: World) -> None:
    """us has seen eu's post, asia has not: asia must not get the reply first."""
    world.open("eu", "us", "asia")
    post = frontier(world.put("eu", "post", "hello"))
    world.step("us")
    world.engines["eu"].cut_off("eu")
    reply = frontier(world.put("us", "reply", "hi", deps=post))
    assert world.step("asia") == 2  # us forwards eu's post, and it comes first
    assert world.get("asia", "post") == "hello"
    assert world.look("asia", "reply") == ("hi", post | reply)


def test_an_effect_waits_for_a_cause_that_is_out_of_reach(world: World) -> None:
    world.open("eu", "us", "asia")
    missing = Frontier([Position(0, 1, 1)])
    reply = frontier(world.put("us", "reply", "hi", deps=missing))
    later = frontier(world.put("us", "later", 1))
    assert world.step("asia") == 0
    assert world.watermark("asia").judge(reply | later).verdict is Verdict.BEHIND
    world.put("eu", "post", "hello")
    assert world.step("asia") == 3
    assert world.get("asia", "later") == 1


def test_positions_of_other_stores_do_not_hold_back(two: World) -> None:
    two.put("eu", "k", 1, deps=Frontier([Position(9 << 16, 1, 1000)]))
    two.pass_s(1)
    assert two.step("us") == 1


def test_a_paused_site_falls_behind_and_stays_readable(two: World) -> None:
    two.engines["eu"].pause("us")  # by anyone
    two.put("eu", "k", 1)
    two.pass_s(1)
    assert two.step("us") == 0
    assert two.get("us", "k") is None
    two.engines["us"].catch_up("us")
    assert two.get("us", "k") == 1
    two.put("eu", "k", 2)
    two.pass_s(1)
    assert two.step("us") == 0
    two.engines["us"].resume("us")
    assert two.step("us") == 1


def test_catching_up_ignores_the_lag(two: World) -> None:
    two.put("eu", "k", 1)
    two.engines["eu"].catch_up("us")
    assert two.get("us", "k") == 1


def test_a_cut_off_site_serves_itself_only(world: World) -> None:
    world.open("eu", "us", "asia")
    world.engines["us"].cut_off("eu")
    world.put("eu", "k", "eu")
    assert world.get("eu", "k") == "eu"
    for use in (
        lambda: world.get("us", "k", at="eu"),
        lambda: world.put("us", "k", 1, at="eu"),
        lambda: world.watermark("us", at="eu"),
        lambda: world.watermark("eu", at="us"),
    ):
        with pytest.raises(Unreachable, match="cut off"):
            use()
    world.put("us", "k", "us")
    assert world.step("us", "eu") == 0
    assert world.step("asia") == 1
    world.engines["asia"].catch_up("eu")
    assert world.get("eu", "k") == "eu"
    world.engines["asia"].rejoin("eu")
    world.settle()
    assert {world.get(site, "k") for site in ("eu", "us", "asia")} == {"us"}


def test_another_site_can_be_read_and_written_over_the_network(world: World) -> None:
    world.open("eu", "us", rtt_s={"eu": 0.08})
    us = world.links["us"]
    assert [(e.name, e.latency_s) for e in us.endpoints] == [("us", 0.0), ("eu", 0.08)]
    assert world.put("us", "k", 1, at="eu").position == Position(0, 1, 1)
    assert world.get("us", "k", at="eu") == 1
    assert world.watermark("us", at="eu").leads == {1}
    assert world.slept == [0.04] * 6
    assert world.get("us", "k") is None
    assert world.slept == [0.04] * 6
    with pytest.raises(Unreachable, match="answer"):
        us.probe("eu", 0.01)
    assert world.slept[-1] == 0.01


def test_what_a_remote_site_shows_is_half_a_round_trip_old(world: World) -> None:
    meanwhile: list[float] = []

    def sleep(seconds: float) -> None:
        meanwhile.append(seconds)
        world.put("eu", "k", len(meanwhile))

    world.open("eu")
    world.open("us", rtt_s=0.08, sleep=sleep)
    assert world.get("us", "k", at="eu") == 1  # what was written when the question had arrived; since then, 2
    assert world.watermark("us", at="eu").origins[1] == (3, None)
    assert meanwhile == [0.04] * 4
    world.engines["eu"].cut_off("eu")
    with pytest.raises(Unreachable, match="cut off"):
        world.get("us", "k", at="eu")
    assert meanwhile == [0.04] * 6  # a refusal travels back, too


def test_controls_name_sites_that_exist(two: World) -> None:
    for use in (two.engines["eu"].pause, two.engines["eu"].cut_off, two.engines["eu"].catch_up):
        with pytest.raises(ConfigError):
            use("nowhere")


def test_heads_are_those_of_who_numbers_them(two: World) -> None:
    """A site leads its own origin, never another's, so nothing beyond its copy of another's log is lost."""
    for n in range(3):
        two.put("eu", "k", n)
    eu, us = two.watermark("eu"), two.watermark("us")
    assert (eu.leads, us.leads) == (frozenset({1}), frozenset({2}))
    demand = Frontier([Position(0, 1, 3)])
    assert us.judge(demand).verdict is Verdict.BEHIND
    assert eu.judge(demand).verdict is Verdict.APPLIED


def test_replication_in_the_background_applies_what_is_due(world: World) -> None:
    """The thread itself: no clock is faked, nothing is timed, only the outcome is waited for."""
    world.open("eu", "us", replicate="thread", wall=time.time_ns, lag_s=0.01)
    mine = frontier(world.put("eu", "k", 1))
    deadline = time.monotonic() + 60
    while world.watermark("us").judge(mine).verdict is not Verdict.APPLIED:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert world.get("us", "k") == 1


def test_a_fast_clock_does_not_hold_its_log_back(world: World) -> None:
    """The simulated lag is counted from the commit, which seems to lie in the future here."""
    world.open("eu", "us", lag_s=0.05)
    world.pass_s(600)
    world.put("eu", "k", 1)
    world.pass_s(-600)
    assert world.step("us") == 1


def test_another_link_takes_over_when_the_one_that_replicates_goes(world: World) -> None:
    """One at a time replicates a site, of all links and processes."""
    world.open("eu", "us", replicate="thread", wall=time.time_ns)
    second = world.engine("us", replicate="thread", wall=time.time_ns).open()
    world.close("us")
    mine = frontier(world.put("eu", "k", 1))
    deadline = time.monotonic() + 60
    while second.probe("us", 1)[0].judge(mine).verdict is not Verdict.APPLIED:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    second.close()


# --- one step of replication, with what other processes may do in between ---------------------------------------------


def entries(world: World, site: str, origin: int) -> list[apply.Ready]:
    with world.links[site].directory.file(site, 0).snapshot() as db:
        rows: list[apply.Entry] = db.execute(
            "SELECT offset, stamp, committed_ns, deps, changes FROM log WHERE origin = ? ORDER BY offset", (origin,)
        ).fetchall()
    return [(row, decode_changes(row[4])) for row in rows]


def test_what_is_unknown_is_not_covered() -> None:
    coverage = apply.Coverage(store=0)
    coverage.learn(0, [(1, 5, None, 1, 0), (2, 3, 3, 0, 0)])
    for covered in (Position(0, 1, 5), Position(0, 2, 3), Position(0, 2, 4), Position(9 << 16, 1, 1)):
        assert coverage.covers(Frontier([covered]))
    for missing in (Position(0, 1, 6), Position(0, 3, 0), Position(1, 1, 1)):
        assert not coverage.covers(Frontier([missing]))


def test_inside_the_lock_only_the_very_next_entry_is_applied(world: World) -> None:
    """Another process may have applied some of a batch since it was fetched, or the file may have been begun anew."""
    world.open("eu", "us")
    for n in range(5):
        world.put("eu", f"k{n}", n)
    batch, file = entries(world, "eu", 1), world.links["us"].directory.file("us", 0)
    assert apply._apply(file, 1, batch[2:]) == (0, 0)
    assert apply._apply(file, 1, batch[:2]) == (2, 2)
    assert apply._apply(file, 1, batch[:4]) == (2, 4)
    assert world.watermark("us").origins[1] == (4, None)
    assert len(world.everything("us")) == 4


def test_nothing_is_applied_past_an_end(world: World) -> None:
    world.open("eu", "us")
    for n in range(5):
        world.put("eu", f"k{n}", n)
    file = world.links["us"].directory.file("us", 0)
    batch = entries(world, "eu", 1)
    with file.writing() as db:
        db.execute('UPDATE watermark SET "end" = 3 WHERE origin = 1')
    assert world.step("us") == 3
    assert apply._apply(file, 1, batch) == (0, 3), "nor if the end became known after the batch was fetched"
    assert world.watermark("us").origins[1] == (3, 3)


def test_a_write_that_comes_while_a_site_looks_is_not_due_before_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a time that was noted before, it would be of the future, and what a fast clock wrote is not held back."""
    world.open("eu", "us", lag_s=10)
    snapshot = ShardFile.snapshot

    def meanwhile(file: ShardFile) -> AbstractContextManager[sqlite3.Connection]:
        monkeypatch.undo()
        world.pass_s(0.001)
        world.put("eu", "k", 1)
        return snapshot(file)

    monkeypatch.setattr(ShardFile, "snapshot", meanwhile)
    world.links["us"]._tell_at = float("inf")
    assert world.step("us") == 0
    assert world.step("us") == 0
    world.pass_s(10)
    assert world.step("us") == 1


@pytest.mark.parametrize("stop", ["pause", "cut_off"])
def test_a_write_after_a_pause_is_not_applied_by_what_was_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    world.open("eu", "us")
    snapshot = ShardFile.snapshot

    def meanwhile(file: ShardFile) -> AbstractContextManager[sqlite3.Connection]:
        monkeypatch.undo()
        getattr(world.engines["eu"], stop)("us")
        world.put("eu", "k", 1)
        return snapshot(file)

    monkeypatch.setattr(ShardFile, "snapshot", meanwhile)
    world.links["us"]._tell_at = float("inf")
    assert world.step("us") == 0
    assert world.get("us", "k") is None
    world.engines["eu"].resume("us")
    world.engines["eu"].rejoin("us")
    assert world.step("us") == 1


def test_a_gap_is_no_next_entry(world: World) -> None:
    world.open("eu", "us")
    for n in range(5):
        world.put("eu", f"k{n}", n)
    with world.links["eu"].directory.file("eu", 0).writing() as db:
        db.execute("DELETE FROM log WHERE offset <= 3")
    us = world.links["us"].directory
    done = apply.pull(us.file("us", 0), us.file("eu", 0), apply.Coverage(0), None, time.time_ns)
    assert (done.applied, done.gaps, done.offered) == (0, {1}, set())
    assert world.watermark("us").origins[1] == (0, None)
    world.step("us")  # what no log holds any more comes as a copy of the state
    assert world.everything("us") == world.everything("eu")
