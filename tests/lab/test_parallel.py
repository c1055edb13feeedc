"""Replays side by side: the same results, in the same order, and nothing left behind however one ends."""

import multiprocessing
import os
import signal
from pathlib import Path

import attrs
import pytest

from causal.cli.demo import small_trace
from causal.errors import ConfigError
from causal.lab import parallel
from causal.lab.parallel import WORTH_A_PROCESS, replay_each, room_for
from causal.lab.replay import Setting

TRACE = small_trace(users=4, posts=2)
SETTING = Setting(hop=0.5)


def test_side_by_side_is_one_after_the_other() -> None:
    names = ["eventual", "token", "leader"]
    steps = [0, 0]

    def count(which: int) -> object:
        def progress(n: int) -> None:
            steps[which] += n

        return progress

    alone = replay_each(TRACE, names, SETTING, count(0))
    together = replay_each(TRACE, names, SETTING, count(1), jobs=2)
    assert alone == together
    assert [result.strategy for result in together] == names
    assert steps == [3 * len(TRACE)] * 2
    assert multiprocessing.active_children() == []


def test_only_what_takes_long_is_worth_processes() -> None:
    assert room_for(7, WORTH_A_PROCESS - 1) == 1
    assert room_for(7, WORTH_A_PROCESS) == min(7, os.cpu_count() or 1)
    assert room_for(1, 10**6) == 1


def test_what_one_raises_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    unplayable = attrs.evolve(TRACE[-1], number=len(TRACE), t_s=1e300)
    with pytest.raises(ConfigError):
        replay_each([*TRACE, unplayable], ["token", "leader"], SETTING, jobs=2)
    assert multiprocessing.active_children() == []
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # killed, it cannot clean up

    def kill(_: int) -> None:
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)

    monkeypatch.setattr(parallel, "_BATCH", 1)
    with pytest.raises(RuntimeError, match="ended without a result, with exit code -9"):
        replay_each(small_trace(users=20, posts=5), ["token", "leader"], SETTING, kill, jobs=2)
    assert multiprocessing.active_children() == []
