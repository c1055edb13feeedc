"""The shortest way by which one operation came to depend on another.

Owns the search: by sessions and by reads, with the fewest operations on the way.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from causal.lab.checking.model import Model


def path(model: Model, first: int, last: int) -> list[int]:
    """Return operations that lead from one to another, both included: each was read by, or precedes in its session, the next.

    Empty if there is no way. Complexity: linear; each operation is looked at once.
    """
    if first == last:
        return [first]
    writer, lane, lane_ops = model.writer, model.order.lane, model.order.lane_ops
    if lane[first] < 0 or lane[last] < 0:
        return []
    looked = dict.fromkeys(range(len(lane_ops)), 0)  # lane -> how many of its operations can reach the last already
    onward: dict[int, int] = {}  # operation -> the next on its way
    level = [last]
    while level:
        for i in level:
            if writer[i] == first or model.precedes(first, i):
                way = [first, i]
                while way[-1] != last:
                    way.append(onward[way[-1]])
                return way
        deeper: list[int] = []
        for i in level:
            if writer[i] >= 0 and writer[i] not in onward:
                onward[writer[i]] = i
                deeper.append(writer[i])
            for a in model.order.lanes_of_session[model.history.session[i]]:
                ops = lane_ops[a]
                until = bisect_right(ops, model.follows(i, a))
                for at in range(looked[a], until):
                    if writer[ops[at]] >= 0 and ops[at] not in onward and ops[at] != last:
                        onward[ops[at]] = i
                        deeper.append(ops[at])
                looked[a] = max(looked[a], until)
        level = deeper
    return []
