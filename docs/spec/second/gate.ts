// The decision table. Rows are those of the page; the first that applies decides.

import { floorNeed, stand } from "./demand.ts";
import type { Cut, Demand } from "./demand.ts";
import { joinMaps, keyOf, shardOf } from "./frontier.ts";
import type { Key, Positions } from "./frontier.ts";
import type { Origins } from "./mark.ts";
import { max, min } from "./numbers.ts";
import { Part } from "./part.ts";
import type { Counts } from "./part.ts";
import type { Known, View } from "./view.ts";

export type Strategy = "session" | "leader" | "quorum" | "bounded" | "leader_window" | "eventual";

export type Policy = {
  readonly strategy: Strategy;
  readonly waitS: number;
  readonly then: "leader" | "stale" | "error";
  readonly unproven: "refuse" | "serve";
  readonly token: boolean; // of a quorum
  readonly replicas: number;
  readonly boundS: number;
  readonly windowS: number;
};

export type Moment = { readonly nowS: number; readonly elapsedS: number; readonly maxStalenessS: number };

export type How = "eventual" | "window" | "bounded" | "covered" | "leader" | "quorum" | "fallback" | "stale";
export type Because = "older" | "unproven" | "heads" | "everybody" | "quorum" | "bound" | "takeover" | "untried";

export type Decision =
  | {
      readonly decision: "serve"; readonly endpoint: Known; readonly how: How;
      readonly need: Positions; readonly clipped: readonly Cut[]; readonly unproven: boolean;
    }
  | { readonly decision: "probe"; readonly endpoints: readonly Known[]; readonly because: Because; readonly withinS: number | null }
  | {
      readonly decision: "wait"; readonly endpoint: Known; readonly need: Positions; readonly forS: number;
      readonly because: "behind" | "unproven";
    }
  | { readonly decision: "refuse"; readonly why: "lost"; readonly lost: readonly Cut[] }
  | { readonly decision: "refuse"; readonly why: "doubt"; readonly doubt: Origins }
  | { readonly decision: "refuse"; readonly why: "timeout" | "no endpoint" };

const NOTHING_NEEDED: Positions = new Map();
const RETRY_DOWN_S = 1;
const LOOK_AGAIN_S = 0.02;
const TICK_S = 1e-6; // less is no time

export function decide(view: View, demand: Demand, policy: Policy, moment: Moment): Decision {
  const table = new Table(view, demand, policy, moment);
  const decision = table.decide();
  if (decision.decision !== "refuse" || decision.why === "lost" || decision.why === "doubt") return decision;
  const untried = table.nearest.filter((known) => view.isDown(known) && known.tried.asked < demand.arrived); // row 26
  return untried.length > 0 ? probe(untried, "untried") : decision;
}

function probe(endpoints: readonly Known[], because: Because, withinS: number | null = null): Decision {
  return { decision: "probe", endpoints, because, withinS };
}

const NO_ENDPOINT: Decision = { decision: "refuse", why: "no endpoint" };

export function isFreshSince(view: View, known: Known, counts: Counts, sinceS: number): boolean {
  const since = view.freshSince(known, counts);
  return since === "always" || (since !== "never" && since >= sinceS);
}

class Table extends Part {
  readonly demand: Demand;
  readonly policy: Policy;
  readonly moment: Moment;
  readonly leftS: number;
  readonly oldestS: number; // since when who is eligible must be fresh
  clipped: readonly Cut[] = [];
  isUnproven = false;

  constructor(view: View, demand: Demand, policy: Policy, moment: Moment) {
    super(view, demand.shards);
    this.demand = demand;
    this.policy = policy;
    this.moment = moment;
    this.leftS = policy.waitS - moment.elapsedS;
    const boundS = policy.strategy === "bounded" ? Math.min(policy.boundS, moment.maxStalenessS) : moment.maxStalenessS; // G-28
    this.oldestS = moment.nowS - boundS;
  }

  get isWrite(): boolean {
    return this.demand.at !== null;
  }

  // --- who is who ---

  isWorthAsking(known: Known): boolean {
    const { asked, atS } = known.tried;
    return !this.view.isDown(known) || (asked < this.demand.arrived && atS < this.moment.nowS - RETRY_DOWN_S);
  }

  isReadable(known: Known): boolean {
    return this.isWorthAsking(known) && known.endpoint.serves;
  }

  // G-49: who may serve this.
  candidates(): Known[] {
    const { at } = this.demand;
    return this.nearest.filter((known) => this.isReadable(known) && (at === null || known.endpoint.name === at));
  }

  isUp(known: Known): boolean {
    return !this.view.isDown(known);
  }

  wasEverAsked(known: Known): boolean {
    return known.wasEverAsked(this.counts);
  }

