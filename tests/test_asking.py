"""Questions are shared: of each endpoint one is under way at a time, and only one that was sent after a request arrived answers it."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from causal import AsyncCausalStore, CausalStore, Frontier, Limits, NoEndpoint, Position, ReadPolicy
from causal.asking import PROBE_TIMEOUT_S
from causal.core.watermark import Watermark
from causal.errors import Unreachable
from tests.fake_engine import KEYS, AsyncFakeLink, FakeEngine, Server, Time, idle, near_and_far

READERS = 12
POLICY = ReadPolicy(wait_s=60.0)
ONE_MORE = Frontier((Position(0, 1, 11),))


def probes(engine: FakeEngine) -> int:
    return engine.calls.count(("probe", "near"))


class Slow:
    """An engine whose link answers probes of `near` only when the test lets it."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.shards, self.capabilities = engine, engine.shards, engine.capabilities
        self.may = asyncio.Event()
        self.may.set()
        self.asking = 0
        self.most = 0

    async def aopen(self, store: int = 0) -> Any:
        slow = self

        class Link(AsyncFakeLink):
            async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
                slow.asking += 1
                slow.most = max(slow.most, slow.asking)
                try:
                    marks = await super().probe(endpoint, timeout_s)  # the answer is that of this moment
                    await slow.may.wait()
                finally:
                    slow.asking -= 1
                return marks

        return Link(self.engine)


async def read(store: AsyncCausalStore[Any, Any]) -> str:
    session = store.session()
    session.join(ONE_MORE)
    async with session.read() as server:
        return str(server.name)


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_tasks_share_a_question_that_is_sent_after_they_arrived() -> None:
    async def main() -> None:
        engine = near_and_far()
        slow = Slow(engine)
        store: AsyncCausalStore[Any, Any] = AsyncCausalStore(slow, keyring=KEYS, audience="shop", policy=POLICY)
        async with store:
            before = probes(engine)
            slow.may.clear()
            first = asyncio.create_task(read(store))
            await settled()
            assert probes(engine) == before + 1  # sent while near was at 10: no answer to those who come now
            engine.servers["near"].origins[0] = engine.servers["far"].origins[0] = {1: (11, None)}
            others = [asyncio.create_task(read(store)) for _ in range(READERS)]
            await settled()
            assert probes(engine) == before + 1
            slow.may.set()
            assert await asyncio.gather(first, *others) == ["near"] * (READERS + 1)
            # one for all of the others; and those by which the first one waits
            assert probes(engine) <= before + 4
            assert idle(store)
            assert not store._asking

    asyncio.run(main())


def test_who_asks_may_be_cancelled_and_another_asks() -> None:
    async def main() -> None:
        engine = near_and_far(11)
        slow = Slow(engine)
        store: AsyncCausalStore[Any, Any] = AsyncCausalStore(slow, keyring=KEYS, audience="shop", policy=POLICY)
        async with store:
            engine.servers["near"].origins[0] = engine.servers["far"].origins[0] = {1: (12, None)}
            slow.may.clear()
            tasks = []
            for _ in range(READERS):
                session = store.session()
                session.join(Frontier((Position(0, 1, 12),)))
                tasks.append(asyncio.create_task(session.run_read(name)))
            for task in tasks[:-1]:
                await settled()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await settled()
            slow.may.set()
            assert await tasks[-1] == "near"
            assert slow.most == 1
            assert idle(store)
            assert not store._asking
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


async def name(server: Any) -> str:
    return str(server.name)


@pytest.mark.parametrize("fails", [False, True])
def test_threads_share_a_question_that_is_sent_after_they_arrived(fails: bool) -> None:
    engine = near_and_far()
    engine.servers["near"].up = True
    may, asked = threading.Event(), threading.Event()
    may.set()

    def before(kind: str, endpoint: str) -> None:
        if (kind, endpoint) == ("probe", "near"):
            asked.set()
            assert may.wait(60)
            if fails and started:
                raise Unreachable("near does not answer")

    engine.before = before
    found: list[str] = []
    started = 0
    with CausalStore[Any, Any](
        engine, keyring=KEYS, audience="shop", policy=POLICY, limits=Limits(leader_reads=100)
    ) as store:

        def reads() -> None:
            session = store.session()
            session.join(ONE_MORE)
            with session.read() as server:
                found.append(server.name)

        engine.servers["near"].origins[0] = engine.servers["far"].origins[0] = {1: (11, None)}
        started = probes(engine)
        may.clear()
        asked.clear()
        threads = [threading.Thread(target=reads) for _ in range(READERS)]
        threads[0].start()
        assert asked.wait(60)
        for thread in threads[1:]:
            thread.start()
        while len(store._lines["near"].asked._waiters) < READERS - 1:  # type: ignore[attr-defined]
            pass
        may.set()
        for thread in threads:
            thread.join(60)
        assert found == ["far" if fails else "near"] * READERS
        assert started + 1 <= probes(engine) <= started + 2  # the first one's, and one for all others
        assert idle(store)


# --- how long an answer is worth waiting for -------------------------------------------------------------------------------


