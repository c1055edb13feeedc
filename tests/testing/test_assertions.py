"""Assertions that pass where they should, fail where they should, and show what they saw."""

from __future__ import annotations

import json
from typing import Any

import pytest

from causal import Frontier, Keyring, ReadPolicy, Token
from causal.core.position import Position
from causal.lab.history import HistoryError
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
    assert_freshest_token_sent((one for one in (at(5), at(0, 7))), (one for one in (at(5), at(4, 7))))
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
    for what in (b"text", {"causal-token": "text"}):
        with pytest.raises(AssertionError, match="not a token, a frontier or a session: "):
            assert_freshest_token_sent(what)


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
    session: str, op: str, value: str | None, version: int | None, *, seq: int = 0, origin: int = 1, **more: object
) -> dict[str, object]:
    place = {} if version is None else {"version": [origin, version]}
    return {"session": session, "seq": seq, "op": op, "key": "k", "value": value, **place, **more}


def test_reads_that_go_backwards() -> None:
    first, second = row("bob", "read", "new", 2), row("bob", "read", "old", 1, seq=1)
    assert_no_read_went_backwards([{**second, "seq": 0}, {**first, "seq": 1}, row("carol", "read", "old", 1)])
    with pytest.raises(
        AssertionError,
        match=r"monotonic reads is violated: bob read k = 'new' \(1@2\); .* but read k = 'old' \(1@1\)\.\n"
        r"  row 1: .*\n  row 2: .*",
    ):
        assert_no_read_went_backwards([first, second])
    with pytest.raises(AssertionError, match="found nothing"):
        assert_no_read_went_backwards([json.dumps(first), json.dumps(row("bob", "read", None, None, seq=1))])
    assert_no_read_went_backwards([first, {**second, "ok": False}])
    with pytest.raises(
        AssertionError, match="is violated"
    ):  # a read counts whatever it was promised, as `causal check` has it
        assert_no_read_went_backwards([first, {**second, "held": False}])
    assert_no_read_went_backwards([])


def test_versions_of_several_origins() -> None:
    assert_no_read_went_backwards(
        [row("bob", "read", "x", 9, origin=2), row("bob", "read", "y", 1, seq=1)]
    )  # nobody can tell
    for then, now in ((9, 8), (9, 9)):  # by stamp; and where stamps are equal, by origin
        earlier = row("bob", "read", "x", 1, origin=2, stamp=then)
        later = row("bob", "read", "y", 5, seq=1, stamp=now)
        with pytest.raises(AssertionError, match="monotonic reads is violated"):
            assert_no_read_went_backwards([earlier, later])
    assert_no_read_went_backwards(
        [row("bob", "read", "y", 5, stamp=9), row("bob", "read", "x", 1, seq=1, origin=2, stamp=9)]
    )


def test_what_a_session_accepted_as_lost_is_owed_to_nobody() -> None:
    rows = [
        row("alice", "write", "old", 1),
        row("alice", "write", "new", 2, seq=1),
        row("alice", "read", "new", 2, seq=2),
        {"op": "end", "shard": 0, "origin": 1, "offset": 1},
        {"op": "forget", "session": "alice", "seq": 3, "shard": 0, "version": [1, 2]},
        row("alice", "read", "old", 1, seq=4),
    ]
    for judge in (assert_no_read_went_backwards, assert_read_your_writes):
        judge(rows)
        with pytest.raises(AssertionError, match="is violated"):
            judge([one for one in rows if one["op"] != "end"])  # nothing says that it is lost


def test_without_versions_values_tell() -> None:
    rows = [row("alice", "write", "old", None), row("alice", "write", "new", None, seq=1)]
    rows += [row("bob", "read", "new", None), row("bob", "read", "old", None, seq=1)]
    assert_no_read_went_backwards(rows[:3])
    with pytest.raises(AssertionError, match="monotonic reads is violated"):
        assert_no_read_went_backwards(rows)
    with pytest.raises(AssertionError, match="read-your-writes is violated"):
        assert_read_your_writes([*rows[:2], row("alice", "read", "old", None, seq=2)])


def test_what_cannot_be_judged_never_passes() -> None:
    twice = [
        row("alice", "write", "same", None),
        row("bob", "write", "same", None),
        row("bob", "read", "same", None, seq=1),
    ]
    half = [row("alice", "write", "new", 1), row("bob", "read", "new", None)]
    mine = row("alice", "write", "new", 1)
    for judge in (assert_no_read_went_backwards, assert_read_your_writes):
        for rows, reason in (
            (twice, "cannot be judged: .*written once. Record versions"),
            (half, "history:2: this read has a value and no version, though writes have versions"),
            ([mine, "", mine], "history:2: an empty line"),
            ([mine, mine], "history:2: session 'alice' has seq 0 twice"),
            ([mine, 7], "history:2: a row is a dictionary or a line, not int"),
            ([{**mine, "value": b"new"}], "history:1: not JSON: .*bytes"),
            ([{**mine, "value": "\ud800"}, "\ud800"], "history:2: not JSON"),
            ([{"op": "end", "shard": 0, "origin": 1, "offset": 2}], "no operations"),
        ):
            with pytest.raises(HistoryError, match=reason):
                judge(rows)


@pytest.mark.parametrize("said", ["rows", "lines", "lines with ends", "split", "text", "bytes", "generator"])
def test_a_history_in_any_form(said: str) -> None:
    rows = [row("bob", "read", "new", 2), {**row("bob", "read", "old", 1, seq=1), "version": (1, 1)}]
    text = "".join(json.dumps(one) + "\n" for one in rows)
    history: Any = {
        "rows": rows,
        "lines": text.splitlines(),
        "lines with ends": text.splitlines(keepends=True),
        "split": text.split("\n"),
        "text": text,
        "bytes": text.encode(),
        "generator": (one for one in rows),
    }[said]
    with pytest.raises(AssertionError, match=r"\n  row 2: "):
        assert_no_read_went_backwards(history)


def test_frontiers_that_go_backwards() -> None:
    assert_no_read_went_backwards([at(1), at(1, 1), at(2, 1)])
    with pytest.raises(AssertionError, match="reading 3 went backwards"):
        assert_no_read_went_backwards([at(1), at(2, 1), at(3)])
    with pytest.raises(HistoryError, match="history:2: a row is a dictionary or a line, not Frontier"):
        assert_no_read_went_backwards([row("bob", "read", "new", 2), at(1)])
    with pytest.raises(HistoryError, match="history:1: a row is a dictionary or a line, not Frontier"):
        assert_no_read_went_backwards([at(1), row("bob", "read", "new", 2)])


def test_own_writes_that_are_not_read() -> None:
    mine = row("alice", "write", "new", 2)
    assert_read_your_writes([mine, row("alice", "read", "newer", 3, seq=1), row("bob", "read", "old", 1)])
    with pytest.raises(
        AssertionError, match=r"read-your-writes is violated: alice wrote .* but read k = 'old' \(1@1\)"
    ):
        assert_read_your_writes([mine, row("alice", "read", "old", 1, seq=1)])
    assert_read_your_writes([{**mine, "ok": None}, row("alice", "read", "old", 1, seq=1)])  # perhaps it was never made
    assert_read_your_writes([])
