"""Frontiers and watermarks: the lattice (I2), compaction that only over-waits (I3), and the verdicts, against a dumb twin."""

import itertools
import pickle
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from causal.core.frontier import (
    ANY_ORIGIN,
    EVERY_STORE,
    FOREVER,
    MAX_OFFSET,
    MAX_ORIGIN,
    MAX_SHARD,
    MAX_STORE,
    Frontier,
    LeaderMark,
    Position,
    pack,
    shard_id,
    store_of,
    unpack,
)
from causal.core.hlc import Timestamp
from causal.core.watermark import Verdict, Watermark
from causal.errors import ConfigError

NOT_WHOLE: list[Any] = [1.0, 1.5, True, "1", None]
# Small numbers collide often; a few large ones keep the packing honest.
SHARDS = st.sampled_from([0, 1, 2, 3, 1 << 16, 1 << 16 | 1, MAX_SHARD - (1 << 16)])
ORIGINS = st.sampled_from([0, 1, 2, MAX_ORIGIN])
OFFSETS = st.integers(0, 6) | st.sampled_from([2**42, MAX_OFFSET])
STORES = st.sampled_from([0, 1, EVERY_STORE])
POSITIONS = st.builds(Position, SHARDS, ORIGINS, OFFSETS)
MARKS = st.builds(
    LeaderMark,
    st.integers(0, 4) | st.just(FOREVER),
    st.frozensets(SHARDS, max_size=3),
    st.frozensets(ORIGINS | st.just(ANY_ORIGIN), max_size=2),
)
EXACT = st.lists(POSITIONS, max_size=8).map(Frontier)
FRONTIERS = st.builds(
    lambda exact, floors, marks: Frontier.of(exact.entries, floors, marks),
    EXACT,
    st.dictionaries(st.sampled_from([0, 1]), st.integers(0, 6), max_size=2),
    st.dictionaries(STORES, MARKS, max_size=2),
)

# --- a dumb twin: dicts of tuples, written for being obvious ---------------------------------------------------------

Twin = tuple[dict[tuple[int, int], int], dict[int, int], dict[int, LeaderMark]]


def twin(f: Frontier) -> Twin:
    return {unpack(k): v for k, v in f.entries.items()}, dict(f.floors), dict(f.marks)


def twin_join(a: Twin, b: Twin) -> Twin:
    entries = {k: max(x[0][k] for x in (a, b) if k in x[0]) for k in [*a[0], *b[0]]}
    floors = {k: max(x[1][k] for x in (a, b) if k in x[1]) for k in [*a[1], *b[1]]}
    marks = {}
    for store in [*a[2], *b[2]]:
        both = [x[2][store] for x in (a, b) if store in x[2]]
        until = max(m.until for m in both)
        exact = frozenset(s for s in both[0].exact if all(s in m.exact for m in both))
        origins = frozenset(o for m in both for o in m.origins)
        marks[store] = LeaderMark(until, exact, origins)
    return entries, floors, marks


def recalls(mark: LeaderMark, origins: frozenset[int]) -> bool:
    return all(mark.recalls(o) for o in origins)


def twin_dominates(a: Twin, b: Twin) -> bool:
    return (
        all(k in a[0] and a[0][k] >= v for k, v in b[0].items())
        and all(k in a[1] and a[1][k] >= v for k, v in b[1].items())
        and all(
            k in a[2]
            and a[2][k].until >= m.until
            and all(s in m.exact for s in a[2][k].exact)
            and recalls(a[2][k], m.origins)
            for k, m in b[2].items()
        )
    )


def same(f: Frontier, t: Twin) -> bool:
    """Whether a frontier says what a twin says: what its marks recall, however they write it."""
    entries, floors, marks = twin(f)
    return (entries, floors, marks.keys()) == (t[0], t[1], t[2].keys()) and all(
        (m.until, m.exact) == (t[2][s].until, t[2][s].exact)
        and recalls(m, t[2][s].origins)
        and recalls(t[2][s], m.origins)
        for s, m in marks.items()
    )


@pytest.mark.spec("F-6", "F-7", "F-10", "F-11")
@given(FRONTIERS, FRONTIERS)
def test_join_and_order_are_the_twins(a: Frontier, b: Frontier) -> None:
    assert same(a | b, twin_join(twin(a), twin(b)))
    assert (a >= b) == twin_dominates(twin(a), twin(b))
    assert (a <= b) == twin_dominates(twin(b), twin(a))
    assert (a > b) == (a >= b and a != b)
    assert (a < b) == (b > a)


