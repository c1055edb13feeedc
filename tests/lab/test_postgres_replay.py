"""A trace replayed on real servers: the model of users, and what is counted."""

import random
import threading

import pytest

pytest.importorskip("psycopg")

from causal.errors import ConfigError
from causal.lab.postgres import PostgresCluster
from causal.lab.postgres import replay as lab
from causal.lab.postgres.replay import RealSetting, check_control, empty, prepare, replay_on
from causal.lab.replay import STRATEGIES, Result
from causal.lab.trace import Operation

FAST = RealSetting(lag_s=0.0, think_s=0.001)


def trace(*steps: str) -> list[Operation]:
    """`alice w photo` and `bob r photo`, a second apart."""
    words = [step.split() for step in steps]
    return [
        Operation(n, float(n), who, {"w": "write", "r": "read"}[op], key, n if op == "w" else None)
        for n, (who, op, key) in enumerate(words)
    ]


def busy(rounds: int = 2) -> list[Operation]:
    return trace(*(f"user{n} {op} photo" for _ in range(rounds) for n in range(4) for op in "wr"))


@pytest.fixture
def cluster(causal_postgres: PostgresCluster) -> PostgresCluster:
    prepare(causal_postgres)
    return causal_postgres


def test_pauses_are_cut_and_short_ones_stay() -> None:
    times = [0.0, 0.002, 0.003, 60.0, 60.5]
    operations = [Operation(n, t, "a", "read", "k") for n, t in enumerate(times)]
    assert RealSetting(think_s=0.01).due_s(operations) == pytest.approx([0, 0.002, 0.003, 0.013, 0.023])
    assert RealSetting(think_s=0.01, speed=2).due_s(operations) == pytest.approx([0, 0.001, 0.0015, 0.0115, 0.0215])


@pytest.mark.parametrize(
    "wrong",
    [{"replicas": 0}, {"replicas": 9}, {"clients": 0}, {"clients": 65}, {"hop": 1.1}, {"think_s": -1}, {"speed": 0}],
)
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        RealSetting(**wrong)  # type: ignore[arg-type]


def run(cluster: PostgresCluster, operations: list[Operation], name: str, setting: RealSetting = FAST) -> Result:
    return lab._Run(cluster, operations, name, setting, lambda _: None).run()


def counted(result: Result) -> tuple[int, int, int]:
    return result.stale, result.non_monotonic, result.out_of_causal_order


def test_standbys_that_stand_still_show_what_each_strategy_does(cluster: PostgresCluster) -> None:
    results = {}
    for name in ("token", "leader", "quorum+token", "eventual", "quorum"):
        empty(cluster)
        for standby in cluster.replicas:
            standby.pause()
        results[name] = run(cluster, busy(), name)
        for standby in cluster.replicas:
            standby.resume()
    for name in ("token", "leader", "quorum+token"):
        found = results[name]
        assert (found.reads, found.writes, *counted(found), found.leader, found.away) == (8, 8, 0, 0, 0, 1, 1), name
    for name in ("eventual", "quorum"):
        found = results[name]
        assert (found.reads, found.stale, found.out_of_causal_order, found.leader) == (8, 8, 8, 0), name
    assert results["token"].waited  # until a standby is known to stand still, which is not waited for
    assert check_control(results["eventual"]) is None
    assert str(check_control(results["leader"])).startswith("void: ")


def one_follows(cluster: PostgresCluster) -> None:
    """Let the first standby have all that is acknowledged, and the second nothing from now on."""
    cluster.wait_caught_up()
    cluster.primary.configure(synchronous_standby_names='"replica-1"', synchronous_commit="remote_apply")
    cluster.replicas[1].pause()


def moving(name: str, begins: int) -> RealSetting:
    """A setting in which this session moves each time, and begins at this standby."""
    seed = next(n for n in range(99) if random.Random(f"{n}/{name}").randrange(2) == begins)
    return RealSetting(lag_s=0.0, think_s=0.0, hop=1.0, seed=seed, clients=1)


