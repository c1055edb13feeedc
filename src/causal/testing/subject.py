"""What a state machine drives: stores at several sites in a time of their own, how data is read and written there, how sites fail.

Owns the hooks of the machine. Knows nothing of what is done with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from causal.controls import Lag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.controls import Controls
    from causal.core.frontier import Frontier
    from causal.engine import Engine
    from causal.store import CausalStore


class VirtualTime:
    """A clock that moves when it is told to, or when a gated read waits. `step` is called after each move.

    Units: seconds; `wall_ns` in nanoseconds. Thread-safety: one thread at a time.
    """

    def __init__(self, start_s: float = 1_700_000_000.0) -> None:
        self.now_s = 0.0
        self.step: Callable[[], object] = lambda: None
        self._start_s = start_s

    def monotonic(self) -> float:
        """Return the time since the start."""
        return self.now_s

    def wall(self) -> float:
        """Return the time of day."""
        return self._start_s + self.now_s

    def wall_ns(self) -> int:
        """Return the time of day in nanoseconds."""
        return int(self.wall() * 1e9)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        self.step()


class Data(Protocol):
    """How text is read and written through the connection that a block gives. A `causal.testing.Stage` has these methods, too.

    Thread-safety: one thread at a time.
    """

    def get(self, connection: Any, key: str) -> str | None:
        """Return the value of a key, None where there is none."""

    def put(self, connection: Any, key: str, value: str) -> None:
        """Set a key."""

    def delete(self, connection: Any, key: str) -> None:
        """Remove a key."""


class Forgets(Protocol):
    """What makes servers forget. Thread-safety: one thread at a time."""

    def fail_over(self, site: str) -> Frontier:
        """Crash a site: what it alone held is lost. Return where each history that ended so stops, 0 where nothing of it survives.

        Some site that is left must have heard of every history that was written to, or nobody can say what is lost of it: let a new one
        be known elsewhere before it takes writes, as `causal.engine` has it.
        """

    def restart(self, site: str) -> None:
        """Let a site come back, perhaps with less of others' writes than it had applied: the last. Its own stay, and what came before
        them, and what it knew of histories.
        """


class KeyValue:
    """Data behind connections that are `causal.kv.Reader` and `Writer`. Thread-safety: as the connection."""

    def get(self, connection: Any, key: str) -> str | None:
        """Return the value of a key, None where there is none."""
        value: str | None = connection.get(key)
        return value

    def page(self, connection: Any, keys: Iterable[str]) -> dict[str, str | None]:
        """Return all keys at once."""
        return dict.fromkeys(keys) | dict(connection.scan())

    def put(self, connection: Any, key: str, value: str) -> None:
        """Set a key."""
        connection.put(key, value)

    def delete(self, connection: Any, key: str) -> None:
        """Remove a key."""
        connection.delete(key)


@attrs.define
class Subject:
    """A store under test: one engine for each site, and the time that drives its lag (set `time.step` to replicate what is due).

    `controls` makes sites lag and disappear, `forgets` makes them forget; None if the engine cannot. `data` is how blocks read and write,
    `deletes` whether they can delete. Stores are opened under `number`, best another than 0: shard ids are `number << 16 | index`, also in
    what `forgets` returns. `snapshots`: whether a block reads one snapshot, and not one for each statement. `side_by_side`: whether a
    write block may be begun, and commit, in the middle of another on its shard, in one thread; where one waits for the other's lock, it
    may not. Thread-safety: one thread at a time.
    """

    name: str
    engines: Mapping[str, Engine[Any, Any]]
    time: VirtualTime
    controls: Controls | None = None
    close: Callable[[], object] = lambda: None
    stores: dict[str, CausalStore[Any, Any]] = attrs.field(factory=dict)
    data: Data = attrs.field(factory=KeyValue)
    deletes: bool = True
    forgets: Forgets | None = None
    number: int = 0
    snapshots: bool = True
    side_by_side: bool = False

    def page(self, connection: Any, keys: Iterable[str]) -> dict[str, str | None]:
        """Return what is shown of all keys in one block."""
        whole = getattr(self.data, "page", None)
        if whole is not None:
            shown: dict[str, str | None] = whole(connection, keys)
            return shown
        return {key: self.data.get(connection, key) for key in keys}


class PlaceLag(Lag):
    """A lag that is the same for all writes of a shard on their way to a site: seeded, and different from place to place.

    Thread-safety: immutable.
    """

    def delay_s(self, site: str, shard: int, origin: int, offset: int) -> float:
        """Return the delay of a shard's writes on their way to a site."""
        return super().delay_s(site, shard, 0, 0)
