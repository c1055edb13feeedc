"""Forgetting what nobody needs any more: log entries that all members have applied, and tombstones that nothing older can follow.

Owns the two rules. A log entry goes when every member has applied it. A tombstone of stamp T goes when every member has applied every
live origin past T: stamps strictly increase along a log, so nothing below T can arrive anywhere any more. An origin that
is idle would hold that up for ever; so a site whose own origin stands below a waiting tombstone logs an entry without keys. So does
one whose origin begins where tombstones were collected before: others may hold them still.
An origin that begins later begins above T, which the registry remembers: its site may have forgotten every stamp but its clock's.

A member that is joining, being rebuilt or out of reach stops all of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from causal.core.hlc import Timestamp
from causal.stores.sqlite.blocks.writing import heartbeat
from causal.stores.sqlite.files.registry import JOINING, LIVE
from causal.stores.sqlite.files.shard import REBUILDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.clock import HybridLogicalClock
    from causal.stores.sqlite.files.directory import Directory
    from causal.stores.sqlite.files.registry import Members
    from causal.stores.sqlite.files.shard import Rows, ShardFile

_CHUNK: Final = 1000
"""How many entries are removed in one transaction: writers wait no longer than that."""


def collect(
    directory: Directory, site: str, clock: HybridLogicalClock, wall: Callable[[], int], keep_s: float = 0.0
) -> int:
    """Remove from a site's files what no member needs; return how many keys (tombstones) that freed. Raises: StoreError.

    Tombstones younger than `keep_s` stay: caches and indexes, which are no members, may still show what was deleted.
    """
    oldest = Timestamp.from_parts(max(0, int(wall() / 10**6 - keep_s * 1000)), 0)
    members = directory.members()
    everyone = set(members.in_state(LIVE))
    if members.in_state(JOINING) or everyone != {site, *directory.peers(site)}:
        return 0
    freed = 0
    for index in members.shards.values():
        known = [directory.heard(name, index) for name in sorted(everyone)]
        held = [rows[index] for rows in known if rows and index in rows]
        if len(held) < len(everyone) or any(row[0] == REBUILDING for rows in held for row in rows):
            continue
        file = directory.file(site, index)
        origins = [origin for (shard, origin) in members.origins if shard == index]
        for origin in origins:
            _trim(file, origin, min(_applied(rows, origin) for rows in held))
        past = min(_past(rows, members, index) for rows in held)
        freed += _free(directory, file, min(past, oldest) if keep_s else past)
        _send_heartbeat(file, clock, wall)
    return freed


def _applied(rows: Rows, origin: int) -> int:
    return next((row[1] for row in rows if row[0] == origin), 0)


def _past(rows: Rows, members: Members, index: int) -> int:
    """Return the stamp up to which a member has everything that any origin will ever bring it."""
    known = {row[0]: row for row in rows}
    stamps = []
    for (shard, origin), it in members.origins.items():
        if shard == index:
            row = known.get(origin)
            if row is None:
                return -1
            if it.end is None or row[1] < it.end:
                stamps.append(row[4])
    return min(stamps, default=-1)


def _trim(file: ShardFile, origin: int, bound: int) -> None:
    """Remove an origin's log entries up to `bound`."""
    while True:
        with file.snapshot() as db:
            first = db.execute("SELECT min(offset) FROM log WHERE origin = ?", (origin,)).fetchone()[0]
        if first is None or first > bound:
            return
        with file.writing() as db:
            db.execute("DELETE FROM log WHERE origin = ? AND offset <= ?", (origin, min(bound, first + _CHUNK)))


def _free(directory: Directory, file: ShardFile, past: int) -> int:
    """Remove tombstones up to the stamp `past`."""
    with file.snapshot() as db:
        found = db.execute("SELECT 1 FROM data WHERE value IS NULL AND stamp <= ? LIMIT 1", (past,)).fetchone()
    if found is None:
        return 0
    if directory.registry.freed(file.index) < past:
        directory.registry.set_freed(file.index, past)
    with file.writing() as db:
        return db.execute("DELETE FROM data WHERE value IS NULL AND stamp <= ?", (past,)).rowcount


def _send_heartbeat(file: ShardFile, clock: HybridLogicalClock, wall: Callable[[], int]) -> None:
    with file.snapshot() as db:
        waiting = db.execute("SELECT max(stamp) FROM data WHERE value IS NULL").fetchone()[0]
    # An origin without an entry may begin above the tombstone, and others do not know it. One that begins above what was removed (its
    # stamp is not 0) says so though its own site holds none: it may have copied a site that had removed one, and others hold it still.
    least = 0 if waiting is None else waiting
    if any(
        row[3] and row[2] is None and (row[4] < least or (not row[1] and (row[4] or waiting is not None)))
        for row in file.rows()
    ):
        with file.writing() as db:
            heartbeat(db, clock, wall())
