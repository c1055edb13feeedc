"""Random stories of the world of `world.py`, and the oracle that judges what the caches serve in them.

The oracle knows nothing of frontiers and watermarks. It keeps, of each user, the versions that they wrote and saw, with everything that
those who wrote them had written and seen. A value is stale if it holds, of some row, an older version than one of these.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from causal import CommitUnknown, Guarantee, WriteLost
from causal.caches import Account, LRUBackend, cache, lookup
from causal.core.frontier import Frontier, Loss, Position, pack
from causal.core.view import View
from causal.session import SessionState
from tests.caches.world import (
    ENTRIES,
    NAMES,
    ROWS,
    SHARDS,
    STALE_S,
    TOUCHED,
    ModelSession,
    Process,
    ReadBlock,
    Shard,
    User,
    Version,
    WriteBlock,
)

T = TypeVar("T")


class Stale(AssertionError):
    """What the oracle says of a value that should not have been served."""


class World:
    """Everything together, and one random story of it."""

    def __init__(
        self,
        guarantees: Guarantee = Guarantee.ALL,
        backend: Any = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.random = random.Random()
        self.guarantees = guarantees
        self.now = 0.0
        self.backend: Any = LRUBackend(4) if backend is None else backend
        settings = {"share": True, "lease_s": 0} if settings is None else settings
        self.processes = [Process(self, self.backend, guarantees, **settings) for _ in range(2)]
        self.by_version: dict[int, Version] = {}
        self.served: dict[str, int] = {}
        self.writing: WriteBlock | None = None

    def run(self, seed: int, steps: int) -> None:
        """Play one story. Raises: Stale."""
        self.random.seed(seed)
        self.shards = [Shard(0), Shard(1)]
        self.now = 0.0
        self.users = [User() for _ in range(3)]
        self.versions: list[Version] = []
        self.floors: dict[str, list[dict[int, int]]] = {}
        self.writing = None
        self.backend.clear()
        for process in self.processes:
            process.store._state.view = View()
        for _ in range(steps):
            self.step(2)

    def pick(self, among: Sequence[T]) -> T:
        return among[int(self.random.random() * len(among))]

    def step(self, depth: int) -> None:
        """Do something; what a loader or a transaction does underway is more of it, `depth` levels deep."""
        draw = self.random.random()
        if draw < 0.42:
            self.look(depth)
        elif draw < 0.62:
            self.write(depth)
        elif draw < 0.80:
            shard = self.pick(self.shards)
            shard.sync(self.pick(shard.copies), self.pick((1, 1, 2, 9)), self.now)
        elif draw < 0.85:
            shard = self.pick(self.shards)
            if self.writing is None:
                shard.fail_over(self.pick(shard.copies))
        elif draw < 0.89:
            self.pick(self.processes).learn(self.pick(self.shards))
        elif draw < 0.93:
            self.backend.delete(self.pick(self.processes).cache.prefix + self.pick(NAMES))
        elif draw < 0.97:
            self.now += self.pick((1.0, 10.0, STALE_S / 2))
        else:
            self.elsewhere()

    def session(self) -> ModelSession:
        user = self.pick(self.users)
        if not user.busy and self.random.random() < 0.3:  # the token is carried to a new session
            old, user.state = user.state, SessionState(None)
            user.state.own, user.state.seen, user.state.touched = old.own, old.seen, old.touched
        return ModelSession(self, self.pick(self.processes), user)

    # --- what users do -----------------------------------------------------------------------------------------------

    def look(self, depth: int, session: ModelSession | None = None) -> None:
        session = self.session() if session is None else session
        session.user.busy += 1
        try:
            self._look(depth, session)
        finally:
            session.user.busy -= 1

    def _look(self, depth: int, session: ModelSession) -> None:
        key = self.pick(NAMES)
        rows, shards = ENTRIES[key], SHARDS[key]
        user, process = session.user, session.process
        required = {row: list(user.must_see.get(row, ())) for row in rows}
        own = list(user.own)
        inside = self.writing if self.writing is not None and self.writing.session.user is user else None

        def load(*connections: ReadBlock) -> list[int | None]:
            by_shard = dict(zip(shards, connections, strict=True))
            found = [by_shard["xy"[ROWS[row]]].get(row) for row in rows]
            if depth and self.random.random() < 0.4:  # a slow loader: the world goes on
                for _ in range(self.pick((1, 2, 3))):
                    self.step(depth - 1)
            return [None if one is None else self.versions.index(one) for one in found]

        loads: list[bool] = []

        def counted(*connections: ReadBlock) -> list[int | None]:
            loads.append(True)
            return load(*connections)

        try:
            if self.random.random() < 0.5:
                value, account = process.cache.lookup(session, key, load, shard=shards)  # type: ignore[arg-type]
            else:  # the shortcut for hits
                value = process.cache.get(session, key, counted, shard=shards)  # type: ignore[arg-type]
                account = Account(key, "miss" if loads else "hit", "as it seems")
        except WriteLost:
            assert any(version.lost for version in user.own)
            self.forget(user)
            return
        self.served[account.outcome] = self.served.get(account.outcome, 0) + 1
        versions = [None if n is None else self.versions[n] for n in value]
        self.judge(user, account, process, dict(zip(rows, versions, strict=True)), required, own, inside)
        for version in versions:
            if inside is None or version not in inside.shown:  # what a transaction shows counts once it has ended
                user.saw(version)

    def forget(self, user: User) -> None:
        """Accept every loss that anybody knows of."""
        ends = {pack(shard.number, origin): end for shard in self.shards for origin, end in shard.ends.items()}
        losses = [
            Loss(Position(k >> 32, k & 0xFFFFFFFF, v), ends[k])
            for k, v in user.state.own.entries.items()
            if v > ends.get(k, v)
        ]
        user.state.forget(losses)

    def write(self, depth: int) -> None:
        if self.writing is not None:
            return
        session = self.session()
        row = self.pick(tuple(ROWS))
        keys, shard = TOUCHED[row], "xy"[ROWS[row]]
        block: Any = session.process.cache.write(session, *keys, shard=shard)  # type: ignore[arg-type]
        session.user.busy += 1
        try:
            with block as tx:
                version = tx.set(row)
                if self.random.random() < 0.3:
                    block.set(row, [self.versions.index(version)])
                if depth:
                    for _ in range(self.pick((0, 0, 1, 2))):
                        self.step(depth - 1) if self.random.random() < 0.5 else self.look(depth - 1, session)
                fate = self.random.random()
                if fate < 0.1:
                    tx.unknown = fate < 0.05
                elif fate < 0.2:
                    raise ZeroDivisionError
        except WriteLost:
            self.forget(session.user)
        except (CommitUnknown, ZeroDivisionError):
            pass
        finally:
            session.user.busy -= 1

    def elsewhere(self) -> None:
        """Somebody writes without the cache, and tells it afterwards."""
        shard = self.pick(self.shards)
        if self.writing is not None:
            return
        row = self.pick([row for row in ROWS if ROWS[row] == shard.number])
        origin = shard.origin
        version = Version(row, shard.number, origin, len(shard.logs[origin]) + 1, self.now, {}, Frontier())
        self.versions.append(version)
        shard.logs[origin].append(version)
        shard.leader.rows[row] = version
        shard.leader.applied[origin] = version.offset
        process = self.pick(self.processes)
        process.cache.invalidate(Position(shard.number, origin, version.offset), *TOUCHED[row])

    # --- the oracle --------------------------------------------------------------------------------------------------

    def judge(
        self,
        user: User,
        account: Any,
        process: Process,
        shown: Mapping[str, Version | None],
        required: Mapping[str, list[Version]],
        own: list[Version],
        inside: WriteBlock | None,
    ) -> None:
        ends = process.store._state.view.ends
        cached = account.outcome in {"hit", "shared"}
        for row, version in shown.items():
            if (
                version is not None
                and version.at == 0.0
                and version not in self.shards[version.shard].logs[version.origin]
            ):
                mine = inside is not None and version in inside.put
                if not mine or cached:
                    raise Stale(f"{row}: what was never committed is shown ({account})")
            held = (-1, -1) if version is None else version.order
            for need in required[row]:
                if cached and self.guarantees is Guarantee.READ_YOUR_WRITES and need not in own:
                    continue
                if not need.lost and held < need.order:
                    raise Stale(f"{row}: {need.order} is demanded, {held} was served ({account})")
            if not cached:
                continue
            for need in own:
                at = pack(need.shard, need.origin)
                if (
                    need.lost
                    and need.shard == ROWS[row]
                    and min(need.offset, user.state.own.entries.get(at, -1)) > ends.get(at, 2**64)
                ):
                    raise Stale(f"{row}: an own write is lost, and the cache goes on as if nothing were ({account})")
            if version is not None and version.offset > ends.get(pack(version.shard, version.origin), version.offset):
                raise Stale(f"{row}: what is known to be lost is served ({account})")
            for log in self.shards[ROWS[row]].logs.values():
                for other in log:
                    if other.row == row and not other.lost and other.at < self.now - STALE_S and held < other.order:
                        raise Stale(
                            f"{row}: {held} is served, {other.order} is {self.now - other.at:g} s old ({account})"
                        )
        if cached and self.guarantees is Guarantee.ALL:
            for version in shown.values():
                for cause in () if version is None else version.past.values():
                    effect = shown.get(cause.row)
                    if cause.row in shown and not cause.lost and (effect is None or effect.order < cause.order):
                        raise Stale(f"{cause.row}: a value shows an effect without its cause ({account})")


@contextmanager
def ungated() -> Iterator[None]:
    """The cache's gate off: a session demands nothing of an entry."""
    before = lookup.wanted, cache.quick
    lookup.wanted, cache.quick = lambda *_: {}, lambda *_: False  # type: ignore[assignment]
    try:
        yield
    finally:
        lookup.wanted, cache.quick = before
