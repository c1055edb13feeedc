"""Answers the vectors of `gate.json`: demands, what is known of endpoints, and decisions, from their JSON.

`failover.py` reads what is known by the same functions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from causal.core.decision import UNCHECKED, Decision, Probe, Refuse, Serve, Wait, bears_out, outlived
from causal.core.demand import Demand
from causal.core.frontier import ANY_ORIGIN, FOREVER, Frontier, LeaderMark, pack, unpack
from causal.core.gate import decide
from causal.core.policy import Guarantee, Limits, ReadPolicy, Strategy
from causal.core.view import View
from causal.core.watermark import Watermark
from causal.errors import Overloaded
from causal.lab.vectors.frontier import check_positions, check_watermark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Given = Mapping[str, Any]

_REASONS: Final = {
    "what is known of": "older",
    "a leader read asks": "heads",
    "a leader mark asks": "everybody",
    "a quorum asks": "quorum",
    "nobody is shown": "bound",
    "no endpoint numbers": "takeover",
    "somebody has taken over": "takeover",
    "before refusing": "untried",
}
"""How a question's reason begins, and its kind."""


# --- from JSON ---------------------------------------------------------------------------------------------------------


def view(endpoints: Iterable[Given], news: Iterable[Given]) -> View:
    """Return what is known once the news has come in."""
    listed = [(e["name"], e["latency_s"]) for e in endpoints]
    held = {e["name"]: frozenset(e["holds"]) for e in endpoints if e.get("holds") is not None}
    witnesses = {e["name"] for e in endpoints if not e.get("serves", True)}
    return told(View().known(listed, held, witnesses), news)


def told(known: View, news: Iterable[Given]) -> View:
    """Return what is known after more news."""
    for event in news:
        if "failed" in event:
            known = known.failed(event["failed"], event["why"], asked=event["asked"], now=event["at_s"])
        elif "acknowledged" in event:
            shard, origin, offset = event["acknowledged"]
            known = known.advanced(event["by"], pack(shard, origin), int(offset))
        else:
            at_s, marks = event["at_s"], watermarks(event["says"])
            known = known.observe(event["from"], marks, asked=event["asked"], asked_at=at_s, now=at_s)
    return known


def watermarks(given: Iterable[Given]) -> dict[int, Watermark]:
    """Return watermarks by shard. Raises: ConfigError for a position that is none."""
    given = list(given)
    for mark in given:
        check_watermark(mark)
    return {
        mark["shard"]: Watermark(
            mark["shard"],
            {o: (int(applied), None if end is None else int(end)) for o, applied, end in mark["origins"]},
            mark["life"],
            frozenset(mark["leads"]),
        )
        for mark in given
    }


def need(given: Iterable[tuple[int, int, str]]) -> dict[int, int]:
    """Return positions by packed key. Raises: ConfigError for one that is none."""
    given = list(given)
    check_positions(given)
    return {pack(shard, origin): int(offset) for shard, origin, offset in given}


def origins(given: Iterable[int] | str) -> frozenset[int]:
    """Return what a mark remembers."""
    return frozenset({ANY_ORIGIN}) if isinstance(given, str) else frozenset(given)


def demand(given: Given) -> Demand:
    """Return what a block demands."""
    leaders, floor, wrote = frozenset(given.get("leader_shards", ())), given.get("floor"), given.get("wrote_ago_s")
    return Demand(
        need(given.get("own", ())),
        need(given.get("seen", ())),
        shards=frozenset(given["shards"]),
        leader_shards=leaders,
        mark=LeaderMark(FOREVER, frozenset(), origins(given.get("mark_origins", ()))) if leaders else None,
        floor=None if floor is None else int(floor),
        at=given.get("at"),
        writes=given.get("writes", given["shards"][0] if "at" in given else None),
        arrived=given["arrived"],
        wrote_ago_s=math.inf if wrote is None else wrote,
    )


def frontier(given: Given) -> Frontier:
    """Return a frontier."""
    made = Frontier.of(need(given.get("entries", ())), {store: int(floor) for store, floor in given.get("floors", ())})
    for store, mark in given.get("marks", ()):
        until = FOREVER if mark["until"] is None else int(mark["until"])
        made = made.mark(store, until, exact=mark["exact"], origins=origins(mark["origins"]))
    return made


def policy(given: Given) -> ReadPolicy:
    """Return a policy; what is left out is as by default."""
    known = {**given}
    if "strategy" in known:
        known["strategy"] = Strategy(known["strategy"])
    return ReadPolicy(**known)


# --- to JSON -----------------------------------------------------------------------------------------------------------


def positions(given: Mapping[int, int]) -> list[list[Any]]:
    """Return positions as vectors have them."""
    return [[*unpack(key), str(given[key])] for key in sorted(given)]


def losses(given: Iterable[Any]) -> list[list[Any]]:
    """Return losses as vectors have them: the position, then the end."""
    found = sorted((x.position.shard, x.position.origin, x.position.offset, x.end) for x in given)
    return [[shard, origin, str(offset), str(end)] for shard, origin, offset, end in found]


def recalled(mark: LeaderMark) -> list[int] | str:
    """Return what a mark remembers, as vectors have it."""
    return "any" if ANY_ORIGIN in mark.origins else sorted(mark.origins)


def _parts(mark: LeaderMark) -> dict[str, Any]:
    parts = {"exact": sorted(mark.exact), "origins": recalled(mark)}
    return {name: part for name, part in parts.items() if part}


