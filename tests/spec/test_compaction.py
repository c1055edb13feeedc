"""A compacted token only over-waits: the fast ladder is the dumb one, and what either leaves admits no more than the exact claims do.

The worlds are small and tried one by one: all that keep the assumptions of docs/spec/compaction.md (A1 to A4). Where an assumption or a
rule is given up, there is one in which something older is read.
"""

import json
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from causal.lab.vectors.answer import answer
from causal.lab.vectors.token import claims_of
from tests.core.claims import EXPIRES_AT, HOUR, tokens
from tests.spec.twins.compaction import admits, items, ladder
from tests.spec.violations import twin

NOW = EXPIRES_AT - 24 * HOUR
UNTIL = NOW + 100
Claims = dict[str, Any]
Ladder = Callable[..., Claims]


def fast(
    claims: Claims,
    measure: str | int,
    limit: int,
    now: int,
    until: int,
    floor: list[Any],
    replicated: list[Any],
    stores: list[int] | None,
) -> Claims:
    """This library's ladder, asked as any program is."""
    asked = {"claims": claims, "measure": measure, "limit": limit, "now": now, "until": str(until), "stores": stores}
    request = {"id": 1, "op": "compaction.ladder", "in": asked | {"floor": floor, "replicated": replicated}}
    out = json.loads(json.dumps(answer(request)))["out"]
    assert out["size"] == (items(out["claims"]) if measure == "items" else out["size"])
    found: Claims = out["claims"]
    return found


@pytest.mark.spec("K-2", "K-3", "K-4")
@given(tokens(), st.integers(0, 45), st.none() | st.lists(st.integers(0, 3), unique=True), st.data())
def test_the_fast_ladder_is_the_dumb_one(token: Any, limit: int, stores: list[int] | None, data: st.DataObject) -> None:
    claims = claims_of(token)
    known = sorted({position[0] >> 16 for part in ("own", "seen") for position in claims.get(part, [])})
    floored = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
    floor = [[store, str(data.draw(st.integers(0, 2**42)))] for store in floored]
    replicated = [
        [s, o, str(min(2**64 - 1, max(0, int(offset) + data.draw(st.integers(-1, 1)))))]
        for s, o, offset in claims.get("own", [])
        if data.draw(st.booleans())
    ]
    args = (claims, "items", limit, NOW, UNTIL, floor, replicated, stores)
    found = fast(*args)
    event("the last rung" if found.get("marks", []) != claims.get("marks", []) else "an earlier one")
    assert found == ladder(*args)


# --- rung 3, tried out: one shard, two origins, offsets 1 and 2 ----------------------------------------------------------------

OFFSETS = (None, 1, 2)


def claimed(own: dict[int, int | None], seen: dict[int, int | None]) -> Claims:
    parts = {
        name: [[0, origin, str(x)] for origin, x in said.items() if x] for name, said in (("own", own), ("seen", seen))
    }
    return {"expires_at": EXPIRES_AT, **{name: said for name, said in parts.items() if said}}


def floor_worlds() -> Iterator[tuple[Claims, int, dict[str, Any], bool]]:
    """Claims, the bound, an endpoint, and whether A3 holds there for a floor of 1 or of 2 (it is asked of the floor that came out)."""
    for heads in product((0, 1, 2), repeat=2):
        places = [[x for x in OFFSETS if x is None or x <= head] for head in heads]
        for mine, one, two in product(places[0], places[0], places[1]):
            claims = claimed({1: mine}, {1: None if one and mine and one <= mine else one, 2: two})
            ends = [[None, *range(head + 1)] for head in heads]
            applied = [[None, *range(head + 1)] for head in heads]
            for end1, end2, a1, a2, bound in product(*ends, *applied, (0, 1, 2)):
                listed = {o: a for o, a in ((1, a1), (2, a2)) if a is not None}
                ended = {o: e for o, e in ((1, end1), (2, end2)) if e is not None and o in listed}
                if any(listed[o] > e for o, e in ended.items()):
                    continue  # holds lost writes: never served
                numbered = {o for o, head in ((1, heads[0]), (2, heads[1])) if head}
                hears = numbered <= set(listed)
                yield claims, bound, {"applied": listed, "ended": ended, "current": False}, hears


def floor_counterexamples(climb: Ladder, *, promised: bool) -> Iterator[Any]:
    fitted: dict[str, Claims] = {}
    for claims, bound, endpoint, hears in floor_worlds():
        name = json.dumps([claims, bound])
        if name not in fitted:
            fitted[name] = climb(claims, "items", max(items(claims) - 1, 0), NOW, UNTIL, [[0, str(bound)]], [], None)
        found = fitted[name]
        if "marks" in found:
            continue
        floor = dict(found.get("floors", [])).get(0, "0")
        above = all(a >= min(int(floor), endpoint["ended"].get(o, 2)) for o, a in endpoint["applied"].items())
        if promised and above and not hears:
            continue  # not a world that keeps A3
        if admits(found, 0, endpoint, NOW) and not admits(claims, 0, endpoint, NOW):
            yield claims, found, endpoint


