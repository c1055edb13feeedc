"""The shop's rows in PostgreSQL: tables, and plain psycopg connections. The same functions as in `keyvalue`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.rows import dict_row

if TYPE_CHECKING:
    from psycopg import Connection

Row = dict[str, Any]

PEOPLE: Final[str | None] = None
PUBLIC: Final[str | None] = None
"""One cluster, one shard: it need not be named."""

SHOP: Final = """
CREATE TABLE profile (name text PRIMARY KEY, photo text NOT NULL, about text NOT NULL);
CREATE TABLE post (id text PRIMARY KEY, "by" text NOT NULL, text text NOT NULL);
CREATE TABLE product (id text PRIMARY KEY, title text NOT NULL, about text NOT NULL, price integer NOT NULL);
GRANT SELECT, INSERT, UPDATE ON profile, post, product TO app;
ALTER ROLE app REPLICATION; -- so that the indexer may read the log
"""
ORDERS: Final = """
CREATE TABLE "order" (id text PRIMARY KEY, "by" text NOT NULL, product text NOT NULL, title text NOT NULL, price integer NOT NULL);
CREATE INDEX ON "order" ("by", id);
GRANT SELECT, INSERT ON "order" TO app;
"""

FOUND: Final = """
SELECT id, 'post' AS kind, "by" AS title, text FROM post
UNION ALL SELECT id, 'product', title, about FROM product
"""
"""What can be found by a search: a row for each document."""
FOUND_IN: Final = {"public.post": "id", "public.product": "id"}
"""The tables that it is read from, and where each of them has the document's key."""


def profile(db: Connection, name: str) -> Row | None:
    """Return somebody's profile."""
    return _one(db, "SELECT * FROM profile WHERE name = %s", name)


def profiles(db: Connection) -> list[Row]:
    """Return everybody's profile."""
    return _all(db, "SELECT * FROM profile ORDER BY name")


def save_profile(db: Connection, row: Row) -> None:
    """Make or replace a profile."""
    db.execute(
        """INSERT INTO profile VALUES (%(name)s, %(photo)s, %(about)s)
           ON CONFLICT (name) DO UPDATE SET photo = excluded.photo, about = excluded.about""",
        row,
    )


def posts(db: Connection, by: str | None = None) -> list[Row]:
    """Return posts, the newest first: all, or somebody's."""
    if by is None:
        return _all(db, "SELECT * FROM post ORDER BY id DESC")
    return _all(db, 'SELECT * FROM post WHERE "by" = %s ORDER BY id DESC', by)


def add_post(db: Connection, row: Row) -> None:
    """Add a post. Ids begin with the time."""
    db.execute("INSERT INTO post VALUES (%(id)s, %(by)s, %(text)s)", row)


def products(db: Connection) -> list[Row]:
    """Return all products."""
    return _all(db, "SELECT * FROM product ORDER BY id")


def product(db: Connection, name: str) -> Row | None:
    """Return a product."""
    return _one(db, "SELECT * FROM product WHERE id = %s", name)


def save_product(db: Connection, row: Row) -> None:
    """Make or replace a product."""
    db.execute(
        """INSERT INTO product VALUES (%(id)s, %(title)s, %(about)s, %(price)s)
           ON CONFLICT (id) DO UPDATE SET title = excluded.title, about = excluded.about, price = excluded.price""",
        row,
    )


def orders(db: Connection, by: str) -> list[Row]:
    """Return somebody's orders, the newest first."""
    return _all(db, 'SELECT * FROM "order" WHERE "by" = %s ORDER BY id DESC', by)


def order(db: Connection, by: str, name: str) -> Row | None:
    """Return one of somebody's orders."""
    return _one(db, 'SELECT * FROM "order" WHERE "by" = %s AND id = %s', by, name)


def add_order(db: Connection, row: Row) -> None:
    """Add an order."""
    db.execute('INSERT INTO "order" VALUES (%(id)s, %(by)s, %(product)s, %(title)s, %(price)s)', row)


def _one(db: Connection, sql: LiteralString, *args: object) -> Row | None:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql, args).fetchone()


def _all(db: Connection, sql: LiteralString, *args: object) -> list[Row]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql, args).fetchall()
