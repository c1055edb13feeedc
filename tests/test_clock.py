"""The clock: I1, drift, threads, forks, and no timestamp twice over restarts. Its ceiling's file is in test_ceiling.py."""

import gc
import itertools
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import causal.clock
from causal.clock import MAX_RESERVE_MS, HybridLogicalClock
from causal.core.hlc import MAX_LOGICAL, MAX_PHYSICAL_MS, START, Timestamp, merge, tick
from causal.errors import ClockDrift, ClockError, ConfigError
from tests.fake_clock import T0_MS, MemoryCeiling, PatientClock, Wall

YEAR_MS = 365 * 24 * 3600 * 1000
PATIENCE_S = 60  # how long a test waits for what happens at once unless it is broken

# -- a history --

# wall in ms since T0, what happens, the timestamp it gets: (ms since T0, counter); None: refused.
HISTORY: list[tuple[float, str, tuple[int, int] | None, tuple[int, int] | None]] = [
    # The clock starts, and keeps to the wall.
    (5, "now", None, (5, 0)),
    (6, "now", None, (6, 0)),
    # The wall stands still, or moves by less than a millisecond: the counter moves.
    (6, "now", None, (6, 1)),
    (6.4, "now", None, (6, 2)),
    (6.999999, "now", None, (6, 3)),
    (7, "now", None, (7, 0)),
    # The wall goes back. The clock does not.
    (2, "now", None, (7, 1)),
    (2, "update", (3, 9), (7, 2)),
    # A message from the past, from the same time, from ahead.
    (10, "update", (4, 77), (10, 0)),
    (10, "update", (10, 5), (10, 6)),
    (10, "update", (10, 2), (10, 7)),
    (10, "update", (30, 4), (30, 5)),
    # The clock is ahead of its wall now, and waits for it on the counter.
    (11, "now", None, (30, 6)),
    (29.999999, "now", None, (30, 7)),
    (30, "now", None, (30, 8)),
    (31, "now", None, (31, 0)),
    # A message exactly as far ahead as may be, and one a millisecond further.
    (40, "update", (540, MAX_LOGICAL - 1), (540, MAX_LOGICAL)),
    (40, "update", (541, 0), None),
    # The counter is exhausted: it carries.
    (41, "now", None, (541, 0)),
    (41, "now", None, (541, 1)),
    # What is too far ahead of the wall is refused even when the clock is there already.
    (40, "update", (541, 0), None),
    (41, "now", None, (541, 2)),
    # A message from a year ahead changes nothing.
    (600, "update", (YEAR_MS, 0), None),
    (600, "now", None, (600, 0)),
    # The machine sleeps for a year. It goes on working.
    (YEAR_MS, "now", None, (YEAR_MS, 0)),
    (YEAR_MS, "update", (YEAR_MS + 500, 3), (YEAR_MS + 500, 4)),
    # The wall was wrong, and is put right. The clock keeps its order, and refuses nobody who is where the wall is.
    (700, "now", None, (YEAR_MS + 500, 5)),
    (700, "update", (705, 0), (YEAR_MS + 500, 6)),
]


@pytest.mark.spec("C-18")
@pytest.mark.parametrize("ceiling", [None, MemoryCeiling], ids=["no ceiling", "ceiling"])
def test_a_history(ceiling: Callable[[], MemoryCeiling] | None) -> None:
    wall = Wall()
    clock = PatientClock(wall=wall, ceiling=ceiling and ceiling())
    assert clock.last is None
    for line, (wall_ms, event, remote, expected) in enumerate(HISTORY):
        wall.ns = T0_MS * 1_000_000 + round(wall_ms * 1_000_000)
        before = clock.last
        if event == "now":
            got = clock.now()
        elif expected is None:
            with pytest.raises(ClockDrift):
                clock.update(Timestamp.from_parts(T0_MS + remote[0], remote[1]) if remote else 0)
            assert clock.last == before, f"line {line}"
            continue
        else:
            assert remote is not None
            got = clock.update(Timestamp.from_parts(T0_MS + remote[0], remote[1]))
        assert expected is not None
        assert (got.physical_ms - T0_MS, got.logical) == expected, f"line {line}"
        assert type(got) is Timestamp
        assert clock.last == got
        assert type(clock.last) is Timestamp


