"""The gate, as docs/spec/gate.md says it: what is known of endpoints, and the decision table, on plain dicts and lists.

Slow on purpose: whatever can be worked out anew is worked out anew. Positions are keyed by (shard, origin).
"""

from typing import Any

NEVER, ALWAYS = float("-inf"), float("inf")
RETRY_S, RECONSIDER_S, TICK_S = 1.0, 0.02, 1e-6
UNCHECKED = ("window", "eventual", "stale")

Known = dict[str, Any]
"""What is known of one endpoint."""
Need = dict[tuple[int, int], int]
Answer = dict[str, Any]


# --- what is known ---------------------------------------------------------------------------------------------------


def world(endpoints: list[dict[str, Any]], news: list[dict[str, Any]]) -> dict[str, Any]:
    """All that follows from the news, in the order in which it came."""
    known: dict[str, Any] = {"ends": {}, "leaders": {}, "heads": {}, "tails": {}, "at": {}}
    for rank, endpoint in enumerate(endpoints):
        known["at"][endpoint["name"]] = {
            "name": endpoint["name"],
            "latency_s": endpoint["latency_s"],
            "holds": None if endpoint.get("holds") is None else set(endpoint["holds"]),
            "serves": endpoint.get("serves", True),
            "rank": rank,
            "applied": {},
            "leads": set(),
            "outlived": set(),
            "life": {},
            "asked": {},
            "asked_at": NEVER,
            "failed": None,
            "tried": -1,
            "tried_at": NEVER,
            "rates": {},
            "stalled_at": None,
        }
    for event in news:
        if "failed" in event:
            e = known["at"][event["failed"]]
            e.update(failed=event["why"], tried=max(e["tried"], event["asked"]), tried_at=event["at_s"])
        elif "acknowledged" in event:
            shard, origin, offset = event["acknowledged"]
            e = known["at"][event["by"]]
            if (shard, origin) in e["leads"] | e["outlived"]:
                e["applied"][shard, origin] = max(e["applied"].get((shard, origin), -1), int(offset))
        else:
            answered(known, event)
    return known


def answered(known: dict[str, Any], event: dict[str, Any]) -> None:
    name, asked, at_s = event["from"], event["asked"], event["at_s"]
    e, says = known["at"][name], {mark["shard"]: mark for mark in event["says"]}
    newer = {shard for shard in says if asked < e["asked"].get(shard, -1)}
    other_life = {shard for shard, mark in says.items() if e["life"].get(shard, mark["life"]) != mark["life"]}
    if newer & other_life:
        return  # of a life that is over
    lives = {e["life"][shard] for shard in other_life}
    gone = {shard for shard, life in e["life"].items() if life in lives}
    was = dict(e["applied"])
    rivals = {key: leader(known, key) for key in known["leaders"]}
    e["applied"] = {k: n for k, n in e["applied"].items() if k[0] not in gone}
    e["leads"] = {k for k in e["leads"] if k[0] not in gone and (k[0] not in says or k[0] in newer)}
    e["outlived"] = {k for k in e["outlived"] if k[0] not in gone and (k[0] not in says or k[0] in newer)}
    e["asked"] = {shard: n for shard, n in e["asked"].items() if shard not in gone}
    e["life"] = {shard: life for shard, life in e["life"].items() if shard not in gone}
    leaders = dict(known["leaders"])
    for shard, mark in says.items():
        e["life"][shard] = mark["life"]
        e["asked"][shard] = max(asked, e["asked"].get(shard, -1))
        for origin, applied, end in mark["origins"]:
            key = shard, origin
            e["applied"][key] = max(int(applied), e["applied"].get(key, -1))
            if end is not None:
                known["ends"][key] = min(int(end), known["ends"].get(key, int(end)))
                leaders.pop(key, None)
                if key in known["heads"]:
                    known["tails"][key] = known["heads"].pop(key)
            elif origin in mark["leads"] and key in known["ends"] and shard not in newer:
                e["outlived"].add(key)
            elif origin in mark["leads"] and shard not in newer:
                e["leads"].add(key)
                rival = rivals.get(key)
                if rival is None or rival is e or rival["asked"].get(shard, -1) < asked:
                    leaders[key] = name
                samples = known["heads"].setdefault(key, [])
                if not samples or at_s >= samples[-1][0]:
                    samples.append((at_s, int(applied)))
    known["leaders"] = leaders
    for other in known["at"].values():
        over = other["leads"] & set(known["ends"])
        other["leads"] -= over
        other["outlived"] |= over
    progress(e, was, known["heads"], at_s)
    e.update(failed=None, tried=max(asked, e["tried"]), tried_at=at_s, asked_at=max(at_s, e["asked_at"]))


