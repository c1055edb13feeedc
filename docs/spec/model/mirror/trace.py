"""Recorded runs, for Trace.tla and for its mirror: which event, if any, is the first that breaks a rule of the gate?

A recorded run is a list of rows: the lines of a history (`op` read or write, `session`, `key`, `shard`, `version`, `stamp`, `watermark`,
`held`, `ok`), each, where that is known, with the frontier that its session came with (`in`) and left with (`out`): lists of (shard,
origin, offset). `events` makes of it what both checkers read: places, offsets and stamps as small numbers, for TLC has 31 bits, and a
`commit` before the first event that may show it, because others may see a write before its acknowledgement is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Frontier = tuple[int, ...]
UNKNOWN = -1


class Event(NamedTuple):
    """One event; `came` and `left` are empty where they were not recorded."""

    op: str
    who: int
    key: int
    at: int
    offset: int
    stamp: int
    mark: Frontier
    came: Frontier
    left: Frontier
    held: bool


class Run(NamedTuple):
    """A recorded run as events, with how many places and sessions there are."""

    places: int
    sessions: int
    events: tuple[Event, ...]


class Numbers(dict):
    """Small numbers from 1 on, for whatever is asked for."""

    def __missing__(self, name: Any) -> int:
        self[name] = len(self) + 1
        return self[name]


def events(rows: Iterable[Mapping[str, Any]]) -> Run:
    """Number and order what was recorded. Writes without a known effect are left out."""
    kept = [
        row
        for row in rows
        if row["op"] in ("read", "write")
        and row.get("ok", True) is not False
        and (row["op"] == "read" or "version" in row)
    ]
    places, sessions, keys = Numbers(), Numbers(), Numbers()
    for row in kept:
        for place in positions(row):
            places[place[:2]]
    offsets: dict[tuple, set[int]] = {place: {0} for place in places}
    for row in kept:
        for shard, origin, offset in positions(row):
            offsets[shard, origin].add(offset)
    small = {(*place, n): rank for place, ns in offsets.items() for rank, n in enumerate(sorted(ns))}
    stamps = sorted({(row["stamp"], row["version"][0]) for row in kept if "version" in row})
    rank = {stamp: n for n, stamp in enumerate(stamps, 1)}

    def frontier(found: Iterable[Sequence[int]] | None, default: int = 0) -> Frontier:
        if found is None:
            return ()
        at = {places[shard, origin]: small[shard, origin, offset] for shard, origin, offset in found}
        return tuple(at.get(p, default) for p in range(1, len(places) + 1))

    def event(op: str, row: Mapping[str, Any]) -> Event:
        shard = row.get("shard", 0)
        # Of its own shard, what a watermark does not list, the endpoint has never heard of; of others, it says nothing.
        heard = {place: 0 for place in places if place[0] == shard and "watermark" in row}
        heard |= {(shard, int(origin)): n for origin, n in row.get("watermark", {}).items()}
        mark = [(*place, n) for place, n in heard.items()]
        at = offset = stamp = 0
        if "version" in row:
            at, offset = places[shard, row["version"][0]], small[(shard, *row["version"])]
            stamp = rank[row["stamp"], row["version"][0]]
        return Event(
            op,
            sessions[row["session"]],
            keys[shard, row["key"]],
            at,
            offset,
            stamp,
            frontier(mark, UNKNOWN),
            frontier(row.get("in")),
            frontier(row.get("out")),
            row.get("held", True) is not False,
        )

    waiting = [(event("commit", row), event("ack", row)) for row in kept if row["op"] == "write"]
    commits = sorted((commit for commit, _ in waiting), key=lambda e: e.offset)
    acks = iter([ack for _, ack in waiting])
    made: list[Event] = []

    def commit(wanted: Any) -> None:
        for e in [e for e in commits if wanted(e)]:
            commits.remove(e)
            made.append(e)

    for row in kept:
        if row["op"] == "write":
            ack = next(acks)
            commit(lambda e, ack=ack: e.at == ack.at and e.offset <= ack.offset)
            made.append(ack)
        else:
            read = event("read", row)
            commit(lambda e, read=read: e.offset <= read.mark[e.at - 1] or (e.at, e.offset) == (read.at, read.offset))
            made.append(read)
    return Run(len(places), len(sessions), tuple(made))


def positions(row: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    """Yield every position that a row speaks of."""
    shard = row.get("shard", 0)
    if "version" in row:
        yield shard, *row["version"]
    for origin, offset in row.get("watermark", {}).items():
        yield shard, int(origin), offset
    for name in ("in", "out"):
        for position in row.get(name) or ():
            yield tuple(position)


# --- the mirror ------------------------------------------------------------------------------------------------------------


class Version(NamedTuple):
    """What was committed."""

    who: int
    key: int
    at: int
    offset: int
    stamp: int
    deps: Frontier


def join(a: Frontier, b: Frontier) -> Frontier:
    return tuple(map(max, a, b)) if a else b


def at_least(a: Frontier, b: Frontier) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=False))


def covers(mark: Frontier, f: Frontier) -> bool:
    return all(m in (UNKNOWN, max(m, x)) for m, x in zip(mark, f, strict=True))


def rejected(run: Run) -> int | None:
    """Return the number, from 1 on, of the first event that breaks a rule; None if the run is accepted."""
    token: dict[int, Frontier] = dict.fromkeys(range(1, run.sessions + 1), (0,) * run.places)
    versions: list[Version] = []
    for number, e in enumerate(run.events, 1):
        demand = join(e.came, token[e.who])
        gated = at_least(e.came, token[e.who]) and covers(e.mark, demand)
        visible = [v for v in versions if v.key == e.key and v.offset <= e.mark[v.at - 1]]
        this = [v for v in versions if (v.at, v.offset) == (e.at, e.offset)]
        if e.op == "commit":
            fine = gated and all(v.offset < e.offset for v in versions if v.at == e.at)
            fine = fine and all(v.stamp < e.stamp for v in visible)
            deps = (*demand[: e.at - 1], e.offset, *demand[e.at :])
            versions.append(Version(e.who, e.key, e.at, e.offset, e.stamp, deps))
        else:
            fine = bool(this) or not e.offset
            fine = fine and (e.op == "read" or this[0].who == e.who)
            least = join(token[e.who], this[0].deps) if this else token[e.who]
            if e.op == "read":
                newest = max(visible, key=lambda v: v.stamp, default=None)
                fine = fine and (gated or not e.held) and newest == (this[0] if this else None)
            fine = fine and at_least(e.left, least)
            token[e.who] = join(e.left, least)
        if not fine:
            return number
    return None


# --- TLA+ ------------------------------------------------------------------------------------------------------------------


def tla(value: Any) -> str:
    """Write a value in TLA+. (TLC 2.15 wants a blank before a tuple that follows an equals sign.)"""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, tuple):
        return "<<" + ", ".join(map(tla, value)) + ">>" if value else "<< >>"
    return f'"{value}"' if isinstance(value, str) else str(value)


def module(run: Run) -> str:
    """Return TraceData.tla for a run."""
    names = {"came": "in", "left": "out"}
    told = [
        "[" + ", ".join(f"{names.get(n, n)} |-> {tla(v)}" for n, v in zip(Event._fields, e, strict=True)) + "]"
        for e in run.events
    ]
    return "\n".join(
        [
            "---- MODULE TraceData ----",
            "EXTENDS Integers",
            f"Places == 1..{run.places}",
            f"Sessions == 1..{run.sessions}",
            "Trace == <<",
            "  " + ",\n  ".join(told),
            ">>",
            "====",
            "",
        ]
    )


CONFIG = "SPECIFICATION Spec\nINVARIANT NotAtTheEnd\n"
