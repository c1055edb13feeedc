"""The mirror of News.tla: ends that are heard of later, processes that know different ones, and writes that take two steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from mirror.bfs import Action, Config, Machine, Model, State, put

SESSIONS, SERVERS = (0, 1), (0, 1)
PEOPLE, NAMES, WHERE = ("Alice", "Bob"), ("A", "B"), ("P", "Q")
LIVE = 99  # the end of an origin that has none, or none that is known
GUARANTEES = ("NoSilentLoss", "CausalReads", "NoFalseLoss", "KnownSurvivors", "NotLostFromTheStart")
IDLE = ()


@cache
def shown(log: tuple, origins: int) -> tuple:
    """The last place that each origin numbered in a log; 0 where the log has never heard of it."""
    return tuple(max((n for n, o in enumerate(log, 1) if o == origin), default=0) for origin in range(1, origins + 1))


@cache
def tells(log: tuple, origins: int) -> tuple:
    """Where each origin ends, as a log tells it."""
    return tuple(min((n for n, o in enumerate(log) if o > origin), default=LIVE) for origin in range(1, origins + 1))


@cache
def least(a: tuple, b: tuple) -> tuple:
    return tuple(map(min, a, b))


@cache
def most(a: tuple, b: tuple) -> tuple:
    return tuple(map(max, a, b))


def exceeds(a: tuple, b: tuple) -> bool:
    """Whether any part of one is above the other's."""
    return any(x > y for x, y in zip(a, b, strict=True))


