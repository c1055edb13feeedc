// The operations of gate.json and failover.json.

import { bounds } from "./compaction.mjs";
import { demandOf, stand } from "./demand.mjs";

import { close, doubtOf, forgetDoubt, shardsOf } from "./failover.mjs";
import { originOf, shardOf } from "./frontier.mjs";

import { decide } from "./gate.mjs";

import {
  asBig, asFrontier, asList, asNumber, asNumbers, asObject, asPosition, asPositions, asText, asWatermark, fromFrontier,
  fromOrigins, fromPosition, orNull,
} from "./json.mjs";

import { Places } from "./limits.mjs";

import { ascending } from "./numbers.mjs";
import { Part } from "./part.mjs";
import { forget } from "./session.mjs";
import { admits, shown } from "./snapshot.mjs";
import { View } from "./view.mjs";

export const GATE_OPERATIONS = {
  "gate.demand": (given            )             => {
    const block = {
      store: asNumber(given.store),
      shard: asNumber(given.shard),
      isWrite: given.kind === "write",
      promised: new Set(asList(given.guarantees).map((each) => asText(each)             )),
      dependencies: orNull(given.dependencies, asNumbers),
    };
    const asked = demandOf(block, asFrontier(given.own), asFrontier(given.seen));
    return {
      need: fromPositions(asked.need),
      own: fromPositions(asked.own),
      shards: asked.shards,
      leader_shards: ascending(asked.leaderShards),
      mark_origins: fromOrigins(asked.markOrigins),
      floor: asked.floor === null ? null : String(asked.floor),
    };
  },
  "gate.known": (given            )             => {
    const view = asView(given);
    const byName = (what                        )             =>
      Object.fromEntries(view.all.map((known) => [known.endpoint.name, what(known)]));
    return {
      nearest_first: view.nearestFirst().map(({ endpoint }) => endpoint.name),
      applied: byName((known) => fromPositions(known.appliedAll())),
      live: view.live().map(fromKey),
      ends: fromPositions(view.ends),
      leaders: byName((known) => view.ledBy(known).map(fromKey)),
      unusable: view.all.filter((known) => view.isDown(known)).map(({ endpoint }) => endpoint.name),
    };
  },
  "gate.evidence": (given            )             => {
    const view = asView(given);
    const isAllEverywhere = view.all.every(({ endpoint }) => endpoint.holds === null);
    const since = view.nearestFirst().map((known)                 => {
      const counts = (key     )          => isAllEverywhere || known.holds(shardOf(key));
      return [known.endpoint.name, view.freshSince(known, counts)];
    });
    return { fresh_since_s: Object.fromEntries(since) };
  },
  "gate.decide": (given            )             => {
    const moment = {
      nowS: asNumber(given.now_s),
      elapsedS: asNumber(given.elapsed_s),
      maxStalenessS: asNumber(given.max_staleness_s),
    };
    return fromDecision(decide(asView(given), asDemand(given.demand), asPolicy(given.policy), moment));
  },
  "gate.admits": (given            )             => {
    const view = asView(given);
    const byThen = asView({ ...given, news: [...asList(given.news), ...asList(given.since)] });
    const serve = asObject(given.serve);
    const served = { endpoint: view.named(asText(serve.endpoint)), how: asText(serve.how)       , need: asPositions(serve.need) };
    return {
      admits: admits(
        view, asDemand(given.demand), asPolicy(given.policy), asNumber(given.max_staleness_s), served,
        asList(given.snapshot).map(asSaid), asNumber(given.at_s), byThen.ends,
      ),
    };
  },
  "gate.shown": (given            )             => ({
    frontier: fromFrontier(shown(asList(given.snapshot).map(asSaid))),
  }),
  "gate.enter": gateEnter,
  "failover.judge": (given            )             => fromStanding(asDemand(given.demand), asView(given)),
  "failover.follow": (given            )             => {
    const view = asView(given);
    const said               = [];
    for (const step of asList(given.steps).map(asObject)) {
      if (step.tell !== undefined) view.tell(asNews(step.tell));
      if (step.judge !== undefined) said.push(fromStanding(asDemand(step.judge), view));
    }
    return { said };
  },
  "failover.forget": failoverForget,
  "failover.doubt": (given            )             => {
    const names = asList(given.shards).map(asText);
    const shards = shardsOf(names.length);
    const { until } = bounds(asNumber(given.wall_s), {
      tokenTtlS: Infinity,
      maxStalenessS: asNumber(given.max_staleness_s),
      maxClockSkewS: asNumber(given.max_clock_skew_s),
    });
    const seen = doubtOf(shards[names.indexOf(asText(given.shard))] , shards, until);
    return { raised: true, own: {}, seen: fromFrontier(seen) };
  },
  "failover.close": (given            )             => {
    const holds = new Map(Object.entries(asObject(given.holds)).map(([site, held]) => [site, asBig(held)]));
    const { end, keeps } = close(holds, asText(given.failed), orNull(given.goes_on, asBig) ?? 0n);
    return { end: String(end), keeps: String(keeps), goes_on_under_another: true };
  },
};

