"""Simulated users: sessions that read and write, carry their tokens, and sometimes lose them.

Owns what a client does. What it carries is a *set* of tokens: a request presents all of them, and its answer replaces exactly those.
Whatever a client does to its own claims on purpose (an older token, none at all) is told to the bookkeeping, which then expects no more
than the token says; what happens to a token against its will is not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.frontier import LeaderMark
from causal.errors import CommitUnknown, GateError, StoreError, WriteLost
from causal.lab.planet.oracle import Knowledge

if TYPE_CHECKING:
    import random
    from collections.abc import Generator

    from causal.claims import Claims
    from causal.core.policy import ReadPolicy
    from causal.lab.planet.cache import SiteCache
    from causal.lab.planet.process import Process
    from causal.lab.planet.servers import Entry, Past, Server
    from causal.lab.planet.topology import Population
    from causal.lab.simulator import Simulation

    Steps = Generator[float, None, None]

LINGERING: Final = 20
"""So many sessions, the latest, come back when all is well again."""
PATIENCE_S: Final = 5.0
"""How long they wait then: with leader reads of several leaders, as long as the lag."""
_CHECKED: Final = frozenset({"covered", "leader", "fallback", "quorum"})


@attrs.define(eq=False)
class Client:
    """One session: who it is, where, what it carries, and what it truly knows. `earlier`: a moment that it may go back to."""

    name: str
    site: str
    know: Knowledge
    key: int
    carrier: tuple[str, ...] = ()
    earlier: tuple[tuple[str, ...], Knowledge] | None = None
    requests: int = 0
    answered: int = 0
    """The number of the last request that was answered."""
    lives: int = 0
    """How often it has thrown away what it carried."""

    @property
    def alias(self) -> str:
        """Who it is in a recorded history."""
        return f"{self.name}~{self.lives}" if self.lives else self.name


class Users:
    """One population, living. Thread-safety: none."""

    def __init__(self, simulation: Simulation, population: Population, chance: random.Random) -> None:
        topology = simulation.topology
        names = tuple(site.name for site in topology.sites)
        self.simulation = simulation
        self.population = population
        self.chance = chance
        self.sites = population.at or names
        self.faults = simulation.faults
        self.made = 0
        weights = [1 / (n + 1) ** population.skew for n in range(population.keys)]
        self._keys = list(accumulate(weights))
        self._kinds = [kind for kind, _ in population.mix]
        self._mix = list(accumulate(weight for _, weight in population.mix))
        self._lately: deque[Client] = deque(maxlen=LINGERING)
        self._trusted = not self.faults.early_drop
        self._troubled = any(
            (
                self.faults.token_swapped,
                self.faults.token_dropped,
                self.faults.token_replayed,
                self.faults.token_tampered,
                self.faults.token_expired,
                self.faults.token_retired,
            )
        )
        self._spare: tuple[str, tuple[str, ...]] = "", ()

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
        self._lately.append(me)
        return me

    def linger(self) -> None:
        """Let the latest sessions come once more, where all is well again: whatever happened, each must be answered."""
        for me in self._lately:
            if me.site in self.sites:
                for shard in self.simulation.shards:
                    self.simulation.timeline.start(self.insist(me, shard))

    def insist(self, me: Client, key: int) -> Steps:
        """Read a key until there is an answer, and forgive what is lost."""
        name, number, timeline = me.name, -1 - key, self.simulation.timeline
        self.simulation.pending[name, number] = timeline.now
        while not (yield from self.read(me, key)):
            yield 0.5
        del self.simulation.pending[name, number]

    def live(self, me: Client) -> Steps:
        """Be one session: one operation after the other, each a request that carries the tokens."""
        population, chance, simulation = self.population, self.chance, self.simulation
        simulation.active += 1
        leave = 1 / population.length
        while True:
            yield chance.expovariate(1 / population.think_s) if population.think_s else 0.0
            if simulation.over:
                break
            if population.hop and chance.random() < population.hop and len(self.sites) > 1:
                me.site = chance.choice([site for site in self.sites if site != me.site])
            key = self.pick(me)
            if chance.random() < population.write_share:
                request = self.write(me, key)
            else:
                kind = (
                    "source"
                    if len(self._kinds) == 1
                    else self._kinds[bisect_left(self._mix, chance.random() * self._mix[-1])]
                )
                request = self.read(me, key, kind)
            if self.faults.parallel and chance.random() < self.faults.parallel:
                simulation.timeline.start(request)
            else:
                yield from request
            if chance.random() < leave:
                break
        simulation.active -= 1

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
        how = "cached"
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
            endpoint = request.serve.endpoint
            server = simulation.cluster.servers.get(endpoint)
            if server is not None:
                metrics.away += server.site != process.site
                metrics.at_leader += bool(server.copies[shard].leads)
        promised = simulation.promises and held and kind != "recommendation"
        metrics.said_stale += simulation.promises and not promised and kind != "recommendation"
        counts = (
            simulation.accepted
            if kind == "recommendation" or (simulation.promises and not held)
            else simulation.anomalies
        )
        proven = request is None or not request.unproven
        simulation.oracle.answered(me.know, key, entry, past, counts, marks, promised=promised, proven=proven)
        self.carry(me, claims, presented)
        if simulation.trace is not None:
            where = "cache" if request is None else request.serve.endpoint
            simulation.note(f"{me.name} read {key} at {process.name}: {entry or 'nothing'} from {where}, {how}")
        if simulation.recording is not None:
            simulation.recording.read(alias, number, after, key, shard, entry, marks, how, held=promised)
        self.done(me, number)
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
        self.simulation.oracle.acknowledged(know, entry)
        job = Client(name, self.chance.choice(self.sites), know, entry.key)
        text = claims.token(subject=name)
        job.carrier = () if text is None else (text,)

        def work() -> Steps:
            yield self.population.job_after_s
            yield from self.read(job, entry.key)

        self.simulation.timeline.start(work())

    def present(self, me: Client, process: Process, tokens: tuple[str, ...]) -> Claims:
        """Begin a request. Of a token that cannot be opened nobody knows which writes it held: a loss of these cannot be said."""
        claims = process.session(me.name, tokens)
        if claims.rejected:
            me.know.own = {}
            if self._trusted and not self._troubled and not self.simulation.over:
                why = claims.rejected[0].error
                self.simulation.oracle.broke(
                    "good token refused", me.name, f"{process.name} did not open a token of {me.name}: {why}"
                )
        return claims

    # --- tokens --------------------------------------------------------------------------------------------------

    def carry(self, me: Client, claims: Claims, presented: tuple[str, ...]) -> None:
        """Take the answer's token in exchange for those that were presented; what came in between stays."""
        text = claims.token()
        if text is None:
            return
        if me.carrier == presented:
            me.carrier = (text,)
        else:
            me.carrier = (*(other for other in me.carrier if other not in presented and other != text), text)
        if self.faults.token_swapped:
            self._spare = me.name, me.carrier
        metrics = self.simulation.metrics
        metrics.tokens += 1
        metrics.token_chars += len(text)
        if len(text) > metrics.longest_token:
            metrics.longest_token = len(text)

    def hear(self, me: Client, claims: Claims, error: GateError | StoreError, alias: str, number: int) -> None:
        """Take in an error: a loss is accepted, as a user does who is told of it."""
        simulation = self.simulation
        lost = getattr(error, "lost", ())
        if not lost:
            return
        simulation.metrics.losses_said += 1
        if isinstance(error, WriteLost):
            if simulation.recording is not None:
                simulation.recording.lost(alias, number, error.lost)
            for loss in error.lost:
                p = loss.position
                simulation.oracle.told_lost(me.know, p.shard << 32 | p.origin, p.offset)
        for loss in lost:
            if isinstance(loss, LeaderMark):
                simulation.oracle.told_doubt(me.know, loss.origins)
        claims.forget(lost)

    def trouble(self, me: Client) -> Steps:
        """Let something happen to the tokens before they are presented."""
        faults, chance, simulation = self.faults, self.chance, self.simulation
        if chance.random() < faults.token_expired:
            yield simulation.topology.store.token_ttl_s * chance.uniform(1.0, 1.2)
        if me.carrier and chance.random() < faults.token_retired:
            me.carrier = simulation.retired(me.name, me.carrier)
        if me.carrier and chance.random() < faults.token_tampered:
            text = me.carrier[-1]
            place = chance.randrange(len(text))
            other = "A" if text[place] != "A" else "B"
            me.carrier = (*me.carrier[:-1], text[:place] + other + text[place + 1 :])
        if faults.token_swapped and chance.random() < faults.token_swapped and self._spare[0] not in ("", me.name):
            me.carrier = self._spare[1]
        if chance.random() < faults.token_dropped:
            me.carrier = ()
            me.know.become(Knowledge(me.name))
            me.lives += 1
        if me.earlier is not None and chance.random() < faults.token_replayed:
            me.carrier = me.earlier[0]
            me.know.become(me.earlier[1])
            me.lives += 1
        elif me.earlier is None or chance.random() < 0.2:
            me.earlier = me.carrier, me.know.fork(me.name)
