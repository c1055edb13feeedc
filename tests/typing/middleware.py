"""Middlewares, as a user's own type checker reads them."""

from typing import Any, assert_type

from fastapi import FastAPI

from causal import AsyncCausalStore, CausalStore, Keyring
from causal.integrations import asgi, wsgi
from causal.stores.memory import MemoryEngine

keys = Keyring.generate()
store = CausalStore(MemoryEngine(["eu"]), keyring=keys, audience="shop")
app = FastAPI()
app.add_middleware(asgi.CausalMiddleware, store=store, subject=lambda _: "alice")
around = asgi.CausalMiddleware(app, AsyncCausalStore(MemoryEngine(["eu"]), keyring=keys, audience="shop"))
assert_type(around.counters.late, int)
assert_type(around.counters.as_dict(), dict[str, int])


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return [b""]


plain = wsgi.CausalMiddleware(
    application, store, cookies=wsgi.Cookies(secure=False), replay=("fly-replay", "region={site}")
)
assert_type(plain.counters.issued, int)
