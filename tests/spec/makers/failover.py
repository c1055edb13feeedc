"""Chooses the vectors of failovers."""

import copy
from collections.abc import Iterator
from typing import Any

from tests.spec.makers.gate import (
    EVERY_STORE,
    PAIR,
    at,
    demand_of,
    follows,
    gone,
    leads,
    mark,
    need_of,
    says,
    shown_losses,
    shown_need,
    wants,
)
from tests.spec.twins import failover as twin
from tests.spec.twins import gate

ABOUT = (
    "Failovers. Views, news and demands are those of gate.json. Losses are [shard, origin, offset, end]. failover.judge: what is said "
    "of a demand: lost, doubt, or held with the need that is left and what was clipped. failover.follow: the same, for each `judge` "
    "among steps; `tell` is news. failover.forget: a session's frontiers after it accepted `lost`, or a `doubt` (origins, or 'any') "
    "at `store`. failover.doubt: what is left of a commit without an answer on `shard` of store 0 with these shards, in the order of "
    "their indexes, at wall_s in Unix seconds, and whether it is `raised`; `committed`: whether it was carried out, which nobody learns. "
    "failover.close: each site holds so many of the writes that `failed` numbered 1, 2, 3 under one origin; where that "
    "ends, what the site keeps, and whether it goes on under another. goes_on: it was cut off, and acknowledged so many more before "
    "it returned."
)


def verdict(demand: dict[str, Any], world: dict[str, Any]) -> dict[str, Any]:
    judged = twin.judge(demand_of(demand), world)
    if "lost" in judged:
        return {"verdict": "lost", "lost": shown_losses(judged["lost"])}
    if "doubt" in judged:
        return {"verdict": "doubt", "doubt": judged["doubt"]}
    return {"verdict": "held", "need": shown_need(judged["need"]), "clipped": shown_losses(judged["clipped"])}


def judged(given: dict[str, Any]) -> dict[str, Any]:
    return verdict(given["demand"], gate.world(given["endpoints"], given["news"]))


def followed(given: dict[str, Any]) -> dict[str, Any]:
    """Each time, what is known is worked out anew, from all that was told so far."""
    told: list[Any] = []
    said = []
    for step in given["steps"]:
        if "tell" in step:
            told.append(step["tell"])
        else:
            said.append(verdict(step["judge"], gate.world(given["endpoints"], copy.deepcopy(told))))
    return {"said": said}


def forgotten(given: dict[str, Any]) -> dict[str, Any]:
    lost = [((shard, origin), int(offset), int(end)) for shard, origin, offset, end in given.get("lost", [])]
    own, seen = (need_of(given[which].get("entries", [])) for which in ("own", "seen"))
    own, seen = twin.forget(own, seen, lost)
    marks = given["seen"].get("marks", [])
    if "doubt" in given:
        marks = twin.forget_doubt(marks, given["store"], given["doubt"], EVERY_STORE)
    parts = {"entries": shown_need(seen), "marks": shown_marks(marks)}
    return {
        "own": {"entries": shown_need(own)} if own else {},
        "seen": {name: part for name, part in parts.items() if part},
    }


def shown_marks(marks: list[Any]) -> list[Any]:
    """What is empty is left out."""
    return [[store, {name: part for name, part in mark.items() if part}] for store, mark in marks]


def in_doubt(given: dict[str, Any]) -> dict[str, Any]:
    """The mark exempts every shard but the one that was written."""
    until = given["wall_s"] + given["max_staleness_s"] + given["max_clock_skew_s"] + 1
    others = [index for index, name in enumerate(given["shards"]) if name != given["shard"]]
    return {"raised": True, "own": {}, "seen": {"marks": shown_marks([[0, {"until": str(until), "exact": others}]])}}


def closed(given: dict[str, Any]) -> dict[str, Any]:
    end = str(twin.close(given["holds"], given["failed"]))
    return {"end": end, "keeps": end, "goes_on_under_another": True}


Cases = Iterator[tuple[str, str, dict[str, Any]]]
NEW = {"shards": [0], "arrived": 100}


