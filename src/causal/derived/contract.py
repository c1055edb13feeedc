"""What a derived store is: the contract between its data, what feeds it, and the gate.

A derived store (a search index, a view, a cache that is fed) holds what somebody made of a source's rows. It numbers nothing, so its
positions are its source's: it says, by shard and origin of the source, up to where it has taken the source in. That is its
*checkpoint*, and the whole contract hangs on it:

* The checkpoint is stored in the same place and the same transaction as the data. HAZARD: written before the data, or apart from it,
  it claims what is not there after a crash, and stale pages are served as fresh; nothing else can notice.
* It is read in the same snapshot as the data.
* It never goes back within one `life`. Data that was built anew, restored or replaced is another life.
* Until there is one, nothing is served: what an empty index lacks is not known.
* It claims no position that a source's snapshot did not show. Where rows were read from a newer snapshot than it claims, `shown` says up
  to where, so that a session joins at least what it was shown (I7).

Owns values and protocols. Knows nothing of engines or files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import attrs

from causal.core.frontier import Frontier
from causal.core.position import pack
from causal.core.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from causal.engine import Engine

R_co = TypeVar("R_co", covariant=True)

Document = dict[str, Any]
"""What is derived of one row: names and values."""
Row = tuple[int, str, Document | None]
"""The index of a shard, a key, and its document; None where there is none (any more)."""


@attrs.frozen
class Place:
    """How far one origin of one shard is taken in, where its history ends if that is known, and how far rows were read at most.

    Thread-safety: immutable.
    """

    applied: int
    end: int | None = None
    shown: int = attrs.field()

    @shown.default
    def _as_applied(self) -> int:
        return self.applied


Places = dict[int, dict[int, Place]]
"""By index of a shard, by origin."""


@attrs.frozen
class Checkpoint:
    """What a derived store has taken in, as it says in the snapshot of its data.

    `deps` are the dependencies of what it shows, as its source stores them. Thread-safety: immutable.
    """

    life: Hashable
    places: Mapping[int, Mapping[int, Place]]
    deps: Frontier = Frontier()

    def watermarks(self, store: int) -> dict[int, Watermark]:
        """Return it as the gate wants it, by shard id. A derived store leads nothing."""
        return {
            shard: Watermark(shard, {origin: (p.applied, p.end) for origin, p in places.items()}, self.life)
            for shard, places in ((store << 16 | index, places) for index, places in self.places.items())
        }

    def shows(self, store: int) -> Frontier:
        """Return at least what any of its rows, or the lack of one, shows: what a search does not find is news, too."""
        entries = {
            pack(store << 16 | index, origin): place.shown if place.end is None else min(place.shown, place.end)
            for index, places in self.places.items()
            for origin, place in places.items()
        }
        return Frontier.of({key: offset for key, offset in entries.items() if offset}) | self.deps


class Snapshot(Protocol[R_co]):
    """One snapshot of a derived store: its data and its checkpoint. Thread-safety: one thread at a time."""

    @property
    def connection(self) -> R_co:
        """What the user reads through, valid until `close`."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that this very snapshot holds. The same object as before says that nothing was taken in since."""

    def close(self) -> None:
        """End the snapshot. Idempotent; never raises."""


class OpenDerived(Protocol[R_co]):
    """A derived store as one process has it open. Thread-safety: safe from any thread."""

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint now. Raises: Unreachable until there is one, StoreError."""

    def snapshot(self) -> Snapshot[R_co]:
        """Open one snapshot. Raises: Unreachable until there is a checkpoint, StoreError."""

    def close(self) -> None:
        """Close every connection. Idempotent."""


class Feeding(Protocol):
    """What feeds a derived store, as one process has it open. Thread-safety: one thread at a time."""

    def step(self) -> int:
        """Take in what the source has more of, data and checkpoint in one transaction; return how many rows that were.

        Safe to repeat, at any moment, by any number of processes: what is taken in twice is taken in once. Raises: CausalError.
        """

    def rebuild(self) -> None:
        """Derive everything anew from a snapshot of the source, while the old is read and fed, then put it in its place at once."""

    def wait(self, timeout_s: float) -> None:
        """Return when there may be news, at the latest after a time."""

    def wake(self) -> None:
        """Let `wait` return."""

    def close(self) -> None:
        """Close every connection. Idempotent."""


class Derived(Protocol[R_co]):
    """A derived store's configuration, and what feeds it. Thread-safety: immutable; safe to create before a fork."""

    def open(self, shards: Mapping[str, int]) -> OpenDerived[R_co]:
        """Open it for reading; `shards` are those that it derives from, name -> index. Raises: ConfigError, StoreError."""

    def feeding(self, source: Engine[Any, Any], shards: Mapping[str, int], store: int) -> Feeding | None:
        """Open what feeds it from a source; None if that is done elsewhere. Raises: ConfigError, StoreError."""


class SourceView(Protocol):
    """What `mixed` asks of one read block of the source, on one shard. Thread-safety: one thread or task at a time."""

    def applied(self) -> dict[int, int] | None:
        """Return what the block's snapshot holds, by origin; None if it cannot tell: then what the gate has judged counts."""

    def changed(
        self, since: Mapping[int, int], upto: Mapping[int, int] | None, known: Iterable[str], limit: int
    ) -> list[str] | None:
        """Return the keys that were changed after `since` and up to `upto` (None: up to now), at least; None if it cannot tell.

        `known` are the keys that the derived store has. Raises: Overloaded for more than `limit`.
        """

    def documents(self, keys: Iterable[str]) -> dict[str, Document | None]:
        """Return what is derived of these keys now."""


@runtime_checkable
class Mixable(Protocol):
    """A `Derived` whose pages `mixed` can correct from the source. Thread-safety: as `Derived`."""

    def source_view(self, connection: Any, index: int) -> SourceView:
        """Return what the source says of a shard in one of its read blocks."""
