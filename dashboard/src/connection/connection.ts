// The link to the hub: one WebSocket at a time, the subscriptions on it, and coming back when it is lost.
//
// The rule it keeps: the link's state is always one of the phases below and says why; subscriptions outlive sockets and
// go on from their own positions. Sockets, timers, clock and chance come from outside (`World`), so tests own them.
import { backoffMs, verdict, type Verdict } from "./backoff";
import { readMessage, type Bye, type Filter, type HubError, type HubMessage, type Position, type Since } from "./messages";
import { Subscription, type Listener, type Step, type SubscriptionOptions } from "./subscription";

/**
 * connecting: the first attempt · connected: welcome has come · reconnecting: lost, an attempt runs or waits ·
 * disconnected: ended for good until `start()` · refused: the hub does not accept who we are.
 */
export type Phase = "connecting" | "connected" | "reconnecting" | "disconnected" | "refused";

export interface LinkState {
  phase: Phase;
  /** Number of the attempt in progress or awaited, from 1; 0 while connected. */
  attempt: number;
  /** When the next attempt begins, in milliseconds of `World.now`; null while none is awaited. */
  retryAt: number | null;
  /** What the hub or the browser said last, for people. */
  reason: string;
  /** When the last message came, in milliseconds of `World.now`; null before the first. */
  lastMessageAt: number | null;
  /** The log's last offset, as far as the hub has told. */
  head: number;
}

/** The part of WebSocket that the connection uses. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export interface World {
  open(): Socket;
  now(): number;
  /** In [0, 1). */
  random(): number;
  /** Calls back once after so many milliseconds; the result cancels it. */
  after(ms: number, call: () => void): () => void;
}

const HELD_MS = 3_000; // a link that held this long has proved itself: the next loss counts from 1 again
const WELCOME_MS = 10_000; // the hub greets at once; a socket that says nothing this long is not a hub
const SILENT_HEARTBEATS = 2.5; // one heartbeat may be late; two and a half say that the link is dead
const DEFAULT_HEARTBEAT_S = 20;
const STAY_AWAY_MS = 60_000; // the longest that a hub may tell us to stay away

