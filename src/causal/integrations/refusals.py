"""What a client is answered when the gate refuses, and when another site is asked instead.

Pure but for the two questions to a store: which endpoints there are, and what is known of them. Says nothing of what is inside.
"""

from __future__ import annotations

import json
import math
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.demand import COVERS
from causal.core.position import pack
from causal.errors import (
    CausalError,
    ConfigError,
    GateError,
    GateTimeout,
    NoEndpoint,
    Overloaded,
    TokenError,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from causal.claims import Claims, StoreBase
    from causal.core.view import View
    from causal.integrations.headers import Fields

REFUSALS: Final = (GateError, TokenError, Unreachable)
"""What becomes an answer of its own. Any other error is a mistake of somebody's, and is for the server to report."""
_REPLAYABLE: Final = (GateTimeout, NoEndpoint, Overloaded)
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\xa0-\xff]+")
_SAID: Final = {
    409: "Something that you saved has been lost in a failure. Reload to see what is left.",
    500: "It is not known whether this was saved. Reload to see.",
    503: "This cannot be done right now without leaving out what you did before. Try again.",
    400: "The request carries a token that cannot be used. Try again.",
}


@attrs.frozen
class Refusal:
    """An answer to a request that could not be served: its status, its header fields, its body. Thread-safety: immutable."""

    status: int
    fields: Fields
    body: bytes

    @property
    def reason(self) -> str:
        """What stands behind the status in a status line."""
        return HTTPStatus(self.status).phrase


def refusal_of(error: BaseException) -> CausalError | None:
    """Return the error that an answer can be made of, if this is one or only wraps such, as task groups do.

    Of several, one that trying again does not help comes first: what is lost or in doubt must be said.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [refusal_of(one) for one in error.exceptions]
        refused = [one for one in found if one is not None]
        return min(refused, key=lambda one: one.retryable) if len(refused) == len(found) else None
    return error if isinstance(error, REFUSALS) else None


def answer(error: CausalError, *, accept: str = "", head: bool = False) -> Refusal:
    """Return what to answer: the error's status, when to come back, and a few words, which nobody may keep.

    A client that asks for JSON gets problem details (RFC 9457), any other a line of text. None of the evidence is in it.
    """
    status = error.http_status
    again_s = error.retry_after_s if error.retry_after_s is not None or status != 503 else 1.0
    retry_s = None if again_s is None or not math.isfinite(again_s) else max(1, math.ceil(again_s))
    said = _SAID.get(status, _SAID[503])
    if "json" in accept.lower():
        kind = "application/problem+json"
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": said}
        body = json.dumps(problem | {"error": type(error).__name__}).encode()
    else:
        kind, body = "text/plain; charset=utf-8", f"{said}\n".encode()
    fields = [("content-type", kind), ("content-length", str(len(body))), ("cache-control", "no-store")]
    if retry_s is not None:
        fields.append(("retry-after", str(retry_s)))
    return Refusal(status, fields, b"" if head else body)


FAILED: Final = b"Internal Server Error\n"


def failure(*, head: bool = False) -> Refusal:
    """Return the answer to a request whose application failed after the session had changed: as a server's own, but with a token."""
    fields = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(FAILED))),
        ("cache-control", "no-store"),
    ]
    return Refusal(500, fields, b"" if head else FAILED)


def _upper(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(name.upper() for name in names)


@attrs.frozen
class Replay:
    """How a proxy is told to send a request to another site instead: a header of the answer, as `fly-replay: region=ams`.

    `value` is a template with `{site}`, or a function of the site's name that returns None where there is nobody to send it to.
    `seen`: a header by which the proxy marks a request that was replayed; such a one is not replayed again. By default, the header's
    name with `-src`.

    HAZARD: a request is replayed only if its session has committed nothing; what its handler did elsewhere (a mail, a payment, another
    store), it does again. Limit the methods, if handlers do such things before they read: `methods`.

    Raises: ConfigError. Thread-safety: immutable.
    """

    header: str
    value: str | Callable[[str], str | None]
    seen: str | None = None
    methods: frozenset[str] | None = attrs.field(default=None, converter=_upper)

    def __attrs_post_init__(self) -> None:
        names: tuple[object, ...] = (self.header, self.mark)  # of whatever kind
        for name in names:
            if not isinstance(name, str) or not _FIELD.fullmatch(name):
                raise ConfigError(f"replay's header is the name of a header field, not {name!r}")
        if not callable(self.value):
            try:
                if not _VALUE.fullmatch(self.value.format(site="x")):
                    raise ValueError("no value of a header field")
            except (AttributeError, KeyError, IndexError, ValueError):
                raise ConfigError(
                    f"replay's value is a text with {{site}}, or a function, not {self.value!r}"
                ) from None

    @classmethod
    def of(cls, setting: Replay | tuple[Any, ...] | None) -> Replay | None:
        """Return the setting as one of these: (header, value), and what else there is."""
        return cls(*setting) if isinstance(setting, tuple) else setting

    @property
    def mark(self) -> str:
        """The header of requests that were replayed already, in lower case."""
        return (self.seen or f"{self.header}-src").lower()

    def field(self, site: str) -> tuple[str, str] | None:
        """Return the header that sends a request to a site."""
        value = self.value(site) if callable(self.value) else self.value.format(site=site)
        return None if value is None else (self.header.lower(), value)


def elsewhere(store: StoreBase[Any, Any], session: Claims, error: CausalError, here: str) -> str | None:
    """Return the site that could serve what was refused here: where somebody covers it, or numbers all that is demanded; or None.

    What is known of an endpoint may be old, and it may be out of reach from here: it knows better itself.
    """
    link = getattr(store, "_live", None)
    if link is None or not isinstance(error, _REPLAYABLE):
        return None
    view: View = store.view
    sites: dict[str, str] = {e.name: e.site for e in link.endpoints if e.site and e.site != here}
    receipt = error.receipt
    if receipt is not None:
        for name, why in receipt.considered:
            if why == COVERS and name in sites:
                return sites[name]
    shards = set(store.shards.values())
    joined = session._state.joined
    need = {pack(p.shard, p.origin): p.offset for p in joined if p.shard in shards}
    if receipt is None or receipt.kind != "write":
        for endpoint in view.endpoints:
            if endpoint.name in sites and need and endpoint.covers(need):
                return sites[endpoint.name]
    # Who numbers it all has it all. Of a write, and of what nothing is demanded of, all that is numbered.
    keys = need.keys() if need and (receipt is None or receipt.kind != "write") else view.leaders.keys()
    leading = {sites.get(view.leaders.get(key, ""), "") for key in keys}
    return leading.pop() or None if len(leading) == 1 else None
