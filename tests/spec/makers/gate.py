"""Chooses the vectors of the gate."""

import copy
from collections.abc import Iterator
from typing import Any

from tests.spec.twins import gate as twin

EVERY_STORE = 65_535
NOW_S = 1000
ABOUT = (
    "The gate. Offsets and floors are decimal text, times seconds of one local clock, positions [shard, origin, offset]. A view is "
    "`endpoints` (name, latency_s; holds: its shards, if not all; serves: false of a witness) and `news`, in the order in which it "
    "came: an answer (from, asked: the number of the question, at_s: when it was sent, says: a watermark of each shard, whose origins "
    "are [origin, applied, end or null]), a failure (failed, asked, at_s, why), or an acknowledged write (acknowledged, by). A demand "
    "has shards and arrived, and where they are not empty own, seen, leader_shards, mark_origins ('any' or numbers), floor, at (the "
    "endpoint of a write), writes (the shard that it writes, if not the first of shards), wrote_ago_s. A policy leaves out what is as "
    "usual: wait_s 0.1, then 'leader', unproven 'refuse', strategy "
    "'session', token true. gate.demand: what a block on `shard` demands of the frontiers own and seen; dependencies: all shards of "
    "the store, or null where they do not travel. gate.known: what the news comes to. gate.evidence: since when each endpoint is "
    "fresh, nearest first: a time, 'never' or 'always'. gate.decide: the decision, at now_s, elapsed_s after the request arrived. "
    "gate.admits: whether a snapshot, taken at at_s, bears the decision `serve` out; since: news that came after the decision, of "
    "which only the ends count. gate.shown: what a session joins after a "
    "snapshot. gate.enter: what limits say to each of some steps: wait at an endpoint, or waited (leaves); leader (true: the session's "
    "token was opened), or left (the same). Who leaves is admitted. Seconds of answers are rounded to microseconds."
)


# --- what a vector says, for the twin, and back --------------------------------------------------------------------


def need_of(positions: list[Any]) -> dict[tuple[int, int], int]:
    return {(shard, origin): int(offset) for shard, origin, offset in positions}


def shown_need(need: dict[tuple[int, int], int]) -> list[list[Any]]:
    return [[shard, origin, str(need[shard, origin])] for shard, origin in sorted(need)]


def shown_losses(losses: list[Any]) -> list[list[Any]]:
    return [[*key, str(offset), str(end)] for key, offset, end in sorted(losses)]


def demand_of(given: dict[str, Any]) -> dict[str, Any]:
    origins = given.get("mark_origins", [])
    return {
        "own": need_of(given.get("own", [])),
        "seen": need_of(given.get("seen", [])),
        "shards": set(given["shards"]),
        "leader_shards": set(given.get("leader_shards", [])),
        "mark_origins": origins if origins == "any" else set(origins),
        "floor": int(given["floor"]) if "floor" in given else None,
        "at": given.get("at"),
        "writes": given.get("writes", given["shards"][0]),
        "arrived": given["arrived"],
        "wrote_ago_s": given.get("wrote_ago_s"),
    }


def policy_of(given: dict[str, Any]) -> dict[str, Any]:
    plain = {"wait_s": 0.1, "then": "leader", "unproven": "refuse", "strategy": "session", "token": True}
    return {**plain, "bound_s": 0, "window_s": 0, "replicas": 0, **given}


def shown_decision(answer: dict[str, Any]) -> dict[str, Any]:
    shown = {**answer}
    if "need" in shown:
        shown["need"] = shown_need(shown["need"])
    for losses in ("clipped", "lost"):
        if losses in shown:
            shown[losses] = shown_losses(shown[losses])
    for seconds in ("within_s", "for_s"):
        if shown.get(seconds) is not None:
            shown[seconds] = round(shown[seconds], 6)
    return shown


def decided(given: dict[str, Any]) -> dict[str, Any] | None:
    """The decision; None where evidence contradicts itself, of which the page says that anything may follow."""
    known, demand = twin.world(given["endpoints"], given["news"]), demand_of(given["demand"])
    if twin.contradiction(demand, twin.part(known, demand["shards"])):
        return None
    policy = policy_of(given["policy"])
    answer = twin.decide(demand, known, policy, given["elapsed_s"], given["now_s"], given["max_staleness_s"])
    return shown_decision(answer)


def judged(given: dict[str, Any]) -> dict[str, Any]:
    known, demand = twin.world(given["endpoints"], given["news"]), demand_of(given["demand"])
    serve = {**given["serve"], "need": need_of(given["serve"]["need"])}
    limit_s = given["max_staleness_s"]
    policy = policy_of(given["policy"])
    ends = twin.world(given["endpoints"], [*given["news"], *given.get("since", [])])["ends"]
    return {"admits": twin.admits(demand, known, policy, serve, given["snapshot"], given["at_s"], limit_s, ends)}


def known(given: dict[str, Any]) -> dict[str, Any]:
    """What the news comes to."""
    world = twin.world(given["endpoints"], given["news"])
    order = twin.nearest_first(world["at"].values())
    leaders = {k: who["name"] for k in world["leaders"] if (who := twin.leader(world, k)) is not None}
    return {
        "nearest_first": [e["name"] for e in order],
        "applied": {e["name"]: shown_need(e["applied"]) for e in order},
        "live": [list(k) for k in sorted(twin.live(world))],
        "ends": shown_need(world["ends"]),
        "leaders": {e["name"]: [list(k) for k in sorted(leaders) if leaders[k] == e["name"]] for e in order},
        "unusable": sorted(e["name"] for e in order if twin.down(world, e) is not None),
    }


def evidence(given: dict[str, Any]) -> dict[str, Any]:
    """Since when each is fresh."""
    world = twin.world(given["endpoints"], given["news"])
    since = {e["name"]: twin.fresh_since(world, e) for e in twin.nearest_first(world["at"].values())}
    words = {twin.NEVER: "never", twin.ALWAYS: "always"}
    return {"fresh_since_s": {name: words.get(at, at) for name, at in since.items()}}


def demanded(given: dict[str, Any]) -> dict[str, Any]:
    """What a block demands of two frontiers."""
    counts = twin.counts(given["guarantees"], given["kind"])
    made = twin.demanded(
        given["own"], given["seen"], given["store"], given["shard"], counts, given["dependencies"], EVERY_STORE
    )
    origins = made["mark_origins"]
    return {
        "need": shown_need(twin.join(made["own"], made["seen"])),
        "own": shown_need(made["own"]),
        "shards": sorted(made["shards"]),
        "leader_shards": sorted(made["leader_shards"]),
        "mark_origins": origins if origins == "any" else sorted(origins),
        "floor": None if made["floor"] is None else str(made["floor"]),
    }


def shown(given: dict[str, Any]) -> dict[str, Any]:
    """What is joined after a snapshot."""
    positions = {
        (mark["shard"], origin): min(int(applied), int(applied if end is None else end))
        for mark in given["snapshot"]
        for origin, applied, end in mark["origins"]
    }
    return {"frontier": {"entries": shown_need(positions)}}


def entered(given: dict[str, Any]) -> dict[str, Any]:
    """Which steps the limits admit."""
    limits = given["limits"]
    inside: dict[Any, int] = {}
    said = []
    for step in given["steps"]:
        if "wait" in step or "waited" in step:
            endpoint, subject = step.get("wait", step.get("waited")), step["subject"]
            bounds = {("at", endpoint): limits["waiters_per_endpoint"]}
            if subject is not None:
                bounds["of", endpoint, subject] = limits["waiters_per_subject"]
        else:
            kind = "leader_reads" if step.get("leader", step.get("left")) else "unauthenticated"
            bounds = {kind: limits[kind]}
        leaves = "waited" in step or "left" in step
        full = not leaves and any(inside.get(place, 0) >= most for place, most in bounds.items())
        said.append("Overloaded" if full else "admitted")
        for place in bounds:
            inside[place] = inside.get(place, 0) + (0 if full else -1 if leaves else 1)
    return {"said": said}


# --- what the vectors are made of ------------------------------------------------------------------------------------


def mark(origins: dict[int, Any], leads: list[int] | None = None, *, shard: int = 0, life: str = "x") -> dict[str, Any]:
    """A watermark; of an origin, how far it is applied, or that and its end."""
    places = [[o, *(str(n) for n in (p if isinstance(p, tuple) else (p,)))] for o, p in sorted(origins.items())]
    shown = [place if len(place) == 3 else [*place, None] for place in places]
    return {"shard": shard, "origins": shown, "leads": leads or [], "life": life}