def written(given: Frontier) -> dict[str, Any]:
    """Return a frontier as vectors have it."""
    marks = [
        [store, {"until": None if mark.until == FOREVER else str(mark.until), **_parts(mark)}]
        for store, mark in sorted(given.marks.items())
    ]
    floors = [[store, str(floor)] for store, floor in sorted(given.floors.items())]
    parts = {"entries": positions(given.entries), "floors": floors, "marks": marks}
    return {name: part for name, part in parts.items() if part}


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _kind(reason: str) -> str:
    return next((kind for start, kind in _REASONS.items() if reason.startswith(start)), "unproven")


def decision(given: Decision) -> dict[str, Any]:
    """Return a decision as vectors have it."""
    match given:
        case Serve():
            return {
                "decision": "serve",
                "endpoint": given.endpoint,
                "how": given.how,
                "need": positions(given.need),
                "clipped": losses(given.clipped),
                "unproven": given.unproven,
            }
        case Probe(endpoints, reason, within_s):
            asked: dict[str, Any] = {"endpoints": list(endpoints), "because": _kind(reason)}
            return {"decision": "probe", **asked, "within_s": _seconds(within_s)}
        case Wait(endpoint, lacking, for_s, reason):
            because = "behind" if reason.endswith("is behind") else "unproven"
            waited: dict[str, Any] = {"endpoint": endpoint, "need": positions(lacking), "for_s": _seconds(for_s)}
            return {"decision": "wait", **waited, "because": because}
        case Refuse(why, _, lost, doubt):
            more: dict[str, Any] = {"lost": losses(lost)} if lost else {}
            return {"decision": "refuse", "why": why, **more, **({"doubt": recalled(doubt)} if doubt else {})}


# --- the operations ----------------------------------------------------------------------------------------------------


def _decide(given: Given) -> dict[str, Any]:
    known = view(given["endpoints"], given["news"])
    asked, how = demand(given["demand"]), policy(given["policy"])
    limit_s = given["max_staleness_s"]
    return decision(decide(asked, known, how, given["elapsed_s"], now=given["now_s"], max_staleness_s=limit_s))


def _admits(given: Given) -> dict[str, Any]:
    asked, how, serve = demand(given["demand"]), policy(given["policy"]), given["serve"]
    known = view(given["endpoints"], given["news"])
    endpoint = known.on(asked.shards).of(serve["endpoint"])
    assert endpoint is not None
    plan = Serve(endpoint.name, serve["how"], need(serve["need"]), endpoint)
    late = outlived(plan, asked, how, given["at_s"], given["max_staleness_s"], write=asked.at is not None)
    if plan.how in UNCHECKED:
        return {"admits": True}
    good = bears_out(plan, watermarks(given["snapshot"]), told(known, given.get("since", ())).ends)
    return {"admits": good and (not late or how.unproven == "serve")}


def _shown(given: Given) -> dict[str, Any]:
    shown = Frontier()
    for mark in watermarks(given["snapshot"]).values():
        shown |= mark.frontier
    return {"frontier": written(shown)}


def _evidence(given: Given) -> dict[str, Any]:
    known = view(given["endpoints"], given["news"])

    def since(at: float) -> float | str:
        return "never" if at == -math.inf else "always" if at == math.inf else at

    return {"fresh_since_s": {e.name: since(e.fresh_at) for e in known.endpoints}}


def _known(given: Given) -> dict[str, Any]:
    known = view(given["endpoints"], given["news"])
    return {
        "nearest_first": [e.name for e in known.endpoints],
        "applied": {e.name: positions(e.applied) for e in known.endpoints},
        "live": [[*unpack(key)] for key in sorted(known.live())],
        "ends": positions(known.ends),
        "leaders": {
            e.name: [[*unpack(key)] for key in sorted(known.leaders) if known.leader(key) is e] for e in known.endpoints
        },
        "unusable": sorted(e.name for e in known.endpoints if e.down is not None),
    }


def _demand(given: Given) -> dict[str, Any]:
    from causal.core.keyring import Keyring  # not needed to answer anything else
    from causal.state import StoreState
    from causal.stores.memory import MemoryEngine

    wanted = Guarantee.NONE
    for name in given["guarantees"]:
        wanted |= Guarantee[name.upper()]
    state = StoreState(MemoryEngine(), Keyring.generate(), "vectors", ReadPolicy(), Limits(), guarantees=wanted)
    made = Demand.narrowed(
        frontier(given["own"]),
        frontier(given["seen"]),
        state.writing if given["kind"] == "write" else state.reading,
        given["shard"],
        number=given["store"],
        every=given["dependencies"],
    )
    return {
        "need": positions(made.need),
        "own": positions(made.own),
        "shards": sorted(made.shards),
        "leader_shards": sorted(made.leader_shards),
        "mark_origins": [] if made.mark is None else recalled(made.mark),
        "floor": None if made.floor is None else str(made.floor),
    }


def _enter(given: Given) -> dict[str, Any]:
    from causal.core.keyring import Keyring  # not needed to answer anything else
    from causal.state import StoreState
    from causal.stores.memory import MemoryEngine

    limits = Limits(**given["limits"])
    state = StoreState(MemoryEngine(), Keyring.generate(), "vectors", ReadPolicy(), limits)
    said = []
    for step in given["steps"]:
        try:
            match step:
                case {"wait": endpoint, "subject": subject}:
                    state.enter_wait(endpoint, subject)
                case {"waited": endpoint, "subject": subject}:
                    state.leave_wait(endpoint, subject)
                case {"leader": authenticated}:
                    state.enter_leader(authenticated=authenticated)
                case {"left": authenticated}:
                    state.leave_leader(authenticated=authenticated)
            said.append("admitted")
        except Overloaded:
            said.append("Overloaded")
    return {"said": said}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    "gate.decide": _decide,
    "gate.admits": _admits,
    "gate.shown": _shown,
    "gate.evidence": _evidence,
    "gate.known": _known,
    "gate.demand": _demand,
    "gate.enter": _enter,
}
