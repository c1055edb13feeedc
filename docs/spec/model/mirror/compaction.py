"""The mirror of Compaction.tla: floors, leader marks and tokens that cannot be opened, with two origins of which one may end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mirror.bfs import Action, Config, Machine, Model, put

ORIGINS = (0, 1)
NAMES = ("A", "B", "C")
ZERO = (0, 0)


class World(NamedTuple):
    """A state, as in the module; an origin that is live has no end: None."""

    applied: tuple
    end: tuple = (None, None)
    own: tuple = ZERO
    seen: tuple = ZERO
    floor: int = 0
    mark: bool = False
    recall: frozenset = frozenset()
    mine: tuple = ZERO
    saw: tuple = ZERO
    broken: frozenset = frozenset()


def join(a: tuple, b: tuple) -> tuple:
    return tuple(map(max, a, b))


def machine(k: Mapping[str, bool | int]) -> Machine:
    """What the rules say is in the module."""
    endpoints = range(2 + k["Followers"])

    def live(w: World, o: int) -> bool:
        return w.end[o] is None

    def up(w: World, e: int) -> bool:
        return e == 2 or live(w, e)

    def clip(w: World, o: int, n: int) -> int:
        return n if live(w, o) else min(n, w.end[o])

    def past(w: World, o: int, n: int) -> bool:
        return clip(w, o, n) < n

    def last(w: World, o: int) -> int:
        return w.applied[o][o] if live(w, o) else w.end[o]

    def elsewhere(w: World, o: int) -> int:
        return max((w.applied[e][o] for e in endpoints if e != o and up(w, e)), default=0)

    def reach(w: World, e: int, o: int, n: int) -> World:
        return w._replace(applied=put(w.applied, e, put(w.applied[e], o, n)))

    def lost(w: World) -> bool:
        return any(past(w, o, w.own[o]) for o in ORIGINS)

    def doubt(w: World) -> bool:
        return w.mark and any(not live(w, o) for o in w.recall)

    def current(w: World, e: int) -> bool:
        return all(w.applied[e][o] >= last(w, o) for o in ORIGINS)

    def admitted(w: World, e: int) -> bool:
        if not up(w, e) or lost(w) or doubt(w):
            return False
        for o, here in enumerate(w.applied[e]):
            if here < max(w.own[o], clip(w, o, w.seen[o])):
                return False
            floor = clip(w, o, w.floor) if k["FLOOR_ENDS"] else w.floor
            if here < floor and (k["LISTED"] or here):
                return False
        if not w.mark:
            return True
        return current(w, e) if k["MARK_CURRENT"] else e != 2

    def judged(w: World, e: int) -> frozenset:
        wrongs = set()
        for o, here in enumerate(w.applied[e]):
            if here < clip(w, o, max(w.mine[o], w.saw[o])):
                wrongs.add("NothingMissed")
            if past(w, o, w.mine[o]):
                wrongs.add("LossIsTold")
        return w.broken | wrongs

    def told(w: World) -> World:
        doubted = {o for o in w.recall if w.mark and not live(w, o)}
        return w._replace(
            own=tuple(clip(w, o, w.own[o]) for o in ORIGINS),
            recall=frozenset(o for o in w.recall if live(w, o)),
            mine=tuple(clip(w, o, n) if past(w, o, w.own[o]) or o in doubted else n for o, n in enumerate(w.mine)),
        )

    def folded(w: World, bound: int) -> World | None:
        low = {o for o in ORIGINS if 0 < w.seen[o] <= bound}
        mined = set() if k["FOLD_SEEN"] else {o for o in ORIGINS if 0 < w.own[o] <= bound}
        tops = [w.seen[o] for o in low] + [w.own[o] for o in mined]
        if not tops:
            return None
        return w._replace(
            floor=max(w.floor, *tops),
            seen=tuple(0 if o in low else n for o, n in enumerate(w.seen)),
            own=tuple(0 if o in mined else n for o, n in enumerate(w.own)),
        )

    def beat(w: World, o: int) -> Iterator[tuple[Action, World]]:
        heard = max(w.applied[o])
        stamp = heard if heard > w.applied[o][o] else heard + 1
        if live(w, o) and stamp <= k["Offsets"] and (k["BEATS_ON"] or stamp == heard):
            yield ("beat", o), reach(w, o, o, stamp)

    def apply(w: World, o: int) -> Iterator[tuple[Action, World]]:
        for e in endpoints:
            if up(w, e) and w.applied[e][o] < last(w, o):
                yield ("apply", e, o), reach(w, e, o, last(w, o))

    def gone_on(w: World) -> World:
        """Return what replication and heartbeats come to, alone, and then what the session is told: there is no choice in it."""
        while (step := next((s for o in ORIGINS for s in (*beat(w, o), *apply(w, o))), None)) is not None:
            w = step[1]
        return told(w) if lost(w) or doubt(w) else w

    def every_gate_opens(w: World) -> bool:
        w = gone_on(w)
        return all(admitted(w, e) for e in endpoints if up(w, e))

    def after(w: World) -> Iterator[tuple[Action, World]]:
        for o in ORIGINS:
            following = max(w.applied[o]) + 1
            if live(w, o):
                if following <= k["Offsets"]:
                    yield ("others", o), reach(w, o, o, following)
                    if admitted(w, o):
                        yield (
                            ("write", o),
                            reach(w, o, o, following)._replace(
                                own=put(w.own, o, following),
                                mine=put(w.mine, o, following),
                                seen=put(w.seen, o, 0),
                                broken=judged(w, o),
                            ),
                        )
                yield from beat(w, o)
                if all(live(w, p) for p in ORIGINS):
                    yield ("fail", o), w._replace(end=put(w.end, o, elsewhere(w, o)))
            yield from apply(w, o)
        for e in endpoints:
            if admitted(w, e):
                here = w.applied[e]
                seen = tuple(max(n, a) if a > mine else n for n, a, mine in zip(w.seen, here, w.own, strict=True))
                yield ("read", e), w._replace(seen=seen, saw=join(w.saw, here), broken=judged(w, e))
        if lost(w) or doubt(w):
            yield ("told",), told(w)
        for bound in range(1, k["Offsets"] + 1):
            shorter = folded(w, bound)
            if shorter is not None:
                yield ("fold",), shorter
        if not w.mark and (w.own != ZERO or w.seen != ZERO):
            risky = frozenset(o for o in ORIGINS if w.own[o] > elsewhere(w, o) and k["MARK_ORIGINS"])
            yield ("mark",), w._replace(mark=True, recall=w.recall | risky, own=ZERO, seen=ZERO)
        if not w.mark and (w.own != ZERO or w.seen != ZERO or w.floor):
            yield (
                ("unopenable",),
                w._replace(
                    mark=k["UNOPENABLE_MARK"],
                    own=ZERO,
                    seen=ZERO,
                    floor=0,
                    recall=frozenset(),
                    mine=ZERO,
                    saw=join(w.saw, w.mine),
                ),
            )

    def poisoned(w: World) -> list[int]:
        if lost(w) or doubt(w) or any(live(w, o) and w.applied[o][o] < w.floor for o in ORIGINS):
            return []
        return [e for e in endpoints if up(w, e) and current(w, e) and not admitted(w, e)]

    def places(row: tuple) -> str:
        return " and ".join(f"{NAMES[o]}@{n}" for o, n in enumerate(row) if n) or "nothing"

    def demand(w: World) -> str:
        parts = [f"own {places(w.own)}"] if w.own != ZERO else []
        parts += [f"seen {places(w.seen)}"] if w.seen != ZERO else []
        parts += [f"a floor of {w.floor}"] if w.floor else []
        if w.mark:
            recalled = " and ".join(NAMES[o] for o in sorted(w.recall))
            parts += ["a leader mark" + (f" that remembers {recalled}" if recalled else "")]
        return "; ".join(parts) or "nothing"

    def tell(action: Action, before: World, after: World) -> str:
        what, *rest = action
        if what == "others":
            return f"Somebody writes at {NAMES[rest[0]]}: {NAMES[rest[0]]}@{after.applied[rest[0]][rest[0]]}."
        if what == "write":
            return f"The session writes at {NAMES[rest[0]]}: {NAMES[rest[0]]}@{after.own[rest[0]]}. Its token: {demand(after)}."
        if what == "beat":
            return f"{NAMES[rest[0]]} is idle, and sends a heartbeat: it stands at {after.applied[rest[0]][rest[0]]}."
        if what == "fail":
            return f"{NAMES[rest[0]]} fails. Its origin ends at {after.end[rest[0]]}."
        if what == "apply":
            return f"Endpoint {NAMES[rest[0]]} applies {NAMES[rest[1]]} up to {after.applied[rest[0]][rest[1]]}."
        if what == "read":
            here = places(before.applied[rest[0]])
            return f"The session, whose token demands {demand(before)}, is served at {NAMES[rest[0]]}, which has applied {here}."
        if what == "told":
            return "The session is told of the loss, and accepts it."
        if what == "unopenable":
            return f"Somebody who cannot open the token gives out a new one. It demands {demand(after)}."
        how = "folds into a floor" if what == "fold" else "is replaced by a leader mark"
        return f"The token is too long, and {how}. It demands {demand(after)}."

    def broken(invariant: str, state: World) -> str:
        if invariant == "NothingMissed":
            return "The snapshot lacks something that the session had written or seen, and that survives."
        if invariant == "LossIsTold":
            return "The operation succeeds, though an acknowledged write of the session is lost, and it was never told."
        if invariant == "EveryGateOpens":
            w = gone_on(state)
            shut = " and ".join(NAMES[e] for e in endpoints if up(w, e) and not admitted(w, e))
            return f"However long replication goes on, {shut} will not serve this token: it demands {demand(state)}."
        e = poisoned(state)[0]
        return f"{NAMES[e]} has applied everything that survives, and can never serve this token: it demands {demand(state)}."

    flags = ("NothingMissed", "LossIsTold")
    return Machine(
        initial=[World((ZERO,) * len(endpoints))],
        after=after,
        invariants={
            **{n: (lambda w, n=n: n not in w.broken) for n in flags},
            "NothingPoisoned": lambda w: not poisoned(w),
        },
        liveness={"EveryGateOpens": every_gate_opens},
        tell=tell,
        broken=broken,
    )


LIVE = {"Offsets": 1, "Followers": 1}

MODEL = Model(
    module="Compaction",
    constants={
        "FOLD_SEEN": True,
        "FLOOR_ENDS": True,
        "LISTED": True,
        "MARK_ORIGINS": True,
        "MARK_CURRENT": True,
        "BEATS_ON": True,
        "UNOPENABLE_MARK": True,
        "Offsets": 2,
        "Followers": 0,
    },
    machine=machine,
    configs=(
        Config("", states=19_943, depth=15, liveness=False),
        Config("live", LIVE, states=3_056, depth=12),
        Config("three", {"Offsets": 3}, states=195_797, depth=17, liveness=False, by_hand=True),
        Config("follower", {"Followers": 1}, states=149_927, depth=17, liveness=False, by_hand=True),
        Config(
            "fold_seen",
            {"FOLD_SEEN": False},
            violates="LossIsTold",
            depth=6,
            story="""With own writes in a floor: a lost write that nobody can tell

            A floor says "everything up to here", of every origin, and of one that has ended no more than what survives. So it cannot say
            that something beyond that was the session's own.""",
        ),
        Config(
            "floor_ends",
            {"FLOOR_ENDS": False},
            violates="NothingPoisoned",
            depth=5,
            story="""With a floor over every origin, whether it has ended or not: a token that nobody can ever serve

            A floor demands the same of an origin that has ended before it: an offset that was never there, or is lost.""",
        ),
        Config(
            "listed",
            {"LISTED": False},
            violates="NothingMissed",
            depth=5,
            story="""With a floor that counts only what an endpoint has heard of: an origin that is missing altogether

            The endpoint has applied nothing of an origin, and so does not list it. A floor is then reached without it.""",
        ),
        Config(
            "mark_origins",
            {"MARK_ORIGINS": False},
            violates="LossIsTold",
            depth=5,
            story="""With a leader mark that forgets the origins of own writes: a lost write, and success

            The mark sends reads and writes to a leader. After a failover there is another one, and it has never heard of the write.""",
        ),
        Config(
            "mark_current",
            {"MARK_CURRENT": False},
            violates="NothingMissed",
            depth=4,
            story="""With a leader mark that is honoured at any leader: it leads one origin, and lags behind the other

            Each endpoint that takes writes is a leader. None of them has everything.""",
        ),
        Config(
            "beats_on",
            {"BEATS_ON": False, **LIVE},
            violates="EveryGateOpens",
            depth=5,
            story="""With heartbeats that only say what was heard: a floor over what is lost, which nobody reaches

            A floor demands its offset of every live origin, and idle origins are to come by it with heartbeats. Here these repeat what the
            endpoint has applied of others. But the offset that was folded is of a write that nobody else ever got. Only the next write, or
            a heartbeat that goes on with the clock, is above it.""",
        ),
        Config(
            "unopenable_mark",
            {"UNOPENABLE_MARK": False},
            violates="NothingMissed",
            depth=4,
            story="""With nothing in place of a token that could not be opened: the next read demands nothing

            A server without the new key meets a token, and cannot open it. It begins anew.""",
        ),
    ),
)