def says(name: str, *marks: dict[str, Any], asked: int = 1, at_s: float = NOW_S - 10) -> dict[str, Any]:
    return {"from": name, "asked": asked, "at_s": at_s, "says": list(marks)}


def leads(name: str, offset: int, **more: Any) -> dict[str, Any]:
    """Somebody numbers origin 1, and is at `offset`."""
    return says(name, mark({1: offset}, [1]), **more)


def follows(name: str, offset: int, **more: Any) -> dict[str, Any]:
    return says(name, mark({1: offset}), **more)


def gone(name: str, asked: int = 2, at_s: float = NOW_S - 0.5) -> dict[str, Any]:
    return {"failed": name, "asked": asked, "at_s": at_s, "why": "no answer"}


def at(**latencies: float) -> list[dict[str, Any]]:
    return [{"name": name, "latency_s": latency_s} for name, latency_s in latencies.items()]


PAIR = at(far=0.05, near=0)
TRIO = at(far=0.05, near=0, mid=0.01)
SITES = at(eu=0.05, us=0)
OLD = {"at_s": NOW_S - 901}
EU = mark({1: 10, 2: 4}, [1])
US = mark({1: 9, 2: 5}, [2])
LEADER = {"strategy": "leader"}


def wants(offset: int | None = None, *, seen: bool = False, origin: int = 1, **more: Any) -> dict[str, Any]:
    position = [] if offset is None else [[0, origin, str(offset)]]
    named: dict[str, Any] = {("seen" if seen else "own"): position} if position else {}
    return {"shards": [0], "arrived": 100, **named, **more}


MARKED = wants(leader_shards=[0])


def case(
    endpoints: Any, news: list[Any], demand: Any = None, policy: Any = None, elapsed_s: float = 0, stale_s: float = 900
) -> dict[str, Any]:
    return {
        "endpoints": endpoints,
        "news": news,
        "demand": demand or wants(),
        "policy": policy or {},
        "elapsed_s": elapsed_s,
        "now_s": NOW_S,
        "max_staleness_s": stale_s,
    }


Cases = Iterator[tuple[str, str, dict[str, Any]]]


def demands() -> Cases:
    """Name, numbers, given."""
    ryw, mr, mw, wfr = "read_your_writes", "monotonic_reads", "monotonic_writes", "writes_follow_reads"
    plain = {"store": 0, "shard": 0, "kind": "read", "guarantees": [ryw, mr, mw, wfr], "dependencies": None}
    own = {"entries": [[0, 1, "5"], [1, 1, "8"]]}
    seen = {"entries": [[0, 1, "4"], [0, 2, "3"], [1, 1, "9"]]}
    yield "only the block's shard, where dependencies do not travel", "G-1", {**plain, "own": own, "seen": seen}
    whole = {**plain, "own": own, "seen": seen, "dependencies": [0, 1]}
    yield "effects without causes in one block: the whole frontier counts, where dependencies travel", "G-1", whole
    for kind in ("read", "write"):
        for promised in ([], [ryw], [mr], [mw], [wfr], [ryw, mw], [mr, wfr]):
            name = f"a {kind}, where {' and '.join(promised).replace('_', ' ') or 'nothing'} is promised"
            yield name, "G-3", {**whole, "kind": kind, "guarantees": promised}
    foreign = {"entries": [[0, 1, "5"], [65536, 1, "7"]], "floors": [[1, "9"]]}
    yield "another store's positions and floor", "G-2", {**plain, "own": {"entries": []}, "seen": foreign}
    both = {**plain, "own": {"entries": [[65536, 1, "6"]]}, "seen": foreign, "dependencies": [0, 1]}
    yield "another store's positions, where whole frontiers count", "G-2", both
    yield (
        "the same seen from the other store",
        "G-2 G-5",
        {
            **plain,
            "store": 1,
            "shard": 65536,
            "own": {},
            "seen": foreign,
        },
    )
    for name, number in (
        ("a mark of the store", 0),
        ("a mark of every store", EVERY_STORE),
        ("a mark of another store", 1),
    ):
        marks = {"marks": [[number, {"until": "2000", "exact": [1], "origins": [3]}]]}
        yield name, "G-4" if number != 1 else "G-4 G-2", {**plain, "own": {}, "seen": marks, "dependencies": [0, 1, 2]}
    exempt = {"marks": [[0, {"until": "2000", "exact": [0], "origins": []}]]}
    yield "a mark that exempts the block's shard", "G-4", {**plain, "own": {}, "seen": exempt}
    two = [
        [0, {"until": "2000", "exact": [0], "origins": [3]}],
        [EVERY_STORE, {"until": "3000", "exact": [1], "origins": "any"}],
    ]
    yield (
        "two marks, each of which exempts another shard",
        "G-4",
        {
            **plain,
            "own": {},
            "seen": {"marks": two},
            "dependencies": [0, 1],
        },
    )
    yield (
        "a mark where nothing counts",
        "G-3 G-4",
        {
            **plain,
            "own": {},
            "seen": {"marks": two},
        },
    )
    floor = {"floors": [[0, "70"]]}
    yield "a floor", "G-5", {**plain, "own": {}, "seen": floor}
    yield "a floor where seen does not count", "G-3", {**plain, "own": {}, "seen": floor, "guarantees": [ryw]}


def views() -> Cases:
    def view(endpoints: Any, *news: Any) -> dict[str, Any]:
        return {"endpoints": endpoints, "news": list(news)}

    far = leads("far", 10)
    yield (
        "a server restarts behind what it said",
        "G-7",
        view(PAIR, far, follows("near", 9, asked=2), says("near", mark({1: 3}, life="y"), asked=3)),
    )
    yield (
        "an answer of a life that is over arrives late",
        "G-7",
        view(PAIR, far, says("near", mark({1: 3}, life="y"), asked=3), follows("near", 9, asked=2)),
    )
    yield (
        "one shard's new life says nothing of a shard with a life of its own",
        "G-7",
        view(
            PAIR,
            says("near", mark({1: 9}), mark({1: 7}, shard=1, life="z"), asked=2),
            says("near", mark({1: 3}, life="y"), asked=3),
        ),
    )
    yield (
        "one life of a whole server: its other shard is forgotten, too",
        "G-7",
        view(
            PAIR,
            says("near", mark({1: 9}), mark({1: 7}, shard=1), asked=2),
            says("near", mark({1: 3}, life="y"), asked=3),
        ),
    )
    yield (
        "answers of one life in the wrong order",
        "G-8",
        view(PAIR, far, follows("near", 9, asked=3), follows("near", 7, asked=2)),
    )
    handed = says("far", mark({1: 10}), asked=5)
    yield "leadership was laid down, and nobody has taken it up", "G-9", view(PAIR, far, handed)
    yield "a late answer does not take it up again", "G-8", view(PAIR, far, handed, leads("far", 10, asked=4))
    yield "leadership is handed on", "G-9", view(PAIR, far, handed, leads("near", 10, asked=6))
    rivals = [leads("far", 10), leads("near", 10, asked=2)]
    yield "who said so last is down: the other is no leader for that", "G-9", view(PAIR, *rivals, gone("near", asked=3))
    yield "and is, once it says so again", "G-9", view(PAIR, *rivals, gone("near", asked=3), leads("far", 10, asked=4))
    past = [says("far", mark({1: 9, 2: 5}, [2])), says("near", mark({1: (8, 8), 2: 0}), asked=2)]
    yield "who is past an end leads nothing, of whatever origin", "G-11", view(PAIR, *past)
    nothing = says("near", mark({}, life="y"), asked=3)
    yield "of a life that is over, what had a leader is live", "G-12", view(PAIR, leads("near", 9, asked=2), nothing)
    yield "and what had none is not", "G-12", view(PAIR, follows("near", 9, asked=2), nothing)
    yield (
        "a late answer does not give leadership back",
        "G-8 G-9",
        view(PAIR, far, handed, leads("near", 10, asked=6), leads("far", 10, asked=4)),
    )
    yield (
        "of two that say so, the one asked later is the leader",
        "G-9",
        view(PAIR, leads("far", 10, asked=5), leads("near", 10, asked=4)),
    )
    yield (
        "the same, when the later answer comes second",
        "G-9",
        view(PAIR, leads("near", 10, asked=4), leads("far", 10, asked=5)),
    )
    yield "a leader that is down numbers nothing, and its origin is live", "G-9 G-12", view(PAIR, far, gone("far"))
    yield "two sites, each numbers an origin", "G-9 G-12", view(SITES, says("eu", EU), says("us", US, asked=2))
    ended = says("near", mark({1: (8, 8), 2: 0}, [2]), asked=2)
    yield (
        "an end is believed, and not unlearned",
        "G-10 G-11",
        view(PAIR, far, ended, leads("far", 10, asked=3, at_s=NOW_S - 5)),
    )
    yield (
        "the lowest of two ends",
        "G-10",
        view(
            PAIR,
            says("far", mark({1: (7, 8)})),
            says("near", mark({1: (6, 7)}), asked=2),
            says("far", mark({1: (7, 8)}), asked=3),
        ),
    )
    yield (
        "the lowest of two ends, whoever is heard first",
        "G-10",
        view(PAIR, says("near", mark({1: (6, 7)})), says("far", mark({1: (7, 8)}), asked=2)),
    )
    yield "who is at the end is not past it", "G-11", view(PAIR, follows("far", 8), ended)
    yield (
        "an origin that only a follower has heard of is live",
        "G-12",
        view(PAIR, far, says("near", mark({1: 10, 3: 5}), asked=2)),
    )
    yield (
        "an acknowledged write, where it was numbered",
        "G-13",
        view(PAIR, far, follows("near", 10, asked=2), {"acknowledged": [0, 1, "11"], "by": "far"}),
    )
    yield (
        "nobody else is credited with a write",
        "G-13",
        view(PAIR, far, follows("near", 10, asked=2), {"acknowledged": [0, 1, "11"], "by": "near"}),
    )
    yield (
        "a deposed leader acknowledges past the end",
        "G-11 G-13",
        view(PAIR, leads("far", 8), ended, {"acknowledged": [0, 1, "9"], "by": "far"}),
    )


