"""The file of a full-text index: its tables, its generations, and the one transaction that holds documents and checkpoint.

Owns every table. A *generation* is one set of tables, with its own checkpoint; one of them is current. A new one is built beside it and
becomes current in one transaction; who reads keeps the snapshot that he has. Knows nothing of sources, or of when to feed.

HAZARD: a file that is restored from an older copy is another life, told by its inode. Copying it over the old one in place keeps the
inode: then it would pass for what it was before; move the copy there instead.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sqlite3
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from causal.core.frontier import Frontier
from causal.core.wire import decode_frontier, encode_frontier
from causal.derived.contract import Checkpoint, Place
from causal.derived.fts.documents import Layout, create, drop, put
from causal.derived.fts.reader import IndexSnapshot
from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.sqlite.files.schema import BUSY_S, connect, errors_of, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from causal.derived.contract import Places, Row

__all__ = ["Generation", "IndexFile", "Layout"]

_INDEX_ID: Final = 0x63617369  # "casi", in the header of the file
_SCHEMA: Final = 1
_IDLE: Final = 8

# `current` has no row until a generation has been published: until then nothing is served. `moment` counts what was taken in, so that a
# read fetches one row to learn whether it knows the checkpoint already. `note` is what a feed has to remember of a generation.
_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE generation (
    number INTEGER PRIMARY KEY AUTOINCREMENT, layout TEXT NOT NULL, deps BLOB NOT NULL, note TEXT NOT NULL
);
CREATE TABLE current (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, moment INTEGER NOT NULL);
CREATE TABLE checkpoint (
    generation INTEGER NOT NULL, shard INTEGER NOT NULL, origin INTEGER NOT NULL,
    applied INTEGER NOT NULL, "end" INTEGER, shown INTEGER NOT NULL, PRIMARY KEY (generation, shard, origin)
) WITHOUT ROWID;
"""
_PLACES: Final = 'SELECT shard, origin, applied, "end", shown FROM checkpoint WHERE generation = ?'


@attrs.frozen
class Generation:
    """One set of tables as a feed sees it: its number, its checkpoint, and what the feed has noted. Thread-safety: immutable."""

    number: int
    places: Places
    deps: Frontier
    note: dict[str, str]


