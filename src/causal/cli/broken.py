"""A broken promise, as a command shows it: what happened, to whom, and all that it takes to see it again, step by step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import causal
from causal.cli.files import put
from causal.lab.faults import Faults
from causal.lab.planet.writing import to_toml
from causal.lab.report.failure import commit, read_failure, replay

if TYPE_CHECKING:
    from causal.cli.output import Output
    from causal.lab.planet.oracle import Violation
    from causal.lab.report.failure import Failure


def show_failure(output: Output, failure: Failure) -> None:
    """Put out a failure and write the file that replays it. Raises: Exit, with the code of an error."""
    import json

    path = Path(failure.file_name)
    put(path, json.dumps(failure.as_dict(), indent=1).encode() + b"\n")
    if output.as_json:
        output.record({"failure": failure.as_dict(), "replay": str(path)})
    else:
        output.say(sentence(failure.strategy, failure.violation), style="bold red")
        output.say(f"Strategy {failure.strategy}, seed {failure.seed}, {failure.code()}.")
        faults = {name: value for name, value in failure.faults.as_dict().items() if value != Faults.options()[name][1]}
        output.say("Faults: " + (", ".join(f"{name}={value!r}" for name, value in faults.items()) or "none") + ".")
        output.say("Topology:\n\n" + to_toml(failure.topology))
        output.say(f"Step by step: causal simulate --replay {path}")
    raise click.exceptions.Exit(1)


def sentence(strategy: str, violation: Violation) -> str:
    """Return a broken promise as a sentence."""
    return f"{strategy} broke its promise ({violation.kind}) at {violation.at_s:.6f} s: {violation.said}."


def replay_file(output: Output, path: str) -> None:
    """Show what a file replays, event by event. Raises: ReplayError; Exit: with the code of an error, if the promise breaks again."""
    failure = read_failure(path)
    here = commit()
    if (failure.version, failure.commit) != (causal.__version__, here):
        print(
            f"causal: {path} is of {failure.code()}; this is causal {causal.__version__}"
            + (f", commit {here}" if here else "")
            + ": it may not happen again",
            file=sys.stderr,
        )
    names = {failure.violation.session}

    def listen(line: str) -> None:
        if output.as_json:
            at_s, _, said = line.partition(" ")
            output.record({"at_s": float(at_s), "event": said})
        else:
            output.say(line, style=None if names.isdisjoint(line.split()) else "bold")

    violation = replay(failure, listen)
    if violation is None:
        output.record({"violation": None}, "No promise was broken this time.")
        return
    fields = {"kind": violation.kind, "at_s": violation.at_s, "session": violation.session, "said": violation.said}
    if output.as_json:
        output.record({"violation": fields})
    else:
        output.say(sentence(failure.strategy, violation), style="bold red")
    raise click.exceptions.Exit(1)
