"""The project's own engines on a stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from causal.core.frontier import Frontier, shard_id
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.testing import Stage

SHARDS = ("main", "orders")


class KeyValueStage(Stage):
    """Two sites of a key-value engine of ours."""

    leader, follower, store = "eu", "us", 3
    pickles = False
    forks = True

    def get(self, connection: Any, key: str) -> str | None:
        found: str | None = connection.get(key)
        return found

    def put(self, connection: Any, key: str, value: str) -> None:
        connection.put(key, value)

    def delete(self, connection: Any, key: str) -> None:
        connection.delete(key)


class MemoryStage(KeyValueStage):
    def __init__(self) -> None:
        self.cluster = self.controls = MemoryCluster(("eu", "us", "asia"), shards=SHARDS, store=self.store)

    def engine(self, near: str) -> Any:
        return MemoryEngine(cluster=self.cluster, site=near)

    def fail_over(self, endpoint: str) -> None:
        self.cluster.fail_over(endpoint)

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        self.cluster.pause("us")
        self.cluster.pause("asia")
        yield
        self.cluster.fail_over("eu")
        self.cluster.resume("us")
        self.cluster.resume("asia")

    def go_back(self, endpoint: str) -> None:
        self.cluster.pause(endpoint)
        self.cluster.restart(endpoint, back=1)

    def lose_answer(self, endpoint: str, *, committed: bool) -> None:
        self.cluster.lose_answer(endpoint, committed=committed)

    @contextlib.contextmanager
    def outside(self, key: str, value: str) -> Iterator[Any]:
        handle = self.engine("eu").open(self.store).write("eu", shard_id(self.store, 0), Frontier())
        handle.connection.put(key, value)
        handle.commit(Frontier())
        yield handle.connection
