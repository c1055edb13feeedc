"""A schedule, simulated: the simulator as it is, but for what its clients do and for how lags are drawn.

Owns these two changes. Clients replay a schedule. A lag is drawn as a real store's is, by what is replicated and where to, so that the
two runs differ in how they work and not in their luck.
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from causal.core.keyring import Keyring
from causal.lab.faults import Faults
from causal.lab.planet.carrying import Client
from causal.lab.planet.clients import Users
from causal.lab.planet.oracle import Knowledge
from causal.lab.planet.recording import Recording
from causal.lab.planet.topology import Population
from causal.lab.planet.world import FIRST_KEY
from causal.lab.simulator import STRATEGIES, Simulation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.controls import Lag
    from causal.lab.held.ledger import Ledger
    from causal.lab.held.schedule import Life
    from causal.lab.planet.clients import Steps
    from causal.lab.planet.logs import Entry
    from causal.lab.planet.servers import Server
    from causal.lab.planet.topology import Topology


def drawn_lag_s(lag: Lag, seed: int, source: str, target: str, shard: int, offset: int) -> float:
    """Return the lag of one write on its way from its site to another: the same in both runs."""
    return lag.delay_s(f"{seed}/{source}/{target}", shard, 0, offset)


def predict(topology: Topology, strategy: str, lives: Sequence[Life], seed: int, ledger: Ledger) -> None:
    """Simulate a schedule under a strategy."""
    _Replaying(topology, strategy, seed, ledger).replay(lives)


class _Replaying(Simulation):
    """One simulated run of a schedule."""

    def __init__(self, topology: Topology, strategy: str, seed: int, ledger: Ledger) -> None:
        self.told = _Told()
        super().__init__(topology, STRATEGIES[strategy], Faults(), seed, recording=self.told)
        self.ledger = ledger
        self._entry: Entry | None = None
        for (
            process
        ) in self.everyone:  # a link of the embedded store lists its own site first: in that order they are asked
            process.calm = False  # nobody sleeps through a question that the embedded store asks
            process.know(sorted(self.members(), key=lambda server: (server.site != process.site, server.site)))

    def _make_servers(self) -> None:
        # As the embedded store numbers them, each shard's from 1. Who of the reads that wait asks for all hangs on the order of numbers.
        numbers = cycle(range(1, len(self.topology.sites) + 1))
        self.cluster.new_origin = lambda: next(numbers)  # type: ignore[method-assign]
        super()._make_servers()

    def _ring(self) -> Keyring:
        # Tokens are opened again each time, as in a process that has not seen them: the order of what they say is that of the text.
        return Keyring([FIRST_KEY], cache=0)

    def replay(self, lives: Sequence[Life]) -> None:
        """Let the sessions live, until the last one has ended. A broken promise is counted, and ends nothing."""
        timeline, users = self.timeline, _Replayers(self, Population(), self.chance("users"))
        self.start_replicating()
        self.active = len(lives)
        for life in lives:
            timeline.at(life.begins_s, users.relive(life).__next__)
        while self.active:
            timeline.run(timeline.now + 1.0)
        self.ledger.away, self.ledger.waits = self.metrics.away, self.metrics.waits

    def committed(self, leader: Server, entry: Entry) -> None:
        """Send what a leader has committed to everybody else."""
        self._entry = entry
        super().committed(leader, entry)

    def _lag_s(self, server: Server) -> float:
        entry = self._entry
        assert entry is not None, "nothing but writes is sent where nothing fails"
        source = self.cluster.servers[self.cluster.logs[entry.pk].leader].site
        return drawn_lag_s(self.topology.store.lag, self.seed, source, server.site, entry.pk >> 32, entry.offset)


class _Replayers(Users):
    """Clients that do what a schedule says."""

    simulation: _Replaying

    def relive(self, life: Life) -> Steps:
        """Be one session of a schedule."""
        simulation = self.simulation
        timeline, ledger, told = simulation.timeline, simulation.ledger, simulation.told
        me = Client(life.name, life.steps[0].site, Knowledge(life.name), life.steps[0].key)
        for step in life.steps:
            yield step.pause_s
            me.site, began_s = step.site, timeline.now
            if step.writes:
                yield from self.write(me, step.key)
                answered = told.entry is not None
            else:
                answered = yield from self.read(me, step.key)
            entry, took_s = told.entry, timeline.now - began_s  # nobody else has run since it was told
            if not answered:
                ledger.refuse()
            elif step.writes:
                assert entry is not None
                ledger.wrote(me.name, step.key, entry.number, entry.rank, took_s)
            else:
                ledger.read(me.name, step.key, None if entry is None else entry.number, took_s, told.how)
        simulation.active -= 1


class _Told(Recording):
    """The latest operation that a client was answered: what it wrote or was shown, and how."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.how = ""

    def read(self, *told: Any, **_: Any) -> None:
        """Note a read that was answered."""
        self.entry, self.how = told[5], told[7]

    def wrote(self, *told: Any, **_: Any) -> None:
        """Note a write: acknowledged, or refused."""
        self.entry = told[6] if told[7] is None else None
