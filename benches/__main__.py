"""`python -m benches`: measure each cost against its floor or peer, in this run, and say which rows are as asked for.

Owns the list of bench modules and how rows are put out. A row that misses its bar fails nothing: timings are facts about a machine and
a moment. The exit code is 0 unless something crashes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from benches import (
    bench_caches,
    bench_checker,
    bench_clock,
    bench_frontier,
    bench_gate,
    bench_middleware,
    bench_postgres,
    bench_simulator,
    bench_sizes,
    bench_sqlite,
    bench_token,
    bench_waiting,
)
from benches.measure import Effort, Row

MODULES: tuple[ModuleType, ...] = (
    bench_clock,
    bench_token,
    bench_frontier,
    bench_gate,
    bench_waiting,
    bench_sqlite,
    bench_middleware,
    bench_postgres,
    bench_caches,
    bench_sizes,
    bench_simulator,
    bench_checker,
)


def measured(
    effort: Effort, only: re.Pattern[str] | None = None, tell: Callable[[int, str], object] = lambda done, name: None
) -> Iterator[Row]:
    """Measure every row whose name, after its module's, matches `only`. `tell` hears how many modules are done, and what comes now."""
    for done, module in enumerate(MODULES):
        tell(done, module.__name__)
        for case in module.cases():
            if only is None or only.search(f"{module.__name__} {case.name}"):
                tell(done, case.name)
                yield case.measure(effort)


def _pattern(_: click.Context, __: click.Parameter, text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise click.BadParameter(f"not a regular expression: {error}") from error


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row, as soon as it is measured.")
@click.option(
    "--only", callback=_pattern, metavar="PATTERN", help="Only rows whose module or name this expression finds."
)
@click.option("--rounds", type=click.IntRange(min=1), default=Effort().rounds, show_default=True, help="Turns a row.")
def main(as_json: bool, only: re.Pattern[str] | None, rounds: int) -> None:
    """Measure what each part costs, against a floor or a peer in the same run: medians of interleaved rounds."""
    rows: list[Row] = []
    errors = Console(stderr=True, markup=False, highlight=False)
    columns = (BarColumn(20), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("", total=len(MODULES))
        for row in measured(
            Effort(rounds=rounds), only, lambda done, name: progress.update(task, completed=done, description=name)
        ):
            rows.append(row)
            if as_json:
                print(json.dumps(row.as_dict()), flush=True)
            elif not errors.is_terminal:
                print(f"{len(rows):3} {row.name}", file=sys.stderr, flush=True)
    if not rows:
        raise click.UsageError("no row has such a name")
    if not as_json:
        _show(rows)


def _show(rows: list[Row]) -> None:
    # As wide as the table is, where nobody's terminal limits it: what a pipe cuts off is lost.
    console = Console(markup=False, highlight=False, emoji=False)
    console = console if console.is_terminal else Console(markup=False, highlight=False, emoji=False, width=200)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("what", "measured", "against", "floor or peer", "ratio", "asked for", "met"):
        table.add_column(heading, justify="right" if heading in {"measured", "floor or peer", "ratio"} else "left")
    for row in rows:
        met = {True: Text("yes", "green"), False: Text("no", "bold red"), None: Text("")}[row.met]
        value, other = (_amount(n, row.unit) for n in (row.value, row.other))
        table.add_row(row.name, value, row.against, other, f"{row.ratio:.3g}x", row.asked, met)
    console.print(table)
    asked = [row for row in rows if row.met is not None]
    missed = [row for row in asked if not row.met]
    console.print(
        f"{len(asked) - len(missed)} of {len(asked)} rows are as asked for; {len(rows) - len(asked)} more are only shown."
    )
    for row in missed:
        console.print(f"  missed: {row.name}: {row.ratio:.3g}x, asked for {row.asked}", style="bold red")
    console.print("Ratios are of a run's own rounds; times are of this machine, now, with whatever else it does.")


def _amount(number: float, unit: str) -> str:
    return f"{number:,.3g} {unit}" if number < 1000 else f"{number:,.0f} {unit}"


if __name__ == "__main__":
    main(prog_name="python -m benches")
