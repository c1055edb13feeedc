"""Entries as bytes: one spelling, nothing else accepted; and what may replace what, against a dumb twin."""

from __future__ import annotations

import random

import pytest

from causal.caches.entry import (
    MAX_ORIGINS,
    SUM,
    Entry,
    Standing,
    checksum,
    covers,
    decode,
    encode,
    join,
    outdates,
    pack_pairs,
    replaces,
    stands,
)
from causal.core.frontier import Frontier, pack
from causal.core.wire import encode_frontier
from causal.errors import TokenError

KEY = b"{causal:shop:0:photo}"
NOTHING = Frontier()
SEEN = Frontier.of({pack(0, 1): 5, pack(65536, 3): 2**64 - 1}, {1: 7}).mark(2, 1_800_000_000)
WM = {pack(0, 1): 5, pack(0, 2): 2**64 - 1, pack(3, 2**32 - 1): 0}


def parts(entry: Entry | None) -> tuple[object, ...] | None:
    return None if entry is None else (dict(entry.wm), entry.good_until_ms, entry.seen, entry.value, entry.shards)


def sealed(body: bytes) -> bytes:
    """Return a body with a checksum that fits: what is wrong with it is in the layout alone."""
    return body + checksum(KEY, body)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(WM, 1_700_000_000_123, SEEN, b"a value"),
        Entry({pack(0, 1): 5}, 0, NOTHING, b""),
        Entry({pack(0, 1): 5}, 2**64 - 1, NOTHING, b"\0" * 100),
        Entry(WM, 5, NOTHING, None),
        Entry({}, 5, NOTHING, None),
    ],
)
def test_what_is_encoded_comes_back(entry: Entry) -> None:
    data = encode(KEY, entry)
    again = decode(KEY, data, NOTHING)
    assert parts(again) == parts(entry)
    assert again is not None
    assert again.raw == data
    assert again.fresh_until is None  # another process's clock
    assert encode(KEY, again) == data


def test_the_layout_is_as_the_server_reads_it() -> None:
    body = (
        b"\xcaC\x01V\0\x02"
        + (1).to_bytes(8, "big")
        + (5).to_bytes(8, "big")
        + (1 << 32 | 2).to_bytes(8, "big")
        + (2**64 - 1).to_bytes(8, "big")
        + (1_700_000_000_123).to_bytes(8, "big")
        + len(encode_frontier(SEEN)).to_bytes(4, "big")
        + encode_frontier(SEEN)
        + b"value"
    )
    entry = Entry({pack(1, 2): 2**64 - 1, pack(0, 1): 5}, 1_700_000_000_123, SEEN, b"value")
    assert encode(KEY, entry) == sealed(body)


@pytest.mark.parametrize("value", [b"a value", None])
def test_no_bit_may_be_wrong(value: bytes | None) -> None:
    data = encode(KEY, Entry(WM, 1_700_000_000_123, SEEN if value else NOTHING, value))
    assert decode(KEY, data, NOTHING) is not None
    for place in range(len(data)):
        for bit in range(8):
            wrong = bytearray(data)
            wrong[place] ^= 1 << bit
            assert decode(KEY, bytes(wrong), NOTHING) is None
    for size in range(len(data)):
        assert decode(KEY, data[:size], NOTHING) is None
    assert decode(KEY, data + b"\0", NOTHING) is None
    assert decode(KEY + b"s", data, NOTHING) is None  # another key's entry


