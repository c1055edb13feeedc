"""The checker against the definitions: on every short history, white box and black box, and on random ones that are longer."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice, permutations
from math import factorial

import attrs
import pytest

from causal.lab.checker import check
from causal.lab.checking import memory
from tests.lab.brute import Brute, Row, histories, history, versioned

SESSION_GUARANTEES = ("read-your-writes", "monotonic reads", "monotonic writes", "writes-follow-reads")
DIFFERENT = {"white": 16, "black": 6}
"""How many sets of verdicts there are among the histories of a test, at least: a test in which all is the same proves little."""


def shuffled(rows: list[Row], chance: random.Random) -> list[Row]:
    """Return the rows with their sessions interleaved in some way."""
    turns = [row.session for row in rows]
    chance.shuffle(turns)
    own = {session: iter([row for row in rows if row.session == session]) for session in turns}
    return [next(own[session]) for session in turns]


def in_boxes(all_rows: Iterable[list[Row]], box: str) -> Iterator[list[Row]]:
    """Every history in some interleaving of its sessions; in a white box with its versions in some order, another each time."""
    chance = random.Random(1)
    for n, rows in enumerate(all_rows):
        rows = shuffled(rows, chance)
        if box == "white":
            writes = sum(row.op == "write" for row in rows)
            order = next(islice(permutations(range(1, writes + 1)), n % factorial(writes), None))
            rows = versioned(rows, order)
        yield rows


def disagreement(rows: list[Row], box: str) -> tuple[str, tuple[bool | None, ...]]:
    """Return where the checker and the definitions differ, if they do, and the verdicts by definition."""
    brute = Brute(rows, white=box == "white")
    wanted: dict[str, bool | None] = dict(brute.verdicts())
    report = check(history(rows), mode="white" if box == "white" else "black", witnesses=False)
    found: dict[str, bool | None] = {name: report[name].state == "ok" for name in wanted}
    if brute.cyclic and box == "black":  # what is newer has no meaning then
        assert {report[name].state for name in SESSION_GUARANTEES} == {"not judged"}
        for name in SESSION_GUARANTEES:
            wanted[name] = found[name] = None
    wrong = [name for name in wanted if wanted[name] != found[name]]
    text = "\n".join(map(str, rows))
    return f"{wrong}, by definition {[wanted[name] for name in wrong]}:\n{text}" if wrong else "", tuple(
        wanted.values()
    )


def all_agree(all_rows: Iterable[list[Row]], box: str, different: int | None = None) -> int:
    seen = set()
    count = 0
    for rows in in_boxes(all_rows, box):
        count += 1
        wrong, verdicts = disagreement(rows, box)
        assert not wrong
        seen.add(verdicts)
    assert len(seen) >= (DIFFERENT[box] if different is None else different)
    return count


@pytest.mark.spec("S-31")
@pytest.mark.parametrize("box", ["white", "black"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_history_of_up_to_four_operations(n: int, box: str) -> None:
    assert all_agree(histories(n, "xyz", n), box, different=1) == {1: 2, 2: 17, 3: 159, 4: 1848}[n]


@pytest.mark.parametrize("box", ["white", "black"])
def test_every_history_of_five_operations_on_three_keys(box: str) -> None:
    assert all_agree(histories(5, "xyz", 5), box) == 22_775


@pytest.mark.parametrize("box", ["white", "black"])
def test_every_history_of_six_operations_on_one_key(box: str) -> None:
    assert all_agree(histories(6, "x", 3), box, different=5) == 17_250


@pytest.mark.parametrize("box", ["white", "black"])
def test_every_tenth_history_of_six_operations_on_two_keys(box: str) -> None:
    assert all_agree(islice(histories(6, "xy", 2), 3, None, 10), box) == 8748


@pytest.mark.parametrize("box", ["white", "black"])
def test_every_tenth_history_of_seven_operations_on_one_key(box: str) -> None:
    assert all_agree(islice(histories(7, "x", 2), 3, None, 10), box, different=5) == 7877


def store(chance: random.Random, n: int, *, doubt: bool = False) -> list[Row]:
    """What a careless store could do: sessions learn of writes, with most of what those depend on, in orders of their own."""
    sessions = [f"s{s}" for s in range(chance.randint(2, 3))]
    keys = "xyz"[: chance.randint(1, 3)]
    careless, newest = chance.random() * 0.2, chance.random() < 0.5
    knows: dict[str, list[int]] = {session: [] for session in sessions}
    writes: list[tuple[str, str, list[int]]] = []
    rows: list[Row] = []
    for i in range(n):
        session, key = chance.choice(sessions), chance.choice(keys)
        seq = 1 + sum(row.session == session for row in rows)
        known = knows[session]
        if chance.random() < 0.5:
            writes.append((key, f"v{i}", list(known)))
            known.append(len(writes) - 1)
            rows.append(Row(session, seq, "write", key, f"v{i}", ok=None if doubt and chance.random() < 0.15 else True))
            continue
        for w, (_, _, depends) in enumerate(writes):
            if w not in known and chance.random() < 0.35:
                for d in [*(depends if chance.random() > careless else []), w]:
                    if d not in known:
                        known.append(d)
        mine = [w for w in known if writes[w][0] == key]
        if mine and chance.random() < careless:
            mine.pop()
        seen = (max(mine) if newest else mine[-1]) if mine else None
        rows.append(Row(session, seq, "read", key, None if seen is None else writes[seen][1]))
    return rows


def swapped(n: int, chance: random.Random) -> list[int]:
    """Return the numbers from 1, of which a few may have changed places."""
    order = list(range(1, n + 1))
    for _ in range(chance.choice([0, 0, 1, 2]) if n else 0):
        a, b = chance.randrange(n), chance.randrange(n)
        order[a], order[b] = order[b], order[a]
    return order


def at_once(rows: list[Row], chance: random.Random) -> list[Row]:
    """Return rows in an order of answers, with sessions that have several requests under way."""
    to_start: dict[str, list[Row]] = {}
    for row in rows:
        to_start.setdefault(row.session, []).append(row)
    under_way: dict[str, list[Row]] = {session: [] for session in to_start}
    highest = dict.fromkeys(to_start, 0)
    answered: list[Row] = []
    while len(answered) < len(rows):
        session = chance.choice([s for s in to_start if to_start[s] or under_way[s]])
        if to_start[session] and (not under_way[session] or chance.random() < 0.5):
            row = to_start[session].pop(0)
            after = highest[session]
            under_way[session].append(attrs.evolve(row, after=None if after == row.seq - 1 else after))
        else:
            row = under_way[session].pop(chance.randrange(len(under_way[session])))
            answered.append(row)
            highest[session] = max(highest[session], row.seq)
    return answered


@pytest.mark.parametrize("box", ["white", "black"])
@pytest.mark.parametrize("kind", ["one after the other", "at once and in doubt"])
def test_random_histories_of_up_to_nine_operations(box: str, kind: str) -> None:
    seen = set()
    for seed in range(4000):
        chance = random.Random(seed)
        if kind == "at once and in doubt":
            rows = at_once(store(chance, chance.randint(5, 8), doubt=True), chance)
        else:
            rows = shuffled(store(chance, chance.randint(6, 9)), chance)
        if box == "white":
            rows = versioned(rows, swapped(sum(row.op == "write" for row in rows), chance))
        wrong, verdicts = disagreement(rows, box)
        assert not wrong, f"seed {seed}: {wrong}"
        seen.add(verdicts)
    assert len(seen) >= DIFFERENT[box]


def test_short_cuts_to_causal_memory_lead_where_the_long_way_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """On histories too long for the definitions: sessions cleared without a closer look, and cycles looked for among few orderings."""
    ways = ((memory.Memory.cleared, memory.FEW), (lambda *_: False, memory.FEW), (lambda *_: False, -1))
    seen = set()
    for seed in range(200):
        chance = random.Random(seed)
        rows = store(chance, chance.randint(20, 60))
        if seed % 2:
            rows = versioned(rows, swapped(sum(row.op == "write" for row in rows), chance))
        counts = set()
        for cleared, few in ways:
            monkeypatch.setattr(memory.Memory, "cleared", cleared)
            monkeypatch.setattr(memory, "FEW", few)
            report = check(history(rows), witnesses=False)
            counts.add((report["causal (CC)"].state, report["causal memory (CM)"].count))
        assert len(counts) == 1, f"seed {seed}: {counts}"
        seen |= {(state, count > 0) for state, count in counts}
    assert seen == {("ok", False), ("ok", True), ("violated", True)}


@pytest.mark.spec("S-6")
def test_lines_of_sessions_may_stand_in_any_order() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        rows = versioned(made := store(chance, 9), swapped(sum(row.op == "write" for row in made), chance))
        for mode in ("white", "black"):
            states = {
                tuple(
                    (verdict.state, verdict.guarantee)
                    for verdict in check(history(lines), mode=mode, witnesses=False).verdicts
                )
                for lines in (rows, shuffled(rows, chance), sorted(rows, key=lambda row: row.session))
            }
            assert len(states) == 1
