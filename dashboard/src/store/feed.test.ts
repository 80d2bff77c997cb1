import { describe, expect, test } from "vitest";
import type { AgentEvent } from "../connection/messages";
import { Feed } from "./feed";
import type { CallRow, GapRow, TextRow } from "./rows";

let sequence = 0;
function make(type: string, payload: object, more: object = {}): AgentEvent {
  sequence += 1;
  const at = new Date(1_800_000_000_000 + sequence * 1000).toISOString();
  return { type, run_id: "r", agent_id: "a", sequence, event_id: `r:${sequence}`, timestamp: at, payload, ...more } as AgentEvent;
}
function feedOf(...events: AgentEvent[]): Feed {
  const feed = new Feed("r");
  feed.apply(events, 0);
  return feed;
}
const restart = (): void => void (sequence = 0);
const chunk = (text: string, final = false, index = 0, more: object = {}): AgentEvent =>
  make("agent_output", { message_id: "m", index, text, final }, more);
const call = (id: string, more: object = {}): AgentEvent =>
  make("agent_tool_call", { tool_use_id: id, name: "Bash", kind: "execute", input: {}, title: "Bash: ls" }, more);
const result = (id: string, ok = true, more: object = {}): AgentEvent =>
  make("agent_tool_result", { tool_use_id: id, name: "Bash", kind: "execute", ok, content: "x", bytes: 1, truncated: false, ...more });

describe("texts", () => {
  test("chunks add up in one row and the final one replaces them", () => {
    restart();
    const feed = feedOf(chunk("Hel"), chunk("lo"));
    expect(feed.rows).toMatchObject([{ kind: "text", text: "Hello", state: "streaming" }]);
    feed.apply([chunk("Hello!", true)], 0);
    expect(feed.rows).toMatchObject([{ kind: "text", text: "Hello!", state: "final", key: "r:1" }]);
  });

  test("are told apart by message, index and type", () => {
    restart();
    const feed = feedOf(chunk("a", false, 0), chunk("b", false, 1), make("agent_thinking", { message_id: "m", index: 0, text: "t", final: false }));
    expect(feed.rows.map((row) => (row as TextRow).text)).toEqual(["a", "b", "t"]);
  });

  test("without chunks appear whole", () => {
    restart();
    expect(feedOf(chunk("whole", true)).rows).toMatchObject([{ text: "whole", state: "final" }]);
  });

  test("that never became final are marked cut when the run ends", () => {
    restart();
    const feed = feedOf(chunk("half"), make("run_failed", { duration_ms: 1 }));
    expect(feed.rows[0]).toMatchObject({ state: "cut", text: "half" });
  });
});

describe("calls", () => {
  test("and their result are one row, with the duration between them when the result has none", () => {
    restart();
    const feed = feedOf(call("t1"), chunk("x", true), result("t1"));
    expect(feed.rows).toHaveLength(2);
    expect(feed.rows[0]).toMatchObject({ kind: "call", status: "ok", durationMs: 2000 });
  });

  test("fail in their row", () => {
    restart();
    expect(feedOf(call("t1"), result("t1", false, { duration_ms: 7 })).rows).toMatchObject([{ status: "failed", durationMs: 7 }]);
  });

  test("take in the error that only repeats why they failed, and no other", () => {
    restart();
    const error = (rank: string, message: string): AgentEvent => make("error", { rank, message });
    const feed = feedOf(call("t1"), result("t1", false, { content: "no such file: a" }), error("tool", "no such file: a"));
    expect(feed.rows.map((row) => row.kind)).toEqual(["call"]);
    feed.apply([error("tool", "something else"), error("warning", "no such file: a")], 0);
    expect(feed.rows.map((row) => row.kind)).toEqual(["call", "error", "error"]);
    expect(feed.eventIds).toHaveLength(5);
  });

  test("a result without its call still has a row", () => {
    restart();
    const [row] = feedOf(result("t9")).rows as CallRow[];
    expect(row).toMatchObject({ kind: "call", call: null, status: "ok" });
  });

  test("without a result are unanswered once the run has ended", () => {
    restart();
    expect(feedOf(call("t1"), make("run_completed", { duration_ms: 1 })).rows[0]).toMatchObject({ status: "unanswered" });
  });

  test("of a sub-agent lie under the call that started it", () => {
    restart();
    const feed = feedOf(call("task"), call("inner", { parent_id: "task" }), chunk("deep", true, 0, { parent_id: "inner" }), chunk("top", true, 5));
    expect(feed.rows.map((row) => [row.depth, row.parent])).toEqual([
      [0, null],
      [1, "task"],
      [2, "inner"],
      [0, null],
    ]);
  });
});

