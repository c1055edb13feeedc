"""The feed: a store that is used asks its endpoints by itself, and leaves nothing behind."""

import asyncio
import gc
import math
import os
import signal
import subprocess
import sys
import threading
import time as real
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from causal import AsyncCausalStore, CausalStore, ConfigError, Frontier, Position
from causal import feed as feed_module
from causal.engine import Capabilities
from causal.errors import Unreachable
from tests.fake_engine import KEYS, AsyncFakeLink, FakeEngine, Server, Time, idle, near_and_far

POLL_S = 0.001
DEADLINE_S = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is to bring about."""
    deadline = real.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert real.monotonic() < deadline, "it has not come about"
        pause.wait(0.001)


async def auntil(condition: Callable[[], bool]) -> None:
    deadline = real.monotonic() + DEADLINE_S
    while not condition():
        assert real.monotonic() < deadline, "it has not come about"
        await asyncio.sleep(0.001)


def feeds() -> set[str]:
    return {
        thread.name.removeprefix("causal feed ") for thread in threading.enumerate() if "causal feed" in thread.name
    }


def tasks() -> set[str]:
    names = (task.get_name() for task in asyncio.all_tasks())
    return {name.removeprefix("causal feed ") for name in names if "causal feed" in name}


def store_of(engine: Any, **settings: Any) -> CausalStore[Any, Any]:
    return CausalStore(engine, keyring=KEYS, audience="shop", **settings)


def astore_of(engine: Any, **settings: Any) -> AsyncCausalStore[Any, Any]:
    return AsyncCausalStore(engine, keyring=KEYS, audience="shop", **settings)


def asked(engine: FakeEngine, name: str) -> int:
    return engine.calls.count(("probe", name))


def asked_again(engine: FakeEngine, *names: str, times: int = 5) -> Callable[[], bool]:
    before = {name: asked(engine, name) for name in names}
    return lambda: all(asked(engine, name) >= before[name] + times for name in names)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    yield
    until(lambda: not feeds())


@pytest.fixture
def engine() -> FakeEngine:
    return near_and_far(poll_s=POLL_S)


class Hanging:
    """From now on, questions to one endpoint hang until they are let go on."""

    def __init__(self, engine: FakeEngine, name: str) -> None:
        self.hangs, self.may = threading.Event(), threading.Event()

        def before(kind: str, asked: str) -> None:
            if (kind, asked) == ("probe", name):
                self.hangs.set()
                assert self.may.wait(DEADLINE_S)

        engine.before = before


# --- threads -----------------------------------------------------------------------------------------------------------


def test_every_endpoint_is_asked_again_and_again_until_the_store_is_closed(engine: FakeEngine) -> None:
    with store_of(engine) as store:
        assert feeds() == {"near", "far"}
        until(asked_again(engine, "near", "far"))
    assert not feeds()
    assert store._state.woken is None
    assert engine.open_links == 0
    assert store._feed is None


def test_the_common_read_needs_no_question_of_its_own(engine: FakeEngine) -> None:
    with store_of(engine) as store:
        engine.servers["far"].origins[0] = engine.servers["near"].origins[0] = {1: (11, None)}
        until(lambda: store._state.applied("near") == {1: 11})
        session = store.session()
        session.join(Frontier((Position(0, 1, 11),)))
        with (block := session.read()):
            pass
        assert (block.receipt.endpoint, block.receipt.probes, block.receipt.how) == ("near", 0, "covered")


def test_who_hangs_does_not_delay_the_others(engine: FakeEngine) -> None:
    with store_of(engine):
        near = Hanging(engine, "near")
        assert near.hangs.wait(DEADLINE_S)
        until(asked_again(engine, "far", times=20))
        near.may.set()
        until(asked_again(engine, "near"))


def test_a_store_that_is_closed_waits_for_its_questions_but_not_for_ever(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_of(engine) as store:
        near = Hanging(engine, "near")
        assert near.hangs.wait(DEADLINE_S)
        monkeypatch.setattr(feed_module, "JOIN_S", 0.01)
        store.close()
        until(lambda: feeds() == {"near"})  # it waited for the other no longer, either
        near.may.set()


def test_whoever_does_not_answer_is_asked_all_the_same(engine: FakeEngine) -> None:
    with store_of(engine) as store:
        for error in (Unreachable("near does not answer"), ValueError("what is this?")):

            def before(kind: str, name: str, error: Exception = error) -> None:
                if name == "near":
                    raise error

            engine.before = before
            until(asked_again(engine, "near"))
        engine.before = lambda kind, name: None
        until(lambda: (known := store.view.of("near")) is not None and known.down is None)


def test_endpoints_that_join_and_leave_are_followed(engine: FakeEngine) -> None:
    with store_of(engine) as store:
        engine.servers["third"] = Server("third", {0: {1: (10, None)}})
        until(lambda: (known := store.view.of("third")) is not None and bool(known.asked))
        until(asked_again(engine, "third"))
        servers, engine.servers = engine.servers, {}
        until(lambda: not store.view.endpoints)
        engine.servers = {"far": servers["far"]}  # whoever was last looks who comes
        until(lambda: feeds() == {"far"})
        until(asked_again(engine, "far"))
        engine.servers = {"near": servers["near"]}
        until(lambda: feeds() == {"near"})
        until(asked_again(engine, "near"))


def test_who_is_polled_by_those_who_wait_is_not_asked_besides(engine: FakeEngine) -> None:
    with store_of(engine) as store:
        store._line("near").polling = True
        until(asked_again(engine, "far", times=2))  # one may have been under way
        before = asked(engine, "near")
        until(asked_again(engine, "far", times=20))
        assert asked(engine, "near") <= before + 1
        store._line("near").polling = False
        until(asked_again(engine, "near"))


def test_a_store_that_is_not_used_is_asked_for_less_often_until_it_is(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "IDLE_S", 3600.0)
    with store_of(engine) as store:
        assert store._feed is not None
        session = store.session()
        with session.read():
            pass
        for _ in range(2):  # the second time, the read goes the way of the first
            store._state.used, store._feed.busy_at = False, -math.inf
            until(lambda: store._feed is not None and store._feed.idle)
            again = asked_again(engine, "near", "far")
            with session.read():
                pass
            assert not store._feed.idle
            until(again)


def test_how_often_a_store_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(feed_module.time, "monotonic", lambda: now[0])
    for poll_s, idle_s in ((0.01, 1.0), (5.0, 5.0)):
        state = store_of(near_and_far())._state
        following = feed_module._Following(state, poll_s, lambda name: False)
        for since_s, used, is_idle in ((0.0, True, False), (0.9, False, False), (0.2, False, True), (9.0, True, False)):
            now[0] += since_s
            state.used = used
            pause_s = following.pause_s()
            assert following.idle is is_idle
            assert (pause_s == idle_s) if is_idle else (0.8 * poll_s <= pause_s <= poll_s)
            assert not state.used


def test_after_a_close_the_next_use_starts_it_again(engine: FakeEngine) -> None:
    store = store_of(engine)
    for _ in range(3):
        with store, store.session().read():
            assert feeds() == {"near", "far"}
        assert not feeds()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_asks_for_itself(engine: FakeEngine) -> None:
    with store_of(engine) as store:
        until(asked_again(engine, "near"))
        held, may = threading.Event(), threading.Event()

        def hold() -> None:
            assert store._feed is not None
            with store._feed._turn.condition:  # what a thread of the parent holds, no thread of the child gives back
                held.set()
                assert may.wait(DEADLINE_S)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(DEADLINE_S)
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(int(DEADLINE_S))
                assert not feeds()
                store.close()
                with store.session().read():
                    pass
                until(asked_again(engine, "near", "far"))
                store.close()
                os._exit(len(feeds()))
            finally:
                os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        may.set()
        holder.join()
        until(asked_again(engine, "near", "far"))


def test_virtual_time_has_no_threads(engine: FakeEngine) -> None:
    Time().store(engine)
    assert not feeds()


def test_an_engine_that_wants_none_has_none() -> None:
    with store_of(near_and_far()):
        assert not feeds()


def forgotten(engine: FakeEngine, *, while_idle: bool) -> "weakref.ref[Any]":
    """A store that nobody has any more, but for what its own receipts are told."""
    kept: list[Any] = []
    store = store_of(engine, on_receipt=lambda receipt: kept)
    kept.append(store)
    with store.session().read():
        pass
    until(asked_again(engine, "near", "far"))
    feed = store._feed
    assert feed is not None
    if while_idle:
        store._state.used, feed.busy_at = False, -math.inf
        until(lambda: feed.idle)
    return weakref.ref(store)


@pytest.mark.parametrize("while_idle", [False, True])
def test_a_forgotten_store_is_asked_for_no_more(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, while_idle: bool
) -> None:
    monkeypatch.setattr(feed_module, "IDLE_S", 3600.0)
    known = forgotten(engine, while_idle=while_idle)

    def gone() -> bool:
        gc.collect()
        return known() is None and not feeds()

    until(gone)


def test_a_process_ends_whatever_hangs() -> None:
    script = """