def test_nothing_else_is_an_entry_even_if_its_checksum_fits() -> None:
    seen, good = encode_frontier(SEEN), (5).to_bytes(8, "big")
    pairs, size = pack_pairs(WM), len(seen).to_bytes(4, "big")
    right = b"\xcaC\x01V\0\x03" + pairs + good + size + seen + b"value"
    assert decode(KEY, sealed(right), NOTHING) is not None
    for wrong in (
        b"",
        b"\xcaC\x01",
        b"\xcaC\x02" + right[3:],  # another version
        right[:3] + b"X" + right[4:],  # another kind
        b"\xcaC\x01V\0\x00" + good + size + seen + b"value",  # a value that depends on nothing
        b"\xcaC\x01V\0\x02" + pairs + good + size + seen + b"value",  # a count that is wrong
        b"\xcaC\x01V\0\x03" + pairs[16:32] + pairs[:16] + pairs[32:] + good + size + seen + b"value",  # not ascending
        b"\xcaC\x01V\0\x02" + pairs[:16] * 2 + good + size + seen + b"value",  # an origin twice
        b"\xcaC\x01V\0\x03" + pairs + good + (10_000).to_bytes(4, "big") + seen,  # runs past the end
        b"\xcaC\x01V\0\x03" + pairs + good + b"\0\0",  # ends too early
        b"\xcaC\x01V\0\x03"
        + pairs
        + good
        + (1).to_bytes(4, "big")
        + b"\xff"
        + b"value",  # what was seen is no frontier
        b"\xcaC\x01T\0\x03" + pairs + good + b"more",  # a tombstone with a value
        b"\xcaC\x01T\0\x03" + pairs + good[:4],
    ):
        assert decode(KEY, sealed(wrong), NOTHING) is None


def test_too_many_origins_are_refused() -> None:
    with pytest.raises(TokenError):
        encode(KEY, Entry(dict.fromkeys(range(MAX_ORIGINS + 1), 1), 5, NOTHING, None))
    assert (
        len(encode(KEY, Entry(dict.fromkeys(range(MAX_ORIGINS), 1), 5, NOTHING, None))) == 14 + 16 * MAX_ORIGINS + SUM
    )


# --- comparing, against a twin that knows only sets of "everything up to here" ---------------------------------------


def random_wm(draw: random.Random) -> dict[int, int]:
    keys = [pack(shard, origin) for shard in range(2) for origin in range(1, 3)]
    return {key: draw.randint(0, 3) for key in draw.sample(keys, draw.randint(1, 4))}


def everything(wm: dict[int, int]) -> set[tuple[int, int]]:
    return {(key, n) for key, offset in wm.items() for n in range(offset + 1)}


def test_the_comparisons_are_those_of_sets() -> None:
    draw = random.Random(7)
    seen = {True: 0, False: 0}
    for _ in range(20_000):
        new, current = random_wm(draw), random_wm(draw)
        mine = {key >> 32 for key in new}
        concerned = {one for one in everything(current) if one[0] >> 32 in mine}
        assert replaces(new, current) is (concerned <= everything(new))
        assert covers(new, current) is (everything(current) <= everything(new))
        assert everything(join(new, current)) == everything(new) | everything(current)
        shards = {key >> 32 for key in current}
        asked = {one for one in everything(new) if one[0] >> 32 in shards}
        assert outdates(new, current) is (not asked or not asked <= everything(current))
        seen[replaces(new, current)] += 1
    assert min(seen.values()) > 1000


def test_how_an_entry_stands() -> None:
    entry = Entry({pack(0, 1): 5, pack(0, 2): 3}, 0, NOTHING, b"value")
    here, elsewhere = frozenset({0}), frozenset({0, 1})
    assert stands(entry, {}, here, {}) is Standing.COVERS
    assert stands(entry, {pack(0, 1): 5}, here, {}) is Standing.COVERS
    assert stands(entry, {pack(0, 1): 6}, here, {}) is Standing.BEHIND
    assert stands(entry, {pack(0, 3): 0}, here, {}) is Standing.BEHIND  # an origin that it has never heard of
    assert stands(entry, {}, here, {pack(0, 1): 5}) is Standing.COVERS  # all that survives of it
    assert stands(entry, {}, here, {pack(0, 1): 4}) is Standing.DEAD
    assert stands(entry, {}, elsewhere, {pack(0, 1): 4}) is Standing.DEAD
    assert stands(entry, {}, elsewhere, {}) is Standing.ELSEWHERE
    assert stands(entry, {}, frozenset({1}), {}) is Standing.ELSEWHERE
