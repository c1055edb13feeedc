"""The mirror of Origins.tla: several sites that take writes of one shard, one of which joins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import lt

from mirror.bfs import Action, Config, Machine, Model, State, put

SITES, MEMBERS, SESSIONS = (0, 1, 2), (0, 1), (0, 1)
PEOPLE, NAMES = ("Alice", "Bob"), ("eu", "us", "ap")
NOTHING = (0, 0, 0)


def join(a: tuple, b: tuple) -> tuple:
    return tuple(map(max, a, b))


def less(a: tuple, b: tuple) -> bool:
    return any(map(lt, a, b))


def heads(have: tuple) -> tuple:
    return tuple(have[o][o] for o in SITES)


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (have, listed, token, noted, asked, broken), as in the module."""

    def lists(listed: frozenset, site: int, origin: int) -> bool:
        return origin != 2 or site == 2 or site in listed

    def covers(state: State, site: int, need: tuple) -> bool:
        have, listed = state[:2]
        return all(
            n == 0 or (have[site][o] >= n if lists(listed, site, o) else not k["UNKNOWN"]) for o, n in enumerate(need)
        )

    def after(state: State) -> Iterator[tuple[Action, State]]:
        have, listed, token, noted, asked, broken = state
        known = heads(have) if listed else (*heads(have)[:2], 0)
        for who in SESSIONS:
            for site in SITES:
                here = have[site]
                shown = put(token, who, join(token[who], here))
                stale = {"SessionReads"} if less(here, token[who]) else set()
                if asked[who]:
                    need, truth = asked[who]
                    if covers(state, site, join(token[who], need)):
                        wrongs = broken | stale | ({"LeaderReads"} if less(here, truth) else set())
                        yield ("answer", who, site), (have, listed, shown, noted, put(asked, who, ()), wrongs)
                    continue
                if k["Strong"] and site in MEMBERS:
                    need = noted if not k["ASK_AFTER"] else known if k["ASK_ALL"] else here
                    yield ("ask", who, site), (*state[:4], put(asked, who, (need, heads(have))), broken)
                fits = covers(state, site, token[who])
                if fits:
                    yield ("read", who, site), (have, listed, shown, noted, asked, broken | stale)
                free = site != 2 or not k["LISTED"] or len(listed) == len(MEMBERS)
                if free and here[site] < k["PerOrigin"] and (fits or not k["GATED_WRITES"]):
                    n = here[site] + 1
                    wrote = put(token, who, put(token[who], site, n))
                    wrongs = broken | ({"SessionWrites"} if stale else set())
                    now = put(have, site, put(here, site, n))
                    yield ("write", who, site), (now, listed, wrote, noted, asked, wrongs)
        for site in SITES:
            for o in SITES:
                if lists(listed, site, o) and have[site][o] < have[o][o]:
                    now = put(have, site, put(have[site], o, have[site][o] + 1))
                    yield ("ship", site, o), (now, *state[1:])
        for site in MEMBERS:
            if site not in listed and (k["ANNOUNCED"] or site == 0):
                yield ("list", site), (have, listed | {site}, *state[2:])
        if not k["ASK_AFTER"]:
            yield ("note",), (*state[:3], known, asked, broken)

    def every_gate_opens(state: State) -> bool:
        """Listing and shipping end when every site has every head; of the third site's origin, if they all list it."""
        needs = [join(token, busy[0]) if busy else token for token, busy in zip(state[2], state[4], strict=True)]
        if not k["ANNOUNCED"] and any(need[2] for need in needs):
            return False
        return not any(less(heads(state[0]), need) for need in needs)

    def spelled(places: tuple) -> str:
        return " and ".join(f"{NAMES[o]} #{n}" for o, n in enumerate(places) if n) or "nothing"

    def tell(action: Action, before: State, after: State) -> str:
        match action:
            case ("note",):
                return f"The heads are noted: {spelled(after[3])}."
            case ("list", site):
                return f"{NAMES[site]} lists the origin of ap."
            case ("ship", site, o):
                return f"{NAMES[site]} applies {NAMES[o]} #{after[0][site][o]}."
        what, who, site = action
        person, name = PEOPLE[who], NAMES[site]
        if what == "write":
            return f"{person} writes at {name}. It is acknowledged as {name} #{after[0][site][site]}."
        if what == "ask":
            whom = "the heads that were noted are used" if not k["ASK_AFTER"] else "the heads are asked for"
            if not k["ASK_ALL"]:
                whom = f"{name} is asked, which takes writes, too"
            return f"{person} asks for a leader read: {whom}, and the read is gated on {spelled(after[4][who][0])}."
        demand = join(before[2][who], before[4][who][0]) if what == "answer" else before[2][who]
        return f"{person} is served at {name}, which has {spelled(before[0][site])} (demanded: {spelled(demand)})."

    def broken(invariant: str, state: State) -> str:
        return {
            "SessionReads": "The read misses what the same session wrote or saw before.",
            "SessionWrites": "The write is put where something that the same session wrote or saw before is missing.",
            "EveryGateOpens": "However long the sites ship what they have, some of them will never serve the session.",
            "LeaderReads": "The read misses a write that was acknowledged before the read was asked for.",
        }[invariant]

    none = (NOTHING, NOTHING)
    first = ((NOTHING,) * 3, frozenset(), none, NOTHING, ((), ()), frozenset())
    return Machine(
        initial=[first],
        after=after,
        invariants={n: (lambda s, n=n: n not in s[5]) for n in ("SessionReads", "SessionWrites", "LeaderReads")},
        liveness={"EveryGateOpens": every_gate_opens},
        tell=tell,
        broken=broken,
    )