# --- I2: the lattice ---------------------------------------------------------------------------------------------------


@pytest.mark.spec("F-9")
@given(FRONTIERS, FRONTIERS, FRONTIERS)
def test_join_is_associative_commutative_and_idempotent(a: Frontier, b: Frontier, c: Frontier) -> None:
    assert (a | b) | c == a | (b | c)
    assert a | b == b | a
    assert a | a == a
    assert a | Frontier() == a
    assert hash(a | b) == hash(b | a)


@pytest.mark.spec("F-12")
@given(FRONTIERS, FRONTIERS)
@example(Frontier().mark(0, 1, origins=[ANY_ORIGIN]), Frontier().mark(0, 1, origins=[1]))
def test_order_is_the_joins_own(a: Frontier, b: Frontier) -> None:
    assert a | b >= a
    assert (a | b == a) == (a >= b)


@given(FRONTIERS, FRONTIERS, FRONTIERS)
def test_order_is_partial_and_join_is_the_least_upper_bound(a: Frontier, b: Frontier, c: Frontier) -> None:
    assert a >= a
    if a >= b and b >= a:
        assert a == b
    if a >= b and b >= c:
        assert a >= c
    if c >= a and c >= b:
        assert c >= a | b


@given(FRONTIERS, FRONTIERS)
def test_no_operation_changes_its_operands(a: Frontier, b: Frontier) -> None:
    before = twin(a), twin(b)
    for result in (
        a | b,
        a.advance(shard=0, offset=7),
        a.mark(0, 9),
        a.compact(1),
        a.without(a.entries),
        a.clip({0: 0}),
    ):
        result.entries, result.floors, result.marks  # noqa: B018
    assert (twin(a), twin(b)) == before


@given(FRONTIERS)
def test_a_frontier_survives_pickling(f: Frontier) -> None:
    assert pickle.loads(pickle.dumps(f)) == f


def test_a_frontier_is_immutable() -> None:
    f = Frontier([Position(1, 2, 3)])
    for act in (lambda: setattr(f, "entries", {}), lambda: delattr(f, "entries"), lambda: setattr(f, "new", 1)):
        with pytest.raises(AttributeError):
            act()
    assert f.offset(1, 2) == 3


# --- positions and parts -----------------------------------------------------------------------------------------------


@pytest.mark.spec("F-4")
@given(st.lists(POSITIONS, max_size=8))
@example([Position(0, 1, 9), Position(0, 1, 5)])
def test_a_frontier_of_positions_holds_the_largest_of_each_origin(positions: list[Position]) -> None:
    f = Frontier(positions)
    advanced = Frontier()
    for p in positions:
        advanced = advanced.advance(shard=p.shard, offset=p.offset, origin=p.origin)
        assert f >= advanced
    assert f == advanced
    assert list(f) == sorted(f)
    assert len(f) == len({(p.shard, p.origin) for p in positions})
    for p in positions:
        assert f.offset(p.shard, p.origin) == max(
            q.offset for q in positions if (q.shard, q.origin) == (p.shard, p.origin)
        )


@pytest.mark.spec("F-1")
@pytest.mark.parametrize(
    "bad",
    [
        Position(-1, 0, 0),
        Position(0, -1, 0),
        Position(0, 0, -1),
        Position(MAX_SHARD + 1, 0, 0),
        Position(0, MAX_ORIGIN + 1, 0),
        Position(0, 0, MAX_OFFSET + 1),
        *(Position(*numbers) for wrong in NOT_WHOLE for numbers in ((wrong, 0, 0), (0, wrong, 0), (0, 0, wrong))),
    ],
)
def test_numbers_out_of_range_or_not_whole_are_refused(bad: Position) -> None:
    with pytest.raises(ConfigError):
        Frontier([bad])
    with pytest.raises(ConfigError):
        Frontier().advance(shard=bad.shard, offset=bad.offset, origin=bad.origin)


def test_a_hybrid_timestamp_is_an_offset() -> None:
    assert Frontier().advance(shard=0, offset=Timestamp(7 << 16)) == Frontier([Position(0, 0, 7 << 16)])


