"""The smallest story that shows a violation: the fewest operations that still do, and a sentence.

Owns how a history is cut down. What stays is judged like any history, so a witness shows its violation to whoever checks it again. An
operation that is left out takes only demands with it: a read whose write is gone shows that its version exists, or in a black box nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.lab.checking.findings import (
    CONVERGENT,
    MEMORY,
    STALE,
    THIN_AIR,
    UNTOLD,
    WRITES_FOLLOW_READS,
    Violation,
)
from causal.lab.checking.judge import judge
from causal.lab.checking.model import Model
from causal.lab.checking.paths import path
from causal.lab.checking.story import story
from causal.lab.history import DELETE, IN_DOUBT, NO_STAMP, NO_VERSION, NOT_HELD, REFUSED, WRITE, History

if TYPE_CHECKING:
    from collections.abc import Iterable

BUDGET: Final = 2_000_000
"""How many operations may be judged again, all attempts together, to make one witness smaller."""


@attrs.frozen
class Witness:
    """Operations, as the fields of their lines and the number of the line, and a sentence. Thread-safety: immutable."""

    operations: tuple[dict[str, Any], ...]
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"operations": list(self.operations), "sentence": self.sentence}


def witness(model: Model, guarantee: str, violation: Violation, *, held_only: bool) -> Witness:
    """Return the smallest witness found. Complexity: linear in the history; what is small already is cut down one by one."""
    if violation.kind in {THIN_AIR, UNTOLD}:
        return _told(model, sorted(set(violation.ops)), guarantee, model, violation)
    cutter = _Cutter(model, guarantee, held_only)
    for places in _seeds(model, guarantee, violation):
        if cutter.shows(places) is not None:
            places = cutter.cut(places)
            found = cutter.shows(places)
            assert found is not None
            return _told(model, places, guarantee, *found)
    return _told(model, sorted(set(violation.ops)), guarantee, model, violation)


def _told(model: Model, places: list[int], guarantee: str, small: Model, violation: Violation) -> Witness:
    history = model.history
    rows = tuple({"line": history.line[i], **history.fields(i)} for i in places)
    wrote = {
        n: history.sessions[history.session[w]]
        for n, i in enumerate(places)
        if small is not model
        and (w := model.writer[i]) >= 0
        and w not in places
        and history.session[w] != history.session[i]
    }
    return Witness(rows, story(small, guarantee, violation, wrote))


def _seeds(model: Model, guarantee: str, violation: Violation) -> Iterable[list[int]]:
    """Yield sets of operations that may show a violation, smaller ones first. The last is all that came before it."""
    ops = set(violation.ops)
    if violation.kind == STALE:
        r, missed = violation.ops
        w = model.writer[r]
        shown = model.writer[missed] if model.writer[missed] >= 0 else missed
        plain = ops | ({w} if w >= 0 else set())
        yield sorted(ops)
        yield sorted(ops | _revealing(model, guarantee, r, missed))
        plain |= {shown, *path(model, missed, r)}
        yield sorted(plain)
        if w >= 0:
            plain |= set(path(model, w, shown))
        yield sorted(plain | _revealing(model, guarantee, r, missed))
    else:
        yield sorted(ops)
        yield sorted(_reasons(model, guarantee, violation.ops))
    last = max(ops)
    sessions = {model.history.session[i] for i in ops}
    near = {i for i in range(last + 1) if model.history.session[i] in sessions}
    near |= {w for i in near if (w := model.writer[i]) >= 0}
    yield sorted(near)
    yield list(range(len(model.writer)))


def _revealing(model: Model, guarantee: str, r: int, missed: int) -> set[int]:
    """Return a write of the session of what was missed, after that, and the read of the reader's session that saw it."""
    lanes = model.order.lanes_of_session[model.history.session[r]]
    for lane in lanes:
        for i in model.order.lane_ops[lane]:
            w = model.writer[i]
            if w >= 0 and (i == r or model.precedes(i, r)) and model.precedes(missed, w):
                seen = model.writer[missed]
                return {i, w} | (
                    {seen} if seen >= 0 and guarantee == WRITES_FOLLOW_READS and not model.white else set()
                )
    return set()


def _reasons(model: Model, guarantee: str, cycle: tuple[int, ...]) -> set[int]:
    """Return a cycle with what shows that each of its operations depends on the one before it."""
    ops = set(cycle)
    flags, key, writer = model.history.flags, model.history.key, model.writer
    for n, b in enumerate(cycle):
        a = cycle[n - 1]
        if model.precedes(a, b) or writer[b] == a:
            continue
        ops |= set(path(model, a, b))
        if guarantee in {CONVERGENT, MEMORY} and flags[a] & flags[b] & WRITE and key[a] == key[b]:
            for i, w in enumerate(writer):
                if w == b and (way := path(model, a, i)):
                    ops |= {*way, i}
                    break
    return ops


class _Cutter:
    """Leaves out operations for as long as the rest shows the violation."""

    def __init__(self, model: Model, guarantee: str, held_only: bool) -> None:
        self.model = model
        self.guarantee = guarantee
        self.held_only = held_only
        self.left = BUDGET

    def shows(self, places: list[int]) -> tuple[Model, Violation] | None:
        """Return the history of these operations, and its violation; or None."""
        self.left -= len(places)
        small = Model(part(self.model.history, places), white=self.model.white)
        found, unjudged = judge(small, held_only=self.held_only, tell=lambda _: None)
        first = found[self.guarantee].first
        if first is None or self.guarantee in unjudged or first.kind == THIN_AIR:
            return None
        return small, first

    def cut(self, places: list[int]) -> list[int]:
        """Leave out ever smaller pieces, down to single operations, until none can go."""
        size = max(1, len(places) // 2)
        while self.left > 0:
            at, smaller = len(places), False
            while at > 0 and self.left > 0:
                rest = places[: max(0, at - size)] + places[at:]
                if rest and self.shows(rest) is not None:
                    places, smaller = rest, True
                at -= size
            if size == 1 and not smaller:
                break
            size = max(1, size // 2)
        return places


def part(history: History, places: Iterable[int]) -> History:
    """Return a history of some of the operations of another, as a sample of it."""
    small = History(history.name)
    small.meta = {**history.meta, "sample": 0}
    small.ends = history.ends
    for i in places:
        flags = history.flags[i]
        shard, key = history.keys[history.key[i]]
        small.add(
            history.sessions[history.session[i]],
            history.seq[i],
            "write" if flags & WRITE else "read",
            key,
            shard=shard,
            value=history.values[i],
            version=None if history.origin[i] == NO_VERSION else (history.origin[i], history.offset[i]),
            stamp=None if history.stamp[i] == NO_STAMP else history.stamp[i],
            after=history.after.get(i),
            ok=False if flags & REFUSED else None if flags & IN_DOUBT else True,
            held=False if flags & NOT_HELD else None,
            delete=bool(flags & DELETE),
            line=history.line[i],
        )
    return small
