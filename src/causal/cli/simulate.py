"""`causal simulate`: run a planet under each strategy, and show what users saw and what it cost."""

from __future__ import annotations

import contextlib
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from causal.cli.broken import replay_file, show_failure
from causal.cli.files import Files, file_options, growing
from causal.cli.output import Output, json_option
from causal.errors import ConfigError
from causal.lab.faults import MIXES, Faults
from causal.lab.parallel import room_for, side_by_side
from causal.lab.planet.reading import TopologyError, read_topology
from causal.lab.report import rows as report
from causal.lab.report import seeds as small
from causal.lab.report.failure import ReplayError, failure_of
from causal.lab.report.sweep import AXES, parse_sweep
from causal.lab.scenarios import SCENARIOS, scenario
from causal.lab.simulator import STRATEGIES
from causal.lab.simulator import simulate as run_one

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.lab.planet.topology import Topology
    from causal.lab.report.failure import Failure
    from causal.lab.report.rows import Row
    from causal.lab.report.sweep import Point
    from causal.lab.simulator import Outcome

SLOWEST_FIRST: Final = ("quorum+token", "quorum", "leader", "bounded")
"""What takes longest to simulate starts first, so that nothing long is left when the rest is done."""
SEEDS_A_PIECE: Final = 20
WIDE: Final = 90
"""Characters of a terminal that the table with all its columns fits."""


@attrs.frozen
class Plan:
    """What is to be run: everything but where it goes to. Thread-safety: immutable."""

    topology: Topology
    strategies: tuple[str, ...]
    faults: Faults
    seed: int
    jobs: int | None

    def setting(self) -> dict[str, object]:
        """Return what is common to all rows, as plain values."""
        return {"scenario": self.topology.name, "seed": self.seed, "faults": told(self.faults)}


@click.command("simulate")
@click.argument("what", metavar="[SCENARIO|FILE.toml]", required=False)
@click.option(
    "--strategy", "strategies", multiple=True, type=click.Choice(list(STRATEGIES)), help="Only these. Repeat it."
)
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="The same seed gives the same table."
)
@click.option(
    "--faults",
    "mix",
    type=click.Choice(list(MIXES)),
    help="Break what belongs together, instead of the file's own faults.",
)
@click.option("--fault", "faults", multiple=True, metavar="NAME=RATE", help="Break this, so often. Repeat it.")
@click.option("--jobs", type=click.IntRange(1), help="Runs at once. Default: one for each processor.")
@json_option
@file_options
@click.option("--sweep", metavar="AXIS=V1,V2,...", help=f"Run for each of these values of: {', '.join(AXES)}.")
@click.option(
    "--seeds", type=click.IntRange(1), metavar="N", help="Look for broken promises in N small worlds, from --seed on."
)
@click.option(
    "--trace", type=click.Path(dir_okay=False, allow_dash=True), help="Write every event of one strategy to this file."
)
@click.option(
    "--replay",
    "replayed",
    type=click.Path(dir_okay=False),
    help="Show a failure step by step, from the file that it left.",
)
@click.option("--list", "listed", is_flag=True, help="Say which scenarios, strategies, faults and axes there are.")
def simulate(
    what: str | None,
    strategies: Sequence[str],
    seed: int,
    mix: str | None,
    faults: Sequence[str],
    jobs: int | None,
    as_json: bool,
    figures: Sequence[str],
    csv_file: str | None,
    sweep: str | None,
    seeds: int | None,
    trace: str | None,
    replayed: str | None,
    listed: bool,
) -> None:
    """Simulate a planet under each strategy: what users would have seen, and what it would cost.

    What is simulated is a ready scenario (photo-profile, if none is named) or a topology from a file; see --list. Time is virtual, and
    one seed decides everything: the same arguments print the same table, on any machine.

    A promise that is broken is printed with all that it takes to see it again, and a file for --replay; the exit code is 1.
    """
    output = Output(as_json=as_json)
    _at_most_one(**{"--list": listed, "--replay": replayed, "--seeds": seeds, "--sweep": sweep, "--trace": trace})
    if listed:
        list_all(output)
        return
    try:
        if replayed is not None:
            replay_file(output, replayed)
            return
        given = _topology(what)
        broken = _faults(given or scenario("photo-profile"), mix, faults)
        files = Files(figures, csv_file, trace, reads=what)
        names = tuple(dict.fromkeys(strategies))
        if seeds is not None:
            if files.figures:
                raise click.UsageError("--seeds counts failures: there is no figure of it")
            given_faults = broken if mix or faults or (given and given.faults) else None
            look(output, files, range(seed, seed + seeds), names or tuple(STRATEGIES), given, given_faults, jobs)
            return
        plan = Plan(given or scenario("photo-profile"), names or tuple(STRATEGIES), broken, seed, jobs)
        if trace is not None:
            if len(names) > 1:
                raise click.UsageError("--trace writes the events of one strategy: give one --strategy")
            if trace == "-" and as_json:
                raise click.UsageError("--trace - and --json both want standard output")
            trace_one(output, files, attrs.evolve(plan, strategies=names or ("token",)), trace)
        elif sweep is not None:
            show_sweep(output, files, plan, parse_sweep(sweep, plan.topology))
        else:
            show(output, files, plan)
    except (TopologyError, ConfigError, ReplayError) as error:
        raise click.UsageError(str(error)) from error


