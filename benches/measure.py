"""How everything here is measured: two subjects in turns, in short blocks, and the median of the ratios of their turns.

Machines are noisy and change their speed for seconds at a time. What is measured in one turn, a millisecond after the other, shares
that; an absolute time means little, a ratio a lot. Nothing passes or fails here: a row says what was asked for, and whether it is so.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import attrs

Subject = Callable[[], object]


@attrs.frozen
class Effort:
    """How much is measured: turns for each row, and about how long one block of a turn takes. Units: seconds."""

    turns: int = 101
    block_s: float = 0.002


@attrs.frozen
class Row:
    """One figure. `ratio` is value / floor, or peer / value; `bar` is what it must be at most, or at least.

    `other` is the measured figure of the floor or peer, which `against` describes.
    """

    name: str
    value: float
    unit: str
    against: str
    other: float
    kind: Literal["floor", "peer"]
    ratio: float
    bar: float

    @property
    def met(self) -> bool:
        """Whether this run showed what was asked for."""
        return self.ratio <= self.bar if self.kind == "floor" else self.ratio >= self.bar

    def as_dict(self) -> dict[str, Any]:
        """As `--json` puts it out."""
        return {
            "name": self.name,
            "value": round(self.value, 4),
            self.kind: round(self.other, 4),
            "against": self.against,
            "ratio": round(self.ratio, 3),
            "bar": f"{'<=' if self.kind == 'floor' else '>='} {self.bar:g}",
            "met": self.met,
            "unit": self.unit,
        }


def block(subject: Subject, times: int) -> float:
    """Return the time of one call, over `times` of them. Units: microseconds."""
    began = time.perf_counter_ns()
    for _ in range(times):
        subject()
    return (time.perf_counter_ns() - began) / times / 1000


def in_turns(ours: Subject, theirs: Subject, effort: Effort) -> tuple[float, float, float]:
    """Return the median times of both, and the median of ours / theirs. Units: microseconds."""
    ours(), theirs()
    counts = [max(1, int(effort.block_s * 1e6 / max(0.01, min(block(f, 3) for _ in range(3))))) for f in (ours, theirs)]
    mine, other = [], []
    enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(effort.turns):
            if turn % 2:
                mine.append(block(ours, counts[0]))
                other.append(block(theirs, counts[1]))
            else:
                other.append(block(theirs, counts[1]))
                mine.append(block(ours, counts[0]))
    finally:
        if enabled:
            gc.enable()
    ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
    return statistics.median(mine), statistics.median(other), ratio


def against_floor(name: str, ours: Subject, floor: Subject, said: str, bar: float, effort: Effort) -> Row:
    """Measure how much more than a floor something costs."""
    value, other, ratio = in_turns(ours, floor, effort)
    return Row(name, value, "us", said, other, "floor", ratio, bar)


def against_peer(name: str, ours: Subject, peer: Subject, said: str, bar: float, effort: Effort) -> Row:
    """Measure how many times faster than a peer something is."""
    value, other, ratio = in_turns(ours, peer, effort)
    return Row(name, value, "us", said, other, "peer", 1 / ratio, bar)
