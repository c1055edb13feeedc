"""ASGI: a middleware that gives each request its session, and each response its token.

Imports no framework, and works in any: FastAPI, Starlette, Litestar, Quart, a bare callable.

    app = CausalMiddleware(app, store, subject=lambda scope: ...)         # around everything
    app.add_middleware(CausalMiddleware, store=store, subject=...)        # or among others, as Starlette and FastAPI have it
"""

from causal.integrations.asgi.middleware import CausalMiddleware
from causal.integrations.cookies import Cookies
from causal.integrations.counting import Counters, Event
from causal.integrations.refusals import Replay

__all__ = ["CausalMiddleware", "Cookies", "Counters", "Event", "Replay"]
