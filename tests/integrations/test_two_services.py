"""One service calls another, each with a store of its own at two sites: whatever the user opens next shows all of it.

`us` hears nothing of `eu`.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from fastapi import FastAPI, Request

from causal import CausalStore, Keyring, current_session
from causal.context import Carried, carrying
from causal.integrations.asgi import CausalMiddleware, Cookies
from causal.integrations.carrier import extract, inject
from causal.integrations.wsgi import CausalMiddleware as WSGIMiddleware
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.integrations.loopback import Client, Headers, Reply, Service, service
from tests.integrations.serving import uvicorn_serves, wsgiref_serves
from tests.integrations.test_clients import KINDS, opened

KEYS = Keyring.generate()


class Site:
    """One service at one site: `/key` reads, `/put-key` writes, and `/buy` writes and calls the orders' service."""

    def __init__(self, name: str, cluster: MemoryCluster, number: int, at: Service, calls: Client | None) -> None:
        engine = MemoryEngine(cluster=cluster, site=name)
        self.store = CausalStore(engine, keyring=KEYS, audience="shop", number=number)
        self.store.__enter__()
        self.calls, self.orders = calls, ""
        self.at = at
        at.answer = self.answer

    def answer(self, path: str, headers: Headers) -> Reply:
        session = self.store.session(*extract(headers), subject="alice")
        with carrying(Carried(lambda: session)):
            status, body = self.serve(path.removeprefix("/"), session)
        replied: list[tuple[str, str]] = []
        if session.changed:
            inject(session, replied)
        return status, replied, body

    def serve(self, key: str, session: Any) -> tuple[int, bytes]:
        if key.startswith("put-") or key == "buy":
            with session.write() as tx:
                tx.put("cart" if key == "buy" else key.removeprefix("put-"), "here")
            if key == "buy":
                assert self.calls is not None
                assert self.calls.get(f"{self.orders}/put-order").status_code == 200
            return 200, b""
        with session.read() as db:
            return (200, b"here") if db.get(key) else (404, b"")


class Town:
    def __init__(self, stack: ExitStack, kind: str, *, carrier: bool) -> None:
        shop, orders = (MemoryCluster(("eu", "us"), store=number) for number in (0, 1))
        for cluster in (shop, orders):
            cluster.pause("us")
        services = [stack.enter_context(service()) for _ in range(4)]
        origin = services[2].origin if carrier else "http://nowhere"
        calls = Client(kind, origin)
        stack.callback(calls.close)
        self.shop = {
            "eu": Site("eu", shop, 0, services[0], calls),
            "us": Site("us", shop, 0, services[1], None),
        }
        self.orders = {
            "eu": Site("eu", orders, 1, services[2], None),
            "us": Site("us", orders, 1, services[3], None),
        }
        self.shop["eu"].orders = services[2].origin
        self.tokens: list[str] = []

    def visit(self, site: Site, path: str, **headers: str) -> int:
        """What a browser does: it presents what it holds, and keeps what it is given."""
        response = requests.get(
            site.at.origin + path, headers={"Causal-Token": ",".join(self.tokens), **headers}, timeout=60
        )
        self.tokens = extract(response.headers) or self.tokens
        return response.status_code


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_the_users_next_request_to_either_service_shows_everything(stack: ExitStack, kind: str) -> None:
    town = Town(stack, kind, carrier=True)
    assert town.visit(town.shop["eu"], "/buy") == 200
    assert len(town.tokens) == 1
    assert town.visit(town.orders["us"], "/order") == 200
    assert town.visit(town.shop["us"], "/cart") == 200
    assert town.visit(town.orders["us"], "/order") == 200  # and nothing was dropped on the way
    assert town.visit(town.orders["us"], "/other") == 404


def test_without_the_carrier_it_does_not(stack: ExitStack) -> None:
    town = Town(stack, "httpx", carrier=False)
    assert town.visit(town.shop["eu"], "/buy") == 200
    assert town.visit(town.shop["us"], "/cart") == 200
    assert town.visit(town.orders["us"], "/order") == 404


def test_what_the_user_did_at_the_one_is_demanded_at_the_other(stack: ExitStack) -> None:
    """The shop does not know the orders' store: it carries its positions untouched, there and back."""
    town = Town(stack, "httpx2", carrier=True)
    assert town.visit(town.orders["eu"], "/put-first") == 200
    assert town.visit(town.shop["eu"], "/buy") == 200
    sent = town.orders["eu"].store.session(*town.orders["eu"].at.tokens(), subject="alice")
    assert {position.shard >> 16 for position in sent.own} == {0, 1}
    for path in ("/first", "/order"):
        assert town.visit(town.orders["us"], path) == 200


@pytest.mark.spec("H-15", "H-23")
@pytest.mark.parametrize("kind", ["httpx", "httpx2", "requests"])
@pytest.mark.parametrize("server", ["asgi", "wsgi"])
def test_a_client_that_many_users_calls_go_through_keeps_nobodys_cookies(kind: str, server: str) -> None:
    """The first call, which has nothing to demand, must not have the service's cookies kept for all who come after."""
    at = opened()
    rejected: list[int] = []

    def serve(user: str) -> None:
        session = current_session()
        rejected.append(len(session.rejected))
        with session.write() as tx:
            tx.put(f"photo/{user}", "new.jpg")

    if server == "asgi":
        app = FastAPI()
        app.add_middleware(
            CausalMiddleware,
            store=at,
            cookies=Cookies(secure=False),
            subject=lambda scope: dict(scope["headers"]).get(b"x-user", b"").decode() or None,
        )

        @app.get("/")
        def page(request: Request) -> None:
            serve(request.headers.get("x-user", ""))

        serving: Any = uvicorn_serves(app)
    else:

        def plain(environ: Any, start_response: Any) -> list[bytes]:
            serve(environ.get("HTTP_X_USER", ""))
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]

        serving = wsgiref_serves(
            WSGIMiddleware(plain, at, cookies=Cookies(secure=False), subject=lambda environ: environ.get("HTTP_X_USER"))
        )
    with serving as url:
        http = Client(kind, url)
        http.get(url + "/")  # a probe, without a session
        for user in ("alice", "bob", "carol", "alice"):
            session = at.session(subject=user)
            with carrying(Carried(lambda session=session: session)):
                assert http.get(url + "/", headers={"x-user": user}).status_code == 200
            assert session.own
            assert not session.seen.marks
        assert len(http.http.cookies) == 0
        http.close()
    assert rejected == [0] * 5
