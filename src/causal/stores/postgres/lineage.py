"""Which history a server is in, and how far it has applied it: from what it said of itself to a watermark. Pure.

Owns the rules (who is `origin`, where it `ended`, what is proven). Asks nobody: `server.py` does, by the statements of `statements.py`.

A timeline number is not a name of a history: two standbys promoted at once share it, and a crash that drops asynchronous commits, or a
backup that is put back, goes on under it. So each life of a primary inserts a row of its own, a random origin, before its first position
is handed out. The row is replicated in order: a server's own copy of the rows is its lineage, as far as it has applied it.

What a row cannot show is a switch to another timeline, or another life of the primary, whose row has not been written yet. So an LSN counts
for the newest row only as far as the server was seen to follow that row's timeline *after* it had reached that LSN, through a receiver that
is as old as that life: one that was there before the primary was last found in it.
HAZARD: a standby of a standby keeps its receiver when the primary crashes; until somebody has asked the primary, what asynchronous commits
lost there looks applied.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

from causal.core.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@attrs.frozen
class Life:
    """One life of one server's memory: what is known of it holds for no other. Thread-safety: immutable.

    `recovered`: where the recovery ended that a primary began with, by crash or promotion; None after a clean start.
    """

    started: str
    address: str | None
    port: str | None
    standby: bool
    recovered: int | None = None

    def __str__(self) -> str:
        return f"{'standby' if self.standby else 'primary'} since {self.started}"


@attrs.frozen
class Facts:
    """What one answer said, in this order: where the server was, then its timeline, then its rows. Thread-safety: immutable.

    `timeline`: the one a primary writes, or the one a standby receives now; None where it cannot be seen. `receiver` is the process.
    """

    life: Life
    lsn: int
    timeline: int | None
    rows: tuple[Row, ...] = ()
    receiver: int | None = None


@attrs.frozen
class Row:
    """One origin: a life of a primary, and where the history before it ended.

    `parent_end` is None where nobody can know. Thread-safety: immutable.
    """

    seq: int
    origin: int
    parent_end: int | None
    start: int
    timeline: int
    started: str
    recovered: int | None

    def is_of(self, life: Life, timeline: int | None) -> bool:
        """Return whether this is the row of a primary's present life."""
        return (
            not life.standby
            and self.started == life.started
            and self.recovered == life.recovered
            and self.timeline == timeline
        )


@attrs.frozen
class Known:
    """What a server is known to hold. Thread-safety: immutable.

    `lsn` is proven to be of `origin`, the newest; `marks` says so by shard id. `seq` is the newest row's. `doubtful`: see the function.
    `reached` is where the server is, of whatever history.
    """

    life: Life
    lsn: int
    origin: int | None
    seq: int | None
    timeline: int | None
    marks: Mapping[int, Watermark]
    at: float
    doubtful: bool
    reached: int


@attrs.frozen
class Lives:
    """What a shard's servers have told of its primaries' lives, by origin: when one was last found, where it ended. Thread-safety: safe."""

    seen: dict[int, float] = attrs.field(factory=dict)
    ends: dict[int, int] = attrs.field(factory=dict)

    def found(self, origin: int, at: float) -> None:
        """Note that a primary which was asked at a time was in this life."""
        self.seen[origin] = max(at, self.seen.get(origin, at))

    def ended(self, origin: int, end: int) -> None:
        """Note where one ended."""
        self.ends[origin] = min(end, self.ends.get(origin, end))


def current(facts: Facts) -> Row | None:
    """Return the row of a primary's present life, if it is there."""
    newest = facts.rows[-1] if facts.rows else None
    return newest if newest is not None and newest.is_of(facts.life, facts.timeline) else None


def doubtful(facts: Facts, *, confirmed: bool = True) -> bool:
    """Return whether a server has, or receives, what its newest row does not speak of: another life's, whose row is not there.

    `confirmed`: the primary was found in the newest row's life after the standby's receiver was first seen.
    """
    if not facts.rows:
        return True
    if not facts.life.standby:
        return current(facts) is None
    return facts.timeline != facts.rows[-1].timeline or not confirmed


