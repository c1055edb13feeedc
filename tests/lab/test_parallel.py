"""Replays side by side: the same results, in the same order, and nothing left behind however one ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path

import attrs
import pytest

from causal.cli.story import small_trace
from causal.errors import ConfigError
from causal.lab import parallel
from causal.lab.parallel import WORTH_A_PROCESS, replay_each, room_for, side_by_side
from causal.lab.replay import Setting
from tests.lab.planets import once_or_for_ever

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


def test_whoever_has_seen_enough_ends_the_rest() -> None:
    calls = {"long": ("for ever",), "short": ("once",), "never": ("for ever",)}
    finished = side_by_side(once_or_for_ever, calls, jobs=2)
    assert next(finished) == ("short", "once")
    finished.close()
    assert multiprocessing.active_children() == []


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers of this process, as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_does_not_reach_a_process_that_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    start = SpawnProcess.start

    def interrupted(process: SpawnProcess) -> None:
        start(process)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)  # it is still importing

    monkeypatch.setattr(SpawnProcess, "start", interrupted)
    resource_tracker._resource_tracker._stop()  # as in a process that has started none yet
    assert len(replay_each(TRACE, ["token", "leader"], SETTING, jobs=2)) == 2


def test_ctrl_c_waits_until_a_process_has_started(handlers: None) -> None:
    mask = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    inherited: list[str] = []

    def start() -> None:
        with parallel._deaf_to_ctrl_c():
            os.kill(os.getpid(), signal.SIGINT)
            done = subprocess.run([sys.executable, "-c", mask], capture_output=True, text=True, check=True)
            inherited.append(done.stdout)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert inherited == ["True\n"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_stop_that_a_finalizer_swallowed_ends_the_replay_at_its_next_step(
    handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # as it was, after the test

    def replay(_: object, __: object, ___: object, progress: Callable[[int], None]) -> None:
        nonlocal steps
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        steps += 1
        progress(1)
        steps += 1

    ours, theirs = multiprocessing.Pipe(duplex=False)
    parallel._child(theirs, replay, (TRACE, "token", SETTING))
    assert steps == 1
    assert not ours.poll()


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
