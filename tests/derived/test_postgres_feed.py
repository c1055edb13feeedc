"""An index that is fed from PostgreSQL by a logical slot: real servers, and feeders that die in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg")

from causal import AsyncCausalStore, CausalStore, ConfigError, GateTimeout, Keyring, NoEndpoint, ReadPolicy  # noqa: E402
from causal.derived import DerivedEngine, SearchIndex, amixed, mixed  # noqa: E402
from causal.derived.postgres import PostgresFeed, PostgresFeeding  # noqa: E402
from causal.errors import StoreError  # noqa: E402
from causal.lab.postgres import PostgresCluster  # noqa: E402
from causal.lab.postgres.binaries import NoBinaries  # noqa: E402
from causal.stores.postgres import PostgresEngine, install  # noqa: E402
from tests.stores.postgres_world import left_alone  # noqa: E402

KEYS = Keyring.generate()
AT_ONCE = ReadPolicy(0.0, then="error")
SOON = ReadPolicy(20.0, then="error")
"""No measure of speed: what takes longer hangs."""
QUERY = (
    "SELECT p.id, p.title, p.n AS created, (SELECT string_agg(c.text, ' ' ORDER BY c.id) FROM comment c WHERE c.post_id = p.id) AS text "
    "FROM post p WHERE p.title <> 'draft'"
)
TABLES = """
    CREATE TABLE post (id int PRIMARY KEY, title text NOT NULL, n int);
    CREATE TABLE comment (id int PRIMARY KEY, post_id int NOT NULL, text text);
    ALTER TABLE comment REPLICA IDENTITY FULL;
