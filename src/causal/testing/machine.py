"""A state machine that drives engines through sessions: moving between sites, replaying tokens, with replicas cut off.

Owns what is done at random, only ever what is possible then. What may be shown is judged by `book.py`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from causal.controls import Controls, Lag
from causal.core.keyring import Keyring
from causal.core.policy import ReadPolicy
from causal.errors import CausalError, GateError
from causal.store import CausalStore, Session
from causal.testing.book import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from causal.engine import Engine


class VirtualTime:
    """A clock that moves when it is told to, or when a gated read waits. `step` is called after each move.

    Units: seconds; `wall_ns` in nanoseconds. Thread-safety: one thread at a time.
    """

    def __init__(self, start_s: float = 1_700_000_000.0) -> None:
        self.now_s = 0.0
        self.step: Callable[[], object] = lambda: None
        self._start_s = start_s

    def monotonic(self) -> float:
        """Return the time since the start."""
        return self.now_s

    def wall(self) -> float:
        """Return the time of day."""
        return self._start_s + self.now_s

    def wall_ns(self) -> int:
        """Return the time of day in nanoseconds."""
        return int(self.wall() * 1e9)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        self.step()


@attrs.define
class Subject:
    """An engine under test: one engine for each site, and the time that drives its lag (set `time.step` to replicate what is due).

    `controls` makes sites lag and disappear; None if the engine cannot. Thread-safety: one thread at a time.
    """

    name: str
    engines: Mapping[str, Engine[Any, Any]]
    time: VirtualTime
    controls: Controls | None = None
    close: Callable[[], object] = lambda: None
    stores: dict[str, CausalStore[Any, Any]] = attrs.field(factory=dict)


@attrs.frozen
class Carried:
    """A token as a client holds it, one text for each subject, and what its session knew. Thread-safety: immutable."""

    texts: tuple[str | None, ...]
    known: frozenset[int]


@attrs.frozen
class Act:
    """What a client does in one block, and what it knows after it was shown something. Thread-safety: immutable."""

    do: Callable[[Session[Any, Any]], Mapping[str, str | None]]
    know: Callable[[Mapping[str, str | None], frozenset[int]], frozenset[int]]


POLICIES: Final = (
    ReadPolicy(),
    ReadPolicy(wait_s=0.5),
    ReadPolicy(wait_s=0.0),
    ReadPolicy(then="error"),
    ReadPolicy(unproven="serve"),
    ReadPolicy.leader(),
    ReadPolicy.quorum(2),
)
"""Every policy that promises the session guarantees."""

PASS_S: Final = (0.01, 0.03, 0.06, 0.1, 0.3, 2.0, 1000.0, 100_000.0)


class EngineMachine(RuleBasedStateMachine):
    """Drives one key-value engine, or several side by side, through random sessions, and judges all that they show.

    A subclass says what is tested:

        class MyMachine(EngineMachine):
            def make(self, lag): return [Subject("mine", {site: MyEngine(site, lag) for site in self.sites}, time, controls)]

        TestMyEngine = MyMachine.TestCase

    Never shown: a state without the session's own writes, an older state than before, an effect without its cause (on any
    shard), half a transaction. Several engines must also show the same. In the end, with all sites in touch, all are read
    everywhere and agree. Needs engines whose connections are `causal.kv.Reader` and `Writer`, and whose versions carry dependencies.

    Thread-safety: one thread at a time.
    """

    sites: Sequence[str] = ("asia", "eu", "us")
    shards: Sequence[str] = ("main", "orders")
    keys: Sequence[str] = ("a", "b")
    clients: Sequence[str] = ("alice", "bob")
    max_carried = 4

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.subjects: Sequence[Subject] = ()
        self.carried: dict[str, list[Carried]] = {c: [] for c in self.clients}
        self.live: dict[tuple[str, str], tuple[list[Session[Any, Any]], frozenset[int]]] = {}
        self.paused: set[str] = set()
        self.cut: set[str] = set()

    def make(self, lag: Lag) -> Sequence[Subject]:
        """Return the engines to test, new and empty, with this replication lag."""
        raise NotImplementedError("a subclass makes the engines that it tests")

    # --- rules ---------------------------------------------------------------------------------------------------

    @initialize(
        median_s=st.sampled_from([0.05, 0.0, 0.4]), seed=st.integers(0, 20), max_token_chars=st.sampled_from([512, 60])
    )
    def begin(self, median_s: float, seed: int, max_token_chars: int) -> None:
        """Open everything. Each place has a lag of its own, so that an effect can be due before its cause."""
        self.subjects = self.make(PlaceLag(median_s, 1.5, seed))
        for subject in self.subjects:
            keyring = Keyring.generate()
            for site, engine in subject.engines.items():
                store: CausalStore[Any, Any] = CausalStore(
                    engine,
                    keyring=keyring,
                    audience="test",
                    max_token_chars=max_token_chars,
                    monotonic=subject.time.monotonic,
                    sleep=subject.time.sleep,
                    wall=subject.time.wall,
                )
                store._state.random = random.Random(seed)
                subject.stores[site] = store.__enter__()

    @rule(data=st.data())
    def form(self, data: st.DataObject) -> None:
        """Write at a site: one transaction on one shard, or one on each."""
        self._visit(data, [self._write(data, shard) for shard in self._shards(data)])

    @rule(data=st.data())
    def page(self, data: st.DataObject) -> None:
        """Read at a site, one shard or one after the other: all of it in one snapshot, or a key."""
        policy = data.draw(st.sampled_from(POLICIES), "policy")
        self._visit(data, [self._read(data, shard, policy) for shard in self._shards(data)])

    @rule(data=st.data())
    @precondition(lambda self: any(self.carried.values()))
    def hand_on(self, data: st.DataObject) -> None:
        """Hand one client's token to another, sealed for them; or let a client lose all of its own: nothing is promised then."""
        giver = data.draw(st.sampled_from([c for c in self.clients if self.carried[c]]), "from")
        taker = data.draw(st.sampled_from([*(c for c in self.clients if c != giver)] * 4 + [None]), "to")
        if taker is None:
            self.carried[giver].clear()
            return
        carried = data.draw(st.sampled_from(self.carried[giver]), "token")
        sealed = []
        for text, subject in zip(carried.texts, self.subjects, strict=True):
            session = subject.stores[self.sites[0]].session(text, subject=giver)
            assert not session.rejected
            sealed.append(session.token(subject=taker))
        self._carry(taker, Carried(tuple(sealed), carried.known))

    @rule(seconds=st.sampled_from(PASS_S))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for subject in self.subjects:
            subject.time.sleep(seconds)

    @rule(data=st.data())
    @precondition(lambda self: all(s.controls is not None for s in self.subjects))
    def disturb(self, data: st.DataObject) -> None:
        """Pause, resume, cut off, put back or bring up to date a site: whatever is not so already."""
        site = data.draw(st.sampled_from(self.sites), "site")
        pausing = "resume" if site in self.paused else "pause"
        cutting = "rejoin" if site in self.cut else "cut_off"
        what = data.draw(st.sampled_from([pausing, cutting, "catch_up"]), "what")
        if what == pausing:
            self.paused ^= {site}
        elif what == cutting:
            self.cut ^= {site}
        self._control(what, site)

    # --- how a rule is carried out ---------------------------------------------------------------------------------

    def _shards(self, data: st.DataObject) -> list[str]:
        return data.draw(st.lists(st.sampled_from(self.shards), min_size=1, max_size=2, unique=True), "shards")

    def _write(self, data: st.DataObject, shard: str) -> Act:
        keys = data.draw(st.lists(st.sampled_from(self.keys), min_size=1, max_size=2, unique=True), "keys")
        deleted = data.draw(st.sampled_from([(), (), (), (keys[0],)]), "deleted")
        looks = data.draw(st.booleans(), "reads first")

        def changes() -> Mapping[str, str | None]:
            first = len(self.book.writes)
            return {key: None if key in deleted else f"v{first + n}" for n, key in enumerate(keys)}

        def do(session: Session[Any, Any]) -> Mapping[str, str | None]:
            with session.write(shard=shard) as tx:
                shown = {key: tx.get(key) for key in keys} if looks else {}
                for key, value in changes().items():
                    if value is None:
                        tx.delete(key)
                    else:
                        tx.put(key, value)
                return shown

        def know(shown: Mapping[str, str | None], known: frozenset[int]) -> frozenset[int]:
            return self.book.write(shard, changes(), self.book.read(shard, shown, known))

        return Act(do, know)

    def _read(self, data: st.DataObject, shard: str, policy: ReadPolicy) -> Act:
        key = data.draw(st.sampled_from([None, None, *self.keys]), "key")

        def do(session: Session[Any, Any]) -> Mapping[str, str | None]:
            with session.read(shard=shard, policy=policy) as db:
                return {key: db.get(key)} if key is not None else dict.fromkeys(self.keys) | dict(db.scan())

        return Act(do, lambda shown, known: self.book.read(shard, shown, known))

    def _visit(self, data: st.DataObject, acts: Sequence[Act]) -> None:
        """Let a client come to a site with some of its tokens, act there, and carry away a new token."""
        client = data.draw(st.sampled_from(self.clients), "client")
        site = data.draw(st.sampled_from(self.sites), "site")
        held = self.carried[client]
        choices = ["last", "last", "last", "all", "old", "new"] if held else ["new"]
        how = data.draw(st.sampled_from([*choices, *(["live"] if (client, site) in self.live else [])]), "session")
        if how == "live":
            sessions, known = self.live[client, site]
        else:
            old = [data.draw(st.sampled_from(held), "token")] if how == "old" else []
            chosen = {"new": [], "last": held[-1:], "all": held, "old": old}[how]
            known = frozenset[int]().union(*(c.known for c in chosen))
            sessions = [
                s.stores[site].session(*[c.texts[n] for c in chosen], subject=client)
                for n, s in enumerate(self.subjects)
            ]
        for act in acts:
            known = self._carry_out(act, sessions, known)
        self.live[client, site] = sessions, known
        self._carry(client, Carried(tuple(s.token() for s in sessions), known))

    def _carry_out(self, act: Act, sessions: Sequence[Session[Any, Any]], known: frozenset[int]) -> frozenset[int]:
        """Do the same in every engine; compare, judge, and return what the client knows then."""
        outcomes = [self._try(act, session) for session in sessions]
        for subject in self.subjects:
            subject.time.step()
        names = [subject.name for subject in self.subjects]
        assert all(o == outcomes[0] for o in outcomes), f"not the same: {dict(zip(names, outcomes, strict=True))}"
        return known if isinstance(outcomes[0], str) else act.know(outcomes[0], known)

    def _try(self, act: Act, session: Session[Any, Any]) -> Mapping[str, str | None] | str:
        """Return what was shown, or the name of a refusal that a caller may try again."""
        assert not session.rejected
        try:
            return act.do(session)
        except GateError as error:
            if not error.retryable:
                raise
            return type(error).__name__

    def _carry(self, client: str, carried: Carried) -> None:
        self.carried[client] = [*self.carried[client], carried][-self.max_carried :]

    def _control(self, what: str, site: str) -> None:
        for subject in self.subjects:
            getattr(subject.controls, what)(site)
            subject.time.step()

    def teardown(self) -> None:
        """Heal everything, and read all that any client knows, everywhere; then close."""
        try:
            if self.subjects and all(s.stores for s in self.subjects):
                self._heal()
        finally:
            for subject in self.subjects:
                for store in subject.stores.values():
                    store.close()
                subject.close()

    def _heal(self) -> None:
        for site in sorted(self.paused):
            self._control("resume", site)
        for site in sorted(self.cut):
            self._control("rejoin", site)
        for subject in self.subjects:
            subject.time.sleep(3600.0)
        for shard in self.shards:
            shown: list[Mapping[str, str | None]] = []
            for client, site in ((c, s) for c in self.clients for s in self.sites):
                for n, subject in enumerate(self.subjects):
                    session = subject.stores[site].session(*(c.texts[n] for c in self.carried[client]), subject=client)
                    known = frozenset[int]().union(*(c.known for c in self.carried[client]))
                    try:
                        with session.read(shard=shard) as db:
                            shown.append(dict.fromkeys(self.keys) | dict(db.scan()))
                    except CausalError as error:
                        raise AssertionError(
                            f"{subject.name} refuses {client} at {site}, with all sites in touch"
                        ) from error
                    self.book.read(shard, shown[-1], known)
            assert all(s == shown[0] for s in shown), f"sites do not agree on {shard}: {shown}"


class PlaceLag(Lag):
    """A lag that is the same for all writes of a shard on their way to a site: seeded, and different from place to place.

    Thread-safety: immutable.
    """

    def delay_s(self, site: str, shard: int, origin: int, offset: int) -> float:
        """Return the delay of a shard's writes on their way to a site."""
        return super().delay_s(site, shard, 0, 0)
