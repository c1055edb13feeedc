"""What each address answers. A handler says what it reads and writes; how that is kept right is in `page.py`."""

from __future__ import annotations

import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Query, Response

from examples.shop.data import pictures
from examples.shop.data.seed import new_id, profile
from examples.shop.web.cookies import MARKS, NAME, USER
from examples.shop.web.page import Page

router = APIRouter()
Here = Annotated[Page, Depends(Page)]
Name = Annotated[str, Path(pattern=f"^{NAME.pattern}$")]
Text = Annotated[str, Form(min_length=1, max_length=500)]

SHOWN: Final = 20
MONTH_S: Final = 30 * 24 * 3600


@router.get("/")
def home(page: Here) -> Response:
    """Show what is new."""
    posts = page.read("the newest posts", page.rows.posts, shard=page.rows.PUBLIC)[:SHOWN]
    people = {
        name: page.cached(f"profile/{name}", page.rows.profile, name, shard=page.rows.PEOPLE) for name in _by(posts)
    }
    return page.show("home.html", posts=posts, people=people)


@router.post("/posts")
def post(page: Here, text: Text) -> Response:
    """Add a post."""
    row = {"id": new_id(), "by": page.who(), "text": text}
    page.write("your post", page.rows.add_post, row, shard=page.rows.PUBLIC)
    return page.lead("/", "Posted.")


# --- people --------------------------------------------------------------------------------------------------------------


@router.get("/people")
def people(page: Here) -> Response:
    """Show everybody."""
    return page.show("people.html", people=page.read("everybody", page.rows.profiles, shard=page.rows.PEOPLE))


@router.get("/people/{name}")
def person(page: Here, name: Name) -> Response:
    """Show somebody's profile, photo and posts."""
    found = page.cached(f"profile/{name}", page.rows.profile, name, shard=page.rows.PEOPLE)
    if found is None:
        raise HTTPException(404, f"Nobody here is called {name}.")
    posts = page.read(f"{name}'s posts", page.rows.posts, name, shard=page.rows.PUBLIC)
    choices = [f"{name}-{secrets.token_hex(2)}" for _ in range(6)] if name == page.user else []
    return page.show("person.html", person=found, posts=posts, choices=choices)


@router.post("/photo")
def photo(page: Here, photo: Annotated[str, Form(pattern="^[a-z0-9-]{1,40}$")]) -> Response:
    """Change one's own photo, and have a thumbnail made."""
    name = page.who()
    before = page.cached(f"profile/{name}", page.rows.profile, name, shard=page.rows.PEOPLE) or profile(name)
    row = {**before, "photo": photo}
    page.write("your photo", page.rows.save_profile, row, shard=page.rows.PEOPLE, key=f"profile/{name}")
    page.queue("a thumbnail", "thumbnail", name, photo)
    return page.lead(f"/people/{name}", "Your photo is changed.")


@router.get("/pictures/{name}.svg")
def picture(name: str) -> Response:
    """Return a picture. Its name says all that it is, so it never changes: everybody may keep it."""
    return Response(
        pictures.goods(name) or pictures.face(name),
        media_type="image/svg+xml",
        headers={"Cache-Control": "public, max-age=86400"},
    )


# --- products and orders -------------------------------------------------------------------------------------------------


@router.get("/products")
def products(page: Here) -> Response:
    """Show what there is to buy."""
    return page.show("products.html", products=page.read("all products", page.rows.products, shard=page.rows.PUBLIC))


@router.get("/products/{name}")
def product(page: Here, name: Name) -> Response:
    """Show one product."""
    found = page.cached(f"product/{name}", page.rows.product, name, shard=page.rows.PUBLIC)
    if found is None:
        raise HTTPException(404, "We do not have that.")
    return page.show("product.html", product=found)


@router.post("/orders")
def order(page: Here, product: Annotated[str, Form(pattern=f"^{NAME.pattern}$")]) -> Response:
    """Order a product: through the orders service, and with a confirmation."""
    name = page.who()
    found = page.cached(f"product/{product}", page.rows.product, product, shard=page.rows.PUBLIC)
    if found is None:
        raise HTTPException(404, "We do not have that.")
    wanted = {"by": name, "product": product, "title": found["title"], "price": found["price"]}
    placed = page.called("your order", page.shop.orders.place(**wanted))["order"]
    page.queue("a confirmation", "confirmation", name, placed["id"])
    return page.lead("/orders", f"Ordered: {placed['title']}.")


@router.get("/orders")
def orders(page: Here) -> Response:
    """Show one's own orders."""
    answer = page.called("your orders", page.shop.orders.orders(page.who()))
    return page.show("orders.html", orders=answer["orders"])


@router.get("/search")
def search(page: Here, q: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Search posts and products."""
    return page.show("search.html", q=q, found=page.search(q) if q.strip() else None)


@router.get("/jobs")
def jobs(page: Here) -> Response:
    """Show what the worker did."""
    return page.show("jobs.html", jobs=page.shop.outbox.read())


# --- who it is, and what is turned how -----------------------------------------------------------------------------------


@router.get("/login")
def login_form(page: Here) -> Response:
    """Ask who it is."""
    return page.show("login.html", people=page.read("everybody", page.rows.profiles, shard=page.rows.PEOPLE))


@router.post("/login")
def login(page: Here, name: Text) -> Response:
    """Log in, without a password: this is a demonstration. What was demanded before is demanded still, and now this user's."""
    name = name.strip().lower()
    if not NAME.fullmatch(name):
        raise HTTPException(422, "A name is a letter, and up to 19 letters and digits more.")
    page.session.rebind(name)
    if page.cached(f"profile/{name}", page.rows.profile, name, shard=page.rows.PEOPLE) is None:
        row = profile(name)
        page.write("your profile", page.rows.save_profile, row, shard=page.rows.PEOPLE, key=f"profile/{name}")
    response = page.lead("/", f"You are {name}.")
    response.set_cookie(USER, name, max_age=MONTH_S, **MARKS)
    return response


@router.post("/logout")
def logout(page: Here) -> Response:
    """Log out. What was seen stays seen."""
    page.session.rebind(None)
    response = page.lead("/", "You are logged out.")
    response.delete_cookie(USER, **MARKS)
    return response


@router.get("/controls")
def controls_form(page: Here) -> Response:
    """Show what can be turned."""
    return page.show("controls.html")


@router.post("/lag")
def lag(page: Here, seconds: Annotated[float, Form(ge=0, le=3600)], back: Annotated[str, Form()] = "/") -> Response:
    """Let replicas lag so much from now on."""
    page.shop.controls.change(lag_s=seconds)
    return page.lead(back, "")


@router.post("/controls")
def controls(page: Here, left_out: Annotated[list[str] | None, Form()] = None) -> Response:
    """Leave parts out, and take others back in."""
    page.shop.controls.change(without=left_out or ())
    return page.lead("/controls", "")


@router.get("/health")
def health(page: Here) -> dict[str, str]:
    """Say that this site answers."""
    page.shop.open()
    return {"site": page.shop.site}


def _by(posts: list[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(post["by"] for post in posts))
