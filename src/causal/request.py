"""One gated request from its arrival to its receipt: no loop, no link, no waiting.

Both loops (`store.py`, `async_store.py`) drive it, so that every rule is written once.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from causal.core.frontier import EVERY_STORE, Frontier, LeaderMark
from causal.core.gate import UNCHECKED, Probe, Refuse, Serve, Wait, bears_out, considered, covered, decide, outlived
from causal.core.policy import ReadPolicy, Strategy
from causal.core.position import DoubtfulMark
from causal.core.receipt import Receipt
from causal.core.view import View
from causal.errors import CommitUnknown, GateError, GateTimeout, NoEndpoint, StoreError, WriteLost
from causal.session import SessionState, log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causal.core.gate import Decision
    from causal.core.watermark import Watermark
    from causal.engine import Commit
    from causal.state import StoreState

MAX_STEPS: Final = 1000
"""Decisions per request: an endpoint that flaps between decision and snapshot ends in a timeout, not in an endless loop."""
MAX_VAIN: Final = 3
"""Snapshots of one endpoint that are tried in vain before others are preferred: several servers may take turns behind it."""
MAX_LATE_ATTEMPTS: Final = 10
"""Snapshots that may be tried in vain once the budget is spent."""
_NOTHING_KNOWN: Final = View()


class Request:
    """One read, write or route: its demand, its decisions, its account.

    Thread-safety: one thread (or task) at a time.
    """

    __slots__ = (
        "_budget",
        "arrived",
        "asked",
        "asked_at",
        "at",
        "attempts",
        "avoided",
        "began_at",
        "demand",
        "gone",
        "kind",
        "lacking",
        "policy",
        "probes",
        "reasons",
        "refused",
        "serve",
        "session",
        "shard",
        "steps",
        "store",
        "transaction",
        "unproven",
        "vain",
        "version",
        "view",
        "waited_s",
    )

    def __init__(
        self,
        store: StoreState,
        session: SessionState,
        shard: int,
        policy: ReadPolicy,
        *,
        kind: str,
        at: str | None = None,
    ) -> None:
        self.store = store
        self.session = session
        self.shard = shard
        self.policy = policy
        self.kind = kind
        self.at = at
        self.steps = self.attempts = self.probes = self.arrived = self.asked = 0
        self.waited_s = self.began_at = self.asked_at = 0.0
        self.reasons: tuple[str, ...] = ()
        self.serve: Serve | None = None
        self.refused: GateError | StoreError | None = None
        self.transaction: str | None = None
        self.unproven = self.lacking = False
        self.vain: Counter[str] | None = None
        self.gone: dict[str, str] = {}
        self.avoided: frozenset[str] = frozenset()
        self.view = _NOTHING_KNOWN
        self._budget: bool | None = None
        self.version = session.version  # before the demand: what changes in between only makes a grant expire
        wall = store.wall() if session.seen.marks else 0.0
        self.demand = session.demand(store, shard, wall, write=kind == "write")

    def decide(self) -> Decision:
        """Decide the next step, from the newest view."""
        store, policy = self.store, self.policy
        self.asked_at = now = store.monotonic()
        self.view = view = store.view
        self.steps += 1
        if self.steps == 1:
            if not store.used:
                store.use()
            self.began_at = now
            # Of the snapshot that a Serve leads to: known before it is asked for. The common case need not draw one of its own.
            self.asked = store.numbers
            serve = covered(self.demand, view, policy, now, store.max_staleness_s, self.at)
            if serve is not None and serve.endpoint not in self.avoided:
                self.serve = serve
                self.attempts = 1
                return serve
        if not self.arrived:
            self._arrives()
        self.asked = store.number_now()
        elapsed_s = now - self.began_at
        if self.steps > MAX_STEPS or (self.attempts > MAX_LATE_ATTEMPTS and elapsed_s >= policy.wait_s):
            return Refuse("timeout", f"none of {self.attempts} snapshots bore its decision out")
        decision = self._around(view, elapsed_s, now) or decide(
            self.demand, view, policy, elapsed_s, now=now, max_staleness_s=store.max_staleness_s
        )
        if isinstance(decision, Serve):
            late = elapsed_s >= policy.wait_s and self.gone.get(decision.endpoint)
            return Refuse("no endpoint", f"{late}, and the time is up") if late else self._serves(decision)
        self.reasons += (decision.reason,)
        if isinstance(decision, Wait):
            self.view = _NOTHING_KNOWN  # many wait, for long: none of them keeps a view that others have replaced
        return decision

    def _around(self, view: View, elapsed_s: float, now: float) -> Serve | Probe | None:
        """Go round endpoints whose snapshots keep showing something else than was known, if that comes to anything."""
        vain = {name for name, times in (self.vain or {}).items() if times >= MAX_VAIN}
        if not vain and not self.avoided and not self.gone:
            return None
        for name in vain.union(self.avoided, self.gone):
            reason = "its snapshots show something else" if name in vain else "it failed this request"
            view = view.failed(name, reason, asked=self.asked, now=now)
        limit_s = self.store.max_staleness_s
        decision = decide(self.demand, view, self.policy, elapsed_s, now=now, max_staleness_s=limit_s)
        if isinstance(decision, Serve):
            return decision if decision.how == "eventual" or decision.how not in UNCHECKED else None
        return decision if isinstance(decision, Probe) else None

    def _arrives(self) -> None:
        """Draw the request's number. The common case has no need of one; drawn late, it only asks for newer answers."""
        wrote_at = self.session.wrote_at if self.policy.strategy is Strategy.WINDOW else None
        wrote_ago_s = self.store.wall() - wrote_at if wrote_at is not None else math.inf
        self.arrived = self.store.number_now()
        self.demand = self.demand.again(self.arrived, wrote_ago_s, self.at, None if self.at is None else self.shard)

    def _serves(self, serve: Serve) -> Serve:
        self.serve = serve
        self.attempts += 1
        if self._sent(serve):
            authenticated = self.session.authenticated
            self.store.enter_leader(authenticated=authenticated)
            self._budget = authenticated
        return serve

    def _sent(self, serve: Serve) -> bool:
        """Whether the gate itself sends this to a leader, which is limited; who asks for the leader by policy is not."""
        sent = serve.how == "fallback" or (serve.how == "leader" and self.policy.strategy is not Strategy.LEADER)
        return sent and self._budget is None and self.at is None

    @property
    def common(self) -> bool:
        """Whether the very first decision served, by nothing but the demand: the same would be decided again.

        Other ways of serving hang on a clock, on a question or on a limit, which a grant would go round.
        """
        served = self.serve is not None and self.serve.how == "covered"
        return served and self.steps == 1 and self.at is None and self.demand.mark is None and not self.unproven

    def missed(self, name: str, error: StoreError) -> None:
        """Note an endpoint that opened nothing. It may answer questions all the same: this request goes round it."""
        self.store.failed(name, error, self.asked)
        self.gone = {**self.gone, name: str(error) or type(error).__name__}

    def left_s(self, probe: Probe) -> float | None:
        """Return how long the next of a decision's questions is worth waiting for; None where all that follows depends on it."""
        within_s = probe.within_s
        return None if within_s is None else within_s - (self.store.monotonic() - self.asked_at)

    def granted(self, serve: Serve, view: View, asked: int, asked_at: float) -> None:
        """Account for a read that went the way of an earlier one, as if it had been decided now."""
        self.serve, self.view, self.asked, self.asked_at = serve, view, asked, asked_at
        self.steps = self.attempts = 1
        self.began_at = self.store.monotonic()

    def accepts(self, watermarks: Mapping[int, Watermark]) -> bool:
        """Judge the snapshot that `serve` led to: whether its own watermarks cover the need, from the incarnation that was known (I4).

        What it shows is news, if it differs from what was known, and the gate decides once more, by that. If it decides for the same
        endpoint, and the snapshot bears that out, there is no need of another snapshot, which might be another server's again.
        """
        serve = self.serve
        assert serve is not None
        good = self._bears_out(serve, watermarks) or self._taught(serve.endpoint, watermarks)
        if not good:
            self.vain = self.vain or Counter()
            self.vain[serve.endpoint] += 1
        return good

    def _taught(self, name: str, watermarks: Mapping[int, Watermark]) -> bool:
        store, policy = self.store, self.policy
        view, now = store.observe(name, watermarks, self.asked, self.asked_at), store.monotonic()
        known = view.of(name)
        if known is None:
            return False
        lives = known.incarnations
        if any(known.holds(shard) and lives.get(shard) != mark.incarnation for shard, mark in watermarks.items()):
            # Somebody has met another server there since. What others believe stays; this snapshot is judged by what it shows itself.
            view = view.observe(name, watermarks, asked=store.numbers, asked_at=self.asked_at, now=now)
        again: Decision | None = covered(self.demand, view, policy, now, store.max_staleness_s, self.at)
        if again is None:
            if not self.arrived:
                self._arrives()
            elapsed_s = now - self.began_at
            again = decide(self.demand, view, policy, elapsed_s, now=now, max_staleness_s=store.max_staleness_s)
        if not isinstance(again, Serve) or again.endpoint != name or again.how in UNCHECKED or self._sent(again):
            return False
        if not self._bears_out(again, watermarks):
            return False
        self.serve, self.view = again, view
        return True

    def _bears_out(self, serve: Serve, watermarks: Mapping[int, Watermark]) -> bool:
        if serve.how in UNCHECKED:
            return True
        self.unproven = serve.unproven
        good = bears_out(serve, watermarks, self.store.view.ends)
        now, limit_s, write = self.store.monotonic(), self.store.max_staleness_s, self.at is not None
        if good and outlived(serve, self.demand, self.policy, now, limit_s, write=write):
            self.unproven = True
            good = self.policy.unproven == "serve"
        return good

    # --- a write's end ---------------------------------------------------------------------------------------------

    def dependencies(self, seen: Frontier) -> Frontier:
        """Return what the write depends on: all that the session knows, and what it was gated on if a mark or a floor folded positions.

        What other stores folded stays folded: it is theirs to judge. But a reader is not to answer for writes of ours that may be lost.
        """
        joined = self.session.joined
        deps = joined.exact | seen if seen else joined.exact
        if joined.floors or joined.marks:
            number = self.store.number
            marks = {s: LeaderMark(m.until, m.exact) for s, m in joined.marks.items() if s not in (number, EVERY_STORE)}
            deps |= Frontier.of({}, {s: floor for s, floor in joined.floors.items() if s != number}, marks)
        folded = self.demand.leader_shards or self.demand.floor is not None
        return deps | Frontier.of(dict(self.serve.need)) if self.serve is not None and folded else deps

    def committed(self, commit: Commit) -> None:
        """Note an acknowledged write."""
        if commit.position is not None:
            self.store.committed(self.serve.endpoint if self.serve else "", commit.position)
        if not commit.captured:
            self.in_doubt()

    def settles(self, error: BaseException, *, done: bool) -> bool:
        """Return whether an error at the end of a write leaves something to roll back, and mark what may be committed all the same.

        It may where a commit was interrupted or cancelled, and has been (`done`) where only the account of it failed.
        """
        unknown = isinstance(error, CommitUnknown)
        if unknown or done or not isinstance(error, Exception):
            self.in_doubt()
        if isinstance(error, CommitUnknown):
            self.failed(error)
        return not unknown

    def in_doubt(self) -> None:
        """Demand the leader until every eligible replica must hold what may have been committed here, or was shown."""
        # On every shard, where endpoints hold only some: what was shown may have had its causes in others.
        exact = self.store.every - {self.shard} if self.store.view.parts is None else ()
        self.session.mark(self.store.number, self.store.until(), exact=exact)

    # --- the account -----------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Give back what the request holds of the limits. Idempotent."""
        if self._budget is not None:
            self.store.leave_leader(authenticated=self._budget)
            self._budget = None

    def error(self, refuse: Refuse) -> GateError:
        """Return the error that a refusal becomes, with its receipt."""
        names = self._considered()
        error: GateError
        if refuse.why == "lost":
            error = WriteLost(refuse.lost)
        elif refuse.why == "doubt":
            assert refuse.doubt is not None
            doubt = DoubtfulMark(**attrs.asdict(refuse.doubt, recurse=False), store=self.store.number)
            error = CommitUnknown(f"{refuse.reason}; session.forget(error.lost) accepts that", lost=(doubt,))
        elif refuse.why == "timeout":
            detail = "; ".join(f"{name}: {reason}" for name, reason in names)
            error = GateTimeout(f"{refuse.reason} ({detail})")
        else:
            error = NoEndpoint(refuse.reason, names)
        return self.failed(error)

    def closed(self) -> GateError:
        """Return the error for a request whose store was closed under it."""
        return self.error(Refuse("no endpoint", f"the store was closed while this {self.kind} waited"))

    def refusal(self, error: BaseException, *, closed: bool) -> BaseException:
        """Return what admission raises for an error: with an account; and what a link says that was closed underway is no one's mistake."""
        if closed and isinstance(error, Exception) and not isinstance(error, GateError):
            return self.closed()
        if isinstance(error, GateError) and error.receipt is None:
            self.failed(error)
        return error

    def gave_up(self, error: StoreError, waited_s: float) -> None:
        """Note that the store itself refused, after a wait that was not the gate's."""
        self.refused = error
        self.waited_s += waited_s

    def failed(self, error: GateError) -> GateError:
        """Put the account into an error."""
        log.info("%s refused: %s", self.kind, type(error).__name__)
        self.refused = error
        error.receipt = self.receipt()
        if isinstance(error, WriteLost) and self.session.trail is not None:
            self.session.trail.told(error.lost, self.store.view.ends)
        return error

    @property
    def how(self) -> str:
        """How it was served, as the receipt says it."""
        return (
            "transaction" if self.transaction else "refused" if self.refused or self.serve is None else self.serve.how
        )

    @property
    def held(self) -> bool:
        """Whether the session's guarantees held."""
        how = self.how
        return (
            how not in UNCHECKED
            and not self.session.ignored
            and not self.lacking
            and how != "bounded"
            and self.refused is None
            and (how == "transaction" or self.policy.token or self.policy.strategy is not Strategy.QUORUM)
            and not (how == "leader" and self.unproven)
        )

    def receipt(self) -> Receipt:
        """Return the account so far. Complexity: endpoints x demanded positions; made only when asked for."""
        serve = self.serve
        return Receipt(
            endpoint=self.transaction or (serve.endpoint if serve is not None and self.refused is None else None),
            how=self.how,
            waited_s=self.waited_s,
            held=self.held,
            demand=len(self.demand.need),
            probes=self.probes,
            attempts=self.attempts,
            considered=self._considered(),
            clipped=serve.clipped if serve is not None else (),
            reasons=self.reasons,
            unproven=self.unproven,
            refused=None if self.refused is None else type(self.refused).__name__,
            kind=self.kind,
            policy=str(self.policy),
        )

    def _considered(self) -> tuple[tuple[str, str], ...]:
        view = self.store.view if self.view is _NOTHING_KNOWN else self.view
        return considered(self.demand, view, self.asked_at, self.store.max_staleness_s)

    def finish(self) -> None:
        """End the request and tell whoever listens."""
        if self._budget is not None:
            self.end()
        if self.store.on_receipt is not None:
            try:
                self.store.on_receipt(self.receipt())
            except Exception as error:  # noqa: BLE001 - whoever listens must not make a committed write look failed
                log.warning("on_receipt raised %s", type(error).__name__)
