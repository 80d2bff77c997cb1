// One subscription: a filter, and how far it has read.
//
// The rule it keeps: `events` are taken only if their `prev` is this subscription's own position, so that a hole or a
// repeat cannot pass unseen; whatever does not fit leads to a new subscription from the last good position.
import type { AgentEvent, Confirmed, Events, Filter, HubGap, Position, Since } from "./messages";

/** What the owner of a subscription hears. */
export interface Listener {
  /** Events in order, and the position behind the last one. An empty list only moves the position. */
  events(events: AgentEvent[], position: Position): void;
  /** Offsets `from`…`to` of the log will not come. */
  gap(gap: HubGap): void;
  /** The hub began a new log: what follows comes from its oldest entry on; known events may come again. */
  newEpoch(position: Position): void;
  /** Caught up with the head that the hub named when it confirmed; called once for each confirmation. */
  caughtUp(): void;
}

export type Step = "taken" | "ignored" | "resubscribe";

export class Subscription {
  // given
  readonly filter: Filter;
  readonly listener: Listener;
  // changing
  since: Since;
  id = 0;
  #confirmed = false;
  #goal = Infinity;
  #headAtLastHeartbeat = 0;
  /** How often in a row it had to be asked for anew without reading anything. */
  misses = 0;

  constructor(filter: Filter, since: Since, listener: Listener) {
    this.filter = filter;
    this.since = since;
    this.listener = listener;
  }

  /** The position, or null before the hub has named one. */
  get position(): Position | null {
    return typeof this.since === "string" ? null : this.since;
  }

  /** The request for this subscription (whole contents are fetched by reference) under a fresh `id`: messages that are still under way to the old one no longer fit. */
  request(id: number): object {
    this.id = id;
    this.#confirmed = false;
    return { type: "subscribe", id, filter: this.filter, since: this.since, includeContent: false };
  }

  confirmed(message: Confirmed, head: number): void {
    const before = this.position;
    this.#confirmed = true;
    this.since = message.position;
    this.#goal = head;
    this.#headAtLastHeartbeat = 0;
    if (before !== null && before.epoch !== message.position.epoch) this.listener.newEpoch(message.position);
    this.#checkGoal();
  }

  events(message: Events): Step {
    const position = this.position;
    if (!this.#confirmed || position === null) return "ignored";
    if (message.prev !== position.offset) return "resubscribe";
    this.#moveTo(message.pos);
    this.listener.events(message.events, { epoch: position.epoch, offset: message.pos });
    this.#checkGoal();
    return "taken";
  }

  gap(message: HubGap): Step {
    if (!this.#confirmed) return "ignored";
    this.listener.gap(message);
    this.#moveTo(Math.max(message.to, this.position?.offset ?? 0));
    this.#checkGoal();
    return "taken";
  }

  /**
   * Whether it is behind for good: still before a head that the hub had named a whole heartbeat ago. (The hub moves
   * positions with every heartbeat even if the filter lets nothing through.)
   */
  behind(head: number): boolean {
    const offset = this.position?.offset ?? Infinity;
    const behind = this.#confirmed && offset < this.#headAtLastHeartbeat;
    this.#headAtLastHeartbeat = head;
    return behind;
  }

  #moveTo(offset: number): void {
    const position = this.position;
    if (position === null) return;
    if (offset > position.offset) this.misses = 0;
    this.since = { epoch: position.epoch, offset };
  }

  #checkGoal(): void {
    if ((this.position?.offset ?? -1) < this.#goal) return;
    this.#goal = Infinity;
    this.listener.caughtUp();
  }
}
