"""Engines that each break one promise: the reference engine, with one line of it wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

import attrs

from causal.core.frontier import Frontier, Position
from causal.core.watermark import Watermark
from causal.engine import Commit
from causal.errors import CommitUnknown, StoreError, Unreachable
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.memory.link import (
    AsyncMemoryLink,
    AsyncMemoryRead,
    MemoryLink,
    MemoryRead,
    MemoryReader,
    MemoryWrite,
)
from tests.testing.stages import SHARDS, MemoryStage

Marks = Mapping[int, Watermark]


class BrokenEngine(MemoryEngine):
    kind: type[MemoryLink] = MemoryLink

    def open(self, store: int = 0) -> MemoryLink:
        return self.kind(self.cluster, self.site, self.latency_s)

    async def aopen(self, store: int = 0) -> Any:
        return AsyncMemoryLink(self.open(store))


class Marked(MemoryLink):
    """Every watermark that it gives goes through `marked`."""

    def marked(self, endpoint: str, marks: Marks) -> Marks:
        return marks

    def probe(self, endpoint: str, timeout_s: float) -> Marks:
        return self.marked(endpoint, super().probe(endpoint, timeout_s))

    def read(self, endpoint: str, shards: Sequence[int]) -> MemoryRead:
        handle = super().read(endpoint, shards)
        handle.watermarks = self.marked(endpoint, handle.watermarks)
        return handle

    def locked(self, endpoint: str, shard: int) -> MemoryWrite:
        handle = super().locked(endpoint, shard)
        handle.watermarks = self.marked(endpoint, handle.watermarks)
        return handle


class Handled(MemoryLink):
    """Every handle that it gives is of the kinds `reading` and `writes`."""

    reading: type[MemoryRead] = MemoryRead
    writes: type[MemoryWrite] = MemoryWrite

    def read(self, endpoint: str, shards: Sequence[int]) -> MemoryRead:
        site = self.reach(endpoint)
        with self.cluster.lock:
            return self.reading(site, shards)

    def locked(self, endpoint: str, shard: int) -> MemoryWrite:
        with self.cluster.lock:
            return self.writes(self, self.reach(endpoint), shard)


# --- watermarks ----------------------------------------------------------------------------------------------------------


class WatermarkAfterTheSnapshot(MemoryLink):
    def read(self, endpoint: str, shards: Sequence[int]) -> MemoryRead:
        handle = super().read(endpoint, shards)
        handle.watermarks = self.probe(endpoint, 1.0)
        return handle


class WatermarkWhenAskedFor(Handled):
    class Reading(MemoryRead):
        def __init__(self, site: Any, shards: Sequence[int]) -> None:
            super().__init__(site, shards)
            del self.__dict__["watermarks"]
            self._site = site

        @property
        def watermarks(self) -> Marks:  # type: ignore[override]
            return {shard: s.watermark for shard, s in self._site.snapshot().items()}

        @watermarks.setter
        def watermarks(self, marks: Marks) -> None:
            self.__dict__["watermarks"] = marks

    reading = Reading


class ReceivedIsNotApplied(Marked):
    """It says what has arrived anywhere, and not what is applied here."""

    def marked(self, endpoint: str, marks: Marks) -> Marks:
        copies = [site.copies for site in self.cluster.sites.values()]
        return {
            shard: attrs.evolve(
                mark,
                origins={
                    o: (max(c[shard].origins.get(o, (0, None))[0] for c in copies), end)
                    for o, (_, end) in mark.origins.items()
                },
            )
            for shard, mark in marks.items()
        }


class NeverApplied(Marked):
    """It never says that anything of others is applied."""

    def marked(self, endpoint: str, marks: Marks) -> Marks:
        return {
            s: attrs.evolve(m, origins={o: (a if o in m.leads else 0, end) for o, (a, end) in m.origins.items()})
            for s, m in marks.items()
        }


class NoEnd(Marked):
    def marked(self, endpoint: str, marks: Marks) -> Marks:
        return {s: attrs.evolve(m, origins={o: (a, None) for o, (a, _) in m.origins.items()}) for s, m in marks.items()}


class EndsWhereItIs(Marked):
    """Where a history ends is, for each site, where it is itself."""

    def marked(self, endpoint: str, marks: Marks) -> Marks:
        return {
            s: attrs.evolve(
                m, origins={o: (a, end if end is None else min(a, end)) for o, (a, end) in m.origins.items()}
            )
            for s, m in marks.items()
        }


class OneIncarnation(Marked):
    def marked(self, endpoint: str, marks: Marks) -> Marks:
        return {s: attrs.evolve(m, incarnation=endpoint) for s, m in marks.items()}


class SharedIncarnation(Marked):
    def marked(self, endpoint: str, marks: Marks) -> Marks:
        return {s: attrs.evolve(m, incarnation="the cluster") for s, m in marks.items()}


class EverybodyLeads(Marked):
    def marked(self, endpoint: str, marks: Marks) -> Marks:
        return {s: attrs.evolve(m, leads=frozenset(m.origins)) for s, m in marks.items()}


class NobodyLeads(Marked):
    def marked(self, endpoint: str, marks: Marks) -> Marks:
        return {s: attrs.evolve(m, leads=frozenset()) for s, m in marks.items()}


class OneShardOfTwo(Marked):
    def probe(self, endpoint: str, timeout_s: float) -> Marks:
        return dict(list(super().probe(endpoint, timeout_s).items())[:1])


class OwnNumbersForShards(Marked):
    """The ids of its shards lack the store's number."""

    def probe(self, endpoint: str, timeout_s: float) -> Marks:
        return {s & 0xFFFF: attrs.evolve(m, shard=s & 0xFFFF) for s, m in super().probe(endpoint, timeout_s).items()}


