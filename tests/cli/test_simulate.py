"""`causal simulate`, as a user calls it."""

import csv
import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import causal
from causal.cli.main import main
from causal.lab.faults import MIXES, Faults
from causal.lab.planet.oracle import Oracle
from causal.lab.report.sweep import AXES
from causal.lab.scenarios import SCENARIOS
from causal.lab.simulator import STRATEGIES
from tests.lab.planets import TINY, tiny

SOURCES = str(Path(causal.__file__).resolve().parent.parent)
RUN = "import sys; from causal.cli import run; sys.argv[1:1] = ['simulate']; sys.exit(run())"


def simulate(*argv: object) -> Result:
    return CliRunner().invoke(main, ["simulate", *map(str, argv)])


def records(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def process(code: str, *argv: object, where: Path, **settings: Any) -> "subprocess.CompletedProcess[bytes]":
    env = {**os.environ, **settings.pop("env", {})}
    if "PYTHONPATH" in env:  # it may be relative
        env["PYTHONPATH"] = SOURCES
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
        cwd=where,
        env=env,
        **settings,
    )


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the test's own, to which a failure may write, with a planet in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bookkeeping finds that a promise is broken by the first version that is shown after half a second."""
    answered = Oracle.answered

    def wrong(oracle: Oracle, me: Any, key: int, entry: Any, *rest: Any, promised: bool, **more: Any) -> None:
        answered(oracle, me, key, entry, *rest, promised=promised, **more)
        if promised and entry is not None and oracle._now() > 0.5:
            oracle.broke("stale own read", me.name, f"{me.name} was shown {entry}, as planted")

    monkeypatch.setattr(Oracle, "answered", wrong)


# --- the table


def test_as_json() -> None:
    names = "token", "eventual", "token", "window"
    token, eventual, window = records(simulate("tiny.toml", "--json", *(f"--strategy={name}" for name in names)))
    assert [row["strategy"] for row in (token, eventual, window)] == ["token", "eventual", "window"]
    assert token["promises"]
    assert not eventual["promises"]
    assert (token["stale"], token["backward"], token["acausal"], token["violations"]) == (0, 0, 0, 0)
    assert eventual["stale"] > 0
    assert eventual["acausal"] >= eventual["stale"]
    assert eventual["acausal"] >= max(eventual["stale"], eventual["backward"])
    assert token["waits"] > 0
    assert token["operations"] == sum(
        token[name] for name in ("reads", "writes", "refused_reads", "refused_writes", "in_doubt")
    )
    assert 0 < token["token_mean"] <= token["token_max"] < 100
    assert token["setting"] == window["setting"] == {"scenario": "tiny", "seed": 1, "faults": {}}


def test_every_strategy_by_default() -> None:
    assert [row["strategy"] for row in records(simulate("tiny.toml", "--json"))] == list(STRATEGIES)


def test_the_photo_profile_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def scenario(name: str) -> object:
        asked.append(name)
        return tiny()

    monkeypatch.setattr("causal.cli.simulate.scenario", scenario)
    assert simulate("--strategy", "eventual").exit_code == 0
    assert set(asked) == {"photo-profile"}


def test_as_a_table_that_fits_a_terminal() -> None:
    result = simulate("tiny.toml")
    assert result.exit_code == 0, result.output
    assert "Tiny: 40 sessions, at eu, us, 2 shards" in result.stdout
    title, _, table = result.stdout.partition(" Strategy ")
    table = table.partition("Stale: ")[0]
    assert all(len(line) <= 80 for line in (title + table).splitlines())
    assert "…" not in table
    assert all(name in table for name in STRATEGIES)


def test_notes_say_what_is_there() -> None:
    notes = simulate("tiny.toml", "--strategy", "token").stdout
    assert "Stale: reads that returned less than the reader's own last write" in notes
    assert "Said:" not in notes
    assert "by chance" not in notes
    quiet = simulate("tiny.toml", "--strategy", "eventual", "--sweep", "write-share=0").stdout
    assert "Without any here, by chance: eventual." in quiet