describe("progress", () => {
  const progress = (done: number, more: object = {}): AgentEvent =>
    make("progress_update", { percent: done * 10, done, total: 10, elapsed_s: 1, basis: "plan" }, more);

  test("of the run is the run's, that of a sub-agent stands with the call that started it", () => {
    restart();
    const feed = feedOf(call("task"), progress(5), progress(1, { parent_id: "task" }), progress(2, { parent_id: "task" }));
    expect(feed.progress).toMatchObject({ done: 5 });
    expect(feed.rows).toMatchObject([{ kind: "call", progress: { done: 2 } }]);
    feed.takeChanges();
    feed.apply([progress(3, { parent_id: "task" })], 0);
    expect(feed.takeChanges()).toEqual([0]);
  });

  test("of a sub-agent whose call was never seen is nobody else's", () => {
    restart();
    const feed = feedOf(progress(1, { parent_id: "unknown" }));
    expect([feed.progress, feed.rows]).toEqual([null, []]);
  });
});

describe("nothing twice, nothing missing unseen", () => {
  test("an event that was taken is dropped the next time", () => {
    restart();
    const events = [chunk("a"), chunk("b"), call("t1")];
    const feed = feedOf(...events);
    expect(feed.apply(events, 0)).toBe(0);
    expect((feed.rows[0] as TextRow).text).toBe("ab");
    expect(feed.eventIds).toEqual(["r:1", "r:2", "r:3"]);
  });

  test("events of another run are not taken", () => {
    restart();
    expect(feedOf({ ...chunk("a"), run_id: "other" } as AgentEvent).rows).toEqual([]);
  });

  test("a declared gap is a row with its count and reason, and no hole besides", () => {
    restart();
    const before = chunk("a");
    sequence = 37;
    const gap = make("gap", { ranges: [[2, 38]], count: 37, reason: "throttle" }, { sequence: 38, event_id: "r:gap:2-38" });
    const feed = feedOf(before, chunk("z"), gap);
    expect(feed.reportHoles(60_000)).toBe(false);
    expect(feed.rows[1]).toMatchObject({ kind: "gap", count: 37, reason: "throttle" });
  });

  test("merged chunks account for the numbers that they cover", () => {
    restart();
    const first = chunk("a");
    sequence = 9;
    const feed = feedOf(first, chunk("bcd", false, 0, { covers: [[2, 9]] }));
    expect(feed.reportHoles(60_000)).toBe(false);
  });

  test("a hole that nobody declares is shown after a while, and gets its reason if one comes later", () => {
    restart();
    const first = chunk("a");
    sequence = 4;
    const feed = feedOf(first, call("t"));
    expect(feed.reportHoles(6_999)).toBe(false);
    expect(feed.reportHoles(7_000)).toBe(true);
    expect(feed.rows.at(-1)).toMatchObject({ kind: "gap", count: 3, reason: "undeclared", ranges: [[2, 4]] });
    const rows = feed.rows.length;
    feed.apply([make("gap", { ranges: [[2, 4]], count: 3, reason: "buffer" }, { sequence: 4, event_id: "r:gap:2-4" })], 0);
    expect(feed.rows).toHaveLength(rows);
    expect((feed.rows.at(-1) as GapRow).reason).toBe("buffer");
  });

  test("a gap that declares only what is known is no row, and one of which something is known is", () => {
    restart();
    const feed = feedOf(chunk("a"), chunk("b"), chunk("c"));
    const gap = (first: number, last: number): AgentEvent =>
      make("gap", { ranges: [[first, last]], count: last - first + 1, reason: "source" }, { sequence: last, event_id: `r:gap:${first}-${last}` });
    const rows = feed.rows.length;
    feed.apply([gap(1, 3)], 0);
    expect(feed.rows).toHaveLength(rows);
    feed.apply([gap(2, 5)], 0);
    expect(feed.rows.at(-1)).toMatchObject({ kind: "gap", reason: "source" });
  });

  test("what the hub no longer keeps of the beginning is said first", () => {
    sequence = 40;
    expect(feedOf(chunk("late")).rows).toMatchObject([{ kind: "gap", reason: "evicted", count: 40 }, { kind: "text" }]);
  });

  test("a gap of the hub's log is a row, which says what the run lost as soon as its numbers tell", () => {
    restart();
    const feed = feedOf(chunk("a"));
    feed.hubGap({ type: "gap", id: 1, from: 5, to: 9, count: 5, reason: "evicted" });
    sequence = 3;
    feed.apply([chunk("z", true, 1)], 0);
    expect(feed.rows.slice(1)).toMatchObject([{ kind: "gap", count: 2, reason: "evicted", ranges: [[2, 3]] }, { kind: "text" }]);
    expect(feed.reportHoles(60_000)).toBe(false);
  });

  test("the end of a run shows open holes at once", () => {
    restart();
    const first = chunk("a");
    sequence = 4;
    const feed = feedOf(first, make("run_completed", { duration_ms: 1 }));
    expect(feed.rows.map((row) => row.kind)).toEqual(["text", "gap", "end"]);
  });

  test("a type that nobody knows has a row", () => {
    restart();
    expect(feedOf(make("brand_new", { message: "hi\nthere" })).rows).toMatchObject([{ kind: "other", type: "brand_new", headline: "hi" }]);
  });

  test("lines of raw output share a row", () => {
    restart();
    const line = (text: string, stream = "stdout"): AgentEvent => make("process_output", { stream, text });
    const feed = feedOf(line("1"), line("2"), line("e", "stderr"));
    expect(feed.rows).toMatchObject([{ lines: ["1", "2"] }, { lines: ["e"], source: "stderr" }]);
  });
});

