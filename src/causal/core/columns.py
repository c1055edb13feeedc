"""Columns of numbers as bits, each with one spelling: the alphabet that `wire` writes claims in.

Owns widths, bases and counts. Knows nothing of what the numbers mean.

The encoder pushes bits at the low end of an int that starts as 1, so that leading zeros are kept. The decoder reads from
the high end of an int that has GUARD zero bits below its last: a header that runs past the end then reads zeros, and the
comparison with GUARD that follows it notices. Every choice that the encoder makes by size is checked when decoding.
"""

from __future__ import annotations

from itertools import accumulate
from operator import lt, sub
from typing import TYPE_CHECKING, Final

from causal.errors import MalformedToken, TokenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GUARD: Final = 512
"""More bits than all headers between two comparisons can take (at most 64 + 3 + 2 * (7 + 127 + 7))."""
MAX_COUNT: Final = 0xFFFF
ESCAPE: Final = 31
ADDRESS: Final = 6
"""Bits of the width of a shard, an origin, a store or a gap between such."""


def bad(why: str) -> MalformedToken:
    """Return the one error of decoding."""
    return MalformedToken(f"not a token: {why}")


def put_number(acc: int, x: int, field: int) -> int:
    """Push a number that stands alone: its width in `field` bits, then itself."""
    width = x.bit_length()
    return (acc << field | width) << width | x


def get_number(v: int, pos: int, field: int) -> tuple[int, int]:
    """Read a number that stands alone; return it and the place after it."""
    pos -= field
    width = v >> pos & (1 << field) - 1
    pos -= width
    x = v >> pos & (1 << width) - 1
    if pos < GUARD:
        raise bad("truncated claims")
    if x.bit_length() != width:
        raise bad("a number that is not in its shortest form")
    return x, pos


def shape(lo: int, hi: int, n: int) -> tuple[int, int]:
    """Return (base, width) of a column of n numbers: the minimum is subtracted exactly when that is shorter."""
    whole, spread = hi.bit_length(), (hi - lo).bit_length()
    return (lo, spread) if n * (whole - spread) > lo.bit_length() else (0, whole)


def put_column(acc: int, xs: Sequence[int], field: int) -> int:
    """Push bits(base), base, width, then each number less the base; of a single number only its width and itself.

    A width takes `field` bits.
    """
    return put_shaped(acc, xs, min(xs), max(xs), field)


def put_shaped(acc: int, xs: Sequence[int], lo: int, hi: int, field: int) -> int:
    """Push a column whose least and greatest number are known."""
    n = len(xs)
    if n == 1:
        bits = lo.bit_length()
        return (acc << field | bits) << bits | lo
    base, width = shape(lo, hi, n)
    bits = base.bit_length()
    acc = ((acc << field | bits) << bits | base) << field | width
    if width:
        column = 0
        for x in xs:
            column = column << width | x - base
        acc = acc << n * width | column
    return acc


def get_column(v: int, pos: int, n: int, field: int, limit: int) -> tuple[list[int], int]:
    """Read a column of n numbers, each at most `limit`; return it and the place after it."""
    if n == 1:
        x, pos = get_number(v, pos, field)
        if x > limit:
            raise bad("a number out of range")
        return [x], pos
    mask = (1 << field) - 1
    pos -= field
    bits = v >> pos & mask
    pos -= bits
    base = v >> pos & (1 << bits) - 1
    pos -= field
    width = v >> pos & mask
    pos -= n * width
    if pos < GUARD:
        raise bad("truncated claims")
    if width:
        mask = (1 << width) - 1
        column = v >> pos & (1 << n * width) - 1
        xs = [column >> s & mask for s in range((n - 1) * width, -1, -width)]
        if base:
            xs = [x + base for x in xs]
    else:
        xs = [base] * n
    hi = max(xs)
    if hi > limit:
        raise bad("a number out of range")
    if base.bit_length() != bits or shape(min(xs), hi, n) != (base, width):
        raise bad("a column that is not in its shortest form")
    return xs, pos


def put_count(acc: int, n: int) -> int:
    """Push a count: 5 bits, or 31 and 16 bits. Raises: TokenError for more than 65,535."""
    if n < ESCAPE:
        return acc << 5 | n
    if n > MAX_COUNT:
        raise TokenError(f"a token lists at most {MAX_COUNT} positions, not {n}: compact it first")
    return (acc << 5 | ESCAPE) << 16 | n


def get_count(v: int, pos: int) -> tuple[int, int]:
    """Read a count."""
    pos -= 5
    n = v >> pos & ESCAPE
    if n == ESCAPE:
        pos -= 16
        n = v >> pos & MAX_COUNT
        if n < ESCAPE:
            raise bad("a count that is not in its shortest form")
    if pos < GUARD:
        raise bad("truncated claims")
    return n, pos


def put_ascending(acc: int, xs: Sequence[int]) -> int:
    """Push numbers that never fall: the first, then the column of gaps."""
    acc = put_number(acc, xs[0], ADDRESS)
    return put_column(acc, list(map(sub, xs[1:], xs)), ADDRESS) if len(xs) > 1 else acc


def get_rest(v: int, pos: int, first: int, n: int, limit: int) -> tuple[list[int], int]:
    """Read what follows the first of n numbers that never fall."""
    if n == 1:
        xs = [first]
    else:
        gaps, pos = get_column(v, pos, n - 1, ADDRESS, limit)
        xs = list(accumulate(gaps, initial=first))
    if xs[-1] > limit:
        raise bad("a number out of range")
    return xs, pos


def put_set(acc: int, xs: Iterable[int]) -> int:
    """Push a count, then numbers in ascending order, each once."""
    rising = sorted(xs)
    acc = put_count(acc, len(rising))
    return put_ascending(acc, rising) if rising else acc


def get_set(v: int, pos: int, limit: int) -> tuple[list[int], int]:
    """Read a count, then numbers that rise."""
    n, pos = get_count(v, pos)
    if not n:
        return [], pos
    first, pos = get_number(v, pos, ADDRESS)
    xs, pos = get_rest(v, pos, first, n, limit)
    if not all(map(lt, xs, xs[1:])):
        raise bad("numbers that do not rise")
    return xs, pos
