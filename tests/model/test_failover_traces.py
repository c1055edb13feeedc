"""Recorded runs in which histories end, or commits are in doubt, are accepted by the model; and rejected at the event that was changed.

The memory engine fails over as servers do: it loses tails, and whoever is cut off goes on as if nothing had happened. The simulator does
so with many users at once.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from causal import CommitUnknown, NoEndpoint, ReadPolicy, WriteLost
from tests.model.recording import Failing, Row, simulated
from tests.model.test_models import needs_tlc
from tests.model.test_traces import changed, nth, same_by_tlc, trace


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """A leader is cut off and replaced, is used meanwhile, and comes back; then commits are in doubt, and a replica restarts."""
    shop = Failing()
    put, get, cluster = shop.put, shop.get, shop.cluster
    first = put("alice", "eu", "photos", "photo")
    for site in ("us", "ap"):
        cluster.catch_up(site)
    assert get("bob", "us", "photos", "photo") == first
    lost = put("alice", "eu", "photos", "photo")
    assert get("dave", "eu", "photos", "photo") == lost
    cluster.cut_off("eu")
    shop.fails_over("eu", "us", "ap")
    # Nobody who can be reached from there knows: what is written there is lost from the start, and shown there.
    deposed = put("erin", "eu", "photos", "album")
    assert get("erin", "eu", "photos", "album") == deposed
    assert isinstance(get("alice", "us", "photos", "photo", forgets=False), WriteLost)
    assert isinstance(put("alice", "us", "photos", "photo"), WriteLost)
    assert get("alice", "us", "photos", "photo") == first
    assert get("dave", "us", "photos", "photo") == first
    cluster.rejoin("eu")  # but nobody tells it that it was replaced: its process hears of that
    other = put("bob", "us", "photos", "album")
    assert get("bob", "eu", "photos", "album") == other
    assert isinstance(put("frank", "eu", "photos", "photo"), NoEndpoint)
    assert isinstance(put("erin", "eu", "photos", "album"), WriteLost)
    cluster.catch_up("eu")
    again = put("frank", "eu", "photos", "photo")
    assert get("frank", "us", "photos", "photo") == again
    for site in ("us", "ap"):
        cluster.catch_up(site)
    # In doubt: one that has happened, and is found out; one that has not.
    cluster.lose_answer("us", committed=True)
    assert isinstance(put("carol", "us", "photos", "photo"), CommitUnknown)
    assert get("carol", "ap", "photos", "photo") == shop.written
    carols = shop.written
    cluster.lose_answer("us", committed=False)
    assert isinstance(put("carol", "us", "posts", "post"), CommitUnknown)
    assert get("carol", "us", "posts", "post") is None
    put("bob", "us", "photos", "album")
    # A replica goes back, under another life.
    cluster.catch_up("ap")
    assert get("greta", "ap", "photos", "photo", ReadPolicy.eventual()) == carols
    cluster.restart("ap", back=2)
    assert get("greta", "ap", "photos", "photo", ReadPolicy.eventual()) == again
    assert get("bob", "ap", "photos", "photo") == carols
    # Another leader is replaced. It has lost nothing, and is served from; but what is written there would be lost.
    for site in shop.sites:
        cluster.catch_up(site)
    cluster.cut_off("us")
    shop.fails_over("us", "eu", "ap")
    cluster.rejoin("us")
    assert get("bob", "us", "photos", "photo") == carols
    assert get("alice", "us", "photos", "photo", ReadPolicy.leader()) == carols  # which asks the others, and is told
    assert isinstance(put("henry", "us", "photos", "photo"), NoEndpoint)
    assert get("henry", "us", "photos", "photo") == carols
    return shop.rows


@pytest.fixture(scope="module")
def whole(rows: list[Row]) -> "trace.Run":
    return trace.events(rows)


# --- what is accepted ------------------------------------------------------------------------------------------------------


def test_a_store_that_fails_over_keeps_to_the_model(whole: "trace.Run") -> None:
    assert trace.rejected(whole) is None
    kinds = [e.op for e in whole.events]
    assert {kind: kinds.count(kind) for kind in ("end", "lost", "forget", "unknown", "refuse")} == {
        "end": 4,
        "lost": 3,
        "forget": 2,
        "unknown": 2,
        "refuse": 5,
    }


MET = ("end", "lost", "forget", "unknown", "refuse", "ack", "read")


def test_so_it_does_whatever_happens() -> None:
    """Sites are cut off, fail over and restart, answers are lost, and who hears of it hears late.

    In the run of seed 182 a mark stands for a commit in doubt that nobody is shown: who reads what was written under it demands that.
    """
    met = dict.fromkeys(MET, 0)
    for seed in (*range(20), 182):
        made = trace.events(Failing(seed).live(100).rows)
        assert trace.rejected(made) is None, (seed, made.events[trace.rejected(made) - 1])
        for kind in MET:
            met[kind] += [e.op for e in made.events].count(kind)
    assert min(met.values()) > 15, met


def replaced() -> Failing:
    """Return a shop in which eu was replaced and does not know; us does, and has seen nothing of eu that is past the end."""
    shop = Failing()
    shop.get("erin", "eu", "photos", "photo")
    shop.get("bob", "us", "photos", "photo")
    shop.put("alice", "ap", "photos", "album")
    shop.cluster.catch_up("eu")
    shop.cluster.cut_off("eu")
    shop.fails_over("eu", "ap")
    shop.cluster.rejoin("eu")
    assert shop.get("bob", "us", "photos", "photo", ReadPolicy.leader()) is None  # which asks, and is told of the end
    return shop


def test_who_is_past_an_end_is_not_read_by_a_process_that_knows_the_end() -> None:
    shop = replaced()
    lost = shop.put("erin", "eu", "photos", "photo")
    assert shop.get("erin", "eu", "photos", "photo") == lost  # nobody there knows
    assert shop.get("alice", "us", "photos", "photo") is None
    assert trace.rejected(trace.events(shop.rows)) is None


def test_nor_is_it_by_a_session_that_has_read_there_before() -> None:
    shop = replaced()
    session = shop.session("alice", "us")
    for write in (None, "erin"):
        if write:
            shop.put(write, "eu", "photos", "photo")
        for _ in range(2):  # the second goes the way of the first, without another decision
            with session.read(shard="photos") as db:
                assert db.get("photo") is None


def test_who_has_never_heard_of_the_origin_of_a_commit_in_doubt_serves_its_writer() -> None:
    """A limit that the specification names: the leader mark asks whom it knows, and this site knows of nobody but itself.

    Had the commit been answered, its position would keep its writer from being served there.
    """
    shop = Failing(sites=("eu", "us"))
    first = shop.put("carol", "eu", "photos", "photo")
    shop.cluster.catch_up("us")
    shop.cluster.cut_off("eu")
    shop.fails_over("eu", "us")
    shop.cluster.rejoin("eu")
    shop.cluster.catch_up("eu")  # it goes on under another origin, and is cut off again before anybody hears of that
    shop.cluster.lose_answer("eu", committed=True)
    assert isinstance(shop.put("carol", "eu", "photos", "photo"), CommitUnknown)
    shop.cluster.cut_off("eu")
    assert shop.get("carol", "us", "photos", "photo") == first
    shop.cluster.rejoin("eu")
    shop.cluster.catch_up("us")
    assert shop.get("carol", "us", "photos", "photo") == shop.written
    made = trace.events(shop.rows)
    assert trace.rejected(made) == nth(made, "read", 0) + 1


def test_a_number_that_is_nobodys_is_that_of_a_write_in_doubt() -> None:
    """Carol's write has happened, and is overwritten before anybody is shown it. Watermarks count it; without her, they must not."""
    shop = Failing()
    shop.put("alice", "eu", "photos", "photo")
    shop.cluster.lose_answer("eu", committed=True)
    assert isinstance(shop.put("carol", "eu", "photos", "photo"), CommitUnknown)
    last = shop.put("alice", "eu", "photos", "photo")
    assert shop.get("bob", "eu", "photos", "photo") == last
    made = trace.events(shop.rows)
    assert [e.op for e in made.events] == ["commit", "ack", "unknown", "number", "commit", "ack", "read"]
    assert trace.rejected(made) is None
    nobody = [row for row in shop.rows if row["session"] != "carol"]
    made = trace.events(nobody)
    assert trace.rejected(made) == nth(made, "commit", 1) + 1
    # Of one such write there is one number, and of another shard's none.
    twice = [*shop.rows[:-1], shop.rows[-1] | {"watermark": {"1": 4, "2": 0, "3": 0}}]
    made = trace.events(twice)
    assert trace.rejected(made) == nth(made, "read", 0) + 1
    elsewhere = [row | ({"shard": 1} if row["session"] == "carol" else {}) for row in shop.rows]
    made = trace.events(elsewhere)
    assert trace.rejected(made) == nth(made, "commit", 1) + 1


