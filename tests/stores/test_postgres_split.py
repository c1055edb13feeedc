"""Two standbys promoted at once: each goes on under the same timeline number, and nothing that either says of itself tells them apart.

What a session was acknowledged or shown in one branch is never served as there by the other, to a store of one branch or of both; and when
the operator ends one branch, its sessions are told, never served what lacks it.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from causal.errors import CommitUnknown, GateTimeout, NoEndpoint, WriteLost
from causal.lab.postgres import PostgresCluster
from tests.stores.postgres_world import READ, fill, here, opened, prepared, put, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from causal import CausalStore
    from causal.lab.postgres import Server

    Store = CausalStore[Any, Any]

SAID = (WriteLost, NoEndpoint, GateTimeout, CommitUnknown)
"""What a session may be told in place of what it asks for."""


@attrs.define
class Split:
    """A cluster of two branches, and the stores that know one or both."""

    cluster: PostgresCluster
    one: Store
    two: Store
    both: Store

    @property
    def stores(self) -> tuple[Store, ...]:
        return (self.one, self.two, self.both)


@pytest.fixture
def split() -> Iterator[Split]:
    with contextlib.ExitStack() as stack:
        cluster = prepared(stack.enter_context(PostgresCluster(3)))
        one, two, third = cluster.replicas
        cluster.primary.query("INSERT INTO t VALUES (0)")
        cluster.wait_caught_up()
        cluster.primary.stop()
        one.promote()
        two.promote()
        third.follow(two)
        branches = [
            stack.enter_context(opened(cluster, *others, primary=primary, poll_s=0.01))
            for primary, others in (
                ("replica-1", ("primary",)),
                ("replica-2", ("replica-3",)),
                ("replica-1", ("replica-2", "replica-3", "primary")),
            )
        ]
        yield Split(cluster, *branches)


def shown(session: Any, **options: Any) -> set[int]:
    """Read all rows that a test's sessions have written."""
    with session.read(**options) as connection:
        return {row for (row,) in connection.execute("SELECT id FROM t WHERE id < 1000000")}


@attrs.define
class Client:
    """What a client carries, and what it was acknowledged or shown."""

    token: str | None = None
    own: set[int] = attrs.field(factory=set)
    seen: set[int] = attrs.field(factory=set)

    def write(self, store: Store, row: int) -> str:
        session = store.session(self.token)
        try:
            put(session, row)
        except SAID as error:
            return f"write {type(error).__name__}"
        self.own.add(row)
        self.token = session.token()
        return "write"

    def read(self, store: Store, **options: Any) -> str:
        """Read, and find everything there that was acknowledged or shown before, in whatever branch that was, or be told something."""
        session = store.session(self.token)
        try:
            found = shown(session, **options)
        except SAID as error:
            return f"read {type(error).__name__}"
        assert self.own <= found, f"not there, of what was acknowledged: {sorted(self.own - found)}"
        assert self.seen <= found, f"not there, of what was shown: {sorted(self.seen - found)}"
        self.seen |= found
        self.token = session.token()
        return "read"


def test_no_branch_says_that_the_others_writes_are_there(split: Split) -> None:
    rng, counts = random.Random(4), Counter[str]()
    cluster = split.cluster
    clients = [Client() for _ in range(8)]
    for row in range(1, 241):
        client, store = rng.choice(clients), rng.choice(split.stores)
        if rng.random() < 0.5:
            counts[client.write(store, row)] += 1
        else:
            counts[client.read(store, policy=rng.choice([None, READ]))] += 1
        if row % 40 == 0:  # each branch's numbers pass the other's
            fill(cluster.servers[f"replica-{1 + row // 40 % 2}"], 200, 1_000_000 + row * 1000)
        if row % 30 == 0:  # who cannot be served any more begins anew
            clients[rng.randrange(8)] = Client()
    assert counts["read"] > 20, counts
    assert counts["write"] > 20, counts
    assert counts["read NoEndpoint"] + counts["read GateTimeout"] > 6, counts  # or no session ever met the other branch


