"""The mirror of Failover.tla: lost tails, origins with ends, what a session lost and what it saw of others' losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from operator import gt

from mirror.bfs import Action, Config, Machine, Model, State, put

SESSIONS, SERVERS = (0, 1), (0, 1)
PEOPLE, NAMES = ("Alice", "Bob"), ("A", "B")
LIVE = 99  # the end of an origin that has none
GUARANTEES = ("NoSilentLoss", "ReadYourWrites", "CausalReads", "OnlySurvivors")


def join(a: tuple, b: tuple) -> tuple:
    return tuple(map(max, a, b))


@cache
def end(start: tuple, origin: int) -> int:
    """Where the surviving history of an origin stops."""
    return min(start[origin:]) - 1 if origin < len(start) else LIVE


@cache
def applied(log: tuple, origin: int) -> int:
    """The last place in a log that an origin numbered; 0 where the log has never heard of it."""
    return max((n for n, o in enumerate(log, 1) if o == origin), default=0)


@cache
def diverged(start: tuple, log: tuple) -> bool:
    return any(applied(log, o) > end(start, o) for o in range(1, len(start) + 1))


@cache
def common(a: tuple, b: tuple) -> int:
    """How many entries two logs have in common before they part."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@cache
def misses(start: tuple, mine: tuple, saw: tuple, log: tuple | None) -> frozenset[str]:
    """What goes wrong if a session is answered from a log now (None: by the other shard)."""
    wrongs = set()
    for o in range(1, len(start) + 1):
        stop = end(start, o)
        if mine[o - 1] > stop:
            wrongs.add("NoSilentLoss")
        for name, n in (("ReadYourWrites", min(mine[o - 1], stop)), ("CausalReads", min(saw[o - 1], stop))):
            if log is not None and n >= start[o - 1] and log[n - 1 : n] != (o,):
                wrongs.add(name)
    if log is not None and diverged(start, log):
        wrongs.add("OnlySurvivors")
    return frozenset(wrongs)


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (start, leader, log, noted, restarts, own, seen, mine, saw, posts, cause, broken), as in the module."""
    origins = range(1, k["Failovers"] + 2)
    nothing = (0,) * len(origins)

    def number(origin: int) -> int:
        """What an origin is called in positions."""
        return origin if k["ORIGINS"] else 1

    @cache
    def limits(start: tuple, head: int) -> tuple:
        """The places past which positions are known to be lost, of each origin."""
        if not k["ORIGINS"]:
            return (head,) + (LIVE,) * (len(origins) - 1)  # the leader's own head is all there is to judge by
        ends = [end(start, o) if o <= len(start) else LIVE for o in origins]
        return tuple(stop if o > len(start) or stop >= start[o - 1] else LIVE for o, stop in enumerate(ends, 1))

    @cache
    def covers(limit: tuple, demand: tuple, log: tuple) -> bool:
        need = tuple(map(min, demand, limit)) if k["CLIP"] else demand
        if not k["ORIGINS"]:
            return len(log) >= need[0]
        return all(n == 0 or applied(log, o) >= n for o, n in enumerate(need, 1))

    def after(state: State) -> Iterator[tuple[Action, State]]:
        start, leader, log, noted, restarts, own, seen, mine, saw, posts, cause, broken = state
        newest, follower, head = len(start), 1 - leader, len(log[leader])
        limit = limits(start, head)
        for who in SESSIONS:
            demand, truth = join(own[who], seen[who]), join(mine[who], saw[who])
            gone = any(map(gt, own[who], limit)) and k["TOLD"]
            if gone:
                yield ("told", who), told(state, who, limit)
            if head < k["Length"] and (not k["GATED_WRITES"] or (not gone and covers(limit, demand, log[leader]))):
                now = put(log, leader, (*log[leader], newest))
                wrote = put(own, who, put(own[who], number(newest) - 1, head + 1))
                really = put(mine, who, put(mine[who], newest - 1, head + 1))
                wrongs = broken | misses(start, mine[who], saw[who], log[leader])
                yield ("write", who), (*state[:2], now, noted, restarts, wrote, seen, really, *state[8:11], wrongs)
            if gone:
                continue
            wrongs = broken | misses(start, mine[who], saw[who], None)
            stored, causes = join(posts, demand) if k["MERGE"] else posts, join(cause, truth)
            yield (
                ("post", who),
                (
                    *state[:6],
                    put(seen, who, stored if k["MERGE"] else seen[who]),
                    mine,
                    put(saw, who, causes),
                    stored,
                    causes,
                    wrongs,
                ),
            )
            shown, truly = join(seen[who], posts), join(saw[who], cause)
            yield ("posts", who), (*state[:6], put(seen, who, shown), mine, put(saw, who, truly), posts, cause, wrongs)
            for at in SERVERS:
                known = noted[at] if k["Cache"] else log[at]
                if known and covers(limit, demand, known) and not (k["DIVERGED"] and diverged(start, log[at])):
                    here = tuple(applied(log[at], o) for o in origins)
                    shown = join(seen[who], here if k["ORIGINS"] else put(nothing, 0, len(log[at])))
                    truly = join(saw[who], here)
                    wrongs = broken | misses(start, mine[who], saw[who], log[at])
                    yield (
                        ("read", who, at),
                        (*state[:6], put(seen, who, shown), mine, put(saw, who, truly), posts, cause, wrongs),
                    )
        if k["Cache"]:
            for at in SERVERS:
                yield ("note", at), (*state[:3], put(noted, at, log[at]), *state[4:])
        here, same = log[follower], common(log[follower], log[leader])
        if same < len(here):
            yield (
                ("rejoin", follower),
                (*state[:2], put(log, follower, here[:same]), put(noted, follower, ()), *state[4:]),
            )
        elif same < head:
            yield ("replicate", follower), (*state[:2], put(log, follower, log[leader][: same + 1]), *state[3:])
        if restarts < k["Restarts"]:
            kept = put(noted, follower, ()) if k["INCARNATION"] else noted
            for n in range(1, len(here)):
                yield ("restart", follower), (*state[:2], put(log, follower, here[:n]), kept, restarts + 1, *state[5:])
        if newest <= k["Failovers"] and same == len(here) and (newest in here or not k["HEARD"]):
            now = put(log, follower, (*here, newest + 1)) if k["ORIGINS"] else log
            yield ("failover", follower), ((*start, len(here) + 1), follower, now, *state[3:])

    def told(state: State, who: int, limit: tuple) -> State:
        own, seen, mine, saw = state[5:9]

        def accepted(frontier: tuple) -> tuple:
            lost = [(own[who][number(o) - 1], limit[number(o) - 1]) for o in origins]
            return tuple(min(n, stop) if stop < had >= n else n for n, (had, stop) in zip(frontier, lost, strict=True))

        return (
            *state[:5],
            put(own, who, tuple(map(min, own[who], limit))),
            put(seen, who, accepted(seen[who])),
            put(mine, who, accepted(mine[who])),
            put(saw, who, accepted(saw[who])),
            *state[9:],
        )

    def every_gate_opens(state: State) -> bool:
        """Rejoining and replication end when the follower has the leader's log: what that covers, opens everywhere."""
        start, leader, log, _, _, own, seen = state[:7]
        limit = limits(start, len(log[leader]))
        return all(
            any(map(gt, own[who], limit)) or covers(limit, join(own[who], seen[who]), log[leader]) for who in SESSIONS
        )

    def tell(action: Action, before: State, after: State) -> str:
        what, on = action[0], action[1]
        start, leader, log, noted, _, own, seen = before[:7]
        if what in ("note", "replicate", "rejoin", "restart", "failover"):
            name, other = NAMES[on], NAMES[1 - on]
            return {
                "note": f"It is noted how far server {name} has come: {upto(log[on])}.",
                "replicate": f"Server {name} copies #{len(after[2][on])} from server {other}.",
                "rejoin": f"Server {name} rejoins: it goes back to where the histories parted, and shows {upto(after[2][on])}.",
                "restart": f"Server {name} restarts, and first shows an earlier state: {upto(after[2][on])}.",
                "failover": f"Server {other} fails. Server {name}, which has {upto(log[on])}, takes over"
                + (f" and begins origin {len(after[0])}." if k["ORIGINS"] else ".")
                + (" What it lacks is lost." if len(log[on]) < len(log[1 - on]) else ""),
            }[what]
        who = PEOPLE[on]
        if what == "told":
            return f"{who} is told what is lost, and accepts it."
        if what == "write":
            return (
                f"{who} writes a photo at server {NAMES[leader]}, which leads. It is acknowledged as "
                f"{position(number(len(start)), len(after[2][leader]))}."
            )
        if what == "post":
            stored = f"What {who} demands is stored with it: {spelled(join(own[on], seen[on]))}."
            return (
                f"{who} writes a post. {stored if k['MERGE'] else 'Nothing is stored with it of what it depends on.'}"
            )
        if what == "posts":
            return (
                f"{who} reads the posts, and demands of the photos from now on: {spelled(join(own[on], after[6][on]))}."
            )
        at = action[2]
        demand = spelled(join(own[on], seen[on]))
        known = f" (known to have {upto(noted[at])})" if k["Cache"] else ""
        return (
            f"{who}, who demands {demand}, reads the photos at server {NAMES[at]}{known}, and is shown {upto(log[at])}."
        )

    def upto(log: tuple) -> str:
        if not k["ORIGINS"]:
            return f"#1 to #{len(log)}" if len(log) > 1 else "#1"
        runs = [(o, log.index(o) + 1, applied(log, o)) for o in dict.fromkeys(log)]
        parts = [f"#{a} to #{b} of origin {o}" if a < b else f"#{a} of origin {o}" for o, a, b in runs]
        return " and ".join(parts) or "nothing"

    def position(number: int, offset: int) -> str:
        return f"#{offset} of origin {number}" if k["ORIGINS"] else f"#{offset}"

    def spelled(frontier: tuple) -> str:
        parts = [f"up to {position(o, n)}" for o, n in enumerate(frontier, 1) if n]
        return " and ".join(parts) or "nothing"

    def broken(invariant: str, state: State) -> str:
        limit, log = limits(state[0], len(state[2][state[1]])), state[2][state[1]]
        blocked = [
            PEOPLE[who]
            for who in SESSIONS
            if not any(map(gt, state[5][who], limit)) and not covers(limit, join(state[5][who], state[6][who]), log)
        ]
        return {
            "NoSilentLoss": "The session's acknowledged write is lost. It is answered, and was not told.",
            "ReadYourWrites": "The read misses a write that the same session had acknowledged before, and that is not lost.",
            "CausalReads": "The read misses something in the causal past of what the session has seen or written.",
            "OnlySurvivors": "The read shows a write that is lost: no later read will.",
            "EveryGateOpens": f"However long the servers replicate, {' and '.join(blocked)} will be served by none of them.",
        }[invariant]

    none = (nothing, nothing)
    first = ((1,), 0, ((1,), (1,)), ((), ()), 0, none, none, none, none, nothing, nothing, frozenset())
    return Machine(
        initial=[first],
        after=after,
        invariants={n: (lambda s, n=n: n not in s[11]) for n in GUARANTEES},
        liveness={"EveryGateOpens": every_gate_opens},
        tell=tell,
        broken=broken,
    )


