"""Calls to a service through requests: the session's token goes along, and what the reply says is joined.

Owns the adapter. requests chooses adapters by the beginning of a URL's text; which origin a request goes to is decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from requests import RequestException
from requests.adapters import HTTPAdapter
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from causal.integrations.calls import Caller, Origin, origin
from causal.integrations.carrier import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import PreparedRequest, Response

    from causal.claims import Claims


class CausalAdapter(Caller, HTTPAdapter):
    """An adapter that gives the session's token to requests to one origin, and joins what the replies carry.

    `http.mount("https://orders.internal", CausalAdapter("https://orders.internal"))`, without a slash at the end: requests to whatever
    else begins so go through as they are. A redirect and an `auth` handler's second try are new requests to it. Other arguments are
    those of `requests.adapters.HTTPAdapter`.

    Raises: ConfigError. Thread-safety: as `HTTPAdapter`.
    """

    def __init__(
        self,
        origin: str,
        *,
        session: Claims | Callable[[], Claims | None] | None = None,
        subject: str | None = None,
        header: str = HEADER,
        **options: Any,
    ) -> None:
        Caller.__init__(self, origin, session=session, subject=subject, header=header)
        HTTPAdapter.__init__(self, **options)

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request. Raises: as `HTTPAdapter.send`; TokenError as `session.token`; and what making the session raises."""
        if not self._is(_origin(request.url)):
            return super().send(request, *args, **kwargs)
        session = self._current()
        sent = request.copy()  # the session copies the original's headers to wherever it is redirected
        self._give(session, sent.headers)
        try:
            response = super().send(sent, *args, **kwargs)
        except RequestException as error:
            error.request = request
            raise
        response.request = request
        leaves = response.is_redirect and not self._is(_origin(request.url, response.headers["location"]))
        if leaves and self._header in request.headers:
            del request.headers[
                self._header
            ]  # what the caller put there himself is not copied to another origin either
        if session is not None:
            self._take(session, response.headers)
        return response


def _origin(url: str | None, location: str = "") -> Origin | None:
    """Return the origin of a URL, or of where it redirects to, if all who may read it on its way to the connection agree on it."""
    try:
        text = urljoin(url or "", location)
        one, two = urlsplit(text), parse_url(text)
        found = origin(one.scheme, one.hostname or "", one.port)
        return found if found == origin(two.scheme or "", two.host or "", two.port) else None
    except (ValueError, LocationParseError):
        return None