@pytest.mark.parametrize("mix", ["failover", "acks", "expiry", "folding"])
def test_the_simulator_keeps_to_the_model(mix: str) -> None:
    met = set()
    for seed in range(20):
        made = trace.events(simulated(seed, mix=mix))
        assert trace.rejected(made) is None, (seed, made.events[trace.rejected(made) - 1])
        met |= {e.op for e in made.events}
    assert met >= ({"unknown"} if mix == "acks" else {"end", "lost", "forget", "in_doubt"})


def ending_twice(run: "trace.Run") -> "trace.Run":
    """Another end of the same origin is told, that is higher than the first: it changes nothing."""
    end = run.events[nth(run, "end", 0)]
    higher = end._replace(offset=end.offset + 2)
    return run._replace(events=(*run.events[: nth(run, "end", 1)], higher, *run.events[nth(run, "end", 1) :]))


def test_of_several_ends_the_lowest_counts(whole: "trace.Run") -> None:
    assert trace.rejected(ending_twice(whole)) is None


@needs_tlc
def test_tlc_says_so_too(whole: "trace.Run", tmp_path: Path) -> None:
    failover = next(
        made
        for made in (trace.events(simulated(seed, mix="failover")) for seed in range(100))
        if {"lost", "in_doubt", "unknown"} & {e.op for e in made.events}
    )
    runs = [whole, ending_twice(whole), trace.events(Failing(3).live(60).rows), failover]
    assert [trace.stops(one) for one in runs] == [len(one.events) + 1 for one in runs]
    same_by_tlc(runs, tmp_path)


