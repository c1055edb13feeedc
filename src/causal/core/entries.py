"""Entries of a token as bits: `own` and `seen`, with their ages, as columns.

Owns the layout of entries. Knows nothing of stores, marks or the frame; `wire` puts the parts together.
"""

from __future__ import annotations

from operator import add, lt
from typing import TYPE_CHECKING, Final

from causal.core.columns import (
    ADDRESS,
    ESCAPE,
    bad,
    get_column,
    get_count,
    get_number,
    get_rest,
    put_ascending,
    put_column,
    put_count,
    put_shaped,
)
from causal.core.position import MAX_OFFSET, MAX_ORIGIN, MAX_SHARD
from causal.core.token import MAX_AGE_H

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OFFSET: Final = 7
"""Bits of the width of an offset or a time."""
REGULAR: Final = 4
"""Flag: one entry for each of consecutive shards, all under one origin."""
_SPLIT: Final = 2  # flag: high and low bits of offsets in columns of their own
_MIXED: Final = 1  # flag: not all entries are own, or some have ages
_OWN, _SEEN, _BOTH = 0, 1, 2
_HIGH: Final = 6  # bits of the width of the high 48 bits of an offset
_LOW: Final = 5  # ... of the low 16
_KIND: Final = 2  # ... of a kind
_AGE: Final = 4  # ... of an age
NOTHING: Final[dict[int, int]] = {}


def splits(xs: Iterable[int], lo: int, hi: int) -> bool:
    """Return whether high bits and low 16 go into two columns. `lo` and `hi` are the least and the greatest of the numbers.

    It is for hybrid clock offsets, whose low 16 bits are a counter that is nearly always small, and that differ above them. A rule
    of the numbers' bits, not of the lengths that either way would take: it is applied to each token that is opened, too.
    """
    if hi >> 16 == lo >> 16 or (lo | hi) & 0xF000:
        return False
    bits = 0
    for x in xs:
        bits |= x
    return not bits & 0xF000


def put_entries(own: Mapping[int, int], seen: Mapping[int, int], ages: Mapping[int, int]) -> int:
    """Push the count and three flags (one byte for up to 30 entries), the keys, the offsets, then kinds and ages."""
    if seen:
        keys = sorted(own.keys() | seen.keys())
        offsets = [own[k] if k in own else seen[k] for k in keys]
    else:
        keys = sorted(own)
        offsets = [own[k] for k in keys]
    n = len(keys)
    if not n:
        return 1 << 8
    first = keys[0]
    regular = n == 1 or keys == [*range(first, first + (n << 32), 1 << 32)]
    lo, hi = (offsets[0], offsets[0]) if n == 1 else (min(offsets), max(offsets))
    split = n > 1 and splits(offsets, lo, hi)
    mixed = bool(seen or ages)
    acc = ((1 << 5 | n) if n < ESCAPE else put_count(1, n)) << 3 | regular << 2 | split << 1 | mixed
    if regular:
        shard, origin = first >> 32, first & 0xFFFFFFFF
        bits = shard.bit_length()
        acc = (acc << ADDRESS | bits) << bits | shard
        bits = origin.bit_length()
        acc = (acc << ADDRESS | bits) << bits | origin
    else:
        acc = put_ascending(acc, [k >> 32 for k in keys])
        acc = put_column(acc, [k & 0xFFFFFFFF for k in keys], ADDRESS)
    if split:
        acc = put_column(acc, [x >> 16 for x in offsets], _HIGH)
        acc = put_column(acc, [x & 0xFFFF for x in offsets], _LOW)
    else:
        acc = put_shaped(acc, offsets, lo, hi, OFFSET)
    return _put_mixed(acc, keys, own, seen, ages, split) if mixed else acc


def _put_mixed(
    acc: int, keys: list[int], own: Mapping[int, int], seen: Mapping[int, int], ages: Mapping[int, int], split: bool
) -> int:
    """Push which entries are own, seen or both; how far seen is ahead where both; then the ages, if any."""
    acc = put_column(acc, [_OWN if k not in seen else _BOTH if k in own else _SEEN for k in keys], _KIND)
    both = [k for k in keys if k in own and k in seen]
    if both and split:
        acc = put_column(acc, [(seen[k] >> 16) - (own[k] >> 16) for k in both], _HIGH)
        acc = put_column(acc, [seen[k] & 0xFFFF for k in both], _LOW)
    elif both:
        acc = put_column(acc, [seen[k] - own[k] for k in both], OFFSET)
    return put_column(acc << 1 | 1, [ages.get(k, 0) for k in keys], _AGE) if ages else acc << 1


