"""One session and one store in many threads, which change places between any two bytecodes: nothing is lost, nothing is left."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from causal import (
    CausalStore,
    Frontier,
    GateError,
    GateTimeout,
    Key,
    Keyring,
    MalformedToken,
    Overloaded,
    Position,
    ReadPolicy,
    Token,
    TokenError,
    UnknownKey,
)
from causal.core.frontier import Loss, pack
from causal.core.policy import Limits
from causal.request import Request
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.fake_engine import KEYS, FakeEngine, Server, Time, idle
from tests.interleaved import interleaved

SESSION = ("session.py",)
EVERYWHERE = (
    "session.py",
    "state.py",
    "store.py",
    "request.py",
    "blocks.py",
    "claims.py",
    "keys.py",
    "core/keyring.py",
    "core/waiting.py",
)
NOW = 1_700_000_000
SHARDS = ("a", "b", "c", "d")

Store = CausalStore[Any, Any]


def store(cluster: MemoryCluster, site: str, **settings: Any) -> Store:
    given = {"keyring": KEYS, "audience": "shop", "policy": ReadPolicy(wait_s=60.0), **settings}
    made: Store = CausalStore(MemoryEngine(cluster=cluster, site=site), **given)
    return made.__enter__()


def opened(text: str | None, subject: str | None = "alice") -> Token:
    assert text is not None
    return KEYS.open(text, subject=subject, audience="shop", now=NOW)


# --- one session -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_no_own_write_is_ever_lost_from_a_session_or_its_token(seed: int) -> None:
    """Each thread writes a shard of its own, so that no later write can hide a lost one."""
    cluster = MemoryCluster(("eu", "us"), shards=SHARDS)
    with store(cluster, "eu") as eu, store(cluster, "us") as us:
        session = eu.session(subject="alice")

        def writes(shard: str) -> Callable[[], None]:
            def work() -> None:
                key = pack(eu.shards[shard], 1)
                for n in range(1, 13):
                    with session.write(shard=shard) as tx:
                        tx.put(shard, n)
                    assert session.own.entries[key] == n
                    assert opened(session.token()).own.entries[key] >= n
                    with session.read(us, shard=shard) as db:
                        assert db.get(shard) == n

            return work

        def others() -> None:
            for n in range(1, 60):
                lost = Position(9 << 16, 7, n)
                session.join(Frontier((lost, Position(9 << 16, n, n))))
                session.forget([Loss(lost, n - 1)])
                session.join(KEYS.seal(opened(session.token()), subject="alice", audience="shop"), None)
                assert len(session._state._cache) <= 2 * len(SHARDS)
                assert len(session._state.grants) <= len(SHARDS)

        def looks() -> None:
            before = Frontier()
            for _ in range(60):
                own = session.own
                assert own >= before
                before = own
                if session.token() is not None:
                    assert opened(session.token()).own >= own

        interleaved(*(writes(shard) for shard in SHARDS), others, looks, files=SESSION, seed=seed)
        assert session.own == Frontier(Position(eu.shards[shard], 1, 12) for shard in SHARDS)
        assert {Position(9 << 16, n, n) for n in range(1, 60)} - {Position(9 << 16, 7, 7)} <= set(session.seen)
        assert idle(eu)
        assert idle(us)


def test_a_session_keeps_up_with_itself_on_every_path_at_once() -> None:
    cluster = MemoryCluster(("eu", "us"), shards=SHARDS)
    with store(cluster, "eu") as eu, store(cluster, "us") as us:
        session = eu.session(subject="alice")

        def works(shard: str) -> Callable[[], None]:
            def work() -> None:
                for n in range(1, 6):
                    with session.write(shard=shard) as tx:
                        tx.put(shard, n)
                        with session.read(shard=shard) as db:
                            assert db.get(shard) == n
                    for _ in range(2):
                        with (block := session.read(us, shard=shard)) as db:
                            assert db.get(shard) == n
                        assert block.receipt.held
                    assert us.session(session.token(), subject="alice").route(shard=shard).held

            return work

        interleaved(*(works(shard) for shard in SHARDS), files=EVERYWHERE, one_in=16)
        assert idle(eu)
        assert idle(us)
