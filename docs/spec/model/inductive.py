"""Proves single steps of the rules for offsets of any size, where the models of this folder try every run within small bounds.

    python docs/spec/model/inductive.py        prints the table: each step, and what happens without its rule

A step is an implication over unbounded integers: if the rule is followed (and the invariant held before), the conclusion holds. z3 is
asked for a counterexample and must find none. Each step has a negative, the same implication with the rule taken out (of the join's
algebra: with another operation in its place): there z3 must find one. The tests ask, too, whether any case meets
each premise. Three shards, or three origins of one shard; -1 is "nothing".

What is not proved here: that a system takes no other steps than these (the models say which there are), and nothing of liveness.
Needs z3-solver. Ends with status 1 if any step is not as it must be.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

import z3

RADIX = 1 << 16
THREE = range(3)
ABSENT = -1


@dataclass(frozen=True)
class Step:
    """One step: `claim(True)` is valid, `claim(False)` (the rule taken out) is not."""

    name: str
    rule: str
    claim: Callable[[bool], z3.BoolRef]


STEPS: list[Step] = []
_fresh = count()


def step(name: str, rule: str) -> Callable[[Callable[[bool], z3.BoolRef]], Callable[[bool], z3.BoolRef]]:
    """Enter a claim into the table."""

    def enter(claim: Callable[[bool], z3.BoolRef]) -> Callable[[bool], z3.BoolRef]:
        STEPS.append(Step(name, rule, claim))
        return claim

    return enter


def counterexample(claim: z3.BoolRef) -> z3.ModelRef | None:
    """Return values that refute a claim, None if there are none. z3's "unknown" is an error, never a proof."""
    solver = z3.Solver()
    solver.add(z3.Not(claim))
    answer = solver.check()
    if answer == z3.unknown:
        raise RuntimeError(f"z3 does not know: {solver.reason_unknown()}")
    return solver.model() if answer == z3.sat else None


# --- vectors -----------------------------------------------------------------------------------------------------------

Vector = list[z3.ArithRef]


def number(name: str) -> z3.ArithRef:
    """Return a new unknown integer."""
    return z3.Int(f"{name}.{next(_fresh)}")


def truth(name: str) -> z3.BoolRef:
    """Return a new unknown truth value."""
    return z3.Bool(f"{name}.{next(_fresh)}")


def vector(name: str, size: int = 3) -> Vector:
    """Return new unknown integers, one a shard (or an origin)."""
    return [number(f"{name}{i}") for i in range(size)]


def larger(a: z3.ArithRef, b: z3.ArithRef) -> z3.ArithRef:
    """Return the larger of two."""
    return z3.If(a >= b, a, b)


def smaller(a: z3.ArithRef, b: z3.ArithRef) -> z3.ArithRef:
    """Return the smaller of two."""
    return z3.If(a <= b, a, b)


def join(a: Vector, b: Vector) -> Vector:
    """Return the pointwise maximum."""
    return [larger(x, y) for x, y in zip(a, b, strict=True)]


def above(a: Vector, b: Vector) -> z3.BoolRef:
    """Say that one vector dominates another."""
    return z3.And(*(x >= y for x, y in zip(a, b, strict=True)))


def natural(*vectors: Vector) -> z3.BoolRef:
    """Say that there is nothing below "nothing"."""
    return z3.And(*(x >= ABSENT for v in vectors for x in v))


def at(which: z3.ArithRef, offset: z3.ArithRef, rest: Vector) -> Vector:
    """Return a vector with the place of one shard, which is itself unknown, replaced."""
    return [z3.If(which == i, offset, x) for i, x in enumerate(rest)]


def of(which: z3.ArithRef, v: Vector) -> z3.ArithRef:
    """Return the place of one shard."""
    return z3.If(which == 0, v[0], z3.If(which == 1, v[1], v[2]))


def shard() -> tuple[z3.ArithRef, z3.BoolRef]:
    """Return an unknown shard, and that it is one."""
    which = number("shard")
    return which, z3.And(which >= 0, which < len(THREE))


# --- the gate ------------------------------------------------------------------------------------------------------------


