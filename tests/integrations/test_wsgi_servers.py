"""The WSGI middleware under Flask and plain applications, on cheroot and wsgiref, over HTTP."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from wsgiref.validate import validator

import flask
import httpx
import pytest

from causal import CausalStore, ReadPolicy, current_session
from causal.context import Carried, carrying
from causal.errors import GateError
from causal.integrations.wsgi import CausalMiddleware, refused
from tests.integrations.serving import cheroot_serves, wsgiref_serves
from tests.integrations.wires import PLAIN, STRICT, paused, put, store

Serves = Callable[[Any], AbstractContextManager[str]]
SERVERS = pytest.mark.parametrize("serves", [cheroot_serves, wsgiref_serves])


def shop(at: CausalStore[Any, Any], **settings: Any) -> flask.Flask:
    """A shop's pages, with every way to be late."""
    app = flask.Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    if settings.pop("off", False):
        app.wsgi_app = bare(app.wsgi_app, at)  # type: ignore[method-assign]
    else:
        app.middleware = CausalMiddleware(  # type: ignore[attr-defined]
            app.wsgi_app, at, **{"cookies": PLAIN, "subject": lambda environ: "alice"} | settings
        )
        app.wsgi_app = app.middleware  # type: ignore[method-assign,attr-defined]
    app.register_error_handler(GateError, refused)

    @app.post("/write")
    def write() -> str:
        put(current_session(at))
        return "saved"

    @app.post("/redirect")
    def redirect() -> Any:
        put(current_session(at))
        return flask.redirect("/photo", 303)

    @app.post("/teardown")
    def teardown() -> str:
        flask.g.block = current_session(at).write()
        flask.g.block.__enter__().put("photo", "new.jpg")
        return "saved"

    @app.teardown_appcontext
    def commits(_: object) -> None:
        if "block" in flask.g:
            flask.g.block.__exit__(None, None, None)

    @app.post("/generator")
    def generator() -> Any:
        def chunks() -> Iterator[str]:
            put(current_session(at))
            yield "sav"
            yield "ed"

        return app.response_class(flask.stream_with_context(chunks()))

    @app.post("/stream-teardown")
    def stream_teardown() -> Any:
        flask.g.block = current_session(at).write()
        flask.g.block.__enter__().put("photo", "new.jpg")
        response = app.response_class(flask.stream_with_context(iter(["saved"])))
        response.content_length = 5
        return response

    @app.post("/late-stream")
    def late_stream() -> Any:
        def chunks() -> Iterator[str]:
            yield "sav"
            put(current_session(at))
            yield "ed"

        return app.response_class(flask.stream_with_context(chunks()))

    @app.post("/fails")
    def fails() -> str:
        put(current_session(at))
        raise ZeroDivisionError

    @app.get("/photo/<size>")
    def photo(size: str) -> Any:
        with current_session(at).read() as db:
            return flask.jsonify(db.get("photo"))

    return app


def bare(app: Any, at: CausalStore[Any, Any]) -> Any:
    """What the middleware's place is taken by, where it is off: a session for each request, of nothing."""

    def wsgi_app(environ: Any, start_response: Any) -> Any:
        with carrying(Carried(lambda: at.session(subject="alice"))):
            return app(environ, start_response)

    return wsgi_app


@SERVERS
def test_the_photo_is_there_at_the_other_site(serves: Serves) -> None:
    cluster = paused()
    sites = {site: shop(store(cluster, site)) for site in ("eu", "us")}
    carried = ("/write", "/redirect", "/teardown", "/generator", "/stream-teardown", "/fails")
    with serves(sites["eu"]) as eu, serves(sites["us"]) as us, httpx.Client(timeout=30) as client:
        for path in carried:
            client.cookies.clear()
            posted = client.post(eu + path)
            assert posted.status_code == {"/redirect": 303, "/fails": 500}.get(path, 200), path
            assert posted.headers["causal-token"], path
            assert posted.headers["cache-control"] == "private"
            refused = client.get(f"{us}/photo/small")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1"), path
            assert refused.headers["cache-control"] == "no-store"
            cluster.catch_up("us")
            shown = client.get(f"{us}/photo/small")
            assert (shown.status_code, shown.json()) == (200, "new.jpg"), path
            assert len(client.cookies) == 1
        counters = sites["eu"].middleware.counters  # type: ignore[attr-defined]
        assert counters.late == 0
        assert sites["us"].middleware.counters.refused == len(carried)  # type: ignore[attr-defined]


@SERVERS
def test_control_without_the_middleware_the_photo_is_gone(serves: Serves) -> None:
    cluster = paused()
    apps = [shop(store(cluster, site, policy=ReadPolicy(0.0)), off=True) for site in ("eu", "us")]
    with serves(apps[0]) as eu, serves(apps[1]) as us, httpx.Client(timeout=30) as client:
        assert client.post(f"{eu}/write").status_code == 200
        assert client.get(f"{us}/photo/small").json() is None


@SERVERS
def test_what_is_too_late_is_told_of_once_a_route(serves: Serves, caplog: pytest.LogCaptureFixture) -> None:
    app = shop(store(paused()))
    with serves(app) as url, httpx.Client(timeout=30) as client:
        for _ in range(2):
            answer = client.post(f"{url}/late-stream")
            assert (answer.status_code, answer.text) == (200, "saved")
            assert "causal-token" not in answer.headers
    assert app.middleware.counters.late == 2  # type: ignore[attr-defined]
    assert len([m for m in caplog.messages if "a write of /late-stream " in m]) == 1


def test_a_routes_pattern_is_what_counters_call_it() -> None:
    events: list[Any] = []
    cluster = paused()
    app = shop(store(cluster, "us"), on_event=events.append)
    put(writer := store(cluster, "eu").session(subject="alice"))
    client = app.test_client()
    client.get("/photo/7", headers={"causal-token": writer.token() or ""})
    assert [(event.kind, event.route, event.detail) for event in events] == [
        ("refused", "/photo/<size>", "GateTimeout")
    ]


@SERVERS
def test_a_plain_application(serves: Serves) -> None:
    cluster = paused()
    at = {site: store(cluster, site) for site in ("eu", "us")}

    def application(site: str) -> Any:
        def app(environ: Any, start_response: Any) -> list[bytes]:
            session = current_session(at[site])
            if environ["REQUEST_METHOD"] == "POST":
                put(session)
                start_response("303 See Other", [("Content-Type", "text/plain"), ("Location", "/")])
                return [b""]
            with session.read() as db:
                body = str(db.get("photo")).encode()
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
            return [body]

        return validator(CausalMiddleware(validator(app), at[site], cookies=PLAIN, subject=lambda environ: "alice"))

    with serves(application("eu")) as eu, serves(application("us")) as us, httpx.Client(timeout=30) as client:
        assert client.post(eu).status_code == 303
        refused = client.get(us)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.head(us).status_code == 503
        cluster.catch_up("us")
        assert client.get(us).text == "new.jpg"
        assert STRICT.then == "error"
