"""The contract notices what authors of a store with a leader, a journal and a follower get wrong: each in the test of that promise."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from causal import Frontier, Unreachable
from causal.engine import Commit
from causal.testing import EngineContract, Stage
from causal.testing.contract import failing
from tests.testing import broken_journal as broken
from tests.testing.journal import JournalStage, Link, Read, Reader, Server, Write
from tests.testing.run import failures, run

CAUGHT_UP = "a_replica_is_whole_in_the_middle_of_catching_up"
OWN = "a_block_keeps_what_it_changed_last"
VALUES = "values_are_shown_as_they_were_written"
SEVERAL = "several_shards_are_read_in_one_block"
ONE_LINK = "blocks_of_one_link_are_apart"
CRASH = "a_commit_survives_a_crash_or_is_known_to_be_lost"
ROLLBACK = "a_rollback_gives_no_number_away"
SIDE = "commits_side_by_side_are_both_there"
BLOCK = "a_write_blocks_watermarks_are_no_later_than_what_it_shows_whenever_a_write_comes"
SURVIVES = "what_survives_a_failover_is_still_applied"
OUTSIDE = "what_was_written_outside_has_a_position"

# Who breaks what: the defect, the test that fails of it, and a piece of what it says is wrong.
BROKEN: list[tuple[type[Any], str, str]] = [
    (broken.KeyByKey, CAUGHT_UP, "which were written in one transaction each time|applied and showed"),
    (broken.KeyByKey, "a_leader_is_whole_in_the_middle_of_a_commit", "applied and showed"),
    (broken.FortyKeysAtATime, CAUGHT_UP, "two .*' at 40 keys"),
    (broken.FortyKeysAtATime, "a_leader_is_whole_in_the_middle_of_a_commit", "one .*' at 40 keys"),
    (broken.NumberFirst, CAUGHT_UP, "two called .* applied and showed"),
    (broken.NumberFirst, "a_leader_is_whole_in_the_middle_of_a_commit", "one called .* applied and showed"),
    (broken.NewestFirst, CAUGHT_UP, "two called .* applied and showed"),
    (broken.ReplaysItsLog, CAUGHT_UP, "two called .* applied and showed"),
    (broken.KeepsDeleted, "a_deletion_reaches_replicas", r"\{'k': \('one', None\)\}"),
    (broken.MarkKeptApart, "a_server_that_went_back_says_what_it_has_left", "two went back, shows 'one', and calls"),
    (broken.WritesLater, CRASH, "it shows 'two' and says BEHIND"),
    (broken.EndsTooHigh, "a_lost_write_is_past_the_end_and_never_applied", "is lost, and whoever leads says BEHIND"),
    (broken.PromotionForgetsDeletions, SURVIVES, "gone = None, of .* two shows 'old' and says APPLIED"),
    (broken.SeesTheNewestOrigin, SURVIVES, r"and has seen Frontier\(\)"),
    (
        broken.OneOriginForAllPromoted,
        "every_failover_starts_an_origin_of_its_own",
        "a write after the second has .*, which is of the history of .after the first.",
    ),
    (
        broken.LeaderWhenOpened,
        "a_link_that_was_open_meanwhile_finds_the_new_leader",
        "beside one, .* says that one leads, and a new one two",
    ),
    (broken.OthersOfTheLeader, "watermarks_of_other_shards_are_honest_too", "two over shard .* says APPLIED"),
    (broken.OneMapping, "watermarks_that_were_given_stay_as_they_are", "now say APPLIED of it"),
    (broken.AnswersAreLives, "an_incarnation_stays_as_long_as_a_server_lives", "one did not restart"),
    (broken.OneMarkOfTwo, SEVERAL, "says UNKNOWN of"),
    (broken.SeesOneOfTwo, SEVERAL, "and has seen Frontier"),
    (broken.SecondShardMoves, SEVERAL, r"shows \['one', 'two'\]"),
    (broken.OneConnection, ONE_LINK, r"its other blocks were shown \['one', 'two'\]"),
    (broken.MixesServers, "threads_of_one_link_are_apart", "one, which has 'two' in the life"),
    (broken.OneSnapshot, ONE_LINK, r"the old ones \['two', 'two'\]"),
    (broken.EndsThemAll, ONE_LINK, "this block has ended"),
    (broken.ScansPastOwnWrites, OWN, "all at once"),
    (
        broken.ScansWhatIsThereNow,
        "a_page_shows_what_single_reads_show",
        "a page shows {'a': 'two', 'b': None, 'c': 'two'}",
    ),
    (broken.ShowsOwnDeleted, OWN, "key by key"),
    (broken.FirstPutWins, OWN, "'twice': 'one'"),
    (broken.IgnoresCase, VALUES, r"'CASE': \(None, 'capital'\)"),
    (broken.EmptyIsNothing, VALUES, r"'empty': \(None, ''\)"),
    (broken.NormalizesText, VALUES, "'decomposed': "),
    (broken.CutsLongValues, VALUES, r"\(255 characters\)"),
    (broken.NumbersRollbacks, ROLLBACK, "the position of a commit that came later"),
    (broken.LeavesGaps, ROLLBACK, "two has caught up, and says BEHIND"),
    (broken.ReadsBeforeTheLock, BLOCK, "a write block's watermarks call .* applied, and it is shown"),
    (broken.SideBySide, SIDE, "committed in the middle of another"),
    (broken.NumbersWhenItBegins, SIDE, "called it applied and showed"),
    (broken.PutsAllBack, SIDE, "committed"),
    (
        broken.BusyIsAnOSError,
        SIDE,
        r"(?s)raised BlockingIOError\(11.*what to do: to refuse, raise StoreError, or Unreach",
    ),
    (broken.BusyIsAnOSError, "an_exact_position_is_of_its_own_transaction", "raised BlockingIOError"),
    (
        broken.EndedIsARuntimeError,
        "a_block_that_has_ended_cannot_commit_again",
        "a commit after a rollback raised RuntimeError",
    ),
    (
        broken.WritesAnywhere,
        "who_does_not_lead_takes_no_writes",
        "two says that it leads no origin .* has acknowledged",
    ),
    (broken.LinksCount, "positions_grow_with_every_commit", "and the one before it"),
    (broken.ChangesOnly, "a_write_that_changes_nothing_is_a_write", "and then reads 'old'"),
    (broken.ChangesOnly, "a_deletion_of_nothing_is_a_write", "and then reads 'old'"),
    (broken.HeadAtTheNearest, OUTSIDE, "calls that applied and shows 'one', not 'two'"),
    (broken.HeadWhenOpened, OUTSIDE, "position\\(\\) is"),
    (
        broken.CancelledKeepsTheLock,
        "a_cancelled_call_leaves_nothing_open_asynchronous",
        "cancelled in its step 1, .* is busy",
    ),
]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(failing, "_PATIENCE_S", 1.0)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class TestJournal(EngineContract):
    def stage(self) -> Stage:
        return JournalStage()


class SerializationError(Exception):
    """What a driver raises: an error that is nobody else's, which engines pass on."""


