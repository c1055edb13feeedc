"""One vocabulary for making replicas lag, pause and disappear: shared by every engine's tests and demos.

Owns the seeded lag and the words. Knows nothing of any engine.
"""

from __future__ import annotations

import hashlib
import math
from statistics import NormalDist
from typing import Protocol, runtime_checkable

import attrs

from causal.errors import ConfigError


@attrs.frozen
class Lag:
    """How long after its commit a write is applied elsewhere: a seeded distribution, so that every run is the same.

    Units: seconds. `sigma = 0` is a constant; otherwise log-normal around the median. Thread-safety: immutable.
    """

    median_s: float = 0.0
    sigma: float = 0.0
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        if not (self.median_s >= 0 and self.sigma >= 0 and math.isfinite(self.median_s) and math.isfinite(self.sigma)):
            raise ConfigError(f"a lag cannot be negative or infinite: {self.median_s} s, sigma {self.sigma}")

    @classmethod
    def of(cls, value: float | Lag | str) -> Lag:
        """Return `value` as a lag: a number is a constant in seconds, text as in `parse`. Raises: ConfigError."""
        if isinstance(value, Lag):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if not isinstance(value, int | float):
            raise ConfigError(f"a lag is a number of seconds, a Lag, or text like 50ms, not {value!r}")
        return cls(float(value))

    @classmethod
    def parse(cls, text: str) -> Lag:
        """Read `0.05`, `50ms` or `lognormal:50ms:0.8[:seed]`. Raises: ConfigError."""
        try:
            if text.startswith("lognormal:"):
                median, sigma, *seed = text.removeprefix("lognormal:").split(":")
                return cls(_seconds(median), float(sigma), int(*seed) if seed else 0)
            return cls(_seconds(text))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"not a lag: {text!r}; write 0.05, 50ms or lognormal:50ms:0.8[:seed]") from error

    def delay_s(self, site: str, shard: int, origin: int, offset: int) -> float:
        """Return the delay of one write on its way to one site: the same arguments always give the same delay."""
        if self.sigma == 0:
            return self.median_s
        digest = hashlib.blake2b(f"{self.seed}/{site}/{shard}/{origin}/{offset}".encode(), digest_size=8).digest()
        uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
        return self.median_s * math.exp(self.sigma * NormalDist().inv_cdf(uniform))


def _seconds(text: str) -> float:
    return float(text.removesuffix("ms")) / 1000 if text.endswith("ms") else float(text.removesuffix("s"))


@runtime_checkable
class Controls(Protocol):
    """What a test or a demo does to a store on purpose. Every engine that can be controlled has these methods.

    Thread-safety: callable from any thread.
    """

    def pause(self, endpoint: str) -> None:
        """Stop applying others' writes at an endpoint; it stays readable and falls behind."""

    def resume(self, endpoint: str) -> None:
        """Undo `pause`."""

    def catch_up(self, endpoint: str) -> None:
        """Apply now, at an endpoint, everything it can reach, whatever the lag or pause; return when done."""

    def cut_off(self, site: str) -> None:
        """Separate a site from all others: no replication either way, and its endpoint is unreachable from other sites."""

    def rejoin(self, site: str) -> None:
        """Undo `cut_off`."""
