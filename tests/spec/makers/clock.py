"""Chooses the vectors of the clock."""

from collections.abc import Iterator
from typing import Any

from tests.spec.twins.clock import tick

ABOUT = (
    "clock.tick: `last` is the clock's last timestamp, null before the first; `wall_ms` its wall clock in Unix milliseconds. Gives the "
    "next `timestamp`. Timestamps are decimal text."
)


def vectors() -> Iterator[dict[str, Any]]:
    for name, last, wall_ms, cites in (
        ("the first event, with the wall at 0", None, 0, ["C-1"]),
        ("the wall has moved on", 5 << 16, 7, ["C-1"]),
    ):
        given = {"last": None if last is None else str(last), "wall_ms": wall_ms}
        yield {
            "name": name,
            "op": "clock.tick",
            "cites": cites,
            "in": given,
            "out": {"timestamp": str(tick(last, wall_ms))},
        }
