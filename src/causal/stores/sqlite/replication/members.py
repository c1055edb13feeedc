"""Who belongs: how a site opens, joins, recovers, leaves, and how an origin ends.

Owns every change to the registry. All of it runs under the directory's `admin` lock, and each step can be repeated after a crash at
any point: numbers are given out before they are used, and files say themselves what is not finished.

An origin ends by a decision that is recorded once: at what the most advanced live member holds, when all of them can be asked. Until
then it has no end, and positions past what is known are in doubt: behind, never applied and never lost.

HAZARD: a file that is replaced by an older copy *in place*, within one life of its site, looks like itself. Put copies back under a
new inode (move them in), with every process closed; then the site starts new origins, as after anything that can forget.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import attrs

from causal.errors import ConfigError, StoreError
from causal.stores.sqlite.files.directory import CUT, Directory
from causal.stores.sqlite.files.registry import JOINING, LEFT, LIVE, FileRecord
from causal.stores.sqlite.files.schema import errors_of, open_shard
from causal.stores.sqlite.replication.rebuild import begin_rebuilding, finish_rebuilding, rebuild
from causal.stores.sqlite.replication.replicate import replicate

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from causal.stores.sqlite.files.registry import Members

_log = logging.getLogger("causal")


def open_site(directory: Directory, site: str, names: Sequence[str], store: int) -> None:
    """Make a site of this process's own: known, complete, recovered, live. Raises: ConfigError, StoreError, Unreachable."""
    with directory.locks.admin():
        directory.registry.bind_store(store)
        add_shards(directory, names)
        if directory.members().sites.get(site, LEFT) == LEFT:
            _hand_over(directory, site)
            _wipe(directory, site)
            directory.registry.set_state(site, JOINING)
        attach_site(directory, site)
        if directory.members().sites[site] == JOINING:
            directory.registry.set_state(site, LIVE)


def attach_site(directory: Directory, site: str) -> None:
    """Have a site open in this process; the first to open it finds out what it may have forgotten. Raises: StoreError, Unreachable."""
    with directory.locks.admin():
        first = directory.locks.attach(site)
        try:
            if first or directory.members().sites[site] == JOINING:
                for name, index in directory.members().shards.items():
                    _recover(directory, site, name, index)
            rebuild(directory, site)
            announce(directory, site)
            decide_ends(directory, site)
        except BaseException:
            if first:
                directory.locks.detach(site)
            raise


def add_shards(directory: Directory, names: Sequence[str]) -> Mapping[str, int]:
    """Number new shards, make the files that were never made, for every member, and return all shards."""
    with directory.locks.admin():
        for name in names:
            if name not in directory.members().shards:
                directory.registry.add_shard(name)
        shards = directory.members().shards
        for site in directory.members().in_state(LIVE):
            for name, index in shards.items():
                if directory.registry.file(site, index) is None:
                    _recover(directory, site, name, index)
                    with directory.file(site, index).writing() as db:
                        finish_rebuilding(db)  # a new shard has nothing to copy
        return shards


# --- opening a file ----------------------------------------------------------------------------------------------


def _recover(directory: Directory, site: str, name: str, index: int) -> None:
    """Open a site's file of a shard for the first of all processes: make it, or see whether it has forgotten anything."""
    path, members = directory.file_path(site, name), directory.members()
    db = open_shard(path)
    try:
        with errors_of(path):
            meta = dict(db.execute("SELECT name, value FROM meta"))
            inode, record = os.stat(path).st_ino, directory.registry.file(site, index)
            if not meta:
                _start(directory, db, site, name, index)
                life = 0
            else:
                found = (meta["cluster"], meta["site"], meta["shard"])
                if found != (members.cluster, site, name):
                    raise StoreError(
                        f"{path} belongs to site {found[1]!r}, shard {found[2]!r} of cluster {found[0]}: move it back"
                    )
                life = meta["life"]
                why = _forgotten(directory, db, site, index, inode, life, record)
                if why is not None:
                    _log.warning("%s: new origin, because %s", path, why)
                    _new_origin(directory, db, site, index)
            db.execute("UPDATE meta SET value = ? WHERE name = 'life'", (life + 1,))
            directory.registry.set_file(site, index, FileRecord(inode, life + 1, relaxed=False))
    finally:
        db.close()


def _start(directory: Directory, db: sqlite3.Connection, site: str, name: str, index: int) -> None:
    origin = directory.registry.new_origin(site, index)
    members = directory.members()
    db.execute("BEGIN IMMEDIATE")
    meta = {"cluster": members.cluster, "site": site, "shard": name, "life": 0}
    db.executemany("REPLACE INTO meta VALUES (?, ?)", meta.items())
    begin_rebuilding(db)
    _learn(db, members, index)
    db.execute("UPDATE watermark SET mine = (origin = ?)", (origin,))
    db.execute("COMMIT")


def _new_origin(directory: Directory, db: sqlite3.Connection, site: str, index: int) -> None:
    for origin, end in db.execute('SELECT origin, "end" FROM watermark WHERE origin >= 0').fetchall():
        directory.registry.add_lost_origin(index, origin, end)
    origin = directory.registry.new_origin(site, index)
    db.execute("BEGIN IMMEDIATE")
    _learn(db, directory.members(), index)
    db.execute("UPDATE watermark SET mine = (origin = ?)", (origin,))
    db.execute("COMMIT")


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
    mine = db.execute("SELECT origin, applied FROM watermark WHERE mine").fetchall()
    if record is None or not mine or [directory.members().own(site, index)] != [row[0] for row in mine]:
        return "the registry knows it otherwise: one of them was restored"
    if record.inode != inode:
        return "it is another file than before: it was restored or copied"
    if not record.life <= life <= record.life + 1:
        return "it is of an earlier life: it was restored"
    if record.relaxed:
        return "it was written with relaxed durability and not closed: acknowledged writes may be missing"
    for peer in directory.peers(site):
        held = {row[0]: row[1] for row in directory.file(peer, index).rows()}
        if held.get(mine[0][0], 0) > mine[0][1]:
            return f"{peer} holds more of its writes than itself"
    return None


