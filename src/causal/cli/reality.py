"""`causal reality`: what the simulator predicts of a topology, and what the embedded store does on real files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from causal.cli.output import Output, json_option
from causal.errors import ConfigError
from causal.lab.planet.reading import TopologyError, read_topology
from causal.lab.reality import HELD, Row, held_against_reality, planned
from causal.lab.scenarios import SCENARIOS, scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.lab.planet.topology import Topology

DEFAULT: Final = "two-offices"
COLUMNS: Final = {
    "strategy": "Strategy",
    "run": "Run",
    "stale": "Stale",
    "backward": "Back",
    "acausal": "Acausal",
    "read_p50_ms": "p50",
    "read_p99_ms": "p99",
    "waits": "Waits",
    "at_leader": "Leader",
    "away": "Away",
    "refused": "Errors",
}

_RUNS: Final = {"predicted": "predicted", "observed": "observed", "difference": "off by"}

NOTES: Final = """\
Both runs replay the same operations with the same round trips and lags, in virtual time: no difference is expected.
Counted from the values that reads returned, by one bookkeeping for both.
Stale: less than the reader's own last write of the key. Back: less than the same session read of it before.
Acausal: less than something in the reader's causal past; includes both. p50, p99: of reads, in ms. Waits: reads held back.
Leader: sent to a leader for being one. Away: served at another site than the reader's own. Errors: operations refused.
The processor, the disk and the replication thread's pauses are in neither run."""


@click.command()
@click.argument("topology", default=DEFAULT, metavar="[SCENARIO|FILE]")
@click.option("--strategy", "strategies", multiple=True, type=click.Choice(HELD), help="Only these strategies.")
@click.option("--seed", default=1, show_default=True, help="Decides who does what when; the same seed, the same table.")
@json_option
def reality(topology: str, strategies: Sequence[str], seed: int, as_json: bool) -> None:
    """Hold the simulator against the embedded store: predicted, observed, and the difference.

    The topology is a ready scenario's name or a TOML file, and one that the embedded store can be: every site takes writes and holds one
    copy. Its clients' operations are simulated, and run on real files with the store's own loop, once for each strategy. Ends with exit
    code 1 if they are further apart than the order of what happens at one moment may explain.
    """
    try:
        planet = _topology(topology)
        lives = planned(planet, seed)
    except (TopologyError, ConfigError) as error:
        raise click.UsageError(str(error)) from error
    names = list(dict.fromkeys(strategies or HELD))
    operations = sum(len(life.steps) for life in lives)
    output = Output(as_json=as_json)
    label = names[0] if len(names) == 1 else f"{len(names)} strategies"
    with output.progress(label, 2 * len(names) * operations) as advance:
        rows = held_against_reality(planet, names, seed, advance, lives=lives)
    if as_json:
        for row in rows:
            output.record({"topology": planet.name, "seed": seed} | row.plain())
    else:
        title = f"{planet.title or planet.name}: {operations:,} operations in {len(lives):,} sessions, seed {seed}"
        output.table([line for name in names for line in _lines(name, rows)], COLUMNS, title=title)
        output.say(NOTES, style="dim")
        output.say(f"\n{_judged(rows)}")
    if any(row.verdict == "apart" for row in rows):
        raise click.exceptions.Exit(1)


def _topology(named: str) -> Topology:
    """Return the scenario of that name, or what the file says. Raises: ConfigError, TopologyError."""
    if named not in SCENARIOS and (Path(named).suffix or Path(named).exists()):
        return read_topology(named)
    return scenario(named)


def _lines(name: str, rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return one strategy's lines of the table: what was predicted, what was observed, and the difference."""
    mine = {row.measure: row for row in rows if row.strategy == name}
    lines: list[dict[str, object]] = []
    for run in _RUNS:
        line: dict[str, object] = {"strategy": "" if lines else name, "run": _RUNS[run]}
        lines.append(line | {measure: _rounded(getattr(row, run)) for measure, row in mine.items()})
    return lines


def _rounded(figure: float) -> float | int:
    return figure if isinstance(figure, int) else round(figure, 1)


def _judged(rows: Sequence[Row]) -> str:
    """Return the verdict as a sentence."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("same", "close", "apart")}
    said = f"{counts['same']} of {len(rows)} figures are the same."
    if counts["close"]:
        said += f" {counts['close']} are close: so far apart as the order of what happens at one moment may explain."
    apart = [f"{row.strategy} {row.measure} {row.difference:+g}" for row in rows if row.verdict == "apart"]
    if apart:
        said += f" {counts['apart']} are apart, so one side is wrong: {', '.join(apart)}."
    return said
