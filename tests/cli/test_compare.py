"""`causal compare`, as a user calls it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result

from causal.cli.demo import small_trace
from causal.cli.main import main
from causal.lab.postgres.binaries import Binaries, NoBinaries

EXCERPT = Path(__file__).parent.parent / "data" / "flask-excerpt.jsonl"

# `causal compare` in a process of its own, which does something at its 50th operation.
AT_50 = """
import os, signal, sys
import causal.lab.parallel as command
from causal.cli import run
from causal.lab import replay as lab

def replay(operations, strategy, setting, progress):
    steps = iter(range(10**9))
    def stepped(n):
        progress(n)
        if next(steps) == 50:
            {what}
    return lab.replay(operations, strategy, setting, stepped)

command.replay = replay
sys.argv = ["causal", "compare", *sys.argv[1:]]
sys.exit(run())
"""


def compare(*argv: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, argv)])


def process(code: str, *argv: object, **settings: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        stdin=subprocess.DEVNULL,
        capture_output="stdout" not in settings,
        timeout=120,
        check=False,
        **settings,
    )


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    lines = []
    for row in map(attrs.asdict, small_trace(users=6, posts=3)):
        line = {"t": row["t_s"], **{name: row[name] for name in ("session", "op", "key")}}
        lines.append(json.dumps(line | ({"value": row["value"]} if row["op"] == "write" else {})))
    path = tmp_path / "trace"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_as_json(trace: Path) -> None:
    result = compare(trace, "--policy", "token", "--policy", "eventual", "--policy", "token", "--hop", "0.6", "--json")
    assert result.exit_code == 0, result.output
    token, eventual = (json.loads(line) for line in result.stdout.splitlines())
    assert (token["strategy"], token["stale"], token["reads"]) == ("token", 0, 54)
    assert eventual["strategy"] == "eventual"
    assert eventual["stale"] > 0
    assert token["setting"] == eventual["setting"]
    assert token["setting"] == {
        "sites": ["eu", "us", "ap"],
        "lag": {"median_s": 0.05, "sigma": 0.0, "seed": 0},
        "rtt_s": 0.08,
        "speed": 1.0,
        "hop": 0.6,
        "seed": 1,
    }


def test_from_standard_input(trace: Path) -> None:
    argv = "--policy", "token", "--policy", "eventual", "--json"
    piped = CliRunner().invoke(main, ["compare", "-", *argv], input=trace.read_bytes())
    assert piped.exit_code == 0, piped.output
    assert piped.stdout == compare(trace, *argv).stdout
    wrong = CliRunner().invoke(main, ["compare", "-"], input=b"nonsense")
    assert wrong.exit_code == 2
    assert "standard input:1: not JSON" in wrong.output


@pytest.mark.parametrize(
    "argv",
    [(), ("--lag", "lognormal:50ms:0.8:12"), ("--sites", "16"), ("--sites", "frankfurt,virginia"), ("--rtt", "0.123")],
)
def test_the_title_fits_and_breaks_at_no_number(trace: Path, argv: tuple[str, ...]) -> None:
    result = compare(trace, "--policy", "eventual", *argv)
    assert result.exit_code == 0, result.output
    title = result.stdout[: result.stdout.index("Strategy")].rstrip()
    assert all(len(line) <= 80 for line in title.splitlines())
    assert all(fact in title for fact in ("hop 0.2", "speed 1", "seed 1"))


def test_as_a_table_that_fits_a_terminal(trace: Path) -> None:
    result = compare(trace, "--policy", "quorum+token", "--sites", "2", "--lag", "lognormal:20ms:0.5", "--speed", "2")
    assert result.exit_code == 0, result.output
    assert "72 operations in 6 sessions at s1, s2" in result.stdout
    table = [line for line in result.stdout.splitlines() if "quorum+token" in line or "Strategy" in line]
    assert len(table) == 2
    assert all(len(line) <= 80 for line in table)
    assert "Counted from the values that reads returned" in result.stdout


def test_two_processes_print_the_same_bytes() -> None:
    argv = EXCERPT, "--policy", "token", "--policy", "quorum", "--hop", "0.4", "--lag", "lognormal:80ms:0.7"
    code = "import sys; from causal.cli import run; sys.argv[1:1] = ['compare']; sys.exit(run())"
    first, second = (process(code, *argv, env={**os.environ, "PYTHONHASHSEED": seed}) for seed in ("1", "2"))
    assert first.returncode == second.returncode == 0, first.stderr
    assert b"token" in first.stdout
    assert first.stdout == second.stdout


def test_a_malformed_line_stops_it_before_any_run(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("causal.cli.compare.replay_each")
    trace.write_text(trace.read_text() + "nonsense\n")
    result = compare(trace)
    assert result.exit_code == 2
    assert f"{trace}:73: not JSON" in result.output.replace("\n", "")


@pytest.mark.parametrize(
    "argv",
    [
        ("--policy", "hope"),
        ("--lag", "soon"),
        ("--lag", "-1"),
        ("--speed", "0"),
        ("--speed", "nan"),
        ("--speed", "inf"),
        ("--rtt", "-1"),
        ("--rtt", "inf"),
        ("--sites", "eu"),
        ("--sites", "100000"),
        ("--sites", "eu,,us"),
        ("--sites", "../eu,us"),
        ("--hop", "2"),
    ],
)
def test_what_cannot_be_is_wrong_usage(trace: Path, argv: tuple[str, ...]) -> None:
    result = compare(trace, "--policy", "token", *argv)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)


def test_no_trace_is_wrong_usage(tmp_path: Path) -> None:
    absent = compare(tmp_path / "absent")
    assert absent.exit_code == 2
    assert "absent: cannot be read" in absent.output
    assert compare(tmp_path).exit_code == 2


def test_ctrl_c_ends_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code = AT_50.format(what="os.kill(os.getpid(), signal.SIGINT)")
    done = process(code, EXCERPT, "--policy", "token", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"causal: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_what_runs_side_by_side(tmp_path: Path) -> None:
    code = """
