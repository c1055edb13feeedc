"""A breaker: what has failed is left alone for a while, then tried by one caller at a time.

Owns when to ask. Knows nothing of what is asked.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Breaker:
    """Whether something is worth asking. Units: seconds of `monotonic`. Thread-safety: safe from any thread."""

    def __init__(self, retry_s: float, monotonic: Callable[[], float]) -> None:
        self._retry_s = retry_s
        self._monotonic = monotonic
        self.forked()

    def forked(self) -> None:
        """In a forked child: begin anew."""
        self.lock = threading.Lock()
        self._until = 0.0
        self.open = False
        """Whether the last that was heard is a failure."""

    def allows(self) -> bool:
        """Return whether to ask now. After a failure: once the time is over, and one caller at a time."""
        if not self.open:
            return True
        with self.lock:
            now = self._monotonic()
            if now < self._until:
                return False
            self._until = now + self._retry_s  # others wait for what this one finds
            return True

    def failed(self) -> None:
        """Note a failure."""
        with self.lock:
            self._until, self.open = self._monotonic() + self._retry_s, True

    def worked(self) -> None:
        """Note an answer."""
        if self.open:
            with self.lock:
                self._until, self.open = 0.0, False