# -- I1 --

# Walls within a few milliseconds (in steps that cross them), and walls that jump far, either way.
wall_ns = st.one_of(st.integers(-3, 40).map(lambda n: n * 250_000), st.integers(-(10**12), 10**12))
events = st.lists(
    st.tuples(
        st.one_of(st.just(None), wall_ns),
        st.one_of(st.just(None), st.integers(-600, 600).map(lambda ms: ms << 16), st.integers(-3, 3)),
    ),
    max_size=40,
)


@pytest.mark.spec("C-6", "C-8", "C-10", "C-16", "C-17")
@given(events, st.sampled_from([0, 0.001, 0.5]), st.booleans())
@example([(0, 0), (None, 1)], 0.5, False)  # a receive of the very timestamp that would be next
@example([(0, None), (0, None), (1_000_000, None)], 0.5, False)
@example([(0, None), (-3_600 * 10**9, None), (-3_600 * 10**9, 0)], 0.5, False)
@example([(0, 500 << 16), (0, 501 << 16)], 0.5, False)
def test_i1_the_clock_is_the_pure_steps_and_a_refusal(
    events: list[tuple[int | None, int | None]], max_drift_s: float, ceiling: bool
) -> None:
    wall = Wall()
    clock = PatientClock(
        wall=wall, max_drift_s=max_drift_s, ceiling=MemoryCeiling() if ceiling and max_drift_s > 0.001 else None
    )
    last = START
    for moved_ns, remote in events:
        if moved_ns is not None:
            wall.ns = T0_MS * 1_000_000 + moved_ns
        if remote is None:
            expected = tick(last, wall.ms)
            assert clock.now() == expected
        else:
            # Large differences from the wall, or small ones from where the clock stands.
            stamp = (wall.ms << 16) + remote if abs(remote) > 3 or last == START else last + remote
            if (stamp >> 16) - wall.ms > max_drift_s * 1000:
                with pytest.raises(ClockDrift):
                    clock.update(stamp)
                expected = last
            else:
                expected = merge(last, stamp, wall.ms)
                assert clock.update(stamp) == expected
                assert expected > stamp
        assert expected >= last
        last = expected
        assert clock.last == (None if last == START else last)


@pytest.mark.spec("C-9")
@given(st.integers(0, MAX_LOGICAL), st.integers(0, 3), st.integers(-5, 0))
@example(MAX_LOGICAL - 1, 3, 0)
@example(MAX_LOGICAL, 1, -5)
def test_i1_an_exhausted_counter_carries(logical: int, steps: int, wall_moves_ms: int) -> None:
    wall = Wall()
    clock = HybridLogicalClock(wall=wall)
    clock.update(Timestamp.from_parts(T0_MS, logical))
    wall.ms = T0_MS + wall_moves_ms
    for _ in range(steps):
        clock.now()
    assert clock.last == Timestamp.from_parts(T0_MS, logical) + 1 + steps


@pytest.mark.spec("C-9")
def test_a_counter_exhausted_by_calls_alone_carries() -> None:
    clock = HybridLogicalClock(wall=Wall())
    stamps = [clock.now() for _ in range(MAX_LOGICAL + 3)]
    assert (stamps[0].physical_ms, stamps[0].logical) == (T0_MS, 0)
    assert (stamps[-3].physical_ms, stamps[-3].logical) == (T0_MS, MAX_LOGICAL)
    assert (stamps[-1].physical_ms, stamps[-1].logical) == (T0_MS + 1, 1)
    assert all(b - a == 1 for a, b in itertools.pairwise(stamps))


