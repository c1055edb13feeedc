"""What a history proves: which guarantees held, which did not, and for each that did not the smallest story that shows it.

Owns the verdicts. It asks nothing of whoever made the history: no token, gate or receipt. See `docs/howto/check.md` for the definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from causal.errors import ConfigError
from causal.lab.checking.findings import GUARANTEES, LOST
from causal.lab.checking.judge import judge
from causal.lab.checking.lost import losses
from causal.lab.checking.model import Model, NotUniqueError
from causal.lab.checking.witness import Witness, witness
from causal.lab.history import IN_DOUBT, NO_VERSION, REFUSED, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.lab.checking.findings import Finding
    from causal.lab.checking.lost import Losses
    from causal.lab.history import History

Mode = Literal["auto", "white", "black"]
State = Literal["ok", "violated", "not judged"]
NO_VERSIONS: Final = "no versions: only a white box can tell"


@attrs.frozen
class Verdict:
    """Of one guarantee: `state`, how often it was violated, why it was not judged or what is to be known besides, and a witness.

    Thread-safety: immutable.
    """

    guarantee: str
    state: State
    count: int = 0
    reason: str = ""
    witness: Witness | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `causal check --json` puts it out."""
        return {
            "guarantee": self.guarantee,
            "state": self.state,
            "count": self.count,
            "reason": self.reason,
            "witness": None if self.witness is None else self.witness.as_dict(),
        }


@attrs.frozen
class Report:
    """The verdicts on one history, in the order of GUARANTEES. Thread-safety: immutable."""

    mode: Literal["white", "black"]
    operations: int
    sessions: int
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def violated(self) -> bool:
        """Whether any guarantee was violated."""
        return any(verdict.state == "violated" for verdict in self.verdicts)

    def __getitem__(self, guarantee: str) -> Verdict:
        return next(verdict for verdict in self.verdicts if verdict.guarantee == guarantee)


def check(
    history: History,
    *,
    mode: Mode = "auto",
    held_only: bool = False,
    witnesses: bool = True,
    tell: Callable[[int], object] = lambda _: None,
) -> Report:
    """Judge a history. `held_only` judges only reads whose receipts promised the session's guarantees.

    A white box goes by the versions, a black box by values, each of which is to be written at most once to its key; "auto" is white
    if every acknowledged write has a version. Without `witnesses` there are only counts, which is faster where much is violated.
    `tell` hears, now and then, of so many more operations done, at most twice each.

    Raises: ConfigError, if the mode is none of these. Complexity: linear where nothing is suspect, and never quadratic on ordinary input.
    """
    if mode not in {"auto", "white", "black"}:
        raise ConfigError(f"mode is auto, white or black, not {mode!r}")
    white = mode == "white" or (mode == "auto" and _versioned(history))
    counts = {"mode": "white" if white else "black", "operations": len(history), "sessions": len(history.sessions)}
    try:
        model = Model(history, white=white)
    except NotUniqueError as error:
        why = f"{error}: a black box goes by values that are written once"
        return Report(**counts, verdicts=tuple(Verdict(guarantee, "not judged", 0, why) for guarantee in GUARANTEES))  # type: ignore[arg-type]
    found, unjudged = judge(model, held_only=held_only, tell=tell)
    verdicts = [
        Verdict(guarantee, "not judged", 0, unjudged[guarantee])
        if guarantee in unjudged
        else _verdict(model, guarantee, found[guarantee], held_only, witnesses)
        for guarantee in GUARANTEES[:-1]
    ]
    told = _lost(model, losses(model, held_only=held_only), witnesses) if white else None
    lost = told or Verdict(LOST, "not judged", 0, NO_VERSIONS)
    return Report(**counts, verdicts=(*verdicts, lost), notes=tuple(_notes(model)))  # type: ignore[arg-type]


def _versioned(history: History) -> bool:
    """Whether every acknowledged write has a version, or there are none and some read has one."""
    writes = [i for i, f in enumerate(history.flags) if f & WRITE and not f & (REFUSED | IN_DOUBT)]
    if writes:
        return all(history.origin[i] != NO_VERSION for i in writes)
    return any(o != NO_VERSION for o in history.origin)


def _verdict(
    model: Model, guarantee: str, finding: Finding, held_only: bool, witnesses: bool, said: str = ""
) -> Verdict:
    if finding.first is None:
        return Verdict(guarantee, "ok", 0, said)
    shown = witness(model, guarantee, finding.first, held_only=held_only) if witnesses else None
    return Verdict(guarantee, "violated", finding.count, said, shown)


def _lost(model: Model, found: Losses, witnesses: bool) -> Verdict:
    said = f"{found.lost} lost, {found.told} told in time" if found.lost else "none lost"
    return _verdict(model, LOST, found.finding, False, witnesses, said)


def _notes(model: Model) -> list[str]:
    notes = []
    meta = model.history.meta
    if meta.get("sample", 1) != 1 or meta.get("dropped"):
        notes.append("The history is a sample: what it does not show is not judged.")
    if model.white and model.unversioned:
        notes.append(f"{model.unversioned:,} operations have no version: they are not judged.")
    if model.split:
        notes.append(
            f"{len(model.split):,} keys are numbered by several origins without stamps: across them order is unknown."
        )
    return notes