# --- endpoints --------------------------------------------------------------------------------------------------------------


class AnswersFromMemory(MemoryLink):
    """Who does not answer is answered for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._known: dict[str, Marks] = {}

    def probe(self, endpoint: str, timeout_s: float) -> Marks:
        try:
            self._known[endpoint] = super().probe(endpoint, timeout_s)
        except Unreachable:
            if endpoint not in self._known:
                raise
        return self._known[endpoint]


class LeaderNamesAReplica(MemoryLink):
    def leader(self, shard: int) -> str:
        return next(e.name for e in self.endpoints if e.name != self._home)


class NeverCloses(MemoryLink):
    def close(self) -> None:
        pass


class AnyShard(MemoryLink):
    """A shard that is not there is taken for the first one."""

    def read(self, endpoint: str, shards: Sequence[int]) -> MemoryRead:
        known = self.probe(endpoint, 1.0)
        return super().read(endpoint, [s if s in known else min(known) for s in shards])


class DoubtWhereThereIsNone(MemoryLink):
    def writing(self, endpoint: str, shard: int) -> threading.Lock:
        try:
            return super().writing(endpoint, shard)
        except Unreachable as error:
            raise CommitUnknown(str(error)) from error


# --- commits ----------------------------------------------------------------------------------------------------------------


class PositionBeforeTheCommit(Handled):
    class Writing(MemoryWrite):
        def commit(self, deps: Frontier) -> Commit:
            commit = super().commit(deps)
            p = commit.position
            return commit if p is None else attrs.evolve(commit, position=Position(p.shard, p.origin, p.offset - 1))

    writes = Writing


class PositionAfterTheLock(Handled):
    class Writing(MemoryWrite):
        def commit(self, deps: Frontier) -> Commit:
            commit = super().commit(deps)
            if commit.position is None:
                return commit
            head = self._site.copies[self._shard].origins[commit.position.origin][0]
            return attrs.evolve(commit, position=attrs.evolve(commit.position, offset=head))

    writes = Writing


class RollbackKeeps(Handled):
    class Writing(MemoryWrite):
        ended = False

        def commit(self, deps: Frontier) -> Commit:
            self.ended = True
            return super().commit(deps)

        def rollback(self) -> None:
            if not self.ended and self.connection.changes:
                self.commit(Frontier())
            super().rollback()

    writes = Writing


class RollbackKeepsTheLock(Handled):
    class Writing(MemoryWrite):
        ended = False

        def commit(self, deps: Frontier) -> Commit:
            self.ended = True
            return super().commit(deps)

        def rollback(self) -> None:
            if self.ended:
                super().rollback()
            self.connection.open = False

    writes = Writing


class CommitsTwice(Handled):
    class Writing(MemoryWrite):
        def commit(self, deps: Frontier) -> Commit:
            if not self.connection.open:
                return Commit(None if self._entry is None else self._entry.position)
            return super().commit(deps)

    writes = Writing


class NoAnswerMeansNo(Handled):
    class Writing(MemoryWrite):
        def commit(self, deps: Frontier) -> Commit:
            try:
                return super().commit(deps)
            except CommitUnknown as error:
                raise StoreError("the server is gone: nothing was committed") from error

    writes = Writing


class ShardsMixedUp(MemoryLink):
    def locked(self, endpoint: str, shard: int) -> MemoryWrite:
        handle = super().locked(endpoint, shard)
        if shard & 1:
            return handle
        honest = handle.commit

        def commit(deps: Frontier) -> Commit:
            handle.rollback()
            other = self.write(endpoint, shard | 1, deps)
            other.connection.changes = handle.connection.changes
            handle.commit = honest  # type: ignore[method-assign]
            return other.commit(deps)

        handle.commit = commit  # type: ignore[method-assign]
        return handle


class UngatedWrites(MemoryLink):
    """A write block says that it has everything, so that no write is ever held back."""

    def locked(self, endpoint: str, shard: int) -> MemoryWrite:
        handle = super().locked(endpoint, shard)
        handle.watermarks = {
            s: attrs.evolve(m, origins={o: (2**40, end) for o, (_, end) in m.origins.items()})
            for s, m in handle.watermarks.items()
        }
        return handle


# --- what is shown ----------------------------------------------------------------------------------------------------------


class SeesNothing(Handled):
    class Reading(MemoryRead):
        def seen(self) -> Frontier:
            return Frontier()

    class Writing(MemoryWrite):
        def seen(self) -> Frontier:
            return Frontier()

    reading, writes = Reading, Writing


class ShowsOwnDeleted(Handled):
    """What a block has deleted is still shown to it."""

    class Writing(MemoryWrite):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            connection, honest = self.connection, self.connection.get

            def get(key: str, default: Any = None) -> Any:
                gone = key in connection.changes and connection.changes[key] is None
                return MemoryReader(connection.site, connection._snapshots).get(key) if gone else honest(key, default)

            connection.get = get  # type: ignore[method-assign]

    writes = Writing


class ScansAreNotSeen(Handled):
    class Reading(MemoryRead):
        def __init__(self, site: Any, shards: Sequence[int]) -> None:
            super().__init__(site, shards)
            honest, connection = self.connection.scan, self.connection

            def scan(prefix: str = "") -> Any:
                before = dict(connection._shown)
                found = list(honest(prefix))
                connection._shown = before
                return iter(found)

            connection.scan = scan  # type: ignore[method-assign]

    reading = Reading


class ForgetsTombstones(Handled):
    class Reading(MemoryRead):
        def seen(self) -> Frontier:
            shown = self.connection._shown
            return Frontier(p for p, entry in shown.items() if any(v is not None for v in entry.changes.values()))

    reading = Reading


class TombstonesDependOnNothing(Handled):
    class Reading(MemoryRead):
        def seen(self) -> Frontier:
            shown = self.connection._shown
            deps = [e.deps for e in shown.values() if any(v is not None for v in e.changes.values())]
            return reduce(or_, deps, Frontier(shown))

    reading = Reading


class DropsDependencies(Handled):
    class Writing(MemoryWrite):
        def commit(self, deps: Frontier) -> Commit:
            return super().commit(Frontier())

    writes = Writing


class AcknowledgesNoDependencies(Handled):
    class Writing(MemoryWrite):
        def commit(self, deps: Frontier) -> Commit:
            return attrs.evolve(super().commit(deps), deps=Frontier())

    writes = Writing


class DependenciesStayAtHome(MemoryLink):
    """They are not replicated with what depends on them."""

    def read(self, endpoint: str, shards: Sequence[int]) -> MemoryRead:
        handle = super().read(endpoint, shards)
        if endpoint != "eu":
            handle.seen = lambda: Frontier(handle.connection._shown)  # type: ignore[method-assign]
        return handle


class NoSnapshot(Handled):
    """A block reads what is there now."""

    class Reading(MemoryRead):
        def __init__(self, site: Any, shards: Sequence[int]) -> None:
            super().__init__(site, shards)
            self.connection._snapshots = _Live(site, shards)  # type: ignore[assignment]

    reading = Reading


class _Live:
    def __init__(self, site: Any, shards: Sequence[int]) -> None:
        self.site, self.shards = site, shards

    def __iter__(self) -> Any:
        return iter([self.site.snapshot()[shard] for shard in self.shards])


class TracesTheWrongVersion(Handled):
    class Writing(MemoryWrite):
        def written(self) -> Any:
            return [attrs.evolve(one, version=one.version or (1, 1)) for one in super().written()]

    writes = Writing


# --- the rest ---------------------------------------------------------------------------------------------------------------


class AsyncTwinDiffers(BrokenEngine):
    async def aopen(self, store: int = 0) -> Any:
        class Read(AsyncMemoryRead):
            def __init__(self, handle: MemoryRead) -> None:
                super().__init__(handle)
                self.seen = Frontier

        class Link(AsyncMemoryLink):
            async def read(self, endpoint: str, shards: Sequence[int]) -> Read:
                return Read(self._link.read(endpoint, shards))

        return Link(self.open(store))


class ConnectsAtOnce(BrokenEngine):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.background = threading.Thread(target=threading.Event().wait, args=(5.0,), daemon=True)
        self.background.start()


class ForgetsUnderTheSameName(MemoryCluster):
    """What it forgets is no new origin."""

    def fail_over(self, site: str) -> None:
        failed, others = self.site(site), [s for s in self.sites.values() if s.name != site]
        held = {s: max(o.copies[s].origins[c.own][0] for o in others) for s, c in failed.copies.items()}
        kept = [
            entry
            for entry in failed.history
            if entry.position.origin != failed.copies[entry.position.shard].own
            or entry.position.offset <= held[entry.position.shard]
        ]
        failed.restart(kept)


class BrokenStage(MemoryStage):
    """The memory engine on its stage, with a defect: a kind of link, of engine, or of cluster."""

    def __init__(self, defect: type[Any]) -> None:
        super().__init__()
        if issubclass(defect, MemoryCluster):
            self.cluster = self.controls = defect(("eu", "us", "asia"), shards=SHARDS, store=self.store)
        self.defect = defect

    def engine(self, near: str) -> Any:
        if issubclass(self.defect, BrokenEngine):
            return self.defect(cluster=self.cluster, site=near)
        made = BrokenEngine(cluster=self.cluster, site=near)
        if issubclass(self.defect, MemoryLink):
            made.kind = self.defect
        return made