class IndexFile:
    """A full-text index as this process has it open. `names` are the shards it derives from, by index.

    Raises: ConfigError for a file of something else or of another layout, Unreachable until there is a checkpoint, StoreError.
    Thread-safety: safe.
    """

    def __init__(self, path: Path, layout: Layout, names: Mapping[int, str]) -> None:
        self.path, self.layout, self.names = path, layout, names
        self._idle: deque[sqlite3.Cursor] = deque()
        self._room = _IDLE
        self._known: tuple[object, Checkpoint | None] = (None, None)
        self._writing = threading.Lock()
        with errors_of(path):
            self.inode = 0
            db = _made(path)
            try:
                self.inode = os.stat(path).st_ino
                self.identity = str(db.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()[0])
            finally:
                db.close()

    def close(self) -> None:
        """Close every idle connection, and those in use when they are given back. Idempotent."""
        self._room = 0
        while self._idle:
            self._idle.pop().connection.close()

    # --- connections ---------------------------------------------------------------------------------------------

    def _borrow(self) -> sqlite3.Cursor:
        try:
            return self._idle.pop()
        except IndexError:
            self._check()
            return connect(self.path).cursor()

    def give_back(self, cursor: sqlite3.Cursor, *, broken: bool = False) -> None:
        """Return a borrowed cursor; what it has not committed is undone."""
        try:
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
        except sqlite3.Error:
            broken = True
        if broken or len(self._idle) >= self._room:
            cursor.connection.close()
        else:
            self._idle.append(cursor)

    def _check(self) -> None:
        """See that this is still the file that its path names. Raises: StoreError."""
        try:
            inode = os.stat(self.path).st_ino
        except OSError as error:
            raise StoreError(f"{self.path} is gone: open it again, and it is built anew ({error.strerror})") from error
        if inode != self.inode:
            raise StoreError(f"{self.path} was replaced while it was open: close its store, and open it again")

    @contextmanager
    def _errors(self, cursor: sqlite3.Cursor) -> Iterator[None]:
        """Give a cursor back broken if its block fails."""
        try:
            yield
        except BaseException as error:
            self.give_back(cursor, broken=True)
            if isinstance(error, sqlite3.Error):
                raise translated(error, self.path) from error
            raise

    # --- reading -------------------------------------------------------------------------------------------------

    def snapshot(self, *, writing: bool = False) -> IndexSnapshot:
        """Open one snapshot. `writing` takes the file's write lock with it, so that changes can be tried out in it, and undone."""
        with errors_of(self.path):
            cursor = self._borrow()
        with self._errors(cursor):
            cursor.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
            number, checkpoint = self._checkpoint(cursor)
            return IndexSnapshot(self, cursor, number, checkpoint)

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint now."""
        self._check()
        snapshot = self.snapshot()
        snapshot.close()
        return snapshot.checkpoint

    def _checkpoint(self, cursor: sqlite3.Cursor) -> tuple[int, Checkpoint]:
        row = cursor.execute("SELECT number, moment FROM current").fetchone()
        if row is None:
            raise Unreachable(f"{self.path} has no checkpoint yet: nothing was fed to it")
        known, checkpoint = self._known
        if checkpoint is None or row != known:
            generation = _generation(cursor, row[0], self.layout, self.path)
            life = (self.identity, self.inode, generation.number)
            checkpoint = Checkpoint(life, generation.places, generation.deps)
            self._known = row, checkpoint  # one value: row and checkpoint of two threads must never be mixed
        return row[0], checkpoint

    # --- feeding -------------------------------------------------------------------------------------------------

    @contextmanager
    def fed_by_me(self, what: str = "feeder", *, wait: bool = True) -> Iterator[bool]:
        """Hold, of all processes, the right to feed; or say that another has it. For thrift: what is right does not hang on it."""
        fd = os.open(f"{self.path}-{what}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        _held.add(fd)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            if fd in _held:  # not in a child that was forked inside
                _held.discard(fd)
                os.close(fd)

    def generation(self, number: int | None = None) -> Generation | None:
        """Return the current generation, or one that is being built; None where there is none."""
        with errors_of(self.path):
            cursor = self._borrow()
        with self._errors(cursor):
            cursor.execute("BEGIN")
            if number is None:
                row = cursor.execute("SELECT number FROM current").fetchone()
                number = None if row is None else row[0]
            found = None if number is None else _generation(cursor, number, self.layout, self.path)
            self.give_back(cursor)
        return found

    def apply(
        self,
        generation: Generation,
        rows: Iterable[Row],
        places: Places,
        deps: Frontier,
        note: Mapping[str, str] | None = None,
    ) -> bool:
        """Take in rows and what they are up to, in one transaction; False, and nothing is done, if the checkpoint is another one now."""
        with self._transaction() as cursor:
            now = _generation(cursor, generation.number, self.layout, self.path)
            if now.places != generation.places or now.note != generation.note:
                return False
            for shard, key, document in rows:
                put(cursor, generation.number, self.layout, shard, key, document)
            _keep(cursor, generation.number, places, deps, generation.note if note is None else note)
            cursor.execute("UPDATE current SET moment = moment + 1 WHERE number = ?", (generation.number,))
        return True

    def keys(self, number: int, shard: int) -> list[str]:
        """Return the keys of a shard that have a document in a generation."""
        with errors_of(self.path):
            cursor = self._borrow()
        with self._errors(cursor):
            found = [key for (key,) in cursor.execute(f"SELECT key FROM document_{number} WHERE shard = ?", (shard,))]
            self.give_back(cursor)
        return found

    # --- generations ---------------------------------------------------------------------------------------------

    def begin(self) -> Generation:
        """Begin a generation beside the current one."""
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO generation (layout, deps, note) VALUES (?, x'', '{}')", (self.layout.spelled(),)
            )
            number = cursor.lastrowid
            assert number is not None
            create(cursor, number, self.layout)
        return Generation(number, {}, Frontier(), {})

    def fill(self, generation: Generation, rows: Iterable[Row]) -> None:
        """Put rows into a generation that nobody reads yet."""
        with self._transaction() as cursor:
            for shard, key, document in rows:
                put(cursor, generation.number, self.layout, shard, key, document)

    def publish(self, number: int) -> bool:
        """Make a generation the current one; return False, and do nothing, while it lacks something that the current one has."""
        with self._transaction() as cursor:
            row = cursor.execute("SELECT number, moment FROM current").fetchone()
            if row is not None:
                old, new = _places(cursor, row[0]), _places(cursor, number)
                if not _covers(new, old):
                    return False
            moment = 0 if row is None else row[1] + 1
            cursor.execute("REPLACE INTO current (one, number, moment) VALUES (1, ?, ?)", (number, moment))
        return True

    def sweep(self) -> list[dict[str, str]]:
        """Remove what is not current, or was never finished; return what was noted of it. Readers keep their snapshots."""
        with self._transaction() as cursor:
            current = cursor.execute("SELECT number FROM current").fetchone()
            left = cursor.execute("SELECT number, note FROM generation").fetchall()
            left = [(number, note) for number, note in left if (number,) != current]
            for number, _ in left:
                drop(cursor, number)
                cursor.execute("DELETE FROM generation WHERE number = ?", (number,))
                cursor.execute("DELETE FROM checkpoint WHERE generation = ?", (number,))
        return [json.loads(note) for _, note in left]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        """Hold one durable write transaction, committed at the end of the block."""
        with errors_of(self.path), self._writing:
            self._check()
            cursor = self._borrow()
            with self._errors(cursor):
                cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                cursor.execute("COMMIT")
            self.give_back(cursor)


def _made(path: Path) -> sqlite3.Connection:
    """Open the file, or make it. Raises: ConfigError for something else, sqlite3.Error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        found, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if found == 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:  # nobody else was faster
                for statement in _TABLES.split(";")[:-1]:
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('identity', ?)", (secrets.token_hex(16),))
                db.execute(f"PRAGMA application_id = {_INDEX_ID}")
                db.execute(f"PRAGMA user_version = {_SCHEMA}")
            db.execute("COMMIT")
        elif found != _INDEX_ID:
            raise ConfigError(f"{path} is a database of something else: choose another path")
        elif version > _SCHEMA:
            raise ConfigError(f"{path} was written by a newer version, with schema {version}: upgrade it here")
    except BaseException:
        db.close()
        raise
    return db


