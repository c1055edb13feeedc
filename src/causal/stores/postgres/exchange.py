"""One simple-query message and its answer, with a deadline, below psycopg's cursors: what a block's first and last message go through.

Owns the waiting for a socket. Several statements in one message cost one round trip; cursors would cost three, and have no deadline.
HAZARD: a host name in a DSN is resolved by libpq without a deadline; name addresses where that may hang.
"""

from __future__ import annotations

import asyncio
import select
import time
from typing import TYPE_CHECKING, Final, TypeVar

from psycopg import errors
from psycopg.pq import ConnStatus, ExecStatus, PGconn, PipelineStatus, PollingStatus, TransactionStatus

from causal.core.frontier import pack
from causal.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from psycopg.pq.abc import PGconn as AnyPGconn
    from psycopg.pq.abc import PGresult

T = TypeVar("T")

_FAILED: Final = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


class Cut(Unreachable):
    """A message without a whole answer; `results` is what arrived of it. What was sent may have happened. The connection is closed.

    `lost`: it was gone, which a connection that was idle may long have been; otherwise nobody answered in time.
    """

    def __init__(self, message: str, results: Sequence[PGresult] = (), *, lost: bool = False) -> None:
        super().__init__(message)
        self.results = tuple(results)
        self.lost = lost


def connect(dsn: bytes, timeout_s: float) -> AnyPGconn:
    """Return a new connection that no cursor will use. Raises: Unreachable, with what the server said."""
    deadline = time.monotonic() + timeout_s
    pgconn = PGconn.connect_start(dsn)
    try:
        while True:
            status = pgconn.connect_poll()
            if status == PollingStatus.OK:
                pgconn.nonblocking = 1
                return pgconn
            if status == PollingStatus.FAILED or pgconn.status == ConnStatus.BAD:
                raise Unreachable(_said(pgconn))
            _wait(pgconn.socket, select.POLLIN if status == PollingStatus.READING else select.POLLOUT, deadline)
    except BaseException:
        pgconn.finish()
        raise


def ask(pgconn: AnyPGconn, message: bytes, timeout_s: float) -> list[PGresult]:
    """Send one message and return every statement's result; an error is the last of them. Raises: Cut."""
    deadline = time.monotonic() + timeout_s
    results: list[PGresult] = []
    try:
        _send(pgconn, message)
        while pgconn.flush():
            _wait(pgconn.socket, select.POLLOUT | select.POLLIN, deadline)
            pgconn.consume_input()
        while not _collected(pgconn, results):
            _wait(pgconn.socket, select.POLLIN, deadline)
            pgconn.consume_input()
    except BaseException as error:
        raise _cut(pgconn, error, results) from error
    return _whole(pgconn, results)


async def aask(pgconn: AnyPGconn, message: bytes, timeout_s: float) -> list[PGresult]:
    """Do as `ask`, in the running event loop. Cancelled, it closes the connection."""
    deadline = time.monotonic() + timeout_s
    results: list[PGresult] = []
    try:
        _send(pgconn, message)
        while pgconn.flush():
            await _await(pgconn.socket, deadline, writing=True)
            pgconn.consume_input()
        while not _collected(pgconn, results):
            await _await(pgconn.socket, deadline)
            pgconn.consume_input()
    except BaseException as error:
        raise _cut(pgconn, error, results) from error
    return _whole(pgconn, results)


def drive(steps: Generator[bytes, list[PGresult], T], pgconn: AnyPGconn, timeout_s: float) -> T:
    """Send each message that `steps` yields, and hand it the answer, or what `ask` raises."""
    try:
        message = next(steps)
        while True:
            try:
                results = ask(pgconn, message, timeout_s)
            except Cut as error:
                message = steps.throw(error)
            else:
                message = steps.send(results)
    except StopIteration as done:
        value: T = done.value
        return value


async def adrive(steps: Generator[bytes, list[PGresult], T], pgconn: AnyPGconn, timeout_s: float) -> T:
    """Do as `drive`, in the running event loop."""
    try:
        message = next(steps)
        while True:
            try:
                results = await aask(pgconn, message, timeout_s)
            except Cut as error:
                message = steps.throw(error)
            else:
                message = steps.send(results)
    except StopIteration as done:
        value: T = done.value
        return value


def failed(result: PGresult) -> errors.Error | None:
    """Return a result as the error that psycopg would raise, if it is one."""
    if result.status not in _FAILED:
        return None
    return errors.error_from_result(result)


def first_line(message: str) -> str:
    """Return the first line of what a server or libpq said: the rest is detail and hints."""
    return message.strip().partition("\n")[0] or "no reason given"


def _send(pgconn: AnyPGconn, sql: bytes) -> None:
    if pgconn.pipeline_status != PipelineStatus.OFF or pgconn.transaction_status == TransactionStatus.ACTIVE:
        raise Unreachable("the block left its connection in the middle of a statement or a pipeline")
    pgconn.send_query(sql)


def _collected(pgconn: AnyPGconn, results: list[PGresult]) -> bool:
    """Take what has arrived; return whether that is all."""
    while not pgconn.is_busy():
        result = pgconn.get_result()
        if result is None:
            return True
        results.append(result)
        if result.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH):
            raise Unreachable("the server began to copy")
    return False


def _whole(pgconn: AnyPGconn, results: list[PGresult]) -> list[PGresult]:
    if pgconn.status == ConnStatus.BAD:
        said = failed(results[-1]) if results else None
        raise _cut(pgconn, said or Unreachable(_said(pgconn)), results)
    return results


def _cut(pgconn: AnyPGconn, error: BaseException, results: Sequence[PGresult]) -> BaseException:
    """Close a connection whose conversation is over; return what to raise."""
    lost = pgconn.status == ConnStatus.BAD
    pgconn.finish()
    if isinstance(error, Unreachable):
        return Cut(str(error), results, lost=lost)
    if isinstance(error, errors.Error):
        return Cut(f"the connection was lost: {first_line(str(error))}", results, lost=True)
    return error


def _said(pgconn: AnyPGconn) -> str:
    return first_line(pgconn.get_error_message())


def _wait(fd: int, events: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(fd, events)
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise Unreachable("no answer in time")


async def _await(fd: int, deadline: float, *, writing: bool = False) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    if writing:
        loop.add_writer(fd, wake)
    timer = loop.call_at(loop.time() + max(0.0, deadline - time.monotonic()), wake)
    try:
        await ready
    finally:
        timer.cancel()
        loop.remove_reader(fd)
        if writing:
            loop.remove_writer(fd)
    if time.monotonic() >= deadline:
        raise Unreachable("no answer in time")


def values(results: Sequence[PGresult], place: int) -> list[bytes | None]:
    """Return the first row of a statement's result."""
    result = results[place]
    return [result.get_value(0, column) for column in range(result.nfields)]


def stamped(result: PGresult) -> dict[int, int]:
    """Read the answer to the question for stamps."""
    rows = ([result.get_value(n, column) for column in range(3)] for n in range(result.ntuples))
    return {pack(int(s or 0), int(o or 0)): int(upto or 0) for s, o, upto in rows}
