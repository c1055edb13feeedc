"""One PostgreSQL cluster a module, brought back to order after each test, and both kinds of store over it, used by the same words.

An asynchronous store runs in an event loop of its own; everything a test does with it goes through one task there, so that a block
belongs to whoever entered it, as it does in an application.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg")

from causal import AsyncCausalStore, CausalStore, Keyring  # noqa: E402 - what needs psycopg comes after the question whether it is there
from causal.lab.postgres import PostgresCluster  # noqa: E402
from causal.lab.postgres.binaries import NoBinaries  # noqa: E402
from causal.stores.postgres import PostgresEngine, install  # noqa: E402

HANG_S = 30.0
"""What takes longer hangs: no measure of speed."""


def eventually(condition: Callable[[], Any], timeout_s: float = HANG_S) -> Any:
    """Return what the condition returns, once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it does not become true"
        time.sleep(0.005)
    return value


# --- the servers -----------------------------------------------------------------------------------------------------


def started(**options: Any) -> Iterator[PostgresCluster]:
    """A cluster with everything installed and a table to write to; skips where there are no programs."""
    try:
        cluster = PostgresCluster(**options)
    except NoBinaries as error:
        pytest.skip(str(error))
    with cluster:
        install(cluster.primary.admin_dsn)
        with psycopg.connect(cluster.primary.dsn) as connection:
            connection.execute("CREATE TABLE item (key text PRIMARY KEY, n int)")
        cluster.wait_caught_up()
        yield cluster


def in_order(cluster: PostgresCluster) -> Iterator[PostgresCluster]:
    """Lend the cluster to one test, and undo what that did to it."""
    for server in cluster.servers.values():
        server.note_settings()
    yield cluster
    for server in cluster.servers.values():
        server.thaw()
        server.restore_settings()
        server.start()
        server.resume()
    primary = cluster.primary
    primary.query("ALTER ROLE app RESET ALL")
    primary.query("DROP TABLE IF EXISTS part, whole")
    primary.query("TRUNCATE item")
    primary.query(
        "SELECT causal.begin_origin()"
    )  # of one that was started anew, before its standbys have anything of that life
    cluster.wait_caught_up()


def engine(cluster: PostgresCluster, *, replicas: Any = None, primary: Any = None, **settings: Any) -> PostgresEngine:
    """An engine over the cluster, which prefers its standbys in their order."""
    given = [server.dsn for server in cluster.replicas] if replicas is None else replicas
    return PostgresEngine(primary or cluster.primary.dsn, given, **{"order": "listed", "timeout_s": 2.0, **settings})


# --- the stores ------------------------------------------------------------------------------------------------------


