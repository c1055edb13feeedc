"""The journal store of `journal.py`, each time with one thing wrong that authors of such stores get wrong."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from causal import Frontier, Position, Unreachable, Watermark
from causal.engine import Commit
from tests.testing.journal import (
    SHARDS,
    AsyncHandle,
    AsyncLink,
    Changes,
    Cluster,
    Link,
    Read,
    Reader,
    Server,
    State,
    Write,
    Writer,
)

Marks = Mapping[int, Watermark]

# --- replication -----------------------------------------------------------------------------------------------------


class KeyByKey(Server):
    """It applies the keys of a transaction one after the other, and says from the first one on that it has it."""

    def apply(self, shard: int, origin: int, offset: int, changes: Changes) -> None:
        for key, value in changes.items():
            super().apply(shard, origin, offset, {key: value})


class FortyKeysAtATime(Server):
    """A transaction of many keys is applied in parts."""

    def apply(self, shard: int, origin: int, offset: int, changes: Changes) -> None:
        keys = list(changes)
        for n in range(0, len(keys), 40):
            super().apply(shard, origin, offset, {k: changes[k] for k in keys[n : n + 40]})


class NumberFirst(Server):
    """It says that it has a transaction, and then applies it."""

    def apply(self, shard: int, origin: int, offset: int, changes: Changes) -> None:
        super().apply(shard, origin, offset, {})
        super().apply(shard, origin, offset, changes)


class NewestFirst(Cluster):
    """What is newest is applied first, and the largest number that was met is what is applied: gaps or not."""

    def follow(self, mine: Server, theirs: Server) -> None:
        held, log = {line[:3] for line in mine.log}, list(theirs.log)
        for shard, origin, offset, changes in reversed([line for line in log if line[:3] not in held]):
            newer = {k for s, _, n, c in log if s == shard and n > offset for k in c}
            mine.log.append((shard, origin, offset, changes))
            top = max(offset, mine.state.origins[shard][origin][0])
            mine.apply(shard, origin, top, {k: v for k, v in changes.items() if k not in newer})


class ReplaysItsLog(Cluster):
    """Catching up applies the whole log again: in the end, nothing has changed."""

    def follow(self, mine: Server, theirs: Server) -> None:
        super().follow(mine, theirs)
        for shard, _, _, changes in mine.log:
            mine.state = mine.state.put(shard, changes)
            self.step()

    def step(self) -> None:
        """Where a process may stand for a while."""


class KeepsDeleted(Cluster):
    """A deletion is replicated as a transaction without it."""

    def follow(self, mine: Server, theirs: Server) -> None:
        theirs.log = [(s, o, n, {k: v for k, v in c.items() if v is not None}) for s, o, n, c in theirs.log]
        super().follow(mine, theirs)


class MarkKeptApart(Server):
    """How far a server is stands in a file of its own, which is not put back with the data."""

    mark: State | None = None

    def start(self) -> None:
        before = getattr(self, "state", None)
        super().start()
        if before is not None and not any(before.leads.values()):
            self.state = attrs.evolve(self.state, origins=before.origins)


class WritesLater(Server):
    """A line of the journal is on the disk when the next one comes."""

    late: tuple[Any, ...] = ()

    def start(self) -> None:
        self.late = ()
        super().start()

    def write(self, *line: Any) -> None:
        if self.late:
            late, self.late, state, log = self.late, (), self.state, list(self.log)
            super().write(*late)
            self.state, self.log = state, log
        if line[0] == "put":
            self.late = line
            self.play(*line)
        else:
            super().write(*line)


class PromotionForgetsDeletions(Cluster):
    """Who is promoted has its log compacted first: of what was deleted, the deletion goes and not the value."""

    def fail_over(self) -> None:
        heir = self.servers["two"]
        lines = [json.loads(line) for line in heir.path.read_text().splitlines()]
        for line in lines:
            if line[0] == "put":
                line[4] = {k: v for k, v in line[4].items() if v is not None}
        heir.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        heir.start()
        super().fail_over()


class OneOriginForAllPromoted(Cluster):
    """A promoted server numbers origin 2, whatever was numbered before."""

    def fail_over(self) -> None:
        self.servers["one"].up = False
        heir = self.servers["two"]
        for shard, origins in heir.state.origins.items():
            heir.write("heard", shard, 1, 0, origins[1][0])
            heir.write("lead", shard, 2, 0, None)


class EndsTooHigh(Cluster):
    """A history ends one past what is left of it."""

    def ends(self, applied: int) -> int:
        return applied + 1


# --- watermarks --------------------------------------------------------------------------------------------------------


class OthersOfTheLeader(Link):
    """Of shards that a block does not read it says what their leader has."""

    def read(self, endpoint: str, shards: Sequence[int]) -> Read:
        handle = super().read(endpoint, shards)
        theirs = self.probe(self.leader(shards[0]), 1.0)
        handle.watermarks = {
            s: m if s in shards else attrs.evolve(m, origins=theirs[s].origins) for s, m in handle.watermarks.items()
        }
        return handle


class OneMapping(Link):
    """It gives the same mapping each time, brought up to date."""

    def probe(self, endpoint: str, timeout_s: float) -> Marks:
        mine: dict[int, Watermark] = self.__dict__.setdefault(f"marks of {endpoint}", {})
        mine.update(super().probe(endpoint, timeout_s))
        return mine


class AnswersAreLives(Link):
    """Each answer names another incarnation."""

    answers = 0

    def probe(self, endpoint: str, timeout_s: float) -> Marks:
        self.answers += 1
        return {s: attrs.evolve(m, incarnation=self.answers) for s, m in super().probe(endpoint, timeout_s).items()}


class LeaderWhenOpened(Link):
    """Who leads is found out when the link is opened."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.led = {n: super(LeaderWhenOpened, self).leader(self.store << 16 | n) for n in SHARDS.values()}

    def leader(self, shard: int) -> str:
        return self.led[self.index(shard)]


