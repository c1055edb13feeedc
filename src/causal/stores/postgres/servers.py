"""All servers of a link: their names, and who is taken for a shard's leader.

Owns what several servers say together; what one says is in `server.py`, what it proves in `lineage.py`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import attrs

from causal.core.frontier import Frontier
from causal.engine import Endpoint
from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.postgres.answers import stamped
from causal.stores.postgres.lineage import Lives, ahead, supersedes
from causal.stores.postgres.lsn import spell
from causal.stores.postgres.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from causal.core.watermark import Watermark
    from causal.stores.postgres.answers import Ground
    from causal.stores.postgres.blocks import Manner
    from causal.stores.postgres.lineage import Known
    from causal.stores.postgres.pools import PoolSettings

LOOK_S: Final = 0.5
"""How often a shard without a leader is looked over for a new one."""


@attrs.frozen
class Member:
    """One server as it was configured: its name, where it is, and how near. Thread-safety: immutable."""

    name: str
    dsn: str = attrs.field(repr=False)  # it may hold a password
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
    commit_timeout_s: float


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
        self._dead: set[int] = set()

    def of(self, endpoint: str) -> Server:
        """Return a server by its endpoint's name."""
        if self.closed:
            raise ConfigError("this link is closed")
        try:
            return self.by_name[endpoint]
        except KeyError:
            raise ConfigError(f"no endpoint {endpoint!r} here") from None

    def holding(self, endpoint: str, shards: Iterable[int]) -> Server:
        """Return a server by its endpoint's name. Raises: ConfigError where it does not hold one of the shards."""
        server = self.of(endpoint)
        for shard in shards:
            if shard != server.shard:
                raise ConfigError(f"{endpoint} holds shard {server.shard}, not {shard}")
        return server

    def probe(self, endpoint: str, timeout_s: float, changed: list[str]) -> Mapping[int, Watermark]:
        """Ask a server; return its marks, and note which servers have `changed` lives since they were known. Raises: StoreError."""
        server = self.of(endpoint)
        known = self._ask(server, timeout_s, changed)
        self._not_a_stranger(server, timeout_s)
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

    def _not_a_stranger(self, server: Server, timeout_s: float) -> None:
        """Refuse a server of another cluster than the configured primary's. Raises: StoreError.

        HAZARD: until that has answered once, nobody can say which cluster is the right one.
        """
        primary = self.by_name[self.settings.primaries[server.shard]]
        if primary.ground is None and not primary.down:
            with contextlib.suppress(StoreError):
                self._ask(primary, timeout_s, [])
        if self._is_stranger(server):
            raise StoreError(
                f"{server.name} is of another cluster than {primary.name}: their system identifiers differ"
            )

    def _is_stranger(self, server: Server) -> bool:
        ground, of_primary = server.ground, self.by_name[self.settings.primaries[server.shard]].ground
        return ground is not None and of_primary is not None and ground.system != of_primary.system

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
            s
            for s in self.by_name.values()
            if s.shard == shard and s.known is not None and not s.known.life.standby and not self._is_stranger(s)
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

    def beyond(self, server: Server, origin: int | None) -> Frontier:
        """Return what covers all that a standby has shown until now, of an origin, by asking the leader: no standby is ahead of it.

        What a standby showed past the end of a history that was left is lost, and demanded by nobody. Raises: Unreachable, StoreError.
        """
        leader = self.by_name[self.leader(server.shard)]
        if leader is server:
            raise Unreachable(f"{server.name} cannot be asked what it showed")
        self.probe(leader.name, self.settings.timeout_s, [])
        known = leader.known
        if known is None or known.life.standby or origin not in known.marks[server.shard].origins:
            raise Unreachable(f"{leader.name} is not the leader any more")
        most = known.marks[server.shard].frontier
        if leader.ground is not None and leader.ground.stamps:
            most |= Frontier.of(stamped(leader.stamps(self.settings.timeout_s)))
        return self.living(most, server.shard)

    def unheard(self, seen: Frontier, shard: int) -> bool:
        """Return whether what was shown depends on a history of another shard here that none of its servers was known to have."""
        return any(key >> 32 != shard and self._known_to_none(key) for key in seen.entries)

    def _known_to_none(self, key: int) -> bool:
        shard, origin = key >> 32, key & 0xFFFFFFFF
        servers = [server for server in self.by_name.values() if server.shard == shard]
        return bool(servers) and not any(_has(server.known, origin) for server in servers)

    def living(self, seen: Frontier, shard: int) -> Frontier:
        """Return what was shown without dependencies on histories that other shards have no more: nobody could ever show those.

        One is dropped only if every server of its shard says, asked now, that it has not heard of it; whoever does not answer may have.
        """
        dead = {key for key in seen.entries if key >> 32 != shard and self._is_dead(key)}
        return Frontier.of({k: v for k, v in seen.entries.items() if k not in dead}) if dead else seen

    def _is_dead(self, key: int) -> bool:
        if not self._known_to_none(key):
            return False
        if key not in self._dead:
            try:
                for server in self.by_name.values():
                    if server.shard == key >> 32:
                        server.poll(self.settings.timeout_s)
            except StoreError:
                return False
            if not self._known_to_none(key):
                return False
            self._dead.add(key)
        return True

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


def _has(known: Known | None, origin: int) -> bool:
    return known is not None and any(origin in mark.origins for mark in known.marks.values())