@pytest.mark.parametrize("wrong", NOT_WHOLE)
def test_a_mark_is_made_of_whole_numbers(wrong: Any) -> None:
    for numbers in ((wrong, 5), (0, wrong)):
        with pytest.raises(ConfigError):
            Frontier().mark(*numbers)
    for part in ("exact", "origins"):
        with pytest.raises(ConfigError):
            Frontier().mark(0, 5, **{part: [2, wrong]})


@pytest.mark.spec("T-16")
@pytest.mark.parametrize(
    ("store", "exact", "origins"),
    [
        (-1, 0, 0),
        (EVERY_STORE + 1, 0, 0),
        (0, -1, 0),
        (0, MAX_SHARD + 1, 0),
        (0, 0, ANY_ORIGIN - 1),
        (0, 0, MAX_ORIGIN + 1),
    ],
)
def test_a_mark_that_no_token_could_hold_is_refused(store: int, exact: int, origins: int) -> None:
    with pytest.raises(ConfigError):
        Frontier().mark(store, 5, exact=[3, exact], origins=[3, origins])


@given(st.integers(0, MAX_SHARD), st.integers(0, MAX_ORIGIN))
def test_packing_is_undone(shard: int, origin: int) -> None:
    assert unpack(pack(shard, origin)) == (shard, origin)


@pytest.mark.spec("F-2")
@pytest.mark.parametrize(("store", "index"), [(-1, 0), (MAX_STORE + 1, 0), (0, -1), (0, 2**16), (0, 1.0), (True, 0)])
def test_a_shard_id_is_in_range(store: int, index: int) -> None:
    with pytest.raises(ConfigError):
        shard_id(store, index)


@pytest.mark.spec("F-2")
def test_a_shard_id_names_its_store() -> None:
    for store, index in itertools.product((0, 1, MAX_STORE), (0, 1, 2**16 - 1)):
        assert store_of(shard_id(store, index)) == store


@given(FRONTIERS)
def test_the_parts_of_shards_and_stores_are_below_the_whole_and_make_it(f: Frontier) -> None:
    whole = f.exact
    joined = Frontier()
    for shard in f.shards:
        part = f.on(shard)
        assert f >= part
        assert part.shards == {shard}
        assert part.marked(shard) == f.marked(shard)
        joined |= part.exact
    assert joined == whole
    for store in {store_of(s) for s in f.shards}:
        assert f >= f.store(store)
        assert f.store(store).exact == Frontier(p for p in f if store_of(p.shard) == store)


@given(EXACT, EXACT)
def test_without_drops_exactly_these(f: Frontier, g: Frontier) -> None:
    assert set(f.without(g.entries)) == {p for p in f if pack(p.shard, p.origin) not in g.entries}


@pytest.mark.spec("F-17")
@given(EXACT, st.dictionaries(st.builds(pack, SHARDS, ORIGINS), st.integers(0, 6), max_size=4))
@example(Frontier([Position(0, 1, 5), Position(0, 2, 1)]), {pack(0, 1): 3, pack(0, 2): 3})
def test_clip_lowers_what_is_past_an_end_and_nothing_else(f: Frontier, ends: dict[int, int]) -> None:
    clipped = f.clip(ends)
    assert f >= clipped
    assert clipped.entries.keys() == f.entries.keys()
    for key, offset in f.entries.items():
        assert clipped.entries[key] == min(offset, ends.get(key, offset))


@pytest.mark.spec("F-16")
@pytest.mark.spec("T-73")
@given(FRONTIERS, st.integers(0, 5))
def test_lapse_drops_exactly_the_marks_whose_time_is_over(f: Frontier, now: int) -> None:
    left = f.lapse(now)
    assert left.marks == {s: m for s, m in f.marks.items() if m.until > now}
    assert (left.entries, left.floors) == (f.entries, f.floors)


# --- marks -------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("F-13")
def test_a_mark_covers_the_unlisted_shards_of_its_store() -> None:
    f = Frontier().mark(0, 9, exact=[2])
    assert [f.marked(s) for s in (0, 1, 2, 1 << 16)] == [True, True, False, False]
    every = Frontier().mark(EVERY_STORE, 9, exact=[2])
    assert [every.marked(s) for s in (0, 1, 2, 1 << 16)] == [True, True, False, True]


@pytest.mark.spec("F-7")
def test_joined_marks_cover_what_either_covers() -> None:
    f = Frontier().mark(0, 5, exact=[1, 2], origins=[7]) | Frontier().mark(0, 3, exact=[2, 3], origins=[8])
    assert f.marks == {0: LeaderMark(5, frozenset({2}), frozenset({7, 8}))}
    # A shard that one of them lists exactly is covered all the same: its entry came with it, the other's did not.
    assert [f.marked(s) for s in (1, 2, 3)] == [True, False, True]