"""


def made(**options: Any) -> Iterator[PostgresCluster]:
    try:
        cluster = PostgresCluster(settings={"wal_level": "logical", "autovacuum": False}, **options)
    except NoBinaries as error:
        pytest.skip(str(error))
    with cluster:
        install(cluster.primary.admin_dsn)
        with psycopg.connect(cluster.primary.dsn) as connection:
            connection.execute(TABLES)
        cluster.wait_caught_up()
        yield cluster


@pytest.fixture(scope="module")
def shared() -> Iterator[PostgresCluster]:
    for cluster in made(replicas=1):
        # What is written into the log on the server's own account is fed to nobody, and the index would not be shown to be current.
        with left_alone(cluster.primary, "background writer"):
            yield cluster


@pytest.fixture
def cluster(shared: PostgresCluster) -> PostgresCluster:
    with psycopg.connect(shared.primary.admin_dsn) as connection:
        connection.execute("TRUNCATE post, comment")
        slots = "FROM pg_replication_slots WHERE slot_type = 'logical'"
        connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}".encode())  # of a test before
    return shared


class Shop:
    """A store on a cluster, and an index of it, fed by hand."""

    def __init__(self, cluster: PostgresCluster, path: Path) -> None:
        self.cluster = cluster
        self.engine = PostgresEngine(
            cluster.primary.dsn, {server.name: server.dsn for server in cluster.replicas}, timeout_s=2.0
        )
        admin = psycopg.conninfo.conninfo_to_dict(cluster.primary.admin_dsn)
        self.feed_from = PostgresFeed(
            QUERY,
            key="id",
            tables={"public.post": "id", "public.comment": "post_id"},
            login={key: str(admin[key]) for key in ("user", "password") if admin.get(key)},
        )
        self.index = SearchIndex(path / "search", fields=["title", "text"], sorts=["created"], feed=self.feed_from)
        self.derived = DerivedEngine(self.engine, self.index, feed="manual")
        self.store: CausalStore[Any, Any] = CausalStore(self.engine, keyring=KEYS, audience="shop", policy=SOON)
        self.search: CausalStore[Any, Any] = CausalStore(self.derived, keyring=KEYS, audience="shop", policy=AT_ONCE)

    def write(self, session: Any, *statements: str) -> None:
        with session.write() as db:
            for statement in statements:
                db.execute(statement)

    def feed(self) -> int:
        return self.derived.feed()

    def found(self, session: Any, text: str = "", **how: Any) -> list[str]:
        with session.read(self.search, **how) as index:
            return sorted(hit.key for hit in index.search(text, limit=100))

    def rows(self) -> dict[str, Any]:
        """What the primary says now."""
        with psycopg.connect(self.cluster.primary.dsn) as connection:
            rows = connection.execute(QUERY).fetchall()
        return {str(key): {"title": title, "created": created, "text": text} for key, title, created, text in rows}

    def slots(self) -> list[str]:
        with psycopg.connect(self.cluster.primary.admin_dsn) as connection:
            return [
                name
                for (name,) in connection.execute(
                    "SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical'"
                )
            ]


@pytest.fixture
def shop(cluster: PostgresCluster, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(cluster, tmp_path)
    with shop.store:
        yield shop
        shop.search.close()
        with shop.derived.feeding() as feeding:
            assert isinstance(feeding, PostgresFeeding)
            feeding.discard()


def held(shop: Shop, session: Any) -> dict[str, Any]:
    """Everything that a gated read of the index shows.

    The server writes into its log on its own account, too, every 15 s: what was fed before that is not shown to be current after it.
    """
    try:
        with session.read(shop.search, policy=ReadPolicy(2.0, then="error")) as index:
            return {hit.key: hit.document for hit in index.search(limit=1000)}
    except (GateTimeout, NoEndpoint):
        shop.feed()
    with session.read(shop.search, policy=SOON) as index:
        return {hit.key: hit.document for hit in index.search(limit=1000)}


def claimed(shop: Shop) -> int:
    """How far the index says that it is."""
    opened = shop.index.open({"main": 0})
    generation = opened.generation()
    opened.close()
    assert generation is not None
    return max(place.applied for place in generation.places[0].values())


def fed_until(shop: Shop, session: Any) -> dict[str, Any]:
    """Feed until a session reads what it demands; an asynchronous write is durable in a moment."""
    deadline = time.monotonic() + 20
    while True:
        shop.feed()
        try:
            with session.read(shop.search) as index:
                return {hit.key: hit.document for hit in index.search(limit=1000)}
        except (GateTimeout, NoEndpoint):
            assert time.monotonic() < deadline


def test_what_a_session_wrote_is_in_the_index_or_the_read_is_refused(shop: Shop) -> None:
    alice = shop.store.session()
    shop.write(alice, "INSERT INTO post VALUES (1, 'coffee', 1), (2, 'draft', 2)")
    with pytest.raises(NoEndpoint, match="no checkpoint"), alice.read(shop.search, policy=ReadPolicy.eventual()):
        pass
    shop.feed()
    assert shop.found(alice, policy=SOON) == ["1"]
    shop.write(
        alice,
        "UPDATE post SET title = 'more coffee' WHERE id = 2",
        "INSERT INTO comment VALUES (1, 1, 'it''s\nbetter than tea')",
    )
    with pytest.raises((GateTimeout, NoEndpoint)), alice.read(shop.search):
        pass
    shop.feed()
    assert shop.found(alice, "coffee", policy=SOON) == ["1", "2"]
    assert shop.found(alice, "tea", policy=SOON) == ["1"]
    shop.write(
        alice, "UPDATE comment SET post_id = 2", "DELETE FROM post WHERE id = 1", "UPDATE post SET id = 3 WHERE id = 2"
    )
    shop.feed()
    assert held(shop, alice) == shop.rows() == {"3": {"title": "more coffee", "created": 2, "text": None}}
    assert shop.feed() == 0


def test_a_truncated_table_and_a_lost_slot_are_built_anew(shop: Shop) -> None:
    alice = shop.store.session()
    shop.write(alice, "INSERT INTO post SELECT n, 'coffee', n FROM generate_series(1, 5) n")
    shop.feed()
    shop.write(alice, "TRUNCATE post", "INSERT INTO post VALUES (7, 'tea', 7)")
    shop.feed()
    assert list(held(shop, alice)) == ["7"]
    (slot,) = shop.slots()
    with psycopg.connect(shop.cluster.primary.admin_dsn) as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    shop.write(alice, "INSERT INTO post VALUES (8, 'tea', 8)")
    shop.feed()
    assert list(held(shop, alice)) == ["7", "8"]
    (other,) = shop.slots()
    assert other != slot
    with psycopg.connect(shop.cluster.primary.admin_dsn, autocommit=True) as connection:
        shop.write(alice, "INSERT INTO post VALUES (9, 'tea', 9)")
        connection.execute(
            "SELECT pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", (other,)
        )  # by somebody else
    shop.feed()
    assert list(held(shop, alice)) == ["7", "8", "9"]


CHILD = """
    import os, signal, sys
    from tests.derived.test_postgres_feed import *
    import causal.derived.feeds.logical as feeding
    from causal.derived.fts import file
    path, where, dsn, admin = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    class Server: pass
    class Cluster: pass
    cluster = Cluster(); cluster.primary = Server(); cluster.primary.dsn = dsn; cluster.primary.admin_dsn = admin; cluster.replicas = []
    real = psycopg.Connection.execute
    def execute(self, query, *args, **kwargs):
        if where in str(query):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, query, *args, **kwargs)
    psycopg.Connection.execute = execute
    Shop(cluster, path).feed()
