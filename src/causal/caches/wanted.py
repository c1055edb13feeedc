"""What a session demands of a cached entry. Pure; the rules are the gate's, narrowed to the shards that the entry was read from.

Narrowing is sound although versions may carry dependencies (I8): what an entry showed joins the session with all that led to it, on
every shard, so an effect that was shown demands its causes of the next lookup and of the next read.

HAZARD: where own writes need not be covered because the session has touched other keys only (read your writes alone), that is as true as
the keys that write blocks declare: an entry that hangs on a row must be named by every write that changes the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from causal.core.frontier import EVERY_STORE, store_of
from causal.core.policy import Guarantee

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from causal.core.frontier import Frontier

_NOTHING: Final[Mapping[int, int]] = {}


@attrs.frozen
class Counting:
    """Which of a session's demands count for a cache's hits.

    `seen` brings `own` along, whatever keys were touched: a read may have shown an own write, and a token does not keep the two apart.
    """

    own: bool
    seen: bool

    @classmethod
    def of(cls, guarantees: Guarantee) -> Counting:
        """Return what counts where these guarantees hold."""
        seen = Guarantee.MONOTONIC_READS in guarantees or Guarantee.WRITES_FOLLOW_READS in guarantees
        return cls(seen or Guarantee.READ_YOUR_WRITES in guarantees, seen)


def wanted(
    own: Frontier,
    seen: Frontier,
    counting: Counting,
    shards: frozenset[int],
    ends: Mapping[int, int],
    touched: Callable[[], bool],
) -> Mapping[int, int] | str:
    """Return what must be applied of these shards; a text says why only the gate can answer. `seen` is without lapsed marks.

    Complexity: linear in the demand.
    """
    if not own.entries and not seen:
        return _NOTHING
    if seen.marks and counting.own:
        stores = {store_of(shard) for shard in shards}
        for store, mark in seen.marks.items():
            if (store in stores or store == EVERY_STORE) and not shards <= mark.exact:
                return "a leader mark covers what it depends on"
    if seen.floors and counting.seen and any(store_of(shard) in seen.floors for shard in shards):
        return "what was seen is folded into a floor"
    need: dict[int, int] = {}
    for key, offset in own.entries.items():
        if key >> 32 in shards:
            if ends and offset > ends.get(key, offset):
                return "an own write is past the end of its history"
            need[key] = offset
    if need and not (counting.own and (counting.seen or touched())):
        need = {}
    if counting.seen:
        for key, offset in seen.entries.items():
            if key >> 32 in shards:
                if ends and offset > ends.get(key, offset):
                    return "what was seen is past the end of its history"
                if offset > need.get(key, -1):
                    need[key] = offset
    return need
