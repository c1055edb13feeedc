"""Assertions that pass where they should, fail where they should, and show what they saw."""

from __future__ import annotations

import json

import pytest

from causal import Frontier, Keyring, ReadPolicy, Token
from causal.core.position import Position
from causal.testing import (
    LaggingReplica,
    assert_covered,
    assert_freshest_token_sent,
    assert_no_read_went_backwards,
    assert_read_your_writes,
)

KEYS = Keyring.generate()
WHO = {"keyring": KEYS, "subject": "alice", "audience": "shop"}


def at(*offsets: int) -> Frontier:
    return Frontier(Position(shard, 1, offset) for shard, offset in enumerate(offsets))


def text(*offsets: int, expires_at: int = 2**31) -> str:
    return KEYS.seal(Token(at(*offsets), expires_at=expires_at), subject="alice", audience="shop")


def test_the_freshest_token_demands_all_that_was_given() -> None:
    assert_freshest_token_sent(text(5, 7), text(5), text(4, 7), None, **WHO)
    assert_freshest_token_sent([text(5), text(4, 7)], text(5, 7), **WHO)  # a carrier is a set
    assert_freshest_token_sent(at(5, 7), at(5), at(0, 7))
    assert_freshest_token_sent(Token(own=at(5), seen=at(0, 7), expires_at=1), at(5, 7))
    assert_freshest_token_sent(None)
    assert_freshest_token_sent(text(5), text(5, expires_at=0), **WHO)  # an expired one counts
    with pytest.raises(AssertionError, match=r"token 2 of 2 .* missing: 1/1@7\. Keep the last"):
        assert_freshest_token_sent(text(5), text(5), text(4, 7), **WHO)
    with pytest.raises(AssertionError, match="missing: 0/1@6"):
        assert_freshest_token_sent(text(5), text(6, expires_at=0), **WHO)
    with pytest.raises(AssertionError, match="missing: 0/1@1"):
        assert_freshest_token_sent(None, at(1))
    with pytest.raises(AssertionError, match="missing: floors or leader marks"):
        assert_freshest_token_sent(at(1), Frontier().mark(0, 9))


def test_what_cannot_be_read_is_no_token() -> None:
    with pytest.raises(AssertionError, match="give keyring="):
        assert_freshest_token_sent(text(5), text(5))
    with pytest.raises(AssertionError, match="'bob' for 'shop' cannot be read"):
        assert_freshest_token_sent(None, text(5), keyring=KEYS, subject="bob", audience="shop")
    with pytest.raises(AssertionError, match="not a token, a frontier or a session: 7"):
        assert_freshest_token_sent(7)


def test_sessions_say_what_they_demand() -> None:
    with LaggingReplica() as lag:
        alice = lag.leader.session(subject="alice")
        before = alice.token()
        with alice.write() as tx:
            tx.put("k", 1)
        who = {"keyring": lag.keyring, "subject": "alice", "audience": "test"}
        assert_freshest_token_sent(alice.token(), alice, **who)
        with pytest.raises(AssertionError, match="not the freshest"):
            assert_freshest_token_sent(before, alice, **who)


def test_a_covered_read() -> None:
    with LaggingReplica() as lag:
        alice = lag.leader.session(subject="alice")
        with alice.write() as tx:
            tx.put("k", 1)
        session = lag.replica.session(alice.token(), subject="alice")
        with (block := session.read()) as db:
            db.get("k")
        assert_covered(block.receipt)
        with (block := session.read(policy=ReadPolicy.eventual())) as db:
            db.get("k")
        with pytest.raises(AssertionError, match=r"not held: eventual at replica.*considered: "):
            assert_covered(block.receipt)
    with pytest.raises(AssertionError, match="no receipt"):
        assert_covered(None)


def row(
    session: str, op: str, value: str | None, version: int | None, *, origin: int = 1, **more: object
) -> dict[str, object]:
    place = {} if version is None else {"version": [origin, version]}
    return {"session": session, "seq": 0, "op": op, "key": "k", "value": value, **place, **more}


def test_reads_that_go_backwards() -> None:
    first, second = row("bob", "read", "new", 2), row("bob", "read", "old", 1)
    assert_no_read_went_backwards([second, first, row("carol", "read", "old", 1)])
    with pytest.raises(
        AssertionError, match=r"'bob' was shown k = 'old' \(version 1@1\), and was shown before k = 'new' \(version 1@2"
    ):
        assert_no_read_went_backwards([first, second])
    with pytest.raises(AssertionError, match=r"k = None \(nothing\)"):
        assert_no_read_went_backwards([json.dumps(first), json.dumps(row("bob", "read", None, None))])
    assert_no_read_went_backwards([row("bob", "read", "x", 9, origin=2), second])  # nobody can tell
    with pytest.raises(AssertionError, match="went backwards"):
        assert_no_read_went_backwards(
            [row("bob", "read", "x", 1, origin=2, stamp=9), row("bob", "read", "y", 5, stamp=8)]
        )
    assert_no_read_went_backwards([first, {**second, "ok": False}])
    assert_no_read_went_backwards([{"op": "end", "shard": 0, "origin": 1, "offset": 2}])


def test_frontiers_that_go_backwards() -> None:
    assert_no_read_went_backwards([at(1), at(1, 1), at(2, 1)])
    with pytest.raises(AssertionError, match="reading 3 went backwards"):
        assert_no_read_went_backwards([at(1), at(2, 1), at(3)])


def test_own_writes_that_are_not_read() -> None:
    mine = row("alice", "write", "new", 2)
    assert_read_your_writes([mine, row("alice", "read", "newer", 3), row("bob", "read", "old", 1)])
    with pytest.raises(
        AssertionError, match=r"'alice' was shown k = 'old' \(version 1@1\), and it had written k = 'new'"
    ):
        assert_read_your_writes([mine, row("alice", "read", "old", 1)])
    assert_read_your_writes([{**mine, "ok": None}, row("alice", "read", "old", 1)])  # perhaps it was never made
