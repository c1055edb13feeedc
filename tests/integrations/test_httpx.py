"""What is httpx's, and httpx2's, own: mounts, clients that are there already, streams, hooks, proxies, applications without a socket."""

import asyncio
import contextvars
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest

from causal.context import Carried, carrying
from causal.integrations.carrier import HEADER
from causal.integrations.httpx import AsyncCausalTransport, CausalTransport, carry
from tests.integrations.loopback import Service, redirect, sealed_for, service
from tests.integrations.test_clients import opened, wrote


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def lib(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def session() -> Iterator[Any]:
    made = wrote(opened())
    with carrying(Carried(lambda: made)):
        yield made


def another(session: Any) -> Any:
    """A session that wrote later, at the same store."""
    return wrote(session._store)


def test_mounted_at_too_wide_a_pattern(lib: Any, session: Any, a: Service, b: Service) -> None:
    for pattern in ("all://", "http://", "http://127.0.0.1"):
        with lib.Client(mounts={pattern: CausalTransport(lib.HTTPTransport(), a.origin)}) as http:
            http.get(a.origin)
            assert a.tokens() == [session.token()]
            http.get(b.origin)
            assert b.tokens() == []


def test_two_services_each_with_its_own_token(lib: Any, session: Any, a: Service, b: Service) -> None:
    inner = lib.HTTPTransport()
    mounts = {one.origin: CausalTransport(inner, one.origin, subject=name) for one, name in ((a, "a"), (b, "b"))}
    with lib.Client(mounts=mounts, follow_redirects=True) as http:
        a.answer = redirect(b.origin + "/there")
        http.get(a.origin)
    assert sealed_for("a", session, a)
    assert sealed_for("b", session, b)


def test_a_client_that_is_there_already(lib: Any, session: Any, a: Service, b: Service) -> None:
    http = lib.Client(headers={"x-mine": "yes"}, mounts={"http://": lib.HTTPTransport(), "all://*.org": None})
    assert carry(carry(http, a.origin), b.origin, subject="b") is http
    with http:
        http.get(a.origin)
        http.get(b.origin)
    assert dict(a.seen[0][1])["x-mine"] == "yes"
    assert a.tokens() == [session.token()]
    assert sealed_for("b", session, b)


def test_an_asynchronous_client_that_is_there_already(lib: Any, session: Any, a: Service) -> None:
    other = another(session)
    a.answer = lambda *_: (200, [(HEADER, other.token())], b"ok")

    async def use() -> None:
        async with carry(lib.AsyncClient(mounts={"http://nowhere": lib.AsyncHTTPTransport()}), a.origin) as http:
            await asyncio.gather(*(http.get(a.origin) for _ in range(3)))

    asyncio.run(use())
    assert session.own >= other.own
    assert len(a.tokens()) == 1


def test_a_streamed_reply_is_joined_before_it_is_read(lib: Any, session: Any, a: Service) -> None:
    other = another(session)
    a.answer = lambda *_: (200, [(HEADER, other.token())], b"a" * 100_000)
    with (
        lib.Client(transport=CausalTransport(lib.HTTPTransport(), a.origin)) as http,
        http.stream("POST", a.origin, content=iter([b"streamed ", b"up"])) as response,
    ):
        assert session.own >= other.own
        assert sum(map(len, response.iter_bytes())) == 100_000


def test_hooks_see_the_request_without_the_token(lib: Any, session: Any, a: Service) -> None:
    seen: list[Any] = []
    hooks = {
        "request": [lambda request: seen.append(dict(request.headers))],
        "response": [lambda response: seen.append(dict(response.request.headers))],
    }
    with lib.Client(transport=CausalTransport(lib.HTTPTransport(), a.origin), event_hooks=hooks) as http:
        http.get(a.origin)
    assert a.tokens() == [session.token()]
    assert len(seen) == 2
    assert not [headers for headers in seen if HEADER.lower() in headers]


def test_a_request_that_is_sent_again_is_given_the_token_of_then(lib: Any, session: Any, a: Service) -> None:
    with lib.Client(transport=CausalTransport(lib.HTTPTransport(), a.origin)) as http:
        request = http.build_request("POST", a.origin, json={"n": 1})
        http.send(request)
        first = a.tokens()
        with session.write() as tx:
            tx.put("k", 2)
        http.send(request)
    assert a.tokens() == [session.token()] != first
    assert len(first) == 1
    assert HEADER not in request.headers


def test_a_failed_request_raises_what_the_library_raises(lib: Any, session: Any) -> None:
    with service() as gone:
        origin = gone.origin
    with lib.Client(transport=CausalTransport(lib.HTTPTransport(), origin)) as http:
        request = http.build_request("GET", origin)
        with pytest.raises(lib.ConnectError) as error:
            http.send(request)
        assert error.value.request is request
    assert HEADER not in request.headers


def test_a_proxy_from_the_environment(
    lib: Any, session: Any, a: Service, b: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain HTTP proxy is told what it is to pass on, of requests to the origin and of no others."""
    monkeypatch.setenv("http_proxy", b.origin)
    monkeypatch.delenv("no_proxy", raising=False)
    b.answer = lambda path, _: (
        (307, [("Location", "http://evil.example/x")], b"") if "orders" in path else (200, [], b"")
    )
    with carry(lib.Client(follow_redirects=True), "http://orders.example") as http:
        http.get("http://orders.example/", headers={HEADER: "by hand"})
        http.get("http://elsewhere.example/x")
    hosts = [(path, dict(headers)["Host"], len(b.tokens(n))) for n, (path, headers) in enumerate(b.seen)]
    assert [(host, tokens) for _, host, tokens in hosts] == [
        ("orders.example", 2),
        ("evil.example", 0),
        ("elsewhere.example", 0),
    ]


def test_an_application_without_a_socket(lib: Any, session: Any) -> None:
    other = another(session)
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append([value.decode() for name, value in scope["headers"] if name == b"causal-token"])
        headers = [(b"causal-token", other.token().encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def use() -> None:
        transport = AsyncCausalTransport(lib.ASGITransport(app=app), "http://orders")
        async with lib.AsyncClient(transport=transport, base_url="http://orders") as http:
            assert (await http.get("/")).text == "ok"

    before = session.token()
    asyncio.run(use(), debug=True)
    assert seen == [[before]]
    assert session.own >= other.own


def test_a_mock_transport_sees_the_token(lib: Any, session: Any) -> None:
    def answer(request: Any) -> Any:
        assert request.content == b'{"n":1}'
        return lib.Response(200, json={"token": request.headers[HEADER]})

    with lib.Client(transport=CausalTransport(lib.MockTransport(answer), "https://orders")) as http:
        assert http.post("https://orders", json={"n": 1}).json() == {"token": session.token()}


def test_each_task_calls_with_its_own_session(lib: Any, a: Service) -> None:
    store = opened()
    sessions = [wrote(store) for _ in range(4)]

    async def use() -> None:
        async with carry(lib.AsyncClient(), a.origin) as http:

            async def call(session: Any) -> None:
                with carrying(Carried(lambda: session)):
                    for _ in range(3):
                        await http.get(f"{a.origin}/{session.token()}")

            await asyncio.gather(*map(call, sessions))

    contextvars.Context().run(asyncio.run, use())
    assert len(a.seen) == 12
    assert [[path[1:]] for path, _ in a.seen] == [a.tokens(n) for n in range(12)]


def test_a_redirect_to_what_is_no_url(lib: Any, session: Any, a: Service) -> None:
    a.answer = redirect("http://a:x/")
    with lib.Client(transport=CausalTransport(lib.HTTPTransport(), a.origin)) as http:
        request = http.build_request("GET", a.origin, headers={HEADER: "by hand"})
        with pytest.raises(lib.RemoteProtocolError):
            http.send(request, follow_redirects=True)
    assert HEADER not in request.headers
