"""The server that tests and demos start: it is there, it stalls and dies on request, and nothing of it is left."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
import valkey

from causal import ConfigError, StoreError
from causal.lab.valkey import ValkeyServer, find_server


def test_it_answers_at_both_addresses_and_leaves_nothing_behind() -> None:
    server = ValkeyServer({"maxmemory": "3mb"})
    with pytest.raises(StoreError):
        _ = server.url
    with server:
        for url in (server.url, server.tcp_url):
            with closing(valkey.Valkey.from_url(url, socket_timeout=10)) as client:
                assert client.ping()
                assert client.config_get("maxmemory") == {"maxmemory": str(3 * 2**20)}
        process, folder = server._process, Path(server.socket).parent
        assert process is not None
        assert folder.is_dir()
        server.start()  # it runs already
        assert server._process is process
    assert process.poll() is not None
    assert not folder.exists()
    server.stop()


def test_it_comes_back_empty_at_the_same_addresses() -> None:
    with ValkeyServer() as server:
        urls = server.url, server.tcp_url
        with closing(valkey.Valkey.from_url(server.tcp_url, socket_timeout=10)) as client:
            client.set("a", 1)
        server.kill()
        with (
            closing(valkey.Valkey.from_url(server.url, socket_timeout=10)) as client,
            pytest.raises(valkey.ConnectionError),
        ):
            client.ping()
        server.start()
        assert (server.url, server.tcp_url) == urls
        with closing(valkey.Valkey.from_url(server.url, socket_timeout=10)) as client:
            assert client.get("a") is None


def test_it_stalls_and_goes_on() -> None:
    with ValkeyServer() as server:
        server.pause()
        with (
            closing(valkey.Valkey.from_url(server.url, socket_timeout=0.05)) as client,
            pytest.raises(valkey.TimeoutError),
        ):
            client.ping()
        server.resume()
        with closing(valkey.Valkey.from_url(server.url, socket_timeout=10)) as client:
            assert client.ping()
        server.pause()  # and ends all the same


def test_what_does_not_start_says_why() -> None:
    with pytest.raises(StoreError, match="does not start"):
        ValkeyServer({"no-such-option": 1}).start()


def test_where_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSAL_VALKEY_SERVER", "/bin/sh")
    assert find_server() == "/bin/sh"
    monkeypatch.setenv("CAUSAL_VALKEY_SERVER", "/somewhere/else")
    with pytest.raises(ConfigError, match="no program"):
        find_server()
    monkeypatch.delenv("CAUSAL_VALKEY_SERVER")
    assert os.access(find_server(), os.X_OK)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="lab-valkey"):
        find_server()
