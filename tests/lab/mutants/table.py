"""The table of planted bugs: how it is read, written, and planted.

Owns the words of `mutants.toml`. A planted bug is a replacement of text that must be there exactly once, so that one whose code has
moved on fails loudly instead of planting nothing.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

import causal

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE: Final = Path(__file__).parent / "mutants.toml"
PACKAGE: Final = Path(causal.__file__).parent
AREAS: Final = ("clock", "frontier", "codec", "gate", "session", "dependency check", "expiry", "failover")
"""Each has at least one planted bug. Others may stand beside them."""


@attrs.frozen
class Edit:
    """One replacement: `old`, which stands in `file` exactly once, becomes `new`. `file` is relative to the package."""

    file: str
    old: str
    new: str


@attrs.frozen
class Found:
    """What finds a planted bug: this seed of this mix, and the kind of violation that is seen first."""

    mix: str
    seed: int
    kind: str


@attrs.frozen
class Mutant:
    """A planted bug. `takes_out` is the rule that is gone; `invariant` its number, where it has one.

    `strategy` and `mixes` are where to look for it. `found` is what finds it; else `survives` says why nothing does, and `caught_by`
    which other test does.
    """

    name: str
    area: str
    takes_out: str
    edits: tuple[Edit, ...]
    invariant: str = ""
    strategy: str = "token"
    mixes: tuple[str, ...] = ("everything",)
    found: Found | None = None
    survives: str = ""
    caught_by: str = ""


@attrs.frozen
class Counterexample:
    """How a plausible draft goes wrong. `mutants` take out the rule that answers it, and the simulator finds each.

    Where a simulation cannot show it, `why` says so, and `told_by` names the test that tells it (none: nothing here can).
    """

    title: str
    said: str
    mutants: tuple[str, ...] = ()
    why: str = ""
    told_by: str = ""


@attrs.frozen
class Table:
    """Everything that the file says."""

    mutants: tuple[Mutant, ...]
    counterexamples: tuple[Counterexample, ...]

    @classmethod
    def read(cls, path: Path = TABLE) -> Table:
        """Read the file."""
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(
            tuple(_mutant(dict(one)) for one in said["mutant"]),
            tuple(
                Counterexample(**{**one, "mutants": tuple(one.get("mutants", ()))})
                for one in said.get("counterexample", ())
            ),
        )

    def write(self, path: Path = TABLE) -> None:
        """Write the file anew. What is above its first table (a comment) stays."""
        head = path.read_text(encoding="utf-8").partition("\n[[")[0].rstrip("\n") if path.exists() else ""
        parts = [head, *map(_mutant_text, self.mutants)]
        for one in self.counterexamples:
            parts += ["\n".join(["[[counterexample]]", *_lines(attrs.asdict(one, recurse=False))])]
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _mutant(said: dict[str, Any]) -> Mutant:
    said["edits"] = tuple(Edit(**edit) for edit in said.pop("edit"))
    if "mixes" in said:
        said["mixes"] = tuple(said["mixes"])
    if "found" in said:
        said["found"] = Found(**said["found"])
    return Mutant(**said)


def _mutant_text(mutant: Mutant) -> str:
    values = attrs.asdict(mutant, recurse=False, filter=lambda a, _: a.name not in {"edits", "found"})
    lines = ["[[mutant]]", *_lines(values)]
    if mutant.found is not None:
        found = ", ".join(f"{k} = {_value(v)}" for k, v in attrs.asdict(mutant.found).items())
        lines.append(f"found = {{ {found} }}")
    for edit in mutant.edits:
        lines += ["[[mutant.edit]]", *_lines(attrs.asdict(edit), keep=True)]
    return "\n".join(lines)


def _lines(values: dict[str, Any], *, keep: bool = False) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in values.items() if keep or value not in ("", ())]


def _value(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, int):
        return str(value)
    if "\n" in value:
        return f"'''\n{value}'''"
    if '"' in value or "\\" in value:
        return f"'{value}'" if "'" not in value else f"'''{value}'''"
    return f'"{value}"'


def plant(edits: Iterable[Edit], folder: Path) -> Path:
    """Copy the package into `folder`, and make the replacements there; return `folder`, which is for PYTHONPATH.

    Raises: LookupError for a text that does not stand there exactly once.
    """
    shutil.copytree(PACKAGE, folder / "causal")
    for edit in edits:
        path = folder / "causal" / edit.file
        text = path.read_text(encoding="utf-8")
        if (times := text.count(edit.old)) != 1:
            raise LookupError(f"{edit.file} has this {times} times, not once:\n{edit.old}")
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    return folder