class Lane:
    """One task of an event loop, which does what a thread asks it to. Thread-safety: one thread at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.asked: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.run_coroutine_threadsafe(self.serve(), loop)

    async def serve(self) -> None:
        while (asked := await self.asked.get()) is not None:
            what, done = asked
            try:
                value = what()
                if hasattr(value, "__await__"):
                    value = await value
            except BaseException as error:  # noqa: BLE001 - it is the asking thread's
                done.append((None, error))
            else:
                done.append((value, None))
            done[0].set()

    def call(self, what: Callable[[], Any]) -> Any:
        """Call this in the task, await what it returns if need be, and return that."""
        done: list[Any] = [threading.Event()]
        self.loop.call_soon_threadsafe(self.asked.put_nowait, (what, done))
        assert done[0].wait(2 * HANG_S), "the event loop hangs"
        value, error = done[1]
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.asked.put_nowait, None)
        self.task.result(HANG_S)


class Waiting:
    """An asynchronous object, used like its synchronous twin."""

    def __init__(self, real: Any, lane: Lane) -> None:
        self.real = real
        self.lane = lane

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.real, name)
        if not callable(value):
            return _twin(value, self.lane)

        def call(*args: Any, **kwargs: Any) -> Any:
            plain = [arg.real if isinstance(arg, Waiting) else arg for arg in args]
            return _twin(self.lane.call(lambda: value(*plain, **kwargs)), self.lane)

        return call

    def __enter__(self) -> Any:
        entered = self.lane.call(lambda: self.real.__aenter__())
        return self if entered is self.real else _twin(entered, self.lane)

    def __exit__(self, *error: object) -> Any:
        return self.lane.call(lambda: self.real.__aexit__(*error))

    def __iter__(self) -> Iterator[Any]:
        rows = self.real.__aiter__()
        while True:
            try:
                yield self.lane.call(rows.__anext__)
            except StopAsyncIteration:
                return


def _twin(value: Any, lane: Lane) -> Any:
    asynchronous = hasattr(value, "__aenter__") or hasattr(value, "__aiter__")
    return Waiting(value, lane) if asynchronous or type(value).__name__ == "AsyncSession" else value


class Stores:
    """Stores of one kind, closed with the test."""

    def __init__(self, kind: str, stack: ExitStack) -> None:
        self.kind = kind
        self.stack = stack
        self.keys = Keyring.generate()
        self.loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, engine: PostgresEngine, **settings: Any) -> Any:
        """A store that is open."""
        settings = {"keyring": self.keys, "audience": "test", **settings}
        if self.kind == "sync":
            return self.stack.enter_context(CausalStore(engine, **settings))
        return self.stack.enter_context(Waiting(AsyncCausalStore(engine, **settings), self.lane()))

    def lane(self) -> Lane:
        if self.loop is None:
            self.loop = loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="the loop of a test", daemon=True)
            thread.start()

            def end() -> None:
                loop.call_soon_threadsafe(loop.stop)
                thread.join(HANG_S)
                loop.close()

            self.stack.callback(end)
        lane = Lane(self.loop)
        self.stack.callback(lane.close)
        return lane

    def beside(self, store: Any) -> Any:
        """The same store for another thread."""
        return Waiting(store.real, self.lane()) if isinstance(store, Waiting) else store

    def run_read(self, session: Any, *statements: str, **options: Any) -> Any:
        """`session.run_read` (or, with options, `read(...).run`) of a function that executes statements and returns the last one's rows."""
        if not isinstance(session, Waiting):

            def fn(connection: Any) -> Any:
                for statement in statements:
                    rows = connection.execute(statement)
                return rows.fetchall()

            return session.read(**options).run(fn) if options else session.run_read(fn)

        async def afn(connection: Any) -> Any:
            for statement in statements:
                rows = await connection.execute(statement)
            return await rows.fetchall()

        return session.read(**options).run(afn) if options else session.run_read(afn)


@pytest.fixture(params=["sync", "async"])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    with ExitStack() as stack:
        yield Stores(request.param, stack)


# --- what tests do with them -----------------------------------------------------------------------------------------


def put(session: Any, key: str, n: int) -> None:
    with session.write() as connection:
        connection.execute("INSERT INTO item VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET n = excluded.n", (key, n))


def get(session: Any, key: str, **options: Any) -> tuple[Any, Any]:
    """What a session reads under a key, and its receipt."""
    with (block := session.read(**options)) as connection:
        row = connection.execute("SELECT n FROM item WHERE key = %s", (key,)).fetchone()
    return None if row is None else row[0], block.receipt


def get_at(session: Any, key: str, endpoint: str) -> Any:
    """What a session reads under a key at an endpoint that has it. It may be slow to show that it has, and is gone round until then."""
    return eventually(lambda: (found := get(session, key))[1].endpoint == endpoint and found)[0]


def inside(block: Any, *steps: str | Callable[[Any], object]) -> None:
    """Enter a block, execute these statements there or call these with its connection, and leave it."""
    with block as connection:
        for step in steps:
            if isinstance(step, str):
                connection.execute(step)
            else:
                step(connection)


def fail(_: Any) -> None:
    """What goes wrong in a user's own code."""
    raise ZeroDivisionError


def bare(server: Any, sql: str, *args: Any) -> Any:
    """What a server says to a connection of nobody's store."""
    return server.query(sql, *args)


@contextlib.contextmanager
def within(seconds: float = HANG_S) -> Iterator[None]:
    """What takes longer than this hangs."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds, "it hung"