JOINING = {"LISTED": False, "Strong": False}

MODEL = Model(
    module="Origins",
    constants={
        "ASK_ALL": True,
        "ASK_AFTER": True,
        "UNKNOWN": True,
        "LISTED": True,
        "ANNOUNCED": True,
        "GATED_WRITES": True,
        "Strong": True,
        "PerOrigin": 1,
    },
    machine=machine,
    configs=(
        Config("", states=14_264, depth=15),
        Config("joining", JOINING, states=3_106, depth=13),
        Config(
            "ask_all",
            {"ASK_ALL": False},
            violates="LeaderReads",
            depth=4,
            story="""With one leader asked for all: a leader read that is stale

            Both sites take writes. A leader read asks one of them, and is gated on what that one has.""",
        ),
        Config(
            "ask_after",
            {"ASK_AFTER": False},
            violates="LeaderReads",
            depth=4,
            story="""With heads that were asked before: a leader read of some time ago

            Every origin's head is known, but from before the request came.""",
        ),
        Config(
            "unknown",
            {"UNKNOWN": False, **JOINING},
            violates="SessionReads",
            depth=3,
            story="""With an unknown origin taken for no demand: a write at a new site is missed

            A site that has never heard of a demanded origin looks away.""",
        ),
        Config(
            "listed",
            {"LISTED": False},
            violates="LeaderReads",
            depth=4,
            story="""With a site that takes writes before it is listed: a leader that nobody asks

            The third site takes writes at once, while no member knows yet that it is there.""",
        ),
        Config(
            "announced",
            {"ANNOUNCED": False, **JOINING},
            violates="EveryGateOpens",
            depth=2,
            story="""With a site of which only one is told: a demand that nobody else can ever judge

            One member comes to list the third site, the other never does. To that one its origin stays UNKNOWN.""",
        ),
        Config(
            "gated_writes",
            {"GATED_WRITES": False},
            violates="SessionWrites",
            depth=3,
            story="""With writes that nobody gates: a write in front of its own causes

            Any site takes any write. What the session wrote before, at another, is not there yet, and whoever reads this one first sees the
            second without the first.""",
        ),
    ),
)
