"""Several tabs and one cookie jar: whatever the order of the responses, no acknowledged write is forgotten."""

import asyncio
import email.message
import random
import threading
from http.cookiejar import CookieJar
from typing import Any
from urllib.request import Request

import attrs
import httpx
import pytest
from fastapi import FastAPI

from causal import Frontier, current_session
from causal.integrations.asgi import CausalMiddleware
from causal.integrations.cookies import MAX_COOKIES, Cookies
from causal.stores.memory import MemoryCluster
from tests.integrations.serving import uvicorn_serves
from tests.integrations.wires import PLAIN, Answer, around, ask, put, respond, store

URL = "http://shop.test/"


async def page(scope: Any, receive: Any, send: Any) -> None:
    session = current_session()
    if scope["method"] == "POST":
        put(session, scope["path"])
    else:
        with session.read() as db:
            db.get(scope["path"])
    await respond(send)


class _Response:
    """A response, as `http.cookiejar` reads one."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def info(self) -> email.message.Message:
        message = email.message.Message()
        for name, value in self.answer.fields:
            message[name] = value
        return message


@attrs.define
class Browser:
    """Tabs that share a jar. A request takes the cookies of the moment when it is sent; a response gives its own when it arrives."""

    app: Any
    jar: CookieJar = attrs.field(factory=CookieJar)
    one_name: bool = False
    most: int = 0

    def cookies(self) -> str:
        """What the jar sends now."""
        request = Request(URL)
        self.jar.add_cookie_header(request)
        return str(request.get_header("Cookie", ""))

    def ask(self, method: str, path: str, cookies: str) -> Answer:
        """Have the server answer a request that was sent with these cookies."""
        return asyncio.run(ask(self.app, method, path, [("cookie", cookies)]))

    def arrive(self, answer: Answer) -> None:
        """Take what a response says, at last."""
        if self.one_name:  # the mistake
            kept = [(k, v) for k, v in answer.fields if k != "set-cookie"]
            if answer.token:
                kept.append(("set-cookie", f"causal-one={answer.token}; Path=/; Max-Age=86400"))
            answer = attrs.evolve(answer, fields=kept)
        self.jar.extract_cookies(_Response(answer), Request(URL))  # type: ignore[arg-type]
        self.most = max(self.most, len(self.jar))


def story(seed: int, *, tabs: int = 4, steps: int = 40, one_name: bool = False) -> tuple[list[str], Browser]:
    """Run tabs against one jar, and return every request that presented less than what had been acknowledged to the browser."""
    rng = random.Random(seed)
    cluster = MemoryCluster(("eu", "us"))
    stores = [store(cluster, site) for site in ("eu", "us")]
    browser = Browser(None, one_name=one_name)
    apps = [around(page, at) for at in stores]
    waiting: list[tuple[str, Answer]] = []
    acknowledged = shown = Frontier()
    forgotten: list[str] = []
    for step in range(steps):
        if len(waiting) < tabs and (not waiting or rng.random() < 0.5):
            cookies = browser.cookies()
            presented = stores[0].session(*PLAIN.arrived([cookies]).tokens, subject="alice")
            assert not presented.rejected
            if not presented.own | presented.seen >= acknowledged | shown:
                forgotten.append(f"seed {seed}, step {step}: {cookies}")
            method = "POST" if rng.random() < 0.3 else "GET"
            browser.app = rng.choice(apps)
            waiting.append((method, browser.ask(method, f"/{rng.randrange(4)}", cookies)))
            if method == "GET" and rng.random() < 0.3:
                put(rng.choice(stores).session(subject="bob"), f"/{rng.randrange(4)}")
        else:
            method, answer = waiting.pop(rng.randrange(len(waiting)))  # in whatever order
            assert answer.status == 200
            browser.arrive(answer)
            if answer.token:
                told = stores[0].session(answer.token, subject="alice")
                acknowledged |= told.own
                shown |= told.seen
    return forgotten, browser


def test_no_acknowledged_write_is_forgotten_whatever_the_order() -> None:
    most = 0
    for seed in range(80):
        forgotten, browser = story(seed)
        assert forgotten == []
        most = max(most, browser.most)
    assert 1 < most <= MAX_COOKIES + 4  # and one for each that is under way


def test_more_tabs_than_cookies_are_folded() -> None:
    most = 0
    for seed in range(15):
        forgotten, browser = story(seed, tabs=10, steps=80)
        assert forgotten == []
        most = max(most, browser.most)
    assert MAX_COOKIES < most <= MAX_COOKIES + 10


def test_control_one_cookie_forgets() -> None:
    assert sum(bool(story(seed, one_name=True)[0]) for seed in range(20)) > 5


@pytest.mark.parametrize("one_name", [False, True])
def test_the_story_of_two_tabs(one_name: bool) -> None:
    cluster = MemoryCluster(("eu", "us"))
    eu = store(cluster)
    put(eu.session(subject="bob"), "/bob")
    browser = Browser(around(page, eu), one_name=one_name)
    both = browser.cookies()
    posted = browser.ask("POST", "/photo", both)
    looked = browser.ask("GET", "/bob", both)
    browser.arrive(posted)
    browser.arrive(looked)  # the last to arrive knows of no photo
    session = eu.session(*PLAIN.arrived([browser.cookies()]).tokens, subject="alice")
    assert bool(session.own) is not one_name


def test_tabs_over_http() -> None:
    at = store(MemoryCluster(("eu", "us")))
    app = FastAPI()
    app.add_middleware(CausalMiddleware, store=at, cookies=Cookies(secure=False), subject=lambda scope: "alice")

    @app.post("/write/{key}")
    def write(key: str) -> int:
        session = current_session(at)
        before = max((p.offset for p in session.own), default=0)
        put(session, key)
        return before

    with uvicorn_serves(app) as url, httpx.Client(timeout=30) as client:
        lock, acknowledged = threading.Lock(), [0]
        failed: list[str] = []

        def tab(name: int) -> None:
            for n in range(12):
                with lock:
                    least = acknowledged[0]
                answer = client.post(f"{url}/write/{name}-{n}")
                if answer.status_code != 200 or answer.json() < least:
                    failed.append(f"{answer.status_code}: {answer.text}, not {least}")
                mine = max(p.offset for p in at.session(answer.headers["causal-token"], subject="alice").own)
                with lock:
                    acknowledged[0] = max(acknowledged[0], mine)

        threads = [threading.Thread(target=tab, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(client.cookies) <= MAX_COOKIES + 4
