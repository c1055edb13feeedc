"""What one read or write demands, and what speaks against an endpoint. Values; the gate decides by them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Final

from causal.core.frontier import EVERY_STORE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from causal.core.frontier import Frontier, LeaderMark
    from causal.core.view import EndpointView, View

_NOTHING: Final[Mapping[int, int]] = {}
_NOWHERE: Final[frozenset[int]] = frozenset()
COVERS: Final = "covers"
"""What `considered` says of an endpoint against which nothing speaks."""
WITNESS: Final = "is only asked, never read"
"""What `considered` says of a witness that answers."""
_only: Final = lru_cache(maxsize=1024)(lambda shard: frozenset({shard}))


class Demand:
    """What one read or write demands of an endpoint: a session's frontier, narrowed to one store and to what the block concerns.

    `own` and `seen` are joined in `need` (packed keys). `shards` are those that the block reads. `leader_shards` are covered by a leader
    mark; `origins` are what that mark remembers of dropped own writes. `at` restricts serving to one endpoint: the leader of a write, which
    is of the shard `writes`.
    `arrived` is the request's number (see `EndpointView.asked`), `wrote_ago_s` the age of the session's last write.

    Thread-safety: immutable by convention, but for `memo`, in which the gate keeps its last common answer.
    """

    __slots__ = (
        "arrived",
        "at",
        "floor",
        "leader_shards",
        "mark",
        "memo",
        "need",
        "own",
        "shards",
        "writes",
        "wrote_ago_s",
    )

    def __init__(
        self,
        own: Mapping[int, int],
        seen: Mapping[int, int],
        *,
        shards: frozenset[int] = frozenset(),
        leader_shards: frozenset[int] = frozenset(),
        mark: LeaderMark | None = None,
        floor: int | None = None,
        at: str | None = None,
        writes: int | None = None,
        arrived: int = 0,
        wrote_ago_s: float = float("inf"),
    ) -> None:
        self.need = joined(own, seen)
        self.memo: Any = None
        self.own = own
        self.shards = shards
        self.leader_shards = leader_shards
        self.mark = mark
        self.floor = floor
        self.at = at
        self.writes = writes
        self.arrived = arrived
        self.wrote_ago_s = wrote_ago_s

    @classmethod
    def narrowed(
        cls,
        own: Frontier,
        seen: Frontier,
        counts: tuple[bool, bool],
        shard: int,
        *,
        number: int,
        every: Iterable[int] | None,
        whole: frozenset[int] | None = None,
    ) -> Demand:
        """Return what of a session's frontiers a block on `shard` demands of store `number`.

        `counts` says whether own, and whether seen positions count. `every` are the store's shards where the whole frontier counts,
        because versions carry dependencies (I8); else None. `whole` are those that every block concerns, all of them and no others, if
        that is so. A mark may stand for either kind of position.
        """
        if whole is not None:
            return cls._of_all(own, seen, counts, number, whole)
        shards, only = {shard}, shard if every is None else None
        need_own = _narrow(own.entries, number, only, shards) if counts[0] else _NOTHING
        need_seen = _narrow(seen.entries, number, only, shards) if counts[1] else _NOTHING
        marks = [m for s, m in seen.marks.items() if s in (number, EVERY_STORE)] if seen.marks and any(counts) else []
        concerned = every if every is not None else (shard,)
        return cls(
            need_own,
            need_seen,
            shards=_only(shard) if len(shards) == 1 else frozenset(shards),
            leader_shards=frozenset(s for s in concerned if any(s not in m.exact for m in marks))
            if marks
            else _NOWHERE,
            mark=reduce(or_, marks) if marks else None,
            floor=seen.floors.get(number) if counts[1] else None,
        )

    @classmethod
    def _of_all(
        cls, own: Frontier, seen: Frontier, counts: tuple[bool, bool], number: int, shards: frozenset[int]
    ) -> Demand:
        mine, theirs = (
            {k: v for k, v in frontier.entries.items() if k >> 32 in shards} if counts[nth] else _NOTHING
            for nth, frontier in enumerate((own, seen))
        )
        marks = [m for s, m in seen.marks.items() if s in (number, EVERY_STORE)] if any(counts) else []
        return cls(
            mine,
            theirs,
            shards=shards,
            leader_shards=frozenset(s for s in shards if any(s not in m.exact for m in marks)),
            mark=reduce(or_, marks) if marks else None,
            floor=seen.floors.get(number) if counts[1] else None,
        )

    @classmethod
    def of(
        cls, frontier: Frontier, *, own: Frontier | None = None, shards: Iterable[int] = (), arrived: int = 0
    ) -> Demand:
        """Return the demand of a bare frontier: for one's own store, and for tests."""
        mine = frontier if own is None else own
        every = frozenset(shards) or frontier.shards
        return cls(
            mine.entries,
            frontier.entries,
            shards=every,
            leader_shards=frozenset(s for s in every if frontier.marked(s)),
            mark=next(iter(frontier.marks.values()), None),
            floor=max(frontier.floors.values(), default=None),
            arrived=arrived,
        )

    def again(
        self, arrived: int, wrote_ago_s: float = float("inf"), at: str | None = None, writes: int | None = None
    ) -> Demand:
        """Return the same demand for a new request."""
        twin = object.__new__(Demand)
        twin.need, twin.own, twin.shards, twin.memo = self.need, self.own, self.shards, None
        twin.leader_shards, twin.mark, twin.floor = self.leader_shards, self.mark, self.floor
        twin.at, twin.writes, twin.arrived, twin.wrote_ago_s = at, writes, arrived, wrote_ago_s
        return twin


