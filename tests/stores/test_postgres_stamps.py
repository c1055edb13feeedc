"""Dependency stamps of two clusters: causes travel with effects, whoever is gone; a cause that nobody can show any more stops nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("psycopg_pool", reason="psycopg and its pool are not installed")

from causal import CausalStore, Keyring, ReadPolicy
from causal.lab.postgres import PostgresCluster
from causal.stores.postgres import PostgresEngine, install

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = Keyring.generate()
CAUSES, EFFECTS = 0, 1


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[PostgresCluster, PostgresCluster]]:
    with PostgresCluster(1) as causes, PostgresCluster(1) as effects:
        for cluster in (causes, effects):
            install(cluster.primary.admin_dsn, ("app",))
            cluster.primary.query("CREATE TABLE t (v text)")
            cluster.primary.query("GRANT ALL ON t TO app")
            cluster.wait_caught_up()
        yield causes, effects


@pytest.fixture
def store(clusters: tuple[PostgresCluster, PostgresCluster]) -> Iterator[CausalStore[Any, Any]]:
    shards = {
        name: {"primary": cluster.primary.dsn, "replicas": [cluster.replicas[0].dsn], "index": index}
        for index, (name, cluster) in enumerate(zip(("causes", "effects"), clusters, strict=True))
    }
    engine = PostgresEngine(shards=shards, poll_s=3600.0)
    with CausalStore(engine, keyring=KEYS, audience="t", policy=ReadPolicy(wait_s=0.2)) as opened:
        yield opened
    for cluster in clusters:
        for server in cluster.servers.values():
            server.thaw()
            server.start()
            server.resume()
        cluster.wait_caught_up()


def write(session: Any, shard: str, value: str) -> None:
    with session.write(shard=shard) as connection:
        connection.execute("INSERT INTO t VALUES (%s)", (value,))


def read(session: Any, shard: str, **options: Any) -> tuple[set[str], Any]:
    with (block := session.read(shard=shard, **options)) as connection:
        found = {v for (v,) in connection.execute("SELECT v FROM t")}
    return found, block.receipt


def test_a_cause_is_demanded_of_whoever_saw_the_effect(
    store: CausalStore[Any, Any], clusters: tuple[PostgresCluster, PostgresCluster]
) -> None:
    causes, effects = clusters
    causes.replicas[0].pause()
    carol = store.session(subject="carol")
    write(carol, "causes", "question")
    write(carol, "effects", "answer")
    effects.wait_caught_up()
    bare, _ = read(store.session(), "causes", policy=ReadPolicy.eventual())
    assert "question" not in bare  # the control: who has seen no effect need not see the cause
    dave = store.session(subject="dave")
    assert "answer" in read(dave, "effects")[0]
    found, receipt = read(dave, "causes")
    assert "question" in found
    assert receipt.held


def test_so_it_is_if_the_standby_dies_before_it_could_say(
    store: CausalStore[Any, Any], clusters: tuple[PostgresCluster, PostgresCluster]
) -> None:
    causes, effects = clusters
    causes.replicas[0].pause()
    carol = store.session(subject="carol")
    write(carol, "causes", "second question")
    write(carol, "effects", "second answer")
    effects.wait_caught_up()
    store.head()
    dave = store.session(subject="dave")
    with (block := dave.read(shard="effects")) as connection:
        assert connection.execute("SELECT FROM t WHERE v = 'second answer'").fetchone() is not None
        effects.replicas[0].kill()
    assert block.receipt.endpoint == "effects/replica-1"
    found, _ = read(dave, "causes")
    assert "second question" in found


def test_a_cause_in_a_history_that_nobody_has_any_more_stops_nobody(
    store: CausalStore[Any, Any], clusters: tuple[PostgresCluster, PostgresCluster]
) -> None:
    """As after a crash that leaves it in doubt, a dump, or more lives than are kept."""
    causes, effects = clusters
    write(store.session(subject="carol"), "effects", "third answer")
    effects.primary.query("INSERT INTO causal.dependency VALUES (0, 0, 12345, 999999999999)")
    try:
        effects.wait_caught_up()
        store.head()
        dave = store.session(subject="dave")
        assert "third answer" in read(dave, "effects")[0]
        assert read(dave, "causes")[1].held
        # While a server of that shard does not answer, it may be the one that knows.
        store.session()
        causes.replicas[0].kill()
        effects.primary.query("UPDATE causal.dependency SET origin = 54321 WHERE origin = 12345")
        effects.wait_caught_up()
        erin = store.session(subject="erin")
        read(erin, "effects")
        assert erin._state.seen.offset(CAUSES, 54321) == 999999999999
    finally:
        effects.primary.query("DELETE FROM causal.dependency WHERE origin IN (12345, 54321)")
