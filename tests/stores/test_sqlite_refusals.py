"""What a user of the store hears when a write cannot begin, or a store cannot be opened: once, with the reason and what to do."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from causal.async_store import AsyncCausalStore
from causal.controls import Lag
from causal.core.frontier import Frontier
from causal.core.keyring import Keyring
from causal.core.receipt import Receipt
from causal.errors import ConfigError, StoreError, Unreachable
from causal.store import CausalStore
from causal.stores.memory import MemoryEngine
from causal.stores.memory import link as memory_link
from causal.stores.sqlite import SQLiteEngine
from causal.stores.sqlite.files import schema
from causal.stores.sqlite.files.directory import Directory
from tests.stores.sqlite_world import World, world

__all__ = ["world"]


class Ticking:
    """A monotonic clock on which every reading takes 10 ms."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def refused(receipts: list[Receipt]) -> None:
    last = receipts[-1]
    assert (last.how, last.refused, last.endpoint, last.attempts) == ("refused", "Unreachable", None, 1)
    assert last.waited_s > 0


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_a_second_write_block_waits_once(world: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """And is no reason to read elsewhere."""
    monkeypatch.setattr(schema, "BUSY_S", 0.0)
    monkeypatch.setattr(memory_link, "BUSY_S", 0.0)
    receipts: list[Receipt] = []
    engine: Any = world.engine("eu") if kind == "sqlite" else MemoryEngine(["eu"])
    settings: Any = {"keyring": Keyring.generate(), "audience": "shop", "on_receipt": receipts.append}
    with CausalStore(engine, monotonic=Ticking(), **settings) as store:
        with store.session(subject="alice").write() as tx:
            tx.put("k", 1)
            second = store.session(subject="bob").write()
            with pytest.raises(Unreachable, match="another write block has") as caught:
                second.__enter__()
            assert caught.value.retryable
            assert not isinstance(caught.value, TimeoutError)
            refused(receipts)
            assert second.receipt == receipts[-1]
            with store.session(subject="bob").read() as db:
                assert db.get("k") is None
        with store.session(subject="bob").write() as tx:
            assert tx.get("k") == 1


def test_an_asynchronous_write_block_waits_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.0)
    receipts: list[Receipt] = []

    async def main() -> None:
        store = AsyncCausalStore(
            world.engine("eu"),
            keyring=Keyring.generate(),
            audience="shop",
            on_receipt=receipts.append,
            monotonic=Ticking(),
        )
        async with store.session(subject="alice").write() as tx:
            tx.put("k", 1)
            with pytest.raises(Unreachable, match="another write block has held"):
                await store.session(subject="bob").write().__aenter__()
            refused(receipts)
        await store.close()

    asyncio.run(main())


def test_what_another_process_holds_is_waited_for_in_the_same_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was spent on waiting for this process's own blocks is not there any more; the next block has its own time again."""
    world.open("eu")
    world.put("eu", "k", 1)
    timeouts: list[int] = []
    real = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE":
                timeouts.append(super().execute("PRAGMA busy_timeout").fetchone()[0])
            return super().execute(sql, *values)

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, factory=Connection, **k))
    file = world.links["eu"].directory.file("eu", 0)
    file._writers["full"].pop().close()
    assert file.try_lock()
    file.end_write(file.begin_locked(left_s=1.25))
    file.end_write(file.begin_write())
    assert file.try_lock()
    file.end_write(file.begin_locked(left_s=-1.0))
    assert timeouts == [1250, 5000, 0]


HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("ready", flush=True)
sys.stdin.read()
"""


def test_another_processs_write_block_is_named_as_such(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.0)
    world.open("eu")
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(world.path / "eu.sqlite")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(
            Unreachable, match=r"eu\.sqlite is locked: another write block has held it for more than 0 s"
        ):
            world.links["eu"].write("eu", 0, Frontier())
        other.communicate("")
    assert world.put("eu", "k", 1).position is not None


def test_a_write_at_a_site_that_has_left_says_so(world: World) -> None:
    keys = Keyring.generate()
    eu, us = (CausalStore(world.engine(site), keyring=keys, audience="shop") for site in ("eu", "us"))
    with us, eu:
        alice = eu.session(subject="alice")
        with alice.write() as tx:
            tx.put("k", 1)
        world.engines["us"].leave("eu")
        says = "eu has left .* and takes no writes; close it and open it again, and it joins again"
        with pytest.raises(Unreachable, match=says):  # heard from its file
            alice.write().__enter__()
        link: Any = eu._link()
        link.refresh()
        assert "eu" not in [e.name for e in link.endpoints]
        eu.head()  # by now the gate knows of eu no more
        for _ in range(2):
            with pytest.raises(Unreachable, match=says):  # heard from the registry
                alice.write().__enter__()
        with alice.read() as db:
            assert db.get("k") == 1
        eu.close()
        with alice.write() as tx:
            tx.put("k", 2)


# --- opening -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cluster.lock", "eu.open", "eu.replicator"])
def test_a_lock_that_is_a_directory_is_refused_and_nothing_stays_open(world: World, name: str) -> None:
    world.open("us")
    world.close()
    lock = world.path / name
    lock.unlink(missing_ok=True)
    lock.mkdir()
    with pytest.raises(StoreError, match=rf"{name} cannot be used as a lock: Is a directory.*remove what is there"):
        world.engine("eu", replicate="thread").open()
    assert not Directory._open
    lock.rmdir()
    world.open("eu", replicate="thread")
    assert world.put("eu", "k", 1).position is not None


@pytest.mark.parametrize("directory", ["/tmp/a\0b", Path("a\0b"), b"/tmp/a", None, 3])
def test_what_is_no_path_is_refused_where_it_is_given(directory: Any) -> None:
    with pytest.raises(ConfigError, match="a directory is a path"):
        SQLiteEngine(directory, site="eu")


@pytest.mark.parametrize(
    "setting",
    [
        {"lag_s": "soon"},
        {"lag_s": None},
        {"lag_s": -1},
        {"lag_s": [1]},
        {"rtt_s": "50ms"},
        {"rtt_s": {"us": None}},
        {"rtt_s": float("nan")},
        {"rtt_s": float("inf")},
        {"rtt_s": -1},
        {"site": 5},
        {"site": None},
        {"shards": [5]},
    ],
)
def test_a_setting_of_another_kind_is_refused_where_it_is_given(tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SQLiteEngine(tmp_path, **{"site": "eu", **setting})


def test_a_lag_may_be_given_as_text(world: World) -> None:
    assert Lag.of("50ms") == Lag.of(0.05) == Lag.of(Lag(0.05)) == Lag(0.05)
    world.open("eu", "us", lag_s="50ms")
    world.put("eu", "k", 1)
    world.pass_s(0.049)
    assert world.step("us") == 0
    world.pass_s(0.001)
    assert world.step("us") == 1


FORKED = """
import os, sys
from causal import CausalStore, ConfigError, Keyring
from causal.stores.sqlite import SQLiteEngine
keys = Keyring.generate()
def store():
    return CausalStore(SQLiteEngine(sys.argv[1], site="eu", replicate="manual"), keyring=keys, audience="shop")
def use(it):
    with it.session(subject="alice").write() as tx:
        tx.put("k", 1)
later, now = store(), store()
def in_child(*stores):
    pid = os.fork()
    if pid == 0:
        for it in stores:
            try:
                use(it)
                print("used", flush=True)
                it.close()
            except ConfigError as error:
                print(error, flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
in_child(later)
use(now)
in_child(now, store())
now.close()
in_child(now, later)
"""


def test_a_forked_child_may_use_what_was_not_open(world: World) -> None:
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(world.path)], capture_output=True, check=False, text=True
    )
    assert shown.returncode == 0, shown.stderr
    refused = f"{world.path} was open when this process was forked: open it after the fork instead"
    assert shown.stdout.splitlines() == ["used", refused, refused, "used", "used"]
