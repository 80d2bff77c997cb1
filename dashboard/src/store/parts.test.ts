// The smaller parts of the store: ledger, heights, filters, the runs list, text and wording.
import { describe, expect, test } from "vitest";
import type { AgentEvent } from "../connection/messages";
import { EVERYTHING, Selection } from "./filters";
import { Heights } from "./heights";
import { Ledger } from "./ledger";
import type { Row } from "./rows";
import { Runs, type RunSummary } from "./runs";
import { visible } from "./visible";
import { age, bytes, dollars, eta, short, span } from "./wording";

describe("the ledger", () => {
  test("knows holes until they are accounted for, in parts too", () => {
    const ledger = new Ledger();
    ledger.settle(1, 1, 0);
    ledger.settle(10, 10, 5);
    expect(ledger.holes).toEqual([{ first: 2, last: 9, since: 5 }]);
    ledger.settle(4, 5, 6);
    expect(ledger.holes.map(({ first, last }) => [first, last])).toEqual([[2, 3], [6, 9]]);
    ledger.settle(1, 12, 7);
    expect(ledger.holes).toEqual([]);
    expect(ledger.top).toBe(12);
  });

  test("gives each hole out once", () => {
    const ledger = new Ledger();
    ledger.settle(3, 3, 0);
    expect(ledger.takeHoles(-1)).toEqual([]);
    expect(ledger.takeHoles(0)).toHaveLength(1);
    expect(ledger.takeHoles(9)).toEqual([]);
  });

  test("agrees with a set of numbers under any order of ranges", () => {
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
    for (let round = 0; round < 200; round++) {
      const ledger = new Ledger();
      const known = new Set<number>();
      for (let step = 0; step < 12; step++) {
        const first = 1 + random(40);
        const last = first + random(6);
        ledger.settle(first, last, 0);
        for (let number = first; number <= last; number++) known.add(number);
      }
      const holes = ledger.holes.flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
      const missing = Array.from({ length: ledger.top }, (_, i) => i + 1).filter((number) => !known.has(number));
      expect(holes.sort((a, b) => a - b)).toEqual(missing);
    }
  });
});

test("heights agree with plain sums", () => {
  const heights = new Heights();
  const plain: number[] = [];
  for (let row = 0; row < 500; row++) {
    heights.push((row * 37) % 90 || 1);
    plain.push((row * 37) % 90 || 1);
  }
  for (let row = 0; row < 500; row += 7) {
    heights.set(row, row + 1);
    plain[row] = row + 1;
  }
  let sum = 0;
  plain.forEach((height, row) => {
    expect(heights.top(row)).toBe(sum);
    expect(heights.at(sum)).toBe(row);
    expect(heights.at(sum + height - 0.5)).toBe(row);
    sum += height;
  });
  expect(heights.total).toBe(sum);
  expect(heights.at(sum + 99)).toBe(499);
  expect(new Heights().at(5)).toBe(0);
});

describe("filters", () => {
  const rows = ["start", "text", "call", "error"].map((kind, key) => ({ kind, key: String(key), status: "running" }) as unknown as Row);

  test("hide rows, never what changes the meaning of the rest", () => {
    const selection = new Selection();
    selection.filter(rows, { ...EVERYTHING, text: false, errors: false });
    expect(selection.indexes).toEqual([0, 2]);
  });

  test("a call that fails comes in where only errors are shown", () => {
    const selection = new Selection();
    const errors = { tools: false, text: false, thinking: false, files: false, errors: true, other: false };
    selection.filter(rows, errors);
    expect(selection.indexes).toEqual([0, 3]);
    const failed = rows.map((row) => (row.kind === "call" ? ({ ...row, status: "failed" } as Row) : row));
    expect(selection.update(failed, [2])).toBe(true);
    expect(selection.indexes).toEqual([0, 2, 3]);
  });

  test("new rows are added at the end", () => {
    const selection = new Selection();
    selection.filter(rows.slice(0, 2), EVERYTHING);
    expect(selection.update(rows, [1, 2, 3])).toBe(false);
    expect(selection.indexes).toEqual([0, 1, 2, 3]);
  });
});

