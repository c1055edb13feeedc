"""A directory of sites whose time and replication a test drives by hand."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from causal.core.frontier import Frontier
from causal.core.watermark import Watermark
from causal.engine import Commit
from causal.stores.sqlite import SQLiteEngine, SQLiteLink

START_NS = 1_700_000_000 * 10**9


class World:
    """Engines and links over one directory; `now_ns` is everyone's wall clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ns = START_NS
        self.slept: list[float] = []
        self.engines: dict[str, SQLiteEngine] = {}
        self.links: dict[str, SQLiteLink] = {}

    def engine(self, site: str, **options: Any) -> SQLiteEngine:
        settings = {
            "replicate": "manual",
            "first_origin": 1,
            "wall": lambda: self.now_ns,
            "sleep": self.slept.append,
            **options,
        }
        self.engines[site] = SQLiteEngine(self.path, site=site, **settings)
        return self.engines[site]

    def open(self, *sites: str, store: int = 0, **options: Any) -> SQLiteLink:
        for site in sites:
            self.links[site] = self.engine(site, **options).open(store)
        return self.links[sites[-1]]

    def close(self, *sites: str) -> None:
        for site in sites or tuple(self.links):
            self.links.pop(site).close()

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    # --- what a session would do, without a gate ---

    def put(
        self, site: str, key: str, value: Any, *, deps: Frontier | None = None, shard: int = 0, at: str | None = None
    ) -> Commit:
        handle = self.links[site].write(at or site, shard, deps or Frontier())
        handle.connection.put(key, value)
        return handle.commit(deps or Frontier())

    def delete(self, site: str, key: str) -> Commit:
        handle = self.links[site].write(site, 0, Frontier())
        handle.connection.delete(key)
        return handle.commit(Frontier())

    def get(self, site: str, key: str, *, shard: int = 0, at: str | None = None) -> Any:
        return self.look(site, key, shard=shard, at=at)[0]

    def look(self, site: str, key: str, *, shard: int = 0, at: str | None = None) -> tuple[Any, Frontier]:
        handle = self.links[site].read(at or site, (shard,))
        try:
            return handle.connection.get(key), handle.seen()
        finally:
            handle.close()

    def everything(self, site: str, *, shard: int = 0) -> dict[str, Any]:
        handle = self.links[site].read(site, (shard,))
        try:
            return dict(handle.connection.scan())
        finally:
            handle.close()

    def watermark(self, site: str, *, shard: int = 0, at: str | None = None) -> Watermark:
        return self.links[site].probe(at or site, 1.0)[shard]

    def step(self, *sites: str) -> int:
        return sum(self.links[site].step().applied for site in sites or self.links)

    def settle(self) -> None:
        while self.step():
            pass


def frontier(commit: Commit) -> Frontier:
    """What a session joins after a commit."""
    assert commit.position is not None
    return commit.deps | Frontier((commit.position,))


_numbers = itertools.count()


@contextmanager
def fast_directory() -> Iterator[Path]:
    """A directory in memory where there is one: these tests are about order, not about disks."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="causal-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def world() -> Iterator[World]:
    with fast_directory() as path:
        world = World(path)
        try:
            yield world
        finally:
            world.close()
