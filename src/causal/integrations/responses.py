"""What every server's adapter does with a token: from a request's fields to a session, from a session to a response's fields.

Owns when a client is given a token, and how; and what is said where it could not be. Knows no server's protocol: `asgi.py` and
`wsgi.py` are what moves header fields, and decide how long a response may wait.
"""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, Final, cast

from causal.claims import Claims
from causal.context import Carried, carried
from causal.errors import ConfigError, TokenError
from causal.integrations.carrier import extract, limited, split
from causal.integrations.cookies import MAX_COOKIES, Arrived
from causal.integrations.counting import log
from causal.integrations.headers import ALLOWS, Fields, carrying_token, is_public
from causal.integrations.refusals import Refusal, answer, elsewhere, failure
from causal.integrations.rules import Hold, Rules
from causal.session import SessionState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.core.frontier import Frontier
    from causal.errors import CausalError

_NOTHING: Final = Arrived()
_SEALS: Final = 3
"""How often a token is sealed anew because a write came in between, before what is left of that is told as late."""
_LATE: Final = (
    "a write of %s was acknowledged after its response had gone, which could not carry its token: the client's next read may miss it. "
    "End the write block before the response begins (FastAPI: Depends(..., scope='function'); a stream, a background task: write "
    "first), or hand the client the session's token by other means"
)
_UNANSWERED: Final = (
    "the session of %s wrote, and its request ended without a response of ours (it was cancelled, it raised, or its handshake was "
    "closed): nobody was given the token, and the client's next read may miss the write"
)
_WITHHELD: Final = (
    "the response of %s is public, and its session wrote: the client is given no token, and its next read may miss the write. "
    "Answer writes with Cache-Control: private or no-store"
)

_ORDER: Final = (
    "%s was refused, and the page that asked cannot read that: what allows other origins stands further in. "
    "Add CORS after CausalMiddleware, so that it stands further out"
)