def test_reads_that_go_back_and_forth_are_counted_by_hand(cluster: PostgresCluster) -> None:
    one_follows(cluster)
    operations = trace("alice w photo", *["alice r photo"] * 6)
    found = run(cluster, operations, "eventual", moving("alice", begins=0))
    assert (found.reads, found.writes, *counted(found), found.leader, found.away) == (6, 1, 3, 3, 3, 0.0, 0.0)
    cluster.primary.query(f"TRUNCATE {lab.TABLE}")
    found = run(cluster, operations, "token", moving("alice", begins=0))
    assert counted(found) == (0, 0, 0)
    assert (
        0.5 <= found.away < 1
    )  # more than half, where a busy machine keeps the one that follows from answering in time


def test_what_another_session_shows_counts_as_the_past(cluster: PostgresCluster) -> None:
    """bob sees alice's second photo at the standby that has it; the first, which she wrote before it, is not at the other."""
    one_follows(cluster)
    operations = trace("alice w first", "alice w second", *["bob r second", "bob r first"] * 2)
    assert counted(run(cluster, operations, "eventual", moving("bob", begins=1))) == (0, 0, 2)


def test_an_older_version_is_stale_and_the_same_one_is_not(
    cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standbys have the first photo, and stop before the second."""
    whole = lab._Run.step

    def step(self: lab._Run, life: lab._Life) -> None:
        if life.left[-1][1].number == 1:
            cluster.wait_caught_up()
        if life.left[-1][1].number == 2:
            for standby in cluster.replicas:
                standby.pause()
        whole(self, life)

    monkeypatch.setattr(lab._Run, "step", step)
    operations = trace("alice w photo", "alice r photo", "alice w photo", "alice r photo", "bob r photo")
    found = run(cluster, operations, "eventual", RealSetting(lag_s=0.0, think_s=0.0, clients=1))
    assert (found.reads, found.writes, *counted(found)) == (3, 2, 1, 0, 1)


def test_an_error_of_nobody_is_not_counted_away(cluster: PostgresCluster) -> None:
    cluster.primary.query(
        f"CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
        f"CREATE TRIGGER t BEFORE INSERT ON {lab.TABLE} FOR EACH ROW EXECUTE FUNCTION nothing()"
    )
    with pytest.raises(TypeError):
        run(cluster, trace("alice w photo"), "token")


def test_the_same_walk_whatever_the_strategy(cluster: PostgresCluster) -> None:
    walks = []
    for name in ("token", "eventual"):
        empty(cluster)
        one = lab._Run(cluster, busy(), name, FAST, lambda _: None)
        lives = [life for _, _, life in one.due]
        walks.append([(life.name, life.site, life.chance.getstate()) for life in lives])
        assert one.run().reads == 8
    assert walks[0] == walks[1]


def test_a_session_has_one_request_at_a_time_and_several_sessions_run_at_once(
    cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four sessions meet inside their first requests: they could not, if clients waited for each other."""
    together, inside = threading.Barrier(4), dict[str, int]()
    whole = lab._Run.step

    def step(self: lab._Run, life: lab._Life) -> None:
        inside[life.name] = inside.get(life.name, 0) + 1
        assert inside[life.name] == 1
        if len(life.left) == 4:
            together.wait(timeout=30)
        whole(self, life)
        inside[life.name] -= 1

    monkeypatch.setattr(lab._Run, "step", step)
    told: list[int] = []
    found = replay_on(cluster, busy(), "token", RealSetting(lag_s=0.0, think_s=0.0, clients=4), told.append)
    assert (found.reads, found.writes, sum(told), counted(found)) == (8, 8, 16, (0, 0, 0))


def test_what_cannot_be_replayed(cluster: PostgresCluster) -> None:
    for operations, name in ((busy(), "nonesuch"), ([], "token"), (trace("a r nul\0"), "token")):
        with pytest.raises(ConfigError):
            replay_on(cluster, operations, name, FAST)


def test_every_strategy_of_the_embedded_store_runs_here(cluster: PostgresCluster) -> None:
    for name in STRATEGIES:
        found = replay_on(cluster, busy(1), name, FAST)
        assert (found.strategy, found.reads, found.writes, found.refused_reads) == (name, 4, 4, 0)
