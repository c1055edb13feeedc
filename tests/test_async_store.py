"""The asynchronous store: wherever a task is cancelled, nothing is left behind, and nothing that was promised is lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest

from causal import AsyncCausalStore, GateError, GateTimeout, Overloaded, ReadPolicy, Receipt
from causal.async_store import _over
from causal.core.policy import Limits
from causal.errors import CausalError, Unreachable
from causal.lab.virtual_time import VirtualTime
from tests.fake_engine import idle
from tests.virtual_loop import Cancelled, How, VirtualLoop, run, turns
from tests.watched import NAMES, SITES, Sites, get, put, sites

PATIENT = ReadPolicy(wait_s=60.0)
LATER_S = 0.03
"""When a replica catches up, in the time of whoever waits for it."""

Store = AsyncCausalStore[Any, Any]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a lock does so a few times, not thousands."""
    for module in ("memory.link", "sqlite.files.schema"):
        monkeypatch.setattr(f"causal.stores.{module}.BUSY_S", 0.004)


async def left_nothing(at: Sites) -> None:
    await turns()
    for store in at.stores.values():
        assert idle(store)
        assert all(line.poller is None for line in store._lines.values())
        assert not store._asking
    assert len(asyncio.all_tasks()) == 1
    timers: Any = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert not [timer for timer in timers if timer._callback is _over and not timer.cancelled()]


async def wrote(store: Store, value: Any, token: str | None = None) -> str:
    session = store.session(token, subject="alice")
    async with session.write() as tx:
        put(tx, value)
    text = session.token()
    assert text is not None
    return text


# --- cancelled at each point -----------------------------------------------------------------------------------------

Case = Callable[[Store, str], Awaitable[object]]


async def reads(store: Store, token: str) -> Any:
    async with store.session(token, subject="alice").read(policy=PATIENT) as db:
        await asyncio.sleep(0)
        return get(db)


async def reads_at_the_leader_at_last(store: Store, token: str) -> Any:
    async with store.session(token, subject="alice").read(policy=ReadPolicy(LATER_S / 2)) as db:
        await asyncio.sleep(0)
        return get(db)


async def reads_without_a_token_that_opens(store: Store, token: str) -> Any:
    async with store.session("garbage", token, subject="alice").read(policy=PATIENT) as db:
        return get(db)


async def reads_what_a_quorum_has(store: Store, token: str) -> Any:
    async with store.session(token, subject="alice").read(policy=ReadPolicy.quorum(2, wait_s=60.0)) as db:
        return get(db)


async def runs(store: Store, token: str) -> Any:
    async def look(db: Any) -> Any:
        await asyncio.sleep(0)
        return get(db)

    return await store.session(token, subject="alice").run_read(look)


async def routes(store: Store, token: str) -> Receipt:
    return await store.session(token, subject="alice").route(policy=PATIENT)


async def writes(store: Store, token: str) -> None:
    async with store.session(token, subject="alice").write(wait_s=60.0) as tx:
        put(tx, "mine")
        await asyncio.sleep(0)


async def writes_and_thinks_better_of_it(store: Store, token: str) -> None:
    with suppress(LookupError):
        async with store.session(token, subject="alice").write(wait_s=60.0) as tx:
            put(tx, "mine")
            await asyncio.sleep(0)
            raise LookupError


async def writes_after_another(store: Store, token: str) -> None:
    async with store.session(token, subject="bob").write(wait_s=60.0):
        with suppress(Unreachable):  # until then it waits for the lock, where there is one
            await writes(store, token)


async def asks_for_the_head(store: Store, token: str) -> object:
    return await store.head()