def _narrow(entries: Mapping[int, int], number: int, only: int | None, shards: set[int]) -> Mapping[int, int]:
    """Return what concerns a store, or one shard of it, and add its shards to `shards`. All of it is shared, not copied: many wait."""
    for key in entries:
        shard = key >> 32
        if shard >> 16 != number or (only is not None and shard != only):
            break
        shards.add(shard)
    else:
        return entries
    kept = {k: v for k, v in entries.items() if k >> 48 == number and only in (None, k >> 32)}
    shards.update(key >> 32 for key in kept)
    return kept


def joined(own: Mapping[int, int], seen: Mapping[int, int]) -> Mapping[int, int]:
    """Return the larger offset of each origin. What is given may be what is returned: a demand is shared, not copied."""
    if not seen or not own:
        return own or seen
    need = dict(own)
    for key, offset in seen.items():
        if offset > need.get(key, -1):
            need[key] = offset
    return need


def considered(demand: Demand, view: View, now: float, max_staleness_s: float) -> tuple[tuple[str, str], ...]:
    """Return every endpoint that holds what is concerned, and what speaks against it, nearest first: what the receipt lists.

    Units: seconds of the view's clock.
    """
    view = view.on(demand.shards)
    return tuple((e.name, _why_not(e, demand, view, now, max_staleness_s)) for e in view.endpoints)


def _why_not(endpoint: EndpointView, demand: Demand, view: View, now: float, max_staleness_s: float) -> str:
    if endpoint.down is not None:
        return endpoint.down
    if not endpoint.serves:
        return WITNESS
    if not endpoint.asked:
        return "never asked"
    ends, need = view.ends, demand.need
    lost = sum(k in ends and v > ends[k] for k, v in demand.own.items())
    if lost:
        return f"LOST {lost} position(s)"
    if ends:
        need = {k: min(v, ends.get(k, v)) for k, v in need.items()}  # what others lost no longer counts
    unknown = sum(k not in endpoint.applied for k in need)
    if unknown:
        return f"UNKNOWN {unknown} origin(s)"
    behind = [(k, v - endpoint.applied[k]) for k, v in need.items() if v > endpoint.applied[k]]
    if behind:
        gap = f"BEHIND {max(gap for _, gap in behind)}"
        if not endpoint.asked_since(demand.shards, demand.arrived):
            return f"{gap} when last asked"
        eta_s = endpoint.eta_s(need, now, float("inf"))
        return f"{gap}, about {eta_s * 1000:.0f} ms" if eta_s else gap
    if endpoint.fresh_at < now - max_staleness_s:
        return f"not shown to be less than {max_staleness_s:g} s stale"
    return COVERS
