"""Wire: claims to canonical bytes and back.

Owns the layout of packed claims and the deterministic CBOR payload around them; `columns` is its alphabet, `entries` the
largest part, `cose` the frame around the payload. Knows no key and no clock. `docs/spec/token.md` says the same in words.

Decoding accepts exactly one spelling of each value (I10). Anything else raises MalformedToken, and no other exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from causal.core.columns import GUARD, MAX_COUNT, bad, get_column, get_set, put_column, put_set
from causal.core.cose import BSTR, UINT, bstr, head, read_uint, unwrap
from causal.core.entries import NOTHING, OFFSET, get_entries, put_entries
from causal.core.frontier import Frontier
from causal.core.hlc import MAX_TIMESTAMP, Timestamp
from causal.core.plain import pack_plain, unpack_plain
from causal.core.position import (
    ANY_ORIGIN,
    EVERY_STORE,
    FOREVER,
    MAX_OFFSET,
    MAX_ORIGIN,
    MAX_SHARD,
    MAX_STORE,
    LeaderMark,
)
from causal.core.token import MAX_EXPIRES_AT, Token
from causal.core.touched import MAX_FINGERPRINT, MAX_FINGERPRINTS, NO_FILTERS
from causal.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
_PAYLOAD: Final = bytes((0x83, VERSION))  # array(3), version
_PAYLOAD_32: Final = _PAYLOAD + b"\x1a"  # ..., and a number of 32 bits
_EMPTY: Final = Frontier()
_NO_MARKS: Final[dict[int, LeaderMark]] = {}


# --- extras: what most tokens do not have ----------------------------------------------------------------------------


def _put_extras(acc: int, timestamp: int | None, seen: Frontier, listed: Mapping[int, set[int]], base: int) -> int:
    """Push a 1 bit, then timestamp, floors and leader marks. `base` is what a mark's `until` is counted from."""
    acc = acc << 1 | 1
    acc = acc << 1 if timestamp is None else (acc << 1 | 1) << 64 | timestamp
    stores = sorted(seen.floors)
    acc = put_set(acc, stores)
    if stores:
        acc = put_column(acc, [seen.floors[s] for s in stores], OFFSET)
    stores = sorted(seen.marks)
    acc = put_set(acc, stores)
    if not stores:
        return acc
    marks = [seen.marks[s] for s in stores]
    acc = put_column(acc, [_until_to_wire(m.until, base) for m in marks], OFFSET)
    spelled = 0
    for store, mark in zip(stores, marks, strict=True):
        implied = mark.exact == listed.get(store, frozenset())
        acc = acc << 1 | implied
        spelled += len(mark.origins)
        if not implied:
            spelled += len(mark.exact)
            acc = put_set(acc, mark.exact)
        if spelled > MAX_COUNT:
            raise TokenError(f"the leader marks of a token spell at most {MAX_COUNT} shards and origins, all together")
        acc = put_set(acc, (origin - ANY_ORIGIN for origin in mark.origins))
    return acc


def _get_extras(
    v: int, pos: int, listed: Mapping[int, set[int]], base: int
) -> tuple[Timestamp | None, dict[int, int], dict[int, LeaderMark], int]:
    pos -= 2  # the first of them is known
    timestamp = None
    if v >> pos & 1:
        pos -= 64
        timestamp = Timestamp(v >> pos & MAX_TIMESTAMP)
    floors: dict[int, int] = {}
    stores, pos = get_set(v, pos, MAX_STORE)
    if stores:
        offsets, pos = get_column(v, pos, len(stores), OFFSET, MAX_OFFSET)
        floors = dict(zip(stores, offsets, strict=True))
    marks: dict[int, LeaderMark] = {}
    stores, pos = get_set(v, pos, EVERY_STORE)
    if stores:
        untils, pos = get_column(v, pos, len(stores), OFFSET, 2 * FOREVER + 2)
        left = (
            MAX_COUNT  # a run of consecutive numbers takes few bits: without a bound on all of them, a few kB become GB
        )
        for store, z in zip(stores, untils, strict=True):
            pos -= 1
            exact = frozenset(listed.get(store, ()))
            if not v >> pos & 1:
                spelled, pos = get_set(v, pos, MAX_SHARD)
                if exact == set(spelled):
                    raise bad("a list that is not in its shortest form")
                left -= len(spelled)
                exact = frozenset(spelled)
            origins, pos = get_set(v, pos, MAX_ORIGIN - ANY_ORIGIN)
            left -= len(origins)
            if left < 0:
                raise bad("more shards and origins than marks may spell")
            if len(origins) > 1 and not origins[0]:
                raise bad("any origin, and others")
            marks[store] = LeaderMark(
                _until_from_wire(z, base), exact, frozenset(origin + ANY_ORIGIN for origin in origins)
            )
    if timestamp is None and not floors and not marks:
        raise bad("an empty part")
    return timestamp, floors, marks, pos


