"""What each session may never again miss: a bookkeeping that judges what reads show.

It knows only which values were written and shown, and who knew of which. It does not look at a token, a frontier or a
watermark, so what misleads the gate cannot mislead it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from causal.core.position import Position


@attrs.frozen
class Wrote:
    """One write: what it said, and every write that came before it in the knowledge of its writer.

    Thread-safety: immutable.
    """

    shard: str
    key: str
    value: str | None
    past: frozenset[int]


class Book:
    """Who wrote what, knowing what: judges what a read may show.

    A read by someone who knows `w` must show `w` or a write that replaced it: never one that `w` was made in knowledge of,
    never the state before `w`, and between two that knew nothing of each other always the same one.

    Thread-safety: one thread at a time.
    """

    def __init__(self, *, apart: bool = False) -> None:
        self._apart = apart
        self.writes: list[Wrote] = []
        self.places: dict[int, Position] = {}
        """Where writes stand in their origin's log, as they were acknowledged."""
        self.ends: dict[tuple[int, int], int] = {}
        """Where histories end: by shard and origin. What lies past an end is lost, and missed by nobody."""
        self._before: dict[tuple[int, int], int] = {}
        """How many writes there were when an end was first said."""
        self._beats: set[tuple[int, int]] = set()

    def write(self, shard: str, changes: Mapping[str, str | None], known: frozenset[int]) -> frozenset[int]:
        """Record a transaction of someone who knew `known`; return what they know after it."""
        ids = frozenset(range(len(self.writes), len(self.writes) + len(changes)))
        past = frozenset(n for n in known if self.writes[n].shard == shard) if self._apart else known
        for n, (key, value) in zip(sorted(ids), changes.items(), strict=True):
            self.writes.append(Wrote(shard, key, value, past | ids - {n}))  # all of a transaction, or nothing
        return known | ids

    def ended(self, end: Position) -> None:
        """Note where a history has ended."""
        history = end.shard, end.origin
        self.ends[history] = end.offset
        self._before.setdefault(history, len(self.writes))

    @property
    def lost(self) -> frozenset[int]:
        """The writes that lie past an end."""
        return frozenset(n for n, place in self.places.items() if self.is_lost(place)) if self.ends else frozenset()

    def is_lost(self, place: Position) -> bool:
        """Return whether a position lies past the end of its history."""
        end = self.ends.get((place.shard, place.origin))
        return end is not None and place.offset > end

    def must_be_told(self, shard: str, shown: Mapping[str, str | None], own: frozenset[int]) -> None:
        """Judge that someone was served who has lost writes of their own, and was not told. Raises: AssertionError."""
        lost = self.lost
        for key, value in shown.items():
            gone = {n for n in lost if (self.writes[n].shard, self.writes[n].key) == (shard, key)}
            unaware = any(self.writes[n].value == value for n in gone)  # it is shown by who has not heard of the loss
            mine = gone & own
            assert unaware or not mine or self._may_have_won(shard, key, value, mine), (
                f"{self._say(max(mine))} is lost, and its writer was shown {value!r} and never told"
            )

    def _may_have_won(self, shard: str, key: str, value: str | None, mine: Collection[int]) -> bool:
        """Return whether a server may show this that has not heard of the loss, and holds `mine`: nothing that was written after it."""
        ended = min(self._before[place.shard, place.origin] for place in map(self.places.__getitem__, mine))
        return any(
            (wrote.shard, wrote.key, wrote.value) == (shard, key, value)
            and not any(self._contradicts(n, lost) for lost in mine)
            for n, wrote in enumerate(self.writes[:ended])
        )

    def read(self, shard: str, shown: Mapping[str, str | None], known: frozenset[int]) -> frozenset[int]:
        """Judge what one snapshot showed (None: nothing there) to someone who knew `known`; return what they know now.

        Raises: AssertionError with the writes that contradict each other.
        """
        lost = self.lost
        shown = {key: value for key, value in shown.items() if value is None or self._id(value) not in lost}
        for value in shown.values():
            if value is not None:
                n = self._id(value)
                known |= self.writes[n].past | {n}
        known -= lost
        for key, value in shown.items():
            mine = {n for n in known if (self.writes[n].shard, self.writes[n].key) == (shard, key)}
            if value is not None:
                self._wins(self._id(value), mine)
            elif mine:
                known |= self._deleted(shard, key, mine)
        return known - lost

    def _id(self, value: str) -> int:
        found = [n for n, w in enumerate(self.writes) if w.value == value]
        assert found, f"{value!r} was shown, and nobody wrote it"
        return found[0]

    def _wins(self, shown: int, mine: Collection[int]) -> None:
        for n in mine:
            contradiction = self._contradicts(shown, n)
            assert not contradiction, (
                f"{self._say(shown)} was shown to someone who knew {self._say(n)}, {contradiction}"
            )
        self._beats.update((shown, n) for n in mine if n != shown)

    def _contradicts(self, shown: int, known: int) -> str:
        if shown in self.writes[known].past:
            return "which was written in knowledge of it"
        return "which had replaced it before" if (known, shown) in self._beats else ""

    def _deleted(self, shard: str, key: str, mine: Collection[int]) -> frozenset[int]:
        """Find the delete that explains why a key is gone."""
        deletes = [n for n, w in enumerate(self.writes) if (w.shard, w.key, w.value) == (shard, key, None)]
        possible = [d for d in deletes if not any(self._contradicts(d, n) for n in mine)]
        assert possible, f"nothing was shown to someone who knew {', '.join(map(self._say, mine))}"
        if len(possible) > 1:
            return frozenset()
        self._wins(possible[0], mine)
        return self.writes[possible[0]].past | {possible[0]}

    def _say(self, n: int) -> str:
        wrote = self.writes[n]
        return f"{wrote.shard}.{wrote.key} = {f'(deleted by {n})' if wrote.value is None else wrote.value!r}"
