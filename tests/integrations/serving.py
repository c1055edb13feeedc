"""Real servers on loopback, each for the length of a `with` block."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn
from cheroot.wsgi import Server as Cheroot

from causal.lab.postgres.certificate import self_signed

DEADLINE_S = 30.0


@contextmanager
def uvicorn_serves(app: Any, certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Serve an ASGI application; the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    tls: dict[str, Any] = (
        {} if certificate is None else dict(zip(("ssl_certfile", "ssl_keyfile"), certificate, strict=True))
    )
    config = uvicorn.Config(app, log_level="critical", lifespan="on", ws="none", timeout_graceful_shutdown=5, **tls)
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def tells(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = tells  # type: ignore[method-assign]

    async def serves() -> None:
        await server.serve([listener])
        for _ in range(20):  # what a browser has connected ahead is accepted while all else ends
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(serves()), daemon=True)
    thread.start()
    assert started.wait(DEADLINE_S)
    scheme, host = ("http", "127.0.0.1") if certificate is None else ("https", "localhost")
    try:
        yield f"{scheme}://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        listener.close()
        assert not thread.is_alive()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextmanager
def wsgiref_serves(app: Any) -> Iterator[str]:
    """Serve a WSGI application with the standard library; the URL."""
    with make_server("127.0.0.1", 0, app, server_class=_Threads, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(DEADLINE_S)


@contextmanager
def cheroot_serves(app: Any) -> Iterator[str]:
    """Serve a WSGI application with cheroot; the URL."""
    server = Cheroot(("127.0.0.1", 0), app, numthreads=4)
    server.error_log = lambda *_, **__: None
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.bind_addr[1]}"
    finally:
        server.stop()
        thread.join(DEADLINE_S)


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    paths = folder / "cert.pem", folder / "key.pem"
    for path, text in zip(paths, self_signed(), strict=True):
        path.write_bytes(text)
    return paths


def trusting(certificate: Path) -> ssl.SSLContext:
    """What a client trusts that believes this certificate alone."""
    return ssl.create_default_context(cafile=str(certificate))
