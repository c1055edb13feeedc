"""The benches run and say what they promise to; what they measure of time is not judged here, what they measure of size is exact."""

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("hlcpy", reason="the benches' peers are not installed")
from benches import bench_postgres, readme_table
from benches.__main__ import MODULES, main
from benches.measure import Effort, Row, against_floor, against_peer

ASKED = {
    "clock.now()": "<= 3x",
    "clock.now() and hlcpy": ">= 4x",
    "clock.update()": "<= 3x",
    "clock.update() and hlcpy": ">= 4x",
    **{f"seal, {n}": "<= 2.5x" for n in ("1 shard", "4 shards", "16 shards")},
    **{f"open without cache, {n}": "<= 3x" for n in ("1 shard", "4 shards", "16 shards")},
    **{f"open again, {n}": "<= 0.2x" for n in ("1 shard", "4 shards", "16 shards")},
    **{f"seal and open, {n}, and itsdangerous": ">= 3x" for n in ("1 shard", "4 shards", "16 shards")},
    **{f"seal and open, {n}, and PyJWT": ">= 4x" for n in ("1 shard", "4 shards", "16 shards")},
    **{f"{what}, {n} shards": "<= 2x" for what in ("join", "dominates") for n in (4, 16)},
    "decide, 1 leader + 3 replicas, the nearest covers": "<= 0.043x",  # 4 us of 93
    "tasks: wake each of 100 waiting reads": "<= 4.39x",  # log2(21) / log2(2): no more than 20 wait here
    "memory of a waiting read, beyond its bare task, 10,000 waiting": "<= 1x",  # of 2 KiB
    "SQLite: read one key, gated block": "<= 2x",
    "SQLite: durable put, gated block": "<= 1.5x",
    **{f"ASGI request, no token, {what}": "<= 1x" for what in ("no session", "a session")},  # of 60 us
    "ASGI request, a token, opened, and one sealed": "<= 1x",  # of 100 us
    **{f"PostgreSQL: gated read, {n}": ">= 0.95x" for n in ("1 thread", "8 threads", "8 tasks")},
    "PostgreSQL: gated read, 1 ms away, median": ">= 0.952x",  # 1 / 1.05
    "PostgreSQL: commit with its token, median": ">= 0.971x",  # 1 / 1.03
    "cache in the process: gated hit": "<= 4x",
    "cache in the process: gated hit, in time": "<= 1x",  # of 3 us
    "cache on Valkey: gated hit": "<= 1.3x",
    "hit rate, TTL only: wrote nothing": ">= 0.99x",
    "hit rate, TTL only: a writer, other keys": ">= 0.97x",
    "simulate photo-profile, an operation, every check on": "<= 1x",  # of 33 us: 30,000 a second
    "simulate: memory at the end of 1,000,000 operations": "<= 1.1x",
    "token text, 6 shards, 42-bit offsets, exact": "<= 1x",  # of 100 characters
    "token text, 4 shards, 16-bit origins, exact": "<= 1x",
    "token text, 12 shards, clock offsets, exact": "<= 1x",
    "check, white box, 1,000,000 operations, 100 sessions, 16 shards": "<= 1x",  # of 5 s
    "check, black box, 200,000 operations, 50 sessions, 16 shards": "<= 1x",  # of 3 s
    "memory of a history and its check, white box, 1,000,000 operations": "<= 1x",  # of 400 MB
    "growth of a check, white box, with operations": "<= 1.2x",
    "growth of a check, black box, with operations": "<= 1.2x",
}
"""What is asked for, whatever the code says of itself."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    effort = Effort(rounds=1, block_s=1e-5, most=20)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("bench"))  # where the store's rows put their files
        measured = [case.measure(effort) for module in MODULES for case in module.cases()]
    bench_postgres.end()
    assert len({row.name for row in measured}) == len(measured)
    return {row.name: row for row in measured}


def test_every_row_says_against_what_and_how_much(rows: dict[str, Row]) -> None:
    for row in rows.values():
        said = json.loads(json.dumps(row.as_dict()))
        assert {"name", "value", "against", "ratio", "unit", "bar", "met"} < said.keys()
        assert ("floor" in said) is not ("peer" in said)
        other = said["floor"] if "floor" in said else said["peer"]
        if row.unit == "bytes":  # what a few take can be less than what somebody else gives back meanwhile
            assert math.isfinite(said["value"])
            assert math.isfinite(other)
            continue
        assert said["value"] >= 0 <= other
        if row.unit not in ("%", "/s"):  # of a share, and of what is counted in a short while, there may be none
            assert said["value"] > 0 < other
            assert said["ratio"] > 0


def test_servers_of_somebody_else_are_not_measured() -> None:
    def world(*servers: list[int]) -> Any:
        named = {
            str(n): SimpleNamespace(_postmaster=SimpleNamespace(family=lambda f=f: f)) for n, f in enumerate(servers)
        }
        return SimpleNamespace(cluster=SimpleNamespace(servers=named))

    def used() -> float:
        return sum(os.times()[:4])

    gone = 2**22 + 1  # above the most that Linux gives
    before = used()
    measured = bench_postgres.cpu_of(world([os.getpid()], [gone]))
    assert before - 0.05 <= measured <= used() + 0.05  # each part is cut to ticks of its own
    assert bench_postgres.cpu_of(world([gone], [])) == 0


def test_the_bars_are_those_that_were_asked_for(rows: dict[str, Row]) -> None:
    assert {name: rows[name].asked for name in ASKED} == ASKED


def test_sizes_are_within_their_budgets(rows: dict[str, Row]) -> None:
    sizes = [row for row in rows.values() if row.unit == "characters"]
    assert {row.met for row in sizes if row.bar is not None} == {True}
    for kind in ("42-bit offsets", "clock offsets"):
        for n in ("1 shard", "2 shards", "8 shards", "16 shards", "100 shards", "1,000 shards"):
            assert rows[f"token text, {n}, {kind}, to fit 100"].value <= 100


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", 3, "us", "x", 2, "floor", 1.5, 1.5), True),
        (Row("a", 3, "us", "x", 2, "floor", 1.51, 1.5), False),
        (Row("a", 2, "us", "x", 8, "peer", 4, 4), True),
        (Row("a", 2, "us", "x", 7, "peer", 3.5, 4), False),
        (Row("a", 2, "us", "x", 7, "peer", 3.5, None), None),
    ],
)
def test_a_row_is_met_up_to_its_bar(row: Row, met: bool | None) -> None:
    assert row.met is met


def test_a_ratio_is_against_a_floor_or_how_many_times_faster_than_a_peer() -> None:
    def little() -> object:
        return sum(range(10))

    def much() -> object:
        return sum(range(20_000))

    effort = Effort(rounds=5)
    assert against_floor("", much, little, "", 1).measure(effort).ratio > 2
    assert against_peer("", little, much, "", 1).measure(effort).ratio > 2


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)


def test_one_json_object_a_row() -> None:
    result = run("--json", "--rounds", "1", "--only", "token text, 6 shards")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 6
    assert found[0] == {
        "name": "token text, 6 shards, 42-bit offsets, exact",
        "value": 88,
        "floor": 100,
        "against": "a budget of 100",
        "ratio": 0.88,
        "bar": "<= 1x",
        "met": True,
        "unit": "characters",
    }


def test_the_table_counts_what_is_met() -> None:
    result = run("--rounds", "1", "--only", "token text, 6 shards")
    assert result.exit_code == 0, result.output
    assert "5 of 5 rows are as asked for; 1 more are only shown." in result.stdout


@pytest.mark.parametrize("arguments", [("--only", "("), ("--only", "no such row"), ("--rounds", "0")])
def test_what_cannot_be_measured_is_said(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error" in result.output


def test_the_readme_is_filled_from_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{readme_table.BEGIN}\nold\n{readme_table.END}\nafter\n")
    policy = {"policy": "eventual", "stale": 1268, "non_monotonic": 50, "out_of_causal_order": 1268, "p50_ms": 0.0}
    counts = {"p99_ms": 0.0, "waited": 0, "away_percent": 0.0, "reads": 10_000, "writes": 4361}
    compared = {**policy, **counts, "refused_reads": 0, "refused_writes": 0}
    measured = [
        Row("fast", 2, "us", "a peer", 8, "peer", 4, 4).as_dict(),
        Row("slow", 3, "us", "a floor", 1, "floor", 3, 2).as_dict(),
        Row("shown", 3, "us", "a floor", 1, "floor", 3, None).as_dict(),
    ]
    (tmp_path / "compare").write_text(json.dumps(compared) + "\n")
    (tmp_path / "bench").write_text("".join(json.dumps(row) + "\n" for row in measured))
    monkeypatch.setattr(readme_table, "README", readme)
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "compare"), str(tmp_path / "bench")])
    readme_table.main()
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "history of 14,361 operations" in text
    assert "| eventual | 1,268 | 50 | 1,268 | 0 ms | 0 ms | 0 | 0 % |" in text
    assert "| fast | 2 us | a peer | 8 us | 4x | >= 4x |" in text
    assert "Not as asked for: slow." in text
    assert "shown" not in text
    assert "old" not in text
