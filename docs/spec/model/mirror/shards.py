"""The mirror of Shards.tla: two shards on the same two servers, each of which may fail over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from mirror.bfs import Action, Config, Machine, Model, State, put

SESSIONS, SHARDS, SERVERS, ORIGINS = (0, 1), (0, 1), (0, 1), (1, 2)
PEOPLE, THINGS, NAMES = ("Alice", "Bob"), ("photos", "posts"), ("A", "B")
LIVE = 99  # the end of an origin that has none
ZERO = ((0, 0), (0, 0))
FIRST = (1, ZERO, ZERO)
GUARANTEES = ("NoSilentLoss", "CausalReads", "OnlySurvivors")


@cache
def join(a: tuple, b: tuple) -> tuple:
    return tuple(tuple(map(max, x, y)) for x, y in zip(a, b, strict=True))


@cache
def least(a: tuple, b: tuple) -> tuple:
    return tuple(tuple(map(min, x, y)) for x, y in zip(a, b, strict=True))


@cache
def at(shard: int, origin: int, n: int) -> tuple:
    return put(ZERO, shard, put(ZERO[shard], origin - 1, n))


@cache
def ends(start: tuple) -> tuple:
    """Where the surviving history of each shard's origins stops."""
    return tuple((begun[1] - 1 if len(begun) > 1 else LIVE, LIVE) for begun in start)


@cache
def applied(log: tuple) -> tuple:
    """The last place in a log that each origin numbered; 0 where the log has never heard of it."""
    return tuple(max((n for n, entry in enumerate(log, 1) if entry[0] == o), default=0) for o in ORIGINS)


@cache
def lost(frontier: tuple, end: tuple) -> frozenset:
    """The shards and origins where a frontier is past the end."""
    return frozenset((s, o) for s in SHARDS for o in ORIGINS if frontier[s][o - 1] > end[s][o - 1])


@cache
def cut(frontier: tuple, places: frozenset, end: tuple, up_to: tuple) -> tuple:
    """Cut a frontier to the ends of some origins, where it is not above what was named of them."""
    return tuple(
        tuple(
            min(n, end[s][o - 1]) if (s, o) in places and n <= up_to[s][o - 1] else n
            for o, n in enumerate(frontier[s], 1)
        )
        for s in SHARDS
    )


