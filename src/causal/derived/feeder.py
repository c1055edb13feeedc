"""The thread that keeps a derived store up to date while its link is open.

Owns when to take a step. What a step is, and why any number of processes may take steps at once, is the feed's.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from causal.errors import CausalError

if TYPE_CHECKING:
    from causal.derived.contract import Feeding

_log = logging.getLogger("causal")

_POLL_MIN_S: Final = 0.002
_POLL_MAX_S: Final = 0.05
_FAILED_S: Final = 1.0


class Feeder:
    """A thread that takes one step after another, until it is stopped.

    Thread-safety: safe.
    """

    def __init__(self, feeding: Feeding, name: str, *, poll_s: float = _POLL_MAX_S) -> None:
        self._feeding, self._name, self._poll_s = feeding, name, poll_s
        self._stopped = False
        self._first = threading.Event()
        self._complaint: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"causal-feeder-{name}", daemon=True)
        self._thread.start()

    def began(self, timeout_s: float) -> bool:
        """Wait until the first step is over, well or not; return whether it is."""
        return self._first.wait(timeout_s)

    def stop(self) -> None:
        """End the thread and close what it feeds; returns when that is done. Idempotent."""
        self._stopped = True
        self._feeding.wake()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        pause_s = _POLL_MIN_S
        try:
            while not self._stopped:
                done = self._step()
                self._first.set()
                if done:
                    pause_s = _POLL_MIN_S
                elif done is None:
                    pause_s = _FAILED_S
                else:
                    pause_s = min(pause_s * 1.5, self._poll_s)
                if not self._stopped:
                    self._feeding.wait(pause_s)
        finally:
            self._first.set()
            self._feeding.close()

    def _step(self) -> int | None:
        """Take a step; None if it failed, which is said once."""
        try:
            done = self._feeding.step()
        except CausalError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("feeding %s failed and goes on: %s", self._name, error)
            return None
        except Exception:  # noqa: BLE001 - a thread that dies unseen would stop it for good
            _log.exception("feeding %s met a bug and goes on", self._name)
            return None
        self._complaint = None
        return done
