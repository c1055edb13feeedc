// The decision table. Rows are those of the page; the first that applies decides.

import { stand } from "./demand.mjs";

import { joinMaps, keyOf, originOf, shardOf } from "./frontier.mjs";

import { ascending, max, min } from "./numbers.mjs";

const NOTHING_NEEDED            = new Map();
const RETRY_DOWN_S = 1;
const LOOK_AGAIN_S = 0.02;

export function decide(view      , demand        , policy        , moment        )           {
  const decision = new Table(view, demand, policy, moment).decide();
  if (decision.decision !== "refuse" || decision.why === "lost" || decision.why === "doubt") return decision;
  const untried = view.all.filter(({ down }) => down !== null && down.asked < demand.arrived); // row 26
  return untried.length > 0 ? probe(untried, "untried") : decision;
}

function probe(endpoints                  , because         , withinS                = null)           {
  return { decision: "probe", endpoints, because, withinS };
}

const NO_ENDPOINT           = { decision: "refuse", why: "no endpoint" };

// G-18: where all hold everything, every origin counts; otherwise only those of the demand's shards.
export function counting(view      , shards                   )                        {
  if (view.all.every(({ endpoint }) => endpoint.holds === null)) return () => true;
  return (key) => shards.includes(shardOf(key));
}

export function isFreshWithin(view      , known       , counts                       , nowS        , boundS        )          {
  const since = view.freshSince(known, counts);
  return since === "always" || (since !== "never" && since >= nowS - boundS);
}

class Table {
           view      ;
           demand        ;
           policy        ;
           moment        ;
           counts                       ;
           nearest                  ;
           leftS        ;
  stalenessS        ;
  clipped                 = [];
  isUnproven = false;

  constructor(view      , demand        , policy        , moment        ) {
    this.view = view;
    this.demand = demand;
    this.policy = policy;
    this.moment = moment;
    this.counts = counting(view, demand.shards);
    this.nearest = view.nearestFirst(this.counts);
    this.leftS = policy.waitS - moment.elapsedS;
    this.stalenessS = moment.maxStalenessS;
  }

  get isWrite()          {
    return this.demand.at !== null;
  }

  // --- who is who ---

  isWorthAsking({ down }       )          {
    return down === null || (down.asked < this.demand.arrived && this.moment.nowS - down.atS > RETRY_DOWN_S);
  }

  mayBeRead(known       )          {
    if (this.demand.at !== null && known.endpoint.name !== this.demand.at) return false; // G-49
    return known.endpoint.serves && this.demand.shards.every((shard) => known.holds(shard));
  }

  isReadable(known       )          {
    return this.isWorthAsking(known) && this.mayBeRead(known);
  }

  // Not down, and past no end (G-11).
  mayServe(known       )          {
    return this.mayBeRead(known) && known.down === null && !this.view.isPastAnEnd(known, this.counts);
  }

  isAskedSince(known       )          {
    return known.wasAskedSince(this.demand.arrived, this.demand.shards);
  }

  isEligible(known       )          {
    return this.isWrite || this.policy.unproven === "serve" // G-17
      || isFreshWithin(this.view, known, this.counts, this.moment.nowS, this.stalenessS);
  }

  covers(known       , need           )          {
    return [...need].every(([key, offset]) => (known.applied(key) ?? -1n) >= offset);
  }

  leadsAnything(known       )          {
    return this.view.ledBy(known).some(this.counts);
  }

  liveOn(shards                            )        {
    return this.view.live().filter((key) => shards(shardOf(key)));
  }

  serve(endpoint       , how     , need           )           {
    return { decision: "serve", endpoint, how, need, clipped: this.clipped, unproven: this.isUnproven };
  }

  unasked(of                   = this.nearest)          {
    return of.filter((known) => this.isWorthAsking(known) && !this.isAskedSince(known));
  }

  // --- the table ---

