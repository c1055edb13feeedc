"""The query that an index's documents come from, and what it returns: all of them, or those of some keys.

Owns its statements, and the view that `mixed` has of a read block. Knows nothing of slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from causal.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from causal.derived.contract import Document


_TABLE: Final = (
    "SELECT c.relkind = 'r' AND c.relpersistence = 'p', a.attnum IS NOT NULL, c.relreplident = 'f' OR EXISTS ("
    "SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND a.attnum = ANY (i.indkey) "
    "AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END) "
    "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped "
    "WHERE n.nspname = %s AND c.relname = %s"
)
"""Whether a name is that of a table that is logged as itself, has a column, and logs what that was before a change."""


def check_tables(connection: psycopg.Connection[Any], queries: Iterable[DocumentQuery]) -> None:
    """See that every change of the tables that are watched will be told. Raises: StoreError: it would be missed, and never noticed."""
    for table, column in {watched for query in queries for watched in query.tables.items()}:
        schema, _, name = table.partition(".")
        row = connection.execute(_TABLE, (column, schema, name)).fetchone()
        if row is None or not row[0]:
            raise StoreError(
                f"{table} is no table whose changes are logged under this name: not there, a view, unlogged, or partitioned (then "
                "name its partitions)"
            )
        if not row[1]:
            raise StoreError(f"{table} has no column {column!r}, which is to hold the key")
        if not row[2]:
            raise StoreError(
                f"an update of {table} would not say what its {column!r} was before: ALTER TABLE {table} REPLICA IDENTITY FULL"
            )


@attrs.frozen
class DocumentQuery:
    """A SELECT of one row for each document, which column of it is the key, and which tables it hangs on.

    `prefix` is what the documents' keys begin with, where other queries' documents are in the same index. Thread-safety: immutable.
    """

    query: str
    key: str
    tables: Mapping[str, str]
    document: Callable[[dict[str, Any]], Document | None] | None = None
    prefix: str = ""

    def everything(self) -> sql.Composed:
        """Return the statement for all documents: key first."""
        return sql.SQL("SELECT q.{key}::text AS causal_key, q.* FROM ({query}) AS q").format(
            key=sql.Identifier(self.key),
            query=sql.SQL(self.query),
        )

    def some(self, kind: str) -> sql.Composed:
        """Return the statement for the documents of some keys, whose type is `kind`: each key once at least."""
        return sql.SQL(
            "SELECT k.k::text AS causal_key, q.{key} IS NOT NULL AS causal_there, q.* "
            "FROM pg_catalog.unnest(%s::text[]::{kind}[]) AS k(k) LEFT JOIN ({query}) AS q ON q.{key} = k.k"
        ).format(
            key=sql.Identifier(self.key),
            kind=sql.SQL(kind),
            query=sql.SQL(self.query.replace("%", "%%")),  # this one has a parameter
        )

    def kind(self) -> sql.Composed:
        """Return the statement whose only column is the key's."""
        return sql.SQL("SELECT q.{key} FROM ({query}) AS q LIMIT 0").format(
            key=sql.Identifier(self.key),
            query=sql.SQL(self.query),
        )

    def derived(self, row: dict[str, Any]) -> tuple[str, Document | None]:
        """Return a row's key and what is derived of it. Raises: StoreError where that fails."""
        key = self.prefix + row.pop("causal_key")
        if not row.pop("causal_there", True):
            return key, None
        if self.document is None:
            row.pop(self.key, None)
            return key, row
        try:
            return key, self.document(row)
        except Exception as error:
            raise StoreError(f"no document could be derived of {key!r}: {type(error).__name__}: {error}") from error

    def all_of(self, rows: Iterable[dict[str, Any]]) -> dict[str, Document | None]:
        """Return the documents of rows by key. Raises: StoreError for two of one key."""
        found: dict[str, Document | None] = {}
        for row in rows:
            key, made = self.derived(row)
            if key in found:
                raise StoreError(f"the query returns several rows for {key!r}: a document has one")
            found[key] = made
        return found


class PostgresView:
    """What a read block of the source says of its rows: it cannot list which have changed. Thread-safety: as the block."""

    def __init__(self, queries: Sequence[DocumentQuery], connection: Any) -> None:
        self._queries, self._connection = queries, connection

    def applied(self) -> None:
        """Return None: what the gate has judged counts."""

    def changed(self, since: Any, upto: Any, known: Any, limit: int) -> None:
        """Return None: the caller has to name the keys."""

    def documents(self, keys: Iterable[str]) -> Any:
        """Return what is derived of these keys now; awaitable where the connection is asynchronous."""
        wanted = self._by_query(keys)
        if isinstance(self._connection, psycopg.AsyncConnection):
            return self._adocuments(wanted)
        found: dict[str, Document | None] = {}
        with self._connection.cursor(row_factory=dict_row) as cursor:
            for query, some in wanted:
                kind = _kind(cursor.execute(query.kind()))
                found.update(query.all_of(cursor.execute(query.some(kind), (some,)).fetchall()))
        return found

    async def _adocuments(self, wanted: list[tuple[DocumentQuery, list[str]]]) -> dict[str, Document | None]:
        found: dict[str, Document | None] = {}
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            for query, some in wanted:
                kind = _kind(await cursor.execute(query.kind()))
                await cursor.execute(query.some(kind), (some,))
                found.update(query.all_of(await cursor.fetchall()))
        return found

    def _by_query(self, keys: Iterable[str]) -> list[tuple[DocumentQuery, list[str]]]:
        """Return which keys, without their prefix, are whose. Raises: ConfigError for one that is no query's."""
        wanted: list[tuple[DocumentQuery, list[str]]] = [(query, []) for query in self._queries]
        for key in keys:
            for query, some in wanted:
                if key.startswith(query.prefix):
                    some.append(key.removeprefix(query.prefix))
                    break
            else:
                prefixes = ", ".join(repr(query.prefix) for query in self._queries)
                raise ConfigError(f"{key!r} is no key of this index: they begin with {prefixes}")
        return [(query, some) for query, some in wanted if some]


def _kind(cursor: Any) -> str:
    """Return the type of the only column of a result, as SQL: every type that a key has is known by name."""
    found = cursor.description[0].type_display
    return str(found).partition("(")[0]
