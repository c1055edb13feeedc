"""Answers the vectors of `frontier.json`."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Final

from causal.core.frontier import ANY_ORIGIN, FOREVER, Frontier, LeaderMark, Loss, Position, pack, shard_id, store_of
from causal.core.watermark import Watermark
from causal.engine import Commit
from causal.session import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


# --- as vectors write them ---------------------------------------------------------------------------------------------


def frontier_of(written: Mapping[str, Any]) -> Frontier:
    """Return the frontier that a vector writes."""
    frontier = Frontier(_positions(written.get("entries", ())))
    floors = {store: int(offset) for store, offset in written.get("floors", ())}
    return Frontier.of(frontier.entries, floors, {store: _mark(mark) for store, mark in written.get("marks", ())})


def _mark(written: Mapping[str, Any]) -> LeaderMark:
    origins = written.get("origins", ())
    return LeaderMark(
        FOREVER if written["until"] is None else int(written["until"]),
        frozenset(written.get("exact", ())),
        frozenset((ANY_ORIGIN,) if origins == "any" else origins),
    )


def shown(frontier: Frontier) -> dict[str, Any]:
    """Return a frontier as vectors write it: sorted, and without what is empty."""
    parts = {
        "entries": _shown(frontier),
        "floors": [[store, str(offset)] for store, offset in sorted(frontier.floors.items())],
        "marks": [[store, _shown_mark(mark)] for store, mark in sorted(frontier.marks.items())],
    }
    return {name: part for name, part in parts.items() if part}


def _shown_mark(mark: LeaderMark) -> dict[str, Any]:
    written: dict[str, Any] = {"until": None if mark.until == FOREVER else str(mark.until)}
    if mark.exact:
        written["exact"] = sorted(mark.exact)
    if mark.origins:
        written["origins"] = "any" if ANY_ORIGIN in mark.origins else sorted(mark.origins)
    return written


def _shown(positions: Iterable[Position]) -> list[list[Any]]:
    return [[p.shard, p.origin, str(p.offset)] for p in positions]


def _positions(written: Iterable[Any]) -> list[Position]:
    return [Position(shard, origin, int(offset)) for shard, origin, offset in written]


def check_positions(written: Iterable[Any]) -> None:
    """Refuse a position that is none, wherever it is named: who packs it would take it for another. Raises: ConfigError."""
    Frontier(_positions(written))


def _watermark(written: Mapping[str, Any]) -> Watermark:
    check_watermark(written)
    return Watermark(
        written["shard"],
        {origin: (int(applied), None if end is None else int(end)) for origin, applied, end in written["origins"]},
    )


def check_watermark(written: Mapping[str, Any]) -> None:
    """Refuse a watermark of positions that are none. Raises: ConfigError."""
    places = [(written["shard"], *place) for place in written["origins"]]
    check_positions((s, o, n) for s, o, applied, end in places for n in (applied, applied if end is None else end))


def _session(given: Mapping[str, Any]) -> SessionState:
    state = SessionState("alice")
    state.own, state.seen = frontier_of(given["own"]), frontier_of(given["seen"])
    return state


# --- the operations ----------------------------------------------------------------------------------------------------


def _shard_id(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"shard": shard_id(given["store"], given["index"])}


def _shard_store(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"store": store_of(given["shard"])}


def _of(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"frontier": shown(Frontier(_positions(given["positions"])))}


def _join(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"frontier": shown(reduce(or_, map(frontier_of, given["frontiers"]), Frontier()))}


def _covers(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"covers": frontier_of(given["frontier"]) >= frontier_of(given["other"])}


def _marked(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"marked": frontier_of(given["frontier"]).marked(given["shard"])}


def _on(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"frontier": shown(frontier_of(given["frontier"]).on(given["shard"]))}


def _store(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"frontier": shown(frontier_of(given["frontier"]).store(given["store"]))}


def _lapse(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"frontier": shown(frontier_of(given["frontier"]).lapse(given["now"]))}


def _clip(given: Mapping[str, Any]) -> dict[str, Any]:
    ends = {pack(p.shard, p.origin): p.offset for p in _positions(given["ends"])}
    check_positions(given["ends"])
    return {"frontier": shown(frontier_of(given["frontier"]).clip(ends))}


def _learn(given: Mapping[str, Any]) -> dict[str, Any]:
    state = _session(given)
    for event in given["events"]:
        others = frontier_of(event.get("shown", {}))
        if "wrote" in event:
            (position,) = _positions([event["wrote"]])
            state.acknowledged(Commit(position, others), 0)
        else:
            state.join(others, own=False, now=0)
    return {"own": shown(state.own), "demanded": shown(state.joined)}


def _forget(given: Mapping[str, Any]) -> dict[str, Any]:
    state = _session(given)
    check_positions((s, o, n) for s, o, offset, end in given["lost"] for n in (offset, end))
    state.forget([Loss(Position(s, o, int(offset)), int(end)) for s, o, offset, end in given["lost"]])
    return {"own": shown(state.own), "seen": shown(state.seen)}


def _judge(given: Mapping[str, Any]) -> dict[str, Any]:
    known_stores = given.get("known_stores")
    judgement = _watermark(given["watermark"]).judge(frontier_of(given["frontier"]), known_stores=known_stores)
    return {
        "verdict": judgement.verdict.name,
        "positions": _shown(judgement.positions),
        "marked": judgement.marked,
    }


def _applied(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"frontier": shown(_watermark(given["watermark"]).frontier)}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    "shard.id": _shard_id,
    "shard.store": _shard_store,
    "frontier.of": _of,
    "frontier.join": _join,
    "frontier.covers": _covers,
    "frontier.marked": _marked,
    "frontier.on": _on,
    "frontier.store": _store,
    "frontier.lapse": _lapse,
    "frontier.clip": _clip,
    "session.learn": _learn,
    "session.forget": _forget,
    "watermark.judge": _judge,
    "watermark.applied": _applied,
}