class Exchange:
    """One request and its response: called, it opens the request's session; then it says what the response is to carry.

    Thread-safety: opened once, under the lock of whoever carries it; the rest by whoever sends the response.
    """

    __slots__ = ("_after", "_before", "_marks", "_unopened", "arrived", "facts", "gone", "rules", "tokens")

    def __init__(self, rules: Rules, facts: Any, tokens: Sequence[str], cookies: Sequence[str]) -> None:
        self.rules = rules
        self.facts = facts
        self.tokens: Sequence[str] = tokens
        """What came by header, as the fields' values."""
        self.arrived = rules.cookies.arrived(cookies) if cookies and rules.cookies is not None else _NOTHING
        self.gone = False
        """Whether the response has begun, so that no token can be added any more."""
        self._before: Frontier | None = None
        self._marks: Mapping[int, Any] = {}
        self._unopened = False
        self._after: _After | None = None

    @property
    def route(self) -> str:
        """What counters and warnings call this request's place."""
        return self.rules.route_of(self.facts)

    @property
    def many(self) -> bool:
        """Whether more cookies arrived than a client may hold for long."""
        return len(self.arrived.names) > MAX_COOKIES

    # --- from a request ------------------------------------------------------------------------------------------------

    def __call__(self) -> Claims:
        """Open the session: of everything that was presented, for the subject as it is now."""
        rules = self.rules
        texts = self._texts()
        subject = self._subject()
        try:
            session: Claims = rules.store.session(*texts, subject=subject)  # type: ignore[attr-defined]
        except TokenError as error:
            if not self._unopened:
                self._unopened = True
                rules.counters.count("rejected", self.route, type(error).__name__)
            raise
        if session.rejected:
            reasons = ", ".join(type(one.error).__name__ for one in session.rejected)
            rules.counters.count("rejected", self.route, reasons, times=len(session.rejected))
        self._before, self._marks = session.own, session.seen.marks
        if self.gone:
            self._watch(session, session.own, session.seen.marks)
        return session

    def _texts(self) -> list[str]:
        texts = [token for value in self.tokens for token in split(value)]
        texts += self.arrived.tokens
        return limited(texts)

    def _subject(self) -> str | None:
        subject = self.rules.subject
        if subject is None:
            return None
        whose = subject(self.facts)
        if inspect.iscoroutine(whose):
            whose.close()
            raise ConfigError("subject is a plain function: it returned a coroutine")
        return whose

    def _pardoned(self) -> Claims | None:
        """Return a session for the answer to a request whose tokens did not all open, under a policy that raises then.

        The client is told once. What it holds from then on demands the leader, in the place of what could not be opened (I12): else it
        would be told for ever, or would forget.
        """
        if not self._unopened:
            return None
        store = self.rules.store
        settings, state = store._state, SessionState(self._subject())
        now = settings.wall()
        state.present(
            self._texts(),
            settings.keyring,
            settings.audience,
            now=now,
            ttl_s=settings.token_ttl_s,
            subject=state.subject,
            first=True,
        )
        state.mark_every_store(settings.until())
        self._before, self._marks = state.own, state.seen.marks
        return cast("Claims", store._sharing(state))  # type: ignore[attr-defined]

    def committed(self, session: Claims | None) -> bool:
        """Return whether the session may have written in this request: it has a write more, or is in doubt of one, or is at it."""
        if session is None:
            return False
        return bool(session.writing) or session.own != self._before or session.seen.marks != self._marks

    # --- to a response -------------------------------------------------------------------------------------------------

    def reply(self, carried: Carried[Claims], fields: Fields) -> Fields | None:
        """Return a response's fields with a token among them; None: they stay as they are. The response begins now."""
        session = carried.begun
        if session is None and self.many:
            session = self._folding(carried)
        if session is None:
            self.gone = True
            return None
        own, marks = (
            session.own,
            session.seen.marks,
        )  # before it is asked whether it changed: what comes in between is late
        out = self._given(session, fields)
        self.gone = True
        self._watch(session, own, marks)
        return out

    def _folding(self, carried: Carried[Claims]) -> Claims | None:
        try:
            return carried.session
        except Exception as error:  # noqa: BLE001 - nobody asked for a session: a response is not to fail for it
            log.info("%s cookies could not be folded into one: %s", len(self.arrived.names), type(error).__name__)
            return None

    def _given(self, session: Claims, fields: Fields) -> Fields | None:
        rules, names = self.rules, self.arrived.names
        changed = session.changed
        if not changed and not self.many:
            return None
        if is_public(fields):
            route = self.route
            rules.counters.count("withheld", route)
            if self.committed(session):
                rules.counters.warn("withheld", route, _WITHHELD, route)
            return None
        self._adopt(session, fields)
        try:
            token = self._sealed(session)
        except TokenError as error:
            route = self.route
            rules.counters.count("uncarried", route, str(error))
            rules.counters.warn("uncarried", route, "the token of %s could not be made: %s", route, error)
            return None
        cookies = rules.cookies if names or not self.tokens else None
        if token is None and not names:
            return None
        set_cookies = [] if cookies is None else cookies.replacing(names, token, rules.store._state.token_ttl_s)
        if token is not None:
            rules.counters.count("issued", self.route if rules.counters.listened else "")
        if not changed:
            rules.counters.count("folded", self.route)
        rules.shares = rules.shares or any(name.lower() == ALLOWS for name, _ in fields)
        crossing = rules.header and rules.cross_origin(self.facts)
        return carrying_token(fields, token, set_cookies, by_header=rules.header, cross_origin=crossing)

    def _adopt(self, session: Claims, fields: Fields) -> None:
        """Join the tokens that somebody further in gave, as a middleware of another store does: ours takes their place."""
        settings = self.rules.store._state
        for text in extract(fields):
            try:
                settings.keyring.open(text, subject=session.subject, audience=settings.audience, now=settings.wall())
            except TokenError as error:
                self.rules.counters.count("uncarried", self.route, f"another's token: {type(error).__name__}")
            else:
                session.join(text)

    def _sealed(self, session: Claims) -> str | None:
        """Seal the session's token; what it says of own writes is what `_watch` takes for told."""
        tries = 0
        while True:
            own, marks = session.own, session.seen.marks
            token = session.token()
            tries += 1
            if session.own is own or tries == _SEALS:
                break
        self._after = _After(self, own, marks)
        return token

    def _watch(self, session: Claims, own: Frontier, marks: Mapping[int, Any]) -> None:
        """From now on, a write of this session comes too late for this response: what is more than these, or than the token says."""
        state = session._state
        after = self._after
        if after is None:  # what the client holds says as much as was there at first, or it was told why not
            self._after = after = _After(self, own, marks)
        after.version = state.version
        state.on_write = after
        after(state)  # what has come in between

    # --- a request that failed -----------------------------------------------------------------------------------------

    def refusal(self, carried: Carried[Claims], error: CausalError) -> Refusal:
        """Return the answer to a refused request, yet without a token; or one that sends it to another site."""
        rules, session = self.rules, carried.begun
        refusal = answer(error, accept=rules.field(self.facts, "accept"), head=rules.method(self.facts) == "HEAD")
        route = self.route
        rules.counters.count("refused", route, type(error).__name__)
        site = self._site(session, error)
        if site is not None:
            refusal.fields.append(site)
            rules.counters.count("replayed", route, f"{site[0]}: {site[1]}")
        if session is None and (pardoned := self._pardoned()) is not None:
            carried.begin(pardoned)
        return refusal

    def refuse(self, carried: Carried[Claims], error: CausalError) -> Refusal:
        """Return the answer to a refused request, with a token where the session has changed."""
        refusal = self.refusal(carried, error)
        if self.rules.shares and self.rules.cross_origin(self.facts):
            self.rules.counters.warn("refused", self.route, _ORDER, self.route)
        out = self.reply(carried, refusal.fields)
        return refusal if out is None else Refusal(refusal.status, out, refusal.body)

    def _site(self, session: Claims | None, error: CausalError) -> tuple[str, str] | None:
        """Return the header field that has a proxy ask another site, if there is one to ask and nothing was committed here."""
        rules, replay = self.rules, self.rules.replay
        if replay is None or session is None or self.committed(session):
            return None
        if replay.methods is not None and rules.method(self.facts) not in replay.methods:
            return None
        if rules.field(self.facts, replay.mark):
            return None  # it has been sent here by another site: nobody is to send it round and round
        site = elsewhere(rules.store, session, error, rules.site)
        return None if site is None else replay.field(site)

    def fail(self, carried: Carried[Claims]) -> Refusal | None:
        """Return the answer to a request whose application has failed, if the client must be given a token with it; else None."""
        session = carried.begun
        if session is None or not session.changed:
            return None
        failed = failure(head=self.rules.method(self.facts) == "HEAD")
        out = self.reply(carried, failed.fields)
        return None if out is None else Refusal(failed.status, out, failed.body)

    def waits(self, carried: Carried[Claims], hold: Hold) -> bool:
        """Return whether something is still to come that a complete response ought to wait for."""
        session = carried.begun
        return (
            session is not None and hold != "never" and (hold == "always" or bool(session.writing or session.reading))
        )

    def _unanswered(self, session: Claims) -> None:
        """Say so if a session has changed that no response of ours can carry."""
        own, marks = session.own, session.seen.marks
        if session.changed:
            route = self.route
            self.rules.counters.count("uncarried", route, "no response")
            if self.committed(session):
                self.rules.counters.warn("uncarried", route, _UNANSWERED, route)
        self._watch(session, own, marks)

    def ended(self, carried: Carried[Claims]) -> None:
        """Note what the session has come to see since its response began, once the application has returned; or that none began."""
        begun, self.gone = self.gone, True
        session = carried.begun
        if session is not None and self._after is None:
            if begun:  # it was made while the response began
                self._watch(session, cast("Frontier", self._before), self._marks)
            else:
                self._unanswered(session)
        after = self._after
        if after is not None and session is not None and after.reads(session._state):
            self.rules.counters.count("late_reads", self.route)


