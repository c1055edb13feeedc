"""Frontiers, against the loop over two dicts that one would write by hand."""

from __future__ import annotations

from collections.abc import Iterator

from benches.measure import Effort, Row, against_floor
from causal import Frontier, Position

LOOP = "a loop over two dicts by hand"


def rows(effort: Effort) -> Iterator[Row]:
    for n in (4, 16):
        a = Frontier(Position(shard, 1, 1000 + shard) for shard in range(n))
        b = Frontier(Position(shard, 1, 1000 + n - shard) for shard in range(n))
        top = a | b
        mine, theirs, most = dict(a.entries), dict(b.entries), dict(top.entries)

        def join(a: Frontier = a, b: Frontier = b) -> None:
            a | b

        def join_by_hand(mine: dict[int, int] = mine, theirs: dict[int, int] = theirs) -> None:
            joined = dict(mine)
            for key, offset in theirs.items():
                if offset > joined.get(key, -1):
                    joined[key] = offset

        def dominates(top: Frontier = top, a: Frontier = a) -> None:
            assert top >= a

        def dominates_by_hand(most: dict[int, int] = most, mine: dict[int, int] = mine) -> None:
            for key, offset in mine.items():
                if most.get(key, -1) < offset:
                    raise AssertionError

        yield against_floor(f"join, {n} shards", join, join_by_hand, LOOP, 2, effort)
        yield against_floor(f"dominates, {n} shards", dominates, dominates_by_hand, LOOP, 2, effort)
