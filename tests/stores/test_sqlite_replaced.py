"""A directory or a file that is replaced under a running process: what was acknowledged in the new one is not hidden by the old one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from causal.core.frontier import Frontier
from causal.core.keyring import Keyring
from causal.core.policy import ReadPolicy
from causal.errors import NoEndpoint, StoreError
from causal.store import CausalStore
from causal.stores.sqlite import link
from tests.stores.sqlite_world import World, world

__all__ = ["world"]

OTHER = """
import sys
from causal.core.frontier import Frontier
from causal.stores.sqlite import SQLiteEngine
link = SQLiteEngine(sys.argv[1], site="eu", replicate="manual").open()
handle = link.write("eu", 0, Frontier())
handle.connection.put("k", "new")
handle.commit(Frontier())
link.close()
"""


def by_another_process(path: Path) -> None:
    """Remove a directory, and have another process make it anew and acknowledge a write there."""
    shutil.rmtree(path)
    subprocess.run([sys.executable, "-c", OTHER, str(path)], check=True)


@pytest.fixture
def pass_s(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The link's own clock."""
    now = [1000.0]
    monkeypatch.setattr(link, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


def test_a_read_notices_within_50_ms(world: World, pass_s: Callable[[float], None]) -> None:
    world.open("eu")
    world.put("eu", "k", "old")
    assert world.get("eu", "k") == "old"
    by_another_process(world.path)
    pass_s(0.049)
    assert world.get("eu", "k") == "old", "the window: reads that nobody else is asked for"
    pass_s(0.001)
    for _ in range(2):
        with pytest.raises(StoreError, match="replaced while it was open: close every process"):
            world.get("eu", "k")
    world.close()
    world.open("eu")
    assert world.get("eu", "k") == "new"


def test_the_window_does_not_move_with_reads_and_writes(world: World, pass_s: Callable[[float], None]) -> None:
    world.open("eu", shards=("main", "other"))
    world.get("eu", "k")
    pass_s(0.04)
    by_another_process(world.path)
    world.get("eu", "k")
    with pytest.raises(StoreError, match=r"replaced|gone"):
        world.put("eu", "k", 1)
    with pytest.raises(StoreError, match=r"replaced|gone"):
        world.get("eu", "k", shard=1)
    pass_s(0.011)
    with pytest.raises(StoreError, match="replaced"):
        world.get("eu", "k")


@pytest.mark.usefixtures("pass_s")  # it stands still: all of this is noticed at once
def test_whatever_proves_something_notices_at_once(world: World) -> None:
    world.open("eu", "us", shards=("main", "other"))
    world.put("eu", "k", "old")
    assert world.get("eu", "k") == "old"
    eu, us = world.links["eu"], world.links["us"]
    us.read("eu", (0,)).close()
    reading = eu.read("eu", (0,))
    by_another_process(world.path)
    uses: dict[str, Callable[[], object]] = {
        "a connection of its own": lambda: eu.read("eu", (0,)),
        "probe": lambda: eu.probe("eu", 1.0),
        "probe from elsewhere": lambda: us.probe("eu", 1.0),
        "position": lambda: eu.position(None),
        "several shards": lambda: eu.read("eu", (0, 1)),
        "read from elsewhere": lambda: us.read("eu", (0,)),
        "write": lambda: eu.write("eu", 0, Frontier()),
        "replication": eu.step,
    }
    for name, use in uses.items():
        with pytest.raises(StoreError, match=r"replaced|gone"):
            raise AssertionError(f"{name} shows {use()}")
    assert reading.connection.get("k") == "old", "a block goes on in its snapshot"
    reading.close()


@pytest.mark.usefixtures("pass_s")
def test_a_site_file_alone_that_is_replaced_proves_nothing(world: World) -> None:
    world.open("eu", "us")
    world.put("eu", "k", "old")
    path = world.path / "eu.sqlite"
    shutil.copy(path, world.path / "copy")
    (world.path / "copy").rename(path)
    for use in (lambda: world.watermark("eu"), lambda: world.watermark("us", at="eu")):
        with pytest.raises(StoreError, match=r"eu\.sqlite was replaced"):
            use()
    assert world.links["us"].directory.peers("us") == []


def replaced(path: Path) -> None:
    copy = path.with_name("replacement")
    shutil.copy(path, copy)
    copy.rename(path)


def test_each_shards_file_is_looked_at(world: World, pass_s: Callable[[float], None]) -> None:
    world.open("eu", shards=("main", "other"))
    for shard in (0, 1):
        world.get("eu", "k", shard=shard)
    replaced(world.path / "eu.other.sqlite")
    pass_s(0.05)
    world.get("eu", "k", shard=0)
    with pytest.raises(StoreError, match=r"eu\.other\.sqlite was replaced"):
        world.get("eu", "k", shard=1)


@pytest.mark.usefixtures("pass_s")
def test_a_refused_write_vouches_for_no_file(world: World) -> None:
    world.open("eu", shards=("main", "other"))
    world.get("eu", "k", shard=0)
    replaced(world.path / "eu.other.sqlite")
    for use in (lambda: world.put("eu", "k", 1, shard=1), lambda: world.get("eu", "k", shard=1)):
        with pytest.raises(StoreError, match=r"eu\.other\.sqlite was replaced"):
            use()


def test_a_registry_that_was_replaced_vouches_for_no_list_of_sites(world: World) -> None:
    world.open("eu")
    replaced(world.path / "cluster.sqlite")
    link = world.links["eu"]
    link.refresh()
    for use in (link.step, lambda: link.endpoints, lambda: link.probe("eu", 1.0)):
        with pytest.raises(StoreError, match=r"cluster\.sqlite was replaced"):
            use()
    (world.path / "cluster.sqlite").unlink()
    with pytest.raises(StoreError, match=r"cluster\.sqlite is gone"):
        link.step()


def test_a_neighbours_file_that_was_replaced_in_good_order_is_opened_anew(world: World) -> None:
    """Its site was closed, the file was restored; only this process still has the old one open, to replicate from."""
    world.open("eu", "us")
    world.put("us", "k", 1)
    world.close()
    world.open("eu")
    world.step("eu")
    path = world.path / "us.sqlite"
    shutil.copy(path, world.path / "copy")
    (world.path / "copy").rename(path)
    assert world.links["eu"].directory.peers("eu") == []
    assert world.links["eu"].directory.peers("eu") == ["us"]


def test_a_store_refuses_what_a_replaced_directory_would_show(world: World, pass_s: Callable[[float], None]) -> None:
    store = CausalStore(world.engine("eu"), keyring=Keyring.generate(), audience="shop")
    with store:
        alice = store.session(subject="alice")
        with alice.write() as tx:
            tx.put("k", "old")
        by_another_process(world.path)
        fresh = store.session(subject="bob")
        with pytest.raises(NoEndpoint, match="replaced"):
            fresh.read(policy=ReadPolicy.leader()).__enter__()
        pass_s(0.06)
        with pytest.raises((NoEndpoint, StoreError), match="replaced"):
            alice.read().__enter__()
    with store, store.session(subject="bob").read() as db:
        assert db.get("k") == "new"