def _learn(db: sqlite3.Connection, members: Members, index: int) -> None:
    """Copy origins and ends from the registry. Inside a write transaction."""
    for (shard, origin), it in members.origins.items():
        if shard == index:
            db.execute("INSERT OR IGNORE INTO watermark VALUES (?, 0, NULL, 0, 0, x'')", (origin,))
            db.execute('UPDATE watermark SET "end" = ? WHERE origin = ? AND "end" IS NULL', (it.end, origin))


# --- what members are told ---------------------------------------------------------------------------------------


def announce(directory: Directory, here: str) -> None:
    """Tell a site and all that it can reach of every origin and every end."""
    members = directory.members()
    if directory.is_up(here, CUT):
        return
    for site in {here, *directory.peers(here)}:
        for index in members.shards.values():
            file = directory.file(site, index)
            ends = {row[0]: row[2] for row in file.rows()}
            if any(
                i == index and (o not in ends or (ends[o] is None and it.end is not None))
                for (i, o), it in members.origins.items()
            ):
                with file.writing() as db:
                    _learn(db, members, index)


def decide_ends(directory: Directory, here: str) -> None:
    """End every origin that nobody numbers any more, if all live members can be asked; else leave it in doubt."""
    open_ended = [key for key, it in directory.members().origins.items() if not it.live and it.end is None]
    if not open_ended:
        return
    with directory.locks.admin():
        holders = [here, *directory.peers(here)]
        if not {*directory.members().in_state(LIVE)} <= {*holders}:
            return
        replicate(directory, here)  # what others hold of it is held here, too, before it ends
        for index, origin in open_ended:
            held = [row[1] for name in holders for row in directory.file(name, index).rows() if row[0] == origin]
            directory.registry.set_end(index, origin, max(held, default=0))
        announce(directory, here)


# --- leaving -----------------------------------------------------------------------------------------------------


def leave(directory: Directory, site: str) -> None:
    """Take a site out: others get what they can of its writes, then its origins end. Raises: ConfigError for the last site."""
    with directory.locks.admin():
        stay = [name for name in directory.members().in_state(LIVE) if name != site]
        if directory.members().sites.get(site) not in {LIVE, JOINING} or not stay:
            raise ConfigError(f"{site} cannot leave {directory.path}: it is not there, or there is no other site")
        reachable = not directory.is_up(site, CUT)
        if reachable:
            for file in directory.files(site):
                with file.writing() as db:
                    db.execute("UPDATE watermark SET mine = 0")
            for name in directory.peers(site):
                replicate(directory, name)
        directory.registry.set_state(site, LEFT)
        here = next((name for name in stay if not directory.is_up(name, CUT)), stay[0])
        decide_ends(directory, here)


def fence(directory: Directory, site: str) -> None:
    """Let a site that has left, and hears of it only now, take no more writes and learn where its origins ended."""
    members = directory.members()
    if members.sites.get(site) == LEFT and not directory.is_up(site, CUT):
        for file in directory.files(site):
            if any(row[3] for row in file.rows()):
                with file.writing() as db:
                    db.execute("UPDATE watermark SET mine = 0")
        announce(directory, site)


def mark_closed(directory: Directory) -> None:
    """Record that sites were closed properly, where this process is the last to have them open: they have forgotten nothing."""
    with directory.locks.admin():
        for site in directory.locks.attached:
            if directory.members().sites.get(site) == LIVE and directory.locks.alone_with(site):
                for index in directory.members().shards.values():
                    record = directory.registry.file(site, index)
                    if record is not None and record.relaxed and directory.file(site, index).flush():
                        directory.registry.set_file(site, index, attrs.evolve(record, relaxed=False))


def _hand_over(directory: Directory, site: str) -> None:
    """Let members have what a returning site still holds of origins whose end is in doubt; then it may be decided."""
    members = directory.members()
    if members.sites.get(site) == LEFT and directory.usable(site):
        announce(directory, site)
        for name in directory.peers(site):
            replicate(directory, name, leaver=site)
            decide_ends(directory, name)
        announce(directory, site)


def _wipe(directory: Directory, site: str) -> None:
    """Empty the files of a site that had left, for its return. What only they hold is kept in a file of its own."""
    for name in directory.members().shards:
        path = directory.file_path(site, name)
        if not path.exists():
            continue
        db = open_shard(path)
        try:
            with errors_of(path):
                if db.execute('SELECT 1 FROM watermark WHERE applied > "end"').fetchone():
                    aside = next(p for n in range(10_000) if not (p := path.with_suffix(f".lost-{n}")).exists())
                    db.execute("VACUUM INTO ?", (str(aside),))
                    _log.warning("%s: writes that were lost when %s left are kept in %s", path, site, aside)
                db.execute("BEGIN IMMEDIATE")
                for table in ("data", "log", "watermark", "meta"):
                    db.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
                db.execute("COMMIT")
        finally:
            db.close()
