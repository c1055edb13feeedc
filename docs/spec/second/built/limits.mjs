// What is refused at once, and never queued: too many who wait, or who are sent to a leader.

export class Places {
           #limits        ;
           #taken = new Map                ();

  constructor(limits        ) {
    this.#limits = limits;
  }

  // G-51: requests without a subject are not one subject.
  wait(endpoint        , subject               )          {
    return this.#take(this.#waiting(endpoint, subject));
  }

  waited(endpoint        , subject               )       {
    this.#leave(this.#waiting(endpoint, subject));
  }

  // G-52, G-53
  readLeader(isOpened         )          {
    return this.#take([this.#leading(isOpened)]);
  }

  left(isOpened         )       {
    this.#leave([this.#leading(isOpened)]);
  }

  #waiting(endpoint        , subject               )                     {
    const places                     = [[JSON.stringify([endpoint]), this.#limits.waitersPerEndpoint]];
    if (subject !== null) places.push([JSON.stringify([endpoint, subject]), this.#limits.waitersPerSubject]);
    return places;
  }

  #leading(isOpened         )                   {
    return isOpened ? ["leader", this.#limits.leaderReads] : ["unopened", this.#limits.unauthenticated];
  }

  #take(places                             )          {
    if (places.some(([place, limit]) => (this.#taken.get(place) ?? 0) >= limit)) return false;
    for (const [place] of places) this.#taken.set(place, (this.#taken.get(place) ?? 0) + 1);
    return true;
  }

  #leave(places                             )       {
    for (const [place] of places) this.#taken.set(place, this.#taken.get(place)  - 1);
  }
}
