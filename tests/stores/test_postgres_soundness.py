"""What a block claims to hold, it shows; what it shows, it reports: under load, at both isolation levels.

One writer updates one row and notes where the log was. A reader that claims a place in the log must not miss a write that ended before it
(the trap: an LSN that is taken with the read, or after its snapshot). The control plants that trap, and must be caught.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import psycopg
import pytest

from causal.core.frontier import Frontier, pack
from causal.stores.postgres import statements
from causal.stores.postgres.blocks import Reading
from causal.stores.postgres.lsn import parse
from causal.stores.postgres.server import Server
from tests.stores.postgres_stage import PostgresCluster, engine, eventually, in_order, started

READS = 500
CONTROL_READS = 100_000


@pytest.fixture(scope="module")
def shared() -> Iterator[PostgresCluster]:
    yield from started(replicas=1)


@pytest.fixture
def cluster(shared: PostgresCluster) -> Iterator[PostgresCluster]:
    yield from in_order(shared)


class Writer:
    """Counts a row up, and remembers of each count where the log was before its commit and after."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.before = [0]
        self.after = [0]
        self.ending = False

    def run(self) -> None:
        insert, flush = b"SELECT pg_current_wal_insert_lsn()", b"SELECT pg_current_wal_flush_lsn()"
        with psycopg.connect(self.dsn) as connection:
            while not self.ending:
                n = len(self.after)
                connection.pgconn.send_query(b"BEGIN; UPDATE item SET n = %d; %s; COMMIT; %s" % (n, insert, flush))
                results = []
                while (result := connection.pgconn.get_result()) is not None:
                    results.append(result)
                self.before.append(parse(results[2].get_value(0, 0) or b""))
                self.after.append(parse(results[4].get_value(0, 0) or b""))


