"""Behind PgBouncer in transaction mode, and behind a balancer that hides which standby answers: own writes are always there."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from causal import ReadPolicy
from causal.errors import CausalError, CommitUnknown, Unreachable
from causal.stores.postgres import PoolSettings
from tests.stores.poolers import haproxy, pgbouncer
from tests.stores.postgres_stage import (
    PostgresCluster,
    Stores,
    bare,
    engine,
    eventually,
    fail,
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

THREADS = 4
ROUNDS = 25


@pytest.fixture(scope="module")
def shared() -> Iterator[PostgresCluster]:
    yield from started(replicas=2)


@pytest.fixture
def cluster(shared: PostgresCluster) -> Iterator[PostgresCluster]:
    yield from in_order(shared)


@pytest.fixture(scope="module")
def pooled(shared: PostgresCluster) -> Iterator[dict[str, str]]:
    with pgbouncer(list(shared.servers.values())) as dsns:
        yield dsns


@pytest.fixture
def bouncer(cluster: PostgresCluster, pooled: dict[str, str]) -> dict[str, str]:
    """Where PgBouncer lets everybody in: it does not for a while after a server was down, as a test before may have had it."""
    for dsn in pooled.values():
        eventually(lambda dsn=dsn: connects(dsn))
    return pooled


def connects(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def balancer(shared: PostgresCluster) -> Iterator[str]:
    with haproxy(shared.replicas) as dsn:
        yield dsn


def behind(cluster: PostgresCluster, bouncer: dict[str, str], **settings: Any) -> Any:
    standbys = [bouncer[replica.name] for replica in cluster.replicas]
    return engine(cluster, primary=bouncer["primary"], replicas=standbys, timeout_s=5.0, **settings)


def balanced(cluster: PostgresCluster, balancer: str, **settings: Any) -> Any:
    return engine(cluster, replicas={"standbys": balancer}, timeout_s=5.0, **settings)


def written(session: Any, key: str, n: int) -> bool:
    """Write, if anybody takes it."""
    try:
        put(session, key, n)
    except CausalError:
        return False
    return True


def in_threads(stores: Stores, store: Any, work: Callable[[Any, int], None]) -> None:
    """Do this in several threads, each with the store for itself."""
    found: list[BaseException] = []

    def run(one: Any, nth: int) -> None:
        try:
            work(one, nth)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            found.append(error)

    threads = [threading.Thread(target=run, args=(stores.beside(store), nth)) for nth in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if found:
        raise found[0]


def stale_reads(stores: Stores, store: Any, policy: ReadPolicy | None = None) -> tuple[int, set[str]]:
    """How many reads miss their session's own last write, under load, and which endpoints served."""
    stale: list[str] = []
    served: set[str] = set()

    def work(one: Any, nth: int) -> None:
        session = one.session()
        for n in range(ROUNDS):
            put(session, f"{nth}", n)
            shown, receipt = get(session, f"{nth}", policy=policy)
            served.add(receipt.endpoint)
            if shown != n:
                stale.append(f"{nth} showed {shown} after {n} was written")

    with within(120):
        in_threads(stores, store, work)
    return len(stale), served


# --- PgBouncer -------------------------------------------------------------------------------------------------------


def test_reads_and_writes_through_pgbouncer(cluster: PostgresCluster, bouncer: dict[str, str], stores: Stores) -> None:
    for isolation in ("read committed", "repeatable read"):
        session = stores(behind(cluster, bouncer, isolation=isolation)).session()
        for n in range(12):  # more often than the driver needs to prepare a statement
            put(session, "a", n)
            cluster.wait_caught_up()
            assert get_at(session, "a", "replica-1") == n
        with session.read() as connection:
            assert connection.execute("SHOW transaction_isolation").fetchone() == (isolation,)
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        with pytest.raises(ZeroDivisionError):
            inside(session.write(), "UPDATE item SET n = 100", fail)
        assert get(session, "a")[0] == 11


def test_nothing_of_ours_is_prepared_at_a_poolers_backends(
    cluster: PostgresCluster, bouncer: dict[str, str], stores: Stores
) -> None:
    session = stores(behind(cluster, bouncer)).session()
    with session.read() as connection:
        prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '%causal%' OR name LIKE '%pg3%'"
        for _ in range(7):
            assert connection.execute(prepared).fetchone() == (0,)
        assert connection.execute("SELECT pg_backend_pid()").fetchone() != (connection.info.backend_pid,)
        assert connection.prepare_threshold is None
    chosen = PoolSettings(kwargs={"prepare_threshold": 1000})
    with stores(behind(cluster, bouncer, pool=chosen)).session().read() as connection:
        assert connection.prepare_threshold == 1000
    with stores(engine(cluster)).session().read() as connection:
        assert connection.prepare_threshold == 5


def test_positions_through_pgbouncer_are_the_servers(
    cluster: PostgresCluster, bouncer: dict[str, str], stores: Stores
) -> None:
    through, straight = stores(behind(cluster, bouncer)), stores(engine(cluster))
    session = through.session()
    put(session, "a", 1)
    assert straight.head() >= session._state.joined.exact  # the same origin, and no further
    for replica in cluster.replicas:
        replica.pause()
    put(session, "a", 2)
    other = straight.session(session.token())
    n, receipt = get(other, "a")
    assert (n, receipt.endpoint) == (2, "primary")
    with psycopg.connect(bouncer["primary"], autocommit=True) as connection:
        connection.execute("UPDATE item SET n = 3", prepare=False)
        if stores.kind == "sync":
            other.join(through.position(connection))
    if stores.kind == "async":
        other.join(through.head())
    assert get(through.session(other.token()), "a")[0] == 3


