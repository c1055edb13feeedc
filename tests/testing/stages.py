"""The project's own engines on a stage."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from causal.core.frontier import Frontier, shard_id
from causal.derived import DerivedEngine, EmbeddedFeed, SearchIndex
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.sqlite import SQLiteEngine
from causal.stores.sqlite.blocks.writing import WriteTransaction
from causal.stores.sqlite.link import SQLiteLink
from causal.testing import Stage
from tests.stores.sqlite_world import fast_directory

SHARDS = ("main", "orders")


class KeyValueStage(Stage):
    """Two sites of a key-value engine of ours."""

    leader, follower, store = "eu", "us", 3
    pickles = False
    forks = True

    def get(self, connection: Any, key: str) -> str | None:
        found: str | None = connection.get(key)
        return found

    def put(self, connection: Any, key: str, value: str) -> None:
        connection.put(key, value)

    def delete(self, connection: Any, key: str) -> None:
        connection.delete(key)

    def page(self, connection: Any, keys: Iterable[str]) -> dict[str, str | None]:
        return dict.fromkeys(keys) | {key: value for key, value in connection.scan() if key in set(keys)}


class MemoryStage(KeyValueStage):
    def __init__(self) -> None:
        self.cluster = self.controls = MemoryCluster(("eu", "us", "asia"), shards=SHARDS, store=self.store)

    def engine(self, near: str) -> Any:
        return MemoryEngine(cluster=self.cluster, site=near)

    def fail_over(self, endpoint: str) -> None:
        self.cluster.fail_over(endpoint)

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        self.cluster.pause("us")
        self.cluster.pause("asia")
        yield
        self.cluster.fail_over("eu")
        self.cluster.resume("us")
        self.cluster.resume("asia")

    @contextlib.contextmanager
    def forgetting(self, endpoint: str) -> Iterator[None]:
        site = self.cluster.site(endpoint)
        before = len(site.history)
        yield
        self.cluster.pause(endpoint)
        self.cluster.restart(endpoint, back=len(site.history) - before)

    def lose_answer(self, endpoint: str, *, committed: bool) -> None:
        self.cluster.lose_answer(endpoint, committed=committed)

    @contextlib.contextmanager
    def crashing(self, endpoint: str) -> Iterator[None]:
        yield
        self.cluster.restart(endpoint)

    @contextlib.contextmanager
    def outside(self, key: str, value: str) -> Iterator[Any]:
        handle = self.engine("eu").open(self.store).write("eu", shard_id(self.store, 0), Frontier())
        handle.connection.put(key, value)
        handle.commit(Frontier())
        yield handle.connection


class Unconfirmed:
    """A connection to a file whose disk does not confirm the next COMMIT, made or not."""

    def __init__(self, connection: sqlite3.Connection, *, committed: bool) -> None:
        self._connection, self._committed = connection, committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql != "COMMIT":
            return self._connection.execute(sql, *values)
        if self._committed:
            self._connection.execute(sql)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error


class SQLiteStage(KeyValueStage):
    """Two sites on files, that replicate when a test says so."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.directory = self.stack.enter_context(fast_directory())
        for site in ("eu", "us"):  # every site joins before anything is written
            self.engine(site).open(self.store).close()
        self.controls = self.engine("eu")

    def engine(self, near: str) -> Any:
        return SQLiteEngine(
            self.directory, site=near, shards=SHARDS, replicate="manual", rtt_s=0.01, sleep=lambda s: None
        )

    def close(self) -> None:
        self.stack.close()

    def lose_answer(self, endpoint: str, *, committed: bool) -> None:
        """Let the disk fail at the next COMMIT: of a store in the same process, nobody else's answer could be lost."""
        plain = SQLiteLink._writing

        def writing(link: SQLiteLink, *args: Any) -> WriteTransaction:
            SQLiteLink._writing = plain  # type: ignore[method-assign]
            handle = plain(link, *args)
            handle._db = Unconfirmed(handle._db, committed=committed)  # type: ignore[arg-type, assignment]
            return handle

        SQLiteLink._writing = writing  # type: ignore[method-assign]

    def crashing(self, endpoint: str) -> contextlib.AbstractContextManager[None]:
        """Put the files back as they were while they were in use: nothing was closed in order."""
        return self.forgetting(endpoint)

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        with self.forgetting("eu"):
            self.controls.cut_off("eu")
            yield
        self.controls.rejoin("eu")
        self.engine("us").open(self.store).close()

    @contextlib.contextmanager
    def forgetting(self, endpoint: str) -> Iterator[None]:
        """Its files are put back from a copy."""
        copy = self.directory.parent / f"{self.directory.name}-copy"
        shutil.copytree(self.directory, copy)
        try:
            yield
            for file in self.directory.glob(f"{endpoint}*"):
                file.unlink()
            for file in copy.glob(f"{endpoint}*"):
                shutil.copy(file, self.directory / file.name)
        finally:
            shutil.rmtree(copy)

    @contextlib.contextmanager
    def outside(self, key: str, value: str) -> Iterator[Any]:
        link = self.engine("eu").open(self.store)
        handle = link.write("eu", shard_id(self.store, 0), Frontier())
        handle.connection.put(key, value)
        handle.commit(Frontier())
        yield handle.connection
        link.close()


