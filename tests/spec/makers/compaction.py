"""Chooses the vectors of compaction: a ladder for each rung and each rule of it, and what a token that does not open leaves behind."""

from collections.abc import Iterator
from typing import Any

from tests.spec.tokens.joins import mark, said
from tests.spec.twins.compaction import Refused, bounds, ladder, present, size_of

ABOUT = "docs/spec/compaction.md says what each operation is given and gives."
Vector = dict[str, Any]
Claims = dict[str, Any]
HOUR = 3600
NOW = 1_800_000_000 - 24 * HOUR
UNTIL = NOW + 961
SETTINGS = {"token_ttl_s": 86_400, "max_staleness_s": 900, "max_clock_skew_s": 60}


def clock(seconds_ago: int, counter: int = 0) -> str:
    return str((NOW - seconds_ago) * 1000 * 65_536 + counter)


def rung(
    name: str,
    cites: str,
    claims: Claims,
    limit: int,
    *,
    measure: str | int = "items",
    until: int = UNTIL,
    **how: Any,
) -> Vector:
    """A ladder, and how far the twin climbs it."""
    args = {"floor": [], "replicated": [], "stores": None} | how
    found = ladder(claims, measure, limit, NOW, until, args["floor"], args["replicated"], args["stores"])
    given = {"claims": claims, "measure": measure, "limit": limit, "now": NOW, "until": str(until)}
    return {
        "name": name,
        "op": "compaction.ladder",
        "cites": cites.split(),
        "in": given | {key: value for key, value in how.items() if value is not None},
        "out": {"claims": found, "size": size_of(found, measure)},
    }


def row(n: int, *, store: int = 0, origin: int = 1, first: int = 0, offset: int = 1000) -> list[list[Any]]:
    return [[(store << 16) + first + i, origin, str(offset + 7 * i * i)] for i in range(n)]


def exact_and_filters() -> Iterator[Vector]:
    full = said(
        own=row(3),
        seen=row(2, first=5),
        ages=[[0, 1, 30], [5, 1, 2]],
        floors=[[0, "9"]],
        marks=[mark(0, UNTIL + 9, [0], [4])],
        timestamp=clock(0, 3),
        touched=[[0, [7, 8]]],
    )
    yield rung("what fits stays, aged as it is", "K-1", full, 8)
    yield rung("without filters it fits: nothing else is left out, not even what has aged", "K-5 K-2", full, 7)
    other = said(own=[*row(1), *row(1, store=3)], touched=[[0, [7]], [3, [9]]])
    yield rung("filters of stores that are not known are left out, too", "K-5 K-3", other, 2, stores=[0])
    yield rung("all filters go at once, not as many as must", "K-5", other, 3)
    yield rung("no claims fit any limit", "K-1", said(), 0)


def aged() -> Iterator[Vector]:
    ages = [[0, 1, 24], [1, 1, 23], [2, 1, 25], [6, 1, 24]]
    claims = said(own=row(3), seen=row(2, first=5), ages=ages)
    yield rung("positions that have expired fall away, of own and of seen", "K-6 K-2", claims, 3)
    both = said(own=[[0, 1, "5"], [1, 1, "5"]], seen=[[0, 1, "9"]], ages=[[0, 1, 24], [1, 1, 3]])
    yield rung("an age is that of own and seen alike", "K-6", both, 2)
    yield rung("a position expires at its expiry, not an hour before", "K-6", said(own=row(2), ages=ages[:2]), 2)
    yield rung("if that is not enough, ages fall away", "K-7 K-2", claims, 2)
    young = said(own=row(3), ages=[[0, 1, 3], [1, 1, 2]])
    yield rung("ages fall away before any position does", "K-7 K-2", young, 3)
    foldable = said(own=row(1), seen=row(2, first=5), ages=[[0, 1, 3], [5, 1, 2]])
    yield rung("ages fall away before a floor folds", "K-2 K-7", foldable, 3, floor=[[0, "50000"]])
    yield rung("ages fall away, and then a floor folds", "K-2 K-7 K-8", foldable, 2, floor=[[0, "50000"]])
    foreign = said(
        own=[*row(2), *row(2, store=7)], ages=[[0, 1, 30], [1, 1, 3], [7 << 16, 1, 30], [(7 << 16) + 1, 1, 3]]
    )
    for limit in (6, 5):
        yield rung(f"other stores' positions do not age here, to fit {limit}", "K-3 K-6", foreign, limit, stores=[0])


