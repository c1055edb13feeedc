"""No property of the models holds for want of a case: each run that holds comes by the cases that its properties are about.

A witness is a step (state, action, next state) of the run with every rule on. Where its property says "whatever is lost is told", there
is a step in which something is lost. The mirror's states are those of TLC: their numbers are compared elsewhere.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "docs/spec/model"))
MODELS = importlib.import_module("mirror").MODELS
bfs = importlib.import_module("mirror.bfs")
failover = importlib.import_module("mirror.failover")
news = importlib.import_module("mirror.news")
shards = importlib.import_module("mirror.shards")

Witness = Callable[[Any, tuple, Any], bool]
SESSIONS = (0, 1)
LIVE = 99


def ends(s: Any) -> tuple:
    """Where origins end in truth, in a state of News."""
    return news.tells(s[1][s[0]], len(s[3][0]))


GATE: dict[str, Witness] = {
    "an own write is not applied somewhere": lambda s, a, t: any(
        s[4][c][k] > s[1][k][r] for c in SESSIONS for k in (0, 1) for r in (0, 1)
    ),
    "what was shown is not applied somewhere": lambda s, a, t: any(
        s[5][c][k] > s[1][k][r] for c in SESSIONS for k in (0, 1) for r in (0, 1)
    ),
    "what was neither written nor shown is in the past, and not applied somewhere": lambda s, a, t: any(
        s[3][c][k] > max(s[4][c][k], s[5][c][k], s[1][k][r]) for c in SESSIONS for k in (0, 1) for r in (0, 1)
    ),
    "a read is served that demands something": lambda s, a, t: a[0] == "read" and s[2][a[1]][a[2]] > 0,
    "a write is put behind one that its session has not seen": lambda s, a, t: (
        a[0] == "write" and len(s[0][a[2]]) > s[2][a[1]][a[2]]
    ),
}

SPLIT: dict[str, Witness] = {
    "a replica goes on between a read's two steps": lambda s, a, t: a[0] == "end" and s[1][a[2]][a[3]] > s[6][a[1]][2],
}

FAILOVER: dict[str, Witness] = {
    "an own write is lost, and told": lambda s, a, t: a[0] == "told",
    "a lost position was seen, and is clipped in a read": lambda s, a, t: (
        a[0] == "read" and any(n > failover.end(s[0], o) for o, n in enumerate(s[6][a[1]], 1) if o <= len(s[0]))
    ),
    "a server holds what is lost": lambda s, a, t: any(failover.diverged(s[0], log) for log in s[2]),
    "a position of the photos comes from the posts, and is missing somewhere": lambda s, a, t: (
        a[0] == "posts" and any(x > y for x, y in zip(t[6][a[1]], s[6][a[1]], strict=True)) and len(set(s[2])) > 1
    ),
    "one is told of a loss, and goes on to write": lambda s, a, t: (
        a[0] == "write" and len(s[0]) == 2 and s[5][a[1]][0] == failover.end(s[0], 1) >= 1
    ),
    "the old leader rejoins": lambda s, a, t: a[0] == "rejoin",
}

TWICE: dict[str, Witness] = {
    "an origin ends that began with a failover": lambda s, a, t: a[0] == "failover" and len(t[0]) == 3,
    "who was told of one loss has another": lambda s, a, t: a[0] == "told" and len(s[0]) == 3,
}

CACHE: dict[str, Witness] = {
    "a server goes back, of which more was noted": lambda s, a, t: (
        a[0] == "restart" and len(s[3][a[1]]) > len(t[2][a[1]])
    ),
    "a server is read by an older watermark": lambda s, a, t: a[0] == "read" and s[3][a[2]] != s[2][a[2]],
}

SHARDS: dict[str, Witness] = {
    "both shards have failed over, and are read": lambda s, a, t: a[0] == "read" and [len(b) for b in s[0]] == [2, 2],
    "each server holds what is lost of one shard, and leads the other": lambda s, a, t: all(
        shards.diverged(s[2], shards.ends(s[0]), x) and x in s[1] for x in (0, 1)
    ),
    "a dependency is read whose two ends are lost": lambda s, a, t: (
        a[0] == "read" and {p[0] for p in shards.lost(s[4][1], shards.ends(s[0]))} == {0, 1}
    ),
    "one writes to a shard whose loss on the other was accepted": lambda s, a, t: (
        a[0] == "write"
        and any(n == end > 0 for n, end in zip(s[3][0][1 - a[2]], shards.ends(s[0])[1 - a[2]], strict=True))
    ),
}

ALONE: dict[str, Witness] = {
    "own writes are lost on both shards": lambda s, a, t: (
        {p[0] for p in shards.lost(s[3][0], shards.ends(s[0]))} == {0, 1}
    ),
    "a shard fails over between what is told of the other and its acceptance": lambda s, a, t: (
        a[0] == "failover" and bool(s[7][0])
    ),
    "one is told of a loss, accepts it, and is told of another": lambda s, a, t: (
        a[0] == "told" and any(len(b) == 2 and own[0] == b[1] - 1 for own, b in zip(s[3][0], s[0], strict=True))
    ),
}

NEWS: dict[str, Witness] = {
    "one process knows of an end, the other does not": lambda s, a, t: s[3][0] != s[3][1],
    "a loss is not known yet where it is asked for": lambda s, a, t: (
        a[0] == "read" and news.exceeds(s[5][a[1]], ends(s))
    ),
    "one who was told at one process comes to one that does not know": lambda s, a, t: (
        a[0] == "read" and s[3][a[2]] == (LIVE, LIVE) != s[3][1 - a[2]] and s[5][a[1]][0] == ends(s)[0]
    ),
    "a write is admitted before its origin ends, and committed after its process has heard of it": lambda s, a, t: (
        a[0] == "commit" and s[3][s[9][a[1]][0]][s[2][a[2]] - 1] != LIVE
    ),
    "a write that was lost from the start is told as lost": lambda s, a, t: (
        a[0] == "told" and s[5][a[1]][0] > ends(s)[0] + 1
    ),
    "a commit is refused for what its session has learned": lambda s, a, t: any(
        block
        and block[2]
        and not news.exceeds(s[5][c], news.least(s[3][block[0]], ends(s)))
        and news.exceeds(news.least(s[6][c], s[3][block[0]]), news.shown(s[1][block[1]], 2))
        for c, block in enumerate(s[9])
    ),
    "a server says that it numbers what its asker knows to have ended": lambda s, a, t: any(
        num and known[num - 1] != LIVE for num in s[2] for known in s[3]
    ),
    "what is lost is read by who cannot know": lambda s, a, t: (
        a[0] == "read" and news.exceeds(news.shown(s[1][a[3]], 2), ends(s))
    ),
    "a lost position that was seen is clipped": lambda s, a, t: a[0] == "read" and news.exceeds(s[6][a[1]], s[3][a[2]]),
    "a write under way is given up by who was replaced": lambda s, a, t: (
        a[0] in ("rejoin", "replicate") and any(s[9][c] and not t[9][c] for c in SESSIONS)
    ),
}

ORIGINS: dict[str, Witness] = {
    "a demanded origin is not listed somewhere, though it has writes": lambda s, a, t: a[0] == "ship" and a[2] == 2,
    "a leader read demands more than its token": lambda s, a, t: (
        a[0] == "answer" and any(x > y for x, y in zip(s[4][a[1]][0], s[2][a[1]], strict=True))
    ),
    "a leader read waits for a head": lambda s, a, t: any(
        s[4][c] and any(n > h for n, h in zip(s[4][c][0], here, strict=True)) for c in SESSIONS for here in s[0]
    ),
    "more is written while a leader read waits": lambda s, a, t: a[0] == "write" and bool(s[4][1 - a[1]]),
    "a session writes at one site what it is to see at another": lambda s, a, t: (
        a[0] == "write" and sum(n > 0 for n in s[2][a[1]]) > 0
    ),
}

JOINING: dict[str, Witness] = {
    "a token demands what only some list": lambda s, a, t: any(token[2] for token in s[2]) and len(s[1]) == 1,
}

EXPIRY: dict[str, Witness] = {
    "a token is dropped while its write is not applied": lambda s, a, t: a[0] == "drop" and s.applied < s.wrote,
    "a read without a token is served": lambda s, a, t: a[0] == "read" and s.wrote > 0 == s.token,
    "a wall clock is ahead, and drops early": lambda s, a, t: a == ("drop", 1) and s.ahead > 0 and s.now < s.expires,
    "a wall clock is behind, and drops late": lambda s, a, t: a == ("drop", 1) and s.ahead < 0,
    "a question is answered late": lambda s, a, t: a[0] == "answer" and s.local > s.asked[0] and s.head > s.asked[1],
    "an applied head is too old": lambda s, a, t: (
        s.sample is not None and s.applied >= s.sample[1] and s.local > s.sample[0] + 2
    ),
}

EXPIRY_LIVE: dict[str, Witness] = {
    "evidence is too old, and asked for again": lambda s, a, t: (
        a[0] == "ask" and s.sample is not None and s.local > s.sample[0] + 2
    ),
}

EXPIRY_DEATHS: dict[str, Witness] = {
    "a token is dropped that nobody could have met": lambda s, a, t: a[0] == "drop" and s.token > s.head,
    "a head is evidence that nobody has any more": lambda s, a, t: s.sample is not None and s.sample[1] > s.head,
}

COMPACTION_LIVE: dict[str, Witness] = {
    "a floor is above whatever survives, and a heartbeat reaches it": lambda s, a, t: (
        a[0] == "beat" and s.floor > max(here[o] for here in s.applied for o in (0, 1) if s.end[o] is None)
    ),
}

WAITING: dict[str, Witness] = {
    "several are woken by one answer": lambda s, a, t: a[0] == "wake" and len(s.queue) - len(t.queue) == 2,
    "one is woken, and another polls on": lambda s, a, t: (
        a[0] == "wake" and bool(t.queue) and len(t.queue) < len(s.queue)
    ),
    "one comes while an answer is under way that covers it": lambda s, a, t: (
        a[0] == "come" and a[1] in t.queue and max(s.heard) > a[1]
    ),
    "one comes who is covered": lambda s, a, t: a[0] == "come" and t.pc[a[1]] == "done",
    "the polling is handed to who sleeps": lambda s, a, t: a[0] == "leave" and len(a) > 2 and s.pc[a[2]] == "asleep",
    "the polling is handed to who is about to leave": lambda s, a, t: (
        a[0] == "leave" and len(a) > 2 and s.pc[a[2]] == "leaving"
    ),
    "one whose time is up was woken meanwhile": lambda s, a, t: a[0] == "leave" and a[1] in s.event,
    "an endpoint fails at which somebody waits, and all are woken": lambda s, a, t: (
        a[0] == "wake" and -1 in s.heard and bool(s.queue)
    ),
}

COMPACTION: dict[str, Witness] = {
    "a floor is above what survives of an origin": lambda s, a, t: any(e is not None and s.floor > e for e in s.end),
    "a floor refuses who has nothing of an origin": lambda s, a, t: (
        s.floor > 0 and any(0 in here for here in s.applied)
    ),
    "a mark stands for an own write that is lost": lambda s, a, t: (
        s.mark and any(s.end[o] is not None and s.mine[o] > s.end[o] for o in s.recall)
    ),
    "a read under a mark is served": lambda s, a, t: a[0] == "read" and s.mark,
    "a mark is there, and a write is missing at a leader": lambda s, a, t: (
        s.mark and any(s.applied[e][o] < s.mine[o] for e in (0, 1) for o in (0, 1) if s.end[e] is None)
    ),
    "what could not be opened had demanded something": lambda s, a, t: a[0] == "unopenable" and s.mine != (0, 0),
    "a loss is told of what is listed": lambda s, a, t: (
        a[0] == "told" and any(e is not None and n > e for e, n in zip(s.end, s.own, strict=True))
    ),
    "a doubt is told": lambda s, a, t: a[0] == "told" and s.mark and any(s.end[o] is not None for o in s.recall),
}

TOMBSTONES: dict[str, Witness] = {
    "a tombstone is collected": lambda s, a, t: t[5] > s[5],
    "a put that is older than a tombstone comes after it": lambda s, a, t: (
        a[0] == "apply" and s[4] == t[4] and s[4][a[1]][2] == "delete"
    ),
    "somebody joins after something was collected": lambda s, a, t: len(t[0]) > len(s[0]) and s[5] > 0,
    "a key is put again after it was collected": lambda s, a, t: (
        s[5] > 0 and any(v[2] == "put" and v[0] > s[5] for v in s[4])
    ),
    "an idle site beats": lambda s, a, t: a[0] == "beat",
}

CARRIERS: dict[str, Witness] = {
    "a browser holds several cookies": lambda s, a, t: len(s[0]) > 1,
    "answers arrive out of order": lambda s, a, t: a[0] == "arrive" and a[1] > 0 and s[1][a[1] - 1] != t[1][a[1]],
    "an answer takes back what another request has presented": lambda s, a, t: (
        a[0] == "arrive" and len(t[0]) <= len(s[0])
    ),
    "an answer is lost": lambda s, a, t: a[0] == "lose",
}

CLOCK: dict[str, Witness] = {
    "a wall clock steps back": lambda s, a, t: a[0] == "back",
    "a counter carries": lambda s, a, t: any(
        t[3][n] % 2 == 0 < s[3][n] % 2 and t[3][n] == s[3][n] + 1 and t[3][n] // 2 > s[0][n] for n in (0, 1)
    ),
    "a clock is ahead of its wall": lambda s, a, t: any(s[3][n] // 2 > s[0][n] for n in (0, 1)),
}

RUNS = {
    "gate": GATE,
    "gate-split": SPLIT,
    "failover": FAILOVER,
    "failover-twice": TWICE,
    "failover-cache": CACHE,
    "shards": SHARDS,
    "shards-alone": ALONE,
    "news": NEWS,
    "origins": ORIGINS,
    "origins-joining": JOINING,
    "expiry": EXPIRY,
    "expiry-live": EXPIRY_LIVE,
    "expiry-deaths": EXPIRY_DEATHS,
    "compaction": COMPACTION,
    "compaction-live": COMPACTION_LIVE,
    "waiting": WAITING,
    "tombstones": TOMBSTONES,
    "carriers": CARRIERS,
    "clock": CLOCK,
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_holds_comes_by_the_cases_that_it_is_about(name: str) -> None:
    model_name, _, config_name = name.partition("-")
    model = MODELS[model_name]
    config = next(c for c in model.configs if c.name == config_name)
    machine, missing = model.built(config), dict(RUNS[name])
    seen = dict.fromkeys(machine.initial)
    for state in (queue := list(seen)):
        if not missing:
            break
        for action, then in machine.after(state):
            for witness in [w for w, met in missing.items() if met(state, action, then)]:
                del missing[witness]
            if then not in seen:
                seen[then] = None
                queue.append(then)
    assert not missing


def test_every_model_has_witnesses() -> None:
    """A cache's have their own: the stories of its tests."""
    assert {name.partition("-")[0] for name in RUNS} == MODELS.keys() - {"cachefill"}


@pytest.mark.parametrize("rule", ["EXACT", "EACH_SHARD"])
def test_it_takes_two_shards_that_fail_over_to_need_a_rule(rule: str) -> None:
    """Without it, one shard that fails over breaks nothing; both of them do, as the runs without it show."""
    model = MODELS["shards"]
    config = next(c for c in model.configs if c.rule == rule)
    assert not bfs.check(model, bfs.Config("", {**config.constants, "Both": False})).violated
    assert bfs.check(model, bfs.Config("", config.constants)).violated == config.violates
