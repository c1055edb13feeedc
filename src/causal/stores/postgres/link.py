"""A process's live connection to every server of every shard: the synchronous link of the contract.

Owns the routing of each call to a server's pool, and who is taken for a shard's leader. What servers prove is in `lineage.py`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

import attrs
import psycopg

from causal.core.frontier import Frontier
from causal.engine import Commit, Endpoint
from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.postgres.blocks import Reading, Writing
from causal.stores.postgres.exchange import drive
from causal.stores.postgres.lineage import ahead, supersedes
from causal.stores.postgres.lsn import spell
from causal.stores.postgres.outside import driver_connection, outside
from causal.stores.postgres.pools import Pool
from causal.stores.postgres.server import Lives, Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.core.watermark import Watermark
    from causal.stores.postgres.blocks import Manner
    from causal.stores.postgres.lineage import Known
    from causal.stores.postgres.pools import PoolSettings
    from causal.stores.postgres.server import Ground

B = TypeVar("B", Reading, Writing)

LOOK_S: Final = 0.5
"""How often a shard without a leader is looked over for a new one."""


@attrs.frozen
class Member:
    """One server as it was configured: its name, where it is, and how near. Thread-safety: immutable."""

    name: str
    dsn: str
    shard: int
    site: str
    latency_s: float


@attrs.frozen
class Settings:
    """What a link takes from its engine. Thread-safety: immutable."""

    members: tuple[Member, ...]
    primaries: Mapping[int, str]
    pool: PoolSettings
    manner: Manner
    timeout_s: float


class Servers:
    """The servers of a link, and who leads: shared by the synchronous and the asynchronous one. Thread-safety: safe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        lives = {m.shard: Lives() for m in settings.members}
        self.by_name = {m.name: Server(m.name, m.dsn, m.shard, lives[m.shard]) for m in settings.members}
        self.endpoints = tuple(
            Endpoint(m.name, m.site, m.latency_s, shards=frozenset({m.shard})) for m in settings.members
        )
        self.closed = False
        self.grounds: WeakKeyDictionary[object, Ground] = WeakKeyDictionary()
        """What holds behind connections of others, whose positions were asked for."""
        self._looked_at: dict[int, float] = {}

    def of(self, endpoint: str) -> Server:
        """Return a server by its endpoint's name."""
        if self.closed:
            raise ConfigError("this link is closed")
        try:
            return self.by_name[endpoint]
        except KeyError:
            raise ConfigError(f"no endpoint {endpoint!r} here") from None

    def probe(self, endpoint: str, timeout_s: float, changed: list[str]) -> Mapping[int, Watermark]:
        """Ask a server; return its marks, and note which servers have `changed` lives since they were known. Raises: StoreError."""
        server = self.of(endpoint)
        known = self._ask(server, timeout_s, changed)
        if server.unsure and not server.alone:
            # A standby that receives anew, or no more: of which life, the primary can tell.
            leader = self.by_name[self.leader(server.shard)]
            if not leader.down or time.monotonic() - leader.asked_at > LOOK_S:
                with contextlib.suppress(StoreError):
                    self._ask(leader, timeout_s, changed)
            server.alone = leader.down
            known = self._ask(server, timeout_s, changed)
            server.alone = False
        self.not_deposed(server)
        self._not_ahead(server, known)
        return known.marks

    @staticmethod
    def _ask(server: Server, timeout_s: float, changed: list[str]) -> Known:
        before, server.asked_at = server.known, time.monotonic()
        try:
            known = server.poll(timeout_s)
        except StoreError:
            server.down = True
            raise
        server.down = False
        if before is not None and before.life != known.life:
            changed.append(server.name)
        return known

    def not_deposed(self, server: Server) -> None:
        """Refuse a primary that another one has superseded. Raises: Unreachable."""
        known = server.known
        if known is None or known.life.standby:
            return
        for other in self.by_name.values():
            if other.shard == server.shard and other.known is not None and supersedes(other.known, known):
                raise Unreachable(
                    f"{server.name} takes writes on timeline {known.timeline}, but {other.name} was promoted to timeline "
                    f"{other.known.timeline}: stop it, and rewind it or clone it anew"
                )

    def _not_ahead(self, server: Server, known: Known) -> None:
        """Refuse a standby that is past the end of the history that it has. Raises: Unreachable."""
        for other in self.by_name.values():
            if other.shard == server.shard and other.known is not None:
                end = ahead(known, other.known)
                if end is not None:
                    raise Unreachable(
                        f"{server.name} is at {spell(known.reached)}, past {spell(end)}, where its history ended: it holds what was lost"
                    )

    def leader(self, shard: int) -> str:
        """Return who takes the writes of a shard, as far as is known: of several primaries the one promoted last."""
        claims = [
            s for s in self.by_name.values() if s.shard == shard and s.known is not None and not s.known.life.standby
        ]
        up = [s for s in claims if not s.down]
        best: Server | None = None
        for server in up or claims:
            assert server.known is not None
            if best is None or (best.known is not None and supersedes(server.known, best.known)):
                best = server
        if best is not None:
            return best.name
        try:
            return self.settings.primaries[shard]
        except KeyError:
            raise ConfigError(f"no shard {shard} here") from None

    def without_leader(self, shard: int) -> bool:
        """Return whether it is time to look for a shard's leader: the one that is known does not answer, or was demoted."""
        server, now = self.by_name.get(self.leader(shard)), time.monotonic()
        if server is not None and not server.down and server.known is not None and not server.known.life.standby:
            return False
        if now - self._looked_at.get(shard, -LOOK_S) < LOOK_S:
            return False
        self._looked_at[shard] = now
        return True

    def look(self, shard: int) -> None:
        """Ask every server of a shard, for one that was promoted."""
        for server in self.by_name.values():
            if server.shard == shard:
                try:
                    self.probe(server.name, self.settings.timeout_s, [])
                except StoreError:
                    continue

    def look_everywhere(self) -> None:
        """Ask every server: whoever leads begins its origin."""
        for shard in {server.shard for server in self.by_name.values()}:
            self.look(shard)

    def close(self) -> None:
        """Hang up everywhere. Idempotent."""
        self.closed = True
        for server in self.by_name.values():
            server.close()


