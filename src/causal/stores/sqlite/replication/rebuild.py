"""Making one file hold what another holds: how a site joins, returns, or recovers what its log can no longer bring.

Owns the merge of two copies of one shard. It is a merge of states, not a copy: with their watermarks both sides know whether a key
that one of them lacks is unknown to it or was removed there, so nothing deleted comes back and nothing newer is lost.

A file that is being rebuilt says so in its `watermark` table, in the same file and transaction: nobody is served from it, in no
process, until all its shards hold everything that any of them depends on.
"""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING, Final

from causal.core.position import pack
from causal.errors import StoreError, Unreachable
from causal.stores.sqlite.files.registry import LIVE
from causal.stores.sqlite.files.shard import REBUILDING, WATERMARK
from causal.stores.sqlite.files.version import place_of
from causal.stores.sqlite.replication.apply import WINNER
from causal.stores.sqlite.replication.replicate import replicate

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from causal.stores.sqlite.files.directory import Directory
    from causal.stores.sqlite.files.shard import ShardFile

    Row = tuple[int, int, int | None, int, int]

_log = logging.getLogger("causal")

_MARKS: Final = 'SELECT origin, applied, "end", stamp, deps FROM watermark WHERE origin >= 0'
_KNOW: Final = "INSERT OR IGNORE INTO watermark VALUES (?, 0, NULL, 0, 0, x'')"


def begin_rebuilding(db: sqlite3.Connection) -> None:
    """Mark a file as unreadable until `rebuild` has finished. Inside a write transaction of it."""
    db.execute(_KNOW, (REBUILDING,))


def finish_rebuilding(db: sqlite3.Connection) -> None:
    """Undo `begin_rebuilding`. Inside a write transaction."""
    db.execute("DELETE FROM watermark WHERE origin = ?", (REBUILDING,))


def is_rebuilding(file: ShardFile) -> bool:
    """Return whether a file is unreadable because it is being rebuilt."""
    return any(row[0] == REBUILDING for row in file.rows())


def rebuild(directory: Directory, site: str) -> None:
    """Bring a site whose files are marked to all that the most advanced member within reach holds. Under `admin`; may be repeated.

    Raises: Unreachable if there are other members and none can be reached; the files then stay marked.
    """
    marked = [file for file in directory.files(site) if is_rebuilding(file)]
    if not marked:
        return
    others = [name for name in directory.members().in_state(LIVE) if name != site]
    held = {name: rows for name in directory.peers(site) if (rows := directory.heard(name)) is not None}
    sources = [name for name, rows in held.items() if not any(row[0] == REBUILDING for row in chain(*rows.values()))]
    if not sources:  # each may have what another lacks: sites that waited for one that is whole would wait for ever
        sources = [name for name, rows in held.items() if all(_is_whole(rows.get(file.index, ())) for file in marked)]
    sources.sort(key=lambda name: sum(row[1] for row in chain(*held[name].values())), reverse=True)
    for best in sources:
        try:
            _copy(directory, site, best)
            break
        except StoreError as error:
            if best == sources[-1]:
                raise
            _log.warning("%s cannot be copied from %s: %s", site, best, error)
    if others and not sources:
        raise Unreachable(f"{site} has to copy its data from {' or '.join(others)}, and cannot reach them")
    for file in marked:
        with file.writing() as db:
            finish_rebuilding(db)


def _is_whole(rows: Sequence[Row]) -> bool:
    return bool(rows) and all(row[0] != REBUILDING for row in rows)


def _copy(directory: Directory, site: str, best: str) -> None:
    theirs = {file.index: file for file in directory.files(best)}
    for file in directory.files(site):
        if file.index in theirs:
            merge(file, theirs[file.index])
    # The merged files are from different moments. What any of them depends on is in what `best` holds now.
    goal = {pack(f.shard, row[0]): row[1] for f in theirs.values() for row in f.rows() if row[0] != REBUILDING}
    replicate(directory, site)
    here = {pack(f.shard, row[0]): row[1] for f in directory.files(site) for row in f.rows()}
    if any(here.get(key, -1) < applied for key, applied in goal.items()):
        raise Unreachable(f"{site} could not copy all that {best} holds; open it again")


def restart(directory: Directory, site: str) -> None:
    """Rebuild a site that is open: a part of a log that it lacks is kept by nobody any more. Raises: Unreachable."""
    with directory.locks.admin():
        for file in directory.files(site):
            with file.writing() as db:
                begin_rebuilding(db)
        rebuild(directory, site)


def merge(target: ShardFile, source: ShardFile) -> None:
    """Make `target` hold the join of what both files hold, in one transaction. Complexity: linear in what both hold."""
    with source.snapshot() as theirs, target.writing() as mine:
        their_marks = theirs.execute(_MARKS).fetchall()
        their_place = {row[0]: row[1] for row in their_marks}
        my_place = {row[0]: row[1] for row in mine.execute(WATERMARK)}
        gone = [
            (key,)
            for key, seen in mine.execute("SELECT key, seen FROM data")
            if _within(their_place, seen) and not _has(theirs, key)
        ]
        mine.executemany("DELETE FROM data WHERE key = ?", gone)
        versions = theirs.execute("SELECT key, value, stamp, seen FROM data")
        mine.executemany(WINNER, (v for v in versions if not _within(my_place, v[3]) or _has(mine, v[0])))
        mine.executemany("INSERT OR IGNORE INTO log VALUES (?, ?, ?, ?, ?, ?)", theirs.execute("SELECT * FROM log"))
        for origin, applied, end, stamp, deps in their_marks:
            mine.execute(_KNOW, (origin,))
            mine.execute(
                "UPDATE watermark SET applied = ?, stamp = ?, deps = ? WHERE origin = ? AND applied < ?",
                (applied, stamp, deps, origin, applied),
            )
            mine.execute('UPDATE watermark SET "end" = ? WHERE origin = ? AND "end" IS NULL', (end, origin))


def _within(place: dict[int, int], seen: bytes) -> bool:
    """Return whether a version lies within what is applied."""
    origin, offset = place_of(seen)
    return offset <= place.get(origin, 0)


def _has(db: sqlite3.Connection, key: str) -> bool:
    return db.execute("SELECT 1 FROM data WHERE key = ?", (key,)).fetchone() is not None
