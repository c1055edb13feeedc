"""The twin that the vectors of histories are made by, against the checker: on random histories with all that a line can say."""

import random
from typing import Any

import pytest

from causal.lab.history import HistoryError
from causal.lab.vectors.histories import OPS
from tests.spec.twins import histories as twin

check = OPS["history.check"]


def drawn(chance: random.Random) -> list[dict[str, Any]]:
    """A history of up to nine operations that no store need have made: of origins, stamps, ends, shards, samples, doubts and losses."""
    origins = [1, 2][: chance.choice((1, 1, 2))]
    stamped, sampled, parallel = chance.random() < 0.5, chance.random() < 0.3, chance.random() < 0.4
    rows: list[dict[str, Any]] = []
    versions: list[dict[str, Any]] = []
    heard: dict[str, int] = {}
    top = dict.fromkeys(origins, 0)
    for n in range(chance.randint(4, 9)):
        session = chance.choice("abc"[: chance.choice((2, 3))])
        seq = heard[session] = heard.get(session, 0) + 1
        row: dict[str, Any] = {"session": session, "seq": seq, "key": chance.choice("xy"[: chance.choice((1, 2))])}
        if chance.random() < 0.1:
            row["shard"] = 1
        if parallel and seq > 1 and chance.random() < 0.3:
            row["after"] = chance.randrange(seq)
        if chance.random() < 0.45:
            origin = chance.choice(origins)
            top[origin] += 1
            row |= {"op": "write", "value": f"v{n}", "version": [origin, top[origin]]}
            if stamped:
                row["stamp"] = chance.randint(1, 4)
            if chance.random() < 0.2:
                row["ok"] = chance.choice((None, False))
            if chance.random() < 0.05:
                del row["version"]
                row.pop("stamp", None)
            versions.append(row)
            if sampled and chance.random() < 0.3:
                heard[session] -= 1
                continue
        else:
            row["op"] = "read"
            mine = [
                w
                for w in versions
                if (w.get("shard", 0), w["key"]) == (row.get("shard", 0), row["key"]) and "version" in w
            ]
            if mine and chance.random() < 0.75:
                w = chance.choice(mine[-3:])
                row |= {name: w[name] for name in ("value", "version", "stamp") if name in w}
                if chance.random() < 0.05:
                    row["value"] = "other"
            if chance.random() < 0.1:
                row["held"] = False
            if chance.random() < 0.05:
                row["ok"] = False
        rows.append(row)
    if parallel:  # answered in another order than started
        for place in range(len(rows) - 1):
            if chance.random() < 0.2:
                rows[place], rows[place + 1] = rows[place + 1], rows[place]
    extra: list[dict[str, Any]] = []
    if chance.random() < 0.4:
        end = {"op": "end", "shard": 0, "origin": chance.choice(origins), "offset": chance.randint(0, 4)}
        extra.append(end)
        for row in rows:
            if (
                row["op"] == "write"
                and "version" in row
                and row["version"][1] > end["offset"]
                and chance.random() < 0.5
            ):
                seq = row["seq"] + chance.randint(1, 3)
                told = {"session": row["session"], "seq": seq, "shard": row.get("shard", 0), "version": row["version"]}
                extra.append({"op": chance.choice(("lost", "forget")), **told})
    meta = [{"op": "meta", "sample": 0.5}] if sampled else []
    return [*meta, *rows, *extra]


def said(judge: Any, lines: list[dict[str, Any]], mode: str, held: bool) -> Any:
    try:
        return judge(lines, mode, held)
    except twin.HistoryError as error:
        return f"line {error.args[0]}"
    except HistoryError as error:
        return f"line {error.line}"


def ours(lines: list[dict[str, Any]], mode: str, held: bool) -> Any:
    return check({"history": lines, "mode": mode, "held": held})


@pytest.mark.spec("S-9")
@pytest.mark.parametrize("mode", ["white", "black"])
def test_the_checker_says_what_the_definitions_say(mode: str) -> None:
    seen = set()
    for seed in range(3000):
        chance = random.Random(seed)
        lines, held = drawn(chance), chance.random() < 0.3
        wanted, found = said(twin.check, lines, mode, held), said(ours, lines, mode, held)
        assert found == wanted, f"seed {seed}:\n" + "\n".join(map(str, lines))
        seen.add(str(wanted))
    assert len(seen) >= {"white": 24, "black": 12}[mode]
