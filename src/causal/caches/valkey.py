"""Entries on a server that processes share: Valkey, or Redis, through whatever client speaks like valkey-py.

Owns the round trips: a hit is a plain GET; a fill, an invalidation and a removal are one script each. Judges nothing: what comes back
is bytes of unknown age from a server of unknown honesty, and `entry.py` and `lookup.py` make of it what may be made.

A server that is down, slow, full, evicting, or that has failed over to a replica which lags behind, costs time. After a failure it is
left alone for `retry_s`, but for one caller at a time.

HAZARD: while it cannot be asked, invalidations are lost. Whoever demands a write is not served anything older all the same; who demands
nothing may be served what was true less than `max_staleness_s` ago, as at any replica.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakSet

from causal.caches.base import NOTHING, seconds
from causal.caches.breaker import Breaker
from causal.caches.entry import SUM, Entry, decode, encode, pack_pairs
from causal.caches.scripts import DISCARD, FILL, INVALIDATE, LEASE, Script
from causal.errors import ConfigError, TokenError
from causal.session import log

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 0.25
"""How long an answer is waited for, by clients that are made here."""
RETRY_S: Final = 1.0
REMEMBERED_BYTES: Final = 2**23
"""How many bytes of decoded entries are remembered, to know them again when they come: no more than a shortcut for decoding."""
_GONE: Final = object()


class _Server:
    """What both clients share: names, replies, failures. Thread-safety: safe from any thread."""

    local: bool = False

    def __init__(self, client: Any, *, retry_s: float = RETRY_S) -> None:
        check_client(client)
        self._client = client
        self._breaker = Breaker(seconds("retry_s", retry_s), time.monotonic)
        self._counter: Counter[str] = Counter()
        self._me = secrets.token_bytes(12)
        self._decoded: dict[str, Entry] = {}
        self._remembered = 0
        _all.add(self)

    def _forked(self) -> None:
        self._breaker.forked()
        self._me = secrets.token_bytes(12)  # the parent's leases are not ours to give back

    @property
    def down(self) -> bool:
        """Whether the last that was heard is a failure: it is asked again once `retry_s` is over."""
        return self._breaker.open

    @property
    def counts(self) -> dict[str, int]:
        """How often it failed to answer, answered with an error, had no room, or held what is no entry."""
        return dict(self._counter)

    def _count(self, what: str) -> None:
        with self._breaker.lock:
            self._counter[what] += 1

    # --- what is sent, and what comes back -----------------------------------------------------------------------------

    def _fill(self, key: str, entry: Entry, life_s: float) -> list[Any] | None:
        name, life_ms = _name(key), int(life_s * 1000)
        if life_ms < 1:
            return None
        try:
            data = encode(name, entry)
        except TokenError:
            return None  # more origins, or positions seen, than can be written down
        return [2, name, _lease(key), data, life_ms, self._me]

    @staticmethod
    def _invalidation(key: str, positions: Mapping[int, int], tombstone: Entry, life_s: float) -> list[Any]:
        life_ms = max(1, int(life_s * 1000))
        return [1, _name(key), pack_pairs(positions), tombstone.good_until_ms.to_bytes(8, "big"), life_ms]

    def _leasing(self, key: str, for_s: float, saw: Entry | None) -> list[Any]:
        seen = b"" if saw is None or saw.raw is None else saw.raw[-SUM:]
        return [2, _name(key), _lease(key), self._me, max(1, int(for_s * 1000)), seen]

    def _held(self, key: str, reply: Any) -> Entry | None:
        """Return the entry in a reply; anything else that is there is counted."""
        if reply is None or reply is _GONE:
            return None
        last = self._decoded.get(key)
        if last is not None and last.raw == reply:
            return last  # with what was judged of it: the same bytes under the same key
        entry = decode(_name(key), reply, NOTHING) if isinstance(reply, bytes) else None
        if entry is None:
            self._count("garbage")
            return None
        self._remembered += len(reply) + 500  # and what an entry takes beside its bytes
        if self._remembered > REMEMBERED_BYTES:
            self._decoded, self._remembered = {}, 0
        self._decoded[key] = entry
        return entry

    def _whether(self, reply: Any) -> bool | None:
        """Return what a script did; None if it could not be asked, or had no room."""
        if isinstance(reply, int) and reply < 0:
            self._count("full")
        return reply == 1 if type(reply) is int and reply >= 0 else None

    def _failure(self, error: Exception) -> Any:
        """Note that something went wrong. A server that answers, if only with an error, is not down."""
        if any(kind.__name__ == "ResponseError" for kind in type(error).__mro__):
            self._breaker.worked()
            self._count("errors")
        else:
            self._breaker.failed()
            self._count("failures")
        log.info("the cache server failed: %s", type(error).__name__)
        return _GONE


class ValkeyBackend(_Server):
    """Entries on a Valkey or Redis server. `client` is a client of valkey-py or redis-py, with a `socket_timeout`.

    No method raises what the server, or the way there, does. A client that retries waits several times its timeout: give it none.
    Units: seconds. Raises: ConfigError for a client that may wait for ever, or decodes what it reads. Thread-safety: as the client.
    """

    @classmethod
    def from_url(cls, url: str, *, timeout_s: float = TIMEOUT_S, retry_s: float = RETRY_S, **options: Any) -> Self:
        """Return a backend with a client of its own, as valkey-py's `from_url` makes it. Needs the extra `valkey`."""
        import valkey

        return cls(valkey.Valkey.from_url(url, **_patience(timeout_s), **options), retry_s=retry_s)

    def close(self) -> None:
        """Close the client's connections. A later use opens them again."""
        self._client.close()

    def get(self, key: str) -> Entry | None:
        """Return what is held under a key: one GET."""
        if self._breaker.open and not self._breaker.allows():
            return None
        try:
            reply = self._client.get(b"{%b}" % key.encode())
        except Exception as error:  # noqa: BLE001 - whatever a client, a network or a server may come up with
            self._failure(error)
            return None
        if self._breaker.open:
            self._breaker.worked()
        last = self._decoded.get(key)
        if last is not None and last.raw == reply:
            return last  # the hot path: with what was judged of it
        entry = self._held(key, reply)
        if entry is None and isinstance(reply, bytes):
            self._run(DISCARD, [1, _name(key), reply])
        return entry

    def put(self, key: str, entry: Entry, life_s: float) -> bool | None:
        """Hold an entry, unless what is held under its key knows more; return whether it is held now; None if nobody knows."""
        args = self._fill(key, entry, life_s)
        if args is None:
            self.release(key)
            return None
        return self._whether(self._run(FILL, args))

    def invalidate(self, key: str, positions: Mapping[int, int], tombstone: Entry, life_s: float) -> bool | None:
        """Leave a tombstone, unless what is held knows of these positions; return whether one was left; None if nobody knows."""
        return self._whether(self._run(INVALIDATE, self._invalidation(key, positions, tombstone, life_s)))

    def discard(self, key: str, entry: Entry) -> None:
        """Remove exactly this entry, if it is still there."""
        if entry.raw is not None:
            self._run(DISCARD, [1, _name(key), entry.raw])

    def delete(self, key: str) -> bool:
        """Remove whatever is held under a key; return whether that was done."""
        return self._do(self._client.delete, _name(key)) is not _GONE

    def lease(self, key: str, for_s: float, saw: Entry | None) -> Entry | bool:
        """Ask to be the one loader of a key; return what is there, if that is not what the caller saw."""
        reply = self._run(LEASE, self._leasing(key, for_s, saw))
        if isinstance(reply, bytes):
            return self._held(key, reply) or True
        return bool(reply != 0)  # nobody is waited for who cannot be asked

    def watch(self, key: str) -> tuple[Entry | None, bool]:
        """Return what is held under a key, and whether somebody is its loader now."""
        reply = self._do(self._client.mget, [_name(key), _lease(key)])
        if not isinstance(reply, list):
            return None, False
        return self._held(key, reply[0]), reply[1] is not None

    def release(self, key: str) -> None:
        """Give back this process's lease of a key."""
        self._run(DISCARD, [1, _lease(key), self._me])

    def _run(self, script: Script, args: list[Any]) -> Any:
        return self._do(self._evaluate, script, args)

    def _evaluate(self, script: Script, args: list[Any]) -> Any:
        try:
            return self._client.evalsha(script.sha, *args)
        except Exception as error:
            if not is_unknown_script(error):
                raise
            return self._client.eval(script.text, *args)

    def _do(self, call: Any, *args: Any) -> Any:
        """Ask, unless that failed lately; return the reply, or _GONE."""
        if not self._breaker.allows():
            return _GONE
        try:
            reply = call(*args)
        except Exception as error:  # noqa: BLE001 - whatever a client, a network or a server may come up with
            return self._failure(error)
        self._breaker.worked()
        return reply


