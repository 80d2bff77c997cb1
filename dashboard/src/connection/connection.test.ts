// The link's state machine with a socket, timers, clock and chance of its own: nothing here waits.
import { beforeEach, describe, expect, test } from "vitest";
import { backoffMs } from "./backoff";
import { Connection, type LinkState } from "./connection";
import { FakeSocket, FakeWorld } from "./fakes";
import { readMessage, type AgentEvent, type HubGap, type Position } from "./messages";

class Ear {
  readonly got: string[] = [];
  readonly gaps: HubGap[] = [];
  epochs: Position[] = [];
  caught = 0;
  events(events: AgentEvent[]): void {
    this.got.push(...events.map((event) => event.event_id ?? ""));
  }
  gap(gap: HubGap): void {
    this.gaps.push(gap);
  }
  newEpoch(position: Position): void {
    this.epochs.push(position);
  }
  caughtUp(): void {
    this.caught += 1;
  }
  refusals: string[] = [];
  refused(code: string): void {
    this.refusals.push(code);
  }
}

const WELCOME = { type: "welcome", epoch: "E", head: 5, oldest: 1, heartbeat_s: 20, connection_id: "c1" };
const event = (id: string): object => ({ type: "error", run_id: "r", agent_id: "a", event_id: id, timestamp: "", payload: {} });
const confirm = (id: unknown, offset: number, epoch = "E", recovered = true): object => ({
  type: "subscription_confirmed",
  id,
  position: { epoch, offset },
  recovered,
});

let world: FakeWorld;
let states: LinkState[];
let link: Connection;
beforeEach(() => {
  world = new FakeWorld();
  states = [];
  link = new Connection(world, (state) => states.push(state));
});

function up(): FakeSocket {
  link.start();
  world.socket.receive(WELCOME);
  return world.socket;
}

describe("the link", () => {
  test("is connecting until welcome, then connected", () => {
    link.start();
    expect(states.at(-1)).toMatchObject({ phase: "connecting", attempt: 1 });
    world.socket.receive(WELCOME);
    expect(states.at(-1)).toMatchObject({ phase: "connected", attempt: 0, head: 5 });
  });

  test("counts attempts until a link has held, and then from 1 again", () => {
    up();
    world.pass(3_000);
    world.socket.fail(1006);
    expect(states.at(-1)).toMatchObject({ phase: "reconnecting", attempt: 1, retryAt: 3_150 });
    world.pass(150);
    world.socket.fail(1006);
    expect(states.at(-1)).toMatchObject({ phase: "reconnecting", attempt: 2, retryAt: 3_450 });
    world.pass(300);
    world.socket.receive(WELCOME);
    expect(states.at(-1)).toMatchObject({ phase: "connected", attempt: 0 });
    world.socket.fail(1006); // at once: this link proved nothing
    expect(states.at(-1)).toMatchObject({ phase: "reconnecting", attempt: 3 });
  });

  test("is refused after 4401 and stays so until started again", () => {
    link.start();
    world.socket.receive({ type: "error", code: "auth_failed", message: "the token is wrong" });
    world.socket.receive({ type: "bye", code: 4401, reason: "authentication failed", reconnect: false });
    world.socket.fail(4401);
    expect(states.at(-1)).toMatchObject({ phase: "refused", reason: "authentication failed" });
    world.pass(600_000);
    expect(world.sockets).toHaveLength(1);
    link.start();
    expect(world.sockets).toHaveLength(2);
  });

  test("is disconnected when the hub says not to come back", () => {
    up();
    world.socket.fail(4409, "fenced");
    world.pass(600_000);
    expect(states.at(-1)).toMatchObject({ phase: "disconnected", reason: "fenced" });
    expect(world.sockets).toHaveLength(1);
  });

  test("stays away at least as long as bye asks", () => {
    up();
    world.socket.receive({ type: "bye", code: 4200, reason: "overloaded", reconnect: true, after_ms: 30_000 });
    world.socket.fail(4200);
    world.pass(29_999);
    expect(world.sockets).toHaveLength(1);
    world.pass(1);
    expect(world.sockets).toHaveLength(2);
  });

  test("gives up a socket that falls silent for two and a half heartbeats", () => {
    const first = up();
    world.pass(49_999);
    expect(first.closed).toBe(false);
    world.pass(1);
    expect(first.closed).toBe(true);
    expect(states.at(-1)).toMatchObject({ phase: "reconnecting", reason: "the hub fell silent" });
  });

  test("does not listen to a socket that it left", () => {
    const first = up();
    first.fail(1006);
    first.receive({ type: "heartbeat", head: 99 });
    expect(link.state.head).toBe(5);
  });

  test("leaves a hub that does not speak the protocol", () => {
    link.start();
    world.socket.onmessage?.({ data: "<html>" });
    expect(states.at(-1)).toMatchObject({ phase: "connecting", attempt: 1 });
    expect(world.socket.closed).toBe(true);
  });

  test("an explicit start while waiting tries at once, and only once", () => {
    up();
    world.socket.fail(1006);
    link.start();
    expect(world.sockets).toHaveLength(2);
    world.pass(9_000);
    expect(world.sockets).toHaveLength(2);
  });
});

