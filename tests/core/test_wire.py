"""The wire form: one spelling of each value, the budget in characters, and a dumb twin that must agree bit for bit."""

import random
from collections.abc import Callable

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from causal import Frontier, Keyring, LeaderMark, MalformedToken, Token, TokenError
from causal.core.columns import MAX_COUNT
from causal.core.cose import read_uint, unwrap
from causal.core.position import ANY_ORIGIN, EVERY_STORE, FOREVER, pack
from causal.core.wire import decode_claims, decode_frontier, encode_claims, encode_frontier
from tests.core.claims import EXPIRES_AT, entries, seen_parts, tokens
from tests.spec.twins.token import Short, dumb_pack, dumb_unpack, payload_of, plain
from tests.spec.twins.values import Token as Twin

MANY = 8  # times the profile's example count for the cheap twins


@given(tokens())
@example(Token(expires_at=0))
@example(Token(Frontier.of({pack(2**32 - 1, 2**32 - 1): 2**64 - 1}), expires_at=2**35 - 1, timestamp=2**64 - 1))
@example(Token(Frontier.of({pack(i, 0): 1 << 16 for i in range(31)}), expires_at=EXPIRES_AT))
@example(Token(Frontier.of({pack(i, 0): 1 << 16 for i in range(30)}), expires_at=EXPIRES_AT))
@example(Token(Frontier.of({pack(i, 0): (7 * i << 36) + 0xFFFF for i in range(9)}), expires_at=EXPIRES_AT))
@example(Token(None, Frontier.of({}, {}, {EVERY_STORE: LeaderMark(FOREVER)}), expires_at=EXPIRES_AT))
@example(
    Token(None, Frontier.of({}, {}, {0: LeaderMark(5, frozenset(), frozenset({ANY_ORIGIN}))}), expires_at=EXPIRES_AT)
)
@example(Token(Frontier.of({pack(1, 1): 2**64 - 2}), Frontier.of({pack(1, 1): 2**64 - 1}), expires_at=EXPIRES_AT))
def test_claims_come_back_and_the_dumb_twin_writes_the_same_bytes(token: Token) -> None:
    payload = encode_claims(token)
    assert payload == payload_of(token)
    assert decode_claims(payload) == token
    assert encode_claims(decode_claims(payload)) == payload


@st.composite
def frontiers(draw: st.DrawFn) -> Frontier:
    own = draw(entries())
    other = draw(seen_parts({})) if draw(st.booleans()) else Frontier()
    return Frontier.of(own, other.floors, other.marks)


@given(frontiers())
def test_frontiers_come_back(frontier: Frontier) -> None:
    packed = encode_frontier(frontier)
    assert decode_frontier(packed) == frontier
    assert encode_frontier(decode_frontier(packed)) == packed


def accepted_by_the_twin(packed: bytes) -> Twin | None:
    """Well formed is what reads as something that is written just so."""
    try:
        token, left = dumb_unpack(packed, EXPIRES_AT)
    except Short:
        return None
    return token if left < 8 and dumb_pack(token, EXPIRES_AT) == packed else None


def both_judge(packed: bytes) -> bool:
    """Whether the bytes are claims: the codec and its twin must agree, on yes or no and on what they say."""
    payload = cbor2.dumps([1, EXPIRES_AT, packed])
    expected = accepted_by_the_twin(packed)
    try:
        found = plain(decode_claims(payload))
    except MalformedToken:
        found = None
    assert found == expected
    return found is not None


