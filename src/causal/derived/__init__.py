"""Derived stores: what is made of a source's rows, read under the source's guarantees.

`DerivedEngine` makes a store of one, `SearchIndex` is a full-text index, `mixed` shows a session its own changes in it at once. A feed
from PostgreSQL is in `causal.derived.postgres`; the contract for a derived store of your own in `causal.derived.contract`.
"""

from causal.derived.engine import DerivedEngine
from causal.derived.feeds.embedded import EmbeddedFeed
from causal.derived.fts.index import SearchIndex
from causal.derived.fts.reader import Hit, IndexReader
from causal.derived.mixed import Page, amixed, mixed

__all__ = ["DerivedEngine", "EmbeddedFeed", "Hit", "IndexReader", "Page", "SearchIndex", "amixed", "mixed"]
