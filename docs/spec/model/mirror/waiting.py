"""The mirror of Waiting.tla: threads that wait in line at one endpoint, one of which polls it for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mirror.bfs import Action, Config, Machine, Model, put

PEOPLE = ("Alice", "Bob", "Carol")
DOWN = -1
IDLE = ("out", "done")
NOBODY: frozenset = frozenset()


class Line(NamedTuple):
    """A state, as in the module."""

    applied: int
    down: bool
    known: int
    pc: tuple
    looked: tuple
    queue: frozenset
    polling: bool
    leads: frozenset
    event: frozenset
    heard: tuple


def machine(k: Mapping[str, bool | int]) -> Machine:
    """What the rules say is in the module. Waiter w needs #(w + 1)."""
    everybody = range(k["Waiters"])

    def to(s: Line, w: int, where: str, **more: object) -> Line:
        return s._replace(pc=put(s.pc, w, where), **more)

    def enter(s: Line, w: int, covered: bool, polled: bool) -> Line:
        s = s._replace(looked=put(s.looked, w, ()))
        if covered:
            return to(s, w, "done")
        return to(s, w, "top", queue=s.queue | {w}, leads=s.leads if polled else s.leads | {w}, polling=True)

    def come(s: Line, w: int) -> Line:
        covered = s.known > w
        if k["ONE_STEP"]:
            return enter(s, w, covered, s.polling)
        return to(s, w, "looked", looked=put(s.looked, w, (covered, s.polling)))

    def ready(s: Line, w: int) -> frozenset:
        if s.heard[w] == DOWN:
            return s.queue if k["DRAINS"] else NOBODY
        return frozenset(q for q in s.queue if s.heard[w] > q)

    def step(s: Line, w: int) -> Iterator[tuple[Action, Line]]:
        """What a waiter does next by itself: there is a choice only of whom it hands the polling on to."""
        match s.pc[w]:
            case "looked":
                yield ("take", w), enter(s, w, *s.looked[w])
            case "top" if w not in s.queue:
                yield ("over", w), to(s, w, "leaving")
            case "top" if w in s.leads:
                yield ("ask", w), to(s, w, "answered", heard=put(s.heard, w, DOWN if s.down else s.applied))
            case "top":
                yield ("look", w), to(s, w, "asleep" if k["LOOKS_LAST"] else "clearing")
            case "answered":
                yield ("learn", w), to(s, w, "heard", known=max(s.known, s.heard[w]))
            case "heard":
                woken = ready(s, w)
                yield (
                    ("wake", w),
                    to(s, w, "top", heard=put(s.heard, w, 0), queue=s.queue - woken, event=s.event | woken),
                )
            case "clearing":
                yield ("clear", w), to(s, w, "asleep", event=s.event - {w})
            case "asleep" if w in s.event:
                yield ("woken", w), to(s, w, "top", event=s.event - {w} if k["LOOKS_LAST"] else s.event)
            case "leaving":
                left, event = s.queue - {w}, s.event - {w}
                if w not in s.leads:
                    yield ("leave", w), to(s, w, "done", queue=left, event=event)
                elif not left or not k["HANDS_ON"]:
                    yield ("leave", w), to(s, w, "done", queue=left, event=event, polling=False, leads=s.leads - {w})
                else:
                    for q in sorted(left):
                        handed = s.leads - {w} | {q}
                        yield ("leave", w, q), to(s, w, "done", queue=left, event=event | {q}, leads=handed)

    def advance(s: Line) -> Iterator[tuple[Action, Line]]:
        if not s.down and s.applied < k["Waiters"]:
            yield ("advance",), s._replace(applied=s.applied + 1)

    def after(s: Line) -> Iterator[tuple[Action, Line]]:
        for w in everybody:
            if s.pc[w] == "out":
                yield ("come", w), come(s, w)
            if s.pc[w] in ("top", "asleep", "answered", "heard"):
                yield ("give up", w), to(s, w, "leaving", heard=put(s.heard, w, 0))
            yield from step(s, w)
        yield from advance(s)
        if k["Failures"] and not s.down:
            yield ("fail",), s._replace(down=True)

    def going_on(s: Line) -> Iterator[Line]:
        yield from (then for _, then in advance(s))
        yield from (then for w in everybody for _, then in step(s, w))

    ending: set[Line] = set()  # the states from which every wait may still end

    def every_wait_ends(s: Line) -> bool:
        """Whether the waits can end by what everybody does by themselves. Where they can no more, polls go on in vain, or nothing does."""
        came: dict[Line, Line | None] = {s: None}
        for state in (line := [s]):
            if state in ending or all(at in IDLE for at in state.pc):
                at: Line | None = state
                while at is not None:
                    ending.add(at)
                    at = came[at]
                return True
            for then in going_on(state):
                if then not in came:
                    came[then] = state
                    line.append(then)
        return False

    def upto(n: int) -> str:
        return f"#{n}" if n else "nothing"

    def tell(action: Action, before: Line, after: Line) -> str:
        what, *rest = action
        if what == "advance":
            return f"The endpoint applies #{after.applied}."
        if what == "fail":
            return "The endpoint fails."
        w = rest[0]
        who = PEOPLE[w]
        if what in ("come", "take") and after.pc[w] != "looked":
            if w not in after.queue:
                return f"{who} comes, who needs #{w + 1}, and has it already."
            return (
                f"{who}, who needs #{w + 1}, stands in line, and {'polls' if w in after.leads else 'is to be woken'}."
            )
        if what == "come":
            covered, polled = after.looked[w]
            return (
                f"{who} comes, who needs #{w + 1}, and looks: it is {'' if covered else 'not '}there, and "
                f"{'somebody' if polled else 'nobody'} polls."
            )
        names = " and ".join(PEOPLE[q] for q in sorted(ready(before, w))) if what == "wake" else ""
        heard = after.heard[w]
        hands = f", and hands the polling on to {PEOPLE[rest[1]]}" if len(rest) > 1 else ""
        return {
            "over": f"{who} is not in line any more.",
            "ask": f"{who} asks the endpoint, which {'does not answer' if heard == DOWN else 'has applied ' + upto(heard)}.",
            "learn": f"Whoever comes knows that from now on: {upto(after.known)}.",
            "look": f"{who} looks, is still in line, and is to sleep.",
            "wake": f"{who} wakes whoever has what they need: {names or 'nobody'}.",
            "clear": f"{who} clears the event, and sleeps.",
            "woken": f"{who} is woken.",
            "give up": f"{who}'s time is up."
            if before.pc[w] in ("top", "asleep")
            else f"{who}'s poll ends with an error.",
            "leave": f"{who} leaves{hands}.",
        }[what]

    def broken(invariant: str, state: Line) -> str:
        if invariant == "OnePolls":
            return "Two of them poll the same endpoint."
        waits = " and ".join(PEOPLE[w] for w in sorted(state.queue) if state.pc[w] != "leaving")
        if invariant == "SomebodyPolls":
            return f"In line: {waits}. Nobody polls."
        return f"However long everybody goes on, {waits} will wait until the time is up."

    n = k["Waiters"]
    return Machine(
        initial=[Line(0, False, 0, ("out",) * n, ((),) * n, NOBODY, False, NOBODY, NOBODY, (0,) * n)],
        after=after,
        invariants={
            "SomebodyPolls": lambda s: bool(s.leads) or not s.queue,
            "OnePolls": lambda s: len(s.leads) <= 1,
        },
        liveness={"EveryWaitEnds": every_wait_ends},
        tell=tell,
        broken=broken,
    )


