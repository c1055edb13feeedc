"""The queue of waiting reads against a dumb twin, and what it keeps of those who left."""

import heapq
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from causal.core import waiting
from causal.core.waiting import Waiter, WaitQueue

keys = st.integers(0, 3)
needs = st.dictionaries(keys, st.integers(0, 9), max_size=4)


def lacks(need: Mapping[int, int], applied: Mapping[int, int]) -> bool:
    return any(applied.get(key, -1) < offset for key, offset in need.items())


@given(st.data())
def test_who_is_woken_when_is_what_a_plain_list_says(data: st.DataObject) -> None:
    queue: WaitQueue[int] = WaitQueue()
    twin: dict[int, tuple[Waiter[int], Mapping[int, int]]] = {}
    applied: dict[int, int] = {}
    made = 0
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["add", "add", "advance", "advance", "discard", "first", "drain"])):
            case "add":
                need = data.draw(needs)
                waiter = queue.add(need, applied, made)
                assert (waiter is None) == (not lacks(need, applied))
                if waiter is not None:
                    twin[made] = waiter, need
                made += 1
            case "advance":
                news = data.draw(needs)
                applied = {k: max(applied.get(k, -1), news.get(k, -1)) for k in applied.keys() | news.keys()}
                ready = {w.handle for w in queue.advance(applied)}
                assert ready == {n for n, (_, need) in twin.items() if not lacks(need, applied)}
                twin = {n: pair for n, pair in twin.items() if n not in ready}
            case "discard" if twin:
                gone = data.draw(st.sampled_from(sorted(twin)))
                queue.discard(twin[gone][0])
                queue.discard(twin.pop(gone)[0])  # a second time says nothing
            case "first":
                first = queue.first()
                assert (first.handle in twin) if first is not None else not twin
            case "drain":
                assert {w.handle for w in queue.drain()} == set(twin)
                twin = {}
        assert len(queue) == len(twin)
        assert all(waiter.waiting for waiter, _ in twin.values())


def test_an_endpoint_that_went_back_wakes_nobody() -> None:
    queue: WaitQueue[str] = WaitQueue()
    assert queue.add({1: 5}, {1: 4}, "a") is not None
    assert queue.advance({1: 2}) == []
    assert queue.advance({}) == []
    assert [w.handle for w in queue.advance({1: 5})] == ["a"]


def test_those_who_left_take_no_room() -> None:
    queue: WaitQueue[int] = WaitQueue()
    stays = queue.add({0: 10**9}, {}, -1)
    for n in range(10_000):
        waiter = queue.add({0: 10**9 + n, 1: n}, {}, n)
        assert waiter is not None
        queue.discard(waiter)
    assert sum(map(len, queue._heaps.values())) <= 2 * len(queue) + 65
    assert queue.first() is stays
    assert stays is not None
    queue.discard(stays)
    assert not queue._heaps


def test_a_poll_that_moves_nothing_touches_no_waiter(monkeypatch: object) -> None:
    """However many wait, a poll looks at one offset an origin; each wake-up then costs one heap operation an origin."""
    queue: WaitQueue[int] = WaitQueue()
    for n in range(1000):
        queue.add({0: n + 1, 1: n + 1}, {0: 0, 1: 0}, n)
    pops = pushes = 0

    def pop(heap: list[object]) -> object:
        nonlocal pops
        pops += 1
        return heapq.heappop(heap)  # type: ignore[type-var]

    def push(heap: list[object], item: object) -> None:
        nonlocal pushes
        pushes += 1
        heapq.heappush(heap, item)  # type: ignore[type-var]

    monkeypatch.setattr(waiting, "heappop", pop)  # type: ignore[attr-defined]
    monkeypatch.setattr(waiting, "heappush", push)  # type: ignore[attr-defined]
    assert queue.advance({0: 0, 1: 0}) == []
    assert (pops, pushes) == (0, 0)
    assert len(queue.advance({0: 500, 1: 300})) == 300
    assert (pops, pushes) == (500, 200)  # 500 passed what they watched, 200 of them watch the other origin now
