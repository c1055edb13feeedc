"""What a cache holds under a key: a value with the watermark it was read at, or a tombstone. Pure: bytes in, values out.

Owns the layout, the comparison of positions and the judgement of one entry. Knows no clock, no session and no server.

An entry is true whoever wrote it, and whenever: `wm` says up to where its shards had been applied in the snapshots that the value
was read from, `seen` what that showed, and `good_until` how long nobody can hold against it that it is stale. So a cache may lose
entries, keep old ones or swap them, and costs time only: what it hands out is judged.

    bytes     what
    3         magic and version
    1         kind: V (value) or T (tombstone)
    2         how many origins
    8 + 8     of each: shard << 32 | origin, then offset; ascending (both halves of each are compared as numbers, in Lua, too)
    8         good_until, Unix milliseconds
    4 + n     only a value: what it showed, as `core.wire` spells a frontier
    ...       only a value: the value
    16        the first half of the SHA-1, in hex, over the cache's key, a zero byte, and all before

HAZARD: the checksum finds damage, and not malice. Whoever can write to the cache's server chooses what users see, as they could without
this library.
"""

from __future__ import annotations

import enum
import hashlib
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.wire import decode_frontier, encode_frontier
from causal.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.core.frontier import Frontier

MAGIC: Final = b"\xcaC\x01"
VALUE, TOMBSTONE = MAGIC + b"V", MAGIC + b"T"
SUM: Final = 16
MAX_ORIGINS: Final = 0xFFFF
MAX_U64: Final = 2**64 - 1
COPIED: Final = object()
"""Says of an entry that each hit decodes a copy of its own."""
_HEAD: Final = Struct(">4sH")
_PAIR: Final = Struct(">QQ")
_ONE: Final = Struct(">QQQ")
_U64: Final = Struct(">Q")
_U32: Final = Struct(">I")


_only: Final = lru_cache(maxsize=1024)(lambda shard: frozenset((shard,)))


class Standing(enum.Enum):
    """How an entry stands to a demand."""

    COVERS = "covers"
    BEHIND = "behind"
    """Something demanded is not in it, or is of an origin that it has never heard of."""
    DEAD = "dead"
    """It is of a history that has ended before it: it may show what was lost."""
    ELSEWHERE = "elsewhere"
    """It was read from other shards than are asked for."""