def test_reads_that_say_that_they_are_stale_have_a_column(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = '\n[cache]\n\n[index]\nlag = "2s"\n\n[populations.people.mix]\nsource = 1\nindex = 1\n'
    (here / "indexed.toml").write_text(TINY.replace("\n[strategies]", f"{cached}\n[strategies]"))
    for width, tables in ((80, 2), (100, 1)):  # as one, it does not fit
        monkeypatch.setenv("COLUMNS", str(width))
        result = simulate("indexed.toml")
        assert result.exit_code == 0, result.output
        shown = result.stdout.partition("Stale: ")[0]
        assert shown.count(" Strategy ") == shown.count("quorum+token") == tables
        assert "…" not in shown
        assert all(len(line) <= width for line in shown.splitlines())
        assert shown.count("Said") == shown.count("p99.9") == 1
        assert "Said: reads whose receipt says" in result.stdout


def test_two_processes_print_the_same_bytes(here: Path) -> None:
    code = """
import logging, sys
from causal.lab.faults import MIXES
from causal.lab.planet.reading import read_topology
from causal.lab.simulator import STRATEGIES, simulate
logging.getLogger("causal").addHandler(logging.NullHandler())  # here; the processes of the command are to see to themselves
for name in STRATEGIES:
    print(simulate(read_topology("tiny.toml"), name, faults=MIXES["everything"], seed=7, digest=True).digest)
from causal.cli import run
sys.argv[1:] = ["simulate", "tiny.toml", "--faults", "everything", "--seed", "7", "--json", "--jobs", "2"]
sys.exit(run())
"""
    first, second = (process(code, where=here, env={"PYTHONHASHSEED": seed}) for seed in ("1", "2"))
    assert first.returncode == second.returncode == 0, first.stderr
    digests = first.stdout.split()[: len(STRATEGIES)]
    assert len(set(digests)) == len(STRATEGIES)
    assert first.stdout == second.stdout
    assert first.stderr == b""


def test_side_by_side_is_one_after_the_other() -> None:
    argv = "tiny.toml", "--json", "--strategy", "quorum", "--strategy", "eventual", "--strategy", "quorum+token"
    assert simulate(*argv, "--jobs", "2").stdout == simulate(*argv).stdout


def test_another_seed_is_another_run() -> None:
    argv = "tiny.toml", "--json", "--strategy", "eventual"
    assert simulate(*argv, "--seed", "2").stdout != simulate(*argv, "--seed", "1").stdout


# --- faults


def test_faults_are_the_files_or_a_mix_and_single_ones_over_them(here: Path) -> None:
    (here / "broken.toml").write_text(TINY + "\n[faults]\nloss = 0.1\npause = 0.2\n")

    def faults(*argv: str) -> dict[str, float]:
        (row,) = records(simulate(*argv, "--strategy", "eventual", "--json"))
        return row["setting"]["faults"]

    assert faults("broken.toml") == {"loss": 0.1, "pause": 0.2}
    assert faults("broken.toml", "--fault", "pause=0.5", "--fault", "delay=1") == {
        "loss": 0.1,
        "pause": 0.5,
        "delay": 1,
    }
    network = {name: value for name, value in MIXES["network"].as_dict().items() if value != Faults().as_dict()[name]}
    assert faults("broken.toml", "--faults", "network") == network
    assert faults("tiny.toml", "--faults", "network", "--fault", "loss=0") == {
        n: v for n, v in network.items() if n != "loss"
    }


def test_faults_happen() -> None:
    argv = "tiny.toml", "--strategy", "token", "--json"
    calm, broken = (records(simulate(*argv, *more))[0] for more in ((), ("--fault", "ack_lost=0.5")))
    assert calm["in_doubt"] == 0
    assert broken["in_doubt"] > 0


# --- files


def test_csv_holds_the_numbers_of_the_json() -> None:
    rows = records(simulate("tiny.toml", "--csv", "rows.csv", "--json"))
    with open("rows.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows) == len(STRATEGIES)
    for row, line in zip(rows, read, strict=True):
        setting = {f"setting.{name}": value for name, value in row.pop("setting").items() if name != "faults"}
        flat = row | setting
        assert line.keys() == flat.keys()
        for name, value in flat.items():
            text = line[name]
            assert (text if isinstance(value, str) else json.loads(text.lower())) == value, name


def test_figures(here: Path) -> None:
    pytest.importorskip("matplotlib")
    argv = "tiny.toml", "--strategy", "token", "--strategy", "eventual"
    said = simulate(*argv, "--figure", "a.png", "--figure", "b", "--figure", "c.SVG").stdout
    names = {"a.png", "b.png", "b.svg", "c.SVG"}
    assert {path.name for path in here.iterdir()} == names | {"tiny.toml"}
    assert all(f"Wrote {name}." in said for name in names)
    head = (here / "a.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    assert (width, 250 < height < 500) == (1200, True)
    assert (here / "b.svg").read_bytes() == (here / "c.SVG").read_bytes()
    svg = (here / "b.svg").read_text()
    assert all(f">{text}<" in svg for text in ("Tiny", "token", "eventual", "none", "wrong reads per 10,000", "leader"))


def test_without_the_extra_a_hint_before_any_work(here: Path) -> None:
    done = process(f"import sys; sys.modules['matplotlib'] = None; {RUN}", "tiny.toml", "--figure", "x.png", where=here)
    assert done.returncode == 2
    assert b"a figure needs matplotlib: pip install 'causal-tokens[plot]'" in done.stderr
    assert done.stdout == b""


def test_a_file_that_cannot_be_written_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("causal.cli.simulate.run_all")
    for option in ("--csv", "--figure"):
        result = simulate("tiny.toml", option, "nowhere/x.svg")
        assert result.exit_code == 2
        assert "nothing can be written in nowhere" in result.output


def test_a_file_in_place_of_a_directory_is_an_error_in_a_line(here: Path) -> None:
    (here / "x.csv").mkdir()
    assert simulate("tiny.toml", "--csv", "x.csv").exit_code == 2  # click looks itself
    (here / "x.csv").rmdir()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--csv", "a.svg", "--figure", "a.svg"), "a.svg: is written, too"),
        (("--csv", "a", "--trace", "./a"), "a: is written, too"),
        (("--figure", "b", "--figure", "link.png"), "link.png: is written, too"),
        (("--csv", "tiny.toml"), "tiny.toml: is read, too"),
        (("--trace", "nowhere/x"), "nothing can be written in nowhere"),
    ],
)
def test_every_file_has_a_place_of_its_own(here: Path, options: tuple[str, ...], said: str) -> None:
    (here / "link.png").symlink_to("b.png")
    result = simulate("tiny.toml", "--strategy", "eventual", *options)
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert {path.name for path in here.iterdir()} == {"tiny.toml", "link.png"}
    assert (here / "tiny.toml").read_text() == TINY


def test_a_link_stays_one(here: Path) -> None:
    (here / "link.csv").symlink_to("rows.csv")
    assert simulate("tiny.toml", "--strategy", "eventual", "--csv", "link.csv").exit_code == 0
    assert (here / "link.csv").is_symlink()
    assert (here / "rows.csv").read_text().startswith("strategy,")


def test_what_is_no_file_is_written_to_and_not_replaced(here: Path) -> None:
    os.mkfifo(here / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((here / "pipe").read_text()), daemon=True)
    reader.start()
    assert simulate("tiny.toml", "--strategy", "eventual", "--csv", "pipe").exit_code == 0
    assert (here / "pipe").is_fifo()
    reader.join(10)
    assert got[0].startswith("strategy,")


def test_a_write_that_fails_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("causal.cli.files.os.replace", full)
    result = simulate("tiny.toml", "--strategy", "eventual", "--csv", "rows.csv")
    assert result.exit_code == 1
    assert "rows.csv: cannot be written: No space left on device" in result.output
    assert [path.name for path in here.iterdir()] == ["tiny.toml"]


# --- sweeps


def test_a_sweep() -> None:
    argv = "tiny.toml", "--strategy", "token", "--strategy", "eventual", "--sweep", "lag=1s,20ms"
    rows = records(simulate(*argv, "--json", "--csv", "sweep.csv"))
    assert [(row["axis"], row["value"], row["shown"], row["strategy"]) for row in rows] == [
        ("lag", 0.02, 20.0, "token"),
        ("lag", 0.02, 20.0, "eventual"),
        ("lag", 1.0, 1000.0, "token"),
        ("lag", 1.0, 1000.0, "eventual"),
    ]
    assert rows[3]["stale"] > rows[1]["stale"]
    assert len(Path("sweep.csv").read_text().splitlines()) == 5
    table = simulate(*argv).stdout
    assert "Tiny, median replication lag; its spread stays: " in " ".join(table.split())
    assert "1,000 " in table
    assert "lag 300 ms" not in table
    assert "by chance" not in table  # at one point there is none, and at another there is


def test_the_figure_of_a_sweep(here: Path) -> None:
    pytest.importorskip("matplotlib")
    assert simulate("tiny.toml", "--strategy", "eventual", "--sweep", "shards=1,2", "--figure", "s.svg").exit_code == 0
    svg = (here / "s.svg").read_text()
    assert all(f">{text}<" in svg for text in ("Tiny: number of shards", "shards", "eventual", "Token"))


# --- lists


def test_the_list_has_everything() -> None:
    text = " ".join(simulate("--list").stdout.split())
    said = records(simulate("--list", "--json"))
    assert {row["kind"] for row in said} == {"scenario", "strategy", "fault", "mix", "axis"}
    names = [row["name"] for row in said]
    assert names == [*SCENARIOS, *STRATEGIES, *Faults.options(), *MIXES, *AXES]
    assert all(name in text for name in names)
    assert all(row["said"] for row in said)


# --- traces


def test_a_trace_of_every_event(here: Path) -> None:
    result = simulate("tiny.toml", "--strategy", "leader", "--trace", "events.txt")
    assert result.exit_code == 0, result.output
    lines = (here / "events.txt").read_text().splitlines()
    times = [float(line.split(" ", 1)[0]) for line in lines]
    assert times == sorted(times)
    assert any(" wrote " in line for line in lines)
    assert any(" applies " in line for line in lines)
    assert "leader" in result.stdout
    printed = simulate("tiny.toml", "--trace", "-", "--strategy", "leader").stdout
    assert printed.splitlines()[: len(lines)] == lines


def test_a_trace_is_of_the_token_unless_one_is_named(here: Path) -> None:
    (row,) = records(simulate("tiny.toml", "--trace", "events.txt", "--json"))
    assert row["strategy"] == "token"


# --- failures


@pytest.mark.usefixtures("planted")
def test_a_broken_promise_is_told_with_all_that_it_takes_to_see_it_again(here: Path) -> None:
    result = simulate("tiny.toml", "--seed", "3", "--fault", "delay=0.1", "--csv", "x.csv")
    assert result.exit_code == 1
    assert "token broke its promise (stale own read) at 0." in result.stdout
    assert "as planted" in result.stdout
    assert f"Strategy token, seed 3, causal {causal.__version__}" in result.stdout
    assert "Faults: delay=0.1." in result.stdout
    assert 'lag = "lognormal:0.3:0.5:0"' in result.stdout
    assert "Step by step: causal simulate --replay tiny-token-seed-3.json" in result.stdout
    assert {path.name for path in here.iterdir()} == {"tiny.toml", "tiny-token-seed-3.json"}

    again = simulate("--replay", "tiny-token-seed-3.json")
    assert again.exit_code == 1
    *events, sentence = again.stdout.splitlines()
    assert sentence in result.stdout
    assert len(events) > 10
    assert float(events[-1].split()[0]) == pytest.approx(float(sentence.split(" at ")[1].split()[0]), abs=1e-6)
    assert sentence.split(": ")[1].split()[0] in events[-1]


@pytest.mark.usefixtures("planted")
def test_a_broken_promise_as_json(here: Path) -> None:
    result = simulate("tiny.toml", "--json")
    assert result.exit_code == 1
    (told,) = map(json.loads, result.stdout.splitlines())
    assert told["replay"] == "tiny-token-seed-1.json"
    assert told["failure"] == json.loads((here / told["replay"]).read_text())
    assert told["failure"]["violation"]["kind"] == "stale own read"
    again = simulate("--replay", told["replay"], "--json")
    assert again.exit_code == 1
    *events, last = map(json.loads, again.stdout.splitlines())
    assert last == {"violation": told["failure"]["violation"]}
    assert all(event.keys() == {"at_s", "event"} for event in events)


@pytest.mark.usefixtures("planted")
def test_who_promises_nothing_breaks_nothing() -> None:
    assert simulate("tiny.toml", "--strategy", "eventual", "--strategy", "quorum").exit_code == 0


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    "more", [("--trace", "events.txt"), ("--sweep", "lag=50ms"), ("--seeds", "3"), ("--jobs", "1")]
)
def test_a_broken_promise_is_found_in_every_way(here: Path, more: tuple[str, ...]) -> None:
    result = simulate("tiny.toml", *more)
    assert result.exit_code == 1, result.output
    assert "broke its promise" in result.stdout
    assert (here / "tiny-token-seed-1.json").exists()


