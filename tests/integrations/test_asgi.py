"""The ASGI middleware: what each response carries, and when. Real servers and frameworks are in `test_asgi_servers.py`."""

import asyncio
import contextlib
import logging
import math
import threading
from typing import Any

import pytest

from causal import (
    AsyncCausalStore,
    CommitUnknown,
    ConfigError,
    GateTimeout,
    NoEndpoint,
    Overloaded,
    ReadPolicy,
    Unreachable,
    WriteLost,
    current_session,
    propagate,
)
from causal.context import carried
from causal.integrations.asgi import CausalMiddleware, Cookies, Event
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.integrations.wires import KEYS, Jar, around, ask, asked, paused, put, respond, scope, store, wrote


@pytest.fixture
def cluster() -> MemoryCluster:
    return paused()


async def writes(scope: Any, receive: Any, send: Any) -> None:
    put(current_session())
    await respond(send)


async def reads(scope: Any, receive: Any, send: Any) -> None:
    with current_session().read() as db:
        await respond(send, repr(db.get("photo")).encode())


async def idles(scope: Any, receive: Any, send: Any) -> None:
    await respond(send)


# --- what a response carries ----------------------------------------------------------------------------------------


def test_the_story_and_its_control(cluster: MemoryCluster) -> None:
    eu, us = store(cluster, "eu"), store(cluster, "us", policy=ReadPolicy(0.0))
    posted = asked(around(writes, eu), "POST")
    cookie = posted.all("set-cookie")[0].partition(";")[0]
    assert asked(around(reads, us), headers=[("cookie", cookie)]).body == b"'new.jpg'"
    assert asked(around(reads, us), headers=[("causal-token", posted.token or "")]).body == b"'new.jpg'"
    assert asked(around(reads, us)).body == b"None"  # without its token, the photo is gone


