// Who followed whom, who saw what, and what is newer. Sets of events are masks: bit i stands for event i.

import { JsonNumber } from "./exactjson.mjs";

// What a read returned: the event of a write; nothing; or it is not known which, and nothing is newer than that.

// An operation, or a write that is not in the history, of which only a read tells (S-12).

export class Orders {
           mode      ;
           events         ;
           returned = new Map                  (); // of reads
           thinAir = new Set        (); // S-11: reads of what nobody wrote
           so        ; // what each event follows in its session
           co        ; // what each event depends on
           #ends = new Map                ();
           #ranks = new Map              ();

  constructor(history         , mode      ) {
    this.mode = mode;
    const happened = history.operations.filter(({ ok }) => ok !== false); // S-7
    const seen = (event           )          => happened.some((read) => !read.isWrite && this.#isOf(read, event));
    const events = happened.filter((operation) => operation.ok !== null || seen(operation)); // S-8
    this.events = events.map((operation) => ({ operation, key: operation.key, version: operation.version }));
    for (const { shard, origin, offset } of history.ends) {
      const name = `${shard} ${origin}`;
      const before = this.#ends.get(name);
      this.#ends.set(name, before !== undefined && before < offset ? before : offset); // S-19: the lowest
    }
    for (let i = 0; i < events.length; i++) {
      if (!events[i] .isWrite) this.returned.set(i, this.#return(i, events[i] , history));
    }
    this.so = this.events.map(({ operation }, i) => (operation === null ? 0n : this.#follows(i, history)));
    const rf = this.events.map((_, i) => {
      const returned = this.returned.get(i);
      return typeof returned === "number" ? bit(returned) : 0n;
    });
    this.co = closure(this.so.map((mask, i) => mask | rf[i] ));
    for (const { key } of this.events) this.#ranks.set(key, this.#rank(key, history));
  }

  // Whether a read, by what is looked at, saw this write.
  #isOf(read           , write           )          {
    if (!write.isWrite || write.key !== read.key) return false;
    if (this.mode === "black") return read.value !== null && same(read.value, write.value); // S-10
    return read.version !== null && write.version !== null && isSame(read.version, write.version); // S-9
  }

  #return(i        , read           , history         )           {
    const isNothing = this.mode === "black" ? read.value === null : read.version === null && read.value === null;
    if (isNothing) return "nothing";
    if (this.mode === "white" && read.version === null) return "not known"; // S-9
    const of = history.operations.filter((each) => this.#isOf(read, each));
    const write = of.findLast(({ ok }) => ok !== false);
    if (write === undefined) {
      if (of.length > 0 || (this.mode === "black" && !history.isSample)) this.thinAir.add(i); // S-11, S-13
      return this.mode === "white" ? this.#unwritten(read) : "not known";
    }
    if (read.value !== null && write.value !== null && !same(read.value, write.value)) this.thinAir.add(i);
    return this.events.findIndex(({ operation }) => operation === write);
  }

  // S-12
  #unwritten(read           )         {
    const known = this.events.findIndex(({ operation, key, version }) =>
      operation === null && key === read.key && isSame(version , read.version ));
    return known >= 0 ? known : this.events.push({ operation: null, key: read.key, version: read.version }) - 1;
  }

  // S-5: the operation that started last among those answered before, and all that stand before it.
  #follows(i        , history         )       {
    const { session, after, line } = this.events[i] .operation ;
    const before = history.operations.filter((other) => other.session === session && other.line < line && other.seq <= after);
    if (before.length === 0) return 0n;
    const last = before.reduce((a, b) => (b.seq > a.seq ? b : a));
    let mask = 0n;
    for (const [j, { operation }] of this.events.entries()) {
      // S-8: nothing follows a write in doubt.
      if (operation?.session === session && operation.line <= last.line && operation.ok !== null) mask |= bit(j);
    }
    return mask;
  }

  isWrite(i        )          {
    const { operation } = this.events[i] ;
    return operation === null || operation.isWrite;
  }

  isUnwritten(i        )          {
    return this.events[i] .operation === null;
  }

  shardOf(i        )         {
    return (JSON.parse(this.events[i] .key)                    )[0];
  }

  isLost(i        )          {
    const { version } = this.events[i] ;
    if (this.mode === "black" || version === null) return false;
    const end = this.#ends.get(`${this.shardOf(i)} ${version[0]}`);
    return end !== undefined && version[1] > end;
  }

  // S-9, S-19: whether this write obliges anybody.
  obliges(i        )          {
    return this.isWrite(i) && (this.mode === "black" || (this.events[i] .version !== null && !this.isLost(i)));
  }

  // Whether the write is newer than what was returned. What obliges nobody is newer than nothing.
  isNewer(write        , than          )          {
    if (!this.obliges(write) || than === "not known") return false;
    return than === "nothing" || this.ranksAbove(write, than);
  }

  // S-14 to S-18, whether lost or not.
  ranksAbove(write        , other        )          {
    if (this.mode === "black") return has(this.co[write] , other);
    const [a, b] = [this.events[write] , this.events[other] ];
    if (a.key !== b.key || a.version === null || b.version === null) return false;
    return this.#ranks.get(a.key) (a.version, b.version);
  }

  // What stands on any line says how this store ranks, refused or not.
  #rank(key        , history         )       {
    const lines = history.operations.filter((each) => each.key === key && each.version !== null);
    const origins = [...new Set(lines.map(({ version }) => version [0]))];
    const stamps = new Map(lines.flatMap(({ version, stamp }) => (stamp === null ? [] : [[String(version), stamp]         ])));
    const highest = origins.reduce((a, b) => (b > a ? b : a), 0n);
    const shard = (JSON.parse(key)                    )[0];
    const isStamped = lines.every(({ version }) => stamps.has(String(version))); // S-15
    const isEnded = origins.every((origin) => origin === highest || this.#ends.has(`${shard} ${origin}`)); // S-16
    return (a, b) => {
      if (origins.length > 1 && isStamped) {
        const [x, y] = [stamps.get(String(a)) , stamps.get(String(b)) ];
        if (x !== y) return x > y;
      }
      if (a[0] === b[0]) return a[1] > b[1]; // S-14
      return (isStamped || isEnded) && a[0] > b[0]; // S-17, if neither
    };
  }
}

export function isSame(a         , b         )          {
  return a[0] === b[0] && a[1] === b[1];
}

// S-10: of one type, and equal.
function same(a       , b       )          {
  return a instanceof JsonNumber && b instanceof JsonNumber ? a.equals(b) : a === b;
}

export function bit(i        )       {
  return 1n << BigInt(i);
}

export function has(mask      , i        )          {
  return (mask >> BigInt(i)) % 2n === 1n;
}

// The transitive closure of what comes directly before each.
export function closure(before                 )         {
  const reach = [...before];
  for (let k = 0; k < reach.length; k++) {
    for (let i = 0; i < reach.length; i++) if (has(reach[i] , k)) reach[i]  |= reach[k] ;
  }
  return reach;
}

export function isCircular(reach                 )          {
  return reach.some((mask, i) => has(mask, i));
}

// S-10: whether a black box can tell which write a read saw.
export function isAmbiguous(history         )          {
  const writes = history.operations.filter(({ isWrite, ok }) => isWrite && ok !== false);
  return writes.some((write, i) =>
    write.value === null || writes.slice(0, i).some((other) => other.key === write.key && same(other.value, write.value)));
}
