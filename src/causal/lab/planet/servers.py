"""The simulated store: servers that follow logs, and who leads what.

Owns what an engine promises (see `causal.engine`): watermarks of a snapshot, incarnations, origins that end, dependencies before
effects. The rules are those of the memory store, as events in virtual time and over logs of bounded length. Stamps come from the real
hybrid clock. Knows nothing of sessions, tokens or the gate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.clock import HybridLogicalClock
from causal.core.frontier import Frontier
from causal.core.hlc import COUNTER_BITS, MAX_LOGICAL, START
from causal.core.watermark import Watermark
from causal.errors import ClockDrift
from causal.kv import next_stamp
from causal.lab.planet.logs import EMPTY, START_MS, Entry, Log, Past, joined, win

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Protocol

    from causal.lab.planet.timeline import Timeline

    class Watcher(Protocol):
        """Who waits for news of a server."""

        def wake(self, timeline: Timeline) -> None:
            """Go on now."""


class Copy:
    """One server's copy of one shard. `origins` is replaced, not changed: snapshots hold the old one."""

    __slots__ = ("high", "leads", "marks", "origins", "reach", "shard", "versions")

    def __init__(self, shard: int, origins: dict[int, tuple[int, int | None]]) -> None:
        self.shard = shard
        self.origins = origins
        self.leads: frozenset[int] = frozenset()
        self.versions: dict[int, Entry] = {}
        self.reach: dict[int, int] = {}
        """By origin: how far its log has arrived here."""
        self.high = 0
        self.marks: Mapping[int, Watermark] | None = None

    def applied(self, origin: int) -> int:
        """Return how far an origin is applied here; -1 if it was never heard of."""
        place = self.origins.get(origin)
        return -1 if place is None else place[0]


