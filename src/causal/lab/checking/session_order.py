"""Sessions as lanes: chains of operations of one session, each of which started after the one before it was answered.

Owns the order within sessions. A session that never has two requests under way is one lane. One that has is several, and what an
operation follows in the other lanes of its session is its `extra`. So what any operation follows is a prefix of each lane, and a
vector with one number a lane says it all.

A write in doubt has a lane of its own, which ends with it: it follows what was answered before it, and nothing of its session
follows it, for nobody knows when it happened.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.lab.history import History

NO_LANE: Final = -1


class SessionOrder:
    """Which operation follows which within its session. `lane` is NO_LANE for what had no effect.

    Thread-safety: immutable by convention. Complexity: linear in the operations, times the lanes of a session that has several.
    """

    def __init__(self, history: History, left_out: Sequence[int], in_doubt: Sequence[int]) -> None:
        n = len(history)
        self.lane = array("i", [NO_LANE]) * n
        self.lane_ops: list[array[int]] = []
        self.session_of_lane: list[int] = []
        self.lanes_of_session: list[list[int]] = [[] for _ in history.sessions]
        self.extra: dict[int, list[int]] = {}
        """What an operation follows at once in other lanes of its session."""
        self.before: dict[int, dict[int, int]] = {}
        """Of an operation of a session of several lanes: how many operations of each other lane it follows."""
        out = set(left_out)
        doubtful = set(in_doubt)
        session = history.session
        parallel = (
            {session[i] for i in history.after} | set(history.unsorted_sessions()) | {session[i] for i in doubtful}
        )
        for number in range(len(history.sessions)):
            if number not in parallel:
                self._open(number)
        lane, lane_ops, lanes_of = self.lane, self.lane_ops, self.lanes_of_session
        only = [-1 if number in parallel else lanes_of[number][0] for number in range(len(history.sessions))]
        grown = [ops.append for ops in lane_ops]
        of_parallel: dict[int, list[int]] = {number: [] for number in sorted(parallel)}
        for i, number in enumerate(session):
            own = only[number]
            if own < 0:
                of_parallel[number].append(i)
            elif i not in out:
                lane[i] = own
                grown[own](i)
        for number, ops in of_parallel.items():
            self._divide(history, number, ops, out, doubtful)

    def _open(self, session: int) -> int:
        number = len(self.lane_ops)
        self.lane_ops.append(array("i"))
        self.session_of_lane.append(session)
        self.lanes_of_session[session].append(number)
        return number

    def _divide(self, history: History, session: int, ops: list[int], out: set[int], doubtful: set[int]) -> None:
        """Divide a session that had requests under way at once into lanes."""
        answered: dict[int, int] = {}  # operation -> how many were answered before it
        started: dict[int, int] = {}  # operation -> how many had been answered when it started
        seqs: list[int] = []
        reached: list[int] = []  # beside seqs: how many had been answered once that one was
        count = 0
        for i in ops:
            seq = history.seq[i]
            at = bisect_right(seqs, history.after.get(i, seq - 1))
            started[i] = reached[at - 1] if at else 0
            if i not in out and i not in doubtful:
                answered[i] = count
                count += 1
            at = bisect_right(seqs, seq)
            seqs.insert(at, seq)
            reached.insert(at, count)
        lanes: list[int] = []
        ends: dict[int, list[int]] = {}  # lane -> when each of its operations was answered
        known: dict[int, dict[int, int]] = {}  # lane -> what its last operation follows of each other lane
        for i in sorted(ops, key=history.seq.__getitem__):
            if i in out or i in doubtful:
                continue
            mine = next((a for a in lanes if ends[a][-1] < started[i]), -1)
            if mine < 0:
                mine = self._open(session)
                lanes.append(mine)
                ends[mine], known[mine] = [], {}
            self._place(i, mine, lanes, ends, known, started[i])
            ends[mine].append(answered[i])
        for i in ops:
            if i in doubtful and i not in out:
                mine = self._open(session)
                self._place(i, mine, lanes, ends, {mine: {}}, started[i])

    def _place(
        self,
        i: int,
        mine: int,
        lanes: list[int],
        ends: dict[int, list[int]],
        known: dict[int, dict[int, int]],
        started: int,
    ) -> None:
        extra = []
        for other in lanes:
            if other == mine:
                continue
            so_far = bisect_right(ends[other], started - 1)
            if so_far > known[mine].get(other, 0):
                known[mine][other] = so_far
                extra.append(self.lane_ops[other][so_far - 1])
        self.before[i] = dict(known[mine])
        if extra:
            self.extra[i] = extra
        self.lane[i] = mine
        self.lane_ops[mine].append(i)
