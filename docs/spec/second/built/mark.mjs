// A leader mark: the shards of a store that are not in `exact` are read at a leader only, until then.

                                        // Unix seconds
                                                   // whose own writes may be among what is not listed

// As a mark's store: every store.
export const EVERY_STORE = 65_535;

// F-7, T-70
export function joinMarks(a      , b      )       {
  return {
    until: noEarlier(a.until, b.until) ? a.until : b.until,
    exact: new Set([...a.exact].filter((shard) => b.exact.has(shard))),
    origins: a.origins === "any" || b.origins === "any" ? "any" : new Set([...a.origins, ...b.origins]),
  };
}

// F-11
export function noWeaker(a      , b      )          {
  return noEarlier(a.until, b.until) && isSubset(a.exact, b.exact) && hasAll(a.origins, b.origins);
}

// F-16, T-73: at `until` itself it demands nothing any more.
export function hasLapsed(mark      , now        )          {
  return mark.until !== "forever" && mark.until <= now;
}

function noEarlier(a       , b       )          {
  return a === "forever" || (b !== "forever" && a >= b);
}

function hasAll(a         , b         )          {
  return a === "any" || (b !== "any" && isSubset(b, a));
}

function isSubset(part                     , whole                     )          {
  return [...part].every((member) => whole.has(member));
}
