"""Servers that refuse: each says what is wrong and what to do, and nothing ever shows a password."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from causal import ConfigError, Frontier, NoEndpoint
from causal.errors import CausalError, StoreError
from causal.stores.postgres import PoolSettings, PostgresEngine, Replica, Shard, install
from causal.stores.postgres.install import script
from tests.stores.postgres_stage import (
    PostgresCluster,
    Stores,
    engine,
    get,
    get_at,
    in_order,
    put,
    started,
    stores,
    within,
)

__all__ = ["stores"]

DEBIAN = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "correct-horse-battery"
WRONG = "incorrect-donkey-fuse"


@pytest.fixture(scope="module")
def shared() -> Iterator[PostgresCluster]:
    yield from started(replicas=1, hba=["host all all 127.0.0.1/32 scram-sha-256"], password=PASSWORD, tcp=True)


@pytest.fixture(scope="module")
def encrypted() -> Iterator[PostgresCluster]:
    """Servers that talk TLS to applications, and nothing else: the wheel's cannot."""
    if not (DEBIAN / "initdb").exists():
        pytest.skip(f"no PostgreSQL with TLS at {DEBIAN}")
    hba = ["hostssl all all 127.0.0.1/32 scram-sha-256"]
    yield from started(replicas=1, hba=hba, password=PASSWORD, ssl=True, binaries=DEBIAN)


@pytest.fixture
def cluster(shared: PostgresCluster) -> Iterator[PostgresCluster]:
    yield from in_order(shared)
    for (role,) in shared.primary.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'reader%%'"):
        shared.primary.query(f"DROP OWNED BY {role}")
        shared.primary.query(f"DROP ROLE {role}")


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that is logged shows a password."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        assert not shows_password(record.getMessage()), record.name
        assert not shows_password(repr(record.__dict__)), record.name


def shows_password(text: str) -> bool:
    return PASSWORD in text or WRONG in text


def discreet(error: BaseException) -> str:
    """What an error says, after everything it carries was searched for passwords."""
    ones: list[BaseException | None] = [error]
    for one in ones:  # causes and contexts are added underway
        if one is not None:
            ours = one.__dict__ if isinstance(one, CausalError) else ""  # the driver's errors keep their connection
            assert not shows_password(f"{one} {one!r} {one.args!r} {ours!r}"), type(one).__name__
            ones += [one.__cause__, one.__context__]
    return str(error)


def using(cluster: PostgresCluster, **changes: Any) -> PostgresEngine:
    """An engine whose every DSN is changed."""
    changed = [conninfo.make_conninfo(server.dsn, **changes) for server in cluster.servers.values()]
    return engine(cluster, primary=changed[0], replicas=changed[1:])


def refused(stores: Stores, engine: PostgresEngine) -> str:
    """What a read and a write say, each in time."""
    said = ""
    with within():
        session = stores(engine).session()
        for block in (session.read, session.write):
            with pytest.raises(CausalError) as caught, block():
                pass
            said += discreet(caught.value) + "\n"
    assert not shows_password(f"{engine} {engine!r}")
    return said


def test_a_password_that_is_right(cluster: PostgresCluster, stores: Stores) -> None:
    session = stores(using(cluster)).session()
    put(session, "a", 1)
    assert get(session, "a")[0] == 1


def test_a_wrong_password(cluster: PostgresCluster, stores: Stores) -> None:
    said = refused(stores, using(cluster, password=WRONG))
    assert said.count('password authentication failed for user "app"') >= 2, said


def test_no_password(cluster: PostgresCluster, stores: Stores) -> None:
    bare = conninfo.make_conninfo(
        "", **{k: v for k, v in conninfo.conninfo_to_dict(cluster.primary.dsn).items() if k != "password"}
    )
    assert "no password supplied" in refused(stores, PostgresEngine(bare))


