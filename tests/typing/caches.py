"""What a user's type checker sees of caches: never run, only checked (mypy strict and pyright strict)."""

from typing import assert_type

from causal import AsyncCausalStore, CausalStore, Position
from causal.caches import Account, AsyncCausalCache, CausalCache, LRUBackend
from causal.caches.valkey import AsyncValkeyBackend, ValkeyBackend
from causal.stores.sqlite import Reader, Writer


def a_cache_returns_what_its_loader_does(store: CausalStore[Reader, Writer]) -> None:
    cache = CausalCache(store, LRUBackend(100), ttl_s=5, share=True)
    session = store.session(subject="alice")

    def load(db: Reader) -> list[int]:
        return [len(list(db.scan()))]

    assert_type(cache.get(session, "count", load), list[int])
    value, account = cache.lookup(session, "count", load, shard="orders")
    assert_type(value, list[int])
    assert_type(account, Account)

    @cache.cached("count:{prefix}")
    def count(db: Reader, prefix: str) -> int:
        return len(list(db.scan(prefix)))

    assert_type(count(session, "a"), int)
    assert_type(count.key("a"), str)
    with (block := cache.write(session, "count", count.key("a"))) as tx:
        assert_type(tx, Writer)
        block.set("count", [1])
    assert_type(block.accounts, tuple[Account, ...])
    assert_type(cache.invalidate(Position(0, 1, 1), "count"), tuple[Account, ...])
    assert_type(cache.counts, dict[str, int])


def a_server_is_one_of_two_kinds(store: CausalStore[Reader, Writer], twin: AsyncCausalStore[Reader, Writer]) -> None:
    CausalCache(store, ValkeyBackend.from_url("unix:///tmp/valkey.sock"))
    AsyncCausalCache(twin, AsyncValkeyBackend.from_url("unix:///tmp/valkey.sock"))
    AsyncCausalCache(twin, LRUBackend())


async def the_asynchronous_cache_is_awaited(store: AsyncCausalStore[Reader, Writer]) -> None:
    cache = AsyncCausalCache(store, LRUBackend())
    session = store.session(subject="alice")

    async def load(db: Reader) -> int:
        return len(list(db.scan()))

    assert_type(await cache.get(session, "count", load), int)
    async with cache.write(session, "count") as tx:
        assert_type(tx, Writer)