class AsyncValkeyBackend(_Server):
    """The twin of `ValkeyBackend` over an asyncio client: the same methods, awaited. Thread-safety: as the client."""

    @classmethod
    def from_url(cls, url: str, *, timeout_s: float = TIMEOUT_S, retry_s: float = RETRY_S, **options: Any) -> Self:
        """Return a backend with a client of its own. Needs the extra `valkey`."""
        import valkey.asyncio

        return cls(valkey.asyncio.Valkey.from_url(url, **_patience(timeout_s), **options), retry_s=retry_s)

    async def close(self) -> None:
        """Close the client's connections. A later use opens them again."""
        await self._client.aclose()

    async def get(self, key: str) -> Entry | None:
        """Return what is held under a key: one GET."""
        reply = await self._do(self._client.get, _name(key))
        entry = self._held(key, reply)
        if entry is None and isinstance(reply, bytes):
            await self._run(DISCARD, [1, _name(key), reply])
        return entry

    async def put(self, key: str, entry: Entry, life_s: float) -> bool | None:
        """Hold an entry: as `ValkeyBackend.put`."""
        args = self._fill(key, entry, life_s)
        if args is None:
            await self.release(key)
            return None
        return self._whether(await self._run(FILL, args))

    async def invalidate(self, key: str, positions: Mapping[int, int], tombstone: Entry, life_s: float) -> bool | None:
        """Leave a tombstone: as `ValkeyBackend.invalidate`."""
        return self._whether(await self._run(INVALIDATE, self._invalidation(key, positions, tombstone, life_s)))

    async def discard(self, key: str, entry: Entry) -> None:
        """Remove exactly this entry, if it is still there."""
        if entry.raw is not None:
            await self._run(DISCARD, [1, _name(key), entry.raw])

    async def delete(self, key: str) -> bool:
        """Remove whatever is held under a key; return whether that was done."""
        return await self._do(self._client.delete, _name(key)) is not _GONE

    async def lease(self, key: str, for_s: float, saw: Entry | None) -> Entry | bool:
        """Ask to be the one loader of a key: as `ValkeyBackend.lease`."""
        reply = await self._run(LEASE, self._leasing(key, for_s, saw))
        if isinstance(reply, bytes):
            return self._held(key, reply) or True
        return bool(reply != 0)

    async def watch(self, key: str) -> tuple[Entry | None, bool]:
        """Return what is held under a key, and whether somebody is its loader now."""
        reply = await self._do(self._client.mget, [_name(key), _lease(key)])
        if not isinstance(reply, list):
            return None, False
        return self._held(key, reply[0]), reply[1] is not None

    async def release(self, key: str) -> None:
        """Give back this process's lease of a key."""
        await self._run(DISCARD, [1, _lease(key), self._me])

    async def _run(self, script: Script, args: list[Any]) -> Any:
        return await self._do(self._evaluate, script, args)

    async def _evaluate(self, script: Script, args: list[Any]) -> Any:
        try:
            return await self._client.evalsha(script.sha, *args)
        except Exception as error:
            if not is_unknown_script(error):
                raise
            return await self._client.eval(script.text, *args)

    async def _do(self, call: Any, *args: Any) -> Any:
        if not self._breaker.allows():
            return _GONE
        try:
            reply = await call(*args)
        except Exception as error:  # noqa: BLE001 - as ValkeyBackend
            return self._failure(error)
        self._breaker.worked()
        return reply


def _name(key: str) -> bytes:
    # In braces: a cluster puts a key and its lease into one slot, by what is between them.
    return b"{%b}" % key.encode()


def _lease(key: str) -> bytes:
    return b"{%b}:lease" % key.encode()


def _patience(timeout_s: float) -> dict[str, Any]:
    from valkey.backoff import NoBackoff
    from valkey.retry import Retry

    timeout_s = seconds("timeout_s", timeout_s)
    return {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": Retry(NoBackoff(), 0)}


def is_unknown_script(error: Exception) -> bool:
    """Return whether a server says that it has forgotten a script, or never heard of it."""
    return type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")


def check_client(client: Any) -> None:
    """Refuse a client that could wait for ever, or that decodes bytes, as far as it says so. Raises: ConfigError."""
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", None)
    if not isinstance(options, dict):
        return
    if not options.get("socket_timeout"):
        raise ConfigError("a client without socket_timeout waits for ever for a server that stalls: give it one")
    if options.get("decode_responses"):
        raise ConfigError("entries are bytes: the client must not have decode_responses=True")


_all: Final[WeakSet[_Server]] = WeakSet()


def _after_fork() -> None:
    for backend in list(_all):
        backend._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
