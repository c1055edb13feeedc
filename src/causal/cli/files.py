"""Files that a command writes beside its output: a table as CSV, figures, a failure.

Owns that a file is whole or not there: it is written under another name first. Whether it can be written is looked at before the work
that it is to hold.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import click

from causal.lab.report.rows import to_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from causal.cli.output import Output

SUFFIXES: Final = (".png", ".svg")

C = TypeVar("C", bound="Callable[..., object]")


def file_options(command: C) -> C:
    """Add the options that write the table to files."""
    for option in (
        click.option(
            "--figure",
            "figures",
            multiple=True,
            type=click.Path(dir_okay=False),
            help="Draw the table to FILE.png or FILE.svg; both, if FILE has neither suffix. Repeat it.",
        ),
        click.option("--csv", "csv_file", type=click.Path(dir_okay=False), help="Write the rows to this file, too."),
    ):
        command = option(command)
    return command


class Files:
    """The files that were asked for. Raises: UsageError for one that cannot be. Thread-safety: none."""

    def __init__(
        self, figures: Sequence[str], csv_file: str | None, trace: str | None = None, *, reads: str | None = None
    ) -> None:
        self.csv_file = None if csv_file is None else Path(csv_file)
        self.figures = list(dict.fromkeys(path for name in figures for path in _paths(name)))
        others = [Path(name) for name in (csv_file, trace) if name not in {None, "-"}]
        writable([*self.figures, *others], [] if reads is None else [reads])
        if self.figures:
            try:
                import causal.lab.report.figure  # noqa: F401 - asked for here, so that the hint comes before any work
            except ModuleNotFoundError as missing:
                if missing.name != "matplotlib":
                    raise
                raise click.UsageError("a figure needs matplotlib: pip install 'causal-tokens[plot]'") from None

    def write(self, output: Output, rows: Sequence[dict[str, Any]], draw: Callable[[Any], Any]) -> None:
        """Write them all; `draw` makes the figure, given the module that draws."""
        if self.csv_file is not None:
            put(self.csv_file, to_csv(rows).encode())
            output.say(f"Wrote {self.csv_file}.")
        if self.figures:
            from causal.lab.report import figure

            drawn = draw(figure)
            for path in self.figures:
                put(path, figure.encode(drawn, path.suffix.lower()))
                output.say(f"Wrote {path}.")


def writable(paths: Sequence[Path], reads: Sequence[str] = ()) -> None:
    """Look whether files can be written, each to a place of its own. Raises: UsageError."""
    taken = {os.path.realpath(name): "read" for name in reads if os.path.isfile(name)}
    for path in paths:
        place = Path(os.path.realpath(path))
        what = taken.get(str(place))
        if what is not None:
            raise click.UsageError(f"{path}: is {what}, too: give another name")
        if _is_whole(path):
            taken[str(place)] = "written"
            if not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
                raise click.UsageError(f"{path}: nothing can be written in {path.parent}")
        elif path.is_dir() or not os.access(path, os.W_OK):
            raise click.UsageError(f"{path}: cannot be written")


def _is_whole(path: Path) -> bool:
    """Whether a path is a file, or nothing yet: a device or a pipe is written to, and never replaced."""
    return path.is_file() or not path.exists()


def _paths(name: str) -> list[Path]:
    path = Path(name)
    if path.suffix.lower() in SUFFIXES:
        return [path]
    if path.suffix:
        raise click.UsageError(f"a figure is a {' or '.join(SUFFIXES)} file, not {name}")
    return [Path(f"{name}{suffix}") for suffix in SUFFIXES]


def put(path: Path, data: bytes) -> None:
    """Write a file: all of it, or none. Raises: ClickException, in a line."""
    with _written(path) as file:
        file.write(data)


@contextlib.contextmanager
def growing(name: str) -> Iterator[IO[str]]:
    """Open a text file, `-` for standard output, that is there when the block has ended well. Raises: ClickException, in a line."""
    if name == "-":
        yield sys.stdout
        return
    with _written(Path(name)) as file, io.TextIOWrapper(file, encoding="utf-8") as text:
        yield text


@contextlib.contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """Open a file under another name, and give it its own when the block has ended well. A link stays, a device is written to."""
    try:
        if not _is_whole(path):
            with open(path, "wb") as file:
                yield file
            return
        place = os.path.realpath(path)
        number, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=os.path.dirname(place))
        try:
            with open(number, "wb") as file:
                yield file
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(draft, 0o666 & ~mask)  # as any new file
            os.replace(draft, place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written: {error.strerror}") from error