  isAskedSince(known: Known, shards: readonly number[] = this.demand.shards): boolean {
    return known.wasAskedSince(this.demand.arrived, shards);
  }

  isEligible(known: Known): boolean {
    return this.isWrite || this.policy.unproven === "serve" // G-17
      || isFreshSince(this.view, known, this.counts, this.oldestS);
  }

  covers(known: Known, need: Positions): boolean {
    return [...need].every(([key, offset]) => (known.applied(key) ?? -1n) >= offset);
  }

  numbersAnything(known: Known): boolean {
    return this.live.some((key) => this.view.numbers(known, key));
  }

  // What of a need is not known to have ended.
  going(need: Positions): Key[] {
    return [...need.keys()].filter((key) => !this.ends.has(key));
  }

  serve(endpoint: Known, how: How, need: Positions): Decision {
    return { decision: "serve", endpoint, how, need, clipped: this.clipped, unproven: this.isUnproven };
  }

  unasked(of: readonly Known[], shards: readonly number[] = this.demand.shards): Known[] {
    return of.filter((known) => this.isWorthAsking(known) && !this.isAskedSince(known, shards));
  }

  // --- the table ---

  decide(): Decision {
    const { strategy } = this.policy;
    if (strategy === "eventual") return this.anybody("eventual"); // 1
    if (strategy === "leader_window") return this.window(); // 2, 3
    if (strategy === "bounded") return this.bounded(); // 4 to 6

    const standing = stand(this.demand, this);
    if (standing.verdict === "lost") return { decision: "refuse", why: "lost", lost: standing.lost }; // 7
    if (standing.verdict === "doubt") return { decision: "refuse", why: "doubt", doubt: standing.doubt }; // 8
    this.clipped = standing.clipped;
    let need = standing.need;

    const replaced = this.takeover(); // G-55
    if (replaced !== null) return replaced;

    if (strategy === "quorum") {
      const readable = this.nearest.filter((known) => this.isReadable(known));
      if (readable.length < this.policy.replicas) return NO_ENDPOINT; // 9
      const asked = readable.slice(0, this.policy.replicas);
      const unasked = this.unasked(asked);
      if (unasked.length > 0) return probe(unasked, "quorum"); // 10
      const applied = asked.map((known) => this.appliedOnShards(known)).reduce((a, b) => joinMaps(a, b, max));
      need = this.policy.token ? joinMaps(need, applied, max) : applied; // G-33
    }
    need = joinMaps(need, floorNeed(this.demand, this.told(), this.ends), max); // G-5

    const led = strategy === "leader" ? new Set([...this.demand.shards, ...this.demand.leaderShards]) : this.demand.leaderShards;
    if (led.size > 0) {
      const leading = this.atLeaders([...led], need);
      if ("decision" in leading) return leading;
      return this.rest(leading.need, "leader", this.demand.shards.every((shard) => led.has(shard)));
    }
    return this.rest(need, strategy === "quorum" ? "quorum" : "covered", false);
  }

  // Rows 1, 3 and 22.
  anybody(how: How): Decision {
    const nearest = this.nearest.find((known) => this.isUp(known) && known.endpoint.serves);
    this.clipped = [];
    this.isUnproven = false;
    return nearest === undefined ? NO_ENDPOINT : this.serve(nearest, how, NOTHING_NEEDED);
  }

  window(): Decision {
    const { wroteAgoS, own } = this.demand;
    if (wroteAgoS === null || wroteAgoS >= this.policy.windowS) return this.anybody("window"); // G-27
    const numberer = this.nearest.find((known) =>
      this.isReadable(known) && [...own.keys()].some((key) => this.view.numbers(known, key)));
    if (numberer !== undefined) return this.serve(numberer, "window", NOTHING_NEEDED);
    return this.isDerived() ? NO_ENDPOINT : this.anybody("window"); // G-54
  }

  bounded(): Decision {
    const fresh = this.nearest.find((known) =>
      this.isUp(known) && known.endpoint.serves && isFreshSince(this.view, known, this.counts, this.oldestS));
    if (fresh !== undefined) return this.serve(fresh, "bounded", NOTHING_NEEDED); // 4
    const unasked = this.unasked(this.nearest);
    if (unasked.length > 0) return probe(unasked, "bound"); // 5
    const heads = new Map<Key, bigint>();
    for (const key of this.live) {
      const newest = this.view.samples.get(key)?.at(-1);
      if (newest !== undefined && this.demand.shards.includes(shardOf(key))) heads.set(key, newest.head);
    }
    return this.rest(heads, "bounded", false); // 6
  }

