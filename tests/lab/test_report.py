"""Rows, sweeps, files that replay, and what is drawn: each held to the numbers that it was made of."""

import csv
import io
import json
import math
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import pytest

import causal
from causal.controls import Lag
from causal.errors import ConfigError
from causal.lab.faults import MIXES, Faults
from causal.lab.planet.oracle import Oracle, Violation
from causal.lab.planet.topology import Population, Topology
from causal.lab.report import failure as failures
from causal.lab.report import rows as report
from causal.lab.report.failure import Failure, ReplayError, failure_of, read_failure
from causal.lab.report.seeds import look, world
from causal.lab.report.sweep import AXES, parse_sweep
from causal.lab.scenarios import SCENARIOS, scenario
from causal.lab.simulator import STRATEGIES, simulate
from tests.lab.planets import tiny

# --- rows


def test_a_row_is_what_came_out() -> None:
    topology = tiny()
    outcome = report.run(topology, "quorum+token", Faults(ack_lost=0.3), 4, lambda _: None)
    row, metrics = report.row(outcome), outcome.metrics
    assert outcome == attrs.evolve(
        simulate(topology, "quorum+token", faults=Faults(ack_lost=0.3), seed=4), metrics=metrics
    )
    assert (row["strategy"], row["promises"], row["policy"]) == ("quorum+token", True, outcome.policy)
    for name in ("operations", "reads", "writes", "waits", "refused_reads", "refused_writes", "in_doubt", "probes"):
        assert row[name] == getattr(metrics, name), name
    assert metrics.in_doubt > 0
    assert (row["stale"], row["backward"], row["acausal"]) == (0, 0, 0)
    assert row["leader"] == pytest.approx(metrics.at_leader / metrics.reads, abs=1e-6)
    assert row["away"] == pytest.approx(metrics.away / metrics.reads, abs=1e-6)
    assert row["leader_percent"] == pytest.approx(100 * row["leader"], abs=0.05)
    assert row["away_percent"] == pytest.approx(100 * row["away"], abs=0.05)
    for name, q in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
        assert row[f"read_{name}_s"] == pytest.approx(metrics.read_latency.quantile(q), abs=1e-6)
        assert row[f"{name}_ms"] == pytest.approx(1000 * row[f"read_{name}_s"], abs=0.05)
    assert 0 < row["read_p50_s"] < row["read_p99_s"] <= row["read_p999_s"]
    assert row["token_mean"] == pytest.approx(metrics.token_chars / metrics.tokens, abs=0.01)
    assert row["token_max"] == metrics.longest_token
    refused = metrics.refused_reads + metrics.refused_writes
    assert (row["refused"], row["refused_share"]) == (refused, pytest.approx(refused / metrics.operations, abs=1e-6))


def test_quantiles_are_told_apart() -> None:
    outcome = simulate(tiny(), "token")
    for ms in range(10_000):
        outcome.metrics.read_latency.add(1 + ms / 1000)
    row = report.row(outcome)
    assert (row["read_p50_s"], row["read_p99_s"], row["read_p999_s"]) == pytest.approx((6, 10.9, 10.99), rel=0.02)
    assert row["read_p99_s"] < row["read_p999_s"]
    assert row["read_p50_s"] < row["read_p99_s"]


def test_anomalies_are_those_that_count() -> None:
    mix = (("source", 3.0), ("recommendation", 1.0))
    topology = attrs.evolve(tiny(), population=tuple(attrs.evolve(users, mix=mix) for users in tiny().population))
    outcome = simulate(topology, "eventual")
    assert outcome.accepted.acausal > 0
    row, seen = report.row(outcome), outcome.anomalies
    assert (row["judged"], row["stale"], row["backward"], row["acausal"]) == attrs.astuple(seen)
    assert len({seen.reads, seen.stale, seen.backward, seen.acausal}) == 4


def test_nothing_at_all_is_a_row_of_zeros() -> None:
    nobody = attrs.evolve(tiny(), duration_s=1e-6)
    row = report.row(simulate(nobody, "token", live=False))
    assert (row["operations"], row["read_p50_s"], row["leader"], row["token_mean"], row["refused_share"]) == (
        0,
        0,
        0,
        0,
        0,
    )


