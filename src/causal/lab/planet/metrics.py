"""What a simulation measures: counts, and latencies in a histogram of fixed size.

Owns how a quantile is read. Memory does not grow with what is measured.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

_STEPS: Final = 100
"""Buckets for a factor of e: a quantile is within 1 %."""
_LEAST_S: Final = 1e-6
_log: Final = math.log


class Histogram:
    """Durations. Units: seconds. Thread-safety: none. Complexity: O(1) to add, memory for the buckets that were met."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.count += 1
        self.total += seconds
        bucket = -1 if seconds < _LEAST_S else int(_log(seconds / _LEAST_S) * _STEPS)
        buckets = self.buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def quantile(self, q: float) -> float:
        """Return the duration that a share q of all does not exceed, within 1 %; 0 if there are none."""
        left = math.ceil(q * self.count)
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return 0.0 if bucket < 0 else _LEAST_S * math.exp((bucket + 0.5) / _STEPS)
        return 0.0

    @property
    def mean(self) -> float:
        """The mean of all; 0 if there are none."""
        return self.total / self.count if self.count else 0.0


@attrs.define(on_setattr=[])
class Metrics:
    """The counts of one run. Units: seconds, characters, operations. Thread-safety: none."""

    reads: int = 0
    """Reads that were answered."""
    writes: int = 0
    refused_reads: int = 0
    refused_writes: int = 0
    in_doubt: int = 0
    losses_said: int = 0
    waits: int = 0
    waited_s: float = 0.0
    at_leader: int = 0
    """Reads that were served by the endpoint that leads the shard."""
    away: int = 0
    """Reads that were served at another site than the user's."""
    cached: int = 0
    said_stale: int = 0
    """Reads under a policy that promises, whose receipt says that its guarantees were not held."""
    probes: int = 0
    tokens: int = 0
    token_chars: int = 0
    longest_token: int = 0
    read_latency: Histogram = attrs.field(factory=Histogram)
    write_latency: Histogram = attrs.field(factory=Histogram)

    @property
    def operations(self) -> int:
        """Everything that clients asked for."""
        return self.reads + self.writes + self.refused_reads + self.refused_writes + self.in_doubt
