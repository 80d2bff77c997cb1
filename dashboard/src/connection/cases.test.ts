// The rules of a hub's client, case by case: tests/clients/cases.json, which the client in Python is held to as well.
import { describe, expect, test } from "vitest";
import cases from "../../../tests/clients/cases.json?raw";
import { Connection, type LinkState } from "./connection";
import { FakeSocket, FakeWorld } from "./fakes";
import type { AgentEvent, HubGap, Since } from "./messages";
import type { Listener } from "./subscription";

interface Step {
  hear?: { type: string; events?: string[] } & Record<string, unknown>;
  pass_s?: number;
  lost?: boolean;
  position?: number;
  [outcome: string]: unknown;
}
interface Case {
  name: string;
  since: Since;
  accumulate?: boolean;
  steps: Step[];
}
interface Ending {
  name: string;
  code: number | null;
  bye: object | null;
  verdict: string;
  stay_away_s: number;
}

const OUTCOMES = ["asks", "events", "gaps", "refused", "new_log"];
const table = JSON.parse(cases) as { cases: Case[]; endings: Ending[] };

/** A connection with one subscription, and what came of the last step. */
class Client implements Listener {
  readonly world = new FakeWorld();
  came: Record<string, unknown> = {};
  readonly #link = new Connection(this.world, () => {});
  #socket: FakeSocket | null = null;
  #answered = 0;

  constructor({ since, accumulate }: Case) {
    this.world.chance = 0.99;
    this.#link.start();
    this.#link.subscribe({}, since, this, accumulate ? { accumulate } : {});
  }

  step(step: Step): void {
    this.came = {};
    if (step.hear !== undefined) this.#hear(step.hear);
    else if (step.lost) this.#lose();
    else this.world.pass(step.pass_s! * 1000);
    const asks = this.world.socket.sent.slice(this.#answered);
    this.#answered += asks.length;
    if (asks.length > 0) this.came["asks"] = asks;
  }

  #hear(message: NonNullable<Step["hear"]>): void {
    const whole = message.events?.map((name) => ({ type: "t", run_id: "r", agent_id: "a", event_id: name, payload: {} }));
    this.world.socket.receive(whole === undefined ? message : { ...message, events: whole });
  }

  #lose(): void {
    this.world.socket.fail(1006);
    this.world.pass(10_000);
    this.#answered = 0;
    expect(this.world.socket).not.toBe(this.#socket);
    this.#socket = this.world.socket;
  }

  events(events: AgentEvent[]): void {
    if (events.length > 0) this.came["events"] = events.map((event) => event.event_id);
  }
  gap({ from, to, count, reason }: HubGap): void {
    this.came["gaps"] = [...((this.came["gaps"] as object[]) ?? []), { from, to, count, reason }];
  }
  newEpoch(): void {
    this.came["new_log"] = true;
  }
  caughtUp(): void {}
  refused(code: string): void {
    this.came["refused"] = code;
  }

  /** Where it would go on if the connection broke now. */
  get offset(): number | undefined {
    return this.#link.positions()[0]?.offset;
  }
}

describe("a client of the hub", () => {
  test.each(table.cases.map((one) => [one.name, one] as const))("%s", (_, one) => {
    const client = new Client(one);
    one.steps.forEach((step, number) => {
      client.step(step);
      const expected = Object.fromEntries(OUTCOMES.filter((name) => name in step).map((name) => [name, step[name]]));
      expect(client.came, `step ${number}: ${JSON.stringify(step)}`).toEqual(expected);
      if (step.position !== undefined) expect(client.offset, `step ${number}: ${JSON.stringify(step)}`).toBe(step.position);
    });
  });
});

describe("the end of a connection", () => {
  const phases: Record<string, string> = { backoff: "reconnecting", at_once: "reconnecting", stop: "disconnected", auth: "refused" };
  test.each(table.endings.map((one) => [one.name, one] as const))("%s", (_, ending) => {
    const world = new FakeWorld();
    let state: LinkState | null = null;
    new Connection(world, (now) => (state = now)).start();
    world.socket.receive({ type: "welcome", epoch: "E", head: 5, oldest: 0, heartbeat_s: 20, connection_id: "c1" });
    world.pass(4_000); // it has held: what follows is the first attempt
    const at = (chance: number): number | null => {
      world.chance = chance;
      if (ending.bye !== null) world.socket.receive(ending.bye);
      world.socket.fail(ending.code ?? 1005);
      expect(state!.phase).toBe(phases[ending.verdict]);
      return state!.retryAt === null ? null : state!.retryAt - world.time;
    };
    const wait = at(0);
    if (state!.phase !== "reconnecting") return expect(wait).toBeNull();
    expect(wait).toBe(ending.stay_away_s * 1000);
    world.pass(wait!);
    world.socket.receive({ type: "welcome", epoch: "E", head: 5, oldest: 0, heartbeat_s: 20, connection_id: "c2" });
    world.pass(4_000);
    const longest = at(1)!;
    if (ending.verdict === "at_once") expect(longest).toBeLessThanOrEqual(Math.max(250, ending.stay_away_s * 1000));
    else expect(longest).toBeGreaterThanOrEqual(300);
  });
});
