"""Calls to a service through httpx, or httpx2: the session's token goes along, and what the reply says is joined.

Owns two transports and the way to put one around a client that is there. Neither library is imported: both have the same methods.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from causal.integrations.calls import Caller, Origin, origin
from causal.integrations.carrier import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.claims import Claims

T = TypeVar("T")


class _Around(Caller):
    """What both transports do before and after a request."""

    def __init__(
        self,
        inner: Any,
        origin: str,
        *,
        session: Claims | Callable[[], Claims | None] | None = None,
        subject: str | None = None,
        header: str = HEADER,
    ) -> None:
        super().__init__(origin, session=session, subject=subject, header=header)
        self._inner = inner

    def _sent(self, request: Any, session: Claims | None) -> Any:
        """Return the request with a token, as a copy: the client copies the original's headers to wherever it is redirected."""
        sent = object.__new__(type(request))
        sent.__dict__.update(request.__dict__)
        sent.headers = request.headers.copy()
        self._give(session, sent.headers)
        return sent

    def _stays(self, request: Any, response: Any) -> None:
        """See to it that a token that the caller put into the request himself is not copied to another origin either."""
        if self._header in request.headers and response.has_redirect_location:
            target = None
            with suppress(Exception):  # what is no URL is no origin of ours: the client says what is wrong with it
                target = _origin(request.url.join(response.headers["Location"]))
            if not self._is(target):
                del request.headers[self._header]


class CausalTransport(_Around):
    """A transport that gives the session's token to requests to one origin, and joins what the replies carry, around another.

    For `httpx.Client(transport=...)` or `mounts=`; whatever pattern it is mounted at, it looks at each request's origin itself, and
    requests to others go through as they are. A redirect, an `auth` flow and a retry are new requests to it.

    Thread-safety: as the transport that it is around.
    """

    def handle_request(self, request: Any) -> Any:
        """Send a request. Raises: as the transport within; TokenError as `session.token`; and what making the session raises."""
        if not self._is(_origin(request.url)):
            return self._inner.handle_request(request)
        session = self._current()
        response = self._inner.handle_request(self._sent(request, session))
        self._stays(request, response)
        if session is not None:
            self._take(session, response.headers)
        return response

    def close(self) -> None:
        """Close the transport within."""
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._inner.__exit__(*exc)


class AsyncCausalTransport(_Around):
    """The asynchronous twin of `CausalTransport`, for `httpx.AsyncClient`. Thread-safety: one event loop."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request. Raises: as `CausalTransport.handle_request`."""
        if not self._is(_origin(request.url)):
            return await self._inner.handle_async_request(request)
        session = self._current()
        response = await self._inner.handle_async_request(self._sent(request, session))
        self._stays(request, response)
        if session is not None:
            self._take(session, response.headers)
        return response

    async def aclose(self) -> None:
        """Close the transport within."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._inner.__aexit__(*exc)


def carry(
    client: T,
    origin: str,
    *,
    session: Claims | Callable[[], Claims | None] | None = None,
    subject: str | None = None,
    header: str = HEADER,
) -> T:
    """Put a causal transport around each of a client's, those for proxies too, and return the client; once for each origin.

    It is for a client that is there already, with its certificates, limits and proxies: it changes `_transport` and `_mounts`, as
    instrumentation does. Before the client's first request. Raises: ConfigError.
    """
    wrap = AsyncCausalTransport if hasattr(client, "aclose") else CausalTransport
    inside: Any = client

    def around(inner: Any) -> Any:
        return None if inner is None else wrap(inner, origin, session=session, subject=subject, header=header)

    inside._transport = around(inside._transport)
    inside._mounts = {pattern: around(inner) for pattern, inner in inside._mounts.items()}
    return client


def _origin(url: Any) -> Origin | None:
    return origin(url.scheme, url.raw_host.decode("ascii"), url.port)
