"""Filters of touched keys: they join like a lattice, never forget a key, and are the first thing that a token leaves out."""

import zlib
from functools import reduce
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from causal import ConfigError, Frontier, Keyring, LeaderMark, Position, Token
from causal.core.position import EVERY_STORE, MAX_STORE, pack
from causal.core.touched import MAX_FINGERPRINTS, NO_FILTERS, fingerprint, joined, known, may_touch, names, written
from tests.core.claims import EXPIRES_AT, HOUR, tokens

KEYS = Keyring.generate()
NOW = EXPIRES_AT - 24 * HOUR


def of(*stores: int) -> Frontier:
    """Own writes on these stores."""
    return Frontier.of({pack(store << 16, 1): 5 for store in stores})


def filtered(own: Frontier, touched: dict[int, set[int]], **more: Any) -> Token:
    return Token(own, expires_at=EXPIRES_AT, touched=touched, **more)


# --- fingerprints ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("T-15")
@pytest.mark.parametrize("key", ["", "page:alice", "Zoë 雪 🦊", "k" * 1000])
def test_a_fingerprint_is_the_lower_half_of_the_crc_that_everybody_has(key: str) -> None:
    assert fingerprint(key) == zlib.crc32(key.encode("utf-8")) % 2**16


def test_the_check_value_of_the_crc_in_every_catalogue() -> None:
    assert fingerprint("123456789") == 0xCBF43926 & 0xFFFF


@pytest.mark.parametrize("key", ["\ud800", b"page", None, 7])
def test_a_key_is_text(key: Any) -> None:
    with pytest.raises(ConfigError, match="text"):
        fingerprint(key)
    with pytest.raises(ConfigError, match="text"):
        names([key])


@pytest.mark.parametrize("keys", ["page:alice", b"page:alice"])
def test_one_key_is_not_taken_for_its_letters(keys: Any) -> None:
    with pytest.raises(ConfigError, match="not one"):
        names(keys)


# --- a token's normal form -----------------------------------------------------------------------------------------


@pytest.mark.spec("T-19")
def test_filters_that_say_nothing_are_left_out() -> None:
    assert filtered(of(0), {0: {1}}).touched == {0: {1}}
    assert filtered(of(0), {0: set()}).touched == {0: set()}
    assert filtered(of(0), {0: {1}, 7: {1}}).touched == {0: {1}}
    assert filtered(Frontier(), {0: {1}}, seen=of(0)).touched == {}
    assert filtered(of(0, 1), {0: {*range(12)}, 1: {*range(13)}}).touched == {0: {*range(12)}}
    assert Token(of(0), expires_at=EXPIRES_AT).touched == {}


@pytest.mark.parametrize(
    ("touched", "what"),
    [
        ({EVERY_STORE: {1}}, "store"),
        ({-1: {1}}, "store"),
        ({True: {1}}, "store"),
        ({"0": {1}}, "store"),
        ({0: {2**16}}, "fingerprint"),
        ({0: {-1}}, "fingerprint"),
        ({0: {1.0}}, "fingerprint"),
        ({0: {"a"}}, "fingerprint"),
        ({7: {2**16}}, "fingerprint"),  # even where it would be left out
    ],
)
def test_numbers_out_of_range_are_refused(touched: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        filtered(of(0, MAX_STORE), touched)


def test_filters_count_in_equality_hash_and_repr() -> None:
    one, other = filtered(of(0), {0: {1, 9}}), filtered(of(0), {0: {1, 8}})
    assert one != other
    assert len({one, other, filtered(of(0), {0: {9, 1}})}) == 2
    assert "touched={0: [1, 9]}" in repr(one)
    assert "touched" not in repr(Token(of(0), expires_at=EXPIRES_AT))


# --- the lattice -------------------------------------------------------------------------------------------------------

few = st.sets(st.integers(0, 20), max_size=8)
"""Of some of these the union is too large."""
sides = st.builds(
    lambda stores, touched: filtered(of(*stores), touched),
    st.sets(st.integers(0, 2)),
    st.dictionaries(st.integers(0, 2), few),
)


def join(a: Token, b: Token) -> Token:
    return filtered(a.own | b.own, joined(a.own, a.touched, b.own, b.touched))  # type: ignore[arg-type]


@given(sides, sides, sides)
def test_joining_is_associative_commutative_and_idempotent(a: Token, b: Token, c: Token) -> None:
    assert join(a, a) == a
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, Token(expires_at=EXPIRES_AT)) == a


@pytest.mark.spec("T-71")
@given(sides, sides)
@example(filtered(of(0), {0: {*range(8)}}), filtered(of(0), {0: {*range(8, 13)}}))
@example(filtered(of(0), {0: {*range(8)}}), filtered(of(0), {0: {*range(8, 12)}}))
def test_a_join_knows_of_a_store_what_both_sides_know_and_no_more(a: Token, b: Token) -> None:
    own, touched = a.own | b.own, joined(a.own, a.touched, b.own, b.touched)
    for store in range(3):
        mine, theirs = known(a.own, a.touched, store), known(b.own, b.touched, store)
        found = known(own, touched, store)
        if mine is None or theirs is None or len(mine | theirs) > MAX_FINGERPRINTS:
            assert found is None
        else:
            assert found == mine | theirs