"""


@pytest.mark.parametrize("where", ["slot_advance", "peek_changes", "insert_lsn", "REPEATABLE READ"])
def test_a_feeder_that_is_killed_at_any_place_is_followed_by_one_that_finds_the_same(
    shop: Shop, tmp_path: Path, where: str
) -> None:
    alice = shop.store.session()
    shop.write(alice, "INSERT INTO post VALUES (1, 'coffee', 1), (2, 'tea', 1)")
    shop.feed()
    held(shop, alice)
    before = shop.found(alice, policy=SOON)
    shop.write(alice, "INSERT INTO post VALUES (3, 'coffee', 1)", "DELETE FROM post WHERE id = 2")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(CHILD),
            str(tmp_path),
            where,
            shop.cluster.primary.dsn,
            shop.cluster.primary.admin_dsn,
        ],
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL
    taken = where == "slot_advance"  # what was taken in is there, and is delivered again
    if taken:
        assert held(shop, alice) == shop.rows()
    else:
        with pytest.raises((GateTimeout, NoEndpoint)), alice.read(shop.search):
            pass
        assert shop.found(alice, policy=ReadPolicy.eventual()) == before
    shop.write(alice, "UPDATE post SET title = 'milk' WHERE id = 3")
    shop.feed()
    assert held(shop, alice) == shop.rows()


def test_a_commit_that_others_do_not_see_yet_is_not_claimed(shop: Shop) -> None:
    """Its record is in the log, and it waits for a synchronous standby that is away: nobody sees it on the primary."""
    alice = shop.store.session()
    shop.write(alice, "INSERT INTO post VALUES (1, 'coffee', 1)")
    shop.feed()
    primary, (standby,) = shop.cluster.primary, shop.cluster.replicas
    primary.configure(synchronous_standby_names="*")
    standby.freeze()
    writer = psycopg.connect(primary.dsn, autocommit=True)
    try:
        sent = writer.pgconn
        sent.send_query(b"UPDATE post SET title = 'tea' WHERE id = 1")
        with psycopg.connect(primary.admin_dsn, autocommit=True) as watch:
            deadline = time.monotonic() + 20
            while not watch.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone():
                assert time.monotonic() < deadline
            for _ in range(3):
                assert shop.feed() == 0
        assert shop.found(shop.store.session(), "coffee", policy=ReadPolicy.eventual()) == ["1"]
    finally:
        standby.thaw()
        primary.configure(synchronous_standby_names=None)
    while sent.get_result() is not None:
        pass
    writer.close()
    shop.feed()
    bob = shop.store.session()
    bob.join(shop.store.head())
    assert fed_until(shop, bob)["1"]["title"] == "tea"


def test_mixed_pages_have_the_rows_that_the_session_names_and_no_hit_that_is_gone(shop: Shop) -> None:
    alice = shop.store.session()
    shop.write(alice, "INSERT INTO post SELECT n, 'coffee', n FROM generate_series(1, 6) n")
    shop.feed()
    held(shop, alice)
    shop.write(
        alice,
        "INSERT INTO post VALUES (9, 'own coffee', 9)",
        "DELETE FROM post WHERE id < 3",
        "UPDATE post SET title = 'tea' WHERE id = 3",
    )

    def recent(db: Any) -> list[Any]:
        return [key for (key,) in db.execute("SELECT id FROM post WHERE n = 9")]

    page = mixed(alice, shop.search, shop.store, "coffee", limit=3, order="created", recent=recent)
    assert [hit.key for hit in page.hits] == ["4", "5", "6"]
    page = mixed(alice, shop.search, shop.store, "coffee", order="-created", recent=recent)
    assert [hit.key for hit in page.hits] == ["9", "6", "5", "4"]
    assert page.overlaid["main", "9"] == "added"
    assert page.overlaid["main", "1"] == "removed"
    with pytest.raises(ConfigError, match="recent"):
        mixed(alice, shop.search, shop.store, "coffee")
    shop.feed()
    assert held(shop, alice) == shop.rows()
    assert not mixed(alice, shop.search, shop.store, "coffee").source

    async def main() -> list[str]:
        async with (
            AsyncCausalStore(shop.engine, keyring=KEYS, audience="shop", policy=SOON) as store,
            AsyncCausalStore(shop.derived, keyring=KEYS, audience="shop", policy=AT_ONCE) as search,
        ):
            session = store.session(alice.token())
            async with session.write() as db:
                await db.execute("INSERT INTO post VALUES (10, 'later coffee', 9)")

            async def lately(db: Any) -> list[Any]:
                return [key for (key,) in await (await db.execute("SELECT id FROM post WHERE n = 9")).fetchall()]

            page = await amixed(session, search, store, "coffee", order="-created", recent=lately)
            return [hit.key for hit in page.hits]

    assert asyncio.run(main()) == ["10", "9", "6", "5", "4"]


def test_it_is_rebuilt_beside_and_leaves_one_slot(shop: Shop) -> None:
    alice = shop.store.session()
    shop.write(alice, "INSERT INTO post SELECT n, 'coffee', n FROM generate_series(1, 700) n")
    shop.feed()
    before = shop.slots()
    shop.write(alice, "DELETE FROM post WHERE n > 690")
    shop.derived.rebuild()
    assert held(shop, alice) == shop.rows()
    assert len(shop.slots()) == 1
    assert shop.slots() != before
    shop.write(alice, "INSERT INTO post VALUES (1000, 'tea', 1)")
    shop.feed()
    assert shop.found(alice, "tea", policy=SOON) == ["1000"]


def test_a_step_that_is_cut_short_claims_no_more_than_it_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    import causal.derived.feeds.logical as feeding

    alice, bob = shop.store.session(), shop.store.session()
    shop.feed()
    held(shop, alice)
    for n in range(6):
        shop.write(
            bob if n else alice,
            f"INSERT INTO post SELECT n, 'coffee', n FROM generate_series({n * 10}, {n * 10 + 5}) n",
        )
    monkeypatch.setattr(feeding, "_MOST", 4)
    assert shop.feed() == 6
    assert len(held(shop, alice)) == 6
    with pytest.raises((GateTimeout, NoEndpoint)), bob.read(shop.search):
        pass
    while shop.feed() > 1:
        pass
    assert held(shop, bob) == shop.rows()


def test_who_is_shown_a_row_that_is_newer_than_the_claim_demands_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = shop.store.session(), shop.store.session()
    shop.write(alice, "INSERT INTO post VALUES (1, 'coffee', 1)")
    shop.feed()
    held(shop, bob)
    flushed = PostgresFeeding._flushed

    def noted_first(self: PostgresFeeding, *args: Any) -> tuple[int, int]:
        noted = flushed(self, *args)
        if not wrote:
            shop.write(alice, "UPDATE post SET title = 'tea'")
            wrote.append(True)
        return noted

    shop.write(alice, "UPDATE post SET title = 'milk'")
    wrote = list[bool]()
    monkeypatch.setattr(PostgresFeeding, "_flushed", noted_first)
    shop.feed()
    with pytest.raises((GateTimeout, NoEndpoint)), alice.read(shop.search):
        pass
    with bob.read(shop.search) as index:
        assert index.get("1")["title"] == "tea"
    assert bob.seen >= alice.own
    monkeypatch.setattr(PostgresFeeding, "_flushed", lambda *args: (claimed(shop) + 1, claimed(shop) + 1))
    shop.feed()  # that claims a little more
    carol = shop.store.session()
    with carol.read(shop.search, policy=ReadPolicy.eventual()) as index:
        assert index.get("1")["title"] == "tea"
    assert carol.seen >= alice.own


def test_who_reads_the_index_may_read_it_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others write between the place that is claimed and the snapshot: what is shown is no newer for that."""
    bob, alice = shop.store.session(), shop.store.session()
    shop.feed()
    held(shop, bob)
    flushed, others = PostgresFeeding._flushed, list[str]()

    def noted_first(self: PostgresFeeding, *args: Any) -> tuple[int, int]:
        noted = flushed(self, *args)
        if others:
            shop.write(alice, others.pop())
        return noted

    monkeypatch.setattr(PostgresFeeding, "_flushed", noted_first)
    for n in range(3):
        shop.write(alice, f"INSERT INTO post VALUES ({n}, 'coffee', 1)")
        others.append(f"INSERT INTO post VALUES ({n + 10}, 'draft', 1)")
        shop.feed()
        for _ in range(2):
            assert len(shop.found(bob, policy=ReadPolicy(2.0, then="error"))) == n + 1  # it is not fed meanwhile