def get_entries(v: int, pos: int) -> tuple[dict[int, int], dict[int, int], Mapping[int, int], int]:
    """Read what `put_entries` pushed: own, seen and ages by packed key, and the place after them."""
    n, pos = get_count(v, pos)
    pos -= 3
    flags = v >> pos & 7
    if not n:
        if flags:
            raise bad("flags of nothing")
        return {}, NOTHING, NOTHING, pos
    first, pos = get_number(v, pos, ADDRESS)
    if flags & REGULAR:
        origin, pos = get_number(v, pos, ADDRESS)
        if origin > MAX_ORIGIN or first + n - 1 > MAX_SHARD:
            raise bad("a number out of range")
        first = first << 32 | origin
        keys = [*range(first, first + (n << 32), 1 << 32)]
    else:
        shards, pos = get_rest(v, pos, first, n, MAX_SHARD)
        origins, pos = get_column(v, pos, n, ADDRESS, MAX_ORIGIN)
        keys = [s << 32 | o for s, o in zip(shards, origins, strict=True)]
        if not all(map(lt, keys, keys[1:])) or keys == [*range(keys[0], keys[0] + (n << 32), 1 << 32)]:
            raise bad("positions out of order, or not in their shortest form")
    if flags & _SPLIT:
        highs, pos = get_column(v, pos, n, _HIGH, MAX_OFFSET >> 16)
        lows, pos = get_column(v, pos, n, _LOW, 0xFFFF)
        offsets = [h << 16 | w for h, w in zip(highs, lows, strict=True)]
    else:
        offsets, pos = get_column(v, pos, n, OFFSET, MAX_OFFSET)
    if splits(offsets, min(offsets), max(offsets)) is not bool(flags & _SPLIT):
        raise bad("a column that is not in its shortest form")
    entries = dict(zip(keys, offsets, strict=True))
    return _get_mixed(v, pos, entries, bool(flags & _SPLIT)) if flags & _MIXED else (entries, NOTHING, NOTHING, pos)


def _get_mixed(
    v: int, pos: int, entries: dict[int, int], split: bool
) -> tuple[dict[int, int], dict[int, int], Mapping[int, int], int]:
    n = len(entries)
    kinds, pos = get_column(v, pos, n, _KIND, _BOTH)
    own = {k: offset for (k, offset), kind in zip(entries.items(), kinds, strict=True) if kind != _SEEN}
    seen = {k: offset for (k, offset), kind in zip(entries.items(), kinds, strict=True) if kind != _OWN}
    both = [k for k in seen if k in own]
    if both:
        ahead, pos = _get_ahead(v, pos, [own[k] for k in both], split)
        seen.update(zip(both, ahead, strict=True))
    pos -= 1
    ages: Mapping[int, int] = NOTHING
    if v >> pos & 1:
        column, pos = get_column(v, pos, n, _AGE, MAX_AGE_H)
        ages = {k: age_h for k, age_h in zip(entries, column, strict=True) if age_h}
        if not ages:
            raise bad("a column that is not in its shortest form")
    if not seen and not ages:
        raise bad("flags of nothing")
    return own, seen, ages, pos


def _get_ahead(v: int, pos: int, mine: list[int], split: bool) -> tuple[list[int], int]:
    """Read the `seen` offsets of the entries that have an `own` one too."""
    if split:
        highs, pos = get_column(v, pos, len(mine), _HIGH, MAX_OFFSET >> 16)
        lows, pos = get_column(v, pos, len(mine), _LOW, 0xFFFF)
        ahead = [(x >> 16) + h << 16 | w for x, h, w in zip(mine, highs, lows, strict=True)]
    else:
        column, pos = get_column(v, pos, len(mine), OFFSET, MAX_OFFSET)
        ahead = list(map(add, mine, column))
    if max(ahead) > MAX_OFFSET:
        raise bad("a number out of range")
    if not all(map(lt, mine, ahead)):
        raise bad("a seen position that an own one subsumes")
    return ahead, pos
