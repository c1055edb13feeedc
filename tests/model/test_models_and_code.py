"""The models decide as the code does: in every state that a model reaches, its gate lets in what the gate lets in that is run.

Each model says in its own words who may be read, who may be written to, and who is told of a loss. Here a view is built of what the
endpoints of a state would answer, and the code is asked the same. What a model leaves out (budgets, latencies, who is preferred) is set
so that it does not matter: nothing is waited for, and only one endpoint can be reached.
"""

import importlib
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from causal.core.decision import Refuse, Serve, bears_out
from causal.core.demand import Demand
from causal.core.gate import decide
from causal.core.policy import ReadPolicy, Strategy
from causal.core.position import LeaderMark, pack
from causal.core.view import View
from causal.core.waiting import WaitQueue
from causal.core.watermark import Watermark

sys.path.append(str(Path(__file__).parents[2] / "docs/spec/model"))
MODELS = importlib.import_module("mirror").MODELS
bfs = importlib.import_module("mirror.bfs")
failover = importlib.import_module("mirror.failover")
news = importlib.import_module("mirror.news")
shards = importlib.import_module("mirror.shards")

AT_ONCE = ReadPolicy(0.0, unproven="serve")
ARRIVED, NOW = 10, 100.0
LIVE = 99

Answer = Mapping[int, tuple[int, int | None]]


def reached(name: str, **constants: bool | int) -> Iterator[tuple[Any, dict[Hashable, Any]]]:
    """Yield every state of a model, with what may happen in it."""
    model = MODELS[name]
    machine = model.machine({**model.constants, **constants})
    known = dict.fromkeys(machine.initial)
    for state in (queue := list(known)):
        then = dict(machine.after(state))
        yield state, then
        new = [s for s in dict.fromkeys(then.values()) if s not in known]
        known.update(dict.fromkeys(new))
        queue.extend(new)


def told(answer: Answer, leads: tuple[int, ...] = ()) -> dict[int, Watermark]:
    return {0: Watermark(0, answer, "life", frozenset(leads))}


def viewed(answers: Mapping[str, dict[int, Watermark]], only: str | None = None) -> View:
    """Return what is known after each has answered a question that was asked after the request; `only` one can be reached by now."""
    view = View()
    for asked, (name, answer) in enumerate(answers.items(), ARRIVED + 1):
        view = view.observe(name, answer, asked=asked, asked_at=NOW, now=NOW)
    for name in answers:
        if only is not None and name != only:
            view = view.failed(name, "cut off", asked=ARRIVED + 90, now=NOW)
    return view


def positions(offsets: tuple[int, ...], first: int = 0) -> dict[int, int]:
    return {pack(0, origin): n for origin, n in enumerate(offsets, first) if n}


def asked(view: View, demand: Demand, policy: ReadPolicy = AT_ONCE) -> Any:
    return decide(demand, view, policy, 0.0, now=NOW, max_staleness_s=1000)


def served(view: View, demand: Demand, snapshot: dict[int, Watermark]) -> bool | str:
    """Return whether the one that can be reached is read (or written to), or what is said instead of it."""
    decision = asked(view, demand)
    if isinstance(decision, Serve):
        return bears_out(decision, snapshot, view.ends)
    assert isinstance(decision, Refuse)
    return decision.why if decision.why in ("lost", "doubt") else False


def frontiers(own: tuple[int, ...], seen: tuple[int, ...], first: int = 0, **more: Any) -> Demand:
    return Demand(positions(own, first), positions(seen, first), shards=frozenset({0}), arrived=ARRIVED, **more)


Once = Callable[[Hashable], bool]


@pytest.fixture
def once() -> Once:
    """Say whether something was not met before: many states look the same to the gate."""
    met: set[Hashable] = set()
    return lambda case: case not in met and not met.add(case)


def test_the_gate(once: Once) -> None:
    def judge(applied: int, token: int) -> bool | str:
        answer = told({1: (applied, None)})
        return served(viewed({"r": answer}), frontiers((token,), (), first=1), answer)

    for state, actions in reached("gate", InAll=4, ACK_JOIN=False, Strict=False, History=False):
        for who, shard, replica in ((c, s, r) for c in (0, 1) for s in (0, 1) for r in (0, 1)):
            applied, token = state[1][shard][replica], state[2][who][shard]
            may = ("read", who, shard, replica) in actions
            if once((applied, token, may)):
                assert judge(applied, token) is may, state