test("an end whose error was just said does not say it again", () => {
  restart();
  const said = make("error", { rank: "agent", message: "overloaded" });
  const feed = feedOf(said, make("run_iteration", { turn: 1, ok: false, error: "overloaded" }), make("run_failed", { duration_ms: 1, error: "status 1" }));
  expect(feed.rows).toMatchObject([{ kind: "error" }, { kind: "turn", said: true }, { kind: "end", said: false }]);
});

test("the same events give the same rows, however they are cut into batches", () => {
  restart();
  const events = [make("run_started", { schema: "agentpipe/1", agent: "a" }), chunk("a"), call("t"), chunk("b"), result("t", false), chunk("ab", true), make("run_completed", { duration_ms: 3 })];
  const whole = feedOf(...events);
  const single = new Feed("r");
  for (const event of events) single.apply([event], 0);
  expect(single.rows).toEqual(whole.rows);
});

test("changes name the rows that were added or replaced", () => {
  restart();
  const feed = feedOf(call("t"), chunk("a"));
  expect(feed.takeChanges()).toEqual([0, 1]);
  feed.apply([result("t")], 0);
  expect(feed.takeChanges()).toEqual([0]);
  expect(feed.takeChanges()).toEqual([]);
});

describe("contents", () => {
  const whole = (...refs: string[]): object => ({ whole: refs.map((ref) => ({ ref, media_type: "text/plain", bytes: 9 })) });

  test("that an event names leave no hole where they are not asked for", () => {
    restart();
    const first = call("t1");
    sequence += 5; // three parts of one, two of another
    const feed = feedOf(first, result("t1", true, whole("r:2", "r:5")));
    expect(feed.reportHoles(Infinity)).toBe(false);
    expect(feed.rows).toHaveLength(1);
  });

  test("do not explain what is missing before them", () => {
    restart();
    const first = call("t1");
    sequence += 5;
    const feed = feedOf(first, result("t1", true, whole("r:4")));
    feed.reportHoles(Infinity);
    expect(feed.rows.at(-1)).toMatchObject({ kind: "gap", count: 2, ranges: [[2, 3]] });
  });

  test("are no rows where they come", () => {
    restart();
    const part = make("content", { ref: "r:1", media_type: "text/plain", bytes: 1, part: 1, parts: 1, text: "x" });
    expect(feedOf(part, call("t1")).rows.map((row) => row.kind)).toEqual(["call"]);
  });

  test.each([[null], [7], ["x"], [[null]], [[{ ref: 7 }]], [[{ ref: "other:1" }]], [[{ ref: "r:x" }]], [[]]])("of any shape do no harm: %j", (found) => {
    restart();
    sequence += 3;
    const feed = feedOf(result("t1", true, { whole: found }));
    expect(feed.rows).toHaveLength(2); // the hole before the first event, and the result
  });
});

