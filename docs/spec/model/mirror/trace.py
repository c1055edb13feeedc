"""The mirror of Trace.tla: which event of a recorded run, if any, is the first that breaks a rule of the gate or of failover?

`events.py` makes events of what was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mirror.events import UNKNOWN, Event, Frontier, Run, events

__all__ = ["UNKNOWN", "Event", "Mirror", "Run", "events", "module", "put", "rejected", "stops"]


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
