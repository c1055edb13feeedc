"""Write blocks whose commit reaches the cache: `with cache.write(session, "profile:7") as tx`.

Owns what becomes of the keys when the block has ended, and nothing before: while it is open nobody knows the position of what it
writes, and while the commit's outcome is unknown nobody knows whether there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from causal.caches.account import Account
from causal.caches.entry import COPIED, Entry, join
from causal.caches.lookup import shareable, shown_fresh
from causal.core.endpoint import NEVER
from causal.core.frontier import EVERY_STORE, Frontier, Position, pack
from causal.errors import ConfigError
from causal.kv import check_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from causal.caches.account import Outcome
    from causal.caches.base import CacheBase
    from causal.core.receipt import Receipt
    from causal.engine import Commit

W = TypeVar("W")
_DONE: Final[dict[str, Outcome]] = {"write": "written", "invalidate": "invalidated", "delete": "deleted"}


class WriteBase:
    """What both blocks share: the keys, the values that are to be written through, and what is known of the transaction.

    Thread-safety: one thread or task; enter it once.
    """

    def __init__(
        self, cache: CacheBase, session: Any, keys: tuple[str, ...], shard: str | None, wait_s: float | None
    ) -> None:
        if not keys:
            raise ConfigError("cache.write(session, key, ...) names the keys that the block changes")
        for key in keys:
            check_key(key)
        self._cache = cache
        self._session = session
        self._shard = cache.settings.shard(shard)
        # Where what was seen counts, no hit hangs on what was touched: then the token need not say it.
        touching = keys if cache.counting.own and not cache.counting.seen else None
        self._block: Any = session.write(cache.store, shard=shard, wait_s=wait_s, touching=touching)
        self._keys = tuple(dict.fromkeys(keys))
        self._values: dict[str, tuple[bytes, Any, float | None]] = {}
        self._wm: dict[int, int] = {}
        self._began = self._fresh_at = NEVER
        self.accounts: tuple[Account, ...] = ()
        """What became of each key, once the block has ended."""

    def touch(self, *keys: str) -> None:
        """Name more keys that the block changes, before it ends. Raises: ConfigError."""
        for key in keys:
            check_key(key)
        self._block.touch(*keys)
        self._keys = tuple(dict.fromkeys((*self._keys, *keys)))

    def set(self, key: str, value: Any, *, ttl_s: float | None = None) -> None:
        """Write a value through: it is in the cache once the block is committed, where the store's positions are exact.

        `key` is one of the block's, and `value` what its loader would return after the commit. Raises: ConfigError.
        """
        if key not in self._keys:
            raise ConfigError(
                f"{key!r} is not among the keys of this block, {', '.join(map(repr, self._keys))}: touch it first"
            )
        data, shown = self._cache.encoded(value)
        if data is None:
            raise ConfigError(f"the value of {key!r} cannot be encoded")
        self._values[key] = data, shown, ttl_s

    @property
    def receipt(self) -> Receipt:
        """The account of the write block itself. Raises: ConfigError before it was entered."""
        receipt: Receipt = self._block.receipt
        return receipt

    @property
    def commit(self) -> Commit | None:
        """The acknowledgement, once the block has ended with one."""
        commit: Commit | None = self._block.commit
        return commit

    def _entered(self) -> None:
        """Note what the transaction's snapshot holds: with its own position, that is what its writes are part of."""
        mark = self._block._handle.watermarks.get(self._shard)
        if mark is not None and not mark.diverged:
            shard = self._shard << 32
            self._wm = {shard | origin: applied for origin, (applied, _) in mark.origins.items()}
            self._fresh_at = shown_fresh(self._block, self._began)

    def _planned(self, committed: bool) -> Iterator[Planned]:
        """Yield what is to be done about each key: after the commit, and with its position."""
        cache, commit = self._cache, self.commit
        if committed and commit is not None and commit.captured and commit.position is None:
            for key in self._keys:
                yield Planned(key, "nothing", "nothing was written")
            return
        position = None if commit is None or not commit.captured or not committed else commit.position
        for key in self._keys:
            if position is None or commit is None:
                yield Planned(key, "delete", "the position of the write is not known")
                continue
            at = {pack(position.shard, position.origin): position.offset}
            if key not in self._values:
                yield Planned(key, "invalidate", "", at)
                continue
            why = self._not_through()
            if why:
                yield Planned(key, "invalidate", why, at)
                continue
            data, shown, ttl_s = self._values[key]
            good_until_ms, fresh_until = cache.good_until(self._fresh_at, cache.ttl_s if ttl_s is None else ttl_s)
            seen = Frontier.of(at) | commit.deps
            shared = shown if shareable(cache, shown) else COPIED
            entry = Entry(join(self._wm, at), max(0, good_until_ms), seen, data, fresh_until, shared)
            if cache.is_old(entry):
                yield Planned(key, "invalidate", "the leader is not shown to be fresh enough", at)
            else:
                yield Planned(key, "write", "", at, entry)

    def _not_through(self) -> str:
        if not self._cache.settings.engine.capabilities.exact:
            return "a position of this store may lie past other commits"
        if not self._wm:
            return "what the transaction held is not known"
        if self._fresh_at == NEVER:
            return "the leader is not shown to be fresh"
        return ""