export class Connection {
  // given
  readonly #world: World;
  readonly #changed: (state: LinkState) => void;
  readonly #token: string | null;
  readonly #subscriptions = new Set<Subscription>();
  // changing
  #state: LinkState = {
    phase: "disconnected",
    attempt: 0,
    retryAt: null,
    reason: "",
    lastMessageAt: null,
    head: 0,
  };
  #socket: Socket | null = null;
  #heartbeatMs = DEFAULT_HEARTBEAT_S * 1000;
  #welcomedAt: number | null = null;
  #bye: Bye | null = null;
  #lastId = 0;
  #tries = 0; // to get a link, since one held
  #cancelWatch = (): void => {};
  #cancelRetry = (): void => {};

  /** `changed` is called with every new state of the link. Where no cookie speaks for the page, `token` does. */
  constructor(world: World, changed: (state: LinkState) => void, token: string | null = null) {
    this.#world = world;
    this.#changed = changed;
    this.#token = token;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Begins, or begins again after `disconnected` or `refused`; tries at once while `reconnecting`. */
  start(): void {
    if (this.#socket !== null) return;
    this.#cancelRetry();
    this.#set({ phase: this.#comingBack(), attempt: Math.max(1, this.#tries), retryAt: null });
    this.#open();
  }

  /** Ends for good; subscriptions stay and go on after `start()`. */
  stop(reason = "stopped"): void {
    this.#drop();
    this.#cancelRetry();
    this.#set({ phase: "disconnected", attempt: 0, retryAt: null, reason });
  }

  /** Subscribes now if the link is up, and again after every reconnect, from where it was. Returns how to end it. */
  subscribe(filter: Filter, since: Since, listener: Listener, options: SubscriptionOptions = {}): () => void {
    const subscription = new Subscription(filter, since, listener, options);
    this.#subscriptions.add(subscription);
    if (this.#state.phase === "connected") this.#request(subscription);
    return () => {
      if (!this.#subscriptions.delete(subscription)) return;
      this.#unsubscribe(subscription);
    };
  }

  /** Where each subscription stands, in the order in which they were made: what to keep in order to go on another time. */
  positions(): Array<Position | null> {
    return [...this.#subscriptions].map((subscription) => subscription.position);
  }

  #open(): void {
    this.#welcomedAt = null;
    this.#bye = null;
    const socket = this.#world.open();
    this.#socket = socket;
    socket.onopen = () => {
      if (socket === this.#socket && this.#token !== null) this.#send({ type: "auth", token: this.#token });
    };
    socket.onmessage = (event) => {
      if (socket === this.#socket) this.#received(event.data);
    };
    socket.onclose = (event) => {
      const why = verdict(event.code, this.#bye?.code);
      if (socket === this.#socket) this.#lost(why, event.reason || this.#state.reason || `closed (${event.code})`);
    };
    this.#watch(WELCOME_MS);
  }

  #received(frame: unknown): void {
    let message: HubMessage | null;
    try {
      message = readMessage(String(frame));
    } catch (error) {
      this.#lost("later", `the hub sent what is not the protocol: ${String(error)}`);
      return;
    }
    // No announcement here: a state per message would be work per message for whoever listens.
    this.#state.lastMessageAt = this.#world.now();
    if (this.#welcomedAt !== null) this.#watch(this.#heartbeatMs * SILENT_HEARTBEATS);
    if (message !== null) this.#handle(message);
  }

  #handle(message: HubMessage): void {
    switch (message.type) {
      case "welcome":
        this.#welcomedAt = this.#world.now();
        this.#heartbeatMs = (message.heartbeat_s || DEFAULT_HEARTBEAT_S) * 1000;
        this.#watch(this.#heartbeatMs * SILENT_HEARTBEATS);
        this.#set({ phase: "connected", attempt: 0, retryAt: null, reason: "", head: message.head });
        for (const subscription of this.#subscriptions) this.#request(subscription);
        return;
      case "heartbeat":
        this.#set({ head: message.head });
        for (const subscription of [...this.#subscriptions]) {
          this.#took(subscription, subscription.heartbeat(message.head, this.#world.now(), this.#heartbeatMs));
        }
        return;
      case "bye":
        this.#bye = message;
        this.#state.reason = message.reason;
        return;
      case "error":
        this.#set({ reason: message.message });
        this.#complained(message);
        return;
      default: {
        const subscription = this.#byId(message.id);
        if (subscription === undefined) return; // under way when it was replaced or ended
        if (message.type === "subscription_confirmed") subscription.confirmed(message, this.#state.head);
        else this.#took(subscription, message.type === "gap" ? subscription.gap(message) : subscription.events(message));
      }
    }
  }

  #took(subscription: Subscription, step: Step): void {
    if (step === "resubscribe") this.#again(subscription);
  }

  /** An error about one request: a store that fails is asked again later, everything else ends the subscription. */
  #complained(error: HubError): void {
    const { in_reply_to: id, code } = error;
    const asking = [...this.#subscriptions].filter((one) => one.asking);
    const subscription = id === undefined ? (asking.length === 1 ? asking[0] : undefined) : this.#byId(id);
    if (subscription === undefined) return; // about nothing of ours, or a request that was given up
    if (code !== "unavailable") {
      this.#subscriptions.delete(subscription);
      subscription.listener.refused(code, error.message);
    } else if (id !== undefined && subscription.asking) {
      subscription.misses += 1;
      this.#later(subscription);
    }
  }

  #byId(id: number | string): Subscription | undefined {
    for (const subscription of this.#subscriptions) if (subscription.id === id) return subscription;
    return undefined;
  }

  #request(subscription: Subscription): void {
    this.#send(subscription.request(++this.#lastId));
  }

  /** Asks anew from the last good position; with a growing wait when that did not help before. */
  #again(subscription: Subscription): void {
    this.#unsubscribe(subscription);
    subscription.misses += 1;
    if (subscription.misses === 1) this.#request(subscription);
    else this.#later(subscription);
  }

  #later(subscription: Subscription): void {
    subscription.forget();
    const socket = this.#socket;
    this.#world.after(backoffMs(subscription.misses, "return", this.#world.random()), () => {
      if (this.#socket === socket && this.#subscriptions.has(subscription) && subscription.id === 0) this.#request(subscription);
    });
  }

  #unsubscribe(subscription: Subscription): void {
    if (this.#state.phase === "connected" && subscription.id !== 0) this.#send({ type: "unsubscribe", id: subscription.id });
    subscription.forget();
  }

  #send(message: object): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #watch(ms: number): void {
    this.#cancelWatch();
    this.#cancelWatch = this.#world.after(ms, () => this.#lost("return", "the hub fell silent"));
  }

  #drop(): void {
    this.#cancelWatch();
    const socket = this.#socket;
    this.#socket = null; // first, so that its last words are not heard
    socket?.close(1000);
  }

  #lost(why: Verdict, reason: string): void {
    for (const subscription of this.#subscriptions) subscription.forget();
    const held = this.#welcomedAt !== null && this.#world.now() - this.#welcomedAt >= HELD_MS;
    this.#drop();
    if (why === "auth") return this.#set({ phase: "refused", attempt: 0, retryAt: null, reason });
    if (why === "stop") return this.#set({ phase: "disconnected", attempt: 0, retryAt: null, reason });
    this.#tries = held ? 1 : this.#tries + 1;
    const wait = Math.max(Math.min(this.#bye?.after_ms ?? 0, STAY_AWAY_MS), backoffMs(this.#tries, why, this.#world.random()));
    this.#set({ phase: this.#comingBack(), attempt: this.#tries, retryAt: this.#world.now() + wait, reason });
    this.#cancelRetry = this.#world.after(wait, () => {
      this.#set({ retryAt: null });
      this.#open();
    });
  }

  #comingBack(): Phase {
    return this.#state.lastMessageAt === null ? "connecting" : "reconnecting";
  }

  #set(change: Partial<LinkState>): void {
    this.#state = { ...this.#state, ...change };
    this.#changed(this.#state);
  }
}
