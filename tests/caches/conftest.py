"""A real Valkey server, started once for the tests that one worker runs, empty at the beginning of each."""

from collections.abc import Iterator

import pytest

from causal.lab.valkey import ValkeyServer


@pytest.fixture(scope="session")
def _valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def server(_valkey: ValkeyServer) -> ValkeyServer:
    import valkey

    client = valkey.Valkey.from_url(_valkey.url, socket_timeout=10)
    client.flushall()
    client.script_flush()
    client.close()
    return _valkey