@pytest.mark.spec("K-8", "K-9")
@pytest.mark.parametrize("climb", [fast, ladder], ids=["fast", "dumb"])
def test_a_floor_admits_nothing_that_the_exact_claims_do_not(climb: Ladder) -> None:
    assert next(floor_counterexamples(climb, promised=True), None) is None


def test_without_the_promise_of_heartbeats_a_floor_admits_more() -> None:
    _, found, endpoint = next(floor_counterexamples(ladder, promised=False))
    assert found["floors"]
    assert len(endpoint["applied"]) < 2


def test_a_floor_of_own_writes_would_not_say_that_one_is_lost() -> None:
    changed = twin(
        "compaction",
        (
            (
                'for position in claims.get("seen", []):\n        store, offset',
                'for position in claims.get("seen", []) + claims.get("own", []):\n        store, offset',
            ),
            ('return {**claims, "seen": seen, "floors"', 'return {**claims, "own": [], "seen": seen, "floors"'),
        ),
    )
    claims, _, endpoint = next(floor_counterexamples(changed.ladder, promised=True))
    assert any(int(x) > endpoint["ended"].get(origin, 2) for _, origin, x in claims["own"])


# --- rung 4, tried out: a shard is left out, and read before or after the mark lapses ----------------------------------------------


def mark_worlds() -> Iterator[tuple[Claims, list[Any], dict[str, Any], int, dict[int, int]]]:
    """Claims, what is replicated, an endpoint that keeps A1 and A4, the time, and where origins have ended in truth."""
    for mine, theirs, copies in product(OFFSETS, OFFSETS, (0, 1, 2)):
        heads = {1: 2, 2: 2}
        claims = claimed({1: mine}, {1: 2 if mine == 1 and theirs else None, 2: theirs})
        safe = min(copies, mine or 0)
        for end1, end2 in product((None, 0, 1, 2), repeat=2):
            if end1 is not None and end1 < safe:
                continue  # A4: what is replicated survives
            truth = {o: e for o, e in ((1, end1), (2, end2)) if e is not None}
            survives = {o: truth.get(o, head) for o, head in heads.items()}
            for time, current in product((NOW, UNTIL - 1, UNTIL), (False, True)):
                whole = current or time >= UNTIL  # a current leader; or A1, as everything was acknowledged at NOW
                for a1, a2, knows in product((None, 0, 1, 2), (None, 0, 1, 2), (False, True)):
                    applied = survives if whole else {o: a for o, a in ((1, a1), (2, a2)) if a is not None}
                    if any(a > survives[o] for o, a in applied.items()):
                        continue
                    ended = {o: e for o, e in truth.items() if o in applied and (current or knows)}
                    yield (
                        claims,
                        [[0, 1, str(safe)]],
                        {"applied": applied, "ended": ended, "current": current},
                        time,
                        truth,
                    )


def mark_counterexamples(climb: Ladder) -> Iterator[Any]:
    fitted: dict[str, Claims] = {}
    for claims, replicated, endpoint, time, truth in mark_worlds():
        name = json.dumps([claims, replicated])
        if name not in fitted:
            fitted[name] = climb(claims, "items", 0, NOW, UNTIL, [], replicated, None)
        found, exact = fitted[name], claims
        if time >= UNTIL and "marks" in found:
            # What remains: from `until` on nothing is said of what was lost, if the mark remembers its origin.
            (mark,) = found["marks"]
            unsaid = [p for p in claims.get("own", []) if int(p[2]) > truth.get(p[1], 2) and p[1] in mark["origins"]]
            survive = [[s, o, str(min(int(x), truth.get(o, 2)))] for s, o, x in claims.get("seen", [])]
            exact = {**claims, "own": [p for p in claims.get("own", []) if p not in unsaid], "seen": survive}
        if admits(found, 0, endpoint, time) and not admits(exact, 0, endpoint, time):
            yield claims, found, endpoint, time


@pytest.mark.spec("K-12", "K-13", "K-14")
@pytest.mark.parametrize("climb", [fast, ladder], ids=["fast", "dumb"])
def test_a_leader_mark_admits_nothing_that_the_exact_claims_do_not(climb: Ladder) -> None:
    assert next(mark_counterexamples(climb), None) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"exact": here, "origins": lost}', '"exact": here, "origins": []}'),
        ('"exact": here, "origins": lost}', '"exact": sorted(shards), "origins": lost}'),
        ('{"store": store, "until": str(until),', '{"store": store, "until": str(until - 1),'),
        ("if int(offset) > safe.get((s, o), -1)]", "if int(offset) > safe.get((s, o), -1) + 1]"),
    ],
    ids=["no origins", "what was left out excepted", "lapses a second too early", "at risk only if two ahead"],
)
def test_a_mark_that_says_less_admits_more(old: str, new: str) -> None:
    """So that the search above means something."""
    assert next(mark_counterexamples(twin("compaction", ((old, new),)).ladder), None) is not None