def verdicts() -> Cases:
    def case(news: list[Any], demand: dict[str, Any], endpoints: Any = PAIR) -> dict[str, Any]:
        return {"endpoints": endpoints, "news": news, "demand": demand}

    ended = [says("far", mark({1: (50, 50), 2: 0}, [2])), says("near", mark({1: (48, 50), 2: 0}), asked=2)]
    for offset in (48, 49, 50):
        yield f"own, at {offset} of an origin that ended at 50", "L-5 L-16", case(ended, wants(offset))
    for offset in (51, 60):
        yield f"own, at {offset} of an origin that ended at 50", "L-5", case(ended, wants(offset))
        yield f"seen, at {offset} of an origin that ended at 50", "L-9 L-16", case(ended, wants(offset, seen=True))
    yield "a write that demands what is lost", "L-5", case(ended, wants(60, at="far"))
    both = {**NEW, "own": [[0, 1, "60"]], "seen": [[0, 1, "60"]]}
    yield "seen and own", "L-9", case(ended, both)
    yield "own at 50, and seen at 60", "L-9 L-16", case(ended, {**both, "own": [[0, 1, "50"]]})
    two = [says("far", mark({1: (50, 50), 2: (7, 7), 3: 0}, [3]))]
    several = {**NEW, "own": [[0, 1, "51"], [0, 2, "7"], [0, 3, "0"]], "seen": [[0, 2, "9"]]}
    yield "exactly what is lost is named", "L-5 L-9", case(two, several)
    yield "two are lost", "L-5", case(two, {**several, "own": [[0, 1, "51"], [0, 2, "8"]]})
    yield "two are clipped", "L-9", case(two, {**NEW, "seen": [[0, 1, "51"], [0, 2, "8"], [0, 3, "0"]]})
    for asked in (100, 101):
        yield (
            f"past the head of its leader, asked by question {asked}; the request is 100",
            "L-6 L-7",
            case([leads("far", 10, asked=asked)], wants(11)),
        )
    yield "at the head of its leader", "L-6", case([leads("far", 10, asked=101)], wants(10))
    yield "seen, past the head of its leader", "L-6 L-9", case([leads("far", 10, asked=101)], wants(11, seen=True))
    yield (
        "a false loss: past the head of a site that numbers another origin",
        "L-7",
        case([says("us", mark({1: 90, 2: 40}, [2]), asked=101)], wants(100), at(us=0)),
    )
    yield "past what its follower has", "L-7", case([leads("far", 10), follows("near", 9, asked=101)], wants(11))
    yield "its leader is down", "L-7", case([leads("far", 10, asked=101), gone("far", 102)], wants(11))
    yield (
        "its leader was asked, and is it no more",
        "L-7",
        case([leads("far", 10), says("far", mark({1: 10}), asked=101)], wants(11)),
    )
    restored = says("far", mark({5: 3}, [5], life="y"), asked=101)
    yield (
        "who numbered it has been restored, and has never heard of it",
        "L-8",
        case([leads("far", 10), restored], wants(11)),
    )
    yield "nobody has heard of its origin", "L-8", case([leads("far", 10, asked=101)], wants(1, origin=99))
    other_shard = says("far", mark({1: (4, 4)}, shard=1), mark({1: 10}, [1]), asked=101)
    yield "the origin has ended on another shard", "L-5 L-7", case([other_shard], wants(10))
    asked_elsewhere = [says("far", mark({1: 10}, [1])), says("far", mark({1: 4}, [1], shard=1), asked=101)]
    yield "its leader was asked about another shard", "L-6 L-7", case(asked_elsewhere, wants(11))
    lower = [says("far", mark({1: (7, 8)})), says("near", mark({1: (7, 7)}), asked=2)]
    yield "two ends were told: the lower one counts", "L-3", case(lower, wants(8))
    yield "an end that only one has heard of", "L-3", case([leads("far", 60), ended[1]], wants(60))

    marked = {**NEW, "leader_shards": [0]}
    for name, origins in (
        ("an origin that ended", [1]),
        ("one that ended, and one that goes on", [1, 2]),
        ("one that goes on", [2]),
        ("none", []),
        ("any", "any"),
    ):
        yield f"a mark remembers {name}", "L-13", case(ended, {**marked, "mark_origins": origins})
    yield (
        "it ended on a shard that the mark does not cover",
        "L-13",
        case(
            [says("far", mark({1: (50, 50), 2: 0}, [2]), mark({1: 4}, [1], shard=1))],
            {**NEW, "leader_shards": [1], "mark_origins": [1]},
        ),
    )
    yield (
        "lost for certain, and in doubt",
        "L-13 L-5",
        case(ended, {**wants(51), "leader_shards": [0], "mark_origins": [1]}),
    )
    yield (
        "clipped, and in doubt",
        "L-13",
        case(ended, {**wants(51, seen=True), "leader_shards": [0], "mark_origins": [1]}),
    )


