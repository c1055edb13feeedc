"""Threads that change places between any two bytecodes of the code under test: what a build without a global lock does, on any build.

Without it, a switch between a read and the write that depends on it is too rare for a test to meet, and impossible in some places.
"""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import causal

SRC = Path(causal.__file__).parent


@contextmanager
def _switching(files: Iterable[str], seed: int, one_in: int) -> Iterator[None]:
    watched = {str(SRC / file) for file in files}
    assert all(Path(file).is_file() for file in watched)
    chances = random.Random(seed)

    def step(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and chances.randrange(one_in) == 0:
            time.sleep(0)  # gives the turn away, and waits for nothing
        return step

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in watched:
            return None
        frame.f_trace_opcodes = True
        return step

    interval, before = sys.getswitchinterval(), threading.gettrace()
    sys.setswitchinterval(1e-6)
    threading.settrace(enter)
    try:
        yield
    finally:
        threading.settrace(before)  # type: ignore[arg-type]
        sys.setswitchinterval(interval)


def interleaved(*works: Callable[[], object], files: Iterable[str], seed: int = 0, one_in: int = 4) -> None:
    """Run each in a thread of its own, all at once; they change places in `files` of src/causal. Raises: what the first raised."""
    barrier = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            barrier.wait(60)
            work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            failures.append(error)

    with _switching(files, seed, one_in):
        threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if failures:
        raise failures[0]
