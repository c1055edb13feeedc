"""A process's live connection to a directory: the links of the contract, synchronous and asynchronous.

Owns the routing of each call to a file, the simulated network, and what runs in the background. Decides nothing of its own.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.engine import Endpoint
from causal.errors import ConfigError, Unreachable
from causal.stores.sqlite.blocks.cut import CutTransaction
from causal.stores.sqlite.blocks.reading import Reader, ReadTransaction
from causal.stores.sqlite.blocks.writing import Writer, WriteTransaction, has_left
from causal.stores.sqlite.files.directory import PAUSED, check_reachable
from causal.stores.sqlite.files.registry import LEFT, LIVE, Members
from causal.stores.sqlite.replication.apply import Pulled
from causal.stores.sqlite.replication.collect import collect
from causal.stores.sqlite.replication.members import (
    announce,
    attach_site,
    decide_ends,
    fence,
    lead_again,
    mark_closed,
    mend,
)
from causal.stores.sqlite.replication.replicate import Replicator, replicate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from causal.clock import HybridLogicalClock
    from causal.controls import Lag
    from causal.core.watermark import Watermark
    from causal.stores.sqlite.files.directory import Directory
    from causal.stores.sqlite.files.schema import Durability
    from causal.stores.sqlite.files.shard import ShardFile

_LOOK_S: Final = 0.05
"""How old the list of sites may be, and how long ago a read has looked whether this site's file is still the one that is open."""
_TELL_S: Final = 0.5
"""How often members are told of origins, should one have been out of reach when it was news."""
_COLLECT_S: Final = 1.0
_KEEP_S: Final = 960.0
"""How long a tombstone stays after nothing older can come any more: a cache or an index may show what was deleted for as long as a store's
`max_staleness_s + max_clock_skew_s`, and whoever has seen that it is gone has only the tombstone to say so.
HAZARD: stores that set more.
"""


@attrs.frozen
class Settings:
    """What a link takes from its engine. Thread-safety: immutable."""

    site: str
    lag: Lag
    rtt_s: Callable[[str], float]
    durability: Durability
    clock: HybridLogicalClock
    wall: Callable[[], int]
    sleep: Callable[[float], None]


