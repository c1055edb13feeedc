"""How everything here is measured: two subjects in turns, in short blocks, and the median of the ratios of their turns.

Machines are noisy and change their speed for seconds at a time. What is measured in one turn, a fraction of a millisecond after the
other, shares that; an absolute time means little, a ratio a lot. Blocks are shorter than a scheduler's slice, so that most turns are
not interrupted, and the median is of those. Nothing passes or fails here: a row says what was asked for, and whether it is so.

A bench module has `cases()`: it yields named cases, each of which measures one row when it is run, and not before.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import attrs

Subject = Callable[[], object]


@attrs.frozen
class Effort:
    """How much is measured.

    `rounds` are the turns of each row, `block_s` about how long one block of a turn takes, and `most` the most waiting reads that a
    row starts (the full number of a row, if that is less). Units: seconds.
    """

    rounds: int = 301
    block_s: float = 0.0002
    most: int = 10_000

    def fewer(self, share: float) -> int:
        """Return a share of the rounds, for subjects of which one call takes long: at least one, and an odd number."""
        return max(1, int(self.rounds * share)) | 1


@attrs.frozen
class Row:
    """One figure. `ratio` is value / floor, or peer / value; `bar` is what it must be at most, or at least. None asks for nothing.

    `other` is the figure of the floor or peer, which `against` describes.
    """

    name: str
    value: float
    unit: str
    against: str
    other: float
    kind: Literal["floor", "peer"]
    ratio: float
    bar: float | None

    @property
    def met(self) -> bool | None:
        """Whether this run showed what was asked for; None where nothing was."""
        if self.bar is None:
            return None
        return self.ratio <= self.bar if self.kind == "floor" else self.ratio >= self.bar

    @property
    def asked(self) -> str:
        """What was asked for, as text."""
        return "" if self.bar is None else f"{'<=' if self.kind == 'floor' else '>='} {self.bar:.3g}x"

    def as_dict(self) -> dict[str, Any]:
        """As `--json` puts it out."""
        return {
            "name": self.name,
            "value": round(self.value, 4),
            self.kind: round(self.other, 4),
            "against": self.against,
            "ratio": round(self.ratio, 4),
            "bar": self.asked or None,
            "met": self.met,
            "unit": self.unit,
        }


@attrs.frozen
class Case:
    """A row that is measured when `measure` is called."""

    name: str
    measure: Callable[[Effort], Row]


def block(subject: Subject, times: int) -> float:
    """Return the time of one call, over `times` of them. Units: microseconds."""
    began = time.perf_counter_ns()
    for _ in range(times):
        subject()
    return (time.perf_counter_ns() - began) / times / 1000


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector, which would run in whoever's turn it is, out of a measurement."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def interleaved(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """Return the medians of what both return, called in turns, and the median of ours / theirs."""
    mine, other = [], []
    for turn in range(rounds):
        if turn % 2:
            mine.append(ours())
            other.append(theirs())
        else:
            other.append(theirs())
            mine.append(ours())
    ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
    return statistics.median(mine), statistics.median(other), ratio


def in_turns(ours: Subject, theirs: Subject, effort: Effort) -> tuple[float, float, float]:
    """Return the median times of a call of both, and the median of ours / theirs. Units: microseconds."""
    m, n = _calls(ours, effort), _calls(theirs, effort)
    with uncollected():
        return interleaved(lambda: block(ours, m), lambda: block(theirs, n), effort.rounds)


def alone(subject: Subject, effort: Effort) -> float:
    """Return the median time of a call, where there is nothing to measure beside it. Units: microseconds."""
    times = _calls(subject, effort)
    with uncollected():
        return statistics.median(block(subject, times) for _ in range(effort.rounds))


def _calls(subject: Subject, effort: Effort) -> int:
    """Return how many calls make a block, after some that warm up."""
    return max(1, int(effort.block_s * 1e6 / max(0.01, min(block(subject, 3) for _ in range(3)))))


def against_floor(name: str, ours: Subject, floor: Subject, said: str, bar: float | None, share: float = 1) -> Case:
    """Measure how much more than a floor something costs, in a share of the rounds."""

    def measure(effort: Effort) -> Row:
        value, other, ratio = in_turns(ours, floor, attrs.evolve(effort, rounds=effort.fewer(share)))
        return Row(name, value, "us", said, other, "floor", ratio, bar)

    return Case(name, measure)


def against_peer(name: str, ours: Subject, peer: Subject, said: str, bar: float | None) -> Case:
    """Measure how many times faster than a peer something is."""

    def measure(effort: Effort) -> Row:
        value, other, ratio = in_turns(ours, peer, effort)
        return Row(name, value, "us", said, other, "peer", 1 / ratio, bar)

    return Case(name, measure)