import threading
from tests.fake_engine import KEYS, near_and_far
from causal import CausalStore
engine = near_and_far(poll_s=0.001)
store = CausalStore(engine, keyring=KEYS, audience="shop").__enter__()
hangs = threading.Event()
def before(kind, name):
    hangs.set()
    threading.Event().wait()
engine.before = before
hangs.wait()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE_S, env=environment)


@pytest.mark.parametrize("poll_s", [0.0, -1.0, math.inf, math.nan])
def test_a_pause_is_a_number_of_seconds(poll_s: float) -> None:
    with pytest.raises(ConfigError):
        Capabilities(poll_s=poll_s)


# --- tasks -------------------------------------------------------------------------------------------------------------


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main()
        assert not tasks()

    asyncio.run(whole())


class AsyncHanging(FakeEngine):
    """An engine of which one endpoint's probes hang while `may` is not set."""

    def hang(self, name: str) -> None:
        self.hung, self.hangs, self.may = name, asyncio.Event(), asyncio.Event()

    async def aopen(self, store: int = 0) -> Any:
        engine = self

        class Link(AsyncFakeLink):
            async def probe(self, endpoint: str, timeout_s: float) -> Any:
                if endpoint == getattr(engine, "hung", None):
                    engine.hangs.set()
                    await engine.may.wait()
                return await super().probe(endpoint, timeout_s)

        return Link(self)


