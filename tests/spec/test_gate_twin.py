"""The gate and its dumb twin, on the same random demands and views: every difference is a mistake of the page, the twin or the gate."""

import json
from random import Random
from typing import Any

from hypothesis import settings

from causal.lab.vectors.answer import answer
from tests.spec.makers.gate import decided, evidence, judged, known

STRATEGIES = ["session", "session", "session", "leader", "leader", "quorum", "bounded", "leader_window", "eventual"]


def event(
    chance: Random, number: int, late: bool, names: str, ends: dict[tuple[int, int], int], holds: dict[str, list[int]]
) -> Any:
    """What somebody answers: offsets and times are few, so that they meet."""
    name, roll, at_s = chance.choice(names), chance.random(), chance.choice([10, 400, 900, 990, 999, 999.5, 1000])
    asked = number + 100 if late else chance.choice([number, number, number + 100, max(1, number - 2)])
    if roll < 0.1:
        return {"failed": name, "asked": asked, "at_s": at_s, "why": "gone"}
    if roll < 0.15:
        return {"acknowledged": [chance.randrange(2), chance.randrange(1, 4), str(chance.randrange(5))], "by": name}
    says = []
    life = chance.choice("vvvw")
    for shard in holds.get(name, [0, 1]):
        if chance.random() < 0.8:
            origins = []
            for origin in chance.sample([1, 2, 3], chance.randrange(4)):
                if chance.random() < 0.05:
                    ends.setdefault((shard, origin), chance.randrange(4))
                end = ends.get((shard, origin)) if chance.random() < 0.7 else None
                origins.append([origin, str(chance.randrange(5)), None if end is None else str(end)])
            leads = [o for o, _, end in origins if end is None and chance.random() < 0.4]
            says.append({"shard": shard, "origins": origins, "leads": leads, "life": life})
    return {"from": name, "asked": asked, "at_s": at_s, "says": says}


def case(chance: Random) -> dict[str, Any]:
    names = "abc"[: chance.randrange(1, 4)]
    endpoints: list[dict[str, Any]] = [{"name": n, "latency_s": chance.choice([0, 0, 0.05, 0.1])} for n in names]
    holds: dict[str, list[int]] = {}
    if chance.random() < 0.2:
        for e in endpoints:
            if chance.random() < 0.6:
                holds[e["name"]] = e["holds"] = chance.choice([[0], [1], [0, 1]])
    if chance.random() < 0.15:
        endpoints[-1]["serves"] = False
    ends: dict[tuple[int, int], int] = {}
    late = chance.random() < 0.5  # most were asked after the request: then there is something to wait for
    news = [event(chance, n + 1, late, names, ends, holds) for n in range(chance.randrange(9))]

    def positions(most: int) -> list[Any]:
        keys = chance.sample([(s, o) for s in (0, 1) for o in (1, 2, 3)], chance.randrange(most))
        return [[s, o, str(chance.randrange(5))] for s, o in sorted(keys)]

    own, seen = positions(3), positions(3)
    demand: dict[str, Any] = {
        "shards": sorted({0, *(p[0] for p in own + seen)}),
        "arrived": 100,
        "own": own,
        "seen": seen,
    }
    if chance.random() < 0.25:
        demand["leader_shards"] = chance.choice([[0], [1], [0, 1]])
        demand["mark_origins"] = chance.choice([[], [], [1], [2, 3], [9], "any"])
    if chance.random() < 0.1:
        demand["floor"] = str(chance.randrange(5))
    if chance.random() < 0.2:
        demand["at"] = chance.choice(names)
        demand["writes"] = chance.choice(demand["shards"])
    if chance.random() < 0.5:
        demand["wrote_ago_s"] = chance.choice([0, 0.5, 1, 2])
    policy: dict[str, Any] = {
        "wait_s": chance.choice([0, 0.125, 0.25, 2]),
        "then": chance.choice(["leader", "error", "stale"]),
    }
    policy["unproven"] = chance.choice(["refuse", "refuse", "serve"])
    policy["strategy"] = chance.choice(STRATEGIES)
    if policy["strategy"] == "quorum":
        policy |= {"replicas": chance.randrange(1, 4), "token": chance.random() < 0.5}
    if policy["strategy"] == "bounded":
        policy["bound_s"] = chance.choice([1, 10, 5000])
    if policy["strategy"] == "leader_window":
        policy["window_s"] = 1
    return {
        "endpoints": endpoints,
        "news": news,
        "demand": demand,
        "policy": policy,
        "elapsed_s": chance.choice([0, 0, 0, 0.125, 1]),
        "now_s": 1000,
        "max_staleness_s": chance.choice([100, 600]),
    }


