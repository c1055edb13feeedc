"""The state machine over the journal store, and over the memory engine, with whatever is broken in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from causal.controls import Lag
from causal.core.frontier import Frontier, Position
from causal.testing import StoreMachine, Subject, VirtualTime
from tests.testing.broken_journal import SideBySide
from tests.testing.journal import SHARDS, JournalStage


class JournalControls:
    """What the machine does to the two servers: copies when it is due, parts them, lets one fail and come back."""

    def __init__(self, stage: JournalStage, time: VirtualTime, lag_s: float) -> None:
        self.stage, self.time, self.lag_s = stage, time, lag_s
        self.servers, self.paused, self.copied_s = stage.cluster.servers, set[str](), 0.0
        time.step = self.step
        self.cut_off, self.rejoin = stage.cut_off, stage.rejoin

    def step(self) -> None:
        if not self.paused and self.time.now_s >= self.copied_s + self.lag_s:
            self.stage.catch_up("two")
            self.copied_s = self.time.now_s

    def pause(self, endpoint: str) -> None:
        if endpoint == "two":
            self.paused.add(endpoint)

    def resume(self, endpoint: str) -> None:
        self.paused.discard(endpoint)

    def catch_up(self, endpoint: str) -> None:
        if endpoint == "two":
            self.stage.catch_up("two")

    def fail_over(self, site: str) -> Frontier:
        """The first server fails for good, if it has not yet."""
        if site != "one" or not self.servers["one"].up:
            return Frontier()
        kept = {n: max([o for s, _, o, _ in self.servers["two"].log if s == n], default=0) for n in SHARDS.values()}
        self.stage.fail_over("one")
        return Frontier(Position(self.stage.store << 16 | n, 1, end) for n, end in kept.items())

    def restart(self, site: str) -> None:
        """A follower lacks its last line, if the other has it."""
        server = self.servers[site]
        lines = server.path.read_text().splitlines()
        if site == "two" and self.servers["one"].up and lines and json.loads(lines[-1])[0] == "put":
            server.path.write_text("".join(f"{line}\n" for line in lines[:-1]))
        server.start()


class JournalMachine(StoreMachine):
    """The journal's versions carry no dependencies: each shard is judged apart."""

    sites, shards = ("one", "two"), ("users", "orders")
    defect: type[Any] = object

    def make(self, lag: Lag) -> Sequence[Subject]:
        stage, time = JournalStage(self.defect), VirtualTime()
        controls = JournalControls(stage, time, lag.delay_s("two", 0, 0, 0))
        engines = {site: stage.engine(site) for site in self.sites}
        subject = Subject(
            "journal", engines, time, controls, stage.close, data=stage, forgets=controls, number=stage.store
        )
        subject.side_by_side = issubclass(self.defect, SideBySide)
        return [subject]
