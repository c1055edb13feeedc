"""A write: one transaction under the write lock, from the offset to the acknowledgement.

Owns `Writer`, what a user writes through, and `WriteTransaction`, the handle around it: the offset, the conflict stamp, the
accumulated dependencies and the log entry of a commit. Offset and stamp are taken inside the write lock of the file, which all
processes share, the stamp above every stamp that is applied here.

HAZARD: a site whose clock is far ahead makes others' stamps run ahead with it. That alarms in the log and blocks nothing.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from functools import reduce
from heapq import merge
from operator import or_
from typing import TYPE_CHECKING, Any, Final

from causal.core.frontier import Frontier
from causal.core.position import Position, pack
from causal.core.wire import encode_frontier
from causal.engine import Commit, KeyVersion
from causal.errors import CommitUnknown, StoreError, Unreachable
from causal.kv import check_key, check_prefix, decode_value, encode_changes, encode_value, next_stamp, stored_deps
from causal.stores.sqlite.blocks.reading import Reader, TracedReader
from causal.stores.sqlite.files.schema import primary_code, translated
from causal.stores.sqlite.files.shard import WATERMARK
from causal.stores.sqlite.files.version import decoded_deps, packed_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from causal.clock import HybridLogicalClock
    from causal.core.watermark import Watermark
    from causal.stores.sqlite.files.schema import Durability
    from causal.stores.sqlite.files.shard import ShardFile

_log = logging.getLogger("causal")

_WATERMARK: Final = WATERMARK.replace(", stamp FROM", ", stamp, deps FROM")
_PUT: Final = "REPLACE INTO data (key, value, stamp, seen) VALUES (?, ?, ?, ?)"
_LOG: Final = "INSERT INTO log (origin, offset, stamp, committed_ns, deps, changes) VALUES (?, ?, ?, ?, ?, ?)"
_ADVANCE: Final = "UPDATE watermark SET applied = ?, stamp = ?, deps = ? WHERE origin = ?"
_ALARM_MS: Final = 500
_ALARM_EVERY_S: Final = 60.0


class Writer(Reader):
    """What a write block reads and writes through; its reads show its own writes.

    Thread-safety: one thread at a time.
    """

    __slots__ = ("_changes", "_commit")

    _commit: Commit | None

    def __init__(self, cursor: sqlite3.Cursor, file: ShardFile) -> None:
        super().__init__(cursor, file)
        self._changes: dict[str, bytes | None] = {}
        self._commit = None

    @property
    def committed(self) -> Frontier:
        """The position and dependencies of what was committed; empty before."""
        if self._commit is None or self._commit.position is None:
            return Frontier()
        return self._commit.deps | Frontier((self._commit.position,))

    def put(self, key: str, value: Any) -> None:
        """Set a key to anything CBOR can hold. Raises: ConfigError for a bad key or value."""
        self._check_open()
        self._changes[check_key(key)] = encode_value(value)

    def delete(self, key: str) -> None:
        """Remove a key, whether or not it is there. Raises: ConfigError for a bad key."""
        self._check_open()
        self._changes[check_key(key)] = None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key as this block has left it, or `default`. Raises: ConfigError, StoreError."""
        if check_key(key) not in self._changes:
            return super().get(key, default)
        self._check_open()
        value = self._changes[key]
        return default if value is None else decode_value(value)

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Iterate over keys that start with `prefix`, as this block had left them when the scan began. Raises: ConfigError, StoreError."""
        check_prefix(prefix)
        mine = {k: v for k, v in self._changes.items() if k.startswith(prefix)}
        stored = ((key, value) for key, value in self._stored(prefix) if key not in mine)
        written = ((key, value) for key, value in sorted(mine.items()) if value is not None)
        return ((key, decode_value(value)) for key, value in merge(stored, written))


class TracedWriter(Writer, TracedReader):
    """A writer that tells of each version that it shows, but not of its own. Thread-safety: one thread at a time."""

    __slots__ = ()


class WriteTransaction:
    """One write transaction: the write handle of the contract.

    `watermarks` is taken inside the write lock, and of the site's other shards just after. `left_s` says that the caller has taken
    this process's half of the lock, which is this handle's from then on, and how long to wait for the other half. Thread-safety: one
    thread at a time.
    """

    __slots__ = (
        "_clock",
        "_committed",
        "_db",
        "_durability",
        "_file",
        "_rows",
        "_stamp",
        "_wall",
        "connection",
        "watermarks",
    )

    connection: Writer
    watermarks: Mapping[int, Watermark]

    def __init__(
        self,
        file: ShardFile,
        durability: Durability,
        clock: HybridLogicalClock,
        wall: Callable[[], int],
        others: Callable[[], Mapping[int, Watermark]],
        committed: Callable[[], None],
        left_s: float | None = None,
    ) -> None:
        db = file.begin_write(durability) if left_s is None else file.begin_locked(durability, left_s)
        try:
            cursor = db.cursor()
            self._rows = cursor.execute(_WATERMARK).fetchall()
            self.watermarks = {**others(), **file.watermarks_of(self._rows)}
            if not self.watermarks[file.shard].leads:
                raise has_left(file.site, file.path.parent)
        except BaseException as error:
            file.end_write(db, durability)
            if isinstance(error, sqlite3.Error):
                raise translated(error, file.path) from error
            raise
        self._file, self._durability, self._clock, self._wall, self._committed = (
            file,
            durability,
            clock,
            wall,
            committed,
        )
        self._db: sqlite3.Connection | None = db
        self.connection = Writer(cursor, file)

    def seen(self) -> Frontier:
        """Return the positions and stored dependencies of every version that was read inside the block."""
        return self.connection._seen()

    def trace(self, tell: Callable[[KeyVersion], object]) -> None:
        """Tell of each version that is shown from now on."""
        self.connection = TracedWriter(self.connection._cursor, self._file)
        self.connection._tell = tell

    def written(self) -> Iterable[KeyVersion]:
        """Return what the block wrote: without a version unless the commit was acknowledged."""
        shard, writer = self._file.shard, self.connection
        commit, changes = writer._commit, writer._changes
        if commit is None or (position := commit.position) is None:
            return [KeyVersion(shard, key, data=data) for key, data in changes.items()]
        version = (position.origin, position.offset)
        return [KeyVersion(shard, key, version, self._stamp, data) for key, data in changes.items()]

    def commit(self, deps: Frontier) -> Commit:
        """Number, stamp and store the block's writes with their dependencies, durably.

        Raises: CommitUnknown when the disk failed while it was asked to keep the commit; StoreError when nothing was committed.
        """
        changes = self.connection._changes
        if self._db is None:
            raise StoreError("this write has ended already")
        if not changes:
            self.rollback()
            return Commit(None)
        db, file = self._db, self._file
        try:
            commit = self._store(self.connection._cursor, changes, deps)
        except BaseException as error:
            self.rollback()
            if isinstance(error, sqlite3.Error):
                raise translated(error, file.path) from error
            raise
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._end(broken=True)
            if primary_code(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY}:
                raise translated(error, file.path) from error  # refused before the commit record was whole
            raise CommitUnknown(
                f"{file.path}: the disk failed while a commit was written: it may be there or not ({error})"
            ) from error
        self.rollback()
        self.connection._commit = commit
        self._committed()
        return commit

    def _store(self, db: sqlite3.Cursor, changes: Mapping[str, bytes | None], deps: Frontier) -> Commit:
        shard = self._file.shard
        (origin,) = self.watermarks[shard].leads
        applied, before, stamps = 0, b"", []
        for row in self._rows:
            stamps.append(row[4])
            if row[0] == origin:
                applied, before = row[1], row[5]
        offset = applied + 1
        now, wall_ns = int(self._clock.now()), self._wall()
        self._stamp = stamp = next_stamp(now, stamps)
        _alarm.check(stamp, now)
        own = pack(shard, origin)
        seen = self.seen()
        full = deps | seen if seen else deps
        if full.floors or full.marks:
            here = reduce(or_, (watermark.frontier for watermark in self.watermarks.values()))
            full = stored_deps(full.lapse(wall_ns / 1e9), shard >> 16, here)
        if before:
            full = (full | decoded_deps(before)).lapse(wall_ns / 1e9)
        if full.entries.get(own, 0) > applied:
            raise StoreError(f"a write cannot depend on a later one: {full} at {applied}")
        full = full.without((own,))  # the position itself stands for all before it
        packed = encode_frontier(full) if full else b""
        taught = packed_seen(origin, offset, packed)
        db.executemany(_PUT, [(key, value, stamp, taught) for key, value in changes.items()])
        db.execute(_LOG, (origin, offset, stamp, wall_ns, packed, encode_changes(changes)))
        db.execute(_ADVANCE, (offset, stamp, packed, origin))
        return Commit(Position(shard, origin, offset), full)

    def rollback(self) -> None:
        """Undo everything that is not committed, and release the write lock. Idempotent; never raises."""
        self._end(broken=False)

    def _end(self, *, broken: bool) -> None:
        db, self._db = self._db, None
        if db is not None:
            self.connection._end()
            self._file.end_write(db, self._durability, broken=broken)


def has_left(site: str, path: Path) -> Unreachable:
    """Return the error of a write at a site that numbers nothing any more."""
    return Unreachable(
        f"{site} has left {path} and takes no writes; close it and open it again, and it joins again", final=True
    )


def heartbeat(db: sqlite3.Connection, clock: HybridLogicalClock, wall_ns: int) -> None:
    """Log an entry without keys, so that others know that nothing below its stamp will come from here.

    To be called inside a write transaction of the file.
    """
    rows = db.execute(WATERMARK).fetchall()
    for origin, applied, end, mine, _ in rows:
        if mine and end is None:
            stamp = next_stamp(int(clock.now()), [row[4] for row in rows])
            packed = db.execute("SELECT deps FROM watermark WHERE origin = ?", (origin,)).fetchone()[0]
            db.execute(_LOG, (origin, applied + 1, stamp, wall_ns, packed, encode_changes({})))
            db.execute(_ADVANCE, (applied + 1, stamp, packed, origin))


class _Alarm:
    """Says, now and then, that some site's clock runs ahead: a stamp had to be taken above this one's clock."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def check(self, stamp: int, now: int) -> None:
        ahead_ms = (stamp >> 16) - (now >> 16)
        if ahead_ms > _ALARM_MS and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _ALARM_EVERY_S
            _log.warning(
                "stamps are %.3f s ahead of this clock: some site's clock is ahead; check time synchronisation",
                ahead_ms / 1000,
            )


_alarm = _Alarm()
