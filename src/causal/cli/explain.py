"""`causal explain`: what the gate would decide now for a token at a store, endpoint by endpoint. Asks for watermarks, reads no data.

Owns the questions and how the answer is shown. The decision is the gate's own: a request is driven as a read would be, up to where
a read would open its snapshot or begin to wait.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from causal.claims import Claims
from causal.cli.output import Output, json_option
from causal.cli.presented import key_options, keyring, look, text_of
from causal.core.demand import considered
from causal.core.gate import Probe, Refuse, Serve, Wait
from causal.core.policy import Limits, ReadPolicy
from causal.core.watermark import Verdict
from causal.errors import ConfigError, StoreError
from causal.keys import Keyring
from causal.request import Request
from causal.session import SessionState
from causal.state import StoreState, suspend_aware_monotonic
from causal.stores.sqlite import SQLiteEngine
from causal.stores.sqlite.observe import Observed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.cli.presented import Presented
    from causal.core.decision import Decision
    from causal.core.policy import Then
    from causal.core.watermark import Watermark
    from causal.engine import Link

COLUMNS: Final = {"endpoint": "Endpoint", "verdict": "Verdict", "why": "What speaks against it", "chosen": "Chosen"}
TIMEOUT_S: Final = 1.0


@click.command()
@click.argument("text", metavar="TOKEN")
@click.option("--data", required=True, type=click.Path(file_okay=False, exists=True), help="The store's directory.")
@click.option("--site", required=True, help="The site that the read would be made from.")
@click.option("--shard", help="The shard that would be read; needed where there are several.")
@click.option("--wait", default=0.1, show_default=True, help="The policy's wait budget, in seconds.")
@click.option("--then", default="leader", show_default=True, type=click.Choice(["leader", "error", "stale"]))
@key_options
@json_option
def explain(
    text: str,
    data: str,
    site: str,
    shard: str | None,
    wait: float,
    then: Then,
    key_file: str | None,
    env: str | None,
    audience: str | None,
    subjects: Sequence[str],
    as_json: bool,
) -> None:
    """Show what the gate would decide now for TOKEN. `-` reads it from standard input.

    Every endpoint is asked how far it is; no data is read, and nothing is waited for. Without keys the claims are taken as they stand.
    """
    text = text_of(text)
    keys = keyring(key_file, env, audience)
    found = look(text, keys, audience, subjects)
    engine, number = _engine(Path(data), site)
    policy = ReadPolicy(wait, then)
    moment = suspend_aware_monotonic()  # time stands still: asking takes none of the wait that a read would have
    state = StoreState(
        engine,
        keys or Keyring.generate(),
        audience or "unverified",
        policy,
        Limits(),
        number=number,
        monotonic=lambda: moment,
    )
    session = SessionState(found.subject)
    if keys is not None:
        Claims(state, session, [text])  # what cannot be opened counts as the policy says
    elif found.token is None:
        raise ConfigError("its claims are encrypted: explaining them needs keys (--key-file or --env)")
    else:
        session.join(found.token.own, own=True, now=state.wall())
        session.join(found.token.seen, own=False, now=state.wall())
    link = engine.open(number)
    try:
        asked = _Asked(state, link)
        request = Request(state, session, state.shard(shard), policy, kind="route")
        decision = asked.decide(request)
    finally:
        link.close()
    _show(Output(as_json=as_json), found, request, decision, asked)


def _engine(data: Path, site: str) -> tuple[SQLiteEngine, int]:
    """Return the engine of a site that is there, with all of its shards. Raises: ConfigError: nothing is made by looking."""
    members = Observed(data).live(site)
    return SQLiteEngine(data, site=site, shards=tuple(members.shards), observe=True), members.store or 0


class _Asked:
    """What the endpoints answered. Thread-safety: none."""

    def __init__(self, state: StoreState, link: Link[Any, Any]) -> None:
        self.state, self.link = state, link
        self.watermarks: dict[str, Mapping[int, Watermark]] = {}
        state.known(link.endpoints)

    def probe(self, name: str) -> None:
        state = self.state
        asked, asked_at = state.number_now(), state.monotonic()
        try:
            self.watermarks[name] = self.link.probe(name, TIMEOUT_S)
        except StoreError as error:
            self.watermarks.pop(name, None)
            state.failed(name, error, asked)
        else:
            state.observe(name, self.watermarks[name], asked, asked_at)

    def decide(self, request: Request) -> Decision:
        """Drive a request up to where it would read, wait or be refused. Every endpoint is asked, after the request."""
        request.decide()  # the request has arrived: what is asked from here on is asked after it
        for endpoint in self.link.endpoints:
            self.probe(endpoint.name)
        decision = request.decide()
        while isinstance(decision, Probe):
            for name in decision.endpoints:
                self.probe(name)
            decision = request.decide()
        request.end()
        return decision

    def verdict(self, name: str, request: Request) -> str:
        """Return the worst verdict of an endpoint on what the request demands."""
        answers = self.watermarks.get(name)
        if answers is None:
            return "UNREACHABLE"
        worst = Verdict.APPLIED
        for key, offset in request.demand.need.items():
            mark = answers.get(key >> 32)
            worst = max(worst, Verdict.UNKNOWN if mark is None else mark.verdict(key & 0xFFFFFFFF, offset))
        return worst.name


def _show(output: Output, found: Presented, request: Request, decision: Decision, asked: _Asked) -> None:
    state, demand = asked.state, request.demand
    chosen = getattr(decision, "endpoint", None)
    rows = [
        {"endpoint": name, "verdict": asked.verdict(name, request), "why": why, "chosen": name == chosen}
        for name, why in considered(demand, state.view, request.asked_at, state.max_staleness_s)
    ]
    names = {number: name for name, number in state.shards.items()}
    leaders = sorted(names[shard] for shard in demand.leader_shards)
    said = _said(decision, request.policy)
    if output.as_json:
        positions = [
            {"shard": names.get(key >> 32), "origin": key & 0xFFFFFFFF, "offset": offset, "own": key in demand.own}
            for key, offset in sorted(demand.need.items())
        ]
        output.record(
            {
                "verified": found.unverified is None,
                "reason": found.unverified,
                "policy": str(request.policy),
                "demand": positions,
                "floor": demand.floor,
                "leader_only": leaders,
                "endpoints": rows,
                "steps": list(request.reasons),
                "decision": said,
            }
        )
        return
    if found.unverified is not None:
        output.say(f"NOT VERIFIED: {found.unverified}.", style="bold red")
    what = f"{len(demand.need)} position{'s' if len(demand.need) != 1 else ''}"
    only = f"; leader only on {', '.join(leaders)}" if leaders else ""
    floor = f"; everything up to {demand.floor}" if demand.floor is not None else ""
    output.say(f"Demanded: {what}{floor}{only}. Policy: {request.policy}.")
    output.table(rows, COLUMNS)
    where = f" at {chosen}" if chosen else f" ({said['error']})"
    output.say(f"Decision: {said['decision']}{where}: {said['why']}.", style="bold")


def _said(decision: Decision, policy: ReadPolicy) -> dict[str, Any]:
    """Return a decision as plain values: what, where, and why."""
    if isinstance(decision, Serve):
        ways = {
            "covered": "it is known to have applied everything demanded",
            "leader": "it covers what every leader holds now",
            "fallback": "nobody gets there in time, and it numbers everything demanded",
            "stale": "nobody covers the demand, and the policy allows a stale read",
        }
        why = ways.get(decision.how, decision.how)
        return {"decision": "serve", "endpoint": decision.endpoint, "how": decision.how, "why": why}
    if isinstance(decision, Refuse):
        lost = [str(loss) for loss in decision.lost]
        why = f"{decision.reason}{': ' if lost else ''}{'; '.join(lost)}"
        return {"decision": "refuse", "error": decision.why, "why": why, "lost": lost}
    assert isinstance(decision, Wait)
    after = {"leader": "then go to a leader", "error": "then refuse", "stale": "then serve a stale read"}[policy.then]
    why = f"{decision.reason}; for up to {decision.for_s * 1000:.0f} ms, {after}"
    return {"decision": "wait", "endpoint": decision.endpoint, "for_s": decision.for_s, "why": why}
