"""The ASGI middleware around an application that does nothing: what a request costs beside the bare application.

Requests have the headers of a browser's. A row's time is that of the whole request with the middleware; the bare application's, in the same
run, is in a row of its own. Tokens are opened and sealed by a keyring that remembers none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from benches.measure import Case, Effort, Row, against_floor, alone
from causal import CausalStore, Key, Keyring, Position, Written, current_session
from causal.integrations.asgi import CausalMiddleware
from causal.stores.memory import MemoryCluster, MemoryEngine

BROWSER = [
    (b"host", b"shop.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"referer", b"https://shop.example/"),
    (b"connection", b"keep-alive"),
]
OTHERS = b"theme=dark; session=eyJ1c2VyIjo3fQ.aSl2Qw.K7cZ9q3b3mJ8l1rXn0C1v2u3w4x"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
}
BODY = {"type": "http.response.body", "body": b"ok"}
BARE = "the bare application"


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


async def asks(scope: Any, receive: Any, send: Any) -> None:
    current_session()
    await send(START)
    await send(BODY)


class Writes:
    """Acknowledges one write, so that the response carries a new token."""

    def __init__(self) -> None:
        self.offset = 1 << 41

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.offset += 1
        current_session().join(Written((Position(0, 1, self.offset),)))
        await send(START)
        await send(BODY)


async def _sent(message: Any) -> None:
    pass


@attrs.frozen
class Requests:
    """A server that does no more than to call an application, without a loop: nothing here waits."""

    app: Callable[..., Any]
    cookie: bytes

    def __call__(self) -> None:
        headers = [*BROWSER, (b"cookie", self.cookie)]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "extensions": {}}
        try:
            self.app(scope, None, _sent).send(None)
        except StopIteration:
            return
        raise AssertionError("it waits")


def cases() -> Iterator[Case]:
    keys = Keyring([Key(1, bytes(range(32)))], cache=0)
    engine = MemoryEngine(cluster=MemoryCluster(("eu", "us")), site="eu")
    store = CausalStore(engine, keyring=keys, audience="shop")
    alice = store.session(subject="alice")
    alice.join(Written((Position(0, 1, 1 << 41),)))
    cookie = OTHERS + b"; __Host-causal-0a1b2c3d=" + (alice.token() or "").encode()

    def around(app: Any) -> CausalMiddleware:
        return CausalMiddleware(app, store, subject=lambda _: "alice")

    for name, app, presented, most_us in (
        ("no token, no session", nothing, OTHERS, 60.0),
        ("no token, a session", asks, OTHERS, 60.0),
        ("a token that nobody asks for", nothing, cookie, None),
        ("a token, opened", asks, cookie, None),
        ("a token, opened, and one sealed", Writes(), cookie, 100.0),
    ):
        ours = Requests(around(app), presented)
        ours()
        if most_us is not None:

            def budgeted(effort: Effort, name: str = name, ours: Requests = ours, most_us: float = most_us) -> Row:
                value = alone(ours, effort)
                said = f"a budget of {most_us:g} us"
                return Row(f"ASGI request, {name}", value, "us", said, most_us, "floor", value / most_us, 1)

            yield Case(f"ASGI request, {name}", budgeted)
        bare = Requests(nothing, presented)
        yield against_floor(f"ASGI request, {name}, and bare", ours, bare, BARE, None)
