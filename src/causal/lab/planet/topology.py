"""Topologies: what is simulated, as values, read from a small TOML file.

Owns the words of the file and its errors. Knows nothing of how any of it is simulated.
"""

from __future__ import annotations

import attrs

from causal.controls import Lag


@attrs.frozen
class Site:
    """A place: so many copies of every shard, so many application processes. `region` names published round trips.

    `skew_s`: how far ahead its wall clocks are. Thread-safety: immutable.
    """

    name: str
    region: str = ""
    replicas: int = 1
    processes: int = 1
    skew_s: float = 0.0


@attrs.frozen
class Store:
    """The store under every strategy.

    `writers`: "one" leader for each shard (spread over the sites `leaders`, the first site by default), or "every" site numbers its own
    origin of every shard. `offsets`: "count" or "clock". `lag` is the time from a commit's arrival at a replica's site to its being
    applied there; during a burst (every `burst_every_s`, for `burst_s`) it is `burst_factor` times that.
    Units: seconds. Thread-safety: immutable.
    """

    shards: int = 1
    writers: str = "one"
    leaders: tuple[str, ...] = ()
    offsets: str = "count"
    dependencies: bool = True
    lag: Lag = attrs.field(factory=lambda: Lag(0.05))
    burst_every_s: float = 0.0
    burst_s: float = 0.0
    burst_factor: float = 10.0
    heartbeat_s: float = 1.0
    token_ttl_s: float = 86_400.0
    max_staleness_s: float = 900.0
    max_clock_skew_s: float = 60.0
    max_token_chars: int = 512


@attrs.frozen
class Cache:
    """A cache at every site: at most `entries` keys, each kept for `ttl_s`. Units: seconds. Thread-safety: immutable."""

    entries: int = 1000
    ttl_s: float = 5.0


@attrs.frozen
class Index:
    """A search index at some sites (all by default), fed from the store with a lag of its own. Thread-safety: immutable."""

    sites: tuple[str, ...] = ()
    lag: Lag = attrs.field(factory=lambda: Lag(0.5))


@attrs.frozen
class Population:
    """Users of one kind: so many sessions in all, arriving evenly over the duration.

    A session makes `length` operations on average (geometric), `think_s` apart on average (exponential). `write_share` of them are
    writes. `keys` keys, chosen by Zipf's law with exponent `skew` (0: evenly); `own_share` of the operations are on the user's own key.
    A session lives at one of the sites `at` (all by default) and moves to another of them with probability `hop` before an operation;
    its writes go through `write_at`, if given. `jobs`: the share of writes after which a job reads what was written, at any site, with a
    token sealed for it, `job_after_s` later. `mix`: how often a read goes to the "source", a "cache", the "index", or is a
    "recommendation" (any replica, under every strategy), as weights.
    Units: seconds. Thread-safety: immutable.
    """

    name: str = "users"
    sessions: int = 1000
    length: float = 10.0
    think_s: float = 1.0
    write_share: float = 0.1
    keys: int = 1000
    skew: float = 1.0
    own_share: float = 0.0
    at: tuple[str, ...] = ()
    write_at: tuple[str, ...] = ()
    hop: float = 0.0
    jobs: float = 0.0
    job_after_s: float = 0.5
    mix: tuple[tuple[str, float], ...] = (("source", 1.0),)


@attrs.frozen
class Topology:
    """Everything that a simulation is given but the strategy, the faults and the seed.

    `rtt_s` overrides the round trip between two sites, named in either order. `wait_s`, `window_s`, `bound_s`, `quorum` are the settings of the
    strategies. Units: seconds. Thread-safety: immutable.
    """

    name: str = "planet"
    title: str = ""
    duration_s: float = 60.0
    sites: tuple[Site, ...] = (Site("eu"), Site("us"), Site("ap"))
    store: Store = attrs.field(factory=Store)
    population: tuple[Population, ...] = (Population(),)
    cache: Cache | None = None
    index: Index | None = None
    rtt_s: tuple[tuple[str, str, float], ...] = ()
    local_rtt_s: float = 0.0005
    wait_s: float = 0.1
    window_s: float = 0.5
    bound_s: float = 0.5
    quorum: int = 2

    def rtt(self, a: str, b: str) -> float:
        """Return the round trip between two sites. Units: seconds."""
        if a == b:
            return self.local_rtt_s
        for x, y, s in self.rtt_s:
            if {x, y} == {a, b}:
                return s
        return 0.08