class Server:
    """One endpoint: one copy of every shard, a wall clock, and lives that begin with each restart."""

    def __init__(self, cluster: Cluster, name: str, site: str, skew_ms: int = 0) -> None:
        self.cluster = cluster
        self.name = name
        self.site = site
        self.up = True
        self.paused = False
        self.ready = True
        self.member = True
        """Not an index."""
        self.skew_ms = skew_ms
        self.lifes = 1
        self.copies: dict[int, Copy] = {}
        self.blocked: dict[int, Log] = {}
        self._marks: dict[int, Watermark] = {}
        self.watchers: list[Watcher] = []
        """Who wants to know when the next entry is applied here."""
        self.alarms = 0
        self.told = START
        self.clock = self._new_clock()

    @property
    def incarnation(self) -> tuple[str, int]:
        """This life of this server."""
        return self.name, self.lifes

    def _new_clock(self) -> HybridLogicalClock:
        return HybridLogicalClock(wall=self.wall_ns, max_drift_s=self.cluster.max_drift_s)

    def wall_ns(self) -> int:
        """Return its wall clock. Units: Unix nanoseconds."""
        return (START_MS + int(self.cluster.now() * 1000) + self.skew_ms) * 1_000_000

    # --- what a link asks ----------------------------------------------------------------------------------------

    def snapshot(self, shard: int) -> Mapping[int, Watermark]:
        """Return the watermark of one shard as it is now. Unchanged, it is the same object."""
        copy = self.copies[shard]
        marks = copy.marks
        if marks is None:
            copy.marks = marks = {shard: Watermark(shard, copy.origins, self.incarnation, copy.leads)}
        return marks

    def watermarks(self) -> dict[int, Watermark]:
        """Return the watermarks of all shards. Unchanged, they are the same object."""
        last = self._marks
        for shard, copy in self.copies.items():
            marks = copy.marks
            if marks is None or last.get(shard) is not marks[shard]:
                break
        else:
            if len(last) == len(self.copies):
                return last
        self._marks = last = {s: (copy.marks or self.snapshot(s))[s] for s, copy in self.copies.items()}
        return last

    # --- applying ------------------------------------------------------------------------------------------------

    def receive(self, log: Log, upto: int) -> None:
        """Take in that a log has arrived up to an offset: apply what may be applied, in order."""
        if not self.up:
            return
        copy = self.copies.get(log.shard)
        if copy is None:
            return
        origin = log.pk & 0xFFFFFFFF
        if upto > copy.reach.get(origin, -1):
            copy.reach[origin] = upto
        if not self.paused:
            self.drain(log, copy)

    def drain(self, log: Log, copy: Copy) -> None:
        """Apply what has arrived of a log, and then whatever waited for that."""
        moved = self._apply(log, copy)
        while moved and self.blocked:
            moved = False
            for pk, other in list(self.blocked.items()):
                del self.blocked[pk]
                moved |= self._apply(other, self.copies[other.shard])

    def _apply(self, log: Log, copy: Copy) -> bool:
        origin = log.pk & 0xFFFFFFFF
        upto = copy.reach.get(origin, -1)
        if log.end is not None and upto > log.end:
            upto = log.end
        if log.after is not None and not self._continues(log, copy):
            self.blocked[log.pk] = log
            return False
        applied = copy.applied(origin)
        new = origin not in copy.origins
        if upto <= applied and not new:
            return False
        causal = self.cluster.dependencies
        reached = max(applied, 0)
        for entry in log.between(applied, upto):
            if causal and entry.deps and not self.holds(entry.deps):
                self.blocked[log.pk] = log
                reached = max(reached, entry.offset - 1)  # what came before it is here, empty transactions, too
                break
            self._take(copy, entry)
            reached = entry.offset
        else:
            reached = max(reached, upto)
        if reached <= applied and not new:
            return False
        copy.origins = {**copy.origins, origin: (reached, copy.origins.get(origin, (0, None))[1])}
        copy.marks = None
        self._moved()
        return True

    def _moved(self) -> None:
        """Tell who watches that something has moved."""
        if self.watchers:
            watchers, self.watchers = self.watchers, []
            for watcher in watchers:
                watcher.wake(self.cluster.timeline)

    def _continues(self, log: Log, copy: Copy) -> bool:
        """Learn where the log before this one ends; whether all that survives of it is here, and nothing that does not."""
        assert log.after is not None
        before, end = log.after
        applied, known = copy.origins.get(before, (-1, None))
        if known is None or end < known:
            copy.origins = {**copy.origins, before: (applied, end)}
            copy.marks = None
        if applied > end:
            self.cluster.diverged(self)
            return False
        if applied < end:
            self.cluster.ask(self, self.cluster.logs[log.shard << 32 | before])
        return copy.applied(before) >= end

    def _take(self, copy: Copy, entry: Entry) -> None:
        win(copy.versions, entry)
        if entry.stamp > copy.high:
            copy.high = entry.stamp
        try:
            self._told(self.clock.update(entry.stamp), entry.stamp)
        except ClockDrift:
            self.alarms += 1  # an alarm; it blocks nothing

    def tick(self) -> int:
        """Return what the clock says next."""
        return self._told(self.clock.now(), START)

    def _told(self, now: int, heard: int) -> int:
        """Judge what the clock says: above all that it said in this life and what it has just heard, which is not too far ahead (I1)."""
        if now <= self.told or now <= heard:
            self.cluster.on_broken(
                "clock goes back", self.name, f"the clock of {self.name} says {now} after {max(self.told, heard)}"
            )
        ahead_ms = (heard >> COUNTER_BITS) - self.wall_ns() // 10**6
        if ahead_ms > self.cluster.max_drift_s * 1000:
            self.cluster.on_broken(
                "clock led away", self.name, f"the clock of {self.name} follows one that is {ahead_ms} ms ahead"
            )
        self.told = now
        return now

    def holds(self, deps: Frontier) -> bool:
        """Return whether all dependencies are applied here; of a lost one, what survives."""
        copies = self.copies
        for pk, offset in deps.entries.items():
            copy = copies.get(pk >> 32)
            if copy is None:
                return False
            place = copy.origins.get(pk & 0xFFFFFFFF)
            if place is None:
                return False
            applied, end = place
            if applied < offset and (end is None or applied < min(offset, end)):
                return False
        return True

    # --- writing -------------------------------------------------------------------------------------------------

    def commit(self, shard: int, key: int, number: int, session: str, deps: Frontier, past: Past) -> Entry:
        """Number and stamp a write, keep its dependencies with it, and apply it here."""
        copy = self.copies[shard]
        origin = max(copy.leads)
        log = self.cluster.logs[shard << 32 | origin]
        stamp = next_stamp(self.tick(), (copy.high, log.head) if self.cluster.clock_offsets else (copy.high,))
        offset = stamp if self.cluster.clock_offsets else log.head + 1
        stored = EMPTY
        if self.cluster.dependencies:
            stored = deps
            if log.last is not None:
                last = log.last.deps
                stored = deps if deps >= last else deps | last
            if stored.floors or stored.marks:
                stored = stored.exact
            stored = stored.without((log.pk,))  # its own position stands for all before it
        if log.last is not None and past.get(log.pk, -1) < log.head:
            past = joined(past, log.last.past, log.pk, log.last.offset)  # a log is read in order: its past adds up, too
        entry = Entry(log.pk, offset, stamp, key, number, session, stored, past)
        entry.at_s = self.cluster.now()
        log.append(entry)
        self._take(copy, entry)
        copy.origins = {**copy.origins, origin: (offset, None)}
        copy.marks = None
        copy.reach[origin] = offset
        self._moved()
        if self.blocked:
            self.drain(log, copy)
        return entry

    def beat(self) -> list[Log]:
        """Move every log that is led here on to the present: an empty transaction. Only where offsets are clock readings."""
        moved = []
        for shard, copy in self.copies.items():
            for origin in copy.leads:
                log = self.cluster.logs[shard << 32 | origin]
                stamp = next_stamp(self.tick(), (copy.high, log.head))
                log.head = stamp
                copy.origins = {**copy.origins, origin: (stamp, None)}
                copy.marks = None
                copy.reach[origin] = stamp
                moved.append(log)
        return moved

    # --- lives ---------------------------------------------------------------------------------------------------

    def begin_life(self, at: Mapping[int, dict[int, tuple[int, int | None]]]) -> None:
        """Restart with exactly these positions: what is past them is forgotten, and will be applied again."""
        self.lifes += 1
        self.blocked = {}
        self.clock, self.told = self._new_clock(), START
        for shard, origins in at.items():
            leads = self.copies[shard].leads if shard in self.copies else frozenset()
            self.copies[shard] = copy = Copy(shard, dict(origins))
            copy.leads = leads
            copy.versions = self.cluster.state(shard, origins)
            copy.high = max((e.stamp for e in copy.versions.values()), default=0)

    def exhaust(self) -> None:
        """Let the hybrid clock have used up its counter."""
        last = self.clock.last
        if last is not None:
            self.clock._last = last | MAX_LOGICAL

    def positions(self) -> dict[int, dict[int, tuple[int, int | None]]]:
        """Return what is applied here, by shard and origin."""
        return {shard: copy.origins for shard, copy in self.copies.items()}


