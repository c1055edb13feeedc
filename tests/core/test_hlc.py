"""Timestamps, their text, and the two pure steps, against a dumb twin: figure 5 of the paper, written out with two numbers."""

import copy
import pickle

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from causal.core.hlc import MAX_LOGICAL, MAX_PHYSICAL_MS, MAX_TIMESTAMP, START, Timestamp, merge, tick
from causal.errors import CausalError, ClockError

values = st.integers(0, MAX_TIMESTAMP)
timestamps = values.map(Timestamp)
wall_times = st.integers(0, MAX_PHYSICAL_MS)
# Times close together, where the cases of figure 5 meet, as well as times anywhere.
near = st.builds(lambda ms, logical: ms << 16 | logical, st.integers(0, 3), st.sampled_from([0, 1, 2, 0xFFFE, 0xFFFF]))
lasts = st.one_of(st.just(START), near, values)
walls = st.one_of(st.integers(-2, 4), wall_times)

# -- the value --


@pytest.mark.spec("C-1")
@given(st.integers(0, MAX_PHYSICAL_MS), st.integers(0, MAX_LOGICAL))
@example(0, 0)
@example(MAX_PHYSICAL_MS, MAX_LOGICAL)
def test_parts_make_a_timestamp_and_come_back(physical_ms: int, logical: int) -> None:
    ts = Timestamp.from_parts(physical_ms, logical)
    assert (ts.physical_ms, ts.logical) == (physical_ms, logical)
    assert ts == physical_ms * 65536 + logical
    assert type(ts) is Timestamp


@pytest.mark.spec("C-2")
@pytest.mark.parametrize(
    "parts", [(-1, 0), (0, -1), (MAX_PHYSICAL_MS + 1, 0), (0, MAX_LOGICAL + 1), (MAX_PHYSICAL_MS, MAX_LOGICAL + 1)]
)
def test_parts_out_of_range_are_refused(parts: tuple[int, int]) -> None:
    with pytest.raises(ClockError):
        Timestamp.from_parts(*parts)


@pytest.mark.parametrize("value", [-1, MAX_TIMESTAMP + 1, -(1 << 80), 1 << 80])
def test_a_value_out_of_range_is_refused(value: int) -> None:
    with pytest.raises(ClockError) as caught:
        Timestamp(value)
    assert isinstance(caught.value, CausalError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [1.0, "1", None, b"1"])
def test_what_is_no_integer_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        Timestamp(value)  # type: ignore[arg-type]


@pytest.mark.spec("C-3")
@given(timestamps, values)
def test_a_timestamp_compares_hashes_and_adds_as_the_int_that_it_is(ts: Timestamp, other: int) -> None:
    value = int(ts)
    assert type(value) is int
    assert (ts < other, ts == other, ts > other) == (value < other, value == other, value > other)
    assert hash(ts) == hash(value)
    assert len({ts, value}) == 1
    assert type(ts + 1) is int


@given(timestamps)
def test_a_timestamp_survives_copies_pickles_and_its_own_repr(ts: Timestamp) -> None:
    travelled = [pickle.loads(pickle.dumps(ts, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in [*travelled, copy.copy(ts), copy.deepcopy(ts), eval(repr(ts))]:
        assert twin == ts
        assert type(twin) is Timestamp


def test_a_timestamp_is_an_int_with_nothing_added() -> None:
    ts = Timestamp(1)
    with pytest.raises(AttributeError):
        ts.note = 1  # type: ignore[attr-defined]
    assert repr(ts) == "Timestamp.from_parts(0, 1)"


# -- the text --


@pytest.mark.spec("C-4")
@pytest.mark.parametrize(
    ("ms", "logical", "text"),
    [
        (0, 0, "000000000000.0000"),
        (1, 2, "000000000001.0002"),
        (1_700_000_000_000, 3, "018bcfe56800.0003"),
        (MAX_PHYSICAL_MS, MAX_LOGICAL, "ffffffffffff.ffff"),
    ],
)
def test_the_text_of_some_timestamps(ms: int, logical: int, text: str) -> None:
    assert str(Timestamp.from_parts(ms, logical)) == text
    assert f"{Timestamp.from_parts(ms, logical)}" == text


@given(timestamps)
def test_text_comes_back(ts: Timestamp) -> None:
    back = Timestamp.parse(str(ts))
    assert back == ts
    assert type(back) is Timestamp


@given(timestamps, timestamps)
@example(Timestamp.from_parts(9, 0xFFFF), Timestamp.from_parts(10, 0))
def test_text_sorts_as_time_does(a: Timestamp, b: Timestamp) -> None:
    assert (str(a) < str(b)) == (a < b)


@pytest.mark.spec("C-5")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "18bcfe56800.0003",  # not padded
        "018BCFE56800.0003",  # upper case
        "018bcfe56800-0003",
        "018bcfe568000003",
        "0018bcfe56800.0003",
        "018bcfe56800.00030",
        "018bcfe56800.003",
        " 018bcfe56800.0003",
        "018bcfe56800.0003\n",
        "018bcfe56800.0003\x00",
        "0x8bcfe56800.0003",
        "018bcfe5_800.0003",
        "+18bcfe56800.0003",
        "٠١٨٠٠٠٠٠٠٠٠٠.٠٠٠٣",  # digits, but not these
        "018bcfe56800.000g",
        "1" * 100_000,
    ],
)
def test_any_other_spelling_is_one_documented_error(text: str) -> None:
    with pytest.raises(ClockError) as caught:
        Timestamp.parse(text)
    assert len(str(caught.value)) < 200  # hostile text is not repeated at length


@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9a-fA-F ]{0,13}[.\-]?[0-9a-fA-F]{0,5}", fullmatch=True)))
def test_what_parses_is_what_is_written(text: str) -> None:
    try:
        ts = Timestamp.parse(text)
    except ClockError:
        return
    assert str(ts) == text


