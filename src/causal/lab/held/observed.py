"""A schedule, run on the embedded store: real files, the real loop, threads in virtual time.

Owns what makes the embedded store be a topology: a directory with a file for each site and shard, round trips, clocks, and when what is
written here arrives there. Durability is relaxed and the files lie in memory where there is room, as in `causal.lab.replay`.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.clock import HybridLogicalClock
from causal.controls import Lag
from causal.core.keyring import Keyring
from causal.core.policy import Limits
from causal.errors import GateError
from causal.lab.held.predicted import drawn_lag_s
from causal.lab.planet.process import WRITE_POLICY
from causal.lab.planet.world import FIRST_KEY
from causal.lab.replay import roomy
from causal.lab.simulator import STRATEGIES
from causal.lab.virtual_time import VirtualTime
from causal.store import CausalStore
from causal.stores.sqlite import SQLiteEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.lab.audit import Rank
    from causal.lab.held.ledger import Ledger
    from causal.lab.held.schedule import Life
    from causal.lab.planet.topology import Site, Topology
    from causal.stores.sqlite.link import SQLiteLink

_ROUNDED_S: Final = 2e-9
"""The store counts lag in whole nanoseconds: a look this much later finds what is due."""


def observe(topology: Topology, strategy: str, lives: Sequence[Life], seed: int, ledger: Ledger) -> None:
    """Run a schedule under a strategy."""
    operations = sum(len(life.steps) for life in lives)
    with tempfile.TemporaryDirectory(prefix="causal-", dir=roomy(operations)) as directory:
        _Run(topology, strategy, seed, Path(directory), ledger).run(lives)


@attrs.frozen(eq=False, kw_only=True)
class _Arrivals(Lag):
    """When a write arrives at another site: one way of the network, and the lag there, each hanging on where it comes from.

    `numbered_by` says which site numbers an origin of a shard.
    """

    topology: Topology
    draw: int
    numbered_by: dict[tuple[int, int], str] = attrs.field(factory=dict)

    def delay_s(self, site: str, shard: int, origin: int, offset: int) -> float:
        """Return the delay of one write on its way to one site."""
        source = self.numbered_by[shard, origin]
        lag_s = drawn_lag_s(self.topology.store.lag, self.draw, source, site, shard, offset)
        return self.topology.rtt(source, site) / 2 + lag_s


class _Run:
    """One run. Everything happens inside virtual time."""

    def __init__(self, topology: Topology, strategy: str, seed: int, directory: Path, ledger: Ledger) -> None:
        self.topology = topology
        self.seed = seed
        self.ledger = ledger
        self.time = VirtualTime()
        self.shards = tuple(map(str, range(topology.store.shards)))
        self.sites = tuple(site.name for site in topology.sites)
        # The store asks each write's delay only of a lag that varies: what median and spread it has is of no account.
        self.arrivals = _Arrivals(median_s=1.0, sigma=1.0, topology=topology, draw=seed)
        self.engines = {site.name: self.engine(site, directory) for site in topology.sites}
        store = topology.store
        self.stores = {
            name: CausalStore(
                engine,
                keyring=Keyring([FIRST_KEY], cache=0),
                audience="simulated",
                policy=STRATEGIES[strategy].policy(topology),
                limits=Limits(10**6, 10**6, 10**6, 10**6),
                token_ttl_s=store.token_ttl_s,
                max_staleness_s=store.max_staleness_s,
                max_clock_skew_s=store.max_clock_skew_s,
                max_token_chars=store.max_token_chars,
                monotonic=self.time.monotonic,
                wall=self.time.wall,
                sleep=self.time.sleep,
            )
            for name, engine in self.engines.items()
        }
        self.links: dict[str, SQLiteLink] = {}
        self.identity = 0

    def engine(self, site: Site, directory: Path) -> SQLiteEngine:
        """Return the engine of a site. What its wall clock says stamps its writes; lag is counted on one clock for all."""
        time, skew_ns = self.time, int(site.skew_s * 1000) * 10**6
        return SQLiteEngine(
            directory,
            site=site.name,
            shards=self.shards,
            lag_s=self.arrivals,
            rtt_s={other: self.topology.rtt(site.name, other) for other in self.sites if other != site.name},
            durability="relaxed",
            replicate="manual",
            clock=HybridLogicalClock(wall=lambda: time.wall_ns() + skew_ns),
            wall=time.wall_ns,
            sleep=time.sleep,
            first_origin=1,
        )

    def run(self, lives: Sequence[Life]) -> None:
        """Let the sessions live, until the last one has ended."""
        try:
            for name, engine in self.engines.items():  # all sites join before a store opens, and asks them
                self.links[name] = engine.open()
            for name, link in self.links.items():
                for file in link.directory.files(name):
                    (origin,) = file.now()[file.shard].leads
                    self.arrivals.numbered_by[file.shard, origin] = name
            for name, store in self.stores.items():
                store._state.random.seed(f"{self.seed}/{name}/1/1")  # as the simulator's process: the same pauses
                self.time.spawn(store.__enter__, at_s=0.0)
            for life in lives:
                self.time.spawn(partial(self.live, life), at_s=life.begins_s)
            self.time.run()
        finally:
            for link in self.links.values():
                link.close()
            for store in self.stores.values():
                store.close()

    def live(self, life: Life) -> None:
        """Be one session: one request after the other, each with the token of the one before."""
        token: str | None = None
        for step in life.steps:
            self.time.sleep(step.pause_s)
            session = self.stores[step.site].session(token, subject=life.name)
            act = self.write if step.writes else self.read
            try:
                act(session, life.name, step.site, step.key)
            except GateError:
                self.ledger.refuse()
            token = session.token()

    def write(self, session: Any, name: str, site: str, key: int) -> None:
        """Write a key, and let it arrive elsewhere in time."""
        began_s, shard = self.time.now_s, key % len(self.shards)
        self.identity += 1
        identity = self.identity
        with session.write(shard=self.shards[shard], wait_s=WRITE_POLICY.wait_s) as tx:
            tx.put(str(key), identity)
        rank, offset = self.last(site, shard)
        now_s = self.time.now_s
        for other in self.sites:
            if other != site:
                delay_s = self.arrivals.delay_s(other, shard, rank[1], offset)
                self.time.at(now_s + delay_s + _ROUNDED_S, self.links[other].step)
        self.ledger.wrote(name, key, identity, rank, now_s - began_s)

    def last(self, site: str, shard: int) -> tuple[Rank, int]:
        """Look up how the store ranks the write just acknowledged, in its file: nobody else has run since its commit."""
        for origin, applied, end, mine, stamp in self.links[site].directory.file(site, shard).rows():
            if mine and end is None:
                return (stamp, origin), applied
        raise AssertionError(f"{site} numbers nothing of shard {shard}")

    def read(self, session: Any, name: str, site: str, key: int) -> None:
        """Read a key."""
        began_s, block = self.time.now_s, session.read(shard=self.shards[key % len(self.shards)])
        with block as db:
            identity = db.get(str(key))
        receipt = block.receipt
        self.ledger.away += receipt.endpoint != site
        self.ledger.waits += receipt.waited_s > 0
        self.ledger.read(name, key, identity, self.time.now_s - began_s, receipt.how)
