"""`causal compare` and `causal demo`, as a user calls them."""

import json
from pathlib import Path

import attrs
from click.testing import CliRunner

from causal.cli.demo import small_trace
from causal.cli.main import main


def written(path: Path) -> Path:
    rows = (attrs.asdict(o) for o in small_trace(users=6, posts=3))
    lines = (
        {"t": r["t_s"], **{k: r[k] for k in ("session", "op", "key")}}
        | ({"value": r["value"]} if r["op"] == "write" else {})
        for r in rows
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_compare_as_json(tmp_path: Path) -> None:
    args = [
        "compare",
        str(written(tmp_path / "trace")),
        "--policy",
        "token",
        "--policy",
        "eventual",
        "--hop",
        "0.6",
        "--json",
    ]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    token, eventual = (json.loads(line) for line in result.stdout.splitlines())
    assert (token["strategy"], token["stale"], token["reads"]) == ("token", 0, 54)
    assert eventual["strategy"] == "eventual"
    assert eventual["stale"] > 0


def test_a_malformed_line_stops_it_before_any_run(tmp_path: Path) -> None:
    path = written(tmp_path / "trace")
    path.write_text(path.read_text() + "nonsense\n")
    result = CliRunner().invoke(main, ["compare", str(path)])
    assert result.exit_code == 2
    assert f"{path}:73: not JSON" in result.output.replace("\n", "")


def test_the_demo_tells_the_story_and_its_guarantees_hold() -> None:
    result = CliRunner().invoke(main, ["demo", "--json"])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    found = [row["found"] for row in rows if "found" in row]
    assert found[:2] == [None, "new.jpg"]
    assert {row["strategy"] for row in rows if "strategy" in row} >= {"token", "leader", "eventual"}