@cache
def common(a: tuple, b: tuple) -> int:
    """How many entries two logs have in common before they part."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@cache
def lacks(log: tuple, frontier: tuple) -> bool:
    """Whether some place of a frontier is not in a log, under the same origin."""
    return any(n and log[n - 1 : n] != (o,) for o, n in enumerate(frontier, 1))


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (leader, log, num, knows, noted, own, seen, mine, saw, writing, broken), as in the module."""
    size, processes = k["Failovers"] + 1, range(k["Through"])
    nothing, unknown = (0,) * size, (LIVE,) * size

    @cache
    def heads(log: tuple, num: tuple) -> tuple:
        """The heads past which an own write is lost, asked now."""

        def of(origin: int) -> int:
            here = [shown(log[x], size)[origin - 1] for x in SERVERS]
            return min(
                (n for x, n in zip(SERVERS, here, strict=True) if num[x] == origin or (not k["NUMBERER"] and n)),
                default=LIVE,
            )

        return tuple(map(of, range(1, size + 1)))

    def stops(state: State, process: int) -> tuple:
        log, num, knows, noted = state[1:5]
        return least(knows[process], heads(log, num) if k["ASKED_AFTER"] else noted[process])

    @cache
    def covers(own: tuple, seen: tuple, known: tuple, log: tuple) -> bool:
        need = most(own, seen)
        return not exceeds(least(need, known) if k["CLIP"] else need, shown(log, size))

    @cache
    def misses(log: tuple, newest: tuple, mine: tuple, saw: tuple) -> frozenset[str]:
        wrongs = {"NoSilentLoss"} if lacks(log, mine) else set()
        return frozenset(wrongs | ({"CausalReads"} if lacks(log, least(saw, tells(newest, size))) else set()))

    def moved(writing: tuple, who: int) -> tuple:
        return put(writing, who, (*writing[who][:2], True)) if writing[who] else writing

    def dropped(writing: tuple, at: int) -> tuple:
        return tuple(IDLE if block and block[1] == at else block for block in writing)

    def after(state: State) -> Iterator[tuple[Action, State]]:
        leader, log, num, knows, noted, own, seen, mine, saw, writing, broken = state
        follower, truth = 1 - leader, log[leader]
        for process in processes:
            stop, known = stops(state, process), knows[process]
            for who in SESSIONS:
                gone = k["TOLD"] and exceeds(own[who], stop)
                if gone:
                    yield ("told", who, process), told(state, who, stop)
                for at in SERVERS:
                    here = shown(log[at], size)
                    past, fits = exceeds(here, known), not gone and covers(own[who], seen[who], known, log[at])
                    if fits and not (k["DIVERGED"] and past):
                        wrongs = broken | misses(log[at], truth, mine[who], saw[who])
                        wrongs |= {"KnownSurvivors"} if past else frozenset()
                        sees = put(seen, who, most(seen[who], here))
                        block = writing if sees == seen else moved(writing, who)
                        then = (*state[:6], sees, mine, put(saw, who, most(saw[who], here)), block, wrongs)
                        yield ("read", who, process, at), then
                    free = num[at] and writing[who] == IDLE and len(log[at]) < k["Length"] and who < k["Writers"]
                    over = num[at] and known[num[at] - 1] != LIVE
                    if free and (fits or not k["GATED_WRITES"]) and not (k["REPLACED"] and over):
                        wrongs = broken | {"NotLostFromTheStart"} if over else broken
                        yield ("begin", who, process, at), (*state[:9], put(writing, who, (process, at, False)), wrongs)
            for at in SERVERS:
                news = least(known, tells(log[at], size))
                if news != known:
                    yield ("ask", process, at), (*state[:3], put(knows, process, news), *state[4:])
                if not k["ASKED_AFTER"] and num[at]:
                    head = put(noted[process], num[at] - 1, shown(log[at], size)[num[at] - 1])
                    yield ("note", process, at), (*state[:4], put(noted, process, head), *state[5:])
        for who in SESSIONS:
            if writing[who] == IDLE:
                continue
            process, at, learned = writing[who]
            unmet = (k["TOLD"] and exceeds(own[who], stops(state, process))) or not covers(
                own[who], seen[who], knows[process], log[at]
            )
            if len(log[at]) < k["Length"] and not (k["AGAIN"] and learned and unmet):
                now = put(log, at, (*log[at], num[at]))
                place = (num[at] - 1, len(now[at]))
                wrongs = broken | misses(log[at], truth, mine[who], saw[who])
                wrote, really = put(own, who, put(own[who], *place)), put(mine, who, put(mine[who], *place))
                then = (leader, now, *state[2:5], wrote, seen, really, saw, put(writing, who, IDLE), wrongs)
                yield ("commit", who, at), then
        here, same = log[follower], common(log[follower], truth)
        if same < len(here) or same < len(truth):
            new = here[:same] if same < len(here) else truth[: same + 1]
            what = "rejoin" if same < len(here) else "replicate"
            then = (
                leader,
                put(log, follower, new),
                put(num, follower, 0),
                *state[3:9],
                dropped(writing, follower),
                broken,
            )
            yield (what, follower), then
        if truth[-1] <= k["Failovers"] and same == len(here) and truth[-1] in here:
            now = put(log, follower, (*here, truth[-1] + 1))
            numbers = put(num, follower, truth[-1] + 1)
            blocks = writing
            if k["Fenced"]:
                numbers, blocks = put(numbers, leader, 0), dropped(writing, leader)
            yield ("failover", follower), (follower, now, numbers, *state[3:9], blocks, broken)

    def told(state: State, who: int, stop: tuple) -> State:
        leader, log, _, _, _, own, seen, mine, saw, writing, broken = state
        parts = tuple(zip(own[who], stop, strict=True))

        def accepted(frontier: tuple) -> tuple:
            return tuple(min(n, end) if end < had >= n else n for n, (had, end) in zip(frontier, parts, strict=True))

        false = any(end < had <= true for (had, end), true in zip(parts, tells(log[leader], size), strict=True))
        return (
            *state[:5],
            put(own, who, least(own[who], stop)),
            put(seen, who, accepted(seen[who])),
            put(mine, who, accepted(mine[who])),
            put(saw, who, accepted(saw[who])),
            moved(writing, who),
            broken | {"NoFalseLoss"} if false else broken,
        )

    @cache
    def settled(leader: int, log: tuple, known: tuple) -> tuple:
        """What a process knows, and the log of both servers, once replication and questions have ended."""
        return least(known, tells(log[leader], size)), log[leader]

    def every_loss_is_said(state: State) -> bool:
        leader, log, _, knows, _, own = state[:6]
        ends = tells(log[leader], size)
        return all(
            not exceeds(own[who], ends)
            or (k["TOLD"] and exceeds(own[who], least(settled(leader, log, known)[0], ends)))
            for who in SESSIONS
            for known in knows
        )

    def every_gate_opens(state: State) -> bool:
        leader, log, num, knows, noted, own, seen = state[:7]
        for process in processes:
            known, rest = settled(leader, log, knows[process])
            last = ((rest, rest), tuple(num[x] if x == leader else 0 for x in SERVERS))
            stop = least(known, heads(*last) if k["ASKED_AFTER"] else noted[process])
            for who in SESSIONS:
                if not exceeds(own[who], stop) and not covers(own[who], seen[who], known, rest):
                    return False
        return True

    def tell(action: Action, before: State, after: State) -> str:
        what, on, *rest = action
        log, num, own, seen = before[1], before[2], before[5], before[6]
        if what in ("replicate", "rejoin", "failover"):
            name, other = NAMES[on], NAMES[1 - on]
            return {
                "replicate": f"Server {name} copies #{len(after[1][on])} from server {other}.",
                "rejoin": f"Server {name} rejoins: it goes back to where the histories parted, and shows {upto(after[1][on])}.",
                "failover": f"Server {name}, which has {upto(log[on])}, takes over from server {other} and begins origin {after[2][on]}."
                + (" What it lacks is lost." if len(log[on]) < len(log[1 - on]) else "")
                + ("" if k["Fenced"] else f" Server {other} has not heard of it."),
            }[what]
        if what in ("ask", "note"):
            at = rest[0]
            if what == "note":
                return f"Process {WHERE[on]} asks server {NAMES[at]} for its head, and notes #{len(log[at])} of origin {num[at]}."
            ends = [f"origin {o} ends at #{n}" for o, n in enumerate(after[3][on], 1) if n != before[3][on][o - 1]]
            return f"Process {WHERE[on]} asks server {NAMES[at]}, and hears that {' and '.join(ends)}."
        who, demand = PEOPLE[on], spelled(most(own[on], seen[on]))
        if what == "told":
            return f"{who}, who demands {demand}, is told at process {WHERE[rest[0]]} what is lost, and accepts it."
        if what == "read":
            return (
                f"{who}, who demands {demand}, reads through process {WHERE[rest[0]]} at server {NAMES[rest[1]]}, "
                f"and is shown {upto(log[rest[1]])}."
            )
        if what == "begin":
            return (
                f"{who}, who demands {demand}, begins to write through process {WHERE[rest[0]]} at server {NAMES[rest[1]]}, "
                f"which has {upto(log[rest[1]])} and says that it numbers origin {num[rest[1]]}."
            )
        at = rest[0]
        return f"{who}'s write is committed at server {NAMES[at]}, and acknowledged as #{len(after[1][at])} of origin {num[at]}."

    def upto(log: tuple) -> str:
        runs = [(o, log.index(o) + 1, shown(log, size)[o - 1]) for o in dict.fromkeys(log)]
        return " and ".join(f"#{a} to #{b} of origin {o}" if a < b else f"#{a} of origin {o}" for o, a, b in runs)

    def spelled(frontier: tuple) -> str:
        return " and ".join(f"up to #{n} of origin {o}" for o, n in enumerate(frontier, 1) if n) or "nothing"

    def broken(invariant: str, state: State) -> str:
        return {
            "NoSilentLoss": "The session's acknowledged write is not there. It is answered, and was not told.",
            "CausalReads": "What is served, or written upon, lacks something that survives, in the causal past of the session.",
            "NoFalseLoss": "The session is told that its write is lost. It is not.",
            "KnownSurvivors": "The process knows that what it shows is lost.",
            "NotLostFromTheStart": "The process knows that what is written there is lost from the start, and lets it in.",
            "EveryLossIsSaid": "However long the news travels, the loss is not said.",
            "EveryGateOpens": "However long the servers replicate and the news travels, somebody will be served by none of them.",
        }[invariant]

    none, untold = (nothing, nothing), (unknown,) * len(processes)
    first = (0, ((1,), (1,)), (1, 0), untold, untold, none, none, none, none, (IDLE, IDLE), frozenset())
    return Machine(
        initial=[first],
        after=after,
        invariants={n: (lambda s, n=n: n not in s[10]) for n in GUARANTEES},
        liveness={"EveryLossIsSaid": every_loss_is_said, "EveryGateOpens": every_gate_opens},
        tell=tell,
        broken=broken,
    )


