// The operations of the vectors, by name: what each is given, and what it gives.

import { CARRIER_OPERATIONS } from "./carrieroperations.mjs";
import { CeiledClock } from "./ceiling.mjs";

import { normalForm } from "./claims.mjs";
import * as clock from "./clock.mjs";
import { bounds, compact, sizeOf, withUnopened } from "./compaction.mjs";

import { ClockError, TokenError } from "./errors.mjs";

import * as frontier from "./frontier.mjs";
import { GATE_OPERATIONS } from "./gateoperations.mjs";
import { joinTokens, fingerprint } from "./joining.mjs";
import { historyCheck } from "./verdicts.mjs";
import {
  asBig, asBytes, asClaims, asFloors, asFrontier, asList, asNumber, asNumbers, asObject, asPosition, asPositions, asText,
  asWatermark, fromClaims, fromDemand, fromFrontier, fromPosition, orNull, toHex,
} from "./json.mjs";

import { Keyring } from "./keyring.mjs";

import { ascending } from "./numbers.mjs";
import { demanded, forget, learn } from "./session.mjs";
import * as timestamp from "./timestamp.mjs";
import { appliedFrontier, judge } from "./watermark.mjs";

// `line` is the request as it came, for whoever must not have its numbers rounded.

export const OPERATIONS                                 = new Map(Object.entries({
  // --- clock.md ---
  "timestamp.from_parts": (given) => stamped(timestamp.fromParts(asNumber(given.physical_ms), asNumber(given.logical))),
  "timestamp.parts": (given) => {
    const value = timestamp.check(asBig(given.timestamp));
    return { physical_ms: Number(timestamp.physicalMs(value)), logical: Number(timestamp.logical(value)) };
  },
  "timestamp.text": (given) => ({ text: timestamp.format(asBig(given.timestamp)) }),
  "timestamp.parse": (given) => stamped(timestamp.parse(asText(given.text))),
  "timestamp.sort": (given) => {
    const sorted = ascending(asList(given.timestamps).map(asBig)); // C-3
    return { timestamps: sorted.map(String), texts: sorted.map(timestamp.format) };
  },
  "clock.tick": (given) => stamped(clock.tick(last(given), asBig(given.wall_ms))),
  "clock.now": (given) => stamped(clock.tick(last(given), clock.wallMsOfNs(asBig(given.wall_ns)))),
  "clock.merge": (given) => stamped(clock.merge(last(given), asBig(given.remote), asBig(given.wall_ms))),
  "clock.update": (given) => stamped(
    clock.update(last(given), asBig(given.remote), asBig(given.wall_ms), asBig(given.max_drift_ms)),
  ),
  "clock.trace": clockTrace,
  "stamp.next": (given) => ({
    stamp: String(clock.nextStamp(asBig(given.now), asList(given.applied).map(asBig))),
  }),
  "stamp.wins": (given) => ({
    wins: clock.wins(
      asBig(given.stamp), asNumber(given.origin), asBig(given.other_stamp), asNumber(given.other_origin),
    ),
  }),
  "clock.start": (given) => {
    const ceiling          = { stored: orNull(given.bound, asBig) };
    const first = new CeiledClock(ceiling, asBig(given.max_drift_ms)).tick(asBig(given.wall_ms));
    return { ...stamped(first), bound: String(ceiling.stored) };
  },
  "clock.close": clockClose,

  // --- frontier.md ---
  "shard.id": (given) => ({ shard: frontier.shardId(asNumber(given.store), asNumber(given.index)) }),
  "shard.store": (given) => ({ store: frontier.storeOf(asNumber(given.shard)) }),
  "frontier.of": (given) => facing({ ...frontier.NOTHING, entries: asPositions(given.positions) }),
  "frontier.join": (given) => facing(asList(given.frontiers).map(asFrontier).reduce(frontier.join, frontier.NOTHING)),
  "frontier.covers": (given) => ({ covers: frontier.covers(asFrontier(given.frontier), asFrontier(given.other)) }),
  "frontier.marked": (given) => ({ marked: frontier.isMarked(asFrontier(given.frontier), asNumber(given.shard)) }),
  "frontier.on": (given) => facing(frontier.partOnShard(asFrontier(given.frontier), asNumber(given.shard))),
  "frontier.store": (given) => facing(frontier.partOfStore(asFrontier(given.frontier), asNumber(given.store))),
  "frontier.lapse": (given) => facing(frontier.lapse(asFrontier(given.frontier), asBig(given.now))),
  "frontier.clip": (given) => facing(frontier.clip(asFrontier(given.frontier), asPositions(given.ends))),
  "session.learn": sessionLearn,
  "session.forget": sessionForget,
  "watermark.judge": (given) => {
    const known = orNull(given.known_stores, asNumbers);
    const judged = judge(asWatermark(given.watermark), asFrontier(given.frontier), known === null ? null : new Set(known));
    return { verdict: judged.verdict, positions: judged.positions.map(fromPosition), marked: judged.marked };
  },
  "watermark.applied": (given) => facing(appliedFrontier(asWatermark(given.watermark))),

  // --- token.md ---
  "token.seal": (given) => {
    const iv = orNull(given.iv, asBytes) ?? undefined;
    const alg = asNumber(given.alg)             ;
    const sealed = keyring(given).seal(asClaims(given.claims), audience(given), asNumber(given.key_id), alg, iv);
    return { payload: toHex(sealed.payload), text: sealed.text };
  },
  "token.open": (given) => ({
    claims: fromClaims(keyring(given).open(asText(given.text), audience(given), asNumber(given.now))),
  }),
  "token.join": (given) => ({
    claims: fromDemand(joinTokens(asList(given.tokens).map(asClaims), asNumber(given.now), asNumber(given.ttl_s))),
  }),
  "token.fingerprint": (given) => ({ fingerprint: fingerprint(asText(given.key)).toString(16).padStart(4, "0") }),

  // --- compaction.md ---
  "compaction.ladder": compactionLadder,
  "compaction.bounds": (given) => {
    const { until, floor } = bounds(asNumber(given.now), settings(given));
    return { until: String(until), floor: String(floor) };
  },
  "compaction.present": compactionPresent,

  ...GATE_OPERATIONS,
  ...CARRIER_OPERATIONS,
  "history.check": historyCheck,
}                                    ));

