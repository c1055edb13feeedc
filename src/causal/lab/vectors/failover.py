"""Answers the vectors of `failover.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from causal.core.frontier import Frontier, Loss, Position, shard_id
from causal.core.lost import settled
from causal.core.position import DoubtfulMark
from causal.lab.vectors import gate
from causal.lab.vectors.frontier import check_positions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.core.view import View

    Given = Mapping[str, Any]


def _judged(known: View, given: Given) -> dict[str, Any]:
    demand = gate.demand(given)
    need, refusal, clipped = settled(demand, known.on(demand.shards))
    if refusal is None:
        return {"verdict": "held", "need": gate.positions(need), "clipped": gate.losses(clipped)}
    if refusal.doubt is not None:
        return {"verdict": "doubt", "doubt": gate.recalled(refusal.doubt)}
    return {"verdict": "lost", "lost": gate.losses(refusal.lost)}


def _judge(given: Given) -> dict[str, Any]:
    return _judged(gate.view(given["endpoints"], given["news"]), given["demand"])


def _follow(given: Given) -> dict[str, Any]:
    known, said = gate.view(given["endpoints"], ()), []
    for step in given["steps"]:
        if "tell" in step:
            known = gate.told(known, [step["tell"]])
        else:
            said.append(_judged(known, step["judge"]))
    return {"said": said}


def _forget(given: Given) -> dict[str, Any]:
    from causal.session import SessionState

    session = SessionState(None)
    session.own, session.seen = gate.frontier(given["own"]), gate.frontier(given["seen"])
    if "lost" in given:
        check_positions((s, o, n) for s, o, offset, end in given["lost"] for n in (offset, end))
        session.forget([Loss(Position(s, o, int(offset)), int(end)) for s, o, offset, end in given["lost"]])
    if "doubt" in given:
        session.forget([DoubtfulMark(0, frozenset(), gate.origins(given["doubt"]), store=given["store"])])
    return {"own": gate.written(session.own), "seen": gate.written(session.seen)}


def _doubt(given: Given) -> dict[str, Any]:
    from causal import CausalStore, CommitUnknown, Keyring
    from causal.stores.memory import MemoryCluster, MemoryEngine

    cluster = MemoryCluster(shards=given["shards"], lag_s=0.0)
    store = CausalStore(
        MemoryEngine(cluster=cluster, site="eu"),
        keyring=Keyring.generate(),
        audience="vectors",
        max_staleness_s=given["max_staleness_s"],
        max_clock_skew_s=given["max_clock_skew_s"],
        token_ttl_s=given["max_staleness_s"] + given["max_clock_skew_s"] + 1,
        wall=lambda: given["wall_s"],
    )
    with store:
        cluster.lose_answer("eu", committed=given["committed"])
        session, raised = store.session(), False
        try:
            with session.write(shard=given["shard"]) as tx:
                tx.put("k", "v")
        except CommitUnknown:
            raised = True
        return {"raised": raised, "own": gate.written(session.own), "seen": gate.written(session.seen)}


def _close(given: Given) -> dict[str, Any]:
    from causal.stores.memory import MemoryCluster

    cluster, failed, shard = MemoryCluster(list(given["holds"]), lag_s=1e9), given["failed"], shard_id(0, 0)
    site = cluster.site(failed)
    origin = site.copies[shard].own
    followers = sorted((n, name) for name, n in given["holds"].items() if name != failed)
    for name in (name for _, name in followers):
        cluster.pause(name)
    for n in range(1, given["holds"][failed] + 1):
        cluster.append(site, shard, {"k": b"%d" % n}, Frontier())
        for held, name in followers:
            if n <= held:
                cluster.catch_up(name)
    for _, name in followers:
        cluster.resume(name)
    if "goes_on" in given:
        cluster.cut_off(failed)
    cluster.fail_over(failed)
    if "goes_on" in given:
        for _ in range(given["goes_on"]):
            cluster.append(site, shard, {"k": b"later"}, Frontier())
        cluster.rejoin(failed)
    copy = site.copies[shard]
    keeps, end = copy.origins[origin]
    return {"end": str(end), "keeps": str(keeps), "goes_on_under_another": copy.own not in (0, origin)}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    "failover.judge": _judge,
    "failover.follow": _follow,
    "failover.forget": _forget,
    "failover.doubt": _doubt,
    "failover.close": _close,
}
