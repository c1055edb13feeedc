"""What is demanded of an entry is what the gate demands of a read, narrowed to the entry's shards: against the gate's own demand."""

from __future__ import annotations

import random

import pytest

from causal import Guarantee
from causal.caches.wanted import Counting, wanted
from causal.core.demand import Demand
from causal.core.frontier import EVERY_STORE, Frontier, pack

RYW, MR, WFR, MW = (
    Guarantee.READ_YOUR_WRITES,
    Guarantee.MONOTONIC_READS,
    Guarantee.WRITES_FOLLOW_READS,
    Guarantee.MONOTONIC_WRITES,
)


def random_frontier(draw: random.Random) -> Frontier:
    keys = [pack(shard, origin) for shard in (0, 1, 1 << 16) for origin in (1, 2)]
    return Frontier.of({key: draw.randrange(5) for key in draw.sample(keys, draw.randrange(5))})


@pytest.mark.parametrize(("guarantees", "counts"), [(RYW, (True, False)), (RYW | MR, (True, True)), (MR, (True, True))])
def test_it_is_the_gate_s_demand(guarantees: Guarantee, counts: tuple[bool, bool]) -> None:
    draw = random.Random(3)
    for _ in range(3000):
        own, seen, shard = random_frontier(draw), random_frontier(draw), draw.randrange(2)
        demand = Demand.narrowed(own, seen, counts, shard, number=0, every=None)
        found = wanted(own, seen, Counting.of(guarantees), frozenset({shard}), {}, lambda: True)
        assert found == demand.need


def test_which_guarantees_count_what() -> None:
    assert Counting.of(Guarantee.NONE) == Counting.of(MW) == Counting(own=False, seen=False)
    assert Counting.of(RYW) == Counting.of(RYW | MW) == Counting(own=True, seen=False)
    for one in (MR, WFR, Guarantee.ALL):
        assert Counting.of(one) == Counting(own=True, seen=True)


def test_the_filter_is_asked_only_where_it_has_a_say() -> None:
    own = Frontier.of({pack(0, 1): 5})
    asked: list[bool] = []

    def touched() -> bool:
        asked.append(True)
        return False

    here = frozenset({0})
    assert wanted(own, Frontier(), Counting(True, True), here, {}, touched) == {pack(0, 1): 5}
    assert wanted(own, Frontier(), Counting(False, False), here, {}, touched) == {}
    assert wanted(own, Frontier(), Counting(True, False), frozenset({1}), {}, touched) == {}
    assert not asked
    assert wanted(own, Frontier(), Counting(True, False), here, {}, touched) == {}
    assert asked


def test_a_loss_is_the_gate_s_to_say_whatever_the_filter_says() -> None:
    own, ends = Frontier.of({pack(0, 1): 5}), {pack(0, 1): 4}
    said = wanted(own, Frontier(), Counting(True, False), frozenset({0}), ends, lambda: False)
    assert isinstance(said, str)
    assert wanted(own, Frontier(), Counting(True, False), frozenset({1}), ends, lambda: False) == {}
    assert wanted(own, Frontier(), Counting(True, True), frozenset({0}), {pack(0, 1): 5}, lambda: True) == {
        pack(0, 1): 5
    }


@pytest.mark.parametrize(("store", "bypasses"), [(0, True), (EVERY_STORE, True), (1, False)])
def test_marks_of_which_stores_count(store: int, bypasses: bool) -> None:
    seen = Frontier().mark(store, 100)
    found = wanted(Frontier(), seen, Counting(True, False), frozenset({0}), {}, lambda: False)
    assert isinstance(found, str) is bypasses
    assert wanted(Frontier(), seen, Counting(False, False), frozenset({0}), {}, lambda: False) == {}
