"""What was recorded of a run, as the events that Trace.tla and its mirror step over.

A recorded run is a list of rows, the lines of a history (see docs/howto/check.md), in the order in which they were answered:

`read`, `write`   with `session`, `key`, `shard`, `value`, `version`, `stamp`, `watermark`, `held`; `ok` None: in doubt, False: refused
`end`             where an origin's surviving history stops (`shard`, `origin`, `offset`): as soon as anybody is told
`number`          that an origin has numbered what is no write of the run, a heartbeat, say (`shard`, `origin`, `offset`)
`lost`, `forget`  that a session is told of a lost write (`shard`, `version`), and that it accepts that; with `doubt`, that it may be lost

A row may have more than a history's, where it is known: the frontier that its session came with (`in`; to a write, when its block ended)
and left with (`out`), the `ends` that its process knew when it decided, or its endpoint when it answered (lists of (shard, origin,
offset)), and the `life` of the endpoint. What a write block showed are reads, before its write: of such rows the first has `in`, and the
last `out`.

`events` makes of it what both checkers read: places, offsets and stamps as small numbers, for TLC has 31 bits, and a `commit` before the
first event that may show it, because others may see a write before its acknowledgement is recorded. The version of a write in doubt is
known if anybody was shown its value later. If nobody ever was, it may have happened: a number that is nobody's, and that a watermark
covers, or a session demands (of what a mark stood for), is believed to be its own, of as many as there are such writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Frontier = tuple[int, ...]
Row = Mapping[str, Any]
UNKNOWN = -1
NEVER_HEARD = 0
NOWHERE = (0, 0, 0)
NO_FRONTIERS: Mapping[str, Any] = {"watermark": {}, "in": (), "out": (), "ends": ()}
KINDS = {"read": "read", "write": "ack", "number": "number", "end": "end", "lost": "lost", "forget": "forget"}
TOLD_OF_ORIGINS = ("number", "end")


class Event(NamedTuple):
    """One event; `came` and `left` are empty where they were not recorded, `life` is 0. `ends`: 0 where none was known."""

    op: str
    who: int
    key: int
    at: int
    offset: int
    stamp: int
    mark: Frontier
    ends: Frontier
    came: Frontier
    left: Frontier
    held: bool
    life: int


class Run(NamedTuple):
    """A recorded run as events, with how many places, sessions and lives there are."""

    places: int
    sessions: int
    lives: int
    events: tuple[Event, ...]


class Numbers(dict):
    """Small numbers from 1 on, for whatever is asked for."""

    def __missing__(self, name: Any) -> int:
        self[name] = len(self) + 1
        return self[name]


def events(rows: Iterable[Row]) -> Run:
    """Number and order what was recorded. Who was refused before it named a key was refused all the same."""
    kept = resolved([row for row in rows if row["op"] in KINDS])
    places, sessions, keys, lives = Numbers(), Numbers(), Numbers(), Numbers()
    offsets: dict[tuple, set[int]] = {}
    for row in kept:
        for shard, origin, offset in positions(row):
            places[shard, origin]
            offsets.setdefault((shard, origin), {0}).add(offset)
    small = {(*place, n): rank for place, ns in offsets.items() for rank, n in enumerate(sorted(ns), 1)}
    written = [row for row in kept if row["op"] in ("read", "write") and "version" in row]
    stamps = sorted({(row["stamp"], row["version"][0]) for row in written})
    rank = {stamp: n for n, stamp in enumerate(stamps, 1)}

    def frontier(found: Iterable[Sequence[int]] | None, default: int = NEVER_HEARD) -> Frontier:
        if found is None:
            return ()
        at = {places[shard, origin]: small[shard, origin, offset] for shard, origin, offset in found}
        return tuple(at.get(p, default) for p in range(1, len(places) + 1))

    def mark(row: Row) -> Frontier:
        # Of its own shard, what a watermark does not list, the endpoint has never heard of; of others, it says nothing.
        here = frontier([(row.get("shard", 0), int(origin), n) for origin, n in row.get("watermark", {}).items()])
        own = {p for (shard, _), p in places.items() if shard == row.get("shard", 0) and "watermark" in row}
        return tuple(n if p in own else UNKNOWN for p, n in enumerate(here, 1))

    def event(op: str, row: Row) -> Event:
        shard = row.get("shard", 0)
        at, offset, stamp = NOWHERE
        if "version" in row:
            at, offset = places[shard, row["version"][0]], small[(shard, *row["version"])]
            stamp = rank.get((row.get("stamp"), row["version"][0]), 0)
        elif op in TOLD_OF_ORIGINS:
            at, offset = places[shard, row["origin"]], small[shard, row["origin"], row["offset"]]
        shows = op in ("commit", "read")  # what became of a write is said of no moment of its leader
        return Event(
            op,
            sessions[row.get("session")] if op not in TOLD_OF_ORIGINS else 1,
            keys[shard, row["key"]] if "key" in row else 0,
            at,
            offset,
            stamp,
            mark(row if shows else {}),
            frontier(row.get("ends", ()) if shows else ()),
            frontier(row.get("in")),
            frontier(row.get("out")) if op != "commit" else (),
            row.get("held", True) is not False,
            lives[row["life"]] if shows and "life" in row else 0,
        )

    numbered = [event("commit", row) for row in written if kind(row) in ("ack", "unknown")]
    numbered += [event("number", row) for row in (*kept, *unshown(kept)) if row["op"] == "number"]
    numbered.sort(key=lambda e: e.offset)
    made: list[Event] = []

    def before(e: Event) -> None:
        """Let happen what has happened by then: what a watermark covers, and what has a lower number; and before each of that, the same."""
        for c in numbered.copy():
            shown = (c.at, c.offset) == (e.at, e.offset) and e.op == "read"
            earlier = c.at == e.at and c.offset <= e.offset and e.op != "read"
            covers = (e.mark, e.came, e.left) if c.op == "number" else (e.mark,)
            if (shown or earlier or any(f and c.offset <= f[c.at - 1] for f in covers)) and c in numbered:
                numbered.remove(c)
                before(c)
                made.append(c)

    for row in kept:
        if row["op"] != "number":
            e = event(kind(row), row)
            before(e)
            made.append(e)
    return Run(len(places), len(sessions), len(lives), tuple(made))


def kind(row: Row) -> str:
    """Return what sort of event a row is."""
    if row.get("ok", True) is False:
        return "refuse"
    if row["op"] == "write" and (row.get("ok", True) is None or "version" not in row):
        return "unknown"
    return "in_doubt" if row["op"] == "forget" and row.get("doubt") else KINDS[row["op"]]


def resolved(rows: Sequence[Row]) -> list[Row]:
    """Give each write in doubt the version that its value was shown with, if it ever was; where none was, none is known."""
    shown = {
        (row.get("shard", 0), row["key"], row["value"]): {"version": row["version"], "stamp": row["stamp"]}
        for row in rows
        if row["op"] == "read" and "version" in row
    }
    made = []
    for row in rows:
        if kind(row) == "unknown" and "version" not in row:
            row = {**row, **shown.get((row.get("shard", 0), row["key"], row["value"]), {})}
        made.append(row)
    return made


def unshown(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the numbers that are believed to be those of writes in doubt that nobody was shown: as many as a shard has of them."""
    known = {p for row in rows if row["op"] != "end" for p in positions({**row, **NO_FRONTIERS})}
    doubts = [row.get("shard", 0) for row in rows if kind(row) == "unknown" and "version" not in row]
    for row in rows:
        for place in positions(row) if row["op"] != "end" else ():
            shard, origin, offset = place
            if offset and place not in known and shard in doubts:
                doubts.remove(shard)
                known.add(place)
                yield {"op": "number", "shard": shard, "origin": origin, "offset": offset}


def positions(row: Row) -> Iterator[tuple[int, int, int]]:
    """Yield every position that a row speaks of."""
    shard = row.get("shard", 0)
    if "version" in row:
        yield shard, *row["version"]
    if row["op"] in TOLD_OF_ORIGINS:
        yield shard, row["origin"], row["offset"]
    for origin, offset in row.get("watermark", {}).items():
        yield shard, int(origin), offset
    for name in ("in", "out", "ends"):
        for position in row.get(name) or ():
            yield tuple(position)