def _until_to_wire(until: int, base: int) -> int:
    """0 is for ever; even is before `base`, odd is at it or later. Most marks lapse near the token's expiry."""
    if until >= FOREVER:
        return 0
    if until < 0:
        raise TokenError(f"a leader mark cannot lapse at {until}: Unix seconds are not negative")
    return 2 * (until - base) + 1 if until >= base else 2 * (base - until)


def _until_from_wire(z: int, base: int) -> int:
    if not z:
        return FOREVER
    until = base + (z >> 1) if z & 1 else base - (z >> 1)
    if not 0 <= until < FOREVER:
        raise bad("a number out of range")
    return until


# --- filters: what most tokens do not have either ------------------------------------------------------------------------


def _put_filters(acc: int, touched: Mapping[int, frozenset[int]]) -> int:
    """Push the bits 01, then the stores that have filters, then each filter."""
    stores = sorted(touched)
    acc = put_set(acc << 2 | 1, stores)
    for store in stores:
        acc = put_set(acc, touched[store])
    return acc


def _get_filters(v: int, pos: int, own: Mapping[int, int]) -> tuple[dict[int, frozenset[int]], int]:
    pos -= 2
    if v >> pos & 3 != 1:
        raise bad("padding that is not zero")
    stores, pos = get_set(v, pos, MAX_STORE)
    if not stores:
        raise bad("an empty part")
    if not {key >> 48 for key in own}.issuperset(stores):
        raise bad("a filter of what was not written")
    touched: dict[int, frozenset[int]] = {}
    for store in stores:
        fingerprints, pos = get_set(v, pos, MAX_FINGERPRINT)
        if len(fingerprints) > MAX_FINGERPRINTS:
            raise bad("more fingerprints than a filter has")
        touched[store] = frozenset(fingerprints)
    return touched, pos


def _listed(keys: Mapping[int, int], more: Mapping[int, int]) -> dict[int, set[int]]:
    by_store: dict[int, set[int]] = {}
    for key in (*keys, *more):
        by_store.setdefault(key >> 48, set()).add(key >> 32)
    return by_store


def _pack(
    own: Mapping[int, int],
    seen: Frontier,
    ages: Mapping[int, int],
    timestamp: int | None,
    base: int,
    touched: Mapping[int, frozenset[int]] = NO_FILTERS,
) -> bytes:
    acc = put_entries(own, seen.entries, ages)
    if timestamp is not None or seen.floors or seen.marks:
        listed = _listed(own, seen.entries) if seen.marks else {}
        acc = _put_extras(acc, timestamp, seen, listed, base)
    if touched:
        acc = _put_filters(acc, touched)
    bits = acc.bit_length() - 1
    pad = -bits % 8
    acc = (acc ^ 1 << bits) << pad
    return acc.to_bytes(bits + pad >> 3, "big")


