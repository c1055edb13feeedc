"""`causal check`: judge a recorded history, and show for each guarantee that was violated the smallest story that shows it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from causal.cli.output import Output, json_option
from causal.lab.checker import check as judge
from causal.lab.history import HistoryError, parse_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from causal.lab.checker import Mode, Report, Verdict
    from causal.lab.history import History

COLUMNS: Final = {"guarantee": "Guarantee", "state": "Verdict", "count": "Times", "reason": ""}
WITNESS: Final = {
    "line": "Line",
    "session": "Session",
    "seq": "Seq",
    "op": "Op",
    "key": "Key",
    "shard": "Shard",
    "value": "Value",
    "at": "Version",
    "endpoint": "Endpoint",
}
_OPTIONAL: Final = ("shard", "at", "endpoint")


@click.command()
@click.argument("history", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--mode",
    type=click.Choice(["auto", "white", "black"]),
    default="auto",
    show_default=True,
    help="By versions (white box) or by values that are written once (black box). auto: by versions if all writes have one.",
)
@click.option("--held", "held_only", is_flag=True, help="Judge only reads whose receipts promised the guarantees.")
@json_option
def check(history: str, mode: Mode, held_only: bool, as_json: bool) -> None:
    """Judge HISTORY: which guarantees held, and for each that did not the smallest story that shows it. `-` reads standard input.

    HISTORY has one JSON object a line. Exit code 1 if any guarantee was violated, 2 if the history cannot be read.
    """
    output = Output(as_json=as_json)
    try:
        parsed = _parsed(output, history)
    except HistoryError as error:
        raise click.UsageError(str(error)) from error
    with output.progress("checking", 2 * len(parsed)) as advance:
        report = judge(parsed, mode=mode, held_only=held_only, tell=advance)
    show(output, report)
    if report.violated:
        raise click.exceptions.Exit(1)


def _parsed(output: Output, name: str) -> History:
    """Read a history. Units of progress: bytes, where it is known how many there are."""
    if name == "-":
        return parse_history(sys.stdin.buffer, "standard input")
    path = Path(name)
    try:
        with path.open("rb") as file, output.progress("reading", path.stat().st_size) as advance:
            return parse_history(_counted(file, advance), name)
    except OSError as error:
        raise HistoryError(name, 0, f"cannot be read: {error.strerror}") from error


def _counted(lines: Iterable[bytes], advance: Callable[[int], object]) -> Iterator[bytes]:
    done = 0
    for line in lines:
        done += len(line)
        if done > 1 << 20:
            advance(done)
            done = 0
        yield line
    advance(done)


def show(output: Output, report: Report) -> None:
    """Put out the verdicts, and for a person each witness below them."""
    if output.as_json:
        about = {
            "mode": report.mode,
            "operations": report.operations,
            "sessions": report.sessions,
            "notes": list(report.notes),
        }
        for verdict in report.verdicts:
            output.record(verdict.as_dict() | about)
        return
    box = "white box: by versions" if report.mode == "white" else "black box: by values"
    title = f"{report.operations:,} operations in {report.sessions:,} sessions ({box})"
    reasons = {verdict.reason for verdict in report.verdicts}
    same = reasons.pop() if len(reasons) == 1 else ""
    output.table([attrs.asdict(_said(verdict, same)) for verdict in report.verdicts], COLUMNS, title=title)
    for note in filter(None, (same and f"Not judged: {same}.", *report.notes)):
        output.say(note)
    told: dict[str, list[Verdict]] = {}
    for verdict in report.verdicts:
        if verdict.witness is not None:
            told.setdefault(verdict.witness.sentence, []).append(verdict)
    for sentence, verdicts in told.items():
        _show_witness(output, sentence, verdicts)


@attrs.frozen
class _Line:
    guarantee: str
    state: str
    count: int | None
    reason: str


def _said(verdict: Verdict, same: str) -> _Line:
    """Return a row of the table: what all rows share is said below it."""
    return _Line(verdict.guarantee, verdict.state, verdict.count or None, "" if same else verdict.reason)


def _show_witness(output: Output, sentence: str, verdicts: list[Verdict]) -> None:
    """Show one story, once for all the guarantees that it violates: the operations of the first of them."""
    witness = verdicts[0].witness
    assert witness is not None
    rows = [_row(fields) for fields in witness.operations]
    columns = {
        name: head for name, head in WITNESS.items() if name not in _OPTIONAL or any(name in row for row in rows)
    }
    output.say()
    output.table(rows, columns, title=f"Violates {', '.join(verdict.guarantee for verdict in verdicts)}")
    output.say(sentence)


def _row(fields: dict[str, Any]) -> dict[str, Any]:
    version = fields.get("version")
    nothing = fields["op"] == "read" and fields.get("value") is None and version is None
    row: dict[str, Any] = {
        name: fields[name] for name in ("line", "session", "seq", "op", "key", "shard", "endpoint") if name in fields
    }
    row["value"] = "(nothing)" if nothing else repr(fields.get("value"))
    if version is not None:
        row["at"] = f"{version[0]}@{version[1]}"
    return row
