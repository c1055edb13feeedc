"""`causal vectors`: drive an implementation, in whatever language, through the vectors of the specification."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from causal.cli.output import Output, json_option
from causal.lab.vectors.answer import answer
from causal.lab.vectors.answer import serve as answers
from causal.lab.vectors.drive import DriveError, Program, Result, drive
from causal.lab.vectors.format import AREAS, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.lab.vectors.format import Vector

COLUMNS: Final = {
    "area": "Area",
    "vectors": "Vectors",
    "passed": "Passed",
    "failed": "Failed",
    "unsupported": "Unsupported",
}
SHOWN: Final = 20
MAX_TIMEOUT_S: Final = 86_400.0

_areas: Final = click.option(
    "--area",
    "areas",
    multiple=True,
    type=click.Choice(AREAS),
    help="Only vectors of this area; repeat it. [default: all]",
)
_directory: Final = click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the files are. [default: those that came with this package]",
)


@click.group()
def vectors() -> None:
    """Test an implementation of the specification, in any language, by its vectors."""


@vectors.command("list")
@_areas
@_directory
@json_option
def list_(areas: Sequence[str], directory: Path | None, as_json: bool) -> None:
    """List the vectors, and the numbered sentences of the specification that each stands for."""
    output = Output(as_json=as_json)
    rows = [
        {"area": v.area, "op": v.op, "name": v.name, "cites": v.cites if as_json else " ".join(v.cites)}
        for v in load(directory, dict.fromkeys(areas) or AREAS)
    ]
    output.table(rows, {"area": "Area", "op": "Operation", "name": "Name", "cites": "Stands for"})


@vectors.command()
@click.option(
    "--command", help="The program to drive, with its arguments; started once, without a shell. [default: this library]"
)
@_areas
@_directory
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True, max=MAX_TIMEOUT_S),
    default=30.0,
    show_default=True,
    help="How long one answer may take, in seconds.",
)
@click.option(
    "--allow-unsupported", is_flag=True, help="Do not fail for operations that the program says it does not support."
)
@json_option
def run(
    command: str | None,
    areas: Sequence[str],
    directory: Path | None,
    timeout_s: float,
    allow_unsupported: bool,
    as_json: bool,
) -> None:
    """Run the vectors, through this library or through the program of --command.

    The program reads a JSON object a line from standard input, {"id": 1, "op": "clock.tick", "in": {...}}, and writes one for each:
    {"id": 1, "out": {...}}, or {"id": 1, "error": {"type": "MalformedToken"}}, or {"id": 1, "unsupported": true}. Standard input is closed
    at the end.

    Exit code 1 if an answer is wrong, is missing, or is no answer, or if nothing was answered at all.
    """
    output = Output(as_json=as_json)
    found = load(directory, dict.fromkeys(areas) or AREAS)
    results: list[Result] = []
    try:
        _drive(output, found, command, timeout_s, results)
    except DriveError:
        if results:
            _show(output, results)  # what came before is of use
        raise
    _show(output, results)
    if any(not r.passed and not (r.unsupported and allow_unsupported) for r in results):
        raise click.exceptions.Exit(1)
    if not any(r.passed for r in results):
        raise DriveError("nothing was tested: the program supports no operation of these vectors")


def _drive(
    output: Output, found: Sequence[Vector], command: str | None, timeout_s: float, results: list[Result]
) -> None:
    """Append the results, as they come."""
    with output.progress("vectors", len(found)) as advance, contextlib.ExitStack() as stack:
        program = None if command is None else stack.enter_context(Program(command, timeout_s))
        for result in drive(found, answer if program is None else program.ask):
            results.append(result)
            advance(1)
        if program is not None:
            program.end()


def _show(output: Output, results: Sequence[Result]) -> None:
    """Put out what went wrong, then a line for each area."""
    wrong = [r for r in results if r.wrong]
    for nth, r in enumerate(wrong):
        v = r.vector
        told: dict[str, Any] = {"area": v.area, "name": v.name, "op": v.op, "cites": list(v.cites), "wrong": r.wrong}
        if output.as_json:
            output.record(told | {"in": v.given})
        elif nth < SHOWN:
            output.say(f"{v.area}: {v.name} ({v.op}; {', '.join(v.cites)})", style="bold")
            output.say(f"  {r.wrong}" + (f" [{v.reason}]" if v.reason else ""))
    if len(wrong) > SHOWN:
        output.say(f"... and {len(wrong) - SHOWN:,} more")
    of = Counter(r.vector.area for r in results)
    count = {
        "passed": Counter(r.vector.area for r in results if r.passed),
        "failed": Counter(r.vector.area for r in wrong),
        "unsupported": Counter(r.vector.area for r in results if r.unsupported),
    }
    output.table(
        [{"area": a, "vectors": n} | {what: by[a] for what, by in count.items()} for a, n in of.items()], COLUMNS
    )


@vectors.command()
def serve() -> None:
    """Answer vectors on standard input and output by this library: the program that `causal vectors run` drives, to compare with."""
    try:
        for line in answers(sys.stdin):
            print(line, flush=True)
    except ValueError as error:
        raise click.UsageError(f"a line of standard input is no request, a JSON object: {error}") from error
