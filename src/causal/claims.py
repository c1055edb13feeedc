"""What the synchronous and the asynchronous store have in common besides the rules: their settings and a session's claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, Required, TypedDict, TypeVar, Unpack

from causal.core.frontier import Frontier
from causal.core.policy import Limits, ReadPolicy
from causal.session import Written
from causal.state import StoreState
from causal.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike

    from causal.core.frontier import LeaderMark, Loss
    from causal.core.keyring import Keyring
    from causal.core.policy import Guarantee
    from causal.core.receipt import Receipt
    from causal.core.view import View
    from causal.engine import Configured
    from causal.recorder import Recorder
    from causal.session import Rejected, SessionState

R = TypeVar("R")
W = TypeVar("W")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class Settings(TypedDict, total=False):
    """The settings of a store, all by keyword. Units: seconds; `token_ttl_s` must exceed `max_staleness_s + max_clock_skew_s`.

    HAZARD: where the servers' wall clocks differ by more than `max_clock_skew_s`, demands expire too early by the difference.
    """

    keyring: Required[Keyring]
    audience: Required[str]
    number: int
    """The store's number, the upper half of its shard ids: stores that meet in one session need different ones."""
    policy: ReadPolicy
    guarantees: Guarantee
    token_ttl_s: float
    max_staleness_s: float
    max_clock_skew_s: float
    max_token_chars: int
    limits: Limits
    on_receipt: Callable[[Receipt], object] | None
    history: Recorder | str | PathLike[str] | Callable[[dict[str, Any]], object] | None
    """Where the sessions' operations are recorded, for `causal audit`."""
    monotonic: Callable[[], float]
    wall: Callable[[], float]


class StoreBase(Generic[R, W]):
    """The settings of a store. Thread-safety: the settings never change."""

    def __init__(self, engine: Configured, **settings: Unpack[Settings]) -> None:
        if unknown := settings.keys() - Settings.__annotations__.keys():
            raise TypeError(f"{type(self).__name__} has no setting {', '.join(map(repr, sorted(unknown)))}")
        if missing := {"keyring", "audience"} - settings.keys():
            raise TypeError(f"{type(self).__name__} needs {' and '.join(sorted(missing))}")
        given: dict[str, Any] = {"policy": ReadPolicy(), "limits": Limits(), **settings}
        self._state = StoreState(engine, **given)

    @property
    def engine(self) -> Configured:
        """The engine, as it was given."""
        return self._state.engine

    @property
    def view(self) -> View:
        """What this process knows of the endpoints now."""
        return self._state.view

    @property
    def shards(self) -> dict[str, int]:
        """Shard name -> shard id."""
        return dict(self._state.shards)


class Sharing(Protocol[S_co]):
    """A store that can carry on a session that has begun at another."""

    def _sharing(self, state: SessionState, /) -> S_co: ...


class Claims:
    """What a session has to say: tokens in, tokens out, and what they demand.

    Thread-safety: safe from any thread.
    """

    __slots__ = ("_settings", "_state")

    def __init__(self, settings: StoreState, state: SessionState, texts: Iterable[str | None] | None) -> None:
        self._settings = settings
        self._state = state
        if texts is None:
            return  # a session that has begun elsewhere
        if settings.history is not None:
            state.trail = Trail.begin(settings.history, settings.keyring, state.subject)
        self._present(texts, first=True)

    def at(self, store: Sharing[S]) -> S:
        """Return this very session at another store, synchronous or asynchronous: what one of both learns, the other demands.

        Each seals and opens with its own store's keyring and audience.
        """
        return store._sharing(self._state)

    def join(self, *claims: str | Frontier | None, subject: str | None = None) -> None:
        """Join replies' tokens, frontiers, and the positions of writes made outside (`store.position`, which count as own).

        `subject` is whose the tokens are, where they were sealed for another than this session's: by a service that was called.
        Raises: TokenError only with `bad_token="raise"`.
        """
        now = self._settings.wall()
        for claim in claims:
            if isinstance(claim, Frontier):
                self._state.join(claim, own=isinstance(claim, Written), now=now)
        self._present([claim for claim in claims if not isinstance(claim, Frontier)], subject=subject)

    def _present(self, texts: Iterable[str | None], *, subject: str | None = None, first: bool = False) -> None:
        """Open tokens and join them; what cannot be opened is the policy's to judge (I12)."""
        store, trail = self._settings, self._state.trail
        now, ttl_s, texts = store.wall(), store.token_ttl_s, list(texts)
        whose = self._state.subject if subject is None else subject
        failed = self._state.present(
            texts, store.keyring, store.audience, now=now, ttl_s=ttl_s, subject=whose, first=first
        )
        if trail is not None:
            wrong = {one.index for one in failed}
            trail.presented(text for nth, text in enumerate(texts) if text and nth not in wrong)
        if not failed:
            return
        match store.policy.bad_token:
            case "raise":
                raise failed[0].error
            case "leader":
                self._state.mark_every_store(store.until())
            case "ignore":
                self._state.ignored = True

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """The presented tokens that could not be used, and why."""
        return self._state.rejected

    @property
    def subject(self) -> str | None:
        """Whose session it is."""
        return self._state.subject

    @property
    def own(self) -> Frontier:
        """The session's acknowledged writes."""
        return self._state.own

    @property
    def seen(self) -> Frontier:
        """What the session's reads and dependencies showed."""
        return self._state.seen

    def touches(self, store: int, key: str) -> bool:
        """Return whether an own write on the store of this number may have touched a cache key: False only if certain that none did.

        Writes say what they touch by `write(touching=...)`; those that do not say it, and those made outside, may have touched anything.
        Raises: ConfigError for a key that is no text.
        """
        return self._state.touches(store, key)

    @property
    def reading(self) -> int:
        """How many read blocks of this session are open now: what they show is not in its token yet."""
        return self._state.reading

    @property
    def writing(self) -> int:
        """How many write blocks of this session are open now."""
        return self._state.writing

    @property
    def changed(self) -> bool:
        """Whether the client must be given a new token: more is demanded than by those that it presented at first (a set: several good
        ones need not be made one), or half of the life of one of them is over.
        """
        return self._state.due(self._settings)

    def token(self, *, subject: str | None = None) -> str | None:
        """Seal what is demanded, for this session's subject or for another (a job, a service). None while there is nothing to demand.

        Raises: TokenError if other stores' demands alone exceed the hard limit of a token.
        """
        text = self._state.token(self._settings, subject if subject is not None else self._state.subject)
        if self._state.trail is not None:
            self._state.trail.issued(text, self._settings.wall())
        return text

    def rebind(self, subject: str | None) -> None:
        """Carry the demand over to another subject: at login and logout. Raises: ConfigError for what is not text."""
        self._state.rebind(subject)

    def forget(self, lost: Iterable[Loss | LeaderMark]) -> None:
        """Accept a loss (`error.lost`), exactly that: what else the session wrote or saw still counts."""
        lost = tuple(lost)
        self._state.forget(lost)
        if self._state.trail is not None:
            self._state.trail.forgot(lost)
