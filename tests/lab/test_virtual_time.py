"""The scheduler: order by time, ties in the order in which they were made, errors raised, nothing left behind."""

import threading

import pytest

from causal.lab.virtual_time import START_S, VirtualTime


def test_sleepers_wake_in_order_and_time_jumps() -> None:
    time, log = VirtualTime(), []

    def task(name: str, *naps: float) -> None:
        for nap in naps:
            time.sleep(nap)
            log.append((name, time.monotonic()))

    time.spawn(lambda: task("a", 3, 3), at_s=0)
    time.spawn(lambda: task("b", 2, 4), at_s=0)
    time.run()
    assert log == [("b", 2), ("a", 3), ("b", 6), ("a", 6)]  # b lay down for 6 before a did


def test_one_task_runs_at_a_time() -> None:
    time, running, most = VirtualTime(), 0, 0

    def task(nap: float) -> None:
        nonlocal running, most
        for _ in range(50):
            running += 1
            most = max(most, running)
            running -= 1
            time.sleep(nap)

    for n in range(10):
        time.spawn(lambda nap=n / 7: task(nap), at_s=n)
    time.run()
    assert most == 1


def test_an_event_happens_between_tasks() -> None:
    time, log = VirtualTime(), []

    def task() -> None:
        time.sleep(1)
        log.append("early")
        time.at(time.now_s + 0.5, lambda: log.append("event of a task"))
        time.sleep(2)
        log.append("late")

    time.spawn(task, at_s=0)
    time.at(2, lambda: log.append(f"event at {time.now_s:g}"))
    time.at(9, lambda: log.append("event after all tasks"))
    time.run()
    assert log == ["early", "event of a task", "event at 2", "late", "event after all tasks"]
    assert time.monotonic() == 9
    assert time.wall() == START_S + 9
    assert time.wall_ns() == (START_S + 9) * 10**9


def test_outside_any_task_time_just_passes() -> None:
    time = VirtualTime()
    time.sleep(2)
    time.sleep(-1)
    assert time.monotonic() == 2
    time.spawn(lambda: time.sleep(1), at_s=0)  # the past is now
    time.run()
    assert time.monotonic() == 3


@pytest.mark.parametrize("event", [False, True])
def test_an_error_ends_the_run_and_leaves_no_thread(event: bool) -> None:
    time, before, ended = VirtualTime(), threading.active_count(), []

    def fail() -> None:
        raise LookupError

    def patient() -> None:
        try:
            time.sleep(10)
        finally:
            ended.append(True)

    time.spawn(patient, at_s=0)
    (time.at if event else lambda at_s, run: time.spawn(run, at_s=at_s))(1, fail)
    with pytest.raises(LookupError):
        time.run()
    assert ended == [True]
    assert threading.active_count() <= before


def test_an_interrupt_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    time, before = VirtualTime(), threading.active_count()

    def forever() -> None:
        while True:
            time.sleep(1)

    def interrupted(_: object = None) -> None:
        raise KeyboardInterrupt

    time.spawn(forever, at_s=0)
    time.spawn(forever, at_s=0.5)
    monkeypatch.setattr(time._over, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        time.run()
    assert threading.active_count() <= before
