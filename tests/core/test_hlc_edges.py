"""The clock's arithmetic at its edges, exhaustively: every combination of the numbers at which something changes, none drawn.

The model keeps l and c apart, as figure 5 of the paper does, and says in words of its own what the paper leaves open: a counter that
is full carries into l; a clock that has said nothing has neither; and what does not fit 48 bits of l is refused.
"""

from __future__ import annotations

import itertools
import re

import pytest

from causal.ceiling import ONE_MS, Reserve
from causal.clock import HybridLogicalClock
from causal.core.hlc import START, Timestamp, merge, tick
from causal.errors import ClockDrift, ClockError
from tests.fake_clock import MemoryCeiling, Wall

FULL_C, FULL_L = 65_535, 281_474_976_710_655
END = 2**64

MS = (0, 1, 2, 65_534, 65_535, 65_536, FULL_L - 2, FULL_L - 1, FULL_L)
COUNTS = (0, 1, 2, 32_767, 32_768, FULL_C - 1, FULL_C)
PAIRS = tuple(itertools.product(MS, COUNTS))
WALLS = (*MS, FULL_L + 1)
ODD_WALLS = (-(2**63), -65_536, -1)
VALUES = tuple(
    sorted({x + d for x in (0, 1, 2**16, 2**32, 2**48, 2**63, 2**64) for d in (-2, -1, 0, 1, 2) if 0 <= x + d < END})
)

Pair = tuple[int, int]
NOTHING: Pair | None = None


# --- the model: figure 5, with pairs -------------------------------------------------------------------------------------


def carried(l: int, c: int) -> Pair:
    """A counter past its 16 bits is none: the next millisecond begins."""
    return (l, c) if c <= FULL_C else (l + 1, 0)


def sent(last: Pair | None, pt: int) -> Pair:
    """Send or local event."""
    if last is None:
        return max(pt, 0), 0
    l, c = max(last[0], pt), 0
    if l == last[0]:
        c = last[1] + 1
    return carried(l, c)


def received(last: Pair | None, message: Pair, pt: int) -> Pair:
    """Receive event."""
    l_m, c_m = message
    if last is None:
        return max(carried(l_m, c_m + 1), (pt, 0))
    l_j, c_j = last
    l = max(l_j, l_m, pt)
    if l == l_j == l_m:
        c = max(c_j, c_m) + 1
    elif l == l_j:
        c = c_j + 1
    elif l == l_m:
        c = c_m + 1
    else:
        c = 0
    after = carried(l, c)
    # The paper has no carry: where the one that is not the largest l carries into it, it must be passed, too.
    others = [carried(l_j, c_j + 1), carried(l_m, c_m + 1)]
    return max(after, *others)


def number(pair: Pair) -> int:
    """A pair as one number, by arithmetic and not by bits."""
    return pair[0] * 65_536 + pair[1]


def split(value: int) -> Pair:
    return divmod(value, 65_536)


# --- the pure steps --------------------------------------------------------------------------------------------------------


def test_every_tick_at_the_edges_is_figure_5_with_a_carry() -> None:
    cases = 0
    for last, pt in itertools.product((NOTHING, *PAIRS), (*WALLS, *ODD_WALLS)):
        value = tick(START if last is None else number(last), pt)
        assert split(value) == sent(last, pt), (last, pt)
        cases += 1
    assert cases == 64 * 13


def test_every_merge_at_the_edges_is_figure_5_with_a_carry() -> None:
    cases = carries = 0
    for last, message, pt in itertools.product((NOTHING, *PAIRS), PAIRS, (*WALLS, *ODD_WALLS)):
        start = START if last is None else number(last)
        value = merge(start, number(message), pt)
        assert split(value) == received(last, message, pt), (last, message, pt)
        assert value > start
        assert value > number(message)
        assert value >= pt * 65_536
        carries += value > FULL_C and value % 65_536 == 0 and value // 65_536 != pt
        cases += 1
    assert cases == 64 * 63 * 13
    assert carries > 1000


def test_a_step_past_the_end_is_refused_by_the_value_and_by_the_clock_and_never_wraps() -> None:
    """Of a clock without a ceiling: what does not fit is an error, leaves the clock where it was, and the end itself is handed out."""
    for last, pt in itertools.product(PAIRS, MS):
        expected = sent(last, pt)
        wall = Wall(pt)
        clock = HybridLogicalClock(wall=wall)
        clock._last = number(last)
        if expected[0] > FULL_L:
            with pytest.raises(ClockError):
                Timestamp(number(expected))
            for _ in range(2):
                with pytest.raises(ClockError, match="end of its range"):
                    clock.now()
                assert clock.last == number(last)
        else:
            assert split(clock.now()) == expected


@pytest.mark.parametrize("drift_ms", [0, 1, 2, 65_535, 65_536])
def test_every_update_at_the_edges_is_refused_exactly_past_max_drift(drift_ms: int) -> None:
    """Judged by the millisecond, whatever the counter: l.m - pt > max_drift, and nothing else, refuses."""
    refused = taken = ended = 0
    for pt in MS:
        near = [(pt + drift_ms + d, c) for d in (-1, 0, 1, 2) for c in (0, 1, FULL_C - 1, FULL_C)]
        messages = [message for message in {*near, *PAIRS} if 0 <= message[0] <= FULL_L]
        for last, message in itertools.product((NOTHING, (pt, FULL_C), (pt, 3), (FULL_L, FULL_C)), messages):
            clock = HybridLogicalClock(wall=Wall(pt), max_drift_s=drift_ms / 1000)
            clock._last = START if last is None else number(last)
            expected = received(last, message, pt)
            if message[0] > pt + drift_ms:
                with pytest.raises(ClockDrift) as caught:
                    clock.update(number(message))
                assert (caught.value.remote_ms, caught.value.wall_ms) == (message[0], pt)
                assert clock.last == (None if last is None else number(last))
                refused += 1
            elif expected[0] > FULL_L:
                with pytest.raises(ClockError, match="end of its range"):
                    clock.update(number(message))
                assert clock.last == (None if last is None else number(last))
                ended += 1
            else:
                assert split(clock.update(number(message))) == expected
                assert clock.last == number(expected)
                taken += 1
    assert refused
    assert taken
    assert ended