  decide()           {
    const { strategy } = this.policy;
    if (strategy === "eventual") return this.anybody("eventual"); // 1
    if (strategy === "leader_window") return this.window(); // 2, 3
    if (strategy === "bounded") return this.bounded(); // 4 to 6

    const standing = stand(this.demand, this.view);
    if (standing.verdict === "lost") return { decision: "refuse", why: "lost", lost: standing.lost }; // 7
    if (standing.verdict === "doubt") return { decision: "refuse", why: "doubt", doubt: standing.doubt }; // 8
    this.clipped = standing.clipped;
    let need = standing.need;

    const replaced = this.takeover(); // G-55
    if (replaced !== null) return replaced;

    let how      = "covered";
    if (strategy === "quorum") {
      how = "quorum";
      const readable = this.nearest.filter((known) => this.isReadable(known));
      if (readable.length < this.policy.replicas) return NO_ENDPOINT; // 9
      const asked = readable.slice(0, this.policy.replicas);
      const unasked = this.unasked(asked);
      if (unasked.length > 0) return probe(unasked, "quorum"); // 10
      const applied = asked.map((known) => this.appliedOnShards(known)).reduce((a, b) => joinMaps(a, b, max));
      need = this.policy.token ? joinMaps(need, applied, max) : applied; // G-33
    }

    const led = this.ledShards();
    if (led.size > 0) {
      const leading = this.atLeaders(led, need);
      if ("decision" in leading) return leading;
      return this.rest(leading.need, "leader", this.demand.shards.every((shard) => led.has(shard)));
    }
    return this.rest(need, how, false);
  }

  // Rows 1 and 3.
  anybody(how     )           {
    const nearest = this.nearest.find((known) => this.mayServe(known));
    return nearest === undefined ? NO_ENDPOINT : this.serve(nearest, how, NOTHING_NEEDED);
  }

  window()           {
    const { wroteAgoS, own } = this.demand;
    if (wroteAgoS === null || wroteAgoS >= this.policy.windowS) return this.anybody("window"); // G-27
    const numberer = this.nearest.find((known) => this.isReadable(known) && [...own.keys()].some((key) => known.saysItLeads(key)));
    if (numberer !== undefined) return this.serve(numberer, "window", NOTHING_NEEDED);
    return this.onlyWitnessesLead() ? NO_ENDPOINT : this.anybody("window"); // G-54
  }

  bounded()           {
    this.stalenessS = Math.min(this.policy.boundS, this.moment.maxStalenessS); // G-28
    const fresh = this.nearest.find((known) =>
      this.mayServe(known) && isFreshWithin(this.view, known, this.counts, this.moment.nowS, this.stalenessS));
    if (fresh !== undefined) return this.serve(fresh, "bounded", NOTHING_NEEDED); // 4
    const unasked = this.unasked();
    if (unasked.length > 0) return probe(unasked, "bound"); // 5
    const heads = new Map             ();
    for (const key of this.liveOn((shard) => this.demand.shards.includes(shard))) {
      const newest = this.view.samples.get(key)?.at(-1);
      if (newest !== undefined) heads.set(key, newest.head);
    }
    return this.rest(heads, "bounded", false); // 6
  }

  takeover()                  {
    const { at, writes } = this.demand;
    if (at === null) return null;
    const known = this.view.named(at);
    const shard = known.shards.get(writes);
    if (shard === undefined) return null;
    const says = [...shard.leads].filter((origin) => !shard.toldEnds.has(origin));
    if (says.length === 0 || !says.every((origin) => this.view.ends.has(keyOf(writes, origin)))) return null;
    if (this.isWorthAsking(known) && known.asked(writes) <= this.demand.arrived) return probe([known], "takeover");
    return NO_ENDPOINT;
  }

  // L-16: never above an end.
  appliedOnShards(known       )            {
    const here = [...known.appliedAll()].filter(([key]) => this.demand.shards.includes(shardOf(key)));
    return new Map(here.map(([key, applied]) => [key, min(applied, this.view.ends.get(key) ?? applied)]));
  }

  ledShards()                      {
    if (this.policy.strategy === "leader") return new Set([...this.demand.shards, ...this.demand.leaderShards]);
    return this.policy.strategy === "quorum" && !this.policy.token ? new Set() : this.demand.leaderShards;
  }

  // Rows 11 to 16.
  atLeaders(led                     , need           )                                          {
    const { demand, view } = this;
    const isMarked = demand.leaderShards.size > 0;
    const live = this.liveOn((shard) => led.has(shard));
    const leaders = new Map(live.map((key) => [key, view.leaderOf(key)]));
    const ends = new Map([...view.ends].filter(([key]) => led.has(shardOf(key))));
    const isUntold = this.remembersAnUntold();
    const only = isUntold ? null : onlyOne(leaders);
    const isAskedSince = (known       )          => known.wasAskedSince(demand.arrived, [...led]);

    if (only !== null && only.endpoint.serves) {
      const others = this.nearest.filter((known) => known !== only && this.isWorthAsking(known) && !isAskedSince(known));
      if (isMarked && others.length > 0) return probe(others, "everybody"); // 11
      const isUnlooked = this.nearest.some((known) => this.isWorthAsking(known) && !known.wasEverAsked());
      const isEnough = demand.shards.every((shard) => led.has(shard)) || this.isEligible(only);
      if (!isAskedSince(only) && !this.isWrite && !isUnlooked && isEnough && this.mayServe(only)) {
        return this.serve(only, "leader", joinMaps(need, ends, max)); // 12
      }
    }

    const isEverybody = isMarked || live.length === 0 || [...leaders.values()].includes(null);
    const asked = this.nearest.filter((known) =>
      isEverybody || !known.wasEverAsked() || [...leaders.values()].includes(known));
    const unasked = asked.filter((known) => this.isWorthAsking(known) && !isAskedSince(known));
    if (unasked.length > 0) return probe(unasked, "heads"); // 13

    if (isUntold) return NO_ENDPOINT; // 14
    if (live.length === 0 && !this.nearest.some((known) => this.isWorthAsking(known))) return NO_ENDPOINT; // 15
    if ([...leaders.values()].includes(null)) {
      if (this.policy.unproven !== "serve") return NO_ENDPOINT;
      this.isUnproven = true; // G-38
    }
    const heads = new Map             (ends);
    for (const [key, leader] of leaders) if (leader !== null) heads.set(key, leader.applied(key) ?? 0n);
    return { need: joinMaps(need, heads, max) }; // 16, G-36
  }

