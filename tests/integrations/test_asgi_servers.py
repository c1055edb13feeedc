"""The ASGI middleware under FastAPI, on uvicorn, over HTTP."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from causal import AsyncCausalStore, CausalStore, ReadPolicy, current_session, propagate
from causal.integrations.asgi import CausalMiddleware
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.integrations.serving import certified, trusting, uvicorn_serves
from tests.integrations.wires import KEYS, PLAIN, STRICT, paused, put, store

ALICE = {"subject": lambda scope: "alice"}


def shop(at: CausalStore[Any, Any], also: AsyncCausalStore[Any, Any], **settings: Any) -> FastAPI:
    """A shop's pages, with every way to be late."""
    app = FastAPI()
    app.state.done = threading.Event()
    if settings.pop("between", False):

        async def passes(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=passes)
        app.add_middleware(GZipMiddleware, minimum_size=1)
    if not settings.pop("off", False):
        app.add_middleware(CausalMiddleware, store=at, **{"cookies": PLAIN, **ALICE} | settings)
    else:
        app.middleware("http")(bare(at))

    def unit() -> Iterator[Any]:
        with current_session(at).write() as tx:
            yield tx

    async def aunit() -> Any:
        async with current_session(also).write() as tx:
            yield tx

    def view() -> Iterator[Any]:
        with current_session(at).read() as db:
            yield db

    @app.post("/sync")
    def sync() -> None:
        put(current_session(at))

    @app.post("/async")
    async def asynchronous() -> None:
        async with current_session(also).write() as tx:
            tx.put("photo", "new.jpg")

    @app.post("/redirect")
    def redirect() -> RedirectResponse:
        put(current_session(at))
        return RedirectResponse("/photo", 303)

    @app.post("/dependency")
    def dependency(tx: Any = Depends(unit)) -> None:  # noqa: B008
        tx.put("photo", "new.jpg")

    @app.post("/async-dependency")
    async def async_dependency(tx: Any = Depends(aunit)) -> None:  # noqa: B008
        tx.put("photo", "new.jpg")

    @app.post("/function-dependency")
    def function_dependency(tx: Any = Depends(unit, scope="function")) -> None:  # noqa: B008
        tx.put("photo", "new.jpg")

    @app.post("/thread")
    def thread() -> None:
        worker = threading.Thread(target=propagate(lambda: put(current_session(at))))
        worker.start()
        worker.join()

    @app.post("/stream")
    def stream() -> StreamingResponse:
        def chunks() -> Iterator[str]:
            yield "one "
            put(current_session(at))
            yield "two"

        return StreamingResponse(chunks())

    @app.post("/background")
    def background(tasks: BackgroundTasks) -> None:
        def job() -> None:
            put(current_session(at))
            app.state.done.set()

        tasks.add_task(job)

    @app.post("/both")
    def both(tasks: BackgroundTasks, tx: Any = Depends(unit)) -> None:  # noqa: B008
        tx.put("photo", "new.jpg")
        tasks.add_task(app.state.done.wait, 0)

    @app.post("/fails")
    def fails() -> None:
        put(current_session(at))
        raise ZeroDivisionError

    @app.post("/http-error")
    def http_error() -> None:
        put(current_session(at))
        raise HTTPException(418)

    @app.post("/failing-dependency")
    def failing_dependency(tx: Any = Depends(unit)) -> None:  # noqa: B008
        tx.put("photo", "new.jpg")
        raise HTTPException(409, "changed my mind")

    @app.get("/photo")
    def photo() -> Any:
        with current_session(at).read() as db:
            return db.get("photo")

    @app.get("/photo-dependency")
    async def photo_dependency(db: Any = Depends(view)) -> Any:  # noqa: B008
        return db.get("photo")

    @app.get("/photo-async")
    async def photo_async() -> Any:
        async with current_session(also).read() as db:
            return db.get("photo")

    @app.get("/public")
    def public() -> JSONResponse:
        with current_session(at).read() as db:
            return JSONResponse(db.get("photo"), headers={"cache-control": "public, max-age=60"})

    @app.get("/static")
    def static() -> str:
        return "nothing of anybody"

    return app


def bare(at: CausalStore[Any, Any]) -> Any:
    """What the middleware's place is taken by, where it is off: a session for each request, of nothing."""
    from causal.context import Carried, carrying

    async def dispatch(request: Any, call_next: Any) -> Any:
        with carrying(Carried(lambda: at.session(subject="alice"))):
            return await call_next(request)

    return dispatch


