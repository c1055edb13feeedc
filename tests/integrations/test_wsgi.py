"""The WSGI middleware: what each response carries, and when. Real servers and frameworks are in `test_wsgi_servers.py`."""

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from causal import ConfigError, GateTimeout, NoEndpoint, ReadPolicy, WriteLost, current_session
from causal.context import carried
from causal.integrations.wsgi import CausalMiddleware, Event, refused
from causal.stores.memory import MemoryCluster
from tests.integrations.wires import PLAIN, Answer, Jar, paused, put, store, wrote


@pytest.fixture
def cluster() -> MemoryCluster:
    return paused()


def around(app: Any, at: Any, **settings: Any) -> CausalMiddleware:
    given: dict[str, Any] = {"subject": lambda _: "alice", "cookies": PLAIN} | settings
    return CausalMiddleware(app, at, **given)


class Server:
    """A WSGI server's side of one request."""

    def __init__(self, app: Any, method: str = "GET", path: str = "/", **headers: str) -> None:
        self.environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
        }
        setup_testing_defaults(self.environ)
        self.environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        self.app = app
        self.status: str | None = None
        self.fields: list[tuple[str, str]] = []
        self.written: list[bytes] = []

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        if exc_info and self.written:
            raise exc_info[1].with_traceback(exc_info[2])
        assert self.status is None or exc_info
        self.status, self.fields = status, list(headers)
        return self.written.append

    def serve(self) -> Answer:
        result = self.app(self.environ, self.start_response)
        try:
            for chunk in result:
                if chunk:
                    assert self.status is not None
                    self.written.append(chunk)
        finally:
            if hasattr(result, "close"):
                result.close()
        assert self.status is not None
        return Answer(int(self.status[:3]), self.fields, b"".join(self.written))


def asked(app: Any, method: str = "GET", path: str = "/", **headers: str) -> Answer:
    return Server(app, method, path, **headers).serve()


def start(start_response: Any, status: str = "200 OK", *fields: tuple[str, str], length: int | None = 2) -> Any:
    given = [] if length is None else [("Content-Length", str(length))]
    return start_response(status, [("Content-Type", "text/plain"), *given, *fields])


def writes(environ: Any, start_response: Any) -> list[bytes]:
    put(current_session())
    start(start_response)
    return [b"ok"]


def reads(environ: Any, start_response: Any) -> list[bytes]:
    with current_session().read() as db:
        text = repr(db.get("photo")).encode()
    start(start_response, length=len(text))
    return [text]


def idles(environ: Any, start_response: Any) -> list[bytes]:
    start(start_response)
    return [b"ok"]


def test_the_story_and_its_control(cluster: MemoryCluster) -> None:
    eu, us = store(cluster, "eu"), store(cluster, "us", policy=ReadPolicy(0.0))
    posted = asked(validator(around(writes, eu)), "POST")
    assert posted.get("cache-control") == "private"
    assert posted.get("vary") is None
    cookie = posted.all("set-cookie")[0].partition(";")[0]
    assert asked(around(reads, us), cookie=cookie).body == b"'new.jpg'"
    assert asked(around(reads, us), causal_token=posted.token or "").body == b"'new.jpg'"
    assert asked(around(reads, us)).body == b"None"  # without its token, the photo is gone