# --- what is rejected ------------------------------------------------------------------------------------------------------


Mutated = Iterator[tuple["trace.Run", int]]
NOTHING = {"at": 0, "offset": 0, "stamp": 0}


def without(run: "trace.Run", *gone: int) -> "trace.Run":
    return run._replace(events=tuple(e for place, e in enumerate(run.events) if place not in gone))


def showing(run: "trace.Run", commit: int) -> dict[str, Any]:
    """Return the fields of a read that shows what a commit wrote."""
    return {name: getattr(run.events[nth(run, "commit", commit)], name) for name in ("at", "offset", "stamp")}


def at(frontier: tuple[int, ...], place: int, n: int) -> tuple[int, ...]:
    return trace.put(frontier, place, n)


def untold_loss(run: "trace.Run") -> Mutated:
    """Alice is never told that her write is lost, or does not accept it; and is served at the end of the origin, where it is missing.

    That nobody there has heard of the end is no excuse: then it is behind.
    """
    forget, read = nth(run, "forget", 0), nth(run, "read", 3)
    yield without(run, forget), read - 1
    came = run.events[nth(run, "refuse", 0)].came
    unheard = changed(run, read, ends=(0,) * run.places, came=came, left=came)
    yield without(unheard, *range(nth(run, "lost", 0), forget + 1)), nth(run, "lost", 0)
    # Nor is a read of another shard, of which the endpoint says nothing about that origin.
    other = run.events[nth(run, "read", 8)]
    assert other.mark[run.events[forget].at - 1] == trace.UNKNOWN
    elsewhere = changed(run, read, key=other.key, mark=other.mark, came=came, left=came, life=0, **NOTHING)
    yield without(elsewhere, forget), read - 1


def past_the_end(run: "trace.Run") -> Mutated:
    """What is lost is shown as covered where it is known that the origin has ended before: to dave, who had seen it; to erin; to alice."""
    lost = showing(run, 1)
    for read in (nth(run, "read", 4), nth(run, "read", 3)):
        event = run.events[read]
        yield changed(run, read, mark=at(event.mark, lost["at"], lost["offset"]), **lost), read
    read = nth(run, "read", 2)
    yield changed(run, read, ends=run.events[nth(run, "read", 3)].ends), read


