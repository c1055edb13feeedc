"""Jobs of any queue demand what their publisher knew, wherever and whenever they run."""

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from causal import (
    AsyncCausalStore,
    CausalStore,
    ConfigError,
    GateTimeout,
    Keyring,
    ReadPolicy,
    TokenError,
    WriteLost,
    current_session,
)
from causal.context import Carried, carried, carrying
from causal.integrations import work
from causal.integrations.carrier import HEADER
from causal.integrations.jobs import carry, job, running
from causal.integrations.work import PARTIAL, RETRIED
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.sqlite import SQLiteEngine
from tests.stores.sqlite_world import fast_directory

KEYS = Keyring.generate()


@pytest.fixture
def directory() -> Iterator[Path]:
    with fast_directory() as path:
        yield path


class Sites:
    """Two sites; `us` hears nothing of `eu` until it is told to."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.eu, self.us = (
            CausalStore(SQLiteEngine(directory, site=site), keyring=KEYS, audience="shop", **settings)
            for site in ("eu", "us")
        )
        self.eu.head(), self.us.head()
        self.us.engine.pause("us")  # type: ignore[attr-defined]

    def published(self, **options: Any) -> dict[str, Any]:
        """A message of somebody who has just written."""
        session = self.eu.session(subject="alice")
        with session.write() as tx:
            tx.put("photo", "new.jpg")
        return json.loads(json.dumps(carry({"id": 17}, session, **options)))  # type: ignore[no-any-return]

    def arrives(self) -> None:
        self.us.engine.catch_up("us")  # type: ignore[attr-defined]


@pytest.fixture
def sites(directory: Path) -> Iterator[Sites]:
    made = Sites(directory)
    yield made
    made.eu.close()
    made.us.close()


def photo(session: Any = None) -> tuple[Any, str]:
    """What a job reads, and where."""
    with (r := (session or current_session()).read()) as db:
        value = db.get("photo")
    return value, f"{r.receipt.endpoint} {r.receipt.how}"


def test_without_the_carrier_the_job_does_not_find_the_row(sites: Sites) -> None:
    sites.published()
    assert photo(sites.us.session(subject="jobs")) == (None, "us covered")


@pytest.mark.parametrize("choice", ["always", "sticky"])
def test_the_job_finds_the_row(sites: Sites, choice: Any) -> None:
    message = sites.published()
    with running(sites.us, message, consistency=choice) as session:
        assert session is current_session()
        assert session.subject == "jobs"
        value, where = photo()
    assert value == "new.jpg"
    assert where.startswith("eu")
    assert carried() is None


def test_always_reads_at_the_leader_and_sticky_at_the_nearest_that_holds_it(sites: Sites) -> None:
    message = sites.published()
    sites.arrives()
    with running(sites.us, message):
        assert photo() == ("new.jpg", "us covered")
    with sites.eu.session(subject="bob").write() as tx:
        tx.put("photo", "of somebody else")  # which nothing in the message demands
    with running(sites.us, message, consistency="always"):
        assert photo()[0] == "of somebody else"
    with running(sites.us, message):
        assert photo() == ("new.jpg", "us covered")


def test_sticky_waits_before_it_goes_to_the_leader(directory: Path) -> None:
    sites = Sites(directory, policy=ReadPolicy(wait_s=30))
    message = sites.published()
    with running(sites.us, message):
        timer = threading.Timer(0.05, sites.arrives)
        timer.start()
        assert photo() == ("new.jpg", "us covered")
        timer.join()
    sites.eu.close()
    sites.us.close()


@pytest.mark.parametrize("policy", [ReadPolicy(then="error"), ReadPolicy(then="stale"), ReadPolicy.eventual()])
def test_a_stores_weaker_policy_is_not_a_jobs(directory: Path, policy: ReadPolicy) -> None:
    sites = Sites(directory, policy=policy)
    with running(sites.us, sites.published()):
        assert photo()[0] == "new.jpg"
    sites.eu.close()
    sites.us.close()


# --- delayed ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("H-25")
def test_delayed_is_put_off_once_and_then_reads_at_the_leader(sites: Sites) -> None:
    message, ran = sites.published(), []
    with pytest.raises(GateTimeout) as later, running(sites.us, message, consistency="delayed"):
        ran.append(1)
    assert not ran
    assert later.value.retryable
    assert later.value.retry_after_s
    message = json.loads(json.dumps(message))  # published again, as it is
    assert message["Causal-Retried"] == "1"  # for workers of every version
    with running(sites.us, message, consistency="delayed"):
        assert photo()[0] == "new.jpg"
        assert photo()[1].startswith("eu")


@pytest.mark.parametrize("raw", [False, True])
def test_delayed_is_put_off_once_where_the_message_is_a_list_of_pairs(sites: Sites, raw: bool) -> None:
    text = sites.published()[HEADER]
    message: Any = [(b"id", b"17"), (HEADER.encode(), text.encode())] if raw else [("id", "17"), (HEADER, text)]
    with pytest.raises(GateTimeout), running(sites.us, message, consistency="delayed"):
        pass
    with running(sites.us, message, consistency="delayed"):
        assert photo()[0] == "new.jpg"
    with pytest.raises(GateTimeout), running(sites.us, tuple(message[:2]), consistency="delayed"):
        pass  # which cannot be marked
    with running(sites.us, None, consistency="delayed"):
        assert photo()[0] == "new.jpg"


@pytest.mark.parametrize("wait_s", [0, 20])
def test_delayed_is_not_put_off_if_the_row_is_here(
    directory: Path, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "ASK_S", 20.0 if wait_s == 0 else work.ASK_S)  # a slow machine asks slowly
    sites = Sites(directory, policy=ReadPolicy(wait_s=wait_s))
    for here in (True, False):
        message = sites.published()
        if here:
            sites.arrives()
        else:
            timer = threading.Timer(0.05, sites.arrives)
            timer.start()
        if here or wait_s:
            with running(sites.us, message, consistency="delayed"):
                assert photo() == ("new.jpg", "us covered")
            assert RETRIED not in message
        if not here:
            timer.join()
    sites.eu.close()
    sites.us.close()


def test_delayed_finds_the_row_here_the_second_time(sites: Sites) -> None:
    message = sites.published()
    with pytest.raises(GateTimeout), running(sites.us, message, consistency="delayed"):
        pass
    sites.arrives()
    with running(sites.us, message, consistency="delayed"):
        assert photo() == ("new.jpg", "us covered")


def test_a_queue_that_counts_its_tries_itself(sites: Sites) -> None:
    message = sites.published()
    frozen = tuple(message.items())  # nothing can be marked
    with pytest.raises(GateTimeout), running(sites.us, frozen, consistency="delayed"):
        pass
    with running(sites.us, frozen, consistency="delayed", retried=True):
        assert photo()[0] == "new.jpg"


@pytest.mark.parametrize("text", [None, "garbage"])
def test_delayed_does_not_put_off_what_goes_to_the_leader_anyway(sites: Sites, text: str | None) -> None:
    sites.published()
    with running(sites.us, {HEADER: text} if text else {}, consistency="delayed"):
        assert photo()[0] == "new.jpg"


def test_delayed_asks_for_every_shard_that_is_demanded(directory: Path) -> None:
    stores = [
        CausalStore(
            SQLiteEngine(directory, site=site, shards=["posts", "photos"]), keyring=KEYS, audience="shop", number=3
        )
        for site in ("eu", "us")
    ]
    eu, us = stores
    eu.head(), us.head()
    us.engine.pause("us")  # type: ignore[attr-defined]
    for shard in ("posts", "photos"):
        with (session := eu.session(subject="alice")).write(shard=shard) as tx:
            tx.put("k", 1)
        message = carry({}, session)
        with pytest.raises(GateTimeout), running(us, message, consistency="delayed"):
            pass
    foreign = Sites(directory / "other")
    with running(us, foreign.published(), consistency="delayed"):
        pass  # what it demands is none of this store's
    for store in (eu, us, foreign.eu, foreign.us):
        store.close()


def test_a_lost_write_is_for_the_job_to_hear_of() -> None:
    cluster = MemoryCluster(("eu", "us"))
    eu, us = (
        CausalStore(MemoryEngine(cluster=cluster, site=site), keyring=KEYS, audience="shop") for site in ("eu", "us")
    )
    with eu, us:
        cluster.pause("us")
        with (session := eu.session(subject="alice")).write() as tx:
            tx.put("photo", "new.jpg")
        message = carry({}, session)
        cluster.fail_over("eu")
        cluster.resume("us")
        with running(us, message, consistency="delayed"), pytest.raises(WriteLost):
            photo()


# --- tokens that are missing, or do not open -----------------------------------------------------------------------------


@pytest.mark.spec("H-24")
@pytest.mark.parametrize("bad", ["leader", "ignore"])
@pytest.mark.parametrize(
    "fields",
    [{}, {HEADER: None}, {HEADER: ""}, {HEADER: "garbage"}, {HEADER: 17}, {HEADER: ["garbage", None]}],
    ids=repr,
)
def test_a_message_that_says_nothing_is_read_for_at_the_leader(directory: Path, bad: Any, fields: Any) -> None:
    sites = Sites(directory, policy=ReadPolicy(bad_token=bad))
    sites.published()
    with running(sites.us, fields) as session:
        assert photo()[0] == "new.jpg"
        passed_on = carry({})
    fresh = sites.us.session(passed_on[HEADER], subject="jobs")
    assert fresh.seen.marks  # and so does a job that it publishes, or whoever is given its token
    assert session.seen.marks
    sites.eu.close()
    sites.us.close()


@pytest.mark.spec("H-24")
@pytest.mark.parametrize(
    ("partial", "all_said"),
    [
        (None, True),
        ("1", False),
        ("1000", True),
        ("9" * 15, False),
        ("0" * 16, False),
        ("soon", False),
        (["1000", "9" * 15], False),
    ],
)
def test_a_message_that_does_not_say_all_is_read_for_at_the_leader(sites: Sites, partial: Any, all_said: bool) -> None:
    message = {**sites.published(), "Causal-Partial": partial}
    sites.arrives()
    with sites.eu.session(subject="bob").write() as tx:
        tx.put("photo", "of somebody else")
    with running(sites.us, message):
        assert photo()[0] == ("new.jpg" if all_said else "of somebody else")


@pytest.mark.parametrize("fields", [{}, {HEADER: "garbage"}], ids=repr)
def test_and_so_are_the_other_stores_that_the_job_reads(directory: Path, fields: Any) -> None:
    sites, others = Sites(directory / "one", policy=ReadPolicy(bad_token="ignore")), Sites(directory / "two", number=1)
    others.published()
    assert photo(others.us.session()) == (None, "us covered")
    with running(sites.us, fields) as session:
        assert photo(session.at(others.us))[0] == "new.jpg"
    for store in (sites.eu, sites.us, others.eu, others.us):
        store.close()


def test_and_so_are_the_other_stores_that_the_jobs_it_publishes_read(directory: Path) -> None:
    """However many come after another; and until the time that was said at first."""
    sites, others = Sites(directory / "one"), Sites(directory / "two", number=1)
    others.published()
    message: dict[str, Any] = {}
    said: set[str] = set()
    for _ in range(3):
        with running(sites.us, message):
            message = json.loads(json.dumps(carry({})))
        said.add(message[PARTIAL])
    assert len(said) == 1
    with running(sites.us, message) as session:
        assert photo(session.at(others.us))[0] == "new.jpg"
    with running(sites.us, message | {PARTIAL: "17"}):  # that time is over
        assert photo()[1].startswith("us")
    for store in (sites.eu, sites.us, others.eu, others.us):
        store.close()


def test_a_user_cannot_present_a_jobs_token_nor_a_job_a_users(sites: Sites) -> None:
    message = sites.published()
    assert sites.us.session(message[HEADER], subject="alice").rejected
    with running(sites.us, sites.published(subject="alice")) as session:
        assert session.rejected
        assert photo()[0] == "new.jpg"


def test_bad_token_raise_is_kept(directory: Path) -> None:
    sites = Sites(directory, policy=ReadPolicy(bad_token="raise"))
    with pytest.raises(TokenError), running(sites.us, {HEADER: "garbage"}):
        pass
    sites.eu.close()
    sites.us.close()


# --- publishing ------------------------------------------------------------------------------------------------------


def test_the_session_of_the_request_is_carried(sites: Sites) -> None:
    session = sites.eu.session(subject="alice")
    with session.write() as tx:
        tx.put("photo", "new.jpg")
    message = {"id": 17}
    assert carry(message) is message
    assert message == {"id": 17}  # nobody's session: the worker will read at the leader
    with carrying(Carried(lambda: session)):
        carry(message)
        assert carry([("id", "17")])[1][0] == HEADER
    assert sites.us.session(str(message[HEADER]), subject="jobs").own == session.own
    with pytest.raises(ConfigError):
        carry("message", session)


@pytest.mark.spec("H-24")
def test_a_message_from_inside_a_write_block_is_read_for_at_the_leader(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    session = sites.eu.session(subject="alice")
    message: dict[str, Any] = {}
    with session.write() as tx:
        tx.put("photo", "uncommitted")
        carry(message, session)
    assert "inside a write block" in caplog.text
    with running(sites.us, message):
        assert photo()[0] == "uncommitted"  # which it is no more
    with running(sites.us, carry(message, session)):
        sites.arrives()
        assert photo() == ("uncommitted", "us covered")


def test_a_message_from_inside_a_read_block_is_read_for_at_the_leader(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    """What the block shows is not in the session yet, and the job is about just that."""
    alice = sites.eu.session(subject="alice")
    with alice.write() as tx:
        tx.put("cart", "hers, and all that she demands")
    sites.arrives()
    with sites.eu.session(subject="bob").write() as tx:
        tx.put("photo", "bob.jpg")
    with alice.read() as db:
        assert db.get("photo") == "bob.jpg"
        message = carry({}, alice)
    with running(sites.us, message):
        assert photo()[0] == "bob.jpg"
    sites.arrives()
    with running(sites.us, carry({}, alice)):
        assert photo() == ("bob.jpg", "us covered")
    assert caplog.messages == []


def test_a_job_publishes_a_job_with_what_it_wrote(sites: Sites) -> None:
    message = sites.published()
    sites.arrives()
    with running(sites.us, message) as first:
        assert photo()[0] == "new.jpg"
        with first.write() as tx:
            tx.put("thumbnail", "small.jpg")
        message = carry({"id": 18})
    assert current_session_is_gone()
    second = sites.eu.session(message[HEADER], subject="jobs")
    assert second.own >= first.own
    assert second.seen | second.own >= first.seen
    sites.eu.engine.catch_up("eu")  # type: ignore[attr-defined]
    with running(sites.eu, message), current_session().read() as db:
        assert db.get("thumbnail") == "small.jpg"


def current_session_is_gone() -> bool:
    with pytest.raises(ConfigError):
        current_session()
    return True


def test_a_jobs_writes_go_back_in_its_result(sites: Sites) -> None:
    alice = sites.eu.session(subject="alice")
    with running(sites.us, carry({}, alice)) as session:
        with session.write() as tx:
            tx.put("thumbnail", "small.jpg")
        result = {"token": session.token(subject="alice")}
    alice.join(result["token"])
    with alice.read() as db:
        assert db.get("thumbnail") == "small.jpg"


# --- runners ---------------------------------------------------------------------------------------------------------


def test_a_queue_of_threads(sites: Sites) -> None:
    waiting: queue.Queue[Any] = queue.Queue()
    done: list[Any] = []

    @job(sites.us)
    def thumbnail(message: Any, *, size: int) -> None:
        """Make it small."""
        done.append((message["id"], photo()[0], size))

    def worker() -> None:
        while (message := waiting.get()) is not None:
            thumbnail(message, size=3)
            assert carried() is None

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(9):
        waiting.put(sites.published())
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join()
    assert done == [(17, "new.jpg", 3)] * 9
    assert thumbnail.__doc__ == "Make it small."


def test_a_job_that_fails_leaves_no_session_behind(sites: Sites) -> None:
    @job(sites.us, consistency="always")
    def fails(message: Any) -> None:
        assert photo()[0] == "new.jpg"
        raise LookupError(message["id"])

    with pytest.raises(LookupError, match="17"):
        fails(sites.published())
    assert carried() is None


def test_whose_job_it_is_may_follow_from_the_message(sites: Sites) -> None:
    @job(sites.us, subject=lambda message: message["user"])
    def runs(message: Any) -> Any:
        assert not current_session().rejected
        return current_session().subject, photo()[0]

    assert runs({**sites.published(subject="alice"), "user": "alice"}) == ("alice", "new.jpg")


def test_asynchronous_jobs(directory: Path) -> None:
    sites = Sites(directory)

    async def use() -> None:
        us = AsyncCausalStore(SQLiteEngine(directory, site="us"), keyring=KEYS, audience="shop")

        @job(us, consistency="delayed")
        async def reads(message: Any) -> Any:
            async with current_session().read() as db:
                return message["id"], db.get("photo")

        message = sites.published()
        with pytest.raises(GateTimeout):
            await reads(message)
        assert await reads(message) == (17, "new.jpg")
        late = sites.published()
        sites.arrives()
        assert await reads(late) == (17, "new.jpg")
        assert await asyncio.gather(*(reads(sites.published()) for _ in range(3)), return_exceptions=True)
        assert carried() is None
        await us.close()

    asyncio.run(use())
    sites.eu.close()
    sites.us.close()


def test_settings_are_checked_where_they_are_written(sites: Sites) -> None:
    for wrong in ("Always", "", None, "leader"):
        with pytest.raises(ConfigError, match="consistency is one of"):
            running(sites.us, {}, consistency=wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="consistency is one of"):
            job(sites.us, consistency=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="carrier"), running(sites.us, "message"):
        pass