class ReadBlock:
    """A read handle: a pooled connection inside the transaction that was checked. Thread-safety: one thread at a time."""

    def __init__(self, block: Reading | Writing, pool: Pool, timeout_s: float) -> None:
        self._block = block
        self._pool: Pool | None = pool
        self._timeout_s = timeout_s
        self.connection: psycopg.Connection[Any] = block.connection
        self.watermarks = block.watermarks

    def end(self) -> None:
        """End the transaction; `seen` then says what it can have shown."""
        drive(self._block.end(), self._block.pgconn, self._timeout_s)

    def seen(self) -> Frontier:
        return self._block.seen()

    def blame(self, error: BaseException) -> StoreError | None:
        """Return why the server ended the block, where it was not the block's own statement."""
        return self._block.blame(error)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                drive(self._block.undo(), self._block.pgconn, self._timeout_s)
            finally:
                pool.give(self.connection, usable=self._block.usable)


class WriteBlock(ReadBlock):
    """A write handle. Thread-safety: one thread at a time."""

    _block: Writing

    def commit(self, deps: Frontier) -> Commit:
        pool, self._pool = self._pool, None
        if pool is None:
            raise StoreError("this write block has ended")
        try:
            return drive(self._block.commit(deps), self._block.pgconn, self._timeout_s)
        finally:
            pool.give(self.connection, usable=self._block.usable)

    def rollback(self) -> None:
        self.close()


class PostgresLink:
    """A process's live connection to the servers. Thread-safety: safe. HAZARD: not to be used across a fork."""

    def __init__(self, settings: Settings) -> None:
        self._servers = Servers(settings)
        self._settings = settings
        self._pools = {
            name: Pool(server, settings.pool, settings.timeout_s) for name, server in self._servers.by_name.items()
        }

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self._servers.endpoints

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        changed: list[str] = []
        try:
            return self._servers.probe(endpoint, timeout_s, changed)
        finally:
            for name in changed:
                self._pools[name].renew()

    def read(self, endpoint: str, shards: Sequence[int]) -> ReadBlock:
        block, pool = self._open(endpoint, Reading, writing=False)
        return ReadBlock(block, pool, self._settings.timeout_s)

    def write(self, endpoint: str, shard: int, deps: Frontier) -> WriteBlock:
        block, pool = self._open(endpoint, Writing, writing=True)
        return WriteBlock(block, pool, self._settings.timeout_s)

    def _open(self, endpoint: str, kind: type[B], *, writing: bool) -> tuple[B, Pool]:
        server, pool = self._servers.of(endpoint), self._pools[endpoint]
        if server.ground is None:
            self.probe(endpoint, self._settings.timeout_s)
        connection, backend, ground = pool.take()
        block = kind(server, connection, backend, ground, self._settings.manner)
        try:
            drive(block.begin(writing=writing), connection.pgconn, self._settings.timeout_s)
        except BaseException:
            pool.give(connection, usable=False)
            raise
        return block, pool

    def leader(self, shard: int) -> str:
        if self._servers.without_leader(shard):
            self._servers.look(shard)
        return self._servers.leader(shard)

    def position(self, connection: Any) -> Frontier:
        """Return what covers everything that was committed through a connection to a primary of this store."""
        raw = driver_connection(connection)
        return outside(raw, self._servers)

    def close(self) -> None:
        self._servers.close()
        for pool in self._pools.values():
            pool.close()