@step("gate: a served snapshot covers the demand", "the watermark is taken no later than the snapshot")
def gate_soundness(rule: bool) -> z3.BoolRef:
    demand, mark, snapshot = vector("demand"), vector("watermark"), vector("snapshot")
    order = above(snapshot, mark) if rule else natural(snapshot)
    return z3.Implies(z3.And(order, above(mark, demand)), above(snapshot, demand))


@step("gate: a read misses nothing of the session's past", "a read is served only where the demand is applied")
def gate_read(rule: bool) -> z3.BoolRef:
    token, past, snapshot = vector("token"), vector("past"), vector("snapshot")
    served = above(snapshot, token) if rule else natural(snapshot)
    return z3.Implies(z3.And(above(token, past), served), above(snapshot, past))


@step("causal: a read keeps token >= past", "the token joins the dependencies of what was read")
def causal_read(rule: bool) -> z3.BoolRef:
    token, past = vector("token"), vector("past")
    stored, cause = vector("stored"), vector("cause")  # of the newest version in the snapshot
    s, is_shard = shard()
    shown = number("shown")
    before = z3.And(is_shard, above(token, past), above(stored, cause), natural(token, past, stored, cause))
    seen = at(s, shown, stored if rule else [z3.IntVal(ABSENT)] * 3)
    return z3.Implies(before, above(join(token, seen), join(past, at(s, shown, cause))))


def written(*, merge: bool, ack: bool) -> z3.BoolRef:
    """A write of offset n + 1 behind n versions: what it stores, what its writer's token becomes, and both pasts."""
    token, past = vector("token"), vector("past")
    stored, cause = vector("stored"), vector("cause")  # of the version before it in its log
    s, is_shard = shard()
    n = number("n")
    before = z3.And(is_shard, n >= 0, above(token, past), above(stored, cause), natural(token, past, stored, cause))
    mine = at(s, n + 1, token)
    kept = join(mine, stored) if merge else at(s, n + 1, [z3.IntVal(ABSENT)] * 3)
    caused = join(at(s, n + 1, past), cause)
    acked = join(mine, kept) if ack else mine
    return z3.Implies(
        z3.And(before, of(s, token) <= n, of(s, past) <= n), z3.And(above(kept, caused), above(acked, caused))
    )


@step("causal: a write stores at least its past", "a version stores its writer's token, joined with its log's")
def causal_write(rule: bool) -> z3.BoolRef:
    return written(merge=rule, ack=True)


@step("causal: an acknowledgement keeps token >= past", "the acknowledgement returns what was stored")
def causal_ack(rule: bool) -> z3.BoolRef:
    return written(merge=True, ack=rule)


# --- the clock ------------------------------------------------------------------------------------------------------------


def instants() -> tuple[z3.ArithRef, z3.ArithRef, z3.ArithRef, z3.BoolRef]:
    """Return the last timestamp, a remote one and the wall clock's milliseconds, and their range."""
    last, remote, wall = number("last"), number("remote"), number("wall")
    return last, remote, wall, z3.And(last >= ABSENT, remote >= 0, wall >= 0)


def tick(last: z3.ArithRef, wall: z3.ArithRef) -> z3.ArithRef:
    """The next timestamp of a local event."""
    return larger(last + 1, wall * RADIX)


def merge(last: z3.ArithRef, remote: z3.ArithRef, wall: z3.ArithRef) -> z3.ArithRef:
    """The next timestamp, above a remote one as well."""
    return larger(larger(last, remote) + 1, wall * RADIX)


@step("clock: a tick increases", "one above the last, whatever the wall says")
def clock_tick(rule: bool) -> z3.BoolRef:
    last, _, wall, fine = instants()
    return z3.Implies(fine, (tick(last, wall) if rule else wall * RADIX) > last)


@step("clock: a merge increases, and exceeds the remote time", "the remote timestamp takes part in the maximum")
def clock_merge(rule: bool) -> z3.BoolRef:
    last, remote, wall, fine = instants()
    made = merge(last, remote, wall) if rule else tick(last, wall)
    return z3.Implies(fine, z3.And(made > last, made > remote))


