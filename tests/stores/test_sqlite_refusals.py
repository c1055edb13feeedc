"""What a user of the store hears when a write cannot begin: once, within one bound, with the reason and what to do."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

from causal.async_store import AsyncCausalStore
from causal.core.frontier import Frontier
from causal.core.keyring import Keyring
from causal.errors import Unreachable
from causal.session import Receipt
from causal.store import CausalStore
from causal.stores.memory import MemoryEngine
from causal.stores.memory import link as memory_link
from causal.stores.sqlite.files import schema
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
    file._writers["full"].clear()
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
        for _ in range(2):
            with pytest.raises(Unreachable, match=says):  # heard from the registry
                alice.write().__enter__()
        with alice.read() as db:
            assert db.get("k") == 1
        eu.close()
        with alice.write() as tx:
            tx.put("k", 2)
