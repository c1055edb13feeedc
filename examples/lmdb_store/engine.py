"""An engine over LMDB: a leader's environment, and a follower's that copies its log. One shard; synchronous only.

Each environment holds `data`, `log` (offset -> changes) and `meta` (its origins, and which of them it numbers), so that one transaction
of LMDB shows or writes all three: a watermark is of the very snapshot that is read.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb

from causal import ConfigError, Frontier, StoreError, Unreachable, Watermark
from causal.core.position import Position
from causal.engine import Capabilities, Commit, Endpoint

_open: dict[Path, Any] = {}
_opening = threading.Lock()


def environment(path: Path) -> Any:
    """Open an environment and its tables, once in each process: LMDB allows no second time. One that is marked `down` does not answer."""
    if (path / "down").exists():
        raise Unreachable(f"{path.name} is down")
    with _opening:
        if path not in _open:
            path.mkdir(parents=True, exist_ok=True)
            env = lmdb.open(str(path), max_dbs=3, map_size=2**26, sync=False)
            _open[path] = env, [env.open_db(name) for name in (b"data", b"log", b"meta")]
        return _open[path]


def forget_environments() -> None:
    """Close what is open: in a child after a fork, or before files are put back."""
    for env, _ in _open.values():
        env.close()
    _open.clear()


class Box:
    """What is read and written in one transaction: the connection of a block."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        self.path, self.changes = path, dict[str, str | None]()
        env, (self.data, self.log, self.meta) = environment(path)
        self.txn: Any = env.begin(write=write)

    def get(self, key: str) -> str | None:
        self.alive()
        found = self.txn.get(key.encode(), db=self.data)
        return None if found is None else bytes(found).decode()

    def put(self, key: str, value: str | None) -> None:
        self.alive()
        self.changes[key] = value
        if value is None:
            self.txn.delete(key.encode(), db=self.data)
        else:
            self.txn.put(key.encode(), value.encode(), db=self.data)

    def origins(self) -> dict[int, tuple[int, int | None]]:
        found = self.txn.get(b"origins", db=self.meta)
        return {} if found is None else {int(o): (applied, end) for o, (applied, end) in json.loads(found).items()}

    def leads(self) -> int:
        return int(self.txn.get(b"leads", db=self.meta) or 0)

    def mark(self, origins: Mapping[int, tuple[int, int | None]], leads: int) -> None:
        self.txn.put(b"origins", json.dumps(origins).encode(), db=self.meta)
        self.txn.put(b"leads", str(leads).encode(), db=self.meta)

    def watermark(self, shard: int) -> Watermark:
        life = (self.path.name, (self.path / "data.mdb").stat().st_ino)  # files that are put back are others
        return Watermark(shard, self.origins(), life, frozenset({self.leads()} - {0}))

    def append(self, origin: int, changes: Mapping[str, str | None]) -> int:
        origins = self.origins()
        offset = origins[origin][0] + 1
        self.txn.put(f"{origin:08}/{offset:016}".encode(), json.dumps(changes).encode(), db=self.log)
        self.mark(origins | {origin: (offset, None)}, self.leads())
        return offset

    def alive(self) -> None:
        if self.txn is None:
            raise StoreError("this block has ended")

    def end(self, *, commit: bool = False) -> None:
        txn, self.txn = self.txn, None
        if txn is not None:
            txn.commit() if commit else txn.abort()


class Handle:
    """A read or a write."""

    def __init__(self, shard: int, box: Box) -> None:
        self.connection, self.shard = box, shard
        self.watermarks = {shard: box.watermark(shard)}

    def seen(self) -> Frontier:
        return self.watermarks[self.shard].frontier  # all that the snapshot holds: no more than that was shown

    def commit(self, deps: Frontier) -> Commit:
        box = self.connection
        box.alive()
        if not box.changes:
            box.end()
            return Commit(None)
        offset = box.append(box.leads(), box.changes)
        position = Position(self.shard, box.leads(), offset)
        box.end(commit=True)
        return Commit(position)

    def close(self) -> None:
        self.connection.end()

    rollback = close


class LMDBLink:
    def __init__(self, engine: LMDBEngine, shard: int) -> None:
        self.engine, self.shard, self.closed = engine, shard, False
        order = sorted(("leader", "follower"), key=lambda name: name != engine.near)
        self.endpoints = tuple(Endpoint(name, name, 0.01 * n) for n, name in enumerate(order))

    def box(self, endpoint: str, shards: Sequence[int], *, write: bool = False) -> Box:
        if self.closed or endpoint not in {"leader", "follower"} or set(shards) != {self.shard}:
            raise ConfigError(f"closed, or nothing that this store has: {endpoint}, {shards}")
        return Box(self.engine.directory / endpoint, write=write)

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        handle = self.read(endpoint, (self.shard,))
        handle.close()
        return handle.watermarks

    def read(self, endpoint: str, shards: Sequence[int]) -> Handle:
        return Handle(self.shard, self.box(endpoint, shards))

    def write(self, endpoint: str, shard: int, deps: Frontier) -> Handle:
        handle = Handle(shard, self.box(endpoint, (shard,), write=True))
        if not handle.connection.leads():
            handle.close()
            raise Unreachable(f"{endpoint} follows: it takes no writes")
        return handle

    def leader(self, shard: int) -> str:
        led = {"leader": 0}
        for name in ("leader", "follower"):
            try:
                led[name] = max(self.probe(name, 1.0)[shard].leads, default=0)
            except Unreachable:
                continue
        return max(led, key=lambda name: led[name])

    def position(self, connection: Any) -> Frontier:
        mark = self.probe(self.leader(self.shard), 1.0)[self.shard]
        return Frontier(p for p in mark.frontier if p.origin in mark.leads)

    def close(self) -> None:
        self.closed = True


class LMDBEngine:
    """Configuration: where the two environments lie, and which of them this process stands beside."""

    shards: Mapping[str, int] = {"main": 0}
    capabilities = Capabilities(exact=True)

    def __init__(self, directory: Path, near: str = "leader") -> None:
        self.directory, self.near = directory, near

    def open(self, store: int = 0) -> LMDBLink:
        return LMDBLink(self, store << 16)

    # --- what operators do ----------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Let the leader number origin 1, and the follower know of it."""
        for name, leads in (("leader", 1), ("follower", 0)):
            box = Box(self.directory / name, write=True)
            box.mark({1: (0, None)}, leads)
            box.end(commit=True)

    def replicate(self) -> None:
        """Copy to the follower what its leader's log has more, each transaction whole and in its order."""
        theirs = Box(self.directory / "leader")
        mine = Box(self.directory / "follower", write=True)
        try:
            for origin, (applied, _) in theirs.origins().items():
                for offset in range(mine.origins()[origin][0] + 1, applied + 1):
                    changes = json.loads(theirs.txn.get(f"{origin:08}/{offset:016}".encode(), db=theirs.log))
                    for key, value in changes.items():
                        mine.put(key, value)
                    mine.append(origin, changes)
            mine.end(commit=True)
        finally:
            mine.end()
            theirs.end()

    def promote(self) -> None:
        """Let the follower lead: the histories that it followed end where it is, and it numbers a new one."""
        box = Box(self.directory / "follower", write=True)
        ended = {origin: (applied, applied if end is None else end) for origin, (applied, end) in box.origins().items()}
        new = max(ended) + 1
        box.mark(ended | {new: (0, None)}, new)
        box.end(commit=True)