@step("clock: never below the wall", "the wall takes part in the maximum")
def clock_wall(rule: bool) -> z3.BoolRef:
    last, remote, wall, fine = instants()
    made = merge(last, remote, wall) if rule else larger(last, remote) + 1
    return z3.Implies(fine, made / RADIX >= wall)


@step("clock: the drift stays bounded", "a remote time too far ahead is refused")
def clock_drift(rule: bool) -> z3.BoolRef:
    last, remote, wall, fine = instants()
    drift, highest, events = number("drift"), number("highest"), number("events")
    bound = (highest + drift) * RADIX + events  # events: what the counter may have carried into the milliseconds
    believed = remote <= (wall + drift) * RADIX if rule else z3.BoolVal(True)
    before = z3.And(fine, drift >= 0, events >= 0, wall <= highest, last <= bound, believed)
    return z3.Implies(before, merge(last, remote, wall) <= bound + 1)


@step("clock: an exhausted counter carries", "milliseconds and counter are one integer")
def clock_carry(rule: bool) -> z3.BoolRef:
    last, _, wall, fine = instants()
    ms, logical = last / RADIX, last % RADIX
    full = z3.And(fine, last >= 0, logical == RADIX - 1, wall <= ms)
    made = tick(last, wall) if rule else ms * RADIX + (logical + 1) % RADIX
    return z3.Implies(full, z3.And(made > last, made / RADIX == ms + 1, made % RADIX == 0))


# --- the lattice ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """A leader mark: until when, which shards it does not cover, which origins of own writes it remembers."""

    there: z3.BoolRef
    until: z3.ArithRef
    exact: list[z3.BoolRef]
    origins: list[z3.BoolRef]
    any_origin: z3.BoolRef


@dataclass(frozen=True)
class Frontier:
    """Entries of three shards with two origins each, a floor and a mark."""

    entries: Vector
    floor: z3.ArithRef
    mark: Mark

    @property
    def fine(self) -> z3.BoolRef:
        """ANY_ORIGIN stands alone; what is not there has one spelling."""
        m = self.mark
        alone = z3.Implies(m.any_origin, z3.Not(z3.Or(*m.origins)))
        empty = z3.And(m.until == 0, z3.Not(z3.Or(*m.exact, *m.origins, m.any_origin)))
        return z3.And(natural(self.entries, [self.floor]), m.until >= 0, alone, z3.Implies(z3.Not(m.there), empty))


def frontier(name: str) -> Frontier:
    """Return an unknown frontier."""
    exact, origins = ([truth(f"{name}.{what}{i}") for i in THREE] for what in ("exact", "origin"))
    mark = Mark(truth(f"{name}.there"), number(f"{name}.until"), exact, origins, truth(f"{name}.any"))
    return Frontier(vector(f"{name}.entry", 6), number(f"{name}.floor"), mark)


def both(a: Mark, b: Mark, *, meet: bool = True) -> Mark:
    """Join two marks: the later time, the fewer exceptions, all origins; where only one is there, that one."""
    either = z3.Or(a.any_origin, b.any_origin)

    def exact(x: z3.BoolRef, y: z3.BoolRef) -> z3.BoolRef:
        return z3.If(z3.And(a.there, b.there), z3.And(x, y) if meet else z3.Or(x, y), z3.If(a.there, x, y))

    return Mark(
        z3.Or(a.there, b.there),
        larger(a.until, b.until),
        [exact(x, y) for x, y in zip(a.exact, b.exact, strict=True)],
        [z3.And(z3.Or(x, y), z3.Not(either)) for x, y in zip(a.origins, b.origins, strict=True)],
        either,
    )


def joined(a: Frontier, b: Frontier, *, meet: bool = True) -> Frontier:
    """Join two frontiers part by part."""
    return Frontier(join(a.entries, b.entries), larger(a.floor, b.floor), both(a.mark, b.mark, meet=meet))


