"""Simulated users: sessions that come, read and write, and go.

Owns what a client asks for, and when. What it carries meanwhile is in `carrying.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate
from math import log
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.errors import CommitUnknown, GateError, StoreError
from causal.lab.planet.carrying import Carrying, Client
from causal.lab.planet.oracle import Knowledge

if TYPE_CHECKING:
    import random
    from collections.abc import Generator

    from causal.claims import Claims
    from causal.core.policy import ReadPolicy
    from causal.lab.planet.cache import SiteCache
    from causal.lab.planet.logs import Entry, Past
    from causal.lab.planet.process import Process
    from causal.lab.planet.servers import Server
    from causal.lab.planet.topology import Population
    from causal.lab.planet.world import World

    Steps = Generator[float, None, None]

LINGERING: Final = 20
"""So many sessions, the latest, come back when all is well again: see `after`."""
PATIENCE_S: Final = 5.0
"""How long they wait then: with leader reads of several leaders, as long as the lag."""
_CHECKED: Final = frozenset({"covered", "leader", "fallback", "quorum"})


class Users(Carrying):
    """One population, living. Thread-safety: none."""

    def __init__(self, simulation: World, population: Population, chance: random.Random) -> None:
        topology = simulation.topology
        names = tuple(site.name for site in topology.sites)
        super().__init__(simulation, chance)
        self.population = population
        self.sites = population.at or names
        self.made = 0
        weights = [1 / (n + 1) ** population.skew for n in range(population.keys)]
        self._keys = list(accumulate(weights))
        self._kinds = [kind for kind, _ in population.mix]
        self._mix = list(accumulate(weight for _, weight in population.mix))
        self.lately: deque[Client] = deque(maxlen=LINGERING)

    def arrive(self, over_s: float) -> Steps:
        """Let sessions begin, evenly over a time."""
        gap_s = over_s / max(1, self.population.sessions)
        for _ in range(self.population.sessions):
            self.simulation.timeline.start(self.live(self.newcomer()))
            yield self.chance.expovariate(1 / gap_s)

    def newcomer(self) -> Client:
        """Return a new session."""
        self.made += 1
        name = f"{self.population.name}-{self.made}"
        key = self.chance.randrange(self.population.keys)
        me = Client(name, self.chance.choice(self.sites), Knowledge(name), key)
        self.lately.append(me)
        return me

    def live(self, me: Client) -> Steps:
        """Be one session: one operation after the other, each a request that carries the tokens."""
        population, chance, simulation = self.population, self.chance, self.simulation
        leave, think_s, hop = 1 / population.length, population.think_s, population.hop
        own_share, write_share, keys = population.own_share, population.write_share, self._keys
        parallel, draw, every = self.faults.parallel, chance.random, self._keys[-1]
        while True:
            yield -log(1.0 - draw()) * think_s
            if simulation.over:
                break
            if hop and draw() < hop and len(self.sites) > 1:
                me.site = chance.choice([site for site in self.sites if site != me.site])
            key = me.key if own_share and draw() < own_share else bisect_left(keys, draw() * every)
            if draw() < write_share:
                request: Generator[float, None, object] = self.write(me, key)
            else:
                kind = (
                    "source" if len(self._kinds) == 1 else self._kinds[bisect_left(self._mix, draw() * self._mix[-1])]
                )
                request = self.read(me, key, kind)
            if parallel and draw() < parallel:
                simulation.timeline.start(request)
            else:
                yield from request
            if draw() < leave:
                break

    def pick(self, me: Client) -> int:
        """Choose a key."""
        if self.population.own_share and self.chance.random() < self.population.own_share:
            return me.key
        return bisect_left(self._keys, self.chance.random() * self._keys[-1])

    # --- requests ------------------------------------------------------------------------------------------------

    def read(self, me: Client, key: int, kind: str = "source") -> Generator[float, None, bool]:
        """Read a key, from the store, a cache, the index, or any replica; return whether it was answered."""
        simulation = self.simulation
        metrics, timeline = simulation.metrics, simulation.timeline
        if self._troubled and not simulation.over:
            yield from self.trouble(me)
        began = timeline.now
        me.requests += 1
        number, after, alias = me.requests, me.answered, me.alias
        simulation.pending[me.name, number] = began
        process = simulation.process(me.site)
        presented, past = me.carrier, me.know.past
        claims = self.present(me, process, presented)
        policy = simulation.policy
        if simulation.over:
            policy = attrs.evolve(policy, wait_s=max(policy.wait_s, PATIENCE_S))
        elif self.faults.impatience and self.chance.random() < self.faults.impatience:
            policy = attrs.evolve(policy, wait_s=0.0005)
        if kind == "recommendation":
            policy = simulation.anything
        shard = simulation.shard(key)
        try:
            if kind == "cache" and simulation.caches:
                found = yield from self.cached(simulation.caches[me.site], process, claims, shard, key, policy)
            elif kind == "index" and simulation.index is not None:
                shown = yield from simulation.index[process].read(claims, shard, key, simulation.index_policy)
                found = shown.entry, shown.marks, shown.request
            else:
                shown = yield from process.read(claims, shard, key, policy)
                found = shown.entry, shown.marks, shown.request
        except (GateError, StoreError) as error:
            metrics.refused_reads += 1
            self.hear(me, claims, error, alias, number)
            self.carry(me, claims, presented)
            if simulation.trace is not None:
                simulation.note(f"{me.name} read {key} at {process.name}: refused, {type(error).__name__}: {error}")
            self.done(me, number)
            return False
        entry, marks, request = found
        metrics.reads += 1
        metrics.read_latency.add(timeline.now - began)
        how, server = "cached", None
        if request is None:
            metrics.cached += 1
            held = simulation.aware
        else:
            how = request.serve.how
            held = how in _CHECKED and not (request.unproven and how == "leader")
            metrics.probes += request.probes
            if request.waited_s:
                metrics.waits += 1
                metrics.waited_s += request.waited_s
            server = simulation.cluster.servers.get(request.serve.endpoint)
            if server is not None:
                metrics.away += server.site != process.site
                if server.copies[shard].leads:
                    metrics.at_leader += 1
        promised = simulation.promises and held and kind != "recommendation"
        metrics.said_stale += simulation.promises and not promised and kind != "recommendation"
        counts = (
            simulation.accepted if kind == "recommendation" or (simulation.aware and not held) else simulation.anomalies
        )
        proven = request is None or not request.unproven
        simulation.oracle.asked = process.state.view.endpoints
        simulation.oracle.answered(
            me.know, key, entry, past, counts, marks, promised=promised, proven=proven, server=server
        )
        self.carry(me, claims, presented)
        if simulation.trace is not None:
            where = "cache" if request is None else request.serve.endpoint
            simulation.note(f"{me.name} read {key} at {process.name}: {entry or 'nothing'} from {where}, {how}")
        if simulation.recording is not None:
            simulation.recording.read(alias, number, after, key, shard, entry, marks, how, held=promised)
        if number > me.answered:
            me.answered = number
        del simulation.pending[me.name, number]
        return True

    def cached(
        self, cache: SiteCache, process: Process, claims: Claims, shard: int, key: int, policy: ReadPolicy
    ) -> Generator[float, None, Any]:
        """Look a key up in the site's cache; else read it, and put it there."""
        simulation = self.simulation
        yield simulation.topology.local_rtt_s
        if self.faults.eviction and self.chance.random() < self.faults.eviction:
            cache.drop(key)
        item = cache.get(key, claims, process.state, shard, aware=simulation.aware)
        if item is not None:
            if item.entry is not None:
                claims._state.join(item.entry.reveal(), own=False, now=process.state.wall)
            return item.entry, item.marks, None
        shown = yield from process.read(claims, shard, key, policy)
        later_s = 0.0
        if self.faults.stale_refill and self.chance.random() < self.faults.stale_refill:
            later_s = self.chance.expovariate(1 / self.faults.outage_s)
        cache.fill(key, shown, simulation.timeline, later_s)
        return shown.entry, shown.marks, shown.request

    def write(self, me: Client, key: int) -> Steps:
        """Write a key through the leader of its shard."""
        simulation = self.simulation
        metrics, timeline = simulation.metrics, simulation.timeline
        if self._troubled:
            yield from self.trouble(me)
        began = timeline.now
        me.requests += 1
        number, after, alias = me.requests, me.answered, me.alias
        simulation.pending[me.name, number] = began
        site = self.chance.choice(self.population.write_at) if self.population.write_at else me.site
        process = simulation.process(site)
        presented, past = me.carrier, me.know.past
        claims = self.present(me, process, presented)
        own = me.know.own
        shard = simulation.shard(key)
        identity = simulation.number()
        committed: list[Entry] = []

        def act(server: Server, deps: Any) -> Entry:
            entry = server.commit(shard, key, identity, me.name, deps, past)
            committed.append(entry)
            simulation.committed(server, entry)
            simulation.oracle.committed(entry)
            if simulation.promises:
                simulation.oracle.written(me.know, entry, past, server)
            return entry

        try:
            entry = yield from process.write(claims, shard, simulation.leader(shard, process), act, self.fate)
        except (GateError, StoreError) as error:
            if isinstance(error, CommitUnknown) and not error.lost:
                metrics.in_doubt += 1
                for entry in committed:
                    simulation.oracle.doubted(me.know, entry, past)
            else:
                metrics.refused_writes += 1
            self.hear(me, claims, error, alias, number)
            self.carry(me, claims, presented)
            if simulation.trace is not None:
                simulation.note(f"{me.name} wrote {key} at {process.name}: {type(error).__name__}: {error}")
            if simulation.recording is not None:
                simulation.recording.wrote(
                    alias, number, after, key, shard, identity, committed[0] if committed else None, error
                )
            self.done(me, number)
            return
        metrics.writes += 1
        metrics.write_latency.add(timeline.now - began)
        simulation.oracle.acknowledged(me.know, entry)
        if self.faults.ack_doubled and self.chance.random() < self.faults.ack_doubled:
            simulation.oracle.acknowledged(me.know, entry)
        self.carry(me, claims, presented)
        if simulation.trace is not None:
            simulation.note(f"{me.name} wrote {key} at {process.name}: {entry}")
        if simulation.recording is not None:
            simulation.recording.wrote(alias, number, after, key, shard, identity, entry, None)
        if self.population.jobs and self.chance.random() < self.population.jobs:
            self.spawn_job(me, own, claims, entry)
        self.done(me, number)

    def done(self, me: Client, number: int) -> None:
        """Note that a request has ended."""
        me.answered = max(me.answered, number)
        del self.simulation.pending[me.name, number]

    def fate(self) -> str:
        """Return what becomes of a commit and its answer."""
        if self.faults.ack_lost and self.chance.random() < self.faults.ack_lost:
            return "unsent" if self.chance.random() < 0.5 else "lost"
        return ""

    def spawn_job(self, me: Client, own: Past, claims: Claims, entry: Entry) -> None:
        """Hand the request's demand to a job, which reads what was written, elsewhere, a little later.

        What requests beside this one have shown the session meanwhile is not in this one's demand.
        """
        name = f"job-{self.simulation.number()}"
        know = Knowledge(name)
        know.past, know.own, know.forgiven, know.mine = entry.past, own, me.know.forgiven, me.know.mine
        know.told_s, know.folded = me.know.told_s, me.know.folded
        self.simulation.oracle.acknowledged(know, entry)
        job = Client(name, self.chance.choice(self.sites), know, entry.key)
        text = claims.token(subject=name)
        job.carrier = () if text is None else (text,)

        def work() -> Steps:
            yield self.population.job_after_s
            yield from self.read(job, entry.key)

        self.simulation.timeline.start(work())