def floored() -> Iterator[Vector]:
    old = [[i, 1, clock(1000 + i, i)] for i in range(4)]
    new = [[i, 2, clock(100, i)] for i in range(2)]
    claims = said(own=[[1, 1, clock(2000)], [9, 1, clock(3000)]], seen=old + new)
    bound = [[0, clock(900)]]
    yield rung("old seen positions become a floor, own ones do not", "K-8 K-9 K-2", claims, 4, floor=bound)
    yield rung(
        "the floor that was there stays, if it is greater",
        "K-8",
        {**claims, "floors": [[0, clock(950)]]},
        4,
        floor=bound,
    )
    yield rung("the floor that was there grows", "K-8", {**claims, "floors": [[0, clock(5000)]]}, 4, floor=bound)
    edge = said(seen=[[0, 1, clock(900)], [1, 1, str(int(clock(900)) + 1)], [2, 1, clock(900, 0)]])
    yield rung("a position at the bound folds, one above does not", "K-8", edge, 1, floor=bound)
    stores = said(seen=[[0, 1, "5"], [65_536, 1, "6"], [131_072, 1, "7"]])
    yield rung("a store without a bound has no floor", "K-10", stores, 2, floor=[[1, "100"]])
    yield rung("each store has a floor of its own", "K-8 K-10", stores, 1, floor=[[1, "100"], [2, "100"]])
    yield rung(
        "a store that is not known is not floored", "K-3 K-10", stores, 2, floor=[[1, "100"], [2, "100"]], stores=[1]
    )
    none = said(own=[[0, 1, "5"], [1, 1, "6"]], seen=[[2, 1, "50"]])
    yield rung("what is above the bound stays, and a mark comes next", "K-8 K-2", none, 2, floor=[[0, "49"]])
    twice = said(seen=[[0, 1, "5"], [0, 2, "6"], [1, 1, "90"]], marks=[mark(0, UNTIL - 9, [0, 1], [])])
    yield rung("a floor leaves a mark as it is", "K-8", twice, 1, floor=[[0, "50"]])
    own = said(own=[[0, 1, "5"], [1, 2, "6"]])
    yield rung("own positions never fold, however old: they are marked", "K-9", own, 1, floor=[[0, "50"]])


def after_aging() -> Iterator[Vector]:
    claims = said(own=[[9, 1, "5"]], seen=[[0, 1, "5"], [1, 1, "6"]], ages=[[0, 1, 24], [1, 1, 24]])
    yield rung("what has aged leaves no floor behind", "K-2 K-6", claims, 1, floor=[[0, "50"]])