@pytest.mark.spec("C-12")
@pytest.mark.parametrize("ceiling", [None, MemoryCeiling], ids=["no ceiling", "ceiling"])
def test_the_end_of_time_is_an_error_and_passes_with_a_wall_that_returns(
    ceiling: Callable[[], MemoryCeiling] | None,
) -> None:
    wall = Wall()
    clock = PatientClock(wall=wall, ceiling=ceiling and ceiling())
    before = clock.now()
    for ms in (MAX_PHYSICAL_MS + 1, 1 << 60):
        wall.ms = ms
        for call in (clock.now, lambda: clock.update(before)):
            with pytest.raises(ClockError) as caught:
                call()
            assert not isinstance(caught.value, ClockDrift)
            assert clock.last == before
    wall.ms = T0_MS + 1
    assert clock.now() == Timestamp.from_parts(T0_MS + 1)  # and not the counter of the millisecond before


def test_the_last_timestamp_of_all_is_handed_out_once() -> None:
    wall = Wall(MAX_PHYSICAL_MS)
    clock = HybridLogicalClock(wall=wall)
    assert clock.update(Timestamp.from_parts(MAX_PHYSICAL_MS, MAX_LOGICAL - 1)) == 2**64 - 1
    with pytest.raises(ClockError):
        clock.now()
    with pytest.raises(ClockError):
        clock.update(2**64 - 1)


# -- drift --


@pytest.mark.spec("C-11")
@pytest.mark.parametrize("ms", [-1, 0, T0_MS])
@pytest.mark.parametrize("ns", [1, 500_000, 999_999])
def test_both_steps_round_a_finer_wall_down(ms: int, ns: int) -> None:
    wall = Wall()
    wall.ns = ms * 10**6 + ns
    floor = max(ms, 0) << 16
    assert HybridLogicalClock(wall=wall).now() == floor
    assert HybridLogicalClock(wall=wall).update(Timestamp(0)) == max(1, ms << 16)
    ahead = Timestamp.from_parts(ms + 501)
    with pytest.raises(ClockDrift) as caught:  # the bound is counted from the whole millisecond, too
        HybridLogicalClock(wall=wall, max_drift_s=0.5).update(ahead)
    assert caught.value.wall_ms == ms


@pytest.mark.spec("C-14")
def test_a_refused_remote_names_both_times_and_the_bound() -> None:
    clock = HybridLogicalClock(wall=Wall(), max_drift_s=0.5)
    with pytest.raises(ClockDrift) as caught:
        clock.update(Timestamp.from_parts(T0_MS + 600_000))
    error = caught.value
    assert (error.remote_ms, error.wall_ms, error.max_drift_s) == (T0_MS + 600_000, T0_MS, 0.5)
    assert str(T0_MS + 600_000) in str(error)
    assert str(T0_MS) in str(error)
    assert "0.5" in str(error)
    assert clock.last is None
    ahead = clock.update(Timestamp.from_parts(T0_MS + 400))
    with pytest.raises(ClockDrift) as caught:
        clock.update(Timestamp.from_parts(T0_MS + 501, 7))
    assert (caught.value.remote_ms, caught.value.wall_ms) == (T0_MS + 501, T0_MS)  # the wall, not where the clock is
    assert clock.last == ahead


@pytest.mark.spec("C-15", "C-16")
def test_the_bound_holds_to_the_last_count_of_its_millisecond() -> None:
    clock = HybridLogicalClock(wall=Wall(), max_drift_s=0.5)
    bound = Timestamp.from_parts(T0_MS + 500, MAX_LOGICAL)
    with pytest.raises(ClockDrift):
        clock.update(bound + 1)
    assert clock.update(bound) == bound + 1
    with pytest.raises(ClockDrift):
        clock.update(bound + 1)  # though the clock itself stands there


def test_a_slow_remote_is_never_refused() -> None:
    clock = HybridLogicalClock(wall=Wall())
    assert clock.update(0) == Timestamp.from_parts(T0_MS)


@pytest.mark.spec("C-13")
@pytest.mark.parametrize("remote", [-1, 1 << 64])
def test_a_remote_that_is_no_timestamp_is_refused(remote: int) -> None:
    clock = HybridLogicalClock(wall=Wall())
    with pytest.raises(ClockError):
        clock.update(remote)
    with pytest.raises(TypeError):
        clock.update(float(T0_MS << 16))  # type: ignore[arg-type]
    assert clock.last is None


