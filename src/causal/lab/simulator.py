"""The simulator: a planet of sites, servers, processes and users, in virtual time, from one seed.

Owns one run: what there is, what happens to it, and what came out. It runs the real core (hybrid clock, frontiers, token codec, gate,
session rules, limits); only loops and servers are simulated. The same topology, strategy, faults and seed give the same history, to the
byte, on any machine.

A run has two phases. *Safety*: everything may break, and no promise may. *Liveness*: what is needed is mended, the rest stays broken,
and every wait must end.
"""

from __future__ import annotations

import hashlib
import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.keyring import Key, Keyring
from causal.core.policy import Limits, ReadPolicy
from causal.errors import ConfigError, TokenError
from causal.lab.faults import Faults
from causal.lab.network import Network
from causal.lab.planet.breaking import Breaker
from causal.lab.planet.cache import SiteCache
from causal.lab.planet.clients import Users
from causal.lab.planet.metrics import Metrics
from causal.lab.planet.oracle import Anomalies, Oracle, Violation
from causal.lab.planet.process import AUDIENCE, Process
from causal.lab.planet.servers import START_MS, Cluster, Copy, Entry, Log, Server
from causal.lab.planet.timeline import Timeline
from causal.lab.planet.topology import Store, Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.lab.planet.recording import Recording

FIRST_KEY: Final = Key(1, b"\x01" * 32)
"""A key of no secret value: the tokens of a simulation protect nothing, and must be the same in every run."""
RETIRED_KEY: Final = Key(255, b"\xff" * 32)
FORGET_EVERY_S: Final = 1.0
ENDS_WITHIN_S: Final = 30.0
"""How long the liveness phase is: every request that was under way when it began has ended by then, and a new one is answered."""


@attrs.frozen
class Strategy:
    """A way to read, as it is compared. `promises`: that no anomaly is ever shown. `dependencies`: whether they count across shards."""

    name: str
    policy: Callable[[Topology], ReadPolicy]
    promises: bool
    dependencies: bool = True


STRATEGIES: Final[Mapping[str, Strategy]] = {
    s.name: s
    for s in (
        Strategy("token", lambda t: ReadPolicy(wait_s=t.wait_s), promises=True),
        Strategy("token-shard", lambda t: ReadPolicy(wait_s=t.wait_s), promises=False, dependencies=False),
        Strategy("leader", lambda t: ReadPolicy.leader(wait_s=t.wait_s), promises=True),
        Strategy("window", lambda t: ReadPolicy.leader_window(t.window_s), promises=False),
        Strategy("quorum", lambda t: ReadPolicy.quorum(t.quorum, token=False, wait_s=t.wait_s), promises=False),
        Strategy("quorum+token", lambda t: ReadPolicy.quorum(t.quorum, wait_s=t.wait_s), promises=True),
        Strategy("bounded", lambda t: ReadPolicy.bounded(t.bound_s, wait_s=t.wait_s), promises=False),
        Strategy("eventual", lambda t: ReadPolicy.eventual(), promises=False),
    )
}
"""The strategies that a simulation can run, by name."""


@attrs.frozen
class Outcome:
    """What came out of one run. `digest`: of every event, where it was traced. Thread-safety: immutable by convention."""

    strategy: str
    policy: str
    seed: int
    metrics: Metrics
    anomalies: Anomalies
    accepted: Anomalies
    violations: tuple[Violation, ...]
    broken: int
    events: int
    ended_s: float
    digest: str