def current_exchange() -> tuple[Exchange, Carried[Claims]] | None:
    """Return the exchange that runs in this context, with what it carries."""
    what = carried()
    made_by = what.made_by if what is not None else None
    return (made_by, what) if what is not None and isinstance(made_by, Exchange) else None


class _After:
    """What is told of a session's writes that come after its response began. Thread-safety: safe from any thread."""

    __slots__ = ("_lock", "marks", "own", "route", "rules", "version")

    def __init__(self, exchange: Exchange, own: Frontier, marks: Mapping[int, Any]) -> None:
        # Nothing here leads back to the session, which holds this: so a request leaves no circle behind.
        self.rules, self.route = exchange.rules, exchange.route
        self.own, self.marks = own, marks
        self.version = -1
        self._lock = threading.Lock()

    def __call__(self, state: SessionState) -> None:
        with self._lock:
            own, marks = state.own, state.seen.marks
            late = not self.own >= own or any(self.marks.get(store) != mark for store, mark in marks.items())
            self.own, self.marks = own, marks
            if late:
                self.version = state.version
        if late:
            self.rules.counters.count("late", self.route)
            self.rules.counters.warn("late", self.route, _LATE, self.route)

    def reads(self, state: SessionState) -> bool:
        """Return whether the session has changed since by anything but writes that were told of."""
        return self.version not in {-1, state.version}