class Sites:
    """The shop at two sites."""

    def __init__(self, **settings: Any) -> None:
        self.cluster = paused()
        self.apps = {site: self.app(site, dict(settings)) for site in ("eu", "us")}

    def app(self, site: str, settings: dict[str, Any]) -> FastAPI:
        policy = settings.pop("policy", STRICT)
        also = AsyncCausalStore(
            MemoryEngine(cluster=self.cluster, site=site), keyring=KEYS, audience="shop", policy=policy
        )
        return shop(store(self.cluster, site, policy=policy), also, **settings)

    def counters(self, site: str = "eu") -> Any:
        """The counters of a site's middleware."""
        layer = self.apps[site].middleware_stack
        while not isinstance(layer, CausalMiddleware):
            layer = layer.app  # type: ignore[union-attr]
        return layer.counters


CARRIED = (
    "/sync",
    "/async",
    "/redirect",
    "/dependency",
    "/async-dependency",
    "/function-dependency",
    "/thread",
    "/both",
    "/http-error",
)


@pytest.mark.parametrize("between", [False, True])
def test_the_photo_is_there_at_the_other_site(between: bool) -> None:
    sites = Sites(between=between)
    with (
        uvicorn_serves(sites.apps["eu"]) as eu,
        uvicorn_serves(sites.apps["us"]) as us,
        httpx.Client(timeout=30) as client,
    ):
        for path in CARRIED:
            client.cookies.clear()
            assert client.get(f"{us}/photo-async").status_code == 200
            posted = client.post(eu + path)
            assert posted.status_code == {"/redirect": 303, "/http-error": 418}.get(path, 200), path
            assert posted.headers["causal-token"], path
            assert posted.headers["cache-control"] == "private"
            for page in ("/photo", "/photo-async", "/photo-dependency"):
                refused = client.get(us + page)  # the cookies are for all ports of a host
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1"), path
            assert client.get(f"{us}/static").status_code == 200
            sites.cluster.catch_up("us")
            for page in ("/photo", "/photo-async", "/photo-dependency"):
                shown = client.get(us + page)
                assert (shown.status_code, shown.json()) == (200, "new.jpg"), path
            assert len(client.cookies) == 1
        assert sites.counters().late == 0
        assert sites.counters().held == 3
        assert sites.counters("us").refused == 3 * len(CARRIED)


def test_control_without_the_middleware_the_photo_is_gone() -> None:
    sites = Sites(off=True)
    with (
        uvicorn_serves(sites.apps["eu"]) as eu,
        uvicorn_serves(sites.apps["us"]) as us,
        httpx.Client(timeout=30) as client,
    ):
        for path in ("/sync", "/dependency"):
            assert client.post(eu + path).status_code == 200
            shown = client.get(f"{us}/photo")
            assert (shown.status_code, shown.json()) == (200, None)


def test_a_leader_is_asked_where_the_policy_says_so() -> None:
    sites = Sites(policy=ReadPolicy(0.0))
    with (
        uvicorn_serves(sites.apps["eu"]) as eu,
        uvicorn_serves(sites.apps["us"]) as us,
        httpx.Client(timeout=30) as client,
    ):
        client.post(f"{eu}/sync")
        assert client.get(f"{us}/photo").json() == "new.jpg"


@pytest.mark.parametrize("path", ["/stream", "/background"])
def test_what_is_too_late_is_told_of(path: str, caplog: pytest.LogCaptureFixture) -> None:
    sites = Sites()
    with uvicorn_serves(sites.apps["eu"]) as eu, httpx.Client(timeout=30) as client:
        for _ in range(2):
            sites.apps["eu"].state.done.clear()
            answer = client.post(eu + path)
            assert answer.status_code == 200
            assert "causal-token" not in answer.headers
            assert answer.text == ("one two" if path == "/stream" else "null")
            if path == "/background":
                assert sites.apps["eu"].state.done.wait(30)
    assert sites.counters().late == 2
    assert len([m for m in caplog.messages if f"a write of {path} " in m]) == 1


def test_an_error_after_a_write_carries_its_token_in_either_order() -> None:
    sites = Sites()
    around = CausalMiddleware(Sites(off=True).apps["eu"], store(sites.cluster), cookies=PLAIN, **ALICE)  # type: ignore[arg-type]
    with (
        uvicorn_serves(sites.apps["eu"]) as inside,
        uvicorn_serves(around) as outside,
        httpx.Client(timeout=30) as client,
    ):
        for url in (inside, outside):
            failed = client.post(f"{url}/fails")
            assert (failed.status_code, failed.text.strip()) == (500, "Internal Server Error")
            assert (failed.headers.get("causal-token") is not None) == (url == inside)
        gone = client.post(f"{inside}/failing-dependency")
        assert (gone.status_code, gone.json()) == (409, {"detail": "changed my mind"})
        assert sites.counters().late == 0


