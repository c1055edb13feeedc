"""Topologies: what is simulated, as values. `reading` has the file that says the same.

Owns what can be said and what contradicts itself. Knows nothing of files, or of how any of it is simulated.
"""

from __future__ import annotations

from typing import Final

import attrs

from causal.controls import Lag
from causal.errors import ConfigError
from causal.lab.planet.regions import Region, region_rtt_s
from causal.lab.planet.rules import (
    COUNT,
    NAME,
    POSITIVE_S,
    SECONDS,
    SHARE,
    LagRule,
    Names,
    Number,
    Text,
    Truth,
    Weights,
    Word,
    twice,
)

DEFAULT_RTT_S: Final = 0.08
"""Between two sites of which nothing is said: about as far as from the east of America to the west of Europe."""
SOURCES: Final = ("source", "cache", "index", "recommendation")
"""What a read may go to."""


@attrs.frozen
class Site:
    """A place: so many copies of every shard, so many application processes. `region` names published round trips.

    `skew_s`: how far ahead its wall clocks are; behind, if negative. Units: seconds. Raises: ConfigError. Thread-safety: immutable.
    """

    name: str = attrs.field(validator=NAME)
    region: str = attrs.field(default="", validator=Region())
    replicas: int = attrs.field(default=1, validator=Number(1, 1000, whole=True))
    processes: int = attrs.field(default=1, validator=Number(1, 1000, whole=True))
    skew_s: float = attrs.field(default=0.0, validator=Number(-1e6, 1e6))


@attrs.frozen
class Store:
    """The store under every strategy.

    `writers`: "one" leader for each shard (spread over the sites `leaders`, the first site by default), or "every" site numbers its own
    origin of every shard. `offsets`: "count" or "clock". `lag` is the time from a commit's arrival at a replica's site to its being
    applied there; during a burst (every `burst_every_s`, for `burst_s`) it is `burst_factor` times that.
    Units: seconds. Raises: ConfigError. Thread-safety: immutable.
    """

    shards: int = attrs.field(default=1, validator=Number(1, 2**16, whole=True))
    writers: str = attrs.field(default="one", validator=Word(("one", "every")))
    leaders: tuple[str, ...] = attrs.field(default=(), validator=Names())
    offsets: str = attrs.field(default="count", validator=Word(("count", "clock")))
    dependencies: bool = attrs.field(default=True, validator=Truth())
    lag: Lag = attrs.field(factory=lambda: Lag(0.05), validator=LagRule())
    burst_every_s: float = attrs.field(default=0.0, validator=SECONDS)
    burst_s: float = attrs.field(default=0.0, validator=SECONDS)
    burst_factor: float = attrs.field(default=10.0, validator=Number(1, 1e6))
    heartbeat_s: float = attrs.field(default=1.0, validator=POSITIVE_S)
    token_ttl_s: float = attrs.field(default=86_400.0, validator=POSITIVE_S)
    max_staleness_s: float = attrs.field(default=900.0, validator=POSITIVE_S)
    max_clock_skew_s: float = attrs.field(default=60.0, validator=SECONDS)
    max_token_chars: int = attrs.field(default=512, validator=Number(32, 4096, whole=True))

    def __attrs_post_init__(self) -> None:
        if self.writers == "every" and self.leaders:
            raise ConfigError("""leaders are for writers = "one": where every site writes, leave them out""")
        if (self.burst_s > 0) != (self.burst_every_s > 0):
            raise ConfigError("burst_every_s and burst_s come together: give both, or neither for no bursts")
        if self.burst_s > 0 and self.burst_s >= self.burst_every_s:
            raise ConfigError(
                f"burst_s ({self.burst_s:g}) is less than burst_every_s ({self.burst_every_s:g}): "
                "a burst ends before the next begins; for a lag that is always long, set lag"
            )
        if not self.token_ttl_s > self.max_staleness_s + self.max_clock_skew_s:
            raise ConfigError(
                f"token_ttl_s ({self.token_ttl_s:g}) must exceed max_staleness_s + max_clock_skew_s "
                f"({self.max_staleness_s:g} + {self.max_clock_skew_s:g}), as in a real store: raise the first or lower the others"
            )


@attrs.frozen
class Cache:
    """A cache at every site: at most `entries` keys, each kept for `ttl_s`.

    Units: seconds. Raises: ConfigError. Thread-safety: immutable.
    """

    entries: int = attrs.field(default=1000, validator=COUNT)
    ttl_s: float = attrs.field(default=5.0, validator=POSITIVE_S)


@attrs.frozen
class Index:
    """A search index at some sites (all by default), fed from the store with a lag of its own.

    Raises: ConfigError. Thread-safety: immutable.
    """

    sites: tuple[str, ...] = attrs.field(default=(), validator=Names())
    lag: Lag = attrs.field(factory=lambda: Lag(0.5), validator=LagRule())


