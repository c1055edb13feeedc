"""What jobs of every kind share: how the session of a job begins, from what its message carries, and how its reads are served.

Owns the consistency choices. Knows no queue: a message is a carrier here.

HAZARD: a message that is published inside a write block is there before the commit is: its job may find nothing, wherever it reads.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import attrs

from causal.core.policy import ReadPolicy, Strategy
from causal.errors import ConfigError, GateError, GateTimeout
from causal.integrations.carrier import extract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from causal.claims import Claims
    from causal.state import StoreState

log: Final = logging.getLogger("causal")

Consistency = Literal["always", "sticky", "delayed"]
"""How a job's reads are served: at the leader; at the nearest that holds what the job demands, which is waited for briefly, else at the
leader; or as sticky, but one retry later, if no replica holds what is demanded within that wait."""

JOBS: Final = "jobs"
"""Whom tokens in messages are sealed for by default: a name of no user, so that nobody can present one as their own."""
ASK_S: Final = 0.05
"""How long, at least, a "delayed" job's replicas may take to say what they hold: with no time at all nobody is asked. Units: seconds."""
RETRIED: Final = "Causal-Retried"
"""The field of a message that was put off once because what it demands was not here yet: it is not put off again."""
PARTIAL: Final = "Causal-Partial"
"""The field of a message whose token does not say all that the job depends on: its reads go to the leader. A Unix time as its value says
until when: the publisher was such a job itself, and of its own store the token says so, but of no other."""
ANYTHING: Final = "1"


def consistency(value: Any) -> Consistency:
    """Return a consistency choice. Raises: ConfigError for what is none."""
    if value not in get_args(Consistency):
        raise ConfigError(f"consistency is one of {', '.join(map(repr, get_args(Consistency)))}, not {value!r}")
    choice: Consistency = value
    return choice


def partial(session: Claims) -> str | None:
    """Return what PARTIAL is to say of a job that is published now; None if the session's token says all that it depends on.

    It does not say what is not committed yet; nor what an open read block has shown, which is joined when it ends; nor, of other stores,
    what a job may depend on whose own message did not say it.
    """
    if session.writing:
        log.warning("a job was published inside a write block: it may run before what it is about is committed")
    if session.writing or session.reading:
        return ANYTHING
    state = session._state
    if state.policy is None or state.policy.strategy is not Strategy.LEADER:
        return None
    untils = [mark.until for mark in state.seen.lapse(session._settings.wall()).marks.values()]
    return str(max(untils)) if untils else None


def whole(carrier: Any, now: float) -> bool:
    """Return whether a message says all that its job depends on."""
    return bool(extract(carrier)) and all(
        text != ANYTHING and text.isascii() and text.isdecimal() and len(text) < 16 and int(text) <= now
        for text in extract(carrier, name=PARTIAL)
    )


def _until_when(carrier: Any) -> bool:
    """Return whether a message's token says of its own store, as a mark, what PARTIAL says of all."""
    return all(text != ANYTHING for text in extract(carrier, name=PARTIAL))


def begin(store: Any, carrier: Any, *, subject: str | None, choice: Consistency) -> Any:
    """Return the session of a job: it demands what the message says.

    A message that says nothing, or not everything, may depend on anything (I12): the job reads at the leader, and so does whoever is
    given its token, until nothing that existed when it began can be missing from a replica.
    Raises: TokenError only with `bad_token="raise"`.
    """
    settings: StoreState = store._state
    tokens = extract(carrier) if carrier is not None else []
    session = store.session(*tokens, subject=subject)
    state = session._state
    says_all = carrier is not None and whole(carrier, settings.wall())
    ignored = (
        bool(state.rejected) and not state.seen.marks
    )  # as the store's policy may say; for a job that is never right
    if ignored or not (says_all or (tokens and _until_when(carrier))):
        state.mark(settings.number, settings.until())
    leader = choice == "always" or not says_all or bool(state.rejected)
    state.policy = ReadPolicy.leader(wait_s=settings.policy.wait_s) if leader else _sticky(settings.policy)
    return session


def _sticky(policy: ReadPolicy) -> ReadPolicy:
    if policy.strategy is Strategy.SESSION:
        return attrs.evolve(policy, then="leader")
    return ReadPolicy(bad_token=policy.bad_token)


def is_here(session: Any, store: Any) -> bool:
    """Return whether a replica holds all that a session demands, now; also where waiting for it would be of no use."""
    try:
        for shard, policy in _asked(session, store._state):
            session.route(shard=shard, policy=policy)
    except GateTimeout:
        return False
    except GateError:
        return True  # it is for the job's own reads to say what is wrong
    return True


async def is_here_async(session: Any, store: Any) -> bool:
    """Return what `is_here` does, of an asynchronous store."""
    try:
        for shard, policy in _asked(session, store._state):
            await session.route(shard=shard, policy=policy)
    except GateTimeout:
        return False
    except GateError:
        return True
    return True


def _asked(session: Claims, settings: StoreState) -> Iterator[tuple[str, ReadPolicy]]:
    """Yield the shards to ask for, and how; none if the job reads at the leader in any case."""
    policy = session._state.policy
    demanded = session.own | session.seen
    if policy is None or policy.strategy is Strategy.LEADER or demanded.marks:
        return
    for name, shard in settings.shards.items():
        if shard in demanded.shards or demanded.floors:
            yield name, attrs.evolve(policy, wait_s=max(policy.wait_s, ASK_S), then="error")