def test_a_wall_is_cut_to_the_millisecond_at_its_edges() -> None:
    """By the nanosecond around each millisecond, for now and for the drift that update judges."""
    for ms, ns in itertools.product((1, 2, 65_535, 65_536, FULL_L - 1, FULL_L), (-1, 0, 1, 999_999)):
        wall = Wall(0)
        wall.ns = ms * 1_000_000 + ns
        read = ms - 1 if ns < 0 else ms
        assert split(HybridLogicalClock(wall=wall).now()) == (read, 0)
        clock = HybridLogicalClock(wall=wall, max_drift_s=0)
        if read < FULL_L:
            with pytest.raises(ClockDrift):
                clock.update(number((read + 1, 0)))
        assert split(clock.update(number((read, 7)))) == (read, 8)


def test_two_events_around_each_edge_of_the_wall() -> None:
    """The clock keeps the millisecond that it was in: crossing one, standing still and going back are told apart."""
    steps = (-2_000_000, -1_000_000, -1, 0, 1, 999_999, 1_000_000, 2_000_000)
    for ms, ns, first, second in itertools.product((3, 65_536, FULL_L - 5), (0, 1, 999_999), steps, steps):
        wall, model = Wall(0), NOTHING
        wall.ns = ms * 1_000_000 + ns
        clock = HybridLogicalClock(wall=wall, max_drift_s=5)
        for nth, step in enumerate((0, first, second)):
            wall.ns += step
            pt = wall.ns // 1_000_000
            if nth == 1:
                message = (pt + 1, FULL_C)
                model = received(model, message, pt)
                assert split(clock.update(number(message))) == model
            model = sent(model, pt)
            assert split(clock.now()) == model


# --- values and texts ------------------------------------------------------------------------------------------------------


def test_every_value_at_the_edges_has_parts_and_a_text_that_come_back() -> None:
    texts = []
    for value in sorted({*VALUES, *(number(pair) for pair in PAIRS)}):
        ts = Timestamp(value)
        l, c = split(value)
        assert (ts.physical_ms, ts.logical) == (l, c)
        assert Timestamp.from_parts(l, c) == value
        assert str(ts) == f"{l:012x}.{c:04x}"
        assert re.fullmatch("[0-9a-f]{12}[.][0-9a-f]{4}", str(ts))
        assert Timestamp.parse(str(ts)) == value
        texts.append(str(ts))
    assert texts == sorted(texts)
    for value in (-(2**64), -1, END, END + 1, 2**80):
        with pytest.raises(ClockError):
            Timestamp(value)


def test_every_pair_of_parts_at_the_edges_fits_or_is_refused() -> None:
    for l, c in itertools.product((-1, *MS, FULL_L + 1, 2**63), (-1, *COUNTS, FULL_C + 1, 2**48)):
        if 0 <= l <= FULL_L and 0 <= c <= FULL_C:
            assert split(Timestamp.from_parts(l, c)) == (l, c)
        else:
            with pytest.raises(ClockError):
                Timestamp.from_parts(l, c)


# --- reservations ------------------------------------------------------------------------------------------------------------


def test_every_reservation_at_the_edges_is_above_the_need_and_within_its_span() -> None:
    """At least a millisecond, at most the span ahead of the wall, never past the end; at the end it is refused."""
    last_one = END - 1  # a bound is exclusive and itself a timestamp: the last one is never handed out under a ceiling
    for pair, pt, span_ms in itertools.product(PAIRS, MS, (1, 2, 1000)):
        row, need = MemoryCeiling(), number(pair)
        reserve = Reserve(row, span_ms)
        if need >= last_one:
            with pytest.raises(ClockError, match="end of its range"):
                reserve.extend(need, pt)
            assert row.bound is None
            continue
        bound = reserve.extend(need, pt)
        expected = min(last_one, max(number((pair[0] + 1, pair[1])), number((pt + span_ms, 0))))
        assert bound == row.bound == expected
        assert bound > need
        reserve.give_back(need)
        assert row.bound == need + 1
    assert ONE_MS == 65_536


def test_a_clock_on_a_ceiling_at_the_edges_starts_at_it_and_stays_below_what_is_stored() -> None:
    for stored, pt in itertools.product((0, 1, FULL_C, FULL_C + 1, END - FULL_C - 2, END - 3, END - 2, END - 1), MS):
        row = MemoryCeiling(stored)
        with HybridLogicalClock(wall=Wall(pt), ceiling=row) as clock:
            model = None if stored == 0 else split(stored - 1)
            for _ in range(3):
                expected = sent(model, pt)
                if number(expected) >= END - 1:
                    with pytest.raises(ClockError, match="end of its range"):
                        clock.now()
                    break
                model = expected
                assert split(clock.now()) == expected
                assert row.bound is not None
                assert row.bound > number(expected)
