"""`causal audit`: whether what was promised to users was kept, from what their stores recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from causal.cli.files import growing, writable
from causal.cli.output import Output, json_option
from causal.lab.auditing import audit as judge
from causal.lab.auditing import many
from causal.lab.history import HistoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.lab.auditing import Answer, Audit

STATES: Final = {"kept": "kept", "broken": "BROKEN", "not promised": "not promised"}
_WITNESS: Final = {
    "recorded": "Recorded at",
    "session": "Session",
    "seq": "No.",
    "op": "Did",
    "key": "Key",
    "version": "Version",
    "endpoint": "At",
}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option(
    "--held/--all",
    "held_only",
    default=True,
    show_default=True,
    help="Judge only reads that were promised the session's guarantees, or all.",
)
@click.option(
    "--write",
    "path",
    type=click.Path(dir_okay=False),
    help="Write the joined history there, as `causal check` reads it.",
)
@json_option
def audit(files: Sequence[str], held_only: bool, path: str | None, as_json: bool) -> None:
    """Judge what stores recorded (`CausalStore(..., history=...)`) in FILES, of any number of processes.

    Requests are joined into sessions by the tokens that they carried; what a user did without a token is not held against anybody. It says
    what was judged, what could not be and why, and shows of each broken promise the smallest story. The exit code is 1 if a promise was
    broken, 2 if a file cannot be read.
    """
    output = Output(as_json=as_json)
    if path is not None:
        writable([Path(path)], files)
    try:
        with output.progress("judging", 100) as advance:
            shown = 0

            def tell(part: float) -> None:
                nonlocal shown
                percent = int(100 * part)
                advance(percent - shown)
                shown = percent

            found = judge(files, held_only=held_only, tell=tell)
    except HistoryError as error:
        raise click.UsageError(str(error)) from error
    if path is not None:
        _write(path, found)
    _summary(output, found)
    for answer in found.answers:
        if as_json:
            output.record({"kind": "promise", **answer.as_dict()})
    if not as_json:
        rows = [
            {"promise": a.guarantee, "state": STATES[a.state], "count": a.count or None, "note": a.reason}
            for a in found.answers
        ]
        output.table(rows, {"promise": "Promise", "state": "Found", "count": "Times", "note": ""})
        stories: dict[str, list[Answer]] = {}
        for answer in found.answers:
            if answer.state == "broken":
                stories.setdefault(answer.sentence, []).append(answer)
        for sentence, answers in stories.items():
            _story(output, sentence, answers)
        broken = sum(answer.state == "broken" for answer in found.answers)
        output.say(
            f"{broken} of the promises were broken." if broken else "Every promise that could be judged was kept."
        )
    if found.broken:
        click.get_current_context().exit(1)


def _summary(output: Output, found: Audit) -> None:
    counts = found.joined.counts
    data: dict[str, Any] = {
        "files": len(found.joined.files),
        "processes": len(found.joined.sources),
        **{name: value for name, value in attrs.asdict(counts).items() if name != "first_damage"},
        "not_judged": list(found.unjudged),
    }
    if output.as_json:
        output.record({"kind": "summary", **data})
        return
    output.say(
        f"{many(counts.sessions, 'session')} in {many(counts.requests, 'request')}: {many(counts.reads, 'read')}, "
        f"{many(counts.writes, 'write')}, {counts.refused:,} refused, {many(counts.lost, 'loss', 'es')} told."
    )
    if found.unjudged:
        output.say("Not judged:")
        for line in found.unjudged:
            output.say(f"  {line}")


def _story(output: Output, sentence: str, answers: Sequence[Answer]) -> None:
    """Tell one story, once for all the promises that it breaks: with the operations of the first of them."""
    rows = [
        {
            **row,
            "recorded": Path(row["recorded"]).name,
            "session": _short(row["session"]),
            "version": "@".join(map(str, row["version"])) if "version" in row else "nothing",
        }
        for row in answers[0].operations
    ]
    for row in answers[0].operations:
        sentence = sentence.replace(row["session"], _short(row["session"]))
    output.say()
    output.table(rows, _WITNESS, title=f"Breaks {', '.join(answer.guarantee for answer in answers)}")
    output.say(sentence)


def _write(path: str, found: Audit) -> None:
    with growing(path) as file:
        file.writelines(found.joined.history.lines())


def _short(session: str) -> str:
    """Return enough of a session's name to know it again in one story."""
    return f"{session[:6]}.." if len(session) > 8 else session
