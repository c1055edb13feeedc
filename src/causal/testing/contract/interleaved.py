"""Something else happens in the middle of a call: at each of its steps in turn, without any hook inside the code under test.

Owns the turns. HAZARD: it sees the calls and returns of Python functions only; a window inside one call of C stays closed.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

T = TypeVar("T")
U = TypeVar("U")

_TURN_S: Final = 0.005
"""How long the call under test stands still for the other: it goes on then, because it may hold the lock that the other waits for."""
_END_S: Final = 60.0


def interleaved(act: Callable[[], T], meanwhile: Callable[[], U], most: int) -> Iterator[tuple[T, U]]:
    """Call `act` again and again; each time `meanwhile` runs in another thread, begun at another step. Yield what both returned.

    Raises: what either raises; TimeoutError if `meanwhile` does not end after `act` has.
    """
    steps = _Steps(act)
    steps.run()
    steps.run()  # what the first call alone does, to fill a cache say, is gone through as well
    places = list(steps.places)
    for place in [places[n * len(places) // most] for n in range(most)] if len(places) > most else places:
        other = _Other(meanwhile)
        result = _Steps(act, place, other.turn).run()
        yield result, other.ended()


class _Steps:
    """A call whose steps are noted, `places`: who is called, or returns, and where. At one of them somebody else has a turn."""

    def __init__(
        self, act: Callable[[], Any], place: tuple[object, ...] | None = None, turn: Callable[[], None] = lambda: None
    ) -> None:
        self.places: dict[tuple[object, ...], None] = {}
        self._act, self._place, self._turn = act, place, turn

    def run(self) -> Any:
        before = sys.getprofile()
        sys.setprofile(self._step)
        try:
            return self._act()
        finally:
            sys.setprofile(before)

    def _step(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in {"call", "return"}:
            outside = frame.f_back
            place = (event, frame.f_code, None if outside is None else (outside.f_code, outside.f_lineno))
            if self._place is None:
                self.places[place] = None
            elif self._place == place:
                sys.setprofile(None)  # what the turn itself calls is no step
                self._turn()


class _Other:
    """A thread that begins at its turn."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._result: Any = None
        self._error: BaseException | None = None

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            self._error = error

    def turn(self) -> None:
        self._thread.start()
        self._thread.join(_TURN_S)

    def ended(self) -> Any:
        if self._thread.ident is None:
            self._thread.start()  # the call was shorter this time
        self._thread.join(_END_S)
        if self._thread.is_alive():
            raise TimeoutError("a write that began during another call does not end, though that call has")
        if self._error is not None:
            raise self._error
        return self._result