describe("accumulated text", () => {
  test("is known piece by piece afterwards, and the other way round", () => {
    restart();
    const [one, two, three] = [chunk("a"), chunk("b"), chunk("c")] as [AgentEvent, AgentEvent, AgentEvent];
    const merged = { ...two, payload: { ...two.payload, text: "ab" }, covers: [[1, 1]] } as AgentEvent;
    const feed = feedOf(merged);
    expect(feed.apply([one, two, three], 0)).toBe(1);
    expect(feed.rows).toMatchObject([{ text: "abc", key: "r:1" }]);
    expect(feed.eventIds).toEqual(["r:1", "r:2", "r:3"]);
    const other = feedOf(one, two);
    expect(other.apply([merged], 0)).toBe(0);
    expect(other.rows).toMatchObject([{ text: "ab" }]);
    expect(other.reportHoles(10_000)).toBe(false);
  });

  test("what the hub lost and this page has is no hole here", () => {
    restart();
    const feed = feedOf(chunk("a"), chunk("b"));
    const lost = (first: number, last: number): AgentEvent =>
      ({ ...make("gap", { ranges: [[first, last]], count: last - first + 1, reason: "evicted" }), event_id: `r:gap:${first}-${last}`, sequence: last }) as AgentEvent;
    feed.apply([lost(1, 2)], 0);
    expect(feed.rows).toHaveLength(1);
    feed.apply([lost(1, 5)], 0);
    expect(feed.rows.at(-1)).toMatchObject({ kind: "gap", reason: "evicted" });
  });

  test("a part of the hub's log that is gone is a row in its place", () => {
    restart();
    const feed = feedOf(chunk("a", true));
    feed.hubGap({ type: "gap", id: 1, from: 5, to: 9, count: 5, reason: "evicted" });
    feed.apply([chunk("b", true, 1)], 0);
    expect(feed.rows.map((row) => row.kind)).toEqual(["text", "gap", "text"]);
    expect(feed.rows[1]).toMatchObject({ count: 5, reason: "evicted", ranges: [] });
    const after = make("error", { rank: "warning", message: "x" });
    feed.hubGap({ type: "gap", id: 1, from: 10, to: 40, count: 31, reason: "evicted" });
    feed.apply([{ ...after, sequence: 6, event_id: "r:6" } as AgentEvent], 0);
    expect(feed.rows.map((row) => row.kind)).toEqual(["text", "gap", "text", "gap", "error"]);
    expect(feed.rows[3]).toMatchObject({ count: 3, reason: "evicted", ranges: [[3, 5]] });
  });
});
