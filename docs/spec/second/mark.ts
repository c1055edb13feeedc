// A leader mark: the shards of a store that are not in `exact` are read at a leader only, until then.

export type Until = bigint | "forever"; // Unix seconds
export type Origins = ReadonlySet<number> | "any"; // whose own writes may be among what is not listed

export type Mark = { readonly until: Until; readonly exact: ReadonlySet<number>; readonly origins: Origins };

// As a mark's store: every store.
export const EVERY_STORE = 65_535;

// F-7, T-70
export function joinMarks(a: Mark, b: Mark): Mark {
  return {
    until: noEarlier(a.until, b.until) ? a.until : b.until,
    exact: new Set([...a.exact].filter((shard) => b.exact.has(shard))),
    origins: a.origins === "any" || b.origins === "any" ? "any" : new Set([...a.origins, ...b.origins]),
  };
}

// F-11
export function noWeaker(a: Mark, b: Mark): boolean {
  return noEarlier(a.until, b.until) && isSubset(a.exact, b.exact) && hasAll(a.origins, b.origins);
}

// F-16, T-73: at `until` itself it demands nothing any more.
export function hasLapsed(mark: Mark, now: bigint): boolean {
  return mark.until !== "forever" && mark.until <= now;
}

function noEarlier(a: Until, b: Until): boolean {
  return a === "forever" || (b !== "forever" && a >= b);
}

function hasAll(a: Origins, b: Origins): boolean {
  return a === "any" || (b !== "any" && isSubset(b, a));
}

function isSubset(part: ReadonlySet<number>, whole: ReadonlySet<number>): boolean {
  return [...part].every((member) => whole.has(member));
}
