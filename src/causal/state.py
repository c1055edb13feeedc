"""What a process knows of one store: its settings, the view of its endpoints, and the limits in use.

Owns the evidence and the counters, behind one lock. Carries no decision out.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from causal.core.cose import MAX_CHARS
from causal.core.frontier import MAX_STORE, Frontier, pack, shard_id
from causal.core.keyring import Keyring
from causal.core.policy import Guarantee, Limits, ReadPolicy
from causal.core.view import View
from causal.errors import ConfigError, NoEndpoint, Overloaded
from causal.recorder import Recorder, recorder_of
from causal.sealing import text_setting
from causal.session import log

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from causal.core.frontier import Position
    from causal.core.receipt import Receipt
    from causal.core.watermark import Watermark
    from causal.engine import Configured, Endpoint

MAX_TTL_S: Final = 100 * 366 * 86_400
MIN_TOKEN_CHARS: Final = 32
"""About what a token takes that demands nothing."""

suspend_aware_monotonic: Final[Callable[[], float]] = functools.partial(
    time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 1))
)
"""A monotonic time that goes on while the machine sleeps (I5), where the system has one. Units: seconds."""

F = TypeVar("F", bound=Callable[..., object])


def callable_setting(name: str, value: F) -> F:
    """Return a setting that will be called. Raises: ConfigError for what cannot be."""
    if not callable(value):
        raise ConfigError(f"{name} is a function, not a {type(value).__name__}")
    return value


@attrs.define(eq=False)
class StoreState:
    """The settings of one store and what this process knows of its endpoints.

    Thread-safety: `view` is an immutable value, replaced under the lock; counters are guarded by the lock.
    """

    engine: Configured
    keyring: Keyring
    audience: str
    policy: ReadPolicy
    limits: Limits
    number: int = 0
    guarantees: Guarantee = Guarantee.ALL
    token_ttl_s: float = 86_400.0
    max_staleness_s: float = 900.0
    max_clock_skew_s: float = 60.0
    max_token_chars: int = 512
    on_receipt: Callable[[Receipt], object] | None = None
    history: Recorder | None = attrs.field(default=None, converter=recorder_of)
    monotonic: Callable[[], float] = suspend_aware_monotonic
    wall: Callable[[], float] = time.time
    view: View = attrs.field(factory=View)
    shards: Mapping[str, int] = attrs.field(factory=dict)
    every: frozenset[int] = frozenset()
    only: int | None = None
    reading: tuple[bool, bool] = (True, True)
    writing: tuple[bool, bool] = (True, True)
    write_policy: ReadPolicy = attrs.field(init=False)
    """How a write waits for its leader to cover what the session demands."""
    dependencies: bool = False
    whole: bool = False
    clock_offsets: bool = False
    used: bool = True
    """Whether a block was entered since the feed last looked."""
    woken: Callable[[], object] | None = attrs.field(default=None, init=False)
    """What is told that a store is used again."""
    lock: threading.Lock = attrs.field(factory=threading.Lock)
    numbers: int = 0
    leader_reads: int = 0
    unauthenticated: int = 0
    waiting: Counter[tuple[str, str | None]] = attrs.field(factory=Counter)
    waiters: Counter[str] = attrs.field(factory=Counter)
    random: random.Random = attrs.field(factory=random.Random)

    def __attrs_post_init__(self) -> None:
        self._check_kinds()
        if not self.audience:
            raise ConfigError("audience names who may accept the tokens, for example 'shop': it cannot be empty")
        if not 0 <= self.number <= MAX_STORE:
            raise ConfigError(f"a store number is in 0..{MAX_STORE}, not {self.number}")
        if not self.token_ttl_s > self.max_staleness_s + self.max_clock_skew_s:
            raise ConfigError(
                f"token_ttl_s ({self.token_ttl_s:g}) must exceed max_staleness_s + max_clock_skew_s "
                f"({self.max_staleness_s:g} + {self.max_clock_skew_s:g}): a demand that expires earlier is forgotten before every "
                "replica that may serve must have caught up"
            )
        if self.max_staleness_s <= 0 or self.max_clock_skew_s < 0:
            raise ConfigError("max_staleness_s is positive and max_clock_skew_s is not negative")
        if self.token_ttl_s > MAX_TTL_S:
            raise ConfigError(f"token_ttl_s is at most {MAX_TTL_S} (a century), not {self.token_ttl_s:g}")
        if not MIN_TOKEN_CHARS <= self.max_token_chars <= MAX_CHARS:
            raise ConfigError(f"max_token_chars is in {MIN_TOKEN_CHARS}..{MAX_CHARS}, not {self.max_token_chars!r}")
        self.shards = {name: shard_id(self.number, index) for name, index in self.engine.shards.items()}
        if not self.shards:
            raise ConfigError("the engine has no shards")
        self.every = frozenset(self.shards.values())
        self.write_policy = ReadPolicy(self.policy.wait_s, then="error")
        self.whole = self.engine.capabilities.whole
        self.only = min(self.every) if self.whole or len(self.every) == 1 else None
        # Whether own writes and what was seen count: spelled out here because testing a flag is slow, and reads are not.
        # Where seen counts, own does, too: a read may have shown an own write, and `seen` leaves out what `own` says already.
        wanted = self.guarantees
        reads, follows = Guarantee.MONOTONIC_READS in wanted, Guarantee.WRITES_FOLLOW_READS in wanted
        self.reading = reads or Guarantee.READ_YOUR_WRITES in wanted, reads
        self.writing = follows or Guarantee.MONOTONIC_WRITES in wanted, follows
        self.dependencies = self.engine.capabilities.dependencies
        self.clock_offsets = self.engine.capabilities.clock_offsets
        if self.history is not None:
            promised = [guarantee.name for guarantee in Guarantee if guarantee in wanted]
            facts = {"store": self.number, "guarantees": promised, "dependencies": self.dependencies}
            self.history.attach(facts)

    def _check_kinds(self) -> None:
        """Refuse a setting that is of another kind, without showing it: it may be a secret in the wrong place. Raises: ConfigError."""
        kinds: dict[str, type | tuple[type, ...]] = {
            "keyring": Keyring,
            "policy": ReadPolicy,
            "limits": Limits,
            "guarantees": Guarantee,
            "number": int,
            "max_token_chars": int,
            **dict.fromkeys(("token_ttl_s", "max_staleness_s", "max_clock_skew_s"), (int, float)),
        }
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                wanted = kind.__name__ if isinstance(kind, type) else "number of seconds"
                raise ConfigError(f"{name} is a {wanted}, not a {type(value).__name__}")
        for name in ("monotonic", "wall", "on_receipt"):
            if name != "on_receipt" or self.on_receipt is not None:
                callable_setting(name, getattr(self, name))
        text_setting("audience", self.audience)

    def chosen(self, policy: ReadPolicy | None, otherwise: ReadPolicy | None = None) -> ReadPolicy:
        """Return a block's own policy, or else its session's, or the store's. Raises: ConfigError for what is none."""
        if policy is None:
            return self.policy if otherwise is None else otherwise
        if not isinstance(policy, ReadPolicy):
            raise ConfigError(f"policy is a ReadPolicy, not a {type(policy).__name__}")
        return policy

    def shard(self, name: str | None) -> int:
        """Return a shard's id. Raises: ConfigError for an unknown name, or none where there are several."""
        if name is None:
            if self.only is not None:
                return self.only
            names = ", ".join(sorted(self.shards))
            raise ConfigError(f"this store has several shards: name one of {names}, as in session.read(shard=...)")
        try:
            return self.shards[name]
        except (KeyError, TypeError):
            raise ConfigError(f"no shard {name!r} here: there are {', '.join(sorted(self.shards))}") from None

    def until(self) -> int:
        """Return when nothing that exists now can be missing from an eligible replica any more. Units: Unix seconds."""
        return int(self.wall() + self.max_staleness_s + self.max_clock_skew_s) + 1

    def replicated(self) -> Frontier:
        """Return what every endpoint has applied that holds it and does not number it: no failover to any of them can lose it.

        Nor is anything past an end replicated, whoever still has it, nor at who went on after its end alone.
        """
        least: dict[int, int] = {}
        endpoints, ends = self.view.endpoints, self.view.ends
        for key in {key for endpoint in endpoints for key in endpoint.applied}:
            copies = [
                e.applied.get(key)
                for e in endpoints
                if key not in e.leads and key not in e.outlived and e.holds(key >> 32)
            ]
            known = [offset for offset in copies if offset is not None]
            if known and len(known) == len(copies):
                least[key] = min(*known, ends.get(key, known[0]))
        return Frontier.of(least)

    def head(self, arrived: int) -> Frontier:
        """Return every live origin's head, asked after `arrived`, and other origins' ends. Raises: NoEndpoint where no leader answered."""
        view = self.view
        head = dict(view.ends)
        for key in view.live():
            leader = view.leader(key)
            if leader is None or not leader.asked_since((key >> 32,), arrived):
                raise NoEndpoint(f"origin {key & 0xFFFFFFFF} of shard {key >> 32} has no leader that can be asked")
            head[key] = leader.applied[key]
        return Frontier.of(head)

    def floor(self) -> int:
        """Return up to which hybrid time old `seen` entries may fold: everything older than the freshness that replicas must show."""
        return max(0, int((self.wall() - self.max_staleness_s) * 1000)) << 16

    def forked(self) -> None:
        """In a forked child: the threads that held the lock, waited or read are the parent's."""
        self.lock = threading.Lock()
        self.leader_reads = self.unauthenticated = 0
        self.waiting, self.waiters = Counter(), Counter()
        self.used, self.woken = True, None

    def use(self) -> None:
        """Note that a block was entered: in the hot path only if `used` does not say so already."""
        self.used = True
        if self.woken is not None:
            self.woken()

    # --- news ----------------------------------------------------------------------------------------------------

    def known(self, endpoints: Sequence[Endpoint]) -> None:
        """Take over the list of endpoints: sites join and leave. Raises: ConfigError for shards that cannot be held apart."""
        held = {e.name: e.shards for e in endpoints if e.shards is not None}
        for name, shards in held.items():
            if self.dependencies:
                raise ConfigError(f"endpoint {name!r} holds only some shards: this engine cannot promise dependencies")
            if not shards <= self.every:
                raise ConfigError(
                    f"endpoint {name!r} holds a shard that this store does not have: {min(shards - self.every)}"
                )
        witnesses = {e.name for e in endpoints if not e.serves}
        with self.lock:
            self.view = self.view.known(((e.name, e.latency_s) for e in endpoints), held, witnesses)

    def committed(self, name: str, position: Position) -> None:
        """Note an acknowledged write: what its leader now holds is known without asking."""
        with self.lock:
            self.view = self.view.advanced(name, pack(position.shard, position.origin), position.offset)

    def number_now(self) -> int:
        """Draw the next number, for a question that is about to be sent or a request that has arrived."""
        with self.lock:
            self.numbers += 1
            return self.numbers

    def observe(self, name: str, watermarks: Mapping[int, Watermark], asked: int, asked_at: float) -> View:
        """Take in an endpoint's answer to question `asked`, sent at `asked_at`."""
        now = self.monotonic()
        with self.lock:
            if self.view.of(name) is not None:  # a late answer must not bring back an endpoint that has left
                self.view = self.view.observe(name, watermarks, asked=asked, asked_at=asked_at, now=now)
            return self.view

    def applied(self, name: str) -> Mapping[int, int]:
        """Return what is known to be applied at an endpoint, by packed key."""
        endpoint = self.view.of(name)
        return endpoint.applied if endpoint is not None else {}

    def heard_since(self, name: str, shards: Iterable[int], arrived: int) -> bool:
        """Return whether an endpoint has answered, or failed, a question that was sent after a request arrived; or has left."""
        endpoint = self.view.of(name)
        return endpoint is None or endpoint.heard_since(shards, arrived)

    def failed(self, name: str, error: Exception, asked: int) -> View:
        """Note that an endpoint did not answer."""
        log.info("endpoint %s cannot be used: %s", name, error)
        now = self.monotonic()
        with self.lock:
            self.view = self.view.failed(name, str(error) or type(error).__name__, asked=asked, now=now)
            return self.view

    # --- admission -----------------------------------------------------------------------------------------------

    def enter_wait(self, endpoint: str, subject: str | None) -> None:
        """Count a waiter; anonymous ones are not one subject. Raises: Overloaded, at once, beyond a limit."""
        with self.lock:
            if self.waiters[endpoint] >= self.limits.waiters_per_endpoint:
                raise Overloaded(f"{self.limits.waiters_per_endpoint} reads wait at {endpoint} already")
            if subject is not None and self.waiting[endpoint, subject] >= self.limits.waiters_per_subject:
                raise Overloaded(
                    f"this subject has {self.limits.waiters_per_subject} reads waiting at {endpoint} already"
                )
            self.waiters[endpoint] += 1
            self.waiting[endpoint, subject] += 1

    def leave_wait(self, endpoint: str, subject: str | None) -> None:
        """Undo `enter_wait`."""
        with self.lock:
            self.waiters[endpoint] -= 1
            self.waiting[endpoint, subject] -= 1
            if not self.waiting[endpoint, subject]:
                del self.waiting[endpoint, subject]

    def enter_leader(self, *, authenticated: bool) -> None:
        """Count a read that the gate sends to a leader. Raises: Overloaded, at once, beyond a limit."""
        with self.lock:
            if not authenticated:
                if self.unauthenticated >= self.limits.unauthenticated:
                    raise Overloaded("too many leader reads for sessions whose token could not be opened")
                self.unauthenticated += 1
            else:
                if self.leader_reads >= self.limits.leader_reads:
                    raise Overloaded(f"{self.leader_reads} reads have fallen back to a leader already")
                self.leader_reads += 1

    def leave_leader(self, *, authenticated: bool) -> None:
        """Undo `enter_leader`."""
        with self.lock:
            if authenticated:
                self.leader_reads -= 1
            else:
                self.unauthenticated -= 1
