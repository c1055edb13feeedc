"""The hunt: which seed finds each planted bug. `python -m tests.lab.mutants --help` says how.

Each is planted in a copy of the package of its own; nothing that is installed is touched.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Shown

from tests.lab.mutants.table import TABLE, Found, Mutant, Table, plant

if TYPE_CHECKING:
    from collections.abc import Callable

RUN: Final = Path(__file__).parent / "run.py"


def hunt(mutant: Mutant, first: int, last: int, done: Callable[[], object]) -> tuple[Found | None, str]:
    """Look for a seed that finds a planted bug, in a process of its own; return it and what was said."""
    with tempfile.TemporaryDirectory(prefix="causal-mutant-") as folder:
        home = plant(mutant.edits, Path(folder))
        job = {"strategy": mutant.strategy, "mixes": mutant.mixes, "first": first, "last": last, "home": str(home)}
        run = subprocess.Popen(
            [sys.executable, str(RUN), json.dumps(job)],
            env={**os.environ, "PYTHONPATH": str(home)},
            stdout=subprocess.PIPE,
            text=True,
        )
        with run:
            assert run.stdout is not None
            try:
                for line in run.stdout:
                    said: dict[str, Any] = json.loads(line)
                    if "kind" in said:
                        return Found(said["mix"], said["seed"], said["kind"]), said["said"]
                    done()
            except BaseException:
                run.kill()
                raise
        if run.returncode:
            raise RuntimeError(f"{mutant.name}: the run ended with {run.returncode}")
    return None, ""


@click.command(help="Look for the seed that finds each planted bug of the table.")
@click.option("--only", default="", help="Only those whose name this regular expression finds.")
@click.option("--seeds", default=500, show_default=True, help="How many seeds of each mix to try.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--jobs", default=2, show_default=True, help="How many at a time.")
@click.option("--write", is_flag=True, help="Write what was found into the table.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
def main(only: str, seeds: int, first: int, jobs: int, write: bool, as_json: bool) -> None:
    chosen = [m for m in Table.read().mutants if re.search(only, m.name)]
    found: dict[str, tuple[Found | None, str]] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task("seeds", total=len(chosen) * seeds)

        def begin(mutant: Mutant) -> tuple[Found | None, str]:
            left = seeds

            def done() -> None:
                nonlocal left
                left -= 1
                progress.advance(task)

            result = hunt(mutant, first, first + seeds, done)
            progress.advance(task, left)
            return result

        running = {pool.submit(begin, mutant): mutant for mutant in chosen}
        for future in as_completed(running):
            mutant = running[future]
            found[mutant.name] = seen, said = future.result()
            if as_json:
                where = {} if seen is None else {**attrs.asdict(seen), "said": said}
                print(json.dumps({"name": mutant.name, "found": seen is not None, **where}), flush=True)
            elif seen is None:
                progress.console.print(f"{mutant.name}: not found")
            else:
                progress.console.print(f"{mutant.name}: {seen.mix} {seen.seed}: {said}", markup=False)
    if not as_json:
        _show(chosen, found)
    if write:
        table = Table.read()  # it may have been edited meanwhile
        kept = tuple(attrs.evolve(m, found=found[m.name][0]) if m.name in found else m for m in table.mutants)
        attrs.evolve(table, mutants=kept).write()
        click.echo(f"written: {TABLE}", err=True)
    sys.exit(any(found[m.name][0] is None and not m.survives for m in chosen))


def _show(chosen: list[Mutant], found: dict[str, tuple[Found | None, str]]) -> None:
    shown = Shown("area", "planted bug", "mix", "seed", "seen as", box=SIMPLE_HEAD)
    for mutant in chosen:
        seen = found[mutant.name][0]
        where = (seen.mix, str(seen.seed), seen.kind) if seen else (", ".join(mutant.mixes), "-", "NOT FOUND")
        shown.add_row(mutant.area, mutant.name, *where)
    Console().print(shown)


if __name__ == "__main__":
    main()