def marked() -> Iterator[Vector]:
    read, safe, risky = row(2), row(2, first=10, origin=2), row(2, first=20, origin=3)
    claims = said(own=safe + risky, seen=read)
    for limit in range(5, -1, -1):
        kept = "those at risk stay longest" if limit else "no shard stays"
        yield rung(f"{limit} of six shards: {kept}", "K-16 K-13 K-14 K-12 K-17", claims, limit, replicated=safe)
    several = said(own=[[0, 1, "5"], [0, 2, "6"], [1, 1, "7"]], seen=[[0, 1, "8"], [0, 3, "9"], [2, 1, "3"]])
    yield rung("a shard of several origins goes whole, own and seen", "K-12 K-14 K-16", several, 2)
    yield rung("what goes with its shard takes its origins along", "K-14 K-13", several, 0)
    for ahead, said_of in ((-1, "just behind"), (0, "just at"), (1, "ahead of")):
        replicated = [[s, o, str(int(offset) + ahead)] for s, o, offset in row(3)]
        yield rung(f"a write with replicas {said_of} it", "K-14", said(own=row(3)), 1, replicated=replicated)
    yield rung(
        "a replica of another origin replicates nothing",
        "K-14",
        said(own=row(2)),
        0,
        replicated=row(2, origin=2, offset=9000),
    )
    pairs = said(seen=[[0, 1, "5"], [0, 2, "5"], [1, 1, "5"], [2, 1, "5"], [2, 2, "5"], [2, 3, "5"]])
    for limit in (5, 3, 1):
        yield rung(f"fewer pairs stay longer, to fit {limit}", "K-16 K-17", pairs, limit)
    two = said(own=[*row(2), *row(2, store=1)])
    yield rung("each store has a mark of its own", "K-13", two, 0)
    apart = said(own=[*row(2, origin=5), *row(2, store=1, origin=6)])
    yield rung("each mark remembers its own store's origins", "K-14 K-13", apart, 0)
    yield rung("the only own position goes, too, where nothing fits", "K-12 K-14", said(own=row(1)), 0)
    yield rung("a store that loses nothing gets none", "K-13", two, 3)
    before = [mark(0, UNTIL + 500, [0, 1, 77], [6])]
    yield rung("a mark that is there is joined: the later time stays", "K-15", said(own=row(3), marks=before), 1)
    earlier = [mark(0, UNTIL - 500, [0], "any")]
    yield rung("a mark that is there is joined: the new time is later", "K-15", said(own=row(3), marks=earlier), 1)
    yield rung("a mark for ever is joined", "K-15", said(own=row(3), marks=[mark(0, "forever", [0, 2], [])]), 2)
    elsewhere = [mark(1, UNTIL - 5, [65_536, 77], [6])]
    yield rung(
        "a mark on a store that loses nothing excepts what is kept",
        "K-15",
        said(own=[*row(1, store=1), *row(2)], marks=elsewhere),
        1,
        replicated=row(2),
    )
    alone = [mark(1, UNTIL - 5, [77, 65_536], [6])]
    yield rung("a store that has a mark alone is one of all", "K-3 K-15", said(own=row(3), marks=alone), 1)
    yield rung("but not of some others", "K-3", said(own=row(3), marks=alone), 1, stores=[0])
    yield rung("it may be one of some", "K-3 K-15", said(own=row(3), marks=alone), 1, stores=[0, 1])
    every = [mark(65_535, UNTIL + 5, [0, 1], [])]
    yield rung("a mark on every store is carried", "K-3", said(own=row(3), marks=every), 1, stores=[0])
    excepting = [mark(65_535, UNTIL + 5, [0, 1, 131_072], [7])]
    yield rung(
        "a mark on every store is carried where all stores are known", "K-3", said(own=row(3), marks=excepting), 1
    )
    again = said(own=row(1), marks=[mark(0, NOW + 5, [0], [3])])
    yield rung("what was compacted before and fits keeps its mark", "K-1 K-15", again, 1)
    yield rung(
        "the expiry and the timestamp stay on every rung",
        "K-4",
        {"expires_at": NOW + 5 * HOUR, "own": row(3), "seen": row(3, first=5), "timestamp": clock(3, 9)},
        0,
        floor=[[0, clock(0)]],
    )


def by_characters() -> Iterator[Vector]:
    wide = [[i, 1, str((2**41 + 98_765_431_234 * i * i) % 2**42)] for i in range(40)]
    for measure in (4, 5, 3):
        yield rung(
            f"40 shards to 120 characters, algorithm {measure}", "K-17 K-13", said(own=wide), 120, measure=measure
        )
    yield rung(
        "120 shards to 100 characters",
        "K-17",
        said(own=[[i, 1, str(i**5 + 2**40)] for i in range(120)]),
        100,
        measure=4,
    )
    many = said(own=[[i, (i * 2_654_435_761) % 2**32, str(i**7 % 2**42)] for i in range(60)])
    yield rung("60 origins are too many to list: any", "K-18", many, 100, measure=4)
    marks = [mark(0, UNTIL + 3, [], [1, 2, 3]), mark(1, UNTIL, [], [])]
    yield rung(
        "any is said of each mark that remembers an origin, and of no other",
        "K-18 K-15",
        {**many, "marks": marks},
        100,
        measure=4,
    )
    foreign = row(30, store=7, origin=4, offset=2**40)
    both = said(
        own=[*row(12, offset=2**41), *foreign], ages=[[7 << 16, 4, 40]], floors=[[7, "5"]], marks=[mark(7, 5, [], [])]
    )
    yield rung(
        "foreign stores alone are too long: the limit holds for the rest", "K-19 K-3", both, 70, measure=4, stores=[0]
    )
    yield rung("foreign stores that fit count", "K-3 K-17 K-19", both, 200, measure=4, stores=[0])
    floors = [[store, str(2**40 + 977 * store * store)] for store in range(9, 29)]
    with_floors = said(own=row(12, offset=2**41), floors=floors)
    yield rung("stores that have a floor alone are of all: nothing fits", "K-3 K-19", with_floors, 90, measure=4)
    yield rung(
        "where they are not known the limit holds for the rest", "K-3 K-19", with_floors, 90, measure=4, stores=[0]
    )
    everywhere = [mark(65_535, UNTIL + 5, [977 * i * i for i in range(60)], [])]
    yield rung(
        "a mark on every store alone is too long: the limit holds for the rest",
        "K-19 K-3",
        said(own=row(12, offset=2**41), marks=everywhere),
        90,
        measure=4,
        stores=[0],
    )
    yield rung("no store is known, and it does not fit", "K-19 K-3", both, 50, measure=4, stores=[])
    below = said(own=row(2, offset=2**41))
    yield rung("not even a mark fits: it is made all the same", "K-18 K-17", below, 20, measure=4)


