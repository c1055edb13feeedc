"""Writes that were acknowledged and exist no more: whether their sessions were told before they went on.

Owns when a session has gone on: it read the key, later, and found less than it wrote. Meeting another origin shows nothing: several may
number a shard at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from causal.lab.checking.findings import UNTOLD, Finding
from causal.lab.checking.model import INITIAL
from causal.lab.history import IN_DOUBT, NOT_HELD, WRITE

if TYPE_CHECKING:
    from causal.lab.checking.model import Model


@attrs.frozen(eq=False)
class Losses:
    """How many acknowledged writes were lost, of how many the session was told in time, and what it was not told of."""

    lost: int
    told: int
    finding: Finding


def losses(model: Model, *, held_only: bool) -> Losses:
    """Judge the writes past the ends of their origins. Complexity: a walk over the rest of its session for each.

    `held_only`: a read that was promised less does not look at what is demanded, so nothing is told before it.
    """
    history = model.history
    finding = Finding()
    writes = [
        i
        for i in model.lost
        if history.flags[i] & WRITE and not history.flags[i] & IN_DOUBT and model.order.lane[i] >= 0
    ]
    if not writes:
        return Losses(0, 0, finding)
    told: dict[tuple[int, int, int, int], int] = {}
    for line in history.told:
        name = (line.session, line.shard, line.origin, line.offset)
        told[name] = min(line.seq, told.get(name, line.seq))
    in_time = 0
    for w in writes:
        shard = history.keys[history.key[w]][0]
        when = told.get((history.session[w], shard, history.origin[w], history.offset[w]))
        later = _went_on(model, w, when, NOT_HELD if held_only else 0)
        if later >= 0:
            finding.note(UNTOLD, w, later)
        elif when is not None:
            in_time += 1
    return Losses(len(writes), in_time, finding)


def _went_on(model: Model, w: int, told: int | None, passed_over: int) -> int:
    """Return the first operation of a session that went on past a loss before it was told, or -1."""
    history = model.history
    lanes = model.order.lanes_of_session[history.session[w]]
    for i in sorted(i for a in lanes for i in model.order.lane_ops[a] if i > w):
        if (told is not None and history.seq[i] >= told) or not model.precedes(w, i):
            continue
        if history.flags[i] & (WRITE | passed_over) or history.key[i] != history.key[w]:
            continue
        older = history.origin[i] == history.origin[w] and history.offset[i] < history.offset[w]
        if model.writer[i] == INITIAL or older:
            return i
    return -1
