"""Watermarks: what one server incarnation has applied of one shard, and its verdicts on what is demanded.

Owns the verdicts. Knows nothing of other servers, of time or of what follows from a verdict.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from causal.core.frontier import Frontier
from causal.core.position import Position, pack

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping


class Verdict(enum.IntEnum):
    """A watermark's answer to a position, worse with every step.

    Thread-safety: immutable.
    """

    APPLIED = 0
    """The position, and all before it in its origin, is applied here."""
    FOREIGN = 1
    """The shard is of a store that is not known here: carried untouched, never gated."""
    BEHIND = 2
    """Not applied here yet."""
    UNKNOWN = 3
    """This server has never heard of the origin: never served, never called lost."""
    LOST = 4
    """Past the end of its origin's surviving history: will never be applied anywhere."""


@attrs.frozen
class Judgement:
    """The worst verdict over a frontier, and the positions that caused it.

    `marked` says that a leader mark covers the shard: no watermark alone can satisfy it, so the verdict is at least UNKNOWN.
    Thread-safety: immutable.
    """

    verdict: Verdict
    positions: tuple[Position, ...] = ()
    marked: bool = False

    def __bool__(self) -> bool:
        raise TypeError("a judgement is not true or false: compare .verdict with Verdict.APPLIED")


@attrs.frozen
class Watermark:
    """What one server incarnation has applied of one shard.

    `origins` maps each origin to `(applied, end)`: `end` is where that origin's surviving history stops, None while it is live.
    `leads` are the origins that this very server numbers. `incarnation` names the server's life: any value that compares equal only
    for the same life of the same server; a watermark says nothing of another incarnation.

    Thread-safety: immutable.
    """

    shard: int
    origins: Mapping[int, tuple[int, int | None]]
    incarnation: Hashable = None
    leads: frozenset[int] = frozenset()
    diverged: bool = attrs.field(init=False, eq=False, repr=False)
    """Whether this server holds writes past an origin's end: it shows a history that was lost, so it is never served."""

    @diverged.default
    def _past_an_end(self) -> bool:
        for applied, end in self.origins.values():
            if end is not None and applied > end:
                return True
        return False

    def judge(self, frontier: Frontier, *, known_stores: Iterable[int] | None = None) -> Judgement:
        """Return the worst verdict over the frontier's part for this shard, and which positions caused it.

        Positions of other shards of known stores are not judged here (another watermark answers for them). With `known_stores`,
        a frontier that has only positions of other stores is FOREIGN.

        Complexity: linear in the frontier's entries.
        """
        worst = Verdict.APPLIED
        bad: list[Position] = []
        foreign: list[Position] = []
        known = None if known_stores is None else set(known_stores)
        for key, offset in frontier.entries.items():
            shard, origin = key >> 32, key & 0xFFFFFFFF
            if shard != self.shard:
                if known is not None and shard >> 16 not in known:
                    foreign.append(Position(shard, origin, offset))
                continue
            verdict = self.verdict(origin, offset)
            if verdict > worst:
                worst, bad = verdict, []
            if verdict is worst and worst is not Verdict.APPLIED:
                bad.append(Position(shard, origin, offset))
        floor = frontier.floors.get(self.shard >> 16)
        if floor is not None and worst < Verdict.BEHIND and not self.above(floor):
            worst = Verdict.BEHIND
            upto = {o: floor if end is None else min(floor, end) for o, (_, end) in self.origins.items()}
            bad = [Position(self.shard, o, f) for o, f in upto.items() if self.origins[o][0] < f]
        marked = frontier.marked(self.shard)
        if (marked or self.diverged) and worst < Verdict.UNKNOWN:
            worst, bad = Verdict.UNKNOWN, []
        if worst is Verdict.APPLIED and foreign:
            return Judgement(Verdict.FOREIGN, tuple(sorted(foreign)))
        return Judgement(worst, tuple(sorted(bad)), marked)

    def verdict(self, origin: int, offset: int) -> Verdict:
        """Return the verdict on one position of this shard."""
        place = self.origins.get(origin)
        if place is None:
            return Verdict.UNKNOWN
        applied, end = place
        if end is not None and offset > end:
            return Verdict.LOST
        return Verdict.APPLIED if offset <= applied else Verdict.BEHIND

    def above(self, floor: int) -> bool:
        """Return whether every origin is applied up to `floor`, an ended one at most to its end (nothing after that survives)."""
        return all(applied >= (floor if end is None else min(floor, end)) for applied, end in self.origins.values())

    @property
    def frontier(self) -> Frontier:
        """Everything applied here, as a frontier (clipped to each origin's end)."""
        entries = {
            pack(self.shard, o): applied if end is None else min(applied, end)
            for o, (applied, end) in self.origins.items()
        }
        return Frontier.of(entries)