@cache
def common(a: tuple, b: tuple) -> int:
    """How many entries two logs have in common before they part."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def everywhere(log: tuple, server: int) -> tuple:
    """What a server has applied, of every shard."""
    return tuple(applied(log[s][server]) for s in SHARDS)


def diverged(log: tuple, end: tuple, server: int) -> bool:
    """Whether a server holds writes past an end, on whichever shard."""
    return bool(lost(everywhere(log, server), end))


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (start, leader, log, own, seen, mine, saw, named, writes, broken), as in the module."""

    @cache
    def covers(end: tuple, need: tuple, shard: int, here: tuple) -> bool:
        """Whether a server that has applied so much of each shard has all that is demanded."""
        fits = least(need, end)
        return all(
            n == 0 or there >= n
            for s in SHARDS
            for n, there in zip((fits if k["CLIP"] or s == shard else need)[s], here[s], strict=True)
        )

    @cache
    def may_answer(end: tuple, own: tuple, seen: tuple, shard: int, here: tuple) -> bool:
        told = not any(k["ALL_LOSSES"] or s == shard for s, _ in lost(own, end))
        return told and covers(end, join(own, seen), shard, here) and not (k["DIVERGED"] and lost(here, end))

    def admitted(state: State, who: int, shard: int, server: int) -> bool:
        here = everywhere(state[2], server)
        return may_answer(ends(state[0]), state[3][who], state[4][who], shard, here)

    @cache
    def judged(start: tuple, mine: tuple, saw: tuple, shard: int, log: tuple) -> frozenset:
        """What an answer from a shard's log would break now."""
        end = ends(start)
        wrongs = {"NoSilentLoss"} if lost(mine, end) else set()
        for o in ORIGINS[: len(start[shard])]:
            stop, begun = end[shard][o - 1], start[shard][o - 1]
            n = min(max(mine[shard][o - 1], saw[shard][o - 1]), stop)
            if n >= begun and [entry[0] for entry in log[n - 1 : n]] != [o]:
                wrongs.add("CausalReads")
            if applied(log)[o - 1] > stop:
                wrongs.add("OnlySurvivors")
        return frozenset(wrongs)

    def misses(state: State, who: int, shard: int, log: tuple) -> frozenset:
        return state[9] | judged(state[0], state[5][who], state[6][who], shard, log)

    def follows(state: State, shard: int) -> bool:
        return k["EACH_SHARD"] or not diverged(state[2], ends(state[0]), state[1][shard])

    def logged(state: State, shard: int, server: int, log: tuple) -> tuple:
        return put(state[2], shard, put(state[2][shard], server, log))

    def catching_up(state: State) -> Iterator[tuple[Action, State]]:
        for s in SHARDS:
            leader = state[1][s]
            follower = 1 - leader
            here, there = state[2][s][follower], state[2][s][leader]
            same = common(here, there)
            if here == there or not follows(state, s):
                continue
            if same < len(here):
                yield ("rejoin", s, follower), (*state[:2], logged(state, s, follower, here[:same]), *state[3:])
            else:
                yield (
                    ("replicate", s, follower),
                    (*state[:2], logged(state, s, follower, there[: same + 1]), *state[3:]),
                )

    def write(state: State, who: int, shard: int) -> State:
        start, leader, _, own, seen, mine, saw, named, writes, _ = state
        log, newest = state[2][shard][leader[shard]], len(start[shard])
        n, before = len(log) + 1, log[-1]
        position = at(shard, newest, n)
        stored = join(join(own[who], seen[who]), before[1]) if k["MERGE"] else ZERO
        cause = join(join(mine[who], saw[who]), before[2])
        entry = (newest, join(stored, position), join(cause, position))
        return (
            start,
            leader,
            logged(state, shard, leader[shard], (*log, entry)),
            put(own, who, join(own[who], position)),
            put(seen, who, join(seen[who], stored)),
            put(mine, who, join(mine[who], position)),
            put(saw, who, join(saw[who], cause)),
            named,
            writes + 1,
            misses(state, who, shard, log),
        )

    def read(state: State, who: int, shard: int, server: int) -> State:
        log = state[2][shard][server]
        here = put(ZERO, shard, applied(log))
        shown, truth = join(here, log[-1][1]), join(here, log[-1][2])
        return (
            *state[:4],
            put(state[4], who, join(state[4][who], shown)),
            state[5],
            put(state[6], who, join(state[6][who], truth)),
            *state[7:9],
            misses(state, who, shard, log),
        )

    def accept(state: State, who: int) -> State:
        own, seen, mine, saw, named = (part[who] for part in state[3:8])
        end = ends(state[0])
        gone = named if k["EXACT"] else lost(own, end)
        return (
            *state[:3],
            put(state[3], who, cut(own, gone, end, own)),
            put(state[4], who, cut(seen, gone, end, own)),
            put(state[5], who, cut(mine, named, end, own)),
            put(state[6], who, cut(saw, named, end, own)),
            put(state[7], who, frozenset()),
            *state[8:],
        )

    def telling(state: State) -> Iterator[tuple[Action, State]]:
        for who in SESSIONS:
            named, gone = state[7][who], lost(state[3][who], ends(state[0]))
            if named:
                yield ("accept", who), accept(state, who)
            elif gone:
                yield ("told", who), (*state[:7], put(state[7], who, gone), *state[8:])

    def after(state: State) -> Iterator[tuple[Action, State]]:
        start, leader, log, _, _, _, _, _, writes, _ = state
        for who in SESSIONS:
            for s in SHARDS:
                room = writes < k["Writes"] and len(log[s][leader[s]]) < k["Length"] and who == 0
                if room and admitted(state, who, s, leader[s]):
                    yield ("write", who, s), write(state, who, s)
                for x in SERVERS:
                    if k["OwnReads" if who == 0 else "OtherReads"] and admitted(state, who, s, x):
                        yield ("read", who, s, x), read(state, who, s, x)
        yield from telling(state)
        yield from catching_up(state)
        for s in SHARDS:
            x = 1 - leader[s]
            here, there = log[s][x], log[s][leader[s]]
            if len(start[s]) == 1 and (s == 0 or k["Both"]) and common(here, there) == len(here):
                now = logged(state, s, x, (*here, (2, *here[-1][1:])))
                yield (
                    ("failover", s, x),
                    (put(start, s, (1, len(here) + 1)), put(leader, s, x), now, *state[3:]),
                )

    def gone_on(state: State) -> State:
        """Return what rejoining, replication and accepted losses come to, alone: there is no choice in it."""
        met = set()  # that it ends is to be found out
        while state not in met and (step := next(catching_up(state), None) or next(telling(state), None)) is not None:
            met.add(state)
            state = step[1]
        return state

    def opens(state: State, who: int) -> bool:
        end, own, need = ends(state[0]), state[3][who], join(state[3][who], state[4][who])
        held = [everywhere(state[2], x) for x in SERVERS]
        return not lost(own, end) and all(
            covers(end, need, s, here) and not lost(here, end) for s in SHARDS for here in held
        )

    def every_gate_opens(state: State) -> bool:
        last = gone_on(state)
        return all(opens(last, who) for who in SESSIONS)

    def tell(action: Action, before: State, after: State) -> str:
        what, on, *where = action
        _, leader, log, own, seen, *_ = before
        if what in ("replicate", "rejoin", "failover"):
            server, thing = where[0], THINGS[on]
            name, other = NAMES[server], NAMES[1 - server]
            shown = upto(after[2][on][server])
            return {
                "replicate": f"Server {name} copies #{len(after[2][on][server])} of the {thing} from server {other}.",
                "rejoin": f"Server {name} goes back to where the histories of the {thing} parted, and shows {shown}.",
                "failover": f"Of the {thing}, server {other} fails. Server {name}, which has {upto(log[on][server])}, takes over and "
                "begins origin 2."
                + (" What it lacks is lost." if len(log[on][server]) < len(log[on][1 - server]) else ""),
            }[what]
        who = PEOPLE[on]
        demand = spelled(join(own[on], seen[on]))
        if what == "told":
            return f"{who} is told what is lost: {' and '.join(place(*p) for p in sorted(after[7][on]))}."
        if what == "accept":
            return f"{who} accepts the loss, and demands {spelled(join(after[3][on], after[4][on]))} from now on."
        thing = THINGS[where[0]]
        if what == "write":
            at = leader[where[0]]
            n = len(after[2][where[0]][at])
            return (
                f"{who}, who demands {demand}, writes to the {thing} at server {NAMES[at]}, which leads them. It is acknowledged as "
                f"#{n} of {place(where[0], len(before[0][where[0]]))}."
            )
        return (
            f"{who}, who demands {demand}, reads the {thing} at server {NAMES[where[1]]}, and is shown "
            f"{upto(log[where[0]][where[1]])}."
        )

    def place(shard: int, origin: int) -> str:
        return f"origin {origin} of the {THINGS[shard]}"

    def upto(log: tuple) -> str:
        return " and ".join(f"up to #{n} of origin {o}" for o, n in zip(ORIGINS, applied(log), strict=True) if n)

    def spelled(frontier: tuple) -> str:
        parts = [f"up to #{n} of {place(s, o)}" for s in SHARDS for o, n in enumerate(frontier[s], 1) if n]
        return " and ".join(parts) or "nothing"

    def broken(invariant: str, state: State) -> str:
        state = gone_on(state)
        blocked = [PEOPLE[who] for who in SESSIONS if not opens(state, who)]
        lag = [f"server {NAMES[x]}" for x in SERVERS if lost(everywhere(state[2], x), ends(state[0]))]
        return {
            "NoSilentLoss": "The session's acknowledged write is lost. It is answered, and that loss was never told.",
            "CausalReads": "The read misses something in the causal past of what the session has seen or written.",
            "OnlySurvivors": "The read shows a write that is lost: no later read will.",
            "EveryGateOpens": f"However long the servers replicate, {' and '.join(blocked)} will not be served wherever they ask"
            + (f": {' and '.join(lag)} will always hold what is lost." if lag else "."),
        }[invariant]

    first = (
        ((1,), (1,)),
        (0, 1),
        (((FIRST,), (FIRST,)), ((FIRST,), (FIRST,))),
        (ZERO, ZERO),
        (ZERO, ZERO),
        (ZERO, ZERO),
        (ZERO, ZERO),
        (frozenset(), frozenset()),
        0,
        frozenset(),
    )
    return Machine(
        initial=[first if k["Apart"] else put(first, 1, (0, 0))],
        after=after,
        invariants={n: (lambda s, n=n: n not in s[9]) for n in GUARANTEES},
        liveness={"EveryGateOpens": every_gate_opens},
        tell=tell,
        broken=broken,
    )


