"""The files on disk: their tables, how they are opened, and what SQLite's errors mean for the user.

Owns every table and pragma. Knows nothing of sites, replication or handles.

HAZARD: SQLite's locks are the process's. Opening a database file here by other means than SQLite, then closing it, drops
them; so files are looked at with `os.stat` only, and never opened.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from causal.errors import StoreError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Durability = Literal["full", "relaxed"]

SCHEMA: Final = 1
BUSY_S = 5.0
"""How long a write block waits for the one before it, in this process or in another, and any statement for a lock."""

_REGISTRY_ID: Final = 0x63617372  # "casr" and "casd", in the header of each file
_SHARD_ID: Final = 0x63617364

_REGISTRY: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE site (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shard (name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE) WITHOUT ROWID;
CREATE TABLE origin (
    shard INTEGER NOT NULL, origin INTEGER NOT NULL, site TEXT NOT NULL, live INTEGER NOT NULL, "end" INTEGER,
    PRIMARY KEY (shard, origin)
) WITHOUT ROWID;
CREATE TABLE file (
    site TEXT NOT NULL, shard INTEGER NOT NULL, inode INTEGER NOT NULL, life INTEGER NOT NULL, relaxed INTEGER NOT NULL,
    PRIMARY KEY (site, shard)
) WITHOUT ROWID;
"""

# A row of `watermark` with mine = 1 is the origin that this file numbers. The row of origin -1 stands in a file that is
# being rebuilt from another's: while it is there, nobody may be served. `deps` are those of the newest entry applied,
# which holds those of all before it in its log. `moment` counts the changes of `watermark`, so that a read, which needs to
# know it, fetches one number instead of the table; by trigger, so that no statement can forget to. `data.seen` is laid
# out in `version.py`.
_SHARD: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE data (
    key TEXT PRIMARY KEY, value BLOB, stamp INTEGER NOT NULL, seen BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstone ON data (stamp) WHERE value IS NULL;
CREATE TABLE log (
    origin INTEGER NOT NULL, offset INTEGER NOT NULL, stamp INTEGER NOT NULL, committed_ns INTEGER NOT NULL,
    deps BLOB NOT NULL, changes BLOB NOT NULL, PRIMARY KEY (origin, offset)
) WITHOUT ROWID;
CREATE TABLE watermark (
    origin INTEGER PRIMARY KEY, applied INTEGER NOT NULL, "end" INTEGER, mine INTEGER NOT NULL, stamp INTEGER NOT NULL,
    deps BLOB NOT NULL
);
CREATE TABLE moment (number INTEGER NOT NULL);
INSERT INTO moment VALUES (0);
CREATE TRIGGER inserted AFTER INSERT ON watermark BEGIN UPDATE moment SET number = number + 1; END;
CREATE TRIGGER updated AFTER UPDATE ON watermark BEGIN UPDATE moment SET number = number + 1; END;
CREATE TRIGGER deleted AFTER DELETE ON watermark BEGIN UPDATE moment SET number = number + 1; END;
"""

COPY: Final = "restore it, or remove it and its -wal and let its site copy it from another"
"""What to do about a site's file that holds nothing."""

_ADVICE: Final = {
    sqlite3.SQLITE_CORRUPT: "is damaged: restore it, or remove it and its -wal and let its site copy it from another",
    sqlite3.SQLITE_NOTADB: "is not a database: restore it, or remove it and let its site copy it from another",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full: nothing of this was written; free some space",
    sqlite3.SQLITE_READONLY: "cannot be written: the file, its directory or its disk is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check that its directory exists and can be written",
    sqlite3.SQLITE_PERM: "cannot be opened: permission denied",
    sqlite3.SQLITE_AUTH: "cannot be opened: permission denied",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
}


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 for an error of the Python module itself."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def held(path: Path) -> Unreachable:
    """Return the error of a write block that has waited for another one as long as it may."""
    return Unreachable(f"{path} is locked: another write block has held it for more than {BUSY_S:g} s", final=True)


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """Return what an error of SQLite means, naming the file and what to do about it."""
    code = primary_code(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Unreachable(f"{path} is locked by another process for more than {BUSY_S:g} s")
    return StoreError(f"{path} {_ADVICE.get(code, 'failed')} ({error})")


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Raise StoreError for every error of SQLite inside the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error


def connect(path: Path, durability: Durability = "full", *, read_only: bool = False) -> sqlite3.Connection:
    """Open a file that exists, with transactions under our control. Raises: sqlite3.Error.

    Thread-safety: one thread at a time, not always the same one.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_registry(path: Path, *, empty: str | None = None) -> sqlite3.Connection:
    """Open, or make, the registry; `empty` says why one without tables is refused instead. Raises: StoreError."""
    return _open(path, _REGISTRY, _REGISTRY_ID, empty)


def open_shard(path: Path, *, empty: str | None = None) -> sqlite3.Connection:
    """Open, or make, one site's file of one shard, and check what it says it is; `empty` as above. Raises: StoreError."""
    return _open(path, _SHARD, _SHARD_ID, empty)


def open_made_shard(path: Path) -> sqlite3.Connection:
    """Open a site's file of one shard that somebody has made before. Raises: StoreError, FileNotFoundError."""
    return _open(path, "", _SHARD_ID, COPY, make=False)


def check_registry(connection: sqlite3.Connection, path: Path) -> None:
    """See that a file is a registry that this version knows. Raises: StoreError, sqlite3.Error."""
    _check(connection, path, "", _REGISTRY_ID, "restore it")


def check_shard(connection: sqlite3.Connection, path: Path) -> None:
    """See that a file is one site's of one shard that this version knows. Raises: StoreError, sqlite3.Error."""
    _check(connection, path, "", _SHARD_ID, COPY)


def check_belongs(meta: Mapping[str, object], path: Path, cluster: str, site: str, shard: str) -> None:
    """Refuse a file that says it is of another directory, site or shard. Raises: StoreError."""
    found = (meta.get("cluster"), meta.get("site"), meta.get("shard"))
    if found != (cluster, site, shard):
        raise StoreError(f"{path} belongs to site {found[1]!r}, shard {found[2]!r} of cluster {found[0]}: move it back")


def _open(path: Path, script: str, application: int, empty: str | None, *, make: bool = True) -> sqlite3.Connection:
    with errors_of(path):
        if make and not path.exists():
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        else:
            if empty is not None and path.stat().st_size == 0:  # SQLite would remove the -wal of such a file
                raise StoreError(f"{path} is empty: {empty}")
            connection = connect(path)
        try:
            _check(connection, path, script, application, empty)
        except BaseException:
            connection.close()
            raise
        return connection


def _check(connection: sqlite3.Connection, path: Path, script: str, application: int, empty: str | None) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    if version == 0 and found == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        if empty is not None:
            raise StoreError(f"{path} is empty: {empty}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA application_id = {application}; PRAGMA user_version = {SCHEMA}; COMMIT"
        )
        return
    if found != application:
        raise StoreError(f"{path} is a database of something else: it is left as it is; choose another directory")
    if version > SCHEMA:
        raise StoreError(
            f"{path} has schema {version}, written by a newer version; this one knows {SCHEMA}. Upgrade it here."
        )
