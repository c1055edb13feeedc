"""What users really saw, and what they must have seen: the bookkeeping of a simulation.

Owns the truth. It is told what the servers did and what the clients were answered, and never looks at a token, a gate or a receipt.

Two kinds of findings. *Anomalies* are counted, as a user would notice them, by value: a read returned less than an own write of the
key (stale), less than the session read of it before (backward), or less than something in its causal past (acausal; includes both).
*Violations* are broken promises, and end the matter for a strategy that makes them: an anomaly; a snapshot that lacks what the session
knows of its shard, shows an effect without its cause or a history that was lost, or is older than any may be; a write where its causes
are not, or that loses against them; a loss that was not said, or said to whom it does not concern, or of what is not lost; a clock that
goes back.

A past is a mapping from (shard, origin) to offset, closed under causes; it is replaced, never changed, so that whoever keeps one keeps
that moment. Complexity: a read costs one look at the newest version of its key where it returns that, and a binary search otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import attrs

from causal.core.position import ANY_ORIGIN
from causal.lab.planet.logs import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.core.view import EndpointView
    from causal.core.watermark import Watermark
    from causal.lab.planet.logs import Entry, Past
    from causal.lab.planet.servers import Cluster, Server

NOTHING: Final[dict[int, int]] = {}
MAX_VIOLATIONS: Final = 20


@attrs.frozen
class Violation:
    """A broken promise: what kind, when, whose, and a sentence. Units: seconds. Thread-safety: immutable."""

    kind: str
    at_s: float
    session: str
    said: str


@attrs.define(on_setattr=[])
class Anomalies:
    """How many reads showed what. Thread-safety: none."""

    reads: int = 0
    stale: int = 0
    backward: int = 0
    acausal: int = 0


class Knowledge:
    """What one session truly knows. `past` is closed under causes; `own` are its acknowledged writes by (shard, origin)."""

    __slots__ = ("folded", "forgiven", "mine", "name", "own", "past", "read", "told_s", "wrote")

    def __init__(self, name: str) -> None:
        self.name = name
        self.past: Past = NOTHING
        self.own: Past = NOTHING
        self.mine: Past = NOTHING
        """As `own`, whatever became of it since."""
        self.folded = False
        """Whether a token of it ever had a leader mark. When that lapses, what it stood for is demanded, and a loss of it said, no more."""
        self.told_s: Mapping[int, float] = {}
        """When it was last told that it had written, by (shard, origin)."""
        self.wrote: dict[int, Entry] = {}
        self.read: dict[int, Entry] = {}
        self.forgiven: Past = NOTHING

    def fork(self, name: str) -> Knowledge:
        """Return what somebody knows who is handed this session's token."""
        twin = Knowledge(name)
        twin.past, twin.own, twin.forgiven, twin.mine = self.past, self.own, self.forgiven, self.mine
        twin.told_s, twin.folded = self.told_s, self.folded
        twin.wrote, twin.read = dict(self.wrote), dict(self.read)
        return twin

    def become(self, earlier: Knowledge) -> None:
        """Go back to an earlier moment: the client presents what it was given then."""
        twin = earlier.fork(self.name)
        self.past, self.own, self.forgiven, self.wrote, self.read = (
            twin.past,
            twin.own,
            twin.forgiven,
            twin.wrote,
            twin.read,
        )


class _Versions:
    """The versions of one key, by origin, that are not lost; and the newest of all."""

    __slots__ = ("by_origin", "newest")

    def __init__(self) -> None:
        self.by_origin: dict[int, tuple[list[int], list[Entry]]] = {}
        self.newest: Entry | None = None


