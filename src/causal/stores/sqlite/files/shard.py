"""One site's file of one shard, as this process has it open: its connections, its watermark, its write lock.

Owns the pools and the meaning of the `watermark` table. Knows nothing of other sites.

HAZARD: a file that is swapped for another while processes have it open would take writes that nobody finds again, and show what
was there before. Every write, every question how far the site is, and every new connection looks at the file's inode and refuses;
reads, which cannot afford to, look every 50 ms (`link.py`) and are served from the old file for as long.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from causal.core.watermark import Watermark
from causal.errors import StoreError, Unreachable
from causal.stores.sqlite.files import schema
from causal.stores.sqlite.files.schema import (
    Durability,
    check_belongs,
    connect,
    errors_of,
    held,
    open_made_shard,
    primary_code,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WATERMARK: Final = 'SELECT origin, applied, "end", mine, stamp FROM watermark'
_MOMENT: Final = "SELECT number FROM moment"
REBUILDING: Final = -1
"""The origin whose row stands in `watermark` while the file is being rebuilt from another's."""

_IDLE: Final = 16

Rows = list[tuple[int, int, int | None, int, int]]
"""The rows of `watermark`: origin, applied, end, mine, stamp."""


class ShardFile:
    """One site's file of one shard. `shard` is its id, `identity` what its incarnations are named after.

    Raises: StoreError for what SQLite reports, Unreachable for a lock that another process keeps.
    Thread-safety: safe; a borrowed connection belongs to one thread at a time.
    """

    __slots__ = (
        "_idle",
        "_known",
        "_room",
        "_writers",
        "_writing",
        "identity",
        "index",
        "inode",
        "path",
        "shard",
        "site",
    )

    def __init__(self, path: Path, site: str, index: int, shard: int, cluster: str, name: str) -> None:
        self.path, self.site, self.index, self.shard = path, site, index, shard
        self.identity = (cluster, site, index)
        with errors_of(path):
            try:
                self.inode = os.stat(path).st_ino
                first = self._first()
            except OSError as error:
                raise StoreError(f"{path} is gone: open its site again, and it is copied from another") from error
            try:
                check_belongs(dict(first.execute("SELECT name, value FROM meta")), path, cluster, site, name)
            except BaseException:
                first.close()
                raise
        self._idle: deque[sqlite3.Cursor] = deque([first.cursor()])
        self._writers: dict[Durability, deque[sqlite3.Connection]] = {"full": deque(), "relaxed": deque()}
        self._room = _IDLE
        self._writing = threading.Lock()
        self._known: tuple[int, Mapping[int, Watermark]] = (-1, {})

    def _first(self) -> sqlite3.Connection:
        return open_made_shard(self.path)

    def check(self) -> None:
        """See that this is still the file that its path names. Raises: StoreError."""
        try:
            inode = os.stat(self.path).st_ino
        except OSError as error:
            raise StoreError(
                f"{self.path} is gone: close every process that has it open, and open it again ({error.strerror})"
            ) from error
        if inode != self.inode:
            raise StoreError(
                f"{self.path} was replaced while it was open: close every process that has it open, and open it again"
            )

    def _connect(self, durability: Durability = "full") -> sqlite3.Connection:
        connection = connect(self.path, durability)
        try:
            connection.execute(
                _MOMENT
            ).fetchall()  # only now is the -wal opened, by its name: it must be this file's, too
            self.check()
        except BaseException:
            connection.close()
            raise
        return connection

    # --- reading -----------------------------------------------------------------------------------------------

    def borrow(self) -> sqlite3.Cursor:
        """Take a cursor on a connection of its own, outside any transaction."""
        try:
            return self._idle.pop()
        except IndexError:
            with errors_of(self.path):
                return self._connect().cursor()

    def give_back(self, cursor: sqlite3.Cursor) -> None:
        """Return a borrowed cursor, outside any transaction."""
        if len(self._idle) < self._room:
            self._idle.append(cursor)
        else:
            cursor.connection.close()

    def rows(self) -> Rows:
        """Return the watermark as it is stored now."""
        cursor = self.borrow()
        with errors_of(self.path):
            try:
                rows: Rows = cursor.execute(WATERMARK).fetchall()
                self.check()
            except BaseException:
                cursor.connection.close()
                raise
        self.give_back(cursor)
        return rows

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Hold one read transaction of the file, for replication."""
        cursor = self.borrow()
        with errors_of(self.path):
            try:
                cursor.execute("BEGIN")
                yield cursor.connection
                cursor.execute("ROLLBACK")
            except BaseException:
                cursor.connection.close()
                raise
        self.give_back(cursor)

    def watermarks(self, cursor: sqlite3.Cursor) -> Mapping[int, Watermark]:
        """Return what the snapshot of a read transaction promises, by shard id. Raises: Unreachable while the file is being rebuilt.

        Not for write transactions: what they have not committed may carry a number that another's commit gets.
        """
        ((number,),) = cursor.execute(_MOMENT).fetchall()
        known, marks = self._known  # one value: number and marks of two threads must never be mixed
        if number != known:
            marks = self.watermarks_of(cursor.execute(WATERMARK).fetchall())
            self._known = number, marks
        return marks

    def watermarks_of(self, rows: Rows) -> Mapping[int, Watermark]:
        """Return what these rows of one snapshot promise, by shard id. Raises: Unreachable while the file is being rebuilt."""
        origins: dict[int, tuple[int, int | None]] = {}
        mine: list[int] = []
        leads: list[int] = []
        for row in rows:
            origin, end = row[0], row[2]
            if origin == REBUILDING:
                raise Unreachable(f"{self.site} is being rebuilt from another site's copy")
            origins[origin] = row[1], end
            if row[3]:
                mine.append(origin)
                if end is None:
                    leads.append(origin)
        return {self.shard: Watermark(self.shard, origins, (*self.identity, *mine), frozenset(leads))}

    def now(self) -> Mapping[int, Watermark]:
        """Return what the file promises now, by shard id. Raises: Unreachable while the file is being rebuilt.

        The file is checked after that: what a file says that has been replaced since would prove others fresh which are not.
        """
        cursor = self.borrow()
        try:
            ((number,),) = cursor.execute(_MOMENT).fetchall()
            known, marks = self._known
            if number != known:
                cursor.execute("BEGIN")
                marks = self.watermarks(cursor)
                cursor.execute("COMMIT")
            self.check()
        except BaseException as error:
            cursor.connection.close()
            if isinstance(error, sqlite3.Error):
                raise translated(error, self.path) from error
            raise
        self.give_back(cursor)
        return marks

    # --- writing -----------------------------------------------------------------------------------------------

    def try_lock(self) -> bool:
        """Take this process's half of the write lock if it is free; `begin_locked` or `unlock` follows."""
        return self._writing.acquire(blocking=False)

    def unlock(self) -> None:
        """Undo `try_lock`."""
        self._writing.release()

    def begin_write(self, durability: Durability = "full") -> sqlite3.Connection:
        """Take the write lock, in this process and in the file, and begin a transaction. Undone by `end_write`."""
        if self._writing.acquire(blocking=False):
            return self.begin_locked(durability)
        until = time.monotonic() + schema.BUSY_S
        if not self._writing.acquire(timeout=schema.BUSY_S):
            raise held(self.path)
        return self.begin_locked(durability, until - time.monotonic())

    def begin_locked(self, durability: Durability = "full", left_s: float | None = None) -> sqlite3.Connection:
        """Do the rest of `begin_write` after `try_lock`, in what is left of the time if part is spent; if that fails, unlock."""
        connection = None
        try:
            self.check()
            try:
                connection = self._writers[durability].pop()
            except IndexError:
                connection = self._connect(durability)
            if left_s is not None:
                connection.execute(f"PRAGMA busy_timeout = {max(0, int(left_s * 1000))}")
            connection.execute("BEGIN IMMEDIATE")
            if left_s is not None:
                connection.execute(f"PRAGMA busy_timeout = {int(schema.BUSY_S * 1000)}")
        except BaseException as error:
            if connection is not None:
                connection.close()
            self._writing.release()
            if isinstance(error, sqlite3.Error):
                if primary_code(error) == sqlite3.SQLITE_BUSY:
                    raise held(self.path) from error
                raise translated(error, self.path) from error
            raise
        return connection

    def end_write(
        self, connection: sqlite3.Connection, durability: Durability = "full", *, broken: bool = False
    ) -> None:
        """Release the write lock, undoing what was not committed. Never raises. `broken`: it failed, and is not used again."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if broken or not self._room:
                connection.close()
            else:
                self._writers[durability].append(connection)
        except sqlite3.Error:
            connection.close()
        finally:
            self._writing.release()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold one durable write transaction, committed at the end of the block."""
        connection = self.begin_write()
        with errors_of(self.path):
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                self.end_write(connection)

    def flush(self) -> bool:
        """Make everything durable that was committed with relaxed durability; return whether that was possible now."""
        with errors_of(self.path):
            connection = self._connect()
            try:
                busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.close()
        return not busy

    def close(self) -> None:
        """Close every idle connection, and those in use when they are given back."""
        self._room = 0
        while self._idle:
            self._idle.pop().connection.close()
        for idle in self._writers.values():
            while idle:
                idle.pop().close()
