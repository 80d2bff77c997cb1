// Which sequence numbers of a run are accounted for: seen, merged (`covers`) or declared lost (`gap`).
//
// The rule it keeps: seen, merged and declared numbers together have no hole, or the hole is known here (DESIGN §3, Holes).

/** Numbers first…last that nobody accounted for yet; noticed at `since`, in milliseconds. */
export interface Hole {
  first: number;
  last: number;
  since: number;
}

export class Ledger {
  #top = 0;
  #holes: Hole[] = []; // ascending, apart; few: each is explained or reported within seconds

  /** The highest number accounted for. */
  get top(): number {
    return this.#top;
  }

  get holes(): readonly Hole[] {
    return this.#holes;
  }

  /** Accounts for first…last; what it jumps over becomes a hole noticed at `now`. */
  settle(first: number, last: number, now: number): void {
    if (first > this.#top + 1) this.#holes.push({ first: this.#top + 1, last: first - 1, since: now });
    if (this.#holes.length > 0 && first <= this.#top) this.#cut(first, last);
    this.#top = Math.max(this.#top, last);
  }

  /** How many of the numbers first…last nobody has accounted for. */
  open(first: number, last: number): number {
    const above = Math.max(0, last - Math.max(first, this.#top + 1) + 1);
    return this.#holes.reduce(
      (sum, hole) => sum + Math.max(0, Math.min(last, hole.last) - Math.max(first, hole.first) + 1),
      above,
    );
  }

  /** Takes out the holes that were noticed at or before `until`, so that they can be reported once. */
  takeHoles(until: number): Hole[] {
    const due = this.#holes.filter((hole) => hole.since <= until);
    if (due.length > 0) this.#holes = this.#holes.filter((hole) => hole.since > until);
    return due;
  }

  #cut(first: number, last: number): void {
    this.#holes = this.#holes.flatMap((hole) => {
      if (last < hole.first || first > hole.last) return [hole];
      const left = { ...hole, last: first - 1 };
      const right = { ...hole, first: last + 1 };
      return [left, right].filter((part) => part.first <= part.last);
    });
  }
}