@pytest.mark.spec("F-8")
@given(FRONTIERS, FRONTIERS, SHARDS)
def test_a_join_never_uncovers_a_shard(a: Frontier, b: Frontier, shard: int) -> None:
    assert (a | b).marked(shard) == (a.marked(shard) or b.marked(shard))


# --- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("F-20", "F-21", "F-22", "F-23")
@pytest.mark.parametrize(
    ("place", "offset", "verdict"),
    [
        (None, 0, Verdict.UNKNOWN),
        (None, 5, Verdict.UNKNOWN),
        ((0, None), 0, Verdict.APPLIED),
        ((5, None), 5, Verdict.APPLIED),
        ((5, None), 6, Verdict.BEHIND),
        ((5, 5), 5, Verdict.APPLIED),
        ((5, 5), 6, Verdict.LOST),
        ((5, 9), 6, Verdict.BEHIND),  # ended is not applied
        ((5, 9), 9, Verdict.BEHIND),
        ((5, 9), 10, Verdict.LOST),
        ((10, 5), 5, Verdict.APPLIED),
        ((10, 5), 6, Verdict.LOST),  # held here, and lost all the same
        ((0, 0), 1, Verdict.LOST),
        ((MAX_OFFSET, None), MAX_OFFSET, Verdict.APPLIED),
    ],
)
def test_the_verdict_on_one_position(place: tuple[int, int | None] | None, offset: int, verdict: Verdict) -> None:
    watermark = Watermark(3, {} if place is None else {7: place})
    assert watermark.verdict(7, offset) is verdict
    judgement = watermark.judge(Frontier([Position(3, 7, offset)]))
    if watermark.diverged and verdict is Verdict.APPLIED:
        verdict = Verdict.UNKNOWN  # what else it shows is not to be believed
    assert judgement.verdict is verdict
    at_fault = () if verdict is Verdict.APPLIED or (watermark.diverged and verdict is Verdict.UNKNOWN) else (offset,)
    assert tuple(p.offset for p in judgement.positions) == at_fault


def test_verdicts_get_worse_in_this_order() -> None:
    assert list(Verdict) == sorted(Verdict)
    assert [v.name for v in Verdict] == ["APPLIED", "FOREIGN", "BEHIND", "UNKNOWN", "LOST"]


def test_a_judgement_is_never_used_as_a_truth_value() -> None:
    with pytest.raises(TypeError):
        bool(Watermark(0, {}).judge(Frontier()))


@pytest.mark.spec("F-24")
def test_the_worst_verdict_counts_and_names_its_positions() -> None:
    watermark = Watermark(0, {1: (5, None), 2: (5, 6)})
    behind, lost, unknown = Position(0, 1, 9), Position(0, 2, 7), Position(0, 3, 1)
    fine = Position(0, 2, 5)
    cases: list[tuple[list[Position], Verdict, tuple[Position, ...]]] = [
        ([], Verdict.APPLIED, ()),
        ([fine], Verdict.APPLIED, ()),
        ([fine, behind], Verdict.BEHIND, (behind,)),
        ([fine, behind, unknown], Verdict.UNKNOWN, (unknown,)),
        ([lost, behind, unknown], Verdict.LOST, (lost,)),
        ([behind, Position(0, 2, 6)], Verdict.BEHIND, (behind, Position(0, 2, 6))),
    ]
    for positions, verdict, at_fault in cases:
        judgement = watermark.judge(Frontier(positions))
        assert (judgement.verdict, judgement.positions) == (verdict, at_fault)


@pytest.mark.spec("F-25", "F-26")
def test_only_positions_of_the_shard_are_judged_and_only_foreign_stores_are_foreign() -> None:
    watermark = Watermark(0, {1: (5, None)})
    elsewhere, foreign = Position(1, 1, 99), Position(1 << 16, 1, 99)
    assert watermark.judge(Frontier([elsewhere, foreign])).verdict is Verdict.APPLIED
    judgement = watermark.judge(Frontier([elsewhere, foreign, Position(0, 1, 5)]), known_stores=[0])
    assert (judgement.verdict, judgement.positions) == (Verdict.FOREIGN, (foreign,))
    assert watermark.judge(Frontier([foreign]), known_stores=[0, 1]).verdict is Verdict.APPLIED
    behind = watermark.judge(Frontier([foreign, Position(0, 1, 6)]), known_stores=[0])
    assert behind.verdict is Verdict.BEHIND


