"""A small world of logs, replicas and failovers, in which the real caches run.

The world has two shards, each a log with a leader and two replicas. Rows are versions, numbered as they are written; which came first is
a matter of the log, and which survived of its failovers. The gate is as simple as it can be and right by construction: any replica that
covers, else the leader. The cache, its lookups, its judgement and its backend are the real ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar

import attrs

from causal import CausalStore, CommitUnknown, Guarantee, Keyring, WriteLost
from causal.blocks import enclosing
from causal.caches import CausalCache
from causal.core.endpoint import EndpointView
from causal.core.frontier import Frontier, Loss, Position, pack
from causal.core.touched import fingerprint
from causal.core.view import View
from causal.core.watermark import Watermark
from causal.engine import Capabilities, Commit
from causal.session import SessionState

T = TypeVar("T")

STALE_S = 100.0
KEYS = Keyring.generate()
ROWS = {"r0": 0, "r1": 0, "r2": 1}
"""Row -> shard."""
ENTRIES: Mapping[str, tuple[str, ...]] = {
    "r0": ("r0",),
    "r1": ("r1",),
    "r2": ("r2",),
    "page": ("r0", "r1"),
    "both": ("r0", "r2"),
}
"""Cache key -> the rows that it hangs on."""
NAMES = tuple(ENTRIES)
TOUCHED = {row: tuple(key for key, rows in ENTRIES.items() if row in rows) for row in ROWS}
SHARDS = {key: tuple(sorted({"xy"[ROWS[row]] for row in rows})) for key, rows in ENTRIES.items()}


@attrs.define(eq=False)
class Version:
    """One write of one row. `past` is what its writer had to see, as versions; `deps` is the same as the library puts it."""

    row: str
    shard: int
    origin: int
    offset: int
    at: float
    past: dict[str, Version]
    deps: Frontier
    lost: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.origin, self.offset


@attrs.define(eq=False)
class Replica:
    """One copy of one shard: how far it is in each origin, which ends it has heard of, and the version of each row."""

    applied: dict[int, int]
    ends: dict[int, int] = attrs.field(factory=dict)
    rows: dict[str, Version] = attrs.field(factory=dict)
    fresh_at: float = 0.0


class Shard:
    """One log, with its failovers."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.logs: dict[int, list[Version]] = {1: []}
        self.ends: dict[int, int] = {}
        self.copies = [Replica({1: 0}) for _ in range(3)]
        self.leader = self.copies[0]

    @property
    def origin(self) -> int:
        return max(self.logs)

    def sync(self, copy: Replica, most: int, now: float) -> None:
        """Apply up to `most` writes of what survives; one that holds what was lost is first put back."""
        if copy is self.leader:
            return
        for origin, end in self.ends.items():
            if copy.applied.get(origin, 0) > end:
                copy.applied = {1: 0}
                copy.rows = {}
                copy.fresh_at = float("-inf")
                break
        copy.ends = dict(self.ends)
        for origin in sorted(self.logs):
            have, end = copy.applied.setdefault(origin, 0), self.ends.get(origin)
            for version in self.logs[origin][have:end]:
                if not most:
                    return
                most -= 1
                copy.applied[origin] = version.offset
                copy.rows[version.row] = version
        copy.fresh_at = now

    def fail_over(self, heir: Replica) -> None:
        """The leader is gone; what its heir lacks is lost. Nobody else has heard of it yet."""
        origin = self.origin
        diverged = any(offset > self.ends.get(o, offset) for o, offset in heir.applied.items())
        if heir is self.leader or diverged or origin not in heir.applied:
            return
        end = heir.applied[origin]
        for version in self.logs[origin][end:]:
            version.lost = True
        self.ends[origin] = end
        self.logs[origin + 1] = []
        heir.ends = dict(self.ends)
        heir.applied[origin + 1] = 0
        self.leader = heir


class Engine:
    """What a store's settings need of an engine. It is never opened."""

    shards: ClassVar = {"x": 0, "y": 1}
    capabilities = Capabilities(dependencies=True, exact=True)


class Stories(Protocol):
    """What the world is a part of."""

    now: float
    shards: list[Shard]
    versions: list[Version]
    writing: WriteBlock | None

    def pick(self, among: Sequence[T]) -> T: ...


