// The guarantees, each violated by a pattern.

import { parseExact } from "./exactjson.mjs";

import { readHistory } from "./history.mjs";

import { Orders, bit, closure, has, isAmbiguous, isCircular, isSame } from "./orders.mjs";

const GUARANTEES = ["ryw", "mr", "mw", "wfr", "cc", "ccv", "cm", "lost"]         ;

export function historyCheck(given            , line        )             {
  const request = parseExact(line)                              ;
  const lines = (request.get("in")                              ).get("history")                    ;
  return check(readHistory(lines), given.mode        , given.held === true);
}

export function check(history         , mode      , onlyHeld         )           {
  if (mode === "black" && isAmbiguous(history)) { // S-10
    return Object.fromEntries(GUARANTEES.map((name) => [name, "not judged"]))            ;
  }
  return new Judge(history, new Orders(history, mode), onlyHeld).verdicts();
}

class Judge {
           history         ;
           orders        ;
           reads                   ; // those that may violate something

  constructor(history         , orders        , onlyHeld         ) {
    this.history = history;
    this.orders = orders;
    this.reads = [...orders.returned.keys()].filter((read) => !onlyHeld || orders.events[read] .operation .isHeld); // S-30
  }

  verdicts()           {
    const isBlack = this.orders.mode === "black";
    const isCyclic = isCircular(this.orders.co);
    const bySession = (isViolated                           )          =>
      isBlack && isCyclic ? "not judged" : verdict(this.reads.some(isViolated)); // S-31
    const cc = isCyclic || this.reads.some((read) => this.#isNotCausal(read));
    return {
      ryw: bySession((read) => this.#before(read).some((write) => this.#isMissed(write, read))),
      mr: bySession((read) => this.#before(read).some((other) => this.#isMissed(this.#saw(other), read))),
      mw: bySession((read) => this.#revealed(read).some((before) => before.some((write) => this.#isMissed(write, read)))),
      wfr: bySession((read) => this.#revealed(read).some((before) => before.some((other) => this.#isMissed(this.#saw(other), read)))),
      cc: verdict(cc),
      ccv: verdict(cc || this.#isNotConvergent()),
      cm: verdict(cc || this.orders.events.some((_, i) => this.#isNotMemory(i))),
      lost: isBlack ? "not judged" : verdict(this.reads.some((read) => this.#isLossUntold(read))), // S-32
    };
  }

  #returned(read        )           {
    return this.orders.returned.get(read) ;
  }

  // What a read saw, if it is a write of this history or one that only reads tell of.
  #saw(read        )                {
    const returned = this.orders.returned.get(read);
    return typeof returned === "number" ? returned : null;
  }

  #before(i        )           {
    return members(this.orders.so[i] );
  }

  #isOfKey(write        , read        )          {
    return this.orders.isWrite(write) && this.orders.events[write] .key === this.orders.events[read] .key;
  }

  // Whether the read should have shown this write, or a newer one: S-22 to S-25.
  #isMissed(write               , read        )          {
    return write !== null && this.#isOfKey(write, read) && this.orders.isNewer(write, this.#returned(read));
  }

  // S-24, S-25: what comes in their sessions before the writes of others that the session has seen by this read.
  #revealed(read        )             {
    const { events } = this.orders;
    const session = events[read] .operation .session;
    return [read, ...this.#before(read)]
      .map((each) => this.#saw(each))
      .filter((write) => write !== null && (events[write] .operation?.session ?? session) !== session)
      .map((write) => this.#before(write ));
  }

  // S-26
  #isNotCausal(read        )          {
    const { co, obliges } = { co: this.orders.co, obliges: (write        ) => this.orders.obliges(write) };
    const returned = this.#returned(read);
    if (this.orders.thinAir.has(read)) return true;
    if (returned === "not known") return false;
    const writes = members(co[read] ).filter((write) => this.#isOfKey(write, read) && obliges(write));
    return returned === "nothing" ? writes.length > 0 : writes.some((write) => has(co[write] , returned));
  }

  // S-27
  #isNotConvergent()          {
    const { orders } = this;
    if (orders.mode === "white" && this.reads.some((read) => members(orders.co[read] ).some((write) => this.#isMissed(write, read)))) {
      return true;
    }
    const before = [...orders.co];
    const writes = orders.events.map((_, i) => i).filter((i) => orders.isWrite(i));
    if (orders.mode === "white") {
      for (const write of writes) {
        for (const other of writes) if (other !== write && orders.ranksAbove(write, other)) before[write]  |= bit(other);
      }
    }
    for (const read of this.reads) {
      const saw = this.#saw(read);
      if (saw !== null && !orders.isUnwritten(saw)) before[saw]  |= this.#overwritten(orders.co[read] , read, saw);
    }
    return isCircular(closure(before));
  }

  // The writes of the read's key, among those before it, that what it saw replaced.
  #overwritten(before      , read        , saw        )       {
    return members(before)
      .filter((write) => write !== saw && this.#isOfKey(write, read) && this.orders.obliges(write))
      .reduce((mask, write) => mask | bit(write), 0n);
  }

  // S-28
  #isNotMemory(o        )          {
    const { orders } = this;
    const among = orders.co[o]  | bit(o);
    const reads = this.reads.filter((read) => read === o || has(orders.so[o] , read));
    let hb = orders.co.map((mask, i) => (has(among, i) ? mask & among : 0n));
    for (;;) {
      const next = [...hb];
      for (const read of reads) {
        const saw = this.#saw(read);
        if (saw !== null && !orders.isUnwritten(saw)) next[saw]  |= this.#overwritten(hb[read] , read, saw);
      }
      const closed = closure(next);
      if (closed.every((mask, i) => mask === hb[i])) break;
      hb = closed;
    }
    if (isCircular(hb)) return true;
    return reads.some((read) => this.#returned(read) === "nothing"
      && members(hb[read] ).some((write) => this.#isOfKey(write, read) && orders.obliges(write)));
  }

  // S-29
  #isLossUntold(read        )          {
    const { events } = this.orders;
    const { session, seq } = events[read] .operation ;
    const returned = this.#returned(read);
    return this.#before(read).some((write) => {
      const { operation, version } = events[write] ;
      if (!operation .isWrite || !this.#isOfKey(write, read) || operation .ok !== true || !this.orders.isLost(write)) return false;
      const isMissed = returned === "nothing" || (typeof returned === "number" && this.#isOlder(returned, write));
      return isMissed && !this.history.told.some((told) =>
        told.session === session && told.seq <= seq && told.shard === operation .shard && isSame(told.version, version ));
    });
  }

  #isOlder(write        , than        )          {
    const [a, b] = [this.orders.events[write] .version, this.orders.events[than] .version];
    return a !== null && b !== null && a[0] === b[0] && a[1] < b[1];
  }
}

function verdict(isViolated         )          {
  return isViolated ? "violated" : "ok";
}

function members(mask      )           {
  const all           = [];
  for (let i = 0, rest = mask; rest > 0n; i++, rest >>= 1n) if (rest % 2n === 1n) all.push(i);
  return all;
}