@pytest.mark.parametrize("name", ["token", "eventual"])
def test_how_many_operations_there_will_be(name: str) -> None:
    topology = attrs.evolve(
        tiny(),
        duration_s=12.0,  # how long writes wait for their leaders is not foreseen: here it matters little
        population=(Population(sessions=200, length=8, think_s=0.1, jobs=1.0, write_share=0.7),),
    )
    assert simulate(topology, name).metrics.operations == pytest.approx(report.expected_operations(topology), rel=0.25)


def test_the_scenarios_are_as_large_as_they_say() -> None:
    expected = [report.expected_operations(scenario(name)) for name in SCENARIOS]
    assert expected == [pytest.approx(size, rel=0.15) for size in (3_000, 11_000, 11_000, 4_000_000)]


def test_every_strategy_and_column_is_explained() -> None:
    assert report.SAID.keys() == STRATEGIES.keys()
    row = report.row(simulate(tiny(), "token")) | {"said_stale": 1}
    assert report.columns([row]).keys() == report.COLUMNS.keys()
    assert report.COLUMNS.keys() <= row.keys()
    heads = {name for name in report.COLUMNS if name not in {"strategy", "p99_ms", "p999_ms", "token_max"}}
    assert heads <= report.NOTES.keys()


def test_csv_keeps_every_digit_and_what_is_nested() -> None:
    rows: list[dict[str, Any]] = [
        {"a": 0.1 + 0.2, "b": 'quoted, "twice"', "setting": {"sites": ["eu", "us"], "lag": {"median_s": 1e-7}}},
        {"a": 3, "c": True},
    ]
    first, second = csv.DictReader(io.StringIO(report.to_csv(rows)))
    assert float(first["a"]) == 0.1 + 0.2
    assert (first["b"], first["setting.sites"]) == ('quoted, "twice"', "eu us")
    assert float(first["setting.lag.median_s"]) == 1e-7
    assert (second["a"], second["b"], second["c"]) == ("3", "", "True")


# --- sweeps


def test_what_each_axis_changes_and_what_stays() -> None:
    base = attrs.evolve(
        tiny(), population=(Population("a", sessions=30, write_share=0.5), Population("b", sessions=10, write_share=0))
    )

    def at(text: str) -> Topology:
        (point,) = parse_sweep(text, base)
        return point.topology

    assert at("lag=50ms").store.lag == Lag(0.05, 0.5)
    assert at("lag=lognormal:1s:0.1:9").store.lag == Lag(1.0, 0.1, 9)
    assert [users.write_share for users in at("write-share=0.2").population] == [0.2, 0]
    assert at("shards=7").store == attrs.evolve(base.store, shards=7)
    assert [site.replicas for site in at("replicas=3").sites] == [3, 3]
    assert [users.sessions for users in at("sessions=100").population] == [75, 25]
    assert [users.sessions for users in at("sessions=2").population] == [1, 1]
    for text in ("lag=50ms", "write-share=0.2", "shards=7", "replicas=3", "sessions=100"):
        changed = at(text)
        back = attrs.evolve(changed, store=base.store, population=base.population, sites=base.sites)
        assert (back, changed != base) == (base, True)


def test_where_nobody_writes_a_write_share_is_everybodys() -> None:
    readers = attrs.evolve(tiny(), population=(Population("a", write_share=0), Population("b", write_share=0)))
    (point,) = parse_sweep("write-share=0.2", readers)
    assert [users.write_share for users in point.topology.population] == [0.2, 0.2]


@pytest.mark.parametrize("sessions", [3, 4, 5, 7, 100, 101, 99_999])
def test_sessions_are_shared_out_to_the_last(sessions: int) -> None:
    kinds = tuple(Population(name, sessions=n) for name, n in (("a", 1), ("b", 1), ("c", 1000)))
    (point,) = parse_sweep(f"sessions={sessions}", attrs.evolve(tiny(), population=kinds))
    shared = [users.sessions for users in point.topology.population]
    assert sum(shared) == sessions
    assert min(shared) >= 1
    assert shared[2] == max(shared)


def test_points_ascend_and_know_what_they_are_called() -> None:
    points = parse_sweep("lag= 1s,20ms,0.1", tiny())
    assert [(p.text, p.value, p.shown) for p in points] == [("20ms", 0.02, 20), ("0.1", 0.1, 100), ("1s", 1.0, 1000)]
    assert points[0].axis.heading == "lag, ms"
    assert AXES["shards"].heading == "shards"


