// One line for an event that has no row of its own kind.
//
// The rule it keeps: an event that nobody planned for is still shown, with whatever it says first.
import type { KnownEvent } from "../generated/events";

const NAMES: Record<string, string> = {
  agent_log_entry: "log",
  agent_state_update: "state",
  process_exited: "process",
  process_started: "process",
  screenshot_available: "screenshot",
  spec_created: "spec",
  workflow_phase_transition: "phase",
};

/** A type as people call it. */
export function typeName(type: string): string {
  return NAMES[type] ?? type;
}

export function headline(event: KnownEvent): string {
  switch (event.type) {
    case "process_started":
      return event.payload.command.join(" ");
    case "process_exited":
      return event.payload.signal ? `ended by ${event.payload.signal}` : `status ${event.payload.exit_code ?? "unknown"}`;
    case "workflow_phase_transition":
      return event.payload.from ? `${event.payload.from} → ${event.payload.to}` : event.payload.to;
    case "agent_state_update":
      return `${event.payload.state}: ${Object.keys(event.payload.changed).join(", ")}`;
    case "agent_log_entry":
      return `${event.payload.level}: ${event.payload.message}`;
    case "spec_created":
    case "screenshot_available":
      return event.payload.path;
    case "raw":
      return `${event.payload.format}: ${event.payload.reason}`;
    default:
      return firstWords(event.payload);
  }
}

const NAMING = ["title", "message", "text", "name", "path", "status", "state"]; // what payloads call their subject

function firstWords(payload: unknown): string {
  const fields = (payload ?? {}) as Record<string, unknown>;
  for (const name of NAMING) {
    if (typeof fields[name] === "string") return fields[name].split("\n", 1)[0]!.slice(0, 200);
  }
  return Object.keys(fields).slice(0, 6).join(", ");
}
