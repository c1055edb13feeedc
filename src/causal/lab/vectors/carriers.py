"""Answers the vectors of `carriers.json`: what a request presents, what a response sets, what calls, jobs and refusals carry.

Owns the stand-ins: a session that says what a vector says of it, and the rules of a middleware without a server.
"""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from causal import errors
from causal.context import Carried
from causal.core.demand import COVERS
from causal.core.frontier import Frontier
from causal.core.keyring import Keyring
from causal.errors import GateTimeout
from causal.integrations import refusals, work
from causal.integrations.asgi.sending import ASGIRules
from causal.integrations.calls import Caller, origin
from causal.integrations.carrier import HEADER, extract, put
from causal.integrations.cookies import TOO_LONG, Cookies
from causal.integrations.counting import Counters
from causal.integrations.jobs import running
from causal.integrations.responses import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Given = Mapping[str, Any]
_SLOT: Final = re.compile(r"[A-Za-z0-9_]{6,64}")
"""A fresh one: 32 random bits take 6 characters or more."""


class _Session(SimpleNamespace):
    """A session as far as a response asks it."""

    def token(self, *, subject: str | None = None) -> str | None:
        text: str | None = self.text
        return text


def _session(*, changed: bool = False, text: str | None = None, wrote: bool = False) -> Any:
    state = SimpleNamespace(own=Frontier(), seen=Frontier(), version=0, on_write=None)
    return _Session(
        text=text,
        changed=changed,
        writing=int(wrote),
        reading=0,
        subject=None,
        own=Frontier(),
        seen=Frontier(),
        _state=state,
    )


class _Rules(ASGIRules):
    """A middleware's rules as they are, but for a store."""

    def __init__(self, **settings: Any) -> None:
        for name, value in settings.items():
            setattr(self, name, value)


def _exchange(given: Given, **more: Any) -> Exchange:
    cookies, by_header = given.get("cookies", {}), given.get("header", True)
    settings = SimpleNamespace(
        token_ttl_s=given.get("ttl_s", 0), keyring=Keyring.generate(), audience="", wall=lambda: 0.0
    )
    rules = _Rules(
        cookies=None if cookies is None else Cookies(**cookies),
        header=by_header,
        shares=False,
        counters=Counters(None),
        store=SimpleNamespace(_state=settings),
        **more,
    )
    fields = [(name.lower(), value) for name, value in given["headers"]]
    tokens = [value for name, value in fields if name == HEADER.lower() and by_header]
    cookies_sent = [
        value for name, value in fields if name == "cookie"
    ]  # of any text; the rest is as servers hand it on
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in fields]
    return Exchange(rules, {"method": given.get("method", "GET"), "headers": raw}, tokens, cookies_sent)


def _presented(texts: Iterable[str]) -> dict[str, Any]:
    texts = list(texts)
    return {"tokens": [text for text in texts if text != TOO_LONG], "unopenable": TOO_LONG in texts}


def _lines(fields: Iterable[Sequence[str]]) -> list[list[str]]:
    """Header fields in an order of their own: none of ours means anything by theirs."""
    return sorted([name.lower(), value] for name, value in fields)


def _extract(given: Given) -> dict[str, Any]:
    return _presented(extract([tuple(pair) for pair in given["carrier"]]))


def _inject(given: Given) -> dict[str, Any]:
    carrier = [tuple(pair) for pair in given["carrier"]]
    put(given["token"], carrier)
    return {"carrier": [list(pair) for pair in carrier]}


def _present(given: Given) -> dict[str, Any]:
    exchange = _exchange(given)
    return {**_presented(exchange._texts()), "cookies": list(exchange.arrived.names)}


