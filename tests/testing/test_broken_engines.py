"""The contract notices: each of these engines breaks one promise, and the test of that promise fails and says what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from causal.stores.memory import MemoryCluster
from causal.stores.memory import link as memory_link
from causal.testing import EngineContract, Stage
from tests.testing import broken
from tests.testing.run import failures, run
from tests.testing.stages import MemoryStage

LATER = "a_watermark_is_no_later_than_its_snapshot"

# Who breaks what: the defect, the test that fails of it, and a piece of what it says is wrong.
BROKEN: list[tuple[type[Any], str, str]] = [
    (broken.WatermarkAfterTheSnapshot, f"{LATER}_whenever_a_write_comes", "it was taken later"),
    (
        broken.WatermarkAfterTheSnapshot,
        f"{LATER.replace('a_', 'a_replicas_', 1)}_whenever_a_write_comes",
        "taken later",
    ),
    (broken.WatermarkWhenAskedFor, LATER, "shows 'one', not 'two': it was taken later"),
    (broken.ReceivedIsNotApplied, "a_lagging_replica_says_that_it_lags_and_then_that_it_does_not", "says APPLIED"),
    (broken.ReceivedIsNotApplied, "what_is_applied_is_visible", "and shows None"),
    (broken.ReceivedIsNotApplied, "a_session_reads_its_own_writes_though_the_replica_lags", "alice reads 'old'"),
    (broken.NeverApplied, "a_lagging_replica_says_that_it_lags_and_then_that_it_does_not", "caught up.* says BEHIND"),
    (broken.NeverApplied, "a_read_is_held_back_until_the_replica_has_caught_up", "still waits"),
    (broken.NoEnd, "a_lost_write_is_past_the_end_and_never_applied", "is lost, and whoever leads says BEHIND"),
    (broken.NoEnd, "a_lost_write_is_said_and_can_be_accepted", "refused for ever"),
    (broken.ForgetsUnderTheSameName, "a_log_that_forgets_ends_its_origin_and_starts_another", "has no end"),
    (broken.OneIncarnation, "a_server_that_goes_back_has_another_incarnation", "has the same incarnation when asked"),
    (broken.OneIncarnation, "watermarks_never_go_back_within_one_incarnation", "us went back, in one incarnation"),
    (broken.SharedIncarnation, "two_servers_are_two_incarnations", "both servers"),
    (broken.EverybodyLeads, "a_commit_is_numbered_by_its_leader", "is led by \\['asia', 'eu', 'us'\\]"),
    (broken.NobodyLeads, "the_leader_is_an_endpoint_that_numbers", "which leads \\[\\] of the origins"),
    (broken.OneShardOfTwo, "a_probe_answers_for_every_shard_under_the_stores_number", "not for \\[196608, 196609\\]"),
    (
        broken.OwnNumbersForShards,
        "a_probe_answers_for_every_shard_under_the_stores_number",
        "eu answers for \\[0, 1\\]",
    ),
    (broken.AnswersFromMemory, "an_unreachable_endpoint_says_so_and_no_other", "us is cut off, and probe gave None"),
    (
        broken.LeaderNamesAReplica,
        "the_leader_is_an_endpoint_that_numbers",
        "is 'us' beside 'eu', which is said to lead",
    ),
    (broken.NeverCloses, "links_of_one_engine_are_apart", "a closed link still answers"),
    (broken.AnyShard, "an_unknown_shard_is_refused", "which is none, gave None"),
    (broken.DoubtWhereThereIsNone, "writes_say_that_their_leader_is_unreachable", "gave CommitUnknown"),
    (
        broken.PositionBeforeTheCommit,
        "a_position_is_not_applied_where_its_write_is_not",
        "said to be the position of 'two'",
    ),
    (broken.PositionAfterTheLock, "an_exact_position_is_of_its_own_transaction", "have one position"),
    (broken.RollbackKeeps, "a_rollback_leaves_nothing", "are \\['two', 'two'\\], not \\['one', None\\]"),
    (broken.RollbackKeepsTheLock, "a_rollback_leaves_nothing", "eu is busy"),
    (broken.CommitsTwice, "a_block_that_has_ended_cannot_commit_again", "was acknowledged"),
    (broken.NoAnswerMeansNo, "a_commit_without_an_answer_is_said_made_or_not", "gave StoreError"),
    (broken.ShardsMixedUp, "shards_are_apart", "a commit on shard 196608 has Frontier\\(196609/1@1\\)"),
    (broken.UngatedWrites, "a_write_blocks_watermarks_are_the_leaders", "which it wrote itself"),
    (broken.SeesNothing, "seen_covers_what_was_shown", "and has seen Frontier\\(\\)"),
    (broken.SeesNothing, "what_a_write_block_reads_counts", "and has seen Frontier\\(\\)"),
    (broken.SeesNothing, "reads_never_go_backwards", "bob read 'new', and then 'old'"),
    (broken.SeesNothing, "writes_follow_reads", "shows the effect reply = 'yes', and of its cause 'old'"),
    (broken.ShowsOwnDeleted, "a_block_keeps_what_it_changed_last", "it is itself shown, key by key"),
    (broken.ScansAreNotSeen, "a_page_shows_what_single_reads_show", "and the page has seen Frontier\\(\\)"),
    (broken.ForgetsTombstones, "seen_covers_tombstones", "eu showed k = None"),
    (
        broken.TombstonesDependOnNothing,
        "dependencies_travel_with_what_was_written",
        "who finds a key gone whose deletion depends on",
    ),
    (broken.DropsDependencies, "dependencies_travel_with_what_was_written", "was acknowledged with Frontier\\(\\)"),
    (broken.AcknowledgesNoDependencies, "dependencies_travel_with_what_was_written", "was acknowledged with"),
    (broken.DependenciesStayAtHome, "dependencies_travel_to_replicas", "us shows 'one', which depends on"),
    (broken.NoSnapshot, "a_snapshot_does_not_move", "then a = two and b = two"),
    (broken.TracesTheWrongVersion, "a_traced_block_names_the_versions_that_it_shows_and_writes", "before the commit"),
    (broken.AsyncTwinDiffers, "seen_covers_what_was_shown_asynchronous", "and has seen Frontier\\(\\)"),
    (broken.ConnectsAtOnce, "making_an_engine_connects_nothing", "left open files or threads"),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(memory_link, "BUSY_S", 0.5)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("defect", "test", "wrong"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_engine_fails(defect: type[Any], test: str, wrong: str) -> None:
    said = run(lambda: broken.BrokenStage(defect), f"test_{test}")[f"test_{test}"]
    assert said is not None
    assert not said.startswith("skipped")
    with pytest.raises(AssertionError, match=f"(?s){wrong}"):
        raise AssertionError(said)
    if said.startswith("ContractBroken"):
        assert all(part in said for part in ("promised (", "what to do: ", "causal/engine.py")), said


def test_an_asynchronous_twin_that_differs_fails_only_there() -> None:
    failed = failures(run(lambda: broken.BrokenStage(broken.AsyncTwinDiffers)))
    assert failed
    assert all(name.endswith("_asynchronous") for name in failed)


def test_the_engine_that_they_are_made_of_is_sound() -> None:
    assert not failures(run(lambda: broken.BrokenStage(MemoryCluster)))


# --- hooks --------------------------------------------------------------------------------------------------------------


class Bare(Stage):
    """A stage with no more than is required."""

    leader, store = "eu", 3

    def __init__(self) -> None:
        self.whole = MemoryStage()

    def engine(self, near: str) -> Any:
        return self.whole.engine(near)

    def get(self, connection: Any, key: str) -> str | None:
        found: str | None = connection.get(key)
        return found

    def put(self, connection: Any, key: str, value: str) -> None:
        connection.put(key, value)


def test_what_a_stage_does_not_offer_is_skipped_and_said() -> None:
    results = run(Bare)
    assert not failures(results)
    skipped = {name: said for name, said in results.items() if said is not None}
    assert results["test_a_rollback_leaves_nothing"] is None
    assert "Bare has no delete(connection, key)" in skipped["test_seen_covers_tombstones"]
    assert "no `follower`" in skipped["test_a_lost_write_is_said_and_can_be_accepted"]
    assert len(results) > len(skipped) > 20


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("leader", "Missing has no `leader`. Set it"),
        ("engine", r"Missing has no engine\(near\). Implement it: return your engine"),
        ("get", r"Missing has no get\(connection, key\). Implement it"),
        ("put", r"Missing has no put\(connection, key, value\). Implement it"),
    ],
)
def test_a_required_hook_says_what_to_implement(missing: str, said: str) -> None:
    required = {"leader": "", "engine": Stage.engine, "get": Stage.get, "put": Stage.put}
    kind = type("Missing", (Bare,), {missing: required[missing]})
    with pytest.raises(NotImplementedError, match=said):
        contract(kind).test_a_rollback_leaves_nothing()


def contract(kind: type[Any]) -> Any:
    return type("Contract", (EngineContract,), {"stage": lambda self: kind()})()


def test_a_contract_without_a_stage_says_what_to_implement() -> None:
    with pytest.raises(
        NotImplementedError, match=r"Mine has no stage\(\). Implement it: return a causal.testing.Stage"
    ):
        type("Mine", (EngineContract,), {})().test_a_rollback_leaves_nothing()


def test_a_failed_control_of_a_read_only_stage_is_no_pass() -> None:
    class ReadOnly(Bare):
        leader, follower, read_only = "", "us", True

    with pytest.raises(NotImplementedError, match=r"has no write_source\(key, value\)"):
        contract(ReadOnly).test_a_watermark_is_no_later_than_its_snapshot()


def test_every_test_of_the_contract_says_what_is_promised() -> None:
    assert len(EngineContract.tests) > 90
    for name in EngineContract.tests:
        test = getattr(EngineContract, name)
        assert test.__doc__
        assert test.__name__ == name
        twin = f"{name}_asynchronous"
        assert twin not in EngineContract.tests or getattr(EngineContract, twin).__doc__ == test.__doc__
