"""Clocks that run fast, clocks that stop, and processes that do."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import attrs
import pytest

from causal import ClockDrift, HybridLogicalClock, ReadPolicy, Timestamp, state
from causal.ceiling import Reserve
from causal.core.hlc import COUNTER_BITS
from causal.request import Request
from causal.state import StoreState
from tests.scenarios.stage import Stage
from tests.scenarios.story import Story, told
from tests.stores.worlds import Time

Recorded = Callable[[str, str], None]

AT_MOST_5_S = ReadPolicy.bounded(5)


# --- fast clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("C-19")
def test_a_fast_clock_does_not_undo_what_is_acknowledged(recorded: Recorded) -> None:
    def by_the_clock(now: int, *_: int) -> int:
        return now

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us", skew_s={"eu": 600})
        tell("eu's clock is 600 s fast. No clock of us follows it there.")
        stage.visit("bob", "eu").writes("title", "by bob")
        stage.pass_s(1)
        alice = stage.visit("alice", "us")
        alice.reads("title")
        alice.writes("title", "by alice")
        tell("Her write is acknowledged: the later one, as she has seen Bob's.")
        page = alice.reads("title")
        tell.never(page == "by bob", "It lost against what it replaced, by a stamp from a clock that was refused.")
        stage.pass_s(1)
        assert stage.visit("carol", "eu").reads("title") == "by alice"

    rule = "a write's stamp in conflicts is above that of every version its shard has met, whatever the clocks say."
    without = patch("causal.stores.memory.cluster.next_stamp", by_the_clock)
    recorded("clocks/fast", told("A fast clock elsewhere does not undo what is acknowledged", play, rule, without))


@attrs.define
class Row:
    """A ceiling in a row of some database."""

    bound: int | None = None

    def load(self) -> int | None:
        return self.bound

    def reserve(self, up_to: int) -> int:
        before = self.bound or 0
        self.bound = max(up_to, before + 1)
        return before

    def release(self, bound: int, keep: int) -> None:
        if self.bound == bound:
            self.bound = keep


def test_many_short_processes_do_not_run_away(recorded: Recorded) -> None:
    def a_span_each(reserve: Reserve, need: int, wall_ms: int) -> int:
        up_to = max(need, wall_ms << COUNTER_BITS) + reserve._span
        reserve._ceiling.reserve(up_to)
        return up_to

    def play(tell: Story) -> None:
        wall, ceiling, stamp = Time(), Row(), Timestamp(0)
        tell(
            "300 processes share a ceiling, one after the other: each takes one timestamp and is killed, within 100 ms."
        )
        for number in range(1, 301):
            stamp = HybridLogicalClock(wall.wall_ns, max_drift_s=2.0, ceiling=ceiling).now()
            if number % 100 == 0:
                ahead_s = stamp.physical_ms / 1000 - wall.wall_s()
                tell(f"process {number}: its timestamp is {ahead_s:.1f} s ahead of the wall.")
            wall.now_s += 0.1
        peer = HybridLogicalClock(wall.wall_ns, max_drift_s=2.0)
        try:
            peer.update(stamp)
        except ClockDrift as error:
            tell(f"a peer: ClockDrift: {str(error).partition('ms is ')[2].partition(' of the')[0]}")
            tell.never(True, "No process ran for longer than 100 ms, and their peers refuse their clock.")
        tell("a peer takes it.")

    rule = "a clock reserves up to half of the drift (at most 1 s) ahead of the wall; one that is ahead already, 1 ms at a time."
    without = patch.object(Reserve, "extend", a_span_each)
    recorded("clocks/short-processes", told("Many short processes on one ceiling", play, rule, without))


# --- time that passes unnoticed ------------------------------------------------------------------------------------------


def test_a_pause_between_decision_and_snapshot(recorded: Recorded) -> None:
    accepts = Request.accepts

    def as_of_the_decision(request: Request, *watermarks: Any) -> bool:
        clock, request.store.monotonic = request.store.monotonic, lambda: request.asked_at
        try:
            return accepts(request, *watermarks)
        finally:
            request.store.monotonic = clock

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu", "us")
        link = stage.stores["us"]._link()
        read = link.read

        def late(endpoint: str, shards: Sequence[int]) -> Any:
            link.read = read  # type: ignore[method-assign]
            tell(
                "us is shown to be fresh: that is decided. Then the process stands still, as in a virtual machine that is moved."
            )
            stage.pass_s(60)
            stage.visit("alice", "eu").writes("price", "12")
            stage.pass_s(60)
            tell("The process goes on, and opens its snapshot.")
            return read(endpoint, shards)

        stage.cluster.pause("us")
        tell("us gets nothing from eu. Bob wants a page that is at most 5 s old.")
        link.read = late  # type: ignore[method-assign]
        page = stage.visit("bob", "us").reads("price", policy=AT_MOST_5_S)
        tell.never(
            page is None, "The price is a minute old and missing from a page that is at most 5 s old, says its receipt."
        )
        assert page == "12"

    rule = "a bound on staleness is checked again after the snapshot: a pause between decision and snapshot voids it."
    without = patch.object(Request, "accepts", as_of_the_decision)
    recorded("clocks/pause", told("A pause between the decision and the snapshot", play, rule, without))


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts suspension")
def test_a_machine_that_sleeps(recorded: Recorded) -> None:
    # The story's machine is no real one: it reads, of its two clocks, that which a store reads by default.
    assert attrs.fields(StoreState).monotonic.default is state.suspend_aware_monotonic

    def play(tell: Story) -> None:
        asleep_s = 0.0
        stage = Stage(tell, "eu", "us")
        (clock,) = state.suspend_aware_monotonic.args  # type: ignore[attr-defined]

        def monotonic() -> float:
            return stage.time.now_s - (asleep_s if clock == time.CLOCK_MONOTONIC else 0.0)

        process = stage.process("us", monotonic=monotonic)
        stage.cluster.pause("us")
        bob = stage.visit("bob", "us", process=process)
        bob.reads("price", policy=AT_MOST_5_S)
        tell("Bob's process, and its copy of the data, are on a machine that goes to sleep.")
        stage.pass_s(60)
        stage.visit("alice", "eu").writes("price", "12")
        stage.pass_s(60)
        asleep_s = 120.0
        tell("It wakes up. Bob reads again, before us has heard from eu.")
        page = bob.reads("price", policy=AT_MOST_5_S)
        tell.never(
            page is None,
            "By a clock that slept too, no time has passed. At most 5 s old, says the receipt; the price is a minute old.",
        )
        assert page == "12"

    rule = "staleness is measured by a monotonic clock that goes on while the machine sleeps (CLOCK_BOOTTIME)."
    sleeps_too = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    without = patch.object(state, "suspend_aware_monotonic", sleeps_too)
    recorded("clocks/sleep", told("A machine that sleeps", play, rule, without))