class SeesTheNewestOrigin(Read):
    """What was shown is named by the newest origin alone."""

    def seen(self) -> Frontier:
        newest = {s: max(self.watermarks[s].origins.items()) for s in self.shown}
        return Frontier(Position(s, origin, applied) for s, (origin, (applied, _)) in newest.items() if applied)


class OneMarkOfTwo(Read):
    """A block over several shards has the watermark of the first."""

    def __init__(self, link: Link, server: Server, shards: Sequence[int]) -> None:
        super().__init__(link, server, shards)
        whole = self.seen()
        self.seen = lambda: whole  # type: ignore[method-assign]
        self.watermarks = {self.shown[0]: self.watermarks[self.shown[0]]}


# --- blocks ------------------------------------------------------------------------------------------------------------


class SeesOneOfTwo(Read):
    """A block over several shards has seen the first."""

    def __init__(self, link: Link, server: Server, shards: Sequence[int]) -> None:
        super().__init__(link, server, shards)
        self.shown = self.shown[:1]


class SecondShardMoves(Reader):
    """The snapshot of every shard but the first is taken when that is read."""

    def get(self, key: str) -> str | None:
        self.alive()
        states = [self.state, *[self.server.state] * (len(self.shards) - 1)]
        return next((s.data[n][key] for s, n in zip(states, self.shards, strict=True) if key in s.data[n]), None)


class OneConnection(Link):
    """All blocks of a link use one connection, which has one transaction."""

    block: Writer | None = None

    def write(self, endpoint: str, shard: int, deps: Frontier) -> Write:
        handle = super().write(endpoint, shard, deps)
        self.block = handle.connection
        return handle

    def read(self, endpoint: str, shards: Sequence[int]) -> Read:
        handle, block = super().read(endpoint, shards), self.block
        if block is not None and block.open:
            handle.connection.state = handle.connection.state.put(block.shards[0], block.changes)
        return handle


