"""The mirror of Expiry.tla: a token that ages out, wall clocks that differ, and replicas that are shown to be fresh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mirror.bfs import Action, Config, Machine, Model

PROCESSES = (0, 1)


class World(NamedTuple):
    """A state, as in the module; None where it has NoSample."""

    now: int
    ahead: int
    local: int
    head: int
    applied: int
    token: int
    expires: int
    wrote: int
    asked: tuple | None
    sample: tuple | None
    dead: bool
    broken: bool


def machine(k: Mapping[str, bool | int]) -> Machine:
    """What is configured is in the module."""
    staleness, skew = k["Staleness"], k["Skew"]
    ttl = staleness + skew + int(k["LONG_TTL"])

    def wall(w: World, process: int) -> int:
        return w.now + process * w.ahead

    def fresh(w: World) -> bool:
        if w.sample is None:
            return False
        at, head = w.sample
        return w.applied >= head and w.local - at <= staleness

    def expired(w: World, process: int) -> bool:
        return bool(w.token) and k["EXPIRES"] and wall(w, process) >= w.expires

    def is_open(w: World) -> bool:
        return w.applied >= w.token and (fresh(w) or not k["PROVEN"])

    def asking(w: World) -> Iterator[tuple[Action, World]]:
        if w.asked is not None:
            at, head = w.asked
            yield ("answer",), w._replace(asked=None, sample=(at if k["AT_QUESTION"] else w.local, head))
        elif k["ASKS_AGAIN"] or w.sample is None:
            yield ("ask",), w._replace(asked=(w.local, w.head))

    def gone_on(w: World) -> World:
        """Return where time, replication, expiry and questions come to: from there on, only the last question is asked again."""
        w = w._replace(now=k["Time"], local=w.local + k["Time"] - w.now, applied=w.head)
        if any(expired(w, process) for process in PROCESSES):
            w = w._replace(token=0, expires=0)
        for _ in range(4):  # what is on its way arrives, and another is asked and answered
            w = next(asking(w), (None, w))[1]
        return w

    def after(w: World) -> Iterator[tuple[Action, World]]:
        if w.now < k["Time"]:
            yield ("tick",), w._replace(now=w.now + 1, local=w.local + 1)
            if not k["COUNTS_SUSPEND"]:
                yield ("sleep",), w._replace(now=w.now + 1)
        for process in PROCESSES:
            if w.head < k["Writes"] and not w.dead and (not k["Deaths"] or w.now + ttl + skew <= k["Time"]):
                n = w.head + 1
                yield ("write", process), w._replace(head=n, token=n, wrote=n, expires=wall(w, process) + ttl)
            if expired(w, process):
                yield ("drop", process), w._replace(token=0, expires=0)
        if k["Deaths"] and not w.dead and w.applied < w.head:
            yield ("die",), w._replace(dead=True, head=w.applied, wrote=min(w.wrote, w.applied))
        if w.applied < w.head:
            yield ("apply",), w._replace(applied=w.applied + 1)
        yield from asking(w)
        if is_open(w):
            token = max(w.token, w.applied) if w.token else 0
            yield ("read",), w._replace(token=token, broken=w.broken or w.applied < w.wrote)

    def tell(action: Action, before: World, after: World) -> str:
        what, *rest = action
        if what == "tick":
            return f"A unit of time passes: it is {after.now}."
        if what == "sleep":
            return f"A unit of time passes while the reading process sleeps: it is {after.now}, its local clock says {after.local}."
        if what == "apply":
            return f"The replica applies write #{after.applied}."
        if what == "ask":
            return f"At {before.local} by its local clock, process 0 asks the leader for its head. It is {before.head}."
        if what == "die":
            return f"The leader dies. The replica goes on in its place, with what it has applied: {after.head}. The rest is lost."
        if what == "answer":
            at, head = after.sample
            return f"The answer arrives: head {head}. Whoever has applied that is taken to be fresh since {at}."
        if what == "read":
            demand = f"#{before.token}" if before.token else "nothing"
            return f"The session, whose token demands {demand}, is served at the replica, which has applied {before.applied}."
        clock = wall(before, rest[0])
        if what == "write":
            expires = f"Its token expires at {after.expires}: it is {clock} by the wall clock of process {rest[0]}."
            return f"The session writes #{after.head}. {expires}"
        return f"It is {clock} by the wall clock of process {rest[0]}: the token has expired, and demands nothing any more."

    def broken(invariant: str, state: World) -> str:
        if invariant == "EveryGateOpens":
            w = gone_on(state)
            if w.token > w.applied:
                return f"No read of the session will be served again: its token will always demand #{w.token}, of {w.applied}."
            return "No read will be served again: the only answer that there will be is too old, and nobody asks again."
        return f"The read shows what the replica had applied, {state.applied}, without the session's own write #{state.wrote}."

    return Machine(
        initial=[World(0, ahead, 0, 0, 0, 0, 0, 0, None, None, False, False) for ahead in range(-skew, skew + 1)],
        after=after,
        invariants={"ReadYourWrites": lambda w: not w.broken},
        liveness={"EveryGateOpens": lambda w: is_open(gone_on(w))},
        tell=tell,
        broken=broken,
    )


LIVE = {"Time": 4, "Writes": 1}
DEATHS = {"Deaths": True, "Staleness": 1, "Time": 5, "Writes": 1}

MODEL = Model(
    module="Expiry",
    constants={
        "LONG_TTL": True,
        "PROVEN": True,
        "AT_QUESTION": True,
        "COUNTS_SUSPEND": True,
        "ASKS_AGAIN": True,
        "EXPIRES": True,
        "Deaths": False,
        "Time": 6,
        "Writes": 2,
        "Staleness": 2,
        "Skew": 1,
    },
    machine=machine,
    configs=(
        Config("", states=31_864, depth=15, liveness=False),
        Config("live", LIVE, states=3_420, depth=11),
        Config("deaths", DEATHS, states=6_380, depth=12),
        Config("longer", {"Time": 7, "Writes": 3}, states=119_196, depth=18, liveness=False, by_hand=True),
        Config("no-skew", {"Skew": 0}, states=8_901, depth=15, liveness=False),
        Config(
            "long_ttl",
            {"LONG_TTL": False},
            violates="ReadYourWrites",
            depth=8,
            story="""With a lifetime that leaves out the clocks' skew: a write is no longer demanded, and not yet applied

            A token lives for max_staleness and max_clock_skew together, and not longer than that. The process that drops it has a clock
            that is ahead of the one that gave it its expiry.""",
        ),
        Config(
            "long_ttl-no-skew",
            {"LONG_TTL": False, "Skew": 0},
            violates="ReadYourWrites",
            depth=8,
            story="""With a lifetime of exactly the staleness: the boundary counts

            All clocks agree. A token lives as long as a replica may be stale, and not longer.""",
        ),
        Config(
            "proven",
            {"PROVEN": False},
            violates="ReadYourWrites",
            depth=7,
            story="""With replicas that nobody has shown to be fresh: they may be older than any token

            A token lives longer than a replica may be stale. But whether this one is, nobody asks.""",
        ),
        Config(
            "at_question",
            {"AT_QUESTION": False},
            violates="ReadYourWrites",
            depth=9,
            story="""With evidence that counts from the answer: the head was read before

            The leader reads its head, and the answer takes its time. Who has applied that head is taken to be fresh since the
            answer came.""",
        ),
        Config(
            "counts_suspend",
            {"COUNTS_SUSPEND": False},
            violates="ReadYourWrites",
            depth=9,
            story="""With a local clock that stops while the process sleeps: old evidence looks new

            On Linux, the usual monotonic clock stands still while the machine is suspended.""",
        ),
        Config(
            "asks_again",
            {"ASKS_AGAIN": False, **LIVE},
            violates="EveryGateOpens",
            depth=2,
            story="""With evidence that is asked for once: it grows old, and so does every read that waits

            The leader is asked where there is no evidence. Where there is some, it is used as long as it is good, and then nobody asks.""",
        ),
        Config(
            "expires",
            {"EXPIRES": False, **DEATHS},
            violates="EveryGateOpens",
            depth=3,
            story="""With tokens that never expire: a demand that outlives whoever could have met it

            A leader dies with a write that no other server has, or has heard of. Who was told of it demands it, and nobody can say that it
            is lost. What is left to them is that a demand ends with its age.""",
        ),
    ),
)