def test_an_unknown_database_and_role(cluster: PostgresCluster, stores: Stores) -> None:
    assert 'database "nowhere" does not exist' in refused(stores, using(cluster, dbname="nowhere"))
    assert 'password authentication failed for user "nobody"' in refused(stores, using(cluster, user="nobody"))


def test_tls(encrypted: PostgresCluster, stores: Stores) -> None:
    for options in ({}, {"sslmode": "verify-full", "sslrootcert": str(encrypted.certificate)}):
        session = stores(using(encrypted, **options)).session()
        put(session, "a", 1)
        assert get(session, "a")[0] == 1
        with session.read() as connection:
            assert connection.pgconn.ssl_in_use


def test_tls_that_is_required_and_refused(encrypted: PostgresCluster, stores: Stores) -> None:
    said = refused(stores, using(encrypted, sslmode="disable"))
    assert said.count("no encryption") >= 2, said
    said = refused(stores, using(encrypted, sslmode="verify-full", sslrootcert="/nowhere/root.crt"))
    assert "root certificate file" in said, said


def test_tls_that_a_server_does_not_talk(cluster: PostgresCluster, stores: Stores) -> None:
    said = refused(stores, using(cluster, sslmode="require"))
    assert said.count("server does not support SSL, but SSL was required") >= 2, said


def test_a_password_that_is_changed_under_a_store(cluster: PostgresCluster, stores: Stores) -> None:
    """Connections that are there stay good; new ones are refused, and that is said."""
    store = stores(engine(cluster, pool=PoolSettings(max_size=2), timeout_s=1.0))
    put(store.session(), "a", 1)
    cluster.primary.query(f"ALTER ROLE app PASSWORD '{WRONG}'")
    try:
        with store.session().write() as connection:
            connection.execute("SELECT 1")
            with within(), pytest.raises(CausalError) as caught, store.session().write():
                pass
            discreet(caught.value)
    finally:
        cluster.primary.query(f"ALTER ROLE app PASSWORD '{PASSWORD}'")
        cluster.wait_caught_up()
    put(store.session(), "a", 2)


# --- privileges ------------------------------------------------------------------------------------------------------


def reader(cluster: PostgresCluster, name: str, *, grants: bool) -> dict[str, str]:
    cluster.primary.query(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    cluster.primary.query(f"GRANT SELECT, INSERT, UPDATE ON item TO {name}")
    if not grants:
        cluster.primary.query("REVOKE ALL ON SCHEMA causal FROM PUBLIC")
    cluster.wait_caught_up()
    return {"user": name, "password": PASSWORD}


def test_a_role_without_privileges_is_told_the_grants(cluster: PostgresCluster, stores: Stores) -> None:
    who = reader(cluster, "reader1", grants=False)
    try:
        said = refused(stores, using(cluster, **who))
        assert "permission denied for schema causal" in said
        grants = re.findall(r"GRANT [^;()\n]+ TO reader1", said)
        assert "GRANT USAGE ON SCHEMA causal TO reader1" in grants
        for grant in grants:  # what it says is what it takes
            cluster.primary.query(grant)
        cluster.wait_caught_up()
        session = stores(using(cluster, **who)).session()
        put(session, "a", 1)
        assert get(session, "a")[0] == 1
    finally:
        cluster.primary.query(script())


def test_a_role_that_install_names_needs_no_more(cluster: PostgresCluster, stores: Stores) -> None:
    who = reader(cluster, "reader2", grants=False)
    try:
        install(cluster.primary.admin_dsn, ("reader2",))
        cluster.wait_caught_up()
        session = stores(using(cluster, **who)).session()
        put(session, "a", 1)
        assert get(session, "a")[0] == 1
    finally:
        cluster.primary.query(script())


def test_where_nothing_is_installed_pg_monitor_is_asked_for(cluster: PostgresCluster, stores: Stores) -> None:
    cluster.primary.query("CREATE DATABASE plain OWNER app")
    cluster.wait_caught_up()
    try:
        with psycopg.connect(conninfo.make_conninfo(cluster.primary.dsn, dbname="plain")) as connection:
            connection.execute("CREATE TABLE item (key text PRIMARY KEY, n int)")
        cluster.wait_caught_up()
        standbys = [conninfo.make_conninfo(one.dsn, dbname="plain") for one in cluster.replicas]
        with within(), pytest.raises(NoEndpoint) as caught:
            get(stores(PostgresEngine(standbys[0])).session(), "a")
        said = discreet(caught.value)
        assert "run `causal postgres install` at the primary" in said
        assert "GRANT pg_monitor TO app" in said
        cluster.primary.query("GRANT pg_monitor TO app")
        cluster.wait_caught_up()
        store = stores(using(cluster, dbname="plain"))
        session = store.session()
        put(session, "a", 1)
        cluster.wait_caught_up()
        store.head()
        assert get_at(session, "a", "replica-1") == 1
    finally:
        cluster.primary.query("REVOKE pg_monitor FROM app")
        cluster.primary.query("DROP DATABASE plain WITH (FORCE)")


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        f"postgresql://app:{PASSWORD}@[::1",
        f"host=h password={PASSWORD} nonsense=1",
        f"password='{PASSWORD}",
        f"postgresql://app:{PASSWORD}@host:port:5432/x?nonsense=%zz",
        f"{PASSWORD}",
    ],
)
def test_a_dsn_that_cannot_be_read_is_not_shown(bad: str) -> None:
    for make in (
        lambda: PostgresEngine(bad),
        lambda: PostgresEngine("host=h", [bad]),
        lambda: PostgresEngine("host=h", {"near": Replica(bad)}),
        lambda: PostgresEngine(shards={"main": {"primary": bad}}),
    ):
        with pytest.raises(ConfigError, match=r"the DSN of .* cannot be read") as caught:
            make()
        discreet(caught.value)