def test_a_session_with_writes_in_both_branches_is_served_by_nobody(split: Split) -> None:
    first, second = split.one.session(), split.two.session()
    put(first, 1)
    put(second, 2)
    for store in split.stores:
        session = store.session(first.token(), second.token())
        for policy in (None, READ):
            with pytest.raises(SAID):
                shown(session, policy=policy)
        with pytest.raises(SAID):
            put(session, 3)
    assert not any(here(server, 3) for server in split.cluster.replicas)


def test_a_store_that_knows_both_goes_over_to_the_other_branch_and_serves_nobody_short(split: Split) -> None:
    """Whoever it takes for the leader fails, and the other takes its place."""
    cluster, both = split.cluster, split.both
    client, other = Client(), Client()
    assert client.write(both, 1) == "write"
    leader = next(server for server in cluster.replicas[:2] if here(server, 1))
    rest = next(server for server in cluster.replicas[:2] if server is not leader)
    leader.kill()
    until(lambda: other.write(both, 2) == "write", "a write to the branch that is left")
    assert here(rest, 2)
    fill(rest, 300)
    for policy in (None, READ):
        client.read(both, policy=policy)  # by a standby of its own branch, if there is one
    leader.start()
    until(lambda: client.read(both, policy=READ) == "read", "the first branch")
    for _ in range(10):
        for who in (client, other):
            for policy in (None, READ):
                who.read(both, policy=policy)


def cloned(server: Server, of: Server) -> None:
    """Make a server anew from a base backup, as a standby. pg_rewind is of no use: by their timelines, both have the same history."""
    server.stop("immediate")
    shutil.rmtree(server.data)
    command = [server._common.binaries.program("pg_basebackup"), "-D", server.data, "--checkpoint=fast", "--no-sync"]
    server._common.account.run([*command, "-d", of._admin_dsn("postgres")], f"the base backup of {server.name}")
    server.follow_at_start(of)
    server.start()


@pytest.mark.parametrize(
    ("winner", "how"), [("replica-1", "at once"), ("replica-2", "restarted"), ("replica-1", "promoted again")]
)
def test_sessions_of_a_branch_that_was_ended_are_told(split: Split, winner: str, how: str) -> None:
    cluster, third = split.cluster, split.cluster.servers["replica-3"]
    of = {"replica-1": split.one, "replica-2": split.two}
    loser = "replica-2" if winner == "replica-1" else "replica-1"
    kept, gone, saw, early = Client(), Client(), Client(), Client()
    assert early.read(split.both, policy=READ) == "read"
    assert kept.write(of[winner], 1) == "write"
    assert gone.write(of[loser], 2) == "write"
    assert saw.read(of[loser]) == "read"
    assert 2 in saw.seen
    friend = Client(gone.token, {2})  # by a link that demands what was written

    keeper = cluster.servers[winner]
    cluster.servers[loser].stop()  # the fence
    third.stop()
    if how == "restarted":
        keeper.kill()
        keeper.start()
    followers = [third, cluster.servers[loser], cluster.primary]
    for server in followers:
        cloned(server, keeper)
    if how == "promoted again":
        cluster.wait_caught_up()
        keeper.kill()
        third.promote()
        for server in followers[1:]:
            server.follow(third)
        keeper.rewind(third)
        keeper = third
    fill(keeper, 500)
    until(lambda: all(here(server, 1_000_499) for server in cluster.servers.values()), "the rows")
    assert not any(here(server, 2) for server in cluster.servers.values())

    with opened(
        cluster, primary=keeper.name, poll_s=0.01
    ) as late:  # a process that never met the branch that was ended
        assert kept.read(late) == "read"
        assert Client().write(late, 3) == "write"
        assert here(keeper, 3)
        told = Counter[str]()
        for store in (*split.stores, late):
            for policy in (None, READ):
                for name, client in (("gone", gone), ("saw", saw), ("friend", friend)):
                    told[f"{name}: {client.read(store, policy=policy)}"] += 1
                kept.read(store, policy=policy)
            told[f"gone: {gone.write(store, 4)}"] += 1
            with pytest.raises(SAID) as caught:
                shown(store.session(gone.token))
            assert not getattr(
                caught.value, "lost", ()
            )  # nobody can know that it is lost: nothing is offered to be forgotten
        assert kept.read(split.both, policy=READ) == "read"
    assert not {what for what in told if what.endswith((": read", ": write"))}, told
    assert not any(here(server, 4) for server in cluster.servers.values())
