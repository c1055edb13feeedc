"""Breaking things: what each fault does to the planet, when, and how it is undone.

Owns the timed faults of `causal.lab.faults`. Each is a process in virtual time that draws its moments, breaks something, waits, and
mends it. What is asked of one thing that cannot be broken now (it is down, or the last of its kind) is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.core.keyring import Key

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator, Iterable

    from causal.lab.planet.servers import Server
    from causal.lab.planet.world import World

    Steps = Generator[float, None, None]


class Breaker:
    """Everything that breaks by itself. `over`: nothing breaks any more. Thread-safety: none."""

    def __init__(self, simulation: World, chance: random.Random) -> None:
        self.simulation = simulation
        self.chance = chance
        self.faults = simulation.faults
        self.over = False
        self.cuts: list[list[tuple[str, str]]] = []

    def start(self) -> None:
        """Let every fault that has a rate begin."""
        for name, act in self.acts().items():
            rate = getattr(self.faults, name)
            if rate:
                self.simulation.timeline.start(self.now_and_then(name, rate, act))

    def acts(self) -> dict[str, Callable[[], Steps]]:
        """Return what each timed fault does."""
        return {
            "clock_back": lambda: self.step_clock(-1),
            "clock_forward": lambda: self.step_clock(1),
            "clock_drift": self.drift,
            "counter_exhaustion": self.exhaust,
            "partition": self.partition,
            "clogging": self.clog,
            "pause": self.pause,
            "crash": self.crash,
            "restart_behind": self.restart_behind,
            "reclone": self.reclone,
            "cold_start": self.cold_start,
            "leave": self.leave,
            "leader_crash": self.leader_crash,
            "restart_forgets": self.restart_forgets,
            "key_rotation": self.rotate_keys,
            "membership": self.membership,
            "herd": self.herd,
        }

    def now_and_then(self, name: str, rate: float, act: Callable[[], Steps]) -> Steps:
        """Do something at random moments."""
        while True:
            yield self.chance.expovariate(rate)
            if self.over:
                return
            self.simulation.timeline.start(act())

    def note(self, said: str) -> None:
        """Say what broke."""
        if self.simulation.trace is not None:
            self.simulation.note(f"! {said}")

    def outage_s(self) -> float:
        """Return how long something stays broken."""
        return self.chance.expovariate(1 / self.faults.outage_s)

    def some(self, servers: Iterable[Server]) -> Server | None:
        """Choose one, if there is any."""
        choice = list(servers)
        return self.chance.choice(choice) if choice else None

    def replicas(self) -> list[Server]:
        """Return the servers that work and lead nothing."""
        return [
            s for s in self.simulation.members() if s.up and s.ready and not any(c.leads for c in s.copies.values())
        ]

    # --- clocks --------------------------------------------------------------------------------------------------

    def step_clock(self, sign: int) -> Steps:
        """Move a wall clock: of a server, or of a process, whose skew stays within its bound."""
        step_s = sign * self.chance.uniform(0, self.faults.clock_step_s)
        if self.chance.random() < 0.5:
            server = self.some(self.simulation.members())
            if server is not None:
                server.skew_ms += int(step_s * 1000)
                self.note(f"the clock of {server.name} steps by {step_s:+.3f} s")
        else:
            process = self.chance.choice(self.simulation.everyone)
            bound_s = self.simulation.topology.store.max_clock_skew_s / 2
            skew = self.simulation.skews
            skew[process.name] = max(-bound_s, min(bound_s, skew[process.name] + step_s))
            self.note(f"the clock of {process.name} steps by {step_s:+.3f} s")
        return
        yield

    def drift(self) -> Steps:
        """Let a server's clock be far ahead for a while."""
        server = self.some(self.simulation.members())
        if server is None:
            return
        ahead_ms = int(self.faults.drift_s * 1000)
        server.skew_ms += ahead_ms
        self.note(f"the clock of {server.name} is {self.faults.drift_s:g} s ahead")
        yield self.outage_s()
        server.skew_ms -= ahead_ms
        self.note(f"the clock of {server.name} is right again")

    def exhaust(self) -> Steps:
        """Use up a hybrid clock's counter."""
        server = self.some(self.simulation.members())
        if server is not None:
            server.exhaust()
            self.note(f"the hybrid clock of {server.name} has used up its counter")
        return
        yield

    # --- links ---------------------------------------------------------------------------------------------------

    def partition(self) -> Steps:
        """Cut two groups of sites off from each other."""
        sites = [site.name for site in self.simulation.topology.sites]
        if len(sites) < 2:
            return
        self.chance.shuffle(sites)
        n = self.chance.randrange(1, len(sites))
        group, rest = sites[:n], sites[n:]
        places = self.simulation.places
        pairs = [(a, b) for x in group for y in rest for a in places(x) for b in places(y)]
        self.note(f"{', '.join(group)} | {', '.join(rest)}: partitioned")
        yield from self.apart(pairs, self.outage_s())
        self.note(f"{', '.join(group)} | {', '.join(rest)}: joined again")

    def clog(self) -> Steps:
        """Cut some servers off one after the other; mend them in another order."""
        servers = [s for s in self.simulation.members() if self.chance.random() < 0.5]
        for server in servers:
            others = [p for p in self.simulation.every_place() if p != server.name]
            self.simulation.timeline.start(self.clogged(server, [(server.name, other) for other in others]))
            yield self.outage_s() / max(1, len(servers))

    def clogged(self, server: Server, pairs: list[tuple[str, str]]) -> Steps:
        """Cut one server off for a while."""
        self.note(f"{server.name} is cut off")
        yield from self.apart(pairs, self.outage_s())
        self.note(f"{server.name} is heard again")

    def apart(self, pairs: list[tuple[str, str]], for_s: float) -> Steps:
        """Keep places apart for a while."""
        network = self.simulation.network
        network.cut(pairs)
        self.cuts.append(pairs)
        yield for_s
        if any(cut is pairs for cut in self.cuts):  # not another one that is equal: that has its own end
            self.cuts = [cut for cut in self.cuts if cut is not pairs]
            network.uncut(pairs)
        self.simulation.catch_up_all()

    # --- servers -------------------------------------------------------------------------------------------------

    def pause(self) -> Steps:
        """Let a replica stop applying."""
        server = self.some(s for s in self.simulation.members() if s.up and not s.paused)
        if server is None:
            return
        server.paused = True
        self.note(f"{server.name} stops applying")
        yield self.outage_s()
        self.simulation.resume(server)
        self.note(f"{server.name} applies again")

    def crash(self) -> Steps:
        """Crash a server, and restart it with all that it had."""
        server = self.some(s for s in self.simulation.members() if s.up)
        if server is None:
            return
        server.up = False
        self.note(f"{server.name} crashes")
        yield self.outage_s()
        if not server.up:
            self.simulation.restart(server, server.positions())
            self.note(f"{server.name} is back")

    def restart_behind(self) -> Steps:
        """Restart a replica behind what it had shown."""
        server = self.some(self.replicas())
        if server is None:
            return
        server.up = False
        yield self.chance.uniform(0, 0.05)
        self.simulation.restart(server, self.simulation.earlier(server, self.chance))
        self.note(f"{server.name} restarts, behind what it had shown")

    def reclone(self) -> Steps:
        """Replace a replica by a copy of another, under the same address."""
        server = self.some(self.replicas())
        donor = self.some(s for s in self.simulation.members() if s.up and s is not server)
        if server is None or donor is None:
            return
        server.up = False
        at = donor.positions()
        yield self.outage_s() / 4
        self.simulation.restart(server, at)
        self.note(f"{server.name} is replaced by a copy of {donor.name}")

    def cold_start(self) -> Steps:
        """Restart an application process."""
        process = self.chance.choice(self.simulation.everyone)
        self.note(f"{process.name} restarts and knows nothing")
        yield from process.restart()

    # --- membership and failover ---------------------------------------------------------------------------------

    def leave(self) -> Steps:
        """Let a site leave, its leaderships handed over without a loss, and return as a new member."""
        simulation = self.simulation
        site = self.chance.choice(simulation.topology.sites).name
        servers = [s for s in simulation.members() if s.site == site]
        if (
            not servers
            or not all(s.up for s in servers)
            or not any(s.up for s in simulation.members() if s.site != site)
        ):
            return
        if not simulation.hand_over(servers):
            return
        self.note(f"{site} leaves")
        for server in servers:
            simulation.remove(server)
        yield self.outage_s()
        yield from self.enter(servers)
        self.note(f"{site} is back")

    def enter(self, servers: list[Server]) -> Steps:
        """Let servers join: each copies another one, and is read only once it holds what that one held."""
        for server in servers:
            while True:
                donor = self.some(s for s in self.simulation.members() if s.up and s.ready)
                if donor is not None:
                    break
                yield 0.05
            self.simulation.admit(server, donor)

    def membership(self) -> Steps:
        """Take a replica away, and bring it back; processes hear of both one after the other."""
        server = self.some(self.replicas())
        if server is None or sum(s.site == server.site and s.up for s in self.simulation.members()) < 1:
            return
        if len(self.replicas()) < 2:
            return
        self.note(f"{server.name} goes")
        self.simulation.remove(server, over_s=self.faults.outage_s)
        yield self.outage_s()
        yield from self.enter([server])
        self.note(f"{server.name} joins")

    def leader_crash(self) -> Steps:
        """Crash a leader; promote others for what it led."""
        simulation, faults = self.simulation, self.faults
        leader = self.some(s for s in simulation.members() if s.up and any(c.leads for c in s.copies.values()))
        if leader is None or not self.replicas():
            return
        leader.up = False
        self.note(f"{leader.name}, a leader, crashes")
        yield self.chance.expovariate(1 / faults.promotion_s)
        keeps = self.chance.random() >= faults.lost_tail
        twice = self.chance.random() < faults.two_promotions
        undo = simulation.promote(leader, self.chance, keeps_tail=keeps, twice=twice)
        yield self.outage_s()
        undo()
        if not leader.up and leader.name in simulation.cluster.servers:
            simulation.restart(leader, leader.positions())
            self.note(f"{leader.name} is back")

    def restart_forgets(self) -> Steps:
        """Restart a leader without its newest writes."""
        leader = self.some(s for s in self.simulation.members() if s.up and any(c.leads for c in s.copies.values()))
        if leader is not None:
            leader.up = False
            self.note(f"{leader.name}, a leader, crashes")
            yield self.chance.uniform(0, 0.05)
            self.simulation.forget_tail(leader, self.chance)
            self.note(f"{leader.name} is back without its newest writes")

    # --- processes and clients -----------------------------------------------------------------------------------

    def rotate_keys(self) -> Steps:
        """Roll a new key out in two steps; drop the old one once its tokens are of no use, or too early."""
        simulation = self.simulation
        if simulation.rotating:
            return
        simulation.rotating = True
        old = simulation.everyone[0].keyring.primary_id
        key = Key((old + 1) % 200, bytes([(old + 1) % 200]) * 32)
        rings = [*{id(p.keyring): p.keyring for p in simulation.everyone}.values(), simulation.master]
        self.note(f"key {key.id} is rolled out")
        for ring in rings:
            yield self.outage_s() / len(rings)
            ring.add(key)
        for ring in rings:
            yield self.outage_s() / len(rings)
            ring.promote(key.id)
        early = self.chance.random() < self.faults.early_drop
        yield 0.1 if early else simulation.topology.store.token_ttl_s * 1.1
        for ring in rings:
            ring.drop(old)
        self.note(f"key {old} is dropped{', too early' if early else ''}")
        simulation.rotating = False

    def herd(self) -> Steps:
        """Let many reads of one session arrive at once."""
        simulation = self.simulation
        users = self.chance.choice(simulation.users)
        me = users.newcomer()
        key = users.pick(me)
        yield from users.write(me, key)
        sites = [site for site in users.sites if site != me.site] or list(users.sites)
        me.site = self.chance.choice(sites)
        self.note(f"a herd reads {key} at {me.site}")
        for _ in range(int(self.faults.herd_reads)):
            simulation.timeline.start(users.read(me, key))
