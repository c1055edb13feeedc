"""Chooses the vectors of frontiers and watermarks."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from tests.spec.twins import frontier as twin
from tests.spec.twins.frontier import Refused

ABOUT = """\
Frontiers and watermarks: docs/spec/frontier.md. Shards, stores, origins and indexes are numbers; offsets, floors, ends and `until` are \
decimal text. A position is [shard, origin, offset].
A frontier is an object: `entries`, positions; `floors`, [store, offset] each; `marks`, [store, mark] each; what is empty is left out, and \
all is in ascending order. A mark is an object: `until` (null: for ever); `exact`, shards, and `origins`, origins or "any", both left out \
if empty.
shard.id {store, index} -> {shard}. shard.store {shard} -> {store}.
frontier.of {positions} -> {frontier}. frontier.join {frontiers} -> {frontier}: any number of them.
frontier.covers {frontier, other} -> {covers}: whether the frontier covers the other.
frontier.marked {frontier, shard} -> {marked}: whether a mark covers the shard.
frontier.on {frontier, shard} -> {frontier}, frontier.store {frontier, store} -> {frontier}: the part on a shard, of a store.
frontier.lapse {frontier, now} -> {frontier}: without the marks that have lapsed; `now` in Unix seconds, a number.
frontier.clip {frontier, ends} -> {frontier}: `ends` are positions, the offset being the end.
session.learn {own, seen, events} -> {own, demanded}: in the order of the events. `wrote` is the position of an acknowledged write, and \
`shown` a frontier: what came with the acknowledgement, or, without `wrote`, what a read showed. `demanded` is the join of own and seen; \
no mark has lapsed.
session.forget {own, seen, lost} -> {own, seen}: `lost` are losses that are accepted, [shard, origin, offset, end] each.
watermark.judge {watermark, frontier, known_stores} -> {verdict, positions, marked}: a watermark is an object: `shard`, and `origins`, \
[origin, applied, end] each (end null: it goes on). `known_stores` may be left out.
watermark.applied {watermark} -> {frontier}: what it has applied.
Errors: ConfigError."""

Vector = dict[str, Any]
BIG = 2**64 - 1


def vector(name: str, op: str, cites: str, given: Vector, answer: Callable[[], Vector]) -> Vector:
    head = {"name": name, "op": op, "cites": [f"F-{n}" for n in cites.split()], "in": given}
    try:
        return {**head, "out": answer()}
    except Refused as refused:
        return {**head, "error": refused.error, "reason": refused.reason}


def f(*positions: tuple[int, int, int], floors: dict[int, int] | None = None, marks: Any = None) -> Vector:
    """A frontier, as vectors write it."""
    entries = {(shard, origin): offset for shard, origin, offset in positions}
    return twin.write(twin.parts(entries, floors or {}, marks or {}))


def m(until: int | None, exact: tuple[int, ...] = (), origins: tuple[int, ...] | str = ()) -> dict[str, Any]:
    return {"until": until, "exact": list(exact), "origins": origins if origins == "any" else list(origins)}


NO_POSITIONS = {
    "a shard below 0": (-1, 1, 4),
    "a shard of 33 bits": (2**32, 1, 4),
    "a shard of 64 bits": (2**63, 1, 4),
    "an origin below 0": (0, -1, 4),
    "an origin of 33 bits, that would be another shard's": (0, 2**32 + 1, 4),
    "an offset below 0": (0, 1, -1),
    "an offset of 65 bits": (0, 1, BIG + 1),
}
"""Whatever names a position, of an end, a loss or a watermark, is refused as it is."""
S1 = 65_536
"""The first shard of store 1."""


def numbers() -> Iterator[Vector]:
    for name, store, index in (
        ("the first of all", 0, 0),
        ("store and index", 3, 2),
        ("the last index", 0, 65_535),
        ("the last of all", 65_534, 65_535),
        ("a store below 0", -1, 0),
        ("the store number that stands for every store", 65_535, 0),
        ("an index below 0", 0, -1),
        ("an index of 17 bits", 0, 65_536),
    ):
        given = {"store": store, "index": index}
        yield vector(f"shard: {name}", "shard.id", "2", given, lambda s=store, i=index: {"shard": twin.shard_of(s, i)})
    for shard in (65_535, 65_536, 65_534 * 65_536 + 65_535, 65_535 * 65_536):
        yield vector(
            f"the store of shard {shard}",
            "shard.store",
            "2",
            {"shard": shard},
            lambda s=shard: {"store": s // 65_536},
        )
    for name, cites, positions in (
        ("none", "4", []),
        ("one", "1", [(0, 1, 5)]),
        ("the least numbers", "1 5", [(0, 0, 0)]),
        ("the largest numbers", "1", [(2**32 - 1, 2**32 - 1, BIG)]),
        ("two of one origin, the larger last", "4", [(0, 1, 5), (0, 1, 9)]),
        ("two of one origin, the larger first", "4", [(0, 1, 9), (0, 1, 5)]),
        ("offsets that text would order otherwise", "4", [(0, 1, 9), (0, 1, 10)]),
        ("offsets that differ by less than a 64-bit float sees", "4", [(0, 1, 2**53 + 1), (0, 1, 2**53)]),
        ("offsets on both sides of the sign bit", "4", [(0, 1, 2**63), (0, 1, 2**63 - 1)]),
        ("two origins of one shard stay two", "3 4", [(0, 1, 9), (0, 2, 4)]),
        ("one origin number in two shards stays two", "3 4", [(0, 1, 9), (1, 1, 4)]),
        ("a shard below 0", "1", [(-1, 0, 0)]),
        ("a shard of 33 bits", "1", [(2**32, 0, 0)]),
        ("an origin below 0", "1", [(0, -1, 0)]),
        ("an origin of 33 bits", "1", [(0, 2**32, 0)]),
        ("an offset below 0", "1", [(0, 0, -1)]),
        ("an offset of 65 bits", "1", [(0, 0, BIG + 1)]),
        ("a second one that does not fit", "1", [(0, 1, 5), (0, 1, BIG + 1)]),
    ):
        given = {"positions": [[s, o, str(n)] for s, o, n in positions]}
        yield vector(
            f"of positions: {name}",
            "frontier.of",
            cites,
            given,
            lambda p=positions: {"frontier": twin.write(twin.of(p))},
        )


def joined(*frontiers: Vector) -> Vector:
    whole = twin.parts({}, {}, {})
    for one in frontiers:
        whole = twin.join(whole, twin.read(one))
    return {"frontier": twin.write(whole)}


RICH = (
    f((0, 1, 5), (0, 2, 1), floors={0: 7}, marks={0: m(900, (1, 2), (1,))}),
    f((0, 1, 3), (S1, 1, 9), floors={0: 9, 1: 2}, marks={0: m(800, (2, 3), "any"), 1: m(None)}),
    f((0, 2, 4), floors={1: 1}, marks={0: m(850, (2,), (5,)), 65_535: m(700, (S1,))}),
)
"""Three frontiers that differ in every part."""

APART = (f((0, 1, 5)), f(floors={0: 7}), f(marks={0: m(900, (1,), (1,))}))
"""Three frontiers that have one part each."""


def joins() -> Iterator[Vector]:
    for name, cites, frontiers in (
        ("nothing at all", "9", []),
        ("with nothing", "9", [f((0, 1, 5)), f()]),
        ("nothing with something", "9", [f(), RICH[0]]),
        ("the same twice", "9", [RICH[0], RICH[0]]),
        ("another origin of the shard", "3 6", [f((0, 1, 5)), f((0, 2, 3))]),
        ("another shard", "3 6", [f((0, 1, 5)), f((1, 1, 3))]),
        ("the larger on the left", "6", [f((0, 1, 5)), f((0, 1, 3))]),
        ("the larger on the right", "6", [f((0, 1, 3)), f((0, 1, 5))]),
        ("each larger in one origin", "6", [f((0, 1, 5), (0, 2, 1)), f((0, 1, 3), (0, 2, 4))]),
        ("offset 0 is kept", "5 6", [f((0, 1, 0)), f((0, 2, 3))]),
        ("offset 0 on the right is kept", "5 6", [f((0, 2, 3), (1, 1, 1)), f((0, 1, 0))]),
        ("offset 0 with a larger one", "5 6", [f((0, 1, 0)), f((0, 1, 3))]),
        ("above 2^53", "6", [f((0, 1, 2**53)), f((0, 1, 2**53 + 1))]),
        ("above 2^63", "6", [f((0, 1, 2**63)), f((0, 1, 2**63 - 1))]),
        ("floors", "6", [f(floors={0: 5, 1: 2}), f(floors={0: 3, 2: 9})]),
        ("a floor and an entry below it: both are kept", "6", [f((0, 1, 3)), f(floors={0: 5})]),
        ("marks: the later end", "7", [f(marks={0: m(900)}), f(marks={0: m(901)})]),
        ("marks: for ever", "7", [f(marks={0: m(None)}), f(marks={0: m(901)})]),
        ("marks: for ever on the right", "7", [f(marks={0: m(901)}), f(marks={0: m(None)})]),
        ("marks: exact in both", "7", [f(marks={0: m(9, (1, 2))}), f(marks={0: m(9, (2, 3))})]),
        ("marks: exact in neither", "7", [f(marks={0: m(9, (1,))}), f(marks={0: m(9, (3,))})]),
        ("marks: origins of either", "7", [f(marks={0: m(9, (), (1, 2))}), f(marks={0: m(9, (), (2, 3))})]),
        ("marks: any origin", "7", [f(marks={0: m(9, (), "any")}), f(marks={0: m(9, (), (2, 3))})]),
        ("marks: any origin on the right", "7", [f(marks={0: m(9)}), f(marks={0: m(9, (), "any")})]),
        ("marks: any origin in both", "7", [f(marks={0: m(9, (), "any")}), f(marks={0: m(8, (), "any")})]),
        ("marks of two stores", "7 8", [f(marks={0: m(9, (1,))}), f(marks={1: m(8, (S1,))})]),
        ("a mark on every store beside one on a store", "7 8", [f(marks={0: m(9, (1,))}), f(marks={65_535: m(8)})]),
        ("an entry does not lift a mark", "8", [f(marks={0: m(900, (2,))}), f((0, 1, 5))]),
        ("a mark survives what lists all its store", "8", [f((0, 1, 5), (1, 1, 5)), f(marks={0: m(900)})]),
        *((f"three, in order {order}", "9", [RICH[n] for n in order]) for order in itertools.permutations(range(3))),
        *(
            (f"parts apart, in order {order}", "9", [APART[n] for n in order])
            for order in itertools.permutations(range(3))
        ),
    ):
        yield vector(
            f"join: {name}", "frontier.join", cites, {"frontiers": frontiers}, lambda fs=frontiers: joined(*fs)
        )


def orders() -> Iterator[Vector]:
    any_, some = m(9, (), "any"), m(9, (), (1, 2))
    for name, cites, a, b in (
        ("nothing covers nothing", "10", f(), f()),
        ("anything covers nothing", "10", f((0, 1, 0)), f()),
        ("nothing covers no entry, not even 0", "5 10", f(), f((0, 1, 0))),
        ("itself", "10 12", RICH[0], RICH[0]),
        ("larger", "10", f((0, 1, 5)), f((0, 1, 4))),
        ("smaller", "10", f((0, 1, 4)), f((0, 1, 5))),
        ("larger, though text says otherwise", "10", f((0, 1, 10)), f((0, 1, 9))),
        ("smaller by less than a 64-bit float sees", "10", f((0, 1, 2**53)), f((0, 1, 2**53 + 1))),
        ("larger in another origin", "3 10", f((0, 2, 99)), f((0, 1, 5))),
        ("larger in another shard", "3 10", f((1, 1, 99)), f((0, 1, 5))),
        ("larger in one origin, smaller in another", "12", f((0, 1, 9), (0, 2, 1)), f((0, 1, 5), (0, 2, 2))),
        ("the same two the other way round", "12", f((0, 1, 5), (0, 2, 2)), f((0, 1, 9), (0, 2, 1))),
        ("more entries", "10", f((0, 1, 5), (0, 2, 1)), f((0, 1, 5))),
        ("fewer entries", "10", f((0, 1, 5)), f((0, 1, 5), (0, 2, 1))),
        ("a higher floor", "10", f(floors={0: 6}), f(floors={0: 5})),
        ("a lower floor", "10", f(floors={0: 5}), f(floors={0: 6})),
        ("a floor of another store", "10", f(floors={1: 6}), f(floors={0: 5})),
        ("a floor is no entry", "10", f(floors={0: 99}), f((0, 1, 5))),
        ("an entry is no floor", "10", f((0, 1, 99)), f(floors={0: 5})),
        ("a mark is no entry", "10", f(marks={0: m(None)}), f((0, 1, 5))),
        ("a mark is no floor", "10", f(marks={0: m(None)}), f(floors={0: 5})),
        ("no mark covers none", "10", f((0, 1, 5)), f(marks={0: m(9)})),
        ("a mark on every store is none on a store", "10", f(marks={65_535: m(9)}), f(marks={0: m(9)})),
        ("a mark that ends later", "11", f(marks={0: m(10)}), f(marks={0: m(9)})),
        ("a mark that ends earlier", "11", f(marks={0: m(9)}), f(marks={0: m(10)})),
        ("a mark for ever", "11", f(marks={0: m(None)}), f(marks={0: m(9)})),
        ("a mark that is not for ever", "11", f(marks={0: m(9)}), f(marks={0: m(None)})),
        ("both marks for ever", "11", f(marks={0: m(None)}), f(marks={0: m(None)})),
        ("a mark with fewer exact shards", "11", f(marks={0: m(9, (1,))}), f(marks={0: m(9, (1, 2))})),
        ("a mark with more exact shards", "11", f(marks={0: m(9, (1, 2))}), f(marks={0: m(9, (1,))})),
        ("a mark with more origins", "11", f(marks={0: some}), f(marks={0: m(9, (), (1,))})),
        ("a mark with fewer origins", "11", f(marks={0: m(9, (), (1,))}), f(marks={0: some})),
        ("any origin covers some", "11", f(marks={0: any_}), f(marks={0: some})),
        ("some origins do not cover any", "11", f(marks={0: some}), f(marks={0: any_})),
        ("any origin covers any", "11", f(marks={0: any_}), f(marks={0: any_})),
        ("a join covers its left", "12", joined(*RICH)["frontier"], RICH[0]),
        ("a join covers its right", "12", joined(*RICH)["frontier"], RICH[2]),
        ("what was joined does not cover the join", "12", RICH[1], joined(*RICH)["frontier"]),
    ):
        yield vector(
            f"covers: {name}",
            "frontier.covers",
            cites,
            {"frontier": a, "other": b},
            lambda a=a, b=b: {"covers": twin.covers(twin.read(a), twin.read(b))},
        )


def parts() -> Iterator[Vector]:
    for name, marks, shard in (
        ("no mark", {}, 0),
        ("a shard of the store", {0: m(9)}, 1),
        ("a shard of another store", {0: m(9)}, S1),
        ("a shard that is exact", {0: m(9, (1,))}, 1),
        ("a shard beside an exact one", {0: m(9, (1,))}, 2),
        ("every store", {65_535: m(9)}, S1),
        ("every store, and exact", {65_535: m(9, (S1,))}, S1),
        ("exact for its store, and not for every store", {0: m(9, (1,)), 65_535: m(8)}, 1),
        ("exact for every store, and not for its own", {0: m(9), 65_535: m(8, (1,))}, 1),
    ):
        given = {"frontier": f(marks=marks), "shard": shard}

        def marked(given: Vector = given) -> Vector:
            return {"marked": bool(twin.marking(twin.read(given["frontier"]), given["shard"]))}

        yield vector(f"marked: {name}", "frontier.marked", "13", given, marked)
    whole = f(
        (0, 1, 5),
        (0, 2, 3),
        (1, 1, 4),
        (S1, 1, 9),
        floors={0: 2, 1: 3},
        marks={0: m(9, (1,)), 1: m(8), 65_535: m(7, (S1,))},
    )
    for name, shard in (
        ("both marks cover it", 0),
        ("its store's mark does not cover it", 1),
        ("the mark on every store does not cover it", S1),
        ("it has no entries", 2),
        ("it is of a store without any part", 2 * S1),
    ):
        yield vector(
            f"on a shard: {name}",
            "frontier.on",
            "14",
            {"frontier": whole, "shard": shard},
            lambda s=shard: {"frontier": twin.write(twin.on(twin.read(whole), s))},
        )
    for name, store in (("the first", 0), ("the second", 1), ("one without any part but the mark on every store", 2)):
        yield vector(
            f"of a store: {name}",
            "frontier.store",
            "15",
            {"frontier": whole, "store": store},
            lambda s=store: {"frontier": twin.write(twin.of_store(twin.read(whole), s))},
        )
    for name, marks, now in (
        ("not yet", {0: m(10)}, 9),
        ("at its end", {0: m(10)}, 10),
        ("long after", {0: m(10)}, 4_000_000_000),
        ("one of two", {0: m(10), 1: m(11)}, 10),
        ("never", {0: m(None), 1: m(10)}, 4_000_000_000),
    ):
        given = {"frontier": f((0, 1, 5), floors={0: 2}, marks=marks), "now": now}
        yield vector(
            f"lapse: {name}",
            "frontier.lapse",
            "16",
            given,
            lambda g=given: {"frontier": twin.write(twin.lapse(twin.read(g["frontier"]), g["now"]))},
        )
    two = f((0, 1, 5), (0, 2, 3), floors={0: 9}, marks={0: m(9)})
    refused = {f"{name}: refused": place for name, place in NO_POSITIONS.items()}
    for name, ends in (
        ("no ends", []),
        ("past the end", [(0, 1, 4)]),
        ("at the end", [(0, 1, 5)]),
        ("below the end", [(0, 1, 6)]),
        ("to 0", [(0, 1, 0)]),
        ("both", [(0, 1, 4), (0, 2, 1)]),
        ("one past its end, one below its end", [(0, 1, 4), (0, 2, 9)]),
        ("an end of an origin without an entry adds none", [(0, 3, 4)]),
        ("an end of the same origin in another shard", [(1, 1, 4)]),
        *((name, [place]) for name, place in refused.items()),
    ):
        given = {"frontier": two, "ends": [[s, o, str(n)] for s, o, n in ends]}

        def clipped(ends: Any = ends) -> Vector:
            return {"frontier": twin.write(twin.clip(twin.read(two), {(s, o): n for s, o, n in ends}))}

        yield vector(f"clip: {name}", "frontier.clip", "1" if name in refused else "17", given, clipped)


def sessions() -> Iterator[Vector]:
    for name, own, seen, events in (
        ("a first write", f(), f(), [{"wrote": [0, 1, "5"]}]),
        ("a write further on", f((0, 1, 5)), f(), [{"wrote": [0, 1, "6"]}]),
        ("an older acknowledgement comes late", f((0, 1, 6)), f(), [{"wrote": [0, 1, "5"]}]),
        ("a read shows more than was written", f((0, 1, 5)), f(), [{"shown": f((0, 1, 9), (1, 1, 2))}]),
        ("a read shows less than was written", f((0, 1, 5)), f(), [{"shown": f((0, 1, 3))}]),
        (
            "what comes with an acknowledgement is seen",
            f(),
            f((1, 1, 2)),
            [{"wrote": [0, 1, "5"], "shown": f((0, 2, 7), (1, 1, 4))}],
        ),
        (
            "a read, then a write under a new origin",
            f((0, 1, 5)),
            f(),
            [{"shown": f((0, 2, 1))}, {"wrote": [0, 2, "2"]}],
        ),
    ):

        def learned(own: Vector = own, seen: Vector = seen, events: Any = events) -> Vector:
            mine, theirs = twin.learn(twin.read(own), twin.read(seen), events)
            return {"own": twin.write(mine), "demanded": twin.write(twin.join(mine, theirs))}

        yield vector(f"learn: {name}", "session.learn", "18", {"own": own, "seen": seen, "events": events}, learned)
    for name, own, seen, lost in (
        ("the loss", f((0, 1, 8)), f(), [(0, 1, 8, 6)]),
        ("another origin is untouched", f((0, 1, 8), (0, 2, 8)), f(), [(0, 1, 8, 6)]),
        ("the own entry has grown since: it is not what was accepted", f((0, 1, 9)), f(), [(0, 1, 8, 6)]),
        ("a smaller own entry is not what was accepted", f((0, 1, 7)), f(), [(0, 1, 8, 6)]),
        ("a seen entry as large goes with it", f((0, 1, 8)), f((0, 1, 8)), [(0, 1, 8, 6)]),
        ("a seen entry past the end goes with it", f((0, 1, 8)), f((0, 1, 7)), [(0, 1, 8, 6)]),
        ("a seen entry that survives stays", f((0, 1, 8)), f((0, 1, 5)), [(0, 1, 8, 6)]),
        ("a larger seen entry stays", f((0, 1, 8)), f((0, 1, 9)), [(0, 1, 8, 6)]),
        ("two losses", f((0, 1, 8), (1, 1, 3)), f((1, 1, 3)), [(0, 1, 8, 6), (1, 1, 3, 0)]),
        ("nothing is lost", f((0, 1, 8)), f((0, 1, 9)), []),
        *(
            (f"{name}: refused", f((1, 1, 8)), f((0, 1, 9)), [(s, o, n, min(n, 2))])
            for name, (s, o, n) in NO_POSITIONS.items()
        ),
        ("an end of 65 bits: refused", f((0, 1, 8)), f((0, 1, 9)), [(0, 1, 8, BIG + 1)]),
    ):

        def forgot(own: Vector = own, seen: Vector = seen, lost: Any = lost) -> Vector:
            mine, theirs = twin.forget(twin.read(own), twin.read(seen), lost)
            return {"own": twin.write(mine), "seen": twin.write(theirs)}

        given = {"own": own, "seen": seen, "lost": [[s, o, str(n), str(end)] for s, o, n, end in lost]}
        yield vector(f"forget: {name}", "session.forget", "1" if name.endswith("refused") else "19", given, forgot)


Places = dict[int, tuple[int, int | None]]


def watermark(shard: int, places: Places) -> Vector:
    return {"shard": shard, "origins": [[o, str(a), None if e is None else str(e)] for o, (a, e) in places.items()]}


def judged(
    name: str, cites: str, places: Places, frontier: Vector, known: list[int] | None = None, shard: int = 0
) -> Vector:
    given: Vector = {"watermark": watermark(shard, places), "frontier": frontier}
    if known is not None:
        given["known_stores"] = known
    return vector(
        f"judge: {name}",
        "watermark.judge",
        cites,
        given,
        lambda: twin.judge(shard, places, twin.read(frontier), known),
    )


LIVE: Places = {1: (6, 9), 2: (4, None)}
"""The watermark of the page."""


def verdicts() -> Iterator[Vector]:
    for name, cites, place, offset in (
        ("an unknown origin", "20", None, 5),
        ("an unknown origin, at 0", "5 20", None, 0),
        ("at 0, where nothing is applied yet", "5 22", (0, None), 0),
        ("at 1, where nothing is applied yet", "23", (0, None), 1),
        ("exactly what is applied", "22", (5, None), 5),
        ("one more than is applied", "23", (5, None), 6),
        ("applied, below the end", "22", (7, 9), 6),
        ("exactly the end, applied", "22", (9, 9), 9),
        ("exactly the end, not applied", "23", (5, 9), 9),
        ("ended, not applied", "23", (5, 9), 6),
        ("one past the end", "21", (5, 9), 10),
        ("past the end, where the end is applied", "21", (5, 5), 6),
        ("past an end of 0", "21", (0, 0), 1),
        ("past the end, and held here all the same", "21 29", (10, 5), 6),
        ("the largest offset, applied", "22", (BIG, None), BIG),
        ("behind by less than a 64-bit float sees", "23", (2**53, None), 2**53 + 1),
        ("lost by less than a 64-bit float sees", "21", (2**53, 2**53), 2**53 + 1),
        ("behind, though text says otherwise", "23", (9, None), 10),
    ):
        yield judged(f"one position: {name}", cites, {} if place is None else {7: place}, f((0, 7, offset)))


def judgements() -> Iterator[Vector]:
    fine, behind, lost, unknown = (0, 1, 5), (0, 2, 5), (0, 1, 10), (0, 3, 1)
    elsewhere, foreign = (9, 1, 8), (S1, 1, 8)
    yield judged("nothing is demanded", "24", LIVE, f())
    yield judged("nothing is demanded, nothing is known", "24", {}, f())
    yield judged("all is applied", "24", LIVE, f(fine, (0, 2, 4)))
    yield judged("one of two is behind", "24", LIVE, f(fine, behind))
    yield judged("two are behind", "24", LIVE, f((0, 1, 7), behind))
    yield judged(
        "two are behind, written down the other way round", "24", LIVE, {"entries": [[0, 2, "5"], [0, 1, "7"]]}
    )
    yield judged(
        "origins in ascending order, not as text", "24", {}, {"entries": [[0, 10, "1"], [0, 9, "3"], [0, 2**31, "0"]]}
    )
    yield judged("a floor, of a watermark in descending order", "24 27", {3: (1, None), 2: (4, None)}, f(floors={0: 5}))
    yield judged("a foreign store and a floor, both fine", "26 27", LIVE, f(foreign, floors={0: 4}), [0])
    yield judged(
        "a foreign store, and a foreign floor and mark", "26", LIVE, f(foreign, floors={1: 9}, marks={1: m(9)}), [0]
    )
    yield judged("unknown is worse than behind", "24", LIVE, f(behind, unknown))
    yield judged("lost is worse than unknown", "24", LIVE, f(lost, behind, unknown))
    yield judged("a larger offset of another origin does not help", "3 24", LIVE, f((0, 2, 5)))
    yield judged(
        "a larger offset of the only origin that is known does not help", "3 20", {2: (99, None)}, f((0, 1, 5))
    )
    yield judged("other shards are not judged", "25", LIVE, f(fine, elsewhere))
    yield judged("other stores are not judged where all are known", "25 26", LIVE, f(fine, foreign))
    yield judged("the same origin and a covering offset, of another shard", "3 25", LIVE, f(elsewhere), shard=1)
    yield judged("another store is known", "26", LIVE, f(fine, foreign), [0, 1])
    yield judged("a foreign store", "26", LIVE, f(fine, foreign), [0])
    yield judged("only foreign stores", "26", LIVE, f((2 * S1, 1, 1), foreign), [0])
    yield judged("the watermark's own store is not known either", "26", LIVE, f(fine, foreign), [2])
    yield judged("the watermark's own store alone is not known", "26", LIVE, f(fine), [])
    yield judged("a foreign store, and behind", "26", LIVE, f(behind, foreign), [0])
    yield judged("a foreign store, and another shard of a known one", "25 26", LIVE, f(elsewhere, foreign), [0])
    yield judged("a floor that is reached", "27", LIVE, f(floors={0: 4}))
    yield judged("a floor that one origin has not reached", "27", LIVE, f(floors={0: 5}))
    yield judged("a floor that no origin has reached", "27", LIVE, f(floors={0: 7}))
    yield judged("a floor past an end that is not applied", "27", LIVE, f(floors={0: 20}))
    yield judged("a floor past an end that is applied", "27", {1: (9, 9), 2: (30, None)}, f(floors={0: 20}))
    yield judged("a floor where no origin is known", "27", {}, f(floors={0: 5}))
    yield judged("a floor of another store", "27", LIVE, f(floors={1: 99}))
    yield judged("a floor and an entry, both applied", "27", LIVE, f(fine, floors={0: 4}))
    yield judged("a floor that is short, and an entry that is behind", "24 27", LIVE, f((0, 1, 7), floors={0: 5}))
    yield judged("a floor that is short, and an entry that is lost", "24 27", LIVE, f(lost, floors={0: 5}))
    yield judged("a floor that is short, and a foreign store", "26 27", LIVE, f(foreign, floors={0: 5}), [0])
    yield judged("a mark", "28", LIVE, f(marks={0: m(9)}))
    yield judged("a mark in which the shard is exact", "28", LIVE, f(marks={0: m(9, (0,))}))
    yield judged("a mark of another store", "28", LIVE, f(marks={1: m(9)}))
    yield judged("a mark on every store", "28", LIVE, f(marks={65_535: m(9)}))
    yield judged("a mark, and an entry that is behind", "28 30", LIVE, f(behind, marks={0: m(9)}))
    yield judged("a mark, and a floor that is short", "28 30", LIVE, f(floors={0: 5}, marks={0: m(9)}))
    yield judged("a mark, and an entry of an unknown origin", "24 28", LIVE, f(unknown, marks={0: m(9)}))
    yield judged("a mark, and an entry that is lost", "24 28", LIVE, f(lost, marks={0: m(9)}))
    yield judged("a mark, and a foreign store", "26 28", LIVE, f(foreign, marks={0: m(9)}), [0])
    diverged: Places = {1: (10, 9), 2: (4, None)}
    yield judged("diverged, and nothing is demanded", "29 30", diverged, f())
    yield judged("diverged, and what is demanded is applied", "29 30", diverged, f((0, 2, 4)))
    yield judged("diverged, and what is demanded is behind", "29 30", diverged, f((0, 2, 5)))
    yield judged("diverged, and what is demanded is unknown", "24 29", diverged, f(unknown))
    yield judged("diverged, and what is demanded is lost", "21 24 29", diverged, f((0, 1, 10), (0, 2, 5)))
    yield judged("ended where it is applied is not diverged", "29", {1: (9, 9)}, f((0, 1, 9)))
    for name, places, shard in (
        ("the watermark of the page", LIVE, 0),
        ("no more than survives", {1: (10, 9), 2: (4, None)}, 0),
        ("nothing is applied yet: an entry all the same", {3: (0, None)}, S1),
        ("no origin is known", {}, 0),
        *((f"{name}: refused", {o: (n, None)}, s) for name, (s, o, n) in NO_POSITIONS.items()),
        ("an end of 65 bits: refused", {1: (4, BIG + 1)}, 0),
    ):
        yield vector(
            f"applied: {name}",
            "watermark.applied",
            "1" if name.endswith("refused") else "31",
            {"watermark": watermark(shard, places)},
            lambda s=shard, p=places: {"frontier": twin.write(twin.applied(s, p))},
        )


def vectors() -> Iterator[Vector]:
    for part in (numbers, joins, orders, parts, sessions, verdicts, judgements):
        yield from part()
