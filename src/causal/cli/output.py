"""Where a command's results go: rich text for a person, or JSON for a program.

Owns both forms, so that no command writes one and forgets the other. With `--json` standard output holds one JSON
object a line and nothing else. Progress and errors go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LAST_S: Final = 253_402_300_799
"""The end of the year 9999, the last that a date can name. Units: Unix seconds."""
json_option: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")


class _Console(Console):
    """A console that leaves a closed pipe to `causal.cli.run`, which knows the exit code."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Output:
    """One command's output.

    Text is printed as it is: brackets in a key or a token are never markup.

    Thread-safety: one command, one thread.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # Looked up here, not at import: a test or a pipe may have replaced them since.
        self.console: Final = _Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
        self._errors: Final = _Console(file=sys.stderr, markup=False, highlight=False, emoji=False)

    def say(self, text: RenderableType = "", style: str | None = None) -> None:
        """Tell a person something; a program hears nothing."""
        if not self.as_json:
            self._print(text, style=style)

    def record(self, data: Mapping[str, Any], text: RenderableType | None = None) -> None:
        """Put out one result: its data as JSON, or this text, or without one its data as two columns."""
        if self.as_json:
            print(json.dumps(data), flush=True)
        elif text is not None:
            self._print(text)
        else:
            grid = Table.grid(padding=(0, 2))
            for name, value in data.items():
                grid.add_row(Text(name.replace("_", " "), style="bold"), _cell(value))
            self.console.print(grid)

    def _print(self, text: RenderableType, style: str | None = None) -> None:
        # A sentence may hold a path or a command to copy: the terminal wraps it, not we.
        self.console.print(text, style=style, soft_wrap=isinstance(text, str | Text))

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str | None = None) -> None:
        """Put out results that share their columns: a table of `columns` (field: heading), or a JSON object a row."""
        if self.as_json:
            for row in rows:
                self.record(row)
            return
        if title is not None:
            self._print(title, style="bold")
        gap = 1 if len(columns) < 10 else 0  # many columns fit a terminal of 80 characters only with narrow gaps
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
        for field, heading in columns.items():
            numbers = rows and all(type(row.get(field)) in {int, float, type(None)} for row in rows)
            table.add_column(heading, justify="right" if numbers else "left", no_wrap=bool(numbers))
        for row in rows:
            table.add_row(*(_cell(row.get(field)) for field in columns))
        self.console.print(table)

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how far long work is, while it lasts and where someone watches: yields `advance(steps)`."""
        shown = self._errors.is_terminal and not self.as_json
        columns = (TextColumn(label, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._errors, transient=True, disable=not shown) as bar:
            task = bar.add_task(label, total=total)
            yield lambda steps: bar.advance(task, steps)


def _cell(value: object) -> Text:
    """One value as text: nothing for None, yes and no for truth, thousands apart."""
    match value:
        case None:
            return Text("")
        case bool():
            return Text("yes" if value else "no")
        case int():
            return Text(f"{value:,}")
        case float():
            return Text(f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}")
        case Text():
            return value
        case list() | tuple():
            return Text(", ".join(map(str, value)))
        case _:
            return Text(str(value))
