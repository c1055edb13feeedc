"""What is done later, by a worker: a thumbnail of a new photo, a confirmation of an order.

A job is queued when its row is committed at one site, and may run at another that does not have the row yet. Its message carries what its
publisher knew, because of the task class; the worker's reads wait for that, or go where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery import Celery, Task

from causal import current_session
from causal.integrations.celery import causal_task
from examples.shop import folder_queue, stores
from examples.shop.controls import Controls
from examples.shop.data import pictures
from examples.shop.orders import Client
from examples.shop.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal import CausalStore, Session
    from examples.shop.settings import Settings

SITE: Final = "us"
"""Where the worker is."""
SUBJECT: Final = "worker"
"""Whom the tokens in messages are sealed for."""
POLL_S: Final = 0.1


class Jobs:
    """The jobs, as their publishers and their worker have them. Thread-safety: safe."""

    def __init__(self, settings: Settings, store: CausalStore[Any, Any]) -> None:
        self.store = store
        self.rows = stores.rows(settings)
        self.orders = Client(settings, Controls(settings.directory))
        self.outbox = Outbox(settings.directory / "outbox")
        self.thumbnails = settings.directory / "thumbnails"
        self.app = celery(settings, store)
        for job in (self.thumbnail, self.confirmation):
            self._task(job.__name__, job)

    def _task(self, name: str, job: Callable[..., None]) -> None:
        @self.app.task(name=name)
        def carries(*args: str) -> None:
            job(current_session(self.store), *args)

        @self.app.task(name=f"plain.{name}", base=Task)  # Celery's own: for who leaves the token out
        def plain(*args: str) -> None:
            job(self.store.session(), *args)

    def queue(self, job: str, *args: str, carries: bool) -> None:
        """Queue a job, with what the session that runs now demands, or, as everybody does, without."""
        self.app.tasks[job if carries else f"plain.{job}"].delay(*args)

    def thumbnail(self, session: Session[Any, Any], name: str, photo: str) -> None:
        """Make a thumbnail of somebody's new photo."""
        block = session.read(shard=self.rows.PEOPLE)
        with block as db:
            found = self.rows.profile(db, name)
        done = found is not None and found["photo"] == photo
        if done:
            self.thumbnails.mkdir(exist_ok=True)
            (self.thumbnails / f"{photo}.svg").write_text(pictures.face(photo), encoding="utf-8")
        said = f"made one of {photo}" if done else f"{name} has no photo {photo}"
        self.outbox.add(job="thumbnail", about=photo, user=name, done=done, said=said, read=str(block.receipt))

    def confirmation(self, _: Session[Any, Any], name: str, order: str) -> None:
        """Write to somebody who has ordered something."""
        answer = self.orders.order(name, order)
        if answer is None:
            done, said, read = False, f"there is no order {order[-9:]}", "orders: not found"
        else:
            done, said = True, f"Dear {name}, your {answer['order']['title']} is on its way."
            read = f"orders: {answer['receipt']['how']} at {answer['receipt']['endpoint']}"
        self.outbox.add(job="confirmation", about=order, user=name, done=done, said=said, read=read)


def celery(settings: Settings, store: CausalStore[Any, Any]) -> Celery:
    """Return the Celery application: its queue is a folder, or Valkey."""
    app = Celery("shop", task_cls=causal_task(store, subject=SUBJECT), set_as_current=False)
    app.conf.task_ignore_result = True
    app.conf.worker_enable_remote_control = False
    if settings.valkey is not None:
        app.conf.broker_url = settings.valkey
        return app
    folders = {name: settings.directory / "queue" / name for name in ("messages", "processed", "control")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    app.conf.broker_url = f"{folder_queue.SCHEME}://"
    app.conf.broker_transport_options = {
        "data_folder_in": str(folders["messages"]),
        "data_folder_out": str(folders["messages"]),
        "processed_folder": str(folders["processed"]),
        "control_folder": str(folders["control"]),
        "polling_interval": POLL_S,
    }
    return app


def open_queue(settings: Settings, store: CausalStore[Any, Any]) -> None:
    """Declare the queue, before several processes do so at once."""
    app = celery(settings, store)
    with app.connection_for_write() as connection:
        app.amqp.queues[app.conf.task_default_queue].bind(connection).declare()


def work(settings: Settings) -> None:
    """Do jobs until the process is ended."""
    with stores.shop(settings, Controls(settings.directory), SITE) as store:
        options = "--quiet worker --pool=solo --loglevel=warning --without-gossip --without-mingle --without-heartbeat"
        Jobs(settings, store).app.worker_main(options.split())