@pytest.mark.parametrize("max_drift_s", [-0.001, float("inf"), float("nan")])
def test_a_drift_that_cannot_be_is_refused(max_drift_s: float) -> None:
    with pytest.raises(ConfigError):
        HybridLogicalClock(max_drift_s=max_drift_s)


def test_no_drift_at_all_means_no_further_than_this_millisecond() -> None:
    clock = HybridLogicalClock(wall=Wall(), max_drift_s=0)
    assert clock.update(Timestamp.from_parts(T0_MS, 7)).logical == 8
    with pytest.raises(ClockDrift):
        clock.update(Timestamp.from_parts(T0_MS + 1))


# -- threads --


@pytest.mark.parametrize("ceiling", [None, MemoryCeiling], ids=["no ceiling", "ceiling"])
def test_many_threads_never_share_a_timestamp(ceiling: Callable[[], MemoryCeiling] | None) -> None:
    threads, calls = 8, 1000
    start = threading.Barrier(threads)

    with HybridLogicalClock(max_drift_s=5, ceiling=ceiling and ceiling()) as clock:

        def let_others_in(frame: FrameType, event: str, arg: object) -> Any:
            return let_others_in  # a call a line: threads switch between lines, which they may do at calls only

        def hammer(n: int) -> list[Timestamp]:
            start.wait()
            sys.settrace(let_others_in)  # ends with its thread
            mine = []
            for i in range(calls):
                if (i + n) % 3:
                    mine.append(clock.now())
                else:
                    remote = (clock.last or 0) + i % 7  # what another thread is about to get
                    mine.append(clock.update(remote))
                    assert mine[-1] > remote
            return mine

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(threads) as pool:
                got = list(pool.map(hammer, range(threads)))
        finally:
            sys.setswitchinterval(interval)

    assert len({stamp for mine in got for stamp in mine}) == threads * calls
    for mine in got:
        assert mine == sorted(mine)


# -- restarts --


@pytest.mark.spec("C-22")
def test_a_restarted_clock_starts_above_all_that_the_one_before_handed_out() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    before = HybridLogicalClock(wall=wall, ceiling=ceiling).now()  # and a crash
    wall.ms = T0_MS - 3_600_000  # the battery of the machine's clock is empty, too
    clock = HybridLogicalClock(wall=wall, ceiling=ceiling)
    assert clock.last is not None
    assert clock.last >= before
    assert clock.now() > before


@pytest.mark.spec("C-22")
@pytest.mark.parametrize("bound", [1, T0_MS << 16, (T0_MS + 900 << 16) + 7])
def test_a_clock_behind_its_bound_starts_just_there(bound: int) -> None:
    """One lower would be what somebody may have handed out."""
    assert HybridLogicalClock(wall=Wall(0), ceiling=MemoryCeiling(bound)).now() == bound


@pytest.mark.spec("C-23")
def test_what_is_handed_out_is_reserved_first() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    clock = PatientClock(wall=wall, ceiling=ceiling)
    for step_ms in (0, 1, 124, 1, 250, 10_000, -20_000, 0.3):
        wall.ms = wall.ms + step_ms
        for stamp in (clock.now(), clock.update(Timestamp.from_parts(wall.ms + 500))):
            assert ceiling.bound is not None
            assert stamp < ceiling.bound


@pytest.mark.spec("C-23")
def test_the_bound_itself_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ceiling = MemoryCeiling()
    clock = HybridLogicalClock(wall=Wall(), ceiling=ceiling)
    monkeypatch.setattr(HybridLogicalClock, "_wake_keeper", lambda _: None)
    ahead = clock.update(Timestamp.from_parts(T0_MS + 400))
    assert ceiling.bound == ahead + 65_536
    while clock.now() < ahead + 65_535:
        assert ceiling.bound == ahead + 65_536
    assert clock.now() == ahead + 65_536
    assert ceiling.bound == ahead + 2 * 65_536


