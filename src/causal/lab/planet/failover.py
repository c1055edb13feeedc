"""Lives, membership and failover of the simulated store: who leads what, who is in, and what is lost on the way.

Owns the control plane, which knows everything: whoever is deposed is fenced at once. What servers know of it, they hear by and by.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from causal.lab.planet.replication import Replication

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from causal.lab.planet.logs import Entry, Log
    from causal.lab.planet.servers import Server

    Positions = Mapping[int, dict[int, tuple[int, int | None]]]


class Failover(Replication):
    """The simulated store with its control plane. Thread-safety: none."""

    _rebuilding: set[str]

    def tell(self, over_s: float) -> None:
        """Let processes hear who is in the cluster now, one after the other."""
        raise NotImplementedError("the world that has processes tells them")

    def restart(self, server: Server, at: Mapping[int, dict[int, tuple[int, int | None]]]) -> None:
        """Begin a new life of a server."""
        server.begin_life(at)
        server.up = True
        server.paused = False
        self.catch_up(server)

    def earlier(self, server: Server, chance: random.Random) -> dict[int, dict[int, tuple[int, int | None]]]:
        """Return positions that a server had at some time before, in an order in which it may have applied."""
        found: dict[int, dict[int, tuple[int, int | None]]] = {}
        back_s = chance.uniform(0, 2.0)
        for shard, origins in server.positions().items():
            found[shard] = {}
            for origin, (applied, end) in origins.items():
                log = self.cluster.logs[shard << 32 | origin]
                entries = log.between(-1, applied)
                kept = applied
                for entry in reversed(entries):
                    if self._age_s(entry) > back_s:
                        break
                    kept = entry.offset - 1
                found[shard][origin] = (max(kept, 0), end)
        return found

    def _age_s(self, entry: Entry) -> float:
        return self.timeline.now - entry.at_s

    def diverged(self, server: Server) -> None:
        """Rebuild a server that holds what was lost: a new life, without it."""
        if server.name in self._rebuilding:
            return
        self._rebuilding.add(server.name)

        def rebuild() -> None:
            self._rebuilding.discard(server.name)
            if server.up and server.name in self.cluster.servers:
                self.restart(server, self.surviving(server))
                if self.trace is not None:
                    self.note(f"{server.name} is rebuilt without what was lost")

        self.timeline.after(0.1, rebuild)

    def surviving(self, server: Server) -> dict[int, dict[int, tuple[int, int | None]]]:
        """Return a server's positions, clipped to the ends that it has heard of."""
        return {
            shard: {o: (applied if end is None else min(applied, end), end) for o, (applied, end) in origins.items()}
            for shard, origins in server.positions().items()
        }

    def promote(
        self, leader: Server, chance: random.Random, *, keeps_tail: bool, twice: bool = False
    ) -> Callable[[], None]:
        """Promote a replica for each shard that a server led; return what tells the second of two promoted ones to step back."""
        undo: list[Callable[[], None]] = []
        candidates = [s for s in self.members() if s.up and s.ready and s is not leader]
        for shard, copy in leader.copies.items():
            for origin in sorted(copy.leads):
                log = self.cluster.logs[shard << 32 | origin]
                best = [s for s in candidates if origin in s.copies[shard].origins]
                if not best:
                    continue
                heir = (
                    chance.choice(best) if not keeps_tail else max(best, key=lambda s: s.copies[shard].applied(origin))
                )
                if keeps_tail:
                    heir.receive(log, log.head)  # the disk of the crashed leader could still be read
                self._succeed(log, heir)
                if twice:
                    rivals = [s for s in best if s is not heir]
                    if rivals:
                        undo.append(self._rival(log, chance.choice(rivals)))

        def back() -> None:
            for step in undo:
                step()

        return back

    def _succeed(self, log: Log, heir: Server) -> None:
        """Let a server go on from what it holds of a log, under a new origin. Who led the log numbers it no more: it is fenced."""
        origin = log.pk & 0xFFFFFFFF
        copy = heir.copies[log.shard]
        end = max(copy.applied(origin), 0)
        self.oracle.lost(self.cluster.end(log, end))
        copy.origins = {**copy.origins, origin: (end, end)}
        number = self.cluster.new_origin()
        self.cluster.lead(heir, log.shard, number, after=(origin, end))
        self.leaders[log.shard] = heir.name
        if self.trace is not None:
            self.note(f"{heir.name} is promoted for {log.shard}: {origin} ends at {end}, {number} begins")
        self.announce(self.cluster.logs[log.shard << 32 | number], heir)

    def announce(self, log: Log, leader: Server) -> None:
        """Tell everybody of a new log."""
        for server in self.cluster.servers.values():
            if server is not leader:
                for way in self.network.deliveries(leader.site, server.site):
                    self.timeline.after(way + self._lag_s(server), partial(self._deliver, leader, server, log, 0))

    def _rival(self, log: Log, rival: Server) -> Callable[[], None]:
        """Let a second server number the shard, too, until it is told that it was not to be: all that it took is lost then."""
        number = self.cluster.new_origin()
        made = self.cluster.lead(rival, log.shard, number)
        before, self.leaders[log.shard] = self.leaders[log.shard], rival.name
        if self.trace is not None:
            self.note(f"{rival.name} is promoted for {log.shard}, too: {number} begins")

        def undo() -> None:
            if made.end is not None:
                return
            self.oracle.lost(self.cluster.end(made, 0))
            self._recorded.append(made)
            self.leaders[log.shard] = before
            copy = rival.copies[log.shard]
            copy.origins = {**copy.origins, number: (copy.applied(number), 0)}
            copy.marks = None
            for server in self.cluster.servers.values():
                own = server.copies[log.shard]
                if number in own.origins:
                    own.origins = {**own.origins, number: (own.applied(number), 0)}
                    own.marks = None
                    if own.applied(number) > 0:
                        self.diverged(server)
            if self.trace is not None:
                self.note(f"{rival.name} steps back: {number} ends at 0")

        return undo

    def forget_tail(self, leader: Server, chance: random.Random) -> None:
        """Restart a leader that has forgotten its newest writes: it goes on under new origins."""
        for shard, copy in list(leader.copies.items()):
            for origin in sorted(copy.leads):
                log = self.cluster.logs[shard << 32 | origin]
                recent = [e.offset for e in log.entries if self._age_s(e) < 0.2]
                keep = chance.randint(0, len(recent))
                end = log.head if keep == len(recent) else recent[keep] - 1
                gone = [e for e in log.entries if e.offset > end]
                if gone:
                    copy.origins = {**copy.origins, origin: (end, end)}
                    self.oracle.lost(self.cluster.end(log, end))
                    number = self.cluster.new_origin()
                    made = self.cluster.lead(leader, shard, number, after=(origin, end))
                    self.announce(made, leader)
        self.restart(leader, leader.positions())

    def hand_over(self, servers: list[Server]) -> bool:
        """Hand all that some servers lead over to others, without a loss. False if that is not possible now."""
        others = [s for s in self.members() if s.up and s.ready and s not in servers]
        if not others:
            return False
        every = self.topology.store.writers == "every"
        if every and not any(copy.leads for s in others for copy in s.copies.values()):
            return False
        for server in servers:
            for shard, copy in server.copies.items():
                for origin in sorted(copy.leads):
                    log = self.cluster.logs[shard << 32 | origin]
                    heir = max(others, key=lambda s: s.copies[shard].applied(origin))
                    heir.receive(log, log.head)
                    if heir.copies[shard].applied(origin) < log.head:
                        return False
                    if every:
                        self._retire(log, heir)
                    else:
                        self._succeed(log, heir)
        return True

    def _retire(self, log: Log, heir: Server) -> None:
        """End a log at its head: its writer leaves, and everything is kept by another."""
        self.cluster.end(log, log.head)
        self._recorded.append(log)
        self._record(log, heir)

    def remove(self, server: Server, over_s: float = 0.0) -> None:
        """Take a server out of the cluster; processes hear of it one after the other."""
        self.cluster.servers.pop(server.name, None)
        server.up = False
        self.tell(over_s)

    def admit(self, server: Server, donor: Server) -> None:
        """Let a server join with a copy of another one: unreadable until it holds all that exists now."""
        server.begin_life({shard: dict(origins) for shard, origins in self.surviving(donor).items()})
        for copy in server.copies.values():
            copy.leads = frozenset()
        server.up, server.paused, server.ready = True, False, False
        self.cluster.servers[server.name] = server
        target = {log.pk: log.head for log in self.cluster.logs.values()}
        self.catch_up(server)

        def check() -> float | None:
            if self.cluster.servers.get(server.name) is not server:
                return None
            for pk, head in target.items():
                log = self.cluster.logs[pk]
                need = head if log.end is None else min(head, log.end)
                if server.copies[log.shard].applied(pk & 0xFFFFFFFF) < need:
                    if server.up:
                        self.catch_up(server)
                    return 0.05
            server.ready = True
            if self.topology.store.writers == "every" and not any(
                s.site == server.site and any(c.leads for c in s.copies.values()) for s in self.members()
            ):
                for shard in self.shards:
                    self.announce(self.cluster.lead(server, shard, self.cluster.new_origin()), server)
            self.tell(self.faults.outage_s if self.faults.membership else 0.0)
            return None

        self.timeline.after(0.0, check)
