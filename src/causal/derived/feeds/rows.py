"""What the embedded store's files say of their rows: how far they are, what has changed since, what a read block shows of it.

Owns the reading of another module's tables: `stores/sqlite/files/schema.py` lays them out. Writes nothing.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from causal.core.frontier import Frontier
from causal.core.position import pack
from causal.derived.contract import Place
from causal.errors import CausalError, Overloaded, StoreError
from causal.kv import decode_changes, decode_value
from causal.stores.sqlite.blocks.writing import Writer
from causal.stores.sqlite.files.schema import translated
from causal.stores.sqlite.files.shard import REBUILDING, WATERMARK
from causal.stores.sqlite.files.version import decoded_deps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from causal.derived.contract import Document, Places
    from causal.stores.sqlite.blocks.reading import Reader, ReadTransaction

    Derive = Callable[[str, Any], Document | None]

_LOG: Final = "SELECT changes FROM log WHERE origin = ? AND offset > ? AND offset <= ?"
_MARKS: Final = 'SELECT origin, applied, "end", deps FROM watermark WHERE origin >= 0'
_ABSENT: Final = object()


def derived(document: Derive, key: str, value: Any) -> Document | None:
    """Return what is derived of a row. Raises: StoreError where that fails: a row that is left out would never be missed."""
    try:
        return document(key, value)
    except CausalError:
        raise
    except Exception as error:
        raise StoreError(f"no document could be derived of {key!r}: {type(error).__name__}: {error}") from error


def places_of(parts: Iterable[ReadTransaction]) -> tuple[Places, Frontier]:
    """Return how far the snapshots of one moment are, by index of shard, and what they depend on elsewhere."""
    places: Places = {}
    deps, here = Frontier(), []
    for part in parts:
        assert part._cursor is not None
        mine = places[part._file.index] = {}
        for origin, applied, end, packed in part._cursor.connection.execute(_MARKS).fetchall():
            mine[origin] = Place(applied, end)
            here.append(pack(part._file.shard, origin))
            deps |= decoded_deps(packed)
    return places, deps.without(here)  # of its own shards, a site holds the causes of all that it holds


def changed_keys(
    db: sqlite3.Connection, since: Mapping[int, int], upto: Mapping[int, int] | None
) -> tuple[Iterator[str], bool]:
    """Return the keys that were written after `since` and up to `upto` (None: up to now), at least, in a snapshot of one file.

    The second says that the log does not reach back so far: then the keys are those of all newer rows, and rows may be gone without a
    trace. A key that lost against what is there already counts, too; one that was overwritten since is returned as well.
    """
    ranges = []
    for origin, applied, _, _, _ in db.execute(WATERMARK).fetchall():
        first, last = since.get(origin, 0), applied if upto is None else min(applied, upto.get(origin, -1))
        if origin != REBUILDING and last > first:
            (kept,) = db.execute(
                "SELECT count(*) FROM log WHERE origin = ? AND offset > ? AND offset <= ?", (origin, first, last)
            ).fetchone()
            if kept < last - first:
                return _newer(db, since), True
            ranges.append((origin, first, last))
    return _logged(db, ranges), False


def _logged(db: sqlite3.Connection, ranges: Iterable[tuple[int, int, int]]) -> Iterator[str]:
    for bounds in ranges:
        for (changes,) in db.execute(_LOG, bounds).fetchall():
            yield from decode_changes(changes)


def _newer(db: sqlite3.Connection, since: Mapping[int, int]) -> Iterator[str]:
    """Return the keys of all rows, tombstones included, whose newest version is not within `since`."""
    within, values = "0", []
    for origin, offset in since.items():
        within += " OR (substr(seen, 1, 4) = ? AND substr(seen, 5, 8) <= ?)"
        values += [origin.to_bytes(4), offset.to_bytes(8)]
    for (key,) in db.execute(f"SELECT key FROM data WHERE NOT ({within})", values).fetchall():
        yield key


def has(db: sqlite3.Connection, key: str) -> bool:
    """Return whether there is a row of a key, or its tombstone."""
    return db.execute("SELECT 1 FROM data WHERE key = ?", (key,)).fetchone() is not None


class EmbeddedView:
    """What a read block of the embedded store says of its shard; inside a write block, with what that has written.

    Thread-safety: one thread or task at a time.
    """

    def __init__(self, connection: Reader, document: Derive) -> None:
        self._connection, self._document = connection, document

    @property
    def _db(self) -> sqlite3.Connection:
        return self._connection._cursor.connection

    def applied(self) -> dict[int, int]:
        """Return what the snapshot holds, by origin. Raises: StoreError."""
        try:
            return {row[0]: row[1] for row in self._db.execute(WATERMARK).fetchall() if row[0] != REBUILDING}
        except sqlite3.Error as error:
            raise translated(error, self._connection._file.path) from error

    def changed(
        self, since: Mapping[int, int], upto: Mapping[int, int] | None, known: Iterable[str], limit: int
    ) -> list[str]:
        """Return the keys that were changed after `since` and up to `upto`, at least. Raises: Overloaded for too many, StoreError."""
        try:
            changed, gone = changed_keys(self._db, since, upto)
            keys = dict.fromkeys(self._connection._changes) if isinstance(self._connection, Writer) else {}
            for key in changed:
                keys[key] = None
                if len(keys) > limit:
                    raise Overloaded(
                        f"more than {limit} keys have changed since the index was fed: feed it, name the session's own (recent=...), "
                        "or allow more (most=...)"
                    )
            if gone:
                keys.update(dict.fromkeys(key for key in known if not has(self._db, key)))
        except sqlite3.Error as error:
            raise translated(error, self._connection._file.path) from error
        return list(keys)

    def documents(self, keys: Iterable[str]) -> dict[str, Document | None]:
        """Return what is derived of these keys now; all of them count as shown. Raises: StoreError."""
        found = {}
        for key in keys:
            value = self._connection.get(key, _ABSENT)
            found[key] = None if value is _ABSENT else derived(self._document, key, value)
        return found


def decoded(document: Derive, key: str, stored: bytes | None) -> Document | None:
    """Return what is derived of a stored row; None of a tombstone. Raises: StoreError."""
    return None if stored is None else derived(document, key, decode_value(stored))
