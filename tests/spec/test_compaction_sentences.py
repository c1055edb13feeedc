"""Each numbered sentence of docs/spec/compaction.md: its vectors hold for this library, and notice who violates it."""

import types
from collections.abc import Mapping
from typing import Any

import pytest

from causal import MalformedToken
from tests.spec.violations import Changes, check

SETTINGS = ("token_ttl_s", "max_staleness_s", "max_clock_skew_s")


def answers(twin: types.ModuleType, op: str, given: Mapping[str, Any]) -> Any:
    """What a twin answers."""
    settings = {name: given[name] for name in SETTINGS if name in given}
    match op:
        case "compaction.ladder":
            found = twin.ladder(
                given["claims"],
                given["measure"],
                given["limit"],
                given["now"],
                int(given["until"]),
                given.get("floor", []),
                given.get("replicated", []),
                given.get("stores"),
            )
            return {"claims": found, "size": twin.size_of(found, given["measure"])}
        case "compaction.bounds":
            return twin.bounds(given["now"], **settings)
        case _:
            if given["bad_token"] == "raise":
                raise MalformedToken("the policy passes it on")
            return {"claims": twin.present(given["tokens"], given["bad_token"], given["now"], **settings)}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            (("        lambda found: found,\n        unfiltered,", "        unfiltered,"),),
            marks=pytest.mark.spec("K-1"),
            id="K-1: always at least one rung",
        ),
        pytest.param(
            (
                (
                    "        unfiltered,\n        lambda found: aged(found, now, mine),",
                    "        lambda found: aged(found, now, mine),\n        unfiltered,",
                ),
            ),
            marks=pytest.mark.spec("K-2"),
            id="K-2: ages before filters",
        ),
        pytest.param(
            (
                (
                    "lambda found: aged(found, now, mine),",
                    "lambda found: aged(floored(found, dict(floor), mine), now, mine),",
                ),
            ),
            marks=pytest.mark.spec("K-2"),
            id="K-2: a floor before ages",
        ),
        pytest.param(
            (("        lambda found: floored(found, dict(floor), mine),\n", ""),),
            marks=pytest.mark.spec("K-2"),
            id="K-2: no floor",
        ),
        pytest.param(
            (("(stores is None or store in stores)", "True"),),
            marks=pytest.mark.spec("K-3"),
            id="K-3: every store is known",
        ),
        pytest.param(
            (
                (
                    'return {**claims, **left, "marks": [*marks.values()]}',
                    'return {**claims, **left, "marks": [*marks.values()], "timestamp": []}',
                ),
            ),
            marks=pytest.mark.spec("K-4"),
            id="K-4: no timestamp on the last rung",
        ),
        pytest.param(
            (('    return {**claims, "touched": []}', "    return claims"),),
            marks=pytest.mark.spec("K-5"),
            id="K-5: filters stay",
        ),
        pytest.param((("<= now\n    }", "< now\n    }"),), marks=pytest.mark.spec("K-6"), id="K-6: an hour later"),
        pytest.param(
            (
                (
                    '        for name in ("own", "seen", "ages")\n    }\n    return {**claims, **kept}',
                    '        for name in ("seen", "ages")\n    }\n    return {**claims, **kept}',
                ),
            ),
            marks=pytest.mark.spec("K-6"),
            id="K-6: own positions stay",
        ),
        pytest.param(
            (
                (
                    '    return {**claims, "ages": [age for age in claims.get("ages", []) if not mine(store_of(age))]}',
                    "    return claims",
                ),
            ),
            marks=pytest.mark.spec("K-7"),
            id="K-7: ages stay",
        ),
        pytest.param(
            (("            floors[store] = max(floors.get(store, 0), offset)", "            floors[store] = offset"),),
            marks=pytest.mark.spec("K-8"),
            id="K-8: the last offset becomes the floor",
        ),
        pytest.param(
            (("offset <= int(bounds[store]):", "offset < int(bounds[store]):"),),
            marks=pytest.mark.spec("K-8"),
            id="K-8: not at the bound",
        ),
        pytest.param(
            (
                (
                    "            floors[store] = max(floors.get(store, 0), offset)",
                    "            floors[store] = int(bounds[store])",
                ),
            ),
            marks=pytest.mark.spec("K-8"),
            id="K-8: the bound becomes the floor",
        ),
        pytest.param(
            (
                (
                    'for position in claims.get("seen", []):\n        store, offset',
                    'for position in claims.get("seen", []) + claims.get("own", []):\n        store, offset',
                ),
                ('return {**claims, "seen": seen, "floors"', 'return {**claims, "own": [], "seen": seen, "floors"'),
            ),
            marks=pytest.mark.spec("K-9"),
            id="K-9: own positions fold",
        ),
        pytest.param(
            (
                (
                    "if mine(store) and store in bounds and offset <= int(bounds[store]):",
                    "if mine(store) and offset <= int(bounds.get(store, 2**64)):",
                ),
            ),
            marks=pytest.mark.spec("K-10"),
            id="K-10: every store",
        ),
        pytest.param(
            (("math.floor((Fraction(now) - max_staleness_s) * 1000)", "math.floor(Fraction(now) * 1000)"),),
            marks=pytest.mark.spec("K-11"),
            id="K-11: the bound is now",
        ),
        pytest.param(
            (
                (
                    "milliseconds = max(0, math.floor((Fraction(now) - max_staleness_s) * 1000))",
                    "milliseconds = math.floor((Fraction(now) - max_staleness_s) * 1000)",
                ),
            ),
            marks=pytest.mark.spec("K-11"),
            id="K-11: below 0",
        ),
        pytest.param(
            (
                (
                    'entry[0] not in gone] for name in ("own", "seen", "ages")',
                    'entry[0] not in gone] for name in ("own", "ages")',
                ),
            ),
            marks=pytest.mark.spec("K-12"),
            id="K-12: what was seen stays",
        ),
        pytest.param(
            (('"exact": here, "origins": lost}', '"exact": [], "origins": lost}'),),
            marks=pytest.mark.spec("K-13"),
            id="K-13: nothing is excepted",
        ),
        pytest.param(
            (('"exact": here, "origins": lost}', '"exact": sorted(kept), "origins": lost}'),),
            marks=pytest.mark.spec("K-13"),
            id="K-13: all stores' shards are excepted",
        ),
        pytest.param(
            (("if int(offset) > safe.get((s, o), -1)]", "if int(offset) >= safe.get((s, o), -1)]"),),
            marks=pytest.mark.spec("K-14"),
            id="K-14: a write just replicated is at risk",
        ),
        pytest.param(
            (('"exact": here, "origins": lost}', '"exact": here, "origins": []}'),),
            marks=pytest.mark.spec("K-14"),
            id="K-14: no origin is remembered",
        ),
        pytest.param(
            (("for shard, origin in risky if shard in dropped})", "for shard, origin in risky})"),),
            marks=pytest.mark.spec("K-14"),
            id="K-14: origins of kept shards",
        ),
        pytest.param(
            (("            marks[store] = joined(marks.get(store, new), new)", "            marks[store] = new"),),
            marks=pytest.mark.spec("K-15"),
            id="K-15: a mark is replaced",
        ),
        pytest.param(
            (
                (
                    '            marks[store] = {**before, "exact": sorted({*before["exact"]} & {*here})}',
                    "            marks[store] = before",
                ),
            ),
            marks=pytest.mark.spec("K-15"),
            id="K-15: exceptions that were not kept stay",
        ),
        pytest.param(
            (("            kind = 2\n", "            kind = 1\n"),),
            marks=pytest.mark.spec("K-16"),
            id="K-16: reads stay as long as writes",
        ),
        pytest.param(
            (
                (
                    "return kind, sum(s == shard for s, _ in pairs), shard",
                    "return kind, -sum(s == shard for s, _ in pairs), shard",
                ),
            ),
            marks=pytest.mark.spec("K-16"),
            id="K-16: many pairs stay longest",
        ),
        pytest.param(
            (("            kind = 0\n", "            kind = 1.5\n"),),
            marks=pytest.mark.spec("K-16"),
            id="K-16: what is replicated stays longest",
        ),
        pytest.param(
            (("for count in range(len(order), -1, -1)", "for count in range(len(order) // 2, -1, -1)"),),
            marks=pytest.mark.spec("K-17"),
            id="K-17: half as many",
        ),
        pytest.param(
            (("for any_origin in (False, True)", "for any_origin in (False,)"),),
            marks=pytest.mark.spec("K-18"),
            id="K-18: never any",
        ),
        pytest.param(
            (('if any_origin and store in marks and marks[store]["origins"]:', "if any_origin and store in marks:"),),
            marks=pytest.mark.spec("K-18"),
            id="K-18: any without an origin",
        ),
        pytest.param(
            (("for counts_foreign in (True, False):", "for counts_foreign in (True,):"),),
            marks=pytest.mark.spec("K-19"),
            id="K-19: foreign stores count always",
        ),
        pytest.param(
            (("for counts_foreign in (True, False):", "for counts_foreign in (False,):"),),
            marks=pytest.mark.spec("K-19"),
            id="K-19: foreign stores never count",
        ),
        pytest.param(
            (("math.floor((Fraction(now) - max_staleness_s) * 1000)", "(math.floor(now) - max_staleness_s) * 1000"),),
            marks=pytest.mark.spec("K-11"),
            id="K-11: whole seconds",
        ),
        pytest.param(
            (
                (
                    "math.floor((Fraction(now) - max_staleness_s) * 1000)",
                    "math.ceil((Fraction(now) - max_staleness_s) * 1000)",
                ),
            ),
            marks=pytest.mark.spec("K-11"),
            id="K-11: rounded up",
        ),
        pytest.param(
            (("until = math.floor(now) + max", "until = math.ceil(now) + max"),),
            marks=pytest.mark.spec("K-20"),
            id="K-20: a second late",
        ),
        pytest.param(
            (
                (
                    "until = math.floor(now) + max_staleness_s + max_clock_skew_s + 1",
                    "until = math.floor(now) + max_staleness_s + 1",
                ),
            ),
            marks=pytest.mark.spec("K-20"),
            id="K-20: without the skew",
        ),
        pytest.param(
            (("if token_ttl_s <= max_staleness_s", "if token_ttl_s < max_staleness_s"),),
            marks=pytest.mark.spec("K-21"),
            id="K-21: a life as long as that will do",
        ),
        pytest.param(
            (('mark = {"store": EVERY_STORE, "until": until', 'mark = {"store": 0, "until": until'),),
            marks=pytest.mark.spec("K-22"),
            id="K-22: only one store",
        ),
        pytest.param(
            (('bad = bad_token == "leader" and', 'bad = bad_token == "never" and'),),
            marks=pytest.mark.spec("K-22"),
            id="K-22: no mark",
        ),
        pytest.param(
            (("        opened.append({", "        opened.clear()\n        opened.append({"),),
            marks=pytest.mark.spec("K-23"),
            id="K-23: the others are forgotten",
        ),
        pytest.param(
            (('bad = bad_token == "leader" and', "bad = bad_token and"),),
            marks=pytest.mark.spec("K-24"),
            id="K-24: a mark whatever the policy",
        ),
        pytest.param(
            (("isinstance(token, str) and token for token in tokens", "isinstance(token, str) for token in tokens"),),
            marks=pytest.mark.spec("K-25"),
            id="K-25: an empty text is one",
        ),
        pytest.param(
            (
                (
                    "any(isinstance(token, str) and token for token in tokens)",
                    'any(token["expires_at"] <= now if isinstance(token, dict) else token for token in tokens)',
                ),
            ),
            marks=pytest.mark.spec("K-25"),
            id="K-25: an expired one is one",
        ),
    ],
)
def test_a_sentence_holds_and_its_violation_is_noticed(changes: Changes, request: pytest.FixtureRequest) -> None:
    mark = request.node.get_closest_marker("spec")
    assert mark is not None
    check("compaction", mark.args[0], changes, answers)