  takeover(): Decision | null {
    const { at, writes, arrived } = this.demand;
    const known = this.nearest.find(({ endpoint }) => endpoint.name === at);
    if (known === undefined || !this.isUp(known)) return null;
    const says = [...(known.shards.get(writes)?.leads ?? [])];
    if (says.length === 0 || !says.every((origin) => this.ends.has(keyOf(writes, origin)))) return null;
    return known.asked(writes) > arrived ? NO_ENDPOINT : probe([known], "takeover");
  }

  // L-16: never above an end.
  appliedOnShards(known: Known): Positions {
    const here = [...known.appliedAll()].filter(([key]) => this.demand.shards.includes(shardOf(key)));
    return new Map(here.map(([key, applied]) => [key, min(applied, this.ends.get(key) ?? applied)]));
  }

  // Rows 11 to 16.
  atLeaders(led: readonly number[], need: Positions): Decision | { readonly need: Positions } {
    const { demand } = this;
    const isMarked = demand.leaderShards.size > 0;
    const live = this.live.filter((key) => led.includes(shardOf(key)));
    const leaders = new Map(live.map((key) => [key, this.leaderOf(key)]));
    const ends = new Map([...this.ends].filter(([key]) => led.includes(shardOf(key))));
    const isUntold = demand.markOrigins !== "any" && [...demand.markOrigins].some((origin) => !this.view.isTold(origin)); // G-37
    const only = isUntold ? null : onlyOne(leaders);

    if (only !== null && only.endpoint.serves) {
      const others = this.unasked(this.nearest.filter((known) => known !== only), led);
      if (isMarked && others.length > 0) return probe(others, "everybody"); // 11
      const isUnlooked = this.nearest.some((known) => this.isWorthAsking(known) && !this.wasEverAsked(known));
      const isEnough = demand.shards.every((shard) => led.includes(shard)) || this.isEligible(only);
      if (!this.isAskedSince(only, led) && !this.isWrite && !isUnlooked && isEnough) {
        return this.serve(only, "leader", joinMaps(need, ends, max)); // 12
      }
    }

    const isEverybody = isMarked || isUntold || live.length === 0 || [...leaders.values()].includes(null);
    const asked = this.nearest.filter((known) =>
      isEverybody || !this.wasEverAsked(known) || [...leaders.values()].includes(known));
    const unasked = this.unasked(asked, led);
    if (unasked.length > 0) return probe(unasked, "heads"); // 13

    if (isUntold) return NO_ENDPOINT; // 14
    if (live.length === 0 && !this.nearest.some((known) => this.isWorthAsking(known))) return NO_ENDPOINT; // 15
    if ([...leaders.values()].includes(null)) {
      if (this.policy.unproven !== "serve") return NO_ENDPOINT;
      this.isUnproven = true; // G-38
    }
    const heads = new Map<Key, bigint>(ends);
    for (const [key, leader] of leaders) if (leader !== null) heads.set(key, leader.applied(key)!);
    return { need: joinMaps(need, heads, max) }; // 16, G-36
  }

  // Rows 17 to 25.
  rest(need: Positions, how: How, isAllLed: boolean): Decision {
    const { then } = this.policy;
    const able = this.candidates().filter((known) =>
      this.isUp(known) && this.wasEverAsked(known) && (isAllLed || this.isEligible(known)));
    const numbering = (known: Known): number => (how === "leader" && !this.numbersAnything(known) ? 1 : 0);
    const covering = able.filter((known) => this.covers(known, need)).sort((a, b) => numbering(a) - numbering(b));
    const unspared = covering.find((known) => how !== "covered" || !this.isSpared(known, need));
    if (unspared !== undefined) return this.serve(unspared, how, need); // 17

    const best = covering[0] ?? null;
    const looking = this.leftS > TICK_S ? this.look(need, how, best) : null;
    if (looking !== null) return looking; // 18 to 20

    if (best !== null && then === "leader") return this.serve(best, "fallback", need); // 21
    if (then === "stale" && !this.isWrite) return this.anybody("stale"); // 22
    const falling = then === "leader" && !this.isWrite && !this.isDerived() ? this.fallBack(need) : null;
    if (falling !== null) return falling; // 23, 24
    const somebody = this.candidates().some((known) => this.isUp(known) && this.isEligible(known));
    return { decision: "refuse", why: somebody ? "timeout" : "no endpoint" }; // 25
  }

  // G-40
  isSpared(known: Known, need: Positions): boolean {
    if (!this.numbersAnything(known) || this.isWrite || known === this.nearest[0]) return false;
    const going = this.going(need);
    return going.length === 0 || going.some((key) => this.view.numbers(known, key));
  }

  // G-54: only witnesses number anything, or nobody does, and there are witnesses.
  isDerived(): boolean {
    return this.nearest.some(({ endpoint }) => !endpoint.serves)
      && !this.nearest.some((known) => known.endpoint.serves && this.numbersAnything(known));
  }