class SQLiteLink:
    """A process's live connection to every site of a directory, from one of them.

    Raises: Unreachable for a site that is cut off, joining or locked; StoreError for what is wrong with a file.
    Thread-safety: safe; handles belong to one thread at a time. HAZARD: not to be used across a fork.
    """

    def __init__(self, directory: Directory, settings: Settings, *, replicating: bool) -> None:
        self.directory = directory
        self._settings = settings
        self._site = settings.site
        self._near: dict[int, ShardFile] = {}
        self._near_until = 0.0
        self._members: Members | None = None
        self._endpoints: tuple[Endpoint, ...] = ()
        self._look_at = 0.0
        self._told: Members | None = None
        self._tell_at = self._collect_at = 0.0
        self._closed = False
        self._eager = not replicating
        self._replicator = (
            Replicator(directory, settings.site, self.step, settings.wall, settings.lag) if replicating else None
        )

    # --- endpoints ---------------------------------------------------------------------------------------------

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The sites that are live, this one first."""
        self._look()
        return self._endpoints

    def _look(self) -> Members:
        """Return the registry as it was at most a moment ago."""
        now, known = time.monotonic(), self._members
        if known is not None and now < self._look_at:
            return known
        members = self.directory.members()
        if members is not known:
            names = sorted(members.in_state(LIVE), key=lambda name: (name != self._site, name))
            self._endpoints = tuple(Endpoint(name, name, self._rtt_s(name)) for name in names)
            self._members = members
        self._look_at = now + _LOOK_S
        return members

    def refresh(self) -> None:
        """Look at the list of sites, and at this site's files, again at the next use."""
        self._look_at = self._near_until = 0.0

    def _rtt_s(self, endpoint: str) -> float:
        return 0.0 if endpoint == self._site else self._settings.rtt_s(endpoint)

    def _enter(self, endpoint: str, timeout_s: float | None = None) -> None:
        """Go to an endpoint: pay the way there, half a round trip, and see whether it is there. Who enters leaves, too."""
        if self._closed:
            raise ConfigError("this link is closed")
        if endpoint == self._site:
            return
        rtt_s = self._settings.rtt_s(endpoint)
        if timeout_s is not None and rtt_s > timeout_s:
            self._settings.sleep(timeout_s)
            raise Unreachable(f"{endpoint} did not answer in {timeout_s:g} s")
        self._travel(endpoint)
        try:
            check_reachable(self.directory, self._site, endpoint)
            if self.directory.members().sites.get(endpoint) != LIVE:
                raise Unreachable(f"{endpoint} is not a live site of {self.directory.path}")
            if endpoint not in self.directory.locks.attached:
                attach_site(self.directory, endpoint)
        except BaseException:
            self._travel(endpoint)
            raise

    def _travel(self, endpoint: str) -> None:
        """Pay one way between this site and an endpoint. What is seen there is as it was half a round trip before it is told."""
        if endpoint != self._site and (rtt_s := self._settings.rtt_s(endpoint)):
            self._settings.sleep(rtt_s / 2)

    def _file(self, endpoint: str, shard: int) -> ShardFile:
        file = self.directory.file(endpoint, shard & 0xFFFF)
        if file.shard != shard:
            raise ConfigError(f"no shard {shard} in {self.directory.path}")
        return file

    # --- the contract ------------------------------------------------------------------------------------------

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        """Return the watermarks of an endpoint now, of every shard."""
        self._enter(endpoint, timeout_s)
        try:
            self.refresh()  # they may tell of a site that has joined since: only who knows it can ask it
            return self._watermarks(endpoint)
        finally:
            self._travel(endpoint)

    def _watermarks(self, endpoint: str, *, without: int = -1) -> dict[int, Watermark]:
        found: dict[int, Watermark] = {}
        for file in self.directory.files(endpoint):
            if file.shard != without:
                found.update(file.now())
        return found

    def read(self, endpoint: str, shards: Sequence[int]) -> ReadTransaction | CutTransaction:
        """Open one snapshot of a site's shards; of several, all at one moment."""
        if len(shards) == 1 and endpoint == self._site and time.monotonic() < self._near_until:
            file = self._near.get(shards[0])
            if file is not None:
                return ReadTransaction(file)
        self._enter(endpoint)
        try:
            now, files = time.monotonic(), [self._file(endpoint, shard) for shard in shards]
            for file in files:
                file.check()
            if len(shards) > 1:
                return CutTransaction(files)
            if endpoint == self._site:
                if now >= self._near_until:
                    self._near.clear()
                    self._near_until = now + _LOOK_S
                self._near[shards[0]] = files[0]
            return ReadTransaction(files[0])
        finally:
            self._travel(endpoint)

    def write(self, endpoint: str, shard: int, deps: Frontier) -> WriteTransaction:
        """Open a write transaction on a site's own log of a shard; it holds the write lock of that file."""
        file = self._near.get(shard) if endpoint == self._site and self._settings.durability == "full" else None
        return self._writing(endpoint, file or self.write_entry(endpoint, shard))

    def is_near(self, endpoint: str) -> bool:
        """Return whether an endpoint is this process's own, without a network in between."""
        return endpoint == self._site

    def write_entry(self, endpoint: str, shard: int) -> ShardFile:
        """Do what comes before the write lock: go there, and note how durable it will be. Return the file to lock."""
        self._enter(endpoint)
        self._travel(endpoint)  # before the lock: nobody else is to wait for a simulated network
        file = self._file(endpoint, shard)
        file.check()
        self.directory.used_relaxed(endpoint, self._settings.durability)
        if endpoint == self._site:
            self._near[shard] = file
        return file

    def write_locked(self, endpoint: str, file: ShardFile, left_s: float) -> WriteTransaction:
        """Open a write transaction after `file.try_lock()`, with so much time left to wait for other processes; unlock if that fails."""
        return self._writing(endpoint, file, left_s)

    def _writing(self, endpoint: str, file: ShardFile, left_s: float | None = None) -> WriteTransaction:
        settings = self._settings
        others = partial(self._watermarks, endpoint, without=file.shard) if len(self._look().shards) > 1 else dict
        return WriteTransaction(
            file, settings.durability, settings.clock, settings.wall, others, self.directory.wake, left_s
        )

    def leader(self, shard: int) -> str:
        """Return this process's own site: every site takes writes. Raises: Unreachable if it has left."""
        if self._look().sites.get(self._site) == LEFT:
            raise has_left(self._site, self.directory.path)
        return self._site

    def position(self, connection: Any) -> Frontier:
        """Return what covers a connection's committed writes: for a writer of this store its own, else this site's heads."""
        if isinstance(connection, Writer):
            return connection.committed
        if not isinstance(connection, Reader) and connection is not None:
            raise ConfigError(f"not a connection of this store: {type(connection).__name__}")
        heads = self._watermarks(self._site)
        return Frontier(Position(s, o, w.origins[o][0]) for s, w in heads.items() for o in w.leads)

    @property
    def closed(self) -> bool:
        """Whether this link was closed."""
        return self._closed

    def close(self) -> None:
        """End replication and close every connection of this link. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._near.clear()
        if self._replicator is not None:
            self._replicator.stop()
        self.directory.release(mark_closed)

    # --- background ----------------------------------------------------------------------------------------------

    def step(self) -> Pulled:
        """Do one round of replication at this link's site: what is due now, unless it is paused."""
        directory, site, now = self.directory, self._site, time.monotonic()
        members = directory.members()
        if members.sites.get(site) == LEFT:
            fence(directory, site)
            return Pulled()
        if self._eager or members is not self._told or now >= self._tell_at:
            lead_again(directory, site)
            announce(directory, site)
            decide_ends(directory, site)
            self._told, self._tell_at = directory.members(), now + _TELL_S
        if directory.is_up(site, PAUSED):
            return Pulled()
        done = replicate(directory, site, lag=self._settings.lag, wall=self._settings.wall, pausable=True)
        mend(directory, site, done)
        if not self._eager and now >= self._collect_at:
            self.collect(_KEEP_S)
            self._collect_at = now + _COLLECT_S
        return done

    def collect(self, keep_s: float = 0.0) -> int:
        """Remove at this link's site what no member needs any more, but no tombstone younger than this; return how many keys that freed."""
        return collect(self.directory, self._site, self._settings.clock, self._settings.wall, keep_s)

    def catch_up(self, endpoint: str) -> None:
        """Apply at an endpoint, now, everything it can reach, whatever the lag or pause."""
        if self.directory.members().sites.get(endpoint) != LIVE:
            raise ConfigError(f"no live site {endpoint!r} in {self.directory.path}")
        if endpoint not in self.directory.locks.attached:
            attach_site(self.directory, endpoint)
        announce(self.directory, endpoint)
        decide_ends(self.directory, endpoint)
        mend(self.directory, endpoint, replicate(self.directory, endpoint))
