"""The history of a simulated run, in the format of `causal check`: the same checker judges what the bookkeeping judged.

Owns the translation. A client that presents an older token, none, or somebody else's, goes on as another session: the history knows
nothing of what it has thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from causal.core.position import ANY_ORIGIN
from causal.errors import CommitUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.core.position import Loss
    from causal.core.watermark import Watermark
    from causal.errors import CausalError
    from causal.lab.planet.logs import Entry
    from causal.lab.planet.servers import Cluster


class Recording:
    """Puts every operation out as a row, as it is answered. Thread-safety: none."""

    def __init__(self, put: Callable[[dict[str, Any]], object]) -> None:
        self._put = put
        self._own: dict[str, list[tuple[int, int, int]]] = {}
        put({"op": "meta", "format": 1, "source": "simulation"})

    def read(
        self,
        session: str,
        seq: int,
        after: int,
        key: int,
        shard: int,
        entry: Entry | None,
        marks: Mapping[int, Watermark] | None,
        how: str,
        *,
        held: bool,
    ) -> None:
        """Note a read that was answered."""
        row = self._row(session, seq, after, "read", key, shard, entry)
        row |= {"value": None if entry is None else entry.number, "how": how, "held": held}
        if marks is not None:
            row["watermark"] = {str(origin): max(0, applied) for origin, (applied, _) in marks[shard].origins.items()}
        self._put(row)

    def wrote(
        self,
        session: str,
        seq: int,
        after: int,
        key: int,
        shard: int,
        number: int,
        entry: Entry | None,
        error: CausalError | None,
    ) -> None:
        """Note a write: acknowledged, in doubt, or without effect."""
        row = self._row(session, seq, after, "write", key, shard, entry)
        row["value"] = number
        if error is not None:
            row["ok"] = None if isinstance(error, CommitUnknown) and not error.lost else False
        elif entry is not None:
            self._own.setdefault(session, []).append((shard, entry.pk & 0xFFFFFFFF, entry.offset))
        self._put(row)

    def lost(self, session: str, seq: int, losses: Iterable[Loss]) -> None:
        """Note that a session was told of its lost writes, and accepts that."""
        for loss in losses:
            p = loss.position
            for op in ("lost", "forget"):
                self._put({"op": op, "session": session, "seq": seq, "shard": p.shard, "version": [p.origin, p.offset]})

    def doubted(self, session: str, seq: int, origins: frozenset[int]) -> None:
        """Note that a session was told that its writes of origins (or ANY_ORIGIN) may be lost, and accepts that, in the words there are."""
        for shard, origin, offset in self._own.get(session, ()):
            if origin in origins or ANY_ORIGIN in origins:
                for op in ("lost", "forget"):
                    self._put({"op": op, "session": session, "seq": seq, "shard": shard, "version": [origin, offset]})

    def finish(self, cluster: Cluster) -> None:
        """Note where histories ended."""
        for log in cluster.logs.values():
            if log.end is not None:
                self._put({"op": "end", "shard": log.shard, "origin": log.pk & 0xFFFFFFFF, "offset": log.end})

    def _row(
        self, session: str, seq: int, after: int, op: str, key: int, shard: int, entry: Entry | None
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"op": op, "session": session, "seq": seq, "key": str(key), "shard": shard}
        if after != seq - 1:
            row["after"] = after
        if entry is not None:
            row |= {"version": [entry.pk & 0xFFFFFFFF, entry.offset], "stamp": entry.stamp}
        return row