def _answer(given: Given) -> dict[str, Any]:
    exchange = _exchange(given)
    session = _session(changed=given["session"]["changed"], text=given["session"]["token"])
    what: Any = Carried(lambda: session)
    what.begin(session)
    exchange._before, exchange._marks = session.own, session.seen.marks
    came = [(name, value) for name, value in given["response"]]
    out = exchange.reply(what, list(came))
    cookies = exchange.rules.cookies
    sent = came if out is None else out
    ours = [value for name, value in sent if name == "set-cookie" and (name, value) not in came]
    deleted, gives = [], None
    for line in ours:
        pair, *marks = line.split("; ")
        name, _, value = pair.partition("=")
        if "Max-Age=0" in marks and not value:
            deleted.append(name)
            continue
        assert cookies is not None
        slot = name.removeprefix(cookies.prefix)
        fresh = bool(_SLOT.fullmatch(slot)) and name not in exchange.arrived.names
        gives = {"prefix": cookies.prefix, "fresh": fresh, "value": value, "attributes": sorted(marks)}
    rest = [(name, value) for name, value in sent if value not in ours]
    taken_back = {tuple(sorted(line.split("; ")[1:])) for line in ours if line.partition("=")[0] in deleted}
    return {
        "headers": _lines(rest),
        "gives": gives,
        "deletes": deleted,
        "marks": [list(marks) for marks in sorted(taken_back)],
    }


def _call(given: Given) -> dict[str, Any]:
    caller = Caller(given["origin"])
    parts = urlsplit(given["url"])
    headers = [tuple(pair) for pair in given["headers"]]
    # The host as it stands there: urlsplit would hide in whose case it is.
    written = parts.netloc.rpartition("@")[2]
    host = written if parts.port is None else written.rpartition(":")[0]
    goes = caller._is(origin(given["url"].partition("://")[0], host.removesuffix(":"), parts.port))
    if goes:
        caller._give(None if given["token"] is None else _session(text=given["token"]), headers)
    return {"goes": goes, "headers": _lines(headers)}


def _job(given: Given) -> dict[str, Any]:
    message = [tuple(pair) for pair in given["message"]]
    put_off = running(None, message, consistency="delayed")._may_wait()
    return {**_presented(extract(message)), "whole": work.whole(message, given["now"]), "retried": not put_off}


def _refusal(given: Given) -> dict[str, Any]:
    kind = getattr(errors, given["error"])
    error = kind.__new__(kind)
    error.retry_after_s, error.args = given["retry_after_s"], (given["evidence"],)
    if refusals.refusal_of(error) is None:
        return {"answered": False}
    answer = refusals.answer(error, accept=given.get("accept", ""))
    fields = {name: value for name, value in answer.fields if name != "content-length"}
    told = json.loads(answer.body) if "json" in fields["content-type"] else {}
    return {
        "answered": True,
        "status": answer.status,
        "headers": _lines(fields.items()),
        "problem": {name: told[name] for name in ("status", "error") if name in told},
        "tells": given["evidence"] in f"{answer.body.decode()} {fields}",
    }


def _replay(given: Given) -> dict[str, Any]:
    replay = refusals.Replay(given["header"], given["value"], given.get("seen"), given.get("methods"))
    exchange = _exchange({"headers": given["headers"], "method": given["method"]}, replay=replay, site="here")
    exchange.rules.store._live = SimpleNamespace(endpoints=[SimpleNamespace(name="e", site=given["site"])])  # type: ignore[attr-defined]
    exchange.rules.store.view = None  # type: ignore[misc, assignment]
    error = GateTimeout("")
    error.receipt = SimpleNamespace(considered=(("e", COVERS),), kind="read")  # type: ignore[assignment]
    session = _session(wrote=given["wrote"])
    exchange._before, exchange._marks = session.own, session.seen.marks
    field = exchange._site(session, error)
    return {"field": None if field is None else list(field)}


OPS: Final[Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    "carrier.extract": _extract,
    "carrier.inject": _inject,
    "carrier.present": _present,
    "carrier.answer": _answer,
    "carrier.call": _call,
    "carrier.job": _job,
    "carrier.refusal": _refusal,
    "carrier.replay": _replay,
}
