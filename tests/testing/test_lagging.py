"""The fake lagging replica: what an application's test does with it."""

from __future__ import annotations

import asyncio

import pytest

from causal import AsyncCausalStore, ConfigError, GateError, ReadPolicy, WriteLost
from causal.testing import LaggingReplica


def profile_page(store: object, token: str | None) -> object:
    with store.session(token, subject="alice").read() as db:  # type: ignore[attr-defined]
        return db.get("photo")


def posted(lag: LaggingReplica, photo: str = "new.jpg") -> str | None:
    alice = lag.leader.session(subject="alice")
    with alice.write() as tx:
        tx.put("photo", photo)
    return alice.token()


def test_it_lags_until_it_catches_up() -> None:
    with LaggingReplica() as lag:
        token = posted(lag)
        assert profile_page(lag.replica, None) is None
        assert profile_page(lag.replica, token) == "new.jpg"
        lag.catch_up()
        assert profile_page(lag.replica, None) == "new.jpg"
        posted(lag, "newer.jpg")
        assert profile_page(lag.replica, None) == "new.jpg"
        lag.resume()
        assert profile_page(lag.replica, None) == "newer.jpg"
        posted(lag, "newest.jpg")
        assert profile_page(lag.replica, None) == "newest.jpg"
        lag.pause()
        posted(lag, "last.jpg")
        assert profile_page(lag.replica, None) == "newest.jpg"


def test_a_read_waits_in_a_time_of_its_own() -> None:
    with LaggingReplica(policy=ReadPolicy(wait_s=1.0)) as lag:
        token = posted(lag)
        lag.catch_up_after(0.5)
        with (block := lag.replica.session(token, subject="alice").read()) as db:
            assert db.get("photo") == "new.jpg"
        assert (block.receipt.how, block.receipt.endpoint) == ("covered", "replica")
        assert 0.5 <= lag.time.now_s < 0.6


def test_writes_beside_the_replica_go_to_the_leader() -> None:
    with LaggingReplica() as lag:
        alice = lag.replica.session(subject="alice")
        with alice.write() as tx:
            tx.put("photo", "new.jpg")
        assert profile_page(lag.leader, None) == "new.jpg"
        assert profile_page(lag.replica, None) is None
        assert profile_page(lag.replica, alice.token()) == "new.jpg"


def test_the_leader_is_lost_and_found() -> None:
    with LaggingReplica() as lag:
        token = posted(lag)
        lag.lose_leader()
        with pytest.raises(GateError):
            profile_page(lag.replica, token)
        lag.find_leader()
        assert profile_page(lag.replica, token) == "new.jpg"


def test_a_failover_loses_what_the_replica_does_not_have() -> None:
    with LaggingReplica() as lag:
        posted(lag, "old.jpg")
        lag.catch_up()
        token = posted(lag)
        lag.fail_over()
        for store in (lag.leader, lag.replica):
            with pytest.raises(WriteLost) as lost:
                profile_page(store, token)
            session = store.session(token, subject="alice")
            session.forget(lost.value.lost)
            with session.read() as db:
                assert db.get("photo") == "old.jpg"
        token = posted(lag, "again.jpg")
        assert profile_page(lag.replica, token) == "again.jpg"


def test_the_same_in_asyncio() -> None:
    async def page(lag: LaggingReplica, token: str | None) -> object:
        async with (
            AsyncCausalStore(
                lag.engine("replica"),
                keyring=lag.keyring,
                audience="test",
                monotonic=lag.time.monotonic,
                wall=lag.time.wall,
                sleep=lambda s: asyncio.sleep(0, lag.time.sleep(s)),
            ) as store,
            store.session(token, subject="alice").read() as db,
        ):
            return db.get("photo")

    with LaggingReplica() as lag:
        token = posted(lag)
        assert asyncio.run(page(lag, None)) in {None, "new.jpg"}  # a new store knows nobody to be fresh
        assert asyncio.run(page(lag, token)) == "new.jpg"


def test_there_are_two_places() -> None:
    with pytest.raises(ConfigError, match="elsewhere"):
        LaggingReplica().engine("elsewhere")
