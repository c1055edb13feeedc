"""Recorded runs, for Trace.tla and for its mirror: which event, if any, is the first that breaks a rule of the gate or of failover?

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
covers, is believed to be its own, of as many as there are such writes.
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
            if (shown or earlier or c.offset <= e.mark[c.at - 1]) and c in numbered:
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
        for origin, offset in row.get("watermark", {}).items():
            shard = row.get("shard", 0)
            if offset and (shard, int(origin), offset) not in known and shard in doubts:
                doubts.remove(shard)
                known.add((shard, int(origin), offset))
                yield {"op": "number", "shard": shard, "origin": int(origin), "offset": offset}


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


# --- the mirror ------------------------------------------------------------------------------------------------------------


class Version(NamedTuple):
    """What was committed."""

    who: int
    key: int
    at: int
    offset: int
    stamp: int
    deps: Frontier


def join(*some: Frontier) -> Frontier:
    """Return the least that is no less than any of them; what was not recorded says nothing."""
    return tuple(map(max, zip(*filter(None, some), strict=True)))


def at_least(a: Frontier, b: Frontier) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=False))


def put(f: Frontier, place: int, n: int) -> Frontier:
    return (*f[: place - 1], n, *f[place:])


class Mirror:
    """What is known while the cursor goes over a run: the variables of Trace.tla. Each kind of event is a method that says if it may be."""

    def __init__(self, run: Run) -> None:
        nothing = (0,) * run.places
        self.own, self.seen, self.doubt = ([nothing] * (run.sessions + 1) for _ in range(3))
        self.ended = nothing
        self.told: list[set[int]] = [set() for _ in nothing]
        self.last = (1,) * run.places
        self.shown = [nothing] * (run.lives + 1)
        self.versions: list[Version] = []

    def step(self, e: Event) -> bool:
        """Take in an event; return whether the rules allow it."""
        honest = all(not said or said in told for said, told in zip(e.ends, self.told, strict=True))
        comes = at_least(e.came, self.token(e.who)) and at_least(self.last, e.came)
        last = self.last
        forward = not e.life or all(m in (UNKNOWN, max(m, s)) for m, s in zip(e.mark, self.shown[e.life], strict=True))
        self.shown[e.life] = join(self.shown[e.life], e.mark)
        return honest and comes and forward and getattr(self, e.op)(e) and self.there(e, last)

    # --- what is demanded ----------------------------------------------------------------------------------------------

    def past(self, place: int, n: int) -> bool:
        """Whether an offset is past the end of its origin."""
        return 0 < self.ended[place - 1] < n

    def clipped(self, f: Frontier) -> Frontier:
        """Cut what is past the end of its origin."""
        return tuple(min(n, end) if end else n for n, end in zip(f, self.ended, strict=True))

    def token(self, who: int) -> Frontier:
        """What a session must still say that it demands: of what others lost, what survives."""
        return join(self.own[who], self.clipped(self.seen[who]))

    def demand(self, e: Event) -> Frontier:
        """All that a session demands, its commits in doubt included."""
        return join(e.came, self.own[e.who], self.seen[e.who], self.doubt[e.who])

    def gated(self, e: Event) -> bool:
        """Whether an answer may be given to a session, from a watermark, by those who know of some ends."""
        facts = zip(self.own[e.who], self.demand(e), self.ended, e.ends, e.mark, strict=True)
        for mine, every, end, known, here in facts:
            if known and (mine > known or here > known):
                return False
            need = every
            if end and every > end:
                need = max(mine, end)
            if here != UNKNOWN and here < need:
                return False
        return True

    def there(self, e: Event, before: Frontier) -> bool:
        """Whether what an event leaves, and covers, has been numbered. (The watermark that is said of a leader may have the very write.)"""
        return at_least(self.last, e.left) and all(
            m <= n or m == now for m, n, now in zip(e.mark, before, self.last, strict=True)
        )

    def learns(self, e: Event, more: Frontier = ()) -> bool:
        """Whether an operation leaves a session with no less than it had, and `more`."""
        least = join(self.seen[e.who], more)
        self.seen[e.who] = join(e.left, least)
        return at_least(e.left, join(self.own[e.who], self.clipped(least)))

    # --- events --------------------------------------------------------------------------------------------------------

    def visible(self, e: Event) -> list[Version]:
        """The versions of a key that a watermark covers."""
        return [v for v in self.versions if v.key == e.key and v.offset <= e.mark[v.at - 1]]

    def these(self, e: Event) -> list[Version]:
        """The version that an event names, if there is one."""
        return [v for v in self.versions if (v.at, v.offset) == (e.at, e.offset)]

    def number(self, e: Event) -> bool:
        """Something is numbered that nobody was ever shown."""
        before, self.last = self.last[e.at - 1], put(self.last, e.at, e.offset)
        return before < e.offset and (not self.ended[e.at - 1] or self.past(e.at, e.offset))

    def commit(self, e: Event) -> bool:
        """A leader takes a write."""
        fine = self.gated(e) and not e.ends[e.at - 1] and self.number(e)
        fine = fine and all(v.stamp < e.stamp for v in self.visible(e))
        self.versions.append(Version(e.who, e.key, e.at, e.offset, e.stamp, put(self.demand(e), e.at, e.offset)))
        if e.life:
            self.shown[e.life] = put(self.shown[e.life], e.at, e.offset)
        return fine

    def ack(self, e: Event) -> bool:
        """The writer learns of it."""
        mine = [v for v in self.these(e) if v.who == e.who]
        if not mine:
            return False
        self.own[e.who] = join(self.own[e.who], put((0,) * len(e.mark), e.at, e.offset))
        return self.learns(e, mine[0].deps)

    def unknown(self, e: Event) -> bool:
        """The writer learns that nobody knows."""
        if e.at:
            if e.who not in [v.who for v in self.these(e)]:
                return False
            self.doubt[e.who] = join(self.doubt[e.who], put((0,) * len(e.mark), e.at, e.offset))
        return self.learns(e)

    def read(self, e: Event) -> bool:
        """A read is served."""
        newest = max(self.visible(e), key=lambda v: v.stamp, default=None)
        if (e.held and not self.gated(e)) or (e.at, e.offset) != ((newest.at, newest.offset) if newest else (0, 0)):
            return False
        return self.learns(e, newest.deps if newest else ())

    def refuse(self, e: Event) -> bool:
        """Whatever is refused leaves the session with what it demanded."""
        return self.learns(e)

    def end(self, e: Event) -> bool:
        """A history ends."""
        before = self.ended[e.at - 1]
        self.told[e.at - 1].add(e.offset)
        self.ended = put(self.ended, e.at, min(before, e.offset) if before else e.offset)
        return True

    def lost(self, e: Event) -> bool:
        """What is told as lost is lost, and the session's own."""
        return self.past(e.at, e.offset) and self.own[e.who][e.at - 1] >= e.offset

    def forget(self, e: Event) -> bool:
        """The session accepts the loss, exactly that."""
        if not self.lost(e):
            return False
        if self.own[e.who][e.at - 1] == e.offset:
            self.own[e.who] = put(self.own[e.who], e.at, self.ended[e.at - 1])
        return True

    def in_doubt(self, e: Event) -> bool:
        """It accepts that an own write, which gave way to a mark, may be lost."""
        self.own[e.who] = put(self.own[e.who], e.at, 0)
        return any(self.ended)


