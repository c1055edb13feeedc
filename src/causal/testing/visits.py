"""Clients that come to sites with tokens, act there, and carry tokens away: what a state machine does once it is drawn.

Owns what is compared, who is judged by what, and that a lost write must be said. Knows nothing of which of it is likely.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from causal.core.frontier import Frontier
from causal.errors import CausalError, GateError, Unreachable, WriteLost
from causal.testing.acts import ended, reading
from causal.testing.book import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from causal.core.position import Loss
    from causal.store import Session
    from causal.testing.acts import Act, Play, Showed
    from causal.testing.onlooker import Onlooker
    from causal.testing.subject import Subject


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


class Visits(RuleBasedStateMachine):
    """The clients of a machine, and what they were shown. Thread-safety: one thread at a time."""

    sites: Sequence[str] = ("asia", "eu", "us")
    shards: Sequence[str] = ("main", "orders")
    keys: Sequence[str] = ("a", "A")
    clients: Sequence[str] = ("alice", "bob")
    max_carried = 4

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

    def _visit(self, data: st.DataObject, acts: Sequence[Act], client: str = "", site: str = "", how: str = "") -> None:
        """Let a client come to a site with some of its tokens, act there, and carry away a new token."""
        self._coming(data, acts, client, site, how)(lambda: None)

    def _coming(
        self, data: st.DataObject, acts: Sequence[Act], client: str = "", site: str = "", how: str = ""
    ) -> Callable[[Callable[[], None]], None]:
        """Return a visit, with something that happens in the middle of its blocks."""
        client = client or data.draw(st.sampled_from(self.clients), "client")
        site = site or data.draw(st.sampled_from(self.sites), "site")
        held = self.carried[client]
        choices = ["last", "last", "last", "all", "old", "new"] if held else ["new"]
        if (client, site) in self.live:
            choices.append("live")
        how = how or data.draw(st.sampled_from(choices), "session")
        # Nobody else has this session meanwhile: its reads would be part of its write block.
        visit = self.live.pop((client, site), None)
        if visit is None or how != "live":
            old = [data.draw(st.sampled_from(held), "token")] if how == "old" else []
            visit = self._come(client, site, {"new": [], "last": held[-1:], "all": held, "old": old}[how])

        def come(meanwhile: Callable[[], None]) -> None:
            for act in acts:
                self._carry_out(act, visit, meanwhile)
            self.live[client, site] = visit
            self._carry(client, Carried(tuple(s.token() for s in visit.sessions), visit.known, visit.own))

        return come

    def _come(self, client: str, site: str, chosen: Sequence[Carried]) -> Visit:
        sessions = [
            s.stores[site].session(*[c.texts[n] for c in chosen], subject=client) for n, s in enumerate(self.subjects)
        ]
        none = frozenset[int]()
        return Visit(sessions, none.union(*(c.known for c in chosen)), none.union(*(c.own for c in chosen)))

    def _carry_out(self, act: Act, visit: Visit, meanwhile: Callable[[], None]) -> None:
        """Do the same in every store; compare, judge, and note what the client knows then."""
        begun: list[Play | str] = []
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
                onlooker.acknowledged(act.shard, ids, commit)

    def _judge(self, shard: str, shown: Mapping[str, str | None], visit: Visit) -> None:
        """Judge what a served read showed. A server that has not heard of a failover may still show what is lost: all of that, or told."""
        with self._accounting(visit):
            self.book.must_be_told(shard, shown, visit.own)
            visit.known = self.book.read(shard, shown, visit.known)

    @contextmanager
    def _accounting(self, visit: Visit) -> Iterator[None]:
        """Add to what fails what is demanded, what the endpoints are known to hold, and where histories end: by whom, and by the test."""
        try:
            yield
        except AssertionError as error:
            for session in visit.sessions:
                view = session._store.view
                known = [
                    f"{e.name} {e.down or 'has applied'} {Frontier.of(dict(e.applied))}, leads {Frontier.of(dict.fromkeys(e.leads, 0))}"
                    for e in view.endpoints
                ]
                error.add_note(
                    f"{session.subject} demands own {session.own}, seen {session.seen}; the store knows: {'; '.join(known)}; "
                    f"ends {Frontier.of(dict(view.ends))}; fail_over() has returned the ends {self.book.ends} (by shard, origin)"
                )
            raise

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
                return ended(play)
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
        with self._accounting(visit):
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
                    with self._accounting(visit):
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
