// Which rows are shown.
//
// The rule it keeps: a filter hides rows, never events: the stream goes on underneath, and what changes the meaning of
// the rest (start, turn, end, holes, a question to a human) is always shown.
import type { Row } from "./rows";

export const GROUPS = ["tools", "text", "thinking", "files", "errors", "other"] as const;
export type Group = (typeof GROUPS)[number];
export type Shown = Readonly<Record<Group, boolean>>;

export const EVERYTHING: Shown = { tools: true, text: true, thinking: true, files: true, errors: true, other: true };

const GROUP_OF: Record<Row["kind"], Group | null> = {
  call: "tools",
  text: "text",
  output: "text",
  thinking: "thinking",
  file: "files",
  error: "errors",
  other: "other",
  permission: null,
  gap: null,
  start: null,
  turn: null,
  end: null,
};

export function passes(row: Row, shown: Shown): boolean {
  if (shown.errors && row.kind === "call" && row.status === "failed") return true;
  const group = GROUP_OF[row.kind];
  return group === null || shown[group];
}

/** The indexes of the rows that pass; kept up to date from the indexes that changed. */
export class Selection {
  // given
  #shown: Shown = EVERYTHING;
  // changing
  #indexes: number[] = [];
  #length = 0;

  get indexes(): readonly number[] {
    return this.#indexes;
  }

  filter(rows: readonly Row[], shown: Shown): void {
    this.#shown = shown;
    this.#indexes = [];
    this.#length = 0;
    this.#extend(rows);
  }

  /** Returns true when more than the end changed: a row came in or dropped out in the middle. */
  update(rows: readonly Row[], changed: readonly number[]): boolean {
    const moved = changed.some((index) => index < this.#length && passes(rows[index]!, this.#shown) !== this.#has(index));
    if (moved) this.filter(rows, this.#shown);
    else this.#extend(rows);
    return moved;
  }

  #extend(rows: readonly Row[]): void {
    for (; this.#length < rows.length; this.#length++) {
      if (passes(rows[this.#length]!, this.#shown)) this.#indexes.push(this.#length);
    }
  }

  #has(index: number): boolean {
    let low = 0;
    let high = this.#indexes.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = this.#indexes[middle]!;
      if (found === index) return true;
      if (found < index) low = middle + 1;
      else high = middle - 1;
    }
    return false;
  }
}