  // G-37
  remembersAnUntold()          {
    const { markOrigins, leaderShards } = this.demand;
    if (markOrigins === "any") return false;
    const told = new Set(ascending(this.view.told).filter((key) => leaderShards.has(shardOf(key))).map(originOf));
    return [...markOrigins].some((origin) => !told.has(origin));
  }

  // Rows 17 to 25.
  rest(need           , how     , isAllLed         )           {
    const { policy } = this;
    const isEligible = (known       )          => isAllLed || this.isEligible(known);
    const preferred = how === "leader"
      ? [...this.nearest.filter((known) => this.leadsAnything(known)), ...this.nearest.filter((known) => !this.leadsAnything(known))]
      : this.nearest;
    const readable = preferred.filter((known) => this.isReadable(known));
    const covering = readable.filter((known) =>
      this.mayServe(known) && known.wasEverAsked() && isEligible(known) && this.covers(known, need));
    const nearest = this.nearest.find((known) => this.mayBeRead(known));
    const isSpared = (known       )          =>
      how === "covered" && policy.strategy === "session" && known !== nearest && this.isLeaderOf(known, need); // G-40
    const unspared = covering.find((known) => !isSpared(known));
    if (unspared !== undefined) return this.serve(unspared, how, need); // 17

    const walked = covering.length > 0 ? readable.slice(0, readable.indexOf(covering[0] )) : readable;
    const looking = this.leftS > 0 ? this.look(walked, readable, need, how, isEligible) : null;
    if (looking !== null) return looking; // 18 to 20

    if (covering.length > 0 && policy.then === "leader") return this.serve(covering[0] , "fallback", need); // 21
    if (policy.then === "stale" && !this.isWrite) { // 22
      const nearest = this.nearest.find((known) => this.mayServe(known));
      if (nearest !== undefined) return this.serve(nearest, "stale", NOTHING_NEEDED);
    }
    if (policy.then === "leader" && !this.isWrite && !this.onlyWitnessesLead()) {
      const falling = this.fallBack(need, isEligible); // 23, 24
      if (falling !== null) return falling;
    }
    const somebody = this.nearest.some((known) => this.mayServe(known) && isEligible(known));
    return { decision: "refuse", why: somebody ? "timeout" : "no endpoint" }; // 25
  }

  // G-40: the leader of what is needed, or any, if no live origin is.
  isLeaderOf(known       , need           )          {
    const live = this.view.live().filter((key) => need.has(key));
    return live.length > 0 ? live.some((key) => this.view.leaderOf(key) === known) : this.leadsAnything(known);
  }

  onlyWitnessesLead()          {
    const leaders = this.view.all.filter((known) => this.leadsAnything(known));
    return leaders.length > 0 && leaders.every(({ endpoint }) => !endpoint.serves);
  }

  // Rows 18 to 20, nearest first. Equally near ones are asked before any of them is waited for.
  look(
    walked                  , readable                  , need           , how     , isEligible                           ,
  )                  {
    for (const group of how === "leader" ? [walked] : byLatency(walked)) {
      for (const known of group) {
        if (!this.isAskedSince(known)) return probe([known], "older", this.withinS(known, readable, need)); // 18
      }
      const waiting            = [];
      for (const known of group) {
        if (!this.mayServe(known)) continue;
        let required = need;
        if (!isEligible(known)) {
          const whose = this.whoseHeads(known);
          if (whose === "known") required = joinMaps(need, this.whatMakesItFresh(known), max);
          else if (whose.length > 0) return probe(whose, "unproven"); // 19
          else continue;
        }
        const expectedS = this.expectedS(known, required);
        if (expectedS !== null) waiting.push({ known, expectedS, heardS: this.heardS(known), required });
      }
      if (waiting.length > 0) { // 20
        const { known, required } = waiting.reduce((a, b) => (isLikelier(b, a) ? b : a));
        const forS = waiting.length === 1 ? this.leftS : Math.min(this.leftS, Math.max(this.leftS / 8, LOOK_AGAIN_S));
        return { decision: "wait", endpoint: known, need: required, forS, because: this.covers(known, need) ? "unproven" : "behind" };
      }
    }
    return null;
  }