  // Rows 18 to 20, nearest first, and nobody beyond one that covers or that is waited for.
  look(need: Positions, how: How, best: Known | null): Decision | null {
    const waits: { readonly known: Known; readonly expectedS: number; readonly wanted: Positions }[] = [];
    for (const known of this.candidates()) {
      if (known === best) break;
      const first = waits[0]?.known;
      const isBeyond = first !== undefined
        && (known.endpoint.latencyS > first.endpoint.latencyS || this.numbersAnything(known));
      if (how !== "leader" && isBeyond) break;
      if (!this.isAskedSince(known)) return probe([known], "older", this.withinS([known], need)); // 18
      const wanted = this.wantedOf(known, need);
      if (wanted === null) {
        const heads = this.whoseHeads();
        if (heads.length > 0) return probe(heads, "unproven", this.withinS(heads, need)); // 19
        continue;
      }
      const expectedS = this.expectedS(known, wanted);
      if (expectedS === null || expectedS <= this.leftS) waits.push({ known, expectedS: expectedS ?? Infinity, wanted });
    }
    if (waits.length === 0) return null;
    const { known, wanted } = waits.reduce((a, b) =>
      (b.expectedS < a.expectedS || (b.expectedS === a.expectedS && b.known.askedAtS < a.known.askedAtS) ? b : a));
    const forS = waits.length === 1 ? this.leftS : Math.min(this.leftS, Math.max(this.leftS / 8, LOOK_AGAIN_S));
    return { decision: "wait", endpoint: known, need: wanted, forS, because: this.covers(known, need) ? "unproven" : "behind" }; // 20
  }

  // G-41: how long an answer is waited for, where another can do without it.
  withinS(asked: readonly Known[], need: Positions): number | null {
    const others = this.candidates().filter((known) =>
      !asked.includes(known) && this.isUp(known) && this.wasEverAsked(known) && this.isEligible(known));
    if (this.policy.then !== "leader") return others.length > 0 ? this.leftS / 2 : null;
    return others.some((known) => this.covers(known, need) || this.numbersAll(known, need)) ? this.leftS : null;
  }

  numbersAll(known: Known, need: Positions): boolean {
    return this.going(need).every((key) => this.view.numbers(known, key));
  }

  // G-42
  whoseHeads(): Known[] {
    const isEverybody = this.live.some((key) => this.leaderOf(key) === null);
    return this.unasked(this.nearest.filter((known) => isEverybody || this.numbersAnything(known)));
  }

  // G-43: what it has to apply; null if nothing that is known would make it eligible.
  wantedOf(known: Known, need: Positions): Positions | null {
    if (this.isEligible(known)) return need;
    const fresh = new Map<Key, bigint>();
    for (const key of this.live.filter((each) => !this.view.numbers(known, each))) {
      const recent = (this.view.samples.get(key) ?? []).filter(({ atS }) => atS >= this.oldestS).map(({ head }) => head);
      if (recent.length === 0) return null;
      fresh.set(key, min(recent[0]!, ...recent));
    }
    const wanted = [need, this.ends, fresh].reduce((a, b) => joinMaps(a, b, max));
    return this.covers(known, wanted) ? null : wanted;
  }

  // G-43: in how many seconds it may have what is wanted; null if nobody can tell.
  expectedS(known: Known, wanted: Positions): number | null {
    if (known.stalledAtS !== null && this.moment.nowS - known.stalledAtS > this.policy.waitS) return Infinity;
    const times: number[] = [];
    for (const [key, offset] of wanted) {
      const [applied, rate] = [known.applied(key) ?? -1n, known.rates.get(key)];
      if (applied < offset && rate !== undefined) times.push(Number(offset - applied) / rate);
    }
    return times.length === 0 ? null : Math.max(...times);
  }

  // Rows 23 and 24.
  fallBack(need: Positions): Decision | null {
    const going = this.going(need);
    const readable = this.nearest.filter((known) => this.isReadable(known));
    const some = readable.filter((known) =>
      going.length > 0 ? going.some((key) => this.view.numbers(known, key)) : this.numbersAnything(known));
    const isEverybody = some.length === 0 || going.some((key) => this.leaderOf(key) === null);
    const unasked = this.unasked(isEverybody ? readable : some);
    const leader = unasked.find((known) =>
      this.isUp(known) && this.numbersAnything(known) && this.numbersAll(known, need) && this.isEligible(known));
    if (leader !== undefined) return this.serve(leader, "fallback", need); // 23
    return unasked.length > 0 ? probe(unasked, "takeover") : null; // 24
  }
}

function onlyOne(leaders: ReadonlyMap<Key, Known | null>): Known | null {
  const different = new Set(leaders.values());
  return different.size === 1 ? [...different][0]! : null;
}