class Cluster:
    """All logs, all servers, and who leads what: what a control plane knows. Thread-safety: none."""

    def __init__(
        self,
        *,
        timeline: Timeline,
        shards: Iterable[int],
        dependencies: bool,
        clock_offsets: bool,
        max_drift_s: float = 0.5,
    ) -> None:
        self.timeline = timeline
        self.now = timeline.monotonic
        self.shards = tuple(shards)
        self.dependencies = dependencies
        self.clock_offsets = clock_offsets
        self.max_drift_s = max_drift_s
        self.servers: dict[str, Server] = {}
        self.logs: dict[int, Log] = {}
        self.base: dict[int, dict[int, Entry]] = {shard: {} for shard in self.shards}
        """By shard: the version of each key among entries that are in no log any more."""
        self.origins = 0
        self.on_diverged: Callable[[Server], object] = lambda server: None
        self.on_ask: Callable[[Server, Log], object] = lambda server, log: None
        self.on_broken: Callable[[str, str, str], object] = lambda kind, who, said: None

    def new_origin(self) -> int:
        """Return a number that no origin had before."""
        self.origins += 1
        return self.origins

    def lead(self, server: Server, shard: int, origin: int, after: tuple[int, int] | None = None) -> Log:
        """Let a server number an origin from now on."""
        log = Log(shard, origin, server.name, after)
        self.logs[log.pk] = log
        copy = server.copies[shard]
        copy.origins = {**copy.origins, origin: (0, None)}
        copy.leads = frozenset((*copy.leads, origin))
        copy.reach[origin] = 0
        copy.marks = None
        return log

    def end(self, log: Log, at: int) -> list[Entry]:
        """End a log: nobody numbers it any more. Return what is lost."""
        gone = log.cut(at)
        leader = self.servers.get(log.leader)
        if leader is not None:
            copy = leader.copies[log.shard]
            copy.leads = copy.leads - {log.pk & 0xFFFFFFFF}
            copy.marks = None
        return gone

    def state(self, shard: int, origins: Mapping[int, tuple[int, int | None]]) -> dict[int, Entry]:
        """Return the version of each key in a copy that has applied exactly so much."""
        versions = dict(self.base[shard])
        for origin, (applied, end) in origins.items():
            log = self.logs[shard << 32 | origin]
            for entry in log.between(-1, applied):
                win(versions, entry)
            if end is None:
                for entry in log.lost:
                    if entry.offset <= applied:
                        win(versions, entry)
        return versions

    def forget(self) -> list[Entry]:
        """Move what every server has applied out of the logs; return it. Memory stays flat, whatever was written."""
        gone: list[Entry] = []
        for log in self.logs.values():
            if not log.entries:
                continue
            origin = log.pk & 0xFFFFFFFF
            upto = min((s.copies[log.shard].applied(origin) for s in self.servers.values()), default=-1)
            base = self.base[log.shard]
            for entry in log.forget(upto):
                gone.append(entry)
                win(base, entry)
        return gone

    def diverged(self, server: Server) -> None:
        """Tell whoever listens that a server holds what was lost."""
        self.on_diverged(server)

    def ask(self, server: Server, log: Log) -> None:
        """Let a server ask for what it lacks of a log."""
        self.on_ask(server, log)