def progress(e: Known, was: Need, heads: dict[Any, Any], at_s: float) -> None:
    """How fast it catches up, from one backlog into the next."""

    def newest(key: tuple[int, int]) -> int:
        return int(heads[key][-1][1])

    e["rates"] = {k: rate for k, rate in e["rates"].items() if k in e["applied"]}
    caught = [k for k, n in was.items() if e["applied"].get(k, -1) > n and k in heads and n < newest(k)]
    for key in caught:
        if e["applied"][key] < newest(key) and at_s > e["asked_at"]:
            rate = (e["applied"][key] - was[key]) / (at_s - e["asked_at"])
            e["rates"][key] = rate if key not in e["rates"] else (e["rates"][key] + rate) / 2
        else:
            e["rates"].pop(key, None)
    behind = any(n < newest(k) for k, n in was.items() if k in heads)
    if caught or not behind:
        e["stalled_at"] = None
    elif e["stalled_at"] is None:
        e["stalled_at"] = at_s


def leader(known: dict[str, Any], key: tuple[int, int]) -> Known | None:
    """Who numbers an origin, if it answers and still says so."""
    e: Known | None = known["at"].get(known["leaders"].get(key))
    return e if e is not None and down(known, e) is None and key in e["leads"] else None


def live(known: dict[str, Any]) -> set[tuple[int, int]]:
    """Every origin that anybody has told of, and that is not known to have ended, whether or not its leader answers."""
    if "live" in known:
        found: set[tuple[int, int]] = known["live"]
        return found
    return {k for e in known["at"].values() for k in e["applied"] if k not in known["ends"]} | set(known["leaders"])


def diverged(known: dict[str, Any], e: Known) -> bool:
    return any(e["applied"].get(k, -1) > end for k, end in known["ends"].items())


def down(known: dict[str, Any], e: Known) -> str | None:
    if "down" in known:
        found: str | None = known["down"][e["name"]]
        return found
    return "past an end" if diverged(known, e) else e["failed"]


def part(known: dict[str, Any], shards: set[int]) -> dict[str, Any]:
    """What concerns these shards, where some endpoint holds only some of all; else everything."""
    known = {**known, "all_ends": known["ends"], "all_live": live(known)}
    known["down"] = {name: down(known, e) for name, e in known["at"].items()}
    known["live"] = live(known)
    if all(e["holds"] is None for e in known["at"].values()):
        known["nearest"] = nearest_first(known["at"].values())
        return known

    def of(things: Any) -> Any:
        kept = [k for k in things if k[0] in shards]
        return {k: things[k] for k in kept} if isinstance(things, dict) else set(kept)

    at = {}
    for name, e in known["at"].items():
        holds = shards if e["holds"] is None else e["holds"]
        if shards <= holds or (not e["serves"] and shards & holds):
            asked = {shard: n for shard, n in e["asked"].items() if shard in shards}
            at[name] = {
                **e,
                **{what: of(e[what]) for what in ("applied", "leads", "outlived", "rates")},
                "asked": asked,
                "holds": shards & holds,
                "life": {shard: life for shard, life in e["life"].items() if shard in shards},
            }
    return {
        **known,
        "at": at,
        **{what: of(known[what]) for what in ("ends", "leaders", "heads", "tails", "live")},
        "nearest": nearest_first(at.values()),
    }


def nearest_first(endpoints: Any) -> list[Known]:
    return sorted(endpoints, key=lambda e: (not e["serves"], e["latency_s"], bool(e["leads"]), e["rank"]))