def missing_survivor(run: "trace.Run") -> Mutated:
    """An origin has ended: what survives of it is demanded all the same, of who lost the rest, and of who had seen it."""
    for read in (nth(run, "read", 3), nth(run, "read", 4)):
        event = run.events[read]
        yield changed(run, read, mark=at(event.mark, event.at, 1), life=0, **NOTHING), read


def served_unknown(run: "trace.Run") -> Mutated:
    """Dave is served where nobody has heard of the origin that he demands, as far as it survives; frank, of the one that he wrote to."""
    read = nth(run, "read", 4)
    event = run.events[read]
    yield changed(run, read, mark=at(event.mark, event.at, 0), life=0, **NOTHING), read
    read = nth(run, "read", 6)
    event = run.events[read]
    yield changed(run, read, mark=at(event.mark, event.at, 0), life=0, **showing(run, 0)), read


def deposed_write(run: "trace.Run") -> Mutated:
    """A write is let in by a process that knows that the leader was replaced; or is numbered as if it survived.

    Even where that leader has lost nothing, and may be read.
    """
    refused, read = len(run.events) - 2, run.events[-1]
    assert (run.events[refused].op, read.who) == ("refuse", run.events[refused].who)
    end = max(v.offset for v in run.events if v.op == "commit" and v.at == read.at)
    came = (0,) * run.places
    let_in = read._replace(op="commit", offset=end + 1, stamp=read.stamp + 99, came=came, left=came)
    assert let_in.ends[let_in.at - 1] == end
    yield run._replace(events=(*run.events[:refused], let_in)), refused
    commit = nth(run, "commit", 2)
    event = run.events[commit]
    yield changed(run, commit, ends=run.events[nth(run, "read", 3)].ends), commit
    end = run.events[nth(run, "end", 0)]
    assert end.at == event.at
    later = run.events[nth(run, "end", 0)]._replace(offset=event.offset)
    yield run._replace(events=(*run.events[: nth(run, "end", 0)], later, *run.events[nth(run, "end", 1) :])), commit


def denied_doubt(run: "trace.Run") -> Mutated:
    """A commit in doubt is treated as if it had not happened: its writer is shown what was before, and bob, later, what it wrote.

    Or its number is given to somebody else.
    """
    read = nth(run, "read", 7)
    event = run.events[read]
    mark = at(event.mark, event.at, event.offset - 1)
    yield changed(run, read, mark=mark, left=(), life=0, **showing(run, 4)), read
    commit = nth(run, "commit", 6)
    yield changed(run, commit, offset=event.offset), commit


def foreign_doubt(run: "trace.Run") -> Mutated:
    """Somebody is told to be in doubt of what another wrote; or forgets, over a doubt, what was demanded."""
    unknown = nth(run, "unknown", 0)
    yield changed(run, unknown, who=run.events[0].who, came=(), left=()), unknown
    unknown = nth(run, "unknown", 1)
    yield changed(run, unknown, left=(0,) * run.places), unknown


def false_loss(run: "trace.Run") -> Mutated:
    """What is told as lost survives; or is not the session's own; or is not lost yet."""
    lost, end = nth(run, "lost", 0), nth(run, "end", 0)
    yield changed(run, lost, offset=run.events[end].offset), lost
    yield changed(run, lost, who=run.events[nth(run, "read", 4)].who), lost
    events = list(run.events)
    events.insert(lost, events.pop(end))
    yield run._replace(events=tuple(events)), lost - 1
    doubt = run.events[lost]._replace(op="in_doubt")
    yield run._replace(events=(*run.events[:end], doubt, *run.events[end:])), end


def false_end(run: "trace.Run") -> Mutated:
    """An end is known before there is one; or another than there is: lower, or higher."""
    read, end = nth(run, "read", 0), run.events[nth(run, "end", 0)]
    yield changed(run, read, ends=at(run.events[read].ends, end.at, end.offset)), read
    read = nth(run, "read", 8)
    for other in (end.offset - 1, end.offset + 1):
        yield changed(run, read, ends=at(run.events[read].ends, end.at, other)), read


