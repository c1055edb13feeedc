"""`causal explain`: what the gate would decide now for a token at a store, endpoint by endpoint. Asks for watermarks, reads no data.

Owns the questions and how the answer is shown. The decisions are the gate's own: a request is driven as a read would be, up to where
a read would open its snapshot or be refused. A wait is taken as spent at once, with nothing having changed meanwhile.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from causal.claims import Claims
from causal.cli.output import Output, json_option
from causal.cli.presented import key_options, keyring, look, text_of
from causal.core.demand import COVERS, considered
from causal.core.gate import Probe, Refuse, Serve, Wait
from causal.core.lost import settled
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
    from collections.abc import Mapping, Sequence, Sized

    from causal.cli.presented import Presented
    from causal.core.decision import Decision
    from causal.core.policy import Then
    from causal.core.position import Loss
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

    Every endpoint is asked how far it is; no data is read, and nothing is waited for: what follows a wait is what would follow
    if nothing changed meanwhile. Without keys the claims are taken as they stand.
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
        decisions = asked.follow(request)
    finally:
        link.close()
    _show(Output(as_json=as_json), found, request, decisions, asked)


def _engine(data: Path, site: str) -> tuple[SQLiteEngine, int]:
    """Return the engine of a site that is there, with all of its shards. Raises: ConfigError: nothing is made by looking."""
    members = Observed(data).live(site)
    return SQLiteEngine(data, site=site, shards=tuple(members.shards), observe=True), members.store or 0


class _Asked:
    """What the endpoints answered, at a clock that waits without taking time. Thread-safety: none."""

    def __init__(self, state: StoreState, link: Link[Any, Any]) -> None:
        self.state, self.link = state, link
        self.answers: dict[str, Mapping[int, Watermark] | StoreError] = {}
        self.waited_s = 0.0
        began = state.monotonic()
        state.monotonic = lambda: began + self.waited_s
        state.known(link.endpoints)

    def ask(self, name: str, *, again: bool = True) -> None:
        """Take in an endpoint's answer: a new one, or the last one anew, as if it were the answer to a question of now."""
        state = self.state
        asked, asked_at = state.number_now(), state.monotonic()
        if again or name not in self.answers:
            try:
                self.answers[name] = self.link.probe(name, TIMEOUT_S)
            except StoreError as error:
                self.answers[name] = error
        answer = self.answers[name]
        if isinstance(answer, StoreError):
            state.failed(name, answer, asked)
        else:
            state.observe(name, answer, asked, asked_at)

    def follow(self, request: Request) -> list[Decision]:
        """Drive a request to where it would be served or refused; return the waits on its way and that end. Every endpoint is asked."""
        request.decide()  # the request has arrived: what is asked from here on is asked after it
        for endpoint in self.link.endpoints:
            self.ask(endpoint.name)
        decisions: list[Decision] = []
        while True:
            decision = request.decide()
            if isinstance(decision, Probe):
                for name in decision.endpoints:
                    self.ask(name, again=not decisions)
                continue
            decisions.append(decision)
            if not isinstance(decision, Wait):
                request.end()
                return decisions
            self.waited_s += decision.for_s
            self.ask(decision.endpoint, again=False)  # who waits asks until the budget is spent


@attrs.frozen
class _Judged:
    """A demand as it was judged: what of it still counts, what is lost of it, and each endpoint's row. Thread-safety: immutable."""

    lost: Sequence[Loss]
    clipped: Sequence[Loss]
    rows: Sequence[dict[str, Any]]


def _judged(request: Request, asked: _Asked) -> _Judged:
    """Judge every endpoint on what is demanded, by what the leaders' heads and the ends of histories show."""
    state, demand = asked.state, request.demand
    need, refusal, clipped = settled(demand, state.view)
    lost = refusal.lost if refusal is not None else ()
    if clipped:  # others' lost writes no longer count: the rows are about the rest
        demand = demand.again(demand.arrived)
        demand.need = need
    rows = []
    for name, why in considered(demand, state.view, request.asked_at, state.max_staleness_s):
        answer = asked.answers.get(name)
        verdict = "UNREACHABLE"
        if answer is not None and not isinstance(answer, StoreError):
            verdict = Verdict.LOST.name if lost else _verdict(answer, demand.need).name
            if lost:
                why = f"LOST {len(lost)} position(s)"
        rows.append({"endpoint": name, "verdict": verdict, "why": why})
    return _Judged(lost, clipped, rows)


def _verdict(answer: Mapping[int, Watermark], need: Mapping[int, int]) -> Verdict:
    """Return an endpoint's worst verdict on what is demanded."""
    worst = Verdict.APPLIED
    for key, offset in need.items():
        mark = answer.get(key >> 32)
        worst = max(worst, Verdict.UNKNOWN if mark is None else mark.verdict(key & 0xFFFFFFFF, offset))
    return worst


