"""The memory and the SQLite store side by side, driven through sessions at random: both right, and both the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings

from causal.controls import Lag
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.sqlite import SQLiteEngine
from causal.testing import StoreMachine, Subject, VirtualTime
from tests.stores.sqlite_world import fast_directory

RTT_S = 0.05


def memory(sites: Sequence[str], shards: Sequence[str], lag: Lag) -> Subject:
    time = VirtualTime()
    cluster = MemoryCluster(
        sites, shards=shards, lag_s=lag, wall=time.wall_ns, monotonic=time.monotonic, sleep=lambda s: None
    )
    time.step = cluster.step
    engines = {site: MemoryEngine(cluster=cluster, site=site, latency_s=RTT_S) for site in sites}
    return Subject("memory", engines, time, cluster)


def sqlite(sites: Sequence[str], shards: Sequence[str], lag: Lag) -> Subject:
    time, stack = VirtualTime(), ExitStack()
    directory = stack.enter_context(fast_directory())
    engines = {
        site: SQLiteEngine(
            directory,
            site=site,
            shards=shards,
            lag_s=lag,
            rtt_s=RTT_S,
            replicate="manual",
            wall=time.wall_ns,
            sleep=lambda s: None,
            first_origin=1,
        )
        for site in sites
    }
    links = [stack.enter_context(Closing(engines[site])) for site in sites]

    def step() -> None:
        while sum(link.step().applied for link in links):
            pass

    time.step = step
    return Subject("sqlite", engines, time, engines[sites[0]], stack.close)


class Closing:
    """A link that replicates for the test, beside those that the stores open."""

    def __init__(self, engine: SQLiteEngine) -> None:
        self.link = engine.open()

    def __enter__(self) -> Any:
        return self.link

    def __exit__(self, *_: object) -> None:
        self.link.close()


class BothMachine(StoreMachine):
    def make(self, lag: Lag) -> Sequence[Subject]:
        return [memory(self.sites, self.shards, lag), sqlite(self.sites, self.shards, lag)]


class MemoryMachine(StoreMachine):
    """Alone it is twenty times as fast, so it gets that much further."""

    def make(self, lag: Lag) -> Sequence[Subject]:
        return [memory(self.sites, self.shards, lag)]


TestBoth = pytest.mark.timeout(1800)(BothMachine.TestCase)
TestMemory = pytest.mark.timeout(1800)(MemoryMachine.TestCase)
# On real files an example takes more than a second: many of them are for the deep profile.
DEEP = settings.get_current_profile_name() == "deep"
TestBoth.settings = settings(stateful_step_count=30, max_examples=settings().max_examples if DEEP else 25)
TestMemory.settings = settings(stateful_step_count=40)
