"""What the HTTP clients share: to which requests a token is given, and what is done with those of the replies.

Owns the comparison of origins. Knows no client library: a URL is a scheme, a host and a port here, and headers are a carrier.

HAZARD: whoever answers in a service's place, or leaves its token out of a reply, hides from the session what was written there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from causal.context import carried
from causal.errors import ConfigError, TokenError
from causal.integrations.carrier import HEADER, extract, put

if TYPE_CHECKING:
    from causal.claims import Claims

Origin = tuple[str, str, int]
"""Scheme, host and port, as `origin` spells them: equal texts are equal origins."""
_PORTS: Final = {"http": 80, "https": 443}


def origin(scheme: str, host: str, port: int | None) -> Origin | None:
    """Return an origin in its one spelling; None for what is none: another scheme, a host that is not ASCII."""
    scheme, host = scheme.lower(), host.lower()
    if scheme not in _PORTS or not host or not host.isascii():
        return None
    if host.startswith("[") or ":" in host:
        try:
            host = str(IPv6Address(host.strip("[]")))
        except ValueError:
            return None
    return scheme, host, _PORTS[scheme] if port is None else port


def configured(text: str) -> Origin:
    """Read an origin that a user wrote: `https://orders.internal:8443`. Raises: ConfigError for anything more, or less."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"not an origin: {text!r}: {error}") from None
    if not host.isascii():
        host = _ascii(host, text)
    bare = parts.path in {"", "/"} and not parts.query and not parts.fragment and "@" not in parts.netloc
    found = origin(parts.scheme, host, port) if bare and not set(text) & set("\\ \t\r\n*%") else None
    if found is None:
        raise ConfigError(
            f"an origin is a scheme, a host and perhaps a port, as in https://orders.internal, not {text!r}"
        )
    return found


def _ascii(host: str, text: str) -> str:
    try:
        import idna  # what httpx and requests encode hosts with: another table could name another host
    except ImportError:
        raise ConfigError(f"write the host of {text!r} in its ASCII form (xn--...)") from None
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ConfigError(f"not an origin: {text!r}: {error}") from None


class Caller:
    """A client of one service: gives the session's token to requests to one origin, and joins what its replies carry.

    `session` is whose it is: a session, a function that returns one or None, or, by default, the session of the request or job that
    runs now; without one, requests carry no token. `subject` is whom tokens are sealed for and replies are opened as, if that is
    not the session's own subject: the service, by a name that both know.

    A reply whose token cannot be opened is a reply all the same: what the token could have demanded is the policy's to judge (I12),
    where "raise" counts as "leader", since the call has been made.

    Raises: ConfigError for what is no origin. Thread-safety: safe from any thread.
    """

    def __init__(
        self,
        origin: str,
        *,
        session: Claims | Callable[[], Claims | None] | None = None,
        subject: str | None = None,
        header: str = HEADER,
    ) -> None:
        self._origin = configured(origin)
        self._whose = session
        self._subject = subject
        self._header = header
        self._counting = threading.Lock()
        self.given = 0
        """How many requests were given a token."""
        self.joined = 0
        """How many replies brought tokens."""
        self.rejected = 0
        """How many of those replies brought one that could not be opened."""

    def _is(self, found: Origin | None) -> bool:
        return found == self._origin

    def _current(self) -> Claims | None:
        whose: Any = self._whose
        if whose is None:
            what = carried()
            return None if what is None else what.session
        found: Claims | None = whose if hasattr(whose, "token") else whose()
        return found

    def _give(self, session: Claims | None, headers: Any) -> None:
        """Put the session's token into a request's headers, beside those that the caller put there himself: a carrier is a set.

        Without a token the field is there, and empty. A client that presents the field is given no cookies: those would be kept in the
        client's jar, and be presented for whoever calls through it next.
        Raises: TokenError as `session.token`.
        """
        text = None if session is None else session.token(subject=self._subject)
        if text is None:
            if not extract(headers, name=self._header):
                put("", headers, name=self._header)
            return
        put(",".join(dict.fromkeys([*extract(headers, name=self._header), text])), headers, name=self._header)
        with self._counting:
            self.given += 1

    def _take(self, session: Claims, headers: Any) -> None:
        """Join the tokens of a reply's headers."""
        tokens = extract(headers, name=self._header)
        if not tokens:
            return
        before = session.rejected
        try:
            session.join(*tokens, subject=self._subject)
        except TokenError:
            session._state.mark_every_store(session._settings.until())
        with self._counting:
            self.joined += 1
            self.rejected += session.rejected is not before
