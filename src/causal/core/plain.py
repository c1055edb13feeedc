"""What most tokens and dependencies are, packed and unpacked without a call: own entries of consecutive shards, under one origin.

Owns no rule of the layout: `entries` does, and these two say the same for the common case alone. In any doubt they return None, and
`wire` goes the careful way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from causal.core.columns import ESCAPE
from causal.core.entries import REGULAR, splits
from causal.core.frontier import Frontier
from causal.core.position import MAX_OFFSET, MAX_ORIGIN, MAX_SHARD

if TYPE_CHECKING:
    from collections.abc import Mapping


def pack_plain(entries: Mapping[int, int]) -> bytes | None:
    """Return what `put_entries` would make of the common case, padded to bytes; None for any other.

    Complexity: linear in the packed size, for each position.
    """
    n = len(entries)
    if not 0 < n < ESCAPE:
        return None
    first = min(entries)
    acc = _header(n, first)
    if n == 1:
        offset = entries[first]
        bits = offset.bit_length()
        acc = (acc << 7 | bits) << bits | offset
    else:
        offsets = entries.values()
        lo, hi = min(offsets), max(offsets)
        if hi >> 16 != lo >> 16 and not (lo | hi) & 0xF000 and splits(offsets, lo, hi):
            return None
        whole, width = hi.bit_length(), (hi - lo).bit_length()  # as `shape` says
        bits = lo.bit_length()
        if n * (whole - width) > bits:
            acc = ((acc << 7 | bits) << bits | lo) << 7 | width
        else:
            acc, lo, width = acc << 14 | whole, 0, whole
        try:  # n keys, each where it would be: there are no others
            for key in range(first, first + (n << 32), 1 << 32):
                acc = acc << width | entries[key] - lo
        except KeyError:
            return None
    bits = acc.bit_length() - 1
    pad = -bits & 7
    return ((acc ^ 1 << bits) << pad).to_bytes(bits + pad >> 3, "big")


@lru_cache(maxsize=1024)
def _header(n: int, first: int) -> int:
    """Return a 1, the count, the flags, the first shard, the origin: of whoever seals, mostly the same."""
    shard, origin = first >> 32, first & 0xFFFFFFFF
    bits = shard.bit_length()
    acc = ((32 | n) << 9 | REGULAR << 6 | bits) << bits | shard
    bits = origin.bit_length()
    return (acc << 6 | bits) << bits | origin


def unpack_plain(packed: bytes) -> Frontier | None:
    """Return the frontier that `pack_plain` packed; None for any other bytes, right or wrong."""
    try:
        lead = packed[0]
        if lead & 7 != REGULAR or lead >= ESCAPE << 3:
            return None
        n = lead >> 3
        v = int.from_bytes(packed, "big")
        pos = 8 * len(packed) - 14
        shard_bits = v >> pos & 63
        if shard_bits:
            pos -= shard_bits
            shard = v >> pos & (1 << shard_bits) - 1
            if shard >> shard_bits - 1 != 1 or shard + n - 1 > MAX_SHARD:
                return None
        else:
            shard = 0
        pos -= 6
        origin_bits = v >> pos & 63
        pos -= origin_bits + 7
        origin = v >> pos
        bits = origin & 127
        origin = origin >> 7 & (1 << origin_bits) - 1
        pos -= bits
        base = v >> pos & (1 << bits) - 1
        key = shard << 32 | origin
        if n == 1:
            hi = base
            entries = {key: base}
        else:
            pos -= 7
            width = v >> pos & 127
            pos -= n * width
            column = v >> pos
            mask = (1 << width) - 1
            entries = {}
            # Backwards, so that what is left of the column gets shorter.
            for last in range(key + (n - 1 << 32), key - 1, -1 << 32):
                entries[last] = (column & mask) + base
                column >>= width
            offsets = entries.values()
            lo, hi = min(offsets), max(offsets)
            whole, spread = hi.bit_length(), (hi - lo).bit_length()  # as `shape` says
            if (base, width) != ((lo, spread) if n * (whole - spread) > lo.bit_length() else (0, whole)):
                return None
            if hi >> 16 != lo >> 16 and not (lo | hi) & 0xF000 and splits(offsets, lo, hi):
                return None
        if (
            8 > pos >= 0 == v & (1 << pos) - 1
            and hi <= MAX_OFFSET
            and origin <= MAX_ORIGIN
            and origin.bit_length() == origin_bits
            and base.bit_length() == bits
        ):
            return Frontier.plain(entries)
    except (IndexError, ValueError):  # nothing at all; or a negative shift: shorter than it says
        pass
    return None