@pytest.mark.spec("C-24")
def test_the_reserve_reaches_half_the_drift_ahead_and_no_further() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    PatientClock(wall=wall, max_drift_s=0.5, ceiling=ceiling).now()
    assert ceiling.bound == Timestamp.from_parts(T0_MS + 250)
    odd = MemoryCeiling()
    PatientClock(wall=wall, max_drift_s=0.501, ceiling=odd).now()
    assert odd.bound == Timestamp.from_parts(T0_MS + 250)
    generous = MemoryCeiling()
    PatientClock(wall=wall, max_drift_s=3600, ceiling=generous).now()
    assert generous.bound == Timestamp.from_parts(T0_MS + 1000)
    assert MAX_RESERVE_MS == 1000


@pytest.mark.spec("C-24")
def test_a_clock_that_is_ahead_reserves_a_millisecond_at_a_time() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    clock = PatientClock(wall=wall, ceiling=ceiling)
    ahead = clock.update(Timestamp.from_parts(T0_MS + 400))
    assert ceiling.bound == ahead + 65536


@pytest.mark.spec("C-26")
def test_close_gives_the_unused_reserve_back() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    with PatientClock(wall=wall, ceiling=ceiling) as clock:
        used = clock.now()
    assert ceiling.bound == used + 1
    assert clock.now() == used + 1  # a closed clock that is used again reserves again
    assert ceiling.bound > used + 1
    clock.close()
    clock.close()
    assert ceiling.bound == used + 2


def test_closing_a_clock_that_was_never_used_changes_nothing() -> None:
    ceiling = MemoryCeiling(bound=77)
    HybridLogicalClock(wall=Wall(), ceiling=ceiling).close()
    assert (ceiling.bound, ceiling.writers) == (77, [])
    HybridLogicalClock(wall=Wall()).close()


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "crashed"])
@pytest.mark.parametrize(("between_ms", "ahead_ms"), [(20, 251), (1, 251), (0, 250 + 300)])
def test_three_hundred_short_processes_do_not_run_away(closes: bool, between_ms: int, ahead_ms: int) -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    stamps = []
    for _ in range(300):
        clock = PatientClock(wall=wall, ceiling=ceiling)
        stamps += [clock.now(), clock.now()]
        if closes:
            clock.close()
        wall.ms = wall.ms + between_ms
    assert stamps == sorted(set(stamps))
    assert stamps[-1].physical_ms - wall.ms <= (1 if closes else ahead_ms)


