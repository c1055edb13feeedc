"""What each process of the shop does, from its start until whoever started it ends it, or is gone."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from examples.shop.controls import Controls

if TYPE_CHECKING:
    from examples.shop.settings import Settings

GRACE_S: Final = 2


def end_with_parent() -> None:
    """End this process as if it had been asked to, once its standard input ends: whoever started it is gone, killed or not."""

    def watch() -> None:
        while os.read(0, 4096):  # not through sys.stdin, whose lock a thread may not hold when Python ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def site(settings: Settings, name: str, fd: int) -> None:
    """Serve a site."""
    from examples.shop.web.app import site as application

    _serve(application(settings, name), fd)


def orders(settings: Settings, fd: int) -> None:
    """Serve the orders service."""
    from examples.shop.orders import service

    _serve(service(settings, Controls(settings.directory)), fd)


def worker(settings: Settings) -> None:
    """Do jobs."""
    from examples.shop.jobs import work

    work(settings)


def indexer(settings: Settings) -> None:
    """Keep the search index up to date."""
    from examples.shop.index import keep

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    keep(settings, Controls(settings.directory), ended.is_set)


def _serve(application: Any, fd: int) -> None:
    """Serve at a socket that listens already: it was bound by whoever started this process, so the address is known before."""
    config = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=GRACE_S)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])