def test_documents_of_several_kinds_are_told_apart_by_their_prefixes(shop: Shop, tmp_path: Path) -> None:
    login = shop.feed_from.login
    posts = PostgresFeed(
        "SELECT id, title FROM post", key="id", tables={"public.post": "id"}, prefix="post/", login=login
    )
    comments = PostgresFeed(
        "SELECT id, text FROM comment",
        key="id",
        tables={"public.comment": "id"},
        prefix="comment/",
        document=lambda row: {"title": row["text"]},
        login=login,
    )
    index = SearchIndex(tmp_path / "both", fields=["title"], feed=PostgresFeed.several(posts, comments))
    shop.search.close()
    shop.derived = DerivedEngine(shop.engine, index, feed="manual")
    shop.search = CausalStore(shop.derived, keyring=KEYS, audience="shop", policy=AT_ONCE)
    alice = shop.store.session()
    shop.write(alice, "INSERT INTO post VALUES (1, 'coffee', 1)")
    shop.feed()
    assert shop.found(alice, policy=SOON) == ["post/1"]
    shop.write(alice, "INSERT INTO comment VALUES (1, 1, 'coffee'), (2, 1, 'tea')", "DELETE FROM post WHERE id = 1")
    page = mixed(alice, shop.search, shop.store, "coffee", recent=lambda db: ["comment/1"])
    assert [hit.key for hit in page.hits] == ["comment/1"]
    with pytest.raises(ConfigError, match="begin with"):
        mixed(alice, shop.search, shop.store, "coffee", recent=lambda db: [1])
    shop.feed()
    assert shop.found(alice, policy=SOON) == ["comment/1", "comment/2"]
    with pytest.raises(ConfigError, match="begins"):
        PostgresFeed.several(posts, posts)
    with pytest.raises(ConfigError, match="login"):
        PostgresFeed.several(posts, PostgresFeed(QUERY, key="id", tables={"public.post": "id"}, prefix="x"))