def fresh_since(known: dict[str, Any], e: Known) -> float:
    """Since when an endpoint is shown to miss nothing that had been acknowledged."""
    if not e["asked"]:
        return NEVER

    def mine(key: tuple[int, int]) -> bool:
        return e["holds"] is None or key[0] in e["holds"]

    def shown(key: tuple[int, int], samples: list[tuple[float, int]]) -> float:
        here = e["applied"].get(key, -1)
        return max((t for t, head in samples if head <= here or head == 0), default=NEVER)

    since = [
        shown(k, known["tails"].get(k, []))
        for k, end in known["ends"].items()
        if mine(k) and e["applied"].get(k, -1) < end
    ]
    since += [shown(k, known["heads"].get(k, [])) for k in live(known) if mine(k) and k not in e["leads"]]
    if since:
        return min(since)
    return ALWAYS if e["leads"] else float(e["asked_at"])


# --- the decision ----------------------------------------------------------------------------------------------------


def covers(e: Known, need: Need) -> bool:
    return all(e["applied"].get(k, -1) >= n for k, n in need.items())


def join(a: Need, b: Need) -> Need:
    return {k: max(a.get(k, -1), b.get(k, -1)) for k in {**a, **b}}


def asked_since(e: Known, shards: Any, arrived: int) -> bool:
    if not e["serves"] and e["holds"] is not None:
        shards = [shard for shard in shards if shard in e["holds"]]
    return all(e["asked"].get(shard, -1) > arrived for shard in shards)


def losses(demand: dict[str, Any], known: dict[str, Any]) -> Answer | tuple[Need, list[Any]]:
    """A refusal, or what is left of the need, and what of it no longer counts."""
    own, need = demand["own"], join(demand["own"], demand["seen"])
    stops = dict(known["ends"])
    for key in need:
        who = leader(known, key)
        if key not in stops and who is not None and asked_since(who, [key[0]], demand["arrived"]):
            stops[key] = who["applied"].get(key, -1)
    lost = [(k, n, stops[k]) for k, n in own.items() if k in stops and n > stops[k]]
    if lost:
        return {"decision": "refuse", "why": "lost", "lost": lost}
    if demand["leader_shards"] and demand["mark_origins"]:
        ended = {k[1] for k in known["ends"] if k[0] in demand["leader_shards"]}
        if demand["mark_origins"] != "any":
            ended &= demand["mark_origins"]
        if ended:
            doubt = "any" if demand["mark_origins"] == "any" else sorted(ended)
            return {"decision": "refuse", "why": "doubt", "doubt": doubt}
    clipped = [(k, n, stops[k]) for k, n in need.items() if k in stops and n > stops[k]]
    return {k: min(n, stops.get(k, n)) for k, n in need.items()}, clipped