def same(a: Frontier, b: Frontier) -> z3.BoolRef:
    """Say that two frontiers are equal."""
    ours, theirs = (
        [*f.entries, f.floor, f.mark.until, *f.mark.exact, *f.mark.origins, f.mark.there, f.mark.any_origin]
        for f in (a, b)
    )
    return z3.And(*(x == y for x, y in zip(ours, theirs, strict=True)))


def dominates(a: Frontier, b: Frontier) -> z3.BoolRef:
    """Say that a demands all that b does."""
    m, n = a.mark, b.mark
    fewer = z3.And(*(z3.Implies(x, y) for x, y in zip(m.exact, n.exact, strict=True)))
    recalls = z3.Or(m.any_origin, z3.And(z3.Not(n.any_origin), *map(z3.Implies, n.origins, m.origins)))
    marks = z3.Implies(n.there, z3.And(m.there, m.until >= n.until, fewer, recalls))
    return z3.And(above(a.entries, b.entries), a.floor >= b.floor, marks)


@step("join: associative", "the larger offset counts")
def join_associative(rule: bool) -> z3.BoolRef:
    a, b, c = frontier("a"), frontier("b"), frontier("c")
    if not rule:  # a mean is commutative and idempotent
        x, y, z = a.floor, b.floor, c.floor
        return ((x + y) / 2 + z) / 2 == (x + (y + z) / 2) / 2
    return z3.Implies(z3.And(a.fine, b.fine, c.fine), same(joined(joined(a, b), c), joined(a, joined(b, c))))


@step("join: commutative", "the larger offset counts, not the newer")
def join_commutative(rule: bool) -> z3.BoolRef:
    a, b = frontier("a"), frontier("b")
    if not rule:  # the right-hand entry replaces the left-hand one
        x, y = a.entries[0], b.entries[0]
        return z3.If(y != ABSENT, y, x) == z3.If(x != ABSENT, x, y)
    return z3.Implies(z3.And(a.fine, b.fine), same(joined(a, b), joined(b, a)))


@step("join: idempotent", "the larger offset counts, nothing adds up")
def join_idempotent(rule: bool) -> z3.BoolRef:
    a = frontier("a")
    return z3.Implies(a.fine, same(joined(a, a), a) if rule else a.floor + a.floor == a.floor)


@step("join: dominates both", "a joint mark excepts only what both except")
def join_dominance(rule: bool) -> z3.BoolRef:
    a, b = frontier("a"), frontier("b")
    c = joined(a, b, meet=rule)
    return z3.Implies(z3.And(a.fine, b.fine), z3.And(dominates(c, a), dominates(c, b)))


@step("join: is the least that dominates both", "the larger offset, not one more")
def join_least(rule: bool) -> z3.BoolRef:
    a, b, c = frontier("a"), frontier("b"), frontier("c")
    made = joined(a, b)
    if not rule:
        made = Frontier([x + 1 for x in made.entries], made.floor, made.mark)
    return z3.Implies(z3.And(a.fine, b.fine, c.fine, dominates(c, a), dominates(c, b)), dominates(c, made))


# --- compaction: what a compacted frontier admits, the exact one admits -----------------------------------------------------


@dataclass(frozen=True)
class Histories:
    """Three origins of one shard: what a reader demands of each (seen and own), what an endpoint has applied, and where each ends."""

    seen: Vector
    own: Vector
    applied: Vector
    ended: list[z3.BoolRef]
    end: Vector

    @property
    def fine(self) -> z3.BoolRef:
        """An endpoint that holds what is past an end is never served."""
        past = z3.And(*(z3.Implies(e, a <= n) for e, a, n in zip(self.ended, self.applied, self.end, strict=True)))
        return z3.And(natural(self.seen, self.own, self.applied), *(n >= 0 for n in self.end), past)

    def clipped(self, o: int, offset: z3.ArithRef) -> z3.ArithRef:
        """At most the end of its origin."""
        return z3.If(self.ended[o], smaller(offset, self.end[o]), offset)

    def lost(self, o: int) -> z3.BoolRef:
        """Say that an own write of this origin is gone."""
        return z3.And(self.ended[o], self.own[o] > self.end[o])

    @property
    def any_lost(self) -> z3.BoolRef:
        """Say that the exact token tells of a lost write."""
        return z3.Or(*map(self.lost, THREE))

    @property
    def admitted(self) -> z3.BoolRef:
        """Say that the exact token admits a read at the endpoint."""
        return z3.And(*(self.applied[o] >= larger(self.clipped(o, self.seen[o]), self.own[o]) for o in THREE))


