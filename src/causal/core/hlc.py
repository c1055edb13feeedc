"""Hybrid logical timestamps, and the two steps that make the next one.

Owns the 64-bit form (48 bits of milliseconds since 1970, 16 bits of counter) and its text. Knows no wall clock, lock or file:
the wall time is an argument, and the last timestamp is the caller's to keep (`causal.clock` does).

A timestamp is one integer, so both rules of the paper are one `max`. A counter that runs out carries into the milliseconds by
itself: `last + 1` is always the next timestamp, whatever its counter says. A clock that has said nothing yet stands at `START`.

Source: Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks" (2014), figure 5. It keeps 48 bits of an NTP time;
here they are Unix milliseconds, as the systems that users compare with print them.
"""

from __future__ import annotations

import operator
import re
from typing import Final, Self

from causal.errors import ClockError

COUNTER_BITS: Final = 16
MAX_LOGICAL: Final = (1 << COUNTER_BITS) - 1
MAX_PHYSICAL_MS: Final = (1 << 48) - 1
MAX_TIMESTAMP: Final = (1 << 64) - 1

START: Final = -1
"""What `last` is before the first timestamp. At 0 a first wall reading of 0 would yield counter 1 with no event before it."""

_TEXT: Final = re.compile(r"([0-9a-f]{12})\.([0-9a-f]{4})")
_TEXT_SHOWN: Final = 40


class Timestamp(int):
    """A hybrid logical time: `physical_ms << 16 | logical`, an int that compares, hashes and sorts as one.

    Its text has a fixed width, so text sorts as time does, and one spelling, so text and timestamp stand for each other.
    Arithmetic yields plain ints.

    Units: milliseconds since 1970-01-01T00:00Z; the counter has none.
    Raises: ClockError outside 0 .. 2**64 - 1 (the year 10889); TypeError for what is no integer.
    Thread-safety: immutable.
    """

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        """Check the range of `value`, and make it a timestamp."""
        value = operator.index(value)
        if not 0 <= value <= MAX_TIMESTAMP:
            raise ClockError(f"{value} is outside the range of a timestamp, 0 .. 2**64 - 1")
        return int.__new__(cls, value)

    @classmethod
    def from_parts(cls, physical_ms: int, logical: int = 0) -> Self:
        """Put milliseconds and a counter together. Raises: ClockError when either does not fit its bits."""
        if not (0 <= physical_ms <= MAX_PHYSICAL_MS and 0 <= logical <= MAX_LOGICAL):
            raise ClockError(f"({physical_ms} ms, {logical}) does not fit a timestamp of 48 + 16 bits")
        return cls(physical_ms << COUNTER_BITS | logical)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote, and nothing else: lower case, full width, no blanks. Raises: ClockError (a ValueError)."""
        match = _TEXT.fullmatch(text)
        if match is None:
            shown = text if len(text) <= _TEXT_SHOWN else text[:_TEXT_SHOWN] + "..."
            raise ClockError(f"{shown!r} is not a timestamp: 12 lower-case hex digits, a full stop, 4 more")
        return cls(int(match[1] + match[2], 16))

    @property
    def physical_ms(self) -> int:
        """The milliseconds since 1970: a wall clock's reading, or one ahead of it."""
        return self >> COUNTER_BITS

    @property
    def logical(self) -> int:
        """The counter, which tells apart the timestamps of one millisecond."""
        return self & MAX_LOGICAL

    def __str__(self) -> str:
        return f"{self >> COUNTER_BITS:012x}.{self & MAX_LOGICAL:04x}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}.from_parts({self.physical_ms}, {self.logical})"


def tick(last: int, wall_ms: int) -> int:
    """Return the timestamp of a local event or of a message about to be sent, as a plain int.

    Invariant (I1): above `last`, and not below the wall.
    At the end of the range the result does not fit a Timestamp, whose constructor says so; it never wraps.
    """
    return max(last + 1, wall_ms << COUNTER_BITS)


def merge(last: int, remote: int, wall_ms: int) -> int:
    """Return the timestamp of receiving a message stamped `remote`, as a plain int.

    Invariant (I1): above both `last` and `remote`, and not below the wall.
    Whether `remote` deserves to be believed is decided before: this step believes it.
    """
    return max(last + 1, remote + 1, wall_ms << COUNTER_BITS)
