"""Answers the vectors of `clock.json`."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from causal.ceiling import FileCeiling
from causal.clock import HybridLogicalClock
from causal.core import hlc
from causal.core.hlc import Timestamp
from causal.errors import ClockDrift, ClockError
from causal.kv import next_stamp, wins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from causal.errors import CausalError

_NS_PER_MS: Final = 1_000_000


def evidence(error: CausalError) -> dict[str, Any]:
    """Return what the errors of this area carry."""
    if isinstance(error, ClockDrift):
        return {"remote_ms": error.remote_ms, "wall_ms": error.wall_ms}
    return {}


class _Node:
    """A clock whose wall is what a vector says."""

    def __init__(self, max_drift_ms: int = 0, *, last: int = hlc.START, ceiling: FileCeiling | None = None) -> None:
        self.wall_ns = 0
        self.clock = HybridLogicalClock(lambda: self.wall_ns, max_drift_ms / 1000, ceiling)
        if ceiling is None:
            self.clock._last = last

    def at(self, wall_ms: int) -> HybridLogicalClock:
        """Return the clock, at a time of its wall."""
        self.wall_ns = wall_ms * _NS_PER_MS
        return self.clock


def _stamp(text: str) -> Timestamp:
    return Timestamp(int(text))


def _last(given: Mapping[str, Any]) -> int:
    return hlc.START if given["last"] is None else _stamp(given["last"])


def _shown(value: int) -> dict[str, Any]:
    return {"timestamp": str(int(Timestamp(value)))}


def _from_parts(given: Mapping[str, Any]) -> dict[str, Any]:
    return _shown(Timestamp.from_parts(given["physical_ms"], given["logical"]))


def _parts(given: Mapping[str, Any]) -> dict[str, Any]:
    timestamp = _stamp(given["timestamp"])
    return {"physical_ms": timestamp.physical_ms, "logical": timestamp.logical}


def _text(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": str(_stamp(given["timestamp"]))}


def _parse(given: Mapping[str, Any]) -> dict[str, Any]:
    return _shown(Timestamp.parse(given["text"]))


def _sort(given: Mapping[str, Any]) -> dict[str, Any]:
    timestamps = sorted(map(_stamp, given["timestamps"]))
    return {"timestamps": [str(int(t)) for t in timestamps], "texts": [str(t) for t in timestamps]}


def _tick(given: Mapping[str, Any]) -> dict[str, Any]:
    return _shown(hlc.tick(_last(given), given["wall_ms"]))


def _now(given: Mapping[str, Any]) -> dict[str, Any]:
    node = _Node(last=_last(given))
    node.wall_ns = int(given["wall_ns"])
    return _shown(node.clock.now())


def _merge(given: Mapping[str, Any]) -> dict[str, Any]:
    return _shown(hlc.merge(_last(given), _stamp(given["remote"]), given["wall_ms"]))


def _update(given: Mapping[str, Any]) -> dict[str, Any]:
    clock = _Node(given["max_drift_ms"], last=_last(given)).at(given["wall_ms"])
    return _shown(clock.update(int(given["remote"])))


def _trace(given: Mapping[str, Any]) -> dict[str, Any]:
    nodes: dict[str, _Node] = {}
    timestamps: list[str | None] = []
    for event in given["events"]:
        node = nodes.setdefault(event["node"], _Node(given["max_drift_ms"]))
        clock = node.at(event["wall_ms"])
        sent = timestamps[event["from"]] if "from" in event else event.get("remote")
        try:
            timestamps.append(str(int(clock.now() if sent is None else clock.update(_stamp(sent)))))
        except ClockError:  # ClockDrift is one
            timestamps.append(None)
    return {"timestamps": timestamps}


def _next_stamp(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"stamp": str(next_stamp(int(given["now"]), map(int, given["applied"])))}


def _wins(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"wins": wins(int(given["stamp"]), given["origin"], int(given["other_stamp"]), given["other_origin"])}


@contextlib.contextmanager
def _started(given: Mapping[str, Any]) -> Iterator[tuple[FileCeiling, HybridLogicalClock]]:
    with tempfile.TemporaryDirectory() as directory:
        ceiling = FileCeiling(Path(directory) / "ceiling")
        _raise(ceiling, given["bound"])
        yield ceiling, _Node(given["max_drift_ms"], ceiling=ceiling).at(given["wall_ms"])


def _raise(ceiling: FileCeiling, bound: str | None) -> None:
    """Reserve up to a bound, as another process does."""
    if bound is not None:
        ceiling.reserve(int(bound))


def _bound(ceiling: FileCeiling) -> dict[str, Any]:
    return {"bound": str(int(ceiling.load() or 0))}


def _start(given: Mapping[str, Any]) -> dict[str, Any]:
    with _started(given) as (ceiling, clock):
        return {**_shown(clock.now()), **_bound(ceiling)}


def _close(given: Mapping[str, Any]) -> dict[str, Any]:
    with _started(given) as (ceiling, clock):
        _raise(ceiling, given["meanwhile"])
        for _ in range(1 + given["more"]):
            clock.now()
        _raise(ceiling, given["after"])
        clock.close()
        return _bound(ceiling)


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    "timestamp.from_parts": _from_parts,
    "timestamp.parts": _parts,
    "timestamp.text": _text,
    "timestamp.parse": _parse,
    "timestamp.sort": _sort,
    "clock.tick": _tick,
    "clock.now": _now,
    "clock.merge": _merge,
    "clock.update": _update,
    "clock.trace": _trace,
    "stamp.next": _next_stamp,
    "stamp.wins": _wins,
    "clock.start": _start,
    "clock.close": _close,
}
