"""The shop's rows in the embedded store: a key and a value each.

Every function takes what a read or write block gives, and knows nothing of sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from causal.stores.sqlite import Reader, Writer

Row = dict[str, Any]

PEOPLE: Final[str | None] = "people"
"""The shard of the profiles."""
PUBLIC: Final[str | None] = "public"
"""The shard of posts and products."""


def profile(db: Reader, name: str) -> Row | None:
    """Return somebody's profile."""
    row: Row | None = db.get(f"profile/{name}")
    return row


def profiles(db: Reader) -> list[Row]:
    """Return everybody's profile."""
    return [row for _, row in db.scan("profile/")]


def save_profile(db: Writer, row: Row) -> None:
    """Make or replace a profile."""
    db.put(f"profile/{row['name']}", row)


def posts(db: Reader, by: str | None = None) -> list[Row]:
    """Return posts, the newest first: all, or somebody's."""
    return [row for _, row in db.scan("post/") if by is None or row["by"] == by][::-1]


def add_post(db: Writer, row: Row) -> None:
    """Add a post. Ids begin with the time, so that the order of the keys is that of the posts."""
    db.put(f"post/{row['id']}", row)


def products(db: Reader) -> list[Row]:
    """Return all products."""
    return [row for _, row in db.scan("product/")]


def product(db: Reader, name: str) -> Row | None:
    """Return a product."""
    row: Row | None = db.get(f"product/{name}")
    return row


def save_product(db: Writer, row: Row) -> None:
    """Make or replace a product."""
    db.put(f"product/{row['id']}", row)


def orders(db: Reader, by: str) -> list[Row]:
    """Return somebody's orders, the newest first."""
    return [row for _, row in db.scan(f"order/{by}/")][::-1]


def order(db: Reader, by: str, name: str) -> Row | None:
    """Return one of somebody's orders."""
    row: Row | None = db.get(f"order/{by}/{name}")
    return row


def add_order(db: Writer, row: Row) -> None:
    """Add an order."""
    db.put(f"order/{row['by']}/{row['id']}", row)
