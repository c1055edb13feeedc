"""Lost writes, and whether their sessions were told before they went on.

Owns that judgement for recorded histories, which say with each block what its snapshot had applied: a session that was served, under its
guarantees, by a snapshot that lacks a lost write of its own went on past the loss. Knows no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causal.lab.history import History


class Losses:
    """What was lost, filled as a history is, each session in its order. Thread-safety: none. Complexity: a lookup for each operation."""

    def __init__(self) -> None:
        self.lost = 0
        """How many acknowledged writes are past the ends of their origins."""
        self.untold: list[tuple[int, int]] = []
        """The place of a lost write, and of what the session did untold."""
        self._open: dict[int, dict[tuple[int, int], list[tuple[int, int]]]] = {}

    def add(self, history: History, place: int, session: int, row: dict[str, Any]) -> None:
        """Note an operation: its fields as they were recorded, its place in the history."""
        if row.get("ok", True) is not True:
            return
        shard, origin, offset = row.get("shard", 0), history.origin[place], history.offset[place]
        mine = self._open.get(session)
        if mine and row.get("held") is not False and "watermark" in row:
            follows = history.after.get(place, history.seq[place] - 1)
            for known, applied in row["watermark"].items():
                writes = mine.get((shard, int(known)), ())
                # A block's snapshot is of before its own write, which may be of several keys.
                now = offset if row["op"] == "write" and int(known) == origin else -1
                missed = [one for one in writes if applied < one[0] != now and history.seq[one[1]] <= follows]
                for one in missed:
                    self.untold.append((one[1], place))
                    mine[shard, int(known)].remove(one)
        if row["op"] == "write" and offset > history.ends.get((shard, origin), offset):
            self.lost += 1
            self._open.setdefault(session, {}).setdefault((shard, origin), []).append((offset, place))

    def told(self, session: int, shard: int, origin: int, offset: int) -> list[int]:
        """Note that a session was told of its last lost write, and so of all up to there; return their offsets."""
        writes = self._open.get(session, {}).get((shard, origin), [])
        known = [one for one in writes if one[0] <= offset]
        for one in known:
            writes.remove(one)
        return sorted({offset, *(one[0] for one in known)})