function stamped(value        )             {
  return { timestamp: String(value) };
}

function last(given            )         {
  return orNull(given.last, asBig) ?? clock.START;
}

function facing(value                   )             {
  return { frontier: fromFrontier(value) };
}

function clockTrace(given            )             {
  const lasts = new Map                ();
  const timestamps                    = [];
  for (const event of asList(given.events).map(asObject)) {
    const node = asText(event.node);
    const wallMs = asBig(event.wall_ms);
    const from = orNull(event.from, asNumber);
    const remote = from === null ? orNull(event.remote, asBig) : timestamps[from] ;
    const before = lasts.get(node) ?? clock.START;
    try {
      const next = remote === null
        ? clock.tick(before, wallMs)
        : clock.update(before, remote, wallMs, asBig(given.max_drift_ms));
      lasts.set(node, next);
      timestamps.push(next);
    } catch (error) {
      if (!(error instanceof ClockError)) throw error;
      timestamps.push(null); // C-12, C-17: as if it had not come
    }
  }
  return { timestamps: timestamps.map((each) => (each === null ? null : String(each))) };
}

function clockClose(given            )             {
  const ceiling          = { stored: orNull(given.bound, asBig) };
  const wallMs = asBig(given.wall_ms);
  const closing = new CeiledClock(ceiling, asBig(given.max_drift_ms));
  ceiling.stored = orNull(given.meanwhile, asBig) ?? ceiling.stored;
  for (let ticks = 1 + asNumber(given.more); ticks > 0; ticks--) closing.tick(wallMs);
  ceiling.stored = orNull(given.after, asBig) ?? ceiling.stored;
  closing.close();
  return { bound: String(ceiling.stored) };
}

function sessionLearn(given            )             {
  let session = { own: asFrontier(given.own), seen: asFrontier(given.seen) };
  for (const event of asList(given.events).map(asObject)) {
    session = learn(session, orNull(event.wrote, asPosition), orNull(event.shown, asFrontier) ?? frontier.NOTHING);
  }
  return { own: fromFrontier(session.own), demanded: fromFrontier(demanded(session)) };
}

function sessionForget(given            )             {
  let session = { own: asFrontier(given.own), seen: asFrontier(given.seen) };
  for (const loss of asList(given.lost)) {
    session = forget(session, [...asPosition(loss), asBig(asList(loss)[3])]);
  }
  return { own: fromFrontier(session.own), seen: fromFrontier(session.seen) };
}

function keyring(given            )          {
  return new Keyring(asList(given.keys).map(asObject).map((key) => ({ id: asNumber(key.id), secret: asBytes(key.secret) })));
}

function audience(given            )           {
  return { audience: asText(given.audience), subject: orNull(given.subject, asText) };
}

function settings(given            )           {
  return {
    tokenTtlS: asNumber(given.token_ttl_s),
    maxStalenessS: asNumber(given.max_staleness_s),
    maxClockSkewS: asNumber(given.max_clock_skew_s),
  };
}

function compactionLadder(given            )             {
  const measure = given.measure           ;
  const claims = compact(asClaims(given.claims), {
    measure,
    limit: asNumber(given.limit),
    now: asNumber(given.now),
    until: asBig(given.until),
    bounds: asFloors(given.floor),
    replicated: asPositions(given.replicated),
    stores: given.stores === undefined ? null : new Set(asNumbers(given.stores)),
  });
  return { claims: fromClaims(claims), size: sizeOf(claims, measure) };
}

// Texts here are of tokens that do not open: no key is held.
function compactionPresent(given            )             {
  const now = asNumber(given.now);
  const opened         = [];
  let isUnopened = false;
  for (const token of asList(given.tokens)) {
    if (typeof token !== "string") {
      opened.push(token);
    } else if (token !== "") { // K-25
      const error = whyItDoesNotOpen(token, now);
      if (given.bad_token === "raise") throw error; // K-24
      isUnopened ||= given.bad_token === "leader";
    }
  }
  const { until } = bounds(now, settings(given));
  const ttlS = asNumber(given.token_ttl_s);
  const presented = opened.map(asClaims);
  const claims = joinTokens(presented, now, ttlS);
  const [only] = presented;
  if (only !== undefined && asList(given.tokens).filter((token) => token !== "").length === 1 && 2 * (only.expiresAt - now) >= ttlS) {
    const demandsNothing = Object.keys(fromDemand({ ...claims, timestamp: null })).length === 0;
    return { claims: demandsNothing ? {} : fromDemand(normalForm(only)) };
  }
  return { claims: fromDemand(isUnopened ? withUnopened(claims, until) : claims) };
}

function whyItDoesNotOpen(text        , now        )             {
  try {
    new Keyring([]).open(text, { audience: "", subject: null }, now);
  } catch (error) {
    if (error instanceof TokenError) return error;
    throw error;
  }
  throw new TypeError("a token that opens is given as claims");
}
