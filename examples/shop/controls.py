"""What can be turned while the shop runs: how far replicas lag, and what is left out.

One small file, written by the page `/controls` and read by every process each time, so that nothing has to be restarted.
"""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Final

import attrs

from causal import Lag

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PARTS: Final = {
    "middleware": "Carries tokens in cookies. Without it each request's session knows of nothing: the other site loses your photo.",
    "cache-gate": "Knows how new cached rows are. Without it (get, else load and set; delete on write) the old photo comes back.",
    "filter": "Notes which cache keys your writes touched. Without it, once you have written, the cache is of no use to you.",
    "service": "Sends the token along to the orders service. Without it the orders page lacks your order.",
    "jobs": "Sends the token along with a job. Without it the worker finds no row to work on.",
    "mixed": "Mixes your own rows into your search results. Without it you do not find what you have just posted.",
}
"""What can be left out, and what it is for."""
STANDS_STILL_S: Final = 3600.0
"""A lag that nobody waits for: replicas stay as they are."""


@attrs.frozen
class State:
    """What is turned how. Units: seconds. Thread-safety: immutable."""

    lag_s: float = 0.0
    without: frozenset[str] = frozenset()


class Controls:
    """The file. Thread-safety: safe, from any process; of two changes at once, one wins."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "controls.json"

    def state(self) -> State:
        """Return what it says now."""
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return State()
        return State(said["lag_s"], frozenset(said["without"]))

    def has(self, part: str) -> bool:
        """Return whether a part is in use."""
        return part not in self.state().without

    def change(self, *, lag_s: float | None = None, without: Iterable[str] | None = None) -> State:
        """Turn what is given. Raises: ValueError for a lag below zero, or a part that there is not."""
        before = self.state()
        parts = before.without if without is None else frozenset(without)
        state = State(before.lag_s if lag_s is None else lag_s, parts)
        if not 0 <= state.lag_s <= STANDS_STILL_S or not state.without <= PARTS.keys():
            raise ValueError(f"a lag is 0 to {STANDS_STILL_S:g} s, and parts are {', '.join(PARTS)}")
        new = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        new.write_text(json.dumps({"lag_s": state.lag_s, "without": sorted(state.without)}), encoding="utf-8")
        os.replace(new, self._path)  # whoever reads sees the old or the new, never half of it
        return state


@attrs.frozen
class AdjustableLag(Lag):
    """A lag for the embedded store that is asked for anew each time. Thread-safety: safe."""

    controls: Controls = attrs.field(kw_only=True)

    @classmethod
    def by(cls, controls: Controls) -> AdjustableLag:
        """Return the lag that the controls say. A spread that is not zero makes the store ask for each write's own delay."""
        return cls(median_s=0.02, sigma=1.0, controls=controls)

    def delay_s(self, site: str, shard: int, origin: int, offset: int) -> float:
        """Return how long after its commit a write is applied elsewhere."""
        return self.controls.state().lag_s