def when() -> Iterator[Vector]:
    for name, cites, now, settings in (
        ("a day, a quarter of an hour and a minute", "K-20 K-11", NOW, SETTINGS),
        ("no skew of clocks", "K-20 K-11", NOW, SETTINGS | {"max_clock_skew_s": 0}),
        ("a life just longer than staleness and skew", "K-21 K-20", NOW, SETTINGS | {"token_ttl_s": 961}),
        ("a life just as long as staleness and skew", "K-21", NOW, SETTINGS | {"token_ttl_s": 960}),
        ("a life shorter than staleness and skew", "K-21", NOW, SETTINGS | {"token_ttl_s": 600}),
        ("shortly after 1970 the bound is 0", "K-11", 100, SETTINGS),
        ("no staleness at all", "K-21", NOW, SETTINGS | {"max_staleness_s": 0}),
        ("a quarter of a second later", "K-11 K-20", NOW + 0.25, SETTINGS),
        ("half a millisecond before the next second", "K-11 K-20", NOW + 1 - 2**-11, SETTINGS),
    ):
        vector: Vector = {
            "name": f"bounds: {name}",
            "op": "compaction.bounds",
            "cites": cites.split(),
            "in": {"now": now} | settings,
        }
        try:
            yield vector | {"out": bounds(now, **settings)}
        except Refused:
            yield vector | {
                "error": {"type": "ConfigError"},
                "reason": "demands would be forgotten before replicas have caught up",
            }


def unopened() -> Iterator[Vector]:
    own = said(own=row(2))
    marked = said(own=row(1), marks=[mark(65_535, NOW + 50, [0], [9])])
    later = said(marks=[mark(65_535, UNTIL + 50, [0], [])])
    cases: tuple[tuple[str, str, list[Any], str], ...] = (
        ("garbage alone", "K-22", ["garbage"], "leader"),
        (
            "a token sealed with a key that is not held",
            "K-22",
            ["hEOhAQShBEEJTIMBGmtJ0gBEDAAYOkiCKo1gnSMr_g"],
            "leader",
        ),
        ("garbage and a token that opens", "K-23", ["garbage", own], "leader"),
        ("a token that opens, then garbage", "K-23", [own, "garbage"], "leader"),
        ("two that do not open", "K-22", ["garbage", "more"], "leader"),
        ("a mark on every store that is there loses its exceptions", "K-22 K-15", [marked, "garbage"], "leader"),
        ("a later mark on every store stays", "K-22 K-15", [later, "garbage"], "leader"),
        ("no garbage, no mark", "K-23", [own], "leader"),
        (
            "a token that is half as old as it may be, and alone, stays",
            "K-23",
            [{**own, "expires_at": NOW + 12 * HOUR, "ages": [[0, 1, 3]]}],
            "leader",
        ),
        (
            "one that is older is made anew",
            "K-23",
            [{**own, "expires_at": NOW + 12 * HOUR - 1, "ages": [[0, 1, 3]]}],
            "leader",
        ),
        ("an empty text is no token", "K-25", ["", own], "leader"),
        ("empty texts alone demand nothing", "K-25", ["", ""], "leader"),
        ("an expired token opens", "K-25", [{"expires_at": NOW - 5, "own": row(1)}], "leader"),
        ("garbage is ignored, where the policy says so", "K-24", ["garbage", own], "ignore"),
        ("garbage alone is ignored, where the policy says so", "K-24", ["garbage"], "ignore"),
    )
    for name, cites, tokens, bad_token in cases:
        found = present(tokens, bad_token, NOW, **SETTINGS)
        yield {
            "name": f"present: {name}",
            "op": "compaction.present",
            "cites": cites.split(),
            "in": {"tokens": tokens, "bad_token": bad_token, "now": NOW} | SETTINGS,
            "out": {"claims": found},
        }
    yield {
        "name": "present: garbage, where the policy is to raise",
        "op": "compaction.present",
        "cites": ["K-24"],
        "in": {"tokens": [own, "garbage"], "bad_token": "raise", "now": NOW} | SETTINGS,
        "error": {"type": "MalformedToken"},
        "reason": "the policy passes the token's own error on",
    }


def vectors() -> Iterator[Vector]:
    for part in (exact_and_filters, aged, floored, after_aging, marked, by_characters, when, unopened):
        yield from part()
