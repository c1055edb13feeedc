"""What is in the shop when it opens."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import ModuleType

    from causal import CausalStore

PEOPLE: Final = {
    "alice": "Collects teapots, and takes pictures of all of them.",
    "bob": "Mostly here for the lamps.",
    "carol": "Repairs chairs. Asks good questions.",
}
PRODUCTS: Final = (
    ("teapot", "Round teapot", "Holds enough for four, pours without dripping.", 3400),
    ("mug", "Blue mug", "Stoneware, thrown by hand. No two are the same blue.", 1200),
    ("lamp", "Reading lamp", "Warm light, a long arm, and a switch that you find in the dark.", 5900),
    ("chair", "Kitchen chair", "Beech, oiled. Stands on uneven floors.", 8900),
    ("notebook", "Squared notebook", "Lies flat when open. 192 pages.", 900),
    ("clock", "Wall clock", "Does not tick. Tells one time.", 4200),
)
POSTS: Final = (
    ("bob", "The reading lamp is the first one that my cat has not knocked over."),
    ("carol", "Does anybody sell felt pads for a kitchen chair?"),
    ("alice", "New here. Is the round teapot as round as it looks?"),
)


def new_id() -> str:
    """Return an id that sorts by time."""
    return f"{time.time_ns() // 1_000:016d}-{secrets.token_hex(2)}"


def profile(name: str, photo: str = "", about: str = "") -> dict[str, Any]:
    """Return a profile's row."""
    return {"name": name, "photo": photo or f"{name}-0", "about": about or "New here."}


def plant(store: CausalStore[Any, Any], rows: ModuleType) -> None:
    """Write it all."""
    session = store.session()
    with session.write(shard=rows.PEOPLE) as db:
        for name, about in PEOPLE.items():
            rows.save_profile(db, profile(name, about=about))
    with session.write(shard=rows.PUBLIC) as db:
        for name, title, about, price in PRODUCTS:
            rows.save_product(db, {"id": name, "title": title, "about": about, "price": price})
        for by, text in POSTS:
            rows.add_post(db, {"id": new_id(), "by": by, "text": text})