BOTH = {"Writers": 2, "Through": 1}
LIVELY = {"Length": 2}

MODEL = Model(
    module="News",
    constants={
        "TOLD": True,
        "CLIP": True,
        "DIVERGED": True,
        "REPLACED": True,
        "GATED_WRITES": True,
        "AGAIN": True,
        "ASKED_AFTER": True,
        "NUMBERER": True,
        "Fenced": False,
        "Writers": 1,
        "Through": 2,
        "Failovers": 1,
        "Length": 3,
    },
    machine=machine,
    configs=(
        Config("", states=5_669, depth=18, liveness=False),
        Config("live", LIVELY, states=726, depth=13),
        Config("both", BOTH, states=12_484, depth=18, liveness=False),
        Config("twice", {"Failovers": 2}, states=23_781, depth=24, by_hand=True),
        Config("both_twice", {**BOTH, "Failovers": 2}, states=30_522, depth=22, by_hand=True),
        Config("fenced", {"Fenced": True}, states=5_003, depth=18, by_hand=True),
        Config(
            "told",
            {"TOLD": False},
            violates="NoSilentLoss",
            depth=6,
            story="""Without a word on what was lost: news that reaches the process, and not the user

            A session's own writes that are lost are treated as those of others: once the process has heard of an end, they count only up
            to it. Until then nobody serves what lacks them; the news is what makes the loss silent.""",
        ),
        Config(
            "told-never",
            {"TOLD": False, **LIVELY},
            violates="EveryLossIsSaid",
            depth=4,
            story="""Without a word on what was lost: nobody says it, ever

            As [here](news-told.md), asked the other way round: the news travels everywhere, and the session is not told.""",
        ),
        Config(
            "clip",
            {"CLIP": False, **LIVELY},
            violates="EveryGateOpens",
            depth=5,
            story="""Without clipping: news that helps nobody

            Every process hears where the origin ended, and demands of those who saw what was lost all of it, as before.""",
        ),
        Config(
            "diverged",
            {"DIVERGED": False},
            violates="KnownSurvivors",
            depth=6,
            story="""With servers past an end that is known: what one has heard of another does not count

            The old leader has not heard that it was replaced, and its own answers look as they always did. The process has, from the new
            one, and reads there all the same.""",
        ),
        Config(
            "replaced",
            {"REPLACED": False},
            violates="NotLostFromTheStart",
            depth=4,
            story="""With writes at who was replaced: lost from the start

            The old leader was not stopped, and takes writes. Nobody can tell who has not heard of the new one; here the process has.""",
        ),
        Config(
            "gated_writes",
            {"GATED_WRITES": False},
            violates="NoSilentLoss",
            depth=6,
            story="""With writes that nobody gates: a success on top of a loss, whoever has heard of it

            Reads are gated. But who numbers an origin takes every write, whatever the session demands.""",
        ),
        Config(
            "again",
            {"AGAIN": False},
            violates="CausalReads",
            depth=5,
            story="""With a commit that looks back only to its admission: a write without its causes

            A write is admitted where all is that the session demands. Before it commits, the same session reads elsewhere what its server
            lacks, and then what it writes there follows what it has read.""",
        ),
        Config(
            "asked_after",
            {"ASKED_AFTER": False},
            violates="NoFalseLoss",
            depth=5,
            story="""With a head that was noted before the write: a loss that is none

            Who numbers an origin and was asked for its head does not have what is past it. But that head may be older than the write.""",
        ),
        Config(
            "numberer",
            {"NUMBERER": False},
            violates="NoFalseLoss",
            depth=4,
            story="""With the head of anybody: what is behind is called lost

            Past the head of who numbers an origin, a write is lost. Past that of a server that copies it, it is only not there yet.""",
        ),
    ),
)