def test_own_writes_are_there_through_pgbouncer_under_load(
    cluster: PostgresCluster, bouncer: dict[str, str], stores: Stores
) -> None:
    cluster.replicas[0].pause()
    stale, served = stale_reads(stores, stores(behind(cluster, bouncer)))
    assert stale == 0
    assert served - {"replica-1"}
    stale, _ = stale_reads(stores, stores(behind(cluster, bouncer)), ReadPolicy.eventual())
    assert stale > 0  # CONTROL: without the gate, the paused standby shows what it has


def test_a_pooler_that_changes_the_server_behind_a_name(
    cluster: PostgresCluster, bouncer: dict[str, str], stores: Stores
) -> None:
    """Each block is checked by the server that it meets: a restart between two blocks on one connection is noticed."""
    store = stores(behind(cluster, bouncer, pool=PoolSettings(max_size=1)))
    session = store.session()
    put(session, "a", 1)
    cluster.wait_caught_up()
    assert get_at(session, "a", "replica-1") == 1
    cluster.replicas[0].stop()
    cluster.replicas[0].start()
    put(session, "a", 2)
    with within():
        assert get(session, "a")[0] == 2
    cluster.wait_caught_up()
    store.head()
    assert get(session, "a")[0] == 2


def test_a_server_that_dies_behind_pgbouncer_ended_the_block_and_the_next_one_serves(
    cluster: PostgresCluster, bouncer: dict[str, str], stores: Stores
) -> None:
    """It is PgBouncer that says so, as a violation of the protocol, which is no error of the block's statement."""
    session = stores(behind(cluster, bouncer)).session()
    eventually(lambda: written(session, "a", 1))  # PgBouncer lets nobody in for a while after a server was down
    get_at(session, "a", "replica-1")
    with pytest.raises(Unreachable, match="replica-1 ended this block"):
        inside(session.read(), lambda _: cluster.replicas[0].kill(), "SELECT n FROM item")
    assert get(session, "a")[0] == 1
    with pytest.raises(psycopg.OperationalError):  # what a write block's statement meets is the caller's
        inside(session.write(), "UPDATE item SET n = 2", lambda _: cluster.primary.kill(), "UPDATE item SET n = 3")
    cluster.primary.start()
    assert bare(cluster.primary, "SELECT n FROM item") == [(1,)]
    eventually(lambda: written(session, "b", 1))
    with pytest.raises(CommitUnknown):
        inside(session.write(), "UPDATE item SET n = 4", lambda _: cluster.primary.kill())


# --- a balancer ------------------------------------------------------------------------------------------------------


def test_both_standbys_behind_a_balancer_serve(cluster: PostgresCluster, balancer: str, stores: Stores) -> None:
    store = stores(balanced(cluster, balancer))
    session = store.session()
    put(session, "a", 1)
    cluster.wait_caught_up()
    names: set[str] = set()
    held = [store.session().read() for _ in range(6)]
    opened = [block.__enter__() for block in held]  # at once: the pool has to make several connections
    for block in held:
        block.__exit__(None, None, None)
    del opened
    for _ in range(20):
        with (block := session.read()) as connection:
            assert connection.execute("SELECT n FROM item").fetchone() == (1,)
            names.add(connection.execute("SHOW cluster_name").fetchone()[0])
        assert block.receipt.endpoint == "standbys"
    assert names == {"replica-1", "replica-2"}


def test_own_writes_are_there_through_a_balancer_with_one_standby_paused(
    cluster: PostgresCluster, balancer: str, stores: Stores
) -> None:
    cluster.replicas[0].pause()
    stale, _ = stale_reads(stores, stores(balanced(cluster, balancer)))
    assert stale == 0
    stale, _ = stale_reads(stores, stores(balanced(cluster, balancer)), ReadPolicy.eventual())
    assert stale > 0  # CONTROL: without the gate, every other connection is to the paused standby


def test_what_a_session_has_seen_stays_seen_behind_a_balancer(
    cluster: PostgresCluster, balancer: str, stores: Stores
) -> None:
    store = stores(balanced(cluster, balancer))
    writer = store.session()
    put(writer, "a", 0)
    cluster.wait_caught_up()
    cluster.replicas[1].pause()
    session = store.session()
    last = -1
    for n in range(30):
        put(writer, "a", n)
        if n % 10 == 5:
            cluster.replicas[0].pause()
            cluster.replicas[1].resume()
        elif n % 10 == 0:
            cluster.replicas[0].resume()
            cluster.replicas[1].pause()
        shown = get(session, "a")[0]
        assert shown >= last
        last = shown


def test_pools_survive_a_standby_that_goes_and_comes_behind_a_balancer(
    cluster: PostgresCluster, balancer: str, stores: Stores
) -> None:
    store = stores(balanced(cluster, balancer))
    session = store.session()
    put(session, "a", 0)
    cluster.wait_caught_up()
    for n in range(1, 4):
        put(session, "a", n)
        assert get(session, "a")[0] == n
        cluster.replicas[n % 2].stop()
        with within():
            put(session, "a", -n)
            assert get(session, "a")[0] == -n
        cluster.replicas[n % 2].start()
    cluster.wait_caught_up()
    store.head()
    assert get(session, "a")[0] == -3
