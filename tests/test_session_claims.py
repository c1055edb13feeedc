"""What a session's claims do at their edges: when marks lapse, how old an entry is, and what is learned again after it was forgotten."""

from typing import Any

import pytest

from causal import Frontier, Keyring, Loss, Position
from causal.core.frontier import pack
from causal.core.token import Token
from causal.engine import Commit
from causal.session import SessionState
from tests.fake_engine import KEYS, T0_S, FakeEngine, Server, Time, near_and_far

TTL_S = 86_400.0
F = Frontier((Position(0, 1, 10),))


def sealed(token: Token, keys: Keyring = KEYS) -> str:
    return keys.seal(token, subject=None, audience="shop")


def presented(*texts: str, now: float) -> SessionState:
    state = SessionState(None)
    assert not state.present(texts, KEYS, "shop", now=now, ttl_s=TTL_S, subject=None, first=True)
    return state


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_mark_counts_until_its_time_and_no_longer() -> None:
    text = sealed(Token(seen=Frontier().mark(0, 1000), expires_at=5000))
    assert presented(text, now=999.5).seen.marks
    assert not presented(text, now=1000).seen.marks


def test_a_cached_demand_knows_when_its_first_mark_lapses(time: Time) -> None:
    store = time.store(near_and_far())
    session = store.session()
    until = int(time.wall())
    session._state.seen = Frontier().mark(0, until + 10).mark(2**16 - 1, until + 20)
    demand = session._state.demand(store._state, 0, time.wall(), write=False)
    assert demand.mark is not None
    assert demand.mark.until == until + 20
    for now, expected in (
        (until + 9.9, until + 20),
        (until + 10, until + 20),
        (until + 19.9, until + 20),
        (until + 20, None),
    ):
        found = session._state.demand(store._state, 0, now, write=False).mark
        assert (found and found.until) == expected


@pytest.mark.spec("T-68")
def test_an_entry_is_as_young_as_the_youngest_token_says(time: Time) -> None:
    now = int(time.wall())
    key = pack(0, 1)
    old, new = (sealed(Token(F, expires_at=now + left_s)) for left_s in (3600, 80_000))
    for texts in ((old, new), (new, old)):
        state = presented(*texts, now=now)
        text = state.token(time.store(near_and_far())._state, None)
        assert text is not None
        token = KEYS.open(text, subject=None, audience="shop", now=now)
        assert now + 80_000 <= token.expiry(key) <= now + 80_000 + 3601


def test_a_session_that_joins_a_token_with_every_reply_keeps_few_of_them(time: Time) -> None:
    now, key = int(time.wall()), pack(0, 1)
    state = SessionState(None)
    texts = [sealed(Token(Frontier.of({key: n, pack(1, n): 1}), expires_at=now + 80_000 - n)) for n in range(1, 201)]
    state.present(texts, KEYS, "shop", now=now, ttl_s=TTL_S, subject=None)
    assert len(state._joined_tokens) < 50
    ages = state._ages(now + 7200)
    assert ages.keys() == {key, *(pack(1, n) for n in range(1, 201))}
    assert ages[key] == ages[pack(1, 1)] == (7200 + int(TTL_S) - 80_000 + 1) // 3600
    assert ages[pack(1, 200)] == (7200 + int(TTL_S) - 80_000 + 200) // 3600


@pytest.mark.spec("T-72", "K-25")
def test_an_expired_token_still_demands_and_is_replaced(time: Time) -> None:
    store = time.store(near_and_far())
    session = store.session(sealed(Token(F, expires_at=int(T0_S))))
    assert session.own == F
    assert session.changed
    assert not session.rejected
    text = session.token()
    assert text is not None
    assert KEYS.open(text, subject=None, audience="shop", now=time.wall()).own == F


def test_what_was_forgotten_counts_when_it_is_learned_again(time: Time) -> None:
    session = time.store(near_and_far()).session()
    for _ in range(2):
        session.join(F)
    session.forget([Loss(Position(0, 1, 10), 8)])
    assert session.seen == Frontier((Position(0, 1, 8),))
    session.join(F)
    assert session.seen == F


@pytest.mark.spec("F-19")
def test_what_is_forgotten_is_exactly_what_was_lost(time: Time) -> None:
    session = time.store(near_and_far()).session()
    state = session._state
    state.own, state.seen = Frontier((Position(0, 1, 12), Position(0, 2, 3))), Frontier((Position(0, 1, 14),))
    session.forget([Loss(Position(0, 1, 10), 8)])  # an older loss: what was written since is none of it
    assert (state.own.offset(0, 1), state.own.offset(0, 2), state.seen.offset(0, 1)) == (12, 3, 14)
    session.forget([Loss(Position(0, 1, 12), 8)])
    assert (state.own.offset(0, 1), state.own.offset(0, 2), state.seen.offset(0, 1)) == (8, 3, 14)


def test_a_token_is_sealed_for_whom_it_is_asked_and_under_the_key_of_now(time: Time) -> None:
    keys = Keyring.generate()
    engine: FakeEngine = near_and_far()
    store: Any = time.store(engine, keyring=keys)
    session = store.session(subject="alice")
    session.join(F)
    mine, job = session.token(), session.token(subject="job")
    assert keys.open(mine, subject="alice", audience="shop", now=time.wall()).seen == F
    assert keys.open(job, subject="job", audience="shop", now=time.wall()).seen == F
    assert session.token() == mine
    again = store.session(mine, subject="alice")
    assert (again.token(), again.changed) == (mine, False)
    assert keys.open(again.token(subject="job"), subject="job", audience="shop", now=time.wall()).seen == F
    again.join(Frontier((Position(0, 1, 11),)))
    assert keys.open(again.token(), subject="alice", audience="shop", now=time.wall()).seen.offset(0, 1) == 11


