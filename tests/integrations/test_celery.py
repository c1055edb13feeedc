"""What needs no worker: tasks that run in place, what is put into messages, and settings."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery")

from celery import Celery, Task, chain, chord, group
from celery.app.trace import build_tracer
from celery.beat import Scheduler

from causal import AsyncCausalStore, CausalStore, ConfigError, Keyring, current_session, propagate
from causal.context import Carried, carried, carrying
from causal.integrations import celery as integration
from causal.integrations.carrier import HEADER, extract
from causal.integrations.celery import CausalTask, causal_task
from causal.integrations.work import PARTIAL, RETRIED
from causal.stores.sqlite import SQLiteEngine
from tests.integrations.celery_shop import PATIENT, make
from tests.stores.sqlite_world import fast_directory

KEYS = Keyring.generate()


class Sites:
    """Two sites; tasks run at `us`, which hears nothing of `eu` until it is told to."""

    def __init__(self, directory: Path) -> None:
        self.eu, self.us = (
            CausalStore(SQLiteEngine(directory, site=site), keyring=KEYS, audience="shop") for site in ("eu", "us")
        )
        self.eu.head(), self.us.head()
        self.us.engine.pause("us")  # type: ignore[attr-defined]
        self.app = make(self.us)

    def wrote(self, value: str) -> Any:
        session = self.eu.session(subject="alice")
        with session.write() as tx:
            tx.put("photo", value)
        return session

    def eager(self) -> Celery:
        self.app.conf.task_always_eager = True
        self.app.conf.task_eager_propagates = True
        return self.app

    def arrives(self) -> None:
        self.us.engine.catch_up("us")  # type: ignore[attr-defined]

    def published(self) -> list[dict[str, Any]]:
        """The headers of what lies in the queue."""
        found = []
        with self.app.connection() as connection, connection.SimpleQueue("celery") as queue:
            while queue.qsize():
                message = queue.get(timeout=1)
                message.ack()
                found.append(message.headers)
        return found


@pytest.fixture
def sites() -> Iterator[Sites]:
    with fast_directory() as directory:
        made = Sites(directory)
        yield made
        made.app.close()
        made.eu.close()
        made.us.close()


# --- in place --------------------------------------------------------------------------------------------------------


def test_a_task_in_place_sees_what_its_publisher_wrote_and_has_a_session_of_its_own(sites: Sites) -> None:
    app, alice = sites.eager(), sites.wrote("eager")
    seen: list[Any] = []

    @app.task(shared=False)
    def mine() -> Any:
        seen.append(current_session())
        with current_session().read() as db:
            return db.get("photo")

    with carrying(Carried(lambda: alice)):
        before = alice.own | alice.seen
        assert mine.delay().get() == "eager"
        assert mine.apply_async().get() == "eager"
        assert mine.apply().get() == "eager"
        assert carried() is not None
        assert current_session() is alice
    assert alice not in seen
    assert {session.subject for session in seen} == {"jobs"}
    assert len(set(map(id, seen))) == 3
    assert alice.own | alice.seen == before  # what the task learned is the task's, as it would be on a worker
    with pytest.raises(ConfigError):
        current_session()


def test_a_task_that_is_called_as_a_function_is_one(sites: Sites) -> None:
    app, alice = sites.eager(), sites.wrote("called")

    @app.task(shared=False)
    def mine() -> Any:
        return current_session()

    with carrying(Carried(lambda: alice)):
        assert mine() is alice


@pytest.mark.parametrize("name", ["look", "look_always", "look_delayed"])
def test_every_choice_in_place(sites: Sites, name: str) -> None:
    app = sites.eager()
    with carrying(Carried(lambda: sites.wrote(name))):
        value, where, bare = app.tasks[name].delay().get()
    assert (value, bare) == (name, None)  # "delayed" cannot come later in place: it waits, and goes to the leader
    assert where.startswith("eu")


def test_always_shows_what_nothing_demanded(sites: Sites) -> None:
    app, alice = sites.eager(), sites.wrote("alice's")
    sites.arrives()
    sites.wrote("bob's")
    with carrying(Carried(lambda: alice)):
        assert app.tasks["look"].delay().get()[:2] == ["alice's", "us covered"]
        assert app.tasks["look_always"].delay().get()[0] == "bob's"
    for choice, value in (("sticky", "alice's"), ("always", "bob's")):
        other = make(sites.us, consistency=choice)
        other.conf.task_always_eager = True
        with carrying(Carried(lambda: alice)):
            assert other.tasks["look"].delay().get()[0] == value
        other.close()


def test_in_place_without_a_publisher_the_leader_is_read(sites: Sites) -> None:
    sites.wrote("nobody's")
    assert sites.eager().tasks["look"].delay().get()[0] == "nobody's"


def test_a_failed_task_in_place_leaves_the_publishers_session(sites: Sites) -> None:
    app, alice = sites.eager(), sites.eu.session(subject="alice")
    with carrying(Carried(lambda: alice)):
        with pytest.raises(LookupError):
            app.tasks["fails"].delay()
        assert current_session() is alice
    assert carried() is None


def test_a_retry_in_place_knows_what_the_first_try_wrote(sites: Sites) -> None:
    app = sites.eager()
    app.conf.task_eager_propagates = False  # else Celery raises what asks for the retry
    for publisher in (Carried(lambda: sites.eu.session(subject="alice")), None):
        with carrying(publisher):
            found, tokens, _ = app.tasks["retried"].delay(3, queue=None).get()
        assert (found, bool(tokens)) == (["written"] * 3, True)


def test_a_chain_in_place_knows_what_its_links_wrote(sites: Sites) -> None:
    app = sites.eager()
    headers, write, carries = app.tasks["headers"], app.tasks["write"], app.tasks["carries"]
    alice = sites.wrote("chain")
    sites.arrives()
    before = alice.own
    with carrying(Carried(lambda: alice)):
        (text,) = headers.delay().get()
        known = sites.us.session(text, subject="jobs").own
        for canvas in (
            chain(write.si("k", "v"), headers.si()),
            chain(write.si("k", "v"), carries.si(), headers.si()),
            chord([write.si("k", "v")], headers.si()),
        ):
            (text,) = canvas.apply_async().get()
            session = sites.us.session(text, subject="jobs")
            assert (session.own | session.seen) >= known
            assert session.own | session.seen != known
            known = session.own | session.seen
        assert chain(write.si("k", "v"), group(carries.si(), carries.si())).apply_async().get() == [[True, False]] * 2
        assert alice.own | alice.seen == before
    with carrying(Carried(lambda: sites.eu.session(subject="bob"))):
        assert headers.delay().get() == []  # and nobody else is given it


def test_nested_tasks_in_place(sites: Sites) -> None:
    app, alice = sites.eager(), sites.wrote("outer")

    @app.task(shared=False)
    def inner() -> Any:
        return current_session()

    @app.task(shared=False)
    def outer() -> Any:
        mine = current_session()
        with mine.write(wait_s=20) as tx:
            tx.put("inner", 1)
        theirs = inner.delay().result
        return mine is current_session() and theirs is not mine and theirs.own >= mine.own

    sites.arrives()
    with carrying(Carried(lambda: alice)):
        assert outer.delay().get()


def test_threads_publish_with_the_session_that_they_are_given(sites: Sites) -> None:
    alice, look = sites.wrote("thread"), sites.app.tasks["look"]
    with carrying(Carried(lambda: alice)), ThreadPoolExecutor(4) as pool:
        list(pool.map(propagate(lambda _: look.delay()), range(8)))
        pool.submit(look.delay).result()
    tokens = [extract(headers) for headers in sites.published()]
    assert [len(found) for found in tokens] == [1] * 8 + [0]
    assert sites.us.session(*tokens[0], subject="jobs").own == alice.own


def test_whose_task_it_is_may_follow_from_its_arguments() -> None:
    with fast_directory() as directory:
        sites = Sites(directory)
        app = make(sites.us, subject=lambda name, args, kwargs: kwargs.get("user") or args[0])
        app.conf.task_always_eager = True
        with carrying(Carried(lambda: sites.wrote("whose"))):
            assert app.tasks["whose"].delay("alice").get() == ["alice", 0, "whose"]
            assert app.tasks["whose"].apply_async(kwargs={"user": "alice"}).get() == ["alice", 0, "whose"]
            assert app.tasks["whose"].delay("bob").get() == ["bob", 0, "whose"]
        app.close()
        sites.eu.close()
        sites.us.close()


def test_a_store_may_be_opened_by_the_worker() -> None:
    with fast_directory() as directory:
        sites, opened = Sites(directory), []

        def us() -> Any:
            opened.append(1)
            return sites.us

        app = make(us)
        assert not opened
        app.conf.task_always_eager = True
        with carrying(Carried(lambda: sites.wrote("later"))):
            assert app.tasks["look"].delay().get()[0] == "later"
        assert opened
        app.close()
        sites.eu.close()
        sites.us.close()


# --- messages --------------------------------------------------------------------------------------------------------


def test_what_a_message_carries(sites: Sites) -> None:
    alice, look = sites.wrote("message"), sites.app.tasks["look"]
    by_hand = sites.eu.session(subject="bob")
    with by_hand.write() as tx:
        tx.put("by hand", 1)
    look.delay()
    with carrying(Carried(lambda: sites.eu.session(subject="carol"))):
        look.delay()
    with carrying(Carried(lambda: alice)):
        look.delay()
        look.apply_async(headers={HEADER.lower(): by_hand.token(subject="jobs"), "x": 1})
        group(look.s(), look.s())()
    nobodys, nothing, own, both, *two = sites.published()
    assert [extract(headers) for headers in (nobodys, nothing)] == [[], []]
    assert sites.us.session(*extract(own), subject="jobs").own == alice.own
    assert sites.us.session(*extract(both), subject="jobs").own == alice.own | by_hand.own
    assert both["x"] == 1
    assert [len(extract(headers)) for headers in two] == [1, 1]
    assert not [headers for headers in (own, both, *two) if PARTIAL in headers or RETRIED in headers]


def test_a_message_from_inside_a_write_block_is_read_for_at_the_leader(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    alice, look = sites.eu.session(subject="alice"), sites.app.tasks["look"]
    with carrying(Carried(lambda: alice)):
        with alice.write() as tx:
            tx.put("photo", "uncommitted")
            look.delay()
        assert "inside a write block" in caplog.text
        look.delay()
    early, late = sites.published()
    assert PARTIAL in early
    assert PARTIAL not in late
    assert trace(look, early)[0] == "uncommitted"


def test_a_message_from_inside_a_read_block_is_read_for_at_the_leader(sites: Sites) -> None:
    alice, look = sites.wrote("hers"), sites.app.tasks["look"]
    sites.arrives()
    sites.wrote("another's")
    with carrying(Carried(lambda: alice)):
        with alice.read() as db:
            assert db.get("photo") == "another's"
            look.delay()
        look.delay()
    early, late = sites.published()
    assert PARTIAL in early
    assert PARTIAL not in late
    assert trace(look, early)[0] == "another's"


def test_the_scheduler_publishes_without_a_token(sites: Sites) -> None:
    sites.app.conf.beat_schedule = {"often": {"task": "look", "schedule": 1.0}}
    beat = Scheduler(sites.app)
    for entry in list(beat.schedule.values()):
        if entry.task == "look":
            beat.apply_async(entry)
    (headers,) = sites.published()
    assert extract(headers) == []


def test_a_signature_is_not_changed_by_being_published(sites: Sites) -> None:
    signature = sites.app.tasks["look"].s()
    for value in ("one", "two"):
        alice = sites.wrote(value)
        with carrying(Carried(lambda alice=alice: alice)):  # type: ignore[misc]
            signature.apply_async()
        (headers,) = sites.published()
        assert sites.us.session(*extract(headers), subject="jobs").own == alice.own
    assert "headers" not in signature.options


def test_being_put_off_when_the_broker_is_away(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task runs now, and reads at the leader: it is not dropped."""
    task = sites.app.tasks["look_delayed"]
    with carrying(Carried(lambda: sites.wrote("away"))):
        task.delay()
    (headers,) = sites.published()

    def away(*_: Any, **__: Any) -> None:
        raise OSError("no broker")

    monkeypatch.setattr(type(task), "apply_async", away)
    ran = trace(task, headers)
    assert ran[0] == "away"