@pytest.mark.parametrize("bounds", [{}, {"Length": 2, "Failovers": 2}, {"Length": 2, "Restarts": 1}], ids=str)
def test_failover(once: Once, bounds: dict[str, int]) -> None:
    for state, actions in reached("failover", **bounds):
        start, leader, log = state[:3]
        newest = len(start)
        for who in (0, 1):
            own, seen = state[5][who], state[6][who]
            room = len(log[leader]) < {"Length": 3, **bounds}["Length"]
            if not once((log, leader, own, seen, room)):
                continue
            answers = {
                name: told(
                    {o: (failover.applied(log[x], o), until(log[x], o)) for o in set(log[x])},
                    (newest,) if x == leader else (),
                )
                for x, name in enumerate("AB")
            }
            lost = ("told", who) in actions
            for x, name in enumerate("AB"):
                may = "lost" if lost else ("read", who, x) in actions
                assert served(viewed(answers, name), frontiers(own, seen, 1), answers[name]) == may, (state, name)
            if room:
                at = "AB"[leader]
                may = "lost" if lost else ("write", who) in actions
                demand = frontiers(own, seen, 1, at=at, writes=0)
                assert served(viewed(answers), demand, answers[at]) == may, state
            # With both there, one that may be read is.
            anybody = [name for x, name in enumerate("AB") if ("read", who, x) in actions]
            decision = asked(viewed(answers), frontiers(own, seen, 1))
            assert decision.endpoint in anybody if anybody else isinstance(decision, Refuse), state


def of_both(own: tuple, seen: tuple, **more: Any) -> Demand:
    """Return the demand of frontiers on two shards."""
    need = ({pack(s, o): n for s in (0, 1) for o, n in enumerate(part[s], 1) if n} for part in (own, seen))
    return Demand(*need, shards=frozenset({0, 1}), arrived=ARRIVED, **more)


@pytest.mark.parametrize("bounds", [{}, {"OwnReads": True, "OtherReads": False, "Apart": False}], ids=str)
def test_two_shards_that_fail_over(once: Once, bounds: dict[str, bool]) -> None:
    """A need of both shards; an end on one of them that is past keeps its holder from being read on either."""

    for state, actions in reached("shards", **bounds):
        start, leader, log = state[:3]
        answers = {
            name: {
                s: Watermark(
                    s,
                    {
                        o: (n, start[s][1] - 1 if o == 1 and here[1] else None)
                        for here in [shards.applied(log[s][x])]
                        for o, n in enumerate(here, 1)
                        if n
                    },
                    "life",
                    frozenset({len(start[s])} if leader[s] == x else ()),
                )
                for s in (0, 1)
            }
            for x, name in enumerate("AB")
        }
        for who in (0, 1):
            own, seen, named, writes = state[3][who], state[4][who], state[7][who], state[8]
            if named or not once((log, leader, own, seen, who, writes)):
                continue
            lost = ("told", who) in actions

            reads = bounds.get("OwnReads", False) if who == 0 else bounds.get("OtherReads", True)
            for s, (x, name) in ((s, at) for s in (0, 1) for at in enumerate("AB")):
                may = "lost" if lost else ("read", who, s, x) in actions
                if reads:
                    assert served(viewed(answers, name), of_both(own, seen), answers[name]) == may, (state, s, name)
                if x == leader[s] and who == 0 and writes < 2 and len(log[s][x]) < 2:
                    may = "lost" if lost else ("write", who, s) in actions
                    at = of_both(own, seen, at=name, writes=s)
                    assert served(viewed(answers), at, answers[name]) == may, (state, s, name)


def until(log: tuple[int, ...], origin: int) -> int | None:
    """Where an origin ends, as a log tells it: before the first entry of a later one."""
    return min((n for n, o in enumerate(log) if o > origin), default=None)


@pytest.mark.parametrize("bounds", [{}, {"Writers": 2, "Through": 1}], ids=str)
def test_news(once: Once, bounds: dict[str, int]) -> None:
    """Of a server that the process has asked: what it has not is asked first, or found out by the snapshot."""
    for state, actions in reached("news", **bounds):
        log, num, knows = state[1:4]
        for who, process, x in ((c, p, x) for c in (0, 1) for p in range(len(knows)) for x in (0, 1)):
            own, seen, known, busy = state[5][who], state[6][who], knows[process], bool(state[9][who])
            room = len(log[x]) < 3 and not busy and who < {"Writers": 1, **bounds}["Writers"]
            if news.exceeds(known, news.tells(log[x], 2)) or not once((log[x], num[x], known, own, seen, room)):
                continue
            answer = told(
                {o: (news.shown(log[x], 2)[o - 1], until(log[x], o)) for o in set(log[x])}, (num[x],) if num[x] else ()
            )
            ends = told({o: (0, None if end == LIVE else end) for o, end in enumerate(known, 1)})
            view = viewed({"heard": ends, "x": answer}, "x")
            lost = ("told", who, process) in actions
            may = "lost" if lost else ("read", who, process, x) in actions
            assert served(view, frontiers(own, seen, 1), answer) == may, (state, x)
            if num[x] and room:
                may = "lost" if lost else ("begin", who, process, x) in actions
                assert served(view, frontiers(own, seen, 1, at="x", writes=0), answer) == may, (state, x)