def orderly(chance: Random) -> dict[str, Any]:
    """A world in which each origin is numbered by one, and of which most is known: what is read at leaders gets far there."""
    names = "abcd"[: chance.randrange(2, 5)]
    endpoints = [{"name": n, "latency_s": chance.choice([0, 0.05, 0.1])} for n in names]
    keys = [(s, o) for s in (0, 1) for o in (1, 2, 3) if chance.random() < 0.6]
    heads = {key: chance.randrange(2, 5) for key in keys}
    leads = {key: chance.choice(names) for key in keys}
    ended = {key for key in keys if chance.random() < 0.15}
    news: list[Any] = []
    for turn, at_s in enumerate(sorted(chance.choice([400, 700, 900, 950, 990, 999]) for _ in range(3))):
        for n, name in enumerate(names):
            if chance.random() < (0.1 if turn == 2 else 0.5):
                continue
            says = []
            for shard in (0, 1):
                here = [key for key in keys if key[0] == shard and (leads[key] == name or chance.random() < 0.9)]
                origins = []
                for key in here:
                    numbers = leads[key] == name and key not in ended
                    upto = max(0, heads[key] - (2 - turn) - (not numbers and chance.random() < 0.3))
                    origins.append([key[1], str(upto), str(heads[key]) if key in ended else None])
                mine = [key[1] for key in here if leads[key] == name and key not in ended]
                says.append({"shard": shard, "origins": origins, "leads": mine, "life": "v"})
            asked = 10 * turn + n + (101 if turn == 2 and chance.random() < 0.85 else 1)
            news.append({"from": name, "asked": asked, "at_s": at_s, "says": says})
    news += [{"failed": n, "asked": 150, "at_s": 1000, "why": "gone"} for n in names if chance.random() < 0.15]
    some = [[*key, str(chance.randrange(heads[key] + 1))] for key in sorted(keys) if chance.random() < 0.3]
    demand: dict[str, Any] = {"shards": sorted({0, *(p[0] for p in some)}), "arrived": 100, "seen": some}
    strategy = chance.choice(["session", "session", "leader"])
    if chance.random() < 0.6:
        demand["leader_shards"] = chance.choice([[0], [1], [0, 1]])
        demand["mark_origins"] = chance.choice([[], [], [1], [2], [3], [1, 9], "any"])
    policy = {
        "wait_s": chance.choice([0, 0.25]),
        "then": chance.choice(["leader", "error", "stale"]),
        "strategy": strategy,
    }
    policy["unproven"] = chance.choice(["refuse", "refuse", "serve"])
    return {
        "endpoints": endpoints,
        "news": news,
        "demand": demand,
        "policy": policy,
        "elapsed_s": 0,
        "now_s": 1000,
        "max_staleness_s": chance.choice([20, 100, 400]),
    }


def answered(op: str, given: dict[str, Any]) -> Any:
    return json.loads(json.dumps(answer({"id": 0, "op": op, "in": given})))["out"]


def test_the_gate_decides_as_its_twin() -> None:
    kinds: dict[str, int] = {}
    for seed in range(30 * settings().max_examples):
        given = (case if seed % 3 else orderly)(Random(seed))
        assert answered("gate.known", given) == known(given), (seed, given)
        assert answered("gate.evidence", given) == evidence(given), (seed, given)
        twins = decided(given)
        if twins is None:
            continue
        assert answered("gate.decide", given) == twins, (seed, given)
        kinds[twins["decision"]] = kinds.get(twins["decision"], 0) + 1
        if twins["decision"] == "serve":
            for later in range(3):
                snapshot = later_on(Random(seed * 8 + later), given, twins)
                assert answered("gate.admits", snapshot) == judged(snapshot), (seed, snapshot)
    assert {"serve", "probe", "wait", "refuse"} == {*kinds}, kinds


def later_on(chance: Random, given: dict[str, Any], serve: dict[str, Any]) -> dict[str, Any]:
    """A snapshot of the endpoint that was chosen: as it last said, or with something changed."""
    said: dict[int, Any] = {}
    for told in given["news"]:
        if told.get("from") == serve["endpoint"]:
            said |= {mark["shard"]: mark for mark in told["says"]}
    snapshot = [json.loads(json.dumps(mark)) for mark in said.values() if chance.random() < 0.9]
    for mark in snapshot:
        if chance.random() < 0.1:
            mark["life"] = "x"
        if chance.random() < 0.15:
            mark["leads"] = mark["leads"][1:]
        for place in mark["origins"]:
            if chance.random() < 0.4:
                place[1] = str(max(0, int(place[1]) + chance.choice([-1, 1, 2])))
            if chance.random() < 0.1:
                place[2] = place[1]
        if chance.random() < 0.1:
            mark["origins"] = mark["origins"][1:]
        if chance.random() < 0.1 and all(place[0] != 7 for place in mark["origins"]):
            mark["origins"].append([7, "1", chance.choice([None, "1", "2"])])
    kept = ("endpoints", "news", "demand", "policy", "max_staleness_s")
    plan = {name: serve[name] for name in ("endpoint", "how", "need")}
    at_s = chance.choice([1000, 1001, 1100, 1600, 2000])
    ends = [[origin, str(n), str(n)] for origin in (1, 2, 3) if chance.random() < 0.3 for n in [chance.randrange(5)]]
    told = {"shard": chance.randrange(2), "origins": ends, "leads": [], "life": chance.choice("vw")}
    since = [{"from": chance.choice(given["endpoints"])["name"], "asked": 900, "at_s": 1000, "says": [told]}]
    more = {"since": since} if ends and chance.random() < 0.4 else {}
    return {**{name: given[name] for name in kept}, "serve": plan, "snapshot": snapshot, "at_s": at_s, **more}