describe("a subscription", () => {
  test("takes what continues its position and goes on from there after a reconnect", () => {
    const ear = new Ear();
    const socket = up();
    link.subscribe({ runs: ["r"] }, { epoch: "E", offset: 3 }, ear);
    expect(socket.last()).toMatchObject({ type: "subscribe", filter: { runs: ["r"] }, since: { epoch: "E", offset: 3 } });
    const id = socket.last()["id"];
    socket.receive(confirm(id, 3));
    socket.receive({ type: "events", id, prev: 3, pos: 5, events: [event("a"), event("b")] });
    expect(ear.got).toEqual(["a", "b"]);
    expect(ear.caught).toBe(1);
    socket.fail(1006);
    world.pass(10_000);
    world.socket.receive(WELCOME);
    expect(world.socket.last()).toMatchObject({ type: "subscribe", since: { epoch: "E", offset: 5 } });
  });

  test("asks anew when a message does not continue its position, and ignores what was under way", () => {
    const ear = new Ear();
    const socket = up();
    link.subscribe({}, { epoch: "E", offset: 3 }, ear);
    const id = socket.last()["id"];
    socket.receive(confirm(id, 3));
    socket.receive({ type: "events", id, prev: 4, pos: 5, events: [event("b")] });
    expect(ear.got).toEqual([]);
    expect(socket.last()).toMatchObject({ type: "subscribe", since: { epoch: "E", offset: 3 } });
    expect(socket.last()["id"]).not.toBe(id);
    socket.receive({ type: "events", id, prev: 3, pos: 4, events: [event("a")] });
    expect(ear.got).toEqual([]);
    const again = socket.last()["id"];
    socket.receive(confirm(again, 3));
    socket.receive({ type: "events", id: again, prev: 3, pos: 5, events: [event("a"), event("b")] });
    expect(ear.got).toEqual(["a", "b"]);
  });

  test("waits longer each time asking anew did not help", () => {
    const socket = up();
    link.subscribe({}, { epoch: "E", offset: 3 }, new Ear());
    for (const expected of [0, 300, 600]) {
      const asked = socket.sent.length;
      const id = socket.last()["id"];
      socket.receive(confirm(id, 3));
      socket.receive({ type: "events", id, prev: 9, pos: 10, events: [] });
      expect(socket.last()["type"]).toBe(expected === 0 ? "subscribe" : "unsubscribe");
      world.pass(expected);
      expect(socket.sent.length).toBe(asked + 2);
      expect(socket.last()["type"]).toBe("subscribe");
    }
  });

  test("takes nothing before it is confirmed", () => {
    const ear = new Ear();
    const socket = up();
    link.subscribe({}, { epoch: "E", offset: 3 }, ear);
    socket.receive({ type: "events", id: socket.last()["id"], prev: 3, pos: 4, events: [event("a")] });
    expect(ear.got).toEqual([]);
  });

  test("moves over a declared gap", () => {
    const ear = new Ear();
    const socket = up();
    link.subscribe({}, { epoch: "E", offset: 1 }, ear);
    const id = socket.last()["id"];
    socket.receive(confirm(id, 1, "E", false));
    socket.receive({ type: "gap", id, from: 2, to: 4, count: 3, reason: "evicted" });
    socket.receive({ type: "events", id, prev: 4, pos: 5, events: [event("e")] });
    expect(ear.gaps).toHaveLength(1);
    expect(ear.got).toEqual(["e"]);
  });

  test("hears of a new epoch and goes on in it", () => {
    const ear = new Ear();
    const socket = up();
    link.subscribe({}, { epoch: "old", offset: 70 }, ear);
    const id = socket.last()["id"];
    socket.receive(confirm(id, 0, "E", false));
    expect(ear.epochs).toEqual([{ epoch: "E", offset: 0 }]);
    socket.receive({ type: "events", id, prev: 0, pos: 2, events: [event("a")] });
    expect(ear.got).toEqual(["a"]);
  });

  test("that stays behind the head for a whole heartbeat is asked for anew", () => {
    const socket = up();
    link.subscribe({}, { epoch: "E", offset: 5 }, new Ear());
    const id = socket.last()["id"];
    socket.receive(confirm(id, 5));
    socket.receive({ type: "heartbeat", head: 6 });
    expect(socket.last()["id"]).toBe(id);
    world.pass(20_000);
    socket.receive({ type: "heartbeat", head: 6 });
    expect(socket.last()).toMatchObject({ type: "subscribe", since: { epoch: "E", offset: 5 } });
    expect(socket.last()["id"]).not.toBe(id);
  });

  test("whose position moves with the heartbeat is left alone", () => {
    const socket = up();
    link.subscribe({}, { epoch: "E", offset: 5 }, new Ear());
    const id = socket.last()["id"];
    socket.receive(confirm(id, 5));
    for (const head of [6, 9, 12]) {
      socket.receive({ type: "heartbeat", head });
      socket.receive({ type: "events", id, prev: head === 6 ? 5 : head - 3, pos: head, events: [] });
    }
    expect(socket.last()["id"]).toBe(id);
  });

  test("that was ended is neither heard nor asked for again", () => {
    const ear = new Ear();
    const socket = up();
    const end = link.subscribe({}, "start", ear);
    const id = socket.last()["id"];
    end();
    expect(socket.last()).toEqual({ type: "unsubscribe", id });
    socket.receive(confirm(id, 0));
    socket.receive({ type: "events", id, prev: 0, pos: 1, events: [event("a")] });
    expect(ear.got).toEqual([]);
  });
});

