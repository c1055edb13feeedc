"""What a middleware counts, and tells whoever listens: nothing that goes wrong with a token goes wrong in silence.

Knows no session and no protocol.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

log: Final = logging.getLogger("causal")

Kind = Literal[
    "issued", "folded", "rejected", "withheld", "refused", "replayed", "held", "late", "late_reads", "uncarried"
]
_KINDS: Final[tuple[Kind, ...]] = (
    "issued",
    "folded",
    "rejected",
    "withheld",
    "refused",
    "replayed",
    "held",
    "late",
    "late_reads",
    "uncarried",
)
_ROUTES: Final = 1000
"""How many different warnings are given: a route may be a path, and paths may be endless."""


@attrs.frozen
class Event:
    """Something that a middleware counted. `detail` says more, for people. Thread-safety: immutable."""

    kind: Kind
    route: str
    detail: str = ""


class Counters:
    """How often what happened, since the process began; a thread may read at any time.

    `issued`: responses that gave a token. `folded`: those that did so only because too many cookies had arrived. `rejected`: tokens that
    could not be opened. `withheld`: responses that were public, and so got none. `refused`: requests that the gate refused; `replayed`:
    those of them that were handed to another site. `held`: responses that waited for a block to end. `late`: writes that were
    acknowledged after their response's token had gone; `late_reads`: requests that only read something by then. `uncarried`: requests
    whose token could not be made, or that ended without a response of ours, although their session had changed.

    Thread-safety: safe from any thread.
    """

    def __init__(self, on_event: Callable[[Event], object] | None = None) -> None:
        self._counts: dict[str, int] = dict.fromkeys(_KINDS, 0)
        self._warned: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._on_event = on_event

    @property
    def listened(self) -> bool:
        """Whether somebody listens."""
        return self._on_event is not None

    def __getattr__(self, name: str) -> int:
        counts: dict[str, int] = self.__dict__.get("_counts", {})
        try:
            return counts[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return f"Counters({', '.join(f'{name}={n}' for name, n in self.as_dict().items())})"

    def as_dict(self) -> dict[str, int]:
        """Return all of them, of one moment."""
        with self._lock:
            return dict(self._counts)

    def count(self, kind: Kind, route: str, detail: str = "", *, times: int = 1) -> None:
        """Count, and tell whoever listens."""
        with self._lock:
            self._counts[kind] += times
        if self._on_event is not None:
            try:
                self._on_event(Event(kind, route, detail))
            except Exception as error:  # noqa: BLE001 - whoever listens must not make a response fail
                log.warning("on_event raised %s", type(error).__name__)

    def warn(self, kind: Kind, route: str, advice: str, *args: Any) -> None:
        """Log a warning, once for each kind and route."""
        with self._lock:
            if (kind, route) in self._warned or len(self._warned) >= _ROUTES:
                return
            self._warned.add((kind, route))
        log.warning(advice, *args)
