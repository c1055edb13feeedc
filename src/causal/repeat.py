"""A read block used through a function, which is called again elsewhere if the endpoint is lost underway.

Owns the tries. What a block is, and which errors come out of it, is in `blocks.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Protocol, TypeVar

from causal.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")

TRIES: Final = 3


class Block(Protocol[R_co]):
    """What is tried: each try enters it anew, so that the receipt is that of the last one."""

    def __enter__(self) -> R_co: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object, /) -> None: ...


class AsyncBlock(Protocol[R_co]):
    """The asynchronous twin of `Block`."""

    def __aenter__(self) -> Awaitable[R_co]: ...
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object, /
    ) -> Awaitable[None]: ...


class Repeated:
    """A read block that can be run."""

    __slots__ = ()

    def run(self: Block[R], fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn(connection, ...)` inside the block, again if the endpoint is lost underway: `fn` must be repeatable.

        Raises: as entering does; Unreachable after three tries.
        """
        left = TRIES
        while True:
            left -= 1
            try:
                with self as connection:
                    return fn(connection, *args, **kwargs)
            except StoreError as error:  # what the gate raises is final: its budget is spent
                if not left or not error.retryable:
                    raise


class AsyncRepeated:
    """An asynchronous read block that can be run."""

    __slots__ = ()

    async def run(
        self: AsyncBlock[R], fn: Callable[Concatenate[R, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Await `fn(connection, ...)` inside the block: as `Read.run`."""
        left = TRIES
        while True:
            left -= 1
            try:
                async with self as connection:
                    return await fn(connection, *args, **kwargs)
            except StoreError as error:
                if not left or not error.retryable:
                    raise