def test_nothing_is_added_where_nothing_changed(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    token = wrote(eu)
    plain = asked(idles).fields
    for headers in ({}, {"cookie": f"causal-a1={token}; causal-b2=garbage"}, {"causal_token": "garbage"}):
        assert asked(around(idles, eu), **headers).fields == plain
    assert asked(around(reads, eu), causal_token=token).token is None


def test_what_is_computed_is_handed_on_as_it_is(cluster: MemoryCluster) -> None:
    body = [b"ok"]

    def app(environ: Any, start_response: Any) -> list[bytes]:
        put(current_session())
        start(start_response)
        return body

    server = Server(around(app, store(cluster)))
    assert server.app(server.environ, server.start_response) is body  # a server sets its length by it
    assert any(name == "Causal-Token" for name, _ in server.fields)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_stays_a_file(cluster: MemoryCluster, method: str) -> None:
    files: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        put(current_session())
        start(start_response, length=None)
        files.append(environ["wsgi.file_wrapper"](io.BytesIO(b"bytes")))
        return files[0]

    server = Server(around(app, store(cluster)), method)
    server.environ["wsgi.file_wrapper"] = FileWrapper
    assert server.app(server.environ, server.start_response) is files[0]  # else no server could use sendfile
    assert any(name == "Causal-Token" for name, _ in server.fields)


def test_exactly_the_cookies_that_arrived_are_taken_back_and_many_folded(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    jar = Jar({"theme": "dark", "causal-a1": wrote(eu), "causal-b2": "garbage"})
    answer = asked(around(writes, eu), "POST", cookie=jar.header)
    jar.held["causal-c3"] = wrote(eu)
    jar.take(answer.all("set-cookie"))
    assert set(jar.held) >= {"theme", "causal-c3"}
    assert len(jar.held) == 3
    five = Jar({f"causal-{n}": wrote(eu) for n in range(5)})
    five.take(asked(around(idles, eu), cookie=five.header).all("set-cookie"))
    assert len(five.held) == 1


def generated(environ: Any, start_response: Any) -> Iterator[bytes]:
    put(current_session())
    yield b""
    start(start_response)
    yield b""
    put(current_session())
    yield b"o"
    yield b"k"


def test_a_generators_response_begins_with_its_first_bytes(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    app = around(generated, eu)
    answer = asked(app)
    assert answer.body == b"ok"
    assert {p.offset for p in eu.session(answer.token, subject="alice").own} == {2}
    assert app.counters.late == 0


def test_a_stream_streams_and_its_writes_are_told_of(cluster: MemoryCluster, caplog: pytest.LogCaptureFixture) -> None:
    eu = store(cluster)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start(start_response, length=None)
        with current_session().write() as tx:
            tx.put("photo", "new.jpg")
            yield b"1"
        assert server.written == [b"1"]
        yield b"2"
        assert server.written == [b"1", b"2"]

    shop = around(app, eu)
    for _ in range(2):
        server = Server(shop, path="/stream")
        assert server.serve().token is None
    assert (shop.counters.late, shop.counters.held) == (2, 0)
    assert len(caplog.messages) == 1
    assert "/stream" in caplog.text


@pytest.mark.parametrize("by_close", [False, True])
def test_a_complete_response_waits_while_a_block_is_open(cluster: MemoryCluster, by_close: bool) -> None:
    eu = store(cluster)
    closed: list[int] = []

    class Body:
        """As Werkzeug's: its teardown is its close."""

        def __init__(self, block: Any) -> None:
            self.block, self.chunks = block, iter([b"", b"ok"])

        def __iter__(self) -> Iterator[bytes]:
            return self.chunks

        def close(self) -> None:
            closed.append(1)
            self.block.__exit__(None, None, None)

    def app(environ: Any, start_response: Any) -> Any:
        start(start_response)
        block = current_session().write()
        block.__enter__().put("photo", "new.jpg")
        if by_close:
            return Body(block)

        def chunks() -> Iterator[bytes]:
            yield b"ok"
            block.__exit__(None, None, None)

        return chunks()

    shop = around(app, eu)
    answer = asked(validator(shop))
    assert answer.body == b"ok"
    assert eu.session(answer.token, subject="alice").own
    assert closed == [1] * by_close
    assert (shop.counters.held, shop.counters.late) == (1, 0)
    closed.clear()
    late = around(app, eu, hold="never")
    assert asked(late).token is None
    assert late.counters.late == 1
    assert closed == [1] * by_close


def test_an_empty_response_waits_for_its_close(cluster: MemoryCluster) -> None:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter(())

        def close(self) -> None:
            put(session)

    def app(environ: Any, start_response: Any) -> Body:
        nonlocal session
        session = current_session()
        start(start_response, "204 No Content", length=None)
        return Body()

    session: Any = None
    assert asked(around(app, store(cluster)), "HEAD").token


def test_what_is_written_before_the_application_returns(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = current_session()
        if environ["PATH_INFO"] == "/whole":
            with session.write() as tx:
                tx.put("photo", "new.jpg")
                start(start_response)(b"ok")
                assert server.written == []
            return []
        put(session)
        write = start(start_response, length=None)
        write(b"")
        assert server.status is None
        write(b"o")
        assert server.written == [b"o"]
        put(session)
        return [b"k"]

    shop = around(app, eu)
    server = Server(shop)
    answer = server.serve()
    assert (answer.body, shop.counters.late) == (b"ok", 1)
    assert answer.token
    server = Server(shop, path="/whole")
    answer = server.serve()
    assert (answer.body, shop.counters.late) == (b"ok", 1)
    assert answer.token


def test_a_start_that_is_replaced(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        put(current_session())
        start(start_response)
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            start_response("500 Oops", [("Content-Type", "text/plain")], (type(error), error, error.__traceback__))
        yield b"sorry"
        try:
            raise ValueError
        except ValueError as error:
            start_response("500 Oops", [], (type(error), error, error.__traceback__))

    server = Server(around(app, eu))
    with pytest.raises(ValueError):
        server.serve()
    assert server.status == "500 Oops"
    assert any(name == "Causal-Token" for name, _ in server.fields)

    def twice(environ: Any, start_response: Any) -> list[bytes]:
        start(start_response)
        start(start_response)
        return []

    with pytest.raises(AssertionError, match="once"):
        asked(around(twice, eu))
    with pytest.raises(AssertionError, match="has not called"):
        asked(around(lambda environ, start_response: iter([b"ok"]), eu))


def test_close_is_called_once_whatever_happens(cluster: MemoryCluster) -> None:
    eu = store(cluster)

    class Body:
        def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
            self.chunks, self.error, self.closed, self.context = chunks, error, 0, [False]

        def __iter__(self) -> Iterator[bytes]:
            self.context.append(carried() is not None)
            yield from self.chunks
            if self.error is not None:
                raise self.error

        def close(self) -> None:
            self.context.append(carried() is not None)
            self.closed += 1

    for body, outcome in (
        (Body(b"ok"), None),
        (Body(), None),
        (Body(b"ok", error=ZeroDivisionError()), ZeroDivisionError),
        (Body(error=ZeroDivisionError()), ZeroDivisionError),
        (Body(error=GateTimeout("later")), None),
    ):

        def app(environ: Any, start_response: Any, body: Body = body) -> Body:
            start(start_response, length=None)
            return body

        if outcome is None:
            asked(around(app, eu))
        else:
            with pytest.raises(outcome):
                asked(around(app, eu))
        assert body.closed == 1
        assert body.context == [False, True, True]
        assert carried() is None
    body = Body(b"ok")
    server = Server(around(app, eu))
    result = server.app(server.environ, server.start_response)
    result.close()  # a client that has gone
    result.close()
    put_first = around(failing(GateTimeout("later"), first=True), eu, refusals="raise")
    with pytest.raises(GateTimeout):
        asked(put_first)
    assert put_first.counters.uncarried == 1
    gone = around(generated, eu)
    server = Server(gone)
    started = server.app(server.environ, server.start_response)
    next(iter(started))
    started.close()
    assert gone.counters.uncarried == 0
    assert carried() is None


def test_the_thread_of_one_request_knows_nothing_of_it_in_the_next(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    seen: list[object] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        seen.append(current_session())
        start(start_response, length=None)
        for _ in range(3):
            assert current_session() is seen[int(environ["PATH_INFO"][1:])]
            yield b"x"

    shop = around(app, eu)
    servers = [Server(shop, path=f"/{n}") for n in range(2)]
    bodies = [iter(server.app(server.environ, server.start_response)) for server in servers]
    for _ in range(3):
        for body in bodies:  # one thread, in turns
            assert next(body) == b"x"
            assert carried() is None
    assert len(set(map(id, seen))) == 2


def failing(error: Exception, *, first: bool = False) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        if first:
            put(current_session())
        start(start_response)
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [(GateTimeout("at db-7.internal"), 503, "1"), (NoEndpoint("nobody"), 503, "1"), (WriteLost([], "lost"), 409, None)],
)
def test_a_refusal_becomes_an_answer(
    cluster: MemoryCluster, error: Exception, status: int, retry_after: str | None
) -> None:
    eu = store(cluster)
    app = around(failing(error), eu)
    for method in ("GET", "HEAD"):
        answer = asked(validator(app), method)
        assert (answer.status, answer.get("retry-after")) == (status, retry_after)
        assert answer.get("cache-control") == "no-store"
        assert (answer.body == b"") is (method == "HEAD")
        assert b"internal" not in answer.body
    assert asked(app, accept="application/json").get("content-type") == "application/problem+json"
    wrote_first = asked(around(failing(error, first=True), eu))
    assert (wrote_first.status, wrote_first.get("cache-control")) == (status, "private, no-store")
    assert wrote_first.token

    def generator(environ: Any, start_response: Any) -> Iterator[bytes]:
        start(start_response)
        yield b""
        raise error

    assert asked(validator(around(generator, eu))).status == status
    with pytest.raises(type(error)):
        asked(around(failing(error), eu, refusals="raise"))


def test_another_error_is_passed_on_unless_a_token_must_be_carried(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    eu = store(cluster)
    with pytest.raises(ZeroDivisionError):
        asked(around(failing(ZeroDivisionError()), eu))
    server = Server(around(failing(ZeroDivisionError("by nothing"), first=True), eu))
    answer = server.serve()
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert answer.token
    assert "by nothing" in server.environ["wsgi.errors"].getvalue()
    assert "the application failed: ZeroDivisionError" in caplog.text


def test_a_write_that_fails_under_a_response_that_waits(cluster: MemoryCluster) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start(start_response)
        with current_session().write() as tx:
            tx.put("photo", "new.jpg")
            yield b"ok"
            raise GateTimeout("later")

    assert asked(around(app, store(cluster))).status == 503


def test_a_token_that_does_not_open_where_that_is_an_error(cluster: MemoryCluster) -> None:
    strict = store(cluster, policy=ReadPolicy(0.0, bad_token="raise"))
    jar = Jar({"causal-a1": wrote(strict), "causal-b2": "garbage"})
    answer = asked(around(reads, strict), cookie=jar.header)
    assert answer.status == 400
    jar.take(answer.all("set-cookie"))
    assert asked(around(reads, strict), cookie=jar.header).status == 200


def test_a_request_is_sent_to_a_site_that_can_serve_it(cluster: MemoryCluster) -> None:
    token = wrote(store(cluster, "eu"))
    app = around(reads, store(cluster, "us"), replay=("fly-replay", "region={site}"))
    assert asked(app, causal_token=token).get("fly-replay") == "region=eu"
    assert asked(app, causal_token=token, fly_replay_src="x").get("fly-replay") is None


def test_frameworks_that_answer_all_errors_themselves(cluster: MemoryCluster) -> None:
    def framework(environ: Any, start_response: Any) -> list[bytes]:
        try:
            return reads(environ, start_response)
        except GateTimeout as error:
            body, status, fields = refused(error)
            start_response(f"{status} Whatever", fields)
            return [body]

    token = wrote(store(cluster, "eu"))
    us = store(cluster, "us")
    app = around(framework, us, replay=("fly-replay", "region={site}"))
    answer = asked(app, causal_token=token, accept="application/json")
    assert (answer.status, answer.get("fly-replay"), answer.get("retry-after")) == (503, "region=eu", "1")
    assert (app.counters.refused, app.counters.replayed) == (1, 1)
    body, status, fields = refused(WriteLost([], "lost"))  # where no middleware is
    assert (status, dict(fields)["Cache-Control"]) == (409, "no-store")
    assert body
    with pytest.raises(GateTimeout):
        asked(around(framework, us, refusals="raise"), causal_token=token)
    with pytest.raises(ConfigError):
        refused(ConfigError("a mistake"))


@pytest.mark.parametrize("error", [GateTimeout("later"), SystemExit()])
def test_what_no_response_of_ours_could_carry_is_told_of(
    cluster: MemoryCluster, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        put(current_session())
        raise error

    middleware = around(app, store(cluster), refusals="raise")
    with pytest.raises(type(error)):
        asked(middleware)
    assert middleware.counters.uncarried == 1
    assert any("without a response of ours" in m for m in caplog.messages)


def test_a_client_that_went_away_before_the_response_began(cluster: MemoryCluster) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        put(current_session())
        start(start_response)
        yield b"ok"

    middleware = around(app, store(cluster))
    server = Server(middleware)
    body = middleware(server.environ, server.start_response)
    next(iter(body))
    for _ in range(2):
        body.close()
    assert (middleware.counters.issued, middleware.counters.uncarried) == (1, 0)
    kept: list[Any] = []

    def whole(environ: Any, start_response: Any) -> Iterator[bytes]:
        put(current_session())
        start(start_response)
        kept.append(iter([b"ok"]))
        return kept[-1]

    middleware = around(whole, store(cluster))
    server = Server(middleware)
    for _ in range(2):
        body = middleware(server.environ, server.start_response)
    for _ in range(2):
        body.close()
    assert server.status is None
    assert middleware.counters.uncarried == 1


def test_late_writes_of_a_thread_and_whoever_listens(cluster: MemoryCluster) -> None:
    events: list[Event] = []
    go = threading.Event()
    threads: list[threading.Thread] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = current_session()
        threads.append(threading.Thread(target=lambda: (go.wait(), put(session))))
        threads[0].start()
        start(start_response)
        return [b"ok"]

    shop = around(app, store(cluster), on_event=events.append)
    asked(shop, path="/job")
    go.set()
    threads[0].join()
    assert [(event.kind, event.route) for event in events] == [("late", "/job")]


def test_installed_twice_it_does_its_work_once(cluster: MemoryCluster) -> None:
    eu = store(cluster)
    assert len(asked(around(around(writes, eu), eu)).all("set-cookie")) == 1
