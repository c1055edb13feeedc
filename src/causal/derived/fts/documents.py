"""Documents in their tables: one row for each, and one in the full-text table.

Owns the two tables of a generation and how a document is put into them. A document that is put again as it is changes nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from causal.errors import ConfigError
from causal.kv import encode_value

if TYPE_CHECKING:
    import sqlite3

    from causal.derived.contract import Document


@attrs.frozen
class Layout:
    """What of a document is searched, and sorted by; how texts are split; which version of the derivation. Thread-safety: immutable."""

    fields: tuple[str, ...]
    sorts: tuple[str, ...]
    tokenize: str
    version: int

    def spelled(self) -> str:
        """Return it as a text that is the same for the same layout."""
        return json.dumps([self.fields, self.sorts, self.tokenize, self.version], separators=(",", ":"))


def create(cursor: sqlite3.Cursor, number: int, layout: Layout) -> None:
    """Make a generation's tables."""
    sorts = "".join(f', "sort_{name}"' for name in layout.sorts)
    cursor.execute(
        f"CREATE TABLE document_{number} (id INTEGER PRIMARY KEY, shard INTEGER NOT NULL, key TEXT NOT NULL, "
        f"stored BLOB NOT NULL{sorts}, UNIQUE (shard, key))"
    )
    for name in layout.sorts:
        cursor.execute(f'CREATE INDEX "by_{name}_{number}" ON document_{number} ("sort_{name}", shard, key)')
    fields = ", ".join(f'"{name}"' for name in layout.fields)
    cursor.execute(f"CREATE VIRTUAL TABLE words_{number} USING fts5 ({fields}, tokenize='{layout.tokenize}')")


def drop(cursor: sqlite3.Cursor, number: int) -> None:
    """Remove a generation's tables."""
    cursor.execute(f"DROP TABLE IF EXISTS words_{number}")
    cursor.execute(f"DROP TABLE IF EXISTS document_{number}")


def stored(layout: Layout, document: Document) -> bytes:
    """Return a document as it is stored. Raises: ConfigError for what cannot be, or be searched."""
    if not isinstance(document, dict):
        raise ConfigError(f"a document is a dict of names and values, or None, not a {type(document).__name__}")
    for name in layout.fields:
        if not isinstance(document.get(name), (str, type(None))):
            raise ConfigError(f"field {name!r} of a document is text or None, not a {type(document[name]).__name__}")
    for name in layout.sorts:
        if not isinstance(document.get(name), (str, int, float, type(None))):
            raise ConfigError(
                f"{name!r} of a document is sorted by: a number, a text or None, not a {type(document[name]).__name__}"
            )
        if isinstance(document.get(name), int) and not -(2**63) <= document[name] < 2**63:
            raise ConfigError(f"{name!r} of a document is sorted by: a whole number has at most 64 bits")
    return encode_value(document)


def put(
    cursor: sqlite3.Cursor, number: int, layout: Layout, shard: int, key: str, document: Document | None
) -> str | None:
    """Set or remove a key's document; return "added", "corrected" or "removed", or None if it was so already."""
    was = cursor.execute(
        f"SELECT id, stored FROM document_{number} WHERE shard = ? AND key = ?", (shard, key)
    ).fetchone()
    if document is None:
        if was is None:
            return None
        cursor.execute(f"DELETE FROM words_{number} WHERE rowid = ?", was[:1])
        cursor.execute(f"DELETE FROM document_{number} WHERE id = ?", was[:1])
        return "removed"
    now = stored(layout, document)
    if was is not None and was[1] == now:
        return None
    names: list[str] = [f"sort_{name}" for name in layout.sorts]
    values: list[Any] = [document.get(name) for name in layout.sorts]
    if was is None:
        columns = "".join(f', "{name}"' for name in names)
        cursor.execute(
            f"INSERT INTO document_{number} (shard, key, stored{columns}) VALUES (?, ?, ?{', ?' * len(names)})",
            (shard, key, now, *values),
        )
        row = cursor.lastrowid
    else:
        row = was[0]
        changes = "".join(f', "{name}" = ?' for name in names)
        cursor.execute(f"UPDATE document_{number} SET stored = ?{changes} WHERE id = ?", (now, *values, row))
        cursor.execute(f"DELETE FROM words_{number} WHERE rowid = ?", (row,))
    fields = ", ".join(f'"{name}"' for name in layout.fields)
    cursor.execute(
        f"INSERT INTO words_{number} (rowid, {fields}) VALUES (?{', ?' * len(layout.fields)})",
        (row, *((document.get(name) or "").replace("\0", " ") for name in layout.fields)),
    )
    return "added" if was is None else "corrected"