def hanging(engine: FakeEngine, time: Time, *names: str) -> list[tuple[str, float]]:
    """From now on, who is named answers no question; return what is asked, and how long an answer is waited for."""
    asked: list[tuple[str, float]] = []

    def before(kind: str, name: str) -> None:
        if kind == "probe":
            asked.append((name, round(engine.timeout_s, 6)))
            if name in names:
                time.now_s += engine.timeout_s
                raise Unreachable(f"{name} does not answer in time")

    engine.before = before
    return asked


def more(store: Any) -> Any:
    session = store.session()
    session.join(ONE_MORE)
    return session


@pytest.mark.parametrize("then", ["leader", "stale", "error"])
def test_who_hangs_does_not_outlast_the_budget_where_others_can_serve(then: Any) -> None:
    time, engine = Time(), near_and_far()
    engine.servers["third"] = Server("third", {0: {1: (10, None)}}, latency_s=0.01)
    store = time.store(engine, policy=ReadPolicy(0.1, then=then))
    engine.servers["third"].origins[0] = engine.servers["far"].origins[0] = {1: (11, None)}
    asked = hanging(engine, time, "near")
    began_s = time.now_s
    with (block := more(store).read()) as server:
        assert server.name in ("third", "far")
    assert block.receipt.held
    assert asked[0] == ("near", 0.1 if then == "leader" else 0.05)
    assert time.now_s <= began_s + 0.11


def test_a_question_that_everything_depends_on_has_its_time() -> None:
    time, engine = Time(), near_and_far()
    store = time.store(engine)
    asked = hanging(engine, time, "near", "far")
    engine.servers["far"].leads = {}
    with pytest.raises(NoEndpoint), more(store).read(policy=ReadPolicy.leader()):
        pass
    assert {timeout_s for _, timeout_s in asked} == {PROBE_TIMEOUT_S}


def test_a_write_waits_for_the_one_that_takes_it() -> None:
    time, engine = Time(), near_and_far()
    store = time.store(engine)
    engine.servers["far"].origins[0] = {1: (11, None)}
    asked = hanging(engine, time)
    with more(store).write():
        pass
    assert asked == [("far", PROBE_TIMEOUT_S)]


@pytest.mark.parametrize(("wait_s", "latency_s", "expected"), [(0.001, 0.0, 0.02), (0.05, 0.1, 0.2), (5.0, 0.0, 1.0)])
def test_nobody_is_given_up_for_being_far_away_or_a_little_late(
    wait_s: float, latency_s: float, expected: float
) -> None:
    time, engine = Time(), near_and_far()
    engine.servers["near"].latency_s, engine.servers["far"].latency_s = latency_s, 2 * latency_s + 0.01
    store = time.store(engine, policy=ReadPolicy(wait_s))
    asked = hanging(engine, time, "near")
    with more(store).read() as server:
        assert server.name == "far"
    assert asked[0] == ("near", expected)


def test_who_polls_for_a_line_comes_back_in_time() -> None:
    time, engine = Time(), near_and_far()
    store = time.store(engine)
    engine.servers["far"].origins[0] = {1: (11, None)}
    store._probe(store._link(), "far")
    asked: list[tuple[str, float]] = []

    def later(kind: str, name: str) -> None:
        if (kind, name) == ("probe", "near") and not asked:
            asked.extend(hanging(engine, time, "near") or [(name, engine.timeout_s)])

    engine.before = later
    began_s = time.now_s
    with more(store).read() as server:
        assert server.name == "far"
    assert time.now_s <= began_s + 0.2


def test_who_waits_for_anothers_question_does_not_outlast_the_budget_either() -> None:
    engine = near_and_far()
    may, asked = threading.Event(), threading.Event()

    def before(kind: str, endpoint: str) -> None:
        if (kind, endpoint) == ("probe", "near") and started:
            asked.set()
            assert may.wait(60)

    engine.before, started = before, False
    policy = ReadPolicy(0.05)
    with CausalStore[Any, Any](engine, keyring=KEYS, audience="shop", policy=policy) as store:
        engine.servers["far"].origins[0] = {1: (11, None)}
        store._probe(store._link(), "far")
        started = True
        first = threading.Thread(target=lambda: more(store).run_read(lambda server: None))
        first.start()
        assert asked.wait(60)
        with more(store).read() as server:
            assert server.name == "far"
        may.set()
        first.join(60)
        assert idle(store)


def test_nor_does_a_task() -> None:
    async def main() -> None:
        engine = near_and_far()
        slow = Slow(engine)
        store: AsyncCausalStore[Any, Any] = AsyncCausalStore(
            slow, keyring=KEYS, audience="shop", policy=ReadPolicy(0.05)
        )
        async with store:
            engine.servers["far"].origins[0] = {1: (11, None)}
            await store._probe(await store._link(), "far")
            slow.may.clear()
            first = asyncio.create_task(more(store).run_read(name))
            await settled()
            assert await more(store).run_read(name) == "far"
            slow.may.set()
            await first
            assert not store._asking

    asyncio.run(main())
