"""The account of what a cache did with one key, as a value, and the counts of it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

if TYPE_CHECKING:
    from causal.core.receipt import Receipt

Outcome = Literal[
    "hit", "shared", "miss", "behind", "dead", "bypass", "down", "written", "invalidated", "known", "deleted", "nothing"
]
SERVED: Final = frozenset({"hit", "shared"})


@attrs.frozen
class Account:
    """The machine-readable account of one lookup, or of what a write did to one key.

    A lookup's `outcome`: "hit"; "shared" (another's load at the same time, which covers this demand, too); "miss" (nothing to be used);
    "behind" (an entry that does not cover the demand); "dead" (an entry of a history that has ended before it, removed); "bypass" (not
    asked, as `why` says); "down" (the cache does not answer). All but the first two loaded at an endpoint, with `receipt`. `stored`
    says whether that was stored; if not, `not_stored` says why not.
    A write's: "written" (the new value is there), "invalidated", "known" (what is there is newer), "deleted", "down", "nothing" (no write).

    Units: seconds. Thread-safety: immutable.
    """

    key: str
    outcome: Outcome
    why: str = ""
    stored: bool = False
    not_stored: str = ""
    waited_s: float = 0.0
    receipt: Receipt | None = None

    @property
    def served(self) -> bool:
        """Whether no endpoint was read."""
        return self.outcome in SERVED

    def __str__(self) -> str:
        text = f"{self.outcome} ({self.why})" if self.why else self.outcome
        if self.waited_s:
            text += f", waited {self.waited_s * 1000:.0f} ms"
        if self.receipt is not None:
            text += f"; read {self.receipt}"
        if self.stored:
            text += "; stored"
        return f"{text}; not stored: {self.not_stored}" if self.not_stored else text

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = attrs.asdict(self, recurse=False)
        return plain | {"receipt": None if self.receipt is None else self.receipt.as_dict()}


class Counts:
    """How often what happened. Thread-safety: safe from any thread."""

    __slots__ = ("_counter", "hits", "lock")

    def __init__(self) -> None:
        self.forked()
        self._counter: Counter[str] = Counter()
        self.hits = 0
        """Counted under the lock, apart from the others, by the hot path itself."""

    def forked(self) -> None:
        """In a forked child: the lock may be another thread's for ever."""
        self.lock = threading.Lock()

    def add(self, account: Account) -> None:
        """Count what an account says."""
        with self.lock:
            if account.outcome == "hit":
                self.hits += 1
            else:
                self._counter[account.outcome] += 1
            if account.stored:
                self._counter["stored"] += 1
            elif account.not_stored:
                self._counter["not stored"] += 1

    def as_dict(self) -> dict[str, int]:
        """Return the counts by outcome, with "stored" and "not stored"."""
        with self.lock:
            return {"hit": self.hits, **self._counter}
