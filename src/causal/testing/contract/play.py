"""One run of one test of the contract: links of one kind, and what is done with them, told once for both kinds.

Owns the twins. A test is a coroutine over a `Play`, which awaits only what the play gives. On an asynchronous engine it runs in an event
loop; on a synchronous one nothing ever suspends, and it is driven to its end without a loop. Knows no promise of the contract.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import attrs

from causal.async_store import AsyncCausalStore
from causal.core.frontier import Frontier
from causal.core.keyring import Keyring
from causal.core.policy import ReadPolicy
from causal.core.watermark import Verdict
from causal.store import CausalStore
from causal.testing.stage import NotOffered

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from causal.core.receipt import Receipt
    from causal.core.watermark import Watermark
    from causal.engine import Commit, Endpoint
    from causal.testing.stage import Stage

Kind = Literal["synchronous", "asynchronous"]
PROBE_S = 5.0
"""How long a server may take to answer a question. None of the tests waits for it to pass."""


class ContractBroken(AssertionError):
    """A promise of `causal.engine` does not hold: what was seen, what was promised, what to do. Thread-safety: immutable."""


@attrs.frozen
class Shown:
    """What one snapshot showed of one key. Thread-safety: immutable."""

    value: str | None
    watermarks: Mapping[int, Watermark]
    seen: Frontier


class Play:
    """What a test of the contract is given. Thread-safety: one thread (or task) at a time."""

    def __init__(self, stage: Stage, kind: Kind, promise: str) -> None:
        self.stage, self.kind, self.promise = stage, kind, promise
        self.keyring = Keyring.generate()
        self._open: list[Any] = []

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def insist(self, holds: bool, wrong: str, todo: str) -> None:
        """Go on if it holds. Raises: ContractBroken."""
        if not holds:
            self.broken(wrong, todo)

    def broken(self, wrong: str, todo: str) -> NoReturn:
        """Say what is wrong. Raises: ContractBroken."""
        raise ContractBroken(
            f"{wrong}\n  promised ({self.kind}): {self.promise}\n  what to do: {todo}\n  the contract: causal/engine.py"
        )

    def refusal(self, error: Exception, what: str) -> None:
        """Go on if it is a refusal, as an engine may say it. Raises: ContractBroken for a built-in exception."""
        if isinstance(error, AssertionError):
            raise error  # a promise that did not hold meanwhile, or the stage's own
        self.insist(refused(error), f"{what} raised {error!r}", REFUSE)

    @property
    def leader(self) -> str:
        """The endpoint that takes writes. Raises: NotOffered at a read-only stage."""
        if self.stage.read_only:
            raise NotOffered("this stage is read only: nothing is written through its engine")
        if not self.stage.leader:
            raise NotImplementedError(
                f"{type(self.stage).__name__} has no `leader`. Set it: the name of the endpoint that takes writes."
            )
        return self.stage.leader

    @property
    def follower(self) -> str:
        """The endpoint that follows. Raises: NotOffered where there is none."""
        if self.stage.follower is None:
            raise NotOffered("this stage has no `follower`: nothing of what needs a replica was tested")
        return self.stage.follower

    @property
    def main(self) -> str:
        """The endpoint that is read where one is enough."""
        return self.follower if self.stage.read_only else self.leader

    # --- links ------------------------------------------------------------------------------------------------------

    async def done(self, result: Any) -> Any:
        """Return what a call of this kind gives. Raises: ContractBroken if it is of the other kind."""
        if self.kind == "asynchronous":
            return await result
        if inspect.isawaitable(result):
            self.broken("a synchronous link returned something to await", "let open() return a synchronous Link")
        return result

    async def link(self, near: str | None = None) -> Any:
        """Open a link of a process beside an endpoint; it is closed with the play."""
        engine: Any = self.stage.engine(near or self.main)
        link = await self.done(
            engine.open(self.stage.store) if self.kind == "synchronous" else engine.aopen(self.stage.store)
        )
        self._open.append(link)
        return link

    async def close(self) -> None:
        """Close every link and store that is open."""
        while self._open:
            await self.done(self._open.pop().close())

    def shards(self) -> Mapping[str, int]:
        """The engine's shards, by name: as ids under the store's number."""
        return {n: self.stage.store << 16 | i for n, i in self.stage.engine(self.main).shards.items()}

    @property
    def shard(self) -> int:
        """The first shard's id."""
        return next(iter(self.shards().values()))

    # --- what a session would do, without a gate ----------------------------------------------------------------------

    async def get(self, connection: Any, key: str) -> str | None:
        """Read a key through a connection of this kind."""
        return await self.stage.aget(connection, key) if self._async else self.stage.get(connection, key)

    async def put(self, connection: Any, key: str, value: str | None) -> None:
        """Set a key, or remove it (None), through a connection of this kind."""
        stage = self.stage
        if self._async:
            await (stage.adelete(connection, key) if value is None else stage.aput(connection, key, value))
        elif value is None:
            stage.delete(connection, key)
        else:
            stage.put(connection, key, value)

    async def commit(
        self, link: Any, changes: Mapping[str, str | None], deps: Frontier | None = None, shard: int | None = None
    ) -> Commit:
        """Write at the leader, and return the acknowledgement."""
        shard, deps = self.shard if shard is None else shard, Frontier() if deps is None else deps
        handle = await self.done(link.write(link.leader(shard), shard, deps))
        try:
            for key, value in changes.items():
                await self.put(handle.connection, key, value)
            return await self.done(handle.commit(deps))  # type: ignore[no-any-return]
        except BaseException:
            await self.done(handle.rollback())
            raise

    async def wrote(self, link: Any, key: str, value: str | None, deps: Frontier | None = None) -> Frontier:
        """Write a key, through the engine or at its source; return what a session joins then."""
        if self.stage.read_only:
            if value is None:
                raise NotOffered("this stage is read only: nothing is deleted through its engine")
            return self.stage.write_source(key, value)
        return self.joined(await self.commit(link, {key: value}, deps))

    def follow(self) -> None:
        """Let what is read take in what was written, where that is somewhere else."""
        if self.stage.read_only:
            self.stage.catch_up(self.main)

    def joined(self, commit: Commit) -> Frontier:
        """Return what a session joins of an acknowledgement. Raises: ContractBroken where it names no position."""
        if commit.position is None:
            self.broken(
                f"a commit of a write was acknowledged without a position: {commit}",
                "return Commit(position) of the write, read after the commit or inside the write lock",
            )
        return commit.deps | Frontier([commit.position])

    async def look(self, link: Any, endpoint: str, key: str, shards: Sequence[int] | None = None) -> Shown:
        """Read a key in a snapshot of its own."""
        handle = await self.done(link.read(endpoint, tuple(shards or (self.shard,))))
        try:
            value = await self.get(handle.connection, key)
            if hasattr(handle, "end"):
                await self.done(handle.end())
            return Shown(value, handle.watermarks, handle.seen())
        finally:
            await self.done(handle.close())

    async def probe(self, link: Any, endpoint: str) -> Mapping[int, Watermark]:
        """Ask an endpoint for its watermarks."""
        found: Mapping[int, Watermark] = await self.done(link.probe(endpoint, PROBE_S))
        return found

    # --- through a store ------------------------------------------------------------------------------------------------

    async def store(self, near: str, *, alone: bool = False, **settings: Any) -> Any:
        """Open a store of a process beside an endpoint: the whole way that an application goes. `alone`: nobody else serves it."""
        cls: Any = AsyncCausalStore if self._async else CausalStore
        engine = self.stage.engine(near)
        store = cls(
            Alone(engine, near) if alone else engine,
            **{"keyring": self.keyring, "audience": "contract", "number": self.stage.store, "policy": QUICK}
            | dict(self.stage.settings)
            | settings,
        )
        self._open.append(store)
        return store

    async def read(
        self, session: Any, *keys: str, policy: ReadPolicy | None = None
    ) -> tuple[list[str | None], Receipt]:
        """Read keys in one block of a session; return what was shown, and the receipt."""
        name = next(iter(self.shards()))
        block = session.read(shard=name, policy=policy)
        if self._async:
            async with block as connection:
                shown = [await self.get(connection, key) for key in keys]
        else:
            with block as connection:
                shown = [await self.get(connection, key) for key in keys]
        return shown, block.receipt

    async def write(self, session: Any, key: str, value: str | None) -> None:
        """Write a key in a block of a session."""
        block = session.write(shard=next(iter(self.shards())))
        if self._async:
            async with block as connection:
                await self.put(connection, key, value)
        else:
            with block as connection:
                await self.put(connection, key, value)

    # --- how it runs ------------------------------------------------------------------------------------------------------

    @property
    def _async(self) -> bool:
        return self.kind == "asynchronous"


