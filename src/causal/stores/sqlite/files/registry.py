"""The registry of a directory: its sites, its shards, and every origin that ever was.

Owns `cluster.sqlite`: who is a member, which number a shard has, who numbers or numbered which origin and where it ended.
Numbers are given out once. Knows nothing of what the members' files hold.

Assumption: the registry is as old as the newest thing it has given out.
HAZARD: a registry restored from a copy would give out an origin number twice. It records its own inode, and when the file
that the directory is locked with came into being, so that a copy is noticed; from then on origins start at a new random
number, as they do in a new directory, because a token of a directory that was removed may come back. Copied over the old
file in place, alone, it is not noticed: restore a directory as a whole.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.errors import ConfigError, StoreError
from causal.stores.sqlite.files.schema import errors_of, open_registry, translated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LIVE: Final = "live"
JOINING: Final = "joining"
LEFT: Final = "left"

REMADE: Final = 0
"""The inode that is recorded of a file which is about to be made anew."""
_A_COPY: Final = -1
"""The inode that is recorded of the files in a copy of a directory, until they are opened."""

_RESTORE: Final = "restore it together with the files of its sites, or remove them all to begin anew"
_ORPHANS: Final = tuple(
    f"SELECT 1 FROM {table} WHERE shard NOT IN (SELECT number FROM shard) "  # noqa: S608 - constants
    "OR (site <> '' AND site NOT IN (SELECT name FROM site))"
    for table in ("origin", "file")
)
"""What no registry holds by itself: origins and files of a site or a shard that it does not know."""


@attrs.frozen
class Origin:
    """One unbroken history of one shard: who numbers it, whether still, and where it ended. Thread-safety: immutable."""

    site: str
    live: bool
    end: int | None


@attrs.frozen
class FileRecord:
    """What the registry remembers of a file, so that a copy of it is noticed. Thread-safety: immutable."""

    inode: int
    life: int
    relaxed: bool


@attrs.frozen
class Members:
    """The registry at one moment. `origins` is by (shard index, origin); `made` are the files that are whole, by (site, shard index).

    Thread-safety: immutable.
    """

    cluster: str
    store: int | None
    sites: Mapping[str, str]
    shards: Mapping[str, int]
    origins: Mapping[tuple[int, int], Origin]
    made: frozenset[tuple[str, int]]

    def in_state(self, *states: str) -> tuple[str, ...]:
        """Return the sites in one of these states, by name."""
        return tuple(sorted(name for name, state in self.sites.items() if state in states))

    def own(self, site: str, index: int) -> int | None:
        """Return the origin that a site numbers now, of one shard."""
        return next((o for (i, o), it in self.origins.items() if i == index and it.site == site and it.live), None)


def members_in(db: sqlite3.Connection) -> Members:
    """Return what a registry says. Inside a transaction. Raises: KeyError where it does not say which directory it is of."""
    meta = dict(db.execute("SELECT name, value FROM meta"))
    return Members(
        meta["cluster"],
        meta.get("store"),
        dict(db.execute("SELECT name, state FROM site")),
        dict(db.execute("SELECT name, number FROM shard ORDER BY number")),
        {
            (shard, origin): Origin(site, bool(live), end)
            for shard, origin, site, live, end in db.execute('SELECT shard, origin, site, live, "end" FROM origin')
        },
        frozenset(db.execute("SELECT site, shard FROM file")),
    )


class Registry:
    """The connection to `cluster.sqlite`. Mutations want the directory's `admin` lock.

    Raises: StoreError. Thread-safety: safe.
    """

    def __init__(self, path: Path, first_origin: int | None = None, *, born: int, used: bool = False) -> None:
        """Open, or make, the registry; `used`: there are files of sites, so an empty one is not the beginning of a new directory.

        `born` is when the directory came into being where it is: no copy of it has the same.
        """
        self._path = path
        self._lock = threading.RLock()
        self._db = open_registry(path, empty=_RESTORE if used else None)
        self._members: Members | None = None
        self._seen_version = self._inode = -1
        try:
            with errors_of(path):
                self._check(used=used)
                self._identify(first_origin, born)
        except BaseException:
            self._db.close()
            raise

    def _check(self, *, used: bool) -> None:
        """Refuse a registry that lacks rows which others rely on: what is missing would be given out again, or made anew."""
        meta = {name for (name,) in self._db.execute("SELECT name FROM meta")}
        if used and "cluster" not in meta:
            raise StoreError(f"{self._path} is empty: {_RESTORE}")
        if ("cluster" in meta and not meta >= {"inode", "base"}) or any(
            self._db.execute(query).fetchone() for query in _ORPHANS
        ):
            raise StoreError(f"{self._path} is damaged, it lacks rows: {_RESTORE}")

    def _identify(self, first_origin: int | None, born: int) -> None:
        """Note what tells this registry from a copy of it; if it is one, the files of its sites are copies, too.

        Inodes alone do not tell: a file system gives those of removed files to the ones that are put in their place.
        """
        inode = self._inode = os.stat(self._path).st_ino
        base = secrets.randbelow(2**31) + 1 if first_origin is None else first_origin
        self._db.execute("BEGIN IMMEDIATE")
        try:
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
            if "cluster" not in meta:
                self._put_meta(cluster=secrets.token_hex(8), inode=inode, base=base, born=born)
            elif meta["inode"] != inode or meta.get("born") != born:
                self._put_meta(inode=inode, base=secrets.randbelow(2**31) + 1, born=born)
                self._db.execute("UPDATE file SET inode = ? WHERE inode <> ?", (_A_COPY, REMADE))
        finally:
            self._db.execute("COMMIT")

    def _put_meta(self, **values: Any) -> None:
        self._db.executemany("REPLACE INTO meta VALUES (?, ?)", values.items())

    def members(self) -> Members:
        """Return the registry as it is now. Cheap when nothing changed. Raises: StoreError, also if it was replaced since it was opened."""
        with self._lock:
            try:
                inode = os.stat(self._path).st_ino
            except OSError as error:
                raise StoreError(
                    f"{self._path} is gone: close every process that has it open, and open it again ({error.strerror})"
                ) from error
            if inode != self._inode:
                raise StoreError(
                    f"{self._path} was replaced while it was open: close every process that has it open, and open it again"
                )
            try:
                ((version,),) = self._db.execute("PRAGMA data_version")
                if self._members is None or version != self._seen_version:
                    self._members, self._seen_version = self._read(), version
            except sqlite3.Error as error:
                raise translated(error, self._path) from error
            return self._members

    def _read(self) -> Members:
        self._db.execute("BEGIN")
        try:
            return members_in(self._db)
        finally:
            self._db.execute("COMMIT")

    def _write(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        with self._lock, errors_of(self._path):
            self._members = None
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in statements:
                    self._db.execute(statement, values)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def bind_store(self, store: int) -> None:
        """Record the store's number at its first use. Raises: ConfigError if it has another."""
        known = self.members().store
        if known is None:
            self._write(("REPLACE INTO meta VALUES ('store', ?)", (store,)))
        elif known != store:
            raise ConfigError(f"{self._path.parent} was made as store {known}, and is opened as store {store}")

    def add_shard(self, name: str) -> int:
        """Number a shard. Numbers are never reused, so names added later shift nothing. Raises: ConfigError."""
        index = len(self.members().shards)
        if index > 0xFFFF:
            raise ConfigError("a store has at most 65,536 shards")
        self._write(("INSERT INTO shard VALUES (?, ?)", (name, index)))
        return index

    def set_state(self, site: str, state: str) -> None:
        """Make a site joining, live or left; its origins are live no more when it has left."""
        retire = ("UPDATE origin SET live = 0 WHERE site = ?", (site,))
        forget = ("DELETE FROM file WHERE site = ?", (site,))
        self._write(("REPLACE INTO site VALUES (?, ?)", (site, state)), *((retire, forget) if state == LEFT else ()))

    def new_origin(self, site: str, index: int) -> int:
        """Number a new origin for a site, in place of the one it had, and return it."""
        with self._lock, errors_of(self._path):
            base = self._db.execute("SELECT value FROM meta WHERE name = 'base'").fetchone()[0]
            last = self._db.execute(
                "SELECT max(origin) FROM origin WHERE shard = ? AND origin BETWEEN ? AND ?", (index, base, base + 2**20)
            ).fetchone()[0]
        origin = base if last is None else last + 1
        self._write(
            ("UPDATE origin SET live = 0 WHERE site = ? AND shard = ?", (site, index)),
            ("INSERT INTO origin VALUES (?, ?, ?, 1, NULL)", (index, origin, site)),
        )
        return int(origin)

    def add_lost_origin(self, index: int, origin: int, end: int | None) -> None:
        """Record an origin that a file knows and the registry perhaps does not: it was restored. Nobody numbers it any more."""
        self._write(("INSERT OR IGNORE INTO origin VALUES (?, ?, '', 0, ?)", (index, origin, end)))

    def freed(self, index: int) -> int:
        """Return the stamp up to which tombstones of a shard may have been removed: no new origin writes below it."""
        with self._lock, errors_of(self._path):
            row = self._db.execute("SELECT value FROM meta WHERE name = ?", (f"freed {index}",)).fetchone()
        return 0 if row is None else int(row[0])

    def set_freed(self, index: int, stamp: int) -> None:
        """Record, before it is done, up to which stamp tombstones are removed. It never goes back."""
        self._write(
            (
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                (f"freed {index}", stamp),
            )
        )

    def set_end(self, index: int, origin: int, end: int) -> None:
        """Record where an origin's surviving history stops. It may turn out to stop earlier, never later."""
        self._write(
            (
                'UPDATE origin SET "end" = ? WHERE shard = ? AND origin = ? AND ("end" IS NULL OR "end" > ?)',
                (end, index, origin, end),
            )
        )

    def file(self, site: str, index: int) -> FileRecord | None:
        """Return what is remembered of a site's file of a shard."""
        with self._lock, errors_of(self._path):
            row = self._db.execute(
                "SELECT inode, life, relaxed FROM file WHERE site = ? AND shard = ?", (site, index)
            ).fetchone()
        return None if row is None else FileRecord(row[0], row[1], bool(row[2]))

    def set_file(self, site: str, index: int, record: FileRecord) -> None:
        """Remember a site's file of a shard."""
        self._write(
            ("REPLACE INTO file VALUES (?, ?, ?, ?, ?)", (site, index, record.inode, record.life, record.relaxed))
        )

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self._lock:
            self._db.close()
