"""The session guarantees against the paper that they are from, sentence by sentence, through `CausalStore` on the memory engine.

Terry, Demers, Petersen, Spreitzer, Theimer, Welch: "Session Guarantees for Weakly Consistent Replicated Data", PDIS 1994. Its words:

* DB(S, t): the writes that server S has at time t. Here: what a site has applied of a shard, in the site's own history.
* WriteOrder(W1, W2): whether W1 comes before W2 on every server. Here: by conflict stamp, then origin.
* RelevantWrites(S, t, R): the fewest writes in DB(S, t) that give R the same answer. Here, R looks up one key.
* WID: the name that a write gets from the server that accepts it. Here: a position.

The four guarantees are judged on a `Record` of what happened, by these definitions alone. It knows no frontier, token or watermark.
Each server here is asked alone: the gate has no second site to go round to, so that what is refused shows.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal import CausalStore, Frontier, GateError, GateTimeout, Guarantee, Keyring, ReadPolicy
from causal.controls import Lag
from causal.core.frontier import Position, pack
from causal.engine import Capabilities
from causal.kv import decode_value
from causal.stores.memory import MemoryCluster, MemoryEngine, MemoryReader
from causal.stores.memory.link import MemoryLink
from causal.stores.memory.site import Entry

KEYS = Keyring.generate()
WAIT_S = 2**-11  # one pause, and a binary fraction: the budget is spent to the last bit
RYW, MR = Guarantee.READ_YOUR_WRITES, Guarantee.MONOTONIC_READS
MW, WFR = Guarantee.MONOTONIC_WRITES, Guarantee.WRITES_FOLLOW_READS
EACH = (RYW, MR, WFR, MW)


def union(guarantees: Iterable[Guarantee]) -> Guarantee:
    return functools.reduce(operator.or_, guarantees, Guarantee.NONE)


SUBSETS = [union(chosen) for n in range(5) for chosen in itertools.combinations(EACH, n)]


class OneServer(MemoryEngine):
    """A process that knows the server at its own site and no other."""

    def open(self, store: int = 0) -> MemoryLink:
        link = super().open(store)
        link.endpoints = tuple(e for e in link.endpoints if e.name == self.site)
        return link


@attrs.frozen
class Paths(Lag):
    """Writes take a second to another server, and some (server, shard, origin) a hundred: an effect can be due before its cause."""

    slow: frozenset[tuple[str, int, int]] = frozenset()

    def delay_s(self, site: str, shard: int, origin: int, offset: int) -> float:
        return 100.0 if (site, shard, origin) in self.slow else 1.0


NEVER = Lag(1e12)  # nothing spreads by itself: servers meet when a test says so


class Operation(NamedTuple):
    """A read or a write of a session at a server, with DB(S, t) of its shard; a read's relevant writes, or a write's own WID."""

    session: str
    kind: str
    server: str
    shard: str
    db: frozenset[Position]
    relevant: frozenset[Position]
    wid: Position | None


class Record:
    """Servers, sessions that move between them, and what happened."""

    def __init__(
        self,
        guarantees: Guarantee = Guarantee.ALL,
        *,
        servers: Iterable[str] = ("1", "2"),
        shards: Iterable[str] = ("main",),
        skew_s: dict[str, float] | None = None,
        dependencies: bool = True,
        lag: Lag = NEVER,
    ) -> None:
        self.now_s = 1024.0
        self.shards = list(shards)
        self.cluster = MemoryCluster(
            list(servers),
            shards=self.shards,
            lag_s=lag,
            skew_s=skew_s,
            monotonic=lambda: self.now_s,
            wall=lambda: int(self.now_s * 1e9),
        )
        self.stores: dict[str, CausalStore[Any, Any]] = {}
        for server in self.cluster.sites:
            engine = OneServer(site=server, cluster=self.cluster)
            engine.capabilities = Capabilities(dependencies=dependencies)
            self.stores[server] = CausalStore(
                engine,
                keyring=KEYS,
                audience="paper",
                guarantees=guarantees,
                policy=ReadPolicy(wait_s=WAIT_S, then="error", unproven="serve"),
                monotonic=lambda: self.now_s,
                wall=lambda: self.now_s,
                sleep=self._sleep,
            )
        self.tokens: dict[str, str | None] = {}
        self.log: list[Operation] = []

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    # --- what sessions do --------------------------------------------------------------------------------------------------

    def session(self, name: str, server: str) -> Any:
        """A session as it arrives at a server: all that it has is its token."""
        return self.stores[server].session(self.tokens.get(name), subject=name)

    def write(self, name: str, server: str, value: object = 0, *, key: str = "k", shard: str = "main") -> Position:
        session = self.session(name, server)
        known = {entry.position for entry in self.entries(server, shard)}
        with session.write(shard=shard) as tx:
            tx.put(key, value)
        self.tokens[name] = session.token()
        (wid,) = {entry.position for entry in self.entries(server, shard)} - known
        self._note(name, "write", server, shard, frozenset(), wid)
        return wid

    def read(self, name: str, server: str, *, key: str = "k", shard: str = "main") -> Any:
        session = self.session(name, server)
        with session.read(shard=shard) as db:
            found = db.get(key)
        self.tokens[name] = session.token()
        relevant = self.relevant(self.entries(server, shard), key)
        self._note(name, "read", server, shard, frozenset(e.position for e in relevant), None)
        return found

    def meet(self, server: str) -> None:
        """Let a server receive what the others have (the paper's anti-entropy)."""
        self.cluster.catch_up(server)

    def wait(self) -> None:
        """Let ten seconds pass."""
        self.now_s += 10
        self.cluster.step()

    def _note(
        self, name: str, kind: str, server: str, shard: str, relevant: frozenset[Position], wid: Position | None
    ) -> None:
        self.log.append(Operation(name, kind, server, shard, self.db(server, shard), relevant, wid))

    # --- the paper's words ---------------------------------------------------------------------------------------------------

    def entries(self, server: str, shard: str) -> list[Entry]:
        index = self.cluster.shards[shard]
        return [entry for entry in self.cluster.site(server).history if entry.position.shard == index]

    def db(self, server: str, shard: str) -> frozenset[Position]:
        """DB(S, now)."""
        return frozenset(entry.position for entry in self.entries(server, shard))

    def write_order(self, one: Position, other: Position) -> bool:
        """WriteOrder(W1, W2)."""
        return self._stamp(one) < self._stamp(other)

    def _stamp(self, wid: Position) -> tuple[int, int]:
        for site in self.cluster.sites.values():
            for entry in site.history:
                if entry.position == wid:
                    return entry.stamp, wid.origin
        raise AssertionError(f"no server has {wid}")

    @staticmethod
    def relevant(entries: list[Entry], key: str) -> list[Entry]:
        """RelevantWrites(S, t, R) of a look-up: the last write of the key in WriteOrder, if there is one."""
        said = [entry for entry in entries if key in entry.changes]
        return [max(said, key=lambda entry: (entry.stamp, entry.position.origin))] if said else []

    @staticmethod
    def answer(entries: Iterable[Entry], key: str) -> Any:
        """What a look-up gives on these writes, carried out in WriteOrder."""
        value = None
        for entry in sorted(entries, key=lambda entry: (entry.stamp, entry.position.origin)):
            if key in entry.changes:
                data = entry.changes[key]
                value = None if data is None else decode_value(data)
        return value

    def pairs(self, first: str, second: str) -> list[tuple[Operation, Operation]]:
        """Operations of two kinds in one session on one shard, the first before the second."""
        return [
            (a, b)
            for a, b in itertools.combinations(self.log, 2)
            if (a.kind, b.kind, a.session, a.shard) == (first, second, b.session, b.shard)
        ]

    def kept(self, wid: Position, after: Position, shard: str) -> bool:
        """Whether every server that has `after` has `wid`, too, and earlier in WriteOrder."""
        having = [db for server in self.cluster.sites if after in (db := self.db(server, shard))]
        return all(wid in db for db in having) and self.write_order(wid, after)


# --- section 3: the guarantees --------------------------------------------------------------------------------------


def read_your_writes(r: Record) -> bool:
    """3.1. If read R follows write W in a session, and R is performed at server S at time t, then W is in DB(S, t)."""
    return all(w.wid in read.db for w, read in r.pairs("write", "read"))


def monotonic_reads(r: Record) -> bool:
    """3.2. If read R1 occurs before R2 in a session, R1 at S1 at t1 and R2 at S2 at t2, then RelevantWrites(S1, t1, R1) is a subset of
    DB(S2, t2)."""
    return all(one.relevant <= two.db for one, two in r.pairs("read", "read"))


def writes_follow_reads(r: Record) -> bool:
    """3.3. If read R1 precedes write W2 in a session, R1 at S1 at t1, then for any server S2: if W2 is in DB(S2), then any W1 in
    RelevantWrites(S1, t1, R1) is in DB(S2), too, and WriteOrder(W1, W2)."""
    return all(
        r.kept(wid, w.wid, w.shard)
        for read, w in r.pairs("read", "write")
        for wid in read.relevant
        if w.wid is not None
    )


def monotonic_writes(r: Record) -> bool:
    """3.4. If write W1 precedes write W2 in a session, then for any server S2: if W2 is in DB(S2), then W1 is in DB(S2), too, and
    WriteOrder(W1, W2)."""
    return all(
        r.kept(one.wid, two.wid, two.shard)
        for one, two in r.pairs("write", "write")
        if one.wid is not None and two.wid is not None
    )


JUDGES: dict[Guarantee, Callable[[Record], bool]] = {
    RYW: read_your_writes,
    MR: monotonic_reads,
    WFR: writes_follow_reads,
    MW: monotonic_writes,
}
Step = tuple[str, str, str]
"""What, who, at which server."""


def broken(r: Record) -> Guarantee:
    """Return the guarantees that do not hold of what happened so far."""
    return union(g for g, judge in JUDGES.items() if not judge(r))


def play(r: Record, steps: Iterable[Step]) -> Record:
    """Carry out what is not refused, and judge after every step: a guarantee speaks of any server at any time."""
    for nth, (what, who, server) in enumerate(steps):
        if what == "meet":
            r.meet(server)
        elif what == "wait":
            r.wait()
        else:
            try:
                if what == "write":
                    r.write(who, server, nth)
                else:
                    r.read(who, server)
            except GateTimeout:
                continue
    return r


def broken_anywhere(guarantees: Guarantee, schedules: Iterable[tuple[Step, ...]]) -> Guarantee:
    """Return the guarantees that some schedule breaks, where these are asked for."""
    found = Guarantee.NONE
    for steps in schedules:
        r = Record(guarantees)
        for nth in range(len(steps)):
            play(r, steps[nth : nth + 1])
            found |= broken(r)
    return found


# All that one session can do at two servers, another's writes, and servers that meet.
CHOICES: list[Step] = [
    *((what, "alice", server) for what in ("write", "read") for server in "12"),
    ("write", "bob", "1"),
    ("meet", "", "1"),
    ("meet", "", "2"),
]


# What breaks in some schedule of three steps, by what is switched off.
SWITCHED_OFF: dict[Guarantee, Guarantee] = {
    Guarantee.NONE: Guarantee.NONE,
    MR: MR,
    WFR: WFR,
    RYW | MR: RYW | MR,
    MW | WFR: MW | WFR,
    Guarantee.ALL: Guarantee.ALL,
    # What was read is kept with what was written: to keep the one is to keep the other.
    RYW: Guarantee.NONE,
    MW: Guarantee.NONE,
}


@pytest.mark.parametrize(("off", "breaks"), SWITCHED_OFF.items(), ids=str)
def test_what_is_switched_off_breaks_and_what_is_switched_on_does_not(off: Guarantee, breaks: Guarantee) -> None:
    """Section 3: an application chooses the guarantees that it wants. Of all schedules of three steps some break those that it goes
    without, and none breaks another.

    A departure: a session that keeps monotonic reads keeps its own writes, too, and one whose writes follow its reads has monotonic
    writes. A read may have shown one of its own writes, and a token does not say which: `seen` leaves out what `own` says already.
    """
    assert broken_anywhere(Guarantee.ALL & ~off, itertools.product(CHOICES, repeat=3)) is breaks


schedules = st.lists(
    st.tuples(
        st.sampled_from(["write", "read", "read", "write", "meet", "wait"]),
        st.sampled_from(["alice", "bob"]),
        st.sampled_from("123"),
    ),
    max_size=16,
)


def paths(servers: str, shards: int) -> st.SearchStrategy[Paths]:
    place = st.tuples(st.sampled_from(servers), st.integers(0, shards - 1), st.integers(1, len(servers)))
    return st.builds(lambda slow: Paths(slow=slow), st.frozensets(place))


@given(st.sampled_from(SUBSETS), schedules, st.sampled_from([0.0, -30.0, 30.0]), paths("123", 1))
def test_in_any_schedule_what_is_switched_on_holds(
    chosen: Guarantee, steps: list[Step], skew_s: float, lag: Paths
) -> None:
    """The same at random: three servers, two sessions that read each other's writes, one clock half a minute off, any choice."""
    r = Record(chosen, servers="123", skew_s={"2": skew_s}, lag=lag)
    for nth in range(len(steps)):
        play(r, steps[nth : nth + 1])
        assert not broken(r) & chosen


# --- the examples ---------------------------------------------------------------------------------------------------


def test_read_your_writes_holds_a_read_back() -> None:
    """3.1: after a write, a read that a server without it would answer is not answered there; once the server has it, it is."""
    r = Record()
    r.write("alice", "1", "password")
    with pytest.raises(GateTimeout):
        r.read("alice", "2")
    r.meet("2")
    assert r.read("alice", "2") == "password"
    r = Record(MW | WFR)
    r.write("alice", "1", "password")
    assert r.read("alice", "2") is None
    assert broken(r) is RYW


def test_monotonic_reads_never_go_back() -> None:
    """3.2: an appointment that was shown does not vanish at the next look."""
    r = Record()
    r.write("bob", "1", "dentist")
    assert r.read("alice", "1") == "dentist"
    with pytest.raises(GateTimeout):
        r.read("alice", "2")
    r = Record(Guarantee.ALL & ~MR)
    r.write("bob", "1", "dentist")
    assert (r.read("alice", "1"), r.read("alice", "2")) == ("dentist", None)
    assert broken(r) is MR


def test_writes_follow_reads_for_everybody() -> None:
    """3.3: a reply is nowhere without the posting that it replies to, for users outside the session, too."""
    r = Record(servers="123", lag=Paths(slow=frozenset({("3", 0, 1)})))
    r.write("bob", "1", "posting")
    r.read("alice", "1")
    with pytest.raises(GateTimeout):
        r.write("alice", "2", "reply")
    r.meet("2")
    r.write("alice", "2", "reply")
    r.wait()  # the reply is due at server 3, and waits for the posting
    assert r.read("carol", "3") is None
    for _ in range(10):
        r.wait()
    assert r.read("carol", "3") == "reply"
    assert broken(r) is Guarantee.NONE
    r = Record(Guarantee.ALL & ~WFR)
    r.write("bob", "1", "posting")
    r.read("alice", "1")
    r.write("alice", "2", "reply")
    assert broken(r) is WFR


def test_monotonic_writes_for_everybody() -> None:
    """3.4: a new version of a library is nowhere before the version that it builds on."""
    r = Record()
    r.write("alice", "1", "version 1")
    with pytest.raises(GateTimeout):
        r.write("alice", "2", "version 2")
    r.meet("2")
    r.write("alice", "2", "version 2")
    r.meet("1")
    assert [r.read("carol", server) for server in "12"] == ["version 2"] * 2
    r = Record(RYW | MR)
    r.write("alice", "1", "version 1")
    r.write("alice", "2", "version 2")
    assert broken(r) is MW


def test_the_order_of_writes_is_kept_whatever_the_clocks_say() -> None:
    """3.3 and 3.4 promise WriteOrder(W1, W2), also where the server of W2 has a clock that is far behind that of W1's."""
    r = Record(skew_s={"1": 3600.0})
    one = r.write("alice", "1", "first")
    r.meet("2")
    r.read("bob", "2")
    two, three = r.write("alice", "2", "second"), r.write("bob", "2", "third")
    assert r.write_order(one, two)
    assert r.write_order(one, three)
    assert broken(r) is Guarantee.NONE


def test_a_guarantee_is_a_sessions_own() -> None:
    """Section 3: guarantees are for a session. Another one, with none of its sets, is served by any server."""
    r = Record()
    r.write("alice", "1", "mine")
    assert r.read("bob", "2") is None
    with pytest.raises(GateTimeout):
        r.read("alice", "2")


# --- section 2: servers ---------------------------------------------------------------------------------------------


@given(schedules)
def test_servers_that_have_the_same_writes_show_the_same(steps: list[Step]) -> None:
    """Section 2: each server carries out its writes in WriteOrder, whatever the order in which they came. So servers with the same
    writes are the same, and when all have met, all are."""
    r = play(Record(Guarantee.NONE, servers="123"), steps)
    for _ in range(2):
        for server in "123":
            entries = r.entries(server, "main")
            assert r.stores[server].session().run_read(lambda db: db.get("k")) == r.answer(entries, "k")
            relevant = r.relevant(entries, "k")
            assert r.answer(relevant, "k") == r.answer(entries, "k")  # complete for the read, as 3.2 defines it
        for server in "123" * 2:
            r.meet(server)
    assert len({r.db(server, "main") for server in "123"}) == 1


@given(schedules)
def test_every_write_has_a_name_of_its_own(steps: list[Step]) -> None:
    """Section 4: a write gets a globally unique WID from the server that first accepts it."""
    r = play(Record(Guarantee.NONE, servers="123"), steps)
    wids = [operation.wid for operation in r.log if operation.kind == "write"]
    assert len(wids) == len(set(wids))


# --- section 4: the sets, and table 1 -------------------------------------------------------------------------------

TABLE: dict[Guarantee, tuple[str, str]] = {
    RYW: ("write", "read"),
    MR: ("read", "read"),
    WFR: ("read", "write"),
    MW: ("write", "write"),
}
"""Guarantee: the operation that updates the session's state, and the operation that checks it."""


@pytest.mark.parametrize("chosen", SUBSETS, ids=str)
def test_the_table_of_what_is_checked(chosen: Guarantee) -> None:
    """Section 4's table: RYW is updated on a write and checked on a read, MR on read and read, WFR on read and write, MW on write and
    write. For each choice of guarantees and each pair: an operation at a server that lacks the first is refused exactly then (RYW also
    where MR is chosen, MW also where WFR is: see above)."""
    chosen_too = chosen | (RYW if MR in chosen else chosen) | (MW if WFR in chosen else chosen)
    for guarantee, (first, second) in TABLE.items():
        r = Record(chosen)
        if first == "read":
            r.write("bob", "1")
        getattr(r, first)("alice", "1")
        if guarantee in chosen_too:
            with pytest.raises(GateTimeout):
                getattr(r, second)("alice", "2")
            r.meet("2")
        getattr(r, second)("alice", "2")


def test_a_write_adds_its_name_to_the_write_set_alone() -> None:
    """Section 4: when a write is accepted, its WID is added to the session's write-set. `own` is that set."""
    r = Record()
    for nth in range(3):
        wid = r.write("alice", "1", nth)
        session = r.session("alice", "1")
        assert Frontier([wid]) == session.own  # one offset stands for all before it in that log
        assert not session.seen


def test_a_read_adds_its_relevant_writes_to_the_read_set_alone() -> None:
    """Section 4: when a read is answered, its relevant writes are added to the session's read-set. `seen` is that set."""
    r = Record()
    wids = [r.write("bob", "1", "a", key="a"), r.write("bob", "1", "b", key="b"), r.write("bob", "1", "c", key="c")]
    r.read("alice", "1", key="b")
    session = r.session("alice", "1")
    assert not session.own
    assert Frontier(wids[1:2]) == session.seen  # not all that the server has: only what the answer rests on
    r.read("alice", "1", key="nothing there")
    assert r.session("alice", "1").seen == session.seen


@pytest.mark.parametrize("chosen", SUBSETS, ids=str)
def test_the_sets_are_kept_whatever_is_chosen(chosen: Guarantee) -> None:
    """A departure: the paper updates only the sets that a chosen guarantee needs. Here the token is kept whole, so that it serves a store
    that chooses otherwise."""
    r = Record(chosen)
    seen, own = r.write("bob", "1"), r.write("alice", "2", key="j")
    r.meet("1")
    r.read("alice", "1")
    session = r.session("alice", "1")
    assert session.own >= Frontier([own])
    assert session.seen >= Frontier([seen])


def test_what_no_server_can_guarantee_is_reported() -> None:
    """Section 4: where no server that can be reached is current enough, the session manager says that it cannot provide the guarantee; the
    operation does not quietly go ahead."""
    r = Record()
    r.write("alice", "1")
    for operation in (r.read, r.write):
        with pytest.raises(GateError) as caught:
            operation("alice", "2")
        assert caught.value.receipt is not None
        assert not caught.value.receipt.held
    assert [operation.kind for operation in r.log] == ["write"]


# --- section 5: version vectors instead of sets ---------------------------------------------------------------------


@given(schedules)
def test_a_vector_answers_as_the_set_that_it_stands_for(steps: list[Step]) -> None:
    """Section 5: a set of WIDs is a version vector, and "is this set in DB(S)" is "does the server's vector dominate it". That is exact for
    what the vector says: each server holds a prefix of each log."""
    r = play(Record(Guarantee.NONE, servers="123"), steps)
    every = frozenset().union(*(r.db(server, "main") for server in "123"))
    for name in ("alice", "bob"):
        session = r.session(name, "1")
        for server in "123":
            applied, db = r.cluster.site(server).applied(), r.db(server, "main")
            for vector in (session.own, session.seen, session.own | session.seen):
                stood_for = {w for w in every if w.offset <= vector.entries.get(pack(w.shard, w.origin), -1)}
                assert (applied >= vector) == (stood_for <= db)
    for operation in r.log:
        session = r.session(operation.session, "1")
        assert session.own | session.seen >= Frontier(operation.relevant)
        if operation.wid is not None:
            assert session.own >= Frontier([operation.wid])


# --- restated across shards -----------------------------------------------------------------------------------------
#
# The paper's servers hold all data. With shards, 3.3 and 3.4 say nothing of a W1 and a W2 on different shards: no server of one holds
# writes of the other. Restated on reads: if a session's read reveals w, no later read of that session misses anything in the causal
# past of w, on any shard.


class Causal(Record):
    """A record that keeps, for each session and write, what they know of: all writes revealed to them, with their causal pasts."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(servers="12", shards=("posts", "replies"), **settings)
        self.known: dict[str, frozenset[Position]] = {}
        self.past: dict[Position, frozenset[Position]] = {}
        self.missed: list[tuple[Operation, Position]] = []

    def _note(
        self, name: str, kind: str, server: str, shard: str, relevant: frozenset[Position], wid: Position | None
    ) -> None:
        super()._note(name, kind, server, shard, relevant, wid)
        known = self.known.get(name, frozenset())
        for revealed in relevant:
            known |= self.past[revealed] | {revealed}
        index = self.cluster.shards[shard]
        for site in self.cluster.sites.values():
            held = {entry.position for entry in site.history}
            assert all(self.past.get(w, frozenset()) <= held for w in held), (
                f"{site.name} has an effect without its cause"
            )
        self.missed += [(self.log[-1], w) for w in known if w.shard == index and w not in self.log[-1].db]
        if wid is not None:
            self.past[wid] = known
            known |= {wid}
        self.known[name] = known


def effect_without_cause(r: Causal) -> None:
    """Alice writes a post, then a reply; server 2 has neither. Bob reads the reply at 1, then looks for the post at 2."""
    r.write("alice", "1", "post", shard="posts")
    r.write("alice", "1", "reply", shard="replies")
    assert r.read("bob", "1", shard="replies") == "reply"
    assert r.read("bob", "2", shard="posts") is None


def test_no_effect_without_its_cause_on_any_shard() -> None:
    """Where versions carry their writer's dependencies, the read of the reply demands the post."""
    with pytest.raises(GateTimeout):
        effect_without_cause(Causal())


def test_without_dependencies_the_four_guarantees_hold_and_causality_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The four guarantees shard by shard do not add up: none of them is broken, and the effect is shown without its cause."""
    monkeypatch.setattr(MemoryReader, "seen", lambda self: Frontier(self._shown))
    r = Causal(dependencies=False)
    effect_without_cause(r)
    assert broken(r) is Guarantee.NONE
    assert [(read.session, read.shard) for read, _ in r.missed] == [("bob", "posts")]


def test_own_writes_on_another_shard_come_first() -> None:
    """MW and WFR across shards: a write waits until its leader has what the session wrote and read, on every shard."""
    r = Causal()
    r.write("alice", "1", "post", shard="posts")
    with pytest.raises(GateTimeout):
        r.write("alice", "2", "reply", shard="replies")
    r.meet("2")
    r.write("alice", "2", "reply", shard="replies")


def test_who_reads_an_effect_takes_its_causal_past_over() -> None:
    """The read-set gets the relevant writes, and what they were written in knowledge of, on every shard."""
    r = Causal()
    post = r.write("alice", "1", "post", shard="posts")
    r.read("bob", "1", shard="posts")
    reply = r.write("bob", "1", "reply", shard="replies")
    assert r.read("carol", "1", shard="replies") == "reply"
    assert r.session("carol", "1").seen >= Frontier([post, reply])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "read", "read", "write", "meet", "wait"]),
            st.sampled_from(["alice", "bob", "carol"]),
            st.sampled_from("12"),
            st.sampled_from(["posts", "replies"]),
        ),
        max_size=20,
    ),
    paths("12", 2),
)
def test_in_any_schedule_no_read_misses_the_causal_past(steps: list[tuple[str, str, str, str]], lag: Paths) -> None:
    """The restatement at random: three sessions that read each other's writes on two shards at two servers. No site ever has an effect
    without its cause, either: 3.3 and 3.4, where a server is a site with all its shards."""
    r = Causal(lag=lag)
    for nth, (what, who, server, shard) in enumerate(steps):
        try:
            if what == "meet":
                r.meet(server)
            elif what == "wait":
                r.wait()
            elif what == "write":
                r.write(who, server, nth, shard=shard)
            else:
                r.read(who, server, shard=shard)
        except GateTimeout:
            continue
        assert not r.missed
        assert not broken(r)