@given(st.lists(st.tuples(st.integers(0, 2), st.none() | few.map(frozenset)), max_size=8))
def test_a_write_is_the_join_with_what_it_alone_says(writes: list[tuple[int, frozenset[int] | None]]) -> None:
    one_by_one = Token(expires_at=EXPIRES_AT)
    for store, more in writes:
        touched = written(one_by_one.own, one_by_one.touched, store, more)
        one_by_one = filtered(one_by_one.own | of(store), touched)  # type: ignore[arg-type]
        assert one_by_one.touched == touched  # it never is what a token would leave out
    alone = [filtered(of(store), {} if more is None else {store: set(more)}) for store, more in writes]
    assert one_by_one == reduce(join, alone, Token(expires_at=EXPIRES_AT))


def test_a_write_that_does_not_say_what_it_touched_touched_anything_for_good() -> None:
    touched = written(of(0, 1), {0: frozenset({1}), 1: frozenset({2})}, 0, None)
    assert touched == {1: {2}}
    assert written(of(0, 1), touched, 0, frozenset({3})) == {1: {2}}


def test_a_write_of_too_many_keys_touched_anything() -> None:
    assert written(of(), {}, 0, frozenset(range(12))) == {0: {*range(12)}}
    assert written(of(), {}, 0, frozenset(range(13))) == {}
    assert written(of(0), {0: frozenset(range(12))}, 0, frozenset({12})) == {}
    assert written(of(0), {0: frozenset(range(12))}, 0, frozenset({11})) == {0: {*range(12)}}


@pytest.mark.parametrize("part", ["own", "seen"])
@pytest.mark.parametrize(
    "folded",
    [
        Frontier.of({}, {}, {0: LeaderMark(9, frozenset({0}))}),
        Frontier.of({}, {}, {EVERY_STORE: LeaderMark(9, frozenset({0}))}),
        Frontier.of({}, {0: 5}),
    ],
)
def test_under_a_mark_or_a_floor_any_key_may_have_been_touched(part: str, folded: Frontier) -> None:
    empty: dict[str, Frontier] = {"own": Frontier(), "seen": Frontier()}
    assert not may_touch(**empty, touched=NO_FILTERS, store=0, key="a")
    assert may_touch(**(empty | {part: folded}), touched=NO_FILTERS, store=0, key="a")
    assert may_touch(**(empty | {part: folded | of(0)}), touched={0: frozenset()}, store=0, key="a")
    elsewhere = EVERY_STORE not in folded.marks
    assert may_touch(**(empty | {part: folded}), touched=NO_FILTERS, store=1, key="a") is not elsewhere


# --- the ladder ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("K-5")
@given(tokens(), st.data())
def test_filters_are_what_a_token_leaves_out_first(token: Token, data: st.DataObject) -> None:
    stores = sorted({key >> 48 for key in token.own.entries} - {EVERY_STORE})
    if not stores:
        return
    touched = data.draw(st.dictionaries(st.sampled_from(stores), st.sets(st.integers(0, 2**16 - 1), max_size=5)))
    parts: dict[str, Any] = {"expires_at": token.expires_at, "timestamp": token.timestamp, "ages": token.ages}
    with_filters = Token(token.own, token.seen, touched=touched, **parts)
    without = Token(token.own, token.seen, **parts)
    size = KEYS.size(without)
    assert with_filters.fit(KEYS.size, KEYS.size(with_filters), until=NOW, now=NOW) is with_filters
    if KEYS.size(with_filters) > size:
        limit = data.draw(st.integers(size, KEYS.size(with_filters) - 1))
        assert with_filters.fit(KEYS.size, limit, until=NOW, now=NOW) == without
    below = {"limit": max(0, size - 1), "until": NOW + 60, "now": NOW}
    assert with_filters.fit(KEYS.size, **below) == without.fit(KEYS.size, **below)  # type: ignore[arg-type]


@given(tokens(), st.integers(0, 200), st.integers(0, 2), st.text(max_size=3))
def test_a_shortened_token_may_touch_whatever_the_exact_one_may(token: Token, limit: int, store: int, key: str) -> None:
    fitted = token.fit(KEYS.size, limit, until=NOW + 60, now=-(2**35))  # before anything expires
    if may_touch(token.own, token.seen, token.touched, store, key):
        assert may_touch(fitted.own, fitted.seen, fitted.touched, store, key)


@pytest.mark.spec("K-5")
def test_filters_of_other_stores_are_left_out_too() -> None:
    own = Frontier([Position(0, 1, 5), Position(3 << 16, 1, 5)])
    token = filtered(own, {0: {1}, 3: {*range(0, 60_000, 5001)}})
    limit = KEYS.size(token) - 1
    assert token.fit(KEYS.size, limit, until=NOW, now=NOW, stores=(0,)) == Token(own, expires_at=EXPIRES_AT)
