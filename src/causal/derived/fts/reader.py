"""Searching: one snapshot of an index, and what a page looks like in it.

Owns `IndexReader`, what a user searches through, and `IndexSnapshot`, the handle around it. A snapshot that was opened for writing can
try changes out: they count for every search in it, ranks included, and are undone when it ends.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from causal.derived.fts.documents import Layout, put
from causal.errors import ConfigError, StoreError
from causal.kv import decode_value
from causal.stores.sqlite.files.schema import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from causal.derived.contract import Checkpoint, Document, Row

_MOST: Final = 10_000


class _File(Protocol):
    """What a snapshot needs of the file that it is of."""

    path: Path
    layout: Layout
    names: Mapping[int, str]

    def snapshot(self, *, writing: bool = False) -> IndexSnapshot: ...
    def give_back(self, cursor: sqlite3.Cursor) -> None: ...


@attrs.frozen
class Hit:
    """One document that was found: its shard, its key, the document itself, and how good it is (the smaller, the better; 0 unranked).

    Thread-safety: immutable but for the document, which is a copy of one's own.
    """

    shard: str
    key: str
    document: Document
    rank: float = 0.0


def words(text: str) -> str:
    """Return a text that somebody typed as an FTS5 query for documents with all of its words; empty where there are none."""
    parts = text.replace("\0", " ").encode(errors="replace").decode().split()
    return " ".join('"' + part.replace('"', '""') + '"' for part in parts)


class IndexReader:
    """What a read block of an index searches through: one snapshot. Thread-safety: one thread at a time."""

    __slots__ = ("_cursor", "_file", "_number")

    def __init__(self, file: _File, cursor: sqlite3.Cursor, number: int) -> None:
        self._file, self._number = file, number
        self._cursor: sqlite3.Cursor | None = cursor

    def search(
        self,
        text: str = "",
        *,
        limit: int = 20,
        offset: int = 0,
        order: str = "rank",
        match: str | None = None,
        shard: str | None = None,
    ) -> list[Hit]:
        """Return a page of the documents that have all words of `text` (all documents, for a text without any), in order.

        `order` is "rank" (best first), or the name of a sort, with a "-" before it for the largest first; equals are ordered by key.
        `match` is a query in FTS5's own words instead of `text`. Raises: ConfigError for a query or an order that is none, StoreError.
        """
        for name, value in (("limit", limit), ("offset", offset)):
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} is a number >= 0, not {value!r}")
        sql, values, ranked = self._found(text, match, shard)
        by = self._order(order, ranked=ranked)
        rank = f"bm25(words_{self._number})" if ranked else "0.0"
        rows = self._rows(
            f"SELECT d.shard, d.key, d.stored, {rank} AS score {sql} ORDER BY {by} LIMIT ? OFFSET ?",
            (*values, min(limit, _MOST), offset),
        )
        names = self._file.names
        return [Hit(names[index], key, decode_value(stored), score) for index, key, stored, score in rows]

    def count(self, text: str = "", *, match: str | None = None, shard: str | None = None) -> int:
        """Return how many documents `search` would find on all pages together. Raises: as `search`."""
        sql, values, _ = self._found(text, match, shard)
        ((count,),) = self._rows(f"SELECT count(*) {sql}", values)
        return int(count)

    def get(self, key: str, *, shard: str | None = None) -> Document | None:
        """Return the document of a key, or None. Raises: ConfigError where there are several shards and none is named."""
        if shard is None and len(self._file.names) > 1:
            raise ConfigError(f"name one of the shards {', '.join(sorted(self._file.names.values()))}")
        (index,) = self._indexes(shard)
        rows = self._rows(f"SELECT stored FROM document_{self._number} WHERE shard = ? AND key = ?", (index, key))
        return decode_value(rows[0][0]) if rows else None

    def keys(self, *, shard: str | None = None) -> Iterator[str]:
        """Iterate over the keys that have a document, in order."""
        after = ""
        indexes = self._indexes(shard)
        marks = ", ".join("?" * len(indexes))
        sql = f"SELECT DISTINCT key FROM document_{self._number} WHERE shard IN ({marks}) AND key > ? ORDER BY key LIMIT 1000"
        while rows := self._rows(sql, (*indexes, after)):
            for (after,) in rows:
                yield after

    # --- how it is said to SQLite ----------------------------------------------------------------------------------

    def _indexes(self, shard: str | None) -> list[int]:
        found = [index for index, name in self._file.names.items() if shard in (None, name)]
        if not found:
            raise ConfigError(f"no shard {shard!r} here: there are {', '.join(sorted(self._file.names.values()))}")
        return found

    def _found(self, text: str, match: str | None, shard: str | None) -> tuple[str, tuple[Any, ...], bool]:
        """Return the part of a statement from FROM on, its values, and whether what it finds has a rank."""
        indexes = self._indexes(shard)
        query = words(text) if match is None else match
        where = f"d.shard IN ({', '.join('?' * len(indexes))})"
        if not query:
            return f"FROM document_{self._number} AS d WHERE {where}", tuple(indexes), False
        table = f"words_{self._number}"
        sql = (
            f"FROM {table} JOIN document_{self._number} AS d ON d.id = {table}.rowid WHERE {table} MATCH ? AND {where}"
        )
        return sql, (query, *indexes), True

    def _order(self, order: str, *, ranked: bool) -> str:
        if order == "rank":
            return "score, d.key, d.shard" if ranked else "d.key, d.shard"
        name = order.removeprefix("-")
        if name not in self._file.layout.sorts:
            raise ConfigError(
                f"{order!r} is no order: there are 'rank', {', '.join(map(repr, self._file.layout.sorts))}"
            )
        return f'd."sort_{name}"{" DESC" if order != name else ""}, d.key, d.shard'

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        if self._cursor is None:
            raise StoreError("this block has ended: its connection cannot be used any more")
        try:
            return self._cursor.execute(sql, values).fetchall()
        except (OverflowError, UnicodeEncodeError) as error:
            raise ConfigError(f"this cannot be asked of SQLite: {error}") from error
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise ConfigError(f"this is no query of FTS5: {error}") from error
            raise translated(error, self._file.path) from error
        except sqlite3.Error as error:
            raise translated(error, self._file.path) from error


class IndexSnapshot:
    """One snapshot of an index: documents and checkpoint. Thread-safety: one thread at a time."""

    __slots__ = ("_cursor", "_file", "checkpoint", "connection", "number")

    def __init__(self, file: _File, cursor: sqlite3.Cursor, number: int, checkpoint: Checkpoint) -> None:
        self._file, self.number, self.checkpoint = file, number, checkpoint
        self._cursor: sqlite3.Cursor | None = cursor
        self.connection = IndexReader(file, cursor, number)

    def again(self) -> IndexSnapshot:
        """Return the newest snapshot, with the file's write lock, in which changes can be tried out."""
        return self._file.snapshot(writing=True)

    def overlay(self, rows: Iterable[Row]) -> dict[tuple[int, str], str]:
        """Try changes out; return what they came to, by shard and key, of those that changed something."""
        assert self._cursor is not None
        came = {}
        try:
            for shard, key, document in rows:
                done = put(self._cursor, self.number, self._file.layout, shard, key, document)
                if done is not None:
                    came[shard, key] = done
        except sqlite3.Error as error:
            raise translated(error, self._file.path) from error
        return came

    def close(self) -> None:
        """End the snapshot, and undo what was tried out. Idempotent; never raises."""
        cursor, self._cursor = self._cursor, None
        self.connection._cursor = None
        if cursor is not None:
            self._file.give_back(cursor)
