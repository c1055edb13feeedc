"""A site as an ASGI application: the pages, what is answered when something is refused, and the middleware around it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from causal import GateError
from causal.context import Carried, carrying
from causal.integrations.asgi import CausalMiddleware
from causal.integrations.cookies import Cookies
from examples.shop.web.account import Line
from examples.shop.web.cookies import user
from examples.shop.web.handlers import router
from examples.shop.web.page import Page
from examples.shop.web.shop import Shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from examples.shop.settings import Settings

STATIC: Final = Path(__file__).with_name("static")


def site(settings: Settings, name: str) -> Any:
    """Return a site as an ASGI application."""
    shop = Shop(settings, name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        shop.close()

    app = FastAPI(title=f"shop, {name}", lifespan=lifespan)
    app.state.shop = shop
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(GateError, refused)
    app.add_exception_handler(HTTPException, wrong)
    app.add_exception_handler(RequestValidationError, unread)
    in_the_clear = Cookies(secure=False)  # there is no TLS on one's own machine; elsewhere, leave this out
    carries = CausalMiddleware(app, shop.store, subject=whose, cookies=in_the_clear)
    return Choice(shop, carries, Forgetful(app, shop))


def whose(scope: Any) -> str | None:
    """Return whose session a request's is."""
    return user(Request(scope))


def refused(request: Request, error: Exception) -> Response:
    """Answer a request that nobody could serve in time without leaving out what this user did."""
    assert isinstance(error, GateError)
    page = Page(request)
    if error.receipt is not None:
        page.account.append(Line.of(error.receipt.kind, "what this page needs", error.receipt))
    response = page.show("refused.html", error.http_status, error=error, kind=type(error).__name__)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return response


def wrong(request: Request, error: Exception) -> Response:
    """Answer a request for what there is not, or what nobody may."""
    assert isinstance(error, HTTPException)
    return Page(request).show("wrong.html", error.status_code, said=error.detail)


def unread(request: Request, _: Exception) -> Response:
    """Answer a form that was not filled in as it should be."""
    return Page(request).show("wrong.html", 422, said="That cannot be.")


class Forgetful:
    """What there is without the middleware: each request has a session, as each has a database session elsewhere; nobody carries it."""

    def __init__(self, app: Any, shop: Shop) -> None:
        self.app, self.shop = app, shop

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        with carrying(Carried(lambda: self.shop.store.session(subject=whose(scope)))):
            await self.app(scope, receive, send)


class Choice:
    """The middleware, unless it is left out."""

    def __init__(self, shop: Shop, carries: Any, forgets: Any) -> None:
        self.shop, self.carries, self.forgets = shop, carries, forgets

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        gated = scope["type"] != "http" or self.shop.controls.has("middleware")
        await (self.carries if gated else self.forgets)(scope, receive, send)
