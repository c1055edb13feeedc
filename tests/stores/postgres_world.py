"""A cluster of real servers with the origins installed, writers that note their positions, and one oracle: served means it is there.

Owns how tests ask a server for its verdict: by a question, and by a block's own watermarks. Whoever says APPLIED must show the row.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from causal import CausalStore, Keyring, ReadPolicy
from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.core.watermark import Verdict, Watermark
from causal.errors import StoreError, Unreachable
from causal.stores.postgres.engine import PostgresEngine, Replica
from causal.stores.postgres.install import install
from causal.stores.postgres.lsn import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from causal.lab.postgres import PostgresCluster, Server
    from causal.stores.postgres.link import PostgresLink

SHARD = 0
KEYS = Keyring.generate()
ERROR = ReadPolicy(wait_s=0.2, then="error", unproven="serve")
"""Wait a little, and say so rather than read at the leader."""
READ = ReadPolicy(wait_s=0.2, unproven="serve")
PATIENT = ReadPolicy(wait_s=20.0, unproven="serve")
"""The same for whoever is to be served by those who prove it, however slow they are: when its time is up, a read may be served unproven."""


def until(condition: Callable[[], Any], what: str = "it", timeout_s: float = 20) -> Any:
    """Ask until something is so, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} does not come about"
        time.sleep(0.01)
    return found


def prepared(cluster: PostgresCluster, *, installed: bool = True) -> PostgresCluster:
    """Install the origins, and a table that everybody may use."""
    primary = cluster.primary
    if installed:
        install(primary.admin_dsn)
    else:
        primary.query("GRANT pg_monitor TO app")
    primary.query("CREATE TABLE t (id int PRIMARY KEY, pad text)")
    primary.query("GRANT ALL ON t TO PUBLIC")
    cluster.wait_caught_up()
    return cluster


def engine(cluster: PostgresCluster, *names: str, primary: str = "primary", **options: Any) -> PostgresEngine:
    """Return the engine of a cluster: all servers, or only the primary and those that are named. An endpoint is named as its server.

    Nobody is asked in the background, so that a test knows who has looked when.
    """
    chosen = names or tuple(name for name in cluster.servers if name != primary)
    return PostgresEngine(
        Replica(cluster.servers[primary].dsn, primary),
        {name: cluster.servers[name].dsn for name in chosen},
        **{"order": "listed", "timeout_s": 2.0, "poll_s": 3600.0, **options},
    )


@contextmanager
def opened(cluster: PostgresCluster, *names: str, **options: Any) -> Iterator[CausalStore[Any, Any]]:
    """Open a store: what a process of an application has."""
    with CausalStore(engine(cluster, *names, **options), keyring=KEYS, audience="t") as store:
        yield store


@contextmanager
def linked(cluster: PostgresCluster, *names: str, **options: Any) -> Iterator[PostgresLink]:
    """Open a link alone, which knows nothing yet: what a new process knows."""
    link = engine(cluster, *names, **options).open()
    try:
        yield link
    finally:
        link.close()


def put(session: Any, row: int, *first: str, wait_s: float | None = None) -> Position:
    """Write a row through a session, and return the position that it now owns. `wait_s`: how long it may take to be let in."""
    with session.write(wait_s=wait_s) as connection:
        for statement in first:
            connection.execute(statement)
        connection.execute("INSERT INTO t VALUES (%s)", (row,))
    (position,) = [p for p in session.own if p.offset == max(q.offset for q in session.own)]
    return position


def fill(server: Server, rows: int, start: int = 1_000_000) -> None:
    """Have another client write that many rows, each its own commit."""
    with psycopg.connect(server.admin_dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = local")
        for n in range(rows):
            connection.execute("INSERT INTO t VALUES (%s, 'filler')", (start + n,))


@contextmanager
def left_alone(server: Server, *by: str) -> Iterator[list[int]]:
    """Stop those of a primary's own processes that write or flush its log every few seconds; return which.

    The wal writer flushes what asynchronous commits have left, and the background writer notes every 15 s what runs. A test that takes so
    long between what it leaves in memory, or says of the end of the log, and its look at that would look in vain.
    """
    by = by or ("walwriter", "background writer")
    own = "SELECT pid FROM pg_stat_activity WHERE backend_type = ANY(%s)"
    stopped = [int(pid) for (pid,) in server.query(own, list(by))]
    assert len(stopped) == len(by)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        yield stopped
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):  # it went with the server
                os.kill(pid, signal.SIGCONT)


def passed(server: Server, offset: int) -> bool:
    """Whether a server's number alone would pass for a position: what a naive reader compares."""
    return parse(server.wal()) >= offset


def here(server: Server, row: int) -> bool:
    """Whether a row is there, as the server itself says."""
    return bool(server.query("SELECT 1 FROM t WHERE id = %s", row))


def marked(link: PostgresLink, name: str) -> Watermark:
    """Ask a server, and return its marks."""
    return link.probe(name, 5.0)[SHARD]


def opened_block(link: PostgresLink, name: str, *, asked: bool) -> Any:
    """Open a read block at a server, asked before or not; None if it refuses. Pooled connections that a restart has cut are used up."""
    for _ in range(4):
        try:
            if asked:
                marked(link, name)
            return link.read(name, (SHARD,))
        except Unreachable:
            continue
    return None


def judged(link: PostgresLink, name: str, position: Position, row: int) -> set[Verdict]:
    """Return what a server says of a position, asked and in band; it is never APPLIED without the row, in a snapshot taken after that.

    The row is looked for on the very connection that the verdict is of.
    """
    verdicts: set[Verdict] = set()
    demand = Frontier.of({position.shard << 32 | position.origin: position.offset})
    for asked in (False, True, False):  # in band first: a block may meet what nobody has asked about
        handle = opened_block(link, name, asked=asked)
        if handle is None:
            continue
        try:
            mark = handle.watermarks[SHARD]
            verdict = mark.judge(demand).verdict
            there = handle.connection.execute("SELECT 1 FROM t WHERE id = %s", (row,)).fetchone() is not None
        finally:
            handle.close()
        assert there or verdict is not Verdict.APPLIED, f"{name} says APPLIED of {position} without row {row}: {mark}"
        verdicts.add(verdict)
    return verdicts


def served(session: Any, row: int, policy: ReadPolicy = READ) -> str:
    """Read a row that a session has written: it is there, wherever that is, or an error says why not. Return who served."""
    with (block := session.read(policy=policy)) as connection:
        there = connection.execute("SELECT 1 FROM t WHERE id = %s", (row,)).fetchone() is not None
    assert there, f"a stale read, served as fresh: {block.receipt}"
    return str(block.receipt.endpoint)


def ask_all(link: PostgresLink) -> None:
    """Ask every server that answers."""
    for endpoint in link.endpoints:
        try:
            link.probe(endpoint.name, 5.0)
        except StoreError:
            continue
