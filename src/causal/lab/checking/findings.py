"""What the judges find, before anyone tells it: which guarantee, how often, and the operations of the first time.

Owns the list of guarantees.
"""

from __future__ import annotations

from typing import Final

import attrs

READ_YOUR_WRITES: Final = "read-your-writes"
MONOTONIC_READS: Final = "monotonic reads"
MONOTONIC_WRITES: Final = "monotonic writes"
WRITES_FOLLOW_READS: Final = "writes-follow-reads"
CAUSAL: Final = "causal (CC)"
CONVERGENT: Final = "causal convergence (CCv)"
MEMORY: Final = "causal memory (CM)"
LOST: Final = "lost writes told"
SESSION_GUARANTEES: Final = (READ_YOUR_WRITES, MONOTONIC_READS, MONOTONIC_WRITES, WRITES_FOLLOW_READS)
GUARANTEES: Final = (*SESSION_GUARANTEES, CAUSAL, CONVERGENT, MEMORY, LOST)

STALE: Final = "stale"
"""A read returned less than something that it depends on."""
CYCLE: Final = "cycle"
"""Operations that each depend on the one before, and the first on the last."""
THIN_AIR: Final = "thin air"
"""A read returned what nobody wrote."""
UNTOLD: Final = "untold"
"""A session went on past the loss of a write of its own, and was not told."""


@attrs.frozen
class Violation:
    """One violation, by the places of its operations in the history.

    STALE: the read, and the write (or read) that shows what it missed. CYCLE: the operations, each depending on the one before it.
    THIN_AIR: the read. UNTOLD: the lost write, and what went on. Thread-safety: immutable.
    """

    kind: str
    ops: tuple[int, ...]


@attrs.define(eq=False)
class Finding:
    """How often a guarantee was violated, and the first time. Thread-safety: none."""

    count: int = 0
    first: Violation | None = None

    def note(self, kind: str, *ops: int) -> None:
        """Note a violation. The one whose last operation comes first in the history is the first."""
        self.count += 1
        if self.first is None or max(ops) < max(self.first.ops):
            self.first = Violation(kind, ops)
