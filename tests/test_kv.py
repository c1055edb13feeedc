"""The rules that key-value engines share: keys, values, conflict order, logged changes."""

import datetime as dt
import itertools
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from causal import kv
from causal.core.frontier import EVERY_STORE, Frontier, Position
from causal.errors import ConfigError, StoreError

KEYS = st.text(min_size=1, max_size=200).filter(lambda k: not any("\ud800" <= c <= "\udfff" for c in k))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(max_size=20), max_size=6)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


# --- keys -----------------------------------------------------------------------------------------------------------


@given(KEYS)
@example("a" * 1024)
@example("\x00")
@example("é" * 512)
def test_a_key_is_returned_as_it_is(key: str) -> None:
    assert kv.check_key(key) is key


@pytest.mark.parametrize("key", ["", "a" * 1025, "é" * 513, "\ud800", "a\udfffb", b"a", 1, None, ("a",)])
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(ConfigError):
        kv.check_key(key)


def test_a_prefix_may_be_empty_or_longer_than_any_key() -> None:
    assert [kv.check_prefix(p) for p in ("", "a", "a" * 2000)] == ["", "a", "a" * 2000]


@pytest.mark.parametrize("prefix", ["\ud800", b"a", None])
def test_what_is_no_prefix_is_refused(prefix: Any) -> None:
    with pytest.raises(ConfigError):
        kv.check_prefix(prefix)


# --- values ---------------------------------------------------------------------------------------------------------


@given(VALUES)
@example({"z": 1, "a": [None, {"b": b"\x00"}]})
@example(2**70)
def test_a_value_comes_back(value: Any) -> None:
    back = kv.decode_value(kv.encode_value(value))
    assert back == value
    assert repr(back) == repr(value)  # 1 is not True, -0.0 is not 0.0, and the order of a dict is kept


def test_other_types_that_cbor_holds_come_back() -> None:
    now = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    assert kv.decode_value(kv.encode_value({"at": now, "ids": {1, 2}})) == {"at": now, "ids": {1, 2}}
    assert kv.decode_value(kv.encode_value((1, 2))) == [1, 2]


def test_each_read_gives_a_new_object() -> None:
    data = kv.encode_value({"list": [1]})
    kv.decode_value(data)["list"].append(2)
    assert kv.decode_value(data) == {"list": [1]}


@pytest.mark.parametrize(
    "value",
    [
        object(),
        lambda: 0,
        dt.datetime(2026, 1, 1),  # noqa: DTZ001 (a naive time is what is refused)
        "\ud800",
        ["\ud800"],
        {"a": object()},
        cbor2.CBORTag(35, "("),  # encodes, and could never be decoded
        cbor2.CBORTag(0, "not a time"),
    ],
)
def test_what_cbor_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError):
        kv.encode_value(value)


def test_depth_is_bounded_before_the_encoder_recurses() -> None:
    assert kv.decode_value(kv.encode_value(nested(kv.MAX_VALUE_DEPTH))) == nested(kv.MAX_VALUE_DEPTH)
    circle: list[Any] = []
    circle.append(circle)
    tags = cbor2.CBORTag(4000, 0)
    for _ in range(200):
        tags = cbor2.CBORTag(4000, tags)
    maps: Any = {}
    for _ in range(200):
        maps = {"a": maps}
    # The last one would end the process inside the encoder.
    for deep in (nested(kv.MAX_VALUE_DEPTH + 1), circle, tags, maps, nested(50_000)):
        with pytest.raises(ConfigError, match="inside each other"):
            kv.encode_value(deep)


def test_size_is_bounded() -> None:
    at_most = b"x" * (kv.MAX_VALUE_BYTES - 5)
    assert len(kv.encode_value(at_most)) == kv.MAX_VALUE_BYTES
    with pytest.raises(ConfigError, match="at most"):
        kv.encode_value(at_most + b"x")


def test_errors_do_not_quote_the_value() -> None:
    with pytest.raises(ConfigError) as caught:
        kv.encode_value({"secret": "hunter2", "bad": object()})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x62a", b"\xa1\x61"])
def test_damaged_values_are_said_to_be_damaged(data: bytes) -> None:
    with pytest.raises(StoreError, match="damaged"):
        kv.decode_value(data)


@pytest.mark.parametrize(
    "wrap", [lambda v: v, lambda v: [v], lambda v: {"a": (1, v)}, lambda v: cbor2.CBORTag(4000, v)]
)
def test_a_view_of_bytes_is_refused_where_it_would_become_a_list_of_numbers(wrap: Any) -> None:
    with pytest.raises(ConfigError, match=r"bytes\(view\)"):
        kv.encode_value(wrap(memoryview(b"x")))
    again = kv.decode_value(kv.encode_value(wrap(bytes(memoryview(b"x")))))
    assert b"x" in repr(again).encode()


def test_containers_come_back_as_the_limits_say() -> None:
    again = kv.decode_value(kv.encode_value([(1, 2), cbor2.CBORTag(4000, [1, {"a": [2]}])]))
    assert again == [[1, 2], cbor2.CBORTag(4000, (1, {"a": (2,)}))]
    assert type(again[0]) is list
    assert type(again[1].value) is tuple