def _at_most_one(**given: object) -> None:
    some = [name for name, value in given.items() if value]
    if len(some) > 1:
        raise click.UsageError(f"give {' or '.join(some)}, not both")


def _topology(what: str | None) -> Topology | None:
    """Return what is to be simulated; None if nothing is named. Raises: ConfigError, TopologyError."""
    if what is None:
        return None
    if what in SCENARIOS or not (what.endswith(".toml") or "/" in what or Path(what).exists()):
        return scenario(what)
    return read_topology(what)


def _faults(topology: Topology, mix: str | None, faults: Sequence[str]) -> Faults:
    """Return what is broken: the file's own faults or a mix, and single ones over them. Raises: ConfigError."""
    given = dict(topology.faults) if mix is None else told(MIXES[mix])
    for one in faults:
        name, equals, rate = one.partition("=")
        try:
            given[name] = float(rate)
        except ValueError:
            if not equals or name in Faults.options():
                raise ConfigError(f"a fault is NAME=RATE, such as pause=0.4, not {one!r}") from None
            given[name] = 0.0  # whose name is wrong, too
    return Faults.of(given)


def told(faults: Faults) -> dict[str, float]:
    """Return the faults that are not as by default."""
    options = Faults.options()
    return {name: value for name, value in faults.as_dict().items() if value != options[name][1]}


def run_all(output: Output, plan: Plan, pieces: Mapping[str, tuple[Topology, str]]) -> dict[str, Outcome]:
    """Run pieces (topology, strategy) side by side, with a bar. The first broken promise ends it: only that outcome is returned."""
    total = sum(report.expected_operations(topology) for topology, _ in pieces.values())
    jobs = plan.jobs or room_for(len(pieces), total)
    names = list(pieces)
    if jobs > 1:
        slow = {name: n - len(SLOWEST_FIRST) for n, name in enumerate(SLOWEST_FIRST)}
        names.sort(key=lambda name: slow.get(pieces[name][1], 0))
    calls = {name: (*pieces[name], plan.faults, plan.seed) for name in names}
    outcomes: dict[str, Outcome] = {}
    label = plan.strategies[0] if len(pieces) == 1 else f"{len(pieces)} runs"
    with (
        output.progress(label, total) as advance,
        contextlib.closing(side_by_side(report.run, calls, advance, jobs=jobs)) as ended,
    ):
        for name, outcome in ended:
            if failure_of(pieces[name][0], plan.faults, outcome):
                return {name: outcome}
            outcomes[name] = outcome
    return {name: outcomes[name] for name in pieces}