# -- the steps --


def paper_tick(l_j: int, c_j: int, pt_j: int) -> tuple[int, int]:
    """Figure 5, send or local event, as printed."""
    before = l_j
    l_j = max(before, pt_j)
    c_j = c_j + 1 if l_j == before else 0
    return l_j, c_j


def paper_merge(l_j: int, c_j: int, l_m: int, c_m: int, pt_j: int) -> tuple[int, int]:
    """Figure 5, receive event of a message m, as printed."""
    before = l_j
    l_j = max(before, l_m, pt_j)
    if l_j == before == l_m:
        c_j = max(c_j, c_m) + 1
    elif l_j == before:
        c_j = c_j + 1
    elif l_j == l_m:
        c_j = c_m + 1
    else:
        c_j = 0
    return l_j, c_j


def parts(value: int) -> tuple[int, int]:
    return value >> 16, value & 0xFFFF


@given(st.one_of(near, values), st.one_of(st.integers(0, 4), wall_times))
def test_tick_is_figure_5(last: int, wall_ms: int) -> None:
    l_j, c_j = paper_tick(*parts(last), wall_ms)
    assume(c_j <= MAX_LOGICAL)  # the paper's counter has no end; ours carries, below
    assert tick(last, wall_ms) == l_j << 16 | c_j


@given(st.one_of(near, values), st.one_of(near, values), st.one_of(st.integers(0, 4), wall_times))
def test_merge_is_figure_5(last: int, remote: int, wall_ms: int) -> None:
    l_j, c_j = paper_merge(*parts(last), *parts(remote), wall_ms)
    assume(c_j <= MAX_LOGICAL)
    assert merge(last, remote, wall_ms) == l_j << 16 | c_j


@pytest.mark.spec("C-9")
@given(st.integers(0, MAX_PHYSICAL_MS - 1), st.integers(0, MAX_PHYSICAL_MS))
def test_an_exhausted_counter_carries_into_the_milliseconds(physical_ms: int, wall_ms: int) -> None:
    full = Timestamp.from_parts(physical_ms, MAX_LOGICAL)
    wall_ms = min(wall_ms, physical_ms)
    carried = Timestamp.from_parts(physical_ms + 1, 0)
    assert tick(full, wall_ms) == carried
    assert merge(START, full, wall_ms) == carried
    assert merge(full, full, wall_ms) == carried
    # After the carry the paper's rule and ours agree again, also when the wall arrives where the carry went.
    assert tick(carried, physical_ms + 1) == Timestamp.from_parts(physical_ms + 1, 1)


@pytest.mark.spec("C-6")
@given(lasts, walls)
def test_tick_is_above_the_last_and_not_below_the_wall(last: int, wall_ms: int) -> None:
    value = tick(last, wall_ms)
    assert value > last
    assert value >> 16 >= wall_ms
    assert value == last + 1 or value == wall_ms << 16  # and no further than either needs


@pytest.mark.spec("C-8")
@given(lasts, values, walls)
def test_merge_is_above_the_last_and_the_remote_and_not_below_the_wall(last: int, remote: int, wall_ms: int) -> None:
    value = merge(last, remote, wall_ms)
    assert value > last
    assert value > remote
    assert value >> 16 >= wall_ms
    assert value in {last + 1, remote + 1, wall_ms << 16}


@pytest.mark.spec("C-7")
def test_the_first_timestamp_has_no_event_before_it_and_counts_none() -> None:
    assert tick(START, 0) == 0
    assert tick(START, 7) == Timestamp.from_parts(7, 0)
    assert tick(START, -5) == 0  # a wall before 1970 says nothing


@pytest.mark.spec("C-12")
def test_the_end_of_the_range_is_an_error_and_never_wraps() -> None:
    for value in (tick(MAX_TIMESTAMP, 0), merge(0, MAX_TIMESTAMP, 0), tick(START, MAX_PHYSICAL_MS + 1)):
        with pytest.raises(ClockError):
            Timestamp(value)
