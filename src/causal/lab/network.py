"""The simulated network: how long a message takes, and whether it arrives.

Owns round trips, cuts and what happens to messages on the way. A place is a server, or a site as its application processes see it.
Calls are on connections: in order, once, or not at all. Replication messages may be lost, doubled, and overtake each other; what is
lost is asked for again later, as any log shipping does.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from causal.lab.faults import Faults
    from causal.lab.planet.topology import Topology

TIMEOUT_S: Final = 1.0
"""How long a call waits for an answer that does not come: as the stores' own questions."""


class Network:
    """Every link. Units: seconds. Thread-safety: none."""

    def __init__(self, topology: Topology, faults: Faults, chance: random.Random) -> None:
        names = [site.name for site in topology.sites]
        self.one_way: dict[tuple[str, str], float] = {(a, b): topology.rtt(a, b) / 2 for a in names for b in names}
        """One-way delay between two sites, undisturbed."""
        self.cuts: Counter[tuple[str, str]] = Counter()
        """Ordered pairs of places between which nothing passes, and how many reasons there are for it."""
        self._faults = faults
        self._chance = chance
        self._calm = not (faults.delay or faults.loss or faults.duplication or faults.reordering)

    def passes(self, a: str, b: str) -> bool:
        """Return whether anything passes between two places now."""
        return not self.cuts or (a, b) not in self.cuts

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Cut links, both ways. Each cut needs an `uncut` of its own."""
        for a, b in pairs:
            self.cuts[a, b] += 1
            self.cuts[b, a] += 1

    def uncut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Undo `cut`."""
        for a, b in pairs:
            for pair in ((a, b), (b, a)):
                self.cuts[pair] -= 1
                if not self.cuts[pair]:
                    del self.cuts[pair]

    def delay(self, a: str, b: str) -> float:
        """Return how long a message of a call takes from one site to another, now."""
        way = self.one_way[a, b]
        if self._calm or self._chance.random() >= self._faults.delay:
            return way
        return way + self._chance.expovariate(1 / self._faults.delay_s)

    def deliveries(self, a: str, b: str) -> tuple[float, ...]:
        """Return when copies of a replication message arrive, after how long each: none if it is lost."""
        way = self.one_way[a, b]
        if self._calm:
            return (way,)
        faults, chance = self._faults, self._chance.random
        if chance() < faults.loss:
            return ()
        if chance() < faults.delay:
            way += self._chance.expovariate(1 / faults.delay_s)
        if chance() < faults.reordering:
            way += self._chance.uniform(0, 4 * faults.delay_s)
        if chance() < faults.duplication:
            return way, way + self._chance.uniform(0, 2 * faults.delay_s)
        return (way,)
