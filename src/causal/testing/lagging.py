"""A leader and a replica that lags by hand, in memory: for the unit tests of applications that have no engine of their own.

Owns nothing but the arrangement: it is the reference engine, with one site that takes all writes and one that stands still. Time passes
only while a read waits, so a test never does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from causal.core.keyring import Keyring
from causal.store import CausalStore
from causal.stores.memory import MemoryCluster, MemoryEngine, MemoryReader, MemoryWriter
from causal.stores.memory.link import AsyncMemoryLink, MemoryLink
from causal.testing.subject import VirtualTime

if TYPE_CHECKING:
    from collections.abc import Sequence

LEADER, REPLICA = "leader", "replica"


class LaggingEngine(MemoryEngine):
    """The engine of a process beside the leader or the replica, whose writes all go to the leader. Thread-safety: immutable."""

    def open(self, store: int = 0) -> MemoryLink:
        """Connect."""
        super().open(store)
        return _Led(self.cluster, self.site, self.latency_s)

    async def aopen(self, store: int = 0) -> AsyncMemoryLink:
        """Connect for use in the running event loop."""
        return AsyncMemoryLink(self.open(store))


class _Led(MemoryLink):
    def leader(self, shard: int) -> str:
        """Return the leader, whoever asks."""
        return LEADER


class LaggingReplica:
    """A leader and a replica that has nothing new until `catch_up`: two stores of an application, one beside each.

        with LaggingReplica() as lag:
            alice = lag.leader.session(subject="alice")
            with alice.write() as tx: tx.put("photo", "new.jpg")
            assert profile_page(lag.replica, None) is None                     # the bug that the token is for
            assert profile_page(lag.replica, alice.token()) == "new.jpg"       # held back; here: read at the leader

    Connections are `causal.kv.Reader` and `Writer`. A read that waits sees `time` pass. `engine(place)` is for an `AsyncCausalStore`, or a
    store of other settings: give it `monotonic=lag.time.monotonic, wall=lag.time.wall`.

    Args:
        shards: names of shards.
        settings: of both stores, as `CausalStore` takes them.

    Thread-safety: one thread at a time.
    """

    def __init__(self, *, shards: Sequence[str] = ("main",), **settings: Any) -> None:
        self.time = VirtualTime()
        self._cluster = MemoryCluster(
            (LEADER, REPLICA),
            shards=shards,
            wall=self.time.wall_ns,
            monotonic=self.time.monotonic,
            sleep=self.time.sleep,
        )
        self.keyring = settings.pop("keyring", None) or Keyring.generate()
        times = {"monotonic": self.time.monotonic, "wall": self.time.wall, "sleep": self.time.sleep}
        given: Any = {"keyring": self.keyring, "audience": "test"} | times | settings
        self.leader: CausalStore[MemoryReader, MemoryWriter] = CausalStore(self.engine(LEADER), **given)
        self.replica: CausalStore[MemoryReader, MemoryWriter] = CausalStore(self.engine(REPLICA), **given)
        self.pause()

    def engine(self, place: str) -> LaggingEngine:
        """Return the engine of a process beside "leader" or "replica". Raises: ConfigError for another place."""
        return LaggingEngine(site=place, cluster=self._cluster)

    # --- what a test does to them ---------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let the replica stand still: what it is at the beginning."""
        self._cluster.pause(REPLICA)

    def resume(self) -> None:
        """Let the replica follow at once."""
        self._cluster.resume(REPLICA)
        self._cluster.step()

    def catch_up(self) -> None:
        """Let the replica apply all that there is now, and stand still again if it did."""
        self._cluster.catch_up(REPLICA)

    def catch_up_after(self, seconds: float) -> None:
        """Let the replica catch up while a read waits, so long from now. Units: seconds."""
        due_s = self.time.now_s + seconds
        self.time.step = lambda: self.catch_up() if self.time.now_s >= due_s else None

    def lose_leader(self) -> None:
        """Let the leader be unreachable from beside the replica: a read there that must not be stale is refused."""
        self._cluster.cut_off(LEADER)

    def find_leader(self) -> None:
        """Undo `lose_leader`."""
        self._cluster.rejoin(LEADER)

    def fail_over(self) -> None:
        """Lose what the replica does not have: sessions that wrote it are told so (`WriteLost`)."""
        paused = self._cluster.site(REPLICA).paused
        self._cluster.fail_over(LEADER)
        self.resume()
        if paused:
            self.pause()

    # --- its life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.leader.__enter__()
        self.replica.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both stores. Idempotent."""
        self.leader.close()
        self.replica.close()
