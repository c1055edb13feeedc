"""An event loop whose time leaps to what is due next, whose threads are turns of the loop, and tasks cancelled at a point of their choice.

So that a test of waiting needs no real time, and every run takes the same turns.
"""

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal, TypeVar

T = TypeVar("T")
How = Literal["waiting", "answered", "again"]

T0_S = 1_700_000_000


class _Leaping(selectors.SelectSelector):
    """Does not wait for what is due: goes there."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        assert timeout is not None, "everybody waits for something that nobody will do"
        self.loop.now_s = max(self.loop.now_s, self.loop._scheduled[0].when())  # type: ignore[attr-defined]
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Units: seconds, from 0. `failures` are what nobody heard of: exceptions of tasks and futures that were never retrieved."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.failures: list[dict[str, Any]] = []
        selector = _Leaping()
        selector.loop = self
        super().__init__(selector)
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return T0_S + self.now_s

    def wall_ns(self) -> int:
        return T0_S * 10**9 + round(self.now_s * 1e9)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Run it some turns later: like a thread, it goes on if nobody waits for it any more."""
        future: asyncio.Future[T] = self.create_future()

        def work(turns: int) -> None:
            if turns:
                self.call_soon(work, turns - 1)
                return
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 - it belongs to who asked
                self.call_soon(answer, None, error)
            else:
                self.call_soon(answer, result, None)

        def answer(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(work, 3)
        return future


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main(loop)`; nothing may be left that failed and was heard by nobody."""
    loops: list[VirtualLoop] = []

    def made() -> VirtualLoop:
        loops.append(VirtualLoop())
        return loops[0]

    with asyncio.Runner(loop_factory=made) as runner:
        loop: Any = runner.get_loop()
        result = runner.run(main(loop))
        gc.collect()
        assert not loop.failures, loop.failures
    return result


class Cancelled:
    """Awaits a coroutine; its `at`-th suspension (from 0) is where the task that awaits it is cancelled.

    `waiting`: as it begins to wait. `answered`: what it waits for has come, but it has not heard yet. `again`: as `waiting`, and at every
    later suspension once more. `reached` says whether there were so many.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, how: How) -> None:
        self.coroutine = coroutine
        self.at = at
        self.how = how
        self.suspended = 0

    @property
    def reached(self) -> bool:
        return self.suspended > self.at

    async def end(self) -> None:
        """Await it to its end, and go on. A cancellation that was swallowed is an error."""
        task = asyncio.current_task()
        assert task is not None
        try:
            await self
        except asyncio.CancelledError:
            assert self.reached
            while task.uncancel():
                pass
        else:
            assert not self.reached

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        step: Callable[[Any], Any] = self.coroutine.send
        value: Any = None
        while True:
            try:
                future = step(value)
            except StopIteration as stop:
                return stop.value
            here = self.suspended == self.at or (self.how == "again" and self.suspended > self.at)
            self.suspended += 1
            if here and self.how != "answered":
                task.cancel()
            elif here and future is None:  # a bare turn of the loop
                asyncio.get_running_loop().call_soon(task.cancel)
            elif here:
                future.add_done_callback(lambda _: task.cancel())
            try:
                value, step = (yield future), self.coroutine.send
            except BaseException as error:  # noqa: BLE001 - handed on to whom it is meant for
                value, step = error, self.coroutine.throw


async def turns(count: int = 20) -> None:
    """Let everybody else go on: a task that was cancelled ends in its own turn."""
    for _ in range(count):
        await asyncio.sleep(0)