def rejected(run: Run) -> int | None:
    """Return the number, from 1 on, of the first event that breaks a rule; None if the run is accepted."""
    mirror = Mirror(run)
    return next((number for number, e in enumerate(run.events, 1) if not mirror.step(e)), None)


# --- TLA+ ------------------------------------------------------------------------------------------------------------------


def tla(value: Any) -> str:
    """Write a value in TLA+. (TLC 2.15 wants a blank before a tuple that follows an equals sign.)"""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, tuple):
        return "<<" + ", ".join(map(tla, value)) + ">>" if value else "<< >>"
    return f'"{value}"' if isinstance(value, str) else str(value)


def stops(run: Run) -> int:
    """Return where the cursor stops: at the first event that breaks a rule, or past the end."""
    return rejected(run) or len(run.events) + 1


def module(runs: Sequence[Run]) -> str:
    """Return TraceData.tla for some runs. A run of fewer places than another knows nothing of the others."""
    places = max(run.places for run in runs)

    def record(e: Event) -> str:
        names = {"came": "in", "left": "out"}
        fields = [
            f"{names.get(name, name)} |-> {tla(widened(value, places))}"
            for name, value in zip(Event._fields, e, strict=True)
        ]
        return "[" + ", ".join(fields) + "]"

    told = ["<<\n  " + ",\n  ".join(map(record, run.events)) + ">>" for run in runs]
    return "\n".join(
        [
            "---- MODULE TraceData ----",
            "EXTENDS Integers",
            f"Places == 1..{places}",
            f"Sessions == 1..{max(run.sessions for run in runs)}",
            f"Lives == 1..{max(run.lives for run in runs)}",
            f"Stops == {tla(tuple(map(stops, runs)))}",
            "Runs == <<",
            ",\n".join(told),
            ">>",
            "====",
            "",
        ]
    )


def widened(value: Any, places: int) -> Any:
    """Return a frontier with that many places; any other value as it is."""
    return (*value, *(0,) * (places - len(value))) if isinstance(value, tuple) and value else value


CONFIG = "SPECIFICATION Spec\nINVARIANT NotBeyond\n"
