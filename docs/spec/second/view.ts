// What is known of endpoints, from their answers, failures and acknowledgements, in the order in which they come in.
//
// Times are seconds of one local clock; questions are numbered by one counter, that requests draw from, too (G-6).

import { keyOf, shardOf } from "./frontier.ts";
import type { Key, Position, Positions } from "./frontier.ts";
import { ascending, max, min } from "./numbers.ts";
import type { Watermark } from "./watermark.ts";

export type Endpoint = {
  readonly name: string;
  readonly latencyS: number;
  readonly holds: ReadonlySet<number> | null; // its shards; null: all
  readonly serves: boolean; // false of a witness: it is asked, never read
};

// What an endpoint says of one shard.
export type Said = Watermark & { readonly leads: ReadonlySet<number>; readonly life: string };

export type News =
  | { readonly kind: "answer"; readonly from: string; readonly asked: number; readonly atS: number; readonly says: readonly Said[] }
  | { readonly kind: "failure"; readonly of: string; readonly asked: number; readonly atS: number }
  | { readonly kind: "acknowledgement"; readonly by: string; readonly position: Position };

export type Sample = { readonly atS: number; readonly head: bigint };

// How far one origin is applied, and how that went on.
type Course = { applied: bigint; atS: number; movedAtS: number; rate: number | null };

type Shard = {
  life: string | null;
  asked: number; // the newest question that was answered, and when it was sent
  atS: number;
  leads: ReadonlySet<number>;
  readonly toldEnds: Set<number>;
  readonly courses: Map<number, Course>;
};

const NEVER_ASKED = -1;

export class Known {
  readonly endpoint: Endpoint;
  readonly shards = new Map<number, Shard>();
  down: { readonly asked: number; readonly atS: number } | null = null;

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
  }

  holds(shard: number): boolean {
    return this.endpoint.holds === null || this.endpoint.holds.has(shard);
  }

  asked(shard: number): number {
    return this.shards.get(shard)?.asked ?? NEVER_ASKED;
  }

  wasEverAsked(): boolean {
    return [...this.shards.values()].some((shard) => shard.asked > NEVER_ASKED);
  }

  // G-6: by shard, of those that it holds.
  wasAskedSince(arrived: number, shards: readonly number[]): boolean {
    return shards.filter((shard) => this.holds(shard)).every((shard) => this.asked(shard) > arrived);
  }

  course(key: Key): Course | undefined {
    return this.shards.get(shardOf(key))?.courses.get(Number(key & 0xffff_ffffn));
  }

  applied(key: Key): bigint | undefined {
    return this.course(key)?.applied;
  }

  // As it last said, whether it is down or not, and whatever others say.
  saysItLeads(key: Key): boolean {
    return this.shards.get(shardOf(key))?.leads.has(Number(key & 0xffff_ffffn)) ?? false;
  }

  appliedAll(): Positions {
    const all = new Map<Key, bigint>();
    for (const [shard, { courses }] of this.shards) {
      for (const [origin, { applied }] of courses) all.set(keyOf(shard, origin), applied);
    }
    return all;
  }
}

export class View {
  readonly all: readonly Known[];
  readonly ends = new Map<Key, bigint>();
  readonly samples = new Map<Key, Sample[]>();
  constructor(endpoints: readonly Endpoint[], news: readonly News[] = []) {
    this.all = endpoints.map((endpoint) => new Known(endpoint));
    for (const each of news) this.tell(each);
  }

  named(name: string): Known {
    const known = this.all.find(({ endpoint }) => endpoint.name === name);
    if (known === undefined) throw new TypeError(`no endpoint is named ${name}`);
    return known;
  }

  tell(news: News): void {
    if (news.kind === "answer") {
      this.#answered(this.named(news.from), news.asked, news.atS, news.says);
    } else if (news.kind === "failure") {
      this.named(news.of).down = { asked: news.asked, atS: news.atS };
    } else {
      this.#acknowledged(this.named(news.by), news.position); // G-13
    }
  }

  #answered(known: Known, asked: number, atS: number, says: readonly Said[]): void {
    const isOfAnother = ({ shard, life }: Said): boolean => (known.shards.get(shard)?.life ?? life) !== life;
    // G-7
    if (says.some((said) => isOfAnother(said) && asked < known.asked(said.shard))) return;
    const over = new Set(says.filter(isOfAnother).map(({ shard }) => known.shards.get(shard)!.life));
    for (const [shard, { life }] of known.shards) if (life !== null && over.has(life)) known.shards.delete(shard);

