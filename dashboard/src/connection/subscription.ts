// One subscription: a filter, and how far it has read.
//
// The rule it keeps: nothing twice, no hole unseen. Events are taken only if they start at this subscription's own
// position, and what the hub has declared as gone is the only thing that may be missing; in every other case it is asked
// for anew from its own position. The client in Python (agentpipe/following.py) keeps the same rules, and both are held
// to tests/clients/cases.json. No clock here: `now` is an argument, in milliseconds.
import type { AgentEvent, Confirmed, Events, Filter, HubGap, Position, Since } from "./messages";

/** What the owner of a subscription hears. */
export interface Listener {
  /** Events in order, and the position behind the last one. An empty list only moves the position. */
  events(events: AgentEvent[], position: Position): void;
  /** Offsets `from`…`to` of the log will not come; it stands in its place between the events. */
  gap(gap: HubGap): void;
  /** The hub began a new log: what follows comes from its oldest entry on; known events may come again. */
  newEpoch(position: Position): void;
  /** Caught up with the head that the hub named when it confirmed; called once for each confirmation. */
  caughtUp(): void;
  /** The hub will not have this subscription; it is over. */
  refused(code: string, message: string): void;
}

export interface SubscriptionOptions {
  /** Neighbouring pieces of one text that wait together come as one event, which lists the others in `covers`. */
  accumulate?: boolean;
  /** Events a second, over 0: where there are more, pieces of texts are joined as above; nothing else is held back. */
  max_rate?: number;
  /** False leaves out whole contents (`content` events), for who fetches them by reference. */
  includeContent?: boolean;
}

export type Step = "taken" | "ignored" | "resubscribe";

const INTERVAL = 0.5; // heartbeats that arrive closer together than this part of their interval prove nothing

export class Subscription {
  // given
  readonly filter: Filter;
  readonly listener: Listener;
  readonly options: SubscriptionOptions;
  // changing
  since: Since;
  /** Of the request that the hub has from us now; 0 while there is none. */
  id = 0;
  #confirmed = false;
  #goal = Infinity;
  #owed: HubGap | null = null; // a hole that the confirmation left, until the hub says more of it
  #behind: { offset: number; since: number } | null = null; // where we stood before the head
  /** How often in a row it had to be asked for anew without reading anything. */
  misses = 0;

  constructor(filter: Filter, since: Since, listener: Listener, options: SubscriptionOptions = {}) {
    this.filter = filter;
    this.since = since;
    this.listener = listener;
    this.options = options;
  }

  /** The position, or null before the hub has named one. */
  get position(): Position | null {
    return typeof this.since === "object" && "epoch" in this.since ? this.since : null;
  }

  /** Whether it was asked for and not answered yet. */
  get asking(): boolean {
    return this.id !== 0 && !this.#confirmed;
  }

  /** The request for this subscription under a fresh `id`: messages that are still under way to the old one no longer fit. */
  request(id: number): object {
    this.forget();
    this.id = id;
    return { type: "subscribe", id, filter: this.filter, since: this.since, ...this.options };
  }

  /** The request is no more: its connection is lost, or it was taken back. */
  forget(): void {
    this.id = 0; // ids count from 1: nothing that is still under way fits it now
    this.#confirmed = false;
    this.#owed = null;
    this.#behind = null;
  }

  confirmed(message: Confirmed, head: number): void {
    const [before, there] = [this.position, message.position];
    this.#confirmed = true;
    this.#goal = head;
    if (before === null) {
      this.since = there;
    } else if (!message.recovered || there.epoch !== before.epoch) {
      const another = there.epoch !== before.epoch || there.offset < before.offset;
      this.#owed = another ? hole(message, 0, null, "epoch") : hole(message, before.offset + 1, there.offset - before.offset, "evicted");
      this.since = there;
      if (another) this.listener.newEpoch(there);
    } // else ours stays: should the hub begin elsewhere, that shows in what it sends
    this.#checkGoal();
  }

  events(message: Events): Step {
    const position = this.position;
    if (!this.#confirmed || position === null || message.pos <= position.offset) return "ignored"; // known
    if (message.prev !== position.offset) return "resubscribe";
    this.#settleOwed();
    this.#moveTo(message.pos);
    this.listener.events(message.events, { epoch: position.epoch, offset: message.pos });
    this.#checkGoal();
    return "taken";
  }

  /** A hole in the log, said by the hub: what we know of it already is not missing. */
  gap(message: HubGap): Step {
    const offset = this.position?.offset;
    if (!this.#confirmed || offset === undefined) return "ignored";
    let gap = { ...message, to: Math.max(message.to, offset) };
    if (this.#owed !== null) {
      this.#owed = null; // this is what became of our former position
    } else if (gap.count !== null) {
      if (message.to <= offset) return "ignored"; // known
      if (message.from > offset + 1) return "resubscribe";
      gap = { ...gap, from: offset + 1, count: Math.min(gap.count, gap.to - offset) };
    }
    this.#moveTo(gap.to);
    this.listener.gap(gap);
    this.#checkGoal();
    return "taken";
  }

  /**
   * A heartbeat: behind the head for a whole interval in which nothing came, something was lost on the way. (The hub
   * moves positions with every heartbeat even if the filter lets nothing through.)
   */
  heartbeat(head: number, now: number, intervalMs: number): Step {
    const offset = this.position?.offset;
    if (!this.#confirmed || offset === undefined) return "ignored";
    this.#settleOwed();
    if (offset >= head) this.#behind = null;
    else if (this.#behind?.offset !== offset) this.#behind = { offset, since: now };
    else if (now - this.#behind.since >= intervalMs * INTERVAL) return "resubscribe";
    return "taken";
  }

  #moveTo(offset: number): void {
    const position = this.position;
    if (position === null || offset <= position.offset) return;
    this.misses = 0;
    this.since = { epoch: position.epoch, offset };
  }

  /** The hub went on without a word about the hole of its confirmation: then we say it. */
  #settleOwed(): void {
    const owed = this.#owed;
    this.#owed = null;
    if (owed !== null) this.listener.gap(owed);
  }

  #checkGoal(): void {
    if ((this.position?.offset ?? -1) < this.#goal) return;
    this.#goal = Infinity;
    this.listener.caughtUp();
  }
}

/** What lies between where we stood and where the hub lets us go on. */
function hole(message: Confirmed, from: number, count: number | null, reason: string): HubGap {
  return { type: "gap", id: message.id, from, to: message.position.offset, count, reason };
}
