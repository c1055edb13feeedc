"""The shop, with every process that it has, over real HTTP: what it claims, and that it leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from kombu import Connection

from causal.errors import ConfigError
from causal.lab.postgres.binaries import Binaries
from causal.lab.valkey import find_server
from examples.shop.check.probes import PROBES, Probe, Saw
from examples.shop.check.table import Finding, report
from examples.shop.check.visitor import Visitor, account, shown
from examples.shop.controls import PARTS, STANDS_STILL_S, Controls
from examples.shop.folder_queue import SCHEME
from examples.shop.run.supervisor import Running
from examples.shop.web.account import Line, packed, unpacked
from tests.examples.chromium import PROGRAM, Chromium

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0

in_a_browser = pytest.mark.skipif(PROGRAM is None, reason="no chromium here: the pages are not looked at")


def shop_command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "examples.shop", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with Running() as running:
        yield running


@pytest.fixture
def shop(running: Running) -> Iterator[Running]:
    """The shop as it is, with replicas that stand still."""
    running.set_lag(STANDS_STILL_S)
    running.controls.change(without=())
    yield running
    running.check()


@pytest.fixture
def alice(shop: Running) -> Iterator[Visitor]:
    with Visitor(shop.settings) as alice:
        alice.log_in("eu", "alice")
        yield alice


# --- the check -----------------------------------------------------------------------------------------------------------


def checked(engine: str) -> None:
    with shop_command("check", "--json", "--engine", engine) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    found = [json.loads(line) for line in out.splitlines()]
    assert all(one["right"] and not one["whole"]["anomaly"] for one in found)
    assert {one["without"] for one in found} - {None} == PARTS.keys()
    assert all(one["control"]["anomaly"] for one in found if one["without"])


def test_as_it_is_nothing_is_missing_and_without_each_part_something_is() -> None:
    checked("embedded")


def test_the_same_on_postgresql_and_valkey() -> None:
    try:
        Binaries.find()
        find_server()
    except ConfigError as error:
        pytest.skip(str(error))
    checked("postgres")


@pytest.mark.parametrize(
    ("whole", "control", "right"),
    [(False, True, True), (True, True, False), (False, False, False), (False, None, True)],
)
def test_a_probe_that_shows_nothing_fails_the_check(whole: bool, control: bool | None, right: bool) -> None:
    probe = Probe("something", lambda _: Saw("nothing", False))
    saw = None if control is None else Saw("", control)
    assert Finding(probe, Saw("", whole), saw).right is right


def test_an_anomaly_is_the_exit_code_of_the_check(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.shop.check.table.Running", lambda _: nullcontext(shop))
    monkeypatch.setattr("examples.shop.check.table.PROBES", (Probe("it is not there", lambda _: Saw("gone", True)),))
    assert report("embedded", as_json=True) == 1


# --- what a browser meets ------------------------------------------------------------------------------------------------


def test_parallel_tabs_lose_nothing(shop: Running, alice: Visitor) -> None:
    texts = [f"tab {n} {time.time_ns()}" for n in range(6)]
    eu = shop.settings.sites["eu"]
    answers: list[httpx.Response] = []
    start = threading.Barrier(len(texts))

    def post(text: str) -> None:
        with httpx.Client(cookies=alice.http.cookies, timeout=DEADLINE_S) as tab:
            start.wait()
            answers.append(tab.post(f"{eu}/posts", data={"text": text}))

    threads = [threading.Thread(target=post, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:  # in whatever order they have come
        alice.http.cookies.extract_cookies(answer)
    page = alice.get("us", "/")
    assert [text for text in texts if text not in page] == []
    assert len([name for name in alice.http.cookies if name.startswith("causal-")]) <= 4


def test_a_page_says_how_it_came_about(shop: Running, alice: Visitor) -> None:
    alice.get("us", "/people/alice")
    page = alice.post("eu", "/photo", photo="alice-says")
    assert account(page, "write") == [("eu", "covered")]
    assert account(page, "job") == [("queue", "with a token")]
    page = alice.get("us", "/people/alice")
    assert account(page, "cache") == [("eu", "fallback")]
    assert account(page, "read") == [("eu", "fallback")]
    assert "us: BEHIND" in page
    assert re.search(r"<b>1</b> token in cookies, <b>\d+</b> characters", page)
    assert account(alice.get("us", "/people/alice"), "cache") == [("cache", "hit")]
    assert account(alice.get("us", "/orders"), "service")[0][0].startswith("orders: ")


def test_a_refused_page_says_so_and_when_to_come_again(shop: Running, alice: Visitor) -> None:
    alice.post("eu", "/posts", text="first")
    answer = alice.send("us", "/posts", text="second")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert shown(answer.text, "refused") == ["GateTimeout"]
    assert account(answer.text, "write") == [("nowhere", "refused")]


def test_what_is_for_everybody_carries_no_token(shop: Running, alice: Visitor) -> None:
    alice.send("eu", "/posts", text="so that there is a token to give")
    answer = alice.http.get(f"{shop.settings.sites['us']}/pictures/alice-1.svg")
    assert "public" in answer.headers["cache-control"]
    assert not {"set-cookie", "causal-token"} & set(answer.headers)


@pytest.mark.parametrize(
    ("method", "path", "form", "status"),
    [
        ("GET", "/people/nobody", {}, 404),
        ("GET", "/products/nothing", {}, 404),
        ("GET", "/people/%C3%A9%00", {}, 422),
        ("GET", f"/search?q={'x' * 201}", {}, 422),
        ("GET", "/nowhere", {}, 404),
        ("GET", "/posts", {}, 405),
        ("POST", "/posts", {}, 422),
        ("POST", "/photo", {"photo": "../x"}, 422),
        ("POST", "/login", {"name": "Not A Name!"}, 422),
        ("POST", "/lag", {"seconds": "-1"}, 422),
        ("POST", "/orders", {"product": "nothing"}, 404),
    ],
)
def test_mistakes_have_pages(
    alice: Visitor, shop: Running, method: str, path: str, form: dict[str, str], status: int
) -> None:
    answer = alice.http.request(method, shop.settings.sites["eu"] + path, data=form)
    assert answer.status_code == status
    assert "<h1>Sorry</h1>" in answer.text


def test_a_name_that_is_none_is_nobody(shop: Running) -> None:
    with Visitor(shop.settings) as guest:
        guest.http.cookies.set("shop-user", "../x")
        assert "Log in" in guest.get("eu", "/")


@pytest.mark.parametrize("text", ['"', "* OR", "a:b NEAR(", "  ", "é\0"])
def test_a_search_takes_any_text(alice: Visitor, text: str) -> None:
    assert "<h1>Search</h1>" in alice.get("us", "/search", q=text)


def test_who_is_not_logged_in_changes_nothing(shop: Running) -> None:
    with Visitor(shop.settings) as guest:
        assert guest.send("eu", "/posts", text="from nobody").status_code == 403
        assert "from nobody" not in guest.get("eu", "/")


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example/"])
def test_a_form_never_leads_to_another_host(alice: Visitor, back: str) -> None:
    answer = alice.send("eu", "/lag", seconds=str(STANDS_STILL_S), back=back)
    assert answer.headers["location"] == "/"


# --- what can be turned --------------------------------------------------------------------------------------------------


def test_the_lag_changes_while_it_runs(shop: Running, alice: Visitor) -> None:
    text = f"at last {time.time_ns()}"
    alice.post("eu", "/posts", text=text)
    with Visitor(shop.settings) as guest:
        assert text not in guest.get("us", "/")
        with shop_command("lag", "0", "--url", shop.settings.sites["us"]) as process:
            out, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, out, err) == (0, "", "")
        wait_until(lambda: text in guest.get("us", "/"))


def test_a_part_is_left_out_from_the_page(shop: Running, alice: Visitor) -> None:
    page = alice.http.post(f"{shop.settings.sites['eu']}/controls", data={"left_out": ["mixed", "jobs"]}).text
    assert "without jobs, mixed" in page
    assert shop.controls.state().without == {"jobs", "mixed"}
    assert "leave something out" in alice.post("us", "/controls")


def test_what_cannot_be_turned_is_refused(tmp_path: Path) -> None:
    controls = Controls(tmp_path)
    for lag_s, without in ((-1.0, ()), (2 * STANDS_STILL_S, ()), (0.0, ("everything",))):
        with pytest.raises(ValueError, match="a lag is"):
            controls.change(lag_s=lag_s, without=without)
    assert controls.state().lag_s == 0


def test_what_a_form_did_reaches_the_next_page() -> None:
    lines = [Line("read", "x", "eu", "covered", 2, 30, "us: BEHIND 1")]
    assert unpacked(packed("done", lines)) == ("done", lines)
    for value in ("", "!", "e30", None, packed("", lines)[:-3]):
        assert unpacked(value) == ("", [])


# --- its processes -------------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    try:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # a helper that has ended meanwhile
        return []
    return found + [grandchild for child in found for grandchild in children(child)]


def is_gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are counted in /proc")
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_process_outlives_it(how: signal.Signals, code: int, tmp_path: Path) -> None:
    with shop_command("run", "--port", "0", env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        assert process.stdout is not None
        while "Ctrl-C" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        started = children(process.pid)
        assert len(started) >= 5
        process.send_signal(how)
        process.wait(DEADLINE_S)
        assert process.returncode == code
        wait_until(lambda: all(map(is_gone, started)))
    if how is not signal.SIGKILL:
        assert list(tmp_path.glob("shop-*")) == []


def test_a_port_that_is_taken_is_said(shop: Running) -> None:
    port = shop.settings.sites["eu"].rpartition(":")[2]
    with shop_command("run", "--port", port) as process:
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "Address already in use: --port" in err
    assert "Traceback" not in err


# --- how it looks --------------------------------------------------------------------------------------------------------

PAGES = (
    "/",
    "/people",
    "/people/alice",
    "/products",
    "/products/mug",
    "/orders",
    "/search?q=teapot",
    "/jobs",
    "/controls",
    "/login",
)


@in_a_browser
def test_the_photo_and_the_orders_in_a_browser(shop: Running) -> None:
    eu, us = shop.settings.sites["eu"], shop.settings.sites["us"]
    with Chromium() as browser:
        tab = browser.tab()
        tab.go(f"{eu}/login")
        tab.click("button[value=alice]")
        tab.go(f"{us}/people/alice")
        before = shown(tab.html(), "photo")
        tab.go(f"{eu}/people/alice")
        tab.click(".choices button")
        after = shown(tab.html(), "photo")
        assert after != before
        tab.click(".elsewhere")  # the same page at the other site
        assert tab.js("location.href") == f"{us}/people/alice"
        assert shown(tab.html(), "photo") == after
        tab.go(f"{eu}/products/mug")
        tab.click('form[action="/orders"] button')
        orders = shown(tab.html(), "order")
        assert orders
        tab.click(".elsewhere")
        assert shown(tab.html(), "order") == orders


@in_a_browser
def test_two_tabs_of_one_browser_at_once(shop: Running) -> None:
    eu, us = shop.settings.sites["eu"], shop.settings.sites["us"]
    with Chromium() as browser:
        one, other = browser.tab(), browser.tab()
        one.go(f"{eu}/login")
        one.click("button[value=alice]")
        for tab in (one, other):
            tab.go(f"{eu}/")
        texts = [f"from a tab {time.time_ns()}", f"from the other {time.time_ns()}"]
        for tab, text in zip((one, other), texts, strict=True):
            tab.clicking('form[action="/posts"] button', text=text)
        for tab in (one, other):
            tab.arrived()
        one.go(f"{us}/")
        assert all(text in one.html() for text in texts)


@in_a_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_fits_and_needs_nothing_from_elsewhere(
    shop: Running, tmp_path: Path, width: int, dark: bool
) -> None:
    us = shop.settings.sites["us"]
    with Chromium() as browser:
        tab = browser.tab()
        tab.look(dark=dark, width=width)
        tab.go(f"{us}/login")
        tab.click("button[value=alice]")
        for nth, path in enumerate(PAGES):
            tab.go(us + path)
            assert tab.js("document.documentElement.scrollWidth") <= width, path
            assert tab.js("[...document.images].every(i => i.complete && i.naturalWidth > 0)"), path
            assert tab.js("performance.getEntriesByType('resource').every(r => r.name.startsWith(location.origin))"), (
                path
            )
            assert tab.js("getComputedStyle(document.body).backgroundColor") == (
                "rgb(21, 23, 27)" if dark else "rgb(246, 245, 241)"
            )
            tab.screenshot(tmp_path / f"{nth}.png")


def test_each_part_has_a_probe_and_the_guide_has_both() -> None:
    assert {probe.without for probe in PROBES} - {None} == PARTS.keys()
    guide = (ROOT / "docs/howto/shop.md").read_text()
    assert [probe.name for probe in PROBES if probe.name not in guide] == []
    assert [part for part in PARTS if f"| `{part}` |" not in guide] == []


def test_a_worker_finds_a_message_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        name: str(tmp_path) for name in ("data_folder_in", "data_folder_out", "processed_folder", "control_folder")
    }
    with Connection(f"{SCHEME}://", transport_options=options) as connection:
        queue = connection.SimpleQueue("jobs")
        found: list[str] = []
        replace = os.replace

        def named(part: str, whole: str) -> None:
            assert json.loads(Path(part).read_text())["body"]
            with pytest.raises(queue.Empty):
                queue.get(block=False)
            found.append(whole)
            replace(part, whole)

        monkeypatch.setattr(os, "replace", named)
        queue.put({"job": 1})
        assert len(found) == 1
        assert queue.get(timeout=DEADLINE_S).payload == {"job": 1}
        queue.close()