def simulate(
    topology: Topology,
    strategy: str = "token",
    *,
    faults: Faults | None = None,
    seed: int = 1,
    trace: Callable[[str], object] | None = None,
    digest: bool = False,
    recording: Recording | None = None,
    progress: Callable[[int], object] | None = None,
    live: bool = True,
) -> Outcome:
    """Run a planet under one strategy, with the topology's own faults unless others are given.

    `trace` hears every event as a line of text; `digest` makes a digest of these lines; `recording` is told of every operation;
    `progress` hears how many operations ended since it was last called. `live` appends the liveness phase.
    Raises: ConfigError for an unknown strategy.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(f"no strategy {strategy!r}: there are {', '.join(STRATEGIES)}")
    return Simulation(
        topology,
        STRATEGIES[strategy],
        Faults.of(dict(topology.faults)) if faults is None else faults,
        seed,
        trace,
        digest=digest,
        recording=recording,
    ).run(progress, live=live)


class Simulation:
    """One run. Everything in it happens in one thread."""

    def __init__(
        self,
        topology: Topology,
        strategy: Strategy,
        faults: Faults,
        seed: int,
        trace: Callable[[str], object] | None = None,
        *,
        digest: bool = False,
        recording: Recording | None = None,
    ) -> None:
        self.topology = topology
        self.strategy = strategy
        self.faults = faults
        self.seed = seed
        self.recording = recording
        self._hash = hashlib.blake2b(digest_size=16) if digest else None
        self._listener = trace
        self.trace = trace if trace is not None or not digest else _quiet
        self.policy = strategy.policy(topology)
        self.anything = ReadPolicy.eventual()
        self.index_policy = (
            ReadPolicy(wait_s=topology.wait_s, then="stale", unproven="serve") if strategy.promises else self.anything
        )
        self.promises = strategy.promises
        self.aware = strategy.promises
        self.timeline = Timeline()
        self.metrics = Metrics()
        self.anomalies, self.accepted = Anomalies(), Anomalies()
        self.over = False
        self.active = 0
        self.rotating = False
        self.pending: dict[tuple[str, int], float] = {}
        self._numbers = 0
        store = topology.store
        self.shards = tuple(range(store.shards))
        self.cluster = Cluster(
            now=self.timeline.monotonic,
            shards=self.shards,
            dependencies=store.dependencies and strategy.dependencies,
            clock_offsets=store.offsets == "clock",
        )
        self.cluster.on_diverged = self._diverged
        self.cluster.on_ask = self._asked
        self.network = Network(topology, faults, self.chance("network"))
        self._lag_chance = self.chance("lag")
        self.oracle = Oracle(self.cluster, self.timeline.monotonic, store.max_staleness_s)
        self.cluster.on_broken = self.oracle.broke
        self._pulling: set[tuple[str, int]] = set()
        self._due_s: dict[tuple[int, str], float] = {}
        """By log and server: when the latest write that is on its way is applied there."""
        self._rebuilding: set[str] = set()
        self._retired: list[Log] = []
        self.leaders: dict[int, str] = {}
        self.skews: dict[str, float] = {}
        self._process_chance = self.chance("process")
        self._suspension = self.chance("suspension")
        self._indexes: list[Server] = []
        self._make_servers()
        self.master = Keyring([FIRST_KEY, RETIRED_KEY], primary=FIRST_KEY.id)
        self.processes: dict[str, list[Process]] = {}
        self.everyone: list[Process] = []
        self.index: dict[Process, Process] | None = None
        self._make_processes()
        self.caches = {s.name: SiteCache(topology.cache) for s in topology.sites} if topology.cache else {}
        self.users = [Users(self, p, self.chance(f"users/{p.name}")) for p in topology.population]
        self.breaker = Breaker(self, self.chance("faults"))

    # --- making ----------------------------------------------------------------------------------------------------

    def chance(self, what: str) -> random.Random:
        """Return a source of chance of its own: what one draws moves no other."""
        return random.Random(f"{self.seed}/{what}")

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

    def _make_processes(self) -> None:
        topology = self.topology
        limits = Limits(10**6, 10**6, 10**6, 10**6)
        settings = attrs.evolve(topology.store, dependencies=self.cluster.dependencies)
        for site in topology.sites:
            for n in range(site.processes):
                name = f"{site.name}/{n + 1}"
                self.skews[name] = 0.0
                process = self._process(name, site.name, settings, self.policy, limits)
                self.processes.setdefault(site.name, []).append(process)
                self.everyone.append(process)
        for process in self.everyone:
            process.know(self.members())
            self.timeline.start(process.open())
        if self._indexes:
            self.index = {}
            for process in self.everyone:
                twin = self._process(f"{process.name}/index", process.site, settings, self.index_policy, limits)
                twin.know(self._indexes)
                self.index[process] = twin
                self.timeline.start(twin.open())

    def _process(self, name: str, site: str, settings: Store, policy: ReadPolicy, limits: Limits) -> Process:
        process = Process(
            name,
            site,
            timeline=self.timeline,
            network=self.network,
            cluster=self.cluster,
            settings=settings,
            keyring=Keyring([FIRST_KEY]) if self.faults.key_rotation else self._ring(),
            policy=policy,
            limits=limits,
            wall=partial(self._wall, name),
            seed=f"{self.seed}/{name}",
            suspended=self._suspended if self.faults.suspension else None,
        )
        return process

    def _ring(self) -> Keyring:
        ring: Keyring | None = getattr(self, "_shared_ring", None)
        if ring is None:
            self._shared_ring = ring = Keyring([FIRST_KEY])
        return ring

    def _wall(self, name: str) -> float:
        return START_MS / 1000 + self.timeline.now + self.skews.get(name, 0.0)

    def _suspended(self) -> float:
        if not self.over and self._suspension.random() < self.faults.suspension:
            return min(self._suspension.expovariate(1 / self.faults.suspension_s), ENDS_WITHIN_S / 3)
        return 0.0

    # --- asking ----------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """Return a number that nothing had before."""
        self._numbers += 1
        return self._numbers

    def shard(self, key: int) -> int:
        """Return the shard of a key."""
        return key % len(self.shards)

    def process(self, site: str) -> Process:
        """Return a process of a site, as a load balancer would."""
        some = self.processes[site]
        return some[0] if len(some) == 1 else self._process_chance.choice(some)

    def members(self) -> list[Server]:
        """Return the servers of the cluster, the index not among them."""
        return [s for s in self.cluster.servers.values() if s not in self._indexes]

    def leader(self, shard: int, process: Process) -> str:
        """Return the server that takes a process's writes of a shard."""
        if self.topology.store.writers != "every":
            return self.leaders[shard]
        best, way = "", 1e9
        for server in self.cluster.servers.values():
            if server.copies[shard].leads and (server.up or not best):
                away = self.network.one_way[process.site, server.site]
                if away < way:
                    best, way = server.name, away
        return best

    def places(self, site: str) -> list[str]:
        """Return the places of a site: itself, and its servers."""
        return [site, *(s.name for s in self.cluster.servers.values() if s.site == site)]

    def every_place(self) -> list[str]:
        """Return all places."""
        return [place for site in self.topology.sites for place in self.places(site.name)]

    def note(self, said: str) -> None:
        """Tell of an event."""
        line = f"{self.timeline.now:.6f} {said}"
        if self._hash is not None:
            self._hash.update(line.encode())
        if self._listener is not None:
            self._listener(line)

    # --- replication -------------------------------------------------------------------------------------------------

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
        if (
            best is not None
            and best[0] > copy.reach.get(origin, -1)
            or (best is not None and origin not in copy.origins)
        ):
            server.receive(log, best[0])
        return None

    def catch_up(self, server: Server) -> None:
        """Let a server ask for all that it lacks, after a lag."""
        if server.up:
            for log in self._retired:
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

    # --- lives, membership, failover -----------------------------------------------------------------------------------

    def restart(self, server: Server, at: Mapping[int, dict[int, tuple[int, int | None]]]) -> None:
        """Begin a new life of a server."""
        server.begin_life(at)
        server.up = True
        server.paused = False
        self.catch_up(server)

    def earlier(self, server: Server, chance: random.Random) -> dict[int, dict[int, tuple[int, int | None]]]:
        """Return positions that a server had at some time before, in an order in which it may have applied."""
        found: dict[int, dict[int, tuple[int, int | None]]] = {}
        back_s = chance.uniform(0, 2.0)
        for shard, origins in server.positions().items():
            found[shard] = {}
            for origin, (applied, end) in origins.items():
                log = self.cluster.logs[shard << 32 | origin]
                entries = log.between(-1, applied)
                kept = applied
                for entry in reversed(entries):
                    if self._age_s(entry) > back_s:
                        break
                    kept = entry.offset - 1
                found[shard][origin] = (max(kept, 0), end)
        return found

    def _age_s(self, entry: Entry) -> float:
        return self.timeline.now - entry.at_s

    def _diverged(self, server: Server) -> None:
        """Rebuild a server that holds what was lost: a new life, without it."""
        if server.name in self._rebuilding:
            return
        self._rebuilding.add(server.name)

        def rebuild() -> None:
            self._rebuilding.discard(server.name)
            if server.up and server.name in self.cluster.servers:
                self.restart(server, self.surviving(server))
                if self.trace is not None:
                    self.note(f"{server.name} is rebuilt without what was lost")

        self.timeline.after(0.1, rebuild)

    def surviving(self, server: Server) -> dict[int, dict[int, tuple[int, int | None]]]:
        """Return a server's positions, clipped to the ends that it has heard of."""
        return {
            shard: {o: (applied if end is None else min(applied, end), end) for o, (applied, end) in origins.items()}
            for shard, origins in server.positions().items()
        }

    def promote(
        self, leader: Server, chance: random.Random, *, keeps_tail: bool, twice: bool = False
    ) -> Callable[[], None]:
        """Promote a replica for each shard that a server led; return what tells the second of two promoted ones to step back."""
        undo: list[Callable[[], None]] = []
        candidates = [s for s in self.members() if s.up and s.ready and s is not leader]
        for shard, copy in leader.copies.items():
            for origin in sorted(copy.leads):
                log = self.cluster.logs[shard << 32 | origin]
                best = [s for s in candidates if origin in s.copies[shard].origins]
                if not best:
                    continue
                heir = (
                    chance.choice(best) if not keeps_tail else max(best, key=lambda s: s.copies[shard].applied(origin))
                )
                if keeps_tail:
                    heir.receive(log, log.head)  # the disk of the crashed leader could still be read
                self._succeed(log, heir)
                if twice:
                    rivals = [s for s in best if s is not heir]
                    if rivals:
                        undo.append(self._rival(log, chance.choice(rivals)))

        def back() -> None:
            for step in undo:
                step()

        return back

    def _succeed(self, log: Log, heir: Server) -> None:
        """Let a server go on from what it holds of a log, under a new origin. Who led the log numbers it no more: it is fenced."""
        origin = log.pk & 0xFFFFFFFF
        copy = heir.copies[log.shard]
        end = max(copy.applied(origin), 0)
        self.oracle.lost(self.cluster.end(log, end))
        copy.origins = {**copy.origins, origin: (end, end)}
        number = self.cluster.new_origin()
        self.cluster.lead(heir, log.shard, number, after=(origin, end))
        self.leaders[log.shard] = heir.name
        if self.trace is not None:
            self.note(f"{heir.name} is promoted for {log.shard}: {origin} ends at {end}, {number} begins")
        self.announce(self.cluster.logs[log.shard << 32 | number], heir)

    def announce(self, log: Log, leader: Server) -> None:
        """Tell everybody of a new log."""
        for server in self.cluster.servers.values():
            if server is not leader:
                for way in self.network.deliveries(leader.site, server.site):
                    self.timeline.after(way + self._lag_s(server), partial(self._deliver, leader, server, log, 0))

    def _rival(self, log: Log, rival: Server) -> Callable[[], None]:
        """Let a second server number the shard, too, until it is told that it was not to be: all that it took is lost then."""
        number = self.cluster.new_origin()
        made = self.cluster.lead(rival, log.shard, number)
        before, self.leaders[log.shard] = self.leaders[log.shard], rival.name
        if self.trace is not None:
            self.note(f"{rival.name} is promoted for {log.shard}, too: {number} begins")

        def undo() -> None:
            if made.end is not None:
                return
            self.oracle.lost(self.cluster.end(made, 0))
            self.leaders[log.shard] = before
            copy = rival.copies[log.shard]
            copy.origins = {**copy.origins, number: (copy.applied(number), 0)}
            copy.marks = None
            for server in self.cluster.servers.values():
                own = server.copies[log.shard]
                if number in own.origins:
                    own.origins = {**own.origins, number: (own.applied(number), 0)}
                    own.marks = None
                    if own.applied(number) > 0:
                        self._diverged(server)
            if self.trace is not None:
                self.note(f"{rival.name} steps back: {number} ends at 0")

        return undo

    def forget_tail(self, leader: Server, chance: random.Random) -> None:
        """Restart a leader that has forgotten its newest writes: it goes on under new origins."""
        for shard, copy in list(leader.copies.items()):
            for origin in sorted(copy.leads):
                log = self.cluster.logs[shard << 32 | origin]
                recent = [e.offset for e in log.entries if self._age_s(e) < 0.2]
                keep = chance.randint(0, len(recent))
                end = log.head if keep == len(recent) else recent[keep] - 1
                gone = [e for e in log.entries if e.offset > end]
                if gone:
                    copy.origins = {**copy.origins, origin: (end, end)}
                    self.oracle.lost(self.cluster.end(log, end))
                    number = self.cluster.new_origin()
                    made = self.cluster.lead(leader, shard, number, after=(origin, end))
                    self.announce(made, leader)
        self.restart(leader, leader.positions())

    def hand_over(self, servers: list[Server]) -> bool:
        """Hand all that some servers lead over to others, without a loss. False if that is not possible now."""
        others = [s for s in self.members() if s.up and s.ready and s not in servers]
        if not others:
            return False
        every = self.topology.store.writers == "every"
        if every and not any(copy.leads for s in others for copy in s.copies.values()):
            return False
        for server in servers:
            for shard, copy in server.copies.items():
                for origin in sorted(copy.leads):
                    log = self.cluster.logs[shard << 32 | origin]
                    heir = max(others, key=lambda s: s.copies[shard].applied(origin))
                    heir.receive(log, log.head)
                    if heir.copies[shard].applied(origin) < log.head:
                        return False
                    if every:
                        self._retire(log, heir)
                    else:
                        self._succeed(log, heir)
        return True

    def _retire(self, log: Log, heir: Server) -> None:
        """End a log at its head: its writer leaves, and everything is kept by another."""
        self.cluster.end(log, log.head)
        self._retired.append(log)
        self._record(log, heir)

    def _record(self, log: Log, server: Server) -> None:
        """Let a server read where a retired log ends: a decision that is on record, whoever has heard of it restarts or leaves."""
        copy, origin = server.copies[log.shard], log.pk & 0xFFFFFFFF
        applied, known = copy.origins.get(origin, (-1, log.end))
        if known is None:
            copy.origins = {**copy.origins, origin: (applied, log.end)}
            copy.marks = None

    def remove(self, server: Server, over_s: float = 0.0) -> None:
        """Take a server out of the cluster; processes hear of it one after the other."""
        self.cluster.servers.pop(server.name, None)
        server.up = False
        self._tell(over_s)

    def admit(self, server: Server, donor: Server) -> None:
        """Let a server join with a copy of another one: unreadable until it holds all that exists now."""
        server.begin_life({shard: dict(origins) for shard, origins in self.surviving(donor).items()})
        for copy in server.copies.values():
            copy.leads = frozenset()
        server.up, server.paused, server.ready = True, False, False
        self.cluster.servers[server.name] = server
        target = {log.pk: log.head for log in self.cluster.logs.values()}
        self.catch_up(server)

        def check() -> float | None:
            if self.cluster.servers.get(server.name) is not server:
                return None
            for pk, head in target.items():
                log = self.cluster.logs[pk]
                need = head if log.end is None else min(head, log.end)
                if server.copies[log.shard].applied(pk & 0xFFFFFFFF) < need:
                    if server.up:
                        self.catch_up(server)
                    return 0.05
            server.ready = True
            if self.topology.store.writers == "every" and not any(
                s.site == server.site and any(c.leads for c in s.copies.values()) for s in self.members()
            ):
                for shard in self.shards:
                    self.announce(self.cluster.lead(server, shard, self.cluster.new_origin()), server)
            self._tell(self.faults.outage_s if self.faults.membership else 0.0)
            return None

        self.timeline.after(0.0, check)

    def _tell(self, over_s: float) -> None:
        for process in self.everyone:
            delay = self._process_chance.uniform(0, over_s) if over_s else 0.0
            self.timeline.after(delay, partial(self._know, process))

    def _know(self, process: Process) -> None:
        process.know(s for s in self.members() if s.ready)

    def retired(self, subject: str, carrier: tuple[str, ...]) -> tuple[str, ...]:
        """Return the same claims, sealed with a key that nobody has any more."""
        found = []
        for text in carrier:
            try:
                token = self.master.open(text, subject=subject, audience=AUDIENCE, now=0.0)
            except TokenError:
                found.append(text)
                continue
            ring = Keyring([RETIRED_KEY])
            found.append(ring.seal(token, subject=subject, audience=AUDIENCE))
        return tuple(found)

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, progress: Callable[[int], object] | None = None, *, live: bool = True) -> Outcome:
        """Run both phases."""
        timeline, topology = self.timeline, self.topology
        if topology.store.offsets == "clock":
            timeline.after(0.0, self._beats)
        timeline.after(FORGET_EVERY_S, self._tidy)
        for users in self.users:
            timeline.start(users.arrive(topology.duration_s))
        self.breaker.start()
        told = 0
        step_s = topology.duration_s / 200
        for n in range(1, 201):
            timeline.run(n * step_s)
            if progress is not None:
                progress(self.metrics.operations - told)
                told = self.metrics.operations
            if self.oracle.violations and self._listener is None:
                break
        self.over = True
        if live and not self.oracle.violations:
            self._liveness()
        if self.recording is not None:
            self.recording.finish(self.cluster)
        return Outcome(
            self.strategy.name,
            str(self.policy),
            self.seed,
            self.metrics,
            self.anomalies,
            self.accepted,
            tuple(self.oracle.violations),
            self.oracle.broken,
            timeline.events,
            timeline.now,
            self._hash.hexdigest() if self._hash is not None else "",
        )

    def _liveness(self) -> None:
        """Mend what is needed, leave the rest broken, and demand that every wait ends."""
        breaker, timeline = self.breaker, self.timeline
        breaker.over = True
        core = {s.name for s in self.members() if any(c.leads for c in s.copies.values())}
        core |= {site.name for site in self.topology.sites}
        for pairs in breaker.cuts:
            kept = [(a, b) for a, b in pairs if a not in core or b not in core]
            self.network.uncut(pair for pair in pairs if pair not in kept)
            pairs[:] = kept
        for server in list(self.cluster.servers.values()):
            if server.name in core:
                if not server.up:
                    self.restart(server, server.positions())
                self.resume(server)
        began = timeline.now
        for users in self.users:
            users.linger()
        timeline.run(began + ENDS_WITHIN_S)
        for (name, number), since in self.pending.items():
            if since <= began:
                self.oracle.broke("a wait that does not end", name, f"request {number} of {name} began at {since:g} s")


def _quiet(_: str) -> None:
    pass
