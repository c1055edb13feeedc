"""`causal compare`: replay a trace once for each strategy, and show what users saw and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import click

from causal.cli.output import Output, json_option
from causal.controls import Lag
from causal.errors import ConfigError
from causal.lab.replay import STRATEGIES, Setting, replay
from causal.lab.trace import TraceError, read_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.lab.replay import Result
    from causal.lab.trace import Operation

COLUMNS: Final = {
    "strategy": "Strategy",
    "stale": "Stale",
    "non_monotonic": "Non-mono",
    "out_of_causal_order": "Acausal",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "away_percent": "Away %",
    "waited": "Waits",
    "refused": "Errors",
}

NOTES: Final = (
    "Counted from the values that reads returned. Stale: the reader's own last write of the key was missing. Non-mono: older "
    "than the session had read before. Acausal: older than something in the reader's causal past (includes both). "
    "Away: reads served at another site than the reader's own, which costs a round trip. Times are virtual: lag, round trips and waits."
)


@click.command()
@click.argument("trace", type=click.Path(dir_okay=False))
@click.option("--policy", "policies", multiple=True, type=click.Choice(list(STRATEGIES)), help="Only these strategies.")
@click.option(
    "--lag", default="50ms", show_default=True, help="Replication lag: 0.05, 50ms or lognormal:50ms:0.8[:seed]."
)
@click.option("--speed", default=1.0, show_default=True, help="Play the trace this much faster than it was recorded.")
@click.option("--rtt", default=0.08, show_default=True, help="Round trip between sites, in seconds.")
@click.option("--sites", default="eu,us,ap", show_default=True, help="The sites, by name.")
@click.option(
    "--hop", default=0.2, show_default=True, help="How likely a session moves to another site before an operation."
)
@click.option(
    "--seed", default=1, show_default=True, help="Decides who moves where; the same seed gives the same table."
)
@json_option
def compare(
    trace: str,
    policies: Sequence[str],
    lag: str,
    speed: float,
    rtt: float,
    sites: str,
    hop: float,
    seed: int,
    as_json: bool,
) -> None:
    """Replay TRACE over lagging sites, once for each strategy.

    TRACE has one JSON object a line: t (seconds), session, op (read or write), key, and for writes a value.
    """
    try:
        operations = read_trace(trace)
        setting = Setting(tuple(sites.split(",")), Lag.parse(lag), rtt, speed, hop, seed)
    except (TraceError, ConfigError) as error:
        raise click.UsageError(str(error)) from error
    show(Output(as_json=as_json), operations, policies or list(STRATEGIES), setting)


def show(output: Output, operations: Sequence[Operation], policies: Sequence[str], setting: Setting) -> list[Result]:
    """Run the strategies and put out their table."""
    results = []
    for name in policies:
        with output.progress(name, len(operations)) as advance:
            results.append(replay(operations, name, setting, advance))
    output.table(
        [row(result) for result in results],
        COLUMNS,
        title=f"{len(operations):,} operations at {', '.join(setting.sites)}",
    )
    output.say(NOTES, style="dim")
    return results


def row(result: Result) -> dict[str, object]:
    """Return a result with the figures that the table shows."""
    return attrs.asdict(result) | {
        "p50_ms": round(result.read_p50_s * 1000, 1),
        "p99_ms": round(result.read_p99_s * 1000, 1),
        "away_percent": round(result.away * 100, 1),
        "refused": result.refused_reads + result.refused_writes,
    }
