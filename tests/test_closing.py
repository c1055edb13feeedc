"""A store that is closed while reads wait: each is refused at once, with its account, and nothing is left behind."""

import asyncio
import threading
from typing import Any

import pytest

from causal import AsyncCausalStore, CausalStore, ConfigError, Frontier, NoEndpoint, ReadPolicy
from causal.state import StoreState
from causal.store import POLL_MAX_S
from tests.fake_engine import KEYS, FakeEngine, Time, idle, near_and_far

READERS = 6
LONG = ReadPolicy(wait_s=20.0, then="error")


def behind() -> FakeEngine:
    engine = near_and_far()
    engine.servers["far"].origins[0] = {1: (11, None)}
    return engine


def waiting(store: Any) -> Any:
    session = store.session()
    session.join(Frontier().advance(shard=0, origin=1, offset=11))
    return session


def said(error: NoEndpoint, kind: str = "read") -> None:
    assert str(error).startswith(f"the store was closed while this {kind} waited (near: ")
    assert error.retryable
    assert error.receipt is not None
    assert (error.receipt.how, error.receipt.refused, error.receipt.kind) == ("refused", "NoEndpoint", kind)
    assert dict(error.considered).keys() == {"near", "far"}


def test_a_read_that_waits_is_refused_and_a_later_one_opens_the_store_again() -> None:
    time, engine, told = Time(), behind(), []
    store = time.store(engine, policy=LONG, on_receipt=told.append)
    session = waiting(store)

    def sleep(seconds: float) -> None:
        time.now_s += seconds
        store.close()

    store._sleep = sleep
    asked, began = len(engine.calls), time.now_s
    with pytest.raises(NoEndpoint) as caught, session.read():
        pass
    said(caught.value)
    assert caught.value.receipt == told[-1]
    assert time.now_s - began <= POLL_MAX_S
    assert len(engine.calls) == asked + 1  # the probe on arrival: a closed link is asked no more
    assert (idle(store), engine.open_links) == (True, 0)
    engine.servers["near"].origins[0] = {1: (11, None)}
    with session.read() as server:
        assert server.name == "near"
    assert engine.open_links == 1


def test_so_is_one_that_was_about_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    store = time.store(behind(), policy=LONG)
    enter_wait, began = StoreState.enter_wait, time.now_s

    def closes(state: StoreState, *args: Any) -> None:
        store.close()
        enter_wait(state, *args)

    monkeypatch.setattr(StoreState, "enter_wait", closes)
    with pytest.raises(NoEndpoint) as caught, waiting(store).read():
        pass
    said(caught.value)
    assert time.now_s == began
    assert idle(store)


@pytest.mark.parametrize("again", [False, True], ids=["closed", "opened again"])
@pytest.mark.parametrize("when", [("probe", "near"), ("read", "near"), ("write", "far")], ids=lambda when: when[0])
def test_so_is_one_whose_link_is_closed_while_it_asks(when: tuple[str, str], again: bool) -> None:
    time, engine = Time(), near_and_far()
    store = time.store(engine, policy=LONG)
    session = waiting(store) if when[0] == "probe" else store.session()

    def before(*call: str) -> None:
        if call == when:
            engine.before = lambda *_: None
            store.close()
            if again:
                store._link()

    engine.before = before
    block = session.write() if when[0] == "write" else session.read()
    with pytest.raises(NoEndpoint) as caught, block:
        pass
    said(caught.value, "write" if when[0] == "write" else "read")
    assert isinstance(caught.value.__cause__, ConfigError)
    assert (idle(store), engine.open_links) == (True, int(again))


def test_a_read_that_goes_the_way_of_the_last_one_opens_a_store_that_was_just_closed() -> None:
    engine = near_and_far()
    store = Time().store(engine)
    session = store.session()
    with session.read():
        pass

    def before(*_: str) -> None:
        engine.before = lambda *_: None
        store.close()

    engine.before = before
    with session.read() as server:
        assert server.name == "near"
    assert engine.open_links == 1


def test_threads_that_wait_are_all_refused() -> None:
    engine = behind()
    store: CausalStore[Any, Any] = CausalStore(engine, keyring=KEYS, audience="shop", policy=LONG)
    refused: list[NoEndpoint] = []

    def reads() -> None:
        with pytest.raises(NoEndpoint) as caught, waiting(store).read():
            pass
        refused.append(caught.value)

    with store:
        threads = [threading.Thread(target=reads) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        while "near" not in store._lines or len(store._lines["near"].queue) < READERS:
            pass
    for thread in threads:
        thread.join(60)
    assert len(refused) == READERS
    for error in refused:
        said(error)
    assert (idle(store), store._lines["near"].polling, engine.open_links) == (True, False, 0)


async def reads(session: Any) -> Any:
    async with session.read() as server:
        return server


async def in_line(store: AsyncCausalStore[Any, Any], count: int) -> None:
    while "near" not in store._lines or len(store._lines["near"].queue) < count:  # noqa: ASYNC110 - the tasks have no event to tell of it
        await asyncio.sleep(0)


def test_tasks_that_wait_are_all_refused() -> None:
    async def main() -> None:
        engine = behind()
        store: AsyncCausalStore[Any, Any] = AsyncCausalStore(engine, keyring=KEYS, audience="shop", policy=LONG)
        async with store:
            tasks = [asyncio.create_task(reads(waiting(store))) for _ in range(READERS)]
            await in_line(store, READERS)
        for task in tasks:
            with pytest.raises(NoEndpoint) as caught:
                await task
            said(caught.value)
        assert (idle(store), store._lines["near"].poller, engine.open_links) == (True, None, 0)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_task_that_opens_the_store_again_is_polled_for() -> None:
    async def main() -> None:
        engine = behind()
        store: AsyncCausalStore[Any, Any] = AsyncCausalStore(engine, keyring=KEYS, audience="shop", policy=LONG)
        async with store:
            before = asyncio.create_task(reads(waiting(store)))
            await in_line(store, 1)
            await store.close()
            after = asyncio.create_task(reads(waiting(store)))
            with pytest.raises(NoEndpoint):
                await before
            await in_line(store, 1)
            engine.servers["near"].origins[0] = {1: (11, None)}
            assert (await after).name == "near"

    asyncio.run(main())


@pytest.mark.parametrize("when", [("probe", "near"), ("read", "near"), ("write", "far")], ids=lambda when: when[0])
def test_so_is_a_task_whose_link_is_closed_while_it_asks(when: tuple[str, str]) -> None:
    async def main() -> None:
        time, engine = Time(), near_and_far()
        store = time.async_store(engine, policy=LONG)
        session = waiting(store) if when[0] == "probe" else store.session()
        await store._link()
        link: Any = store._live

        def before(*call: str) -> None:
            if call == when:
                store._live = None
                link.link.close()

        engine.before = before
        with pytest.raises(NoEndpoint) as caught:
            async with session.write() if when[0] == "write" else session.read():
                pass
        said(caught.value, "write" if when[0] == "write" else "read")
        assert (idle(store), engine.open_links) == (True, 0)

    asyncio.run(main())