class MixesServers(Link):
    """The server that is asked stands in the link until its block is made."""

    def read(self, endpoint: str, shards: Sequence[int]) -> Read:
        self.at = self.server(endpoint)
        indexes = [self.index(s) for s in shards]
        return self.reading(self, self.at, indexes)


class OneSnapshot(Link):
    """The blocks of a link that are open at one server share a snapshot: the last."""

    def read(self, endpoint: str, shards: Sequence[int]) -> Read:
        handle = super().read(endpoint, shards)
        mine: list[Read] = self.__dict__.setdefault(f"blocks at {endpoint}", [])
        mine.append(handle)
        for other in mine:
            other.connection.state = handle.connection.state
        return handle


class EndsThemAll(Link):
    """A block that ends closes what the others of its link use."""

    def read(self, endpoint: str, shards: Sequence[int]) -> Read:
        handle, mine = super().read(endpoint, shards), self.__dict__.setdefault("blocks", [])
        mine.append(handle)

        def close() -> None:
            for other in mine:
                other.connection.open = False

        handle.close = close  # type: ignore[method-assign]
        return handle


class ScansPastOwnWrites(Writer):
    """A scan shows what is stored, without what the block itself has changed."""

    def scan(self) -> dict[str, str]:
        return Reader.scan(self)


class ScansWhatIsThereNow(Reader):
    """A scan is of another moment than single reads."""

    def scan(self) -> dict[str, str]:
        return {k: v for n in self.shards for k, v in self.server.state.data[n].items()}


class ShowsOwnDeleted(Writer):
    """What a block has deleted is still shown to it."""

    def get(self, key: str) -> str | None:
        return self.changes.get(key) or Reader.get(self, key)


class FirstPutWins(Writer):
    def put(self, key: str, value: str | None) -> None:
        self.alive()
        self.changes.setdefault(key, value)


class IgnoresCase(Writer):
    def put(self, key: str, value: str | None) -> None:
        super().put(key.lower(), value)


class EmptyIsNothing(Reader):
    def get(self, key: str) -> str | None:
        return super().get(key) or None


class NormalizesText(Writer):
    """Text is stored in its composed form."""

    def put(self, key: str, value: str | None) -> None:
        super().put(key, value and unicodedata.normalize("NFC", value))


class CutsLongValues(Writer):
    def put(self, key: str, value: str | None) -> None:
        super().put(key, value and value[:255])


# --- commits -----------------------------------------------------------------------------------------------------------


class NumbersRollbacks(Write):
    """A rollback uses up a number, which the next commit gets."""

    def rollback(self) -> None:
        if self.connection.open and self.connection.changes and not self.server.state.head(self.shard) > self.before:
            self.server.apply(self.shard, self.server.state.leads[self.shard], self.before + 1, {})
        super().rollback()

    def take(self) -> None:
        super().take()
        self.before = len([line for line in self.server.log if line[0] == self.shard])

    def number(self) -> int:
        return self.before + 1


class LeavesGaps(Write):
    """A rollback uses up a number, which replicas wait for."""

    def rollback(self) -> None:
        if self.connection.open and self.connection.changes and self.server.state is self.connection.state:
            head = self.server.state.head(self.shard)
            self.server.apply(self.shard, self.server.state.leads[self.shard], head + 1, {})
        super().rollback()


class ReadsBeforeTheLock(Write):
    """What a block reads is taken before it has the lock, and its watermarks once it has it."""

    def __init__(self, link: Link, server: Server, shard: int) -> None:
        before = server.state
        super().__init__(link, server, shard)
        self.connection.state = before


class SideBySide(Write):
    """Blocks run side by side: a lock is only held while a commit is written."""

    def take(self) -> None:
        pass

    def free(self) -> None:
        pass