  // G-41: how long an answer is waited for, where another can do without it.
  withinS(asked       , readable                  , need           )                {
    const others = readable.filter((known) => known !== asked && (!this.isAskedSince(known) || this.covers(known, need)));
    if (others.length === 0) return null;
    return others.every((known) => this.isLeaderOf(known, need)) ? this.leftS : this.leftS / 2;
  }

  // G-42: "known", where recent heads say what it would have to apply; otherwise who could say it, and was not asked.
  whoseHeads(known       )                    {
    const live = this.view.live().filter((key) => this.counts(key) && this.view.leaderOf(key) !== known);
    if (live.every((key) => this.recent(key) !== null)) return "known";
    const isEverybody = live.some((key) => this.view.leaderOf(key) === null);
    return this.unasked(this.nearest.filter((other) => isEverybody || this.leadsAnything(other)));
  }

  // G-43: the lowest head that was asked for within the bound.
  recent(key     )                {
    const since = this.moment.nowS - this.stalenessS;
    const heads = (this.view.samples.get(key) ?? []).filter(({ atS }) => atS >= since).map(({ head }) => head);
    return heads.length === 0 ? null : min(heads[0] , ...heads.slice(1));
  }

  whatMakesItFresh(known       )            {
    const wanted = new Map             ();
    for (const [key, end] of this.view.ends) if (this.counts(key)) wanted.set(key, end);
    for (const key of this.view.live()) {
      if (this.counts(key) && this.view.leaderOf(key) !== known) wanted.set(key, this.recent(key) );
    }
    return wanted;
  }

  // G-43: in how many seconds it may have what is required; null if it will not have it in what is left.
  expectedS(known       , required           )                {
    let longest = 0;
    for (const [key, offset] of required) {
      const course = known.course(key);
      if (course === undefined) {
        longest = Infinity; // who is unknown may
      } else if (course.applied < offset) {
        if (course.rate !== null && course.atS - course.movedAtS <= this.policy.waitS) {
          const neededS = Number(offset - course.applied) / course.rate;
          if (neededS > this.leftS) return null;
          longest = Math.max(longest, neededS);
        } else if (course.atS - course.movedAtS > this.policy.waitS) {
          return null; // who has not moved for longer than `wait` will not
        } else {
          longest = Infinity;
        }
      }
    }
    return longest;
  }

  // When it was last asked of what it had.
  heardS(known       )         {
    return Math.max(...this.demand.shards.map((shard) => known.shards.get(shard)?.atS ?? -Infinity));
  }

  // Rows 23 and 24.
  fallBack(need           , isEligible                           )                  {
    const live = this.view.live().filter((key) => need.has(key));
    const numbersAll = (known       )          =>
      live.length > 0 ? live.every((key) => this.view.leaderOf(key) === known) : this.leadsAnything(known);
    const leader = this.nearest.find((known) =>
      this.mayServe(known) && isEligible(known) && numbersAll(known) && !this.isAskedSince(known));
    if (leader !== undefined) return this.serve(leader, "fallback", need); // 23

    const needed = [...need.keys()].map((key) => this.view.leaderOf(key));
    const isEverybody = needed.includes(null);
    const unasked = this.unasked(this.nearest.filter((known) =>
      known.endpoint.serves && (isEverybody || needed.includes(known))));
    return unasked.length > 0 ? probe(unasked, "takeover") : null; // 24
  }
}

// Of two who will take as long as far as is known, the one unheard for longer.
function isLikelier(a         , b         )          {
  return a.expectedS < b.expectedS || (a.expectedS === b.expectedS && a.heardS < b.heardS);
}

function onlyOne(leaders                                )               {
  const different = new Set(leaders.values());
  return different.size === 1 ? [...different][0]  : null;
}

function byLatency(walked                  )            {
  const groups            = [];
  for (const known of walked) {
    const last = groups.at(-1);
    if (last !== undefined && last[0] .endpoint.latencyS === known.endpoint.latencyS) last.push(known);
    else groups.push([known]);
  }
  return groups;
}
