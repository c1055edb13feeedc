"""What a store author says of an engine under test: how to make it, how to read and write through it, how to make it lag and fail.

Owns the hooks, and what is said where one is missing. `EngineContract` and `StoreMachine` are what uses them. Knows no engine.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import SkipTest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from causal.controls import Controls
    from causal.core.frontier import Frontier
    from causal.engine import Engine


class NotOffered(SkipTest):
    """A hook that a stage does not have: the test that needs it is skipped, with this reason. Thread-safety: immutable."""


class Stage:
    """An engine on a stage: two endpoints of it, and what a test can do to them.

    A subclass must have `leader`, `engine`, `get` and `put`. All other hooks are optional: a test that needs one which is not there is
    skipped and says which. An engine that has the methods of `causal.Controls` is given as `controls`: then the five of these are there.

    What a test has written is text, any text without NUL, of up to 80,000 characters, under keys of letters, of which capitals are others,
    up to 100 in one block. Everything is new and empty when a stage is made. A write block has one shard, and `put` writes there; a read
    block over several shards shows, in `get`, a key of whichever has it. Most tests use the first of `engine.shards` alone.

    Thread-safety: `engine`, `get`, `put`, `catch_up` and `write_source` are called from two threads at once.
    """

    leader: str = ""
    """The endpoint that takes the writes of a process beside it. A read-only stage has none."""
    follower: str | None = None
    """Another endpoint, which follows it."""
    store: int = 0
    """The number under which it is opened: best another than 0, so that the test sees whether it stands in the shard ids."""
    read_only: bool = False
    """Whether nothing is written through it (a derived store): `write_source` writes, and `follower` is what is read."""
    pickles: bool = False
    """Whether an engine is promised to be the same after pickling."""
    forks: bool = False
    """Whether an engine that was made before a fork is promised to work in the child."""
    snapshots: bool = True
    """Whether a block reads one snapshot. If not (a weaker isolation), each statement has its own, no older than the watermark."""
    failovers: int = 2
    """How many failovers in a row it can do (`fail_over` or `losing`, each time of `leader`). The second may lose nothing."""
    interleavings: int = 250
    """At how many places inside a call, at most, another one is made to happen."""
    controls: Controls | None = None
    """Who pauses, cuts off and brings up to date, if not the methods below."""
    settings: Mapping[str, Any] = {}
    """What `CausalStore` is to be given besides: the engine's own time, say."""

    # --- required -------------------------------------------------------------------------------------------------

    def engine(self, near: str) -> Engine[Any, Any]:
        """Return the engine of a process beside an endpoint: one that reads there first. A new one at each call, over the same data."""
        self._required("engine(near)", "return your engine, configured for a process beside the endpoint `near`")

    def get(self, connection: Any, key: str) -> str | None:
        """Read a key through the connection that a block gives; None where there is nothing."""
        self._required("get(connection, key)", "read a text through the connection of a block of yours")

    def put(self, connection: Any, key: str, value: str) -> None:
        """Set a key through the connection of a write block."""
        self._required("put(connection, key, value)", "write a text through the connection of a write block of yours")

    # --- the same through an asynchronous connection, where that is another --------------------------------------------

    async def aget(self, connection: Any, key: str) -> str | None:
        """Read a key through the connection of an asynchronous block."""
        return self.get(connection, key)

    async def aput(self, connection: Any, key: str, value: str) -> None:
        """Set a key through the connection of an asynchronous block."""
        self.put(connection, key, value)

    async def adelete(self, connection: Any, key: str) -> None:
        """Remove a key through the connection of an asynchronous block."""
        self.delete(connection, key)

    async def apage(self, connection: Any, keys: Iterable[str]) -> Mapping[str, str | None]:
        """Read all keys at once through the connection of an asynchronous block."""
        if type(self).page is Stage.page:
            return {key: await self.aget(connection, key) for key in keys}
        return self.page(connection, keys)

    # --- optional -----------------------------------------------------------------------------------------------------

    def delete(self, connection: Any, key: str) -> None:
        """Remove a key through the connection of a write block."""
        self._not_offered("delete(connection, key)")

    def page(self, connection: Any, keys: Iterable[str]) -> Mapping[str, str | None]:
        """Read all keys at once, by a scan or one query, where your store has such a thing; None where there is nothing."""
        return {key: self.get(connection, key) for key in keys}

    def pause(self, endpoint: str) -> None:
        """Stop applying others' writes at an endpoint; it stays readable and falls behind."""
        self._controls("pause").pause(endpoint)

    def resume(self, endpoint: str) -> None:
        """Undo `pause`."""
        self._controls("resume").resume(endpoint)

    def catch_up(self, endpoint: str) -> None:
        """Apply now, at an endpoint, everything that it can reach, whatever the lag or pause; return when that is done."""
        self._controls("catch_up").catch_up(endpoint)

    def cut_off(self, endpoint: str) -> None:
        """Make an endpoint unreachable for processes beside others."""
        self._controls("cut_off").cut_off(endpoint)

    def rejoin(self, endpoint: str) -> None:
        """Undo `cut_off`."""
        self._controls("rejoin").rejoin(endpoint)

    def fail_over(self, endpoint: str) -> None:
        """Crash the endpoint that leads: what nobody else holds is lost, and whoever leads then starts a new origin. Links may be open."""
        self._not_offered("fail_over(endpoint)")

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """What is acknowledged inside this block reaches no follower, and then its only holder fails. No link is open when it ends.

        By default: pause the follower, then `fail_over`.
        """
        if self.follower is None:
            raise NotOffered("this stage has one endpoint: nobody else could lack a write")
        if type(self).fail_over is Stage.fail_over:
            self._not_offered("fail_over(endpoint)")
        self.pause(self.follower)
        yield
        self.fail_over(self.leader)
        self.resume(self.follower)

    @contextlib.contextmanager
    def forgetting(self, endpoint: str) -> Iterator[None]:
        """What a server applies inside this block, it has not after it: put back from a copy, say. No link is open when it ends."""
        self._not_offered("forgetting(endpoint)")
        yield

    @contextlib.contextmanager
    def crashing(self, endpoint: str) -> Iterator[None]:
        """Kill a server without a warning, as a power cut would; after this block it runs again, on what was then on its disk.

        Links are open when the block begins, and none is when it ends.
        """
        self._not_offered("crashing(endpoint)")
        yield

    def lose_answer(self, endpoint: str, *, committed: bool) -> None:
        """Let the next commit at an endpoint get no answer, though it was made (`committed`) or not."""
        self._not_offered("lose_answer(endpoint, committed=...)")

    @contextlib.contextmanager
    def outside(self, key: str, value: str) -> Iterator[Any]:
        """Write and commit on a connection of the application's own, outside of all blocks, and lend it: `position` is asked about it."""
        self._not_offered("outside(key, value)")
        yield

    def write_source(self, key: str, value: str) -> Frontier:
        """Write where a read-only store derives from, and return what a session joins of that: required of a read-only stage."""
        self._required("write_source(key, value)", "write at the source, and return the frontier of that write")

    def close(self) -> None:
        """End everything. Called once, whatever happened."""

    # --- what is missing ------------------------------------------------------------------------------------------------

    def _controls(self, name: str) -> Controls:
        if self.controls is None:
            self._not_offered(f"{name}(endpoint)")
        return self.controls

    def _required(self, hook: str, what: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} has no {hook}. Implement it: {what}.")

    def _not_offered(self, hook: str) -> NoReturn:
        raise NotOffered(f"{type(self).__name__} has no {hook}: nothing of what needs it was tested")