@pytest.mark.parametrize(
    "text", ["", "lag", "=1", "lag=", "lag=1,,2", "lag=1,1000ms", "shards=1.5", "sessions=0", "x=1"]
)
def test_what_is_no_sweep_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_sweep(text, tiny())


# --- failures


def failure(**more: Any) -> Failure:
    found = Failure(
        tiny(), "token", Faults(loss=0.1), 5, Violation("stale own read", 1.25, "people-1", "people-1 saw it")
    )
    return attrs.evolve(found, **more)


def test_a_failure_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "failure.json"
    for seed in (1, 2**70):
        told = failure(seed=seed, commit=None)
        path.write_text(json.dumps(told.as_dict()))
        assert read_failure(path) == told


def test_a_failure_of_any_small_world_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "failure.json"
    for seed in range(40):
        topology, faults = world(seed, None, None)
        path.write_text(json.dumps(failure(topology=topology, faults=faults).as_dict()))
        read = read_failure(path)
        assert (read.topology, read.faults) == (topology, faults)


@pytest.mark.parametrize(
    "field", ["format", "version", "commit", "strategy", "seed", "violation", "faults", "topology"]
)
@pytest.mark.parametrize("value", [..., None, 1.5, "x", [], {"x": 1}])
def test_a_file_that_replays_nothing_says_why(field: str, value: Any, tmp_path: Path) -> None:
    told = failure().as_dict()
    if value is ...:
        del told[field]
    else:
        told[field] = value
    path = tmp_path / "failure.json"
    path.write_text(json.dumps(told))
    if field in {"version", "commit"} and value is not ...:
        read_failure(path)  # only compared, and shown
        return
    with pytest.raises((ReplayError, ValueError), match=r"failure\.json"):
        read_failure(path)


def test_a_file_name_leads_nowhere_else() -> None:
    assert failure().file_name == "tiny-token-seed-5.json"
    odd = failure(topology=attrs.evolve(tiny(), name="../../etc/pass:wd"), strategy="quorum+token")
    assert odd.file_name == "etc-pass-wd-quorum+token-seed-5.json"


def test_only_a_broken_promise_is_a_failure() -> None:
    topology, outcome = tiny(), simulate(tiny(), "token")
    assert failure_of(topology, Faults(), outcome) is None
    first, second = (Violation("stale own read", t, "a", "said") for t in (1.0, 2.0))
    broken = attrs.evolve(outcome, violations=(first, second))
    found = failure_of(topology, Faults(loss=0.1), broken)
    assert found is not None
    assert (found.violation, found.seed, found.faults) == (first, outcome.seed, Faults(loss=0.1))
    assert failure_of(topology, Faults(), attrs.evolve(broken, strategy="eventual")) is None


@pytest.mark.parametrize(
    "change", [{"at_s": math.nan}, {"at_s": "soon"}, {"session": 7}, {"said": None}, {"more": 1}, {"kind": ...}]
)
def test_a_violation_that_is_none_says_what_one_is(change: dict[str, Any], tmp_path: Path) -> None:
    told = failure().as_dict()
    told["violation"] = {k: v for k, v in (told["violation"] | change).items() if v is not ...}
    path = tmp_path / "failure.json"
    path.write_text(json.dumps(told))
    with pytest.raises(ReplayError, match="a violation has a kind, at_s in seconds"):
        read_failure(path)


def test_a_replay_goes_up_to_the_violation_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledged = Oracle.acknowledged

    def wrong(oracle: Oracle, me: Any, entry: Any) -> None:
        acknowledged(oracle, me, entry)
        if entry.key == 3:
            oracle.broke("false loss", me.name, f"{me.name} wrote {entry}")

    monkeypatch.setattr(Oracle, "acknowledged", wrong)
    topology = tiny()
    outcome = simulate(topology, "token", seed=2)
    found = failure_of(topology, Faults(), outcome)
    assert found is not None
    lines: list[str] = []
    assert failures.replay(found, lines.append) == found.violation
    assert found.violation.said in lines[-1].replace(" 3 at ", " ").replace("eu/1: ", "").replace("us/1: ", "")
    assert not any(" wrote 3 " in line for line in lines[:-1])
    full: list[str] = []
    simulate(topology, "token", seed=2, trace=full.append)
    assert lines == full[: len(lines)]
    assert len(full) > len(lines)