TOGETHER = {"Apart": False}
ALONE = {"OwnReads": True, "OtherReads": False, **TOGETHER}

MODEL = Model(
    module="Shards",
    constants={
        "MERGE": True,
        "ALL_LOSSES": True,
        "EXACT": True,
        "CLIP": True,
        "DIVERGED": True,
        "EACH_SHARD": True,
        "Both": True,
        "Apart": True,
        "OwnReads": False,
        "OtherReads": True,
        "Writes": 2,
        "Length": 2,
    },
    machine=machine,
    configs=(
        Config("", states=3_423, depth=17),
        Config("together", TOGETHER, states=6_874, depth=16, liveness=False),
        Config("alone", ALONE, states=3_044, depth=16, liveness=False),
        Config("photos", {"Both": False}, states=449, depth=12, by_hand=True),
        Config("long", {"Writes": 3, "Length": 3}, states=35_421, depth=19, by_hand=True),
        Config("long_together", {"Writes": 3, "Length": 3, **TOGETHER}, states=55_614, depth=19, by_hand=True),
        Config("reads", {"OwnReads": True}, states=32_441, depth=18, by_hand=True),
        Config(
            "merge",
            {"MERGE": False, **TOGETHER},
            violates="CausalReads",
            depth=6,
            story="""Without dependencies: the post without its photo, on two servers

            What a post depends on is not stored with it. Whoever reads it demands nothing of the photos, whoever leads these.""",
        ),
        Config(
            "all_losses",
            {"ALL_LOSSES": False},
            violates="NoSilentLoss",
            depth=4,
            story="""With a loss that is only told on its own shard: success on the other one

            A session's lost write stands in the way of its reads and writes of the shard where it was lost, and of no others.""",
        ),
        Config(
            "exact",
            {"EXACT": False, **ALONE},
            violates="NoSilentLoss",
            depth=8,
            story="""With an acceptance of whatever is lost by then: one loss is told, two are accepted

            A session is told what is lost, and accepts that later. Meanwhile the other shard fails over, too. What is accepted is looked up
            when it is accepted, and not what was named. It takes two shards that fail over to see the difference.""",
        ),
        Config(
            "clip",
            {"CLIP": False},
            violates="EveryGateOpens",
            depth=4,
            story="""With clipping on the shard that is read, and no other: a lost photo that shuts its readers out of the posts

            What a session saw of others' lost writes counts up to their origin's end where that shard is read. As a demand of another shard
            it counts in full.""",
        ),
        Config(
            "diverged",
            {"DIVERGED": False},
            violates="OnlySurvivors",
            depth=4,
            story="""With servers that are past an end: a read of what is lost already, of a server that leads another shard

            The old leader of the photos holds all that is demanded, and more: what the new one never got. It is read like any other.""",
        ),
        Config(
            "each_shard",
            {"EACH_SHARD": False},
            violates="EveryGateOpens",
            depth=7,
            story="""With servers that follow only who could be read: two leaders that wait for each other

            A server that holds what is lost, of whichever shard, is not read until it has gone back. So far that is right. But here nobody
            follows it either, even of the shard that it leads. Each shard fails over, to the server that led the other one: each of them
            holds what is lost of the shard that it led, and would have to follow the other one to go back. With one shard that fails over,
            nothing of this is seen.""",
        ),
    ),
)