MODEL = Model(
    module="Waiting",
    constants={
        "ONE_STEP": True,
        "HANDS_ON": True,
        "DRAINS": True,
        "LOOKS_LAST": True,
        "Waiters": 2,
        "Failures": True,
    },
    machine=machine,
    configs=(
        Config("", states=1_180, depth=16),
        Config("three", {"Waiters": 3}, states=22_866, depth=22, by_hand=True),
        Config(
            "one_step",
            {"ONE_STEP": False},
            violates="SomebodyPolls",
            depth=7,
            story="""With a look before the line: the wake-up that is lost

            Who comes looks whether it is covered, and whether somebody polls, and stands in line after that. In between, whoever polled has
            what it needs, finds nobody else in line, and leaves.""",
        ),
        Config(
            "one_step-twice",
            {"ONE_STEP": False},
            violates="OnePolls",
            depth=5,
            story="""With a look before the line: two who poll

            Two come at the same time, see that nobody polls, and do it both: a question for everybody who comes, where one
            was to do.""",
        ),
        Config(
            "hands_on",
            {"HANDS_ON": False},
            violates="EveryWaitEnds",
            depth=4,
            story="""With polling that ends with who did it: the others sleep on

            One polls for all, has what it needs, and leaves. Nobody is told to go on.""",
        ),
        Config(
            "drains",
            {"DRAINS": False},
            violates="EveryWaitEnds",
            depth=3,
            story="""With a line at an endpoint that has failed: a wait for what will not come

            Who polls hears that the endpoint does not answer, and polls on. Those who wait could be served elsewhere, and do not learn of
            it.""",
        ),
        Config(
            "looks_last",
            {"LOOKS_LAST": False},
            violates="EveryWaitEnds",
            depth=6,
            story="""With an event that is cleared after the look: the wake-up that is wiped out

            Who is to sleep looks whether it is still in line, then clears its event, then sleeps. It is woken between the first and the
            second.""",
        ),
    ),
)