def trace(task: Any, headers: dict[str, Any]) -> Any:
    """Run a task as a worker does, with a message's headers."""
    request = {**headers, "is_eager": False, "delivery_info": {}, "hostname": "here"}
    return build_tracer(task.name, task, app=task.app)(headers["id"], [], {}, request).retval


def test_what_a_run_that_was_put_off_publishes(sites: Sites) -> None:
    task = sites.app.tasks["look_delayed"]
    with carrying(Carried(lambda: sites.wrote("put off"))):
        task.apply_async(headers={"x": 1})
    (headers,) = sites.published()
    trace(task, headers)
    assert carried() is None
    (again,) = sites.published()
    assert (again["id"], again["retries"], again["x"], again[RETRIED]) == (headers["id"], 0, 1, "1")
    assert len(extract(again)) == 1
    assert again["eta"]
    assert trace(task, again)[0] == "put off"
    assert sites.published() == []


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_checked_where_they_are_written(sites: Sites) -> None:
    for wrong in ("Always", None, "leader"):
        with pytest.raises(ConfigError, match="consistency is one of"):
            causal_task(sites.us, consistency=wrong)  # type: ignore[arg-type]
    wrong_choice = sites.app.task(shared=False, name="wrong", causal="eventually")(lambda_of(carried))
    with pytest.raises(ConfigError, match="consistency is one of"):
        wrong_choice.delay()
    with pytest.raises(ConfigError, match="subject"):
        causal_task(sites.us, subject=17)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="subject"):
        integration.publish_by_name(subject=17)  # type: ignore[arg-type]
    for store in (None, AsyncCausalStore(sites.us.engine, keyring=KEYS, audience="shop")):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="CausalStore"):
            causal_task(store)  # type: ignore[arg-type]


