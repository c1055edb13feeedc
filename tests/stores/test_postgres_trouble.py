"""Servers that stop, fall behind, cancel, hang or run out of connections: the next endpoint, or an error that says what is wrong."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from causal import GateTimeout, NoEndpoint, Overloaded, ReadPolicy
from causal.errors import StoreError, Unreachable
from causal.lab.postgres import Proxy
from causal.stores.postgres import PoolSettings
from causal.stores.postgres.blocks import conflict
from tests.stores.postgres_stage import (
    PostgresCluster,
    Stores,
    engine,
    eventually,
    get,
    get_at,
    in_order,
    inside,
    put,
    started,
    stores,
    within,
)

__all__ = ["stores"]


@pytest.fixture(scope="module")
def shared() -> Iterator[PostgresCluster]:
    yield from started(replicas=2)


@pytest.fixture
def cluster(shared: PostgresCluster) -> Iterator[PostgresCluster]:
    yield from in_order(shared)


class Proxied:
    """A cluster whose servers are all behind proxies."""

    def __init__(self, cluster: PostgresCluster, stack: ExitStack) -> None:
        self.primary, *self.replicas = (
            stack.enter_context(Proxy(server)) for server in (cluster.primary, *cluster.replicas)
        )

    def engine(self, cluster: PostgresCluster, **settings: Any) -> Any:
        given = {"timeout_s": 1.0, **settings}
        return engine(cluster, primary=self.primary.dsn, replicas=[proxy.dsn for proxy in self.replicas], **given)


@pytest.fixture
def proxied(cluster: PostgresCluster) -> Iterator[Proxied]:
    with ExitStack() as stack:
        yield Proxied(cluster, stack)


# --- servers that are not there --------------------------------------------------------------------------------------


def test_a_standby_that_stops_is_gone_round(cluster: PostgresCluster, stores: Stores) -> None:
    store = stores(engine(cluster))
    session = store.session()
    put(session, "a", 1)
    cluster.wait_caught_up()
    assert get_at(session, "a", "replica-1") == 1
    cluster.replicas[0].stop()
    with within():
        assert get_at(session, "a", "replica-2") == 1
        cluster.replicas[1].stop()
        n, receipt = get(session, "a")
        assert (n, receipt.endpoint) == (1, "primary")
    cluster.replicas[0].start()
    store.head()  # asks everyone
    assert get_at(session, "a", "replica-1") == 1


def test_a_store_opens_while_servers_are_down(cluster: PostgresCluster, stores: Stores) -> None:
    cluster.replicas[0].stop()
    with within():
        session = stores(engine(cluster)).session()
        put(session, "a", 1)
        assert get(session, "a")[0] == 1


def test_nobody_is_there(cluster: PostgresCluster, stores: Stores) -> None:
    session = stores(engine(cluster)).session()
    put(session, "a", 1)
    for server in cluster.servers.values():
        server.stop("immediate")
    with within(), pytest.raises(NoEndpoint) as caught:
        get(session, "a")
    said = dict(caught.value.considered)
    assert set(said) == {"replica-1", "replica-2", "primary"}
    assert all("No such file" in why or "connection" in why for why in said.values()), said
    with within(), pytest.raises((NoEndpoint, StoreError)):
        put(session, "a", 2)


def test_replay_that_is_paused(cluster: PostgresCluster, stores: Stores) -> None:
    session = stores(engine(cluster)).session()
    for replica in cluster.replicas:
        replica.pause()
    put(session, "a", 1)
    n, receipt = get(session, "a")
    assert (n, receipt.endpoint) == (1, "primary")

    def refused() -> str:
        with pytest.raises(GateTimeout) as caught:
            get(session, "a", policy=ReadPolicy(0.05, then="error"))
        return str(caught.value)

    with within():
        eventually(lambda: "replica-1: BEHIND" in refused())  # it may not answer in so short a time
    n, receipt = get(session, "a", policy=ReadPolicy.eventual())
    assert (n, receipt.held) == (None, False)


# --- recovery conflicts ----------------------------------------------------------------------------------------------

SLOW = "SELECT count(*), pg_sleep(20) FROM item, item AS other"


@contextmanager
def conflicting(cluster: PostgresCluster) -> Iterator[None]:
    """As soon as a statement runs at the first standby that reads for long, remove what it reads."""
    replica = cluster.replicas[0]
    replica.configure(max_standby_streaming_delay=0)
    with psycopg.connect(cluster.primary.dsn) as connection:
        connection.execute("INSERT INTO item SELECT n::text, n FROM generate_series(1, 1000) n")
    cluster.wait_caught_up()

    def remove() -> None:
        eventually(
            lambda: replica.query(
                "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%pg_sleep(20)%%'"
                " AND pid <> pg_backend_pid()"
            )
        )
        cluster.primary.query("DELETE FROM item WHERE n < 1000")
        cluster.primary.query("VACUUM item")

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_a_conflict_with_recovery_ends_a_block_and_says_so(
    cluster: PostgresCluster, stores: Stores, isolation: str
) -> None:
    session = stores(engine(cluster, isolation=isolation)).session()
    get_at(session, "a", "replica-1")
    with conflicting(cluster), within():
        with pytest.raises(Unreachable, match=r"replica-1 ended this block: .*conflict with recovery") as caught:
            inside(session.read(), SLOW)
        assert isinstance(caught.value.__cause__, psycopg.Error)


def test_a_conflict_with_recovery_is_run_again_elsewhere(cluster: PostgresCluster, stores: Stores) -> None:
    session = stores(engine(cluster)).session()
    get_at(session, "a", "replica-1")
    slowly_there = (
        f"SELECT CASE WHEN current_setting('cluster_name') = 'replica-1' THEN ({SLOW.replace(', pg_sleep(20)', '')}"
        " WHERE pg_sleep(20) IS NOT NULL) ELSE -1 END, current_setting('cluster_name')"
    )
    with conflicting(cluster), within():
        ((n, where),) = stores.run_read(session, slowly_there)
    assert (n, where) == (-1, "replica-2")


def test_a_conflict_is_known_in_any_language() -> None:
    said = psycopg.errors.SerializationFailure("annulation de la requête à cause d'un conflit avec la restauration")
    assert conflict(said, standby=True)
    assert conflict(said, standby=False) is None  # at a primary it is the transaction's own
    assert conflict(psycopg.errors.QueryCanceled("canceling statement due to statement timeout"), standby=True) is None
    assert conflict(psycopg.errors.DeadlockDetected("deadlock detected"), standby=True) is None
    assert conflict(psycopg.errors.DeadlockDetected("canceling statement due to conflict with recovery"), standby=True)


def test_a_dropped_table_ends_an_idle_block(cluster: PostgresCluster, stores: Stores) -> None:
    """An idle transaction that holds a lock is not cancelled but terminated."""
    cluster.replicas[0].configure(max_standby_streaming_delay=0)
    with psycopg.connect(cluster.primary.dsn) as connection:
        connection.execute("CREATE TABLE part (n int)")
    cluster.wait_caught_up()
    session = stores(engine(cluster)).session()

    def drop(_: Any) -> None:
        cluster.primary.query("DROP TABLE part")
        cluster.wait_caught_up()

    get_at(session, "a", "replica-1")
    with within(), pytest.raises(Unreachable, match="replica-1 ended this block"):
        inside(session.read(), "SELECT * FROM part", drop, "SELECT 1")
    put(session, "a", 1)
    assert get(session, "a")[0] == 1


def test_a_server_that_shuts_down_under_a_block(cluster: PostgresCluster, stores: Stores) -> None:
    session = stores(engine(cluster)).session()
    get_at(session, "a", "replica-1")
    with within(), pytest.raises(Unreachable, match="replica-1 ended this block"):
        inside(session.read(), "SELECT 1", lambda _: cluster.replicas[0].stop(), "SELECT 1")
    receipt = get(session, "a")[1]
    assert receipt.endpoint != "replica-1"
    assert receipt.held
    assert receipt.demand  # the leader's head, which covers whatever the block may have shown


def test_a_statement_timeout_is_the_users_own(cluster: PostgresCluster, stores: Stores) -> None:
    store = stores(engine(cluster))
    session = store.session()
    for _ in range(2):
        with within(), pytest.raises(psycopg.errors.QueryCanceled):
            inside(session.read(), "SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(20)")
    assert get_at(session, "a", "replica-1") is None
    assert store._state.view.of("replica-1").down is None
    with within(), pytest.raises(psycopg.errors.QueryCanceled):
        stores.run_read(session, "SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(20)")


def test_a_roles_statement_timeout_spares_the_checks(cluster: PostgresCluster, stores: Stores) -> None:
    cluster.primary.query(
        "ALTER ROLE app SET statement_timeout = '2s'"
    )  # enough for what is quick, on a busy machine too
    cluster.wait_caught_up()
    session = stores(engine(cluster)).session()
    put(session, "a", 1)
    assert get(session, "a")[0] == 1
    with pytest.raises(psycopg.errors.QueryCanceled), session.write() as connection:
        connection.execute("SELECT pg_sleep(20)")


# --- pools -----------------------------------------------------------------------------------------------------------


def test_an_exhausted_pool_is_gone_round_then_refused_in_time(cluster: PostgresCluster, stores: Stores) -> None:
    store = stores(engine(cluster, pool=PoolSettings(max_size=1), timeout_s=1.0))
    with (first := store.session().read()) as one:
        with (second := store.session().read()) as two:
            with (third := store.session().read()):
                with within(), pytest.raises((NoEndpoint, Overloaded)) as caught:
                    get(store.session(), "a")
                assert "no connection was free in time" in str(caught.value)
                assert "max_size" in str(caught.value)
                with within(), pytest.raises((NoEndpoint, StoreError), match="max_size"):
                    put(store.session(), "a", 1)
            assert two.execute("SELECT 1").fetchone() == (1,)
        assert sorted(block.receipt.endpoint for block in (first, second, third)) == [
            "primary",
            "replica-1",
            "replica-2",
        ]
        assert one.execute("SELECT 1").fetchone() == (1,)
    eventually(lambda: store.head() and get(store.session(), "a")[1].endpoint == "replica-1")


def test_a_pool_with_a_limit_on_who_waits(cluster: PostgresCluster, stores: Stores) -> None:
    store = stores(engine(cluster, replicas=[], pool=PoolSettings(max_size=1, max_waiting=1), timeout_s=5.0))
    found: list[BaseException] = []

    def wait() -> None:
        try:
            put(stores.beside(store).session(), "a", 1)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            found.append(error)

    with store.session().read():
        threads = [threading.Thread(target=wait) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: found)  # the second of them, at once
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert "too many blocks wait for a connection already" in str(found[0])
    assert get(store.session(), "a")[0] == 1


def test_a_pool_does_not_wait_longer_each_time_for_a_server_that_is_away(cluster: PostgresCluster) -> None:
    """Whoever asks next makes it try again; nothing is left pending that would keep others waiting after the server's return."""
    link = engine(cluster, timeout_s=1.0).open()
    try:
        link.probe("replica-1", 5.0)
        cluster.replicas[0].stop()
        for _ in range(2):
            with within(), pytest.raises(Unreachable):
                link.read("replica-1", [0])
        eventually(lambda: link._pools["replica-1"]._pool.get_stats()["pool_size"] == 0, 15)
    finally:
        link.close()