class Oracle:
    """The bookkeeping of one run. Thread-safety: none."""

    def __init__(
        self,
        cluster: Cluster,
        now: Callable[[], float],
        *,
        max_staleness_s: float = math.inf,
    ) -> None:
        self._cluster = cluster
        self._now = now
        self._max_staleness_s = max_staleness_s
        self._keys: dict[int, _Versions] = {}
        self.asked: Iterable[EndpointView] | None = None
        """What the process knows of its endpoints whose answer is judged next; None: it could ask everybody."""
        self.violations: list[Violation] = []
        self.broken = 0

    # --- what the servers did ------------------------------------------------------------------------------------

    def committed(self, entry: Entry) -> None:
        """Note a write."""
        versions = self._keys.get(entry.key)
        if versions is None:
            versions = self._keys[entry.key] = _Versions()
        columns = versions.by_origin.get(entry.pk)
        if columns is None:
            columns = versions.by_origin[entry.pk] = ([], [])
        columns[0].append(entry.offset)
        columns[1].append(entry)
        if versions.newest is None or entry.rank > versions.newest.rank:
            versions.newest = entry

    def lost(self, entries: Iterable[Entry]) -> None:
        """Note that writes are lost."""
        for entry in entries:
            versions = self._keys[entry.key]
            offsets, kept = versions.by_origin[entry.pk]
            place = kept.index(entry)
            del offsets[place], kept[place]
            if versions.newest is entry:
                left = [e for _, column in versions.by_origin.values() for e in column]
                versions.newest = max(left, key=lambda e: e.rank, default=None)

    def forget(self, entries: Iterable[Entry]) -> None:
        """Forget versions that every server has replaced: nobody can be shown less any more. The newest of a key stays, for now.

        They come in the order of their logs: what stayed before one of them goes with it.
        """
        for entry in entries:
            versions = self._keys[entry.key]
            columns = versions.by_origin.get(entry.pk)
            if columns is None:
                continue
            offsets, kept = columns
            gone = bisect_right(offsets, entry.offset) - (versions.newest is entry)
            del offsets[:gone], kept[:gone]
            if not kept:
                del versions.by_origin[entry.pk]

    # --- what the clients were answered --------------------------------------------------------------------------

    def required(self, key: int, past: Past) -> Entry | None:
        """Return the version that whoever has this past must at least see of a key."""
        versions = self._keys.get(key)
        if versions is None:
            return None
        newest = versions.newest
        if newest is not None and past.get(newest.pk, -1) >= newest.offset:
            return newest
        best: Entry | None = None
        for pk, (offsets, entries) in versions.by_origin.items():
            place = bisect_right(offsets, past.get(pk, -1))
            if place and (best is None or entries[place - 1].rank > best.rank):
                best = entries[place - 1]
        return best

    def answered(
        self,
        me: Knowledge,
        key: int,
        entry: Entry | None,
        past: Past,
        counts: Anomalies,
        marks: Mapping[int, Watermark] | None,
        *,
        promised: bool,
        proven: bool = True,
        server: Server | None = None,
    ) -> None:
        """Judge a read by what its session knew when it was sent, and learn what it showed. `server` is who was read.

        `marks` is the watermark of its snapshot, where there is one; `promised` says whether any of this is a promise, `proven` whether
        a bound on its age is.
        """
        counts.reads += 1
        # What has lapsed from a token need not be where it is not shown to be fresh: a documented limit.
        promised = promised and (proven or not me.folded or self._now() < self._max_staleness_s)
        if past:
            versions = self._keys.get(key)
            if versions is not None and versions.newest is not entry:
                need = self.required(key, past)
                if need is not None and need is not entry and (entry is None or entry.rank < need.rank):
                    self._anomaly(me, key, entry, need, counts, promised=promised)
            if promised and marks is not None:
                self._covered(me, past, marks)
                if server is not None and len(self._cluster.shards) > 1:
                    self._elsewhere(me, past, marks, server)
        if promised and marks is not None:
            self._sound(me, entry, marks, proven=proven)
        if entry is not None:
            self.learn(me, entry)
            before = me.read.get(key)
            if before is None or before.lost or before.rank < entry.rank:
                me.read[key] = entry

    def _anomaly(
        self, me: Knowledge, key: int, entry: Entry | None, need: Entry, counts: Anomalies, *, promised: bool
    ) -> None:
        rank = (-1, -1) if entry is None else entry.rank
        wrote, read = me.wrote.get(key), me.read.get(key)
        stale = wrote is not None and not wrote.lost and rank < wrote.rank
        backward = read is not None and not read.lost and rank < read.rank
        counts.acausal += 1
        counts.stale += stale
        counts.backward += backward
        if promised and not self._unheard(need.pk):
            kind = "stale own read" if stale else "backward read" if backward else "acausal read"
            shown = "nothing" if entry is None else str(entry)
            whose = "which it wrote" if need.session == me.name else f"which {need.session} wrote and it knows of"
            self.broke(kind, me.name, f"{me.name} read key {key} and was shown {shown}, not {need}, {whose}")

    def _covered(self, me: Knowledge, past: Past, marks: Mapping[int, Watermark]) -> None:
        """Judge a snapshot: it must hold all of its shard that the session knows, but for what is lost."""
        for shard, mark in marks.items():
            origins = mark.origins
            for pk, offset in past.items():
                if pk >> 32 != shard:
                    continue
                place = origins.get(pk & 0xFFFFFFFF)
                applied = 0 if place is None else place[0]
                if applied >= offset:
                    continue
                log = self._cluster.logs[pk]
                end = log.end
                own = me.own.get(pk, -1)
                if end is not None and end < offset:
                    remembered = not me.folded or self._now() - me.told_s.get(pk, -math.inf) < self._max_staleness_s
                    if own > end and me.forgiven.get(pk, -1) < own and remembered:
                        said = (
                            f"{me.name} was served shard {shard}, and not told that its write {_said(pk, own)} is lost"
                        )
                        self.broke("loss not said", me.name, said)
                        continue
                    offset = end
                if applied < offset and not self._unheard(pk):
                    said = f"{me.name} knows of {_said(pk, offset)} and was served a snapshot of {_said(pk, applied)}"
                    self.broke("uncovered snapshot", me.name, said)

    def _elsewhere(self, me: Knowledge, past: Past, marks: Mapping[int, Watermark], server: Server) -> None:
        """Judge who was read by the other shards: it must have held what the session knows of these, too (I8)."""
        if not self._cluster.dependencies or any(m.incarnation != server.incarnation for m in marks.values()):
            return
        for pk, offset in past.items():
            shard = pk >> 32
            if shard in marks or not self._lacks(server.copies[shard].origins.get(pk & 0xFFFFFFFF), pk, offset):
                continue
            if not self._unheard(pk):
                said = f"{me.name} knows of {_said(pk, offset)}, and was served by {server.name}, which lacks it"
                self.broke("uncovered elsewhere", me.name, said)

    def _unheard(self, pk: int) -> bool:
        """Whether nobody whom the process could ask has heard of an origin: then a read of what leaders hold knows nothing of it, either.

        That is a documented limit of reads at a leader, and of nothing else: who demands a position of it is never served.
        """
        shard, origin = pk >> 32, pk & 0xFFFFFFFF
        names = None if self.asked is None else {endpoint.name for endpoint in self.asked if endpoint.down is None}
        return not any(
            s.up and s.member and (names is None or s.name in names) and origin in s.copies[shard].origins
            for s in self._cluster.servers.values()
        )

    def _sound(self, me: Knowledge, entry: Entry | None, marks: Mapping[int, Watermark], *, proven: bool) -> None:
        """Judge a snapshot by itself: no history that was lost, no effect without its cause, nothing missing that is too old for that."""
        oldest_s = self._now() - self._max_staleness_s
        for shard, mark in marks.items():
            for origin, (applied, end) in mark.origins.items():
                if end is not None and applied > end:
                    said = f"{me.name} was served {_said(shard << 32 | origin, applied)}, and the server knew that this ends at {end}"
                    self.broke("lost history served", me.name, said)
                if proven and oldest_s > 0:
                    log = self._cluster.logs[shard << 32 | origin]
                    lacking = log.between(applied, log.head)
                    if lacking and lacking[0].at_s < oldest_s:
                        said = f"{me.name} was served a snapshot without {lacking[0]}, which is older than any may be"
                        self.broke("too stale", me.name, said)
        for pk, offset in entry.past.items() if entry is not None else ():
            here = marks.get(pk >> 32)
            if here is not None and self._lacks(here.origins.get(pk & 0xFFFFFFFF), pk, offset):
                said = f"{me.name} was shown {entry} by a snapshot that has not applied {_said(pk, offset)}, which came before"
                self.broke("effect without its cause", me.name, said)

    def _lacks(self, place: tuple[int, int | None] | None, pk: int, offset: int) -> bool:
        """Whether a copy that is so far lacks some of what survives of a position."""
        end = self._cluster.logs[pk].end
        return (0 if place is None else place[0]) < (offset if end is None else min(offset, end))

    def learn(self, me: Knowledge, entry: Entry) -> None:
        """Let a session know an entry, and all that its writer knew."""
        past = me.past
        if past.get(entry.pk, -1) >= entry.offset:
            return
        me.past = joined(entry.past, past, entry.pk, entry.offset)

    def doubted(self, me: Knowledge, entry: Entry, past: Past) -> None:
        """Let a session know its own write, of which it was told nothing: not what came before that in its log."""
        me.past = joined(past, me.past, entry.pk, entry.offset)

    def acknowledged(self, me: Knowledge, entry: Entry) -> None:
        """Note that a session was told of its write."""
        self.learn(me, entry)
        if entry.offset > me.own.get(entry.pk, -1):
            me.own = {**me.own, entry.pk: entry.offset}
        me.told_s = {**me.told_s, entry.pk: self._now()}
        if entry.offset > me.mine.get(entry.pk, -1):
            me.mine = {**me.mine, entry.pk: entry.offset}
        before = me.wrote.get(entry.key)
        if before is None or before.lost or before.rank < entry.rank:
            me.wrote[entry.key] = entry

    def written(self, me: Knowledge, entry: Entry, past: Past, server: Server) -> None:
        """Judge a write as it is committed: all that its writer knew must be there (until marks lapse), and it must win over that."""
        if self._now() < self._max_staleness_s and self._cluster.dependencies:
            for pk, offset in past.items():
                copy = server.copies.get(pk >> 32)
                if copy is not None and self._lacks(copy.origins.get(pk & 0xFFFFFFFF), pk, offset):
                    said = f"{me.name} wrote {entry} at {server.name}, which has not applied {_said(pk, offset)}, which it knew"
                    self.broke("write without its causes", me.name, said)
        if past:
            need = self.required(entry.key, past)
            if need is not None and need is not entry and entry.rank < need.rank:
                said = f"{me.name} wrote {entry} of key {entry.key}, which loses against {need}, which it knew"
                self.broke("write loses to its cause", me.name, said)

    def told_lost(self, me: Knowledge, pk: int, offset: int) -> None:
        """Note that a session was told that its writes after the end of a history are lost. It accepts that."""
        log = self._cluster.logs.get(pk)
        if log is None or log.end is None or offset <= log.end:
            self.broke("false loss", me.name, f"{me.name} was told that {_said(pk, offset)} is lost, and it is not")
            return
        if offset > me.mine.get(pk, -1):
            self.broke(
                "loss of another's", me.name, f"{me.name} was told that {_said(pk, offset)} is lost, and never wrote it"
            )
        self._forgive(me, pk, offset, log.end)

    def told_doubt(self, me: Knowledge, origins: frozenset[int]) -> None:
        """Note that a session was told that its folded writes of these origins (or ANY_ORIGIN) may be lost, and accepts that.

        A mark remembers numbers of origins, of whatever shard: of these, nothing more needs to be said.
        """
        every = ANY_ORIGIN in origins
        me.own = {pk: offset for pk, offset in me.own.items() if not (every or pk & 0xFFFFFFFF in origins)}

    def _forgive(self, me: Knowledge, pk: int, offset: int, end: int) -> None:
        me.forgiven = {**me.forgiven, pk: max(offset, me.forgiven.get(pk, -1))}
        if me.own.get(pk, -1) > end:
            me.own = {**me.own, pk: end}
        if me.past.get(pk, -1) > end:
            me.past = {**me.past, pk: end}

    def broke(self, kind: str, session: str, said: str) -> None:
        """Note a broken promise."""
        self.broken += 1
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(Violation(kind, self._now(), session, said))


def _said(pk: int, offset: int) -> str:
    return f"{pk >> 32}/{pk & 0xFFFFFFFF}@{offset}"
