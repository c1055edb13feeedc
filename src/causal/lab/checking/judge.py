"""All guarantees of one history, from the cheapest question to the dearest.

Owns the order of the questions. First a generous scan: if no read misses anything of more than it depends on, everything holds, and
that is all. Otherwise an exact one, and only for what it found the session guarantees, CC, CCv and CM.

White box: the version order is the store's, so causal convergence (CCv) means that every read returns the newest version of its causal
past, and that the version order never contradicts causality. CC and CM are as in a black box. In a black box the order is any that fits.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from causal.lab.checking.clocks import Packing, scan
from causal.lab.checking.convergence import conflicts, overwritten
from causal.lab.checking.evidence import Index
from causal.lab.checking.findings import (
    CAUSAL,
    CONVERGENT,
    CYCLE,
    GUARANTEES,
    MEMORY,
    SESSION_GUARANTEES,
    STALE,
    THIN_AIR,
    Finding,
)
from causal.lab.checking.memory import Memory
from causal.lab.checking.model import NONE
from causal.lab.checking.processing import fair, older_versions, processing
from causal.lab.checking.session_guarantees import Newer, classify
from causal.lab.history import NOT_HELD, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.lab.checking.clocks import Scan
    from causal.lab.checking.model import Model
    from causal.lab.checking.processing import Processing


CIRCLE: Final = "causality goes round in a circle: no version is newer than another"


def judge(model: Model, *, held_only: bool, tell: Callable[[int], object]) -> tuple[dict[str, Finding], dict[str, str]]:
    """Find what is violated, and what cannot be judged and why. `tell` hears of operations as they are scanned, at most twice each.

    Complexity: linear where nothing is suspect. With k lanes, what is suspect costs up to k bisections a read.
    """
    judge = _Judge(model, held_only, tell)
    judge.run()
    unjudged = dict.fromkeys(SESSION_GUARANTEES, CIRCLE) if judge.circular and not model.white else {}
    return judge.findings, unjudged


class _Judge:
    def __init__(self, model: Model, held_only: bool, tell: Callable[[int], object]) -> None:
        self.model = model
        self.held_only = held_only
        self.tell = tell
        self.findings = {guarantee: Finding() for guarantee in GUARANTEES}
        self.packing = Packing(model)
        self.circular = False
        self.thin_air = frozenset(model.thin_air)

    def run(self) -> None:
        """Ask one question after the other."""
        model, findings = self.model, self.findings
        causality = processing(model)
        self.circular = bool(causality.cycles)
        older = None
        if model.white:
            older = older_versions(model, causality.order)
        else:
            causality = fair(model, causality)
            model.ranked_by(causality.order)
        versions = causality if older is None else processing(model, older)
        for guarantee in (CAUSAL, CONVERGENT, MEMORY):
            for i in model.thin_air:
                if self.judged(i):
                    findings[guarantee].note(THIN_AIR, i)
            for cycle in causality.cycles:
                findings[guarantee].note(CYCLE, *cycle)
        suspects: set[int] | None = None
        if not versions.cycles and not causality.cycles:
            suspects = {
                r for r in scan(model, self.packing, versions, self.tell, generous=True).stale if self.judged(r)
            }
            if not suspects and not model.split:
                return
        if causality.cycles or versions.cycles or model.split:
            suspects = None
        self.exactly(causality, versions, suspects)

    def exactly(self, causality: Processing, versions: Processing, suspects: set[int] | None) -> None:
        """Judge read by read. `suspects` are those that a generous scan found, or None where there was none to rely on."""
        model, findings = self.model, self.findings
        exact = scan(model, self.packing, causality, self.tell, keep=True)
        stale = {r: missed for r, missed in zip(exact.stale, exact.missed, strict=True) if self.judged(r)}
        reads = [i for i, f in enumerate(model.history.flags) if not f & WRITE and self.judged(i)]
        candidates = sorted(stale) if suspects is not None else reads
        index = Index(model, range(len(model.history.keys)))
        newer = Newer(model, self.packing, exact.clocks)
        classify(model, newer, index, candidates, findings)
        for r in candidates:
            clock = exact.clocks[r]
            i = overwritten(model, self.packing, index, newer, r, clock) if clock is not None else -1
            if i >= 0:
                findings[CAUSAL].note(STALE, r, i)
        self.converges(causality, versions, exact, stale, index, reads)
        if findings[CAUSAL].count:
            findings[MEMORY] = findings[CAUSAL]
            return
        of_session: dict[int, list[int]] = {}
        for r in reads if suspects is None else sorted(suspects):
            of_session.setdefault(model.history.session[r], []).append(r)
        place = array("i", [0]) * len(model.writer)
        for at, i in enumerate(versions.order):
            place[i] = at
        memory = Memory(
            model,
            self.packing,
            index,
            exact.clocks,
            frozenset(reads),
            stale,
            agreed=not versions.cycles and not model.split,
            place=place,
        )
        for session, those in sorted(of_session.items()):
            if suspects is None or not memory.cleared(session, those):
                found = memory.violation(session)
                if found is not None:
                    findings[MEMORY].note(found.kind, *found.ops)

    def converges(
        self,
        causality: Processing,
        versions: Processing,
        exact: Scan,
        stale: dict[int, int],
        index: Index,
        reads: list[int],
    ) -> None:
        """Judge causal convergence."""
        model, finding, causal = self.model, self.findings[CONVERGENT], self.findings[CAUSAL]
        if model.white:
            for r, missed in stale.items():
                finding.note(STALE, r, missed)
            if not causality.cycles:
                for cycle in versions.cycles:
                    finding.note(CYCLE, *cycle)
        if finding.count or not (model.split or (stale and not model.white)):
            return
        if causal.count:
            self.findings[CONVERGENT] = causal
            return
        edges = conflicts(model, self.packing, index, exact.clocks, reads)
        for cycle in processing(model, older_versions(model) if model.white else None, edges).cycles:
            finding.note(CYCLE, *cycle)

    def judged(self, i: int) -> bool:
        """Whether a read is to be judged: it had an effect, something can be said of it, and it was promised something."""
        model = self.model
        flags = model.history.flags[i]
        if model.order.lane[i] < 0 or (self.held_only and flags & NOT_HELD):
            return False
        return model.writer[i] != NONE or i in self.thin_air