class Alone:
    """An engine of which one endpoint serves; the others are only asked. Thread-safety: as the engine."""

    def __init__(self, of: Any, endpoint: str) -> None:
        self._of, self._endpoint = of, endpoint

    @property
    def endpoints(self) -> list[Endpoint]:
        """The link's endpoints, all but one of them witnesses."""
        return [attrs.evolve(e, serves=e.serves and e.name == self._endpoint) for e in self._of.endpoints]

    def open(self, store: int = 0) -> Any:
        """Open the engine's link."""
        return Alone(self._of.open(store), self._endpoint)

    async def aopen(self, store: int = 0) -> Any:
        """Open the engine's asynchronous link."""
        return Alone(await self._of.aopen(store), self._endpoint)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


QUICK = ReadPolicy(wait_s=0.02, unproven="serve")
"""Waits hardly, and then reads at the leader. The contract is about what is covered, and not about proofs of freshness."""
EVENTUAL = ReadPolicy.eventual()
REFUSE = (
    "to refuse, raise StoreError, or Unreachable(final=True) where somebody else holds the lock (or let your driver's error pass): "
    "a built-in exception is no refusal, whatever it says"
)


def verdict(watermarks: Mapping[int, Watermark], frontier: Frontier) -> Verdict:
    """Return the worst verdict over a frontier; a shard without a watermark is UNKNOWN."""
    worst = Verdict.APPLIED
    for p in frontier:
        mark = watermarks.get(p.shard)
        worst = max(worst, Verdict.UNKNOWN if mark is None else mark.verdict(p.origin, p.offset))
    return worst


def refused(error: Exception) -> bool:
    """Return whether an engine refused, with an error of the library's, its own or its driver's, and did not stumble."""
    return type(error).__module__ != "builtins" and not isinstance(error, AssertionError)


def driven(work: Coroutine[Any, Any, None]) -> None:
    """Drive a coroutine that never suspends to its end."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise RuntimeError("a synchronous run awaited something")