def test_a_task_class_of_ones_own(sites: Sites) -> None:
    class Mine(Task):  # type: ignore[misc]
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            started.append(task_id)

    started: list[str] = []
    app = Celery("mine", broker="memory://", task_cls=causal_task(sites.us, base=Mine), set_as_current=False)
    app.conf.task_always_eager = True

    @app.task(shared=False)
    def mine() -> Any:
        with current_session().read() as db:
            return db.get("photo")

    plain = app.task(shared=False, name="plain", base=Task)(lambda_of(carried))
    with carrying(Carried(lambda: sites.wrote("mine"))) as what:
        result = mine.delay()
        assert result.get() == "mine"
        assert plain.delay().get() is what  # no task of ours: it runs as Celery runs it
    assert started == [result.id]
    assert isinstance(mine, CausalTask)
    assert not isinstance(plain, CausalTask)
    app.close()


def lambda_of(fn: Any) -> Any:
    def named() -> Any:
        return fn()

    return named


def test_where_all_sites_write_a_patient_policy_is_kept(sites: Sites) -> None:
    """The leader, for a job without a token, is whoever has all sites' writes: it is waited for as long as the store's policy says."""
    store = CausalStore(sites.us.engine, keyring=KEYS, audience="shop", policy=PATIENT)  # type: ignore[arg-type]
    seen: list[Any] = []
    app = Celery("patient", broker="memory://", task_cls=causal_task(store), set_as_current=False)
    app.conf.task_always_eager = True

    @app.task(shared=False)
    def policy() -> None:
        seen.append(current_session()._state.policy)

    policy.delay()
    assert seen[0].wait_s == PATIENT.wait_s
    app.close()
    store.close()
