// What is known of endpoints, from their answers, failures and acknowledgements, in the order in which they come in.
//
// Times are seconds of one local clock; questions are numbered by one counter, that requests draw from, too (G-6).

import { keyOf, originOf, shardOf } from "./frontier.mjs";

import { ascending, max, min } from "./numbers.mjs";

// What an endpoint says of one shard.

const NEVER_ASKED = -1;

export class Known {
           endpoint          ;
           shards = new Map               ();
  failed = false;
  tried = { asked: NEVER_ASKED, atS: -Infinity }; // the last question that came to an end
  askedAtS = -Infinity; // when the newest one that was answered was sent
           rates = new Map             (); // in how many offsets a second it catches up
  stalledAtS                = null; // since when it has not moved, though it is behind

  constructor(endpoint          ) {
    this.endpoint = endpoint;
  }

  holds(shard        )          {
    return this.endpoint.holds === null || this.endpoint.holds.has(shard);
  }

  asked(shard        )         {
    return this.shards.get(shard)?.asked ?? NEVER_ASKED;
  }

  wasEverAsked(counts                       )          {
    return [...this.shards.keys()].some((shard) => counts(keyOf(shard, 0)));
  }

  // G-6: by shard, of those that it holds.
  wasAskedSince(arrived        , shards                   )          {
    return shards.filter((shard) => this.holds(shard)).every((shard) => this.asked(shard) > arrived);
  }

  applied(key     )                     {
    return this.shards.get(shardOf(key))?.applied.get(originOf(key));
  }

  // As it last said, whether it is down or not, and whatever others say.
  saysItLeads(key     )          {
    return this.shards.get(shardOf(key))?.leads.has(originOf(key)) ?? false;
  }

  appliedAll()            {
    const all = new Map             ();
    for (const [shard, { applied }] of this.shards) {
      for (const [origin, offset] of applied) all.set(keyOf(shard, origin), offset);
    }
    return all;
  }
}

export class View {
           all                  ;
           ends = new Map             ();
           samples = new Map               ();
           #leaders = new Map            (); // who said so last
  constructor(endpoints                     , news                  = []) {
    this.all = endpoints.map((endpoint) => new Known(endpoint));
    for (const each of news) this.tell(each);
  }

  named(name        )        {
    const known = this.all.find(({ endpoint }) => endpoint.name === name);
    if (known === undefined) throw new TypeError(`no endpoint is named ${name}`);
    return known;
  }

  tell(news      )       {
    if (news.kind === "answer") {
      this.#answered(this.named(news.from), news.asked, news.atS, news.says);
    } else if (news.kind === "failure") {
      const known = this.named(news.of);
      known.failed = true;
      known.tried = { asked: Math.max(news.asked, known.tried.asked), atS: news.atS };
    } else {
      this.#acknowledged(this.named(news.by), news.position); // G-13
    }
  }

  #answered(known       , asked        , atS        , says                 )       {
    const isOfAnother = ({ shard, life }      )          => (known.shards.get(shard)?.life ?? life) !== life;
    // G-7
    if (says.some((said) => isOfAnother(said) && asked < known.asked(said.shard))) return;
    const over = new Set(says.filter(isOfAnother).map(({ shard }) => known.shards.get(shard) .life));
    const was = known.appliedAll();
    const rivals = new Map([...this.#leaders.keys()].map((key) => [key, this.leaderOf(key)]));
    for (const [shard, { life }] of known.shards) if (over.has(life)) known.shards.delete(shard);

    known.failed = false;
    for (const said of says) this.#said(known, asked, atS, said, rivals);
    this.#progressed(known, was, atS);
    known.tried = { asked: Math.max(asked, known.tried.asked), atS };
    known.askedAtS = Math.max(known.askedAtS, atS);
  }

  #said(known       , asked        , atS        , said      , rivals                                )       {
    const shard = known.shards.get(said.shard) ?? { life: said.life, asked: NEVER_ASKED, leads: new Set(), applied: new Map() };
    known.shards.set(said.shard, shard);
    for (const [origin, { applied, end }] of said.origins) {
      const key = keyOf(said.shard, origin);
      if (end !== null) this.ends.set(key, min(end, this.ends.get(key) ?? end)); // G-10
      shard.applied.set(origin, max(applied, shard.applied.get(origin) ?? 0n)); // G-8
    }
    if (asked < shard.asked) return; // G-8: it says nothing of who numbers what
    shard.asked = asked;
    shard.leads = new Set([...said.leads].filter((origin) => said.origins.get(origin)?.end === null));
    for (const origin of shard.leads) {
      const key = keyOf(said.shard, origin);
      if (this.ends.has(key)) continue;
      const rival = rivals.get(key) ?? null;
      if (rival === null || rival === known || rival.asked(said.shard) < asked) this.#leaders.set(key, known); // G-9
      const samples = this.samples.get(key) ?? [];
      if (atS >= (samples.at(-1)?.atS ?? atS)) samples.push({ atS, head: said.origins.get(origin) .applied });
      this.samples.set(key, samples);
    }
  }