@given(tokens(), st.data())
def test_damaged_claims_are_refused_exactly_when_they_are_not_a_spelling(token: Token, data: st.DataObject) -> None:
    packed = bytearray(dumb_pack(token, EXPIRES_AT))
    assert both_judge(bytes(packed)) or token.expires_at != EXPIRES_AT
    for _ in range(MANY):
        damaged = bytearray(packed)
        kind = data.draw(st.sampled_from(["flip", "cut", "grow", "byte"]))
        at = data.draw(st.integers(0, 8 * len(packed) - 1))
        if kind == "flip":
            damaged[at // 8] ^= 0x80 >> at % 8
        elif kind == "cut":
            del damaged[at // 8 :]
        elif kind == "grow":
            damaged += data.draw(st.binary(min_size=1, max_size=3))
        else:
            damaged[at // 8] = data.draw(st.integers(0, 255))
        both_judge(bytes(damaged))


@given(st.binary(max_size=40))
@example(b"")
@example(b"\0")
@example(b"\1")
@example(b"\xf8\x00\x1e")
def test_arbitrary_bytes_are_claims_exactly_when_they_are_a_spelling(packed: bytes) -> None:
    both_judge(packed)


def test_short_byte_strings_are_judged_as_the_twin_judges_them() -> None:
    one = [both_judge(bytes((a,))) for a in range(256)]
    assert sum(one) == 1  # nothing at all
    four = [
        both_judge(bytes((a, b, c, d)))
        for a in (0x00, 0x08, 0x0C, 0x0D, 0x0E, 0x14)
        for b in (0x00, 0x04, 0x08)
        for c in range(0, 256, 5)
        for d in range(0, 256, 9)
    ]
    assert any(four)
    assert not all(four)


@pytest.mark.spec("T-14")
@given(st.binary(max_size=24))
def test_the_payload_is_cbor_in_its_deterministic_form_or_refused(payload: bytes) -> None:
    for data in (payload, b"\x83\x01" + payload):
        try:
            token = decode_claims(data)
        except MalformedToken:
            continue
        assert encode_claims(token) == data


@pytest.mark.parametrize("value", [0, 1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**35 - 1, 2**64 - 1])
def test_numbers_are_read_in_their_shortest_form_alone(value: int) -> None:
    right = cbor2.dumps(value)
    assert read_uint(right, 0) == (value, len(right))
    longer = [bytes((0x18 + i,)) + value.to_bytes(1 << i, "big") for i in range(4) if value < 1 << (8 << i)]
    for wrong in [
        *(form for form in longer if form != right),
        right[:-1],
        b"",
        b"\x1c",
        b"\x1f",
        b"\x20",
        b"\x40",
        b"\xf6",
    ]:
        with pytest.raises(MalformedToken):
            read_uint(wrong, 0)


@pytest.mark.parametrize("size", [0, 1, 22, 23, 24, 25, 254, 255, 256, 257, 65535, 65536])
def test_byte_strings_are_read_in_their_shortest_form_alone(size: int) -> None:
    right = cbor2.dumps(b"x" * size)
    if size < 65536:  # more than a token can hold
        assert unwrap(right) == b"x" * size
        longer = [
            bytes((0x58 + i,)) + size.to_bytes(1 << i, "big") + b"x" * size for i in range(4) if size < 1 << (8 << i)
        ]
    else:
        longer = [right]
    for wrong in [*(form for form in longer if form != right or size > 65535), right[:-1], right + b"x", b""]:
        with pytest.raises(MalformedToken):
            unwrap(wrong)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1.5, "text", b"bytes", -1, [], [1], [1, 2], [1, EXPIRES_AT, b"\0", 0], {1: 2}, [2, EXPIRES_AT, b"\0"],
        [1, -1, b"\0"], [1, "1", b"\0"], [1, 1.0, b"\0"], [1, EXPIRES_AT, "\0"], [1, EXPIRES_AT, [0]], [1, 2**35, b"\0"],
        [1, 2**64, b"\0"], [b"\1", EXPIRES_AT, b"\0"], cbor2.CBORTag(17, [1, EXPIRES_AT, b"\0"]), [1, EXPIRES_AT, b""],
    ],
)  # fmt: skip
def test_claims_of_other_types_are_refused(value: object) -> None:
    with pytest.raises(MalformedToken):
        decode_claims(cbor2.dumps(value))


def test_deep_and_endless_nesting_is_refused() -> None:
    for data in (
        b"\x81" * 4000,
        b"\x83\x01" + b"\x81" * 4000,
        b"\x83\x01\x1a" + b"\xff" * 4,
        b"\x9f" * 100,
        b"\x83\x01\x5f\xff",
    ):
        with pytest.raises(MalformedToken):
            decode_claims(data)


def test_more_positions_than_a_count_holds_are_refused_when_sealed() -> None:
    most = Frontier.of({pack(i, 0): 1 for i in range(MAX_COUNT)})
    assert decode_frontier(encode_frontier(most)) == most
    with pytest.raises(TokenError, match="65535"):
        encode_frontier(Frontier.of({pack(i, 0): 1 for i in range(MAX_COUNT + 1)}))


@pytest.mark.spec("T-65")
def test_a_small_text_does_not_become_a_large_value() -> None:
    """Consecutive numbers take few bits: 500 marks of 65,535 shards each would fit a token, and take gigabytes and seconds once opened."""
    listed = {store: LeaderMark(5, frozenset(range(1, MAX_COUNT // 4 + 1))) for store in range(4)}
    most = Frontier.of({}, {}, listed)
    packed = encode_frontier(most)
    assert len(packed) < 100
    assert decode_frontier(packed) == most
    origins = frozenset(range(3))
    for mark in (LeaderMark(5, frozenset(range(4))), LeaderMark(5, frozenset(), frozenset(range(4)))):
        more = Frontier.of({}, {}, {**listed, 4: mark})
        with pytest.raises(TokenError, match="65535"):
            encode_frontier(more)
        with pytest.raises(MalformedToken, match="more shards and origins"):
            decode_frontier(dumb_pack(Token(None, more, expires_at=EXPIRES_AT), 0))
    for mark in (LeaderMark(5, frozenset({9, 10, 11})), LeaderMark(5, frozenset(), origins)):
        fits = Frontier.of({}, {}, {**listed, 4: mark})
        assert decode_frontier(encode_frontier(fits)) == fits


@pytest.mark.spec("T-49")
def test_a_mark_before_1970_is_refused_when_sealed() -> None:
    with pytest.raises(TokenError, match="lapse"):
        encode_frontier(Frontier.of({}, {}, {0: LeaderMark(-1)}))


def test_a_frontier_is_no_token_and_a_token_no_frontier() -> None:
    with_seen = Token(None, Frontier.of({pack(1, 1): 5}), expires_at=EXPIRES_AT)
    timed = Token(expires_at=EXPIRES_AT, timestamp=5)
    touching = Token(Frontier.of({pack(1, 1): 5}), expires_at=EXPIRES_AT, touched={0: {1}})
    for token in (with_seen, timed, touching):
        with pytest.raises(MalformedToken):
            decode_frontier(dumb_pack(token, EXPIRES_AT))


# --- the budget --------------------------------------------------------------------------------------------------------

R = random.Random(11)
MS = 1_799_900_000_000


def entry_42_bits() -> int:
    return R.getrandbits(42)


def entry_clock() -> int:
    return (MS + R.randrange(60_000)) << 16 | R.randrange(4)


@pytest.mark.parametrize("store", [0, 1, 3, 40])
@pytest.mark.parametrize(
    ("n", "origin", "offset"),
    [
        pytest.param(6, lambda: 5, entry_42_bits, id="6 shards, 42-bit offsets, one small origin"),
        pytest.param(4, lambda: R.getrandbits(16), entry_42_bits, id="4 shards, distinct 16-bit origins"),
        pytest.param(12, lambda: 5, entry_clock, id="12 shards, clock offsets"),
    ],
)
def test_the_budget_of_100_characters(store: int, n: int, origin: Callable[[], int], offset: Callable[[], int]) -> None:
    keys = Keyring.generate()
    distinct = n == 4
    for gap in (1, 2, 3) if n == 12 else (1, 3, 7):
        common = origin()
        for _ in range(60):
            indexes, at = [], R.randrange(9)
            for _ in range(n):
                indexes.append(at)
                at += R.randint(1, gap)
            own = Frontier.of({pack((store << 16) + i, origin() if distinct else common): offset() for i in indexes})
            text = keys.seal(Token(own, expires_at=EXPIRES_AT), subject="alice", audience="shop")
            assert len(text) <= 100
