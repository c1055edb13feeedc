"""HTTP clients carry the session's token to one origin, and nowhere else, and bring back what its replies say."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from causal import CausalStore, ConfigError, Keyring, ReadPolicy, propagate
from causal.context import Carried, carrying
from causal.integrations.carrier import HEADER
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.integrations.loopback import Client, Headers, Reply, Service, digest, redirect

KEYS = Keyring.generate()
KINDS = ("httpx", "httpx2", "async httpx", "async httpx2", "requests")


def opened(number: int = 0, **settings: Any) -> CausalStore[Any, Any]:
    cluster = MemoryCluster(("eu", "us"))
    cluster.pause("us")
    store = CausalStore(
        MemoryEngine(cluster=cluster, site="eu"), keyring=KEYS, audience="shop", number=number, **settings
    )
    return store.__enter__()


@pytest.fixture
def shop() -> CausalStore[Any, Any]:
    return opened()


def wrote(store: CausalStore[Any, Any], subject: str | None = "alice") -> Any:
    session = store.session(subject=subject)
    with session.write() as tx:
        tx.put("k", 1)
    return session


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Clients:
    def __init__(self, kind: str) -> None:
        self.kind, self.made = kind, []

    def __call__(self, origin: str, **options: Any) -> Client:
        self.made.append(Client(self.kind, origin, **options))
        return self.made[-1]


@pytest.fixture
def client(kind: str) -> Iterator[Clients]:
    clients = Clients(kind)
    yield clients
    for one in clients.made:
        one.close()


def opens(store: CausalStore[Any, Any], texts: list[str], subject: str | None = "alice") -> Any:
    """A session of what was sent, all of which must open."""
    session = store.session(*texts, subject=subject)
    assert not session.rejected
    return session


# --- out and in ------------------------------------------------------------------------------------------------------


def test_the_token_goes_out_and_the_replys_comes_in(client: Clients, shop: CausalStore[Any, Any], a: Service) -> None:
    session, other, third = wrote(shop), wrote(shop), wrote(shop)
    before = session.own
    a.answer = lambda *_: (200, [(HEADER, other.token()), ("causal-token", third.token())], b"ok")
    http = client(a.origin)
    with carrying(Carried(lambda: session)):
        assert http.get(a.origin + "/").status_code == 200
    assert opens(shop, a.tokens()).own == before
    assert session.own >= other.own | third.own  # a header may be repeated
    assert (http.carrier.given, http.carrier.joined, http.carrier.rejected) == (1, 1, 0)


@pytest.mark.parametrize("status", [204, 302, 404, 500, 503])
def test_replies_of_every_status_count(client: Clients, shop: CausalStore[Any, Any], a: Service, status: int) -> None:
    session, other = wrote(shop), wrote(shop)
    a.answer = lambda *_: (status, [(HEADER, other.token()), ("Location", "/elsewhere")], b"")
    with carrying(Carried(lambda: session)):
        assert client(a.origin).get(a.origin + "/", follow=False).status_code == status
    assert session.own >= other.own


def test_without_a_session_requests_go_on_as_they_are(client: Clients, shop: CausalStore[Any, Any], a: Service) -> None:
    a.answer = lambda *_: (200, [(HEADER, "garbage")], b"ok")
    http = client(a.origin)
    assert http.get(a.origin + "/").status_code == 200
    assert http.get(a.origin + "/", headers={HEADER: "by hand"}).status_code == 200
    assert [a.tokens(n) for n in (0, 1)] == [[], ["by hand"]]
    assert (http.carrier.given, http.carrier.joined) == (0, 0)


def test_a_session_without_a_demand_sends_nothing(client: Clients, shop: CausalStore[Any, Any], a: Service) -> None:
    with carrying(Carried(lambda: shop.session(subject="alice"))):
        client(a.origin).get(a.origin + "/")
    assert a.tokens() == []


def test_a_session_is_made_for_the_call_if_nobody_has_used_it_yet(
    client: Clients, shop: CausalStore[Any, Any], a: Service
) -> None:
    text = wrote(shop).token()
    with carrying(Carried(lambda: shop.session(text, subject="alice"))):
        client(a.origin).get(a.origin + "/")
    assert a.tokens() == [text]


def test_a_session_of_ones_own(client: Clients, shop: CausalStore[Any, Any], a: Service) -> None:
    mine, current = wrote(shop), wrote(shop)
    with carrying(Carried(lambda: current)):
        client(a.origin, session=mine).get(a.origin + "/")
        assert opens(shop, a.tokens()).own == mine.own
        client(a.origin, session=lambda: mine).get(a.origin + "/")
        assert opens(shop, a.tokens()).own == mine.own
        client(a.origin, session=lambda: None).get(a.origin + "/")
        assert a.tokens() == []


def test_a_service_has_a_subject_of_its_own(client: Clients, shop: CausalStore[Any, Any], a: Service) -> None:
    session = wrote(shop)

    def answer(path: str, headers: Headers) -> Reply:
        theirs = opens(shop, a.tokens(), "orders")
        with theirs.write() as tx:
            tx.put("order", 1)
        return 200, [(HEADER, theirs.token())], b"ok"

    a.answer = answer
    before = session.own
    with carrying(Carried(lambda: session)):
        client(a.origin, subject="orders").get(a.origin + "/")
    assert not session.rejected
    assert session.own > before
    assert shop.session(*a.tokens(), subject="alice").rejected


@pytest.mark.parametrize("bad", ["leader", "raise", "ignore"])
def test_a_reply_whose_token_does_not_open(client: Clients, a: Service, bad: Any) -> None:
    shop = opened(policy=ReadPolicy(bad_token=bad))
    session = wrote(shop)
    a.answer = lambda *_: (201, [(HEADER, "garbage")], b"made")
    http = client(a.origin)
    with carrying(Carried(lambda: session)):
        response = http.get(a.origin + "/")
    assert (response.status_code, response.content) == (201, b"made")  # what was asked for has been done
    assert (http.carrier.joined, http.carrier.rejected) == (1, 1)
    assert len(session.rejected) == 1
    assert bool(session.seen.marks) == (bad != "ignore")


def test_a_service_that_goes_on_replying_so_fills_no_memory(
    client: Clients, shop: CausalStore[Any, Any], a: Service
) -> None:
    session = wrote(shop)
    a.answer = lambda *_: (200, [(HEADER, "garbage")], b"ok")
    http = client(a.origin, session=session)
    for _ in range(70):
        http.get(a.origin + "/")
    assert http.carrier.rejected == 70
    assert len(session.rejected) < 70


@pytest.mark.spec("H-23")
def test_what_the_caller_put_there_himself_goes_along(client: Clients, shop: CausalStore[Any, Any], a: Service) -> None:
    session, by_hand = wrote(shop), wrote(shop)
    with carrying(Carried(lambda: session)):
        client(a.origin).get(a.origin + "/", headers={"causal-token": by_hand.token()})
    assert len(a.tokens()) == 2
    assert opens(shop, a.tokens()).own == session.own | by_hand.own
    assert not session.own >= by_hand.own


# --- one origin ------------------------------------------------------------------------------------------------------


def test_other_origins_are_given_nothing_and_believed_nothing(
    client: Clients, shop: CausalStore[Any, Any], a: Service, b: Service
) -> None:
    session, other = wrote(shop), wrote(shop)
    b.answer = lambda *_: (200, [(HEADER, other.token())], b"ok")
    with carrying(Carried(lambda: session)):
        http = client(a.origin)
        for url in (b.origin, f"http://localhost:{a.port}", b.origin.replace("//", f"//127.0.0.1:{a.port}@")):
            assert http.get(url + "/").status_code == 200
    assert [extracted for n in range(2) for extracted in b.tokens(n)] == []
    assert a.tokens() == []  # another name of the same machine is another origin
    assert not session.own >= other.own


@pytest.mark.spec("H-22")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_carries_nothing(
    client: Clients, shop: CausalStore[Any, Any], a: Service, b: Service, status: int
) -> None:
    session, other = wrote(shop), wrote(shop)
    a.answer = redirect(b.origin + "/there", (HEADER, other.token()), status=status)
    with carrying(Carried(lambda: session)):
        response = client(a.origin).get(a.origin + "/", headers={HEADER: "by hand"})
    assert response.content == b"ok"
    assert len(a.tokens()) == 2
    assert b.seen[0][0] == "/there"
    assert b.tokens() == []
    assert session.own >= other.own  # the redirect itself was a reply
    assert HEADER not in response.request.headers


def test_a_redirect_within_the_origin_carries_what_it_taught(
    client: Clients, shop: CausalStore[Any, Any], a: Service, b: Service
) -> None:
    session, other, by_hand = wrote(shop), wrote(shop), wrote(shop)
    a.answer = redirect("/there", (HEADER, other.token()))
    with carrying(Carried(lambda: session)):
        client(a.origin).get(a.origin + "/", headers={HEADER: by_hand.token()})
    assert [path for path, _ in a.seen] == ["/", "/there"]
    assert opens(shop, a.tokens()).own >= session.own | other.own | by_hand.own


def test_a_redirect_from_another_origin_carries_again(
    client: Clients, shop: CausalStore[Any, Any], a: Service, b: Service
) -> None:
    session = wrote(shop)
    b.answer = redirect(a.origin + "/there")
    with carrying(Carried(lambda: session)):
        client(a.origin).get(b.origin + "/")
    assert (b.tokens(), opens(shop, a.tokens()).own) == ([], session.own)


def test_a_chain_of_redirects(client: Clients, shop: CausalStore[Any, Any], a: Service, b: Service) -> None:
    session = wrote(shop)
    a.answer = redirect(b.origin + "/")
    b.answer = redirect(a.origin + "/there")
    with carrying(Carried(lambda: session)):
        client(a.origin).get(a.origin + "/", headers={HEADER: "by hand"})
    assert [len(a.tokens(0)), len(b.tokens(0)), len(a.tokens(1))] == [2, 0, 1]


def test_the_clients_own_copy_of_a_request_knows_no_token(
    client: Clients, shop: CausalStore[Any, Any], a: Service, b: Service
) -> None:
    session = wrote(shop)
    a.answer = redirect(b.origin + "/there")
    with carrying(Carried(lambda: session)):
        http = client(a.origin)
        response = http.get(a.origin + "/", follow=False)
        assert HEADER not in response.request.headers
        following = response.next if http.kind == "requests" else response.next_request
        assert HEADER not in following.headers
        http.run(http.http.send(following))
    assert b.tokens() == []


def test_digest_authentication_sends_it_twice_and_leaks_it_never(
    client: Clients, shop: CausalStore[Any, Any], a: Service, b: Service
) -> None:
    session, other = wrote(shop), wrote(shop)

    def answer(path: str, headers: Headers) -> Reply:
        status, replied, body = digest(path, headers)
        return status, [*replied, (HEADER, other.token())], body

    a.answer = answer
    with carrying(Carried(lambda: session)):
        assert client(a.origin).get(a.origin + "/", digest=True).content == b"in"
    assert len(a.seen) == 2
    assert len(a.tokens(0)) == len(a.tokens(1)) == 1
    assert opens(shop, a.tokens(1)).own >= other.own  # what the refusal taught
    b.answer, a.answer = digest, redirect(b.origin + "/there")
    with carrying(Carried(lambda: session)):
        client(a.origin).get(a.origin + "/", digest=True)
    assert [b.tokens(n) for n in range(len(b.seen))] == [[]] * len(b.seen)


def test_threads_are_given_the_session(client: Clients, kind: str, shop: CausalStore[Any, Any], a: Service) -> None:
    if kind.startswith("async"):
        pytest.skip("one event loop")
    session, others = wrote(shop), [wrote(shop) for _ in range(8)]
    a.answer = lambda path, _: (200, [(HEADER, others[int(path[1:])].token())], b"ok")
    http = client(a.origin)
    with carrying(Carried(lambda: session)), ThreadPoolExecutor(4) as pool:
        pool.submit(http.get, f"{a.origin}/0").result()
        assert a.tokens() == []  # a pool knows no context
        list(pool.map(propagate(lambda n: http.get(f"{a.origin}/{n}")), range(1, 8)))
    assert session.own >= others[-1].own
    assert http.carrier.given == http.carrier.joined == 7


# --- which origin ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("H-22")
@pytest.mark.parametrize(
    ("wanted", "url", "same"),
    [
        ("http://a.internal", "http://a.internal/x?y", True),
        ("http://a.internal", "http://A.Internal:80/", True),
        ("http://A.INTERNAL:80/", "http://a.internal/", True),
        ("https://a.internal", "https://a.internal:443/", True),
        ("http://a.internal:8080", "http://a.internal:8080", True),
        ("http://a.internal", "http://user:word@a.internal/", True),
        ("http://bücher.example", "http://xn--bcher-kva.example/", True),
        ("http://xn--bcher-kva.example", "http://BÜCHER.example/", True),
        ("http://straße.example", "http://xn--strae-oqa.example/", True),
        ("http://[::1]:80", "http://[0:0:0:0:0:0:0:1]/", True),
        ("http://a.internal", "https://a.internal/", False),
        ("https://a.internal", "https://a.internal:80/", False),
        ("http://a.internal", "http://a.internal:8080/", False),
        ("http://a.internal:8080", "https://a.internal:8080/", False),
        ("http://a.internal", "http://a.internal.evil.com/", False),
        ("http://a.internal", "http://a.internal@evil.com/", False),
        ("http://a.internal", "http://a.internal:80@evil.com/", False),
        ("http://a.internal", "http://evil.com/http://a.internal/", False),
        ("http://a.internal", "http://evil.com#@a.internal/", False),
        ("http://a.internal", "http://evil.com?@a.internal/", False),
        ("http://a.internal", "http://a.internal./", False),
        ("http://a.internal", "http://x.a.internal/", False),
        ("http://straße.example", "http://strasse.example/", False),
    ],
)
def test_origins_are_compared_and_not_their_texts(kind: str, wanted: str, url: str, same: bool) -> None:
    if kind.startswith("async"):
        pytest.skip("the same rule")
    made = Client(kind, wanted)
    if kind == "requests":
        import requests

        from causal.integrations.requests import _origin as origin_of

        try:
            found = origin_of(requests.Request("GET", url).prepare().url)
        except requests.exceptions.InvalidURL:
            found = None
    else:
        from causal.integrations.httpx import _origin as origin_at

        try:
            found = origin_at(made.library.URL(url))
        except made.library.InvalidURL:
            found = None
    made.close()
    assert made.carrier._is(found) is same


def test_what_two_parsers_read_differently_is_no_origin() -> None:
    from causal.integrations.requests import _origin as origin_of

    assert origin_of("http://a.internal/") == ("http", "a.internal", 80)
    assert origin_of("http://evil.com\\@a.internal/") is None
    assert origin_of("http://[bad/") is origin_of(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "a.internal",
        "//a.internal",
        "http://",
        "http://a.internal/path",
        "http://a.internal?x",
        "http://a.internal#x",
        "http://me@a.internal",
        "http://*.internal",
        "all://a.internal",
        "ftp://a.internal",
        "http://a.internal:port",
        "http://a.internal:99999",
        "http://a.internal\\x",
        "http://[::1",
        "http://[nonsense]",
        "http://a b",
        "http://\N{SNOWMAN}\u200d.example",
        "",
        None,
    ],
)
def test_what_is_no_origin_is_refused_where_it_is_written(kind: str, text: Any) -> None:
    with pytest.raises(ConfigError, match="origin"):
        Client(kind, text)