describe("a link without a cookie", () => {
  test("says its token before anything else", () => {
    const link = new Connection(world, () => {}, "secret");
    link.subscribe({}, "start", new Ear());
    link.start();
    world.socket.onopen?.();
    expect(world.socket.sent).toEqual([{ type: "auth", token: "secret" }]);
    world.socket.receive(WELCOME);
    expect(world.socket.last()).toMatchObject({ type: "subscribe" });
  });
});

describe("several subscriptions", () => {
  test("one that is refused leaves the others alone, and is not asked for after a reconnect", () => {
    const [good, bad] = [new Ear(), new Ear()];
    const socket = up();
    link.subscribe({}, "start", good);
    socket.receive(confirm(1, 0));
    link.subscribe({ types: [""] }, "start", bad);
    socket.receive({ type: "error", code: "bad_message", message: "no" });
    expect(bad.refusals).toEqual(["bad_message"]);
    socket.fail(1006);
    world.pass(10_000);
    world.socket.receive(WELCOME);
    expect(world.socket.sent).toHaveLength(1);
    expect(good.refusals).toEqual([]);
  });

  test("each keeps what it asked to have accumulated or left out", () => {
    const socket = up();
    link.subscribe({}, "start", new Ear(), { accumulate: true, includeContent: false });
    expect(socket.last()).toMatchObject({ accumulate: true, includeContent: false });
    link.subscribe({}, "live", new Ear());
    expect(socket.last()).not.toHaveProperty("accumulate");
  });
});

describe("backoff", () => {
  test("has full jitter under a doubling ceiling that ends at ten seconds", () => {
    expect([1, 2, 3, 6, 40].map((attempt) => backoffMs(attempt, "return", 1))).toEqual([300, 600, 1200, 9600, 10_000]);
    expect(backoffMs(5, "return", 0)).toBe(0);
    expect(backoffMs(1, "at_once", 1)).toBe(250);
    expect(backoffMs(1, "later", 1)).toBe(2400);
  });

  test("is spread evenly between nothing and the ceiling", () => {
    let seed = 1;
    const random = (): number => (seed = (seed * 16807) % 2147483647) / 2147483647; // Lehmer's generator: the same each time
    for (const [attempt, why, top] of [[1, "return", 300], [3, "return", 1200], [1, "later", 2400], [30, "return", 10_000], [1, "at_once", 250]] as const) {
      const waits = Array.from({ length: 2000 }, () => backoffMs(attempt, why, random()));
      for (let tenth = 0; tenth < 10; tenth++) {
        const share = waits.filter((wait) => wait >= (tenth * top) / 10 && wait < ((tenth + 1) * top) / 10).length;
        expect(share).toBeGreaterThan(140);
        expect(share).toBeLessThan(260);
      }
    }
  });
});

test("a message of a type that is not used is passed over, one of a wrong shape is not", () => {
  expect(readMessage('{"type":"pong"}')).toBeNull();
  expect(() => readMessage('{"type":"events","id":1,"prev":"x"}')).toThrow("events without prev");
  expect(() => readMessage("[]")).toThrow(SyntaxError);
});