def test_nothing_is_added_where_nobody_asks_for_a_session(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    calls: list[object] = []
    app = around(idles, eu, subject=lambda scope: calls.append(scope))
    for headers in ([], [("cookie", f"causal-a1={wrote(eu)}; causal-b2=garbage")], [("causal-token", "garbage")]):
        answer = asked(app, headers=headers)
        assert answer.fields == [("content-length", "2")]
    assert calls == []
    assert not any(app.counters.as_dict().values())


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("app", [reads, writes])
def test_header_fields_may_be_anything_that_yields_them(cluster: MemoryCluster, app: Any, kind: str) -> None:
    async def yields(scope: Any, receive: Any, send: Any) -> None:
        async def sends(message: Any) -> None:
            start = message["type"] == "http.response.start"
            await send({**message, "headers": iter(message["headers"])} if start else message)

        async def accepts(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = iter(message["headers"])
                await send({"type": "websocket.accept", "headers": headers})

        await app(scope, receive, sends if kind == "http" else accepts)

    eu = store(cluster)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    given = [("causal-token", wrote(eu))]
    asyncio.run(around(yields, eu)(scope(headers=given) | {"type": kind}, None, send))
    assert b"content-length" in dict(sent[0]["headers"])
    assert (b"causal-token" in dict(sent[0]["headers"])) == (app is writes)


@pytest.mark.spec("H-10")
def test_a_token_is_given_when_something_changed_and_not_again(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    answer = asked(around(writes, eu), "POST")
    assert [k for k, _ in answer.fields] == ["content-length", "cache-control", "set-cookie", "causal-token"]
    assert answer.get("cache-control") == "private"
    assert answer.get("vary") is None
    assert f"={answer.token}; Max-Age=86400;" in answer.all("set-cookie")[0]
    read = around(reads, eu)
    again = asked(read, headers=[("causal-token", answer.token or "")])
    assert again.fields == [("content-length", "9")]  # nothing to tell
    assert read.counters.issued == 0
    fresh = asked(read)  # bob reads it: what he was shown, he demands
    assert fresh.token
    assert read.counters.as_dict() == dict.fromkeys(read.counters.as_dict(), 0) | {"issued": 1, "held": 2}


def test_a_token_is_renewed_when_half_of_its_life_is_over(cluster: MemoryCluster) -> None:
    now = [1_000_000.0]
    eu = store(cluster, wall=lambda: now[0])
    app = around(reads, eu)
    token = wrote(eu)
    now[0] += 40_000
    assert asked(app, headers=[("causal-token", token)]).token is None
    now[0] += 10_000
    renewed = asked(app, headers=[("causal-token", token)]).token
    assert renewed not in {None, token}


@pytest.mark.spec("H-9", "H-15")
@pytest.mark.parametrize(
    ("presented", "settings", "by_cookie", "by_header"),
    [
        ("nothing", {}, True, True),
        ("header", {}, False, True),
        ("empty", {}, False, True),  # a client of ours, which has nothing to demand yet
        ("cookie", {}, True, True),
        ("both", {}, True, True),
        ("nothing", {"header": False}, True, False),
        ("nothing", {"cookies": None}, False, True),
        ("cookie", {"cookies": None}, False, True),  # which is then no token: nobody reads it, and nobody takes it back
        ("header", {"header": False}, True, False),
    ],
)
def test_by_which_way_a_token_comes_back(
    cluster: MemoryCluster, presented: str, settings: dict[str, Any], by_cookie: bool, by_header: bool
) -> None:
    eu = store(cluster)
    token = wrote(eu)
    headers = [("causal-token", token)] if presented in {"header", "both"} else []
    headers += [("causal-token", "")] if presented == "empty" else []
    headers += [("cookie", f"causal-a1={token}")] if presented in {"cookie", "both"} else []
    answer = asked(around(writes, eu, **settings), "POST", headers=headers)
    assert (answer.token is not None) is by_header
    given = [line for line in answer.all("set-cookie") if "Max-Age=0" not in line]
    assert len(given) == by_cookie
    taken = [line.partition("=")[0] for line in answer.all("set-cookie") if "Max-Age=0" in line]
    assert taken == (["causal-a1"] if presented in {"cookie", "both"} and by_cookie else [])


@pytest.mark.spec("H-11")
def test_exactly_the_cookies_that_arrived_are_taken_back(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    jar = Jar({"theme": "dark", "causal-a1": wrote(eu), "causal-b2": "garbage", "causal-c3": ""})
    answer = asked(around(writes, eu), "POST", headers=[("cookie", jar.header)])
    jar.held["causal-d4"] = other = wrote(eu)  # another tab's response came in between
    jar.take(answer.all("set-cookie"))
    assert jar.held.pop("theme") == "dark"
    assert jar.held.pop("causal-d4") == other
    ((_, token),) = jar.held.items()
    session = eu.session(token, subject="alice")
    assert not session.rejected
    assert session.seen.marks  # what did not open is demanded at the leader (I12)


@pytest.mark.spec("H-12")
def test_more_than_four_cookies_are_folded_into_one_whatever_else_happens(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    tokens = [wrote(eu) for _ in range(5)]
    app = around(idles, eu)
    four = Jar({f"causal-{n}": token for n, token in enumerate(tokens[:4])})
    assert asked(app, headers=[("cookie", four.header)]).fields == [("content-length", "2")]
    five = Jar({f"causal-{n}": token for n, token in enumerate(tokens)})
    answer = asked(app, headers=[("cookie", five.header)])
    five.take(answer.all("set-cookie"))
    ((_, token),) = five.held.items()
    assert eu.session(token, subject="alice").own >= eu.session(*tokens, subject="alice").own
    assert answer.get("cache-control") == "private"
    assert (app.counters.folded, app.counters.issued) == (1, 1)
    public = around(lambda s, r, send: respond(send, headers=[("cache-control", "public")]), eu)
    five = Jar({f"causal-{n}": token for n, token in enumerate(tokens)})
    assert asked(public, headers=[("cookie", five.header)]).all("set-cookie") == []

    def unknown(scope: Any) -> str:
        raise LookupError("nobody is logged in out here")

    answer = asked(around(idles, eu, subject=unknown), headers=[("cookie", five.header)])  # nobody asked for a session
    assert (answer.status, answer.all("set-cookie")) == (200, [])


@pytest.mark.spec("H-3")
def test_more_tokens_than_are_opened_leave_a_mark(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    jar = Jar({f"causal-{n}": wrote(eu) for n in range(17)})
    app = around(reads, eu)
    answer = asked(app, headers=[("cookie", jar.header)])
    jar.take(answer.all("set-cookie"))
    ((_, token),) = jar.held.items()
    assert eu.session(token, subject="alice").seen.marks
    assert app.counters.rejected == 1


@pytest.mark.spec("H-9")
def test_a_header_and_cookies_are_one_set(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    older, newer = wrote(eu), wrote(eu)
    held = []

    async def tells(scope: Any, receive: Any, send: Any) -> None:
        held.append(current_session().own)
        await respond(send)

    for by_header, by_cookie in ((older, newer), (newer, older)):
        asked(around(tells, eu), headers=[("causal-token", by_header), ("cookie", f"causal-a1={by_cookie}")])
    assert held == [eu.session(newer, subject="alice").own] * 2


@pytest.mark.spec("H-9")
def test_cookies_in_several_headers(cluster: MemoryCluster) -> None:
    eu, us = store(cluster, "eu"), store(cluster, "us")
    headers = [("cookie", "a=b"), ("cookie", f"causal-a1={wrote(eu)}")]
    with pytest.raises(GateTimeout):  # it counts
        asked(around(reads, us, refusals="raise"), headers=headers)


@pytest.mark.spec("H-1")
def test_the_header_may_be_repeated_or_folded(cluster: MemoryCluster) -> None:
    eu, us = store(cluster, "eu"), store(cluster, "us")
    nothing, token = us.session(subject="alice").token() or "", wrote(eu)
    for headers in ([("causal-token", nothing), ("causal-token", token)], [("Causal-Token", f"{nothing}, {token}")]):
        assert asked(around(reads, us), headers=headers).status == 503


@pytest.mark.spec("H-18")
@pytest.mark.parametrize("said", ["public", "max-age=60, s-maxage=600"])
def test_a_public_response_never_carries_a_token(
    cluster: MemoryCluster, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    eu = store(cluster)
    put(eu.session(subject="bob"))

    async def public(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()
        with session.read() as db:
            db.get("photo")
        if scope["method"] == "POST":
            put(session)
        await respond(send, headers=[("cache-control", said)])

    app = around(public, eu)
    for method in ("GET", "POST", "POST"):
        assert asked(app, method, "/logo").fields == [("content-length", "2"), ("cache-control", said)]
        assert len(caplog.messages) == (method == "POST")  # who only read is not warned, and who wrote once
    assert "/logo is public" in caplog.text
    assert (app.counters.withheld, app.counters.issued, app.counters.late) == (3, 0, 0)


def test_what_else_is_said_of_caching_stays(cluster: MemoryCluster) -> None:
    async def told(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        await respond(send, headers=[("cache-control", "no-store"), ("cache-control", "max-age=5"), ("vary", "accept")])

    answer = asked(around(told, store(cluster)))
    assert answer.get("cache-control") == "private, no-store, max-age=5"
    assert answer.get("vary") == "accept"


def test_pages_of_other_origins_may_read_the_header(cluster: MemoryCluster) -> None:
    async def shares(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        await respond(
            send, headers=[("access-control-allow-origin", "https://a"), ("access-control-expose-headers", "x-a")]
        )

    eu = store(cluster)
    assert asked(around(shares, eu)).get("access-control-expose-headers") == "x-a, Causal-Token"
    assert asked(around(writes, eu)).get("access-control-expose-headers") is None
    same = [("origin", "http://here:8000"), ("host", "here:8000")]
    assert asked(around(writes, eu), headers=same).get("access-control-expose-headers") is None
    other = [("origin", "http://there"), ("host", "here:8000")]
    assert asked(around(writes, eu), headers=other).get("access-control-expose-headers") == "Causal-Token"
    assert asked(around(shares, eu, header=False)).get("access-control-expose-headers") == "x-a"


def test_a_redirect_carries_it(cluster: MemoryCluster) -> None:
    async def posts(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        await send({"type": "http.response.start", "status": 303, "headers": [(b"Location", b"/profile")]})
        await send({"type": "http.response.body"})

    answer = asked(around(posts, store(cluster)), "POST")
    assert (answer.status, answer.get("location")) == (303, "/profile")
    assert answer.token
    assert len(answer.all("set-cookie")) == 1


def test_login_and_logout_carry_the_demand_over(cluster: MemoryCluster) -> None:
    eu, us = store(cluster, "eu"), store(cluster, "us")
    user: list[str | None] = [None]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()
        match scope["path"]:
            case "/cart":
                put(session, "cart", ["frame"])
            case "/login":
                session.rebind("alice")
                user[0] = "alice"
            case "/logout":
                session.rebind(None)
                user[0] = None
        await respond(send)

    shop, jar = around(app, eu, subject=lambda _: user[0]), Jar()
    for path in ("/cart", "/login", "/logout"):
        jar.take(asked(shop, "POST", path, [("cookie", jar.header)]).all("set-cookie"))
        assert len(jar.held) == 1
        (token,) = jar.held.values()
        assert not us.session(token, subject=user[0]).rejected
        assert us.session(token, subject="alice" if user[0] is None else None).rejected
        with pytest.raises(GateTimeout), us.session(token, subject=user[0]).read():
            pass
    assert shop.counters.rejected == 0


@pytest.mark.spec("H-16")
def test_a_session_that_came_to_demand_nothing_takes_its_cookies_back(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    async def forgets(scope: Any, receive: Any, send: Any) -> None:
        assert not current_session().own
        await respond(send)

    ignoring = store(cluster, policy=ReadPolicy(bad_token="ignore"))
    answer = asked(around(forgets, ignoring), headers=[("cookie", "causal-a1=garbage")])
    assert answer.token is None
    assert answer.all("set-cookie") == ["causal-a1=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"]
    assert asked(around(forgets, ignoring), headers=[("causal-token", "garbage")]).fields == [("content-length", "2")]
    del eu


# --- the session of a request ------------------------------------------------------------------------------------------


def test_requests_do_not_see_each_others_sessions(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    seen: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current_session())
        await asyncio.sleep(0)
        assert current_session() is seen[int(scope["path"][1:])]
        await respond(send)

    async def main() -> None:
        shop = around(app, eu)
        for n in range(2):  # one after the other, in one task
            await ask(shop, path=f"/{n}")
            assert carried() is None
        await asyncio.gather(*(ask(shop, path=f"/{n}") for n in range(2, 6)))
        with pytest.raises(ZeroDivisionError):
            await ask(around(fails, eu))
        assert carried() is None

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    asyncio.run(main())
    assert len(set(map(id, seen))) == 6


def test_one_session_for_the_request_in_whatever_thread(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(lambda: put(current_session()))
        await asyncio.get_running_loop().run_in_executor(None, propagate(lambda: put(current_session(), "k")))
        await respond(send)

    answer = asked(around(app, eu))
    assert {p.offset for p in eu.session(answer.token, subject="alice").own} == {2}


def test_an_asynchronous_store(cluster: MemoryCluster) -> None:
    async def main() -> None:
        at = AsyncCausalStore(MemoryEngine(cluster=cluster, site="eu"), keyring=KEYS, audience="shop")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async with current_session().write() as tx:
                tx.put("photo", "new.jpg")
            await respond(send)

        assert (await ask(around(app, at))).token
        await at.close()

    asyncio.run(main())


def test_two_middlewares_of_two_stores(cluster: MemoryCluster) -> None:
    """What the inner one gives is in what the outer one gives in its place; or it is counted."""
    other = MemoryCluster(("eu",), store=1)
    for audience, told in (("shop", 0), ("another", 1)):
        outer, inner = store(cluster), store(other, number=1, audience=audience)
        within = around(writes, inner)

        async def app(scope: Any, receive: Any, send: Any, within: Any = within) -> None:
            put(current_session())
            await within(scope, receive, send)

        shop = around(app, outer)
        answer = asked(shop, "POST", headers=[("causal-token", wrote(outer))])
        own = outer.session(answer.token, subject="alice").own
        assert {shard >> 16 for shard in own.shards} == ({0, 1} if not told else {0})
        assert shop.counters.uncarried == told


def test_installed_twice_it_does_its_work_once(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    inner = around(writes, eu)
    answer = asked(around(inner, eu))
    assert len(answer.all("set-cookie")) == 1
    assert inner.counters.issued == 0
    other = around(writes, store(cluster, audience="other"))
    assert len(asked(around(other, eu)).all("set-cookie")) == 1  # the inner one's own
    used = scope()
    for _ in range(2):  # a scope that is used again is another request
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        asyncio.run(around(writes, eu)(used, None, send))  # type: ignore[arg-type]
        assert any(name == b"causal-token" for name, _ in sent[0]["headers"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subject": "alice"}, "subject"),
        ({"cookies": "Lax"}, "cookies"),
        ({"cookies": None, "header": False}, "no token could travel"),
        ({"refusals": "ignore"}, "refusals"),
        ({"hold": "yes"}, "hold"),
        ({"hold_s": -1}, "hold_s"),
        ({"replay": ("fly-replay", "region={region}")}, "replay"),
        ({"replay": ("fly-replay", 7)}, "replay"),
        ({"replay": ("fly-replay", "region={site}\r\nset-cookie: a=b")}, "replay"),
        ({"replay": ("fly replay", "region={site}")}, "replay"),
        ({"replay": ("x-go", "{site}", "x-came\r\n")}, "replay"),
        ({"replay": ("fly-replay", "region={site}"), "site": ""}, "site"),
    ],
)
def test_settings_that_cannot_be_right(cluster: MemoryCluster, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        around(idles, store(cluster), **settings)


def test_a_subject_is_asked_for_by_a_plain_function(cluster: MemoryCluster) -> None:
    async def subject(scope: Any) -> str:
        return "alice"

    with pytest.raises(ConfigError, match="plain function"):
        around(idles, store(cluster), subject=subject)
    with pytest.raises(ConfigError, match="coroutine"):
        asked(around(reads, store(cluster), subject=lambda scope: subject(scope)))
    with pytest.raises(ConfigError, match="store"):
        around(idles, "eu")


# --- what comes late ---------------------------------------------------------------------------------------------------


class Slow:
    """A server that a test may wait for."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.arrived = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.arrived.set()

    @property
    def token(self) -> bool:
        return any(name == b"causal-token" for name, _ in self.sent[0]["headers"])


def test_a_complete_response_waits_for_what_an_open_read_block_has_shown(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    put(eu.session())
    shop = around(reads, eu)  # it answers inside its block, as with a dependency that is left later
    assert eu.session(asked(shop).token, subject="alice").seen
    assert (shop.counters.held, shop.counters.late_reads) == (1, 0)

    async def closes(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            with current_session().read() as db:
                db.get("photo")
        await respond(send)

    shop = around(closes, eu)
    assert asked(shop).token
    assert shop.counters.held == 0


@pytest.mark.parametrize("split", ["", "with its length", "as a stream", "in three"])
def test_a_complete_response_waits_while_a_block_is_open(cluster: MemoryCluster, split: str) -> None:
    eu = store(cluster)

    async def main() -> None:
        server = Slow()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with current_session().write() as tx:  # as a dependency does that commits when it is left
                tx.put("photo", "new.jpg")
                if split:  # as what stands in between passes it on
                    length = [(b"Content-Length", b"2")] if split == "with its length" else []
                    await send({"type": "http.response.start", "status": 200, "headers": length})
                    await send({"type": "http.response.body", "body": b"ok", "more_body": True})
                    if split == "in three":  # passed on, compressed, and passed on again
                        await send({"type": "http.response.body", "body": b"!", "more_body": True})
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    await respond(send)
                await asyncio.sleep(0)
                assert server.sent == []

        shop = around(app, eu)
        await shop(scope(), None, server.send)  # type: ignore[arg-type]
        assert server.token
        parts = {"": 1, "in three": 3}.get(split, 2)
        assert [m["type"].rpartition(".")[2] for m in server.sent] == ["start", *["body"] * parts]
        assert (shop.counters.held, shop.counters.late) == (1, 0)

    asyncio.run(main())


def test_blocks_that_only_read_keep_a_response_for_a_moment(cluster: MemoryCluster) -> None:
    """A dependency that reads is left after the background tasks: they may take long, and the page must not wait for them."""
    eu = store(cluster)

    async def main() -> None:
        server, answered = Slow(), asyncio.Event()

        async def tell(message: Any) -> None:
            await server.send(message)
            if message["type"] == "http.response.body":
                answered.set()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with current_session().read() as db:
                db.get("photo")
                await respond(send)
                await asyncio.wait_for(answered.wait(), 60)  # a background task that goes on until the page is there

        await around(app, eu, hold_s=3600)(scope(), None, tell)  # type: ignore[arg-type]
        assert answered.is_set()

    asyncio.run(main())


def test_a_response_goes_when_the_block_is_closed_whatever_follows(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    async def main() -> None:
        server = Slow()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with current_session().write() as tx:
                tx.put("photo", "new.jpg")
                await respond(send)
            await server.arrived.wait()  # a background task that goes on

        shop = around(app, eu, hold_s=1000.0)
        await shop(scope(), None, server.send)  # type: ignore[arg-type]
        assert server.token
        assert shop.counters.late == 0

    asyncio.run(main())


def test_a_response_goes_when_the_time_is_up_and_the_write_is_told_of(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    eu = store(cluster)
    events: list[Event] = []

    async def main(shop: CausalMiddleware, server: Slow) -> None:
        await shop(scope(path="/slow"), None, server.send)  # type: ignore[arg-type]
        assert not server.token

    for hold in ({"hold_s": 0.01}, {"hold_s": 0.0}, {"hold": "never"}):
        caplog.clear()
        server = Slow()

        async def app(scope: Any, receive: Any, send: Any, server: Slow = server) -> None:
            with current_session().write() as tx:
                tx.put("photo", "new.jpg")
                await respond(send)
                await server.arrived.wait()

        shop = around(app, eu, on_event=events.append, **hold)
        asyncio.run(main(shop, server))
        assert shop.counters.late == 1
        assert [m for m in caplog.messages if "/slow" in m and "scope='function'" in m] == caplog.messages
        assert len(caplog.messages) == 1
    assert [event.kind for event in events].count("late") == 3
    assert [event.kind for event in events].count("held") == 1
    assert {event.route for event in events} == {"/slow"}


def test_a_write_that_begins_after_the_response_is_told_of_once_a_route(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    eu = store(cluster)

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        put(current_session())  # a session that nobody had asked for before
        put(current_session())

    async def later(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        await respond(send)
        put(current_session())

    app = around(late, eu)
    assert asked(app, path="/a").token is None
    assert (app.counters.late, len(caplog.messages)) == (2, 1)
    asked(app, path="/b")
    asked(app, path="/a")
    assert (app.counters.late, len(caplog.messages)) == (6, 2)
    app = around(later, eu)
    token = asked(app).token
    assert {p.offset for p in eu.session(token, subject="alice").own} == {7}  # the first of both
    assert app.counters.late == 1


def test_hold_always_waits_for_a_block_that_is_yet_to_begin(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()
        await respond(send)
        put(session)

    shop = around(app, eu, hold="always")
    assert asked(shop).token
    assert (shop.counters.held, shop.counters.late) == (1, 0)
    assert asked(around(idles, eu, hold="always")).body == b"ok"


@pytest.mark.parametrize("waits", [False, True])
def test_a_stream_streams_and_its_writes_are_told_of(cluster: MemoryCluster, waits: bool) -> None:
    eu = store(cluster)

    async def main() -> None:
        server = Slow()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            session = current_session()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            assert server.sent == []  # for a moment only: until there is something to send
            with session.write() as tx:
                tx.put("photo", "new.jpg")
                await send({"type": "http.response.body", "body": b"1", "more_body": True})
                if waits:  # the first bytes may be kept for a moment while a block is open, and no longer
                    await server.arrived.wait()
                    assert len(server.sent) == 2
                for chunk in (b"2", b"3", b"4"):  # a response that was cut into parts has no more of them
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                assert len(server.sent) == 5
            await send({"type": "http.response.body", "body": b"5", "more_body": True})
            assert len(server.sent) == 6
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            assert b"".join(m["body"] for m in server.sent[1:]) == b"12345"

        shop = around(app, eu, hold_s=1000.0)
        await shop(scope(), None, server.send)  # type: ignore[arg-type]
        assert not server.token
        assert (shop.counters.late, shop.counters.held) == (1, 0)

    asyncio.run(main())


def test_a_stream_without_an_open_block_is_not_kept_for_a_moment(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    async def main() -> None:
        server = Slow()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            put(current_session())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for n in range(3):
                await send({"type": "http.response.body", "body": b"1", "more_body": True})
                assert len(server.sent) == n + 2

        await around(app, eu)(scope(), None, server.send)  # type: ignore[arg-type]
        assert server.token

    asyncio.run(main())


def test_a_write_after_the_application_has_returned_is_told_of(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    go, threads = threading.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()

        def job() -> None:
            go.wait()
            put(session)

        threads.append(threading.Thread(target=job))
        threads[0].start()
        await respond(send)

    shop = around(app, eu)
    asked(shop)
    assert shop.counters.late == 0
    go.set()
    threads[0].join()
    assert shop.counters.late == 1


def test_writes_made_outside_are_told_of_too(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()
        await respond(send)
        put(eu.session())  # an object mapper's
        session.join(eu.position(None))

    shop = around(app, eu)
    asked(shop)
    assert shop.counters.late == 1


def test_what_was_only_read_too_late_is_counted_apart(cluster: MemoryCluster, caplog: pytest.LogCaptureFixture) -> None:
    eu = store(cluster)
    put(eu.session())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()
        await respond(send)
        with session.read() as db:
            db.get("photo")

    shop = around(app, eu)
    asked(shop)
    assert (shop.counters.late_reads, shop.counters.late, caplog.messages) == (1, 0, [])


def test_a_request_leaves_no_circle_behind(cluster: MemoryCluster) -> None:
    import gc

    eu = store(cluster)
    shop = around(writes, eu)
    asyncio.run(ask(shop))
    gc.collect()

    def sessions() -> set[int]:
        return {id(o) for o in gc.get_objects() if type(o).__name__ == "SessionState"}

    async def main() -> None:
        gc.disable()
        try:
            before = sessions()  # what another test of this process has left is not ours
            for _ in range(3):
                await ask(shop, headers=[("causal-token", wrote(eu))])
            assert not sessions() - before
        finally:
            gc.enable()

    asyncio.run(main())


# --- what fails --------------------------------------------------------------------------------------------------------


def failing(error: BaseException, *, first: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if first:
            put(current_session())
        raise error

    return app


@pytest.mark.spec("H-26", "H-28")
@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (GateTimeout("none of 3 snapshots at db-7.internal"), 503, "1"),
        (Overloaded("many"), 503, "1"),
        (NoEndpoint("nobody", [("db-7.internal", "down")]), 503, "1"),
        (WriteLost([], "lost"), 409, None),
        (CommitUnknown("who knows"), 500, None),
        (Unreachable("db-7.internal"), 503, "1"),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_a_refusal_becomes_an_answer(
    cluster: MemoryCluster, error: Exception, status: int, retry_after: str | None, grouped: bool
) -> None:
    if grouped:
        error = ExceptionGroup("a task group's", [ExceptionGroup("inner", [error])])
    app = around(failing(error), store(cluster))
    answer = asked(app)
    assert (answer.status, answer.get("retry-after")) == (status, retry_after)
    assert answer.get("cache-control") == "no-store"
    assert answer.get("content-type") == "text/plain; charset=utf-8"
    assert answer.get("content-length") == str(len(answer.body))
    assert b"internal" not in answer.body
    assert answer.token is None
    json = asked(app, headers=[("accept", "application/json")])
    assert json.get("content-type") == "application/problem+json"
    assert b"internal" not in json.body
    head = asked(app, "HEAD")
    assert (head.status, head.body) == (status, b"")
    assert app.counters.refused == 3


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ([GateTimeout("a"), GateTimeout("b")], 503),
        ([GateTimeout("a"), WriteLost([], "lost")], 409),
        ([GateTimeout("a"), ExceptionGroup("inner", [NoEndpoint("b"), CommitUnknown("c")])], 500),
        ([GateTimeout("a"), ZeroDivisionError()], None),
    ],
)
def test_refusals_of_several_tasks_are_one(cluster: MemoryCluster, errors: list[Exception], status: int | None) -> None:
    app = around(failing(ExceptionGroup("a task group's", errors)), store(cluster))
    if status is None:
        with pytest.raises(ExceptionGroup):
            asked(app)
    else:
        assert asked(app).status == status
        assert app.counters.refused == 1


def test_two_reads_at_once_that_are_both_refused(cluster: MemoryCluster) -> None:
    engine = MemoryEngine(cluster=cluster, site="us")
    us = AsyncCausalStore(engine, keyring=KEYS, audience="shop", policy=ReadPolicy(0.01, then="error"))

    async def read() -> None:
        async with current_session().read() as db:
            db.get("photo")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(read())
        await respond(send)

    answer = asked(around(app, us), headers=[("causal-token", wrote(store(cluster)))])
    assert (answer.status, answer.get("retry-after")) == (503, "1")


@pytest.mark.spec("H-27")
def test_when_to_come_back_is_rounded_up(cluster: MemoryCluster) -> None:
    for after_s, said in ((0.0, "1"), (1.2, "2"), (3.0, "3"), (math.inf, None), (math.nan, None)):
        error = GateTimeout("later")
        error.retry_after_s = after_s
        assert asked(around(failing(error), store(cluster))).get("retry-after") == said


def test_a_refusal_carries_what_changed_before_it(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    answer = asked(around(failing(GateTimeout("later"), first=True), eu), "POST")
    assert answer.status == 503
    assert eu.session(answer.token, subject="alice").own
    assert answer.get("cache-control") == "private, no-store"
    assert len(answer.all("set-cookie")) == 1


def test_refusals_may_be_left_to_others(cluster: MemoryCluster, caplog: pytest.LogCaptureFixture) -> None:
    app = around(failing(GateTimeout("later"), first=True), store(cluster), refusals="raise")
    with pytest.raises(GateTimeout) as raised:
        asked(app)
    assert raised.value.messages == []  # type: ignore[attr-defined]
    assert app.counters.uncarried == 1  # by us
    assert "without a response of ours" in caplog.text


def test_a_refusal_that_pages_of_other_origins_cannot_read_is_told_of(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        if scope["path"] == "/refused":
            raise GateTimeout("later")
        await respond(send, headers=[("access-control-allow-origin", "https://page")])  # CORS stands further in

    shop = around(app, store(cluster))
    page = [("origin", "https://page"), ("host", "shop")]
    asked(shop, path="/refused", headers=page)
    asked(shop, headers=page)
    assert caplog.messages == []
    asked(shop, path="/refused")
    assert caplog.messages == []
    asked(shop, path="/refused", headers=page)
    asked(shop, path="/refused", headers=page)
    (message,) = caplog.messages
    assert "Add CORS after" in message


def test_another_error_is_passed_on_and_what_changed_before_it_is_carried(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    with pytest.raises(ZeroDivisionError) as raised:
        asked(around(failing(ZeroDivisionError()), eu))
    assert raised.value.messages == []  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError) as raised:
        asked(around(failing(ZeroDivisionError(), first=True), eu))
    start, body = raised.value.messages  # type: ignore[attr-defined]
    assert (start["status"], body["body"]) == (500, b"Internal Server Error\n")
    assert any(name == b"causal-token" for name, _ in start["headers"])


@pytest.mark.parametrize("how", ["nothing sent", "raised", "cancelled", "closed before it was accepted"])
def test_what_no_response_of_ours_could_carry_is_told_of(
    cluster: MemoryCluster, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        match how:
            case "raised":
                raise GateTimeout("later")
            case "cancelled":
                raise asyncio.CancelledError
            case "closed before it was accepted":
                await send({"type": "websocket.close", "code": 1000})

    at = store(cluster)
    middleware = around(app, at, refusals="raise")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    kind = "websocket" if how.startswith("closed") else "http"
    for _ in range(2):
        with contextlib.suppress(GateTimeout, asyncio.CancelledError):
            asyncio.run(middleware(scope() | {"type": kind}, None, send))
    assert [m for m in sent if "headers" in m] == []
    assert (middleware.counters.uncarried, middleware.counters.late) == (2, 0)
    assert len([m for m in caplog.messages if "without a response of ours" in m]) == 1


def test_who_only_read_and_got_no_response_is_no_warning(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    put(store(cluster).session())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with current_session().read() as db:
            db.get("photo")
        raise GateTimeout("later")

    middleware = around(app, store(cluster), refusals="raise")
    with pytest.raises(GateTimeout):
        asked(middleware)
    assert middleware.counters.uncarried == 1
    assert caplog.messages == []


def test_a_write_between_the_question_whether_something_changed_and_the_answer(cluster: MemoryCluster) -> None:
    meanwhile: list[Any] = []

    def wall() -> float:
        if meanwhile:
            meanwhile.pop()()
        return 1_000_000.0

    eu = store(cluster, wall=wall)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        meanwhile.append(lambda: put(session))  # while the middleware looks how old the client's token is
        await send({"type": "http.response.body", "body": b"ok"})

    middleware = around(app, eu)
    answer = asked(middleware, headers=[("causal-token", wrote(eu))])
    assert meanwhile == []
    assert (answer.token, middleware.counters.late) == (None, 1)


def test_a_write_while_the_token_is_sealed(cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    eu = store(cluster)
    seal = type(eu.session()).token
    meanwhile: list[Any] = []

    def sealed(self: Any, **settings: Any) -> str | None:
        text = seal(self, **settings)
        if meanwhile:
            meanwhile.pop()()
        return text

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()
        put(session)
        meanwhile.append(lambda: put(session))  # of another thread
        await respond(send)

    monkeypatch.setattr(type(eu.session()), "token", sealed)
    middleware = around(app, eu)
    token = asked(middleware).token
    assert {p.offset for p in eu.session(token, subject="alice").own} == {2}
    assert middleware.counters.late == 0


@pytest.mark.parametrize("hold", ["open", "always", "never"])
def test_an_error_page_waits_for_a_moment_only(cluster: MemoryCluster, hold: str) -> None:
    async def main() -> None:
        sent = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await respond(send, b"down for maintenance", 503)
            await sent.wait()  # a task in the background

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                sent.set()

        await asyncio.wait_for(around(app, store(cluster), hold=hold, hold_s=1000.0)(scope(), None, send), 30)

    asyncio.run(main())


def test_an_error_page_that_was_made_inside_gives_way_to_the_refusal(cluster: MemoryCluster) -> None:
    def page(error: Exception, status: int = 500) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:  # as Starlette's outermost layer does it
            put(current_session())
            await respond(send, b"sorry", status)
            raise error

        return app

    eu = store(cluster)
    assert asked(around(page(GateTimeout("later")), eu)).status == 503
    assert asked(around(page(GateTimeout("later")), eu, hold="never")).status == 503
    with pytest.raises(ZeroDivisionError) as raised:
        asked(around(page(ZeroDivisionError()), eu))
    start, body = raised.value.messages  # type: ignore[attr-defined]
    assert body["body"] == b"sorry"
    assert any(name == b"causal-token" for name, _ in start["headers"])
    with pytest.raises(GateTimeout) as raised2:  # what is sent is sent
        asked(around(page(GateTimeout("later"), 200), eu))
    assert [m["type"] for m in raised2.value.messages] == ["http.response.start", "http.response.body"]  # type: ignore[attr-defined]


def test_a_write_that_fails_under_a_response_that_waits(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    def app(error: Exception, *, cause: bool = False, committed: bool = False) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            with current_session().write() as tx:
                tx.put("photo", "new.jpg")
                await respond(send, b"saved")
                if not committed:
                    if cause:  # as Starlette has it, where a handler exists and the response has gone
                        raise RuntimeError("response already started") from error
                    raise error
            raise error

        return app

    assert asked(around(app(GateTimeout("later")), eu)).status == 503
    assert asked(around(app(GateTimeout("later"), cause=True), eu)).status == 503
    with pytest.raises(ZeroDivisionError) as raised:
        asked(around(app(ZeroDivisionError()), eu))
    assert raised.value.messages == []  # type: ignore[attr-defined]  # nobody was told that it is saved
    with pytest.raises(ZeroDivisionError) as raised:
        asked(around(app(ZeroDivisionError(), committed=True), eu))
    assert raised.value.messages[1]["body"] == b"saved"  # type: ignore[attr-defined]


def test_a_cancelled_request_leaves_nothing_behind(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    async def main() -> None:
        server, held = Slow(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with current_session().write() as tx:
                tx.put("photo", "new.jpg")
                await respond(send)
                held.set()
                await asyncio.Event().wait()

        shop = around(app, eu, hold_s=1000.0)
        task = asyncio.create_task(shop(scope(), None, server.send))  # type: ignore[arg-type]
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert server.sent == []
        assert len(asyncio.all_tasks()) == 1
        assert shop.counters.uncarried == 0  # its write was rolled back

    asyncio.run(main())


def test_a_token_that_does_not_open_where_that_is_an_error(cluster: MemoryCluster) -> None:
    strict = store(cluster, policy=ReadPolicy(0.0, bad_token="raise"))
    app = around(reads, strict)
    good = wrote(strict)
    jar = Jar({"causal-a1": good, "causal-b2": "garbage"})
    answer = asked(app, headers=[("cookie", jar.header)])
    assert (answer.status, answer.get("retry-after")) == (400, None)
    assert app.counters.rejected == 1
    jar.take(answer.all("set-cookie"))
    ((_, token),) = jar.held.items()  # told once, and neither locked out nor forgotten
    session = strict.session(token, subject="alice")
    assert session.own >= strict.session(good, subject="alice").own
    assert session.seen.marks
    assert asked(app, headers=[("cookie", jar.header)]).status == 200
    assert asked(app, headers=[("causal-token", "garbage")]).token


# --- another site ------------------------------------------------------------------------------------------------------


def replaying(
    cluster: MemoryCluster, app: Any = reads, replay: Any = ("Fly-Replay", "region={site}"), **settings: Any
) -> CausalMiddleware:
    return around(app, store(cluster, "us"), replay=replay, **settings)


@pytest.mark.spec("H-29")
def test_a_request_is_sent_to_a_site_that_can_serve_it(cluster: MemoryCluster) -> None:
    token = wrote(store(cluster, "eu"))
    app = replaying(cluster)
    answer = asked(app, headers=[("causal-token", token)])
    assert (answer.status, answer.get("fly-replay"), answer.get("retry-after")) == (503, "region=eu", "1")
    assert answer.get("cache-control") == "no-store"
    assert (app.counters.refused, app.counters.replayed) == (1, 1)
    seen = [("causal-token", token), ("fly-replay-src", "instance=1;region=us;t=1")]
    assert asked(app, headers=seen).get("fly-replay") is None  # never round and round
    assert (
        asked(replaying(cluster, replay=("x-go", str.upper, "x-came")), headers=[("causal-token", token)]).get("x-go")
        == "EU"
    )
    assert (
        asked(replaying(cluster, replay=("x-go", lambda _: None)), headers=[("causal-token", token)]).get("x-go")
        is None
    )
    only = replaying(cluster, replay=("x-go", "{site}", None, {"post"}))
    assert asked(only, headers=[("causal-token", token)]).get("x-go") is None
    assert asked(only, "POST", headers=[("causal-token", token)]).get("x-go") == "eu"
    cluster.catch_up("us")
    assert asked(app, headers=[("causal-token", token)]).status == 200


@pytest.mark.parametrize("policy", [ReadPolicy(0.01), ReadPolicy(0.01, then="error"), ReadPolicy.leader()])
def test_a_site_that_is_out_of_reach_from_here_may_serve_all_the_same(
    cluster: MemoryCluster, policy: ReadPolicy
) -> None:
    token = wrote(store(cluster, "eu"))
    us = store(cluster, "us", policy=policy)
    cluster.cut_off("eu")
    app = around(reads, us, replay=("fly-replay", "region={site}"))
    answer = asked(app, headers=[("causal-token", token)])
    assert (answer.status, answer.get("fly-replay")) == (503, "region=eu")


@pytest.mark.spec("H-29")
def test_a_request_that_wrote_is_not_sent_again(cluster: MemoryCluster) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        session = current_session()
        if scope["path"] == "/writes":
            put(session, "order")
        elif scope["path"] == "/doubts":
            session._state.mark(0, session._settings.until())
        elif scope["path"] == "/joins":
            session.join(wrote(store(cluster, "eu")))
        elif scope["path"] == "/is-writing":
            with session.write() as tx:
                tx.put("order", 1)
                raise GateTimeout("refused")
        elif scope["path"] == "/other-store":
            raise WriteLost([], "lost")
        raise refused

    token = wrote(store(cluster, "eu"))
    cluster.catch_up("us")
    refused = GateTimeout("refused")
    app = replaying(cluster, half)
    for path, replayed in (
        ("/", True),
        ("/writes", False),
        ("/doubts", False),
        ("/joins", False),
        ("/other-store", False),
    ):
        answer = asked(app, "POST", path, [("causal-token", token)])
        assert (answer.get("fly-replay") is not None) is replayed, path
    assert asked(app, "POST", "/is-writing", [("causal-token", token)]).get("fly-replay") == "region=eu"  # rolled back


def test_while_a_block_is_open_somewhere_nothing_is_sent_again(cluster: MemoryCluster) -> None:
    blocks: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        blocks.append(current_session().write())
        blocks[0].__enter__()
        raise GateTimeout("refused")

    token = wrote(store(cluster, "eu"))
    cluster.catch_up("us")
    assert asked(replaying(cluster, app), headers=[("causal-token", token)]).get("fly-replay") is None
    blocks[0].__exit__(GateTimeout, None, None)


def test_nobody_knows_a_site_that_could(cluster: MemoryCluster) -> None:
    answer = asked(replaying(cluster, failing(GateTimeout("later"))))
    assert answer.get("fly-replay") is None  # no session: nothing is known of what it would demand

    async def nothing_demanded(scope: Any, receive: Any, send: Any) -> None:
        current_session()
        raise GateTimeout("later")

    assert (
        asked(replaying(cluster, nothing_demanded)).get("fly-replay") is None
    )  # two sites number logs: either might do
    eu, us = store(cluster, "eu"), store(cluster, "us")
    cluster.pause("eu")
    with (both := eu.session(subject="alice")).write() as tx:
        tx.put("a", 1)
    other = us.session(subject="alice")
    put(other)
    both.join(other.token())
    assert (
        asked(replaying(cluster, failing_after_session), headers=[("causal-token", both.token() or "")]).get(
            "fly-replay"
        )
        is None
    )


def test_two_other_sites_that_each_lack_what_the_other_numbers() -> None:
    cluster = MemoryCluster(("eu", "ap", "us"))
    stores = [store(cluster, site) for site in ("eu", "ap", "us")]
    for site in ("eu", "ap", "us"):
        cluster.pause(site)
    session = stores[0].session(*(wrote(at) for at in stores[:2]), subject="alice")
    app = replaying(cluster, failing_after_session)
    assert asked(app, headers=[("causal-token", session.token() or "")]).get("fly-replay") is None
    assert asked(app, headers=[("causal-token", wrote(stores[1]))]).get("fly-replay") == "region=ap"


async def failing_after_session(scope: Any, receive: Any, send: Any) -> None:
    current_session()
    raise GateTimeout("later")


# --- websockets and the rest -------------------------------------------------------------------------------------------


async def socket(app: Any, headers: Any = (), **more: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({**scope(headers=headers, path="/ws"), "type": "websocket", **more}, None, send)
    return sent


def test_a_websockets_handshake_carries_a_token(cluster: MemoryCluster, caplog: pytest.LogCaptureFixture) -> None:
    eu = store(cluster)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        await send({"type": "websocket.accept", "subprotocol": None, "headers": [(b"x-a", b"1")]})
        put(current_session())
        await send({"type": "websocket.send", "text": "hello"})

    shop = around(app, eu)
    accept, hello = asyncio.run(socket(shop, [("cookie", f"causal-a1={wrote(eu)}")]))
    names = [name for name, _ in accept["headers"]]
    assert names == [b"x-a", b"cache-control", b"set-cookie", b"set-cookie", b"causal-token"]
    assert hello == {"type": "websocket.send", "text": "hello"}
    assert shop.counters.late == 1
    assert "/ws" in caplog.text
    (accept,) = asyncio.run(socket(around(accepts, eu)))
    assert accept == {"type": "websocket.accept"}


async def accepts(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})


def test_a_websocket_that_is_closed_unaccepted_carries_nothing_and_that_is_told_of(cluster: MemoryCluster) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        await send({"type": "websocket.close"})

    shop = around(app, store(cluster))
    asyncio.run(socket(shop))
    assert shop.counters.uncarried == 1


@pytest.mark.parametrize("first", [False, True])
def test_a_websocket_that_is_refused(cluster: MemoryCluster, first: bool) -> None:
    def app(error: Exception) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if first:
                await send({"type": "websocket.accept"})
            raise error

        return app

    eu = store(cluster)
    for error, code in ((GateTimeout("later"), 1013), (WriteLost([], "lost"), 1011)):
        *_, close = asyncio.run(socket(around(app(error), eu)))
        assert (close["type"], close["code"]) == ("websocket.close", code)
    answered = asyncio.run(socket(around(app(GateTimeout("later")), eu), extensions={"websocket.http.response": {}}))
    if first:
        assert answered[1]["type"] == "websocket.close"
    else:
        assert [m["type"] for m in answered] == ["websocket.http.response.start", "websocket.http.response.body"]
        assert answered[0]["status"] == 503
    with pytest.raises(ZeroDivisionError):
        asyncio.run(socket(around(app(ZeroDivisionError()), eu)))
    with pytest.raises(GateTimeout):
        asyncio.run(socket(around(app(GateTimeout("later")), eu, refusals="raise")))


def test_anything_else_passes_through(cluster: MemoryCluster) -> None:
    passed: list[object] = []

    async def app(*args: object) -> None:
        passed.append(args)
        assert carried() is None

    given = ({"type": "lifespan"}, object(), object())
    asyncio.run(around(app, store(cluster))(*given))  # type: ignore[arg-type]
    assert passed == [given]
    assert passed[0][2] is given[2]  # type: ignore[index]


def test_where_no_asyncio_loop_runs(cluster: MemoryCluster) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with current_session().write() as tx:
            tx.put("photo", "new.jpg")
            if scope["path"] == "/stream":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"1", "more_body": True})
                assert len(sent) == 2  # nothing would ever let it go
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await respond(send)
                assert sent == []

    async def send(message: Any) -> None:
        sent.append(message)

    for path, whole in (("/", True), ("/stream", False)):
        sent.clear()
        with pytest.raises(StopIteration):  # as another library's loop would run it
            around(app, store(cluster))(scope(path=path), None, send).send(None)  # type: ignore[arg-type,attr-defined]
        assert any(name == b"causal-token" for name, _ in sent[0]["headers"]) is whole


def test_what_comes_before_a_response_is_not_kept_back(cluster: MemoryCluster) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": []})
        assert sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/x"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(around(app, store(cluster))(scope(), None, send))  # type: ignore[arg-type]
    assert sent == ["http.response.early_hint", "http.response.start", "http.response.pathsend"]


def test_a_start_without_a_body_still_goes(cluster: MemoryCluster) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        put(current_session())
        await send({"type": "http.response.start", "status": 204})

    assert asked(around(app, store(cluster))).token


def test_whoever_listens_cannot_break_a_response(cluster: MemoryCluster, caplog: pytest.LogCaptureFixture) -> None:
    def listens(event: Event) -> None:
        raise ValueError(event.kind)

    with caplog.at_level(logging.WARNING, "causal"):
        assert asked(around(writes, store(cluster), on_event=listens)).token
    assert "on_event raised ValueError" in caplog.text


def test_counters_add_up_in_many_threads(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    app = around(writes, eu)

    def many() -> None:
        for _ in range(20):
            asked(app, "POST")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.counters.issued == 80
    assert "issued=80" in repr(app.counters)
    with pytest.raises(AttributeError):
        app.counters.nothing  # noqa: B018


def test_secure_names_by_default(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    app = CausalMiddleware(writes, eu)
    (line,) = asked(app).all("set-cookie")
    assert line.startswith("__Host-causal-")
    assert "; Secure; " in line
    assert Cookies().secure
    assert (
        asked(CausalMiddleware(reads, eu), headers=[("cookie", f"causal-a1={wrote(eu, None)}")]).all("set-cookie")[0][
            :2
        ]
        == "__"
    )
