// The messages of protocol agentpipe.v1 as the page meets them (docs/protocol.md).
//
// The rule it keeps: what comes from the hub is checked for its shape here, once; nothing past this file guesses.
import type { Envelope, KnownEvent } from "../generated/events";

/** An event of a type that this page does not know; it is shown as it is. */
export type UnknownEvent = Envelope & { type: string; payload: Record<string, unknown> };
export type AgentEvent = KnownEvent | UnknownEvent;

/** A place in the hub's log: `offset` entries of the log `epoch` are behind it. */
export interface Position {
  epoch: string;
  offset: number;
}

export interface Filter {
  runs?: string[];
  agents?: string[];
  works?: string[];
  types?: string[];
}

/** Where a subscription begins: a position, the oldest kept, the last so many that match, or what comes from now on. */
export type Since = Position | "start" | "live" | { last: number };

type Id = number | string;

export interface Welcome {
  type: "welcome";
  connection_id: string;
  epoch: string;
  head: number;
  oldest: number;
  heartbeat_s: number;
}
export interface Confirmed {
  type: "subscription_confirmed";
  id: Id;
  position: Position;
  recovered: boolean;
}
export interface Events {
  type: "events";
  id: Id;
  prev: number;
  pos: number;
  events: AgentEvent[];
}
export interface HubGap {
  type: "gap";
  id: Id;
  from: number;
  to: number;
  /** Null when the hub cannot know, as at a new epoch. */
  count: number | null;
  reason: string;
}
export interface Heartbeat {
  type: "heartbeat";
  timestamp: string;
  connections: number;
  head: number;
}
export interface HubError {
  type: "error";
  code: string;
  message: string;
  in_reply_to?: Id;
}
export interface Bye {
  type: "bye";
  code: number;
  reason: string;
  reconnect: boolean;
  after_ms?: number;
}

export type HubMessage = Welcome | Confirmed | Events | HubGap | Heartbeat | HubError | Bye;

const NEEDS: Record<HubMessage["type"], Record<string, string>> = {
  welcome: { epoch: "string", head: "number" },
  subscription_confirmed: { id: "id", position: "object", recovered: "boolean" },
  events: { id: "id", prev: "number", pos: "number", events: "object" },
  gap: { id: "id", from: "number", to: "number" },
  heartbeat: { head: "number" },
  error: { code: "string", message: "string" },
  bye: { code: "number" },
};

/**
 * One text frame as a message, or null for one that this page does not use (`pong`, `snapshot`, a later type).
 * Throws SyntaxError for what is not the protocol at all.
 */
export function readMessage(frame: string): HubMessage | null {
  const message: unknown = JSON.parse(frame);
  if (typeof message !== "object" || message === null || !("type" in message)) throw new SyntaxError("not a message");
  const needs = NEEDS[message.type as HubMessage["type"]];
  if (needs === undefined) return null;
  const fields = message as Record<string, unknown>;
  for (const [field, type] of Object.entries(needs)) {
    const found = typeof fields[field];
    if (found !== type && !(type === "id" && (found === "number" || found === "string"))) throw new SyntaxError(`${String(message.type)} without ${field}`);
  }
  return message as HubMessage;
}

/** What consumers de-duplicate by (DESIGN §3): the event's own id, else `run_id:sequence`. */
export function identity(event: Envelope): string {
  return event.event_id ?? `${event.run_id}:${event.sequence ?? ""}`;
}
