"""Replication of one shard between two files: whole transactions, in order, each after what it depends on.

Owns the step from one file's log to another's. Knows nothing of which sites there are or when to try.

What makes it safe to run from any number of threads and processes at once: the place in the log is read again inside the
target's write lock, and an entry is applied only if it is the very next one of its origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from causal.core.position import pack, store_of
from causal.errors import StoreError
from causal.kv import decode_changes
from causal.stores.sqlite.files.shard import REBUILDING, WATERMARK
from causal.stores.sqlite.files.version import decoded_deps, packed_seen

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from causal.core.frontier import Frontier
    from causal.stores.sqlite.files.shard import Rows, ShardFile

_BATCH: Final = 256
_FETCH: Final = (
    "SELECT offset, stamp, committed_ns, deps, changes FROM log WHERE origin = ? AND offset > ? ORDER BY offset LIMIT ?"
)
_LOG: Final = "INSERT INTO log (origin, offset, stamp, committed_ns, deps, changes) VALUES (?, ?, ?, ?, ?, ?)"
_ADVANCE: Final = "UPDATE watermark SET applied = ?, stamp = ?, deps = ? WHERE origin = ?"
WINNER: Final = (
    "INSERT INTO data (key, value, stamp, seen) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
    "value = excluded.value, stamp = excluded.stamp, seen = excluded.seen "
    "WHERE (excluded.stamp, excluded.seen) > (data.stamp, data.seen)"
)
"""Stores one version if it wins against the one that is there: the larger stamp, then the larger origin (with which `seen` begins)."""

Entry = tuple[int, int, int, bytes, bytes]
"""A row of a log: offset, stamp, committed_ns, deps, changes."""
Ready = tuple[Entry, dict[str, bytes | None]]
"""An entry and its changes, decoded: what is wrong with them is found before anything is written."""


@attrs.define
class Coverage:
    """What one site has applied, over all its shards: what dependencies are judged by. Grows only.

    Thread-safety: one thread at a time.
    """

    store: int
    applied: dict[int, int] = attrs.field(factory=dict)
    ends: dict[int, int] = attrs.field(factory=dict)

    def learn(self, shard: int, rows: Rows) -> None:
        """Take in a watermark of the site."""
        for origin, applied, end, _, _ in rows:
            if origin != REBUILDING:
                key = pack(shard, origin)
                self.applied[key] = max(applied, self.applied.get(key, 0))
                if end is not None:
                    self.ends[key] = end

    def covers(self, deps: Frontier) -> bool:
        """Return whether the dependencies of this store are applied; an ended origin counts up to its end, an unknown one never."""
        for key, offset in deps.entries.items():
            if store_of(key >> 32) == self.store and self.applied.get(key, -1) < min(
                offset, self.ends.get(key, offset)
            ):
                return False
        return True


@attrs.define
class Pulled:
    """What an attempt to replicate came to.

    `due_ns` says when the next entry is due, `gaps` and `offered` (packed keys) which origins' next entries the sources do not keep
    any more, and do, `forgotten` that the target numbers an origin of which the source holds more than itself, `failed` what is wrong
    with the source.
    Thread-safety: one thread at a time.
    """

    applied: int = 0
    due_ns: int | None = None
    gaps: set[int] = attrs.field(factory=set)
    offered: set[int] = attrs.field(factory=set)
    forgotten: bool = False
    failed: StoreError | None = None

    def add(self, other: Pulled) -> None:
        """Count another attempt in."""
        self.applied += other.applied
        self.gaps |= other.gaps
        self.offered |= other.offered
        self.forgotten |= other.forgotten
        if other.due_ns is not None:
            self.due_ns = other.due_ns if self.due_ns is None else min(self.due_ns, other.due_ns)


def pull(
    target: ShardFile,
    source: ShardFile,
    coverage: Coverage,
    due_ns: Callable[[int, int, int], int] | None,
    wall: Callable[[], int],
    stopped: Callable[[], bool] = bool,
) -> Pulled:
    """Apply at `target` what `source` has more of, as far as it is due and covered: at most one batch for each origin.

    `due_ns(origin, offset, committed_ns)` says when an entry may be applied; None: at once. `stopped` says that nothing may be.
    Raises: StoreError for the target.
    """
    result = Pulled()
    rows = target.rows()
    coverage.learn(target.shard, rows)
    try:
        ready = _fetch(target, rows, source, coverage, due_ns, wall, stopped, result)
    except StoreError as error:
        return Pulled(failed=error)
    for origin, entries in ready:
        count, place = _apply(target, origin, entries)
        result.applied += count
        key = pack(target.shard, origin)
        coverage.applied[key] = max(coverage.applied.get(key, 0), place)
    return result


def _fetch(
    target: ShardFile,
    rows: Rows,
    source: ShardFile,
    coverage: Coverage,
    due_ns: Callable[[int, int, int], int] | None,
    wall: Callable[[], int],
    stopped: Callable[[], bool],
    result: Pulled,
) -> list[tuple[int, list[Ready]]]:
    """Return what can be applied now, by origin. Raises: StoreError for the source."""
    have = {row[0]: row[1:4] for row in rows}
    ready: list[tuple[int, list[Ready]]] = []
    with source.snapshot() as db:
        marks = db.execute(WATERMARK).fetchall()
        if stopped():  # asked after the snapshot: what was committed since somebody stopped it is not applied
            return []
        now_ns = wall()  # not before the snapshot: what it holds would seem to come from the future
        for origin, theirs, _, _, _ in marks:
            applied, end, mine = have.get(
                origin, (theirs, None, 0)
            )  # an origin that is unknown here is announced first
            last = theirs if end is None else min(theirs, end)
            if applied >= last or origin == REBUILDING:
                continue
            if mine and end is None:
                # Nobody can hold more of a live origin than who numbers it, unless that file has forgotten.
                result.forgotten = any(row[0] == origin and row[1] < theirs for row in target.rows())
                continue
            entries = db.execute(_FETCH, (origin, applied, min(_BATCH, last - applied))).fetchall()
            key = pack(target.shard, origin)
            if not entries or entries[0][0] != applied + 1:
                # Others may have applied it here since, and the source then removed it: only a place that stands still lacks it.
                if any(row[:2] == (origin, applied) for row in target.rows()):
                    result.gaps.add(key)
                continue
            result.offered.add(key)
            some = _ready(entries, target.shard, origin, coverage, due_ns, now_ns, result)
            if some:
                ready.append((origin, some))
    return ready


def _ready(
    entries: list[Entry],
    shard: int,
    origin: int,
    coverage: Coverage,
    due_ns: Callable[[int, int, int], int] | None,
    now_ns: int,
    result: Pulled,
) -> list[Ready]:
    """Return the entries from the front that are consecutive, due and covered."""
    ready: list[Ready] = []
    for offset, entry in enumerate(entries, start=entries[0][0]):
        if entry[0] != offset:
            break
        if due_ns is not None:
            due = due_ns(origin, offset, entry[2])
            if due > now_ns >= entry[2]:  # committed in the future: a fast clock must not hold its log back
                result.due_ns = due if result.due_ns is None else min(result.due_ns, due)
                break
        if entry[3] and not coverage.covers(decoded_deps(entry[3])):
            break
        ready.append((entry, decode_changes(entry[4])))
    return ready


def _apply(target: ShardFile, origin: int, entries: Iterable[Ready]) -> tuple[int, int]:
    """Apply consecutive entries of one origin in one transaction, except those that others have applied meanwhile.

    Returns how many that were, and the place now reached.
    """
    count = 0
    with target.writing() as db:
        row = db.execute('SELECT applied, "end" FROM watermark WHERE origin = ?', (origin,)).fetchone()
        if row is None:
            return 0, 0
        place, end = row
        last: Entry | None = None
        for entry, changes in entries:
            if entry[0] != place + 1 or (end is not None and entry[0] > end):
                continue
            _store(db, origin, entry, changes)
            place, last, count = entry[0], entry, count + 1
        if last is not None:
            db.execute(_ADVANCE, (last[0], last[1], last[3], origin))
    return count, place


def _store(db: sqlite3.Connection, origin: int, entry: Entry, changes: Mapping[str, bytes | None]) -> None:
    offset, stamp, _, deps, _ = entry
    seen = packed_seen(origin, offset, deps)
    db.executemany(WINNER, [(key, value, stamp, seen) for key, value in changes.items()])
    db.execute(_LOG, (origin, *entry))
