"""The engine over LMDB of docs/howto/test-your-store.md keeps the contract; with a bug in it, it does not."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from causal import Frontier
from causal.controls import Lag

pytest.importorskip("lmdb")

from causal.testing import EngineContract, Stage, StoreMachine, Subject
from examples.lmdb_store.engine import Box, Handle, LMDBEngine, LMDBLink
from examples.lmdb_store.stage import LMDBStage, subject
from tests.testing.run import run

FINDING = settings(
    stateful_step_count=30,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class OnDisk(LMDBStage):
    def __init__(self, kind: type[LMDBEngine] = LMDBEngine) -> None:
        super().__init__(Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)), kind)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.directory)


class TestLMDB(EngineContract):
    def stage(self) -> Stage:
        return OnDisk()


class Machine(StoreMachine):
    """Random sessions over it. Its versions carry no dependencies, and it has one shard."""

    sites, shards = ("leader", "follower"), ("main",)
    kind: type[LMDBEngine] = LMDBEngine

    def make(self, lag: Lag) -> Sequence[Subject]:
        return [subject(OnDisk(self.kind), lag)]


TestMachine = pytest.mark.timeout(1800)(Machine.TestCase)
TestMachine.settings = settings(stateful_step_count=30, max_examples=20, deadline=None)


class MarksFirst(LMDBEngine):
    """A bug: how far it is, is written down before it is copied, in a transaction of its own."""

    def replicate(self) -> None:
        theirs, mine = (Box(self.directory / name, write=name == "follower") for name in ("leader", "follower"))
        mine.mark(theirs.origins(), 0)
        mine.end(commit=True)
        theirs.end()


class HeadBeforeTheCommit(LMDBEngine):
    """A bug: the position of a commit is where the log stood when its block began."""

    def open(self, store: int = 0) -> LMDBLink:
        return EarlyLink(self, store << 16)


class EarlyLink(LMDBLink):
    def write(self, endpoint: str, shard: int, deps: Frontier) -> Handle:
        handle = super().write(endpoint, shard, deps)
        early, commit = handle.seen(), handle.commit
        handle.commit = lambda deps: attrs.evolve(commit(deps), position=next(iter(early)))  # type: ignore[method-assign]
        return handle


@pytest.mark.parametrize(
    ("kind", "test", "said"),
    [
        (MarksFirst, "what_is_applied_is_visible", "follower calls .* applied when asked, and shows None"),
        (HeadBeforeTheCommit, "a_position_is_not_applied_where_its_write_is_not", "said to be the position of 'two'"),
    ],
)
def test_a_bug_in_it_is_found(kind: type[LMDBEngine], test: str, said: str) -> None:
    assert (result := run(lambda: OnDisk(kind), f"test_{test}")[f"test_{test}"])
    assert re.search(said, result)


def test_the_machine_finds_a_bug_in_it() -> None:
    with pytest.raises(BaseException, match=r"was shown|nobody wrote|not the same|do not agree|same"):
        run_state_machine_as_test(
            type("Planted", (Machine,), {"kind": MarksFirst}),
            settings=settings(FINDING, max_examples=100, report_multiple_bugs=False),
        )
