"""The feed of an index from PostgreSQL, as an application configures it.

Owns the public class. How it feeds is in `feeds/logical.py`.
"""

from __future__ import annotations

from copy import copy
from itertools import permutations
from typing import TYPE_CHECKING, Any

import psycopg

from causal.derived.feeds.logical import PostgresFeeding
from causal.derived.feeds.query import DocumentQuery, PostgresView
from causal.errors import ConfigError
from causal.stores.postgres.engine import PostgresEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.derived.contract import Document
    from causal.derived.fts.file import IndexFile

__all__ = ["PostgresFeed", "PostgresFeeding"]


class PostgresFeed:
    """Feeds a `SearchIndex` from a `PostgresEngine`: from the primary of one shard, whoever that is.

    Args:
        query: a SELECT, without parameters, of one row for each document.
        key: the column of `query` that names the document; its text is the key.
        tables: the tables that the query reads, "schema.table" -> the column in which a row of it holds the key of the document that it
            belongs to. Where that is not the primary key, updates and deletes tell it only with REPLICA IDENTITY FULL.
        document: makes a row, as a dict, a document; by default the row without its key is the document. None: not to be found.
        prefix: what the documents' keys begin with, before the key's own text, where there are `several` queries.
        login: what of the engine's DSN is another for this: a user, say, with the REPLICATION attribute.

    The servers need `wal_level = logical`, and `causal postgres install` must have been run. Raises: ConfigError. Thread-safety: immutable.
    """

    def __init__(
        self,
        query: str,
        *,
        key: str,
        tables: Mapping[str, str],
        document: Callable[[dict[str, Any]], Document | None] | None = None,
        prefix: str = "",
        login: Mapping[str, str] | None = None,
    ) -> None:
        if not tables or any(name.count(".") != 1 for name in tables):
            raise ConfigError(f"tables are named with their schema, as in 'public.post', not {list(tables)}")
        self.queries: tuple[DocumentQuery, ...] = (
            DocumentQuery(query.strip().rstrip(";"), key, dict(tables), document, prefix),
        )
        self.login = dict(login or {})

    @classmethod
    def several(cls, *feeds: PostgresFeed) -> PostgresFeed:
        """Return a feed of documents of several kinds, by the queries of several feeds, whose prefixes tell them apart.

        Raises: ConfigError where one's prefix begins another's, or their logins differ.
        """
        if not feeds:
            raise ConfigError("several feeds are at least one")
        joined = copy(feeds[0])
        joined.queries = tuple(query for feed in feeds for query in feed.queries)
        for one, other in permutations(joined.queries, 2):
            if other.prefix.startswith(one.prefix):
                raise ConfigError(f"prefix {one.prefix!r} begins {other.prefix!r}: a key must tell whose it is")
        if any(feed.login != joined.login for feed in feeds):
            raise ConfigError("one index is fed by one login")
        return joined

    def open(self, file: IndexFile, source: Any, shards: Mapping[str, int], store: int) -> PostgresFeeding:
        """Open what feeds a file. Raises: ConfigError for another kind of source, or several shards; StoreError."""
        if not isinstance(source, PostgresEngine):
            raise ConfigError(f"PostgresFeed feeds from a PostgresEngine, not from a {type(source).__name__}")
        if len(shards) != 1:
            raise ConfigError(
                f"PostgresFeed feeds from one shard: name one of {', '.join(sorted(shards))} (shards=[...])"
            )
        (index,) = shards.values()
        return PostgresFeeding(self.queries, self.login, file, source.open(store), store << 16 | index)

    def view(self, connection: Any, index: int) -> PostgresView:
        """Return what a read block of the source says of its shard. Raises: ConfigError for a connection of another kind."""
        if not isinstance(connection, psycopg.Connection | psycopg.AsyncConnection):
            raise ConfigError(f"not a connection of PostgreSQL: {type(connection).__name__}")
        return PostgresView(self.queries, connection)