def test_a_replay_in_which_nothing_breaks_any_more(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Oracle, "learn", lambda oracle, me, _: oracle.broke("stale own read", me.name, "planted"))
        assert simulate("tiny.toml", "--strategy", "token").exit_code == 1
    path = here / "tiny-token-seed-1.json"
    result = simulate("--replay", path)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "No promise was broken this time."
    assert result.stderr == ""
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"version": "0.0.1", "commit": "abc"}))
    other = simulate("--replay", path)
    assert other.exit_code == 0
    assert "is of causal 0.0.1, commit abc; this is causal" in other.stderr
    assert other.stdout == result.stdout


# --- seeds


def test_seeds_count_what_was_looked_at() -> None:
    rows = {row["strategy"]: row for row in records(simulate("--seeds", "12", "--json", "--csv", "seeds.csv"))}
    assert list(rows) == list(STRATEGIES)
    assert all(row["worlds"] == 12 for row in rows.values())
    assert rows["token"]["acausal"] == rows["token"]["violations"] == 0
    assert rows["eventual"]["acausal"] > 0
    assert len(Path("seeds.csv").read_text().splitlines()) == 1 + len(STRATEGIES)


def test_seeds_side_by_side_are_one_after_the_other() -> None:
    argv = "--seeds", "22", "--seed", "5", "--strategy", "token", "--strategy", "eventual", "--json"
    assert simulate(*argv, "--jobs", "2").stdout == simulate(*argv, "--jobs", "1").stdout


