"""`causal compare`: replay a trace once for each strategy, and show what users saw and what it cost."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click
from click.core import ParameterSource

from causal.cli.figures import COLUMNS, row
from causal.cli.files import Files, file_options
from causal.cli.output import Output, json_option
from causal.controls import Lag
from causal.errors import ConfigError
from causal.lab.parallel import replay_each, room_for
from causal.lab.replay import MAX_SITES, STRATEGIES, Setting
from causal.lab.report.rows import of_replay
from causal.lab.trace import TraceError, parse_trace, read_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.lab.replay import Result
    from causal.lab.trace import Operation


NOTES: Final = """\
Counted from the values that reads returned, by a bookkeeping of its own.
Stale: less than the reader's own last write of the key; a concurrent write that wins over it is not stale.
Non-mono: less than the same session read of the key before.
Acausal: less than something in the reader's causal past; includes both.
Leader: sent to a leader for being one. Every site takes writes: each is the leader of its own.
Away: served at another site than the reader's own. Waits: reads held back. Errors: reads and writes refused.
Times are virtual: lag, round trips and waits; the processor's work is not in them."""


_ONLY: Final = dict.fromkeys(("rtt", "sites", "jobs"), "sqlite") | dict.fromkeys(
    ("replicas", "think", "clients"), "postgres"
)
"""The options that only one engine has."""


@click.command()
@click.argument("trace", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--policy", "policies", multiple=True, type=click.Choice(list(STRATEGIES)), help="Only these strategies.")
@click.option(
    "--lag", default="50ms", show_default=True, help="Replication lag: 0.05, 50ms or lognormal:50ms:0.8[:seed]."
)
@click.option("--speed", default=1.0, show_default=True, help="Play the trace this much faster than it was recorded.")
@click.option("--rtt", default=0.08, show_default=True, help="Round trip between sites, in seconds.")
@click.option("--sites", default="eu,us,ap", show_default=True, help="The sites, by name, or how many.")
@click.option(
    "--hop", default=0.2, show_default=True, help="How likely a session moves to another site before an operation."
)
@click.option(
    "--seed", default=1, show_default=True, help="Decides who moves where; the same seed gives the same table."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Strategies to replay at once. Default: one for each processor, on a long trace.",
)
@click.option(
    "--engine",
    type=click.Choice(["sqlite", "postgres"]),
    default="sqlite",
    show_default=True,
    help="The embedded store, in virtual time; or real PostgreSQL servers, started for this on this machine.",
)
@click.option("--replicas", default=2, show_default=True, help="postgres: how many standbys.")
@click.option(
    "--think", default="10ms", show_default=True, help="postgres: longer pauses between operations are cut to this."
)
@click.option("--clients", default=8, show_default=True, help="postgres: how many requests at once.")
@click.option(
    "--operations",
    "limit",
    type=click.IntRange(1),
    help="Replay only so many, the trace's first.  [default: all; postgres: 1000]",
)
@json_option
@file_options
@click.pass_context
def compare(
    context: click.Context,
    trace: str,
    policies: Sequence[str],
    lag: str,
    speed: float,
    rtt: float,
    sites: str,
    hop: float,
    seed: int,
    jobs: int | None,
    engine: str,
    replicas: int,
    think: str,
    clients: int,
    limit: int | None,
    as_json: bool,
    figures: Sequence[str],
    csv_file: str | None,
) -> None:
    """Replay TRACE over lagging sites, once for each strategy, and count what users saw. `-` reads it from standard input.

    TRACE has one JSON object a line: t (seconds), session, op (read or write), key, and for writes a value. Each operation is a
    request that carries its session's token; a session moves between sites as --hop says. Time is virtual: the same arguments
    print the same table, on any machine. A line that cannot be replayed stops it before anything runs, with exit code 2.

    With --engine postgres time is real, and a session moves between applications beside the standbys. The exit code is 1 if the
    comparison is void: the eventual run showed nothing stale.
    """
    _fits(context, engine)
    names = list(dict.fromkeys(policies or STRATEGIES))
    try:
        operations = read_trace(trace) if trace != "-" else parse_trace(sys.stdin.buffer.read(), "standard input")
        output, files = Output(as_json=as_json), Files(figures, csv_file, reads=trace)
        if engine == "postgres":
            from causal.cli.compare_postgres import OPERATIONS, setting_of, show_real

            operations = operations[: limit or OPERATIONS]
            real = setting_of(replicas, lag, think, speed, hop, clients, seed)
            rows, title = show_real(output, operations, names, real)
        else:
            operations = operations[:limit]
            setting = Setting(_names(sites), Lag.parse(lag), rtt, speed, hop, seed)
            results = show(output, operations, names, setting, jobs)
            rows = [row(result) | {"setting": _plain(setting)} for result in results]
            title = _title(operations, setting)
        subtitle = " ".join(title.split())
        files.write(output, rows, lambda figure: figure.comparison(list(map(of_replay, rows)), _name(trace), subtitle))
    except (TraceError, ConfigError) as error:
        raise click.UsageError(str(error)) from error
    if any(row.get("void") for row in rows):
        raise click.exceptions.Exit(1)


def _fits(context: click.Context, engine: str) -> None:
    """Raises: UsageError for an option that was given and means nothing to this engine."""
    for name, whose in _ONLY.items():
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and whose != engine:
            raise click.UsageError(f"--{name} is for --engine {whose}")


def show(
    output: Output, operations: Sequence[Operation], policies: Sequence[str], setting: Setting, jobs: int | None = None
) -> list[Result]:
    """Run the strategies and put out their table."""
    names = list(dict.fromkeys(policies))
    label = names[0] if len(names) == 1 else f"{len(names)} strategies"
    with output.progress(label, len(names) * len(operations)) as advance:
        results = replay_each(operations, names, setting, advance, jobs=jobs or room_for(len(names), len(operations)))
    output.table(
        [row(result) | {"setting": _plain(setting)} for result in results], COLUMNS, title=_title(operations, setting)
    )
    output.say(NOTES, style="dim")
    return results


def _name(trace: str) -> str:
    return "Standard input" if trace == "-" else Path(trace).name


def _names(sites: str) -> tuple[str, ...]:
    """Return the names of sites, given by name or by number."""
    return (
        tuple(f"s{n + 1}" for n in range(min(int(sites), MAX_SITES + 1)))
        if sites.isdecimal()
        else tuple(sites.split(","))
    )


def _title(operations: Sequence[Operation], setting: Setting) -> str:
    """Return what was replayed, in lines that fit a terminal and break at no number."""
    sessions = len({operation.session for operation in operations})
    facts = (
        f"lag {_said(setting.lag)}",
        f"round trip {setting.rtt_s * 1000:g} ms",
        f"hop {setting.hop:g}",
        f"speed {setting.speed:g}",
        f"seed {setting.seed}",
    )
    held = ", ".join(fact.replace(" ", "\N{NO-BREAK SPACE}") for fact in facts)
    text = f"{len(operations):,} operations in {sessions:,} sessions at {', '.join(setting.sites)}: {held}"
    return textwrap.fill(text, 80, break_long_words=False, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


def _plain(setting: Setting) -> dict[str, object]:
    """Return a setting as plain values. Units: seconds."""
    lag = setting.lag
    return attrs.asdict(setting, recurse=False) | {
        "sites": list(setting.sites),
        "lag": {"median_s": lag.median_s, "sigma": lag.sigma, "seed": lag.seed},
    }


def _said(lag: Lag) -> str:
    return f"{lag.median_s * 1000:g} ms" + (f" (log-normal, sigma {lag.sigma:g}, seed {lag.seed})" if lag.sigma else "")