def freshness() -> Cases:
    def view(endpoints: Any, *news: Any) -> dict[str, Any]:
        return {"endpoints": endpoints, "news": list(news)}

    yield "nobody was asked", "G-16", view(PAIR)
    samples = [leads("far", 10, at_s=100), leads("far", 20, asked=2, at_s=200), leads("far", 30, asked=3, at_s=300)]
    for offset in (9, 10, 19, 20, 30):
        yield (
            f"heads 10, 20 and 30; a follower at {offset}",
            "G-14 G-16",
            view(PAIR, *samples, follows("near", offset, asked=4, at_s=400)),
        )
    yield (
        "the same head, asked again",
        "G-14",
        view(PAIR, follows("near", 10), leads("far", 10, asked=2, at_s=200), leads("far", 10, asked=3, at_s=300)),
    )
    yield (
        "a late head is no news",
        "G-14",
        view(
            PAIR, leads("far", 20, asked=3, at_s=300), leads("far", 10, asked=2, at_s=200), follows("near", 15, asked=4)
        ),
    )
    late = [
        leads("near", 20, asked=3, at_s=300),
        leads("far", 10, asked=2, at_s=200),
        follows("mid", 15, asked=4, at_s=400),
    ]
    yield "a late head of another who said that it numbers the origin", "G-14", view(TRIO, *late)
    yield (
        "an empty origin is applied by who has never heard of it",
        "G-14",
        view(PAIR, says("far", mark({1: 0}, [1]), at_s=100), says("near", mark({}), asked=2, at_s=200)),
    )
    yield (
        "several writing sites are as fresh as the oldest origin",
        "G-14 G-16",
        view(
            SITES,
            says("eu", mark({1: 10, 2: 5}, [1]), at_s=100),
            says("us", mark({1: 10, 2: 5}, [2]), asked=2, at_s=200),
        ),
    )
    yield "each site lacks something of the other", "G-14", view(SITES, says("eu", EU), says("us", US, asked=2))
    yield (
        "an origin that a replica has not heard of counts against it",
        "G-14",
        view(PAIR, says("far", mark({1: 10, 3: 50}, [1, 3]), at_s=100), follows("near", 10, asked=2)),
    )
    yield (
        "nobody numbers an origin: nobody is fresh",
        "G-14",
        view(PAIR, follows("far", 10), follows("near", 10, asked=2)),
    )
    yield (
        "a demoted leader that can still be asked shows nobody to be fresh, once its successor was heard of",
        "G-14 G-10",
        view(
            TRIO,
            leads("far", 8, at_s=100),
            follows("near", 8, asked=2, at_s=200),
            says("mid", mark({1: (8, 8), 2: 5}, [2]), asked=3, at_s=300),
            leads("far", 8, asked=4, at_s=400),
        ),
    )
    over = [leads("far", 8, at_s=100), says("near", mark({1: (8, 8)}), asked=2, at_s=200)]
    yield "who was succeeded numbers nothing: it is as fresh as its newest question", "G-10 G-16", view(PAIR, *over)
    before = [says("far", mark({3: 100}, [3]), at_s=100), says("near", mark({3: 100}), asked=2, at_s=200)]
    closed = says("far", mark({3: (110, 110), 4: 0}, [4]), asked=3, at_s=300)
    for offset in (100, 109, 110):
        yield (
            f"an ended origin counts until its 110 are applied: at {offset}",
            "G-15",
            view(PAIR, *before, closed, says("near", mark({3: (offset, 110), 4: 0}), asked=4, at_s=400)),
        )
    yield (
        "all that is known has ended and is applied",
        "G-16",
        view(PAIR, says("near", mark({3: (110, 110)}), at_s=100), says("far", mark({3: (90, 110)}), asked=2, at_s=200)),
    )
    yield (
        "a new life has shown nothing yet",
        "G-7 G-14",
        view(PAIR, *samples, follows("near", 30, asked=4), says("near", mark({1: 3}, life="y"), asked=5)),
    )
    yield (
        "a clone that holds nothing of another shard",
        "G-18",
        view(
            [{"name": "far", "latency_s": 0.05}, {"name": "near", "latency_s": 0, "holds": [0]}],
            says("far", mark({1: 10}, [1]), mark({2: 7}, [2], shard=1), at_s=100),
            follows("near", 10, asked=2, at_s=200),
        ),
    )


