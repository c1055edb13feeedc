"""Real HTTP servers on loopback that note what they were sent, and the clients that are tested against them, all alike."""

import asyncio
import contextvars
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import httpx2
import requests

from causal.integrations.carrier import extract
from causal.integrations.httpx import AsyncCausalTransport, CausalTransport

Reply = tuple[int, list[tuple[str, str]], bytes]
Headers = list[tuple[str, str]]


class Service:
    """One server. `answer(path, headers)` says what it replies; `seen` is what it was sent, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Headers]] = []
        self.answer: Callable[[str, Headers], Reply] = lambda path, headers: (200, [], b"ok")
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._body()
                headers = list(self.headers.items())
                service.seen.append((self.path, headers))
                status, replied, body = service.answer(self.path, headers)
                self.send_response(status)
                for name, value in replied:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the name is the server's

            def _body(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        self.rfile.read(size + 2)
                    self.rfile.readline()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.port = self._server.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"

    def tokens(self, nth: int = -1) -> list[str]:
        return extract(self.seen[nth][1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def sealed_for(subject: str, session: Any, service: Service) -> bool:
    """Whether what a service was sent last is what a session demands, sealed for that subject. Texts differ, from second to second."""
    opened = session._store.session(*service.tokens(), subject=subject)
    return len(service.tokens()) == 1 and not opened.rejected and opened.own == session.own


@contextmanager
def service() -> Iterator[Service]:
    made = Service()
    try:
        yield made
    finally:
        made.close()


def redirect(to: str, *headers: tuple[str, str], status: int = 307) -> Callable[[str, Headers], Reply]:
    return lambda path, _: (status, [("Location", to), *headers], b"") if path == "/" else (200, [], b"there")


def digest(path: str, headers: Headers) -> Reply:
    """Ask for digest authentication, and check that it is right."""
    given = dict(headers).get("Authorization", "")
    if not given.startswith("Digest "):
        return 401, [("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5')], b""
    f = dict(re.findall(r'(\w+)="?([^",]+)"?', given))
    a1, a2 = (hashlib.md5(text.encode()).hexdigest() for text in ("u:r:p", f"GET:{path}"))
    right = hashlib.md5(f"{a1}:n:{f['nc']}:{f['cnonce']}:auth:{a2}".encode()).hexdigest()
    return (200, [], b"in") if f["response"] == right else (403, [], b"")


class Client:
    """One of the clients that are tested: sends, follows redirects unless told not to, and says what came back."""

    def __init__(self, kind: str, origin: str, **options: Any) -> None:
        self.kind, self.digest = kind, ("u", "p")
        self._runner: asyncio.Runner | None = None
        if kind == "requests":
            from causal.integrations.requests import CausalAdapter

            self.http: Any = requests.Session()
            self.carrier: Any = CausalAdapter(origin, **options)
            self.http.mount("http://", self.carrier)
            return
        library: Any = httpx2 if "httpx2" in kind else httpx
        self.library = library
        if kind.startswith("async"):
            self.carrier = AsyncCausalTransport(library.AsyncHTTPTransport(), origin, **options)
            self._runner = asyncio.Runner()
            self.http = library.AsyncClient(transport=self.carrier)
        else:
            self.carrier = CausalTransport(library.HTTPTransport(), origin, **options)
            self.http = library.Client(transport=self.carrier)

    def run(self, result: Any) -> Any:
        """The result, awaited in this context where that is needed."""
        return self._runner.run(result, context=contextvars.copy_context()) if self._runner is not None else result

    def get(self, url: str, *, follow: bool = True, digest: bool = False, **options: Any) -> Any:
        if self.kind == "requests":
            auth = requests.auth.HTTPDigestAuth("u", "p") if digest else None
            return self.http.get(url, allow_redirects=follow, auth=auth, **options)
        auth = self.library.DigestAuth("u", "p") if digest else None
        return self.run(self.http.get(url, follow_redirects=follow, auth=auth, **options))

    def close(self) -> None:
        if self._runner is not None:
            self.run(self.http.aclose())
            self._runner.close()
        else:
            self.http.close()
