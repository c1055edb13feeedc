"""A state machine that drives engines through sessions: moving between sites, replaying tokens, with replicas cut off.

Owns what is done at random, only ever what is possible then, and that a lost write must be said. What else may be shown is judged by
`book.py`, to sessions and to the onlooker of `onlooker.py`. Reads and writes, as in `acts.py`, through the hooks of `subject.py`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from causal.core.keyring import Keyring
from causal.core.policy import ReadPolicy
from causal.store import CausalStore
from causal.testing.acts import Act, reading, writing
from causal.testing.book import Book
from causal.testing.onlooker import Onlooker, Opened
from causal.testing.subject import PlaceLag, Subject
from causal.testing.visits import Carried, Visits

if TYPE_CHECKING:
    import unittest
    from collections.abc import Sequence

    import hypothesis

    from causal.controls import Lag


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


class StoreMachine(Visits):
    """Drives one store, or several side by side, through random sessions, and judges all that they show.

    A subclass says what is tested:

        class MyMachine(StoreMachine):
            def make(self, lag):
                engines = {site: MyEngine(site, lag) for site in self.sites}
                return [Subject("mine", engines, time, controls, data=MyData())]

        TestMyStore = MyMachine.TestCase

    Never shown: a state without the session's own writes, an older state than before, an effect without its cause (on any shard),
    half a transaction, what is not committed, another state than before in the same block (others act while one is open, if there is
    a single subject). Several stores must also show the same. In the end, with all sites in touch, all are read everywhere and agree.
    Where sites can be made to forget (`Forgets`, of a single subject), a session whose own write is lost must be told so before it is
    served, and of nothing else; and what only others wrote may vanish for it.

    After each step somebody looks at every endpoint past all sessions: what it has called applied, it shows, as long as it lives; what it
    shows, it has seen. Each write has a position, past the last. With `Subject.controls`, all endpoints have it all in the end.

    An engine whose versions carry no dependencies is judged shard by shard.

    What it does not find: what happens in the middle of a call, in other threads, in asynchronous links, in blocks over several shards, to
    commits without an answer, to writes made outside of blocks. `EngineContract` does.

    Thread-safety: one thread at a time.
    """

    if TYPE_CHECKING:
        TestCase: ClassVar[type[MachineTest]]  # type: ignore[assignment, misc] # hypothesis makes it where it is asked for

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
    @precondition(lambda self: len(self.subjects) == 1)
    def overlap(self, data: st.DataObject) -> None:
        """Begin a block, let others act, and go on in it: it is shown what it was, and nobody is shown what it has not committed.

        Not of stores side by side: what one applies while a block is open, another may have to apply later, and both are right.
        """
        (shard, *_), writes = self._shards(data), data.draw(st.booleans(), "writes")
        act = self._write(data, shard) if writes else self._read(data, shard, ReadPolicy())
        site = data.draw(st.sampled_from(self.sites), "site of the onlooker")
        opened: list[list[Opened]] = []

        def meanwhile() -> None:
            opened.extend(onlooker.begun(site) for onlooker in self.onlookers)
            self._meanwhile(data, shard, writes=writes)

        try:
            self._coming(data, [act])(meanwhile)
            self.look()
        finally:
            looks = [onlooker.ended(these) for onlooker, these in zip(self.onlookers, opened, strict=False)]
        for onlooker, these in zip(self.onlookers, looks, strict=False):
            onlooker.judge(these)

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """Read at one site what was written there just now, and at once at another, which was read before: what reads showed must count."""
        (here, there, *_), shards = data.draw(st.permutations(self.sites), "sites"), self._shards(data)
        writer, reader = (data.draw(st.sampled_from(self.clients), who) for who in ("writer", "reader"))
        reads = [self._read(data, shard, ReadPolicy()) for shard in shards]
        self._visit(data, reads, reader, there)
        self._visit(data, [self._write(data, shard) for shard in shards], writer, here)
        for site in (here, there):
            self._visit(data, reads, reader, site)

    @rule(data=st.data(), seconds=st.sampled_from(PASS_S[:5]))
    def relay(self, data: st.DataObject, seconds: float) -> None:
        """Write, and have it answered on another shard; elsewhere, somebody new is shown the answer, and then what it answers."""
        causes, (here, there, *_) = self._shards(data), data.draw(st.permutations(self.sites), "sites")
        cause, answer = causes[0], causes[-1]
        writer, reader = (data.draw(st.sampled_from(self.clients), who) for who in ("writer", "reader"))
        self._visit(data, [self._write(data, cause)], writer, here)
        self._visit(data, [self._read(data, cause, ReadPolicy()), self._write(data, answer)], "", here)
        self.wait(seconds)
        self._visit(data, [self._read(data, s, ReadPolicy()) for s in (answer, cause)], reader, there, how="new")

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
                self.book.ended(end)
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
        how = data.draw(st.sampled_from(["puts", "puts", "puts", "deletes", "deletes", "drafts", "abandons"]), "how")
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
