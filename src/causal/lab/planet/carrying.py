"""What simulated clients carry: tokens, which travel, come in exchange for each other, and sometimes get lost.

Owns the client's side of a token. What it carries is a *set*: a request presents all of them, and its answer replaces exactly those.
Whatever a client does to its own claims on purpose (an older token, none at all) is told to the bookkeeping, which then expects no more
than the token says; what happens to a token against its will is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from causal.core.frontier import LeaderMark
from causal.errors import GateError, StoreError, WriteLost
from causal.lab.planet.oracle import Knowledge

if TYPE_CHECKING:
    import random
    from collections.abc import Generator

    from causal.claims import Claims
    from causal.lab.planet.process import Process
    from causal.lab.planet.world import World

    Steps = Generator[float, None, None]


@attrs.define(eq=False, on_setattr=[])
class Client:
    """One session: who it is, where, what it carries, and what it truly knows. `earlier`: a moment that it may go back to."""

    name: str
    site: str
    know: Knowledge
    key: int
    carrier: tuple[str, ...] = ()
    earlier: tuple[tuple[str, ...], Knowledge] | None = None
    requests: int = 0
    answered: int = 0
    """The number of the last request that was answered."""
    lives: int = 0
    """How often it has thrown away what it carried."""

    @property
    def alias(self) -> str:
        """Who it is in a recorded history."""
        return f"{self.name}~{self.lives}" if self.lives else self.name


class Carrying:
    """How clients present tokens and take others in exchange. Thread-safety: none."""

    def __init__(self, simulation: World, chance: random.Random) -> None:
        self.simulation = simulation
        self.chance = chance
        self.faults = faults = simulation.faults
        self._spare: tuple[str, tuple[str, ...]] = "", ()
        self._trusted = not faults.early_drop
        self._troubled = any(
            (
                faults.token_swapped,
                faults.token_dropped,
                faults.token_replayed,
                faults.token_tampered,
                faults.token_expired,
                faults.token_retired,
            )
        )

    def present(self, me: Client, process: Process, tokens: tuple[str, ...]) -> Claims:
        """Begin a request. Of a token that cannot be opened nobody knows which writes it held: a loss of these cannot be said."""
        claims = process.session(me.name, tokens)
        for token, _ in claims._state._joined_tokens:
            if token.seen.marks:
                me.know.folded = True
        if claims.rejected:
            me.know.own = {}
            if self._trusted and not self._troubled and not self.simulation.over:
                why = claims.rejected[0].error
                self.simulation.oracle.broke(
                    "good token refused", me.name, f"{process.name} did not open a token of {me.name}: {why}"
                )
        return claims

    def carry(self, me: Client, claims: Claims, presented: tuple[str, ...]) -> None:
        """Take the answer's token in exchange for those that were presented; what came in between stays."""
        text = claims.token()
        if text is None:
            return
        if me.carrier == presented:
            me.carrier = (text,)
        else:
            me.carrier = (*(other for other in me.carrier if other not in presented and other != text), text)
        if self.faults.token_swapped:
            self._spare = me.name, me.carrier
        metrics = self.simulation.metrics
        metrics.tokens += 1
        metrics.token_chars += len(text)
        if len(text) > metrics.longest_token:
            metrics.longest_token = len(text)

    def hear(self, me: Client, claims: Claims, error: GateError | StoreError, alias: str, number: int) -> None:
        """Take in an error: a loss is accepted, as a user does who is told of it."""
        simulation = self.simulation
        lost = getattr(error, "lost", ())
        if not lost:
            return
        simulation.metrics.losses_said += 1
        if isinstance(error, WriteLost):
            if simulation.recording is not None:
                simulation.recording.lost(alias, number, error.lost)
            for loss in error.lost:
                p = loss.position
                simulation.oracle.told_lost(me.know, p.shard << 32 | p.origin, p.offset)
        for loss in lost:
            if isinstance(loss, LeaderMark):
                simulation.oracle.told_doubt(me.know, loss.origins)
                if simulation.recording is not None:
                    simulation.recording.doubted(alias, number, loss.origins)
        claims.forget(lost)

    def trouble(self, me: Client) -> Steps:
        """Let something happen to the tokens before they are presented."""
        faults, chance, simulation = self.faults, self.chance, self.simulation
        if chance.random() < faults.token_expired:
            yield simulation.topology.store.token_ttl_s * chance.uniform(1.0, 1.2) + 2.0  # expiry is rounded up
        if me.carrier and chance.random() < faults.token_retired:
            me.carrier = simulation.retired(me.name, me.carrier)
        if me.carrier and chance.random() < faults.token_tampered:
            text = me.carrier[-1]
            place = chance.randrange(len(text))
            other = "A" if text[place] != "A" else "B"
            me.carrier = (*me.carrier[:-1], text[:place] + other + text[place + 1 :])
        if faults.token_swapped and chance.random() < faults.token_swapped and self._spare[0] not in ("", me.name):
            me.carrier = self._spare[1]
        if chance.random() < faults.token_dropped:
            me.carrier = ()
            me.know.become(Knowledge(me.name))
            me.lives += 1
        if me.earlier is not None and chance.random() < faults.token_replayed:
            me.carrier = me.earlier[0]
            me.know.become(me.earlier[1])
            me.lives += 1
        elif me.earlier is None or chance.random() < 0.2:
            me.earlier = me.carrier, me.know.fork(me.name)