describe("the list of runs", () => {
  let sequence = 0;
  const event = (type: string, payload: object, run = "r"): AgentEvent =>
    ({ type, run_id: run, agent_id: "claude", event_id: `${run}:${++sequence}`, timestamp: "2026-01-01T00:00:00Z", payload }) as AgentEvent;

  test("follows the hub's rules and drops what it knows", () => {
    const runs = new Runs();
    const events = [
      event("run_started", { model: "m", agent: "claude" }),
      event("agent_tool_call", {}),
      event("agent_tool_result", { ok: false }),
      event("file_changed", { path: "a" }),
      event("file_changed", { path: "a" }),
      event("usage_update", { input_tokens: 5, output_tokens: 6, cumulative: false, cost_usd: 9 }),
      event("run_iteration", { turn: 1, ok: true, cost_usd: 0.5, usage: { input_tokens: 7 } }),
    ];
    runs.apply(events);
    runs.apply(events);
    expect(runs.get("r")).toMatchObject({ model: "m", tool_calls: 1, tool_failures: 1, files_changed: 1, turns: 1, cost_usd: 0.5, usage: { input_tokens: 7 }, state: "running" });
    expect(runs.apply([event("run_failed", { duration_ms: 1, turns: 3, error: "no" })])).toBe(true);
    expect(runs.get("r")).toMatchObject({ state: "failed", turns: 3, error: "no", cost_usd: 0.5 });
  });

  test("leaves what a sub-agent says of itself to the sub-agent", () => {
    const runs = new Runs();
    const own = [
      event("progress_update", { percent: 50, done: 1, total: 2 }),
      event("usage_update", { input_tokens: 5, output_tokens: 6, cumulative: true, cost_usd: 1 }),
      event("run_iteration", { turn: 1, ok: true, result: "own" }),
    ];
    runs.apply(own);
    const before = runs.get("r");
    const its = [
      event("progress_update", { percent: 10, done: 1, total: 10 }),
      event("usage_update", { input_tokens: 7, output_tokens: 8, cumulative: true, cost_usd: 9 }),
      event("run_iteration", { turn: 4, ok: false, result: "its", error: "its" }),
      event("agent_tool_call", { title: "Read: a" }),
    ].map((each) => ({ ...each, parent_id: "t1" }));
    runs.apply(its as AgentEvent[]);
    expect(runs.get("r")).toEqual({ ...before, events: 7, tool_calls: 1, activity: "Read: a", last_type: "agent_tool_call" });
  });

  test("is newest first, also for what comes after a reading", () => {
    const runs = new Runs();
    runs.read([{ run_id: "b" }, { run_id: "a" }] as RunSummary[]);
    runs.apply([event("run_started", {}, "c"), event("agent_tool_call", {}, "a")]);
    expect(runs.list().map((run) => run.run_id)).toEqual(["c", "b", "a"]);
  });

  test("keeps what only the events told when the hub is read anew", () => {
    const runs = new Runs();
    runs.apply([event("agent_tool_call", { title: "Bash: ls" })]);
    runs.read([{ run_id: "r", tool_calls: 1 } as RunSummary]);
    expect(runs.get("r")).toMatchObject({ activity: "Bash: ls", tool_calls: 1 });
  });

  test("knows who waits for a human until something happens", () => {
    const runs = new Runs();
    runs.apply([event("permission_request", { name: "Bash" })]);
    expect(runs.get("r")?.waiting).toBe(true);
    runs.apply([event("agent_tool_result", { ok: true })]);
    expect(runs.get("r")?.waiting).toBe(false);
  });
});

test("text of an agent has no invisible characters and keeps everything that is text", () => {
  expect(visible("<img src=x onerror=alert(1)>\n\tb")).toBe("<img src=x onerror=alert(1)>\n\tb");
  expect(visible("\x1b[1;31mred\x1b[0m \x1b]0;title\x07")).toBe("red ␛]0;title␇");
  expect(visible("a\u202eb\r\nc\rd\u009bx")).toBe("a⟨U+202E⟩b\nc␍d⟨U+009B⟩x");
});

test("numbers read as people say them", () => {
  expect([840, 3200, 245_000, 7_800_000].map(span)).toEqual(["840 ms", "3.2 s", "4 min 05 s", "2 h 10 min"]);
  expect([0, 12_000, 250_000, 1e7, 2e8].map(age)).toEqual(["now", "12 s", "4 min", "2 h", "2 d"]);
  expect([12, 2048, 5e6].map(bytes)).toEqual(["12 bytes", "2.0 KiB", "4.8 MiB"]);
  expect([812, 12_400, 999_900, 1_300_000].map(short)).toEqual(["812", "12.4k", "1.0M", "1.3M"]);
  expect([0, 0.0123, 1.5].map(dollars)).toEqual(["$0.00", "$0.0123", "$1.50"]);
  expect(eta({ eta_range_s: [110, 290] })).toBe("about 2–5 min left");
  expect(eta({ eta_s: 20 })).toBe("under a minute left");
  expect(eta({})).toBe("");
});
