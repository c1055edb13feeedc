"""The tasks of the tests, for publishers and workers alike. As a worker's module it makes its application from the environment."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery, current_task, signals

from causal import CausalStore, Keyring, ReadPolicy, current_session
from causal.integrations.carrier import extract
from causal.integrations.celery import causal_task
from causal.integrations.work import RETRIED
from causal.stores.sqlite import SQLiteEngine


def make(
    store: Any, runs: Path | None = None, broker: str = "memory://", backend: str = "cache+memory://", **settings: Any
) -> Celery:
    """An application with all tasks; `runs` is a file with a line for each run that begins."""
    app = Celery("shop", broker=broker, backend=backend, task_cls=causal_task(store, **settings), set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        task_track_started=False,
        result_expires=60,
        redis_backend_health_check_interval=None,
    )

    task = partial(app.task, shared=False)

    def note(line: str) -> None:
        if runs is not None:
            with runs.open("a") as file:
                file.write(f"{line}\n")

    def where(key: str = "photo") -> list[Any]:
        """What a read of the task shows, and where; and, first, what it shows where nothing is carried."""
        with (store() if callable(store) else store).session().read() as db:
            bare = db.get(key)
        note(f"looked {current_task.request.id}")
        with (r := current_session().read()) as db:
            value = db.get(key)
        return [value, f"{r.receipt.endpoint} {r.receipt.how}", bare]

    def put(key: str, value: Any) -> None:
        with current_session().write(wait_s=20) as tx:
            tx.put(key, value)

    @task(name="look")
    def look(*_: Any, key: str = "photo") -> Any:
        return where(key)

    @task(name="look_always", causal="always")
    def look_always() -> Any:
        return where()

    @task(name="look_delayed", causal="delayed", causal_delay_s=1.0)
    def look_delayed() -> Any:
        return where()

    @task(name="write", bind=True)
    def write(self: Any, *args: Any) -> Any:
        key, value = args[-2:]
        put(key, value)
        return {"token": current_session().token(subject="alice")}

    @task(name="write_last", bind=True)
    def write_last(self: Any, key: str, value: str) -> None:
        """Ends after the other task of its chord, which writes `key` and "first"."""
        until = time.monotonic() + 20
        while runs and f"ended write ['{value}', 'first']" not in runs.read_text() and time.monotonic() < until:
            time.sleep(0.005)
        put(key, value)

    @task(name="retried", bind=True, max_retries=3)
    def retried(self: Any, tries: int, queue: str | None = None) -> Any:
        if self.request.retries < tries:
            put(f"{queue}/try/{self.request.retries}", "written")
            raise self.retry(countdown=0, queue=queue)
        found = [where(f"{queue}/try/{n}") for n in range(tries)]
        return [value for value, *_ in found], len(extract(self.request.headers or {})), found[-1][-1]

    @task(name="delayed_and_retried", bind=True, causal="delayed", causal_delay_s=0.0, max_retries=2)
    def delayed_and_retried(self: Any) -> Any:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return self.request.retries, RETRIED in self.request.headers

    @task(name="fails", bind=True)
    def fails(self: Any) -> None:
        put("failed", "written")
        raise LookupError("on purpose")

    @task(name="heard", bind=True)
    def heard(self: Any, *args: Any) -> Any:
        """An error callback."""
        return where("failed")

    @task(name="publishes")
    def publishes(key: str, value: str, queue: str) -> Any:
        put(key, value)
        return app.tasks["look"].apply_async(kwargs={"key": key}, queue=queue).id

    @task(name="headers", bind=True)
    def headers(self: Any, *_: Any) -> Any:
        return extract(self.request.headers or {})

    @task(name="carries")
    def carries() -> Any:
        return [bool(current_session().own), bool(current_session().seen.marks)]

    @task(name="whose")
    def whose(user: str) -> Any:
        return [current_session().subject, len(current_session().rejected), where()[0]]

    if runs is not None:

        @signals.task_prerun.connect(weak=False)
        def begun(task: Any = None, task_id: str = "", **_: Any) -> None:
            note(f"begun {task_id}")

        @signals.task_postrun.connect(weak=False)
        def ended(task: Any = None, **_: Any) -> None:
            note(f"ended {task.name} {task.request.args}")

    return app


PATIENT = ReadPolicy(wait_s=20)
"""Where every site takes writes there may be nobody for a while who holds two sites' writes."""

if "CAUSAL_TEST_SHOP" in os.environ:
    folder, site = Path(os.environ["CAUSAL_TEST_SHOP"]), os.environ["CAUSAL_TEST_SITE"]
    here = CausalStore(
        SQLiteEngine(folder / "data", site=site),
        keyring=Keyring.from_env(),
        audience="shop",
        policy=PATIENT if site == "eu" else ReadPolicy(wait_s=1),
    )
    app = make(here, folder / "runs", os.environ["CAUSAL_TEST_BROKER"], os.environ["CAUSAL_TEST_BROKER"])