CASES: list[Case] = [
    reads,
    reads_at_the_leader_at_last,
    reads_without_a_token_that_opens,
    reads_what_a_quorum_has,
    runs,
    routes,
    writes,
    writes_and_thinks_better_of_it,
    writes_after_another,
    asks_for_the_head,
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["waiting", "answered", "again"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_cancelled_leaves_nothing(name: str, case: Case, how: How) -> None:
    async def main(loop: VirtualLoop) -> int:
        with sites(name, loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:
                k = 0
                while True:
                    token = await wrote(eu, k)
                    loop.call_later(LATER_S, at.catch_up, "us")
                    cancelled = Cancelled(case(us, token), k, how)
                    await cancelled.end()
                    await left_nothing(at)
                    await asyncio.sleep(LATER_S)
                    if not cancelled.reached:
                        break
                    await wrote(us, "still possible")  # nobody holds its lock
                    at.catch_up("eu")
                    k += 1
            await turns()
            assert len(asyncio.all_tasks()) == 1
            assert not any(engine.open_links for engine in at.engines.values())
            return k

    assert run(main) >= 1


@pytest.mark.parametrize("how", ["waiting", "answered", "again"])
@pytest.mark.parametrize("name", NAMES)
def test_a_store_whose_opening_is_cancelled_opens_again(name: str, how: How) -> None:
    async def main(loop: VirtualLoop) -> int:
        with sites(name, loop) as at:
            async with at.store("eu") as eu:
                token = await wrote(eu, "new")
                k = 0
                while True:
                    us = at.store("us")
                    at.catch_up("us")
                    cancelled = Cancelled(reads(us, token), k, how)
                    await cancelled.end()
                    await left_nothing(at)
                    if us._live is None:
                        assert at.engines["us"].open_links == 0
                    assert await reads(us, token) == (None if name == "fake" else "new")
                    await us.close()
                    await us.close()
                    if not cancelled.reached:
                        return k
                    k += 1

    assert run(main) >= 4


@pytest.mark.parametrize("how", ["waiting", "answered", "again"])
@pytest.mark.parametrize("name", NAMES)
def test_a_write_that_was_cancelled_is_the_sessions_own_or_in_doubt_if_it_is_there(name: str, how: How) -> None:
    async def main(loop: VirtualLoop) -> set[str]:
        ends: set[str] = set()
        with sites(name, loop) as at:
            async with at.store("eu") as eu:
                k = 0
                while True:
                    session = eu.session(subject="alice")
                    before = await eu.head()

                    async def write() -> None:
                        async with session.write() as tx:  # noqa: B023
                            put(tx, k)  # noqa: B023

                    cancelled = Cancelled(write(), k, how)
                    await cancelled.end()
                    await left_nothing(at)
                    there = await eu.head() != before
                    marks = session.seen.marks
                    assert session.own or marks or not there
                    assert there or not session.own
                    assert not marks or marks[0].exact == frozenset()
                    ends.add("own" if session.own else "in doubt" if marks else "nothing")
                    if there:
                        async with (block := eu.session(session.token(), subject="alice").read()) as db:
                            assert get(db) == (None if name == "fake" else k)
                        assert block.receipt.held
                    if not cancelled.reached:
                        return ends
                    k += 1

    assert run(main) == {"own", "in doubt", "nothing"}


@pytest.mark.parametrize("how", ["waiting", "answered", "again"])
@pytest.mark.parametrize("case", [reads, writes], ids=lambda case: case.__name__)
def test_a_snapshot_that_did_not_bear_its_decision_out_is_left_by_who_is_cancelled(case: Case, how: How) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites("fake", loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:

                def restarted(kind: str, endpoint: str) -> None:
                    if kind in {"read", "write"}:
                        server.life += 1
                        at.engines["us"].before = lambda kind, name: None

                server, k = at.engines["us"].engine.servers["us"], 0
                while True:
                    token = await wrote(eu, "new")
                    at.catch_up("us")
                    at.engines["us"].before = restarted
                    cancelled = Cancelled(case(us, token), k, how)
                    await cancelled.end()
                    await left_nothing(at)
                    if not cancelled.reached:
                        return
                    k += 1

    run(main)


@pytest.mark.parametrize("how", ["waiting", "answered", "again"])
@pytest.mark.parametrize("first", [True, False])
def test_who_asked_or_waited_for_the_same_answer_goes_on_without_the_cancelled(first: bool, how: How) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites("memory", loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:
                k = 0
                while True:
                    token = await wrote(eu, k)
                    loop.call_later(LATER_S, at.catch_up, "us")
                    cancelled = Cancelled(reads(us, token), k, how)
                    others: list[asyncio.Task[Any]] = []
                    if first:
                        asyncio.get_running_loop().call_soon(lambda: others.append(loop.create_task(reads(us, token))))  # noqa: B023
                    else:
                        others.append(asyncio.create_task(reads(us, token)))
                        await asyncio.sleep(0)
                    await cancelled.end()
                    await turns(1)
                    assert await others[0] == k
                    await left_nothing(at)
                    await asyncio.sleep(LATER_S)
                    if not cancelled.reached:
                        return
                    k += 1

    run(main)


# --- timeouts, groups, crowds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_timeout_of_ones_own_ends_a_wait_of_any_length(name: str) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites(name, loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:
                for round_ in range(12):
                    token = await wrote(eu, round_)
                    loop.call_later(LATER_S, at.catch_up, "us")
                    budget_s, began = LATER_S * round_ / 8, loop.time()
                    try:
                        async with asyncio.timeout(budget_s):
                            found = await reads(us, token)
                    except GateTimeout:
                        raise
                    except TimeoutError:
                        assert loop.time() == pytest.approx(began + budget_s)
                        assert round_ <= 9
                    else:
                        assert found == (None if name == "fake" else round_)
                        assert round_ >= 8
                    await left_nothing(at)
                    await asyncio.sleep(LATER_S)

    run(main)


@pytest.mark.parametrize("name", NAMES)
def test_a_group_that_fails_takes_its_reads_along(name: str) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites(name, loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:
                token = await wrote(eu, "new")
                stranger = asyncio.create_task(reads(us, token))

                async def fails() -> None:
                    await asyncio.sleep(LATER_S / 2)
                    raise LookupError

                tasks: list[asyncio.Task[Any]] = []

                async def together() -> None:
                    async with asyncio.TaskGroup() as group:
                        tasks.extend(group.create_task(case(us, token)) for case in (reads, routes, runs, reads))
                        group.create_task(fails())

                with pytest.raises(ExceptionGroup) as caught:
                    await together()
                assert [type(error) for error in caught.value.exceptions] == [LookupError]
                assert all(task.cancelled() for task in tasks)
                assert us._state.waiters["us"] == 1
                at.catch_up("us")
                assert await stranger == (None if name == "fake" else "new")
                await left_nothing(at)

    run(main)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAMES)
def test_in_a_crowd_some_are_cancelled_and_all_others_are_served(name: str, seed: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        r = random.Random(seed)
        with sites(name, loop) as at:
            async with (
                at.store("eu") as eu,
                at.store("us", limits=Limits(waiters_per_subject=100, waiters_per_endpoint=100)) as us,
            ):
                tasks, gone = [], []
                for n in range(60):
                    token = await wrote(eu, n) if n % 10 == 0 else token  # noqa: F821
                    case = r.choice([reads, routes, reads_without_a_token_that_opens, writes, reads_what_a_quorum_has])
                    tasks.append(asyncio.create_task(case(us, token)))
                    if r.random() < 0.4:
                        gone.append(tasks[-1])
                        loop.call_later(r.uniform(0, LATER_S), tasks[-1].cancel)
                    await asyncio.sleep(r.uniform(0, LATER_S / 60))
                for after in range(1, 9):
                    loop.call_later(LATER_S * after, at.catch_up, "us")
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                for task, end in zip(tasks, ended, strict=True):
                    assert task in gone or not isinstance(end, BaseException), end
                assert any(task.cancelled() for task in gone)
                await left_nothing(at)

    run(main)


def test_who_was_refused_for_the_crowd_is_served_once_some_of_it_were_cancelled() -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites("memory", loop) as at:
            async with at.store("eu") as eu, at.store("us", limits=Limits(waiters_per_subject=3)) as us:
                token = await wrote(eu, "new")
                crowd = [asyncio.create_task(reads(us, token)) for _ in range(3)]
                await turns()
                with pytest.raises(Overloaded):
                    await reads(us, token)
                crowd[1].cancel()
                await turns()
                again = asyncio.create_task(reads(us, token))
                await turns(100)
                assert us._state.waiters["us"] == 3
                at.catch_up("us")
                assert await asyncio.gather(crowd[0], crowd[2], again) == ["new"] * 3
                await left_nothing(at)

    run(main)


# --- what fails underway ---------------------------------------------------------------------------------------------


class Broken(Exception):
    """What no engine may raise, and some will."""


@pytest.mark.parametrize("case", [reads_what_a_quorum_has, asks_for_the_head], ids=lambda case: case.__name__)
@pytest.mark.parametrize("breaks", SITES)
def test_one_question_that_fails_ends_those_asked_with_it(case: Case, breaks: str) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites("memory", loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:
                token = await wrote(eu, "new")

                def before(kind: str, endpoint: str) -> None:
                    if kind == "probe" and endpoint == breaks:
                        raise Broken

                at.engines["us"].before = before
                at.engines["us"].hold = lambda endpoint: loop.create_future() if endpoint != breaks else None
                with pytest.raises(Broken):
                    await case(us, token)
                await left_nothing(at)

    run(main)


@pytest.mark.parametrize("breaks", SITES)
def test_a_store_that_could_not_be_opened_leaves_no_question(breaks: str) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites("memory", loop) as at:
            us = at.store("us")

            def before(kind: str, endpoint: str) -> None:
                if endpoint == breaks:
                    raise Broken

            at.engines["us"].before = before
            at.engines["us"].hold = lambda endpoint: loop.create_future() if endpoint != breaks else None
            for _ in range(2):
                with pytest.raises(Broken):
                    await us.session().route()
                await left_nothing(at)
                assert at.engines["us"].open_links == 0

    run(main)


async def three_wait(eu: Store, us: Store) -> tuple[str, list[asyncio.Task[object]]]:
    """Write at eu, and return the token and three reads that wait at us for it."""
    token = await wrote(eu, "new")
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(reads(us, token)) for _ in range(3)]
    await turns(100)
    assert us._state.waiters["us"] == 3
    return token, tasks


@pytest.mark.parametrize("name", NAMES)
def test_a_poller_that_fails_tells_all_who_wait(name: str) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites(name, loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:
                _, tasks = await three_wait(eu, us)

                def before(kind: str, endpoint: str) -> None:
                    raise Broken

                at.engines["us"].before = before
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                assert [type(end) for end in ended] == [Broken] * 3
                assert loop.time() < 1
                await left_nothing(at)

    run(main)


@pytest.mark.parametrize("name", NAMES)
def test_who_waits_when_a_store_is_closed_does_not_wait_in_vain(name: str) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites(name, loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:
                token, tasks = await three_wait(eu, us)
                await us.close()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                assert loop.time() < 1
                assert all(isinstance(end, CausalError) for end in ended)
                await left_nothing(at)
                at.catch_up("us")
                assert await reads(us, token) == (None if name == "fake" else "new")

    run(main)


@pytest.mark.parametrize("how", ["waiting", "answered", "again"])
@pytest.mark.parametrize("name", NAMES)
def test_a_close_that_is_cancelled_closes_all_the_same(name: str, how: How) -> None:
    async def main(loop: VirtualLoop) -> None:
        with sites(name, loop) as at:
            async with at.store("eu") as eu, at.store("us") as us:
                token = await wrote(eu, "new")
                at.catch_up("us")
                await reads(us, token)
                links, k = at.engines["us"], 0
                while True:
                    link: Any = us._live
                    cancelled = Cancelled(us.close(), k, how)
                    await cancelled.end()
                    await left_nothing(at)
                    assert links.open_links == 0
                    assert name != "sqlite" or link.link._executor._shutdown
                    assert await reads(us, token) == (None if name == "fake" else "new")
                    if not cancelled.reached:
                        return
                    k += 1

    run(main)


# --- the twins -------------------------------------------------------------------------------------------------------

READS: list[tuple[ReadPolicy | None, float | None]] = [
    (None, 0.03),
    (None, None),
    (ReadPolicy(0.02, then="error"), None),
    (ReadPolicy(0.01), None),
    (ReadPolicy(0.01, then="stale"), None),
    (ReadPolicy(0.2), 0.12),
    (ReadPolicy.leader(), None),
    (ReadPolicy.quorum(2), 0.05),
    (ReadPolicy.quorum(2, token=False, wait_s=0.01), None),
    (ReadPolicy.bounded(5), None),
    (ReadPolicy.leader_window(5), None),
    (ReadPolicy.eventual(), None),
]
"""How to read at us after a write at eu, and after how many seconds us catches up."""


def synchronously(name: str) -> list[Receipt]:
    time, receipts = VirtualTime(), list[Receipt]()

    def main() -> None:
        with (
            at.sync_store("eu", sleep=time.sleep) as eu,
            at.sync_store("us", sleep=time.sleep, on_receipt=receipts.append) as us,
        ):
            for policy, after_s in READS:
                with (alice := eu.session(subject="alice")).write() as tx:
                    put(tx, "new")
                if after_s is not None:
                    time.at(time.now_s + after_s, lambda: at.catch_up("us"))
                for text in (alice.token(), "garbage"):
                    session = us.session(text, subject="alice")
                    with suppress(GateError), session.read(policy=policy) as db:
                        get(db)
                    with suppress(GateError):
                        session.route(policy=policy)
                with suppress(GateError), us.session(alice.token(), subject="alice").write(wait_s=0.05) as tx:
                    put(tx, "mine")
                    with session.read() as db:
                        get(db)
                time.sleep(1.0)
                at.catch_up("us")

    with sites(name, time) as at:
        time.spawn(main, at_s=0.0)
        time.run()
    return receipts


def asynchronously(name: str) -> list[Receipt]:
    receipts: list[Receipt] = []

    async def main(loop: VirtualLoop) -> None:
        with sites(name, loop) as at:
            async with at.store("eu") as eu, at.store("us", on_receipt=receipts.append) as us:
                for policy, after_s in READS:
                    async with (alice := eu.session(subject="alice")).write() as tx:
                        put(tx, "new")
                    if after_s is not None:
                        loop.call_later(after_s, at.catch_up, "us")
                    for text in (alice.token(), "garbage"):
                        session = us.session(text, subject="alice")
                        with suppress(GateError):
                            async with session.read(policy=policy) as db:
                                get(db)
                        with suppress(GateError):
                            await session.route(policy=policy)
                    with suppress(GateError):
                        async with us.session(alice.token(), subject="alice").write(wait_s=0.05) as tx:
                            put(tx, "mine")
                            async with session.read() as db:
                                get(db)
                    await asyncio.sleep(1.0)
                    at.catch_up("us")

    run(main)
    return receipts


@pytest.mark.parametrize("name", NAMES)
def test_the_twins_give_the_same_account_of_the_same_world(name: str) -> None:
    ours, theirs = asynchronously(name), synchronously(name)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.waited_s == pytest.approx(other.waited_s)
        assert attrs.evolve(mine, waited_s=0.0) == attrs.evolve(other, waited_s=0.0)
    assert {"covered", "leader", "fallback", "quorum", "bounded", "window", "eventual", "stale", "refused"} <= {
        receipt.how for receipt in ours
    }
    assert {receipt.kind for receipt in ours} == {"read", "route", "write"}
