"""`causal demo`: the main job as a story, on real files and threads. Everything that it prints happened.

Owns the story. It ends with a non-zero exit code if a guarantee did not hold.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import click

from causal.cli.compare import show
from causal.cli.output import Output, json_option
from causal.core.policy import ReadPolicy
from causal.errors import CausalError
from causal.keys import Keyring
from causal.lab.replay import STRATEGIES, Setting
from causal.lab.trace import Operation
from causal.store import CausalStore
from causal.stores.sqlite import SQLiteEngine

if TYPE_CHECKING:
    from causal.session import Receipt
    from causal.stores.sqlite import Reader, Writer

LAG_S = 0.05


@click.command()
@json_option
def demo(as_json: bool) -> None:
    """Show the bug, the token that mends it, and what the other ways cost. Takes less than a minute."""
    output = Output(as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="causal-demo-") as directory:
        story = _Story(output, directory)
        story.tell()
    output.say("\nThe same users under every strategy, replayed in virtual time:\n", style="bold")
    results = show(output, small_trace(), list(STRATEGIES), Setting())
    by_name = {result.strategy: result for result in results}
    story.expect("the token shows no stale own write", by_name["token"].stale == 0)
    story.expect("eventual reads do", by_name["eventual"].stale > 0)
    if story.failures:
        raise CausalError(f"the demo went wrong: {'; '.join(story.failures)}")


class _Story:
    """The steps, each told from what it returned."""

    def __init__(self, output: Output, directory: str) -> None:
        self.output = output
        self.failures: list[str] = []
        keyring = Keyring.generate()
        self.eu, self.us = (self._site(directory, site, keyring) for site in ("eu", "us"))

    def _site(self, directory: str, site: str, keyring: Keyring) -> CausalStore[Reader, Writer]:
        engine = SQLiteEngine(directory, site=site, shards=("photos", "orders", "tips"), lag_s=LAG_S)
        return CausalStore(engine, keyring=keyring, audience="shop")

    def tell(self) -> None:
        with self.eu, self.us:
            self.output.say(
                f"Two sites, eu and us: real files, and everything reaches the other site {LAG_S * 1000:.0f} ms late.\n"
            )
            token = self.photo()
            token = self.order(token)
            self.fallback(token)
            self.tampered(token)
            self.stranger(token)

    def step(self, title: str, what: str, receipt: Receipt | None = None, **data: Any) -> None:
        account = {} if receipt is None else {"receipt": receipt.as_dict()}
        self.output.record(
            {"step": title, "result": what, **data, **account},
            f"• {title}\n    {what}" + (f"\n    {receipt}" if receipt else ""),
        )

    def expect(self, what: str, held: bool) -> None:
        if not held:
            self.failures.append(f"not so: {what}")

    def photo(self) -> str | None:
        alice = self.eu.session(subject="alice")
        with alice.write(shard="photos") as tx:
            tx.put("photo", "new.jpg")
        token = alice.token()
        self.step("alice posts a photo at eu", f"she now carries a token of {len(token or '')} characters")
        with (block := self.us.session(subject="alice").read(shard="photos")) as db:
            found = db.get("photo")
        self.step("she opens her profile at us without the token", f"photo: {found}", block.receipt, found=found)
        self.expect("without the token, the photo is missing", found is None)
        with (block := self.us.session(token, subject="alice").read(shard="photos")) as db:
            found = db.get("photo")
        self.step("she opens it with the token", f"photo: {found}", block.receipt, found=found)
        self.expect("with the token, the photo is there", found == "new.jpg")
        return token

    def order(self, token: str | None) -> str | None:
        alice = self.eu.session(token, subject="alice")
        with alice.write(shard="orders") as tx:
            tx.put("order/1", {"item": "frame", "count": 1})
        with alice.write(shard="tips") as tx:
            tx.put("tip", "glass for your frame")
        page = self.us.session(alice.token(), subject="alice")
        with (tips := page.read(shard="tips", policy=ReadPolicy.eventual())) as db:
            tip = db.get("tip", "nothing yet")
        with (orders := page.read(shard="orders")) as db:
            count = sum(1 for _ in db.scan("order/"))
        self.step(
            "she orders a frame at eu and opens a page at us: its tips may lag", f"tip: {tip}", tips.receipt, tip=tip
        )
        self.step("the orders on the same page may not", f"orders: {count}", orders.receipt, orders=count)
        self.expect("the order is on the page", count == 1)
        return page.token()

    def fallback(self, token: str | None) -> None:
        controls = self.us.engine
        assert isinstance(controls, SQLiteEngine)
        controls.pause("us")
        alice = self.eu.session(token, subject="alice")
        with alice.write(shard="photos") as tx:
            tx.put("photo", "newer.jpg")
        with (block := self.us.session(alice.token(), subject="alice").read(shard="photos")) as db:
            found = db.get("photo")
        self.step(
            "us stops receiving anything; alice posts again at eu and reads at us",
            f"photo: {found}",
            block.receipt,
            found=found,
        )
        self.expect("the read falls back", found == "newer.jpg" and block.receipt.endpoint == "eu")
        controls.cut_off("eu")
        block = self.us.session(alice.token(), subject="alice").read(shard="photos")
        try:
            with block as db:
                found = db.get("photo")
        except CausalError as error:
            found = None
            self.step(
                "eu is cut off altogether: nobody can show her photo, and nobody pretends",
                type(error).__name__,
                block.receipt,
            )
        self.expect("a read that nobody can serve is refused", found is None)
        controls.rejoin("eu")
        controls.resume("us")

    def tampered(self, token: str | None) -> None:
        assert token is not None
        changed = token[:-1] + ("A" if token[-1] != "A" else "Q")
        session = self.us.session(changed, subject="alice")
        with (block := session.read(shard="photos")) as db:
            found = db.get("photo")
        why = ", ".join(type(one.error).__name__ for one in session.rejected)
        self.step(
            "someone changes one character of the token", f"rejected: {why}; photo: {found}", block.receipt, found=found
        )
        self.expect("a changed token is rejected", bool(session.rejected))
        self.expect("and read at the leader", block.receipt.how == "leader" and found == "newer.jpg")

    def stranger(self, token: str | None) -> None:
        session = self.us.session(token, subject="mallory")
        why = ", ".join(type(one.error).__name__ for one in session.rejected)
        self.step("mallory presents alice's token", f"rejected: {why}", rejected=why)
        self.expect("another's token is rejected", bool(session.rejected))


def small_trace(users: int = 20, posts: int = 10) -> list[Operation]:
    """Return a short made-up history: users who post and look at once, and at each other."""
    operations: list[Operation] = []
    for n in range(posts):
        for user in range(users):
            t_s, me, friend = n * 2.0 + user * 0.09, f"user{user}", f"user{(user + n + 1) % users}"
            plan = [
                ("write", f"photo/{me}"),
                ("read", f"photo/{me}"),
                ("read", f"photo/{friend}"),
                ("read", f"photo/{me}"),
            ]
            for k, (op, key) in enumerate(plan):
                value = f"{n}.jpg" if op == "write" else None
                operations.append(Operation(0, t_s + k * 0.01, me, op, key, value))
    operations.sort(key=lambda o: o.t_s)
    return [Operation(i, o.t_s, o.session, o.op, o.key, o.value) for i, o in enumerate(operations)]
