"""PgBouncer in transaction mode and HAProxy, on loopback, as an account without rights; a test that has neither is skipped, visibly."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from causal.lab.postgres.account import Account
from causal.lab.postgres.cluster import free_port
from tests.stores.postgres_stage import eventually


def program(name: str) -> str:
    """Where a program is; skips the test if it is nowhere."""
    found = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def _running(port: int, *command: str, folder: Path, account: Account) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **account.popen
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        eventually(answers)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _folder(account: Account, **files: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="causal-pooler-", dir="/tmp") as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text)
        account.own(folder, *folder.iterdir())
        yield folder


@contextmanager
def pgbouncer(servers: Sequence[Any], *, pool_size: int = 2, max_client_conn: int = 100) -> Iterator[dict[str, str]]:
    """PgBouncer in transaction mode in front of each server: DSNs by the servers' names. Few backends, shared by all connections."""
    path, account, port = program("pgbouncer"), Account.choose(), free_port()
    databases = "".join(
        f"{server.name} = host={Path(server.address).parent} port={server.port} dbname=app\n" for server in servers
    )
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "pool_mode": "transaction",
        "default_pool_size": pool_size,
        "min_pool_size": 0,
        "max_client_conn": max_client_conn,
        "server_reset_query": "",
        "query_wait_timeout": 10,
        "server_login_retry": 1,
    }
    with _folder(account, users='"app" ""\n') as folder:
        settings["auth_file"] = folder / "users"
        text = f"[databases]\n{databases}[pgbouncer]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items())
        (folder / "ini").write_text(text)
        account.own(folder / "ini")
        with _running(port, path, str(folder / "ini"), folder=folder, account=account):
            yield {server.name: f"host=127.0.0.1 port={port} dbname={server.name} user=app" for server in servers}


@contextmanager
def haproxy(servers: Sequence[Any]) -> Iterator[str]:
    """HAProxy that hands new connections to the servers in turn: the DSN of them all."""
    path, account, port = program("haproxy"), Account.choose(), free_port()
    lines = "".join(f"  server {server.name} unix@{server.address}\n" for server in servers)
    text = (
        "global\n  maxconn 200\ndefaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen standbys\n  bind 127.0.0.1:{port}\n  balance roundrobin\n{lines}"
    )
    with (
        _folder(account, cfg=text) as folder,
        _running(port, path, "-db", "-f", str(folder / "cfg"), folder=folder, account=account),
    ):
        yield f"host=127.0.0.1 port={port} dbname=app user=app"
