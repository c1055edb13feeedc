"""The engine over LMDB on a stage, for `causal.testing`: the two endpoints, and what a test does to them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from causal import Frontier
from causal.testing import Stage
from examples.lmdb_store.engine import LMDBEngine, environment, forget_environments


class LMDBStage(Stage):
    leader, follower, store = "leader", "follower", 5
    pickles = True

    def __init__(self, directory: Path, kind: type[LMDBEngine] = LMDBEngine) -> None:
        self.directory, self.kind, self.standing = directory, kind, False
        self.engine("leader").install()

    def engine(self, near: str) -> Any:
        return self.kind(self.directory, near)

    def get(self, connection: Any, key: str) -> str | None:
        found: str | None = connection.get(key)
        return found

    def put(self, connection: Any, key: str, value: str) -> None:
        connection.put(key, value)

    def delete(self, connection: Any, key: str) -> None:
        connection.put(key, None)

    def pause(self, endpoint: str) -> None:
        """Nothing is copied unless `catch_up` says so."""

    def resume(self, endpoint: str) -> None:
        """Nothing is copied unless `catch_up` says so."""

    def catch_up(self, endpoint: str) -> None:
        if endpoint == "follower":
            self.engine("leader").replicate()

    def cut_off(self, endpoint: str) -> None:
        (self.directory / endpoint / "down").touch()

    def rejoin(self, endpoint: str) -> None:
        (self.directory / endpoint / "down").unlink()

    def fail_over(self, endpoint: str) -> None:
        self.cut_off("leader")
        self.engine("follower").promote()

    @contextmanager
    def forgetting(self, endpoint: str) -> Iterator[None]:
        path = self.directory / endpoint
        environment(path)[0].copy(str(self._room("copy")))
        yield
        forget_environments()
        shutil.copy(self.directory / "copy" / "data.mdb", path / "new.mdb")
        (path / "new.mdb").replace(path / "data.mdb")

    @contextmanager
    def outside(self, key: str, value: str) -> Iterator[Any]:
        link = self.engine("leader").open(self.store)
        handle = link.write("leader", self.store << 16, Frontier())
        handle.connection.put(key, value)
        handle.commit(Frontier())
        yield None

    def close(self) -> None:
        forget_environments()

    def _room(self, name: str) -> Path:
        room = self.directory / name
        room.mkdir(exist_ok=True)
        return room
