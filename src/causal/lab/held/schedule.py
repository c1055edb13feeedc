"""Who asks for what, when and from where: what the simulated clients do, written down before anything answers them.

Owns the schedule. It is drawn by the simulator's own clients, each answered at once, so it hangs on the topology and the seed alone: not
on a strategy, and not on how long answers take. Whoever replays it lets a session pause after each answer for as long as it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from causal.lab.faults import Faults
from causal.lab.planet.clients import Users
from causal.lab.simulator import STRATEGIES, Simulation

if TYPE_CHECKING:
    from collections.abc import Generator

    from causal.lab.planet.carrying import Client, Steps
    from causal.lab.planet.topology import Topology


@attrs.frozen
class Step:
    """One operation: so long after the answer to the one before it, at a site. Units: seconds. Thread-safety: immutable."""

    pause_s: float
    site: str
    writes: bool
    key: int


@attrs.frozen
class Life:
    """One session: when it begins, and what it does. Units: seconds. Thread-safety: immutable."""

    name: str
    begins_s: float
    steps: tuple[Step, ...]


def schedule(topology: Topology, seed: int) -> list[Life]:
    """Return what the clients of a topology ask for. The same arguments give the same schedule."""
    planned = Simulation(topology, STRATEGIES["eventual"], Faults(), seed)
    planners = [_Planner(planned, users, planned.chance(f"users/{users.name}")) for users in topology.population]
    planned.users = [*planners]
    planned.run(live=False)
    lives = [
        Life(name, began_s, tuple(steps)) for planner in planners for name, began_s, steps in planner.lives if steps
    ]
    return sorted(lives, key=lambda life: (life.begins_s, life.name))


class _Planner(Users):
    """Clients whose requests are noted, and answered at once."""

    lives: list[tuple[str, float, list[Step]]]

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.lives = []
        self._latest: dict[str, tuple[float, list[Step]]] = {}

    def newcomer(self) -> Client:
        """Begin a life."""
        me = super().newcomer()
        now_s, steps = self.simulation.timeline.now, []  # type: tuple[float, list[Step]]
        self.lives.append((me.name, now_s, steps))
        self._latest[me.name] = now_s, steps
        return me

    def read(self, me: Client, key: int, kind: str = "source") -> Generator[float, None, bool]:
        """Note a read."""
        self._note(me, me.site, key, writes=False)
        yield 0.0
        return True

    def write(self, me: Client, key: int) -> Steps:
        """Note a write, at the site to which it goes."""
        elsewhere = self.population.write_at
        self._note(me, self.chance.choice(elsewhere) if elsewhere else me.site, key, writes=True)
        yield 0.0

    def _note(self, me: Client, site: str, key: int, *, writes: bool) -> None:
        before_s, steps = self._latest[me.name]
        now_s = self.simulation.timeline.now
        steps.append(Step(now_s - before_s, site, writes, key))
        self._latest[me.name] = now_s, steps
        self.simulation.metrics.reads += 1