class NumbersWhenItBegins(SideBySide):
    """The number of a block is taken when it begins; a server has applied the largest one that it has met."""

    def take(self) -> None:
        taken: dict[int, int] = self.server.__dict__.setdefault("taken", {})
        taken[self.shard] = self.mine = taken.get(self.shard, 0) + 1

    def commit(self, deps: Frontier) -> Commit:
        origin = self.server.state.leads[self.shard]
        self.connection.open = False
        top = max(self.mine, self.server.state.head(self.shard))
        self.server.write("put", self.shard, origin, top, self.connection.changes)
        return Commit(Position(self.link.store << 16 | self.shard, origin, self.mine))


class PutsAllBack(SideBySide):
    """A commit stores the whole of what its block began with, and its changes."""

    def commit(self, deps: Frontier) -> Commit:
        data = self.connection.state.data
        if self.connection.changes:
            self.server.state = attrs.evolve(self.server.state, data=data)
        return super().commit(deps)


class BusyIsAnOSError(Write):
    """Who finds the lock taken is told so as the operating system says it."""

    def take(self) -> None:
        if not self.server.lock.acquire(blocking=False):
            raise BlockingIOError(11, f"{self.server.name} is locked")


class EndedIsARuntimeError(Write):
    """A second commit is refused as a mistake in the program."""

    def commit(self, deps: Frontier) -> Commit:
        if not self.connection.open:
            raise RuntimeError("this block has ended")
        return super().commit(deps)


class WritesAnywhere(Link):
    """A follower takes writes, under the next number of the leader that it follows."""

    class Writing(Write):
        def commit(self, deps: Frontier) -> Commit:
            origin, (applied, _) = max(self.server.state.origins[self.shard].items())
            self.server.write("put", self.shard, origin, applied + 1, self.connection.changes)
            self.rollback()
            return Commit(Position(self.link.store << 16 | self.shard, origin, applied + 1))

    def write(self, endpoint: str, shard: int, deps: Frontier) -> Write:
        server, index = self.server(endpoint), self.index(shard)
        kind = self.writing if server.state.leads[index] else self.Writing
        return kind(self, server, index)


class LinksCount(Write):
    """Each link counts the commits that it makes."""

    def commit(self, deps: Frontier) -> Commit:
        commit = super().commit(deps)
        if commit.position is None:
            return commit
        counts: dict[int, int] = self.link.__dict__.setdefault("counts", {})
        counts[self.shard] = counts.get(self.shard, 0) + 1
        return Commit(attrs.evolve(commit.position, offset=counts[self.shard]))


class ChangesOnly(Write):
    """What does not change a value is no write; and only what was read counts as seen."""

    def seen(self) -> Frontier:
        return Frontier()

    def commit(self, deps: Frontier) -> Commit:
        now = self.server.state.data[self.shard]
        self.connection.changes = {k: v for k, v in self.connection.changes.items() if now.get(k) != v}
        return super().commit(deps)


class HeadAtTheNearest(Link):
    """The position of what was written outside is where the nearest server is."""

    def position(self, connection: Any) -> Frontier:
        marks = self.probe(self.near, 1.0)
        return Frontier(p for n in SHARDS.values() for p in marks[self.store << 16 | n].frontier)


class HeadWhenOpened(Link):
    """The position of what was written outside is where the leader was when the link was opened."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.head = super().position(None)

    def position(self, connection: Any) -> Frontier:
        return self.head


class CancelledKeepsTheLock(AsyncLink):
    """A write that is cancelled once it has the lock keeps it."""

    taken = False

    async def write(self, endpoint: str, shard: int, deps: Frontier) -> AsyncHandle:
        if self.taken:
            raise Unreachable(f"{endpoint} is busy")
        self.taken = True
        await asyncio.sleep(0)
        self.taken = False
        return AsyncHandle(self.link.write(endpoint, shard, deps))