def test_a_token_is_sealed_again_when_half_of_its_life_is_over(time: Time) -> None:
    store = time.store(near_and_far(), token_ttl_s=2000)
    session = store.session()
    session.join(F)
    first = session.token()
    time.now_s += 1000
    assert session.token() == first
    time.now_s += 2
    second = session.token()
    assert second != first
    assert session.token() == second
    time.now_s += 3000
    assert KEYS.open(session.token(), subject=None, audience="shop", now=time.wall() + 1999).seen == F


@pytest.mark.parametrize("subject", [None, "job"])
def test_a_token_that_the_client_holds_is_replaced_before_it_expires(time: Time, subject: str | None) -> None:
    store = time.store(near_and_far(), token_ttl_s=2000)
    held = sealed(Token(F, expires_at=int(time.wall()) + 2000))
    session = store.session(held)
    time.now_s += 1000
    assert (session.token(), session.changed) == (held, False)
    assert store.session(held).changed is False
    time.now_s += 1
    for one in (session, store.session(held)):
        assert one.changed
        text = one.token(subject=subject)
        assert KEYS.open(text, subject=subject, audience="shop", now=time.wall() + 1999).own == F
        assert one.own == F


def test_what_is_sealed_again_is_as_old_as_it_was(time: Time) -> None:
    """Or a demand would never be old enough to fall away; and never older, or it would fall away too early (I5)."""
    store = time.store(near_and_far())
    session, ends = store.session(sealed(Token(F, expires_at=int(time.wall() + TTL_S)))), int(time.wall() + TTL_S)
    for _ in range(4):
        time.now_s += TTL_S / 2 + 2
        text = session.token()
        token = KEYS.open(text, subject=None, audience="shop", now=time.wall())
        assert token.expires_at >= time.wall() + TTL_S
        assert ends <= token.expiry(pack(0, 1)) <= ends + 3601


@pytest.mark.parametrize("late", [False, True])
def test_an_empty_text_is_no_token(time: Time, late: bool) -> None:
    engine = near_and_far()
    session = time.store(engine).session(*([] if late else ["", None, ""]))
    session.join(*(["", None] if late else []))
    assert (session.rejected, session.changed, session.token()) == ((), False, None)
    with (read := session.read()):
        pass
    assert (read.receipt.how, read.receipt.endpoint) == ("covered", "near")
    text = sealed(Token(F, expires_at=int(time.wall() + TTL_S)))
    again = time.store(engine).session("", text)
    assert (again.token(), again.changed) == (text, False)
    assert time.store(engine).session(" ").rejected


def test_a_write_made_outside_is_own_even_if_it_was_seen_before(time: Time) -> None:
    store = time.store(near_and_far())
    session = store.session()
    session.join(F)
    session.join(store.position(None))
    assert session.own == F


@pytest.mark.parametrize(
    ("copies", "replicated"), [((12, 11), 11), ((12, 9), 9), ((12, None), None), ((None, None), None), ((), None)]
)
def test_a_write_is_replicated_when_no_failover_can_lose_it(
    time: Time, copies: tuple[int | None, ...], replicated: int | None
) -> None:
    """One copy is not enough: whoever has none may be promoted, and what was folded by then would be lost in silence."""
    leader = Server("leader", {0: {1: (12, None)}}, {0: {1}})
    replicas = [
        Server(f"r{i}", {0: {} if applied is None else {1: (applied, None)}}, {}) for i, applied in enumerate(copies)
    ]
    store = time.store(FakeEngine(leader, *replicas))
    store.head()  # which asks everyone
    assert store._state.replicated().offset(0, 1) == replicated


@pytest.mark.parametrize("order", [("old", "heir"), ("heir", "old")])
@pytest.mark.parametrize(("copies", "replicated"), [((), None), ((11,), 10), ((9,), 9)])
def test_what_is_past_an_end_is_not_replicated_whoever_has_it(
    time: Time, order: tuple[str, ...], copies: tuple[int, ...], replicated: int | None
) -> None:
    """The heir that told of the end has left the list. A mark that forgets the origin would hide the loss."""
    engine = FakeEngine(
        Server("old", {0: {1: (11, None)}}, {0: {1}}),
        Server("heir", {0: {1: (10, 10), 2: (0, None)}}, {0: {2}}),
        *(Server(f"r{i}", {0: {1: (applied, None)}}) for i, applied in enumerate(copies)),
    )
    store = time.store(engine)
    state, link = store._state, store._link()
    state.known(link.endpoints)
    for name in (*order, *(f"r{i}" for i in range(len(copies)))):
        state.observe(name, engine.servers[name].watermarks(), state.number_now(), time.monotonic())
    del engine.servers["heir"]
    state.known(link.endpoints)
    assert state.replicated().offset(0, 1) == replicated


def test_what_is_demanded_altogether_follows_every_change(time: Time) -> None:
    """A write's dependencies are made of it: what it forgot would be shown without its causes."""
    session = time.store(near_and_far()).session()
    state = session._state
    for offset in (10, 12):
        session.join(Frontier((Position(0, 1, offset),)))
        assert state.joined.offset(0, 1) == offset
    state.acknowledged(Commit(Position(0, 2, 3), Frontier((Position(1, 1, 4),))), now=T0_S)
    assert (state.joined.offset(0, 2), state.joined.offset(1, 1)) == (3, 4)
    session.forget([Loss(Position(0, 1, 12), 11)])
    assert state.joined == state.own | state.seen
    assert state.joined.offset(0, 1) == 11
    state.mark(0, 2000)
    assert state.joined.marks
