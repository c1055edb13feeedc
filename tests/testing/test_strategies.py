"""The strategies reach their edges, make nothing that is no value, and shrink to what a reader expects."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from causal import Keyring
from causal.core.frontier import MAX_OFFSET, MAX_SHARD, Frontier, LeaderMark, Position
from causal.core.hlc import MAX_TIMESTAMP, Timestamp
from causal.core.position import ANY_ORIGIN, FOREVER
from causal.core.token import Token
from causal.errors import ExpiredToken
from causal.lab.checker import check
from causal.lab.history import parse_history
from causal.testing import (
    assert_no_read_went_backwards,
    assert_read_your_writes,
    frontiers,
    histories,
    keyrings,
    leader_marks,
    positions,
    timestamps,
    tokens,
    watermarks,
)

KEYRING = Keyring.generate()
EXPIRED = KEYRING.seal(Token(expires_at=1), subject=None, audience="")
MANY = settings(max_examples=2000, database=None, derandomize=True)


@pytest.mark.parametrize(
    ("strategy", "condition", "smallest"),
    [
        (timestamps(), lambda t: True, Timestamp(0)),
        (timestamps(), lambda t: t == MAX_TIMESTAMP, Timestamp(MAX_TIMESTAMP)),
        (positions(), lambda p: True, Position(0, 0, 0)),
        (positions(), lambda p: p.shard == MAX_SHARD, Position(MAX_SHARD, 0, 0)),
        (positions(), lambda p: p.offset == MAX_OFFSET, Position(0, 0, MAX_OFFSET)),
        (frontiers(), lambda f: True, Frontier()),
        (frontiers(), lambda f: len(f) == 2, Frontier([Position(0, 0, 0), Position(0, 1, 0)])),
        (frontiers(floors=True), lambda f: f.floors, Frontier.of({}, {0: 0})),
        (frontiers(marks=True), lambda f: f.marks, Frontier.of({}, None, {0: LeaderMark(0)})),
        (tokens(), lambda t: True, Token(expires_at=0)),
        (tokens(floors=True), lambda t: t.seen.floors, Token(seen=Frontier.of({}, {0: 0}), expires_at=0)),
        (
            tokens(marks=True),
            lambda t: t.seen.marks,
            Token(seen=Frontier.of({}, None, {0: LeaderMark(0)}), expires_at=0),
        ),
        (leader_marks(), lambda m: m.until == FOREVER, LeaderMark(FOREVER)),
        (leader_marks(), lambda m: ANY_ORIGIN in m.origins, LeaderMark(0, frozenset(), frozenset({ANY_ORIGIN}))),
    ],
    ids=range(14),
)
def test_the_smallest_of_its_kind(strategy: Any, condition: Any, smallest: Any) -> None:
    assert find(strategy, condition, settings=MANY) == smallest


def test_the_edges_of_watermarks() -> None:
    def reaches(condition: Any, **options: Any) -> Any:
        return find(watermarks(**options), condition, settings=MANY)

    assert reaches(lambda w: True).origins == {}
    assert (0, 0) in reaches(lambda w: any(end is not None for _, end in w.origins.values())).origins.values()
    assert reaches(lambda w: w.leads).leads == {0}
    assert reaches(lambda w: w.diverged, diverged=True).origins == {0: (1, 0)}


@given(watermarks())
def test_watermarks_are_sound(watermark: Any) -> None:
    assert not watermark.diverged
    assert watermark.leads <= watermark.origins.keys()
    assert all(watermark.origins[origin][1] is None for origin in watermark.leads)


@given(frontiers(floors=True, marks=True))
def test_frontiers_come_back(frontier: Frontier) -> None:
    assert pickle.loads(pickle.dumps(frontier)) == frontier
    assert frontier | frontier == frontier
    assert frontier >= Frontier(frontier.exact)


@given(tokens(), tokens(floors=True), tokens(marks=True))
def test_tokens_have_floors_and_marks_only_where_that_is_asked_for(plain: Token, floored: Token, marked: Token) -> None:
    assert not plain.seen.floors
    assert not plain.seen.marks
    assert not floored.seen.marks
    assert not marked.seen.floors


@given(keyrings(), tokens(floors=True, marks=True))
def test_what_a_keyring_seals_it_opens(keyring: Any, token: Token) -> None:
    text = keyring.seal(token, subject="alice", audience="shop")
    assert keyring.open(text, subject="alice", audience="shop", now=-1) == token


def test_keyrings_of_all_kinds() -> None:
    for condition in (
        lambda k: len(k.key_ids) == 3,
        lambda k: k.profile == "encrypted",
        lambda k: k.primary_id != k.key_ids[0],
    ):
        find(keyrings(), condition, settings=settings(MANY, phases=[Phase.generate]))
    with pytest.raises(ExpiredToken):
        KEYRING.open(EXPIRED, subject=None, audience="", now=2)


def violated(rows: list[dict[str, Any]]) -> bool:
    """Whether the checker finds a violation; it wants at least one operation."""
    return bool(rows) and check(parse_history([json.dumps(row).encode() for row in rows], "test")).violated


@given(histories(sound=True))
def test_a_sound_history_violates_nothing(rows: list[dict[str, Any]]) -> None:
    assert not violated(rows)
    assert_no_read_went_backwards(rows)
    assert_read_your_writes(json.dumps(row) for row in rows)


@given(histories(), st.booleans(), st.booleans())
def test_the_assertions_find_what_the_checker_finds(rows: list[dict[str, Any]], versions: bool, many: bool) -> None:
    for one in rows:
        if not versions:
            one.pop("version", None)
            one.pop("stamp", None)
        elif (
            many and "version" in one
        ):  # several origins: the order of their versions is that of stamps, some of them equal
            one["version"], one["stamp"] = [one["version"][1] % 3, one["version"][1]], one["stamp"] // 2
    if not rows:
        return
    report = check(parse_history([json.dumps(row).encode() for row in rows], "test"))
    for judge, guarantee in (
        (assert_no_read_went_backwards, "monotonic reads"),
        (assert_read_your_writes, "read-your-writes"),
    ):
        found = False
        try:
            judge(rows)
        except AssertionError:
            found = True
        assert found is (report[guarantee].state == "violated")


def test_the_smallest_history_that_is_wrong() -> None:
    rows = find(histories(), violated, settings=MANY)
    assert [(row["op"], row["session"], row["value"]) for row in rows] == [
        ("write", "alice", "v0"),
        ("read", "alice", None),
    ]
