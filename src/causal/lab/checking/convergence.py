"""Which reads return what was causally overwritten, and which write a read orders after which other.

Owns two patterns of Bouajjani, Enea, Guerraoui and Hamza (POPL 2017), on clocks: for each lane only the last write that is known counts
(as in AWDIT, 2025), so that a read costs a bisection for each lane that wrote its key.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from causal.lab.checking.evidence import known

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from causal.lab.checking.clocks import Packing
    from causal.lab.checking.evidence import Index
    from causal.lab.checking.model import Model
    from causal.lab.checking.session_guarantees import Newer


def known_writes(packing: Packing, index: Index, key: int, clock: int) -> Iterator[int]:
    """Yield, for each lane, the last write of a key that a clock knows and that obliges anyone."""
    shift, field = packing.shift, packing.field
    for lane, (counts, ops) in index.binding.get(key, {}).items():
        at = bisect_right(counts, (clock >> shift[lane]) & field)
        if at:
            yield ops[at - 1]


def overwritten(model: Model, packing: Packing, index: Index, newer: Newer, read: int, clock: int) -> int:
    """Return a write that a read depends on, and that causally follows the write that the read saw; or -1."""
    key = model.history.key[read]
    for i in known_writes(packing, index, key, clock):
        if newer.written_after(read, i):
            return i
    if model.writer[read] == -1:  # found nothing: that a version was read shows as well that there was one
        for lane, column in index.evidence.get(key, {}).items():
            i = known(column, packing.at(clock, lane))
            if i >= 0:
                return i
    return -1


def conflicts(
    model: Model, packing: Packing, index: Index, clocks: Sequence[int | None], reads: Iterable[int]
) -> dict[int, Collection[int]]:
    """Return, for each write, the writes of its key that some read which saw it depends on: it must come after them."""
    before: dict[int, set[int]] = {}
    for r in reads:
        w, clock = model.writer[r], clocks[r]
        if w < 0 or clock is None:
            continue
        for i in known_writes(packing, index, model.history.key[r], clock):
            if i != w and not (model.white and model.rank[i] == model.rank[w] and model.chain[i] == model.chain[w]):
                before.setdefault(w, set()).add(i)
    return {w: sorted(others) for w, others in before.items()}