def test_seeds_of_one_scenario(here: Path) -> None:
    result = simulate("tiny.toml", "--seeds", "2", "--strategy", "eventual", "--fault", "loss=0.1")
    assert result.exit_code == 0, result.output
    assert "Tiny, seeds 1 to 2: no promise was broken" in result.stdout


# --- what is wrong


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("nonesuch",), "no scenario is called 'nonesuch'"),
        (("photo-profil",), "photo-profile"),
        (("absent.toml",), "absent.toml: cannot be read"),
        (("bad.toml",), "bad.toml: unknown field 'sittes'"),
        (("tiny.toml", "--strategy", "hope"), "hope"),
        (("tiny.toml", "--seed", "-1"), "-1"),
        (("tiny.toml", "--seed", "x"), "x"),
        (("tiny.toml", "--jobs", "0"), "0"),
        (("tiny.toml", "--faults", "none"), "none"),
        (("tiny.toml", "--fault", "pause"), "a fault is NAME=RATE"),
        (("tiny.toml", "--fault", "pause=often"), "a fault is NAME=RATE"),
        (("tiny.toml", "--fault", "hope=1"), "no fault 'hope'"),
        (("tiny.toml", "--fault", "hope=x"), "no fault 'hope'"),
        (("tiny.toml", "--fault", "loss=2"), "the fault loss is a chance"),
        (("tiny.toml", "--fault", "pause=nan"), "the fault pause is a rate"),
        (("tiny.toml", "--sweep", "lag"), "a sweep is AXIS=V1,V2,..."),
        (("tiny.toml", "--sweep", "luck=1"), "a sweep is AXIS=V1,V2,..."),
        (("tiny.toml", "--sweep", "shards=x"), "shards=x: a whole number"),
        (("tiny.toml", "--sweep", "shards=0"), "shards=0: "),
        (("tiny.toml", "--sweep", "lag=1,1s"), "lag=1s: stands twice"),
        (("tiny.toml", "--sweep", "write-share=2"), "write-share=2: "),
        (("tiny.toml", "--sweep", "lag="), "lag=: "),
        (("tiny.toml", "--seeds", "0"), "0"),
        (("--seeds", "2", "--figure", "x.svg"), "there is no figure"),
        (("tiny.toml", "--figure", "x.pdf"), "a figure is a .png or .svg file"),
        (("tiny.toml", "--trace", "x", "--strategy", "token", "--strategy", "leader"), "give one --strategy"),
        (("tiny.toml", "--trace", "-", "--json"), "both want standard output"),
        (("tiny.toml", "--trace", "x", "--sweep", "lag=1"), "give --sweep or --trace, not both"),
        (("--list", "--seeds", "2"), "give --list or --seeds, not both"),
        (("--replay", "absent.json"), "absent.json: cannot be read"),
        (("--replay", "tiny.toml"), "tiny.toml: not JSON"),
        (("--replay", "list.json"), "no file that replays a simulation"),
    ],
)
def test_what_cannot_be_is_wrong_usage(here: Path, argv: tuple[str, ...], said: str) -> None:
    (here / "bad.toml").write_text(TINY.replace("[sites.eu]", "[sittes.eu]"))
    (here / "list.json").write_text("[1]")
    result = simulate(*argv)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert said in " ".join(result.output.split())
    assert {path.name for path in here.iterdir()} == {"tiny.toml", "bad.toml", "list.json"}


