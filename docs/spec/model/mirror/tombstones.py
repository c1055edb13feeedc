"""The mirror of Tombstones.tla: deletions at several sites that take writes, and when their tombstones may go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mirror.bfs import Action, Config, Machine, Model, State, put

SITES = (0, 1, 2)
NAMES = ("A", "B", "C")
EMPTY = (0, 0, "never")


def machine(k: Mapping[str, bool | int]) -> Machine:
    """A state is (members, log, applied, clock, data, freed), as in the module."""

    def logged(state: State, s: int, stamp: int, kind: str) -> tuple:
        _, log, applied, clock, _, _ = state
        row = applied[s]
        return (
            put(log, s, (*log[s], (stamp, kind))),
            put(applied, s, put(row, s, row[s] + 1)),
            put(clock, s, stamp),
        )

    def upto(state: State, s: int, o: int) -> int:
        n = state[2][s][o]
        return state[1][o][n - 1][0] if n else -1

    def waiting(state: State, s: int) -> bool:
        return state[4][s][2] == "delete"

    def fair(state: State) -> Iterator[tuple[Action, State]]:
        members, log, applied, clock, data, freed = state
        for s in members:
            for o in members:
                n = applied[s][o]
                if n < len(log[o]):
                    stamp, kind = log[o][n]
                    new = (stamp, o, kind)
                    now = put(data, s, new) if kind != "beat" and new[:2] > data[s][:2] else data
                    more = put(applied, s, put(applied[s], o, n + 1))
                    yield ("apply", s, o), (members, log, more, put(clock, s, max(clock[s], stamp)), now, freed)
            stamp, origin, _ = data[s]
            begins = s == 2 and not log[2] and freed > 0
            idle = waiting(state, s) and upto(state, s, s) < stamp
            if (k["HEARTBEAT"] and idle) or (k["FIRST_BEAT"] and begins):
                yield ("beat", s), (members, *logged(state, s, clock[s] + 1, "beat"), data, freed)
            if not waiting(state, s):
                continue
            origins = members if k["EVERY_ORIGIN"] else {origin}
            if all(upto(state, m, o) >= stamp for m in members for o in origins):
                yield ("collect", s), (members, log, applied, clock, put(data, s, EMPTY), max(freed, stamp))

    def after(state: State) -> Iterator[tuple[Action, State]]:
        members, log, applied, clock, data, freed = state
        if sum(kind != "beat" for entries in log for _, kind in entries) < k["Writes"]:
            for s in members:
                for kind in ("put", "delete"):
                    for more in range(k["Ahead"] + 1):
                        stamp = clock[s] + 1 + more
                        now = put(data, s, (stamp, s, kind))
                        yield (kind, s), (members, *logged(state, s, stamp, kind), now, freed)
        if k["Joins"] and 2 not in members:
            for source in (0, 1):
                least = max(data[source][0], freed if k["BEGIN_ABOVE"] else 0)
                yield (
                    ("join", source),
                    (
                        members | {2},
                        log,
                        put(applied, 2, applied[source]),
                        put(clock, 2, least),
                        put(data, 2, data[source]),
                        freed,
                    ),
                )
        yield from fair(state)

    def newest(state: State, s: int) -> tuple:
        _, log, applied, *_ = state
        entries = [(stamp, o, kind) for o in SITES for stamp, kind in log[o][: applied[s][o]] if kind != "beat"]
        return max(entries, default=EMPTY)

    def visible(value: tuple) -> tuple:
        return value if value[2] == "put" else EMPTY

    def tombstones_go(state: State) -> bool:
        """Let the fair actions run until nothing is left to do, in any order: each only adds to what the others need."""
        while (step := next(fair(state), None)) is not None:
            state = step[1]
        return not any(waiting(state, s) for s in state[0])

    def held(value: tuple) -> str:
        stamp, origin, kind = value
        if kind == "never":
            return "nothing of the key"
        return f"{'the value' if kind == 'put' else 'a tombstone'} of stamp {stamp} from {NAMES[origin]}"

    def tell(action: Action, before: State, after: State) -> str:
        what, s, *rest = action
        name, now = NAMES[s], after[4]
        if what == "join":
            return f"C joins, by copying {name}. It holds {held(now[2])}; its clock stands at {after[3][2]}."
        if what in ("put", "delete"):
            return f"Site {name} {'puts' if what == 'put' else 'deletes'} the key, with stamp {after[3][s]}."
        if what == "beat":
            return f"Site {name} is idle, and logs an entry without a key, with stamp {after[3][s]}."
        if what == "collect":
            return f"Site {name} throws its tombstone of stamp {before[4][s][0]} away."
        stamp, kind = before[1][rest[0]][before[2][s][rest[0]]]
        word = {"put": "value", "delete": "deletion", "beat": "heartbeat"}[kind]
        return f"Site {name} applies the {word} of stamp {stamp} from {NAMES[rest[0]]}, and holds {held(now[s])}."

    def broken(invariant: str, state: State) -> str:
        if invariant == "NothingReturns":
            s = next(s for s in sorted(state[0]) if visible(state[4][s]) != visible(newest(state, s)))
            return f"Site {NAMES[s]} holds {held(state[4][s])}; the newest that it has applied was {held(newest(state, s))}."
        return "Whatever replication does from here, some tombstone stays."

    zero = (0, 0, 0)
    return Machine(
        initial=[(frozenset({0, 1}), ((), (), ()), (zero,) * 3, zero, (EMPTY,) * 3, 0)],
        after=after,
        invariants={
            "NothingReturns": lambda st: all(visible(st[4][s]) == visible(newest(st, s)) for s in st[0]),
        },
        liveness={"TombstonesGo": tombstones_go},
        tell=tell,
        broken=broken,
    )


MODEL = Model(
    module="Tombstones",
    constants={
        "EVERY_ORIGIN": True,
        "BEGIN_ABOVE": True,
        "HEARTBEAT": True,
        "FIRST_BEAT": True,
        "Joins": True,
        "Writes": 2,
        "Ahead": 1,
    },
    machine=machine,
    configs=(
        Config("", states=67_548, depth=23, liveness=False),
        Config("three", {"Writes": 3, "Ahead": 0}, states=850_882, depth=32, liveness=False, by_hand=True),
        Config("live", {"Ahead": 0}, states=17_605, depth=23),
        Config(
            "every_origin",
            {"EVERY_ORIGIN": False},
            violates="NothingReturns",
            depth=6,
            story="""With tombstones that go when every site has the deletion: what was put before it arrives afterwards

            Every member has applied the deletion, so its tombstone is thrown away. Nobody asks what else may still be under way.""",
        ),
        Config(
            "begin_above",
            {"BEGIN_ABOVE": False},
            violates="NothingReturns",
            depth=8,
            story="""With an origin that begins anywhere: a new site writes below a deletion that is forgotten

            A site that joins copies another, which has thrown a tombstone away. It starts with its own clock, which knows nothing of that
            deletion's stamp.""",
        ),
        Config(
            "heartbeat",
            {"HEARTBEAT": False, "Ahead": 0},
            violates="TombstonesGo",
            depth=2,
            story="""Without heartbeats: a site that writes nothing keeps everybody's tombstones for ever

            A tombstone goes when every member has every origin past its stamp. An origin that is idle never gets there.""",
        ),
        Config(
            "first_beat",
            {"FIRST_BEAT": False, "Ahead": 0},
            violates="TombstonesGo",
            depth=7,
            story="""With heartbeats only where a tombstone waits: a site that has none keeps others' for ever

            A site joins between two collections: it copies a site that has thrown its tombstone away, and another still holds one. That
            one waits for the new site's origin, whose site holds no tombstone that would make it say how far it is.""",
        ),
    ),
)
