"""Opening a site's file for the first time in a life: make it, or find out whether it has forgotten anything.

Owns the signs of forgetting. Whatever can make a log forget starts a new origin: an unclean stop with relaxed durability, a file that
was put back from a copy, a registry that was. The old origin is ended in `members.py`.

HAZARD: a file that is overwritten *in place* by an older copy, within one life of its site, looks like itself until another site is
heard that holds more of its writes. Put copies back under a new inode (move them in), with every process closed.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import attrs

from causal.errors import StoreError
from causal.stores.sqlite.files.registry import LIVE, REMADE, FileRecord
from causal.stores.sqlite.files.schema import COPY, check_belongs, errors_of, open_shard
from causal.stores.sqlite.replication.rebuild import begin_rebuilding

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from causal.stores.sqlite.files.directory import Directory
    from causal.stores.sqlite.files.registry import Members

_log = logging.getLogger("causal")


def recover(directory: Directory, site: str, name: str, index: int, *, copy: bool = True) -> None:
    """Open a site's file of a shard for the first of all processes: make it, or see whether it has forgotten anything.

    `copy=False`: the shard is new, so a file that is made has nothing to copy from another site.
    """
    path, record = directory.file_path(site, name), directory.registry.file(site, index)
    if record is not None and not path.exists():
        record = _gone(directory, site, index, path, record)
    made = record is not None and record.inode != REMADE
    db = open_shard(path, empty=COPY if made else None)
    try:
        with errors_of(path):
            meta = dict(db.execute("SELECT name, value FROM meta"))
            inode = os.stat(path).st_ino
            if not meta:
                if made:
                    raise StoreError(f"{path} is empty: {COPY}")
                _start(directory, db, site, name, index, copy=copy)
                life = 0
            else:
                check_belongs(meta, path, directory.members().cluster, site, name)
                life = meta["life"]
                why = _forgotten(directory, db, site, index, inode, life, record)
                if why is not None:
                    _check_given_up(directory, db, index, path)
                    _log.warning("%s: new origin, because %s", path, why)
                    _new_origin(directory, db, site, index)
            db.execute("UPDATE meta SET value = ? WHERE name = 'life'", (life + 1,))
            directory.registry.set_file(site, index, FileRecord(inode, life + 1, relaxed=False))
    finally:
        db.close()


def _gone(directory: Directory, site: str, index: int, path: Path, record: FileRecord) -> FileRecord:
    """Let a file that was removed be made anew, where another site has a copy. Raises: StoreError where none has."""
    members = directory.members()
    if members.sites.get(site) == LIVE:
        if members.in_state(LIVE) == (site,):
            raise StoreError(
                f"{path} is gone, and no other site has a copy: restore it, or remove {path.parent} to begin anew"
            )
        _log.warning("%s is gone: it is copied from another site; writes that only it held are lost", path)
    record = attrs.evolve(record, inode=REMADE)  # so that this can be repeated: from here on an empty file is ours
    directory.registry.set_file(site, index, record)
    return record


def _start(directory: Directory, db: sqlite3.Connection, site: str, name: str, index: int, *, copy: bool) -> None:
    origin = directory.registry.new_origin(site, index)
    members = directory.members()
    db.execute("BEGIN IMMEDIATE")
    meta = {"cluster": members.cluster, "site": site, "shard": name, "life": 0}
    db.executemany("REPLACE INTO meta VALUES (?, ?)", meta.items())
    if copy:
        begin_rebuilding(db)
    learn(db, members, index)
    _lead(db, origin, directory.registry.freed(index))
    db.execute("COMMIT")


def _check_given_up(directory: Directory, db: sqlite3.Connection, index: int, path: Path) -> None:
    """Refuse a copy that holds more of an ended origin than survived: what is beyond cannot be taken out of its values again."""
    origins = directory.members().origins
    for origin, applied in db.execute("SELECT origin, applied FROM watermark").fetchall():
        known = origins.get((index, origin))
        if known is not None and known.end is not None and applied > known.end:
            raise StoreError(
                f"{path} is a copy that holds writes which were given up since: put one back from before them, or remove it and "
                "its -wal and let its site copy it from another"
            )


def _new_origin(directory: Directory, db: sqlite3.Connection, site: str, index: int) -> None:
    for origin, end in db.execute('SELECT origin, "end" FROM watermark WHERE origin >= 0').fetchall():
        directory.registry.add_lost_origin(index, origin, end)
    origin = directory.registry.new_origin(site, index)
    db.execute("BEGIN IMMEDIATE")
    learn(db, directory.members(), index)
    _lead(db, origin, directory.registry.freed(index))
    db.execute("COMMIT")


def _lead(db: sqlite3.Connection, origin: int, freed: int) -> None:
    """Number an origin from here on, above every tombstone that may have been removed. Inside a write transaction."""
    db.execute("UPDATE watermark SET mine = (origin = ?)", (origin,))
    db.execute("UPDATE watermark SET stamp = max(stamp, ?) WHERE origin = ?", (freed, origin))


def _forgotten(
    directory: Directory,
    db: sqlite3.Connection,
    site: str,
    index: int,
    inode: int,
    life: int,
    record: FileRecord | None,
) -> str | None:
    """Say why a file may have forgotten what it once acknowledged; None if it cannot have."""
    held = [
        {row[0]: row[1] for row in rows}
        for peer in directory.peers(site)
        for rows in (directory.heard(peer, index) or {}).values()
    ]
    mine = db.execute("SELECT origin, applied FROM watermark WHERE mine").fetchall()  # after what others hold of it
    if record is None or not mine or [directory.members().own(site, index)] != [row[0] for row in mine]:
        return "the registry knows it otherwise: one of them was restored"
    if record.inode != inode:
        return "it is another file than before: it was restored or copied"
    if not record.life <= life <= record.life + 1:
        return "it is of an earlier life: it was restored"
    if record.relaxed:
        return "it was written with relaxed durability and not closed: acknowledged writes may be missing"
    if any(places.get(mine[0][0], 0) > mine[0][1] for places in held):
        return "another site holds more of its writes than itself"
    return None


def learn(db: sqlite3.Connection, members: Members, index: int) -> None:
    """Copy origins and ends from the registry. Inside a write transaction."""
    for (shard, origin), it in members.origins.items():
        if shard == index:
            db.execute("INSERT OR IGNORE INTO watermark VALUES (?, 0, NULL, 0, 0, x'')", (origin,))
            db.execute(
                'UPDATE watermark SET "end" = ? WHERE origin = ? AND ("end" IS NULL OR "end" > ?)',
                (it.end, origin, it.end),
            )