def stories() -> Cases:
    def story(endpoints: Any, *steps: dict[str, Any]) -> dict[str, Any]:
        return {"endpoints": endpoints, "steps": [step if "judge" in step else {"tell": step} for step in steps]}

    def asks(demand: dict[str, Any]) -> dict[str, Any]:
        return {"judge": demand}

    sites = at(eu=0, us=0.05, ap=0.1)
    at60, at50, at49 = (asks(wants(n)) for n in (60, 50, 49))
    promoted = says("ap", mark({1: (50, 50), 4: 0}, [4]), asked=5)
    before = [leads("eu", 60), follows("us", 48, asked=2), follows("ap", 50, asked=3)]
    yield (
        "the failover of the page",
        "L-3 L-5 L-7",
        story(
            sites,
            *before,
            at60,
            gone("eu", 4),
            at60,
            promoted,
            at60,
            at50,
            says("us", mark({1: (48, 50), 4: 0}), asked=6),
            at49,
            leads("eu", 60, asked=7),
            at60,
            says("eu", mark({1: (50, 50), 4: 3}, life="y"), asked=8),
            at50,
            at60,
        ),
    )
    yield (
        "a double failover: each origin has its own end",
        "L-5 L-9",
        story(
            sites,
            *before,
            promoted,
            says("ap", mark({1: (50, 50), 4: 3}, [4]), asked=6),
            says("us", mark({1: (50, 50), 4: (2, 2), 5: 0}, [5]), asked=7),
            asks({**NEW, "own": [[0, 1, "50"], [0, 4, "3"]]}),
            asks({**NEW, "own": [[0, 1, "50"], [0, 4, "2"]], "seen": [[0, 4, "3"]]}),
            asks({**NEW, "own": [[0, 1, "60"], [0, 4, "3"]]}),
            asks({**NEW, "own": [[0, 5, "0"]], "seen": [[0, 1, "60"], [0, 4, "3"]]}),
        ),
    )
    yield (
        "one lost write does not poison everyone",
        "L-9",
        story(
            PAIR,
            says("far", mark({1: 60}, [1]), mark({2: 1}, [2], shard=1)),
            says("far", mark({1: (50, 50), 3: 0}, [3]), mark({2: 1}, [2], shard=1), asked=2),
            asks({"shards": [0, 1], "arrived": 100, "seen": [[0, 1, "60"], [1, 2, "1"]]}),
            asks({"shards": [0, 1], "arrived": 100, "own": [[0, 1, "60"], [1, 2, "1"]]}),
        ),
    )
    dead = [leads("far", 10, asked=101), asks(wants(99)), asks(wants(10)), leads("far", 11, asked=102), asks(wants(11))]
    yield "an old token from a dead branch is its session's loss alone", "L-10 L-6", story(PAIR, *dead)
    yield (
        "what a session lost by a head is not lost once the head has moved on",
        "L-10",
        story(
            PAIR,
            leads("far", 10, asked=101),
            asks(wants(11, seen=True)),
            leads("far", 12, asked=102),
            asks(wants(11, seen=True)),
        ),
    )
    yield (
        "a replica restarts, and goes back",
        "L-15 L-7",
        story(
            PAIR,
            leads("far", 10),
            follows("near", 10, asked=2),
            says("near", mark({1: 4}, life="y"), asked=3),
            asks(wants(10)),
        ),
    )
    yield (
        "a leader restarts, and has forgotten under the same origin: asked since",
        "L-15 L-6",
        story(
            PAIR,
            leads("far", 10),
            asks(wants(10)),
            says("far", mark({1: 7}, [1], life="y"), asked=101),
            asks(wants(10)),
            asks(wants(7)),
        ),
    )
    yield (
        "a leader is restored, and starts a new origin",
        "L-8 L-5 L-15",
        story(
            PAIR,
            leads("far", 10),
            says("far", mark({6: 2}, [6], life="y"), asked=101),
            asks(wants(10)),
            says("far", mark({1: (7, 7), 6: 2}, [6], life="y"), asked=102),
            asks(wants(10)),
            asks(wants(7)),
        ),
    )
    yield (
        "two leaders were promoted: neither can say that the other's is lost",
        "L-8 L-7",
        story(
            PAIR,
            says("far", mark({1: (8, 8), 2: 5}, [2]), asked=101),
            asks(wants(3, origin=3)),
            says("near", mark({1: (8, 8), 3: 2}, [3]), asked=102),
            asks(wants(3, origin=3)),
            asks(wants(2, origin=3)),
        ),
    )
    folded = {**NEW, "leader_shards": [0], "mark_origins": [1]}
    yield (
        "a mark forgets no origin: the failover loses what it stands for",
        "L-13",
        story(PAIR, leads("far", 60), asks(folded), says("far", mark({1: (50, 50), 2: 0}, [2]), asked=2), asks(folded)),
    )
    yield (
        "a site that was cut off comes back",
        "L-3 L-5",
        story(
            PAIR,
            leads("far", 60),
            says("near", mark({1: (50, 50), 2: 0}, [2]), asked=2),
            leads("far", 65, asked=3),
            asks(wants(65)),
            says("far", mark({1: (50, 50), 2: 4, 7: 1}, [7], life="y"), asked=4),
            asks(wants(65)),
            asks(wants(1, origin=7)),
        ),
    )


