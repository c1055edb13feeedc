"""What happens to the servers of a soak: standbys are paused, frozen, killed, restarted, slowed down and promoted, as seeded dice fall."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from causal.lab.postgres import PostgresCluster, Server

PATIENCE_S: Final = 60.0
"""How much longer than planned it may take until enough was done."""
LAG_S: Final = 0.03
"""What every standby lags at least: without it, a read that is not gated would hardly ever be stale."""


class Trouble:
    """One thing after another, in one thread."""

    def __init__(
        self, cluster: PostgresCluster, rng: random.Random, note: Callable[[str], None], *, promotions: bool
    ) -> None:
        self.cluster = cluster
        self.rng = rng
        self.note = note
        self.promotions = promotions

    def go_on(self, run_s: float, enough: Callable[[], bool]) -> None:
        """Make trouble for that long, and until enough was done in it, as a busy machine does less; no server is paused at the end."""
        rng, servers, primary = self.rng, list(self.cluster.servers.values()), self.cluster.primary
        until = time.monotonic() + run_s
        next_promotion = time.monotonic() + 4
        try:
            while (now := time.monotonic()) < until or (now < until + PATIENCE_S and not enough()):
                standbys = [s for s in servers if s is not primary]
                if self.promotions and time.monotonic() > next_promotion and until - time.monotonic() > 5:
                    primary = self.promote(primary, standbys, rng)
                    next_promotion = time.monotonic() + 6
                else:
                    self.disturb(rng.choice(standbys), rng)
                time.sleep(rng.uniform(0.2, 0.8))
        finally:
            for server in servers:
                with contextlib.suppress(Exception):
                    server.resume()

    def disturb(self, victim: Server, rng: random.Random) -> None:
        what = rng.choice(["pause", "pause", "restart", "kill", "freeze", "lag"])
        self.note(f"trouble {what}")
        pause_s = rng.uniform(0.2, 1.2)
        if what == "pause":
            victim.pause()
            time.sleep(pause_s)
            victim.resume()
        elif what in {"restart", "kill"}:
            victim.stop("fast") if what == "restart" else victim.kill()
            time.sleep(pause_s / 2)
            victim.start()
        elif what == "freeze":
            victim.freeze()
            time.sleep(pause_s)
            victim.thaw()
        else:
            victim.set_lag(rng.choice([0.0, LAG_S, 0.15]))

    def promote(self, primary: Server, standbys: Sequence[Server], rng: random.Random) -> Server:
        """Lose a primary, in one of several ways, and let a standby take over that need not have everything."""
        heir, *others = rng.sample(list(standbys), len(standbys))
        if rng.random() < 0.7:
            heir.pause()  # it will lack what is written from now on
            time.sleep(rng.uniform(0.05, 0.3))
        unfenced = rng.random() < 0.3
        if not unfenced:
            primary.kill()
            self.note("trouble promotion")
        else:
            self.note("trouble promotion beside a primary that goes on")
        heir.promote()
        if unfenced:
            time.sleep(rng.uniform(0.05, 0.3))
            primary.kill()
        for other in others:
            other.stop("fast")
            other.rewind(heir)
        primary.rewind(heir)
        return heir