function gateEnter(given            )             {
  const limits = asObject(given.limits);
  const places = new Places({
    waitersPerEndpoint: asNumber(limits.waiters_per_endpoint),
    waitersPerSubject: asNumber(limits.waiters_per_subject),
    leaderReads: asNumber(limits.leader_reads),
    unauthenticated: asNumber(limits.unauthenticated),
  });
  const said           = [];
  for (const step of asList(given.steps).map(asObject)) {
    const subject = orNull(step.subject, asText);
    if (step.wait !== undefined) said.push(places.wait(asText(step.wait), subject) ? "admitted" : "Overloaded");
    else if (step.leader !== undefined) said.push(places.readLeader(step.leader === true) ? "admitted" : "Overloaded");
    else {
      if (step.waited !== undefined) places.waited(asText(step.waited), subject);
      else places.left(step.left === true);
      said.push("admitted"); // who leaves may always
    }
  }
  return { said };
}

function failoverForget(given            )             {
  let session = { own: asFrontier(given.own), seen: asFrontier(given.seen) };
  for (const loss of asList(given.lost)) session = forget(session, [...asPosition(loss), asBig(asList(loss)[3])]);
  if (given.doubt !== undefined) {
    const doubt = asOrigins(given.doubt);
    const forgotten = (frontier          )           => forgetDoubt(frontier, asNumber(given.store), doubt);
    session = { own: forgotten(session.own), seen: forgotten(session.seen) };
  }
  return { own: fromFrontier(session.own), seen: fromFrontier(session.seen) };
}

// --- reading ---

function asView(given            )       {
  return new View(asList(given.endpoints).map(asEndpoint), asList(given.news).map(asNews));
}

function asEndpoint(value      )           {
  const endpoint = asObject(value);
  return {
    name: asText(endpoint.name),
    latencyS: asNumber(endpoint.latency_s),
    holds: endpoint.holds === undefined ? null : new Set(asNumbers(endpoint.holds)),
    serves: endpoint.serves !== false,
  };
}

function asNews(value      )       {
  const news = asObject(value);
  if (news.acknowledged !== undefined) {
    return { kind: "acknowledgement", by: asText(news.by), position: asPosition(news.acknowledged) };
  }
  const [asked, atS] = [asNumber(news.asked), asNumber(news.at_s)];
  if (news.failed !== undefined) return { kind: "failure", of: asText(news.failed), asked, atS };
  return { kind: "answer", from: asText(news.from), asked, atS, says: asList(news.says).map(asSaid) };
}

function asSaid(value      )       {
  const said = asObject(value);
  return { ...asWatermark(said), leads: new Set(asNumbers(said.leads)), life: asText(said.life) };
}

function asOrigins(value                  )          {
  return value === "any" ? "any" : new Set(asNumbers(value));
}

function asDemand(value                  )         {
  const demand = asObject(value);
  const shards = asNumbers(demand.shards);
  return {
    shards,
    arrived: asNumber(demand.arrived),
    own: asPositions(demand.own),
    seen: asPositions(demand.seen),
    leaderShards: new Set(asNumbers(demand.leader_shards)),
    markOrigins: asOrigins(demand.mark_origins),
    floor: orNull(demand.floor, asBig),
    at: orNull(demand.at, asText),
    writes: orNull(demand.writes, asNumber) ?? shards[0] ,
    wroteAgoS: orNull(demand.wrote_ago_s, asNumber),
  };
}

function asPolicy(value                  )         {
  const policy = asObject(value);
  return {
    strategy: (orNull(policy.strategy, asText) ?? "session")            ,
    waitS: orNull(policy.wait_s, asNumber) ?? 0.1,
    then: (orNull(policy.then, asText) ?? "leader")                  ,
    unproven: (orNull(policy.unproven, asText) ?? "refuse")                      ,
    token: policy.token !== false,
    replicas: orNull(policy.replicas, asNumber) ?? 1,
    boundS: orNull(policy.bound_s, asNumber) ?? Infinity,
    windowS: orNull(policy.window_s, asNumber) ?? 0,
  };
}

// --- writing ---

function fromKey(key     )       {
  return [shardOf(key), originOf(key)];
}

function fromPositions(positions           )         {
  return ascending(positions.keys()).map((key) => fromPosition([shardOf(key), originOf(key), positions.get(key) ]            ));
}

function fromCut({ key, offset, end }     )       {
  return [shardOf(key), originOf(key), String(offset), String(end)];
}

// To microseconds, so that how a program adds fractions does not show.
function rounded(seconds        )         {
  return Math.round(seconds * 1e6) / 1e6;
}

function fromStanding(demand        , view      )             {
  const standing = stand(demand, new Part(view, demand.shards));
  const { verdict } = standing;
  if (verdict === "lost") return { verdict, lost: standing.lost.map(fromCut) };
  if (verdict === "doubt") return { verdict, doubt: fromOrigins(standing.doubt) };
  return { verdict, need: fromPositions(standing.need), clipped: standing.clipped.map(fromCut) };
}

function fromDecision(decided          )             {
  const { decision } = decided;
  if (decision === "serve") {
    const { how, unproven } = decided;
    const [need, clipped] = [fromPositions(decided.need), decided.clipped.map(fromCut)];
    return { decision, endpoint: decided.endpoint.endpoint.name, how, need, clipped, unproven };
  }
  if (decision === "probe") {
    const endpoints = decided.endpoints.map(({ endpoint }) => endpoint.name);
    return { decision, endpoints, because: decided.because, within_s: decided.withinS === null ? null : rounded(decided.withinS) };
  }
  if (decision === "wait") {
    const { forS, because } = decided;
    return { decision, endpoint: decided.endpoint.endpoint.name, need: fromPositions(decided.need), for_s: rounded(forS), because };
  }
  const { why } = decided;
  if (why === "lost") return { decision, why, lost: decided.lost.map(fromCut) };
  if (why === "doubt") return { decision, why, doubt: fromOrigins(decided.doubt) };
  return { decision, why };
}
