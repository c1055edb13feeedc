"""What is requests' own: adapters that are chosen by the beginning of a text, hooks, retries, proxies, streams."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from urllib3.util import Retry

from causal.context import Carried, carrying
from causal.integrations.carrier import HEADER
from causal.integrations.requests import CausalAdapter
from tests.integrations.loopback import Service, redirect, sealed_for, service
from tests.integrations.test_clients import opened, wrote


@pytest.fixture
def session() -> Iterator[Any]:
    made = wrote(opened())
    with carrying(Carried(lambda: made)):
        yield made


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


def test_a_mount_takes_whatever_begins_like_the_origin(http: Any, session: Any, a: Service, b: Service) -> None:
    """The port 4711 begins like the port 47: the adapter is asked for both."""
    shorter = b.origin[:-1]
    adapter = CausalAdapter(shorter)
    http.mount(shorter, adapter)
    assert http.get_adapter(b.origin + "/") is adapter
    http.get(b.origin)
    assert b.tokens() == []
    http.mount(a.origin, CausalAdapter(a.origin))
    http.get(a.origin)
    assert a.tokens() == [session.token()]
    http.get(a.origin.replace("//", "//me:word@"))
    assert a.tokens() == []  # a mount looks no further; mounted at "http://" the adapter would


def test_two_services_each_with_its_own_token(http: Any, session: Any, a: Service, b: Service) -> None:
    http.mount(a.origin, CausalAdapter(a.origin, subject="a"))
    http.mount(b.origin, CausalAdapter(b.origin, subject="b"))
    a.answer = redirect(b.origin + "/there")
    http.get(a.origin)
    assert sealed_for("a", session, a)
    assert sealed_for("b", session, b)


def test_hooks_see_the_request_without_the_token(http: Any, session: Any, a: Service) -> None:
    seen: list[Any] = []
    http.mount(a.origin, CausalAdapter(a.origin))
    prepared = http.prepare_request(requests.Request("POST", a.origin, data=b"body"))
    prepared.register_hook("response", lambda response, **_: seen.append(response.request))
    response = http.send(prepared)
    assert a.tokens() == [session.token()]
    assert response.request is prepared
    assert [HEADER in request.headers for request in seen] == [False]
    with session.write() as tx:
        tx.put("k", 2)
    http.send(prepared)
    assert a.tokens() == [session.token()]


def test_retries_of_the_connection_pool_go_to_the_same_origin(http: Any, session: Any, a: Service, b: Service) -> None:
    answers = [(503, [], b""), (302, [("Location", b.origin)], b""), (200, [], b"ok")]
    a.answer = lambda *_: answers.pop(0)
    http.mount(a.origin, CausalAdapter(a.origin, max_retries=Retry(3, status_forcelist=[503], backoff_factor=0)))
    assert http.get(a.origin).content == b"ok"
    assert [len(a.tokens(n)) for n in range(len(a.seen))] == [1, 1]
    assert b.tokens() == []


def test_a_streamed_reply_is_joined_before_it_is_read(http: Any, session: Any, a: Service) -> None:
    other = wrote(session._store)
    a.answer = lambda *_: (200, [(HEADER, other.token())], b"a" * 100_000)
    http.mount(a.origin, CausalAdapter(a.origin))
    with http.get(a.origin, stream=True) as response:
        assert session.own >= other.own
        assert sum(map(len, response.iter_content(1000))) == 100_000


def test_a_proxy_from_the_environment(http: Any, session: Any, b: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", b.origin)
    monkeypatch.delenv("no_proxy", raising=False)
    b.answer = lambda path, _: (
        (307, [("Location", "http://evil.example/x")], b"") if "orders" in path else (200, [], b"")
    )
    http.mount("http://", CausalAdapter("http://orders.example"))
    http.get("http://orders.example/", headers={HEADER: "by hand"})
    http.get("http://elsewhere.example/x")
    assert [(dict(headers)["Host"], len(b.tokens(n))) for n, (_, headers) in enumerate(b.seen)] == [
        ("orders.example", 2),
        ("evil.example", 0),
        ("elsewhere.example", 0),
    ]


@pytest.mark.parametrize("location", ["http://[nonsense/", "http://a:x/", "//[/"])
def test_a_redirect_to_what_is_no_url(http: Any, session: Any, a: Service, location: str) -> None:
    a.answer = redirect(location)
    http.mount(a.origin, CausalAdapter(a.origin))
    prepared = http.prepare_request(requests.Request("GET", a.origin, headers={HEADER: "by hand"}))
    with pytest.raises((requests.exceptions.InvalidURL, ValueError)):
        http.send(prepared)
    assert HEADER not in prepared.headers


def test_a_failed_request_raises_what_the_library_raises(http: Any, session: Any) -> None:
    with service() as gone:
        origin = gone.origin
    http.mount(origin, CausalAdapter(origin))
    with pytest.raises(requests.ConnectionError) as error:
        http.get(origin)
    assert error.value.request is not None
    assert HEADER not in error.value.request.headers
