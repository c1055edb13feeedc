"""WAIT FOR LSN, which PostgreSQL 19 brings: what is ready for it, and that nobody can turn it on before it was tested."""

import pytest

pytest.importorskip("psycopg")

from causal import ConfigError
from causal.lab.postgres import PostgresCluster
from causal.stores.postgres import PostgresEngine
from causal.stores.postgres.server import Server
from causal.stores.postgres.statements import WAITS_SINCE, waiting


def test_the_statement() -> None:
    assert waiting("16/B374D848", 0.25) == b"WAIT FOR LSN '16/B374D848' WITH (TIMEOUT '250ms', NO_THROW)"
    assert waiting("0/0000001", 0.0001) == b"WAIT FOR LSN '0/1' WITH (TIMEOUT '1ms', NO_THROW)"


@pytest.mark.parametrize(
    "lsn", ["", "1", "0/1'; DROP TABLE item; --", "0/g", "0/123456789", "\u0661/1", "0/1\n", "-1/0"]
)
def test_what_is_not_an_lsn_never_reaches_a_statement(lsn: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        waiting(lsn, 1.0)


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan"), 2**31])
def test_what_is_not_a_time(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="not a time"):
        waiting("0/1", timeout_s)


def test_it_cannot_be_turned_on() -> None:
    with pytest.raises(ConfigError, match="PostgreSQL 19"):
        PostgresEngine("host=h", wait_for_lsn=True)
    PostgresEngine("host=h", wait_for_lsn=False)


def test_a_server_says_whether_it_could(causal_postgres: PostgresCluster) -> None:
    server = Server("primary", causal_postgres.primary.admin_dsn, 0)
    try:
        server.poll(5.0)
        assert server.ground is not None
        assert server.ground.version // 10_000 == causal_postgres.binaries.major
        assert server.ground.waits == (server.ground.version >= WAITS_SINCE)
        assert server.ground.waits == (causal_postgres.binaries.major >= 19)
    finally:
        server.close()