def test_nothing_that_is_configured_shows_a_password() -> None:
    dsn = f"postgresql://app:{PASSWORD}@localhost/app"
    replica = Replica(dsn, "near")
    shard = Shard(dsn, {"near": replica})
    made = PostgresEngine(shards={"main": shard})
    link = made.open()
    try:
        settings = made._settings(0)
        server = link._servers.by_name["primary"]
        for one in (
            made,
            replica,
            shard,
            link,
            settings,
            settings.members,
            server,
            PoolSettings(kwargs={"password": PASSWORD}),
        ):
            assert not shows_password(f"{one} {one!r}"), type(one).__name__
    finally:
        link.close()
    for wrong in ({"shards": {"main": {"primary": dsn, "replica": [dsn]}}}, {"primary": dsn, "replicas": dsn}):
        with pytest.raises(ConfigError) as caught:
            PostgresEngine(**wrong)
        discreet(caught.value)


def test_install_names_what_is_missing(cluster: PostgresCluster) -> None:
    for dsn in (conninfo.make_conninfo(cluster.primary.dsn, password=WRONG), "host=/nowhere " + f"password={WRONG}"):
        with pytest.raises(StoreError, match="cannot install") as caught:
            install(dsn)
        discreet(caught.value)
    with pytest.raises(ConfigError, match="GRANT pg_monitor TO"):
        install(cluster.primary.dsn)
    with pytest.raises(ConfigError, match="this is a standby"):
        install(cluster.replicas[0].admin_dsn)


def test_a_shard_that_an_endpoint_does_not_hold_is_refused() -> None:
    with_two = PostgresEngine(
        shards={"main": {"primary": "host=/nowhere"}, "orders": {"primary": "host=/nowhere"}}, poll_s=3600.0
    )
    link = with_two.open(3)
    try:
        for shard in (3 << 16 | 1, 3 << 16 | 9, 0):
            with pytest.raises(ConfigError, match="main/primary holds shard"):
                link.read("main/primary", (shard,))
            with pytest.raises(ConfigError, match="main/primary holds shard"):
                link.write("main/primary", shard, Frontier())
    finally:
        link.close()
