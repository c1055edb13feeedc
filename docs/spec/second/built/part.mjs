// What of a view concerns a demand. G-18: where some endpoint holds only some shards, only the demand's own count.

import { shardOf } from "./frontier.mjs";

export function counting(view      , shards                   )         {
  if (view.all.every(({ endpoint }) => endpoint.holds === null)) return () => true;
  return (key) => shards.includes(shardOf(key));
}

export class Part {
           view      ;
           counts        ;
           nearest                  ; // all that are there for this demand
           live                ;
           ends           ;

  constructor(view      , shards                   ) {
    this.view = view;
    this.counts = counting(view, shards);
    this.nearest = view.nearestFirst(this.counts).filter((known) => isThere(known, shards));
    this.live = view.live().filter(this.counts);
    this.ends = new Map([...view.ends].filter(([key]) => this.counts(key)));
  }

  leaderOf(key     )               {
    const leader = this.view.leaderOf(key);
    return leader !== null && this.nearest.includes(leader) ? leader : null;
  }

  told()        {
    return this.nearest.flatMap((known) => [...known.appliedAll().keys()]).filter(this.counts);
  }
}

// A witness says what it numbers of any of the shards; anybody else is read of all of them, or of none.
function isThere(known       , shards                   )          {
  return known.endpoint.serves ? shards.every((shard) => known.holds(shard)) : shards.some((shard) => known.holds(shard));
}
