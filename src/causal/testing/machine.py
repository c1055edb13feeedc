"""A state machine that drives engines through sessions: moving between sites, replaying tokens, with replicas cut off.

Owns what is done at random, only ever what is possible then, and that a lost write must be said. What else may be shown is judged by
`book.py`, to sessions and to the onlooker of `onlooker.py`. Reads and writes, as in `acts.py`, through the hooks of `subject.py`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from causal.core.keyring import Keyring
from causal.core.policy import ReadPolicy
from causal.errors import CausalError, GateError, Unreachable, WriteLost
from causal.store import CausalStore, Session
from causal.testing.acts import Act, Play, Showed, reading, writing
from causal.testing.book import Book
from causal.testing.onlooker import Onlooker, Opened
from causal.testing.subject import PlaceLag, Subject

if TYPE_CHECKING:
    import unittest
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import hypothesis

    from causal.controls import Lag
    from causal.core.position import Loss


@attrs.frozen
class Carried:
    """A token as a client holds it, one text for each subject, and what its session knew. Thread-safety: immutable."""

    texts: tuple[str | None, ...]
    known: frozenset[int]
    own: frozenset[int] = frozenset()
    """What its client itself wrote: that is never lost in silence."""


@attrs.define
class Visit:
    """A client at a site: a session on each subject, and what it knows. Thread-safety: one thread at a time."""

    sessions: Sequence[Session[Any, Any]]
    known: frozenset[int]
    own: frozenset[int]


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

LONG: Final = 300
"""How much longer a long value is: more than the 255 characters that careless columns take."""

PASS_S: Final = (0.01, 0.03, 0.06, 0.1, 0.3, 2.0, 1000.0, 100_000.0)


if TYPE_CHECKING:

    class MachineTest(unittest.TestCase):
        """What `StoreMachine.TestCase` is: a test, and how much of it is run."""

        settings: ClassVar[hypothesis.settings]


class StoreMachine(RuleBasedStateMachine):
    """Drives one store, or several side by side, through random sessions, and judges all that they show.

    A subclass says what is tested:

        class MyMachine(StoreMachine):
            def make(self, lag):
                engines = {site: MyEngine(site, lag) for site in self.sites}
                return [Subject("mine", engines, time, controls, data=MyData())]

        TestMyStore = MyMachine.TestCase

    Never shown: a state without the session's own writes, an older state than before, an effect without its cause (on any
    shard), half a transaction. Several stores must also show the same. In the end, with all sites in touch, all are read
    everywhere and agree. Where sites can be made to forget (`Forgets`, of a single subject), a session whose own write is lost must be
    told so before it is served, and of nothing else; and what only others wrote may vanish for it.

    An engine whose versions carry no dependencies is causal shard by shard: test it with one shard.

    Thread-safety: one thread at a time.
    """

    sites: Sequence[str] = ("asia", "eu", "us")
    shards: Sequence[str] = ("main", "orders")
    keys: Sequence[str] = ("a", "A")
    clients: Sequence[str] = ("alice", "bob")
    max_carried = 4
    if TYPE_CHECKING:
        TestCase: ClassVar[type[MachineTest]]  # type: ignore[assignment, misc] # hypothesis makes it where it is asked for

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.subjects: Sequence[Subject] = ()
        self.carried: dict[str, list[Carried]] = {c: [] for c in self.clients}
        self.live: dict[tuple[str, str], Visit] = {}
        self.paused: set[str] = set()
        self.cut: set[str] = set()
        self.onlookers: Sequence[Onlooker] = ()
        self._refusal: GateError | Unreachable | None = None
        self._values = self._looks = 0
        self._emptied = False

    def make(self, lag: Lag) -> Sequence[Subject]:
        """Return the engines to test, new and empty, with this replication lag."""
        raise NotImplementedError(
            f"{type(self).__name__} has no make(lag). Implement it: return [Subject(name, engines by site, time, controls, data=stage)]."
        )

    # --- rules ---------------------------------------------------------------------------------------------------

    @initialize(
        median_s=st.sampled_from([0.05, 0.0, 0.4]), seed=st.integers(0, 20), max_token_chars=st.sampled_from([512, 60])
    )
    def begin(self, median_s: float, seed: int, max_token_chars: int) -> None:
        """Open everything. Each place has a lag of its own, so that an effect can be due before its cause."""
        self.subjects = self.make(PlaceLag(median_s, 1.5, seed))
        if any(subject.forgets for subject in self.subjects):
            assert len(self.subjects) == 1, "what is lost differs from store to store: test one that forgets alone"
            max_token_chars = (
                512  # a short token folds own writes into a mark: what then is lost is only said to be in doubt
            )
        for subject in self.subjects:
            keyring = Keyring.generate()
            for site, engine in subject.engines.items():
                store: CausalStore[Any, Any] = CausalStore(
                    engine,
                    keyring=keyring,
                    audience="test",
                    number=subject.number,
                    max_token_chars=max_token_chars,
                    monotonic=subject.time.monotonic,
                    sleep=subject.time.sleep,
                    wall=subject.time.wall,
                )
                store._state.random = random.Random(seed)
                subject.stores[site] = store.__enter__()
        dependent = all(e.capabilities.dependencies for s in self.subjects for e in s.engines.values())
        self.book = Book(apart=not dependent)
        self.onlookers = [Onlooker(subject, self.book, self.shards, self.keys) for subject in self.subjects]

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
    def overlap(self, data: st.DataObject) -> None:
        """Begin a block, let others act, and go on in it: it is shown what it was, and nobody is shown what it has not committed."""
        (shard, *_), writes = self._shards(data), data.draw(st.booleans(), "writes")
        act = self._write(data, shard) if writes else self._read(data, shard, ReadPolicy())
        site = data.draw(st.sampled_from(self.sites), "site of the onlooker")
        opened: list[list[Opened]] = []

        def meanwhile() -> None:
            opened.extend(onlooker.begun(site) for onlooker in self.onlookers)
            self._meanwhile(data, shard, writes=writes)

        try:
            self._visit(data, [act], meanwhile=meanwhile)
        finally:
            looks = [onlooker.ended(these) for onlooker, these in zip(self.onlookers, opened, strict=False)]
        for onlooker, these in zip(self.onlookers, looks, strict=False):
            onlooker.judge(these)

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """Read at one site, and at once at another, with what was given there: where what reads showed must count."""
        client, shards = data.draw(st.sampled_from(self.clients), "client"), self._shards(data)
        for site in data.draw(st.permutations(self.sites), "sites")[:2]:
            self._visit(data, [self._read(data, shard, ReadPolicy()) for shard in shards], client, site)

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
        sealed = []  # as somebody else's: what its giver wrote is demanded, and its loss may be said, or not
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

    @rule(data=st.data())
    @precondition(lambda self: any(s.forgets for s in self.subjects))
    def forget(self, data: st.DataObject) -> None:
        """Fail over, so that what a site alone held is lost; or restart it, so that it lacks some of what others wrote."""
        (subject,), site = self.subjects, data.draw(st.sampled_from(self.sites), "site")
        assert subject.forgets is not None
        if data.draw(st.booleans(), "fails over"):
            for end in subject.forgets.fail_over(site):
                self.book.ends[end.shard, end.origin] = end.offset
        else:
            subject.forgets.restart(site)
        subject.time.step()

    @invariant()
    def look(self) -> None:
        """Let somebody look at every endpoint, from each site in turn."""
        self._looks += 1
        for onlooker in self.onlookers:
            onlooker.judge(onlooker.look(self.sites[self._looks % len(self.sites)]))

    # --- how a rule is carried out ---------------------------------------------------------------------------------

    def _shards(self, data: st.DataObject) -> list[str]:
        return data.draw(st.lists(st.sampled_from(self.shards), min_size=1, max_size=2, unique=True), "shards")

    def _write(self, data: st.DataObject, shard: str) -> Act:
        keys = data.draw(st.lists(st.sampled_from(self.keys), min_size=1, max_size=2, unique=True), "keys")
        how = data.draw(st.sampled_from(["puts", "puts", "puts", "deletes", "drafts", "abandons"]), "how")
        deleted = keys[:1] if how == "deletes" and all(s.deletes for s in self.subjects) else []
        changes = {key: None if key in deleted else self._value(data) for key in keys}
        looks = data.draw(st.booleans(), "reads first")
        return writing(shard, changes, looks=looks, drafts=how == "drafts", abandons=how == "abandons")

    def _value(self, data: st.DataObject) -> str:
        """Return a value that was never written: the empty one once, now and then a long one."""
        self._values += 1
        value = f"v{self._values}"
        kind = data.draw(st.sampled_from(["plain"] * 4 + ["long", "empty"]), "value")
        if kind == "empty" and not self._emptied:
            self._emptied, value = True, ""
        return value + "-" * LONG if kind == "long" else value

    def _read(self, data: st.DataObject, shard: str, policy: ReadPolicy) -> Act:
        return reading(shard, self.keys, policy, data.draw(st.sampled_from([None, None, *self.keys]), "key"))

    def _meanwhile(self, data: st.DataObject, shard: str, *, writes: bool) -> None:
        """Let others read, or write where no lock is held, and time pass, in the middle of a block."""
        steps = [subject.time.step for subject in self.subjects]
        may_write = not writes or all(s.side_by_side for s in self.subjects)
        for subject in self.subjects if writes else ():
            subject.time.step = lambda: None  # whoever replicates may need the lock that this thread has
        try:
            for what in data.draw(
                st.lists(st.sampled_from(["read", "write", "catch up"]), min_size=1, max_size=2), "meanwhile"
            ):
                if what == "catch up" and not writes and self.subjects[0].controls is not None:
                    self._control("catch_up", data.draw(st.sampled_from(self.sites), "site"))
                elif what == "write" and may_write:
                    self._visit(data, [self._write(data, shard)])
                else:
                    self._visit(data, [self._read(data, shard, ReadPolicy())])
        finally:
            for subject, step in zip(self.subjects, steps, strict=True):
                subject.time.step = step

    def _visit(
        self,
        data: st.DataObject,
        acts: Sequence[Act],
        client: str = "",
        site: str = "",
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Let a client come to a site with some of its tokens, act there, and carry away a new token."""
        client = client or data.draw(st.sampled_from(self.clients), "client")
        site = site or data.draw(st.sampled_from(self.sites), "site")
        held = self.carried[client]
        choices = ["last", "last", "last", "all", "old", "new"] if held else ["new"]
        how = data.draw(st.sampled_from([*choices, *(["live"] if (client, site) in self.live else [])]), "session")
        # Nobody else has this session meanwhile: its reads would be part of its write block.
        visit = self.live.pop((client, site), None)
        if visit is None or how != "live":
            old = [data.draw(st.sampled_from(held), "token")] if how == "old" else []
            visit = self._come(client, site, {"new": [], "last": held[-1:], "all": held, "old": old}[how])
        for act in acts:
            self._carry_out(act, visit, meanwhile)
        self.live[client, site] = visit
        self._carry(client, Carried(tuple(s.token() for s in visit.sessions), visit.known, visit.own))

    def _come(self, client: str, site: str, chosen: Sequence[Carried]) -> Visit:
        sessions = [
            s.stores[site].session(*[c.texts[n] for c in chosen], subject=client) for n, s in enumerate(self.subjects)
        ]
        none = frozenset[int]()
        return Visit(sessions, none.union(*(c.known for c in chosen)), none.union(*(c.own for c in chosen)))

    def _carry_out(self, act: Act, visit: Visit, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Do the same in every store; compare, judge, and note what the client knows then."""
        begun = list[Play | str]()
        try:
            for n, subject in enumerate(self.subjects):
                begun.append(self._begin(act, subject, visit, n))
            if not isinstance(begun[0], str):
                meanwhile()
            outcomes = [
                self._end(play, act, subject, visit, n)
                for n, (play, subject) in enumerate(zip(begun, self.subjects, strict=True))
            ]
        finally:
            for play in begun:
                if not isinstance(play, str):
                    play.close()
        for subject in self.subjects:
            subject.time.step()
        shown = [o if isinstance(o, str) else o.shown for o in outcomes]
        names = [subject.name for subject in self.subjects]
        assert all(s == shown[0] for s in shown), f"not the same: {dict(zip(names, shown, strict=True))}"
        if isinstance(shown[0], str):
            return
        self._judge(act.shard, shown[0], visit)
        if act.changes:
            mine = len(self.book.writes)
            visit.known = self.book.write(act.shard, act.changes, visit.known)
            ids = frozenset(range(mine, len(self.book.writes)))
            visit.own |= ids
            commits = [None if isinstance(o, str) else o.commit for o in outcomes]
            if commits[0] is not None and commits[0].position is not None:
                self.book.places.update(dict.fromkeys(ids, commits[0].position))
            for onlooker, commit in zip(self.onlookers, commits, strict=True):
                onlooker.acknowledged(ids, commit)

    def _judge(self, shard: str, shown: Mapping[str, str | None], visit: Visit) -> None:
        """Judge what a served read showed. A server that has not heard of a failover may still show what is lost: all of that, or told."""
        self.book.must_be_told(shard, shown, visit.own)
        visit.known = self.book.read(shard, shown, visit.known)

    def _begin(self, act: Act, subject: Subject, visit: Visit, nth: int) -> Play | str:
        """Return a block that was begun, or the name of a refusal that a caller may try again. A loss that is said is accepted."""
        session = visit.sessions[nth]
        assert not session.rejected
        while True:
            play = act.play(subject, session)
            try:
                next(play)
            except WriteLost as error:
                self._told(error.lost, visit)
                session.forget(error.lost)
            except GateError as error:
                return self._refused(error)
            else:
                return play

    def _end(self, play: Play | str, act: Act, subject: Subject, visit: Visit, nth: int) -> Showed | str:
        """Return what a block showed once it has ended, or the name of a refusal. Where a loss is said, it is begun again."""
        while not isinstance(play, str):
            try:
                next(play)
            except StopIteration as ended:
                showed: Showed = ended.value
                return showed
            except WriteLost as error:
                self._told(error.lost, visit)
                visit.sessions[nth].forget(error.lost)
                play = self._begin(act, subject, visit, nth)
            except GateError as error:
                return self._refused(error)
            except Unreachable as error:
                if not subject.side_by_side:
                    raise
                return self._refused(error)  # one of two that wrote
        return play

    def _refused(self, error: GateError | Unreachable) -> str:
        if not error.retryable:
            raise error
        self._refusal = error
        return type(error).__name__

    def _told(self, lost: Iterable[Loss], visit: Visit) -> None:
        """A session was told of losses: they are true, and from now on nobody misses what is lost."""
        for loss in lost:
            assert self.book.is_lost(loss.position), (
                f"{loss} was said to be lost, and it is not: fail_over() has returned the ends {self.book.ends} (by shard, origin)"
            )
        visit.own -= self.book.lost
        visit.known -= self.book.lost

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
            for onlooker in self.onlookers:
                onlooker.close()
            for subject in self.subjects:
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
            act = reading(shard, self.keys)
            for client, site in ((c, s) for c in self.clients for s in self.sites):
                visit = self._come(client, site, self.carried[client])
                for n, subject in enumerate(self.subjects):
                    where = f"{subject.name} refuses {client} at {site}, with all sites in touch"
                    try:
                        found = self._end(self._begin(act, subject, visit, n), act, subject, visit, n)
                    except CausalError as error:
                        raise AssertionError(where) from error
                    assert not isinstance(found, str), f"{where}: {self._refusal!r}"
                    shown.append(found.shown)
                    self._judge(shard, found.shown, visit)
            assert all(s == shown[0] for s in shown), f"sites do not agree on {shard}: {shown}"
        for subject, onlooker in zip(self.subjects, self.onlookers, strict=True):
            if subject.controls is not None:
                for site in self.sites:
                    subject.controls.catch_up(site)
                onlooker.converged([look for site in self.sites for look in onlooker.look(site)])