def choices() -> Cases:
    """In the order of the table."""
    far, near = leads("far", 10), follows("near", 10, asked=2)
    behind = follows("near", 10, asked=101)
    error, stale, serve = {"then": "error"}, {"then": "stale"}, {"unproven": "serve"}
    eventual, window = {"strategy": "eventual"}, {"strategy": "leader_window", "window_s": 5}
    bounded = {"strategy": "bounded", "bound_s": 1}
    quorum = {"strategy": "quorum", "replicas": 2}

    yield (
        "eventual: the nearest, whatever it lacks",
        "G-26",
        case(PAIR, [far, follows("near", 0, asked=2)], wants(10), eventual),
    )
    yield "eventual: not one that is down", "G-26", case(PAIR, [far, near, gone("near", 3)], wants(10), eventual)
    yield "eventual: nobody answers", "G-26", case(PAIR, [gone("far", 101), gone("near", 102)], wants(10), eventual)
    for ago_s in (0, 4.5, 5):
        yield (
            f"a window of 5 s, {ago_s} s after the write",
            "G-27",
            case(PAIR, [far, follows("near", 3, asked=2)], wants(10, wrote_ago_s=ago_s), window),
        )
    yield "a window, and nothing was written", "G-27", case(PAIR, [far, follows("near", 3, asked=2)], wants(10), window)
    each = [says("far", mark({1: 10, 2: 4}, [1])), says("near", mark({1: 3, 2: 4}, [2]), asked=2)]
    yield (
        "a window: who numbers another origin, and is nearer, is not who numbers what was written",
        "G-27",
        case(PAIR, each, wants(10, wrote_ago_s=0), window),
    )
    sites = [says("eu", mark({1: 10, 2: 4}, [1]), at_s=970), says("us", mark({1: 10, 2: 4}, [2]), asked=2, at_s=970)]
    yield "bounded: nobody is shown to be fresh enough", "G-29", case(SITES, sites, wants(), bounded)
    yield (
        "bounded: the nearest within the bound, whatever is demanded",
        "G-28",
        case(SITES, sites, wants(99), {**bounded, "bound_s": 30}),
    )
    yield "bounded: one second less", "G-28", case(SITES, sites, wants(), {**bounded, "bound_s": 29})
    yield (
        "bounded: no bound is wider than max_staleness",
        "G-28",
        case(PAIR, [leads("far", 10, at_s=0), gone("far"), near], wants(), {**bounded, "bound_s": 2000}),
    )
    behind_source = [leads("source", 10, at_s=900), follows("index", 9, asked=2, at_s=900)]
    yield (
        "bounded: a witness is asked, too",
        "G-29",
        case([{"name": "source", "latency_s": 0.05, "serves": False}, *at(index=0)], behind_source, wants(), bounded),
    )
    asked = [leads("far", 10), leads("far", 12, asked=101, at_s=NOW_S), follows("near", 10, asked=102, at_s=NOW_S)]
    yield "bounded: once all were asked, on the newest heads", "G-29", case(PAIR, asked, wants(), bounded)
    lax = {**bounded, "unproven": "serve"}
    yield (
        "bounded, not proven: the newest head is waited for",
        "G-29",
        case(PAIR, [*asked, gone("far", 103)], wants(), lax),
    )
    yield (
        "bounded: its leader is gone, nobody can show it",
        "G-28 G-29",
        case(SITES, [*sites, gone("eu", 101), says("us", mark({1: 10, 2: 4}, [2]), asked=102)], wants(), bounded),
    )
    ended = [says("far", mark({1: (8, 8), 2: 0}, [2])), says("near", mark({1: (8, 8), 2: 0}), asked=2)]
    for name, policy, more in (
        ("a read", {}, {}),
        ("a read that may be stale", stale, {}),
        ("a read at the leader", LEADER, {}),
        ("a quorum read", {**quorum, "token": False}, {}),
        ("a write", {}, {"at": "far"}),
    ):
        yield f"an own position past its end is lost: {name}", "G-30", case(PAIR, ended, wants(9, **more), policy)
    yield "an own position at its end is not", "G-30 G-39", case(PAIR, ended, wants(8))
    yield "what promises nothing is not told of a loss", "G-26", case(PAIR, ended, wants(9), eventual)
    doubted = wants(leader_shards=[0], mark_origins=[1, 2])
    yield "a mark remembers an origin that has ended", "G-31", case(PAIR, ended, doubted)
    yield (
        "a mark remembers one that goes on",
        "G-31",
        case(
            PAIR, [*ended, says("near", mark({1: (8, 8), 2: 0}), asked=101)], wants(leader_shards=[0], mark_origins=[2])
        ),
    )
    three = [far, near, follows("mid", 12, asked=3)]
    yield "a quorum of more than there are", "G-32", case(PAIR, [far, near], wants(), {**quorum, "replicas": 3})
    yield "a quorum asks its nearest", "G-33", case(TRIO, three, wants(), quorum)
    fresh = [leads("far", 12, asked=3), follows("near", 10, asked=101), follows("mid", 12, asked=102)]
    yield "a quorum goes on at who has what all of them have", "G-33", case(TRIO, fresh, wants(), quorum)
    yield "a quorum with the token", "G-33", case(TRIO, fresh, wants(13), quorum)
    yield "a quorum without the token", "G-33", case(TRIO, fresh, wants(13), {**quorum, "token": False})
    floored = wants(13, floor="14")
    yield "a quorum without the token, and a floor", "G-33", case(TRIO, fresh, floored, {**quorum, "token": False})
    beside = [
        says("far", mark({1: 12}, [1]), mark({4: 9}, [4], shard=1), asked=3),
        says("near", mark({1: 10}), mark({4: 7}, shard=1), asked=101),
        says("mid", mark({1: 10}), mark({4: 8}, shard=1), asked=102),
    ]
    yield "a quorum: what is applied of other shards is not needed", "G-33", case(TRIO, beside, wants(), quorum)
    elsewhere = [says("far", mark({1: 10}, [1]), mark({7: 3}, shard=1)), says("near", mark({1: 10}), asked=101)]
    recalls = wants(leader_shards=[0], mark_origins=[7])
    yield "a mark remembers an origin that is told of on another shard", "G-37", case(PAIR, elsewhere, recalls)
    ended_there = [
        says("far", mark({1: 10}, [1]), mark({7: (3, 3), 5: 2}, [5], shard=1), asked=101),
        says("near", mark({1: 10}), mark({7: (3, 3), 5: 2}, shard=1), asked=102),
    ]
    yield "a mark remembers an origin that has ended on another shard", "G-37", case(PAIR, ended_there, recalls)
    folded = says("near", mark({1: 105, 3: (103, 103)}, [1]))
    for floor in (104, 105, 106):
        yield (
            f"a floor of {floor}, where 105 are applied, and an end at 103",
            "G-5 G-39",
            case(at(near=0), [folded], wants(floor=str(floor)), {"then": "error"}, elapsed_s=1),
        )
    yield (
        "a floor over an origin that only another has heard of",
        "G-5",
        case(
            PAIR,
            [says("far", mark({1: 105, 2: 90}, [1, 2])), says("near", mark({1: 105}), asked=101)],
            wants(floor="80"),
            serve,
        ),
    )
    for name, offset in (("is behind", 79), ("is not", 80)):
        both_shards = says("near", mark({1: 105}, [1]), mark({4: offset}, [4], shard=1))
        yield (
            f"a floor counts on every shard of the store: where another shard {name}",
            "G-5",
            case(at(near=0), [both_shards], wants(floor="80"), {"then": "error"}, elapsed_s=1),
        )
    stores = says("near", mark({1: 105}, [1]), mark({4: 79}, [4], shard=65_536))
    yield "a floor does not count on another store", "G-5", case(at(near=0), [stores], wants(floor="80"))
    yield (
        "a floor counts where shards are read at leaders, too",
        "G-5 G-35",
        case(at(near=0), [folded], wants(leader_shards=[0], floor="105")),
    )

    yield "a leader read goes unasked to who numbers everything", "G-35", case(PAIR, [far, near], wants(), LEADER)
    yield "a mark asks everybody else", "G-34", case(PAIR, [far, near], MARKED)
    yield (
        "a mark, once everybody else was asked",
        "G-34 G-35",
        case(PAIR, [far, follows("near", 10, asked=101)], MARKED),
    )
    rival = says("near", mark({1: 10, 2: 1}, [2]), asked=101)
    yield "a mark, and somebody numbers what was not known", "G-34 G-36", case(PAIR, [far, rival], MARKED)
    yield "a mark, and both heads are known", "G-36", case(PAIR, [far, rival, leads("far", 10, asked=102)], MARKED)
    yield (
        "who numbers everything was asked since: its head is the need",
        "G-35",
        case(PAIR, [leads("far", 10, asked=101), near], wants(), LEADER),
    )
    yield "who was never asked may number something", "G-35 G-36", case(PAIR, [far], wants(), LEADER)
    yield (
        "a write under a mark is to know the heads that it depends on",
        "G-35 G-36",
        case(PAIR, [far, follows("near", 10, asked=101)], {**MARKED, "at": "far"}),
    )
    witness = [{"name": "source", "latency_s": 0.05, "serves": False}, {"name": "index", "latency_s": 0}]
    derived = [leads("source", 10), follows("index", 10, asked=2)]
    yield (
        "a witness that numbers everything is asked, and not read",
        "G-35 G-36",
        case(witness, derived, wants(), LEADER),
    )
    yield (
        "the copy that has a witness's head is read",
        "G-36",
        case(witness, [leads("source", 10, asked=101), follows("index", 10, asked=102)], wants(), LEADER),
    )
    yield (
        "two sites: each one's head is asked",
        "G-36",
        case(SITES, [says("eu", EU), says("us", US, asked=2)], wants(), LEADER),
    )
    heads = [says("eu", EU, asked=101), says("us", US, asked=102)]
    yield "two sites: nobody has both heads yet", "G-36", case(SITES, heads, wants(), LEADER)
    both = says("eu", mark({1: 10, 2: 5}, [1]), asked=103)
    yield "two sites: one has both", "G-36", case(SITES, [*heads, both], wants(), LEADER)
    yield (
        "two sites: one has both, and heads show more than that it is fresh",
        "G-36 G-17",
        case(SITES, [*heads, both], wants(), LEADER, stale_s=5),
    )
    yield "two sites under a mark", "G-36", case(SITES, [*heads, both], MARKED)
    third = [says("eu", EU), says("us", US, asked=2), says("mid", mark({1: 10, 2: 5}), asked=3)]
    sites3 = at(eu=0.05, us=0, mid=0.01)
    yield "two sites, and one that numbers nothing is not asked", "G-36", case(sites3, third, wants(), LEADER)
    yield "two sites under a mark: who numbers nothing is asked, too", "G-36 G-34", case(sites3, third, MARKED)
    yield (
        "what an ended origin left behind is needed at the leader, too",
        "G-36 G-39",
        case(
            PAIR,
            [
                says("far", mark({1: 10, 3: (110, 110)}), asked=101),
                says("near", mark({1: 10, 3: (100, 110)}, [1]), asked=102),
            ],
            wants(),
            LEADER,
        ),
    )
    recalls = wants(leader_shards=[0], mark_origins=[9])
    yield "a mark remembers an origin that nobody has told of: they are asked", "G-36", case(PAIR, [far, near], recalls)
    yield "and nobody knows it", "G-37", case(PAIR, [leads("far", 10, asked=101), behind], recalls)
    alone = [*heads, gone("eu", 103)]
    yield "the only one who could tell a head is down", "G-38", case(SITES, alone, wants(), LEADER)
    yield "and an answer is wanted all the same", "G-38", case(SITES, alone, wants(), {**LEADER, **serve})
    gone_leader = [
        says("near", mark({1: 10, 2: 5}), mark({5: 7}, shard=1), asked=103),
        says("far", mark({1: 10, 2: 5}, [1]), mark({5: 6}, shard=1), asked=101),
        says("mid", mark({1: 10, 2: 5}, [2]), mark({5: 6}, shard=1), asked=102),
    ]
    led = says("last", mark({1: 10, 2: 5}), mark({5: 7}, [5], shard=1), at_s=NOW_S - 500)
    four = at(far=0.05, near=0, mid=0.01, last=0.1)
    for name, stale_s in (("who is not fresh on the other is not eligible", 100), ("fresh enough on both", 600)):
        yield (
            f"one of two shards is read at leaders: {name}",
            "G-17 G-39",
            case(
                four,
                [led, *gone_leader, gone("last", 104)],
                {"shards": [0, 1], "arrived": 100, "seen": [[1, 5, "3"]], "leader_shards": [0]},
                {"wait_s": 0, **error},
                stale_s=stale_s,
            ),
        )
    two_shards = wants(leader_shards=[1], shards=[0])
    yield (
        "heads of one shard show nothing of another",
        "G-35 G-39",
        case(
            PAIR,
            [
                says("far", mark({1: 20}, [1]), mark({2: 5}, shard=1), **OLD),
                says("near", mark({1: 10}), mark({2: 5}, [2], shard=1), asked=101),
            ],
            two_shards,
        ),
    )

    yield (
        "the only leader of the marked shard is stale on the block's own",
        "G-35",
        case(
            PAIR,
            [
                says("near", mark({1: 10}), mark({2: 5}, [2], shard=1)),
                says("far", mark({1: 20}, [1]), mark({2: 5}, shard=1), asked=101),
            ],
            two_shards,
        ),
    )

    yield "nothing is demanded", "G-39", case(PAIR, [far, near])
    yield (
        "the nearest that is known to cover costs no question",
        "G-39",
        case(
            TRIO,
            [
                leads("far", 9, at_s=980),
                leads("far", 10, asked=2),
                follows("near", 9, asked=3),
                follows("mid", 10, asked=4),
            ],
            wants(10),
        ),
    )
    yield (
        "one that covers, and is down",
        "G-39",
        case(TRIO, [far, near, gone("near", 3), follows("mid", 10, asked=4)], wants(10)),
    )
    yield "a seen position that is lost is cut to the end", "G-39", case(PAIR, ended, wants(60, seen=True))
    past = [says("far", mark({1: (8, 8), 2: 0}, [2])), follows("near", 9, asked=101)]
    yield "a replica that is past an end is nowhere sent to", "G-11 G-39", case(PAIR, past)
    yield "nor where freshness is not asked for", "G-11", case(PAIR, past, wants(), serve)
    eu90 = [says("us", mark({1: 90, 2: 40}, [2]), asked=101)]
    yield (
        "multi-writer: behind what another site numbers is not lost",
        "G-9 G-43",
        case(at(us=0), eu90, wants(100), serve),
    )
    ended110 = [says("far", mark({3: (110, 110), 4: 0}, [4])), says("near", mark({3: (100, 110), 4: 0}), asked=101)]
    yield (
        "ended is not applied: 105 of an origin closed at 110, where 100 are applied",
        "G-43",
        case(PAIR, ended110, wants(105, origin=3), serve),
    )
    yield (
        "the same, where all 110 are applied",
        "G-39",
        case(PAIR, [ended110[0], says("near", mark({3: (110, 110), 4: 0}), asked=101)], wants(105, origin=3), serve),
    )
    yield (
        "an unknown origin is never served",
        "G-47",
        case(PAIR, [leads("far", 10, asked=101), behind], wants(1, origin=99), {}, 1),
    )

    wrote = [leads("far", 11), follows("near", 10, asked=2)]
    yield (
        "the leader of what is needed is spared: the nearest is asked first",
        "G-40 G-41",
        case(PAIR, wrote, wants(11)),
    )
    yield "then waited for", "G-40 G-43", case(PAIR, [wrote[0], behind], wants(11))
    yield "and read once the time is over", "G-40", case(PAIR, [wrote[0], behind], wants(11), {}, 0.125)
    yield "unless the policy sends nobody there", "G-47", case(PAIR, [wrote[0], behind], wants(11), error, 0.125)
    third = at(far=0.01, near=0, mid=0.05)
    covers = [wrote[0], behind, says("mid", mark({1: 11}), asked=3)]
    yield "a leader is spared where somebody farther away covers", "G-40", case(third, covers, wants(11), serve)
    yield "a leader that is the nearest is not spared", "G-40", case(at(far=0, near=0.05), wrote, wants(11))
    other = says("mid", mark({1: 11, 2: 5}, [2]), asked=3)
    yield (
        "who numbers only what nobody needs is a replica",
        "G-40",
        case(TRIO, [wrote[0], behind, other], wants(11), serve),
    )
    yield (
        "an answer is waited for half the time where another may get there",
        "G-41",
        case(TRIO, [leads("far", 12), near, follows("mid", 11, asked=3)], wants(12), {**error, **serve}, 0.025),
    )
    yield "for as long as is left where another falls back", "G-41", case(PAIR, [far, near], wants(12), {}, 0.025)
    yield (
        "for as long as it takes where all hangs on it",
        "G-41",
        case(PAIR, [far, near, gone("far", 3)], wants(12), error),
    )
    old = [leads("far", 10, **OLD), follows("near", 10, asked=101)]
    yield "nothing shows a replica to be fresh: ask whose head could", "G-17 G-39 G-42", case(PAIR, old)
    edge = [leads("far", 10, at_s=NOW_S - 900), follows("near", 10, asked=101)]
    yield "fresh since exactly max_staleness ago", "G-17", case(PAIR, edge)
    yield "unproven is served by policy", "G-17", case(PAIR, old, wants(), serve)
    yield "and nobody can show it any more", "G-17 G-47", case(PAIR, [*old, gone("far", 102)], wants())
    heir = [
        says("near", mark({1: 10, 2: 5}), asked=101),
        follows("mid", 10),
        says("far", mark({1: 10, 2: 5}, [1]), asked=2),
    ]
    yield "who took over an origin is looked for everywhere", "G-42", case(TRIO, heir, wants(10))
    moving = [leads("far", 25), follows("near", 10, asked=101, at_s=990), follows("near", 20, asked=102, at_s=991)]
    yield "10 a second, and 6 to go in 0.75 s", "G-43", case(PAIR, moving, wants(26), {"wait_s": 0.75})
    yield "10 a second, and 6 to go in 0.5 s", "G-43 G-46", case(PAIR, moving, wants(26), {"wait_s": 0.5})
    heads = [leads("far", 10, at_s=100), leads("far", 20, asked=2, at_s=200), leads("far", 30, asked=3, at_s=300)]
    for name, most_s in (("two of three heads are recent enough", 850), ("one is", 750)):
        yield (
            f"who is not eligible is waited for until it has the lowest recent head: {name}",
            "G-43",
            case(
                PAIR, [*heads, gone("far", 102), follows("near", 9, asked=101)], wants(), {"then": "stale"}, 0, most_s
            ),
        )
    tail = [
        says("far", mark({1: 12, 3: (110, 110)}, [1]), asked=101),
        says("near", mark({1: 10, 3: (100, 110)}), asked=102),
    ]
    yield "and until it has what an ended origin left behind", "G-43", case(PAIR, tail, wants(5))
    current = says("near", mark({1: 12, 3: (100, 110)}), asked=102)
    yield "for that alone, where it has the heads", "G-43", case(PAIR, [tail[0], current], wants(5))
    still = [leads("far", 20), follows("near", 10, asked=101), follows("near", 10, asked=102, at_s=995)]
    yield "who does not move is not waited for", "G-43 G-46", case(PAIR, still, wants(21))
    level = at(far=0.05, a=0, b=0)
    both_behind = [leads("far", 25)] + [
        follows(name, n, asked=101 + i, at_s=t) for i, (name, n, t) in enumerate([("a", 10, 990), ("b", 10, 990)])
    ]
    yield (
        "of two equally near, the one unheard for longer is waited for",
        "G-43",
        case(level, [*both_behind[:2], follows("b", 10, asked=102, at_s=989)], wants(26), {"wait_s": 0.5}),
    )
    yield (
        "of two equally near, the other is asked before any is waited for",
        "G-41",
        case(level, [leads("far", 25), follows("a", 10, asked=101), follows("b", 10, asked=2)], wants(26)),
    )
    yield (
        "one that numbers what is needed, equally near, is not asked before another is waited for",
        "G-43",
        case(at(a=0, b=0), [leads("b", 25), follows("a", 10, asked=101)], wants(26)),
    )
    quiet = says("near", mark({1: (10, 10)}), asked=101, at_s=NOW_S - 901)
    yield (
        "who lacks nothing of all that could show it to be fresh is not waited for",
        "G-42 G-47",
        case(at(near=0), [quiet], wants(10), error),
    )
    yield "then=stale, when the time is over", "G-44", case(PAIR, [far, behind], wants(12), stale, 0.125)
    yield "then=stale, while time is left", "G-43", case(PAIR, [far, behind], wants(12), stale)
    cut = [says("far", mark({1: (12, 12), 2: 0}, [2])), says("near", mark({1: (10, 12), 2: 0}), asked=101)]
    seen = wants(60, seen=True)
    yield "then=stale: nothing is needed, and nothing was cut", "G-44", case(PAIR, cut, seen, stale, 0.125)
    yield "then=error, when the time is over", "G-47", case(PAIR, [far, behind], wants(12), error, 0.125)
    yield "the leader covers by construction", "G-45", case(PAIR, [far, behind], wants(12), {}, 0.125)
    unfresh = [says("far", mark({1: 9, 2: 5}, [1])), says("near", mark({1: 9, 2: 50}, [2]), asked=2)]
    yield "not one that is not shown to be fresh", "G-45 G-46", case(PAIR, unfresh, wants(10), {"wait_s": 0})
    yield "but by policy", "G-45", case(PAIR, unfresh, wants(10), {"wait_s": 0, **serve})
    nobody = [says("far", mark({1: (7, 8)})), says("near", mark({1: (7, 8)}), asked=2)]
    yield (
        "who numbers nothing covers nothing by construction",
        "G-45",
        case(PAIR, nobody, wants(8), {"wait_s": 0, **serve}),
    )
    split = {"shards": [0], "arrived": 100, "own": [[0, 1, "11"], [0, 2, "6"]]}
    pieces = [says("far", mark({1: 10, 2: 3}, [1])), says("near", mark({1: 9, 2: 5}, [2]), asked=2)]
    yield "nobody numbers all that is needed", "G-45 G-46", case(PAIR, pieces, split, serve, 1)
    half = [leads("far", 10), says("near", mark({1: 5, 2: 3}), asked=2), says("mid", mark({1: 5, 2: 3}), asked=3)]
    yield (
        "some of what is needed has no leader: whoever is readable is asked, not its numberers alone",
        "G-46",
        case(TRIO, half, {"shards": [0], "arrived": 100, "own": [[0, 1, "11"], [0, 2, "9"]]}, {"wait_s": 0}),
    )
    promoted = [leads("far", 10), near, gone("far"), follows("mid", 10, asked=3)]
    yield "the leader is down: somebody may have taken over", "G-46", case(TRIO, promoted, wants(11), {"wait_s": 0})
    yield (
        "nobody took over",
        "G-47",
        case(PAIR, [far, gone("far", 103), follows("near", 10, asked=104)], wants(11), {"wait_s": 0}),
    )
    yield "who failed a moment ago is left alone", "G-41", case(PAIR, [far, near, gone("near", 3)])
    yield "and tried before a refusal", "G-48", case(at(near=0), [near, gone("near", 3)])
    yield "but once", "G-48 G-47", case(at(near=0), [near, gone("near", 103)])
    yield (
        "who failed long ago is asked as usual",
        "G-41",
        case(PAIR, [far, follows("near", 9, asked=2), gone("near", 3, NOW_S - 2)], wants(10)),
    )
    yield "there is nobody", "G-47", case([], [], wants(3))
    yield (
        "a derived store has no leader to fall back to",
        "G-54",
        case(witness, [leads("source", 12, asked=2), follows("index", 10, asked=3)], wants(12), {"wait_s": 0}),
    )

    yield (
        "nor a leader that a window would send to",
        "G-54 G-27",
        case(witness, [leads("source", 12, asked=2), follows("index", 10, asked=3)], wants(12, wrote_ago_s=0), window),
    )
    replicated = [says("source", mark({1: 12})), says("index", mark({1: 10, 2: 3}, [2]), asked=2)]
    yield (
        "a store whose leader is read is not derived",
        "G-54",
        case(witness, replicated, wants(12), {"wait_s": 0, **serve}),
    )

    writes = [leads("far", 10), follows("near", 12, asked=2)]
    yield "a write goes to its leader, whoever is nearer", "G-49 G-50", case(PAIR, writes, wants(10, at="far"))
    lacking = [says("us", mark({1: 10, 2: 3}, [2]), asked=101), says("eu", mark({1: 11, 2: 3}, [1]), asked=2)]
    yield "a write waits for what its leader lacks", "G-49 G-50", case(SITES, lacking, wants(11, at="us"))
    for then in ("leader", "stale", "error"):
        yield (
            f"a write whose time is over, then={then}",
            "G-49",
            case(SITES, lacking, wants(11, at="us"), {"then": then}, 1),
        )
    yield "a write asks its leader anew", "G-49", case(PAIR, writes, wants(12, at="far"))
    yield (
        "a write needs no freshness",
        "G-17 G-50",
        case(SITES, [says("us", mark({1: 10, 2: 3}, [2]), at_s=0)], wants(at="us")),
    )
    yield (
        "no freshness is asked of a write that needs something",
        "G-50",
        case(SITES, [says("us", mark({1: 10, 2: 3}, [2]), at_s=0)], wants(10, at="us")),
    )

    over = says("near", mark({1: (10, 10), 2: 0}, [2]), asked=3)
    for name, news in (
        ("it numbers what has ended", [leads("far", 10), over]),
        ("it says so again, of what is known to have ended", [over, leads("far", 10, asked=4)]),
        ("it has said so when asked", [over, leads("far", 10, asked=101)]),
        ("it was asked, and the end is heard of after that", [leads("far", 10, asked=101), over]),
        ("when asked, it has begun another", [over, says("far", mark({1: (10, 10), 3: 0}, [3]), asked=101)]),
        ("it numbers another, too", [over, says("far", mark({1: 10, 3: 0}, [1, 3]), asked=4)]),
        ("it knows of the end, and numbers nothing yet", [over, says("far", mark({1: (10, 10)}), asked=4)]),
        ("it tells the end itself", [over, says("far", mark({1: (10, 10)}, [1]), asked=4)]),
        (
            "it no longer says that it numbers it",
            [over, leads("far", 10, asked=4), says("far", mark({1: 10}), asked=5)],
        ),
        ("an older answer says nothing", [over, says("far", mark({1: 10}), asked=5), leads("far", 10, asked=4)]),
        (
            "what it said in another life is forgotten",
            [over, leads("far", 10, asked=4), says("far", mark({1: 10}, life="y"), asked=5)],
        ),
    ):
        yield f"a write where somebody has taken over: {name}", "G-55", case(PAIR, news, wants(10, at="far"))
    yield (
        "a lost write is said before that",
        "G-30 G-55",
        case(PAIR, [leads("far", 10), over], wants(11, at="far")),
    )
    elsewhere = [
        says("far", mark({1: 10}, [1]), mark({3: 7}, [3], shard=1)),
        says("near", mark({1: (10, 10), 2: 0}, [2]), mark({3: 7}, shard=1), asked=3),
    ]
    whole = [
        says("far", mark({1: 10}, [1]), mark({3: 7}, [3], shard=1)),
        over,
        says("far", mark({1: 10}, [1]), mark({3: 7}, [3], shard=1), asked=4),
        says("far", mark({3: 7}, [3], shard=1, life="y"), asked=5),
    ]
    yield (
        "a write where somebody has taken over: one life of a whole server, of which another shard tells that it is over",
        "G-55 G-7",
        case(PAIR, whole, {"shards": [0], "arrived": 100, "at": "far"}),
    )
    holders = [{"name": "far", "latency_s": 0.05}, {"name": "near", "latency_s": 0, "holds": [0]}]
    yield (
        "a write where somebody has taken over: where endpoints hold only some shards",
        "G-55 G-18",
        case(holders, [over, leads("far", 10, asked=4)], wants(10, at="far")),
    )
    for shard in (0, 1):
        wants_both = {"shards": [0, 1], "arrived": 100, "own": [[1, 3, "7"]], "at": "far", "writes": shard}
        yield (
            f"somebody has taken over shard 0, and shard {shard} is written",
            "G-55",
            case(PAIR, elsewhere, wants_both),
        )

    some = [{"name": "far", "latency_s": 0.05}, {"name": "near", "latency_s": 0, "holds": [0]}]
    split_shards = [
        says("far", mark({1: 10}, [1]), mark({2: 7}, [2], shard=1)),
        follows("near", 10, asked=2),
    ]
    yield "an endpoint that holds only some shards, for one of them", "G-18", case(some, split_shards, wants(10))
    yield (
        "and for a demand on both",
        "G-18",
        case(some, split_shards, {"shards": [0, 1], "arrived": 100, "own": [[0, 1, "10"]], "seen": [[1, 2, "7"]]}),
    )
    sources = [
        {"name": "first", "latency_s": 0.05, "serves": False, "holds": [0]},
        {"name": "second", "latency_s": 0.06, "serves": False, "holds": [1]},
        {"name": "third", "latency_s": 0.07, "serves": False, "holds": [2]},
        {"name": "index", "latency_s": 0},
    ]
    apart = [
        says("first", mark({1: 10}, [1]), asked=101),
        says("second", mark({2: 7}, [2], shard=1), asked=102),
        says("third", mark({3: 9}, [3], shard=2), asked=2),
    ]
    index = says("index", mark({1: 10}), mark({2: 7}, shard=1), mark({3: 0}, shard=2), asked=103)
    of_both = {"shards": [0, 1], "arrived": 100, "own": [[0, 1, "10"]], "seen": [[1, 2, "7"]]}
    yield (
        "a witness is asked of the shards that it holds: the heads of two are known",
        "G-18 G-6",
        case(sources, [*apart, index], of_both, LEADER),
    )
    yield (
        "a witness that holds one of them is asked",
        "G-18",
        case(sources, [says("first", mark({1: 10}, [1])), *apart[1:], index], of_both, LEADER),
    )
    yield (
        "asked of one shard is not asked of another",
        "G-6",
        case(
            PAIR,
            [
                says("far", mark({1: 10}, [1]), mark({2: 7}, [2], shard=1)),
                says("near", mark({1: 10}), mark({2: 6}, shard=1), asked=2),
                says("near", mark({1: 10}), asked=101),
            ],
            {"shards": [0, 1], "arrived": 100, "own": [[1, 2, "8"]]},
        ),
    )
    for number in (100, 101):
        yield (
            f"request 100, and a leader asked by question {number}",
            "G-6",
            case(PAIR, [leads("far", 10, asked=number), behind], wants(11)),
        )