# --- conflicts ------------------------------------------------------------------------------------------------------

VERSION = st.tuples(st.integers(0, 5), st.integers(0, 3))


@given(VERSION, VERSION, VERSION)
def test_wins_is_a_strict_total_order(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> None:
    assert [kv.wins(*a, *b), kv.wins(*b, *a), a == b].count(True) == 1
    if kv.wins(*a, *b) and kv.wins(*b, *c):
        assert kv.wins(*a, *c)


@pytest.mark.spec("C-21")
@given(st.lists(VERSION, min_size=1, max_size=5, unique=True))
def test_the_winner_does_not_depend_on_the_order_of_arrival(versions: list[tuple[int, int]]) -> None:
    winners = set()
    for order in itertools.permutations(versions):
        best = order[0]
        for version in order[1:]:
            if kv.wins(*version, *best):
                best = version
        winners.add(best)
    assert winners == {max(versions)}


@pytest.mark.spec("C-21")
def test_the_stamp_decides_before_the_origin() -> None:
    assert kv.wins(2, 1, 1, 9)
    assert kv.wins(1, 9, 1, 2)


@pytest.mark.spec("C-20")
@given(st.integers(0, kv.MAX_STAMP - 1), st.lists(st.integers(0, kv.MAX_STAMP - 1), max_size=4))
def test_a_new_stamp_is_above_all_and_not_below_the_clock(now: int, stamps: list[int]) -> None:
    new = kv.next_stamp(now, stamps)
    assert new >= now
    assert all(new > s for s in stamps)
    assert new == now or new - 1 in stamps


def test_stamps_end_with_an_error_rather_than_start_again() -> None:
    assert kv.next_stamp(0, [kv.MAX_STAMP - 1]) == kv.MAX_STAMP
    with pytest.raises(StoreError, match="exhausted"):
        kv.next_stamp(0, [kv.MAX_STAMP])


# --- logged changes -------------------------------------------------------------------------------------------------


@given(CHANGES, st.randoms())
def test_changes_come_back_and_have_one_spelling(changes: dict[str, bytes | None], random: Any) -> None:
    data = kv.encode_changes(changes)
    assert kv.decode_changes(data) == changes
    items = list(changes.items())
    random.shuffle(items)
    assert kv.encode_changes(dict(items)) == data


@given(CHANGES, st.data())
def test_no_other_bytes_are_accepted(changes: dict[str, bytes | None], data: st.DataObject) -> None:
    logged = bytearray(kv.encode_changes(changes))
    kind = data.draw(st.sampled_from(["flip", "cut", "append"]))
    at = data.draw(st.integers(0, len(logged) - 1))
    if kind == "flip":
        logged[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del logged[at:]
    else:
        logged += b"\x00"
    try:
        other = kv.decode_changes(bytes(logged))
    except StoreError:
        return
    # A flipped bit may give other changes, but never another spelling of some.
    assert kv.encode_changes(other) == bytes(logged)
    assert other != changes


@pytest.mark.parametrize(
    "data",
    [
        cbor2.dumps([]),
        cbor2.dumps({1: b""}),
        cbor2.dumps({"": b""}),
        cbor2.dumps({"a": "text"}),
        cbor2.dumps({"a": [b""]}),
        cbor2.dumps({"a" * 1025: b""}),
        b"\xbf\x61a\xf6\xff",  # indefinite length
        b"\xa2\x61b\xf6\x61a\xf6",  # keys out of order
        b"\xa2\x61a\xf6\x61a\xf6",  # a key twice
        b"\xa1\x78\x01a\xf6",  # a length that is too long by a byte
        b"",
        b"\xff",
    ],
)
def test_what_is_not_canonical_changes_is_damaged(data: bytes) -> None:
    with pytest.raises(StoreError, match="damaged"):
        kv.decode_changes(data)


# --- stored dependencies --------------------------------------------------------------------------------------------


def test_plain_dependencies_are_stored_as_they_are() -> None:
    deps = Frontier([Position(0, 1, 5), Position(1 << 16, 1, 7)])
    assert kv.stored_deps(deps, 0, Frontier([Position(0, 1, 9)])) is deps


def test_floors_and_marks_of_this_store_become_what_its_leader_had_applied() -> None:
    applied = Frontier([Position(0, 1, 9), Position(1, 2, 8), Position(1 << 16, 1, 99)])
    own = Frontier([Position(0, 1, 5), Position(0, 3, 4)])
    other = Frontier.of({}, {1: 7}).mark(1, 100)
    for folded in (Frontier.of({}, {0: 7}), Frontier().mark(0, 100)):
        stored = kv.stored_deps(own | folded | other, 0, applied)
        assert stored == Frontier([Position(0, 1, 9), Position(0, 3, 4), Position(1, 2, 8)]) | other
    every = Frontier().mark(EVERY_STORE, 100)
    assert kv.stored_deps(own | every, 0, applied) == own | every | applied.store(0)
