"""The clock, against the least that any thread-safe clock does, and against hlcpy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from hlcpy import HLC

from benches.measure import Effort, Row, against_floor, against_peer
from causal import HybridLogicalClock, Timestamp

FLOOR = "time.time_ns() under one lock"


def rows(effort: Effort) -> Iterator[Row]:
    lock, wall = threading.Lock(), time.time_ns
    # Half an hour ahead, and allowed to be: an update that takes every comparison, drift included.
    clock = HybridLogicalClock(max_drift_s=3600)
    remote = Timestamp.from_parts(wall() // 1_000_000 + 1_800_000, 0)
    theirs, remote_hlc = HLC.from_now(), HLC(wall() + 1_800_000_000_000)

    def floor() -> None:
        with lock:
            wall()

    def now() -> None:
        clock.now()

    def update() -> None:
        clock.update(remote)

    def hlcpy_now() -> None:
        theirs.sync()

    def hlcpy_update() -> None:
        theirs.merge(remote_hlc)
        if theirs.logical > 60_000:  # its counter does not carry: it raises at 65,536
            theirs.set_nanos(theirs.nanos + 1)

    yield against_floor("clock.now()", now, floor, FLOOR, 3, effort)
    yield against_peer("clock.now() and hlcpy", now, hlcpy_now, "hlcpy: sync()", 4, effort)
    yield against_floor("clock.update()", update, floor, FLOOR, 3, effort)
    yield against_peer("clock.update() and hlcpy", update, hlcpy_update, "hlcpy: merge()", 4, effort)
