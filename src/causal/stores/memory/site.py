"""One site: its logs, what it has applied of every origin, and the version of each key that won.

Owns what applying a transaction means. Knows nothing of other sites, time, or why something may be applied now.

The state of a site is the fold of `Site.history`, the transactions in the order in which they were applied here; the rest
is kept beside it for speed. Which version of a key wins does not depend on that order: so all sites agree in the end.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import attrs

from causal.core.frontier import Frontier, Position, pack, store_of, unpack
from causal.core.watermark import Watermark
from causal.engine import KeyVersion
from causal.kv import MAX_STAMP, wins

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@attrs.frozen
class Entry:
    """A transaction in the log of one origin; `deps` are accumulated along that log.

    Units: `committed_s` on the cluster's monotonic clock. Thread-safety: immutable.
    """

    position: Position
    stamp: int
    changes: Mapping[str, bytes | None]
    deps: Frontier
    committed_s: float


@attrs.frozen
class Version:
    """What one entry says of one key; a value of None is a tombstone. Thread-safety: immutable."""

    entry: Entry
    value: bytes | None


def key_version(shard: int, key: str, version: Version | None) -> KeyVersion:
    """Return a version as the contract of engines names it; None is what a read finds where there is nothing."""
    if version is None:
        return KeyVersion(shard, key)
    position = version.entry.position
    return KeyVersion(shard, key, (position.origin, position.offset), version.entry.stamp, version.value)


@attrs.frozen
class Snapshot:
    """One shard at one site at one moment. Thread-safety: immutable, mappings included."""

    watermark: Watermark
    versions: Mapping[str, Version]


@attrs.define
class Copy:
    """One site's copy of one shard. `own` is the origin that the site numbers; `origins` maps each known origin to
    (applied, end); `high` is the largest stamp ever met here, and never goes back.

    Thread-safety: guarded by the cluster's lock.
    """

    shard: int
    own: int
    origins: dict[int, tuple[int, int | None]]
    logs: dict[int, list[Entry]] = attrs.field(factory=dict)
    versions: dict[str, Version] = attrs.field(factory=dict)
    high: int = 0
    writing: threading.Lock = attrs.field(factory=threading.Lock)

    def log(self, origin: int) -> list[Entry]:
        """Return what is applied here of one origin, in order."""
        return self.logs.setdefault(origin, [])

    def apply(self, entry: Entry) -> None:
        """Append a whole transaction; each of its changes wins or loses against what is there (last writer wins)."""
        origin = entry.position.origin
        self.log(origin).append(entry)
        self.origins[origin] = (entry.position.offset, self.origins[origin][1])
        self.high = max(self.high, entry.stamp)
        versions = dict(self.versions)  # snapshots hold the old one
        for key, value in entry.changes.items():
            old = versions.get(key)
            if old is None or wins(entry.stamp, origin, old.entry.stamp, old.entry.position.origin):
                versions[key] = Version(entry, value)
        self.versions = versions

    def past(self, origin: int) -> int:
        """Return the stamp up to which no more writes of an origin can arrive here."""
        applied, end = self.origins.get(origin, (0, None))
        if end is not None and applied >= end:
            return MAX_STAMP
        log = self.log(origin)
        return log[-1].stamp if log else 0


@attrs.define
class Site:
    """A place with one copy of every shard. `clock` is the last hybrid logical time that its clock gave.

    Thread-safety: guarded by the cluster's lock.
    """

    name: str
    copies: dict[int, Copy]
    history: list[Entry] = attrs.field(factory=list)
    clock: int = 0
    incarnation: int = 1
    paused: bool = False
    cut: bool = False
    stopped: bool = False
    hanging: bool = False
    lose_answer: bool | None = None

    def apply(self, entry: Entry) -> None:
        """Apply a transaction here."""
        self.copies[entry.position.shard].apply(entry)
        self.history.append(entry)

    def covers(self, deps: Frontier, store: int) -> bool:
        """Return whether all dependencies in this store are applied here. Of a lost one, what survives must be."""
        for key, offset in deps.entries.items():
            shard, origin = unpack(key)
            if store_of(shard) == store:
                copy = self.copies.get(shard)
                applied, end = (-1, None) if copy is None else copy.origins.get(origin, (-1, None))
                if applied < (offset if end is None else min(offset, end)):
                    return False
        return True

    def applied(self) -> Frontier:
        """Return everything applied here."""
        return Frontier.of(
            {pack(c.shard, origin): applied for c in self.copies.values() for origin, (applied, _) in c.origins.items()}
        )

    def snapshot(self) -> dict[int, Snapshot]:
        """Return every shard as it is now, at one moment."""
        life = (self.name, self.incarnation)
        return {
            shard: Snapshot(Watermark(shard, dict(c.origins), life, frozenset({c.own})), c.versions)
            for shard, c in self.copies.items()
        }

    def restart(self, history: Iterable[Entry]) -> None:
        """Begin a new life that remembers `history`, but nothing past the end of an origin."""
        self.incarnation += 1
        self.history = []
        for copy in self.copies.values():
            copy.logs, copy.versions = {}, {}
            copy.origins = {origin: (0, end) for origin, (_, end) in copy.origins.items()}
        for entry in history:
            end = self.copies[entry.position.shard].origins[entry.position.origin][1]
            if end is None or entry.position.offset <= end:
                self.apply(entry)