def snapshots() -> Cases:
    def judged_at(
        name: str, given: dict[str, Any], snapshot: list[Any], at_s: float = NOW_S, **more: Any
    ) -> dict[str, Any]:
        answer = decided(given)
        assert answer is not None
        assert answer["decision"] == "serve", (name, answer)
        kept = {member: given[member] for member in ("endpoints", "news", "demand", "policy", "max_staleness_s")}
        serve = {member: answer[member] for member in ("endpoint", "how", "need")}
        return {**kept, "serve": serve, "snapshot": snapshot, "at_s": at_s, **more}

    far, near = leads("far", 10), follows("near", 10, asked=2)
    plain = case(PAIR, [far, near], wants(10))
    for offset in (9, 10, 11):
        yield f"10 are needed, the snapshot has {offset}", "G-19", judged_at("", plain, [mark({1: offset})])
    yield "it does not know the origin", "G-19", judged_at("", plain, [mark({})])
    yield (
        "a server restarted between the decision and the snapshot",
        "G-20",
        judged_at("", plain, [mark({1: 10}, life="y")]),
    )
    yield "it has heard of an end, and is at it", "G-21", judged_at("", plain, [mark({1: (10, 10)})])
    yield "it has heard of an end, and is past it", "G-21", judged_at("", plain, [mark({1: (11, 10)})])
    heir = says("far", mark({1: (10, 10), 3: 0}, [3]))
    replaced = case(PAIR, [heir, says("near", mark({1: 10, 3: 0}), asked=2)], wants(10))
    yield "another has told of an end, and it is at it", "G-21 G-11", judged_at("", replaced, [mark({1: 10, 3: 0})])
    yield "another has told of an end, and it has gone on", "G-21 G-11", judged_at("", replaced, [mark({1: 11, 3: 0})])
    yield "it shows an origin that nobody judged it by", "G-22", judged_at("", plain, [mark({1: 10, 3: 4})])
    yield "one that has ended, all of it applied", "G-22", judged_at("", plain, [mark({1: 10, 3: (4, 4)})])
    yield "one that has ended, some of it not applied", "G-22", judged_at("", plain, [mark({1: 10, 3: (3, 4)})])
    led = case(PAIR, [far, near], wants(), LEADER)
    yield "the leader numbers what it did", "G-23", judged_at("", led, [mark({1: 10}, [1])])
    yield "it no longer numbers that", "G-23", judged_at("", led, [mark({1: 10})])
    took_over = [says("near", mark({1: (10, 10), 2: 0}, [2]), asked=3)]
    yield (
        "an end of what it numbers is heard of after the decision",
        "G-23",
        judged_at("", led, [mark({1: 10}, [1])], since=took_over),
    )
    for what, news in (
        ("an end of another origin", [says("near", mark({1: 10, 5: (4, 4)}), asked=3)]),
        ("an end of the same origin on another shard", [says("near", mark({1: (3, 3)}, shard=1), asked=3)]),
    ):
        yield f"{what} is", "G-23", judged_at("", led, [mark({1: 10}, [1])], since=news)
    numbers_two = case(
        PAIR,
        [says("far", mark({1: 10}, [1]), mark({2: 7}, [2], shard=1)), follows("near", 10, asked=2)],
        wants(),
        LEADER,
    )
    two_led = mark({1: 10}, [1]), mark({2: 7}, [2], shard=1)
    other_end = [says("near", mark({2: (7, 7)}, shard=1), asked=3)]
    yield (
        "an end of what it numbers on a shard that the snapshot does not hold",
        "G-23",
        judged_at("", numbers_two, [two_led[0]], since=other_end),
    )
    yield "and on one that it does", "G-23", judged_at("", numbers_two, [*two_led], since=other_end)
    for end in (9, 10):
        yield (
            f"10 are applied, and an end at {end} is heard of after the decision",
            "G-21",
            judged_at("", plain, [mark({1: 10})], since=[says("far", mark({1: (end, end)}), asked=3)]),
        )
    yield (
        "an origin that was told of after the decision only: nobody judged it by that",
        "G-22",
        judged_at("", plain, [mark({1: 10, 3: 4})], since=[says("near", mark({1: 10, 3: 4}), asked=3)]),
    )
    both = case(
        PAIR,
        [
            says("far", mark({1: 10}, [1]), mark({2: 7}, [2], shard=1)),
            says("near", mark({1: 10}), mark({2: 7}, shard=1), asked=2),
        ],
        {"shards": [0, 1], "arrived": 100, "own": [[0, 1, "10"]], "seen": [[1, 2, "7"]]},
    )
    yield "one snapshot over both shards", "G-19", judged_at("", both, [mark({1: 10}), mark({2: 7}, shard=1)])
    yield (
        "effects without causes in one block: the other shard's part is missing",
        "G-19",
        judged_at("", both, [mark({1: 10}), mark({2: 6}, shard=1)]),
    )
    yield "a snapshot of one shard; of the other, what is known counts", "G-19", judged_at("", both, [mark({1: 10})])
    numbers = says("far", mark({1: 10}, [1]), mark({2: 7}, [2], shard=1))
    more = {"shards": [0, 1], "arrived": 100, "own": [[0, 1, "11"], [1, 2, "8"]]}
    beyond = case(PAIR, [numbers], more, {"wait_s": 0})
    yield (
        "a fallback, on a snapshot of one shard; of the other, too little is known",
        "G-19 G-45",
        judged_at("", beyond, [mark({1: 11}, [1])]),
    )
    yield (
        "the other shard is in another life",
        "G-20",
        judged_at("", both, [mark({1: 10}), mark({2: 7}, shard=1, life="y")]),
    )
    for at_s in (1889.5, 1890, 1890.5):
        yield (
            f"a pause: fresh since 990, no older than 900 s, at {at_s}",
            "G-24",
            judged_at("", plain, [mark({1: 10})], at_s),
        )
    lax = case(PAIR, [far, near], wants(10), {"unproven": "serve"})
    yield "a pause that the policy does not mind", "G-24 G-17", judged_at("", lax, [mark({1: 10})], 2000)
    yield "a pause before a leader read: heads show more", "G-24", judged_at("", led, [mark({1: 10}, [1])], 9000)
    two = case(
        SITES, [says("eu", mark({1: 10, 2: 5}, [1]), asked=101), says("us", mark({1: 10, 2: 5}, [2]), asked=102)]
    )
    two = {**two, "policy": LEADER}
    yield (
        "a pause before a read at two leaders: heads show more",
        "G-24",
        judged_at("", two, [mark({1: 10, 2: 5}, [2])], 9000),
    )
    halves = [
        says("far", mark({1: 10}), mark({5: 7}, [5], shard=1), asked=101),
        says("near", mark({1: 10}, [1]), mark({5: 7}, shard=1), asked=102),
    ]
    partly = case(PAIR, halves, {"shards": [0, 1], "arrived": 100, "seen": [[1, 5, "3"]], "leader_shards": [0]})
    for at_s in (1890, 1890.5):
        yield (
            f"a pause, where one of two shards is read at leaders: at {at_s}",
            "G-24",
            judged_at("", partly, [mark({1: 10}, [1]), mark({5: 7}, shard=1)], at_s),
        )
    bound = case(PAIR, [leads("far", 10, at_s=995), near], wants(), {"strategy": "bounded", "bound_s": 5})
    for at_s in (1000, 1000.5):
        yield f"a pause voids a bound of 5 s: at {at_s}", "G-24 G-28", judged_at("", bound, [mark({1: 10})], at_s)
    write = case(SITES, [says("us", mark({1: 10, 2: 3}, [2]), at_s=0)], wants(10, at="us"))
    yield "a write's snapshot needs no freshness", "G-24 G-50", judged_at("", write, [mark({1: 10, 2: 3}, [2])], 9000)
    yield "a write's snapshot that lacks what is needed", "G-50 G-19", judged_at("", write, [mark({1: 9, 2: 3}, [2])])
    falls = case(PAIR, [far, follows("near", 10, asked=101)], wants(12), {}, 0.125)
    unheard = judged_at("", plain, [mark({1: 10}), mark({}, shard=1)])
    yield "a shard of which nothing was known", "G-20", unheard
    yield "a fallback has what was demanded", "G-45", judged_at("", falls, [mark({1: 12}, [1])])
    yield "a fallback has not", "G-45", judged_at("", falls, [mark({1: 11}, [1])])
    held = [mark({1: 10, 3: (100, 110)}, [1])]
    leader_read = case(
        PAIR,
        [says("near", mark({1: 10, 3: (100, 110)}, [1])), says("far", mark({1: 10, 3: (110, 110)}), asked=101)],
        MARKED,
    )
    yield "a leader's snapshot lacks what an ended origin left behind", "G-36 G-19", judged_at("", leader_read, held)
    clip = case(
        PAIR,
        [says("far", mark({1: (8, 8), 2: 0}, [2])), says("near", mark({1: (8, 8), 2: 0}), asked=2)],
        wants(60, seen=True),
    )
    yield "all that survives of what was seen", "G-19", judged_at("", clip, [mark({1: (8, 8), 2: 0})])
    free = case(PAIR, [far, follows("near", 0, asked=2)], wants(10), {"strategy": "eventual"})
    yield "what promises nothing is not judged", "G-26", judged_at("", free, [mark({1: 0}, life="y")])
    old = case(PAIR, [far, follows("near", 10, asked=101)], wants(12), {"then": "stale"}, 0.125)
    yield "what is called stale is not judged", "G-44", judged_at("", old, [mark({1: 10}, life="y")])