def test_short_processes_for_real(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, sys
        from causal.clock import HybridLogicalClock
        clock = HybridLogicalClock(ceiling=sys.argv[1])
        print(int(clock.now()), int(clock.now()), flush=True)
        os._exit(0)  # no clean end
    """)
    path = tmp_path / "ceiling"
    runs = 6
    stamps: list[int] = []
    for _ in range(runs):
        out = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True, text=True)
        stamps += map(int, out.stdout.split())
    assert stamps == sorted(set(stamps))
    assert (stamps[-1] >> 16) - time.time_ns() // 1_000_000 <= 250 + runs


def test_a_ceiling_far_ahead_is_kept_to_and_said(caplog: pytest.LogCaptureFixture) -> None:
    a_year_on = Timestamp.from_parts(T0_MS + YEAR_MS)
    with caplog.at_level(logging.WARNING, "causal"):
        clock = PatientClock(wall=Wall(), ceiling=MemoryCeiling(a_year_on))
    assert "ahead of the wall" in caplog.text
    assert clock.now() == a_year_on
    assert clock.now() == a_year_on + 1


def test_a_drift_too_small_to_reserve_in_is_refused() -> None:
    HybridLogicalClock(max_drift_s=0.002, ceiling=MemoryCeiling())
    with pytest.raises(ConfigError):
        HybridLogicalClock(max_drift_s=0.001, ceiling=MemoryCeiling())


# -- a reserve that cannot be made --


@pytest.mark.spec("C-27")
def test_without_a_reserve_the_clock_refuses_and_recovers() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    clock = PatientClock(wall=wall, ceiling=ceiling)
    before = clock.now()
    ceiling.broken = ClockError("the disk is full")
    wall.ms = T0_MS + 251
    for call in (clock.now, lambda: clock.update(Timestamp.from_parts(T0_MS + 260))):
        with pytest.raises(ClockError, match="the disk is full"):
            call()
        assert clock.last == before
    # Within what is reserved there is room, but a timestamp there would be below the wall: still refused.
    with pytest.raises(ClockError, match="the disk is full"):
        clock.now()
    wall.ms = T0_MS + 100
    assert clock.now() == Timestamp.from_parts(T0_MS + 100)
    ceiling.broken = None
    wall.ms = T0_MS + 260
    assert clock.now() == Timestamp.from_parts(T0_MS + 260)


def test_a_disk_slower_than_the_reserve_is_long_stops_no_call() -> None:
    wall = Wall()

    class SlowCeiling(MemoryCeiling):
        def reserve(self, up_to: int) -> int:
            before = super().reserve(up_to)
            wall.ms = wall.ms + 400
            return before

    clock = PatientClock(wall=wall, ceiling=SlowCeiling())
    assert clock.now() == Timestamp.from_parts(T0_MS)  # the wall when the call was made
    assert clock.now() == Timestamp.from_parts(T0_MS + 400)


def test_a_reserve_that_cannot_be_given_back_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    ceiling = MemoryCeiling()
    clock = PatientClock(wall=Wall(), ceiling=ceiling)
    clock.now()
    ceiling.broken = ClockError("the disk is gone")
    with caplog.at_level(logging.WARNING, "causal"):
        clock.close()
    assert "the disk is gone" in caplog.text
    assert ceiling.bound == Timestamp.from_parts(T0_MS + 250)


# -- the keeper --


class SignallingCeiling(MemoryCeiling):
    """A ceiling that a test can wait on for the keeper's writes."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = threading.Semaphore(0)

    def reserve(self, up_to: int) -> int:
        try:
            return super().reserve(up_to)
        finally:
            if threading.current_thread().name == "causal-clock":
                self.kept.release()


def settle(clock: HybridLogicalClock, ceiling: SignallingCeiling) -> None:
    """Wait until the keeper has written once more, and has told the clock."""
    assert ceiling.kept.acquire(timeout=PATIENCE_S)
    with clock._io:
        pass


def test_in_steady_use_only_the_keeper_writes() -> None:
    wall, ceiling = Wall(), SignallingCeiling()
    me = threading.current_thread().name
    with HybridLogicalClock(wall=wall, ceiling=ceiling) as clock:
        clock.now()
        assert ceiling.writers == [me]  # the first call finds no reserve
        for _ in range(20):
            wall.ms = wall.ms + 130  # over half of the 250 ms
            clock.now()
            settle(clock, ceiling)
        assert ceiling.writers == [me] + 20 * ["causal-clock"]
        wall.ms = wall.ms + 60_000  # idle: nobody keeps a reserve that nobody uses
        assert ceiling.writers == [me] + 20 * ["causal-clock"]
        clock.now()
        assert ceiling.writers[21:] == [me]
        keeper = clock._keeper
        assert keeper is not None
        assert keeper.daemon
    assert not keeper.is_alive()
    assert ceiling.bound == (clock.last or 0) + 1


def test_within_half_the_reserve_nobody_is_woken() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    clock = HybridLogicalClock(wall=wall, ceiling=ceiling)
    for _ in range(100):
        clock.now()
        wall.ms = wall.ms + 1
    assert len(ceiling.writers) == 1
    assert clock._keeper is None


def test_a_half_used_reserve_wakes_the_keeper_once() -> None:
    class SleepyClock(HybridLogicalClock):
        __slots__ = ()

        def _wake_keeper(self) -> None:
            woken.append(self.last)

    woken: list[Timestamp | None] = []
    wall = Wall()
    clock = SleepyClock(wall=wall, ceiling=MemoryCeiling())
    clock.now()
    wall.ms = T0_MS + 125
    stamps = [clock.now() for _ in range(10)]
    assert woken == stamps[:1]


def test_who_waited_for_a_write_does_not_write_again() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    clock = HybridLogicalClock(wall=wall, ceiling=ceiling)
    stamp = clock.now()
    clock._extend(stamp + 1)  # as a thread whose call found no reserve, just before another made one
    assert len(ceiling.writers) == 1


def test_a_keeper_that_fails_says_so_and_the_caller_meets_the_error(caplog: pytest.LogCaptureFixture) -> None:
    wall, ceiling = Wall(), SignallingCeiling()
    with caplog.at_level(logging.WARNING, "causal"), HybridLogicalClock(wall=wall, ceiling=ceiling) as clock:
        clock.now()
        ceiling.broken = RuntimeError("a ceiling of someone else's, broken")
        wall.ms = T0_MS + 130
        clock.now()  # still within the reserve
        settle(clock, ceiling)
        wall.ms = T0_MS + 250
        with pytest.raises(RuntimeError, match="someone else's"):
            clock.now()
        ceiling.broken = None
        clock.now()
        wall.ms = wall.ms + 130
        clock.now()
        settle(clock, ceiling)  # the keeper is still there
    assert "could not be extended" in caplog.text


def test_without_threads_the_callers_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot)
    wall, ceiling = Wall(), MemoryCeiling()
    clock = HybridLogicalClock(wall=wall, ceiling=ceiling)
    for _ in range(10):
        assert clock.now().physical_ms == wall.ms
        wall.ms = wall.ms + 130
    assert set(ceiling.writers) == {threading.current_thread().name}
    clock.close()