def proven(facts: Facts, before: Known | None, *, confirmed: bool = True) -> int | None:
    """Return how far a server has applied the newest origin for certain; None if not even its row shows that."""
    if not facts.rows:
        return None
    newest = facts.rows[-1]
    if not doubtful(facts, confirmed=confirmed):
        return facts.lsn
    if before is not None and before.life == facts.life and before.origin == newest.origin:
        return max(newest.start, min(before.lsn, facts.lsn))
    return newest.start


def known(shard: int, facts: Facts, before: Known | None, at: float, *, confirmed: bool = True) -> Known:
    """Return what an answer shows. `before` is what an earlier one of the same server did; `confirmed`: see `doubtful`."""
    rows = facts.rows
    origins: dict[int, tuple[int, int | None]] = {}
    for row, following in pairwise(rows):
        if following.parent_end is not None:  # its successor is here, so all of it that survives is
            origins[row.origin] = following.parent_end, following.parent_end
    upto, newest, leads = proven(facts, before, confirmed=confirmed), rows[-1] if rows else None, frozenset[int]()
    if newest is not None and upto is not None:
        origins[newest.origin] = upto, None
        if newest.is_of(facts.life, facts.timeline):
            leads = frozenset({newest.origin})
    mark = Watermark(shard, origins, facts.life, leads)
    return Known(
        facts.life,
        upto or 0,
        newest.origin if newest is not None else None,
        newest.seq if newest is not None else None,
        facts.timeline,
        {shard: mark},
        at,
        doubtful(facts, confirmed=confirmed),
        facts.lsn,
    )


def at_lsn(shard: int, before: Known, lsn: int) -> Mapping[int, Watermark]:
    """Return the marks of a server that is at `lsn`: no origin is applied further; who numbers the newest, has it up to there."""
    mark = before.marks[shard]
    if before.origin is None or before.origin not in mark.origins:
        return before.marks
    origins = {origin: (min(applied, lsn), end) for origin, (applied, end) in mark.origins.items()}
    if before.origin in mark.leads:
        origins[before.origin] = lsn, None
    return {shard: attrs.evolve(mark, origins=origins)}


def of_timeline(system: int, timeline: int) -> int:
    """Return the origin of a timeline where no rows are installed.

    HAZARD: a crash that drops asynchronous commits, a backup that is put back and a second promotion of the same timeline number keep this
    name: what they lost looks applied. Install the rows.
    """
    return zlib.crc32(f"{system}/{timeline}".encode()) or 1


def by_timeline(system: int, facts: Facts, ends: Sequence[tuple[int, int]]) -> tuple[Row, ...]:
    """Return the rows that stand for timelines, oldest first: those whose end was witnessed as (timeline, end), and the present one."""
    rows: list[Row] = []
    end: int | None = None
    for timeline, after in ends:
        rows.append(Row(timeline, of_timeline(system, timeline), end, 0, timeline, "", None))
        end = after
    if facts.timeline is not None:
        life = facts.life
        rows.append(
            Row(
                facts.timeline,
                of_timeline(system, facts.timeline),
                end,
                0,
                facts.timeline,
                life.started,
                life.recovered,
            )
        )
    return tuple(rows)


def ahead(one: Known, other: Known) -> int | None:
    """Return where the newest history that a standby has ended, as another server knows, if the standby is past that; else None.

    It holds what was lost; or it follows what came after, whose row it will have in a moment.
    """
    if one.origin is None or not one.doubtful or not one.life.standby:
        return None
    for mark in other.marks.values():
        _, end = mark.origins.get(one.origin, (0, None))
        if end is not None and one.reached > end:
            return end
    return None


def supersedes(one: Known, other: Known) -> bool:
    """Return whether a primary's history is newer than another primary's: who was promoted later has the higher timeline."""
    return (
        not one.life.standby
        and not other.life.standby
        and one.timeline is not None
        and other.timeline is not None
        and one.timeline > other.timeline
    )