# --- networks that hang ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("open_before", [True, False])
def test_a_standby_behind_a_network_that_hangs(
    cluster: PostgresCluster, proxied: Proxied, stores: Stores, open_before: bool
) -> None:
    if not open_before:
        proxied.replicas[0].hang()
    with within():
        store = stores(proxied.engine(cluster))
        session = store.session()
        put(session, "a", 1)
        if open_before:
            get_at(session, "a", "replica-1")
            proxied.replicas[0].hang()
        for _ in range(3):
            n, receipt = get(session, "a")
            assert n == 1
            assert receipt.endpoint != "replica-1"
    proxied.replicas[0].resume()
    eventually(lambda: store.head() and get(session, "a")[1].endpoint == "replica-1")


@pytest.mark.parametrize("open_before", [True, False])
def test_a_primary_behind_a_network_that_hangs(
    cluster: PostgresCluster, proxied: Proxied, stores: Stores, open_before: bool
) -> None:
    put_here = psycopg.connect(cluster.primary.dsn)
    with put_here:
        put_here.execute("INSERT INTO item VALUES ('a', 1)")
    cluster.wait_caught_up()
    if not open_before:
        proxied.primary.hang()
    with within():
        session = stores(proxied.engine(cluster)).session()
        if open_before:
            assert get(session, "a")[0] == 1
            proxied.primary.hang()
            assert get(session, "a")[1].endpoint in {"replica-1", "replica-2"}
        else:
            with pytest.raises(NoEndpoint, match="primary: no answer in time"):  # nobody shows how stale a standby is
                get(session, "a")
        assert get(session, "a", policy=ReadPolicy(unproven="serve"))[1].endpoint in {"replica-1", "replica-2"}
        with pytest.raises((NoEndpoint, StoreError)) as caught:
            put(session, "a", 2)
        assert "primary" in str(caught.value)
    proxied.primary.resume()
    put(session, "a", 3)
    assert get(session, "a")[0] == 3


