"""One page that is being mixed: what the session demands, what the index lacks of it, what the source says, and the page then.

Owns the steps; `mixed.py` takes them, in one of the two kinds of store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import attrs

from causal.blocks import enclosing
from causal.derived.contract import Mixable
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from causal.core.demand import Demand
    from causal.core.receipt import Receipt
    from causal.derived.contract import Checkpoint, Document, SourceView
    from causal.derived.fts.reader import Hit, IndexReader, IndexSnapshot
    from causal.session import SessionState
    from causal.state import StoreState

WORDS: Final = ("added", "corrected", "removed")


@attrs.frozen
class Page:
    """One page, and its account: which hits, how many there are on all pages together, and what was taken from the source.

    `index` is the receipt of the index's read, `source` those of the reads that corrected it; none where the index has all that is
    demanded. `overlaid` maps (shard, key) to "added", "corrected" or "removed". Thread-safety: immutable.
    """

    hits: tuple[Hit, ...]
    total: int
    index: Receipt
    source: tuple[Receipt, ...] = ()
    overlaid: Mapping[tuple[str, str], str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        found = f"{len(self.hits)} of {self.total} from {self.index.endpoint}"
        if not self.source:
            return f"{found}, which has all that is demanded"
        came = ", ".join(f"{sum(how == word for how in self.overlaid.values())} {word}" for word in WORDS)
        return f"{found}; {came} from {self.source[-1].endpoint}"


@attrs.frozen
class Query:
    """What `IndexReader.search` is asked for. Thread-safety: immutable."""

    text: str
    match: str | None
    order: str
    limit: int
    offset: int
    shard: str | None

    def hits(self, reader: IndexReader) -> list[Hit]:
        """Return the page."""
        return reader.search(
            self.text, limit=self.limit, offset=self.offset, order=self.order, match=self.match, shard=self.shard
        )

    def total(self, reader: IndexReader) -> int:
        """Return how many documents there are on all pages together."""
        return reader.count(self.text, match=self.match, shard=self.shard)


class Mix:
    """One page that is being mixed. Thread-safety: one thread or task."""

    def __init__(self, session: SessionState, index: StoreState, source: StoreState, query: Query) -> None:
        engine: Any = index.engine
        derived = getattr(engine, "derived", None)
        if not isinstance(derived, Mixable):
            raise ConfigError("mixed reads a store of a DerivedEngine over an index, then its source")
        if index.number != source.number:
            raise ConfigError(
                f"the index is store {index.number}, its source store {source.number}: they have one number, as one has the other's shards"
            )
        for name, shard in index.shards.items():
            if source.shards.get(name) != shard:
                raise ConfigError(f"the source has no shard {name!r}: it is not what the index derives from")
        self._session, self._index, self._source, self._query, self._derived = session, index, source, query, derived
        self._names = {shard: name for name, shard in index.shards.items()}
        self.overlaid: dict[tuple[str, str], str] = {}
        self._documents: dict[tuple[int, str], Document | None] = {}
        self._views: dict[int, SourceView] = {}
        self._applied: dict[int, dict[int, int] | None] = {}
        self._checkpoint: Checkpoint | None = None
        self._demand: Demand | None = None
        self._listed = True

    # --- what is lacking -----------------------------------------------------------------------------------------

    def lacking(self, checkpoint: Checkpoint) -> dict[int, str]:
        """Return the shards, by id with their names, of which an index at this checkpoint lacks something demanded, or may."""
        session, index = self._session, self._index
        wall = index.wall() if session.seen.marks else 0.0
        self._demand = demand = session.demand(index, min(index.every), wall, write=False)
        self._checkpoint = checkpoint
        self._documents, self._views, self._applied, self._listed = {}, {}, {}, True
        lacking = set(demand.leader_shards)
        for shard in index.every:
            here = checkpoint.places.get(shard & 0xFFFF, {})
            if demand.floor is not None and any(place.applied < demand.floor for place in here.values()):
                lacking.add(shard)
            if any(block.concerns(self._source, session, shard) for block in enclosing.get()):
                lacking.add(shard)  # and what that has written so far
        for key, offset in demand.need.items():
            place = checkpoint.places.get((key >> 32) & 0xFFFF, {}).get(key & 0xFFFFFFFF)
            if place is None or place.applied < offset:
                lacking.add(key >> 32)
        return {shard: self._names[shard] for shard in sorted(lacking)}

    def showed(self, checkpoint: Checkpoint) -> None:
        """Join what the index shows: the source has to have it, too, before it may correct it."""
        self._session.join(checkpoint.shows(self._index.number), own=False, now=self._index.wall)

    # --- what the source says ------------------------------------------------------------------------------------

    def view(self, shard: int, connection: Any) -> SourceView:
        """Take up a read block of the source."""
        view: SourceView = self._derived.source_view(connection, shard & 0xFFFF)
        self._views[shard] = view
        return view

    def since(self, shard: int) -> dict[int, int]:
        """Return what the index has of a shard, by origin."""
        assert self._checkpoint is not None
        return {origin: place.applied for origin, place in self._checkpoint.places.get(shard & 0xFFFF, {}).items()}

    def upto(self, shard: int) -> dict[int, int] | None:
        """Return what is demanded of a shard, by origin; None where that is all that there is."""
        demand = self._demand
        assert demand is not None
        if demand.floor is not None or shard in demand.leader_shards:
            return None
        return {key & 0xFFFFFFFF: offset for key, offset in demand.need.items() if key >> 32 == shard}

    def applied(self, shard: int, applied: dict[int, int] | None, *, listed: bool) -> None:
        """Note what a block's snapshot holds, and whether the source could list what changed."""
        self._applied[shard] = applied
        self._listed = self._listed and listed

    def took(self, shard: int, documents: Mapping[str, Document | None]) -> None:
        """Note what the source says of some keys."""
        for key, document in documents.items():
            self._documents[shard, key] = document

    # --- the page --------------------------------------------------------------------------------------------------

    def covers(self, checkpoint: Checkpoint) -> bool:
        """Return whether the source's snapshots hold all that an index at this checkpoint has: only then may they correct it."""
        if self._checkpoint is not None and checkpoint.places == self._checkpoint.places:
            return True  # the gate has judged them by it
        for shard in self._views:
            applied = self._applied[shard]
            if applied is None:
                return False
            places = checkpoint.places.get(shard & 0xFFFF, {})
            if any(applied.get(origin, -1) < place.shown for origin, place in places.items()):
                return False
        return True

    def corrected(self, snapshot: IndexSnapshot) -> tuple[list[Hit], int, list[tuple[int, str]]]:
        """Try out what the source says; return the page, how many there are, and which of its keys have yet to be looked up."""
        rows = ((shard & 0xFFFF, key, document) for (shard, key), document in self._documents.items())
        came = snapshot.overlay(rows)
        number = self._index.number << 16
        self.overlaid = {(self._names[number | index], key): how for (index, key), how in came.items()}
        hits = self._query.hits(snapshot.connection)
        unknown = [] if self._listed else [key for hit in hits if (key := self._key(hit)) not in self._documents]
        return hits, self._query.total(snapshot.connection), [(s, k) for s, k in unknown if s in self._views]

    def _key(self, hit: Hit) -> tuple[int, str]:
        return self._index.shards[hit.shard], hit.key

    def page(self, reader: IndexReader, receipt: Receipt) -> Page:
        """Return the page of an index that has all that is demanded."""
        return Page(tuple(self._query.hits(reader)), self._query.total(reader), receipt)

    def keys(self, keys: Iterable[Any]) -> list[str]:
        """Return the keys that the caller named, as texts. Raises: ConfigError for what is none: a row, say."""
        found = list(keys)
        for key in found:
            if not isinstance(key, str | int | UUID):
                raise ConfigError(f"recent returns keys: texts, numbers or UUIDs, not a {type(key).__name__}")
        return list(map(str, found))


def known(snapshot: IndexSnapshot, name: str) -> Iterable[str]:
    """Iterate over the keys that an index has of a shard."""
    return snapshot.connection.keys(shard=name)
