"""Sweeps: one setting of a topology takes several values, and everything else stays.

Owns the axes: how a value is read, what it changes, and how it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.controls import Lag
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.lab.planet.topology import Topology


@attrs.frozen
class Axis:
    """What a sweep can vary: `read` makes a value of text, `apply` a topology of a value. `scale`: what it is shown in units of.

    Thread-safety: immutable.
    """

    name: str
    said: str
    unit: str
    read: Callable[[str], Any]
    apply: Callable[[Topology, Any], Topology]
    scale: float = 1.0

    @property
    def heading(self) -> str:
        """What a column or an axis of a figure is called."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


@attrs.frozen
class Point:
    """One value of a sweep, as it was written and as a number, and what is simulated there. Thread-safety: immutable."""

    axis: Axis
    text: str
    value: float
    topology: Topology

    @property
    def shown(self) -> float:
        """The value in the unit that it is shown in."""
        return round(self.value * self.axis.scale, 6)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"a whole number, not {text!r}") from None


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"a share in 0..1, not {text!r}") from None


def _with_lag(topology: Topology, lag: Lag) -> Topology:
    """Return a topology with another median lag; its spread stays, unless the value says one."""
    before = topology.store.lag
    after = lag if lag.sigma else attrs.evolve(before, median_s=lag.median_s)
    return attrs.evolve(topology, store=attrs.evolve(topology.store, lag=after))


def _with_write_share(topology: Topology, share: float) -> Topology:
    """Return a topology in which whoever writes at all does so in this share of operations; if nobody does, everybody."""
    writers = [users for users in topology.population if users.write_share] or list(topology.population)
    changed = tuple(attrs.evolve(u, write_share=share) if u in writers else u for u in topology.population)
    return attrs.evolve(topology, population=changed)


def _with_shards(topology: Topology, shards: int) -> Topology:
    return attrs.evolve(topology, store=attrs.evolve(topology.store, shards=shards))


def _with_replicas(topology: Topology, replicas: int) -> Topology:
    return attrs.evolve(topology, sites=tuple(attrs.evolve(site, replicas=replicas) for site in topology.sites))


def _with_sessions(topology: Topology, sessions: int) -> Topology:
    """Return a topology with so many sessions in all, shared out as before: at least one of each kind."""
    total = sum(users.sessions for users in topology.population)
    if sessions < len(topology.population):
        raise ConfigError(
            f"at least one session of each kind of users, {len(topology.population)} in all, not {sessions}"
        )
    changed, given, seen = [], 0, 0
    for n, users in enumerate(topology.population):
        seen += users.sessions
        left = len(topology.population) - n - 1
        mine = min(max(1, round(sessions * seen / total) - given), sessions - given - left)
        given += mine
        changed.append(attrs.evolve(users, sessions=mine))
    return attrs.evolve(topology, population=tuple(changed))


AXES: Final[Mapping[str, Axis]] = {
    axis.name: axis
    for axis in (
        Axis("lag", "median replication lag; its spread stays", "ms", Lag.parse, _with_lag, 1000.0),
        Axis(
            "write-share",
            "share of writes among the operations of those who write at all",
            "%",
            _share,
            _with_write_share,
            100.0,
        ),
        Axis("shards", "number of shards", "", _whole, _with_shards),
        Axis("replicas", "copies of every shard, at each site", "", _whole, _with_replicas),
        Axis("sessions", "sessions in all, shared out over the populations as before", "", _whole, _with_sessions),
    )
}
"""What can be varied, by name."""


def parse_sweep(text: str, topology: Topology) -> list[Point]:
    """Return the points of `AXIS=V1,V2,...`, in ascending order. Raises: ConfigError."""
    name, equals, values = text.partition("=")
    axis = AXES.get(name)
    if axis is None or not equals:
        raise ConfigError(f"a sweep is AXIS=V1,V2,... with one of {', '.join(AXES)}, not {text!r}")
    points: dict[float, Point] = {}
    for one in values.split(","):
        try:
            value = axis.read(one.strip())
            changed = axis.apply(topology, value)
        except ConfigError as error:
            raise ConfigError(f"{name}={one}: {error}") from error
        number = float(value.median_s if isinstance(value, Lag) else value)
        if number in points:
            raise ConfigError(f"{name}={one}: stands twice")
        points[number] = Point(axis, one.strip(), number, changed)
    return [points[number] for number in sorted(points)]