def test_a_keeper_keeps_no_clock_alive_and_ends_with_it() -> None:
    wall, ceiling = Wall(), SignallingCeiling()
    clock = HybridLogicalClock(wall=wall, ceiling=ceiling)
    clock.now()
    wall.ms = wall.ms + 130
    clock.now()
    settle(clock, ceiling)
    keeper, gone = clock._keeper, weakref.ref(clock)
    assert keeper is not None
    del clock
    gc.collect()
    keeper.join(PATIENCE_S)
    assert not keeper.is_alive()
    assert gone() is None


# -- forks --


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_reserves_for_itself(tmp_path: Path) -> None:
    # In a process of its own: the test process has threads, which fork does not copy.
    script = textwrap.dedent("""
        import os, sys, threading
        from causal.clock import HybridLogicalClock
        from tests.fake_clock import Wall, T0_MS

        wall = Wall()
        clock = HybridLogicalClock(wall=wall, ceiling=sys.argv[1])
        common = clock.now()
        reader, writer = os.pipe()
        clock._lock.acquire()                       # as another thread might, just then
        clock._io.acquire()
        if os.fork() == 0:
            stamps = [clock.now() for _ in range(3)]
            wall.ms = T0_MS + 200
            stamps.append(clock.now())              # wakes a keeper of the child's own
            os.write(writer, " ".join(map(str, stamps)).encode())
            os._exit(0)                             # without giving back
        clock._io.release()
        clock._lock.release()
        os.wait()
        child = os.read(reader, 1000).decode().split()
        own = clock.now()
        clock.close()                               # must not give back what the child may have used
        print(common, own, *child, HybridLogicalClock(wall=wall, ceiling=sys.argv[1]).now())
    """)
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, tmp_path / "ceiling"],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=Path(__file__).parent.parent,
    )
    assert run.stderr == ""
    common, own, *child, after = run.stdout.split()
    assert common < own
    assert [common, *child] == sorted({common, *child})
    assert after > max(own, *child)


def test_a_clock_is_not_kept_alive_by_being_ready_for_a_fork() -> None:
    clock = HybridLogicalClock()
    assert clock in causal.clock._clocks
    gone = weakref.ref(clock)
    del clock
    gc.collect()
    assert gone() is None
