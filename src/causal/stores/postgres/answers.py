"""What a server's answers to `statements.py` say: rows of results, as values.

Owns the reading of results. What the values prove is in `lineage.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from causal.core.position import pack
from causal.stores.postgres import statements
from causal.stores.postgres.lineage import Row
from causal.stores.postgres.lsn import parse

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

_UNITS: Final = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


@attrs.frozen
class Ground:
    """What does not change while a server's database lives. Thread-safety: immutable."""

    system: int
    segment: int
    page: int
    installed: bool
    stamps: bool
    user: str
    sees: bool
    """Whether the role may see what a standby receives."""
    version: int
    """As in server_version_num: 180006 is 18.6."""

    @property
    def waits(self) -> bool:
        """Whether the server knows WAIT FOR LSN."""
        return self.version >= statements.WAITS_SINCE

    @classmethod
    def of(cls, result: PGresult) -> Ground:
        """Read the answer to HELLO."""
        system, segment, page, installed, stamps, user, sees, version = (text(result, column) for column in range(8))
        number = segment.rstrip("kMGB")
        return cls(
            int(system),
            int(number) * _UNITS[segment[len(number) :] or "B"],
            int(page),
            installed == "t",
            stamps == "t",
            user,
            sees == "t",
            int(version),
        )


def stamped(result: PGresult) -> dict[int, int]:
    """Read dependency stamps, by packed key."""
    rows = ([result.get_value(n, column) for column in range(3)] for n in range(result.ntuples))
    return {pack(int(s or 0), int(o or 0)): int(upto or 0) for s, o, upto in rows}


def text(result: PGresult, column: int) -> str:
    """Return a value of the first row as text."""
    value = result.get_value(0, column)
    return "" if value is None else value.decode()


def row(table: PGresult, n: int) -> Row:
    """Read one row of `causal.lineage`."""
    seq, origin, parent_end, start, timeline, started, recovered = (table.get_value(n, c) for c in range(7))
    assert seq is not None
    assert origin is not None
    assert start is not None
    assert timeline is not None
    assert started is not None
    return Row(
        int(seq),
        int(origin),
        None if parent_end is None else parse(parent_end),
        parse(start),
        int(timeline),
        started.decode(),
        None if recovered is None else parse(recovered),
    )