def test_the_commit_is_that_of_this_code_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = failures.commit()
    assert said is None or re.fullmatch(r"[0-9a-f]{12,}(-dirty)?", said)
    # Installed somewhere within another's repository, it is not of that.
    package = tmp_path / "venv" / "causal"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    failures._git(tmp_path, "init", "--quiet")
    failures._git(
        tmp_path, "-c", "user.name=a", "-c", "user.email=a@example", "commit", "-q", "--allow-empty", "-m", "x"
    )
    monkeypatch.setattr(causal, "__file__", str(package / "__init__.py"))
    assert failures.commit() is None
    failures._git(tmp_path, "add", "venv")
    failures._git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@example", "commit", "-q", "-m", "y")
    clean = failures.commit()
    assert clean is not None
    assert failures._git(tmp_path, "rev-parse", "HEAD").startswith(clean)
    (package / "__init__.py").write_text("changed")
    assert failures.commit() == f"{clean}-dirty"
    monkeypatch.setenv("PATH", "")
    assert failures.commit() is None


# --- seeds


def test_each_mix_has_its_turn_and_the_worlds_that_it_needs() -> None:
    names = list(MIXES)
    for seed in range(2 * len(names)):
        topology, faults = world(seed, None, None)
        assert faults == MIXES[names[seed % len(names)]]
        assert (topology.cache is not None) == bool(faults.eviction or faults.stale_refill)
        assert world(seed, None, None) == (topology, faults)
    assert world(3, tiny(), Faults(loss=0.5)) == (tiny(), Faults(loss=0.5))


def test_looking_stops_at_the_first_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    tallies, found = look(range(1, 4), ["eventual", "token"], tiny(), Faults(), steps.append)
    assert found is None
    assert steps == [1] * 6
    eventual, token = tallies
    outcomes = [simulate(tiny(), "eventual", seed=seed) for seed in (1, 2, 3)]
    assert eventual.worlds == token.worlds == 3
    assert eventual.operations == sum(o.metrics.operations for o in outcomes)
    assert (eventual.judged, eventual.stale, eventual.backward, eventual.acausal) == tuple(
        sum(values) for values in zip(*(attrs.astuple(o.anomalies) for o in outcomes), strict=True)
    )
    assert token.acausal == token.violations == 0
    monkeypatch.setattr(Oracle, "written", lambda oracle, me, *_: oracle.broke("stale own read", me.name, "planted"))
    (eventual, token), found = look(range(1, 4), ["eventual", "token"], tiny(), Faults(), steps.append)
    assert found is not None
    assert (found.seed, found.strategy, token.worlds, eventual.worlds) == (1, "token", 1, 1)
    assert token.violations > 0


# --- figures


