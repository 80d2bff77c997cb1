// Heights of rows that are mostly not drawn: where a row begins, and which row is at a height.
//
// The rule it keeps: both questions and a change of one height cost O(log n), so a feed of 100,000 rows scrolls like one
// of 100. (A Fenwick tree over the heights; Fenwick, "A new data structure for cumulative frequency tables", 1994.)

export class Heights {
  #own: number[] = [];
  #tree: number[] = [0]; // 1-based: #tree[i] sums the i & -i heights that end at i
  #total = 0;

  get length(): number {
    return this.#own.length;
  }

  /** The height of all rows together. */
  get total(): number {
    return this.#total;
  }

  clear(): void {
    this.#own = [];
    this.#tree = [0];
    this.#total = 0;
  }

  push(height: number): void {
    this.#own.push(height);
    this.#total += height;
    const index = this.#own.length;
    let sum = height;
    for (let step = 1; step < (index & -index); step <<= 1) sum += this.#tree[index - step]!;
    this.#tree.push(sum);
  }

  /** Sets a height; returns by how much it changed. */
  set(row: number, height: number): number {
    const change = height - this.#own[row]!;
    if (change === 0) return 0;
    this.#own[row] = height;
    this.#total += change;
    for (let index = row + 1; index <= this.#own.length; index += index & -index) this.#tree[index]! += change;
    return change;
  }

  /** Where `row` begins; for `length` the end of all. */
  top(row: number): number {
    let sum = 0;
    for (let index = row; index > 0; index -= index & -index) sum += this.#tree[index]!;
    return sum;
  }

  /** The row at height `y`, within 0…length-1. */
  at(y: number): number {
    let index = 0;
    let rest = y;
    for (let step = highestBit(this.#own.length); step > 0; step >>= 1) {
      const next = index + step;
      if (next <= this.#own.length && this.#tree[next]! <= rest) {
        index = next;
        rest -= this.#tree[next]!;
      }
    }
    return Math.max(0, Math.min(index, this.#own.length - 1));
  }
}

function highestBit(length: number): number {
  return length === 0 ? 0 : 2 ** Math.floor(Math.log2(length));
}
