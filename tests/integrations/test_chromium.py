"""Two tabs of a real browser: its own cookie jar, its own rules for names, over plain HTTP and over TLS.

The pages drive themselves and report to the server; the server decides in which order responses arrive. Without Chromium on the path,
these tests are skipped.
"""

import asyncio
import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse

from causal import CausalStore, current_session
from causal.integrations.asgi import CausalMiddleware, Cookies
from causal.integrations.cookies import MAX_COOKIES
from causal.stores.memory import MemoryCluster
from tests.integrations.serving import DEADLINE_S, certified, uvicorn_serves
from tests.integrations.wires import put, store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH: what a real browser does is not tested here"
)

PAGE = """<!doctype html><title>{name}</title><script>
(async () => {{
  const texts = []
  for (const path of {paths}) texts.push(await (await fetch(path, {{method: "POST"}})).text())
  await fetch("/report/{name}", {{method: "POST", body: JSON.stringify([document.cookie, ...texts])}})
}})()
</script>"""


@attrs.define
class Browser:
    """A headless Chromium, driven by its debugging port's plain HTTP: a tab is opened, and that is all."""

    folder: Path
    process: Any = None
    port: int = 0

    def start(self) -> None:
        assert CHROMIUM is not None
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--ignore-certificate-errors",
            "--remote-debugging-port=0",
            f"--user-data-dir={self.folder}",
            "about:blank",
        ]
        self.process = subprocess.Popen([CHROMIUM, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = self.folder / "DevToolsActivePort"
        until(lambda: told.exists() and told.read_text().count("\n") >= 1)
        self.port = int(told.read_text().split("\n")[0])

    def tab(self, url: str) -> None:
        """Open a tab; it stays."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?{url}", method="PUT")
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            json.load(answer)


def until(true: Any) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("chromium"))
    started.start()
    yield started
    started.process.terminate()
    started.process.wait(DEADLINE_S)


class Site:
    """A shop that lets the photo's response go first, and the other tab's last; and hears what pages report."""

    def __init__(self, at: CausalStore[Any, Any], cookies: Cookies, *, one_name: bool) -> None:
        self.reports: dict[str, list[str]] = {}
        self.presented: dict[str, int] = {}
        self.looking = asyncio.Event()
        self.posted = asyncio.Event()
        self.arrived = asyncio.Event()
        self.heard = threading.Condition()
        self.at = at
        app = FastAPI()
        app.add_middleware(CausalMiddleware, store=at, cookies=cookies, subject=lambda scope: "alice")
        self.app: Any = OneName(app) if one_name else app

        @app.get("/tab/{name}")
        def tab(name: str, paths: str) -> HTMLResponse:
            return HTMLResponse(PAGE.format(name=name, paths=json.dumps(paths.split(","))))

        @app.post("/photo")
        async def photo() -> str:
            session = current_session()
            await self.looking.wait()  # both were sent with the same cookies
            put(session)
            self.posted.set()
            return "posted"

        @app.post("/look")
        async def look(request: Request) -> str:
            session = current_session()
            with session.read() as db:
                db.get("bob")
            self.looking.set()
            await self.posted.wait()
            await self.arrived.wait()  # the photo's page has its response when it reports
            return "looked"

        @app.post("/more")
        def more() -> str:
            put(current_session(), "more")
            return "more"

        @app.post("/own/{name}")
        def own(name: str, request: Request) -> PlainTextResponse:
            self.presented[name] = request.headers.get("cookie", "").count(cookies.prefix)
            session = current_session()
            return PlainTextResponse("it is there" if session.own else "it is gone")

        @app.post("/report/{name}")
        async def report(name: str, request: Request) -> None:
            with self.heard:
                self.reports[name] = json.loads(await request.body())
                self.heard.notify_all()
            if name == "photo":
                self.arrived.set()

    def report(self, name: str) -> list[str]:
        with self.heard:
            assert self.heard.wait_for(lambda: name in self.reports, DEADLINE_S)
            return self.reports[name]


class OneName:
    """The mistake: every token under the same name."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def renamed(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = []
                for name, value in message["headers"]:
                    if name == b"set-cookie":
                        if b"Max-Age=0" in value:
                            continue
                        value = b"control-one=" + value.partition(b"=")[2]
                    headers.append((name, value))
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, renamed)


@pytest.mark.parametrize(
    ("kind", "shown"), [("plain", "it is there"), ("tls", "it is there"), ("one name", "it is gone")]
)
def test_two_tabs(browser: Browser, tmp_path: Path, kind: str, shown: str) -> None:
    at = store(MemoryCluster(("eu", "us")))
    put(at.session(subject="bob"), "bob")
    name = "control" if kind == "one name" else "causal"  # the browser keeps the others'
    site = Site(at, Cookies(secure=kind == "tls", name=name), one_name=kind == "one name")
    certificate = certified(tmp_path) if kind == "tls" else None
    with uvicorn_serves(site.app, certificate) as url:
        url = url.replace("127.0.0.1", "localhost")
        for name, paths in (("look", "/look"), ("photo", "/photo")):
            browser.tab(f"{url}/tab/{name}?paths={paths}")
        assert site.report("photo") == ["", '"posted"']  # no script reads the cookies
        assert site.report("look") == ["", '"looked"']
        browser.tab(f"{url}/tab/after?paths=/own/after")
        assert site.report("after") == ["", shown]
        assert site.presented["after"] == (1 if kind == "one name" else 2)
        if kind == "one name":
            return
        for n in range(6):
            browser.tab(f"{url}/tab/more{n}?paths=/more")
        for n in range(6):
            site.report(f"more{n}")
        browser.tab(f"{url}/tab/last?paths=/own/last")
        assert site.report("last") == ["", "it is there"]
        assert site.presented["last"] <= MAX_COOKIES + 6