def contradiction(demand: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether somebody holds a demanded position that whoever numbers it says it never had: nothing is said of what then follows."""
    for key, wanted in join(demand["own"], demand["seen"]).items():
        who = leader(known, key)
        never = (
            who is not None and asked_since(who, [key[0]], demand["arrived"]) and who["applied"].get(key, -1) < wanted
        )
        if never and any(e["applied"].get(key, -1) >= wanted for e in known["at"].values()):
            return True
    return False


def decide(
    demand: dict[str, Any], whole: dict[str, Any], policy: dict[str, Any], elapsed_s: float, now: float, stale_s: float
) -> Answer:
    """The decision table, row by row."""
    return Table(demand, whole, policy, elapsed_s, now, stale_s).decide()


class Table:
    def __init__(self, demand: Any, whole: Any, policy: Any, elapsed_s: float, now: float, stale_s: float) -> None:
        self.demand, self.policy, self.now = demand, policy, now
        self.known = part(whole, demand["shards"])
        self.shards, self.arrived, self.at = demand["shards"], demand["arrived"], demand["at"]
        self.nearest: list[Known] = self.known["nearest"]
        self.oldest = now - (min(policy["bound_s"], stale_s) if policy["strategy"] == "bounded" else stale_s)
        self.left_s = policy["wait_s"] - elapsed_s
        self.unproven = False

    # the words of the table

    def down(self, e: Known) -> str | None:
        return down(self.known, e)

    def worth_asking(self) -> list[Known]:
        return [
            e
            for e in self.nearest
            if self.down(e) is None or (e["tried"] < self.arrived and e["tried_at"] < self.now - RETRY_S)
        ]

    def readable(self) -> list[Known]:
        return [e for e in self.worth_asking() if e["serves"]]

    def candidates(self) -> list[Known]:
        return [e for e in self.readable() if self.at in (None, e["name"])]

    def eligible(self, e: Known) -> bool:
        if self.policy["unproven"] == "serve" or self.at is not None:
            return True
        return fresh_since(self.known, e) >= self.oldest

    def fresh_question(self, e: Known) -> bool:
        return asked_since(e, self.shards, self.arrived)

    def led_elsewhere(self) -> bool:
        return (
            bool(self.nearest)
            and any(not e["serves"] for e in self.nearest)
            and not any(e["serves"] and e["leads"] for e in self.nearest)
        )

    def at_leaders(self) -> set[int]:
        return self.demand["leader_shards"] | (self.shards if self.policy["strategy"] == "leader" else set())

    # answers

    def serve(self, e: Known, how: str, need: Need | None = None, clipped: Any = ()) -> Answer:
        return {
            "decision": "serve",
            "endpoint": e["name"],
            "how": how,
            "need": dict(need or {}),
            "clipped": list(clipped),
            "unproven": self.unproven and how not in UNCHECKED,
        }

    @staticmethod
    def probe(endpoints: list[Known], because: str, within_s: float | None = None) -> Answer:
        names = [e["name"] for e in endpoints]
        return {"decision": "probe", "endpoints": names, "because": because, "within_s": within_s}

    @staticmethod
    def refuse(why: str) -> Answer:
        return {"decision": "refuse", "why": why}

    def time_out(self) -> Answer:
        somebody = any(self.eligible(e) and self.down(e) is None for e in self.candidates())
        return self.refuse("timeout" if somebody else "no endpoint")

    # the rows

    def decide(self) -> Answer:
        answer = self.rows()
        if answer["decision"] == "refuse" and answer["why"] in ("timeout", "no endpoint"):
            untried = [e for e in self.nearest if self.down(e) is not None and e["tried"] < self.arrived]
            if untried:
                return self.probe(untried, "untried")
        return answer

    def rows(self) -> Answer:
        strategy = self.policy["strategy"]
        if strategy == "eventual":
            return self.anybody("eventual")
        if strategy == "leader_window":
            return self.window()
        if strategy == "bounded":
            return self.bounded()
        judged = losses(self.demand, self.known)
        if isinstance(judged, dict):
            return judged
        need, clipped = judged
        for e in self.nearest:
            if e["name"] == self.at and self.down(e) is None and self.replaced(e):
                if not asked_since(e, [self.demand["writes"]], self.arrived):
                    return self.probe([e], "takeover")
                return self.refuse("no endpoint")
        how = "covered"
        if strategy == "quorum":
            how = "quorum"
            asked = self.quorum()
            if "decision" in asked:
                return asked
            need = join(need if self.policy["token"] else {}, asked["need"])
        if self.demand["floor"] is not None:
            need = join(need, self.floor())
        if self.at_leaders():
            how = "leader"
            ends = self.known["ends"]
            need = join(need, {k: end for k, end in ends.items() if k[0] in self.at_leaders()})
            heads = self.heads()
            if "only" in heads:
                return self.serve(heads["only"], how, need, clipped)
            if "decision" in heads:
                return heads
            need = join(need, heads["need"])
        return self.gated(need, how, clipped)

    def anybody(self, how: str) -> Answer:
        for e in self.readable():
            if self.down(e) is None:
                return self.serve(e, how)
        return self.refuse("no endpoint")

    def window(self) -> Answer:
        if self.demand["wrote_ago_s"] is not None and self.demand["wrote_ago_s"] < self.policy["window_s"]:
            for e in self.readable():
                if e["leads"] & set(self.demand["own"]):
                    return self.serve(e, "window")
            if self.led_elsewhere():
                return self.refuse("no endpoint")
        return self.anybody("window")

    def bounded(self) -> Answer:
        for e in self.readable():
            if self.down(e) is None and fresh_since(self.known, e) >= self.oldest:
                return self.serve(e, "bounded")
        ask = [e for e in self.worth_asking() if not self.fresh_question(e)]
        if ask:
            return self.probe(ask, "bound")
        newest = {k: samples[-1][1] for k, samples in self.known["heads"].items() if k[0] in self.shards}
        return self.gated(newest, "bounded", [])

    def quorum(self) -> Answer:
        some = self.readable()[: self.policy["replicas"]]
        if len(some) < self.policy["replicas"]:
            return self.refuse("no endpoint")
        ask = [e for e in some if not self.fresh_question(e)]
        if ask:
            return self.probe(ask, "quorum")
        need: Need = {}
        for e in some:
            need = join(need, {k: n for k, n in e["applied"].items() if k[0] in self.shards})
        return {"need": need}

    def floor(self) -> Need:
        floor, stores = self.demand["floor"], {shard >> 16 for shard in self.shards}
        keys = {k for e in self.nearest for k in e["applied"] if k[0] >> 16 in stores}
        return {k: min(floor, self.known["ends"].get(k, floor)) for k in keys}

    def heads(self) -> Answer:
        shards, marked = self.at_leaders(), bool(self.demand["leader_shards"])
        keys = sorted(k for k in live(self.known) if k[0] in shards)
        who = {k: leader(self.known, k) for k in keys}
        everywhere = {k[1] for k in self.known["all_live"]} | {k[1] for k in self.known["all_ends"]}
        recalled = self.demand["mark_origins"] if self.demand["mark_origins"] != "any" else set()
        unheard = recalled - everywhere
        names = {e["name"] if e else None for e in who.values()}
        only = who[keys[0]] if len(names) == 1 and not unheard else None
        if only is not None and not only["serves"]:
            only = None
        if only is not None and marked:
            others = [e for e in self.worth_asking() if e is not only and not asked_since(e, shards, self.arrived)]
            if others:
                return self.probe(others, "everybody")
        if (
            only is not None
            and self.at is None
            and not asked_since(only, shards, self.arrived)
            and (self.shards <= shards or self.eligible(only))
            and all(e["asked"] for e in self.worth_asking())
        ):
            return {"only": only}
        everybody = None in names or not names or marked or unheard
        ask = [
            e
            for e in self.worth_asking()
            if (everybody or not e["asked"] or e["name"] in names) and not asked_since(e, shards, self.arrived)
        ]
        if ask:
            return self.probe(ask, "heads")
        if unheard:
            return self.refuse("no endpoint")
        need: Need = {}
        for key in keys:
            e = who[key]
            if e is not None and asked_since(e, [key[0]], self.arrived):
                need[key] = e["applied"][key]
            elif self.policy["unproven"] == "refuse":
                return self.refuse("no endpoint")
            else:
                self.unproven = True
        if not keys and not self.worth_asking():
            return self.refuse("no endpoint")
        return {"need": need}

    def gated(self, need: Need, how: str, clipped: list[Any]) -> Answer:
        able = [e for e in self.candidates() if self.down(e) is None and e["asked"]]
        if how == "leader":
            able.sort(key=lambda e: not e["leads"])
        if how != "leader" or not self.shards <= self.at_leaders():
            able = [e for e in able if self.eligible(e)]
        covering = [e for e in able if covers(e, need)]
        for e in covering:
            if how != "covered" or not self.spared(e, need):
                return self.serve(e, how, need, clipped)
        best = covering[0] if covering else None
        if self.left_s > TICK_S:
            step = self.ask_or_wait(need, best, how)
            if step is not None:
                return step
        then = self.policy["then"]
        if best is not None and then == "leader":
            return self.serve(best, "fallback", need, clipped)
        if then == "stale" and self.at is None:
            return self.anybody("stale")
        if then == "leader" and self.at is None:
            return self.fall_back(need, clipped)
        return self.time_out()

    def replaced(self, e: Known) -> bool:
        """Whether all that it says that it numbers of the shard that is written has ended, and it does not say so."""
        claims = {k for k in e["leads"] | e["outlived"] if k[0] == self.demand["writes"]}
        return bool(claims) and claims <= set(self.known["ends"])

    def spared(self, e: Known, need: Need) -> bool:
        if not e["leads"] or self.at is not None or e is self.nearest[0]:
            return False
        wanted = {k for k in need if k not in self.known["ends"]}
        return not wanted or bool(e["leads"] & wanted)

    def ask_or_wait(self, need: Need, best: Known | None, how: str) -> Answer | None:
        waits: list[tuple[tuple[float, float], Answer]] = []
        nearest_s = ALWAYS
        for e in self.candidates():
            if e is best:
                break
            if how != "leader" and (e["latency_s"] > nearest_s or (waits and e["leads"])):
                break
            if not self.fresh_question(e):
                return self.probe([e], "older", self.within([e], need))
            lacking = self.lacking(e, need)
            if lacking is None:
                ask = self.unheard_leaders()
                if ask:
                    return self.probe(ask, "unproven", self.within(ask, need))
                continue
            estimate = self.estimate(e, lacking)
            if estimate is None or estimate <= self.left_s:
                kind = "behind" if lacking == need or not covers(e, need) else "unproven"
                wait = {
                    "decision": "wait",
                    "endpoint": e["name"],
                    "need": dict(lacking),
                    "for_s": self.left_s,
                    "because": kind,
                }
                waits.append(((ALWAYS if estimate is None else estimate, e["asked_at"]), wait))
                nearest_s = e["latency_s"]
        if not waits:
            return None
        chosen = min(waits, key=lambda wait: wait[0])[1]
        if len(waits) > 1:
            chosen["for_s"] = min(self.left_s, max(RECONSIDER_S, self.left_s / 8))
        return chosen

    def unheard_leaders(self) -> list[Known]:
        anybody = any(leader(self.known, k) is None for k in live(self.known))
        return [e for e in self.worth_asking() if (e["leads"] or anybody) and not self.fresh_question(e)]

    def within(self, asked: list[Known], need: Need) -> float | None:
        for e in self.candidates():
            if e not in asked and self.down(e) is None and e["asked"] and self.eligible(e):
                if self.policy["then"] != "leader":
                    return self.left_s / 2
                if covers(e, need) or e["leads"] >= {k for k in need if k not in self.known["ends"]}:
                    return self.left_s
        return None

    def lacking(self, e: Known, need: Need) -> Need | None:
        """What an endpoint must yet apply to be served; None if nothing known could show it to be fresh."""
        if self.eligible(e):
            return need
        fresh: Need = {}
        for key in live(self.known):
            if key not in e["leads"]:
                recent = [head for t, head in self.known["heads"].get(key, []) if t >= self.oldest]
                if not recent:
                    return None
                fresh[key] = min(recent)
        lacking = join(join(need, self.known["ends"]), fresh)
        return None if covers(e, lacking) else lacking

    def estimate(self, e: Known, need: Need) -> float | None:
        if e["stalled_at"] is not None and self.now - e["stalled_at"] > self.policy["wait_s"]:
            return ALWAYS
        gaps = [
            (n - e["applied"].get(k, -1)) / e["rates"][k]
            for k, n in need.items()
            if n > e["applied"].get(k, -1) and e["rates"].get(k)
        ]
        return max(gaps) if gaps else None

    def fall_back(self, need: Need, clipped: list[Any]) -> Answer:
        if self.led_elsewhere():
            return self.time_out()
        wanted = {k for k in need if k not in self.known["ends"]}
        some = [e for e in self.readable() if (e["leads"] & wanted if wanted else e["leads"])]
        if not some or any(leader(self.known, k) is None for k in wanted):
            some = self.readable()
        ask = [e for e in some if not self.fresh_question(e)]
        for e in ask:
            if self.down(e) is None and e["leads"] and e["leads"] >= wanted and self.eligible(e):
                return self.serve(e, "fallback", need, clipped)
        if ask:
            return self.probe(ask, "takeover")
        return self.time_out()


# --- the snapshot ----------------------------------------------------------------------------------------------------


def admits(
    demand: dict[str, Any],
    whole: dict[str, Any],
    policy: dict[str, Any],
    serve: dict[str, Any],
    snapshot: list[dict[str, Any]],
    at_s: float,
    stale_s: float,
    ends: Need,
) -> bool:
    """Whether a snapshot bears a decision out, at `at_s`, when it was taken. `ends` are those that are known by then."""
    how, need = serve["how"], serve["need"]
    if how in UNCHECKED:
        return True
    known = part(whole, demand["shards"])
    e = known["at"][serve["endpoint"]]
    of = {mark["shard"]: mark for mark in snapshot if e["holds"] is None or mark["shard"] in e["holds"]}
    for shard, mark in of.items():
        if e["life"].get(shard) != mark["life"]:
            return False
        for origin, applied, end in mark["origins"]:
            if end is not None and int(applied) > int(end):
                return False
            if int(applied) > ends.get((shard, origin), int(applied)):
                return False
            if (end is None or int(applied) < int(end)) and (shard, origin) not in e["applied"]:
                return False
    if any(
        shard in of and (origin not in of[shard]["leads"] or (shard, origin) in ends) for shard, origin in e["leads"]
    ):
        return False
    for (shard, origin), wanted in need.items():
        if shard in of:
            here = [int(applied) for which, applied, _ in of[shard]["origins"] if which == origin]
        else:
            here = [e["applied"].get((shard, origin), -1)]
        if not here or here[0] < wanted:
            return False
    at_leaders = demand["leader_shards"] | (demand["shards"] if policy["strategy"] == "leader" else set())
    current = how == "leader" and demand["shards"] <= at_leaders
    if current or demand["at"] is not None or policy["unproven"] == "serve":
        return True
    limit_s = min(policy["bound_s"], stale_s) if policy["strategy"] == "bounded" else stale_s
    return fresh_since(known, e) >= at_s - limit_s


# --- the demand ------------------------------------------------------------------------------------------------------


def counts(guarantees: list[str], kind: str) -> tuple[bool, bool]:
    """Whether own, and whether seen positions count."""
    if kind == "read":
        return "read_your_writes" in guarantees or "monotonic_reads" in guarantees, "monotonic_reads" in guarantees
    return "monotonic_writes" in guarantees or "writes_follow_reads" in guarantees, "writes_follow_reads" in guarantees


def demanded(
    own: dict[str, Any],
    seen: dict[str, Any],
    store: int,
    shard: int,
    counted: tuple[bool, bool],
    every: list[int] | None,
    everywhere: int,
) -> dict[str, Any]:
    """What a block on `shard` of `store` demands. `every`: all shards of the store, where dependencies travel."""
    concerned = [shard] if every is None else every

    def here(frontier: dict[str, Any]) -> Need:
        return {
            (s, o): int(n)
            for s, o, n in frontier.get("entries", [])
            if s >> 16 == store and (every is not None or s == shard)
        }

    mine, theirs = (here(frontier) if it else {} for frontier, it in zip((own, seen), counted, strict=True))
    marks = [mark for number, mark in seen.get("marks", []) if number in (store, everywhere)] if any(counted) else []
    origins: Any = set()
    for mark in marks:
        origins = "any" if "any" in (origins, mark["origins"]) else origins | set(mark["origins"])
    floors = [int(n) for number, n in seen.get("floors", []) if number == store]
    return {
        "own": mine,
        "seen": theirs,
        "shards": {shard, *(s for s, _ in mine), *(s for s, _ in theirs)},
        "leader_shards": {s for s in concerned if any(s not in mark["exact"] for mark in marks)},
        "mark_origins": origins,
        "floor": floors[0] if floors and counted[1] else None,
    }