@attrs.define(eq=False)
class Entry:
    """A value (None: a tombstone, which forbids older values) with where it stands.

    `wm` maps packed (shard, origin) keys to what was applied of them. `good_until_ms` is by the wall clock, for other processes;
    `fresh_until`, by this process's monotonic clock, is for this one, and is not in the bytes. `raw` is what the bytes were.
    `judged` is the memo of the one who judged it last. Units: Unix milliseconds; seconds.
    Thread-safety: immutable by convention, but for `judged`, which is replaced as a whole.
    """

    wm: Mapping[int, int]
    good_until_ms: int
    seen: Frontier
    value: bytes | None = None
    fresh_until: float | None = None
    shared: Any = COPIED
    """The decoded value, where nobody can change it, or nobody does."""
    raw: bytes | None = None
    judged: Any = None
    shards: frozenset[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        wm = self.wm
        if len(wm) == 1:
            (key,) = wm
            self.shards = _only(key >> 32)
        else:
            self.shards = frozenset([key >> 32 for key in wm])


def encode(key: bytes, entry: Entry) -> bytes:
    """Return the bytes of an entry under a cache's key. Raises: TokenError for more origins, or positions seen, than can be counted."""
    if len(entry.wm) > MAX_ORIGINS:
        raise TokenError(f"an entry lists at most {MAX_ORIGINS} origins, not {len(entry.wm)}")
    parts = [_HEAD.pack(TOMBSTONE if entry.value is None else VALUE, len(entry.wm)), pack_pairs(entry.wm)]
    parts.append(_U64.pack(entry.good_until_ms))
    if entry.value is not None:
        seen = encode_frontier(entry.seen)
        parts += [_U32.pack(len(seen)), seen, entry.value]
    body = b"".join(parts)
    return body + checksum(key, body)


def decode(key: bytes, data: bytes, nothing: Frontier) -> Entry | None:
    """Undo `encode`; None for anything else: damage, another version, another key's entry, a stranger's value. `nothing` is a frontier
    without positions.
    """
    size = len(data) - SUM
    if size < _HEAD.size or data[:3] != MAGIC:
        return None
    kind, count = _HEAD.unpack_from(data)
    end = _HEAD.size + count * _PAIR.size
    if size < end + _U64.size or checksum(key, data[:size]) != data[size:]:
        return None
    if count == 1:
        packed, offset, good_until_ms = _ONE.unpack_from(data, _HEAD.size)
        wm = {packed: offset}
    else:
        wm = dict(_PAIR.iter_unpack(data[_HEAD.size : end]))
        if len(wm) != count or list(wm) != sorted(wm):
            return None
        (good_until_ms,) = _U64.unpack_from(data, end)
    at = end + _U64.size
    if kind == TOMBSTONE:
        return Entry(wm, good_until_ms, nothing, None, raw=data) if at == size else None
    if kind != VALUE or not wm or size < at + _U32.size:
        return None
    (length,) = _U32.unpack_from(data, at)
    at += _U32.size
    if at + length > size:
        return None
    try:
        seen = decode_frontier(data[at : at + length])
    except TokenError:
        return None
    return Entry(wm, good_until_ms, seen, data[at + length : size], None, COPIED, data)


def pack_pairs(positions: Mapping[int, int]) -> bytes:
    """Return positions as the header holds them, ascending: what the Lua side compares and joins."""
    return b"".join([_PAIR.pack(key, positions[key]) for key in sorted(positions)])


def checksum(key: bytes, body: bytes) -> bytes:
    """Return the checksum of an entry's body under a key. SHA-1 because a server can compute it in Lua, for a tombstone that it makes."""
    return hashlib.sha1(key + b"\0" + body, usedforsecurity=False).hexdigest()[:SUM].encode()


# --- comparing ---------------------------------------------------------------------------------------------------------


def covers(wm: Mapping[int, int], need: Mapping[int, int]) -> bool:
    """Return whether a watermark lists every needed origin, that far. Complexity: linear in `need`."""
    for key, offset in need.items():
        if wm.get(key, -1) < offset:
            return False
    return True


def replaces(new: Mapping[int, int], current: Mapping[int, int]) -> bool:
    """Return whether a new entry may take the place of the current one: of the shards that it is read from, it knows no less.

    What the current one says of other shards does not concern it.
    """
    shards = {key >> 32 for key in new}
    for key, offset in current.items():
        if new.get(key, -1) < offset and key >> 32 in shards:
            return False
    return True


def outdates(position: Mapping[int, int], current: Mapping[int, int]) -> bool:
    """Return whether an invalidation at some positions concerns an entry: it lacks one of a shard that it was read from.

    One that was read from none of their shards is outdated, too: whoever invalidates it knows more than it says.
    """
    shards = {key >> 32 for key in current}
    concerned = [key for key in position if key >> 32 in shards]
    return not concerned or any(current.get(key, -1) < position[key] for key in concerned)


def join(a: Mapping[int, int], b: Mapping[int, int]) -> dict[int, int]:
    """Return the pointwise maximum."""
    joined = dict(a)
    for key, offset in b.items():
        if offset > joined.get(key, -1):
            joined[key] = offset
    return joined


def stands(entry: Entry, need: Mapping[int, int], shards: frozenset[int], ends: Mapping[int, int]) -> Standing:
    """Judge an entry against what is demanded of these shards, and against what is known of the ends of histories.

    Complexity: linear in the demand and in the ends.
    """
    wm = entry.wm
    for key, end in ends.items():
        if wm.get(key, -1) > end:
            return Standing.DEAD
    if entry.shards != shards and entry.value is not None:
        return Standing.ELSEWHERE
    return Standing.COVERS if covers(wm, need) else Standing.BEHIND
