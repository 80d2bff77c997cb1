// The link to the hub: one WebSocket at a time, the subscriptions on it, and coming back when it is lost.
//
// The rule it keeps: the link's state is always one of the phases below and says why; subscriptions outlive sockets and
// go on from their own positions. Sockets, timers, clock and chance come from outside (`World`), so tests own them.
import { backoffMs, verdict, type Verdict } from "./backoff";
import { readMessage, type Filter, type HubMessage, type Since } from "./messages";
import { Subscription, type Listener } from "./subscription";

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

export class Connection {
  // given
  readonly #world: World;
  readonly #changed: (state: LinkState) => void;
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
  #byeMs = 0;
  #lastId = 0;
  #tries = 0; // to get a link, since one held
  #cancelWatch = (): void => {};
  #cancelRetry = (): void => {};

  /** `changed` is called with every new state of the link. */
  constructor(world: World, changed: (state: LinkState) => void) {
    this.#world = world;
    this.#changed = changed;
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
  subscribe(filter: Filter, since: Since, listener: Listener): () => void {
    const subscription = new Subscription(filter, since, listener);
    this.#subscriptions.add(subscription);
    if (this.#state.phase === "connected") this.#request(subscription);
    return () => {
      if (!this.#subscriptions.delete(subscription)) return;
      this.#unsubscribe(subscription);
    };
  }

  #open(): void {
    this.#welcomedAt = null;
    this.#byeMs = 0;
    const socket = this.#world.open();
    this.#socket = socket;
    socket.onmessage = (event) => {
      if (socket === this.#socket) this.#received(event.data);
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#lost(verdict(event.code), event.reason || this.#state.reason || `closed (${event.code})`);
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
        for (const subscription of this.#subscriptions) {
          if (subscription.behind(message.head)) this.#again(subscription);
        }
        return;
      case "bye":
        this.#byeMs = message.after_ms ?? 0;
        this.#state.reason = message.reason;
        return;
      case "error":
        this.#set({ reason: message.message });
        return;
      default: {
        const subscription = this.#byId(message.id);
        if (subscription === undefined) return; // under way when it was replaced or ended
        if (message.type === "subscription_confirmed") subscription.confirmed(message, this.#state.head);
        else if (message.type === "gap") subscription.gap(message);
        else if (subscription.events(message) === "resubscribe") this.#again(subscription);
      }
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
    if (subscription.misses === 1) return this.#request(subscription);
    const socket = this.#socket;
    this.#world.after(backoffMs(subscription.misses, "return", this.#world.random()), () => {
      if (this.#socket === socket && this.#subscriptions.has(subscription)) this.#request(subscription);
    });
  }

  #unsubscribe(subscription: Subscription): void {
    if (this.#state.phase === "connected" && subscription.id !== 0) this.#send({ type: "unsubscribe", id: subscription.id });
    subscription.id = 0; // ids count from 1: nothing that is still under way fits it now
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
    const held = this.#welcomedAt !== null && this.#world.now() - this.#welcomedAt >= HELD_MS;
    this.#drop();
    if (why === "auth") return this.#set({ phase: "refused", attempt: 0, retryAt: null, reason });
    if (why === "stop") return this.#set({ phase: "disconnected", attempt: 0, retryAt: null, reason });
    this.#tries = held ? 1 : this.#tries + 1;
    const wait = Math.max(this.#byeMs, backoffMs(this.#tries, why, this.#world.random()));
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
