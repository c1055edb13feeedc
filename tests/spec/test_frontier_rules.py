"""Sentences of docs/spec/frontier.md that no other test stands for."""

import functools
import operator

import pytest
from hypothesis import given

from causal.core.frontier import EVERY_STORE, Frontier, LeaderMark, Loss, Position
from causal.core.watermark import Verdict, Watermark
from causal.engine import Commit
from causal.session import SessionState
from tests.core.test_frontier import FRONTIERS, SHARDS

OTHER_STORE = 1 << 16
WHOLE = Frontier.of(
    Frontier([Position(0, 1, 5), Position(0, 2, 3), Position(1, 1, 4), Position(OTHER_STORE, 1, 9)]).entries,
    {0: 2, 1: 3},
    {
        0: LeaderMark(9, frozenset({1})),
        1: LeaderMark(8),
        EVERY_STORE: LeaderMark(7, frozenset({OTHER_STORE})),
    },
)


@pytest.mark.spec("F-3")
def test_offsets_of_different_origins_and_shards_are_never_compared() -> None:
    far = Frontier([Position(0, 2, 99), Position(1, 1, 99)])
    demand = Frontier([Position(0, 1, 5)])
    assert not far >= demand
    assert set(far | demand) == {*far, *demand}
    assert Watermark(0, {2: (99, None)}).judge(demand).verdict is Verdict.UNKNOWN
    assert Watermark(0, {1: (4, None), 2: (99, None)}).judge(demand).verdict is Verdict.BEHIND


@pytest.mark.spec("F-5")
def test_an_entry_at_0_demands_that_its_origin_is_known() -> None:
    demand = Frontier([Position(0, 1, 0)])
    assert demand
    assert not Frontier() >= demand
    other, third = Frontier([Position(0, 2, 3)]), Frontier([Position(0, 3, 0), Position(0, 4, 1)])
    for joined in (demand | other, other | demand):
        assert set(joined) == {Position(0, 1, 0), Position(0, 2, 3)}
    for joined in (demand | third, third | demand):
        assert set(joined) == {Position(0, 1, 0), Position(0, 3, 0), Position(0, 4, 1)}
    assert Watermark(0, {2: (9, None)}).judge(demand).verdict is Verdict.UNKNOWN
    assert Watermark(0, {1: (0, None)}).judge(demand).verdict is Verdict.APPLIED


@pytest.mark.spec("F-8")
def test_what_a_mark_stands_for_is_not_what_the_other_side_lists() -> None:
    marked, listed = Frontier().mark(0, 900, exact={2}), Frontier([Position(0, 1, 5), Position(1, 1, 5)])
    for joined in (marked | listed, listed | marked):
        assert joined.marks == marked.marks
        assert [shard for shard in range(4) if joined.marked(shard)] == [0, 1, 3]


@pytest.mark.spec("F-10")
def test_no_part_stands_in_for_another() -> None:
    entry, floor = Frontier([Position(0, 1, 5)]), Frontier.of({}, {0: 99})
    here, everywhere = Frontier().mark(0, 900), Frontier().mark(EVERY_STORE, 900)
    parts = (entry, floor, here, everywhere)
    for part in parts:
        others = [other for other in parts if other is not part]
        assert not any(other >= part for other in others)
        assert not functools.reduce(operator.or_, others) >= part


@pytest.mark.spec("F-12")
def test_of_two_frontiers_neither_may_cover_the_other() -> None:
    a, b = Frontier([Position(0, 1, 9), Position(0, 2, 1)]), Frontier([Position(0, 1, 5), Position(0, 2, 2)])
    assert not a >= b
    assert not b >= a
    for one, other in ((a, b), (a, a | b), (a | b, a)):
        assert (one >= other) is (one | other == one)


@pytest.mark.spec("F-24")
def test_what_caused_the_worst_verdict_is_named_in_ascending_order() -> None:
    demand = Frontier.of({2: 5, 10: 5, 9: 5, 1: 0})
    found = Watermark(0, {1: (0, None), 2: (4, None)}).judge(demand)
    assert (found.verdict, found.positions) == (Verdict.UNKNOWN, (Position(0, 9, 5), Position(0, 10, 5)))