@pytest.mark.spec("F-27")
def test_a_floor_binds_every_origin_of_its_store() -> None:
    floor = Frontier.of({}, {0: 6})
    assert Watermark(0, {1: (6, None), 2: (7, None)}).judge(floor).verdict is Verdict.APPLIED
    judgement = Watermark(0, {1: (6, None), 2: (5, None), 3: (4, 4), 4: (3, 9)}).judge(floor)
    # Origin 3 ended below the floor and is here whole; origin 4 ended above it and is not.
    assert (judgement.verdict, judgement.positions) == (Verdict.BEHIND, (Position(0, 2, 6), Position(0, 4, 6)))
    assert Watermark(0, {3: (4, 4), 4: (3, 9)}).judge(floor).verdict is Verdict.BEHIND
    assert Watermark(0, {3: (4, 4), 4: (6, 9)}).judge(floor).verdict is Verdict.APPLIED
    assert Watermark(1 << 16, {1: (0, None)}).judge(floor).verdict is Verdict.APPLIED


@pytest.mark.spec("F-28")
def test_a_mark_cannot_be_satisfied_by_a_watermark() -> None:
    watermark = Watermark(0, {1: (5, None)})
    marked = watermark.judge(Frontier().mark(0, 9))
    assert (marked.verdict, marked.marked) == (Verdict.UNKNOWN, True)
    assert watermark.judge(Frontier().mark(0, 9, exact=[0])).verdict is Verdict.APPLIED
    assert watermark.judge(Frontier([Position(0, 1, 9)]).mark(0, 9)).verdict is Verdict.UNKNOWN


@pytest.mark.spec("F-29", "F-31")
@pytest.mark.spec("G-25")
def test_a_server_that_holds_lost_writes_is_never_served() -> None:
    watermark = Watermark(0, {1: (5, 4), 2: (9, None)})
    assert watermark.diverged
    assert watermark.judge(Frontier()).verdict is Verdict.UNKNOWN
    assert watermark.judge(Frontier([Position(0, 2, 1)])).verdict is Verdict.UNKNOWN
    assert watermark.frontier == Frontier([Position(0, 1, 4), Position(0, 2, 9)])


PLACES = st.integers(0, 8).flatmap(lambda applied: st.tuples(st.just(applied), st.none() | st.integers(applied, 9)))
WATERMARKS = st.builds(Watermark, SHARDS, st.dictionaries(ORIGINS, PLACES, max_size=4))


@given(WATERMARKS, FRONTIERS, FRONTIERS)
def test_a_larger_demand_is_never_judged_better(watermark: Watermark, f: Frontier, g: Frontier) -> None:
    assert watermark.judge(f | g).verdict >= max(watermark.judge(f).verdict, watermark.judge(g).verdict)


@given(WATERMARKS)
def test_a_watermark_covers_its_own_frontier(watermark: Watermark) -> None:
    assert watermark.judge(watermark.frontier).verdict is Verdict.APPLIED


# --- I3: compaction only over-waits --------------------------------------------------------------------------------------


def admits(f: Frontier, applied: Mapping[int, int], heads: Mapping[int, int], shard: int) -> bool:
    """Whether an endpoint may serve a read of a shard: it has all entries and floors there, and all heads if it is marked."""
    origins = {k for k in heads if k >> 32 == shard}
    need = {k: v for k, v in f.entries.items() if k >> 32 == shard}
    if store_of(shard) in f.floors:
        need |= {k: max(f.floors[store_of(shard)], need.get(k, 0)) for k in origins}
    if any(shard not in m.exact for s, m in f.marks.items() if s in (store_of(shard), EVERY_STORE)):
        need |= {k: max(heads[k], need.get(k, 0)) for k in origins}
    return all(applied.get(k, -1) >= v for k, v in need.items())


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Frontier, dict[int, int], dict[int, int]]:
    """A demand, the heads of all logs (nothing demanded is beyond them), and what an endpoint has applied."""
    positions = draw(st.lists(st.builds(Position, SHARDS, ORIGINS, st.integers(0, 9)), min_size=1, max_size=10))
    f = Frontier(positions)
    heads = {k: v + draw(st.integers(0, 2)) for k, v in f.entries.items()}
    applied = {k: draw(st.integers(max(0, v - 2), v)) for k, v in heads.items()}
    if draw(st.booleans()):
        f = f.mark(draw(STORES), draw(st.integers(1, 9)), exact=draw(st.sets(SHARDS, max_size=3)))
    return f, heads, applied


