"""Vector clocks, one number a lane, packed into one integer; and the scan that finds reads which miss what they depend on.

Owns the packing. A field of `width` bits holds how much evidence of a lane is known; its top bit is always 0 in a clock, so that all
fields are compared by one subtraction: with the top bits set in the minuend, each stays set where no borrow reached it.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

import attrs

from causal.lab.checking.model import INITIAL, UNKNOWN
from causal.lab.history import WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from causal.lab.checking.model import Model
    from causal.lab.checking.processing import Processing

STEP: Final = 4096
"""How many operations a scan does before it says so."""


class Packing:
    """Where each lane's field lies. Thread-safety: immutable by convention."""

    def __init__(self, model: Model) -> None:
        self.width: Final = model.most.bit_length() + 1
        self.field: Final = (1 << (self.width - 1)) - 1
        self.shift: Final = [self.width * a for a in range(len(model.order.lane_ops))]
        lanes = len(self.shift)
        self.guard: Final = (
            (((1 << self.width * lanes) - 1) // ((1 << self.width) - 1)) << (self.width - 1) if lanes else 0
        )

    def join(self, a: int, b: int) -> int:
        """Return the larger of two clocks in each field. Complexity: linear in their length, a machine word at a time."""
        guard = self.guard
        kept = ((a | guard) - b) & guard
        kept -= kept >> (self.width - 1)
        return b ^ ((a ^ b) & kept)

    def at(self, clock: int, lane: int) -> int:
        """Return one lane's field."""
        return (clock >> self.shift[lane]) & self.field


@attrs.define(eq=False)
class Scan:
    """What a scan found: reads that miss something, beside each the newest that it misses; and the clock of each operation, if wanted.

    A clock counts the evidence that the operation is, too. Thread-safety: none.
    """

    stale: list[int]
    missed: list[int]
    clocks: list[int | None]


def scan(
    model: Model,
    packing: Packing,
    found: Processing,
    tell: Callable[[int], object],
    *,
    generous: bool = False,
    keep: bool = False,
) -> Scan:
    """Find each read that returns less than the newest version that its causal past has of its key.

    `generous` takes more for the past than is: a version brings the past of every older version of its key along. What misses nothing of
    that much misses nothing at all; the order must put versions of a key one after the other, then.
    Complexity: each operation joins two clocks and looks at the versions newer than what it returned.
    """
    history, pos, rank, writer, chain = model.history, model.pos, model.rank, model.writer, model.chain
    flags, key, lane, evidence, obliges = history.flags, history.key, model.order.lane, model.evidence, model.obliges
    split, extra = model.split, model.order.extra
    shift, field, guard, down = packing.shift, packing.field, packing.guard, packing.width - 1
    unit = [1 << s for s in shift]
    n = len(flags)
    now = [0] * len(shift)
    readers = _readers(model) if not keep else None
    clocks: list[int | None] = [None] * n
    needed = {e for followed in extra.values() for e in followed}
    kept: dict[int, int] = {}
    seen: list[list[int] | None] = [None] * model.chains
    top = array("q", [-1]) * model.chains
    along = [0] * (model.chains if generous else 0)
    stale: list[int] = []
    missed: list[int] = []
    forced = found.forced
    left = STEP
    for i in found.order:
        a = lane[i]
        if a < 0:
            continue
        left -= 1
        if not left:
            left = STEP
            tell(STEP)
        c = now[a]
        if i in extra:
            for e in extra[i]:
                c = packing.join(c, kept[e]) if e in kept else c
        c_at = chain[i]
        if not flags[i] & WRITE:
            w = writer[i]
            if w >= 0:
                b = lane[w]
                if (c >> shift[b]) & field < pos[w]:
                    d = clocks[w]
                    if d is None:  # of a cycle: it comes later
                        assert i in forced
                        d = pos[w] << shift[b]
                    t = ((c | guard) - d) & guard
                    t -= t >> down
                    c = d ^ ((c ^ d) & t)
                if readers is not None:
                    readers[w] -= 1
                    if not readers[w]:
                        clocks[w] = None
            q = rank[i]
            if generous and w == UNKNOWN:
                c = packing.join(c, along[c_at])
            # A read that found nothing looks at every chain of its key; any other at its own.
            for at in split[key[i]].values() if w == INITIAL and key[i] in split else (c_at,):
                if top[at] > q >= INITIAL:
                    versions = seen[at]
                    assert versions is not None
                    for m in range(len(versions) - 1, -1, -1):
                        v = versions[m]
                        if rank[v] <= q:
                            break
                        if (c >> shift[lane[v]]) & field >= pos[v] and obliges[v]:
                            stale.append(i)
                            missed.append(v)
                            break
                    else:
                        continue
                    if stale and stale[-1] == i:
                        break
        if evidence[i]:
            if not forced:
                c += unit[a]
            elif (c >> shift[a]) & field < pos[i]:  # else it is of a cycle, and knows what comes after it
                c += (pos[i] - ((c >> shift[a]) & field)) << shift[a]
            q = rank[i]
            if q >= 0:
                versions = seen[c_at]
                if versions is None:
                    seen[c_at] = [i]
                    top[c_at] = q
                else:
                    if q >= top[c_at]:
                        versions.append(i)
                        top[c_at] = q
                    else:
                        _insert(versions, rank, i)
                if generous:
                    d = along[c_at]
                    t = ((c | guard) - d) & guard
                    t -= t >> down
                    c = d ^ ((c ^ d) & t)
                    along[c_at] = c
            if readers is not None and readers[i]:
                clocks[i] = c
        if readers is None:
            clocks[i] = c
        now[a] = c
        if i in needed:
            kept[i] = c
    tell(STEP - left)
    return Scan(stale, missed, clocks)


def _readers(model: Model) -> array[int]:
    """Count who reads each write, so that its clock need not be kept for longer."""
    readers = array("i", [0]) * len(model.writer)
    lane = model.order.lane
    for i, w in enumerate(model.writer):
        if w >= 0 and lane[i] >= 0:
            readers[w] += 1
    return readers


def _insert(versions: list[int], rank: Sequence[int], i: int) -> None:
    """Insert a version that is older than some that came before it."""
    at = len(versions)
    while at and rank[versions[at - 1]] > rank[i]:
        at -= 1
    versions.insert(at, i)