import os, signal, sys
import causal.cli.compare as command
from causal.cli import run
from causal.lab.parallel import replay_each

command.replay_each = lambda *args, **how: replay_each(*args[:3], lambda n: os.killpg(0, signal.SIGINT), **how)
sys.argv[1:1] = ["compare"]
sys.exit(run())
"""
    argv = EXCERPT, "--policy", "token", "--policy", "leader", "--jobs", "2"
    # As a terminal does: the whole group is told.
    done = process(code, *argv, env={**os.environ, "TMPDIR": str(tmp_path)}, start_new_session=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"causal: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_ends_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = process(AT_50.format(what="pass"), EXCERPT, "--policy", "token", stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_csv_and_figure(trace: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    argv = trace, "--policy", "token", "--policy", "eventual", "--hop", "0.6"
    result = compare(*argv, "--csv", tmp_path / "rows.csv", "--figure", tmp_path / "rows", "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    with (tmp_path / "rows.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [line["strategy"] for line in read] == ["token", "eventual"]
    for row, line in zip(rows, read, strict=True):
        assert float(line["setting.lag.median_s"]) == row["setting"]["lag"]["median_s"]
        assert {name: float(line[name]) for name in row if name not in {"strategy", "policy", "setting"}} == {
            name: value for name, value in row.items() if name not in {"strategy", "policy", "setting"}
        }
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "rows.svg").read_text()
    wrong = rows[1]["out_of_causal_order"] * 10_000 / rows[1]["reads"]
    assert all(f">{text}<" in svg for text in ("trace", "none", "eventual", f"{wrong:,.0f}"))


def test_a_figure_of_no_kind_that_there_is(trace: Path) -> None:
    assert compare(trace, "--policy", "token", "--figure", "x.gif").exit_code == 2


# --- on real servers -----------------------------------------------------------------------------------------------


def on_postgres(*argv: object) -> Result:
    pytest.importorskip("psycopg")
    try:
        Binaries.find()
    except NoBinaries as missing:
        pytest.skip(str(missing))
    return compare(*argv, "--engine", "postgres")


def test_the_same_table_on_postgres(trace: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    result = on_postgres(
        trace, "--policy", "token", "--policy", "token", "--replicas", "1", "--think", "2ms", "--csv", rows
    )
    assert result.exit_code == 0, result.output
    title, table = result.stdout.split("Strategy", 1)
    assert "72 operations in 6 sessions on PostgreSQL" in title
    assert all(
        fact in title for fact in ("1 standby", "lag 50 ms", "pauses up to 2 ms", "8 clients", "hop 0.2", "seed 1")
    )
    assert all(len(line) <= 80 for line in (title + table[: table.index("Counted")]).splitlines())
    assert "Times are real" in table
    token, eventual = csv.DictReader(rows.read_text().splitlines())
    assert (token["strategy"], token["stale"], token["out_of_causal_order"], token["reads"]) == (
        "token",
        "0",
        "0",
        "54",
    )
    assert (eventual["strategy"], eventual["setting.engine"], eventual["void"]) == ("eventual", "postgres", "False")
    assert int(eventual["stale"]) > 0  # a write is read back at once, 50 ms before it is there


def test_a_comparison_whose_control_shows_nothing_is_void(tmp_path: Path) -> None:
    trace = tmp_path / "reads"
    trace.write_text("".join(json.dumps({"t": n, "session": "a", "op": "read", "key": "k"}) + "\n" for n in range(9)))
    result = on_postgres(trace, "--policy", "token", "--operations", "4")
    assert result.exit_code == 1
    assert "This comparison is void" in result.stdout
    assert "4 operations" in result.stdout


@pytest.mark.parametrize(
    ("argv", "whose"),
    [
        (("--replicas", "1"), "postgres"),
        (("--think", "1ms"), "postgres"),
        (("--clients", "1"), "postgres"),
        (("--engine", "postgres", "--sites", "2"), "sqlite"),
        (("--engine", "postgres", "--rtt", "1"), "sqlite"),
        (("--engine", "postgres", "--jobs", "1"), "sqlite"),
    ],
)
def test_an_option_of_the_other_engine_is_wrong_usage(trace: Path, argv: tuple[str, ...], whose: str) -> None:
    result = compare(trace, *argv)
    assert result.exit_code == 2
    assert f"is for --engine {whose}" in result.output


@pytest.mark.parametrize(
    "argv",
    [("--lag", "lognormal:50ms:0.8"), ("--replicas", "0"), ("--think", "soon"), ("--clients", "99"), ("--hop", "2")],
)
def test_what_real_servers_cannot_be(trace: Path, argv: tuple[str, ...]) -> None:
    pytest.importorskip("psycopg")
    assert compare(trace, "--engine", "postgres", *argv).exit_code == 2


def test_only_the_first_operations(trace: Path) -> None:
    assert "10 operations in" in compare(trace, "--policy", "token", "--operations", "10").stdout