def acceptances() -> Cases:
    own = {"entries": [[0, 1, "60"], [0, 2, "9"], [1, 1, "60"]]}
    seen = {"entries": [[0, 1, "55"], [0, 2, "12"], [1, 1, "70"]]}
    loss = [0, 1, "60", "50"]
    yield "one loss", "L-11", {"own": own, "seen": seen, "lost": [loss]}
    yield "two losses", "L-11", {"own": own, "seen": seen, "lost": [loss, [0, 2, "9", "7"]]}
    yield "nothing that is named", "L-11", {"own": own, "seen": seen, "lost": []}
    later = {"entries": [[0, 1, "61"]]}
    yield "a later write is still demanded", "L-11", {"own": later, "seen": {"entries": [[0, 1, "60"]]}, "lost": [loss]}
    yield (
        "what was seen beyond it is still demanded",
        "L-11",
        {
            "own": {"entries": [[0, 1, "60"]]},
            "seen": {"entries": [[0, 1, "61"]]},
            "lost": [loss],
        },
    )
    yield (
        "what was seen below its end stays",
        "L-11",
        {
            "own": {"entries": [[0, 1, "60"]]},
            "seen": {"entries": [[0, 1, "40"]]},
            "lost": [loss],
        },
    )
    marks = [
        [0, {"until": "2000", "exact": [3], "origins": [1, 2]}],
        [1, {"until": "2000", "exact": [], "origins": [1]}],
        [EVERY_STORE, {"until": "3000", "exact": [], "origins": [1]}],
    ]
    yield (
        "a doubt, at its store and at every store's mark",
        "L-12",
        {
            "own": {},
            "seen": {"marks": marks},
            "doubt": [1],
            "store": 0,
        },
    )
    whatever = [[0, {"until": "2000", "exact": [3], "origins": "any"}]]
    yield "any, by any", "L-12", {"own": {}, "seen": {"marks": whatever}, "doubt": "any", "store": 0}
    yield "any, by one", "L-12", {"own": {}, "seen": {"marks": whatever}, "doubt": [1], "store": 0}


def doubts() -> Cases:
    plain = {"shards": ["a", "b"], "shard": "b", "wall_s": 1000, "max_staleness_s": 900, "max_clock_skew_s": 60}
    for committed in (True, False):
        yield (
            f"no answer to a commit that was {'' if committed else 'not '}carried out",
            "L-14",
            {**plain, "committed": committed},
        )


def closings() -> Cases:
    yield "at what the most advanced survivor holds", "L-2 L-1", {"holds": {"eu": 3, "us": 1, "ap": 2}, "failed": "eu"}
    yield "somebody holds all of it", "L-2", {"holds": {"eu": 3, "us": 3, "ap": 0}, "failed": "eu"}
    yield "nobody holds any of it", "L-2 L-1", {"holds": {"eu": 2, "us": 0}, "failed": "eu"}
    yield (
        "it is cut off, goes on for two writes, and returns",
        "L-4 L-2",
        {
            "holds": {"eu": 3, "us": 1, "ap": 2},
            "failed": "eu",
            "goes_on": 2,
        },
    )


def vectors() -> Iterator[dict[str, Any]]:
    for op, cases, twins in (
        ("failover.judge", verdicts, judged),
        ("failover.follow", stories, followed),
        ("failover.forget", acceptances, forgotten),
        ("failover.doubt", doubts, in_doubt),
        ("failover.close", closings, closed),
    ):
        kind = op.partition(".")[2]
        for name, cites, given in cases():
            out = twins(copy.deepcopy(given))
            yield {"name": f"{kind}: {name}", "op": op, "cites": cites.split(), "in": given, "out": out}
