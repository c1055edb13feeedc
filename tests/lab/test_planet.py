"""The parts of a simulated planet, each by itself: time, links, logs, servers, the histogram, and the bookkeeping of what users saw."""

import math
from collections.abc import Iterator
from random import Random

import attrs
import pytest

from causal.core.frontier import Frontier
from causal.core.position import pack
from causal.errors import ConfigError
from causal.lab.faults import MIXES, Faults
from causal.lab.network import Network
from causal.lab.planet.logs import Entry, Log, joined
from causal.lab.planet.metrics import Histogram
from causal.lab.planet.oracle import Anomalies, Knowledge, Oracle
from causal.lab.planet.servers import Cluster, Copy, Server
from causal.lab.planet.timeline import Timeline
from causal.lab.planet.topology import Site, Topology

NOTHING = Frontier()


# --- time ----------------------------------------------------------------------------------------------------------------


def test_events_happen_in_the_order_of_time_and_then_of_their_making() -> None:
    timeline, seen = Timeline(), []
    timeline.at(2.0, lambda: seen.append(("late", timeline.now)))
    for name in ("a", "b"):
        timeline.at(1.0, lambda name=name: seen.append((name, timeline.now)))
    timeline.at(-5.0, lambda: seen.append(("past", timeline.now)))
    timeline.run(1.5)
    assert seen == [("past", 0.0), ("a", 1.0), ("b", 1.0)]
    assert timeline.now == 1.5
    timeline.after(0.1, lambda: seen.append(("after", timeline.now)))
    timeline.run(10.0)
    assert seen[3:] == [("after", 1.6), ("late", 2.0)]
    assert timeline.idle


def test_a_process_goes_on_after_what_it_yields() -> None:
    timeline, seen = Timeline(), []

    def inner() -> Iterator[float]:
        yield 0.5
        seen.append(timeline.now)

    def outer() -> Iterator[float]:
        seen.append(timeline.now)
        yield 1.0
        yield from inner()
        yield 0.0
        seen.append(timeline.now)

    timeline.at(3.0, outer().__next__)
    timeline.run(100.0)
    assert seen == [3.0, 4.5, 4.5]
    assert timeline.events == 4


def test_an_error_ends_the_run_and_time_stands_where_it_happened() -> None:
    timeline = Timeline()

    def bad() -> None:
        raise ValueError("bad")

    timeline.at(1.0, bad)
    with pytest.raises(ValueError, match="bad"):
        timeline.run(5.0)
    assert timeline.now == 1.0


# --- links ---------------------------------------------------------------------------------------------------------------

TWO = Topology(sites=(Site("eu"), Site("us")), rtt_s=(("eu", "us", 0.1),))


def test_a_message_takes_half_a_round_trip() -> None:
    network = Network(TWO, Faults(), Random(1))
    assert network.delay("eu", "us") == network.delay("us", "eu") == 0.05
    assert network.deliveries("eu", "us") == (0.05,)
    assert network.delay("eu", "eu") == TWO.local_rtt_s / 2


def test_a_cut_holds_until_every_reason_for_it_is_gone() -> None:
    network = Network(TWO, Faults(), Random(1))
    pairs = [("eu", "us-1"), ("eu-1", "us")]
    network.cut(pairs)
    network.cut(pairs[:1])
    network.uncut(pairs)
    assert not network.passes("eu", "us-1")
    assert not network.passes("us-1", "eu")
    assert network.passes("eu-1", "us")
    network.uncut(pairs[:1])
    assert network.passes("eu", "us-1")
    assert not network.cuts


def test_messages_are_lost_doubled_and_overtaken_as_often_as_said() -> None:
    faults = Faults(loss=0.2, duplication=0.3, reordering=0.1, delay=0.0)
    network = Network(TWO, faults, Random(1))
    sent = [network.deliveries("eu", "us") for _ in range(20_000)]
    assert sum(not copies for copies in sent) / len(sent) == pytest.approx(0.2, abs=0.01)
    arrived = [copies for copies in sent if copies]
    assert sum(len(copies) == 2 for copies in arrived) / len(arrived) == pytest.approx(0.3, abs=0.01)
    assert sum(copies[0] > 0.05 for copies in arrived) / len(arrived) == pytest.approx(0.1, abs=0.01)
    late = Network(TWO, Faults(delay=1.0, delay_s=0.2), Random(1))
    delays = [late.delay("eu", "us") - 0.05 for _ in range(20_000)]
    assert sum(delays) / len(delays) == pytest.approx(0.2, rel=0.05)