@attrs.frozen
class Population:
    """Users of one kind: so many sessions in all, arriving evenly over the duration.

    A session makes `length` operations on average (geometric), `think_s` apart on average (exponential). `write_share` of them are
    writes. `keys` keys, chosen by Zipf's law with exponent `skew` (0: evenly); `own_share` of the operations are on the user's own key.
    A session lives at one of the sites `at` (all by default) and moves to another of them with probability `hop` before an operation;
    its writes go through `write_at`, if given. `jobs`: the share of writes after which a job reads what was written, at any site, with a
    token sealed for it, `job_after_s` later. `mix`: how often a read goes to the "source", a "cache", the "index", or is a
    "recommendation" (any replica, under every strategy), as weights.
    Units: seconds. Raises: ConfigError. Thread-safety: immutable.
    """

    name: str = attrs.field(default="users", validator=NAME)
    sessions: int = attrs.field(default=1000, validator=COUNT)
    length: float = attrs.field(default=10.0, validator=Number(1, 1e6))
    think_s: float = attrs.field(default=1.0, validator=SECONDS)
    write_share: float = attrs.field(default=0.1, validator=SHARE)
    keys: int = attrs.field(default=1000, validator=COUNT)
    skew: float = attrs.field(default=1.0, validator=Number(0, 10))
    own_share: float = attrs.field(default=0.0, validator=SHARE)
    at: tuple[str, ...] = attrs.field(default=(), validator=Names())
    write_at: tuple[str, ...] = attrs.field(default=(), validator=Names())
    hop: float = attrs.field(default=0.0, validator=SHARE)
    jobs: float = attrs.field(default=0.0, validator=SHARE)
    job_after_s: float = attrs.field(default=0.5, validator=SECONDS)
    mix: tuple[tuple[str, float], ...] = attrs.field(default=(("source", 1.0),), validator=Weights(SOURCES, some=True))


@attrs.frozen
class Topology:
    """Everything that a simulation is given but the strategy and the seed.

    `rtt_s` overrides the round trip between two sites, named in either order. `wait_s`, `window_s`, `bound_s`, `quorum` are the settings
    of the strategies; `faults` are rates by name. Units: seconds. Raises: ConfigError. Thread-safety: immutable.
    """

    name: str = attrs.field(default="planet", validator=NAME)
    title: str = attrs.field(default="", validator=Text())
    duration_s: float = attrs.field(default=60.0, validator=POSITIVE_S)
    sites: tuple[Site, ...] = (Site("eu"), Site("us"), Site("ap"))
    store: Store = attrs.field(factory=Store)
    population: tuple[Population, ...] = (Population(),)
    cache: Cache | None = None
    index: Index | None = None
    rtt_s: tuple[tuple[str, str, float], ...] = ()
    local_rtt_s: float = attrs.field(default=0.0005, validator=Number(0, 1))
    wait_s: float = attrs.field(default=0.1, validator=SECONDS)
    window_s: float = attrs.field(default=0.5, validator=SECONDS)
    bound_s: float = attrs.field(default=0.5, validator=SECONDS)
    quorum: int = attrs.field(default=2, validator=COUNT)
    faults: tuple[tuple[str, float], ...] = attrs.field(default=(), validator=Weights())
    _rtt: dict[tuple[str, str], float] = attrs.field(init=False, repr=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        for what, values in (("sites", self.sites), ("population", self.population)):
            if not values:
                raise ConfigError(f"{what} is empty: nothing would happen")
            again = twice(value.name for value in values)
            if again:
                raise ConfigError(f"{what}: {again!r} stands twice: give one of them another name")
        self._check_places()
        self._check_sources()
        for a in self.sites:
            for b in self.sites:
                self._rtt[a.name, b.name] = self._published(a, b)
        self._override()

    def _check_places(self) -> None:
        known = [site.name for site in self.sites]
        places = [("store leaders", self.store.leaders)]
        if self.index:
            places.append(("index sites", self.index.sites))
        for users in self.population:
            places += [(f"population {users.name} at", users.at), (f"population {users.name} write_at", users.write_at)]
        for what, names in places:
            for name in names:
                if name not in known:
                    raise ConfigError(f"{what}: {name!r} is no site; the sites are {', '.join(known)}")

    def _check_sources(self) -> None:
        there = {"cache": self.cache, "index": self.index}
        for users in self.population:
            for source, weight in users.mix:
                if weight and there.get(source, self) is None:
                    raise ConfigError(
                        f"population {users.name} mix: there is no {source} to read: add [{source}], or leave {source} out"
                    )

    def _published(self, a: Site, b: Site) -> float:
        if a.name == b.name:
            return self.local_rtt_s
        return region_rtt_s(a.region, b.region) if a.region and b.region else DEFAULT_RTT_S

    def _override(self) -> None:
        given = set()
        for a, b, seconds in self.rtt_s:
            pair = f"{a} {b}"
            if (a, b) not in self._rtt:
                unknown = b if (a, a) in self._rtt else a
                raise ConfigError(
                    f"round trip {pair!r}: {unknown!r} is no site; the sites are {', '.join(site.name for site in self.sites)}"
                )
            problem = POSITIVE_S.problem(seconds)
            if problem:
                raise ConfigError(f"round trip {pair!r} is {problem}")
            if a == b:
                raise ConfigError(f"round trip {pair!r}: that is one site; for what is near, set local_rtt_s")
            if (a, b) in given:
                raise ConfigError(f"round trip {pair!r} is given twice: a round trip is the same in both directions")
            given |= {(a, b), (b, a)}
            self._rtt[a, b] = self._rtt[b, a] = seconds

    @property
    def asked(self) -> int:
        """How many copies a quorum read asks: `quorum` of them, or all, where there are fewer."""
        return min(self.quorum, sum(site.replicas for site in self.sites))

    def rtt(self, a: str, b: str) -> float:
        """Return the round trip between two sites: as given, or as published for their regions, or `DEFAULT_RTT_S`.

        Units: seconds. Raises: ConfigError for what is no site.
        """
        try:
            return self._rtt[a, b]
        except KeyError:
            known = ", ".join(site.name for site in self.sites)
            raise ConfigError(f"{b if (a, a) in self._rtt else a!r} is no site; the sites are {known}") from None