def rows_of(**wrong: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows of all strategies, with so many stale and acausal of 5,000 judged reads."""
    rows = []
    for n, name in enumerate(STRATEGIES):
        stale, acausal = wrong.get(name.replace("+", "_").replace("-", "_"), (0, 0))
        rows.append({
            "strategy": name,
            "promises": STRATEGIES[name].promises,
            "judged": 5000,
            "stale": stale,
            "acausal": acausal,
            "read_p50_s": 0.0005 * 3**n,
            "read_p99_s": 0.0010 * 3**n,
            "read_p999_s": 0.0011 * 3**n,
            "leader": n / 8,
            "away": 1 - n / 8,
            "refused_share": 0.0,
        })  # fmt: skip
    return rows


SOME = {"window": (20, 30), "quorum": (3, 3), "eventual": (200, 250)}


def words(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_a_figure_shows_what_the_rows_say() -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    drawn = figure.comparison(rows_of(**SOME), "Title", "what was simulated")
    wrong, latency, shares = drawn.axes
    names = [label.get_text() for label in wrong.get_yticklabels()]
    assert names == "token leader quorum+token token-shard bounded quorum window eventual".split()
    assert wrong.yaxis_inverted()  # the first is on top
    assert words(wrong) == [*["none"] * 3, *["none here, but not promised"] * 2, "6", "60", "500"]
    bars = [
        (round(b.get_x(), 6), round(b.get_width(), 6), round(b.get_y() + b.get_height() / 2)) for b in wrong.patches
    ]
    assert bars == [(0, 6, 5), (6, 0, 5), (0, 40, 6), (40, 20, 6), (0, 400, 7), (400, 100, 7)]
    hatched = [bool(bar.get_hatch()) for bar in wrong.patches]
    assert hatched == [False, True] * 3  # not by colour alone
    assert "10,000" in wrong.get_xlabel()

    assert latency.get_xscale() == "log"
    spans = {
        round(line.get_ydata()[0]): tuple(line.get_xdata()) for line in latency.lines if len(line.get_xdata()) == 2
    }
    slow = names.index("eventual")
    assert spans[slow] == pytest.approx((0.5 * 3**7, 1.1 * 3**7))
    assert {"0.5 ms", "1.1 ms", "1.09 s", "2.41 s"} <= set(words(latency))

    leader, away = shares.containers
    order = [list(STRATEGIES).index(name) for name in names]
    assert [bar.get_width() for bar in leader] == pytest.approx([100 * n / 8 for n in order])
    assert [bar.get_width() for bar in away] == pytest.approx([100 - 100 * n / 8 for n in order])
    assert shares.get_xlim() == (0, 100)


def test_refused_reads_are_shown_where_there_are_any() -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    rows = rows_of(**SOME)
    assert [text.get_text() for text in figure.comparison(rows, "").axes[2].get_legend().get_texts()] == [
        "leader",
        "other site",
    ]
    rows[2]["refused_share"] = 0.0001
    assert len(figure.comparison(rows, "").axes[2].containers) == 2
    rows[2]["refused_share"] = 0.25
    drawn = figure.comparison(rows, "")
    assert [text.get_text() for text in drawn.axes[2].get_legend().get_texts()] == ["leader", "other site", "refused"]
    assert sorted(bar.get_width() for bar in drawn.axes[2].containers[2]) == [0] * 7 + [25]


def test_rows_without_the_last_quantile_do_without() -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    rows = [{name: value for name, value in row.items() if name != "read_p999_s"} for row in rows_of(**SOME)]
    keys = [text.get_text() for text in figure.comparison(rows, "").axes[1].get_legend().get_texts()]
    assert keys == ["median", "99 %"]


LONG = "1,000,000 sessions, at " + ", ".join(f"region-{n}" for n in range(30))


@pytest.mark.parametrize(
    ("rows", "subtitle"),
    [
        pytest.param(rows_of(**SOME), "what was simulated", id="some"),
        pytest.param(rows_of(), "nothing wrong at all", id="none"),
        pytest.param(rows_of(**dict.fromkeys(("quorum", "eventual", "window"), (5000, 5000))), LONG, id="all"),
        pytest.param([row | {"refused_share": 0.5} for row in rows_of(**SOME)], LONG, id="refused"),
        pytest.param(
            [row | {"read_p50_s": 0.0, "read_p99_s": 0.0, "read_p999_s": 0.0} for row in rows_of()], "", id="instant"
        ),
        pytest.param(
            [row | {"read_p50_s": 1e-3, "read_p99_s": 30, "read_p999_s": 90.0} for row in rows_of()], "", id="slow"
        ),
        pytest.param(rows_of(**SOME)[:1], "only one", id="one"),
        pytest.param([{**rows_of()[0], "judged": 0}], "no reads", id="no reads"),
    ],
)
def test_no_text_lies_on_another_or_outside(rows: list[dict[str, Any]], subtitle: str) -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    drawn = figure.comparison(rows, "A title of many words " * 9, subtitle)
    assert_readable(drawn)


def assert_readable(drawn: Any) -> None:
    drawn.canvas.draw()
    width, height = drawn.canvas.get_width_height()
    shown = [text for text in everything(drawn) if text.get_text().strip() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.x1 <= width, text
        assert box.y0 >= 0, text
        assert box.y1 <= height, text
    ends = [axes.get_window_extent().x0 for axes in drawn.axes[1:]] + [width]
    for axes, end in zip(drawn.axes, ends, strict=True):
        for text in axes.texts:
            assert text.get_window_extent().x1 < end or len(drawn.axes) != 3, text.get_text()
    for (text, box), (other, second) in combinations(boxes, 2):
        across = min(box.x1, second.x1) - max(box.x0, second.x0)
        along = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert across <= 1 or along <= 2, f"{text!r} lies on {other!r}"


def everything(drawn: Any) -> list[Any]:
    """Every text that is drawn."""
    texts = list(drawn.texts)
    for axes in drawn.axes:
        texts += [axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        if axes.get_legend():
            texts += axes.get_legend().get_texts()
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return texts


def swept(values: list[float]) -> list[dict[str, Any]]:
    return [
        row | {"value": value, "token_mean": 40 + n, "acausal": row["acausal"] * (n + 1)}
        for n, value in enumerate(values)
        for row in rows_of(**SOME)
    ]


def test_a_sweep_is_a_line_for_each_strategy() -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    rows = swept([0.02, 0.1, 1.0])
    drawn = figure.sweep(list(reversed(rows)), AXES["lag"], "Title", "what was simulated")
    wrong, latency, leader, token = drawn.axes
    lines = {line.get_label(): line for line in wrong.lines}
    assert lines.keys() == STRATEGIES.keys()
    assert list(lines["eventual"].get_xdata()) == [0.02, 0.1, 1.0]
    assert list(lines["eventual"].get_ydata()) == [500, 1000, 1500]
    assert list(lines["token"].get_ydata()) == [0, 0, 0]
    assert {line.get_label(): line.get_ydata()[0] for line in latency.lines}["leader"] == pytest.approx(9)
    assert {line.get_label(): line.get_ydata()[0] for line in leader.lines}["leader"] == 25
    assert list(token.lines[0].get_ydata()) == [40, 41, 42]
    assert [label.get_text() for label in wrong.get_xticklabels()] == ["20", "100", "1,000"]
    assert (wrong.get_xscale(), latency.get_yscale()) == ("log", "log")
    assert leader.get_xlabel() == "lag, ms"
    assert len({(line.get_marker(), line.get_linestyle()) for line in wrong.lines}) == len(
        STRATEGIES
    )  # not by colour alone
    assert_readable(drawn)


def test_what_takes_no_time_is_drawn_within_its_panel() -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    rows = [row | {"read_p99_s": row["read_p99_s"] * (row["value"] > 1)} for row in swept([1, 2, 4])]
    drawn = figure.sweep(rows, AXES["shards"], "Title")
    drawn.canvas.draw()
    latency = drawn.axes[1]
    frame = latency.get_window_extent()
    for line in latency.lines:
        for point in line.get_transform().transform(line.get_xydata()):
            assert frame.y0 - 1 <= point[1] <= frame.y1 + 1, line.get_label()
    assert_readable(drawn)


@pytest.mark.parametrize(
    ("axis", "values"),
    [("shards", [1, 2, 4]), ("write-share", [0, 0.5, 1]), ("sessions", [1e3, 1e4, 1e5, 1e6]), ("lag", [0.05])],
)
def test_a_sweep_is_readable_whatever_it_varies(axis: str, values: list[float]) -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    assert_readable(figure.sweep(swept(values), AXES[axis], LONG, LONG))


def test_the_same_rows_are_the_same_bytes() -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    for suffix in figure.SUFFIXES:
        first, second = (figure.encode(figure.comparison(rows_of(**SOME), "Title"), suffix) for _ in range(2))
        assert first == second
        assert b"matplotlib" not in first[:600] or suffix == ".svg"
    assert b"<dc:date>" not in first


def test_text_stays_text() -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    svg = figure.encode(figure.comparison(rows_of(**SOME), "A & B", "x < y"), ".svg").decode()
    for text in ("A &amp; B", "x &lt; y", "quorum+token", "none here, but not promised", "99.9 %", "other site", "500"):
        assert f">{text}<" in svg, text


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 ms"),
        (0.5, "0.5 ms"),
        (72.04, "72 ms"),
        (999, "999 ms"),
        (1000, "1 s"),
        (2508, "2.51 s"),
        (90_000, "90 s"),
    ],
)
def test_a_duration_has_its_unit(ms: float, said: str) -> None:
    figure = pytest.importorskip("causal.lab.report.figure")
    assert figure._ms(ms) == said
