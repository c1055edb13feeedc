"""The contract between the gate and a store: what an engine author implements.

An `Engine` is configuration: it connects nothing, holds no lock, and may be created before a fork. `open()` makes a `Link`, the live
thing, one for each process. The store (`causal.store`) owns the link and closes it; handles belong to the block that asked for them.

What the gate relies on, and what breaks if it does not hold:

* A watermark is a promise about one server incarnation: everything up to `applied` of that origin is visible to a snapshot taken
  *after* the watermark, on the same incarnation. HAZARD: a watermark computed from a later moment than the snapshot serves stale
  reads as fresh, which no other part can detect.
  One endpoint may be several servers, behind a balancer: a snapshot of another incarnation than was known is judged by what it shows
  itself.
* Origins are numbered once, over all failovers. Whatever can make a log forget (failover, restore, an unclean restart of a store that
  does not wait for durability) starts a new origin and gives the old one an `end`. HAZARD: a history that keeps its name after
  forgetting makes lost writes look applied.
* What a log has not forgotten stays as it was: applied under the name of its ended origin, and shown, deletions too. A link that was open
  during a failover says who leads then, or refuses.
* An endpoint whose watermark leads no origin of a shard takes no writes of it.
* Every live origin with an acknowledged write is in the watermark of some endpoint that can be asked, before that write is
  acknowledged: a member lists a new origin before it takes writes under it. HAZARD: a leader read and a freshness proof know of no
  origin that only an endpoint lists which has never answered.
* An acknowledged commit is durable where it is acknowledged, and its position is taken after the commit (or inside the write lock).
  Every block that wrote has one, also where it changed no value or found nothing to delete: a replica that lags shows something else.
* A transaction becomes visible as one, and `applied` goes up with it, at the leader and at replicas: in the order of the positions,
  without gaps, however many keys it has. HAZARD: numbers that are given out before the commit, or applied out of order, cover what is
  not there yet.
* What is shown is what was written, to the character: nothing is cut, stripped or normalized.
* `seen()` reports at least what the handle's user was shown, tombstones included, and the dependencies stored with it: whoever lacks
  that does not cover it, also after a failover.

Errors: a method raises `Unreachable` when its endpoint cannot be reached or does not answer in time (`final=True`, for a write, where
the gate need not ask again: a lock was waited for, or somebody has to act first), `StoreError` when the store is
damaged, full or read-only, and `CommitUnknown` only from `commit`, only when the outcome is unknown. Anything else is passed to the user.
What cannot be done is refused, with an error of these or of the driver, and never with a built-in exception:

* what is asked of a closed link: ConfigError or StoreError;
* a shard, or an endpoint, that the engine does not have: ConfigError or Unreachable;
* a commit of a block that has ended, by a commit or a rollback: StoreError, or the driver's own.

Threads: a link is used by many threads at once; a handle by one thread (or task) at a time. Several handles of a link are open at once, in
one thread, too: none shows, moves or ends what another reads.

Optional: a handle whose driver says only at its end what was shown is `Ending`, too. One that can name the versions that it shows and
writes is `Traced` (a write: `TracedWrite`); only the recording of histories asks for that (`causal.recorder`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import attrs

from causal.core.frontier import Frontier, Position
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from causal.core.watermark import Watermark
    from causal.errors import StoreError

R_co = TypeVar("R_co", covariant=True)
W_co = TypeVar("W_co", covariant=True)


@attrs.frozen
class Endpoint:
    """A server (or file) that can be read: one site's copy of every shard, or of those that `shards` lists, by id (None: all).

    An endpoint that holds only some takes no part in what concerns others: it is never asked for them, and neither its failure, nor
    its delay, nor an origin that it numbers counts there. Its watermarks are of its own shards alone. It may come to hold others:
    then it is known anew.

    One that does not serve is a *witness*: it is asked, so that what it numbers counts and others can be shown to be fresh, and never
    read, waited for or fallen back to. A derived store lists its source's servers so.

    Units: `latency_s` is the expected round trip from this process; the gate prefers smaller ones. Thread-safety: immutable.
    """

    name: str
    site: str = ""
    latency_s: float = 0.0
    shards: frozenset[int] | None = None
    serves: bool = True


def _pause(_: object, __: object, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"poll_s is a positive number of seconds, or None, not {value!r}")


@attrs.frozen
class Capabilities:
    """What an engine promises beyond the contract.

    `dependencies`: versions carry their writer's frontier, so reads and writes wait for the whole frontier (I8); without it the
    guarantees hold shard by shard. It cannot be promised where an endpoint holds only some shards: nobody could then be judged by a
    whole frontier. `clock_offsets`: offsets are hybrid logical timestamps and every live origin sends heartbeats, so old
    demands may fold into one floor. Thread-safety: immutable.

    `whole`: a read concerns all shards that the engine lists, whichever it names, and need not name one: a derived store that shows
    them in one snapshot. What its session demands of other shards of that store's number is not held against it.

    `exact`: a commit's position is that of its own transaction and of no later one, so that what it wrote is what is there at that
    position. Without it, a position may lie past other commits: it demands enough, but says nothing of what a row then held.

    `poll_s`: how often a store is to ask each endpoint in the background while it is in use, so that the common read needs no question
    of its own; None: never. Units: seconds.
    """

    dependencies: bool = False
    clock_offsets: bool = False
    whole: bool = False
    exact: bool = False
    poll_s: float | None = attrs.field(default=None, validator=_pause)


@attrs.frozen
class Commit:
    """What a commit acknowledges: the position of the write (None if nothing was written) and the dependencies stored with it.

    `captured=False` says that the write is committed but its position could not be learned: the session then reads at the leader for a
    while, and nothing is raised. Thread-safety: immutable.
    """

    position: Position | None
    deps: Frontier = Frontier()
    captured: bool = True


class ReadHandle(Protocol[R_co]):
    """One read on one endpoint, in one snapshot. Thread-safety: one thread at a time.

    Where an engine offers a weaker isolation, each statement has a snapshot of its own, none older than `watermarks`: such a handle is
    `Ending`, and what it has shown is known at its end.
    """

    @property
    def connection(self) -> R_co:
        """What the user reads through, valid until `close`."""

    @property
    def watermarks(self) -> Mapping[int, Watermark]:
        """The watermarks, by shard id, of this very snapshot, or taken before it on the same incarnation.

        An immutable mapping: an engine that returns the same object again says that nothing in it changed.
        """

    def seen(self) -> Frontier:
        """Return at least what was shown so far: positions and stored dependencies. Cheap when nothing was read."""

    def close(self) -> None:
        """End the snapshot. Idempotent; never raises for a connection that is already gone."""


class WriteHandle(Protocol[W_co]):
    """One write transaction at a leader. Thread-safety: one thread at a time."""

    @property
    def connection(self) -> W_co:
        """What the user reads and writes through, valid until `commit` or `rollback`."""

    @property
    def watermarks(self) -> Mapping[int, Watermark]:
        """The leader's watermarks, by shard id, taken inside the write lock where there is one (I9 is judged on them).

        No later than what the block is shown: they, and the state that it reads, are of one moment, or they are older.
        """

    def seen(self) -> Frontier:
        """Return at least what reads inside the transaction showed."""

    def commit(self, deps: Frontier) -> Commit:
        """Make the writes durable with `deps` (the writer's whole frontier) and return the acknowledgement. Ends the block.

        Raises: CommitUnknown when no answer came; any other error means that nothing was committed.
        """

    def rollback(self) -> None:
        """Undo everything. Idempotent; never raises for a connection that is already gone."""


@attrs.frozen
class KeyVersion:
    """What a block was shown of one key, or what it wrote there.

    `version` is (origin, offset) of the write; None for a read that found nothing, not even a tombstone, and for a write without an
    acknowledgement. `stamp` orders versions of different origins, where the engine has such a thing: the larger (stamp, origin) wins.
    `data` is the value in the engine's own encoding, None where there is none: nothing, a tombstone, a delete.
    Thread-safety: immutable.
    """

    shard: int
    key: str
    version: tuple[int, int] | None = None
    stamp: int | None = None
    data: bytes | None = None


@runtime_checkable
class Traced(Protocol):
    """What a handle, synchronous or asynchronous, may offer besides. Thread-safety: one thread or task at a time."""

    def trace(self, tell: Callable[[KeyVersion], object]) -> None:
        """Tell from now on of each version that the connection shows, as it is shown; what the block itself has put is left out.

        Called at most once, before the connection is used: `connection` may be another object afterwards. A block that is not traced
        must not pay for it. A scan tells of the keys that it showed. `tell` never raises.
        """


@runtime_checkable
class TracedWrite(Traced, Protocol):
    """What a write handle may offer besides. Thread-safety: one thread or task at a time."""

    def written(self) -> Iterable[KeyVersion]:
        """Return what the block wrote, once it has ended: without `version` unless the commit was acknowledged."""


class Ending(Protocol):
    """What a handle may offer besides, whose driver only says at its end what was shown. Thread-safety: as the handle.

    An asynchronous handle's `end` is awaited.
    """

    def end(self) -> Any:
        """End the snapshot, or undo the transaction: what `seen()` returns afterwards counts. Idempotent; `close` or `rollback` follows.

        A read block calls it before `seen()`, a write block where it does not commit. Raises: StoreError if what was shown cannot be
        learned: the session then reads at the leader for a while.
        """

    def blame(self, error: BaseException) -> StoreError | None:
        """Return an error that the block raised as one of this endpoint, if it is: another may do better. None: it is the block's own."""


class Link(Protocol[R_co, W_co]):
    """A process's live connection to every endpoint. Thread-safety: all methods may be called from many threads at once."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The endpoints known now; may change as sites join and leave. At equal latency, the first is preferred."""

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        """Ask one endpoint for its watermarks now, by shard id. Raises: Unreachable."""

    def read(self, endpoint: str, shards: Sequence[int]) -> ReadHandle[R_co]:
        """Open one snapshot that covers `shards`: `watermarks` has each of them. Raises: Unreachable."""

    def write(self, endpoint: str, shard: int, deps: Frontier) -> WriteHandle[W_co]:
        """Open a write transaction on `shard` at a leader; `deps` is the writer's frontier so far.

        Raises: Unreachable, also where the endpoint does not lead.
        """

    def leader(self, shard: int) -> str:
        """Return the endpoint that takes this process's writes of a shard now, also after a failover. Raises: StoreError."""

    def position(self, connection: Any) -> Frontier:
        """Return a frontier that covers what was written through `connection` (and committed), outside this library's write blocks."""

    def close(self) -> None:
        """Close every connection and end background work. Idempotent. What is asked afterwards is refused: ConfigError or StoreError."""


class AsyncReadHandle(Protocol[R_co]):
    """The asynchronous twin of `ReadHandle`: the same words. Thread-safety: one task at a time."""

    @property
    def connection(self) -> R_co: ...
    @property
    def watermarks(self) -> Mapping[int, Watermark]: ...
    def seen(self) -> Frontier: ...
    async def close(self) -> None: ...


class AsyncWriteHandle(Protocol[W_co]):
    """The asynchronous twin of `WriteHandle`: the same words. Thread-safety: one task at a time."""

    @property
    def connection(self) -> W_co: ...
    @property
    def watermarks(self) -> Mapping[int, Watermark]: ...
    def seen(self) -> Frontier: ...
    async def commit(self, deps: Frontier) -> Commit: ...
    async def rollback(self) -> None: ...


class AsyncLink(Protocol[R_co, W_co]):
    """The asynchronous twin of `Link`: the same words; a cancelled call leaves nothing open. Thread-safety: one event loop."""

    @property
    def endpoints(self) -> Sequence[Endpoint]: ...
    async def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]: ...
    async def read(self, endpoint: str, shards: Sequence[int]) -> AsyncReadHandle[R_co]: ...
    async def write(self, endpoint: str, shard: int, deps: Frontier) -> AsyncWriteHandle[W_co]: ...
    def leader(self, shard: int) -> str: ...
    async def position(self, connection: Any) -> Frontier: ...
    async def close(self) -> None: ...


class Configured(Protocol):
    """What every engine says of itself. Thread-safety: immutable once made; safe to create before a fork."""

    @property
    def shards(self) -> Mapping[str, int]:
        """Shard name -> index in 0..65535. Indexes are stored and never reused."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine promises beyond the contract; never changes."""


class SyncEngine(Configured, Protocol[R_co, W_co]):
    """What `CausalStore` needs of an engine. Thread-safety: as `Configured`."""

    def open(self, store: int = 0) -> Link[R_co, W_co]:
        """Connect. `store` is the store's number: shard ids are `store << 16 | index`. Raises: ConfigError, StoreError."""


class AsyncEngine(Configured, Protocol[R_co, W_co]):
    """What `AsyncCausalStore` needs of an engine, whose connections may be of other types. Thread-safety: as `Configured`."""

    async def aopen(self, store: int = 0) -> AsyncLink[R_co, W_co]:
        """Connect for use in the running event loop. Raises: ConfigError, StoreError."""


class Engine(SyncEngine[R_co, W_co], AsyncEngine[R_co, W_co], Protocol[R_co, W_co]):
    """A store's configuration, for both kinds of store. Thread-safety: as `Configured`."""
