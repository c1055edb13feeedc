"""The audit of what was recorded: which promises were kept to the sessions, which were not, and what nobody can say.

Owns what counts as a promise: the guarantees that the stores were set to, as far as reads were served under them. The verdicts are the
checker's, of a white box; which operations are one session, the joining's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.lab.checker import check
from causal.lab.checking.findings import (
    CAUSAL,
    CONVERGENT,
    LOST,
    MONOTONIC_READS,
    MONOTONIC_WRITES,
    READ_YOUR_WRITES,
    WRITES_FOLLOW_READS,
)
from causal.lab.joining import join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from causal.lab.checker import Report, Verdict
    from causal.lab.joining import Joined

JUDGED: Final = {
    READ_YOUR_WRITES: "READ_YOUR_WRITES",
    MONOTONIC_READS: "MONOTONIC_READS",
    MONOTONIC_WRITES: "MONOTONIC_WRITES",
    WRITES_FOLLOW_READS: "WRITES_FOLLOW_READS",
}
_JOINING: Final = 0.8
"""How much of the time joining takes, about."""
_ACROSS: Final = frozenset({MONOTONIC_WRITES, WRITES_FOLLOW_READS, CAUSAL, CONVERGENT})
"""What holds only where versions carry their dependencies."""


@attrs.frozen
class Answer:
    """What became of one promise. `state` is "kept", "broken" or "not promised"; a witness's operations say where they were recorded.

    Thread-safety: immutable.
    """

    guarantee: str
    state: str
    count: int = 0
    reason: str = ""
    sentence: str = ""
    operations: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**attrs.asdict(self, recurse=False), "operations": list(self.operations)}


@attrs.frozen
class Audit:
    """What came of an audit. Thread-safety: immutable by convention."""

    joined: Joined
    answers: tuple[Answer, ...]
    unjudged: tuple[str, ...]

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return any(answer.state == "broken" for answer in self.answers)


def audit(
    paths: Sequence[str], *, held_only: bool = True, tell: Callable[[float], object] = lambda part: None
) -> Audit:
    """Join what was recorded in these files, and judge it. `tell` hears now and then which part is done, up to 1.

    Raises: HistoryError.
    """
    most = 0.0

    def far(part: float) -> None:
        nonlocal most
        most = max(most, part)  # branches are read once more
        tell(most)

    joined = join(paths, lambda part: far(part * _JOINING))
    histories = [history for history in (joined.history, joined.branches) if history is not None]
    total, done = 2 * sum(map(len, histories)), 0

    def more(n: int) -> None:
        nonlocal done
        done += n
        far(_JOINING + (1 - _JOINING) * min(1.0, done / total))

    reports = [check(history, mode="white", held_only=held_only, tell=more) for history in histories]
    far(1.0)
    answers = [_answer(joined, guarantee, reports) for guarantee in (*JUDGED, CAUSAL, CONVERGENT)]
    return Audit(joined, (*answers, _losses(joined)), tuple(_unjudged(joined, reports, held_only=held_only)))


def _answer(joined: Joined, guarantee: str, reports: Sequence[Report]) -> Answer:
    promised = joined.guarantees
    if promised is not None:
        if guarantee in _ACROSS and not joined.dependencies:
            return Answer(guarantee, "not promised", reason="a store does not keep what versions depend on")
        # Monotonic reads bring read-your-writes along: a session may have read what it wrote.
        enough = {JUDGED.get(guarantee, "")} | ({"MONOTONIC_READS"} if guarantee == READ_YOUR_WRITES else set())
        if guarantee in JUDGED and not enough & promised:
            return Answer(guarantee, "not promised", reason="a store was set to less (guarantees=)")
        if guarantee in {CAUSAL, CONVERGENT} and not promised.issuperset(JUDGED.values()):
            return Answer(guarantee, "not promised", reason="it takes all four guarantees")
    found = [report[guarantee] for report in reports]
    wrong = next((verdict for verdict in found if verdict.state == "violated"), None)
    if wrong is None:
        return Answer(guarantee, "kept", reason=found[0].reason)
    return _broken(joined, wrong)


def _losses(joined: Joined) -> Answer:
    history, losses = joined.history, joined.losses
    if joined.guarantees is not None and not joined.guarantees & {"READ_YOUR_WRITES", "MONOTONIC_READS"}:
        return Answer(LOST, "not promised", reason="a store was set to less (guarantees=)")
    said = f"{losses.lost:,} lost" if losses.lost else "none lost"
    if not losses.untold:
        return Answer(LOST, "kept", reason=said)
    rows = [history.fields(place) | {"line": history.line[place]} for place in losses.untold[0]]
    write, then = ({**row, "recorded": joined.place(row["line"])} for row in rows)
    version = "@".join(map(str, write["version"]))
    sentence = (
        f"the session wrote {write['key']!r} ({version}), which was lost; "
        f"it was served at {then.get('endpoint', '?')}, which has no such write, before it was told"
    )
    return Answer(LOST, "broken", len(losses.untold), said, sentence, (write, then))


def _broken(joined: Joined, verdict: Verdict) -> Answer:
    witness = verdict.witness
    operations = () if witness is None else witness.operations
    told = tuple({**row, "recorded": joined.place(row["line"])} for row in operations)
    sentence = "" if witness is None else witness.sentence
    return Answer(verdict.guarantee, "broken", verdict.count, verdict.reason, sentence, told)


def _unjudged(joined: Joined, reports: Sequence[Report], *, held_only: bool) -> Iterable[str]:
    """Say what could not be judged, and why."""
    counts, sources = joined.counts, joined.sources.values()
    sums = {
        name: sum(source.counts[name] for source in sources) for name in ("skipped", "unnamed", "dropped", "failed")
    }
    least = min((source.sample for source in sources), default=1.0)
    outside = f"outside the sample ({least:g} of the subjects)" if least < 1 else "not recorded"
    said = (
        (counts.unheld if held_only else 0, "read", "whose policy promised less (judged with --all)"),
        (sums["skipped"], "session", outside),
        (sums["dropped"], "line", "dropped: the file was full, or the queue, or could not be written"),
        (sums["failed"], "line", "that the history function raised on"),
        (sums["unnamed"], "block", "of an engine that cannot name the versions that it shows"),
        (counts.damaged, "line", f"that cannot be read, the first {counts.first_damage}"),
        (counts.versionless, "write", "acknowledged without a version"),
        (counts.in_doubt, "write", "in doubt: whether it happened, nobody was told"),
        (
            counts.strangers,
            "request",
            "whose token was given out elsewhere than in these files: what came before is not seen",
        ),
        (counts.bare, "request", "without a token, of a subject who had been given one: it was promised nothing"),
    )
    yield from (f"{many(number, noun)} {what}" for number, noun, what in said if number)
    yield from dict.fromkeys(note for report in reports for note in report.notes if "origins without stamps" in note)


def many(number: int, noun: str, plural: str = "s") -> str:
    """Return a number of things in words that agree."""
    return f"{number:,} {noun}{'' if number == 1 else plural}"
