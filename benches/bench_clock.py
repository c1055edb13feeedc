"""The clock, against the least that any thread-safe clock does, and against hlcpy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

from hlcpy import HLC

from benches.measure import Case, against_floor, against_peer
from causal import HybridLogicalClock, Timestamp

FLOOR = "time.time_ns() under one lock"


def cases() -> Iterator[Case]:
    lock, wall = threading.Lock(), time.time_ns
    # Half an hour ahead, and allowed to be: an update that takes every comparison, drift included.
    clock, far = HybridLogicalClock(), HybridLogicalClock(max_drift_s=3600)
    update = partial(far.update, Timestamp.from_parts(wall() // 1_000_000 + 1_800_000, 0))
    theirs, theirs_far, remote = HLC.from_now(), HLC.from_now(), HLC(wall() + 1_800_000_000_000)

    def floor() -> None:
        with lock:
            wall()

    def hlcpy_update() -> None:
        theirs_far.merge(remote)
        if theirs_far._logical > 60_000:  # its counter does not carry: it raises at 65,536
            theirs_far._logical = 0

    yield against_floor("clock.now()", clock.now, floor, FLOOR, 3)
    yield against_peer("clock.now() and hlcpy", clock.now, theirs.sync, "hlcpy: sync()", 4)
    yield against_floor("clock.update()", update, floor, FLOOR, 3)
    yield against_peer("clock.update() and hlcpy", update, hlcpy_update, "hlcpy: merge()", 4)
