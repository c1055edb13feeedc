"""What a session knows: shared by the synchronous and the asynchronous store.

Owns the two frontiers and the tokens they came from. Knows nothing of endpoints; never logs a token or a key.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from causal.core.demand import Demand
from causal.core.frontier import EVERY_STORE, Frontier, LeaderMark, Loss
from causal.core.policy import ReadPolicy, Strategy
from causal.core.position import DoubtfulMark, pack
from causal.core.token import HOUR_S, Token
from causal.core.touched import NO_FILTERS, joined, may_touch, written
from causal.errors import ExpiredToken, TokenError
from causal.sealing import lasts, learned, text_setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.core.keyring import Keyring
    from causal.engine import Commit
    from causal.sealing import Demanded, Sealing
    from causal.trail import Trail

log: Final = logging.getLogger("causal")
_NOTHING: Final = Frontier()
_TOKENS: Final = 32
"""How many joined tokens are kept as they are, before what they say of ages is worked out: a session may join one a reply."""
_REJECTED: Final = 64
"""How many tokens that could not be opened are remembered, the last ones: each reply of a service may bring one."""


class Written(Frontier):
    """A frontier of writes made outside this library's write blocks: `session.join` counts it as the session's own.

    Thread-safety: immutable.
    """

    __slots__ = ()


@attrs.frozen
class Rejected:
    """A presented token that could not be used: which of the arguments it was, and why. Thread-safety: immutable."""

    index: int
    error: TokenError


class SessionState:
    """The claims of one session, as they grow.

    Both frontiers are immutable values that are replaced under a lock, so a reader sees a whole one without it.
    Thread-safety: safe from any thread, free-threaded builds included.
    """

    __slots__ = (
        "_born",
        "_cache",
        "_held",
        "_held_by",
        "_held_for",
        "_joined",
        "_joined_tokens",
        "_known",
        "_lock",
        "_sealed",
        "changed",
        "grants",
        "ignored",
        "on_write",
        "own",
        "policy",
        "reading",
        "rejected",
        "seen",
        "subject",
        "touched",
        "trail",
        "version",
        "writing",
        "wrote_at",
    )

    def __init__(self, subject: str | None, policy: ReadPolicy | None = None) -> None:
        self._lock = threading.Lock()
        self.policy = policy
        """How its reads may be served that do not say; None: as their store says."""
        self.reading = 0
        """How many of its read blocks are open: from when one has begun until what it showed has been joined."""
        self.writing = 0
        """How many of its write blocks are open: from when one has begun until its outcome has been joined."""
        self.on_write: Callable[[SessionState], object] | None = None
        """What is told when a write block has ended, or writes made outside were joined: whoever has given the client a token already."""
        self._born: dict[int, float] = {}
        self._joined_tokens: tuple[tuple[Token, float], ...] = ()
        self._cache: dict[int, tuple[int, float, Demand, Demanded]] = {}
        self.grants: dict[int, Any] = {}
        """By shard: how the last common read was served. `blocks.py` alone reads and writes it."""
        self._known: Frontier | None = None
        self._joined: tuple[int, Frontier] | None = None
        self._sealed: tuple[object, tuple[str, int]] | None = None
        self._held: tuple[tuple[str, int], ...] = ()
        """The good tokens that the client holds, and when they expire: a set, which together says what was demanded at first."""
        self._held_by: Keyring | None = None
        self._held_for = ""
        """Who sealed them, and for which audience: the same session at another store may seal for another."""
        self.trail: Trail | None = None
        """Where the session's operations are recorded, if they are."""
        self.subject = None if subject is None else text_setting("subject", subject)
        self.own = self.seen = _NOTHING
        self.touched: Mapping[int, frozenset[int]] = NO_FILTERS
        """By store: the fingerprints of what own writes touched. Replaced together with `own`, which it is about."""
        self.version = 0
        self.changed = False
        """Whether more is demanded than by what the client holds."""
        self.ignored = False
        """Whether a token was ignored (`bad_token="ignore"`): what it demanded nobody knows, so no receipt says that it was held."""
        self.rejected: tuple[Rejected, ...] = ()
        self.wrote_at: float | None = None

    # --- growing -----------------------------------------------------------------------------------------------

    def present(
        self,
        texts: Iterable[str | None],
        keyring: Keyring,
        audience: str,
        *,
        now: float,
        ttl_s: float,
        subject: str | None,
        first: bool = False,
    ) -> list[Rejected]:
        """Open and join tokens; return those that could not be opened, and why. They are appended to `rejected`.

        `first` says that this is what the client holds: if all of it is good, the client needs no other until something changes.
        """
        failed: list[Rejected] = []
        opened: dict[str, int] = {}
        expired = grown = False
        for index, text in enumerate(texts):
            if text is None or text == "":
                continue  # an empty cookie: it demands nothing, and no keyring ever sealed it
            try:
                token = keyring.open(text, subject=subject, audience=audience, now=now)
            except ExpiredToken as error:
                # Authentic: it still counts as demand when presented (I5).
                token, expired = cast("Token", error.token), True
            except TokenError as error:
                failed.append(Rejected(index, error))
                continue
            opened[text] = token.expires_at
            grown |= self._join_token(token, now, ttl_s)
        with self._lock:
            if first and not failed and not expired:
                self._held, self._held_by, self._held_for = tuple(opened.items()), keyring, audience
            elif grown or failed or expired:
                self.changed = True
            if failed:
                self.rejected = (*self.rejected, *failed)[-_REJECTED:]
        for one in failed:
            log.warning("a presented token could not be opened: %s", type(one.error).__name__)
        return failed

    def _join_token(self, token: Token, now: float, ttl_s: float) -> bool:
        """Join a token's claims, but for marks whose time is over; return whether that demands more than before."""
        theirs = token.seen.lapse(now)
        with self._lock:
            if self._joined_tokens or self.own or self.seen:
                touched = joined(self.own, self.touched, token.own, token.touched)
                grown = not (self.own >= token.own and self.seen >= theirs and self.touched == touched)
                self.own |= token.own
                self.seen |= theirs
                self.touched = touched
            else:
                grown = bool(token.own or theirs)
                self.own, self.seen, self.touched = token.own, theirs, token.touched
            if len(self._joined_tokens) >= _TOKENS:
                self._born, self._joined_tokens = learned(self._born, self._joined_tokens), ()
            self._joined_tokens += ((token, ttl_s),)
            if token.timestamp is not None:
                self.wrote_at = max(self.wrote_at or 0.0, (token.timestamp >> 16) / 1000)
            self._moved(changed=self.changed)
        return grown

    def _moved(self, *, changed: bool = True) -> None:
        self.version += 1
        self._known = None
        self.changed = changed
        self._cache.clear()

    def join(self, frontier: Frontier, *, own: bool, now: float | Callable[[], float]) -> None:
        """Join what was learned; nothing changes if it was known."""
        if frontier is self._known:
            return
        mine, theirs = self.own.entries.get, ({} if own else self.seen.entries).get
        for key, offset in frontier.entries.items():
            if (mine(key, -1) < offset and theirs(key, -1) < offset) or (own and key >> 48 in self.touched):
                break  # nobody says what a write made outside touched, known or not
        else:
            if not frontier.floors and not frontier.marks:
                self._known = frontier
                return
            folded = Frontier.of({}, frontier.floors, frontier.marks).lapse(now() if callable(now) else now)
            if self.seen >= folded:
                return
        with self._lock:
            at = now() if callable(now) else now
            self._grow(frontier.lapse(at), own, at)
        if own and self.on_write is not None:
            self.on_write(self)

    def looking(self, blocks: int) -> None:
        """Count read blocks that have begun, or, below zero, ended."""
        with self._lock:
            self.reading += blocks

    def opened(self, blocks: int) -> None:
        """Count write blocks that begin, or, below zero, end."""
        with self._lock:
            self.writing += blocks
        if blocks < 0 and self.on_write is not None:
            self.on_write(self)

    def acknowledged(self, commit: Commit, now: float, touched: frozenset[int] | None = None) -> None:
        """Join the acknowledgement of a write: its position is own, its dependencies are seen (I8); `touched` fingerprints, or anything."""
        with self._lock:
            p = commit.position
            if p is not None:
                self.touched = written(self.own, self.touched, p.shard >> 16, touched)
                self.own = self.own.advance(shard=p.shard, offset=p.offset, origin=p.origin)
                self._born[pack(p.shard, p.origin)] = self.wrote_at = now
                self._moved()
            if commit.deps and not self.own >= commit.deps and not self.seen >= commit.deps:
                self._grow(commit.deps, False, now)

    def _grow(self, frontier: Frontier, own: bool, now: float) -> None:
        if own:
            self.touched = joined(self.own, self.touched, frontier, NO_FILTERS)
            self.own |= frontier
        else:
            self.seen |= frontier
        for key in frontier.entries:
            self._born[key] = now
        self._moved()

    def mark(self, store: int, until: int, *, exact: Iterable[int] = ()) -> None:
        """Demand the leader for every shard of a store (or of every store) that is not in `exact`, until a Unix time."""
        with self._lock:
            self.seen = self.seen.mark(store, until, exact=exact)
            self._moved()

    def mark_every_store(self, until: int) -> None:
        """Demand the leader everywhere: a token was presented that could have demanded anything (I12)."""
        self.mark(EVERY_STORE, until)

    @property
    def authenticated(self) -> bool:
        """Whether every token could be opened, now and while the mark that an unopenable one left behind still holds (I12)."""
        return not self.rejected and EVERY_STORE not in self.seen.marks

    def forget(self, lost: Iterable[Loss | LeaderMark]) -> None:
        """Accept a loss, exactly that: own offsets are clipped to the surviving end; a doubtful mark forgets its origins."""
        with self._lock:
            for loss in lost:
                if isinstance(loss, LeaderMark):
                    here = (loss.store, EVERY_STORE) if isinstance(loss, DoubtfulMark) else self.seen.marks.keys()
                    marks = {
                        s: attrs.evolve(m, origins=m.origins - loss.origins) if s in here else m
                        for s, m in self.seen.marks.items()
                    }
                    self.seen = Frontier.of(self.seen.entries, self.seen.floors, marks)
                    continue
                key = loss.position.shard << 32 | loss.position.origin
                if self.own.entries.get(key, -1) == loss.position.offset:
                    self.own = self.own.clip({key: loss.end})
                if self.seen.entries.get(key, -1) <= loss.position.offset:
                    self.seen = self.seen.clip({key: loss.end})
            self._moved()

    def rebind(self, subject: str | None) -> None:
        """Carry the same demand over to another subject, at login and logout. Raises: ConfigError for what is not text."""
        if subject is not None:
            text_setting("subject", subject)
        with self._lock:
            self.subject = subject
            self._moved()

    def touches(self, store: int, key: str) -> bool:
        """Return whether an own write on a store may have touched a key: False only if certain that none did."""
        with self._lock:
            return may_touch(self.own, self.seen, self.touched, store, key)

    # --- what is demanded ----------------------------------------------------------------------------------------

    def demand(self, store: Demanded, shard: int, now: float, *, write: bool) -> Demand:
        """Return what a block on `shard` demands, at a wall time (needed only while there are marks).

        Where versions carry dependencies the whole frontier counts (I8), and where a read concerns them, all of the store's shards.
        Cached until the session changes.
        """
        name = shard << 1 | write
        cached = self._cache.get(name)
        if (
            cached is not None
            and cached[0] == self.version
            and cached[3] is store  # two stores may show the same data, and promise different things
            and (cached[2].mark is None or now < cached[1])
        ):
            return cached[2]
        with self._lock:
            version, mine, theirs = self.version, self.own, self.seen
        if theirs.marks:
            theirs = theirs.lapse(now)
        counts = store.writing if write else store.reading
        every, whole = store.every if store.dependencies else None, store.every if store.whole else None
        demand = Demand.narrowed(mine, theirs, counts, shard, number=store.number, every=every, whole=whole)
        until = min(m.until for m in theirs.marks.values()) if theirs.marks else 0
        self._cache[name] = version, until, demand, store
        return demand

    @property
    def joined(self) -> Frontier:
        """Everything demanded, of every store. Who looks at `version` afterwards finds one that is at least as new."""
        joined = self._joined
        if joined is None or joined[0] != self.version:
            with self._lock:
                self._joined = joined = self.version, self.own | self.seen if self.seen else self.own
        return joined[1]

    # --- sealing -------------------------------------------------------------------------------------------------

    def token(self, store: Sealing, subject: str | None) -> str | None:
        """Seal what is demanded, compacted to the store's limit; None while there is nothing to demand.

        Sealed again only when something changed or half of its life is over: the same text is returned otherwise. Entries keep their age.
        """
        now, keyring = store.wall(), store.keyring
        with self._lock:
            version, own, seen, touched = self.version, self.own, self.seen, self.touched
            sealed, held = self._sealed, self._held
            unchanged = not self.changed and subject == self.subject
            unchanged = unchanged and self._held_by is keyring and self._held_for == store.audience
        if seen.marks:
            seen = seen.lapse(now)
        if not own.entries and not seen and not own:
            return None
        if unchanged and len(held) == 1:
            (only,) = held
            if lasts(only, store, now):
                return only[0]
        key = (version, subject, store.audience, keyring, keyring.primary_id)
        if sealed is not None and sealed[0] == key and lasts(sealed[1], store, now):
            return sealed[1][0]
        ages = self._ages(now)
        timed = store.policy.strategy is Strategy.WINDOW and self.wrote_at is not None
        stamp = int((self.wrote_at or 0) * 1000) << 16 if timed else None
        expires_at = int(now + store.token_ttl_s) + 1
        token = Token(own, seen, expires_at=expires_at, timestamp=stamp, ages=ages, touched=touched)
        text = keyring.seal_within(
            token,
            store.max_token_chars,
            subject=subject,
            audience=store.audience,
            until=store.until(),
            now=now,
            floor={store.number: store.floor()} if store.clock_offsets else None,
            replicated=store.replicated,
            stores=(store.number,),
        )
        with self._lock:
            if subject == self.subject:
                self._sealed = key, (text, token.expires_at)
        return text

    def _ages(self, now: float) -> dict[int, int]:
        """Return how old entries are, those of less than an hour left out. What was learned more often is as old as the last time."""
        with self._lock:
            born, tokens = self._born, self._joined_tokens
            if all(not t.ages and now - t.expires_at + ttl_s < HOUR_S for t, ttl_s in tokens) and all(
                now - b < HOUR_S for b in born.values()
            ):
                return {}  # the common case: a client that comes often
            born = born.copy()
        return {k: age for k, b in learned(born, tokens).items() if (age := int((now - b) // HOUR_S)) > 0}

    def due(self, store: Sealing) -> bool:
        """Return whether the client must be given a new token: something changed, or one that it holds nears its end."""
        if self.changed or not self._held:
            return self.changed
        now = store.wall()
        return not all(lasts(one, store, now) for one in self._held)