class Optimistic(Write):
    """Blocks run side by side; one whose shard has changed meanwhile is refused, and may be tried again."""

    refusal: type[Exception] = Unreachable

    def take(self) -> None:
        """Lock nothing."""

    def free(self) -> None:
        """Nothing is locked."""

    def commit(self, deps: Frontier) -> Commit:
        with self.server.lock:
            self.connection.alive()
            if self.server.state.origins[self.shard] != self.connection.state.origins[self.shard]:
                self.rollback()
                raise self.refusal("the shard has changed since this block began")
            return super().commit(deps)


class OptimisticDriver(Optimistic):
    """Its refusal is its driver's."""

    refusal = SerializationError


class Lazy(Reader):
    """Its snapshot begins when it is first read: one, of all shards, and no older than the watermarks."""

    def __init__(self, server: Server, shards: Sequence[int]) -> None:
        super().__init__(server, shards)
        self.began = False

    def alive(self) -> None:
        super().alive()
        if not self.began:
            self.began, self.state = True, self.server.state


class LazyRead(Read):
    """A handle of it: what it may have shown is all of its snapshot."""

    def __init__(self, link: Link, server: Server, shards: Sequence[int]) -> None:
        super().__init__(link, server, shards)
        self.connection = Lazy(server, shards)

    def seen(self) -> Frontier:
        marks = self.connection.state.watermarks(self.shown[0] >> 16)
        return Frontier(p for shard in self.shown for p in marks[shard].frontier)


@pytest.mark.parametrize("kind", [Optimistic, OptimisticDriver, LazyRead])
def test_a_sound_store_of_another_kind_passes(kind: type[Any]) -> None:
    """One that refuses one of two writers; one that begins a snapshot late."""
    assert not failures(run(lambda: JournalStage(kind)))


@pytest.mark.parametrize(("defect", "test", "wrong"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_store_fails(defect: type[Any], test: str, wrong: str) -> None:
    said = run(lambda: JournalStage(defect), f"test_{test}")[f"test_{test}"]
    assert said is not None
    assert not said.startswith("skipped")
    assert re.search(wrong, said), said
    assert said.startswith("ContractBroken") or defect is broken.EndsThemAll


def test_a_position_of_nothing_fails_without_a_follower_too() -> None:
    class Alone(JournalStage):
        follower = None

    class Nowhere(Link):
        def position(self, connection: Any) -> Frontier:
            return Frontier()

    name = f"test_{OUTSIDE}"
    assert run(Alone, name) == {name: None}
    assert "position() is" in str(run(lambda: Alone(Nowhere), name)[name])


def test_a_built_in_exception_says_everywhere_what_to_do() -> None:
    class Stumbles(Reader):
        def get(self, key: str) -> str | None:
            raise OSError(key)

    with pytest.raises(OSError, match="k") as raised:
        type(
            "Contract", (EngineContract,), {"stage": lambda self: JournalStage(Stumbles)}
        )().test_a_rollback_leaves_nothing()
    assert re.search(
        r"(?s)promised.*to refuse, raise StoreError, or Unreachable\(final", "\n".join(raised.value.__notes__)
    )


def test_every_broken_store_is_tried() -> None:
    made = {c for c in vars(broken).values() if isinstance(c, type) and c.__module__ == broken.__name__}
    assert made == {defect for defect, _, _ in BROKEN}
