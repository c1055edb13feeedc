"""What the tests of both middlewares share: two sites of one store, and clients that are no more than they need to be.

`us` lags until a test lets it catch up. A jar is a browser's: it keeps what it is told, under the names that it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from http.cookies import SimpleCookie
from typing import Any

import attrs

from causal import CausalStore, Keyring, ReadPolicy, Session
from causal.integrations.asgi import CausalMiddleware, Cookies
from causal.stores.memory import MemoryCluster, MemoryEngine

KEYS = Keyring.generate()
PLAIN = Cookies(secure=False)
STRICT = ReadPolicy(0.01, then="error")


def paused() -> MemoryCluster:
    """Two sites, of which `us` applies nothing until it is told to."""
    cluster = MemoryCluster(("eu", "us"))
    cluster.pause("us")
    return cluster


def store(cluster: MemoryCluster, site: str = "eu", **settings: Any) -> CausalStore[Any, Any]:
    """A store at one of the sites, open."""
    given: dict[str, Any] = {"policy": STRICT, "keyring": KEYS, "audience": "shop"} | settings
    return CausalStore(MemoryEngine(cluster=cluster, site=site), **given).__enter__()


def put(session: Session[Any, Any], key: str = "photo", value: Any = "new.jpg") -> None:
    """Write one key."""
    with session.write() as tx:
        tx.put(key, value)


def wrote(at: CausalStore[Any, Any], subject: str | None = "alice") -> str:
    """The token of somebody who has just written."""
    session = at.session(subject=subject)
    put(session)
    return session.token() or ""


@attrs.define
class Jar:
    """A browser's cookies."""

    held: dict[str, str] = attrs.field(factory=dict)

    def take(self, set_cookies: Iterable[str]) -> None:
        """Do what a response says."""
        for line in set_cookies:
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.held.pop(name, None)
                else:
                    self.held[name] = morsel.value

    @property
    def header(self) -> str:
        """What it sends."""
        return "; ".join(f"{name}={value}" for name, value in self.held.items())


@attrs.frozen
class Answer:
    """A response."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    messages: list[dict[str, Any]] = attrs.field(factory=list)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.fields if key.lower() == name]

    def get(self, name: str) -> str | None:
        """The one value of a header, if there is one."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def token(self) -> str | None:
        """The token that came by header."""
        return self.get("causal-token")


Asgi = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


def scope(method: str = "GET", path: str = "/", headers: Iterable[tuple[str, str]] = (), **more: Any) -> dict[str, Any]:
    """What a server says of a request."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return {"type": "http", "method": method, "path": path, "headers": raw, "extensions": {}, **more}


async def ask(
    app: Any, method: str = "GET", path: str = "/", headers: Iterable[tuple[str, str]] = (), **more: Any
) -> Answer:
    """Serve one request as a server does, and return what was sent. Raises: what the application raises, with `.messages`."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    try:
        await app(scope(method, path, headers, **more), receive, send)
    except Exception as error:
        error.messages = sent  # type: ignore[attr-defined]
        raise
    return answer(sent)


def answer(sent: list[dict[str, Any]]) -> Answer:
    """What was sent, as a response."""
    start, *rest = sent
    assert start["type"] == "http.response.start", sent
    fields = [(name.decode(), value.decode()) for name, value in start["headers"]]
    assert all(name == name.lower() for name, _ in fields)
    return Answer(start["status"], fields, b"".join(m.get("body", b"") for m in rest), sent)


def asked(app: Any, *args: Any, **kwargs: Any) -> Answer:
    """As `ask`, in a loop of its own."""
    return asyncio.run(ask(app, *args, **kwargs))


async def respond(send: Any, body: bytes = b"ok", status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> None:
    """Send a whole response."""
    raw = [(b"content-length", str(len(body)).encode()), *((k.encode(), v.encode()) for k, v in headers)]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def around(app: Any, at: Any, **settings: Any) -> CausalMiddleware:
    """The middleware around an application, with alice logged in, and no TLS."""
    given: dict[str, Any] = {"subject": lambda _: "alice", "cookies": PLAIN} | settings
    return CausalMiddleware(app, at, **given)