class Planned:
    """What is to be done about one key. Thread-safety: one thread or task."""

    __slots__ = ("at", "do", "entry", "key", "why")

    def __init__(
        self, key: str, do: str, why: str, at: Mapping[int, int] | None = None, entry: Entry | None = None
    ) -> None:
        self.key = key
        self.do = do
        self.why = why
        self.at: Mapping[int, int] = at or {}
        self.entry = entry

    def refused(self) -> None:
        """Note that the value was not written through: what is there may know more, of others, and lack this write."""
        self.do = "invalidate"

    def account(self, cache: CacheBase, done: bool | None) -> Account:
        """Return the account, after telling whoever listens. `done` is None if the backend failed."""
        outcome: Outcome = "nothing"
        if self.do != "nothing":
            outcome = "down" if done is None else "known" if not done else _DONE[self.do]
        account = Account(self.key, outcome, self.why, outcome == "written")
        cache.tell(account)
        return account


def invalidations(cache: CacheBase, at: Position | Frontier, keys: tuple[str, ...]) -> list[Planned]:
    """Return what is to be done after a write elsewhere. Raises: ConfigError."""
    number, exact = cache.settings.number, True
    if isinstance(at, Position):
        at = Frontier((at,))
    elif not isinstance(at, Frontier):
        raise ConfigError(f"a write is at a Position, or below a Frontier, not at a {type(at).__name__}")
    else:
        exact = number not in at.floors and number not in at.marks and EVERY_STORE not in at.marks
    here = {k: v for k, v in at.entries.items() if k >> 48 == number}
    do, why = ("invalidate", "") if here and exact else ("delete", "the position of the write is not known")
    return [Planned(check_key(key), do, why, here) for key in keys]


class CacheWrite(WriteBase, Generic[W]):
    """One write block that tells the cache. Thread-safety: one thread; enter it once."""

    def __enter__(self) -> W:
        self._began = self._cache.settings.monotonic()
        connection: W = self._block.__enter__()
        self._entered()
        return connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        committed = False
        try:
            self._block.__exit__(kind, error, trace)
            committed = kind is None
        finally:
            if kind is None:  # else it was rolled back, and nothing is written
                self.accounts = tuple([carry_out(self._cache, planned) for planned in self._planned(committed)])


def carry_out(cache: Any, planned: Planned) -> Account:
    """Do what is planned about a key, and account for it."""
    backend, name, done = cache.backend, cache.prefix + planned.key, None
    if planned.do == "write":
        done = backend.put(name, planned.entry, cache.life_s(planned.entry))
        if not done:
            planned.refused()
    if planned.do == "invalidate":
        done = backend.invalidate(name, planned.at, cache.tombstone(), cache.tombstone_s)
    elif planned.do == "delete":
        done = backend.delete(name) or None
    return planned.account(cache, done)


class AsyncCacheWrite(WriteBase, Generic[W]):
    """The asynchronous twin of `CacheWrite`. Thread-safety: one task; enter it once."""

    async def __aenter__(self) -> W:
        self._began = self._cache.settings.monotonic()
        connection: W = await self._block.__aenter__()
        self._entered()
        return connection

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        committed = False
        try:
            await self._block.__aexit__(kind, error, trace)
            committed = kind is None
        finally:
            if kind is None:
                self.accounts = tuple([await acarry_out(self._cache, planned) for planned in self._planned(committed)])


async def acarry_out(cache: Any, planned: Planned) -> Account:
    """Do what is planned about a key, and account for it: as `carry_out`."""
    backend, name, done = cache.backend, cache.prefix + planned.key, None
    if planned.do == "write":
        done = await backend.put(name, planned.entry, cache.life_s(planned.entry))
        if not done:
            planned.refused()
    if planned.do == "invalidate":
        done = await backend.invalidate(name, planned.at, cache.tombstone(), cache.tombstone_s)
    elif planned.do == "delete":
        done = await backend.delete(name) or None
    return planned.account(cache, done)