@pytest.mark.parametrize("frozen", ["replica-1", "primary"])
def test_a_frozen_server(cluster: PostgresCluster, stores: Stores, frozen: str) -> None:
    store = stores(engine(cluster, timeout_s=1.0))
    session = store.session()
    put(session, "a", 1)
    cluster.wait_caught_up()
    assert get_at(session, "a", "replica-1") == 1
    cluster.servers[frozen].freeze()
    with within():
        for one in (session, store.session()):
            n, receipt = get(one, "a")
            assert n == 1
            assert receipt.endpoint != frozen
        if frozen == "primary":
            with pytest.raises((NoEndpoint, StoreError)):
                put(session, "a", 2)
    cluster.servers[frozen].thaw()
    put(session, "a", 3)
    assert get(session, "a")[0] == 3


def test_a_probe_is_bounded(cluster: PostgresCluster, proxied: Proxied) -> None:
    link = proxied.engine(cluster).open()
    try:
        link.probe("replica-1", 5.0)
        proxied.replicas[0].hang()
        for _ in range(2):  # on a connection that is there, and on a new one
            began = time.monotonic()
            with pytest.raises(Unreachable, match="no answer in time"):
                link.probe("replica-1", 0.1)
            assert time.monotonic() - began < 10
    finally:
        link.close()


def test_connections_that_were_cut_are_replaced(cluster: PostgresCluster, proxied: Proxied, stores: Stores) -> None:
    store = stores(proxied.engine(cluster))
    session = store.session()
    put(session, "a", 1)
    get_at(session, "a", "replica-1")
    proxies = (proxied.primary, *proxied.replicas)
    for proxy in proxies:
        proxy.drop()
    with within():
        assert get(session, "a")[0] == 1
        put(session, "a", 2)
        assert get(session, "a")[0] == 2
    with within(), pytest.raises(Unreachable, match="ended this block"):
        inside(session.read(), "SELECT 1", lambda _: [proxy.drop() for proxy in proxies], "SELECT 1")
    assert get(session, "a")[0] == 2
