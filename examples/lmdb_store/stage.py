"""The engine over LMDB on a stage, for `causal.testing`: the two endpoints, and what a test does to them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from causal import Frontier
from causal.controls import Lag
from causal.testing import Stage, Subject, VirtualTime
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

    def crashing(self, endpoint: str) -> AbstractContextManager[None]:
        return self.forgetting(endpoint)  # what is in the file at once, whoever has it open, is all that a crash leaves

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


class Controls:
    """What the state machine does to the two environments: copy when time has passed, stand still, be cut off."""

    def __init__(self, stage: LMDBStage, time: VirtualTime, lag_s: float) -> None:
        self.stage, self.time, self.lag_s = stage, time, lag_s
        self.paused, self.cut, self.copied_s = False, set[str](), 0.0
        time.step = self.step

    def step(self) -> None:
        if not self.paused and not self.cut and self.time.now_s >= self.copied_s + self.lag_s:
            self.stage.catch_up("follower")
            self.copied_s = self.time.now_s

    def pause(self, endpoint: str) -> None:
        self.paused = True

    def resume(self, endpoint: str) -> None:
        self.paused = False

    def catch_up(self, endpoint: str) -> None:
        if not self.cut:
            self.stage.catch_up("follower")

    def cut_off(self, site: str) -> None:
        self.cut.add(site)
        self.stage.cut_off(site)

    def rejoin(self, site: str) -> None:
        self.cut.discard(site)
        self.stage.rejoin(site)


def subject(stage: LMDBStage, lag: Lag) -> Subject:
    """Return the store for a `StoreMachine` whose sites are "leader" and "follower"."""
    time = VirtualTime()
    controls = Controls(stage, time, lag.delay_s("follower", 0, 0, 0))
    engines = {site: stage.engine(site) for site in ("leader", "follower")}
    return Subject("lmdb", engines, time, controls, close=stage.close, data=stage)