def histories() -> Histories:
    """Return unknown histories."""
    return Histories(
        vector("seen"), vector("own"), vector("applied"), [truth(f"ended{o}") for o in THREE], vector("end")
    )


def floored(h: Histories, floor: z3.ArithRef, *, heartbeat: bool) -> tuple[z3.BoolRef, list[z3.BoolRef], z3.ArithRef]:
    """Fold what was seen at or below `floor`. Return that the rest is admitted, what was folded, and the floor of the token."""
    folded = [z3.And(h.seen[o] >= 0, h.seen[o] <= floor) for o in THREE]
    top = z3.IntVal(ABSENT)
    for o in THREE:
        top = larger(top, z3.If(folded[o], h.seen[o], ABSENT))
    listed = [h.applied[o] >= 0 for o in THREE]  # an endpoint that never heard of an origin cannot count it
    reached = z3.And(*(z3.Implies(listed[o], h.applied[o] >= h.clipped(o, top)) for o in THREE))
    known = z3.BoolVal(True)
    if heartbeat:  # who has applied T of every origin that it lists, lists every origin that numbered something up to T
        known = z3.Implies(
            reached, z3.And(*(z3.Implies(z3.And(h.seen[o] >= 0, h.seen[o] <= top), listed[o]) for o in THREE))
        )
    rest = z3.And(*(h.applied[o] >= larger(h.own[o], z3.If(folded[o], ABSENT, h.clipped(o, h.seen[o]))) for o in THREE))
    return z3.And(known, reached, rest), folded, top


@step("floor: admits no more than the exact token", "heartbeats: no origin up to the floor is unheard of")
def compact_floor(rule: bool) -> z3.BoolRef:
    h, floor = histories(), number("floor")
    admits, folded, _ = floored(h, floor, heartbeat=rule)
    return z3.Implies(z3.And(h.fine, z3.Or(*folded), admits), h.admitted)


@step("floor: can be reached though an origin has ended", "an ended origin counts up to its end")
def floor_reachable(rule: bool) -> z3.BoolRef:
    h, top = histories(), number("floor")
    everything = z3.And(*(z3.If(h.ended[o], h.applied[o] == h.end[o], h.applied[o] >= top) for o in THREE))
    reached = z3.And(*(h.applied[o] >= (h.clipped(o, top) if rule else top) for o in THREE))
    return z3.Implies(z3.And(h.fine, everything), reached)


@step("floor: a lost own write is still said", "own writes are never folded")
def floor_own(rule: bool) -> z3.BoolRef:
    h, floor = histories(), number("floor")
    left = [h.own[o] if rule else z3.If(h.own[o] <= floor, ABSENT, h.own[o]) for o in THREE]
    said = z3.Or(*(z3.And(h.ended[o], left[o] > h.end[o]) for o in THREE))
    return z3.Implies(z3.And(h.fine, h.any_lost), said)


@step("mark: admits no more than the exact token", "honoured at heads that were asked after the request")
def compact_mark(rule: bool) -> z3.BoolRef:
    h, head = histories(), vector("head")
    acknowledged = [larger(h.seen[o], h.own[o]) for o in THREE]  # before the request, and by whoever numbers the origin
    asked = (
        z3.And(*(z3.Implies(z3.Not(h.ended[o]), head[o] >= acknowledged[o]) for o in THREE)) if rule else natural(head)
    )
    current = z3.And(*(h.applied[o] >= z3.If(h.ended[o], h.end[o], head[o]) for o in THREE))
    return z3.Implies(z3.And(h.fine, z3.Not(h.any_lost), asked, current), h.admitted)


