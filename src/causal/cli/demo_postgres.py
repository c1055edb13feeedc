"""`causal demo --engine postgres`: the story on a primary and two standbys that are started for it, down to a failover that loses a write.

Owns the story. Everything that it prints happened; it ends with a non-zero exit code if a guarantee did not hold.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from causal.cli.compare_postgres import show_on
from causal.cli.postgres import need_psycopg
from causal.cli.story import Story, small_trace
from causal.core.keyring import Key
from causal.core.policy import ReadPolicy
from causal.errors import CausalError, WriteLost
from causal.keys import Keyring
from causal.lab.replay import STRATEGIES
from causal.store import CausalStore

if TYPE_CHECKING:
    from causal.cli.output import Output
    from causal.lab.postgres import PostgresCluster

LAG_S: Final = 0.4
WAIT_S: Final = 1.0
RETRY_S: Final = 10.0
USERS: Final = 8
TABLE_LAG_S: Final = 0.05

TABLES: Final = """
CREATE TABLE photos (owner text PRIMARY KEY, file text NOT NULL);
CREATE TABLE orders (id integer PRIMARY KEY, owner text NOT NULL, item text NOT NULL);
CREATE TABLE tips (owner text PRIMARY KEY, tip text NOT NULL);
GRANT SELECT, INSERT, UPDATE ON photos, orders, tips TO app
"""


def tell(output: Output) -> None:
    """Start a cluster and tell the story on it. Raises: CausalError if a promise was broken; UsageError if something is not installed."""
    need_psycopg("lab-postgres")
    from causal.lab.postgres import PostgresCluster
    from causal.lab.postgres.replay import RealSetting, prepare

    with PostgresCluster(2, lag_s=LAG_S) as cluster:
        prepare(cluster)
        cluster.primary.query(TABLES)
        cluster.wait_caught_up(30)
        story = _Story(output, cluster)
        story.tell()
        output.say("\nMany users, under every strategy, on the same servers:\n", style="bold")
        for standby in cluster.replicas:
            standby.set_lag(TABLE_LAG_S)
        rows, _ = show_on(
            output,
            cluster,
            small_trace(USERS, posts=3),
            list(STRATEGIES),
            RealSetting(lag_s=TABLE_LAG_S, think_s=0.005),
        )
        story.compared({row["strategy"]: row for row in rows})
        output.say("\nAnd now the primary fails, before a write has reached a standby:\n", style="bold")
        with story.one, story.two:
            story.failover()
    story.end()


class _Story(Story):
    """The steps, at two web servers, `one` and `two`. Thread-safety: none."""

    def __init__(self, output: Output, cluster: PostgresCluster) -> None:
        super().__init__(output)
        from causal.stores.postgres import PostgresEngine

        self.cluster = cluster
        keyring, policy = Keyring([Key.generate()]), ReadPolicy(wait_s=WAIT_S)
        replicas = {server.name: server.dsn for server in cluster.replicas}
        engine = PostgresEngine(cluster.primary.dsn, replicas, order="listed")
        stores: list[CausalStore[Any, Any]] = [
            CausalStore(engine, keyring=keyring, audience="shop", policy=policy) for _ in ("one", "two")
        ]
        self.one, self.two = stores
        self.token: str | None = None

    def tell(self) -> None:
        """Tell all that comes before the failover."""
        version = self.cluster.binaries.version
        self.output.say(
            f"A shop on PostgreSQL {version}: a primary and two standbys, which replay each commit {LAG_S * 1000:.0f} ms later. "
            "Two web servers, which share a key file.\n"
        )
        with self.one, self.two:
            self.photo()
            self.order()
            self.fallback()
            self.tampered()
            self.stranger()

    def post(self, file: str) -> None:
        """Let alice post a photo at the one web server, and carry the token away."""
        alice = self.one.session(self.token, subject="alice")
        with alice.write() as db:
            db.execute(
                "INSERT INTO photos VALUES ('alice', %s) ON CONFLICT (owner) DO UPDATE SET file = excluded.file",
                [file],
            )
        self.token = alice.token()

    def photo(self) -> None:
        self.post("new.jpg")
        self.step("alice posts a photo", f"She now carries a token of {len(self.token or '')} characters.")
        with (block := self.two.session(subject="alice").read()) as db:
            found = _photo(db)
        # Not a promise: on a machine slower than the lag, the photo is there already.
        said = f"Her photo: {found or 'none. That is the bug'}."
        self.step("she opens her profile at another web server, without the token", said, block.receipt, found=found)
        with (block := self.two.session(self.token, subject="alice").read()) as db:
            found = _photo(db)
        waited = f"The read was held back {block.receipt.waited_s * 1000:.0f} ms."
        self.step("she opens it again, with the token", f"Her photo: {found}. {waited}", block.receipt, found=found)
        self.expect("with the token, the photo is there", found == "new.jpg")

    def order(self) -> None:
        alice = self.one.session(self.token, subject="alice")
        with alice.write() as db:
            db.execute("INSERT INTO orders VALUES (1, 'alice', 'frame')")
            db.execute("INSERT INTO tips VALUES ('alice', 'glass for your frame')")
        page = self.two.session(alice.token(), subject="alice")
        with (tips := page.read(policy=ReadPolicy.eventual())) as db:
            tip = _first(db.execute("SELECT tip FROM tips WHERE owner = 'alice'"))
        self.step(
            "she orders a frame, and opens a page: its recommendations may lag",
            f"Recommended: {tip or 'nothing yet'}.",
            tips.receipt,
            tip=tip,
        )
        with (orders := page.read()) as db:
            found = [item for (item,) in db.execute("SELECT item FROM orders WHERE owner = 'alice'")]
        said = f"Orders: {', '.join(found) or 'none'}."
        self.step("its orders may not lag, on the same page", said, orders.receipt, orders=found)
        self.expect("the order is on the page", found == ["frame"])
        self.token = page.token()

    def fallback(self) -> None:
        for standby in self.cluster.replicas:
            standby.pause()
        self.post("newer.jpg")
        with (block := self.two.session(self.token, subject="alice").read()) as db:
            found = _photo(db)
        said = f"Her photo: {found}. The read went to {block.receipt.endpoint}."
        self.step("the standbys stop replaying; alice posts again and looks", said, block.receipt, found=found)
        promised = found == "newer.jpg" and block.receipt.endpoint == "primary"
        self.expect("the read falls back to who has it", promised)
        self.cluster.cut_off("primary")
        block = self.two.session(self.token, subject="alice").read()
        self.must_refuse("the primary hangs: nobody that answers has the newer photo", block, _photo)
        self.cluster.rejoin("primary")
        for standby in self.cluster.replicas:
            standby.resume()
        self.cluster.wait_caught_up(30)

    def tampered(self) -> None:
        assert self.token is not None
        changed = self.token[:-1] + ("A" if self.token[-1] != "A" else "Q")
        session = self.two.session(changed, subject="alice")
        with (block := session.read()) as db:
            found = _photo(db)
        why = ", ".join(type(one.error).__name__ for one in session.rejected)
        self.step(
            "all is well again; someone changes one character of the token",
            f"Rejected: {why or 'no'}. It could have demanded anything, so the read covers what the primary holds: {found}.",
            block.receipt,
            found=found,
            rejected=why,
        )
        self.expect("a changed token is rejected", bool(why))
        self.expect("and the read is the leader's", block.receipt.how == "leader" and found == "newer.jpg")

    def stranger(self) -> None:
        session = self.two.session(self.token, subject="mallory")
        why = ", ".join(type(one.error).__name__ for one in session.rejected)
        self.step("mallory presents alice's token", f"Rejected: {why or 'no'}.", rejected=why)
        self.expect("another's token is rejected", bool(why))

    def compared(self, rows: dict[str, dict[str, Any]]) -> None:
        """Check the table."""
        token, eventual = rows["token"], rows["eventual"]
        anomalies = token["stale"] + token["non_monotonic"] + token["out_of_causal_order"]
        self.expect("with the token, nobody was shown a page that forgets", anomalies == 0)
        self.expect("the history is one in which eventual reads forget", eventual["stale"] > 0)

    def failover(self) -> None:
        """Lose an acknowledged write, and say so."""
        one, other = self.cluster.replicas
        for standby in (one, other):
            standby.disconnect()
        self.post("newest.jpg")
        self.cluster.primary.kill()
        one.promote()
        other.follow(one)
        self.step(
            "alice posts once more; her write is acknowledged, the primary dies, and a standby without it is promoted",
            f"{one.name} takes writes now.",
        )
        alice = self.two.session(self.token, subject="alice")
        block, lost, found = alice.read(), None, None
        try:
            with block as db:
                found = _photo(db)
        except WriteLost as error:
            lost = error
        said = f"Said: {lost}" if lost is not None else f"Her photo: {found}, and no word of the other."
        self.step(
            "she opens her profile", said, block.receipt, found=found, lost=[str(x) for x in lost.lost] if lost else []
        )
        self.expect("a write that was lost is said to be lost", lost is not None)
        if lost is None:
            return
        alice.forget(lost.lost)
        with (block := alice.read()) as db:
            found = _photo(db)
        said = f"Her photo: {found}, from {block.receipt.endpoint}."
        self.step("she is told, and goes on without it (session.forget)", said, block.receipt, found=found)
        self.expect("what survived is there", found == "newer.jpg")
        self.token = alice.token()
        refused = self.post_until_it_works("again.jpg")
        with (block := self.two.session(self.token, subject="alice").read()) as db:
            found = _photo(db)
        tries = f" Her write was refused {refused} times, and may be tried again." if refused else ""
        said = f"Her photo: {found}, from {block.receipt.endpoint}.{tries}"
        self.step(
            "she posts it again, to the new primary, and looks", said, block.receipt, found=found, refused=refused
        )
        self.expect("her own writes are there again", found == "again.jpg")

    def post_until_it_works(self, file: str) -> int:
        """Post as an application should after a failover: again, where the error says so. Return how often it was refused."""
        deadline_s, refused = time.monotonic() + RETRY_S, 0
        while True:
            try:
                self.post(file)
            except CausalError as error:
                if not error.retryable or time.monotonic() > deadline_s:
                    raise
                refused += 1
            else:
                return refused


def _photo(db: Any) -> str | None:
    return _first(db.execute("SELECT file FROM photos WHERE owner = 'alice'"))


def _first(cursor: Any) -> str | None:
    row = cursor.fetchone()
    return None if row is None else row[0]
