"""What a write block's own transaction may show and commit: judged by what its session demands by now, not only when it began.

Owns the judgement of a transaction that is open already. It can neither wait nor look elsewhere: it moves no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from causal.core.gate import Refuse
from causal.core.lost import settled
from causal.core.policy import Strategy
from causal.core.view import NEVER
from causal.errors import GateTimeout
from causal.request import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.core.demand import Demand
    from causal.core.watermark import Watermark
    from causal.errors import GateError

_LACKING: Final = Refuse("timeout", "the transaction lacks what is demanded")


def shows(outer: Request, inner: Request, watermarks: Mapping[int, Watermark]) -> None:
    """Let a read go through the transaction that `outer` opened.

    Raises: GateTimeout if that lacks what is demanded: it moves no more. WriteLost, CommitUnknown as any read (I6).
    """
    refusal, policy = _lacks(inner, outer, watermarks), inner.policy
    promised = policy.strategy in (Strategy.SESSION, Strategy.LEADER, Strategy.QUORUM)
    if refusal is not None and promised and (refusal.why != "timeout" or policy.then != "stale"):
        error = _unmet(inner, refusal, "the write block around this read lacks what the session demands by now")
        inner.finish()
        raise error
    # A demand that has lapsed rests on freshness (I5), which a write's leader need not have shown before its snapshot was taken.
    fresh_at = outer.serve.known.fresh_at if outer.serve is not None else NEVER
    inner.unproven = fresh_at < inner.store.monotonic() - inner.store.max_staleness_s
    inner.transaction = outer.at
    inner.lacking = refusal is not None or (inner.unproven and policy.unproven == "refuse")


def still_covered(outer: Request, watermarks: Mapping[int, Watermark]) -> None:
    """Judge a write anew, whose session has learned more since it began.

    A version whose dependencies are not where it is written would be shown without its causes, and could lose against them.
    Raises: GateTimeout if its leader lacks that (I9). WriteLost, CommitUnknown as any write (I6).
    """
    now = Request(outer.store, outer.session, outer.shard, outer.policy, kind="write", at=outer.at)
    refusal = _LACKING if _folds_more(now.demand, outer.demand) else _lacks(now, outer, watermarks)
    if refusal is not None:
        raise _unmet(outer, refusal, "since this write block began, the session has seen what its leader lacks")


def _lacks(request: Request, outer: Request, watermarks: Mapping[int, Watermark]) -> Refuse | None:
    """Return what speaks against the transaction that `outer` opened, by what is demanded of this shard now.

    Whatever it was gated on then. An own write that is lost is said here, too: only what others lost no longer counts (I6).
    """
    store, shard = request.store, request.shard
    if request.version == outer.version and store.reading == store.writing:
        return None
    demand, gated, here = request.demand, outer.demand, watermarks[shard]
    # As if it had just arrived: a head that was asked for earlier may be older than the demand, and shows no loss.
    need, refusal, _ = settled(demand.again(store.number_now()), store.view)
    if refusal is not None:
        return refusal
    for key, offset in need.items():
        if key >> 32 == shard:
            place = here.origins.get(key & 0xFFFFFFFF)
            if place is None or place[0] < offset:
                return _LACKING
    if demand.floor is not None and not here.above(demand.floor):
        return _LACKING
    if shard not in demand.leader_shards or (
        shard in gated.leader_shards
        and demand.mark is not None
        and gated.mark is not None
        and gated.mark >= demand.mark
    ):
        return None
    return _LACKING


def _folds_more(demand: Demand, gated: Demand) -> bool:
    """Return whether a mark or a floor stands for more than a write was gated on: positions it would not depend on (I8)."""
    if demand.floor is not None and (gated.floor is None or gated.floor < demand.floor):
        return True
    if demand.mark is None or not demand.leader_shards:
        return False
    return gated.mark is None or not (demand.leader_shards <= gated.leader_shards and gated.mark >= demand.mark)


def _unmet(request: Request, refusal: Refuse, lacking: str) -> GateError:
    return request.failed(GateTimeout(lacking)) if refusal is _LACKING else request.error(refusal)
