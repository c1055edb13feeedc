"""What a session knows of the cache keys that its own writes touched: too many, now and then; too few, never."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from causal import CommitUnknown, ConfigError, Frontier, Position, ReadPolicy, Token, Written
from causal.core.frontier import Loss
from causal.core.touched import MAX_FINGERPRINTS, fingerprint
from causal.engine import Commit
from causal.session import SessionState
from tests.fake_engine import KEYS, T0_S, FakeEngine, Handle, Server, Time, near_and_far
from tests.interleaved import interleaved

TTL_S = 86_400.0
NAMES = tuple(f"page:{n}" for n in range(20))
ANY = "*"
"""Of a write that does not say what it touched."""
STORES = 2
Writes = frozenset[tuple[int, str]]


@pytest.fixture
def time() -> Time:
    return Time()


def sealed(token: Token, subject: str | None = None) -> str:
    return KEYS.seal(token, subject=subject, audience="shop")


def opened(text: str | None) -> Token:
    assert text is not None
    return KEYS.open(text, subject=None, audience="shop", now=T0_S)


def own(offset: int, store: int = 0) -> Frontier:
    return Frontier((Position(store << 16, 1, offset),))


# --- whatever happens ----------------------------------------------------------------------------------------------------


def selling(number: int, limit: int) -> Any:
    """What sealing needs of a store, whose tokens are this long at most."""
    return SimpleNamespace(
        keyring=KEYS,
        audience="shop",
        policy=ReadPolicy(),
        number=number,
        token_ttl_s=TTL_S,
        max_token_chars=limit,
        clock_offsets=limit % 2 == 0,
        wall=lambda: T0_S,
        until=lambda: int(T0_S) + 961,
        floor=lambda: 20,
        replicated=Frontier,
    )


class Sessions(RuleBasedStateMachine):
    """Sessions of one user that write, are sealed, opened and joined in any order; beside each, all writes that it ever knew of."""

    def __init__(self) -> None:
        super().__init__()
        self.head = 0
        self.sessions: list[SessionState] = []
        self.writes: list[Writes] = []
        self.texts: list[tuple[str, Writes]] = []
        self.held: list[list[str]] = []
        """What each session's client presented at first, and keeps while nothing changes."""
        self.shortened = False

    @initialize()
    def begins(self) -> None:
        self.opens([])

    def session(self, nth: int) -> int:
        return nth % len(self.sessions)

    @rule(nth=st.integers(0, 9), store=st.integers(0, 1), shard=st.integers(0, 3), data=st.data())
    def write(self, nth: int, store: int, shard: int, data: st.DataObject) -> None:
        nth = self.session(nth)
        touching = data.draw(st.sets(st.sampled_from(NAMES), max_size=5) | st.none())
        self.head += 1
        fingerprints = None if touching is None else frozenset(map(fingerprint, touching))
        commit = Commit(Position(store << 16 | shard, 1, self.head), Frontier())
        self.sessions[nth].acknowledged(commit, T0_S, fingerprints)
        self.writes[nth] |= {(store, key) for key in ({ANY} if touching is None else touching)}

    @rule(nth=st.integers(0, 9), store=st.integers(0, 1), shard=st.integers(0, 3), offset=st.integers(0, 40))
    def is_told_of_a_write_outside(self, nth: int, store: int, shard: int, offset: int) -> None:
        """Perhaps one that an own position covers already."""
        nth = self.session(nth)
        outside = Written((Position(store << 16 | shard, 1, offset % (self.head + 1)),))
        self.sessions[nth].join(outside, own=True, now=T0_S)
        self.writes[nth] |= {(store, ANY)}

    @rule(nth=st.integers(0, 9), store=st.integers(0, 1), shard=st.integers(0, 3), offset=st.integers(0, 40))
    def sees(self, nth: int, store: int, shard: int, offset: int) -> None:
        self.sessions[self.session(nth)].join(
            Frontier((Position(store << 16 | shard, 1, offset),)), own=False, now=T0_S
        )

    @rule(nth=st.integers(0, 9), number=st.integers(0, 1), limit=st.sampled_from([512, 512, 512, 60, 55, 44]))
    def seals(self, nth: int, number: int, limit: int) -> None:
        nth = self.session(nth)
        text = self.sessions[nth].token(selling(number, limit), None)
        if text is not None:
            self.texts.append((text, self.writes[nth]))
            self.shortened |= limit < 512

    @rule(which=st.lists(st.integers(0, 30), max_size=4))
    def opens(self, which: list[int]) -> None:
        self.sessions.append(SessionState(None))
        self.writes.append(frozenset())
        self.is_presented(len(self.sessions) - 1, which, first=True)

    @rule(nth=st.integers(0, 9), which=st.lists(st.integers(0, 30), min_size=1, max_size=2))
    def joins(self, nth: int, which: list[int]) -> None:
        self.is_presented(self.session(nth), which)

    def is_presented(self, nth: int, which: list[int], *, first: bool = False) -> None:
        held = [self.texts[n % len(self.texts)] for n in which] if self.texts else []
        texts = [text for text, _ in held]
        failed = self.sessions[nth].present(texts, KEYS, "shop", now=T0_S, ttl_s=TTL_S, subject=None, first=first)
        assert not failed
        self.writes[nth] = self.writes[nth].union(*(writes for _, writes in held))
        if first:
            self.held.append(texts)

    @rule(nth=st.integers(0, 9))
    def loses(self, nth: int) -> None:
        session = self.sessions[self.session(nth)]
        session.forget([Loss(p, p.offset // 2) for p in session.own if p.offset % 3 == 0])

    @rule(nth=st.integers(0, 9))
    def logs_in(self, nth: int) -> None:
        session = self.sessions[self.session(nth)]
        session.rebind("alice")
        session.rebind(None)

    @rule(nth=st.integers(0, 9), store=st.integers(0, 1))
    def is_in_doubt(self, nth: int, store: int) -> None:
        nth = self.session(nth)
        self.sessions[nth].mark(store, int(T0_S) + 961)
        self.writes[nth] |= {(store, ANY)}

    @invariant()
    def may_touch_what_was_touched(self) -> None:
        for session, writes in zip(self.sessions, self.writes, strict=True):
            for store in range(STORES):
                touched = {key for number, key in writes if number == store}
                for key in NAMES if ANY in touched else touched:
                    assert session.touches(store, key), (store, key)

    @invariant()
    def tells_the_client(self) -> None:
        for session, writes, held in zip(self.sessions, self.writes, self.held, strict=True):
            if not session.changed:
                again = SessionState(None)
                again.present(held, KEYS, "shop", now=T0_S, ttl_s=TTL_S, subject=None, first=True)
                for store, key in writes:
                    assert all(again.touches(store, name) for name in (NAMES if key == ANY else (key,)))

    @invariant()
    def knows_what_it_can(self) -> None:
        """As long as no token was cut: else `touches` could just be True."""
        for session, writes in zip(self.sessions, self.writes, strict=True):
            for store in range(STORES):
                touched = {key for number, key in writes if number == store}
                if ANY not in touched and len(touched) <= MAX_FINGERPRINTS and not self.shortened:
                    assert {key for key in NAMES if session.touches(store, key)} == touched


Sessions.TestCase.settings = settings(stateful_step_count=30)
test_whatever_sessions_do = Sessions.TestCase


def test_the_names_of_these_tests_have_fingerprints_of_their_own() -> None:
    assert len({fingerprint(key) for key in NAMES}) == len(NAMES)


# --- what the client is given ------------------------------------------------------------------------------------------


def test_a_client_is_given_a_new_token_if_only_what_was_touched_is_news(time: Time) -> None:
    """Another service wrote at 5, this one at 7: the own positions of the reply are known here, what it touched is not."""
    store = time.store(near_and_far())
    expires_at = int(time.wall() + TTL_S)
    first, reply, blind = (
        sealed(Token(own(offset), expires_at=expires_at, touched=touched))
        for offset, touched in ((7, {0: {fingerprint("b")}}), (5, {0: {fingerprint("a")}}), (5, None))
    )
    session = store.session(first)
    session.join(first)
    assert not session.changed
    assert not session.touches(0, "a")
    session.join(reply)
    assert session.changed
    assert [session.touches(0, key) for key in "abc"] == [True, True, False]
    again = store.session(session.token())
    assert [again.touches(0, key) for key in "abc"] == [True, True, False]
    again.join(blind)
    assert again.changed
    assert again.touches(0, "c")
    assert store.session(again.token()).touches(0, "c")


def test_a_write_outside_that_was_covered_already_may_have_touched_anything(time: Time) -> None:
    store = time.store(near_and_far())
    first = sealed(Token(own(7), expires_at=int(time.wall() + TTL_S), touched={0: {fingerprint("b")}}))
    session = store.session(first)
    session.join(Frontier((Position(0, 1, 6),)))
    assert not session.changed
    outside = Written((Position(0, 1, 6),))
    session.join(outside)
    assert session.changed
    assert session.touches(0, "a")
    assert opened(session.token()).touched == {}


def test_writes_outside_on_another_store_leave_a_filter_alone(time: Time) -> None:
    store = time.store(near_and_far())
    first = sealed(Token(own(7), expires_at=int(time.wall() + TTL_S), touched={0: {fingerprint("b")}}))
    session = store.session(first)
    session.join(Written((Position(3 << 16, 1, 6),)))
    assert (session.touches(0, "a"), session.touches(3, "a"), session.touches(9, "a")) == (False, True, False)


def test_who_never_says_what_it_touches_has_the_tokens_it_always_had(time: Time) -> None:
    session = time.store(near_and_far()).session()
    with session.write():
        pass
    token = opened(session.token())
    assert token.touched == {}
    assert session.token() == sealed(Token(own(11), expires_at=token.expires_at))


# --- write blocks ----------------------------------------------------------------------------------------------------

Write = Callable[..., None]


def in_threads(time: Time, engine: FakeEngine, **settings: Any) -> tuple[Any, Write]:
    session = time.store(engine, **settings).session()

    def write(more: tuple[str, ...] = (), error: BaseException | None = None, **how: Any) -> None:
        with (block := session.write(**how)):
            block.touch(*more)
            if error is not None:
                raise error
        with pytest.raises(ConfigError, match="ended"):
            block.touch("too late")

    return session, write


def in_tasks(time: Time, engine: FakeEngine, **settings: Any) -> tuple[Any, Write]:
    session = time.async_store(engine, **settings).session()

    def write(more: tuple[str, ...] = (), error: BaseException | None = None, **how: Any) -> None:
        async def main() -> None:
            async with (block := session.write(**how)):
                block.touch(*more)
                if error is not None:
                    raise error
            with pytest.raises(ConfigError, match="ended"):
                block.touch("too late")

        asyncio.run(main())

    return session, write


both = pytest.mark.parametrize("kind", [in_threads, in_tasks])
recorded = pytest.mark.parametrize("settings", [{}, {"history": lambda line: None}], ids=["plain", "recorded"])


@both
@recorded
def test_a_block_says_what_it_touches(time: Time, kind: Any, settings: dict[str, Any]) -> None:
    session, write = kind(time, FakeEngine(Server("far", {0: {1: (10, None)}}, {0: {1}})), **settings)
    assert not session.touches(0, "a")
    write(touching=["a"])
    assert [session.touches(0, key) for key in "abcd"] == [True, False, False, False]
    write(touching=(), more=("b", "c"))
    write(touching=iter(["a", "b"]))
    assert [session.touches(0, key) for key in "abcd"] == [True, True, True, False]
    assert opened(session.token()).touched == {0: {fingerprint(key) for key in "abc"}}
    write(more=("a",))  # of a block that may touch any key, some more
    assert session.touches(0, "d")
    assert opened(session.token()).touched == {}
    write(touching=["a"])
    assert session.touches(0, "d")


@both
def test_a_block_that_is_rolled_back_touched_nothing(time: Time, kind: Any) -> None:
    session, write = kind(time, FakeEngine(Server("far", {0: {1: (10, None)}}, {0: {1}})))
    write(touching=["a"])
    for how in ({"touching": ["b"]}, {}):
        with pytest.raises(LookupError):
            write(error=LookupError(), **how)
    assert [session.touches(0, key) for key in "abc"] == [True, False, False]


@both
@pytest.mark.parametrize("touching", ["page:alice", b"page:alice", ["\ud800"], [7]])
def test_what_is_no_list_of_keys_is_refused_before_anything_begins(time: Time, kind: Any, touching: Any) -> None:
    engine = FakeEngine(Server("far", {0: {1: (10, None)}}, {0: {1}}))
    _, write = kind(time, engine)
    with pytest.raises(ConfigError):
        write(touching=touching)
    assert ("write", "far") not in engine.calls
    with pytest.raises(ConfigError):
        write(touching=(), more=(7,))
    assert not engine.open_handles


@both
def test_a_commit_in_doubt_may_have_touched_anything_until_its_mark_lapses(time: Time, kind: Any) -> None:
    engine = FakeEngine(Server("far", {0: {1: (10, None)}}, {0: {1}}))
    session, write = kind(time, engine)
    write(touching=["a"])

    def lost(handle: Handle) -> Commit:
        raise CommitUnknown("no answer")

    engine.answer = lost
    with pytest.raises(CommitUnknown):
        write(touching=["b"])
    assert all(session.touches(0, key) for key in "abc")
    assert opened(session.token()).touched == {0: {fingerprint("a")}}


def test_what_a_block_touches_can_be_asked(time: Time) -> None:
    session = time.store(near_and_far()).session()
    assert session.write().touching is None
    block = session.write(touching=["a"])
    block.touch("b")  # before it begins
    assert block.touching == {"a", "b"}


def test_threads_of_one_session_forget_nothing_that_another_touched() -> None:
    for seed in range(3):
        state = SessionState(None)

        def writes(nth: int, state: SessionState = state) -> Callable[[], None]:
            def work() -> None:
                for n in range(1, 4):
                    touched = frozenset({fingerprint(NAMES[3 * nth + n])})
                    state.acknowledged(Commit(Position(nth, 1, n), Frontier()), T0_S, touched)
                    assert state.touches(0, NAMES[3 * nth + n])

            return work

        def joins(state: SessionState = state) -> None:
            token = Token(own(1), expires_at=int(T0_S) + 9, touched={0: {fingerprint(NAMES[0])}})
            texts = [sealed(token)]
            for _ in range(3):
                state.present(texts, KEYS, "shop", now=T0_S, ttl_s=TTL_S, subject=None)

        interleaved(*(writes(nth) for nth in range(3)), joins, files=("session.py", "core/touched.py"), seed=seed)
        assert {key for key in NAMES if state.touches(0, key)} == set(NAMES[:10])
