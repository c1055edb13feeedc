"""The asynchronous link: the same words, and a cancelled call leaves no transaction and no lock."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from causal.core.frontier import Frontier
from causal.core.position import Position
from causal.core.watermark import Verdict
from causal.errors import ConfigError, Unreachable
from causal.stores.sqlite.alink import AsyncSQLiteLink, in_thread
from tests.stores.sqlite_world import World, world

__all__ = ["world"]


async def put(link: AsyncSQLiteLink, key: str, value: object, at: str = "eu") -> int:
    handle = await link.write(at, 0, Frontier())
    handle.connection.put(key, value)
    commit = await handle.commit(Frontier())
    assert commit.position is not None
    return commit.position.offset


def test_the_asynchronous_link_reads_writes_and_probes(world: World) -> None:
    async def main() -> None:
        eu = await world.engine("eu").aopen()
        us = await world.engine("us", rtt_s=0.08).aopen()
        assert [e.name for e in eu.endpoints] == ["eu", "us"]
        assert eu.leader(0) == "eu"
        assert await put(eu, "k", 1) == 1
        world.engines["us"].step()
        handle = await us.read("us", (0,))
        assert handle.connection.get("k") == 1
        assert handle.seen() == Frontier([Position(0, 1, 1)])
        assert handle.watermarks[0].origins[1] == (1, None)
        await handle.close()
        remote = await us.read("eu", (0,))
        assert list(remote.connection.scan()) == [("k", 1)]
        await remote.close()
        assert (await us.probe("us", 1))[0].judge(Frontier([Position(0, 1, 1)])).verdict is Verdict.APPLIED
        assert (await us.probe("eu", 1))[0].leads == {1}
        assert await put(us, "k", 2, at="eu") == 2
        assert world.slept == [0.04] * 6
        empty = await eu.write("eu", 0, Frontier())
        assert (await empty.commit(Frontier())).position is None
        undone = await eu.write("eu", 0, Frontier())
        undone.connection.put("k", 3)
        await undone.rollback()
        await undone.rollback()
        assert await eu.position(None) == Frontier([Position(0, 1, 2)])
        await eu.close()
        await us.close()

    asyncio.run(main())


def test_more_writers_than_threads_get_through(world: World) -> None:
    """Each holds the lock while it waits for others' tasks: none may wait in a thread that the commit needs."""

    async def main() -> None:
        link = await world.engine("eu").aopen()
        offsets = await asyncio.gather(*(put(link, f"k{n}", n) for n in range(40)))
        assert sorted(offsets) == list(range(1, 41))
        await link.close()

    asyncio.run(main())


def test_waiting_for_the_lock_ends_and_can_be_cancelled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.stores.sqlite.files.schema.BUSY_S", 0.01)

    async def main() -> None:
        link = await world.engine("eu").aopen()
        holder = await link.write("eu", 0, Frontier())
        with pytest.raises(Unreachable, match="held"):
            await link.write("eu", 0, Frontier())
        monkeypatch.setattr("causal.stores.sqlite.files.schema.BUSY_S", 1000)
        waiting = asyncio.ensure_future(link.write("eu", 0, Frontier()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await holder.rollback()
        assert await put(link, "k", 1) == 1
        await link.close()

    asyncio.run(main())


class Gate:
    """Holds calls of a function up, in their thread, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
        self.entered, self.open, self.left = threading.Event(), threading.Event(), threading.Event()
        module, _, name = target.rpartition(".")
        owner_module, _, owner_name = module.rpartition(".")
        owner = getattr(__import__(owner_module, fromlist=[owner_name]), owner_name)
        original = getattr(owner, name)

        def held(*args: object, **kwargs: object) -> object:
            self.entered.set()
            assert self.open.wait(60)
            try:
                return original(*args, **kwargs)
            finally:
                self.left.set()

        monkeypatch.setattr(owner, name, held)

    async def until_entered(self) -> None:
        await asyncio.to_thread(self.entered.wait, 60)

    async def until_left(self) -> None:
        self.open.set()
        await asyncio.to_thread(self.left.wait, 60)


def test_a_cancelled_begin_leaves_no_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        link = await world.engine("eu").aopen()
        gate = Gate(monkeypatch, "causal.stores.sqlite.link.SQLiteLink.write_locked")
        beginning = asyncio.ensure_future(link.write("eu", 0, Frontier()))
        await gate.until_entered()
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        await gate.until_left()
        monkeypatch.undo()
        assert await put(link, "k", 1) == 1
        await link.close()

    asyncio.run(main())


def test_a_cancelled_commit_goes_on_and_leaves_no_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        link = await world.engine("eu").aopen()
        gate = Gate(monkeypatch, "causal.stores.sqlite.blocks.writing.WriteTransaction.commit")
        handle = await link.write("eu", 0, Frontier())
        handle.connection.put("k", 1)
        committing = asyncio.ensure_future(handle.commit(Frontier()))
        await gate.until_entered()
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        ending = asyncio.ensure_future(handle.rollback())  # what a block does next: it must not cut into the commit
        await asyncio.sleep(0)
        assert not ending.done()
        await gate.until_left()
        await ending
        monkeypatch.undo()
        assert (await link.probe("eu", 1))[0].origins[1] == (1, None)
        assert await put(link, "k", 2) == 2
        await link.close()

    asyncio.run(main())


def test_a_cancelled_open_leaves_no_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        engine = world.engine("eu")
        gate = Gate(monkeypatch, "causal.stores.sqlite.engine.SQLiteEngine.open")
        opening = asyncio.ensure_future(engine.aopen())
        await gate.until_entered()
        opening.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(main())
    from causal.stores.sqlite.files.directory import Directory

    assert not Directory._open


def test_what_was_made_and_not_delivered_is_undone() -> None:
    """The thread is done, and the cancellation overtakes its answer."""

    async def main() -> None:
        undone: list[str] = []
        with ThreadPoolExecutor(1) as executor:
            call = asyncio.ensure_future(in_thread(executor, lambda: "made", undone.append))
            await asyncio.sleep(0)
            executor.submit(int).result()  # the loop stands still here, so the answer cannot be delivered
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert undone == ["made"]

    asyncio.run(main())


def test_a_link_that_is_closed_while_a_writer_waits_for_the_lock_leaves_it_to_others(world: World) -> None:
    async def main() -> None:
        eu = await world.engine("eu").aopen()
        other = await world.engine("eu").aopen()
        first = await other.write("eu", 0, Frontier())
        late = asyncio.create_task(eu.write("eu", 0, Frontier()))
        await asyncio.sleep(0)
        await eu.close()
        await first.rollback()
        with pytest.raises(ConfigError):
            await late
        assert await put(other, "k", 1) == 1
        await other.close()

    asyncio.run(main())
