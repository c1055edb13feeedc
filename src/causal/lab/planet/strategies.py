"""The strategies that a simulation compares, as policies of the real gate.

Owns their names and what each promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from causal.core.policy import ReadPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.lab.planet.topology import Topology


@attrs.frozen
class Strategy:
    """A way to read, as it is compared. `promises`: that no anomaly is ever shown. `dependencies`: whether they count across shards.

    `aware`: whether caches and the index are asked with the token, too. They are for whoever promises something by it.
    """

    name: str
    policy: Callable[[Topology], ReadPolicy]
    promises: bool
    dependencies: bool = True
    aware: bool = attrs.field(kw_only=True)

    @aware.default
    def _promised(self) -> bool:
        return self.promises


STRATEGIES: Final[Mapping[str, Strategy]] = {
    s.name: s
    for s in (
        Strategy("token", lambda t: ReadPolicy(wait_s=t.wait_s), promises=True),
        Strategy("token-shard", lambda t: ReadPolicy(wait_s=t.wait_s), promises=False, dependencies=False, aware=True),
        Strategy("leader", lambda t: ReadPolicy.leader(wait_s=t.wait_s), promises=True),
        Strategy("window", lambda t: ReadPolicy.leader_window(t.window_s), promises=False),
        Strategy("quorum", lambda t: ReadPolicy.quorum(t.asked, token=False, wait_s=t.wait_s), promises=False),
        Strategy("quorum+token", lambda t: ReadPolicy.quorum(t.asked, wait_s=t.wait_s), promises=True),
        Strategy("bounded", lambda t: ReadPolicy.bounded(t.bound_s, wait_s=t.wait_s), promises=False),
        Strategy("eventual", lambda t: ReadPolicy.eventual(), promises=False),
    )
}
"""The strategies that a simulation can run, by name."""
