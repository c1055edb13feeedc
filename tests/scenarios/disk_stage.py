"""The stage of a scenario on disk: sites of one directory, each a file for each shard, and one clock that is moved by hand.

What is told is written as in `stage.py`. Here processes can be killed, the power can fail, and files can be put back from a copy.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from causal import CausalStore, Keyring, Lag
from causal.errors import StoreError
from causal.stores.sqlite import SQLiteEngine, SQLiteLink
from causal.stores.sqlite.files.shard import ShardFile
from tests.scenarios.stage import FIRST_KEY, Visit
from tests.scenarios.story import Story
from tests.stores.sqlite_world import fast_directory
from tests.stores.worlds import Time


class DiskStage:
    """Sites of one directory: they number their origins 1, 2 and so on, in the order in which they are first opened."""

    def __init__(self, tell: Story, path: Path, skew_s: Mapping[str, float], settings: Mapping[str, Any]) -> None:
        self.tell = tell
        self.path = path
        self.time = Time()
        self.skew_s = skew_s
        self.settings = {"first_origin": 1, **settings}
        self.engines: dict[str, SQLiteEngine] = {}
        self.stores: dict[str, CausalStore[Any, Any]] = {}
        self.copy = path.with_name(f"{path.name}-copy")
        self.others: list[CausalStore[Any, Any]] = []

    # --- processes ---------------------------------------------------------------------------------------------

    def open(self, *sites: str, **options: Any) -> None:
        """Start a process at each site. Raises: StoreError."""
        for site in sites:
            self.stores[site] = self._started(site, options)

    def process(self, site: str, **options: Any) -> CausalStore[Any, Any]:
        """Start one more process at a site."""
        self.others.append(self._started(site, options))
        return self.others[-1]

    def _started(self, site: str, options: Mapping[str, Any]) -> CausalStore[Any, Any]:
        self.engines[site] = SQLiteEngine(
            self.path,
            site=site,
            replicate="manual",
            wall=lambda: self.time.wall_ns() + int(self.skew_s.get(site, 0.0) * 1e9),
            sleep=self.sleep,
            **{**self.settings, **options},
        )
        store: CausalStore[Any, Any] = CausalStore(
            self.engines[site],
            keyring=Keyring([FIRST_KEY]),
            audience="shop",
            monotonic=self.time.monotonic,
            wall=self.time.wall_s,
            sleep=self.sleep,
        )
        store._state.random = random.Random(0)
        return store.__enter__()

    def opens(self, site: str, **options: Any) -> bool:
        """Start a process that may fail to open its site; say so, and return whether it did open it."""
        try:
            self.open(site, **options)
        except StoreError as error:
            self.tell(f"{site} does not open: {type(error).__name__}: {error}.")
            return False
        self.tell(f"{site} opens.")
        return True

    def close(self) -> None:
        """End every process in order."""
        for store in (*self.stores.values(), *self.others):
            store.close()
        self.stores.clear()
        self.others.clear()

    def kill(self) -> None:
        """End every process at once, as a power failure does: their locks die, nothing else is done."""
        for store in (*self.stores.values(), *self.others):
            live, store._live = store._live, None
            assert isinstance(live, SQLiteLink)
            live.directory.release(lambda _: None)
        self.stores.clear()
        self.others.clear()

    # --- time and replication ----------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Let time pass while somebody waits."""
        self.time.now_s += seconds
        self.step()

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and say so."""
        self.tell(f"{seconds:g} s pass.")
        self.sleep(seconds)

    def step(self, *sites: str) -> None:
        """Apply everywhere what is due and within reach."""
        applied = 1
        while applied:
            applied = sum(self.link(site).step().applied for site in sites or self.stores)

    def collect(self, rounds: int = 4) -> None:
        """Let every site forget what it may."""
        for _ in range(rounds):
            for site in self.stores:
                self.link(site).collect()
            self.step()

    def link(self, site: str) -> SQLiteLink:
        """Return a site's link."""
        link = self.stores[site]._link()
        assert isinstance(link, SQLiteLink)
        return link

    # --- people ------------------------------------------------------------------------------------------------

    def visit(self, who: str, site: str, *tokens: str | None, process: CausalStore[Any, Any] | None = None) -> Visit:
        """Let somebody come to a site with the tokens that they hold."""
        for open_site in self.stores:
            self.link(open_site).refresh()
        return Visit(self.tell, who, site, process or self.stores[site], *tokens)

    def page(self, who: str, site: str, *keys: str, shards: tuple[int, ...] = (0,)) -> tuple[Any, ...]:
        """Read several keys in one snapshot of one or more shards; say what was read."""
        handle = self.link(site).read(site, shards)
        try:
            values = {key: handle.connection.get(key) for key in keys}
        finally:
            handle.close()
        self.tell(f"{who} at {site} reads, in one block, {', '.join(f'{k}: {v}' for k, v in values.items())}")
        return tuple(values.values())

    # --- files -------------------------------------------------------------------------------------------------

    def file(self, site: str, shard: int = 0) -> ShardFile:
        """Return a site's file of a shard."""
        return self.link(site).directory.file(site, shard)

    def keys(self, site: str) -> set[str]:
        """Return the keys in a site's file, those of tombstones included."""
        with self.file(site).snapshot() as db:
            return {key for (key,) in db.execute("SELECT key FROM data")}

    def disk_now(self, site: str) -> bytes:
        """Return what a site's file would hold if the power failed now."""
        with closing(sqlite3.connect(self.path / f"{site}.sqlite")) as db:
            return db.serialize()

    def power_fails(self, **held: bytes) -> None:
        """End every process, and leave each of these sites with what its disk held."""
        self.kill()
        for site, data in held.items():
            _without_log(self.path / f"{site}.sqlite")
            with open(self.path / f"{site}.sqlite", "r+b") as file:  # in place: to the file system it is the same file
                file.write(data)
                file.truncate()

    def back_up(self) -> None:
        """Copy the directory while nothing has it open."""
        self.close()
        shutil.copytree(self.path, self.copy)

    def put_back(self, *names: str) -> None:
        """Restore files from the copy as a person would: the old ones away, then the copies in their place."""
        self.close()
        for name in names:
            _without_log(self.path / name)
            shutil.copy(self.copy / name, self.path / f"{name}-new")
            (self.path / f"{name}-new").replace(self.path / name)


