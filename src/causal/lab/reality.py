"""Predictions held against reality: one topology simulated, and run on the embedded store, with the difference shown.

Owns which topologies the embedded store can be, what is compared and what a difference is worth. Both runs replay one schedule of
operations, in virtual time, with the same round trips and the same lag for each write; both use the same core. What differs is what the
simulator claims to know: the store with its files, locks, log and replication on one side, simulated servers on the other; the loop of
`causal.store` on one side, the loop that stands for it on the other.

So no difference is expected. One that is not zero is either the order of things that happen in the same nanosecond, or a mistake on one
side. HAZARD: what both sides share is not held against anything: the gate, the session, the token, the law of the lag, one way as half
a round trip; and what is in neither: the time of the processor and the disk, a network that fails, the replication thread's own pauses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from causal.errors import ConfigError
from causal.lab.held.ledger import MEASURES, Ledger
from causal.lab.held.observed import observe
from causal.lab.held.predicted import predict
from causal.lab.held.schedule import schedule
from causal.lab.simulator import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from causal.lab.held.schedule import Life
    from causal.lab.planet.topology import Topology

HELD: Final = tuple(name for name, strategy in STRATEGIES.items() if strategy.dependencies)
"""The strategies that the embedded store can run: it always stores what a version depends on."""
MAX_SITES: Final = 16
SHARE: Final = 0.02
"""A difference of this share may be the order of two things that happen at one moment, and what came of that."""
LEAST: Final = 2.0
"""So is one of so many operations or milliseconds, whatever the share."""


@attrs.frozen
class Row:
    """One measure of one strategy, predicted and observed. Units: operations; milliseconds where the measure says so.

    Thread-safety: immutable.
    """

    strategy: str
    measure: str
    predicted: float
    observed: float

    @property
    def difference(self) -> float:
        """How much more was observed than predicted."""
        return round(self.observed - self.predicted, 6)

    @property
    def relative(self) -> float | None:
        """The difference as a share of what was predicted; None where nothing was."""
        return round(self.difference / self.predicted, 6) if self.predicted else None

    @property
    def verdict(self) -> str:
        """`same`; `close`, as the order of what happens at one moment may explain; or `apart`, and one side is wrong."""
        if not self.difference:
            return "same"
        return "close" if abs(self.difference) <= max(LEAST, SHARE * abs(self.predicted)) else "apart"

    def plain(self) -> dict[str, object]:
        """Return the row as plain values."""
        return attrs.asdict(self) | {name: getattr(self, name) for name in ("difference", "relative", "verdict")}


def check_fits(topology: Topology) -> None:
    """Raises: ConfigError if the embedded store cannot be this topology, which says what stands in the way and what to change."""
    for field, problem in _obstacles(topology):
        raise ConfigError(f"{topology.name}: the embedded store cannot be this topology: {field}: {problem}")


def _obstacles(topology: Topology) -> Iterator[tuple[str, str]]:
    store = topology.store
    if store.writers != "every":
        yield "store writers", 'every site of it takes writes: set writers = "every"'
    if store.offsets != "count":
        yield "store offsets", 'it counts its writes: set offsets = "count"'
    if not store.dependencies:
        yield "store dependencies", "it always stores what a version depends on: set dependencies = true"
    if store.burst_every_s:
        yield "store burst_every_s", "its lag has no bursts: leave burst_every_s and burst_s out"
    if not 2 <= len(topology.sites) <= MAX_SITES:
        yield "sites", f"there are {len(topology.sites)}: describe 2 to {MAX_SITES}"
    for site in topology.sites:
        if site.replicas != 1:
            yield f"sites {site.name} replicas", "a site is one copy of it: set replicas = 1, or make sites of them"
        if site.processes != 1:
            yield f"sites {site.name} processes", "one process opens a site here: set processes = 1"
    if topology.local_rtt_s:
        yield "local_rtt_s", "it is in the application's process, without a network: set local_rtt_s = 0"
    for name in ("cache", "index"):
        if getattr(topology, name) is not None:
            yield name, f"there is none beside it: leave [{name}] out"
    for users in topology.population:
        if users.jobs:
            yield f"population {users.name} jobs", "jobs are not replayed: set jobs = 0"
        if any(weight for source, weight in users.mix if source != "source"):
            yield f"population {users.name} mix", "it is all there is to read: leave mix out"
    if any(rate for _, rate in topology.faults):
        yield "faults", "nothing fails in this comparison: leave [faults] out"


def planned(topology: Topology, seed: int = 1) -> list[Life]:
    """Return the sessions that both runs replay: those of the topology's own clients, well after every process has asked every site.

    Raises: ConfigError, as `check_fits`, or where no client asks for anything.
    """
    check_fits(topology)
    asked_s = max(sum(topology.rtt(a.name, b.name) for b in topology.sites) for a in topology.sites)
    lives = [attrs.evolve(life, begins_s=life.begins_s + 2 * asked_s) for life in schedule(topology, seed)]
    if not lives:
        raise ConfigError(f"{topology.name}: nobody asks for anything: give it more sessions, or a longer duration_s")
    return lives


def held_against_reality(
    topology: Topology,
    strategies: Sequence[str] = HELD,
    seed: int = 1,
    progress: Callable[[int], object] = lambda _: None,
    *,
    lives: Sequence[Life] | None = None,
) -> list[Row]:
    """Simulate a topology, run it on the embedded store, and return every measure of each strategy. The same arguments, the same rows.

    `progress` hears of each operation that ends, of either run. `lives` are what `planned` returned, if that was asked before.
    Raises: ConfigError for a topology that the embedded store cannot be, or a strategy that it cannot run.
    """
    for name in strategies:
        if name not in HELD:
            raise ConfigError(f"the embedded store cannot run {name!r}: there are {', '.join(HELD)}")
    lives = planned(topology, seed) if lives is None else lives
    rows = []
    for name in strategies:
        predicted, observed = Ledger(progress), Ledger(progress)
        predict(topology, name, lives, seed, predicted)
        observe(topology, name, lives, seed, observed)
        before, after = predicted.figures(), observed.figures()
        rows += [Row(name, measure, before[measure], after[measure]) for measure in MEASURES]
    return rows
