"""What a block demands of its session's frontiers: narrowed to one store, to what versions carry, and to the guarantees asked for."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal.core.demand import Demand
from causal.core.frontier import EVERY_STORE, Frontier, LeaderMark, Position, pack

BOTH = (True, True)
OTHER = 7 << 16  # the first shard of store 7


def narrowed(
    own: Frontier, seen: Frontier, counts: tuple[bool, bool] = BOTH, *, shard: int = 0, every: Iterable[int] | None
) -> Demand:
    return Demand.narrowed(own, seen, counts, shard, number=0, every=every)


def at(*places: tuple[int, int]) -> Frontier:
    return Frontier(Position(shard, 1, offset) for shard, offset in places)


@pytest.mark.spec("G-3")
@pytest.mark.parametrize(
    ("counts", "need"),
    [
        ((True, True), {0: 5, 1: 9}),
        ((True, False), {0: 5, 1: 8}),
        ((False, True), {0: 4, 1: 9}),
        ((False, False), {}),
    ],
)
def test_the_guarantees_choose_which_positions_count(counts: tuple[bool, bool], need: dict[int, int]) -> None:
    demand = narrowed(at((0, 5), (1, 8)), at((0, 4), (1, 9)), counts, every=(0, 1))
    assert demand.need == {pack(shard, 1): offset for shard, offset in need.items()}
    assert demand.shards == ({0, 1} if need else {0})


@pytest.mark.spec("G-1")
def test_without_stored_dependencies_only_the_shard_of_the_block_counts() -> None:
    demand = narrowed(at((0, 5), (1, 8)), at((2, 3)), every=None)
    assert (demand.need, demand.shards) == ({pack(0, 1): 5}, {0})


@pytest.mark.spec("G-2")
def test_positions_of_other_stores_are_never_demanded_here() -> None:
    demand = narrowed(at((OTHER, 5)), at((OTHER + 1, 8), (0, 2)), every=(0,))
    assert (demand.need, demand.shards) == ({pack(0, 1): 2}, {0})


@pytest.mark.spec("G-3", "G-4")
@pytest.mark.parametrize("counts", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("store", [0, EVERY_STORE])
def test_a_mark_may_stand_for_either_kind_of_position(store: int, counts: tuple[bool, bool]) -> None:
    marked = Frontier().mark(store, 1000, exact=(1,))
    demand = narrowed(at(), marked, counts, every=(0, 1, 2))
    assert demand.leader_shards == {0, 2}
    assert demand.mark == LeaderMark(1000, frozenset({1}))
    assert narrowed(at(), marked, counts, shard=1, every=None).leader_shards == set()
    assert narrowed(at(), marked, (False, False), every=(0, 1)).mark is None


@pytest.mark.spec("G-2", "G-4")
def test_marks_of_other_stores_say_nothing_here() -> None:
    demand = narrowed(at(), Frontier().mark(7, 1000), every=(0, 1))
    assert (demand.leader_shards, demand.mark) == (set(), None)


@pytest.mark.spec("G-4")
def test_several_marks_are_joined() -> None:
    seen = Frontier().mark(0, 1000, exact=(0,)).mark(EVERY_STORE, 2000, exact=(1,))
    demand = narrowed(at(), seen, every=(0, 1))
    assert demand.leader_shards == {0, 1}
    assert demand.mark is not None
    assert demand.mark.until == 2000


@pytest.mark.spec("G-2", "G-3")
def test_a_floor_folds_what_was_seen() -> None:
    seen = Frontier.of({}, {0: 70, 7: 90})
    assert narrowed(at(), seen, every=(0,)).floor == 70
    assert narrowed(at(), seen, (True, False), every=(0,)).floor is None


ENTRIES = st.dictionaries(
    st.builds(pack, st.sampled_from((0, 1, OTHER)), st.integers(1, 2)), st.integers(0, 3), max_size=5
)


@pytest.mark.spec("G-1")
@given(ENTRIES, ENTRIES, st.sampled_from((None, (0, 1))), st.sampled_from((0, 1)))
def test_it_is_the_join_of_what_concerns_the_block_and_leaves_the_frontiers_alone(
    own: dict[int, int], seen: dict[int, int], every: tuple[int, ...] | None, shard: int
) -> None:
    mine, theirs = Frontier.of(dict(own)), Frontier.of(dict(seen))
    demand = narrowed(mine, theirs, every=every, shard=shard)
    shards = {shard} if every is None else set(every)
    assert demand.need == {k: v for k, v in (mine | theirs).entries.items() if k >> 32 in shards}
    assert dict(demand.own) == {k: v for k, v in own.items() if k >> 32 in shards}
    assert demand.shards == {shard} | {k >> 32 for k in demand.need}
    assert (mine.entries, theirs.entries) == (own, seen)
