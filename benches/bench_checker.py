"""The checker on histories in memory: seconds and megabytes at the sizes that were asked for, and how cost grows.

Bars here are absolute: a row's floor is the figure that was asked for, not of this run, as in the gate's row against a constant.
The histories are of a store with one log a shard and replicas that lag, whose sessions wait for what they depend on; with or without some
reads that do not wait. A growth is the exponent of a power law, fitted to times at several sizes by least squares of their logarithms:
1 is linear, and 0.001 stands for none, or less.
"""

from __future__ import annotations

import gc
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benches.measure import Case, Effort, Row
from causal.lab.checker import Mode, check
from causal.lab.history import History

WHITE = (1_000_000, 100, 16)
BLACK = (200_000, 50, 16)
WHITE_S, WHITE_MB, BLACK_S = 5.0, 400.0, 3.0
ASKED = "what was asked for, a constant"
SIZES = (25_000, 50_000, 100_000, 200_000)
SESSIONS = (25, 50, 100, 200)
KEYS = 1000
LAG = 50
"""How many entries of its log a replica may lack, at most."""


def recorded(n: int, sessions: int, shards: int, *, versions: bool, stale: float = 0.0) -> History:
    """Return a history of n operations, half of them writes; of the reads a share does not wait for what it depends on."""
    chance = random.Random(n * sessions)
    history = History()
    names = [f"s{s}" for s in range(sessions)]
    keys = [f"k{k}" for k in range(KEYS)]
    seqs = [0] * sessions
    needs = [[0] * shards for _ in names]  # how far each session needs each log
    heads = [0] * shards
    carried: list[list[list[int]]] = [
        [[0] * shards] for _ in range(shards)
    ]  # what each entry of a log, and those before it, depend on
    made: list[tuple[list[int], list[str]]] = [([], []) for _ in keys]
    for i in range(n):
        s, k = chance.randrange(sessions), chance.randrange(KEYS)
        shard, need = k % shards, needs[s]
        seqs[s] += 1
        offsets, values = made[k]
        if chance.random() < 0.5:
            heads[shard] += 1
            need[shard] = heads[shard]
            need[:] = map(max, need, carried[shard][-1])
            carried[shard].append(list(need))
            if len(carried[shard]) > LAG + 2:
                carried[shard].pop(0)
            offsets.append(heads[shard])
            values.append(f"v{i}")
            version = (1, heads[shard]) if versions else None
            history.add(names[s], seqs[s], "write", keys[k], shard=shard, value=values[-1], version=version)
            continue
        applied = max(0, heads[shard] - chance.randrange(LAG))
        if chance.random() >= stale:
            applied = max(applied, need[shard])
        at = len(offsets) - 1
        while at >= 0 and offsets[at] > applied:
            at -= 1
        if at < 0:
            history.add(names[s], seqs[s], "read", keys[k], shard=shard)
            continue
        behind = heads[shard] - offsets[at]
        depends = carried[shard][-1 - behind] if behind < len(carried[shard]) else carried[shard][0]
        need[:] = map(max, need, depends)
        version = (1, offsets[at]) if versions else None
        history.add(names[s], seqs[s], "read", keys[k], shard=shard, value=values[at], version=version)
    return history


def seconds(history: History, mode: Mode, *, wrong: bool = False) -> float:
    """Return the processor time of a check, which waits for nothing, and see that it says what it has to."""
    gc.collect()
    began = time.process_time()
    report = check(history, mode=mode)
    took = time.process_time() - began
    assert report.violated is wrong or len(history) < 10_000
    return took


PEAK = """
from benches.bench_checker import recorded
from causal.lab.checker import check
check(recorded({n}, {sessions}, {shards}, versions=True), mode="white")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def megabytes(n: int, sessions: int, shards: int) -> float:
    """Return the peak of a process that makes a history, holds it and checks it, all included. Linux only."""
    code = PEAK.format(n=n, sessions=sessions, shards=shards)
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), *sys.path)))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    return int(done.stdout) * 1024 / 1e6


def growth(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Return the exponent b of the power law a * size^b that fits best."""
    xs, ys = ([math.log(value) for value in values] for values in (sizes, times))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def scaled(n: int, effort: Effort) -> int:
    """Return a number of operations, or for a small effort a small one."""
    return n if effort.most >= Effort().most else max(200, n * effort.most // 1_000_000)


def cases() -> Iterator[Case]:
    for mode, size, most in (("white", WHITE, WHITE_S), ("black", BLACK, BLACK_S)):
        name = f"check, {mode} box, {size[0]:,} operations, {size[1]} sessions, {size[2]} shards"
        yield Case(name, partial(_took, name, mode, size, most, 0.0))
        name += ", 1 % of the reads do not wait"
        yield Case(name, partial(_took, name, mode, size, None, 0.01))
    name = f"memory of a history and its check, white box, {WHITE[0]:,} operations"
    yield Case(name, partial(_memory, name))
    for mode in ("white", "black"):
        name = f"growth of a check, {mode} box, with operations"
        yield Case(name, partial(_growth, name, mode, [(n, 50) for n in SIZES], SIZES, 1.2))
        name = f"growth of a check, {mode} box, with sessions"
        yield Case(name, partial(_growth, name, mode, [(SIZES[2], s) for s in SESSIONS], SESSIONS, None))


def _took(name: str, mode: Mode, size: tuple[int, int, int], most: float | None, stale: float, effort: Effort) -> Row:
    n, sessions, shards = size
    history = recorded(scaled(n, effort), sessions, shards, versions=mode == "white", stale=stale)
    value = min(seconds(history, mode, wrong=stale > 0) for _ in range(min(3, effort.rounds)))
    floor = most or (WHITE_S if mode == "white" else BLACK_S)
    return Row(name, value, "s", ASKED, floor, "floor", value / floor, 1 if most else None)


def _memory(name: str, effort: Effort) -> Row:
    value = megabytes(scaled(WHITE[0], effort), *WHITE[1:])
    return Row(name, value, "MB", ASKED, WHITE_MB, "floor", value / WHITE_MB, 1)


def _growth(
    name: str, mode: Mode, sizes: Sequence[tuple[int, int]], along: Sequence[int], most: float | None, effort: Effort
) -> Row:
    times = []
    for n, sessions in sizes:
        history = recorded(scaled(n, effort), sessions, 16, versions=mode == "white")
        times.append(min(seconds(history, mode) for _ in range(min(3, effort.rounds))))
    value = max(growth(along, times), 0.001)
    return Row(name, value, "exponent", "linear", 1, "floor", value, most)