def test_around_everything_it_answers_in_the_place_of_an_error_page() -> None:
    cluster = paused()
    us = store(cluster, "us")
    put(writer := store(cluster, "eu").session(subject="alice"))
    app = FastAPI()

    @app.get("/photo")
    def photo() -> Any:
        with current_session(us).read() as db:
            return db.get("photo")

    @app.get("/wrote-and-failed")
    def wrote_and_failed() -> None:
        put(current_session(us))
        raise ZeroDivisionError

    wrapped = CausalMiddleware(app, us, cookies=PLAIN, **ALICE)  # type: ignore[arg-type]
    with uvicorn_serves(wrapped) as url, httpx.Client(timeout=30) as client:
        token = {"causal-token": writer.token() or ""}
        assert client.get(f"{url}/photo", headers=token).status_code == 503
        failed = client.get(f"{url}/wrote-and-failed")
        assert (failed.status_code, failed.text) == (500, "Internal Server Error")  # Starlette's own page
        assert failed.headers["causal-token"]


def test_a_public_page_carries_none() -> None:
    sites = Sites()
    with uvicorn_serves(sites.apps["eu"]) as eu, httpx.Client(timeout=30) as client:
        put(store(sites.cluster).session())
        answer = client.get(f"{eu}/public")
        assert answer.json() == "new.jpg"
        assert "causal-token" not in answer.headers
        assert "set-cookie" not in answer.headers
        assert answer.headers["cache-control"] == "public, max-age=60"
        assert sites.counters().withheld == 1


@pytest.mark.parametrize("inside", [False, True])
def test_pages_of_other_origins_read_the_token_wherever_cors_stands(inside: bool) -> None:
    at = store(paused())
    app = FastAPI()

    @app.post("/sync")
    def sync() -> None:
        put(current_session(at))

    def cors() -> None:
        app.add_middleware(CORSMiddleware, allow_origins=["https://page"], allow_credentials=True)

    if inside:
        cors()
    app.add_middleware(CausalMiddleware, store=at, cookies=PLAIN, **ALICE)
    if not inside:
        cors()
    with uvicorn_serves(app) as url, httpx.Client(timeout=30) as client:
        answer = client.post(f"{url}/sync", headers={"origin": "https://page"})
        assert answer.headers["access-control-allow-origin"] == "https://page"
        assert answer.headers["access-control-expose-headers"] == "Causal-Token"
        assert answer.headers["vary"] == "Origin"


def test_host_cookies_over_tls(tmp_path: Path) -> None:
    certificate = certified(tmp_path)
    cluster: MemoryCluster = paused()
    at = store(cluster)
    app = FastAPI()
    app.add_middleware(CausalMiddleware, store=at, **ALICE)

    @app.post("/sync")
    def sync() -> None:
        put(current_session(at))

    with (
        uvicorn_serves(app, certificate) as url,
        httpx.Client(verify=trusting(certificate[0]), timeout=30) as client,
    ):
        for _ in range(3):
            client.post(f"{url}/sync")
            (cookie,) = client.cookies.jar
            assert cookie.name.startswith("__Host-causal-")
            assert (cookie.secure, cookie.path, cookie.domain_specified) == (True, "/", False)
            assert cookie.has_nonstandard_attr("HttpOnly")


def test_many_requests_at_once_keep_their_sessions_apart() -> None:
    cluster = paused()
    at = store(cluster)
    app = FastAPI()
    app.add_middleware(
        CausalMiddleware,
        store=at,
        cookies=PLAIN,
        subject=lambda scope: dict(scope["headers"]).get(b"x-user", b"").decode() or None,
    )

    @app.post("/write")
    def write() -> str | None:
        session = current_session(at)
        put(session, f"photo/{session.subject}", session.subject)
        return session.subject

    def user(name: str, url: str) -> None:
        with httpx.Client(headers={"x-user": name}, timeout=30) as client:
            for _ in range(10):
                answer = client.post(f"{url}/write")
                assert answer.json() == name
                session = at.session(answer.headers["causal-token"], subject=name)
                assert not session.rejected
                assert len(client.cookies) == 1

    with uvicorn_serves(app) as url:
        failed: list[BaseException] = []

        def runs(name: str) -> None:
            try:
                user(name, url)
            except BaseException as error:  # noqa: BLE001 - for the main thread
                failed.append(error)

        threads = [threading.Thread(target=runs, args=(f"user{n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
