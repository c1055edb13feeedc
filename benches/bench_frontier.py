"""Frontiers, against the loop over two dicts that one would write by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import ge, or_

from benches.measure import Case, against_floor
from causal import Frontier, Position

LOOP = "a loop over two dicts by hand"


def join_by_hand(a: dict[int, int], b: dict[int, int]) -> dict[int, int]:
    joined = dict(a)
    for key, offset in b.items():
        if offset > joined.get(key, -1):
            joined[key] = offset
    return joined


def dominates_by_hand(a: dict[int, int], b: dict[int, int]) -> bool:
    for key, offset in b.items():
        if a.get(key, -1) < offset:
            return False
    return True


def cases() -> Iterator[Case]:
    for n in (4, 16):
        a = Frontier(Position(shard, 1, 1000 + shard) for shard in range(n))
        b = Frontier(Position(shard, 1, 1000 + n - shard) for shard in range(n))
        top = a | b
        assert top >= a
        assert join_by_hand(a.entries, b.entries) == top.entries
        by_hand = partial(join_by_hand, dict(a.entries), dict(b.entries))
        yield against_floor(f"join, {n} shards", partial(or_, a, b), by_hand, LOOP, 2)
        by_hand = partial(dominates_by_hand, dict(top.entries), dict(a.entries))
        yield against_floor(f"dominates, {n} shards", partial(ge, top, a), by_hand, LOOP, 2)
