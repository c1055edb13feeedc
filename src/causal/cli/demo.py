"""`causal demo`: the main job as a story, on real files and threads. Everything that it prints happened.

Owns the story. It ends with a non-zero exit code if a guarantee did not hold.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Final

import click

from causal.cli.compare import show
from causal.cli.output import Output, json_option
from causal.cli.story import Story, small_trace
from causal.core.keyring import Key
from causal.core.policy import ReadPolicy
from causal.keys import Keyring
from causal.lab.replay import STRATEGIES, Setting
from causal.store import CausalStore
from causal.stores.sqlite import SQLiteEngine

if TYPE_CHECKING:
    from causal.stores.sqlite import Reader, Writer

LAG_S: Final = 0.4
WAIT_S: Final = 2.0


@click.command()
@click.option(
    "--engine",
    type=click.Choice(["sqlite", "postgres"]),
    default="sqlite",
    show_default=True,
    help="The embedded store; or real PostgreSQL servers, started for this on this machine.",
)
@json_option
def demo(engine: str, as_json: bool) -> None:
    """Show the bug, the token that mends it, and what the other ways cost. Takes less than a minute.

    On PostgreSQL it ends with a failover that loses a write. The exit code is 1 if a guarantee did not hold.
    """
    output = Output(as_json=as_json)
    if engine == "postgres":
        from causal.cli.demo_postgres import tell

        tell(output)
        return
    with tempfile.TemporaryDirectory(prefix="causal-demo-") as directory:
        story = _Story(output, directory)
        story.tell()
    output.say("\nMany users on three sites, under every strategy, replayed in virtual time:\n", style="bold")
    results = {result.strategy: result for result in show(output, small_trace(), list(STRATEGIES), Setting())}
    token, eventual = results["token"], results["eventual"]
    anomalies = token.stale + token.non_monotonic + token.out_of_causal_order
    story.expect("with the token, nobody was shown a page that forgets", anomalies == 0)
    story.expect("the history is one in which eventual reads forget", eventual.stale > 0)
    story.end()


class _Story(Story):
    """The steps on the embedded store. Thread-safety: none."""

    def __init__(self, output: Output, directory: str) -> None:
        super().__init__(output)
        keyring = Keyring([Key.generate()])
        self.eu, self.us = (self._site(directory, site, keyring) for site in ("eu", "us"))

    def _site(self, directory: str, site: str, keyring: Keyring) -> CausalStore[Reader, Writer]:
        engine = SQLiteEngine(directory, site=site, shards=("photos", "orders", "tips"), lag_s=LAG_S)
        return CausalStore(engine, keyring=keyring, audience="shop", policy=ReadPolicy(wait_s=WAIT_S))

    def tell(self) -> None:
        self.output.say(
            f"A shop at two sites, eu and us, on real files. What is written at one reaches the other {LAG_S * 1000:.0f} ms later.\n"
        )
        with self.eu, self.us:
            token = self.photo()
            token = self.order(token)
            self.fallback(token)
            self.tampered(token)
            self.stranger(token)

    def photo(self) -> str | None:
        alice = self.eu.session(subject="alice")
        with alice.write(shard="photos") as tx:
            tx.put("photo", "new.jpg")
        token = alice.token()
        self.step("alice posts a photo at eu", f"She now carries a token of {len(token or '')} characters.")
        with (block := self.us.session(subject="alice").read(shard="photos")) as db:
            found = db.get("photo")
        # Not a promise: on a machine slower than the lag, the photo is there already.
        said = f"Her photo: {found or 'none. That is the bug'}."
        self.step("she opens her profile at us, without the token", said, block.receipt, found=found)
        with (block := self.us.session(token, subject="alice").read(shard="photos")) as db:
            found = db.get("photo")
        waited = f"The read was held back {block.receipt.waited_s * 1000:.0f} ms."
        self.step("she opens it again, with the token", f"Her photo: {found}. {waited}", block.receipt, found=found)
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
            tip = db.get("tip")
        self.step(
            "she orders a frame at eu, and opens a page at us: its recommendations may lag",
            f"Recommended: {tip or 'nothing yet'}.",
            tips.receipt,
            tip=tip,
        )
        with (orders := page.read(shard="orders")) as db:
            found = [order["item"] for _, order in db.scan("order/")]
        self.step(
            "its orders may not lag, on the same page",
            f"Orders: {', '.join(found) or 'none'}.",
            orders.receipt,
            orders=found,
        )
        self.expect("the order is on the page", found == ["frame"])
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
            "us stops receiving; alice posts again at eu and looks at us",
            f"Her photo: {found}. The read went to {block.receipt.endpoint}.",
            block.receipt,
            found=found,
        )
        self.expect("the read falls back to who has it", found == "newer.jpg" and block.receipt.endpoint == "eu")
        controls.cut_off("eu")
        block = self.us.session(alice.token(), subject="alice").read(shard="photos")
        self.must_refuse(
            "eu is cut off altogether: nobody that us can reach has the newer photo", block, lambda db: db.get("photo")
        )
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
            "all is well again; someone changes one character of the token",
            f"Rejected: {why or 'no'}. It could have demanded anything, so the read covers what every leader holds: {found}.",
            block.receipt,
            found=found,
            rejected=why,
        )
        self.expect("a changed token is rejected", bool(why))
        self.expect("and the read is the leader's", block.receipt.how == "leader" and found == "newer.jpg")

    def stranger(self, token: str | None) -> None:
        session = self.us.session(token, subject="mallory")
        why = ", ".join(type(one.error).__name__ for one in session.rejected)
        self.step("mallory presents alice's token", f"Rejected: {why or 'no'}.", rejected=why)
        self.expect("another's token is rejected", bool(why))