  // How fast it catches up: only from one backlog into the next, as who has caught up in between may have idled.
  #progressed(known       , was           , atS        )       {
    const isBehind = (key     , applied        )          =>
      !this.ends.has(key) && applied < (this.samples.get(key)?.at(-1)?.head ?? 0n);
    for (const key of known.rates.keys()) if (known.applied(key) === undefined) known.rates.delete(key);
    const caughtUp = [...was].filter(([key, before]) => isBehind(key, before) && (known.applied(key) ?? 0n) > before);
    for (const [key, before] of caughtUp) {
      const now = known.applied(key) ;
      if (isBehind(key, now) && atS > known.askedAtS) {
        const rate = Number(now - before) / (atS - known.askedAtS);
        known.rates.set(key, (rate + (known.rates.get(key) ?? rate)) / 2);
      } else {
        known.rates.delete(key);
      }
    }
    if (caughtUp.length > 0 || ![...was].some(([key, before]) => isBehind(key, before))) known.stalledAtS = null;
    else known.stalledAtS ??= atS;
  }

  // G-13: only where it is numbered, as that endpoint last said.
  #acknowledged(known       , [shard, origin, offset]          )       {
    const key = keyOf(shard, origin);
    const applied = known.applied(key);
    if (applied !== undefined && known.saysItLeads(key)) known.shards.get(shard) .applied.set(origin, max(applied, offset));
  }

  // What is told of, by anybody in the life that it is in.
  get told()                   {
    return new Set(this.all.flatMap((known) => [...known.appliedAll().keys()]));
  }

  // G-9, G-10: what has ended is numbered by nobody.
  numbers(known       , key     )          {
    return known.saysItLeads(key) && !this.ends.has(key);
  }

  numbersOf(known       )        {
    return this.live().filter((key) => this.numbers(known, key));
  }

  // G-9
  leaderOf(key     )               {
    const known = this.#leaders.get(key);
    return known !== undefined && this.numbers(known, key) && !this.isDown(known) ? known : null;
  }

  // G-11: who is past an end is down, too.
  isDown(known       )          {
    return known.failed || [...this.ends].some(([key, end]) => (known.applied(key) ?? 0n) > end);
  }

  // G-12
  live()        {
    return ascending(new Set([...this.told, ...this.#leaders.keys()])).filter((key) => !this.ends.has(key));
  }

  ledBy(known       )        {
    return this.live().filter((key) => this.leaderOf(key) === known);
  }

  isTold(origin        )          {
    return [...this.live(), ...this.ends.keys()].some((key) => originOf(key) === origin);
  }

  // Nearest is by latency; then replicas come before who numbers anything; then as configured. Witnesses come last.
  nearestFirst(counts                        = () => true)          {
    const rank = (known       )         => (this.numbersOf(known).some(counts) ? 1 : 0);
    return [...this.all].sort((a, b) =>
      Number(b.endpoint.serves) - Number(a.endpoint.serves) || a.endpoint.latencyS - b.endpoint.latencyS || rank(a) - rank(b));
  }

  // G-14 to G-16: since when, or always, or never.
  freshSince(known       , counts                        = () => true)                              {
    if (!known.wasEverAsked(counts)) return "never";
    let since                = null;
    for (const key of [...this.ends.keys(), ...this.live()].filter((key) => counts(key) && known.holds(shardOf(key)))) {
      const applied = known.applied(key);
      const end = this.ends.get(key);
      if (end === undefined ? this.numbers(known, key) : applied !== undefined && applied >= end) continue; // G-15
      const shown = (this.samples.get(key) ?? []).filter(({ head }) => head <= (applied ?? 0n)).map(({ atS }) => atS);
      if (shown.length === 0) return "never";
      since = Math.min(since ?? Infinity, Math.max(...shown));
    }
    if (since !== null) return since;
    return this.numbersOf(known).some(counts) ? "always" : known.askedAtS;
  }
}