def show(output: Output, files: Files, plan: Plan) -> None:
    """Run every strategy and put out their table. Raises: Exit, after a failure."""
    pieces = {name: (plan.topology, name) for name in plan.strategies}
    outcomes = run_all(output, plan, pieces)
    _stop_at_failures(output, plan, ((plan.topology, outcome) for outcome in outcomes.values()))
    rows = [report.row(outcome) | {"setting": plan.setting()} for outcome in outcomes.values()]
    _put_out(output, rows, report.columns(rows), _title(plan))
    title, subtitle = _name(plan), _subtitle(plan)
    files.write(output, rows, lambda figure: figure.comparison(rows, title, subtitle))


def show_sweep(output: Output, files: Files, plan: Plan, points: Sequence[Point]) -> None:
    """Run every strategy at every point and put out one table. Raises: Exit, after a failure."""
    axis = points[0].axis
    pieces = {
        f"{name} at {axis.name} {point.text}": (point.topology, name) for point in points for name in plan.strategies
    }
    outcomes = run_all(output, plan, pieces)
    _stop_at_failures(output, plan, ((pieces[name][0], outcome) for name, outcome in outcomes.items()))
    found = iter(outcomes.values())
    rows: list[Row] = [
        {"axis": axis.name, "value": point.value, "shown": point.shown}
        | report.row(next(found))
        | {"setting": plan.setting()}
        for point in points
        for _ in plan.strategies
    ]
    heading = _title(plan, f", {axis.said}", axis.name)
    _put_out(output, rows, report.columns(rows, {"shown": axis.heading.replace(", ", "\n")}), heading)
    title, subtitle = f"{_name(plan)}: {axis.said}", _subtitle(plan, axis.name)
    files.write(output, rows, lambda figure: figure.sweep(rows, axis, title, subtitle))


def trace_one(output: Output, files: Files, plan: Plan, trace: str) -> None:
    """Run one strategy and write its events. Raises: Exit, after a failure."""
    strategy = plan.strategies[0]
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(growing(trace))
        advance = stack.enter_context(output.progress(strategy, report.expected_operations(plan.topology)))
        outcome = run_one(
            plan.topology,
            strategy,
            faults=plan.faults,
            seed=plan.seed,
            trace=lambda line: print(line, file=file),
            progress=advance,
        )
    _stop_at_failures(output, plan, [(plan.topology, outcome)])
    rows = [report.row(outcome) | {"setting": plan.setting()}]
    _put_out(output, rows, report.columns(rows), _title(plan))
    title, subtitle = _name(plan), _subtitle(plan)
    files.write(output, rows, lambda figure: figure.comparison(rows, title, subtitle))


def look(
    output: Output,
    files: Files,
    seeds: Sequence[int],
    strategies: tuple[str, ...],
    topology: Topology | None,
    faults: Faults | None,
    jobs: int | None,
) -> None:
    """Look for a broken promise at every seed, and put out how much was looked at. Raises: Exit, after a failure."""
    tallies = {name: small.Tally(name, STRATEGIES[name].promises) for name in strategies}
    parts = [seeds[n : n + SEEDS_A_PIECE] for n in range(0, len(seeds), SEEDS_A_PIECE)]
    calls: dict[str, tuple[Any, ...]] = {
        f"the search from seed {part[0]} on": (part, strategies, topology, faults) for part in parts
    }
    worth = 10**6 if len(parts) > 1 else 0
    failure: Failure | None = None
    with (
        output.progress(f"{len(seeds)} seeds", len(seeds) * len(strategies)) as advance,
        contextlib.closing(side_by_side(small.look, calls, advance, jobs=jobs or room_for(len(parts), worth))) as ended,
    ):
        for _, (found, failure) in ended:
            for tally in found:
                tallies[tally.strategy].add(tally)
            if failure is not None:
                break
    if failure is not None:
        show_failure(output, failure)
    rows = [attrs.asdict(tally) for tally in tallies.values()]
    title = "Small worlds" if topology is None else topology.title or topology.name
    output.table(rows, small.COLUMNS, title=f"{title}, seeds {seeds[0]} to {seeds[-1]}: no promise was broken")
    files.write(output, rows, lambda _: None)


