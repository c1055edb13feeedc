"""A planet: the store, the processes at its sites, their caches, and what is measured.

Owns everything but who uses it and what breaks it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.keyring import Key, Keyring
from causal.core.policy import Limits, ReadPolicy
from causal.errors import TokenError
from causal.lab.planet.cache import SiteCache
from causal.lab.planet.failover import Failover
from causal.lab.planet.logs import START_MS
from causal.lab.planet.metrics import Metrics
from causal.lab.planet.oracle import Anomalies
from causal.lab.planet.process import AUDIENCE, Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.lab.faults import Faults
    from causal.lab.planet.recording import Recording
    from causal.lab.planet.strategies import Strategy
    from causal.lab.planet.topology import Store, Topology

FIRST_KEY: Final = Key(1, b"\x01" * 32)
"""A key of no secret value: the tokens of a simulation protect nothing, and must be the same in every run."""
RETIRED_KEY: Final = Key(255, b"\xff" * 32)
LONGEST_SLEEP_S: Final = 10.0
"""A suspended process sleeps no longer."""


class World(Failover):
    """A planet under one strategy. `users` is filled by who makes them. Thread-safety: none."""

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
        super().__init__(topology, faults, seed, trace, dependencies=strategy.dependencies, digest=digest)
        self.strategy = strategy
        self.recording = recording
        self.policy = strategy.policy(topology)
        self.anything = ReadPolicy.eventual()
        self.index_policy = (
            ReadPolicy(wait_s=topology.wait_s, then="stale", unproven="serve") if strategy.aware else self.anything
        )
        self.promises = strategy.promises
        self.aware = strategy.aware
        self.metrics = Metrics()
        self.anomalies, self.accepted = Anomalies(), Anomalies()
        self.users: list[Any] = []
        self.over = False
        """Whether everything that breaks or begins has done so."""
        self.rotating = False
        self.pending: dict[tuple[str, int], float] = {}
        """The requests under way, and since when."""
        self._numbers = 0
        self._rebuilding = set()
        self.skews: dict[str, float] = {}
        self._process_chance = self.chance("process")
        self._suspension = self.chance("suspension")
        self.master = Keyring([FIRST_KEY, RETIRED_KEY], primary=FIRST_KEY.id)
        self._shared = Keyring([FIRST_KEY])
        self.processes: dict[str, list[Process]] = {}
        self.everyone: list[Process] = []
        self.index: dict[Process, Process] | None = None
        self._make_processes()
        self.caches = {s.name: SiteCache(topology.cache) for s in topology.sites} if topology.cache else {}

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
        return Process(
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
            calm=not self.faults,
        )

    def _ring(self) -> Keyring:
        """Return the keyring of a process, where all have the same keys: they share what was opened, to save time."""
        return self._shared

    def _wall(self, name: str) -> float:
        return START_MS / 1000 + self.timeline.now + self.skews.get(name, 0.0)

    def _suspended(self) -> float:
        if not self.over and self._suspension.random() < self.faults.suspension:
            return min(self._suspension.expovariate(1 / self.faults.suspension_s), LONGEST_SLEEP_S)
        return 0.0

    def tell(self, over_s: float) -> None:
        """Let processes hear who is in the cluster now, one after the other."""
        for process in self.everyone:
            delay = self._process_chance.uniform(0, over_s) if over_s else 0.0
            self.timeline.after(delay, partial(self._know, process))

    def _know(self, process: Process) -> None:
        process.know(s for s in self.members() if s.ready)

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
        n = len(some)
        return some[0] if n == 1 else some[int(self._process_chance.random() * n)]

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
