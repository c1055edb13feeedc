"""A test class whose tests are told once and run twice: on the synchronous link of an engine, and on the asynchronous one.

Owns how a test becomes two. Knows no promise.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from causal.testing.contract.play import REFUSE, ContractBroken, Play, driven, refused
from causal.testing.stage import NotOffered

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from causal.testing.contract.play import Kind
    from causal.testing.stage import Stage

F = TypeVar("F", bound="Callable[..., Coroutine[Any, Any, None]]")
_OPENS = {"synchronous": "open", "asynchronous": "aopen"}


def once(test: F) -> F:
    """Mark a test that has no asynchronous twin: what it looks at is the same for both, or only threads can show it."""
    test.__dict__["once"] = True
    return test


class Promises:
    """Base of the contract's parts. Each `async def test_...(self, play)` becomes `test_...`, and `test_..._asynchronous`.

    Thread-safety: one thread at a time.
    """

    tests: ClassVar[tuple[str, ...]] = ()
    """The names of all tests: pytest collects them, `run` runs one."""

    def run(self, name: str) -> None:
        """Run one test without pytest, by its name. Raises: ContractBroken, or whatever the engine raised; unittest.SkipTest."""
        if name not in self.tests:
            raise ValueError(f"there is no test {name!r}; `tests` has their names")
        getattr(self, name)()

    def stage(self) -> Stage:
        """Return a new stage, with nothing in it. It is closed when its test has ended."""
        raise NotImplementedError(
            f"{type(self).__name__} has no stage(). Implement it: return a causal.testing.Stage of your engine, "
            "with `leader`, engine(near), get(connection, key) and put(connection, key, value)."
        )

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, told in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(told):
                setattr(cls, name, _test(told, name, "synchronous"))
                if "once" not in told.__dict__:
                    twin = f"{name}_asynchronous"
                    setattr(cls, twin, _test(told, twin, "asynchronous"))
        cls.tests = tuple(n for n in dir(cls) if n.startswith("test_") and callable(getattr(cls, n)))


def _test(told: Callable[..., Coroutine[Any, Any, None]], name: str, kind: Kind) -> Callable[[Promises], None]:
    """Return a test of one kind: it makes its stage, and closes what is open whatever happens."""
    promise = " ".join((told.__doc__ or name).split())

    def test(self: Promises) -> None:
        stage = self.stage()
        try:
            play = Play(stage, kind, promise)
            if not callable(getattr(stage.engine(play.main), _OPENS[kind], None)):
                raise NotOffered(f"this engine has no {_OPENS[kind]}(): it is not for {kind} stores")
            work = _played(told, self, play)
            asyncio.run(work) if kind == "asynchronous" else driven(work)
        finally:
            stage.close()

    test.__name__, test.__doc__, test.__module__ = name, told.__doc__, told.__module__
    test.__qualname__ = f"{told.__qualname__.rpartition('.')[0]}.{name}"
    return test


async def _played(told: Callable[..., Coroutine[Any, Any, None]], case: Promises, play: Play) -> None:
    try:
        await told(case, play)
    except BaseException as error:
        if not isinstance(error, ContractBroken):
            error.add_note(f"promised ({play.kind}): {play.promise}")
            if isinstance(error, Exception) and not isinstance(error, NotImplementedError) and not refused(error):
                error.add_note(f"what to do: {REFUSE}\nthe contract: causal/engine.py")
        with suppress(Exception):  # the first failure is the one to look at
            await play.close()
        raise
    await play.close()
