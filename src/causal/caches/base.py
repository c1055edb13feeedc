"""What the synchronous and the asynchronous cache have in common: settings, keys, ages, and the account.

HAZARD: that a history has ended, this process learns from an endpoint. So no hit is served unless one was asked lately (HEARD_S); for
that long a hit may show what a failover has lost.

HAZARD: how long an entry is good is decided by whoever stores it. Caches that share a namespace need stores of one `max_staleness_s`, and
the same `share`, `serialize` and `deserialize`: one that lowers its bound is shown what those with the old one have stored.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict
from urllib.parse import quote
from weakref import WeakSet

import attrs

from causal.caches.account import Counts
from causal.caches.entry import Entry
from causal.caches.wanted import Counting
from causal.core.endpoint import NEVER
from causal.core.frontier import Frontier
from causal.core.policy import Guarantee, Strategy
from causal.errors import ConfigError
from causal.kv import decode_value, encode_value
from causal.sealing import text_setting
from causal.session import log
from causal.state import callable_setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.caches.account import Account
    from causal.state import StoreState

NOTHING: Final = Frontier()


class Backend(Protocol):
    """What holds the entries. No method raises: a backend that fails is one that holds nothing (`down` says so).

    Thread-safety: all methods, from any thread.
    """

    @property
    def local(self) -> bool:
        """Whether entries stay in this process: they are judged by its monotonic clock."""

    @property
    def down(self) -> bool:
        """Whether it does not answer, and is not asked for a while."""

    def get(self, key: str, /) -> Entry | None:
        """Return what is held under a key: an entry, a tombstone, or None."""

    def put(self, key: str, entry: Entry, life_s: float, /) -> bool | None:
        """Hold an entry for so long, unless what is held knows more; return whether it is held now. None: the backend failed.

        Gives back this process's lease of the key.
        """

    def invalidate(self, key: str, positions: Mapping[int, int], tombstone: Entry, life_s: float, /) -> bool | None:
        """Leave a tombstone, unless what is held knows of these positions; return whether one was left. None: the backend failed."""

    def discard(self, key: str, entry: Entry, /) -> None:
        """Remove exactly this entry, if it is still there."""

    def delete(self, key: str, /) -> bool:
        """Remove whatever is held under a key; return whether that was done."""

    def lease(self, key: str, for_s: float, saw: Entry | None, /) -> Entry | bool:
        """Ask to be the one loader of a key, of all processes, for a while; return what is there, if that is not what the caller saw."""

    def watch(self, key: str, /) -> tuple[Entry | None, bool]:
        """Return what is held under a key, and whether somebody is its loader now."""

    def release(self, key: str, /) -> None:
        """Give back this process's lease of a key."""


HEARD_S: Final = 1.0
"""How long what was heard from an endpoint counts as news. After that one is asked before a hit is served; while it is being asked, others
are served for as long again."""


@attrs.frozen(eq=False)
class Shards:
    """What a key is read from: ids and names, in the order of the loader's connections. Thread-safety: immutable."""

    named: tuple[tuple[int, str], ...]
    ids: frozenset[int]


class CacheSettings(TypedDict, total=False):
    """The settings of a cache, all by keyword. Units: seconds."""

    namespace: str
    """What keeps the keys of one application apart from others' in the same backend; by default the store's audience."""
    guarantees: Guarantee | None
    """What hits promise; by default what the store does. READ_YOUR_WRITES alone keeps hit rates where sessions read much."""
    ttl_s: float | None
    """How long an entry is used at most; by default as long as it is shown to be less stale than the store's `max_staleness_s`."""
    lease_s: float
    """How long one loader of a key is waited for. 0: everybody loads."""
    share: bool
    """Whether hits hand out one object to all, which then nobody may change; by default each gets a copy of its own."""
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]
    on_account: Callable[[Account], object] | None


