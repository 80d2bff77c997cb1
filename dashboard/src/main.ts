// The page begins here.
import { mount } from "svelte";
import "./app.css";
import { Session } from "./live/session.svelte";
import App from "./views/App.svelte";

const session = new Session();

/** For tests and for the curious, in the browser's console: what the page holds, to compare with the hub. */
export interface Inspection {
  /** Identities of the opened run's events, in the order in which they were taken. */
  eventIds(): string[];
  rows(): unknown[];
  runs(): unknown[];
  /** How many events the last frames applied, and how long that took until it was drawn. */
  frames(): Array<{ events: number; ms: number }>;
}
declare global {
  // eslint-disable-next-line no-var
  var agentpipe: Inspection;
}
globalThis.agentpipe = {
  eventIds: () => session.feed?.eventIds ?? [],
  rows: () => [...(session.feed?.rows ?? [])],
  runs: () => [...session.runs],
  frames: () => [...session.frames],
};

mount(App, { target: document.getElementById("app")!, props: { session } });
void session.start();
