"""Functions run inside read blocks: again elsewhere when the endpoint is lost underway, on any shard, with all of their arguments."""

import asyncio
from typing import Any

import pytest

from causal import ConfigError, ReadPolicy, StoreError
from causal.errors import Unreachable
from tests.fake_engine import FakeEngine, Server, Time, idle, near_and_far


class Loses:
    """A function that loses the first endpoints that it reads from."""

    def __init__(self, times: int, error: type[StoreError] = Unreachable) -> None:
        self.left, self.error = times, error
        self.found: list[str] = []

    def __call__(self, server: Server, *args: Any, **kwargs: Any) -> Any:
        self.found.append(server.name)
        if self.left:
            self.left -= 1
            raise self.error("gone")
        return args, kwargs

    async def later(self, server: Server, *args: Any, **kwargs: Any) -> Any:
        return self(server, *args, **kwargs)


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Any:
    """Run `fn` on a store's session, both ways: the same is promised."""

    def sync(engine: Any, fn: Loses, *args: Any, block: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        store = Time().store(engine)
        session = store.session()
        try:
            if block is None:
                return session.run_read(fn, *args, **kwargs), None
            reads = session.read(**block)
            return reads.run(fn, *args, **kwargs), reads.receipt
        finally:
            assert idle(store)

    def both(engine: Any, fn: Loses, *args: Any, block: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        async def main() -> Any:
            store = Time().async_store(engine)
            session = store.session()
            try:
                if block is None:
                    return await session.run_read(fn.later, *args, **kwargs), None
                reads = session.read(**block)
                return await reads.run(fn.later, *args, **kwargs), reads.receipt
            finally:
                assert idle(store)

        return asyncio.run(main())

    return sync if request.param == "sync" else both


def two_shards() -> FakeEngine:
    site = Server("here", {0: {1: (10, None)}, 1: {1: (10, None)}}, {0: {1}, 1: {1}})
    return FakeEngine(site, shards={"x": 0, "y": 1})


def test_all_arguments_go_to_the_function(run: Any) -> None:
    for block in (None, {}):
        got, _ = run(near_and_far(), Loses(0), 1, shard="its own", policy="too", block=block)
        assert got == ((1,), {"shard": "its own", "policy": "too"})


def test_a_shard_and_a_policy_are_named_by_the_block(run: Any) -> None:
    _, receipt = run(two_shards(), Loses(0), block={"shard": "y", "policy": ReadPolicy.leader()})
    assert (receipt.how, receipt.policy) == ("leader", "leader")
    with pytest.raises(ConfigError, match=r"x, y, as in session\.read\(shard=\.\.\.\)"):
        run(two_shards(), Loses(0))


@pytest.mark.parametrize("block", [None, {}])
def test_it_is_called_again_elsewhere(run: Any, block: Any) -> None:
    loses = Loses(1)
    _, receipt = run(near_and_far(), loses, block=block)
    assert loses.found == ["near", "far"]
    assert receipt is None or receipt.endpoint == "far"


def test_the_receipt_is_that_of_the_last_try(run: Any) -> None:
    engine = near_and_far()
    _, receipt = run(engine, Loses(1), block={"policy": ReadPolicy(wait_s=0.0)})
    assert (receipt.endpoint, receipt.attempts, receipt.refused) == ("far", 1, None)


def test_three_times_and_no_more(run: Any) -> None:
    for lost, tries in ((2, 3), (3, 3)):
        loses = Loses(lost)
        if lost < tries:
            run(near_and_far(), loses)
        else:
            with pytest.raises(Unreachable):
                run(near_and_far(), loses)
        assert len(loses.found) == tries


def test_what_does_not_pass_is_not_tried_again(run: Any) -> None:
    loses = Loses(1, StoreError)
    with pytest.raises(StoreError):
        run(near_and_far(), loses)
    assert len(loses.found) == 1