class CacheBase:
    """The settings of a cache. Thread-safety: the settings never change."""

    def __init__(
        self,
        store: Any,
        backend: Any,
        *,
        namespace: str | None = None,
        guarantees: Guarantee | None = None,
        ttl_s: float | None = None,
        lease_s: float = 2.0,
        share: bool = False,
        serialize: Callable[[Any], bytes] = encode_value,
        deserialize: Callable[[bytes], Any] = decode_value,
        on_account: Callable[[Account], object] | None = None,
    ) -> None:
        self.settings: StoreState = store._state
        self.store = store
        self.counting = Counting.of(_guarantees(guarantees, self.settings))
        self.ttl_s = seconds("ttl_s", ttl_s) if ttl_s is not None else None
        self.lease_s = seconds("lease_s", lease_s)
        space = text_setting("namespace", self.settings.audience if namespace is None else namespace)
        if not space or any(c in "{}" for c in space):
            raise ConfigError(f"a namespace is text without braces, not {space!r}")
        # Quoted: of "shop" and "shop:0:eu", neither may spell a key of the other's.
        self.prefix = f"causal:{quote(space, safe='')}:{self.settings.number}:"
        self.serialize = callable_setting("serialize", serialize)
        self.deserialize = callable_setting("deserialize", deserialize)
        self.on_account = None if on_account is None else callable_setting("on_account", on_account)
        self.local: bool = backend.local
        self.shares = share
        self._bare = share and self.local
        if not self.local and self.settings.max_staleness_s <= self.settings.max_clock_skew_s:
            raise ConfigError(
                "a cache that processes share needs max_staleness_s > max_clock_skew_s: no entry would be used"
            )
        self._counts = Counts()
        self.heard_until = NEVER
        """Until when, by the store's monotonic time, hits are served without asking anybody."""
        self.tombstone_s = self.settings.max_staleness_s + self.settings.max_clock_skew_s
        self._shards: dict[str | tuple[str, ...] | None, Shards] = {}
        self.plain = self.settings.policy.strategy is Strategy.SESSION
        """Whether entries can satisfy the store's own policy."""
        _caches.add(self)

    def _forked(self) -> None:
        self._counts.forked()
        self.heard_until = NEVER

    @property
    def counts(self) -> dict[str, int]:
        """How many lookups and writes ended in which way, by outcome."""
        return self._counts.as_dict()

    def tell(self, account: Account) -> None:
        """Count an account, and tell whoever listens."""
        self._counts.add(account)
        if self.on_account is not None:
            try:
                self.on_account(account)
            except Exception as error:  # noqa: BLE001 - whoever listens must not make a lookup fail
                log.warning("on_account raised %s", type(error).__name__)

    # --- lookups -------------------------------------------------------------------------------------------------------

    def shards(self, shard: str | Iterable[str] | None) -> Shards:
        """Return the shards that a key is read from, the same object each time. Raises: ConfigError for an unknown one, or one twice."""
        name = shard if shard is None or isinstance(shard, str) else tuple(shard)
        known = self._shards.get(name)
        if known is None:
            ids = tuple(map(self.settings.shard, name if isinstance(name, tuple) else (name,)))
            if not ids or len(set(ids)) < len(ids):
                raise ConfigError(f"a key is read from one or several different shards, not {shard!r}")
            names = {i: n for n, i in self.settings.shards.items()}
            self._shards[name] = known = Shards(tuple([(i, names[i]) for i in ids]), frozenset(ids))
        return known

    def encoded(self, value: Any) -> tuple[bytes | None, Any]:
        """Return a value's bytes (None if it has none) and what a hit would hand out."""
        if self._bare:
            return b"", value
        try:
            data = self.serialize(value)
            if not isinstance(data, bytes):
                raise TypeError(f"serialize returns bytes, not a {type(data).__name__}")
            return data, self.deserialize(data)
        except Exception as error:  # noqa: BLE001 - an encoder of the user's: the page is answered all the same
            log.warning("a cached value cannot be encoded, so every lookup loads it: %s", type(error).__name__)
            return None, value

    # --- news ----------------------------------------------------------------------------------------------------------

    def heard(self, *, grace_s: float = 0.0) -> bool:
        """Return whether an endpoint was asked lately: who has asked nobody cannot know that a history has ended."""
        settings = self.settings
        now = settings.monotonic()
        if now > self.heard_until:
            answers = [e.asked_at for e in settings.view.endpoints if e.down is None]
            self.heard_until = max(answers, default=NEVER) + HEARD_S
        return now <= self.heard_until + grace_s

    def to_ask(self) -> list[str]:
        """Return whom to ask for news, the nearest first; nobody who has failed a moment ago."""
        settings = self.settings
        now = settings.monotonic()
        return [e.name for e in settings.view.endpoints if e.down is None or e.tried_at < now - HEARD_S]

    # --- ages ----------------------------------------------------------------------------------------------------------

    def good_until(self, fresh_at: float, ttl_s: float | None) -> tuple[int, float]:
        """Return how long something is good that holds all that was acknowledged at a local time: Unix milliseconds, and local seconds."""
        settings = self.settings
        wall, now = settings.wall(), settings.monotonic()  # a pause between the two only makes it older
        until = fresh_at + settings.max_staleness_s
        good = wall + until - now
        if ttl_s is not None:
            until, good = min(until, now + ttl_s), min(good, wall + ttl_s + settings.max_clock_skew_s)
        return int(good * 1000), until

    def is_old(self, entry: Entry) -> bool:
        """Return whether an entry is not shown any more to be less stale than the store allows, or has outlived its time to live."""
        if entry.fresh_until is not None:
            return self.settings.monotonic() > entry.fresh_until
        return (self.settings.wall() + self.settings.max_clock_skew_s) * 1000 > entry.good_until_ms

    def life_s(self, entry: Entry) -> float:
        """Return how long a backend need hold an entry that was made here."""
        return self.tombstone_s if entry.fresh_until is None else entry.fresh_until - self.settings.monotonic()

    def tombstone(self) -> Entry:
        """Return how long a tombstone counts that is made now: until every older read would be too old to be stored.

        What misses a write was last shown to be fresh before it.
        """
        settings = self.settings
        until = settings.wall() + self.tombstone_s
        return Entry({}, int(until * 1000), NOTHING, None, settings.monotonic() + self.tombstone_s)


def _guarantees(given: Guarantee | None, settings: StoreState) -> Guarantee:
    if given is None:
        return settings.guarantees
    if not isinstance(given, Guarantee):
        raise ConfigError(f"guarantees is a Guarantee, not a {type(given).__name__}")
    return given


def seconds(name: str, value: float) -> float:
    """Return a setting that is a number of seconds. Raises: ConfigError."""
    number: object = value  # of whatever kind
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
        raise ConfigError(f"{name} is a finite number of seconds, at least 0, not {value!r}")
    return value


_caches: Final[WeakSet[CacheBase]] = WeakSet()


def _after_fork() -> None:
    for cache in list(_caches):
        cache._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
