"""Work side by side: each piece in a process of its own, as many at once as there is room for.

Owns the processes. A piece shares nothing with another and its result depends on nothing but its arguments, so the results are
the same as one after the other. No process is left behind, and no file of one: whoever is told to stop cleans up after itself.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final, NoReturn

from causal.lab.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from multiprocessing.process import BaseProcess

    from causal.lab.replay import Result, Setting
    from causal.lab.trace import Operation

WORTH_A_PROCESS: Final = 2000
"""Operations: below it, a process takes longer to start than to replay them."""
_BATCH: Final = 50


def room_for(pieces: int, operations: int) -> int:
    """Return how many pieces to run at once on this machine."""
    return min(pieces, os.cpu_count() or 1) if operations >= WORTH_A_PROCESS else 1


def replay_each(
    operations: Sequence[Operation],
    strategies: Sequence[str],
    setting: Setting,
    progress: Callable[[int], None] = lambda _: None,
    *,
    jobs: int = 1,
) -> list[Result]:
    """Run a trace under each strategy, `jobs` at once, and return the results in the order of the strategies.

    Raises: as `replay`; what one raises ends all.
    """
    calls = {f"the replay of {name}": (operations, name, setting) for name in strategies}
    with contextlib.closing(side_by_side(replay, calls, progress, jobs=jobs)) as finished:
        results = dict(finished)
    return [results[what] for what in calls]


def side_by_side(
    work: Callable[..., Any],
    calls: Mapping[str, tuple[Any, ...]],
    progress: Callable[[int], None] = lambda _: None,
    *,
    jobs: int = 1,
) -> Generator[tuple[str, Any], None, None]:
    """Call `work(*arguments, progress)` for each of the named arguments, `jobs` at once, and yield (name, result) as they end.

    `work` is a function of a module; arguments and results are values that can be sent, and a result is no number. Whoever closes the
    iterator early ends what is under way. Raises: as `work`; what one raises ends all.
    """
    if jobs <= 1:
        for name, arguments in calls.items():
            yield name, work(*arguments, progress)
        return
    context = multiprocessing.get_context("spawn")  # a fork would take the caller's threads' locks along
    waiting = list(calls)
    running: dict[Connection, tuple[str, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                ours, theirs = context.Pipe(duplex=False)
                name = waiting.pop(0)
                child = context.Process(target=_child, args=(theirs, work, calls[name]), daemon=True)
                with _deaf_to_ctrl_c():
                    child.start()
                    running[ours] = name, child
                theirs.close()
            for end in wait(list(running)):
                assert isinstance(end, Connection)
                news = _heard(end, *running[end])
                if isinstance(news, int):
                    progress(news)
                    continue
                name, process = running.pop(end)
                end.close()
                process.join()
                yield name, news
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _heard(end: Connection, name: str, process: BaseProcess) -> Any:
    """Return the next news of a process: steps taken, or its result. Raises: what ended it."""
    try:
        news = end.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{name} ended without a result, with exit code {process.exitcode}") from None
    if isinstance(news, BaseException):
        raise news
    return news


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Put Ctrl-C off while a process starts: it inherits that the signal is blocked, and no half-started one is left behind.

    Ctrl-C reaches every process of a terminal, also one that is still importing and would end with a traceback.
    """
    came: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if here else None
    resource_tracker.ensure_running()  # started by the first process otherwise, and then it unblocks the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is not None:
            signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _child(end: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and tells us by SIGTERM
    # What matters is in the result; without a handler, warnings would stand among the output of whoever asked.
    logging.getLogger("causal").addHandler(logging.NullHandler())
    steps, stopped = 0, False

    def stop(*_: object) -> NoReturn:
        nonlocal stopped
        stopped = True
        sys.unraisablehook = _say_nothing  # raised in a finalizer, it goes no further: then the next step ends it
        raise KeyboardInterrupt

    def progress(n: int) -> None:
        nonlocal steps
        if stopped:
            raise KeyboardInterrupt
        steps += n
        if steps >= _BATCH:
            end.send(steps)
            steps = 0

    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # whoever asked is gone, or has stopped us
        try:
            signal.signal(signal.SIGTERM, stop)
            news: object = work(*arguments, progress)
        except Exception as error:  # noqa: BLE001 - raised again by who asked
            news = error
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to clean up
        end.send(steps)
        end.send(news)


def _say_nothing(_: object) -> None:
    pass