@step("mark: a lost own write is said, or in doubt", "the mark remembers the origins of own writes that may be lost")
def mark_origins(rule: bool) -> z3.BoolRef:
    h, replicated = histories(), vector("replicated")
    # What is applied at another endpoint when it is dropped is taken to survive: whoever takes over holds it.
    survives = z3.And(*(z3.Implies(h.ended[o], replicated[o] <= h.end[o]) for o in THREE))
    recalled = [z3.And(h.own[o] > replicated[o], z3.BoolVal(rule)) for o in THREE]
    doubt = z3.Or(*(z3.And(h.ended[o], recalled[o]) for o in THREE))
    return z3.Implies(z3.And(h.fine, natural(replicated), survives, h.any_lost), doubt)


@step("clip: what survives can be read", "a seen position past its origin's end counts up to the end")
def clip_reachable(rule: bool) -> z3.BoolRef:
    h = histories()
    everything = z3.And(*(z3.If(h.ended[o], h.applied[o] == h.end[o], h.applied[o] >= h.seen[o]) for o in THREE))
    need = [h.clipped(o, h.seen[o]) if rule else h.seen[o] for o in THREE]
    return z3.Implies(z3.And(h.fine, everything), above(h.applied, need))


@step("clip: nothing that survives is forgotten", "clipped to the end, and not dropped")
def clip_keeps(rule: bool) -> z3.BoolRef:
    h = histories()
    need = [
        h.clipped(o, h.seen[o]) if rule else z3.If(z3.And(h.ended[o], h.seen[o] > h.end[o]), ABSENT, h.seen[o])
        for o in THREE
    ]
    kept = z3.And(*(z3.Implies(h.ended[o], need[o] >= smaller(h.seen[o], h.end[o])) for o in THREE))
    return z3.Implies(h.fine, kept)


# --- expiry --------------------------------------------------------------------------------------------------------------------


def expiry(*, long_enough: bool, timed_at_question: bool) -> z3.BoolRef:
    """A write at w; its entry is dropped at d by another wall clock; a read at r, where freshness is shown. All in real time."""
    w, d, r, ttl, staleness = (number(n) for n in ("written", "dropped", "read", "ttl", "staleness"))
    skew, ahead, question, answer = (number(n) for n in ("skew", "ahead", "question", "answer"))
    sane = z3.And(staleness > 0, skew >= 0, ttl > 0, ahead <= skew, ahead >= -skew, w >= 0, w <= d, d <= r)
    aged = d + ahead >= w + ttl  # the clock of who drops is `ahead` of the one that set the expiry
    configured = ttl > staleness + skew if long_enough else z3.BoolVal(True)
    evidence = question if timed_at_question else answer
    fresh = z3.And(question <= answer, answer <= r, evidence >= r - staleness)
    # The head was read at some time between the two: the replica holds all that was acknowledged before the question, no more is shown.
    return z3.Implies(z3.And(sane, aged, configured, fresh), w <= question)


@step("expiry: what is dropped is applied wherever a read is allowed", "token_ttl > max_staleness + skew")
def expiry_ttl(rule: bool) -> z3.BoolRef:
    return expiry(long_enough=rule, timed_at_question=True)


@step("expiry: freshness is shown, not assumed", "evidence counts from the question, not from the answer")
def expiry_question(rule: bool) -> z3.BoolRef:
    return expiry(long_enough=True, timed_at_question=rule)


# --- the command -------------------------------------------------------------------------------------------------------------


def main(steps: Iterable[Step] = ()) -> int:
    """Print the table; return the status."""
    row, bad = "{:68} {:9} {:70} {:16}", 0
    print(row.format("step", "", "rule", "without it"))
    start = time.perf_counter()
    chosen = tuple(steps) or tuple(STEPS)
    for each in chosen:
        refuted, found = counterexample(each.claim(True)), counterexample(each.claim(False))
        bad += refuted is not None or found is None
        proved = "proved" if refuted is None else "REFUTED"
        print(row.format(each.name, proved, each.rule, "STILL PROVED" if found is None else "counterexample").rstrip())
    print(f"{len(chosen)} steps, {time.perf_counter() - start:.1f} s" + (f", {bad} NOT AS THEY MUST BE" if bad else ""))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