@pytest.mark.spec("F-26")
def test_foreign_positions_show_only_where_all_else_is_applied() -> None:
    foreign = Frontier([Position(OTHER_STORE, 1, 9)])
    here = Watermark(0, {1: (5, None)})
    assert here.judge(foreign | Frontier.of({}, {0: 5}), known_stores=[0]).verdict is Verdict.FOREIGN
    assert here.judge(foreign | Frontier.of({}, {0: 6}), known_stores=[0]).verdict is Verdict.BEHIND


@pytest.mark.spec("F-27")
def test_what_falls_short_of_a_floor_is_named_up_to_the_end_of_its_origin() -> None:
    found = Watermark(0, {1: (6, 9), 2: (4, None), 3: (30, None)}).judge(Frontier.of({}, {0: 20}))
    assert (found.verdict, found.positions) == (Verdict.BEHIND, (Position(0, 1, 9), Position(0, 2, 20)))
    assert Watermark(0, {1: (9, 9), 3: (20, None)}).judge(Frontier.of({}, {0: 20})).verdict is Verdict.APPLIED


@pytest.mark.spec("F-14")
def test_the_part_on_a_shard_has_its_entries_its_stores_floor_and_the_marks_that_cover_it() -> None:
    both = WHOLE.on(0)
    assert set(both) == {Position(0, 1, 5), Position(0, 2, 3)}
    assert both.floors == {0: 2}
    assert both.marks.keys() == {0, EVERY_STORE}
    assert WHOLE.on(1).marks.keys() == {EVERY_STORE}
    foreign = WHOLE.on(OTHER_STORE)
    assert (set(foreign), foreign.floors) == ({Position(OTHER_STORE, 1, 9)}, {1: 3})
    assert foreign.marks.keys() == {1}


@pytest.mark.spec("F-15")
def test_the_part_of_a_store_has_its_mark_and_the_one_on_every_store() -> None:
    first = WHOLE.store(0)
    assert set(first) == {Position(0, 1, 5), Position(0, 2, 3), Position(1, 1, 4)}
    assert (first.floors, first.marks) == ({0: 2}, {s: WHOLE.marks[s] for s in (0, EVERY_STORE)})
    none = WHOLE.store(2)
    assert (set(none), none.floors, none.marks.keys()) == (set(), {}, {EVERY_STORE})


@pytest.mark.spec("F-14")
@given(FRONTIERS, SHARDS)
def test_a_watermark_judges_a_frontier_as_its_part_on_the_shard(frontier: Frontier, shard: int) -> None:
    for watermark in (Watermark(shard, {}), Watermark(shard, {0: (3, None), 1: (2, 4)}), Watermark(shard, {1: (5, 4)})):
        assert watermark.judge(frontier) == watermark.judge(frontier.on(shard))


@pytest.mark.spec("F-18")
def test_only_acknowledged_writes_are_own() -> None:
    state = SessionState("alice")
    state.join(Frontier([Position(0, 1, 7)]), own=False, now=0)
    assert (set(state.own), set(state.seen)) == (set(), {Position(0, 1, 7)})
    state.acknowledged(Commit(Position(0, 1, 5), Frontier([Position(1, 1, 2)])), now=0)
    assert set(state.own) == {Position(0, 1, 5)}
    assert set(state.seen) == {Position(0, 1, 7), Position(1, 1, 2)}
    assert state.joined == state.own | state.seen


@pytest.mark.spec("F-19")
def test_an_accepted_loss_lowers_what_was_seen_of_it_and_nothing_that_survives() -> None:
    for seen, left in ((5, 5), (6, 6), (7, 6), (8, 6), (9, 9)):
        state = SessionState("alice")
        state.own, state.seen = Frontier([Position(0, 1, 8)]), Frontier([Position(0, 1, seen)])
        state.forget([Loss(Position(0, 1, 8), 6)])
        assert (state.own.offset(0, 1), state.seen.offset(0, 1)) == (6, left)


@pytest.mark.spec("F-30")
def test_no_position_is_named_for_what_a_mark_or_a_divergence_makes_worse() -> None:
    behind, unknown, lost = Position(0, 2, 5), Position(0, 3, 1), Position(0, 1, 10)
    marked, diverged = Watermark(0, {1: (6, 9), 2: (4, None)}), Watermark(0, {1: (10, 9), 2: (4, None)})
    for position, positions in ((behind, ()), (unknown, (unknown,)), (lost, (lost,))):
        demand = Frontier([position])
        for judgement in (marked.judge(demand.mark(0, 9)), diverged.judge(demand)):
            assert judgement.verdict >= Verdict.UNKNOWN
            assert judgement.positions == positions
