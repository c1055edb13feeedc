"""Caches that know what a session has seen: an entry is served only if it covers that.

`CausalCache` and `AsyncCausalCache` are in front of a store, over an `LRUBackend` in the process, or over a server that processes share
(`causal.caches.valkey`, extra `valkey`).
"""

from causal.caches.account import Account
from causal.caches.async_cache import AsyncCached, AsyncCausalCache
from causal.caches.cache import Cached, CausalCache
from causal.caches.lru import LRUBackend

__all__ = ["Account", "AsyncCached", "AsyncCausalCache", "Cached", "CausalCache", "LRUBackend"]
