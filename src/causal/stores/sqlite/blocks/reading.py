"""A read: one SQLite snapshot that holds the data and the watermark, and what it showed.

Owns `Reader`, what a user reads through, and `ReadTransaction`, the handle around it. Because data and watermark are read in
one transaction, the watermark is that of the very state that is shown (I4, I7 exactly).

A tombstone is shown, too: that a key is gone is news, and depends on the delete.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cbor2 import loads

from causal.core.frontier import Frontier
from causal.engine import KeyVersion
from causal.errors import StoreError
from causal.kv import MAX_KEY_BYTES, check_key, check_prefix, decode_value
from causal.stores.sqlite.files.schema import translated
from causal.stores.sqlite.files.version import joined_seen, place_of, seen_frontier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from causal.core.watermark import Watermark
    from causal.stores.sqlite.files.shard import ShardFile

_GET: Final = "SELECT value, seen FROM data WHERE key = ?"
_TRACED: Final = _GET.replace("seen FROM", "seen, stamp FROM")
_SCAN: Final = "SELECT key, value, seen FROM data WHERE key >= ? ORDER BY key"
_CHUNK: Final = 256
_MANY: Final = 4096
_NOTHING: Final = Frontier()


def _ended(*_: object) -> NoReturn:
    raise StoreError("this block has ended: its connection cannot be used any more")


class Reader:
    """What a read block reads through: one shard of one site in one snapshot.

    Thread-safety: one thread at a time.
    """

    __slots__ = ("_before", "_cursor", "_execute", "_file", "_scans", "_shown", "_tell")

    _scans: list[sqlite3.Cursor] | None
    _before: Frontier | None
    _tell: Callable[[KeyVersion], object]
    """Of a traced one alone."""

    def __init__(self, cursor: sqlite3.Cursor, file: ShardFile) -> None:
        self._cursor = cursor
        self._execute: Any = cursor.execute
        self._file = file
        self._shown: set[bytes] = set()
        self._before = self._scans = None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default` where there is none. Raises: ConfigError, StoreError."""
        if type(key) is not str or not key.isascii() or not 0 < len(key) <= MAX_KEY_BYTES:
            check_key(key)  # not the common case
        try:
            row = self._execute(_GET, (key,)).fetchone()
        except sqlite3.Error as error:
            raise translated(error, self._file.path) from error
        if row is None:
            return default
        value, seen = row
        self._shown.add(seen)
        if value is None:
            return default
        try:
            return loads(value)
        except Exception:  # noqa: BLE001 - whatever it is, the careful way says it well
            return decode_value(value)

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Iterate over keys that start with `prefix`, with their values, in the order of the keys. Raises: ConfigError, StoreError."""
        return ((key, decode_value(value)) for key, value in self._stored(check_prefix(prefix)))

    def _stored(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Return the live keys and their encoded values; all rows that are passed count as shown."""
        self._check_open()
        cursor = self._cursor.connection.cursor()
        if self._scans is None:
            self._scans = []
        self._scans.append(cursor)
        return self._rows(cursor, prefix)

    def _rows(self, cursor: sqlite3.Cursor, prefix: str) -> Iterator[tuple[str, bytes]]:
        sql: str | None = _SCAN
        while True:
            self._check_open()
            try:
                if sql:
                    cursor.execute(sql, (prefix,))
                    sql = None
                rows = cursor.fetchmany(_CHUNK)
            except sqlite3.Error as error:
                raise translated(error, self._file.path) from error
            if len(self._shown) > _MANY:  # a scan of everything must not keep everything
                self._before = self._seen()
                self._shown.clear()
            for key, value, seen in rows:
                if not key.startswith(prefix):
                    return
                self._shown.add(seen)
                if value is not None:
                    yield key, value
            if len(rows) < _CHUNK:
                return

    def _check_open(self) -> None:
        if self._execute is _ended:
            _ended()

    def _seen(self) -> Frontier:
        shown, shard = self._shown, self._file.shard
        if not shown:
            return self._before or _NOTHING
        if len(shown) == 1 and self._before is None:
            (seen,) = shown
            return seen_frontier(shard, seen)
        joined = joined_seen(shard, shown)
        return joined if self._before is None else joined | self._before

    def _end(self) -> None:
        self._execute = _ended
        if self._scans:
            for cursor in self._scans:
                cursor.close()  # an open statement would keep the snapshot open, and the next block would read the old one


class TracedReader(Reader):
    """A reader that tells of each version that it shows. Thread-safety: one thread at a time."""

    __slots__ = ()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default` where there is none. Raises: ConfigError, StoreError."""
        value = super().get(key, default)
        self._told(key)
        return value

    def _rows(self, cursor: sqlite3.Cursor, prefix: str) -> Iterator[tuple[str, bytes]]:
        for key, value in super()._rows(cursor, prefix):
            self._told(key)
            yield key, value

    def _told(self, key: str) -> None:
        """Tell what a key's row says in this snapshot: looked up again, so that who is not traced pays for no column more."""
        try:
            row = self._execute(_TRACED, (key,)).fetchone()
        except sqlite3.Error as error:
            raise translated(error, self._file.path) from error
        if row is None:
            self._tell(KeyVersion(self._file.shard, key))
        else:
            data, seen, stamp = row
            self._tell(KeyVersion(self._file.shard, key, place_of(seen), stamp, data))


class ReadTransaction:
    """One snapshot of one shard: the read handle of the contract.

    `watermarks` is of this very snapshot. Thread-safety: one thread at a time.
    """

    __slots__ = ("_cursor", "_file", "connection", "watermarks")

    connection: Reader
    watermarks: Mapping[int, Watermark]

    def __init__(self, file: ShardFile) -> None:
        cursor = file.borrow()
        try:
            cursor.execute("BEGIN")
            self.watermarks = file.watermarks(cursor)
        except BaseException as error:
            cursor.connection.close()
            if isinstance(error, sqlite3.Error):
                raise translated(error, file.path) from error
            raise
        self._file = file
        self._cursor: sqlite3.Cursor | None = cursor
        self.connection = Reader(cursor, file)

    def seen(self) -> Frontier:
        """Return the positions and stored dependencies of every version shown so far, tombstones included."""
        return self.connection._seen()

    def trace(self, tell: Callable[[KeyVersion], object]) -> None:
        """Tell of each version that is shown from now on."""
        assert self._cursor is not None
        self.connection = TracedReader(self._cursor, self._file)
        self.connection._tell = tell

    def close(self) -> None:
        """End the snapshot. Idempotent; never raises."""
        cursor, self._cursor = self._cursor, None
        if cursor is None:
            return
        self.connection._end()
        try:
            cursor.execute("COMMIT")
        except sqlite3.Error:
            cursor.connection.close()
        else:
            self._file.give_back(cursor)