def test_a_head_that_nobody_waits_to_be_durable_is_reached(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a read's own housekeeping leaves in the log is flushed by nobody for long, and is part of the head."""
    shop.feed()
    held(shop, shop.store.session())
    flush, calls = PostgresFeeding._flush, list[bool]()

    def counted(self: PostgresFeeding, db: Any) -> None:
        calls.append(True)
        flush(self, db)

    monkeypatch.setattr(PostgresFeeding, "_flush", counted)
    with monkeypatch.context() as patch:
        for beyond in (0, 8):
            patch.setattr(PostgresFeeding, "_flushed", lambda *args, n=beyond: (claimed(shop), claimed(shop) + n))
            assert shop.feed() == 0
            assert len(calls) == (beyond > 0)
    shop.feed()
    bob = shop.store.session()
    bob.join(shop.store.head())
    assert fed_until(shop, bob) == {}


class Died(Exception):
    """A feeder that ended somewhere."""


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_written_and_whenever_feeders_die_the_index_is_its_source(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance, alice = Random(seed), shop.store.session()
    left = -1
    real = psycopg.Connection.execute

    def execute(self: Any, query: Any, *args: Any, **how: Any) -> Any:
        nonlocal left
        if left >= 0 and "INSERT INTO" not in str(query):
            left -= 1
            if left < 0:
                raise Died
        return real(self, query, *args, **how)

    monkeypatch.setattr(psycopg.Connection, "execute", execute)

    def write() -> None:
        key, other, title = chance.randrange(8), chance.randrange(8), chance.choice(("coffee", "it''s tea", "draft"))
        statements = [
            f"INSERT INTO post VALUES ({key}, '{title}', {other}) ON CONFLICT (id) DO UPDATE SET title = excluded.title",
            f"DELETE FROM post WHERE id = {key}",
            f"UPDATE post SET id = {key} WHERE id = {other} AND NOT EXISTS (SELECT FROM post WHERE id = {key})",
            f"INSERT INTO comment VALUES ({key}, {other}, '{title}') ON CONFLICT (id) DO UPDATE SET post_id = excluded.post_id",
            f"DELETE FROM comment WHERE post_id = {key}",
        ]
        shop.write(alice, *chance.sample(statements, chance.randrange(1, 4)))

    with shop.derived.feeding() as feeding:
        feeding.step()
        for _ in range(40):
            write()
            left = chance.randrange(9) if chance.random() < 0.4 else -1
            with contextlib.suppress(Died):
                (feeding.rebuild if chance.random() < 0.15 else feeding.step)()
            left = -1
            if chance.random() < 0.4:
                feeding.step()
                feeding.step()
                assert held(shop, alice) == shop.rows()
            elif chance.random() < 0.5:
                page = mixed(
                    alice,
                    shop.search,
                    shop.store,
                    lag=ReadPolicy.eventual(),
                    limit=100,
                    recent=lambda db: map(str, range(8)),
                )
                assert {hit.key: hit.document for hit in page.hits} == shop.rows()
        feeding.step()
        feeding.step()
        assert held(shop, alice) == shop.rows()


def test_what_cannot_be_fed_is_refused(shop: Shop, tmp_path: Path) -> None:
    def engine(feed: Any) -> DerivedEngine[Any]:
        index = SearchIndex(tmp_path / "other", fields=["title"], feed=feed)
        return DerivedEngine(shop.engine, index, feed="manual")

    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: PostgresFeed("SELECT 1 AS id", key="id", tables={"post": "id"}), "schema"),
        (lambda: shop.feed_from.open(shop.index.open({"main": 0}), object(), {"main": 0}, 0), "PostgresEngine"),
        (lambda: shop.feed_from.open(shop.index.open({"a": 0}), shop.engine, {"a": 0, "b": 1}, 0), "one shard"),
        (lambda: shop.feed_from.view(object(), 0), "connection"),
    ]
    for make, complaint in cases:
        with pytest.raises(ConfigError, match=complaint):
            make()
    with pytest.raises(StoreError, match="nowhere"):
        engine(
            PostgresFeed(
                "SELECT id, title FROM nowhere", key="id", tables={"public.post": "id"}, login=shop.feed_from.login
            )
        ).feed()
    with pytest.raises(StoreError, match="REPLICATION"):
        engine(PostgresFeed(QUERY, key="id", tables={"public.post": "id"})).feed()


