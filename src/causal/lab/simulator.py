"""The simulator: a planet of sites, servers, processes and users, in virtual time, from one seed.

Owns one run: what there is, what happens to it, and what came out. It runs the real core (hybrid clock, frontiers, token codec, gate,
session rules, limits); only loops and servers are simulated. The same topology, strategy, faults and seed give the same history, to the
byte, on any machine.

A run has two phases. *Safety*: everything may break, and no promise may. *Liveness*: what is needed is mended, the rest stays broken,
and every wait must end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from causal.errors import ConfigError
from causal.lab.faults import Faults
from causal.lab.planet.after import come_back, judge_replicas
from causal.lab.planet.breaking import Breaker
from causal.lab.planet.clients import Users
from causal.lab.planet.metrics import Metrics
from causal.lab.planet.oracle import Anomalies
from causal.lab.planet.strategies import STRATEGIES, Strategy
from causal.lab.planet.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.lab.planet.oracle import Violation
    from causal.lab.planet.recording import Recording
    from causal.lab.planet.topology import Topology

__all__ = ["STRATEGIES", "Outcome", "Simulation", "Strategy", "simulate"]

ENDS_WITHIN_S: Final = 30.0
"""How long the liveness phase is: every request that was under way when it began has ended by then, and a new one is answered."""


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


class Simulation(World):
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
        super().__init__(topology, strategy, faults, seed, trace, digest=digest, recording=recording)
        self.users = [Users(self, p, self.chance(f"users/{p.name}")) for p in topology.population]
        self.breaker = Breaker(self, self.chance("faults"))

    def run(self, progress: Callable[[int], object] | None = None, *, live: bool = True) -> Outcome:
        """Run both phases."""
        timeline, topology = self.timeline, self.topology
        self.start_replicating()
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
        measured, anomalies, accepted = self.metrics, self.anomalies, self.accepted
        if live and not self.oracle.violations:
            self.metrics, self.anomalies, self.accepted = (
                Metrics(),
                Anomalies(),
                Anomalies(),
            )  # nobody pays for what is only demanded
            self._liveness()
        if self.recording is not None:
            self.recording.finish(self.cluster)
        return Outcome(
            self.strategy.name,
            str(self.policy),
            self.seed,
            measured,
            anomalies,
            accepted,
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
            come_back(users)
        timeline.run(began + ENDS_WITHIN_S)
        for (name, number), since in self.pending.items():
            if since <= began:
                self.oracle.broke("a wait that does not end", name, f"request {number} of {name} began at {since:g} s")
        judge_replicas(self, began)