def _unpack(
    packed: bytes, base: int
) -> tuple[Frontier, Frontier, Mapping[int, int], Timestamp | None, Mapping[int, frozenset[int]]]:
    v = int.from_bytes(packed, "big") << GUARD
    own, seen, ages, pos = get_entries(v, 8 * len(packed) + GUARD)
    timestamp = None
    floors = NOTHING
    marks = _NO_MARKS
    touched: Mapping[int, frozenset[int]] = NO_FILTERS
    if pos >= GUARD + 8 or v & (1 << pos) - 1:
        if v >> pos - 1 & 1:
            listed = _listed(own, seen)
            timestamp, floors, marks, pos = _get_extras(v, pos, listed, base)
        if pos >= GUARD + 8 or v & (1 << pos) - 1:
            touched, pos = _get_filters(v, pos, own)
    if not GUARD <= pos < GUARD + 8 or v & (1 << pos) - 1:
        raise bad("truncated claims" if pos < GUARD else "trailing bits")
    return (
        Frontier.of(own) if own else _EMPTY,
        Frontier.of(seen, floors, marks) if seen or floors or marks else _EMPTY,
        ages,
        timestamp,
        touched,
    )


def encode_frontier(frontier: Frontier) -> bytes:
    """Return the one compact spelling of a frontier, for engines that store dependencies with versions.

    Raises: TokenError for more than 65,535 positions. Complexity: linear in the packed size, for each position.
    """
    if not frontier.floors and not frontier.marks:
        return pack_plain(frontier.entries) or _pack(frontier.entries, _EMPTY, NOTHING, None, 0)
    return _pack(frontier.entries, Frontier.of({}, frontier.floors, frontier.marks), NOTHING, None, 0)


def decode_frontier(packed: bytes) -> Frontier:
    """Return the frontier that `encode_frontier` packed. Raises: MalformedToken for any other bytes."""
    plain = unpack_plain(packed)
    if plain is not None:
        return plain
    own, seen, ages, timestamp, touched = _unpack(packed, 0)
    if seen.entries or ages or timestamp is not None or touched:
        raise bad("the claims of a token where a frontier was expected")
    return Frontier.of(own.entries, seen.floors, seen.marks) if seen else own


# --- the payload ----


def encode_claims(token: Token) -> bytes:
    """Return the one spelling of a token's claims: the CBOR array [version, expires_at, packed claims].

    Raises: TokenError for more than 65,535 positions.
    """
    own, seen, expires_at = token.own.entries, token.seen, token.expires_at
    packed = None
    if not (seen.entries or token.ages or token.timestamp is not None or seen.floors or seen.marks or token.touched):
        packed = pack_plain(own)
    if packed is None:
        packed = _pack(own, seen, token.ages, token.timestamp, expires_at, token.touched)
    if 1 << 16 <= expires_at < 1 << 32:
        return _PAYLOAD_32 + expires_at.to_bytes(4, "big") + bstr(packed)
    return _PAYLOAD + head(UINT, expires_at) + bstr(packed)


def decode_claims(payload: bytes) -> Token:
    """Return the claims that `encode_claims` wrote. Raises: MalformedToken for any other bytes."""
    expires_at, at = int.from_bytes(payload[3:7], "big"), 7
    if payload[:3] != _PAYLOAD_32 or expires_at < 1 << 16:  # every time from 1970-01-01T18:12 to 2106 takes 32 bits
        if payload[:2] != _PAYLOAD:
            raise bad("unknown version" if payload[:1] == _PAYLOAD[:1] else "unexpected claims")
        expires_at, at = read_uint(payload, 2)
        if expires_at > MAX_EXPIRES_AT:
            raise bad("a number out of range")
    size = len(payload) - at - 1
    packed = payload[at + 1 :] if 0 < size < 24 and payload[at] == BSTR | size else unwrap(payload[at:])
    plain = unpack_plain(packed)
    if plain is not None:
        return Token.of(plain, _EMPTY, expires_at, None, NOTHING)
    own, seen, ages, timestamp, touched = _unpack(packed, expires_at)
    return Token.of(own, seen, expires_at, timestamp, ages, touched)