def test_after_a_failover_the_index_is_unknown_until_it_is_built_anew(tmp_path: Path) -> None:
    for cluster in made(replicas=1):
        shop = Shop(cluster, tmp_path)
        with shop.store:
            alice = shop.store.session()
            shop.write(alice, "INSERT INTO post VALUES (1, 'coffee', 1)")
            shop.feed()
            held(shop, alice)
            cluster.primary.stop("immediate")
            cluster.replicas[0].promote()
            bob = shop.store.session()
            deadline = time.monotonic() + 20
            while True:
                try:
                    shop.write(bob, "INSERT INTO post VALUES (2, 'tea', 1)")
                except (StoreError, GateTimeout, NoEndpoint):
                    assert time.monotonic() < deadline
                else:
                    break
            with pytest.raises((GateTimeout, NoEndpoint)), bob.read(shop.search):
                pass
            while True:
                try:
                    shop.feed()
                except StoreError:
                    assert time.monotonic() < deadline
                else:
                    break
            assert list(held(shop, bob)) == ["1", "2"]
            shop.search.close()


def test_a_primary_that_restarts_goes_on_with_its_slot(tmp_path: Path) -> None:
    for cluster in made(replicas=0):
        shop = Shop(cluster, tmp_path)
        with shop.store:
            alice = shop.store.session()
            shop.write(alice, "INSERT INTO post VALUES (1, 'coffee', 1)")
            shop.feed()
            slots = shop.slots()
            for mode in ("fast", "immediate"):
                cluster.primary.stop(mode)
                cluster.primary.start()
                deadline = time.monotonic() + 20
                while True:
                    try:
                        shop.write(alice, f"INSERT INTO post VALUES ({len(mode)}, 'tea', 1)")
                        shop.feed()
                    except (StoreError, GateTimeout, NoEndpoint):
                        assert time.monotonic() < deadline
                    else:
                        break
                assert held(shop, alice) == shop.rows()
            assert shop.slots() == slots
            shop.search.close()


