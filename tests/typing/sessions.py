"""What a user's type checker sees of stores and sessions: never run, only checked (mypy strict and pyright strict)."""

from typing import assert_type

from causal import AsyncCausalStore, CausalStore, CommitUnknown, Keyring, ReadPolicy, Receipt, WriteLost
from causal.engine import Engine
from causal.stores.memory import MemoryEngine, MemoryReader, MemoryWriter
from causal.stores.sqlite import Reader, SQLiteEngine, Writer


class Rows:
    """Someone's own connection type, for reading."""


class Cursor(Rows):
    """Someone's own connection type, for writing."""


def a_block_is_the_engines_own_type(engine: Engine[Rows, Cursor], keys: Keyring) -> None:
    store = CausalStore(engine, keyring=keys, audience="shop")
    assert_type(store, CausalStore[Rows, Cursor])
    session = store.session("text", None, subject="alice")
    with session.write(shard="orders") as tx:
        assert_type(tx, Cursor)
    with (block := session.read(policy=ReadPolicy(wait_s=0.1))) as rows:
        assert_type(rows, Rows)
    assert_type(block.receipt, Receipt)
    assert_type(session.token(), str | None)
    with (write := session.write(touching=("page:alice",))) as tx:
        assert_type(tx, Cursor)
        write.touch("page:bob", "page:carol")
    assert_type(write.touching, frozenset[str] | None)
    assert_type(session.touches(0, "page:alice"), bool)


def another_stores_block_is_the_other_engines_type(keys: Keyring) -> None:
    memory = CausalStore(MemoryEngine(["eu", "us"]), keyring=keys, audience="shop")
    sqlite = CausalStore(SQLiteEngine("data", site="eu"), keyring=keys, audience="shop", number=1)
    session = memory.session(subject="alice")
    with session.read() as mine, session.read(sqlite) as theirs:
        assert_type(mine, MemoryReader)
        assert_type(theirs, Reader)
    with session.write() as mine_tx:
        assert_type(mine_tx, MemoryWriter)
    with session.write(sqlite, touching=()) as their_tx:
        assert_type(their_tx, Writer)


def a_function_in_a_read_keeps_its_type(store: CausalStore[Rows, Cursor]) -> None:
    def count(rows: Rows, least: int) -> int:
        return max(least, hash(rows))

    assert_type(store.session(subject="alice").run_read(count, least=3), int)
    assert_type(store.session(subject="alice").read(shard="orders").run(count, 3), int)


async def so_does_an_awaited_one(store: AsyncCausalStore[Rows, Cursor]) -> None:
    async def count(rows: Rows, least: int) -> int:
        return max(least, hash(rows))

    assert_type(await store.session(subject="alice").run_read(count, least=3), int)
    assert_type(await store.session(subject="alice").read(shard="orders").run(count, 3), int)


def what_was_lost_can_be_forgotten(store: CausalStore[Rows, Cursor], lost: WriteLost, doubt: CommitUnknown) -> None:
    session = store.session(subject="alice")
    session.forget(lost.lost)
    session.forget(doubt.lost)


async def asynchronous_blocks_are_the_same_types(engine: Engine[Rows, Cursor], keys: Keyring) -> None:
    async with AsyncCausalStore(engine, keyring=keys, audience="shop") as store:
        session = store.session(subject="alice")
        async with session.write() as tx:
            assert_type(tx, Cursor)
        async with session.read() as rows:
            assert_type(rows, Rows)