def forgotten_more(run: "trace.Run") -> Mutated:
    """Who accepts a loss forgets what survives, too; or forgets the loss when told of it."""
    read = nth(run, "read", 3)
    yield changed(run, read, came=(0,) * run.places), read
    refuse = nth(run, "refuse", 0)
    event = run.events[refuse]
    cut = at(event.left, run.events[0].at, run.events[nth(run, "end", 0)].offset)
    yield changed(run, refuse, left=cut), refuse
    yield changed(run, refuse, came=cut), refuse
    # Who has accepted the loss of one write has not accepted that of a later one.
    forget, last = nth(run, "forget", 1), len(run.events) - 1
    earlier = changed(run, forget, offset=run.events[forget].offset - 1)
    yield changed(earlier, last, who=run.events[forget].who, came=(), left=()), last


def one_life(run: "trace.Run") -> Mutated:
    """A server shows less than it did, or than it has numbered, in the same life."""
    before, read = nth(run, "read", 9), nth(run, "read", 10)
    assert not run.events[read].held
    assert not run.events[before].held
    yield changed(run, read, life=run.events[before].life), read
    read = nth(run, "read", 2)
    event = run.events[read]
    yield changed(run, read, mark=at(event.mark, event.at, event.offset - 1), held=False, **NOTHING), read


MUTATIONS: tuple[Callable[["trace.Run"], Mutated], ...] = (
    untold_loss,
    past_the_end,
    missing_survivor,
    served_unknown,
    deposed_write,
    denied_doubt,
    foreign_doubt,
    false_loss,
    false_end,
    forgotten_more,
    one_life,
)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_run_is_rejected_at_the_event(mutation: Callable[["trace.Run"], Mutated], whole: "trace.Run") -> None:
    for number, (mutated, place) in enumerate(mutation(whole)):
        assert trace.rejected(mutated) == place + 1, number


@needs_tlc
def test_tlc_rejects_each_at_the_same_event(whole: "trace.Run", tmp_path: Path) -> None:
    cut = [(mutated, place) for mutation in MUTATIONS for mutated, place in mutation(whole)]
    same_by_tlc([mutated._replace(events=mutated.events[: place + 2]) for mutated, place in cut], tmp_path)


def test_a_write_that_was_refused_at_a_deposed_leader_may_not_be_let_in(rows: list[Row], whole: "trace.Run") -> None:
    """As if henry had not been refused: his process knew what his leader did not. Had it not known, he would have been let in."""
    refused, read = [n for n, row in enumerate(rows) if row.get("session") == "henry"]
    assert rows[refused]["ok"] is False
    before = [row for row in rows if row["op"] == "write" and row["session"] == "bob"][-1]
    origin, offset = before["version"]
    let_in = rows[read] | {"op": "write", "value": 0, "version": [origin, offset + 1], "stamp": before["stamp"] + 99}
    let_in |= {"in": [], "out": [(0, origin, offset + 1)], "ends": rows[refused]["ends"]}
    place = nth(whole, "refuse", 4)
    assert place == len(whole.events) - 2
    assert trace.rejected(trace.events([*rows[:refused], let_in])) == place + 1
    assert trace.rejected(trace.events([*rows[:refused], let_in | {"ends": []}])) is None


def test_what_nobody_wrote_is_not_in_doubt(rows: list[Row], whole: "trace.Run") -> None:
    """A version that no write is known to have made is an answer out of thin air, unless a write in doubt had its value."""
    doubted = next(row for row in rows if row["op"] == "write" and row.get("ok", True) is None)
    other = [row | {"value": 0} if row is doubted else row for row in rows]
    assert trace.rejected(trace.events(other)) == nth(whole, "read", 7)  # one commit less


@pytest.mark.parametrize("seed", range(6))
def test_each_loss_that_is_not_accepted_is_found(seed: int) -> None:
    """Whoever does not accept a loss may not be answered again: the first answer is rejected."""
    made = trace.events(Failing(seed).live(100).rows)
    for place in [n for n, e in enumerate(made.events) if e.op == "forget"]:
        who = made.events[place].who
        found = trace.rejected(without(made, place))
        asks = [e for e in made.events[place + 1 :] if e.who == who and e.op in ("read", "commit", "refuse")]
        later = [e for e in asks if e.op != "read" or e.held]
        assert (found is not None and made.events[found].who == who) or not later