    known.down = null;
    for (const said of says) this.#said(known, asked, atS, said);
    for (const said of says) this.#sampled(known, asked, atS, said);
  }

  #said(known: Known, asked: number, atS: number, said: Said): void {
    const shard = shardAt(known, said.shard);
    shard.life = said.life;
    for (const [origin, { applied, end }] of said.origins) {
      const key = keyOf(said.shard, origin);
      if (end !== null) {
        shard.toldEnds.add(origin);
        this.ends.set(key, min(end, this.ends.get(key) ?? end)); // G-10
      }
      progress(shard.courses, origin, applied, atS);
    }
    if (asked > shard.asked) { // G-8
      shard.asked = asked;
      shard.atS = atS;
      shard.leads = said.leads;
    }
  }

  #sampled(known: Known, asked: number, atS: number, said: Said): void {
    if (known.asked(said.shard) !== asked) return;
    for (const origin of said.leads) {
      const key = keyOf(said.shard, origin);
      const samples = this.samples.get(key) ?? [];
      if (this.leaderOf(key) !== known || atS < (samples.at(-1)?.atS ?? atS)) continue;
      samples.push({ atS, head: said.origins.get(origin)?.applied ?? 0n });
      this.samples.set(key, samples);
    }
  }

  // G-13: only where it is numbered, as that endpoint last said.
  #acknowledged(known: Known, [shard, origin, offset]: Position): void {
    const course = known.course(keyOf(shard, origin));
    if (course !== undefined && known.saysItLeads(keyOf(shard, origin))) course.applied = max(course.applied, offset);
  }

  // What is told of, by anybody in the life that it is in.
  get told(): ReadonlySet<Key> {
    const told = new Set<Key>();
    for (const { shards } of this.all) {
      for (const [shard, { courses, leads }] of shards) {
        for (const origin of [...courses.keys(), ...leads]) told.add(keyOf(shard, origin));
      }
    }
    return told;
  }

  // G-9: what has ended is numbered by nobody (G-10).
  numbers(known: Known, key: Key): boolean {
    return known.down === null && known.saysItLeads(key) && !this.ends.has(key);
  }

  // G-9: of two that say so, who was asked later.
  leaderOf(key: Key): Known | null {
    const shard = shardOf(key);
    return this.all
      .filter((known) => this.numbers(known, key))
      .reduce<Known | null>((best, known) => (best === null || known.asked(shard) > best.asked(shard) ? known : best), null);
  }

  // G-12
  live(): Key[] {
    return ascending(this.told).filter((key) => !this.ends.has(key));
  }

  ledBy(known: Known): Key[] {
    return this.live().filter((key) => this.leaderOf(key) === known);
  }

  // G-11
  isPastAnEnd(known: Known, counts: (key: Key) => boolean = () => true): boolean {
    return [...this.ends].some(([key, end]) => counts(key) && (known.applied(key) ?? 0n) > end);
  }

  // Nearest is by latency; then replicas come before who numbers anything; then as configured.
  nearestFirst(counts: (key: Key) => boolean = () => true): Known[] {
    const leads = new Map(this.all.map((known) => [known, this.ledBy(known).some(counts) ? 1 : 0]));
    return [...this.all].sort((a, b) => a.endpoint.latencyS - b.endpoint.latencyS || leads.get(a)! - leads.get(b)!);
  }

  // G-14 to G-16: since when, or always, or never.
  freshSince(known: Known, counts: (key: Key) => boolean = () => true): number | "always" | "never" {
    if (!known.wasEverAsked()) return "never";
    let since: number | null = null;
    for (const key of ascending(this.told).filter(counts)) {
      if (this.numbers(known, key)) continue;
      const applied = known.applied(key) ?? 0n;
      const end = this.ends.get(key);
      if (end !== undefined && applied >= end) continue; // G-15
      const shown = (this.samples.get(key) ?? []).filter(({ head }) => head <= applied).map(({ atS }) => atS);
      if (shown.length === 0) return "never";
      since = Math.min(since ?? Infinity, Math.max(...shown));
    }
    if (since !== null) return since;
    if (this.live().some((key) => counts(key) && this.numbers(known, key))) return "always";
    return Math.max(...[...known.shards.values()].map(({ asked, atS }) => (asked > NEVER_ASKED ? atS : -Infinity)));
  }
}

function shardAt(known: Known, number: number): Shard {
  let shard = known.shards.get(number);
  if (shard === undefined) {
    shard = { life: null, asked: NEVER_ASKED, atS: -Infinity, leads: new Set(), toldEnds: new Set(), courses: new Map() };
    known.shards.set(number, shard);
  }
  return shard;
}

// G-8: within one life nothing shrinks.
function progress(courses: Map<number, Course>, origin: number, applied: bigint, atS: number): void {
  const before = courses.get(origin);
  if (before === undefined) {
    courses.set(origin, { applied, atS, movedAtS: atS, rate: null });
  } else if (atS >= before.atS) {
    if (applied > before.applied) {
      before.rate = atS > before.atS ? Number(applied - before.applied) / (atS - before.atS) : before.rate;
      before.movedAtS = atS;
    }
    before.applied = max(before.applied, applied);
    before.atS = atS;
  } else {
    before.applied = max(before.applied, applied);
  }
}