class PostgresStage(Stage):
    """A primary and a standby, with one table."""

    leader, follower, store, interleavings = "primary", "replica-1", 3, 25
    forks = True
    failovers = 1

    def __init__(self, cluster: Any, isolation: Any = "read committed") -> None:
        self.isolation, self.snapshots = isolation, isolation == "repeatable read"
        self.cluster = self.controls = cluster
        if not cluster.primary.query("SELECT to_regclass('item')")[0][0]:
            from causal.stores.postgres import install

            install(cluster.primary.admin_dsn, ("app",))
            cluster.primary.query(
                "CREATE TABLE item (key text PRIMARY KEY, value text NOT NULL); GRANT ALL ON item TO app"
            )
        cluster.primary.query("TRUNCATE item")
        cluster.wait_caught_up()

    def engine(self, near: str) -> Any:
        from causal.stores.postgres import PostgresEngine, Replica

        far = {name: 0.0 if name == near else 0.01 for name in self.cluster.servers}
        servers = {name: Replica(server.dsn, latency_s=far[name]) for name, server in self.cluster.servers.items()}
        return PostgresEngine(servers.pop("primary"), servers, order="listed", timeout_s=2.0, isolation=self.isolation)

    GET = "SELECT value FROM item WHERE key = %s"
    PUT = "INSERT INTO item VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    DELETE = "DELETE FROM item WHERE key = %s"

    def get(self, connection: Any, key: str) -> str | None:
        row = connection.execute(self.GET, [key]).fetchone()
        return None if row is None else row[0]

    def put(self, connection: Any, key: str, value: str) -> None:
        connection.execute(self.PUT, [key, value])

    def delete(self, connection: Any, key: str) -> None:
        connection.execute(self.DELETE, [key])

    PAGE = "SELECT key, value FROM item WHERE key = ANY(%s)"

    def page(self, connection: Any, keys: Iterable[str]) -> dict[str, str | None]:
        return dict.fromkeys(keys) | dict(connection.execute(self.PAGE, [list(keys)]).fetchall())

    async def apage(self, connection: Any, keys: Iterable[str]) -> dict[str, str | None]:
        return dict.fromkeys(keys) | dict(await (await connection.execute(self.PAGE, [list(keys)])).fetchall())

    async def aget(self, connection: Any, key: str) -> str | None:
        row = await (await connection.execute(self.GET, [key])).fetchone()
        return None if row is None else row[0]

    async def aput(self, connection: Any, key: str, value: str) -> None:
        await connection.execute(self.PUT, [key, value])

    async def adelete(self, connection: Any, key: str) -> None:
        await connection.execute(self.DELETE, [key])

    @contextlib.contextmanager
    def forgetting(self, endpoint: str) -> Iterator[None]:
        """The standby's files are put back from a copy; it follows again from there."""
        (standby,) = self.cluster.replicas
        assert endpoint == standby.name
        copy, reshaped = standby.folder / "copy", standby.reshaped
        standby.stop()
        standby.snapshot(copy)
        standby.start()
        yield
        standby.kill()
        standby.restore(copy)
        shutil.rmtree(copy)
        standby.reshaped = reshaped  # it is a standby of the same primary as before
        standby.start()

    @contextlib.contextmanager
    def crashing(self, endpoint: str) -> Iterator[None]:
        self.cluster.servers[endpoint].kill()
        yield
        self.cluster.servers[endpoint].start()

    def lose_answer(self, endpoint: str, *, committed: bool) -> None:
        """Close the connection after the next COMMIT was answered, or before it is sent, and let no answer arrive."""
        from causal.stores.postgres.blocks import Writing
        from causal.stores.postgres.exchange import Cut

        plain = Writing.commit

        def commit(block: Any, deps: Frontier) -> Any:
            Writing.commit = plain  # type: ignore[method-assign]
            steps = plain(block, deps)
            message = next(steps)
            if committed:
                yield message
            block.pgconn.finish()
            return steps.throw(Cut("the connection was lost", lost=True))

        Writing.commit = commit  # type: ignore[method-assign]

    def fail_over(self, endpoint: str) -> None:
        """The primary dies, and its standby is promoted with what it has."""
        (standby,) = self.cluster.replicas
        self.cluster.primary.kill()
        standby.promote()

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """The primary dies before its standby has its last log, and the standby is promoted."""
        (standby,) = self.cluster.replicas
        standby.disconnect()
        yield
        self.cluster.primary.kill()
        standby.promote()

    @contextlib.contextmanager
    def outside(self, key: str, value: str) -> Iterator[Any]:
        import psycopg

        with psycopg.connect(self.cluster.primary.dsn, autocommit=True) as connection:
            self.put(connection, key, value)
            yield connection

    def close(self) -> None:
        (standby,) = self.cluster.replicas
        if not standby.reshaped:
            standby.resume()


class SearchStage(Stage):
    """A search index beside one site of the embedded store: it only reads, and is fed when a test says so."""

    follower, store, read_only = "search", 3, True

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.directory = self.stack.enter_context(fast_directory())
        self.source = SQLiteEngine(self.directory / "data", site="eu", shards=("main",), replicate="manual")
        self.link = self.source.open(self.store)
        self.stack.callback(self.link.close)
        self.catch_up("search")

    def engine(self, near: str) -> Any:
        feed = EmbeddedFeed(lambda key, value: {"value": value})
        index = SearchIndex(self.directory / "eu.search", fields=["value"], feed=feed)
        return DerivedEngine(self.source, index, feed="manual")

    def get(self, connection: Any, key: str) -> str | None:
        found = connection.get(key)
        return None if found is None else found["value"]

    def write_source(self, key: str, value: str) -> Frontier:
        handle = self.link.write("eu", shard_id(self.store, 0), Frontier())
        handle.connection.put(key, value)
        commit = handle.commit(Frontier())
        assert commit.position is not None
        return Frontier([commit.position])

    def catch_up(self, endpoint: str) -> None:
        self.engine("search").feed(self.store)

    def close(self) -> None:
        self.stack.close()
