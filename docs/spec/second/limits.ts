// What is refused at once, and never queued: too many who wait, or who are sent to a leader.

export type Limits = {
  readonly waitersPerEndpoint: number;
  readonly waitersPerSubject: number;
  readonly leaderReads: number;
  readonly unauthenticated: number;
};

export class Places {
  readonly #limits: Limits;
  readonly #taken = new Map<string, number>();

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  // G-51: requests without a subject are not one subject.
  wait(endpoint: string, subject: string | null): boolean {
    return this.#take(this.#waiting(endpoint, subject));
  }

  waited(endpoint: string, subject: string | null): void {
    this.#leave(this.#waiting(endpoint, subject));
  }

  // G-52, G-53
  readLeader(isOpened: boolean): boolean {
    return this.#take([this.#leading(isOpened)]);
  }

  left(isOpened: boolean): void {
    this.#leave([this.#leading(isOpened)]);
  }

  #waiting(endpoint: string, subject: string | null): [string, number][] {
    const places: [string, number][] = [[JSON.stringify([endpoint]), this.#limits.waitersPerEndpoint]];
    if (subject !== null) places.push([JSON.stringify([endpoint, subject]), this.#limits.waitersPerSubject]);
    return places;
  }

  #leading(isOpened: boolean): [string, number] {
    return isOpened ? ["leader", this.#limits.leaderReads] : ["unopened", this.#limits.unauthenticated];
  }

  #take(places: readonly [string, number][]): boolean {
    if (places.some(([place, limit]) => (this.#taken.get(place) ?? 0) >= limit)) return false;
    for (const [place] of places) this.#taken.set(place, (this.#taken.get(place) ?? 0) + 1);
    return true;
  }

  #leave(places: readonly [string, number][]): void {
    for (const [place] of places) this.#taken.set(place, this.#taken.get(place)! - 1);
  }
}