def _show(output: Output, found: Presented, request: Request, decisions: Sequence[Decision], asked: _Asked) -> None:
    state, demand = asked.state, request.demand
    judged = _judged(request, asked)
    chosen = getattr(decisions[0], "endpoint", None)
    rows = [row | {"chosen": row["endpoint"] == chosen} for row in judged.rows]
    names = {number: name for name, number in state.shards.items()}
    leaders = sorted(names[shard] for shard in demand.leader_shards)
    carried = _carried(request)
    steps = [_said(decision, request, judged) for decision in decisions]
    for step, after in itertools.pairwise(steps):
        step["then"] = after
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
                "carried": carried,
                "floor": demand.floor,
                "leader_only": leaders,
                "clipped": [str(loss) for loss in judged.clipped],
                "endpoints": rows,
                "steps": list(request.reasons),
                "decision": steps[0],
            }
        )
        return
    if found.unverified is not None:
        output.say(f"NOT VERIFIED: {found.unverified}.", style="bold red")
    only = f"; leader only on {', '.join(leaders)}" if leaders else ""
    floor = f"; everything up to {demand.floor}" if demand.floor is not None else ""
    output.say(f"Demanded: {_count(demand.need)}{floor}{only}. Policy: {request.policy}.")
    if carried:
        others = ", ".join(map(str, sorted({part["store"] for part in carried})))
        output.say(f"Carried: {_count(carried)} of other stores ({others}), which nobody here can judge: not demanded.")
    if judged.clipped:
        output.say(f"Lost, but only seen, so no longer demanded: {'; '.join(map(str, judged.clipped))}.")
    output.table(rows, COLUMNS)
    for step, label in zip(steps, ("Decision", *("Then, if nothing changes" for _ in steps)), strict=False):
        where = f" at {step['endpoint']}" if "endpoint" in step else f" ({step['error']})"
        raises = f". The read raises {step['raises']}" if "raises" in step else ""
        output.say(f"{label}: {step['decision']}{where}: {step['why']}{raises}.", style="bold")


def _count(positions: Sized) -> str:
    return f"{len(positions)} position{'s' if len(positions) != 1 else ''}"


def _carried(request: Request) -> list[dict[str, Any]]:
    """Return what the session carries for other stores: it is theirs to judge."""
    own = request.session.own.entries
    return [
        {
            "store": key >> 48,
            "shard": key >> 32 & 0xFFFF,
            "origin": key & 0xFFFFFFFF,
            "offset": offset,
            "own": key in own,
        }
        for key, offset in sorted(request.session.joined.entries.items())
        if key >> 48 != request.store.number
    ]


def _kept(decision: Decision, request: Request, judged: _Judged) -> str:
    """Return why an endpoint that covers is not read: only a fallback goes to who numbers writes, as long as somebody is nearer."""
    demand, view = request.demand, request.store.view.on(request.demand.shards)
    if demand.leader_shards or demand.floor is not None:
        return ""  # more is demanded than positions
    numbering = {e.name for e in view.endpoints if e.leads} - {getattr(decision, "endpoint", None)}
    spared = [row["endpoint"] for row in judged.rows if row["why"] == COVERS and row["endpoint"] in numbering]
    if not spared:
        return ""
    return f"; {', '.join(spared)} covers it, but numbers writes and is not the nearest: only then='leader' goes there"


def _said(decision: Decision, request: Request, judged: _Judged) -> dict[str, Any]:
    """Return a decision as plain values: what, where, and why."""
    kept = _kept(decision, request, judged)
    if isinstance(decision, Serve):
        ways = {
            "covered": "it is known to have applied everything demanded",
            "leader": "it covers what every leader holds now",
            "fallback": "nobody nearer gets there in time, and it has applied everything demanded",
            "stale": f"the policy allows a stale read once the wait is spent{kept or '; nobody covers the demand'}",
        }
        why = ways.get(decision.how, decision.how)
        return {"decision": "serve", "endpoint": decision.endpoint, "how": decision.how, "why": why}
    if isinstance(decision, Refuse):
        lost = [str(loss) for loss in decision.lost]
        why = f"{decision.reason}{': ' if lost else ''}{'; '.join(lost)}{kept}"
        raises = type(request.error(decision)).__name__
        return {"decision": "refuse", "error": decision.why, "raises": raises, "why": why, "lost": lost}
    assert isinstance(decision, Wait)
    why = f"{decision.reason}; for up to {decision.for_s * 1000:.0f} ms"
    return {"decision": "wait", "endpoint": decision.endpoint, "for_s": decision.for_s, "why": why}