def _generation(cursor: sqlite3.Cursor, number: int, layout: Layout, path: Path) -> Generation:
    row = cursor.execute("SELECT layout, deps, note FROM generation WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise StoreError(f"{path}: a generation that was being built is gone: another process builds one")
    if row[0] != layout.spelled():
        raise Unreachable(f"{path} was built for {row[0]}, and not for {layout.spelled()}: rebuild it")
    deps = decode_frontier(row[1]) if row[1] else Frontier()
    return Generation(number, _places(cursor, number), deps, json.loads(row[2]))


def _places(cursor: sqlite3.Cursor, number: int) -> Places:
    places: Places = {}
    for shard, origin, applied, end, shown in cursor.execute(_PLACES, (number,)):
        places.setdefault(shard, {})[origin] = Place(applied, end, shown)
    return places


def _keep(cursor: sqlite3.Cursor, number: int, places: Places, deps: Frontier, note: Mapping[str, str]) -> None:
    cursor.execute("DELETE FROM checkpoint WHERE generation = ?", (number,))
    cursor.executemany(
        "INSERT INTO checkpoint VALUES (?, ?, ?, ?, ?, ?)",
        [(number, s, o, p.applied, p.end, p.shown) for s, some in places.items() for o, p in some.items()],
    )
    packed = encode_frontier(deps) if deps else b""
    cursor.execute(
        "UPDATE generation SET deps = ?, note = ? WHERE number = ?", (packed, json.dumps(note, sort_keys=True), number)
    )


def _covers(new: Places, old: Places) -> bool:
    """Return whether nothing that the old one had, and that survives, is missing in the new one."""
    for shard, origins in old.items():
        for origin, place in origins.items():
            here = new.get(shard, {}).get(origin)
            if here is None:
                continue  # another history altogether: the old one's is UNKNOWN from now on
            if here.applied < (place.applied if here.end is None else min(place.applied, here.end)):
                return False
    return True


_held: Final[set[int]] = set()
"""What holds a right to feed, or is about to."""


def _after_fork() -> None:
    # A lock ends when the last copy of what holds it is closed: a child must not keep its parent from feeding.
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_after_fork)