def test_several_live_origins(once: Once) -> None:
    for state, actions in reached("origins"):
        have, listed, token, _, busy, _ = state
        sites = (0, 1, 2) if listed else (0, 1)
        listing = {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {2, *listed}}
        answers = {
            "eu us ap".split()[x]: told({o: (have[x][o], None) for o in sites if x in listing[o]}, (x,)) for x in sites
        }
        for who in (0, 1):
            if busy[who] or not once((have, listed, token[who])):
                continue
            for x, (name, answer) in zip(sites, answers.items(), strict=True):
                may = ("read", who, x) in actions
                assert served(viewed(answers, name), frontiers(token[who], ()), answer) is may, (state, name)
                if have[x][x] < MODELS["origins"].constants["PerOrigin"] and (x < 2 or listed == {0, 1}):
                    may = ("write", who, x) in actions
                    demand = frontiers(token[who], (), at=name, writes=0)
                    assert served(viewed(answers, name), demand, answer) is may, (state, name)
            # A leader read, of whoever is known to number something: served where all of it is applied, and nowhere else.
            policy = ReadPolicy(0.0, strategy=Strategy.LEADER, unproven="serve")
            decision = asked(viewed(answers), frontiers(token[who], ()), policy)
            # (A head of 0 is needed, too, where the origin is listed by somebody: who has never heard of it cannot tell.)
            need = {o: max(have[o][o], token[who][o]) for o in sites}
            covering = {
                name
                for x, name in zip(sites, answers, strict=True)
                if all(x in listing[o] and have[x][o] >= n for o, n in need.items())
            }
            assert decision.endpoint in covering if covering else isinstance(decision, Refuse), state


def test_compaction(once: Once) -> None:
    for w, actions in reached("compaction"):
        if not once((w.applied, w.end, w.own, w.seen, w.floor, w.mark, w.recall)):
            continue
        up = [e for e in range(len(w.applied)) if e == 2 or w.end[e] is None]
        answers = {"ABC"[e]: told({o: (w.applied[e][o], w.end[o]) for o in (0, 1)}, (e,) if e < 2 else ()) for e in up}
        mark = LeaderMark(2**40, frozenset(), w.recall) if w.mark else None
        more = {"floor": w.floor or None, "mark": mark, "leader_shards": frozenset({0}) if w.mark else frozenset()}
        may = {"ABC"[e] for e in up if ("read", e) in actions}
        if ("told",) in actions:
            assert served(viewed(answers), frontiers(w.own, w.seen, **more), {}) in ("lost", "doubt"), w
            assert not may
            continue
        decision = asked(viewed(answers), frontiers(w.own, w.seen, **more))
        assert decision.endpoint in may if may else isinstance(decision, Refuse), w
        if not w.mark:  # a mark asks whoever numbers something: there, all are to be reached
            for name, answer in answers.items():
                found = served(viewed(answers, name), frontiers(w.own, w.seen, **more), answer)
                assert found is (name in may), (w, name)


def test_expiry(once: Once) -> None:
    constants = MODELS["expiry"].constants
    for w, actions in reached("expiry"):
        if not once((w.local, w.applied, w.token, w.sample)):
            continue
        view = View()
        if w.sample is not None:
            at, head = w.sample
            view = view.observe("leader", told({1: (head, None)}, (1,)), asked=1, asked_at=at, now=at)
        answer = told({1: (w.applied, None)})
        view = view.observe("replica", answer, asked=ARRIVED + 1, asked_at=w.local, now=w.local)
        view = view.failed("leader", "cut off", asked=ARRIVED + 2, now=w.local)
        decision = decide(
            frontiers((w.token,), (), 1),
            view,
            ReadPolicy(0.0, then="error"),
            0.0,
            now=w.local,
            max_staleness_s=constants["Staleness"],
        )
        assert isinstance(decision, Serve) is (("read",) in actions), w


def test_waiting(once: Once) -> None:
    """The queue keeps waiting, wakes and lets by whom the model does, from each of its states."""
    key = pack(0, 1)
    for s, actions in reached("waiting", Waiters=3):
        for action, then in actions.items():
            what, w = action[0], action[1] if len(action) > 1 else 0
            if what not in ("come", "wake") or not once((what, w, s.known, s.queue, s.heard[w])):
                continue
            queue: WaitQueue[int] = WaitQueue()
            for waiter in s.queue:
                assert queue.add({key: waiter + 1}, {key: 0}, waiter) is not None
            if what == "come":
                assert (queue.add({key: w + 1}, {key: s.known}, w) is None) is (w not in then.queue)
            else:
                woken = queue.drain() if s.heard[w] < 0 else queue.advance({key: s.heard[w]})
                assert {waiter.handle for waiter in woken} == s.queue - then.queue