def test_a_file_may_be_called_as_a_path(here: Path) -> None:
    (here / "planet").write_text(TINY)
    assert simulate("planet", "--strategy", "eventual").exit_code == 0
    assert simulate(here / "tiny.toml", "--strategy", "eventual").exit_code == 0


# --- Ctrl-C


INTERRUPTED = """
import os, signal, sys
import causal.cli.simulate as command
from causal.cli import run

def told(calls):
    {what}

each = command.side_by_side
command.side_by_side = lambda work, calls, _, **how: each(work, calls, lambda n: told(calls), **how)
one = command.run_one
command.run_one = lambda *args, **how: one(*args, **(how | {{"progress": told}}))
sys.argv[1:1] = ["simulate"]
sys.exit(run())
"""


@pytest.mark.parametrize("more", [(), ("--trace", "events.txt"), ("--seeds", "9"), ("--sweep", "lag=1s,2s")])
def test_ctrl_c_ends_it_and_leaves_nothing_behind(here: Path, more: tuple[str, ...]) -> None:
    code = INTERRUPTED.format(what="os.kill(os.getpid(), signal.SIGINT)")
    done = process(code, "tiny.toml", *more, "--csv", "rows.csv", where=here)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"causal: interrupted\n")
    assert [path.name for path in here.iterdir()] == ["tiny.toml"]


