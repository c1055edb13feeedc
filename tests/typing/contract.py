"""What a type checker sees of a store's tests, written as docs/howto/test-your-store.md shows them: never run, only checked."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, assert_type

from hypothesis import settings

from causal.controls import Lag
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.testing import EngineContract, Stage, StoreMachine, Subject, VirtualTime


class MyStage(Stage):
    leader, follower = "eu", "us"
    store = 5

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cluster = self.controls = MemoryCluster(("eu", "us"))

    def engine(self, near: str) -> MemoryEngine:
        return MemoryEngine(cluster=self.cluster, site=near)

    def get(self, connection: Any, key: str) -> str | None:
        found: str | None = connection.get(key)
        return found

    def put(self, connection: Any, key: str, value: str) -> None:
        connection.put(key, value)

    def page(self, connection: Any, keys: Any) -> dict[str, str | None]:
        return {key: self.get(connection, key) for key in keys}

    def fail_over(self, endpoint: str) -> None:
        self.cluster.fail_over(endpoint)

    @contextmanager
    def outside(self, key: str, value: str) -> Generator[Any]:
        yield None


class TestMine(EngineContract):
    def stage(self) -> MyStage:
        return MyStage(Path("data"))


class TestMineLoosely(EngineContract):
    def stage(self) -> Stage:
        return MyStage(Path("data"))


def by_hand() -> None:
    assert_type(TestMine.tests, tuple[str, ...])
    for name in TestMine.tests:
        TestMine().run(name)


class MyMachine(StoreMachine):
    sites, shards = ("eu", "us"), ("main",)

    def make(self, lag: Lag) -> list[Subject]:
        stage = MyStage(Path("data"))
        engines = {site: stage.engine(site) for site in self.sites}
        return [Subject("mine", engines, VirtualTime(), stage.cluster, data=stage, number=stage.store)]


TestSessions = MyMachine.TestCase
TestSessions.settings = settings(max_examples=20)