def _stop_at_failures(output: Output, plan: Plan, outcomes: Any) -> None:
    for topology, outcome in outcomes:
        failure = failure_of(topology, plan.faults, outcome)
        if failure is not None:
            show_failure(output, failure)


def _put_out(output: Output, rows: Sequence[Row], shown: Mapping[str, str], title: str) -> None:
    """Put out a table; what does not fit a narrow terminal as one stands in two, each with every row."""
    if len(shown) < len(report.COLUMNS) or output.as_json or output.console.width >= WIDE:
        output.table(rows, shown, title=title)
    else:
        wrong = ("strategy", "stale", "backward", "acausal", "said_stale", "refused_percent")
        output.table(rows, {name: shown[name] for name in wrong}, title=title)
        output.table(rows, {name: head for name, head in shown.items() if name not in wrong[1:]})
    output.say(report.notes(rows, shown), style="dim")


def _name(plan: Plan) -> str:
    return plan.topology.title or plan.topology.name


def _title(plan: Plan, said: str = "", varied: str = "") -> str:
    """Return what was simulated, in lines that fit a terminal and break at no fact."""
    text = f"{_name(plan)}{said}: {_subtitle(plan, varied)}"
    held = (
        text.replace(" ", "\N{NO-BREAK SPACE}")
        .replace(",\N{NO-BREAK SPACE}", ", ")
        .replace(":\N{NO-BREAK SPACE}", ": ")
    )
    return textwrap.fill(held, 80, break_long_words=False, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


def _subtitle(plan: Plan, varied: str = "") -> str:
    """Return what was simulated, in a line, but for what a sweep has varied."""
    topology, store = plan.topology, plan.topology.store
    sessions = sum(users.sessions for users in topology.population)
    spread = f" (log-normal, sigma {store.lag.sigma:g})" if store.lag.sigma else ""
    facts = {
        "sessions": f"{sessions:,} sessions",
        "sites": f"at {', '.join(site.name for site in topology.sites)}",
        "shards": f"{store.shards:,} shard" + "s" * (store.shards > 1),
        "lag": f"lag {store.lag.median_s * 1000:g} ms{spread}",
        "duration": f"{topology.duration_s:g} s",
        "seed": f"seed {plan.seed}",
        "faults": "faults: " + (", ".join(f"{name}={value:g}" for name, value in told(plan.faults).items()) or "none"),
    }
    return ", ".join(fact for name, fact in facts.items() if name != varied)


def list_all(output: Output) -> None:
    """Put out everything that can be named."""
    output.table([_scenario_row(name) for name in SCENARIOS], {"name": "Scenario", "said": "What it is"})
    strategies = [
        {"kind": "strategy", "name": name, "promises": s.promises, "said": report.SAID[name]}
        for name, s in STRATEGIES.items()
    ]
    output.table(strategies, {"name": "Strategy", "promises": "Promises", "said": "How a read is served"})
    faults = [
        {"kind": "fault", "name": name, "unit": kind, "default": default, "said": said}
        for name, (kind, default, said) in Faults.options().items()
    ]
    output.table(faults, {"name": "Fault", "unit": "Is a", "default": "Default", "said": "What happens"})
    mixes = [
        {"kind": "mix", "name": name, "said": " ".join(told(faults)) or "nothing"} for name, faults in MIXES.items()
    ]
    output.table(mixes, {"name": "Mix", "said": "What breaks"})
    axes = [{"kind": "axis", "name": name, "said": axis.said} for name, axis in AXES.items()]
    output.table(axes, {"name": "Axis", "said": "What varies"})


def _scenario_row(name: str) -> dict[str, object]:
    topology = scenario(name)
    sessions = sum(users.sessions for users in topology.population)
    said = (
        f"{topology.title}: {len(topology.sites)} sites, {topology.store.shards:,} shards, {sessions:,} sessions, "
        f"about {report.expected_operations(topology):,} operations in {topology.duration_s:,.0f} s"
    )
    return {"kind": "scenario", "name": name, "said": said}
