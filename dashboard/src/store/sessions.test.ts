import { describe, expect, test } from "vitest";
import type { RunSummary } from "./runs";
import { sessionsOf, teller, tellersOf } from "./sessions";

function run(run_id: string, session_id?: string, started_at = "2026-11-20T07:00:00.000Z"): RunSummary {
  return { run_id, agent_id: "claude", started_at, ...(session_id === undefined ? {} : { session_id }) } as RunSummary;
}

describe("sessions", () => {
  test("hold all who tell of them, the agent's own stream first", () => {
    const runs = [run("s/agent-10", "s"), run("s/hooks", "s"), run("other"), run("s/agent-7", "s"), run("s/transcript", "s"), run("s", "s")];
    expect(sessionsOf(runs).map(({ key, tellers }) => [key, tellers.map((each) => each.run_id)])).toEqual([
      ["s", ["s", "s/transcript", "s/hooks", "s/agent-7", "s/agent-10"]],
      ["other", ["other"]],
    ]);
  });

  test("a live run keeps an id of its own and stands with the saved ones", () => {
    const live = run("5f3a", "s");
    expect(tellersOf(live, [run("s/hooks", "s"), live, run("t")]).map(teller)).toEqual(["stream", "hooks"]);
  });

  test("runs without a session stand alone, whatever their ids look like", () => {
    const runs = [run("adw1/planner"), run("adw1/builder"), run("adw1")];
    expect(sessionsOf(runs)).toHaveLength(3);
    expect(runs.map(teller)).toEqual(["stream", "stream", "stream"]);
  });

  test("a run without session_id whose id is the session's stands with it", () => {
    expect(sessionsOf([run("s/hooks", "s"), run("s")])).toMatchObject([{ tellers: [{ run_id: "s" }, { run_id: "s/hooks" }] }]);
  });

  test("two streams of a session that was taken up again stand in the order in which they began", () => {
    const [later, first] = [run("b", "s", "2026-11-20T09:00:00.000Z"), run("a", "s")];
    expect(sessionsOf([later, first])[0]!.tellers.map((each) => each.run_id)).toEqual(["a", "b"]);
  });

  test("the list that was handed in is left as it is", () => {
    const runs = [run("s/hooks", "s"), run("s", "s")];
    sessionsOf(runs);
    expect(runs.map((each) => each.run_id)).toEqual(["s/hooks", "s"]);
  });
});