def _without_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def disk_stage(
    tell: Story, *sites: str, skew_s: Mapping[str, float] | None = None, **settings: Any
) -> Iterator[DiskStage]:
    """A new directory with these sites open in it; everything is gone afterwards, however the story ends."""
    with fast_directory() as path:
        stage = DiskStage(tell, path, skew_s or {}, settings)
        try:
            stage.open(*sites)
            yield stage
        finally:
            stage.close()
            shutil.rmtree(stage.copy, ignore_errors=True)


def on_disk(*sites: str, **settings: Any) -> Callable[[Callable[[Story, DiskStage], None]], Callable[[Story], None]]:
    """Let a story be played on a directory of its own, with these sites open in it."""

    def staged(play: Callable[[Story, DiskStage], None]) -> Callable[[Story], None]:
        def played(tell: Story) -> None:
            with disk_stage(tell, *sites, **settings) as stage:
                play(tell, stage)

        return played

    return staged


@attrs.frozen(kw_only=True)
class LagBy(Lag):
    """A lag that is longer where `slow(site, shard, origin, offset)` says so."""

    sigma: float = 1.0  # of a lag without, only the median is looked at
    slow: Callable[[str, int, int, int], float | None]

    def delay_s(self, site: str, shard: int, origin: int, offset: int) -> float:
        special = self.slow(site, shard, origin, offset)
        return self.median_s if special is None else special
