"""The orders service: a process of its own, with a store of its own, that the shop calls over HTTP.

It knows the shop's users by what callers say, as services behind a shop do. Tokens are sealed for the service: its subject is its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpx
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from causal import current_session
from causal.integrations.asgi import CausalMiddleware
from causal.integrations.httpx import carry
from examples.shop import stores
from examples.shop.data.seed import new_id

if TYPE_CHECKING:
    from examples.shop.controls import Controls
    from examples.shop.settings import Settings

SUBJECT: Final = "orders"
TIMEOUT_S: Final = 10.0


class Order(BaseModel):
    """What is ordered."""

    by: str
    product: str
    title: str
    price: int


def service(settings: Settings, controls: Controls) -> Any:
    """Return the service as an ASGI application. Each answer has the receipt of the block that it came from, for the shop to show."""
    rows = stores.rows(settings)
    primary, replica = stores.orders(settings, controls)
    app = FastAPI(title="orders")

    @app.get("/health")
    def health() -> dict[str, bool]:
        primary.head(), replica.head()  # opens both
        return {"ok": True}

    @app.post("/orders")
    def place(order: Order) -> dict[str, Any]:
        row = {"id": new_id(), **order.model_dump()}
        block = current_session(primary).write()
        with block as db:
            rows.add_order(db, row)
        return {"order": row, "receipt": block.receipt.as_dict()}

    @app.get("/orders/{by}")
    def orders(by: str) -> dict[str, Any]:
        block = current_session(replica).read()
        with block as db:
            found = rows.orders(db, by)
        return {"orders": found, "receipt": block.receipt.as_dict()}

    @app.get("/orders/{by}/{name}")
    def order(by: str, name: str) -> dict[str, Any]:
        block = current_session(replica).read()
        with block as db:
            found = rows.order(db, by, name)
        if found is None:
            raise HTTPException(404, f"there is no order {name}")
        return {"order": found, "receipt": block.receipt.as_dict()}

    return CausalMiddleware(app, replica, subject=lambda _: SUBJECT)


class Client:
    """What calls the service: with the session's token, or, where that is left out, as everybody does. Thread-safety: safe."""

    def __init__(self, settings: Settings, controls: Controls) -> None:
        self._controls = controls
        self._carries = carry(
            httpx.Client(base_url=settings.orders, timeout=TIMEOUT_S), settings.orders, subject=SUBJECT
        )
        self._plain = httpx.Client(base_url=settings.orders, timeout=TIMEOUT_S)

    def place(self, **order: Any) -> dict[str, Any]:
        """Place an order."""
        return self._answer(self._http.post("/orders", json=order))

    def orders(self, by: str) -> dict[str, Any]:
        """Return somebody's orders."""
        return self._answer(self._http.get(f"/orders/{by}"))

    def order(self, by: str, name: str) -> dict[str, Any] | None:
        """Return one order; None if the service finds none."""
        response = self._http.get(f"/orders/{by}/{name}")
        return None if response.status_code == httpx.codes.NOT_FOUND else self._answer(response)

    @property
    def _http(self) -> httpx.Client:
        return self._carries if self._controls.has("service") else self._plain

    @staticmethod
    def _answer(response: httpx.Response) -> dict[str, Any]:
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer
