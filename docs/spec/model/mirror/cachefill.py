"""The mirror of CacheFill.tla: cache entries with watermarks, slow fills, late invalidations, gated hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mirror.bfs import Action, Config, Machine, Model, State, put

SESSIONS, REPLICAS = (0, 1), (0, 1)
PEOPLE = ("Alice", "Bob")
NOTHING = ("nothing", 0, 0)
IDLE = ()


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (head, applied, cache, sent, token, known, filling, broken), as in the module."""

    def shown(state: State, who: int, value: int, mark: int, *, joins: bool) -> State:
        head, applied, cache, sent, token, known, filling, broken = state
        if joins:
            token = put(token, who, max(token[who], mark))
        broken = broken | {"NeverBack"} if value < known[who] else broken
        return head, applied, cache, sent, token, put(known, who, max(known[who], value)), filling, broken

    def after(state: State) -> Iterator[tuple[Action, State]]:
        head, applied, cache, sent, token, known, filling, broken = state
        kind, knows, value = cache
        for who in SESSIONS:
            rest = (sent, token, known, put(filling, who, IDLE))
            if filling[who] != IDLE:
                replica, showed = filling[who]
                mark = showed if k["SNAPSHOT_MARK"] else applied[replica]
                yield ("leave", who), (head, applied, cache, *rest, broken)
                if cache == NOTHING or knows <= mark:
                    yield ("store", who), (head, applied, ("value", mark, showed), *rest, broken)
                elif k["COMPARE_AND_SET"]:
                    yield ("store", who), (head, applied, cache, *rest, broken)
                else:
                    yield ("store", who), (head, applied, ("value", mark, showed), *rest, broken | {"NewerStays"})
                continue
            if head < k["Writes"]:
                n = head + 1
                yield (
                    ("write", who),
                    (n, applied, cache, sent | {n}, put(token, who, n), put(known, who, n), filling, broken),
                )
            if kind == "value" and (knows >= token[who] or not k["GATED_HITS"]):
                yield ("hit", who), shown(state, who, value, knows, joins=k["HITS_JOIN"])
            for replica in REPLICAS:
                here = applied[replica]
                if here >= token[who]:
                    seen = shown(state, who, here, here, joins=True)
                    yield ("read", who, replica), (*seen[:6], put(filling, who, (replica, here)), seen[7])
        for replica in REPLICAS:
            if applied[replica] < head:
                yield ("apply", replica), (head, put(applied, replica, applied[replica] + 1), *state[2:])
        for n in sent:
            left = cache if knows >= n and k["KNOWING_STAYS"] else ("tombstone", n, 0)
            lost = {"NothingThrownAway"} if left != cache and kind == "value" and value >= n else set()
            yield ("invalidate", n), (head, applied, left, sent - {n}, *state[4:7], broken | lost)
            yield ("forget", n), (head, applied, cache, sent - {n}, *state[4:])
        if cache != NOTHING:
            yield ("evict",), (head, applied, NOTHING, *state[3:])

    def held(cache: tuple) -> str:
        kind, mark, value = cache
        return {
            "nothing": "The cache holds nothing",
            "value": f"The cache holds the value {at(value)}, with the watermark {mark}",
            "tombstone": f"The cache holds a tombstone of #{mark}",
        }[kind]

    def at(value: int) -> str:
        return f"#{value}" if value else "from before any write"

    def tell(action: Action, before: State, after: State) -> str:
        what, *rest = action
        if what == "apply":
            return f"Replica {rest[0] + 1} applies write #{after[1][rest[0]]}."
        if what == "invalidate":
            return f"The invalidation of write #{rest[0]} arrives. {held(after[2])}."
        if what == "forget":
            return f"The invalidation of write #{rest[0]} never arrives."
        if what == "evict":
            return "The cache drops its entry."
        person = PEOPLE[rest[0]]
        demand = before[4][rest[0]]
        asks = f"the token demands #{demand}" if demand else "the token demands nothing"
        if what == "write":
            return f"{person} writes the value #{after[0]}; its invalidation is on its way."
        if what == "hit":
            return f"{person} is served from the cache ({asks}): the value {at(before[2][2])}."
        if what == "read":
            return f"{person} reads at replica {rest[1] + 1} ({asks}): the value {at(before[1][rest[1]])}. It is to be stored."
        if what == "leave":
            return f"What {person} read is not stored."
        return f"What {person} read, the value {at(before[6][rest[0]][1])}, comes to the cache. {held(after[2])}."

    def broken(invariant: str, state: State) -> str:
        return {
            "NeverBack": "The session is shown an older value than one that it had written or been shown.",
            "NewerStays": "An older value has replaced what was put there because of a newer one.",
            "NothingThrownAway": "An entry that showed the write already has been thrown away for it.",
            "EntriesAreTrue": "The entry's watermark names another state than the one that it shows.",
        }[invariant]

    zero = (0, 0)
    return Machine(
        initial=[(0, zero, NOTHING, frozenset(), zero, zero, (IDLE, IDLE), frozenset())],
        after=after,
        invariants={
            "NeverBack": lambda s: "NeverBack" not in s[7],
            "NewerStays": lambda s: "NewerStays" not in s[7],
            "NothingThrownAway": lambda s: "NothingThrownAway" not in s[7],
            "EntriesAreTrue": lambda s: s[2][0] != "value" or s[2][1] == s[2][2],
        },
        tell=tell,
        broken=broken,
    )


MODEL = Model(
    module="CacheFill",
    constants={
        "SNAPSHOT_MARK": True,
        "COMPARE_AND_SET": True,
        "KNOWING_STAYS": True,
        "GATED_HITS": True,
        "HITS_JOIN": True,
        "Writes": 3,
    },
    machine=machine,
    configs=(
        Config("", states=23_637, depth=17),
        Config("four", {"Writes": 4}, states=109_973, depth=21, by_hand=True),
        Config(
            "snapshot_mark",
            {"SNAPSHOT_MARK": False},
            violates="NeverBack",
            depth=6,
            story="""With a watermark that is asked for after the read: the entry vouches for what it does not show

            The value is read, the replica goes on, and then it is asked how far it has come. The entry is stored with that.""",
        ),
        Config(
            "compare_and_set",
            {"COMPARE_AND_SET": False},
            violates="NewerStays",
            depth=5,
            story="""Without comparing: a slow fill comes back after the invalidation

            Who fills the cache sets what it read, whatever is there by then. Sessions that demand the write are safe, for the gate of hits
            holds; everybody else sees the old value come back, and stay.""",
        ),
        Config(
            "knowing_stays",
            {"KNOWING_STAYS": False},
            violates="NothingThrownAway",
            depth=6,
            story="""Without looking: a late invalidation empties what was filled since

            Whatever the cache holds gives way to the tombstone. Nobody is shown anything wrong for it, as long as what is thrown away is
            no newer than the write; but who comes next reads at a replica for nothing.""",
        ),
        Config(
            "gated_hits",
            {"GATED_HITS": False},
            violates="NeverBack",
            depth=5,
            story="""Without a gate for hits: a user does not see her own write

            Whatever the cache holds is served to everybody. An invalidation that comes late, or never, is then all that there is.""",
        ),
        Config(
            "hits_join",
            {"HITS_JOIN": False},
            violates="NeverBack",
            depth=7,
            story="""Without joining what a hit showed: the next read may go back

            A hit shows a session a newer state than it knows of. Its token does not learn that.""",
        ),
    ),
)
