"""What is done later, by a worker: a thumbnail of a new photo, a confirmation of an order.

A job is queued when its row is committed at one site, and may run at another that does not have the row yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery import Celery

from causal import current_session
from causal.context import Carried, carrying
from causal.integrations.carrier import extract, inject
from examples.shop import stores
from examples.shop.controls import Controls
from examples.shop.data import pictures
from examples.shop.orders import Client
from examples.shop.outbox import Outbox

if TYPE_CHECKING:
    from causal import CausalStore
    from examples.shop.settings import Settings

SITE: Final = "us"
"""Where the worker is."""
SUBJECT: Final = "worker"
POLL_S: Final = 0.1


def celery(settings: Settings) -> Celery:
    """Return the Celery application: its queue is a folder, or Valkey."""
    app = Celery("shop", broker=settings.valkey or "filesystem://", set_as_current=False)
    app.conf.task_ignore_result = True
    app.conf.worker_hijack_root_logger = False
    if settings.valkey is None:
        folders = {name: settings.directory / "queue" / name for name in ("messages", "processed", "control")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        app.conf.broker_transport_options = {
            "data_folder_in": str(folders["messages"]),
            "data_folder_out": str(folders["messages"]),
            "processed_folder": str(folders["processed"]),
            "control_folder": str(folders["control"]),
            "polling_interval": POLL_S,
        }
    return app


class Queue:
    """Where jobs are put. Thread-safety: safe."""

    def __init__(self, settings: Settings, store: CausalStore[Any, Any]) -> None:
        self._app = celery(settings)
        self._store = store

    def send(self, job: str, *args: str, carries: bool) -> None:
        """Queue a job, with what the session that runs now demands, or without."""
        headers: dict[str, str] = {}
        if carries:
            inject(current_session(self._store), headers, subject=SUBJECT)
        self._app.send_task(job, args, headers=headers)


class Work:
    """The jobs. Thread-safety: safe."""

    def __init__(self, settings: Settings) -> None:
        self.controls = Controls(settings.directory)
        self.store = stores.shop(settings, self.controls, SITE)
        self.rows = stores.rows(settings)
        self.orders = Client(settings, self.controls)
        self.outbox = Outbox(settings.directory / "outbox")
        self.thumbnails = settings.directory / "thumbnails"
        self.thumbnails.mkdir(exist_ok=True)

    def thumbnail(self, name: str, photo: str) -> None:
        """Make a thumbnail of somebody's new photo."""
        block = current_session(self.store).read(shard=self.rows.PEOPLE)
        with block as db:
            found = self.rows.profile(db, name)
        done = found is not None and found["photo"] == photo
        if done:
            (self.thumbnails / f"{photo}.svg").write_text(pictures.face(photo), encoding="utf-8")
        said = f"made one of {photo}" if done else f"{name} has no photo {photo}: the job came before its row"
        self.outbox.add(job="thumbnail", about=photo, user=name, done=done, said=said, read=str(block.receipt))

    def confirmation(self, name: str, order: str) -> None:
        """Write to somebody who has ordered something."""
        answer = self.orders.order(name, order)
        done = answer is not None
        said = f"Dear {name}, your {answer['order']['title']} is on its way." if answer else f"there is no order {order[-9:]}"
        read = f"orders: {answer['receipt']['how']} at {answer['receipt']['endpoint']}" if answer else "orders: nothing found"
        self.outbox.add(job="confirmation", about=order, user=name, done=done, said=said, read=read)


def work(settings: Settings) -> None:
    """Do jobs until the process is ended."""
    app, jobs = celery(settings), Work(settings)

    def task(self: Any, *args: str) -> None:
        texts = extract(self.request.headers or {})
        with carrying(Carried(lambda: jobs.store.session(*texts, subject=SUBJECT))):
            getattr(jobs, self.name)(*args)

    for name in ("thumbnail", "confirmation"):
        app.task(task, bind=True, name=name)
    with jobs.store:
        app.worker_main(
            "--quiet worker --pool=solo --loglevel=warning --without-gossip --without-mingle --without-heartbeat".split()
        )