LIVELY = {"Length": 2, "Restarts": 1}
TWICE = {"Length": 2, "Failovers": 2}
CACHE = {"Cache": True, "Failovers": 0, "Restarts": 1}

MODEL = Model(
    module="Failover",
    constants={
        "ORIGINS": True,
        "MERGE": True,
        "GATED_WRITES": True,
        "TOLD": True,
        "CLIP": True,
        "DIVERGED": True,
        "INCARNATION": True,
        "HEARD": True,
        "Cache": False,
        "Failovers": 1,
        "Restarts": 0,
        "Length": 3,
    },
    machine=machine,
    configs=(
        Config("", states=21_230, depth=17, liveness=False),
        Config("live", LIVELY, states=2_103, depth=11),
        Config("twice", TWICE, states=2_433, depth=14),
        Config("cache", CACHE, states=13_410, depth=16, liveness=False),
        Config("cache_rejoin", {"Cache": True, "Length": 2}, states=7_191, depth=14, liveness=False),
        Config("restarts", {"Restarts": 1}, states=47_252, depth=17, by_hand=True),
        Config("twice_long", {"Failovers": 2}, states=79_806, depth=21, by_hand=True),
        Config(
            "origins",
            {"ORIGINS": False},
            violates="NoSilentLoss",
            depth=5,
            story="""With one number for every history: a lost write is hidden by somebody else's

            A new leader goes on under the old number, from where its own log ended. Offsets are given out twice, and a token cannot tell
            one from the other.""",
        ),
        Config(
            "merge",
            {"MERGE": False},
            violates="CausalReads",
            depth=5,
            story="""Without dependencies: the post without its photo, over servers that fail

            What a post depends on is not stored with it. Whoever reads it demands nothing of the photos.""",
        ),
        Config(
            "gated_writes",
            {"GATED_WRITES": False},
            violates="NoSilentLoss",
            depth=4,
            story="""With writes that nobody gates: a success on top of a loss

            Reads are gated, and positions have origins. But a leader takes every write, whatever the session demands.""",
        ),
        Config(
            "told",
            {"TOLD": False},
            violates="NoSilentLoss",
            depth=4,
            story="""Without a word on what was lost: a session goes on as if nothing had happened

            A session's own writes that are lost are treated as those of others: they count only up to their origin's end.""",
        ),
        Config(
            "clip",
            {"CLIP": False, **LIVELY},
            violates="EveryGateOpens",
            depth=4,
            story="""Without clipping: one lost write shuts out everybody who saw it

            What a session saw counts in full, whether it still exists or not. Whoever has lost nothing of their own is then told nothing,
            and never served again.""",
        ),
        Config(
            "diverged",
            {"DIVERGED": False},
            violates="OnlySurvivors",
            depth=4,
            story="""With servers that are past an end: a read of what is lost already

            The old leader holds all that is demanded, and more: what the new one never got. It is read like any other.""",
        ),
        Config(
            "incarnation",
            {"INCARNATION": False, **CACHE},
            violates="ReadYourWrites",
            depth=6,
            story="""With a watermark that outlives the server: a replica that went back

            What a replica had applied was noted before it restarted, and it is read by that. After a restart it may first show an earlier
            state. (Here, the snapshot does not tell its own watermark. Where it does, that shows it, too.)""",
        ),
        Config(
            "heard",
            {"HEARD": False, **TWICE},
            violates="EveryGateOpens",
            depth=4,
            story="""With a leader who has never heard of its predecessor: a position that nobody can judge

            A server takes over, acknowledges, and is replaced before any other server has heard of its origin. Nobody applies that origin,
            and nobody knows where it ended: it is UNKNOWN, which is never served and never called lost. This is a limit of what can be
            known, and a rule for whoever runs the servers; an entry of that origin falls away with the token's age, as
            [in Expiry](expiry-expires.md).""",
        ),
        Config(
            "heard-silent",
            {"HEARD": False, "Failovers": 2},
            violates="NoSilentLoss",
            depth=5,
            story="""With a leader who has never heard of its predecessor: a loss that nobody can tell

            A server takes over, and is replaced before any other has heard of its origin, [as here](failover-heard.md); but a session has
            written under it meanwhile. On that shard its write is UNKNOWN, and
            nobody serves it. But whatever asks nothing of that shard goes on, and nobody can say that the write is lost: whoever runs the
            servers has to see to it that a new origin is told before a write is acknowledged under it, or know of this.""",
        ),
    ),
)