@contextmanager
def running(*loops: Callable[[], Any]) -> Iterator[None]:
    threads = [threading.Thread(target=loop) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.__self__.ending = True  # type: ignore[attr-defined]
        for thread in threads:
            thread.join()


class Prober:
    """Asks a server all the time, as a feed does."""

    def __init__(self, link: Any, endpoint: str) -> None:
        self.link, self.endpoint, self.ending = link, endpoint, False

    def run(self) -> None:
        while not self.ending:
            self.link.probe(self.endpoint, 5.0)


@attrs.frozen
class Look:
    acknowledged: int
    claimed: int
    shown: int
    reported: int


def looks(
    cluster: PostgresCluster, endpoint: str, isolation: str, until: Callable[[Look, Writer], bool]
) -> tuple[list[Look], Writer]:
    """Read over and over while the writer writes, until told to stop."""
    with psycopg.connect(cluster.primary.dsn) as connection:
        connection.execute("INSERT INTO item VALUES ('w', 0)")
    cluster.wait_caught_up()
    link = engine(cluster, isolation=isolation, timeout_s=10.0).open()
    writer, found = Writer(cluster.primary.dsn), list[Look]()
    try:
        shard = next(iter(link.probe(endpoint, 5.0)))
        with running(writer.run, Prober(link, endpoint).run):
            eventually(lambda: len(writer.after) > 2)
            while True:
                acknowledged = len(writer.after) - 1
                handle = link.read(endpoint, [shard])
                claimed = max(applied for applied, end in handle.watermarks[shard].origins.values() if end is None)
                shown = handle.connection.execute("SELECT n FROM item").fetchone()[0]
                handle.end()
                reported = max(position.offset for position in handle.seen())
                handle.close()
                look = Look(acknowledged, claimed, shown, reported)
                found.append(look)
                if until(look, writer):
                    return found, writer
    finally:
        link.close()


def misses(look: Look, writer: Writer) -> bool:
    """Whether a read shows less than it claims: a write is not there that ended at or before the place that it claims."""
    return look.shown + 1 < len(writer.after) and writer.after[look.shown + 1] <= look.claimed


def overshoots(look: Look, writer: Writer) -> bool:
    """Whether a read shows more than it reports."""
    return look.shown < len(writer.before) and look.reported <= writer.before[look.shown]


@pytest.fixture
def through_a_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is taken for its backend's own: each block is checked in its own message."""
    real = Server.backend
    monkeypatch.setattr(Server, "backend", lambda self, one: attrs.evolve(real(self, one), direct=False))


def enough() -> Callable[[Look, Writer], bool]:
    counts = iter(range(READS))
    return lambda look, writer: next(counts, None) is None and len(writer.after) > READS // 10


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.parametrize("check", ["light", "full"])
def test_a_standbys_block_shows_what_it_claims_and_reports_what_it_shows(
    cluster: PostgresCluster, isolation: str, check: str, request: pytest.FixtureRequest
) -> None:
    if check == "full":
        request.getfixturevalue("through_a_pooler")
        cluster.primary.query("ALTER ROLE app SET default_transaction_isolation = 'repeatable read'")
    found, writer = looks(cluster, "replica-1", isolation, enough())
    assert len({look.shown for look in found}) > 10  # it read while the writer wrote
    assert not [look for look in found if misses(look, writer)]
    assert not [look for look in found if overshoots(look, writer)]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_a_primarys_block_shows_what_was_acknowledged(cluster: PostgresCluster, isolation: str) -> None:
    """By what was acknowledged before it began: a primary's log holds a commit a moment before anyone sees it."""
    found, writer = looks(cluster, "primary", isolation, enough())
    assert len({look.shown for look in found}) > 10
    assert not [look for look in found if look.shown < look.acknowledged]
    assert not [look for look in found if look.claimed < writer.after[look.acknowledged]]
    assert not [look for look in found if overshoots(look, writer)]


def test_control_an_lsn_inside_the_repeatable_read_is_caught(
    cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch, through_a_pooler: None
) -> None:
    """CONTROL: with the planted bug, the loop above finds reads that claim what they do not show; else it proves nothing."""

    def planted(isolation: str, *, writing: bool, light: bool, installed: bool, transaction: bool = True) -> bytes:
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        mark = f"SET LOCAL causal.block = '{statements.WHOLE}'"
        return f"{begin}; {statements.facts(installed=installed)}; {mark}".encode()

    monkeypatch.setattr(statements, "beginning", planted)
    counts = iter(range(CONTROL_READS))
    found, writer = looks(
        cluster,
        "replica-1",
        "repeatable read",
        lambda look, writer: misses(look, writer) or next(counts, None) is None,
    )
    assert misses(found[-1], writer)


def test_control_an_account_before_the_last_read_is_caught(
    cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTROL: a block that reports where it began has shown more."""

    def planted(self: Any) -> Any:
        self._ended = True
        yield b"COMMIT"
        self._seen = Frontier.of({pack(self.server.shard, self._known.origin): self._known.lsn})

    monkeypatch.setattr(Reading, "end", planted)
    counts = iter(range(CONTROL_READS))
    found, writer = looks(
        cluster,
        "replica-1",
        "read committed",
        lambda look, writer: overshoots(look, writer) or next(counts, None) is None,
    )
    assert overshoots(found[-1], writer)


@pytest.mark.parametrize("has_read", [False, True])
def test_a_cache_claims_nothing_of_a_commit_that_nobody_saw_when_it_was_filled(
    cluster: PostgresCluster, has_read: bool
) -> None:
    """It is in the primary's log, and waits for a synchronous standby: its place is passed, and its row is not shown.

    Whoever reads there meanwhile demands that place from then on, so what a reader demanded is no proof of what it was shown.
    """
    from causal import CausalStore, Keyring, ReadPolicy
    from causal.caches import CausalCache, LRUBackend

    primary, (standby,) = cluster.primary, cluster.replicas
    policy = ReadPolicy(wait_s=20.0)
    primary.query("INSERT INTO item VALUES ('photo', 1)")

    def load(db: Any) -> Any:
        return db.execute("SELECT n FROM item WHERE key = 'photo'").fetchone()[0]

    with CausalStore(engine(cluster, replicas=[]), keyring=Keyring.generate(), audience="t", policy=policy) as store:
        cache, alice, bob = CausalCache(store, LRUBackend()), store.session(), store.session()

        def write() -> None:
            with alice.write() as db:
                db.execute("UPDATE item SET n = 2 WHERE key = 'photo'")

        writer = threading.Thread(target=write)
        primary.configure(synchronous_standby_names="*")
        standby.freeze()
        try:
            writer.start()
            eventually(lambda: primary.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
            if has_read:
                with bob.read() as db:
                    load(db)
            assert cache.get(bob, "photo", load) == 1
        finally:
            standby.thaw()
            primary.configure(synchronous_standby_names=None)
            writer.join()
        assert cache.get(alice, "photo", load) == 2
        value, account = cache.lookup(store.session(), "photo", load)
        assert (value, account.outcome) == (2, "hit")  # who demands nothing is served what is there