@pytest.mark.parametrize(
    ("ddl", "tables", "complaint"),
    [
        ("", {"public.psot": "id"}, "public.psot is no table"),
        ("", {"public.post": "key"}, "no column 'key'"),
        ("CREATE UNLOGGED TABLE quiet (id int PRIMARY KEY)", {"public.quiet": "id"}, "unlogged"),
        ("CREATE VIEW seen AS SELECT * FROM post", {"public.seen": "id"}, "a view"),
        ("CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)", {"public.parted": "id"}, "partitions"),
        ("CREATE TABLE note (id int PRIMARY KEY, post_id int)", {"public.note": "post_id"}, "REPLICA IDENTITY FULL"),
        ("CREATE TABLE bare (id int)", {"public.bare": "id"}, "REPLICA IDENTITY FULL"),
    ],
)
def test_tables_whose_changes_would_be_missed_are_refused(
    cluster: PostgresCluster, tmp_path: Path, ddl: str, tables: dict[str, str], complaint: str
) -> None:
    shop = Shop(cluster, tmp_path)
    feed = PostgresFeed("SELECT id, title FROM post", key="id", tables=tables, login=shop.feed_from.login)
    index = SearchIndex(tmp_path / "other", fields=["title"], feed=feed)
    derived = DerivedEngine(shop.engine, index, feed="manual")
    names = ", ".join(name for name in ("quiet", "parted", "note", "bare") if name in ddl)
    with psycopg.connect(cluster.primary.dsn) as connection:
        if ddl:
            connection.execute(ddl)
    try:
        with pytest.raises(StoreError, match=complaint):
            derived.feed()
        with derived.feeding() as feeding:
            assert isinstance(feeding, PostgresFeeding)
            feeding.discard()  # whatever it watches
    finally:
        with psycopg.connect(cluster.primary.dsn) as connection:
            connection.execute("DROP VIEW IF EXISTS seen")
            if names:
                connection.execute(f"DROP TABLE {names}")


def test_a_row_that_moves_to_another_document_changes_both(shop: Shop) -> None:
    alice = shop.store.session(subject="alice")
    shop.write(
        alice, "INSERT INTO post VALUES (1, 'one', 1), (2, 'two', 2)", "INSERT INTO comment VALUES (1, 1, 'hello')"
    )
    assert fed_until(shop, alice) == shop.rows()
    shop.write(alice, "UPDATE comment SET post_id = 2")
    assert fed_until(shop, alice) == shop.rows()


def test_a_query_may_hold_percent_signs(cluster: PostgresCluster, tmp_path: Path) -> None:
    shop = Shop(cluster, tmp_path)
    feed = PostgresFeed(
        "SELECT id, title, n % 10 AS created FROM post WHERE title NOT LIKE 'draft%'",
        key="id",
        tables={"public.post": "id"},
        login=shop.feed_from.login,
    )
    shop.index = SearchIndex(tmp_path / "other", fields=["title"], sorts=["created"], feed=feed)
    shop.derived = DerivedEngine(shop.engine, shop.index, feed="manual")
    shop.search = CausalStore(shop.derived, keyring=KEYS, audience="shop", policy=AT_ONCE)
    with shop.store, shop.search:
        alice = shop.store.session(subject="alice")
        fed_until(shop, alice)
        shop.write(alice, "INSERT INTO post VALUES (1, 'coffee', 42), (2, 'drafted', 1)")
        assert fed_until(shop, alice) == {"1": {"title": "coffee", "created": 2}}
        shop.write(alice, "UPDATE post SET n = 43 WHERE id = 1")
        page = mixed(alice, shop.search, shop.store, "coffee", recent=lambda _: [1], lag=ReadPolicy.eventual())
        assert [hit.document for hit in page.hits] == [{"title": "coffee", "created": 3}]
    with shop.derived.feeding() as feeding:
        assert isinstance(feeding, PostgresFeeding)
        feeding.discard()