def joins() -> Cases:
    yield "what a snapshot shows", "G-25", {"snapshot": [mark({1: 10, 2: 4}), mark({1: 7}, shard=1)]}
    yield "of an ended origin, what is applied", "G-25", {"snapshot": [mark({1: (8, 10), 2: 3})]}
    yield "of one that ended earlier, its end", "G-25", {"snapshot": [mark({1: (12, 10), 2: 3})]}


def limits() -> Cases:
    def steps(*all_of: dict[str, Any], **some: int) -> dict[str, Any]:
        plain = {"waiters_per_endpoint": 9, "waiters_per_subject": 9, "leader_reads": 9, "unauthenticated": 9}
        return {"limits": {**plain, **some}, "steps": list(all_of)}

    def wait(endpoint: str, subject: str | None) -> dict[str, Any]:
        return {"wait": endpoint, "subject": subject}

    yield (
        "two may wait at an endpoint",
        "G-51",
        steps(wait("a", "x"), wait("a", "y"), wait("a", "z"), wait("b", "z"), waiters_per_endpoint=2),
    )
    yield (
        "one subject may wait twice",
        "G-51",
        steps(wait("a", "x"), wait("a", "x"), wait("a", "x"), wait("a", "y"), wait("b", "x"), waiters_per_subject=2),
    )
    yield "who has no name is not one subject", "G-51", steps(wait("a", None), wait("a", None), waiters_per_subject=1)
    yield (
        "a place is given back",
        "G-51",
        steps(wait("a", "x"), {"waited": "a", "subject": "x"}, wait("a", "y"), wait("a", "z"), waiters_per_endpoint=1),
    )
    yield (
        "two may be sent to leaders",
        "G-52",
        steps({"leader": True}, {"leader": True}, {"leader": True}, {"left": True}, {"leader": True}, leader_reads=2),
    )
    yield (
        "those whose token did not open have their own",
        "G-53",
        steps(
            {"leader": False}, {"leader": False}, {"leader": True}, {"leader": True}, leader_reads=1, unauthenticated=1
        ),
    )
    yield (
        "a limit of nothing",
        "G-52 G-53",
        steps({"leader": True}, {"leader": False}, leader_reads=0, unauthenticated=0),
    )


def vectors() -> Iterator[dict[str, Any]]:
    for op, cases, twins in (
        ("gate.demand", demands, demanded),
        ("gate.known", views, known),
        ("gate.evidence", freshness, evidence),
        ("gate.decide", choices, decided),
        ("gate.admits", snapshots, judged),
        ("gate.shown", joins, shown),
        ("gate.enter", limits, entered),
    ):
        kind = op.partition(".")[2]
        for name, cites, given in cases():
            out = twins(copy.deepcopy(given))
            assert out is not None, name
            yield {"name": f"{kind}: {name}", "op": op, "cites": cites.split(), "in": given, "out": out}