def test_ctrl_c_ends_what_runs_side_by_side(here: Path) -> None:
    code = INTERRUPTED.format(what="os.killpg(0, signal.SIGINT)")
    # As a terminal does: the whole group is told. Whoever is left would hold our end of the pipes open.
    done = process(code, "tiny.toml", "--jobs", "2", where=here, start_new_session=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"causal: interrupted\n")
    assert [path.name for path in here.iterdir()] == ["tiny.toml"]


def test_a_bar_is_shown_where_someone_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, int]] = []
    steps: list[int] = []
    monkeypatch.setattr(
        "causal.cli.output.Progress.add_task", lambda _, label, total: shown.append((label, total)) or len(shown)
    )
    monkeypatch.setattr("causal.cli.output.Progress.advance", lambda _, task, n: steps.append(n))
    (row,) = records(simulate("tiny.toml", "--strategy", "token", "--json"))
    assert shown[0][0] == "token"
    assert 0 <= row["operations"] - sum(steps) < 5  # what was under way at the end
    assert 0.6 < shown[0][1] / row["operations"] < 1.6


def test_help_is_readable() -> None:
    said = simulate("--help").stdout
    for option in ("--strategy", "--sweep", "--replay", "--seeds", "--trace", "--list"):
        assert option in said
    assert said.startswith("Usage: main simulate [OPTIONS] [SCENARIO|FILE.toml]")
