"""How the simulated store replicates: what a leader commits reaches everybody else, in its order, after a while.

Owns the servers, the links between them, and when what arrives where. What is lost on the way is asked for again.
"""

from __future__ import annotations

import hashlib
import random
from functools import partial
from typing import TYPE_CHECKING, Final

from causal.lab.network import Network
from causal.lab.planet.oracle import Oracle
from causal.lab.planet.servers import Cluster, Copy, Server
from causal.lab.planet.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from causal.lab.faults import Faults
    from causal.lab.planet.logs import Entry, Log
    from causal.lab.planet.topology import Topology

FORGET_EVERY_S: Final = 1.0


class Replication:
    """The simulated store, replicating. `trace` hears every event as a line, or is None. Thread-safety: none."""

    def __init__(
        self,
        topology: Topology,
        faults: Faults,
        seed: int,
        trace: Callable[[str], object] | None,
        *,
        dependencies: bool,
        digest: bool,
    ) -> None:
        self.topology = topology
        self.faults = faults
        self.seed = seed
        self._hash = hashlib.blake2b(digest_size=16) if digest else None
        self._listener = trace
        self.trace = trace if trace is not None or not digest else _quiet
        self.timeline = Timeline()
        store = topology.store
        self.shards = tuple(range(store.shards))
        self.cluster = Cluster(
            timeline=self.timeline,
            shards=self.shards,
            dependencies=store.dependencies and dependencies,
            clock_offsets=store.offsets == "clock",
        )
        self.cluster.on_diverged = self.diverged
        self.cluster.on_ask = self._asked
        self.network = Network(topology, faults, self.chance("network"))
        self._lag_chance = self.chance("lag")
        self.oracle = Oracle(self.cluster, self.timeline.monotonic, max_staleness_s=store.max_staleness_s)
        self.cluster.on_broken = self.oracle.broke
        self._pulling: set[tuple[str, int]] = set()
        self._due_s: dict[tuple[int, str], float] = {}
        """By log and server: when the latest write that is on its way is applied there."""
        self._recorded: list[Log] = []
        self.leaders: dict[int, str] = {}
        self._indexes: list[Server] = []
        self._make_servers()

    def start_replicating(self) -> None:
        """Begin with what happens by itself, again and again."""
        if self.topology.store.offsets == "clock":
            self.timeline.after(0.0, self._beats)
        self.timeline.after(FORGET_EVERY_S, self._tidy)

    def chance(self, what: str) -> random.Random:
        """Return a source of chance of its own: what one draws moves no other."""
        return random.Random(f"{self.seed}/{what}")

    def note(self, said: str) -> None:
        """Tell of an event."""
        line = f"{self.timeline.now:.6f} {said}"
        if self._hash is not None:
            self._hash.update(line.encode())
        if self._listener is not None:
            self._listener(line)

    def members(self) -> list[Server]:
        """Return the servers of the cluster, the index not among them."""
        return [s for s in self.cluster.servers.values() if s not in self._indexes]

    def _make_servers(self) -> None:
        topology, cluster = self.topology, self.cluster
        for site in topology.sites:
            for n in range(site.replicas):
                server = Server(cluster, f"{site.name}-{n + 1}", site.name, int(site.skew_s * 1000))
                cluster.servers[server.name] = server
                server.copies = {shard: Copy(shard, {}) for shard in self.shards}
        if topology.index is not None:
            for name in topology.index.sites or tuple(s.name for s in topology.sites):
                server = Server(cluster, f"index-{name}", name)
                server.member = False
                cluster.servers[server.name] = server
                server.copies = {shard: Copy(shard, {}) for shard in self.shards}
                self._indexes.append(server)
        first = {site.name: cluster.servers[f"{site.name}-1"] for site in topology.sites if site.replicas}
        if topology.store.writers == "every":
            for shard in self.shards:
                for server in first.values():
                    cluster.lead(server, shard, cluster.new_origin())
        else:
            leaders = topology.store.leaders or (topology.sites[0].name,)
            origins = {leader: cluster.new_origin() for leader in leaders}
            for n, shard in enumerate(self.shards):
                leader = leaders[n % len(leaders)]
                cluster.lead(first[leader], shard, origins[leader])
                self.leaders[shard] = first[leader].name
        for server in cluster.servers.values():
            for copy in server.copies.values():
                known = {log.pk & 0xFFFFFFFF: (0, None) for log in cluster.logs.values() if log.shard == copy.shard}
                copy.origins = {**known, **copy.origins}

    def committed(self, leader: Server, entry: Entry) -> None:
        """Send what a leader has committed to everybody else."""
        log = self.cluster.logs[entry.pk]
        offset = entry.offset
        for server in self.cluster.servers.values():
            if server is not leader:
                calm = self.network.one_way[leader.site, server.site]
                for way in self.network.deliveries(leader.site, server.site):
                    due_s = self._in_order_s(log, server, calm + self._lag_s(server))
                    self.timeline.at(due_s + way - calm, partial(self._deliver, leader, server, log, offset))

    def _in_order_s(self, log: Log, server: Server, after_s: float) -> float:
        """Return when a write of a log that takes so long is applied: a log is applied in order, so never before the one before it.

        What the network does to messages on their way is not in it: they may overtake each other, and bring what is missing along.
        """
        key = log.pk, server.name
        self._due_s[key] = due_s = max(self.timeline.now + after_s, self._due_s.get(key, 0.0))
        return due_s

    def due_s(self, log: Log, server: Server) -> float:
        """Return when the latest write of a log that was sent to a server is applied there, if all goes well."""
        return self._due_s.get((log.pk, server.name), 0.0)

    def _lag_s(self, server: Server) -> float:
        store = self.topology.store
        lag = store.lag
        if server in self._indexes and self.topology.index is not None:
            lag = self.topology.index.lag
        lag_s = lag.median_s if not lag.sigma else lag.median_s * self._lag_chance.lognormvariate(0.0, lag.sigma)
        if store.burst_every_s and self.timeline.now % store.burst_every_s < store.burst_s:
            lag_s *= store.burst_factor
        return lag_s

    def _deliver(self, leader: Server, server: Server, log: Log, offset: int) -> None:
        if leader.up and self.network.passes(leader.name, server.name):
            before = server.copies[log.shard].applied(log.pk & 0xFFFFFFFF) if self.trace is not None else 0
            server.receive(log, offset)
            if self.trace is not None and server.copies[log.shard].applied(log.pk & 0xFFFFFFFF) != before:
                self.note(f"{server.name} applies {log.shard}/{log.pk & 0xFFFFFFFF} up to {offset}")

    def _asked(self, server: Server, log: Log) -> None:
        """Let a server fetch what it lacks of a log, from whoever holds more and can be reached."""
        key = server.name, log.pk
        if key not in self._pulling:
            self._pulling.add(key)
            self.timeline.after(0.001, partial(self._pull, server, log))

    def _pull(self, server: Server, log: Log) -> float | None:
        origin = log.pk & 0xFFFFFFFF
        copy = server.copies.get(log.shard)
        key = server.name, log.pk
        if copy is None or not server.up or server.name not in self.cluster.servers:
            self._pulling.discard(key)
            return None
        best: tuple[int, Server] | None = None
        for other in self.cluster.servers.values():
            if other is not server and other.up and self.network.passes(other.name, server.name):
                held = other.copies[log.shard].applied(origin)
                if log.end is not None:
                    held = min(held, log.end)
                if best is None or held > best[0]:
                    best = held, other
        self._pulling.discard(key)
        if log in self._recorded and log.end is not None:
            best = log.end, server  # it is kept for those who return behind it: nobody else may hold it any more
        if best is not None and best[0] > copy.applied(origin):
            server.receive(log, best[0])  # it may have arrived before, and have waited for what has ended since
        return None

    def catch_up(self, server: Server) -> None:
        """Let a server ask for all that it lacks, after a lag."""
        if server.up:
            for log in self._recorded:
                self._record(log, server)
            lag_s = self._lag_s(server)
            for log in self.cluster.logs.values():
                if server.copies[log.shard].applied(log.pk & 0xFFFFFFFF) < log.head:
                    self.timeline.after(lag_s, partial(self._pull, server, log))

    def catch_up_all(self) -> None:
        """Let every server ask for what it lacks."""
        for server in list(self.cluster.servers.values()):
            self.catch_up(server)

    def resume(self, server: Server) -> None:
        """Let a server apply again what has arrived meanwhile."""
        server.paused = False
        if server.up:
            for copy in server.copies.values():
                for origin in list(copy.reach):
                    server.drain(self.cluster.logs[copy.shard << 32 | origin], copy)
            self.catch_up(server)

    def _beats(self) -> float:
        """Send heartbeats: where offsets are clock readings, every origin says how far it is."""
        for server in list(self.cluster.servers.values()):
            if server.up:
                logs = server.beat()
                for other in self.cluster.servers.values() if logs else ():
                    if other is not server:
                        for way in self.network.deliveries(server.site, other.site):
                            heads = tuple((log, log.head, self._due_s.get((log.pk, other.name), 0.0)) for log in logs)
                            self.timeline.after(
                                way + self._lag_s(other), partial(self._deliver_all, server, other, heads)
                            )
        return self.topology.store.heartbeat_s

    def _deliver_all(self, leader: Server, server: Server, heads: Iterable[tuple[Log, int, float]]) -> None:
        """Deliver heartbeats; one that was sent after a write which is still to be applied waits for that."""
        if leader.up and self.network.passes(leader.name, server.name):
            for log, head, due_s in heads:
                if due_s <= self.timeline.now:
                    server.receive(log, head)
                else:
                    self.timeline.at(due_s, partial(self._deliver, leader, server, log, head))

    def _tidy(self) -> float:
        """Ask again for what was lost on the way, and forget what nobody lacks."""
        if self.faults:
            self.catch_up_all()
        self.oracle.forget(self.cluster.forget())
        return FORGET_EVERY_S

    def _record(self, log: Log, server: Server) -> None:
        """Let a server read where a log ends: a decision that is on record, whoever has heard of it restarts or leaves."""
        copy, origin = server.copies[log.shard], log.pk & 0xFFFFFFFF
        applied, known = copy.origins.get(origin, (-1, log.end))
        if known is None:
            copy.origins = {**copy.origins, origin: (applied, log.end)}
            copy.marks = None
        if log.end is not None and applied > log.end:
            self.diverged(server)

    def diverged(self, server: Server) -> None:
        """Hear of a server that holds what was lost."""


def _quiet(_: str) -> None:
    pass