# --- faults --------------------------------------------------------------------------------------------------------------


def test_every_option_says_what_it_does_and_is_in_some_mix() -> None:
    options = Faults.options()
    used = {name for mix in MIXES.values() for name, value in mix.as_dict().items() if value != options[name][1]}
    for name, (kind, _, said) in options.items():
        assert len(said) > 20
        assert kind in {"rate", "chance", "seconds"}
        assert kind == "seconds" or name in used, f"{name} is in no mix"
    assert not MIXES["calm"]
    everything = MIXES["everything"].as_dict()
    for name, mix in MIXES.items():
        for option, value in mix.as_dict().items():
            assert not value or everything[option], f"{option} of {name} is not in everything"


def test_a_rate_is_a_number_and_a_chance_at_most_one() -> None:
    for bad in ({"loss": 1.1}, {"loss": -0.1}, {"crash": math.inf}, {"crash": True}, {"crash": "often"}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Faults.of(bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no fault 'los'"):
        Faults.of({"los": 0.1})
    assert Faults.of({"loss": 0.5}) == Faults(loss=0.5)


# --- what is measured ------------------------------------------------------------------------------------------------------


def test_a_quantile_is_within_one_percent() -> None:
    chance, histogram = Random(1), Histogram()
    values = sorted(chance.lognormvariate(-3, 1.5) for _ in range(5000))
    for value in values:
        histogram.add(value)
    for q in (0.01, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = values[max(0, math.ceil(q * len(values)) - 1)]
        assert histogram.quantile(q) == pytest.approx(exact, rel=0.011)
    assert histogram.mean == pytest.approx(sum(values) / len(values))
    assert Histogram().quantile(0.5) == 0.0
    nothing = Histogram()
    nothing.add(0.0)
    assert nothing.quantile(1.0) == 0.0


# --- logs and servers -------------------------------------------------------------------------------------------------------


def entry(
    pk: int, offset: int, key: int = 0, deps: Frontier = NOTHING, stamp: int | None = None, session: str = "a"
) -> Entry:
    return Entry(pk, offset, offset if stamp is None else stamp, key, offset, session, deps, {})


def test_a_log_keeps_what_somebody_lacks_and_says_what_is_lost() -> None:
    log = Log(0, 1, "eu-1")
    for offset in (3, 5, 9):
        log.append(entry(1, offset))
    assert [e.offset for e in log.between(3, 9)] == [5, 9]
    assert [e.offset for e in log.between(-1, 5)] == [3, 5]
    assert [e.offset for e in log.forget(3)] == [3]
    lost = log.cut(5)
    assert [e.offset for e in lost] == [9]
    assert lost[0].lost
    assert (log.head, log.end) == (5, 5)


def cluster(*names: str, dependencies: bool = True, shards: int = 2) -> Cluster:
    found = Cluster(timeline=Timeline(), shards=range(shards), dependencies=dependencies, clock_offsets=False)
    for name in names:
        server = Server(found, name, name)
        found.servers[name] = server
        server.copies = {shard: Copy(shard, {}) for shard in found.shards}
    return found


def known(found: Cluster) -> None:
    for server in found.servers.values():
        for log in found.logs.values():
            copy = server.copies[log.shard]
            copy.origins = {log.pk & 0xFFFFFFFF: (0, None), **copy.origins}


def test_an_effect_is_applied_after_its_cause() -> None:
    found = cluster("eu", "us")
    eu, us = found.servers.values()
    logs = [found.lead(eu, shard, 1) for shard in (0, 1)]
    known(found)
    cause = eu.commit(0, 0, 1, "a", NOTHING, {})
    effect = eu.commit(1, 1, 2, "a", Frontier.of({cause.pk: cause.offset}), {})
    us.receive(logs[1], effect.offset)
    assert us.copies[1].applied(1) < effect.offset
    assert 1 not in us.copies[1].versions
    us.receive(logs[0], cause.offset)
    assert us.copies[1].versions[1] is effect
    assert us.copies[0].versions[0] is cause


def test_a_paused_server_applies_nothing_until_it_goes_on() -> None:
    found = cluster("eu", "us")
    eu, us = found.servers.values()
    log = found.lead(eu, 0, 1)
    known(found)
    first = eu.commit(0, 0, 1, "a", NOTHING, {})
    us.paused = True
    us.receive(log, first.offset)
    assert us.copies[0].applied(1) == 0
    us.paused = False
    us.drain(log, us.copies[0])
    assert us.copies[0].applied(1) == 1


def test_a_snapshot_is_the_same_object_until_something_moves() -> None:
    found = cluster("eu", "us")
    eu, _ = found.servers.values()
    found.lead(eu, 0, 1)
    known(found)
    before, all_before = eu.snapshot(0), eu.watermarks()
    assert eu.snapshot(0) is before
    assert eu.watermarks() is all_before
    written = eu.commit(0, 0, 1, "a", NOTHING, {})
    assert eu.snapshot(0) is not before
    assert before[0].origins[1] == (0, None)
    assert eu.watermarks()[0].origins[1] == (written.offset, None)
    assert eu.watermarks()[1] is all_before[1]


def test_a_new_life_holds_exactly_what_it_is_given() -> None:
    found = cluster("eu", "us")
    eu, us = found.servers.values()
    log = found.lead(eu, 0, 1)
    known(found)
    versions = [eu.commit(0, 0, n, "a", NOTHING, {}) for n in range(3)]
    us.receive(log, 3)
    life = us.incarnation
    us.begin_life({0: {1: (2, None)}, 1: {}})
    assert us.incarnation != life
    assert us.copies[0].versions[0] is versions[1]
    found.servers.pop("us")
    found.forget()
    assert found.state(0, {1: (3, None)})[0] is versions[2]


def test_the_higher_stamp_wins_wherever_it_arrives_first() -> None:
    found = cluster("eu", "us")
    eu, us = found.servers.values()
    logs = found.lead(eu, 0, 1), found.lead(us, 0, 2)
    known(found)
    one = eu.commit(0, 0, 1, "a", NOTHING, {})
    two = us.commit(0, 0, 2, "b", NOTHING, {})
    eu.receive(logs[1], two.offset)
    us.receive(logs[0], one.offset)
    winner = max(one, two, key=lambda e: e.rank)
    assert eu.copies[0].versions[0] is us.copies[0].versions[0] is winner


# --- the bookkeeping ---------------------------------------------------------------------------------------------------------


def test_the_version_that_must_be_seen_is_the_highest_that_the_past_holds() -> None:
    for seed in range(200):
        chance = Random(seed)
        oracle = Oracle(cluster("eu", "us"), lambda: 0.0)
        entries = []
        offsets = {1: 0, 2: 0}
        for stamp in range(chance.randrange(1, 12)):
            origin = chance.choice((1, 2))
            offsets[origin] += chance.choice((1, 2))
            made = entry(origin, offsets[origin], chance.choice((0, 1)), stamp=stamp)
            entries.append(made)
            oracle.committed(made)
        past = {origin: chance.randrange(-1, 14) for origin in (1, 2)}
        for key in (0, 1, 2):
            held = [e for e in entries if e.key == key and e.offset <= past[e.pk]]
            assert oracle.required(key, past) is max(held, key=lambda e: e.rank, default=None)


def test_what_is_forgotten_leaves_one_version_of_a_key() -> None:
    oracle = Oracle(cluster("eu"), lambda: 0.0)
    versions = [entry(1, offset, 0) for offset in range(1, 50)]
    for version in versions:
        oracle.committed(version)
        oracle.forget([version])  # at once: it is the newest then
    assert oracle._keys[0].by_origin == {1: ([49], [versions[-1]])}
    other = entry(2, 1, 0, stamp=100)
    oracle.committed(other)
    oracle.forget([other])
    assert oracle.required(0, {1: 49, 2: 1}) is other
    assert oracle.required(0, {1: 48}) is None


def test_a_past_is_joined_whole() -> None:
    assert joined({1: 5, 2: 1}, {2: 4, 3: 2}, 3, 1) == {1: 5, 2: 4, 3: 2}
    assert joined({}, {1: 1}, 1, 7) == {1: 7}
    assert joined({1: 9, 2: 9}, {1: 3, 4: 1}, 2, 8) == {1: 9, 2: 9, 4: 1}


@attrs.define
class Page:
    """Alice and a key with two versions."""

    oracle: Oracle
    me: Knowledge
    old: Entry
    new: Entry
    counts: Anomalies = attrs.field(factory=Anomalies)

    def shows(self, version: Entry | None, *, promised: bool = True) -> tuple[int, int, int]:
        self.oracle.answered(self.me, 0, version, self.me.past, self.counts, None, promised=promised)
        return self.counts.stale, self.counts.backward, self.counts.acausal


@pytest.fixture
def page() -> Page:
    found = cluster("eu", "us")
    eu, _ = found.servers.values()
    found.lead(eu, 0, 1)
    known(found)
    old, new = (eu.commit(0, 0, n, "alice", NOTHING, {}) for n in (1, 2))
    oracle = Oracle(found, lambda: 3.0)
    oracle.committed(old)
    oracle.committed(new)
    return Page(oracle, Knowledge("alice"), old, new)


def test_less_than_an_own_write_is_stale(page: Page) -> None:
    page.oracle.acknowledged(page.me, page.new)
    assert page.shows(page.new) == (0, 0, 0)
    assert page.shows(page.old) == (1, 1, 1)
    assert [(v.kind, v.at_s, v.session) for v in page.oracle.violations] == [("stale own read", 3.0, "alice")]
    assert page.shows(None, promised=False) == (2, 2, 2)
    assert page.oracle.broken == 1


def test_less_than_what_was_shown_before_goes_backward(page: Page) -> None:
    assert page.shows(page.new) == (0, 0, 0)
    assert page.shows(page.old) == (0, 1, 1)
    assert page.oracle.violations[0].kind == "backward read"


def test_less_than_what_another_revealed_is_acausal(page: Page) -> None:
    reply = Entry(pack(1, 1), 1, 9, 1, 3, "bob", NOTHING, {page.new.pk: page.new.offset})
    page.oracle.learn(page.me, reply)
    assert page.shows(page.old) == (0, 0, 1)
    assert page.oracle.violations[0].kind == "acausal read"


def test_what_is_lost_obliges_nobody_and_its_writer_must_be_told(page: Page) -> None:
    oracle, me = page.oracle, page.me
    oracle.acknowledged(me, page.new)
    log = oracle._cluster.logs[page.new.pk]
    oracle.lost(oracle._cluster.end(log, page.old.offset))
    eu = oracle._cluster.servers["eu"]
    eu.begin_life({0: {1: (1, 1)}, 1: {}})
    counts = Anomalies()
    oracle.answered(me, 0, page.old, me.past, counts, eu.snapshot(0), promised=True)
    assert counts.acausal == 0
    assert [v.kind for v in oracle.violations] == ["loss not said"]
    oracle.violations.clear()
    oracle.told_lost(me, page.new.pk, page.new.offset)
    assert me.own == me.past == {page.new.pk: page.old.offset}
    oracle.answered(me, 0, page.old, me.past, counts, eu.snapshot(0), promised=True)
    assert oracle.violations == []


def test_a_loss_that_is_none_must_not_be_said(page: Page) -> None:
    page.oracle.acknowledged(page.me, page.new)
    page.oracle.told_lost(page.me, page.new.pk, page.new.offset)
    assert [v.kind for v in page.oracle.violations] == ["false loss"]


def test_a_snapshot_must_hold_what_the_session_knows(page: Page) -> None:
    page.oracle.acknowledged(page.me, page.new)
    us = page.oracle._cluster.servers["us"]
    page.oracle.answered(page.me, 5, None, page.me.past, page.counts, us.snapshot(0), promised=True)
    assert [v.kind for v in page.oracle.violations] == ["uncovered snapshot"]


def test_a_write_must_win_over_what_its_writer_knew(page: Page) -> None:
    page.oracle.learn(page.me, page.new)
    late = entry(pack(0, 2), 1, 0, stamp=page.new.stamp - 1)
    page.oracle.committed(late)
    eu = page.oracle._cluster.servers["eu"]
    page.oracle.written(page.me, late, page.me.past, eu)
    assert [v.kind for v in page.oracle.violations] == ["write loses to its cause"]