ASKED: Final = (EndpointView("asked all the time", asked_at=math.inf),)
"""So that the stories say when a process hears of an end: any time, which is later than a cache would let it be."""


class Process:
    """One process: a store that knows of some ends, and a cache."""

    def __init__(self, world: Stories, backend: Any, guarantees: Guarantee, **settings: Any) -> None:
        self.store: Any = CausalStore(
            Engine(),  # type: ignore[arg-type]
            keyring=KEYS,
            audience="shop",
            monotonic=lambda: world.now,
            wall=lambda: 1e9 + world.now,
            max_staleness_s=STALE_S,
            max_clock_skew_s=1.0,
            token_ttl_s=1e6,
        )
        self.store._live = world
        self.store._state.view = View(endpoints=ASKED)
        self.cache = CausalCache(self.store, backend, guarantees=guarantees, **settings)

    def learn(self, shard: Shard) -> None:
        """Hear where histories have ended."""
        news = {pack(shard.number, origin): end for origin, end in shard.ends.items()}
        if not news.items() <= self.store._state.view.ends.items():
            self.store._state.view = View(endpoints=ASKED, ends={**self.store._state.view.ends, **news})


class User:
    """A session with its token, and what the oracle knows of them."""

    def __init__(self) -> None:
        self.state = SessionState(None)
        self.must_see: dict[str, list[Version]] = {}
        self.own: list[Version] = []
        self.busy = 0
        """Operations underway: a token that is carried before they end is not of what they show."""

    def saw(self, version: Version | None) -> None:
        if version is None:
            return
        for one in (version, *version.past.values()):
            mine = self.must_see.setdefault(one.row, [])
            if one not in mine:
                mine.append(one)


class ModelSession:
    """What the cache asks of a session, at one process."""

    def __init__(self, world: Stories, process: Process, user: User) -> None:
        self.world, self.process, self.user = world, process, user
        self._state = user.state

    def read(self, store: Any, *, shard: str, policy: Any = None) -> ReadBlock:
        del store, policy
        return ReadBlock(self, self.world.shards["xy".index(shard)])

    def write(self, store: Any, *, shard: str, wait_s: float | None, touching: Sequence[str] | None) -> WriteBlock:
        del store, wait_s
        return WriteBlock(self, self.world.shards["xy".index(shard)], touching)

    def touches(self, store: int, key: str) -> bool:
        assert store == 0
        return self._state.touches(store, key)

    @property
    def writing(self) -> int:
        return self._state.writing


class _Account:
    """Where a block was served, as the cache looks at it."""

    unproven = False

    def __init__(self, fresh_at: float) -> None:
        self.serve = self
        self.known = self
        self.how = "covered"
        self.fresh_at = fresh_at
        self.held = True


class ReadBlock:
    """A gated read: of any replica that covers, else of the leader; or of the transaction that it is inside of."""

    def __init__(self, session: ModelSession, shard: Shard) -> None:
        self.session, self.shard = session, shard
        self.showed = Frontier()
        self.watermarks: Any = None
        self.rows: dict[str, Version] = {}
        self._request = self.receipt = _Account(0.0)
        self._inside: WriteBlock | None = None

    def __enter__(self) -> Self:
        self.showed = Frontier()
        writing, state = self.session.world.writing, self.session.process.store._state
        if writing is not None and writing.concerns(state, self.session._state, self.shard.number):
            self.rows, self.watermarks, self._inside = writing.rows, None, writing
            return self
        copy = self._chosen()
        self.rows = dict(copy.rows)
        self.watermarks = {self.shard.number: _mark(self.shard.number, copy)}
        self._request = self.receipt = _Account(self.session.world.now if copy is self.shard.leader else copy.fresh_at)
        return self

    def _chosen(self) -> Replica:
        """Return the copy to read. Raises: WriteLost."""
        world, state, number = self.session.world, self.session._state, self.shard.number
        for _ in range(2):
            ends = self.session.process.store._state.view.ends
            need: dict[int, int] = {}
            for key, offset in state.own.entries.items():
                if key >> 32 == number:
                    if offset > ends.get(key, offset):
                        raise WriteLost((Loss(Position(number, key & 0xFFFFFFFF, offset), ends[key]),))
                    need[key] = offset
            for key, offset in state.seen.entries.items():
                if key >> 32 == number:
                    need[key] = max(need.get(key, -1), min(offset, ends.get(key, offset)))
            copies = [c for c in self.shard.copies if self._covers(c, need, ends, world.now)]
            if state.seen.marks:
                copies = [c for c in copies if c is self.shard.leader]
            if copies:
                return world.pick(copies)
            self.session.process.learn(self.shard)  # nobody covers: something was lost, and the gate asks everybody
        raise AssertionError("the leader covers whatever survives")

    def _covers(self, copy: Replica, need: Mapping[int, int], ends: Mapping[int, int], now: float) -> bool:
        applied, number = copy.applied, self.shard.number
        if ends:
            for origin, offset in applied.items():
                if offset > ends.get(pack(number, origin), offset):
                    return False
        if copy is not self.shard.leader and copy.fresh_at < now - STALE_S:
            return False
        for key, offset in need.items():
            if applied.get(key & 0xFFFFFFFF, -1) < offset:
                return False
        return True

    def get(self, row: str) -> Version | None:
        version = self.rows.get(row)
        if version is not None and self._inside is not None:
            self._inside.shown.append(version)
        elif version is not None:
            self.showed |= version.deps | Frontier.of({pack(version.shard, version.origin): version.offset})
        return version

    def __exit__(self, *_: object) -> None:
        if self._inside is None:
            self.session._state.join(self.showed, own=False, now=0.0)