@given(worlds(), st.integers(0, 6), EXACT, st.none() | st.sets(st.sampled_from([0, 1]), max_size=2))
def test_what_a_compacted_frontier_admits_the_exact_one_admits_too(
    world: tuple[Frontier, dict[int, int], dict[int, int]], size: int, keep: Frontier, stores: set[int] | None
) -> None:
    f, heads, applied = world
    small = f.compact(size, until=100, keep=keep, stores=stores)
    for shard in f.shards | {0, 9}:
        if admits(small, applied, heads, shard):
            assert admits(f, applied, heads, shard)
        part = {k & 0xFFFFFFFF: (v, None) for k, v in applied.items() if k >> 32 == shard}
        watermark = Watermark(shard, part)
        assert watermark.judge(small).verdict >= watermark.judge(f).verdict
    # The leader itself, with every head applied, is never refused for what was dropped.
    assert all(admits(small, heads, heads, shard) for shard in f.shards if admits(f, heads, heads, shard))


@given(EXACT, st.integers(0, 8), EXACT)
def test_a_compacted_frontier_has_at_most_so_many_entries(f: Frontier, size: int, keep: Frontier) -> None:
    small = f.compact(size, keep=keep)
    assert len(small) <= size
    assert set(small) <= set(f)
    assert f.compact(len(f)) is f
    for shard in f.shards:
        here = [p for p in small if p.shard == shard]
        assert here in ([], [p for p in f if p.shard == shard])  # whole shards: a mark speaks of whole shards
        assert small.marked(shard) == (not here)


@given(EXACT, st.integers(0, 4))
def test_foreign_positions_are_carried_untouched(f: Frontier, size: int) -> None:
    small = f.compact(size, stores=[0])
    assert [p for p in small if store_of(p.shard) != 0] == [p for p in f if store_of(p.shard) != 0]
    assert not small.marks.keys() - {0}


@given(EXACT, st.integers(0, 4), EXACT)
def test_shards_with_own_writes_are_dropped_last(f: Frontier, size: int, keep: Frontier) -> None:
    small = f.compact(size, keep=keep)
    mine = f.shards & keep.shards
    dropped = mine - small.shards
    room = size - sum(len(f.on(s)) for s in mine - dropped)  # what others left to them
    assert all(len(f.on(s)) > room for s in dropped)


@given(EXACT, st.integers(0, 4), EXACT)
def test_a_mark_remembers_the_origins_of_dropped_own_writes(f: Frontier, size: int, keep: Frontier) -> None:
    """Else a failover that lost one of them would be a silent success."""
    small = f.compact(size, keep=keep)
    for p in f:
        if p not in set(small) and pack(p.shard, p.origin) in keep.entries:
            assert small.marks[store_of(p.shard)].recalls(p.origin)


@given(EXACT, st.integers(0, 4), st.integers(0, 4), st.integers(1, 9), st.integers(1, 9))
def test_compacting_again_keeps_the_first_mark(f: Frontier, size: int, less: int, until: int, later: int) -> None:
    """A mark survives: compacting what is left only adds to it, and its end is the later one."""
    once = f.compact(size, until=until)
    twice = once.compact(min(size, less), until=later)
    for store, mark in once.marks.items():
        assert twice.marks[store] >= mark
        assert twice.marks[store].until in (until, max(until, later))
    assert once.compact(size, until=later) is once  # nothing to drop: the end does not slide


@given(EXACT, EXACT, st.integers(0, 4))
def test_a_compacted_token_joined_with_an_exact_one_stays_covered(f: Frontier, g: Frontier, size: int) -> None:
    """Two tabs, one compacted: what the other lists exactly does not lift the mark."""
    assume(f)
    joined = f.compact(size) | g
    for shard in f.shards:
        assert joined.marked(shard) or joined.on(shard).exact >= f.on(shard)


@pytest.mark.parametrize("thing", [Position(1, 2, 3), LeaderMark(1), Watermark(1, {})])
def test_values_are_frozen(thing: Any) -> None:
    field = attrs.fields(type(thing))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(thing, field, 0)
