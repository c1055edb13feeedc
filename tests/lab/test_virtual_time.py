"""The scheduler: order by time, ties in the order in which they were made, errors raised, nothing left behind."""

import threading

import pytest

from causal.lab.virtual_time import VirtualTime


def test_sleepers_wake_in_order_and_time_jumps() -> None:
    time, log = VirtualTime(), []

    def task(name: str, *naps: float) -> None:
        for nap in naps:
            time.sleep(nap)
            log.append((name, time.monotonic()))

    time.spawn(lambda: task("a", 3, 3))
    time.spawn(lambda: task("b", 2, 4))
    time.run()
    assert log == [("b", 2), ("a", 3), ("b", 6), ("a", 6)]  # b lay down for 6 before a did


def test_an_error_ends_the_run_and_leaves_no_thread() -> None:
    time, before = VirtualTime(), threading.active_count()

    def fail() -> None:
        raise LookupError

    time.spawn(lambda: time.sleep(10))
    time.spawn(fail, at_s=1)
    with pytest.raises(LookupError):
        time.run()
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread() and thread.name.isdigit():
            thread.join(5)
    assert threading.active_count() <= before