def _mark(number: int, copy: Replica) -> Watermark:
    return Watermark(number, {origin: (n, copy.ends.get(origin)) for origin, n in copy.applied.items()})


class WriteBlock:
    """A transaction at the leader, one at a time."""

    def __init__(self, session: ModelSession, shard: Shard, touching: Sequence[str] | None) -> None:
        self.session, self.shard, self.touching = session, shard, touching
        self.commit: Commit | None = None
        self.rows: dict[str, Version] = {}
        self.put: list[Version] = []
        self.shown: list[Version] = []
        self.unknown: bool | None = None
        self._handle = self
        self._request: Any = None

    @property
    def watermarks(self) -> Any:
        return self._marks

    def concerns(self, state: Any, session: SessionState, shard: int) -> bool:
        return (
            state is self.session.process.store._state and session is self.session._state and shard == self.shard.number
        )

    def __enter__(self) -> Self:
        world, leader = self.session.world, self.shard.leader
        self.session.process.learn(self.shard)
        ReadBlock(self.session, self.shard)._chosen()  # whoever has lost a write is told so
        self.origin = self.shard.origin
        self.rows = dict(leader.rows)
        self._marks = {self.shard.number: _mark(self.shard.number, leader)}
        self._request = _Account(world.now)
        world.writing = self
        self.session._state.opened(1)
        enclosing.set((self,))
        return self

    def set(self, row: str) -> Version:
        world, user = self.session.world, self.session.user
        past = {v.row: v for versions in user.must_see.values() for v in sorted(versions, key=lambda v: v.order)}
        offset = len(self.shard.logs[self.origin]) + len(self.put) + 1
        version = Version(row, self.shard.number, self.origin, offset, 0.0, past, Frontier())
        self.rows[row] = version
        self.put.append(version)
        world.versions.append(version)
        return version

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        world, shard, state = self.session.world, self.shard, self.session._state
        world.writing = None
        state.opened(-1)
        enclosing.set(())
        user = self.session.user
        for version in self.shown:
            if version not in self.put:
                at = Frontier.of({pack(version.shard, version.origin): version.offset})
                state.join(version.deps | at, own=False, now=0.0)
                user.saw(version)
        failed = kind is not None or self.origin != shard.origin
        if failed or (self.unknown is not None and not self.unknown):
            for version in self.put:
                version.lost = True
        else:
            deps = state.own | state.seen
            for version in self.put:
                version.deps, version.at = deps.exact, world.now
                shard.logs[self.origin].append(version)
                shard.leader.rows[version.row] = version
                shard.leader.applied[self.origin] = version.offset
        if kind is not None:
            return
        if self.unknown is not None or failed:
            state.mark(0, 2_000_000_000)
            raise CommitUnknown("no answer came")
        last = self.put[-1]
        self.commit = Commit(Position(shard.number, last.origin, last.offset), deps.exact)
        touched = None if self.touching is None else frozenset(map(fingerprint, self.touching))
        state.acknowledged(self.commit, 0.0, touched)
        for version in self.put:
            user.saw(version)
            user.own.append(version)