def test_tasks_ask_every_endpoint_until_the_store_is_closed(engine: FakeEngine) -> None:
    async def main() -> None:
        async with astore_of(engine) as store:
            assert tasks() == {"near", "far"}
            await auntil(asked_again(engine, "near", "far"))
            engine.servers["far"].origins[0] = engine.servers["near"].origins[0] = {1: (11, None)}
            await auntil(lambda: store._state.applied("near") == {1: 11})
            session = store.session()
            session.join(Frontier((Position(0, 1, 11),)))
            async with (block := session.read()):
                pass
            assert (block.receipt.endpoint, block.receipt.probes) == ("near", 0)
            assert idle(store)
        assert not tasks()
        assert store._state.woken is None

    run(main)


def test_a_task_that_hangs_delays_no_other_and_ends_with_the_store() -> None:
    async def main() -> None:
        engine = AsyncHanging(*near_and_far().servers.values(), leader="far", poll_s=POLL_S)
        async with astore_of(engine):
            engine.hang("near")
            await engine.hangs.wait()
            await auntil(asked_again(engine, "far", times=20))

    run(main)


def test_tasks_follow_endpoints_that_join_and_leave(engine: FakeEngine) -> None:
    async def main() -> None:
        async with astore_of(engine):
            engine.servers["third"] = Server("third", {0: {1: (10, None)}})
            await auntil(asked_again(engine, "third"))
            engine.servers = {"near": engine.servers["near"]}
            await auntil(lambda: tasks() == {"near"})

    run(main)


def test_tasks_outlast_errors(engine: FakeEngine) -> None:
    async def main() -> None:
        async with astore_of(engine):

            def before(kind: str, name: str) -> None:
                raise ValueError("what is this?")

            engine.before = before
            await auntil(asked_again(engine, "near", "far"))

    run(main)


def test_tasks_wake_with_the_store(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "IDLE_S", 3600.0)

    async def main() -> None:
        async with astore_of(engine) as store:
            feed = store._feed
            assert feed is not None
            store._state.used, feed.busy_at = False, -math.inf
            await auntil(lambda: feed.idle)
            again = asked_again(engine, "near", "far")
            async with store.session().read():
                pass
            await auntil(again)

    run(main)


def test_tasks_do_not_ask_whom_a_poller_asks(engine: FakeEngine) -> None:
    async def main() -> None:
        async with astore_of(engine) as store:
            session = store.session()
            session.join(Frontier((Position(0, 1, 11),)))
            engine.servers["far"].up = False
            assert store._feed is not None
            assert not store._feed.polled("near")

            async def read() -> None:
                async with session.read():
                    pass

            waits = asyncio.create_task(read())
            await auntil(lambda: store._feed is not None and store._feed.polled("near"))
            engine.servers["near"].origins[0] = {1: (11, None)}
            engine.servers["far"].up = True
            await waits
            assert not store._feed.polled("near")

    run(main)


def test_a_forgotten_store_has_no_tasks(engine: FakeEngine) -> None:
    async def main() -> None:
        store = await astore_of(engine).__aenter__()
        known = weakref.ref(store)
        await auntil(asked_again(engine, "near"))
        del store

        def forgotten() -> bool:
            gc.collect()
            return known() is None and not tasks()

        await auntil(forgotten)

    run(main)


def test_virtual_time_has_no_tasks(engine: FakeEngine) -> None:
    async def main() -> None:
        async with Time().async_store(engine):
            assert not tasks()

    run(main)
