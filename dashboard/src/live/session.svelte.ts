// The page's one data path: sign in, read the runs, open a run, follow both.
//
// The rule it keeps: what is shown is a reading over HTTP at a position plus a subscription from that position, so a
// reload shows what was streamed. Two subscriptions are open at most: the list's (all runs, only the types that change a
// summary) and the opened run's (everything). Events are applied once a frame.
import { tick } from "svelte";
import { Api, ApiError, Connection, browserWorld, type AgentEvent, type LinkState, type Listener, type Position, type SubscriptionOptions } from "../connection";
import { Feed } from "../store/feed";
import { LIST_TYPES, Runs, type RunSummary } from "../store/runs";
import { sessionsOf } from "../store/sessions";
import { takeAddress, readAddress, writeRun } from "./address";
import { Frames } from "./frames";

export type Access = "asking" | "granted" | "refused";
export type Loading = "loading" | "ready" | "missing" | "failed";

const RETRY_MS = 2_000; // between tries of a reading that failed
const READING_MS = 20_000; // the list is read anew this often while something runs: the hub's numbers are the numbers
const FRAMES_KEPT = 240; // four seconds of frames: what a test or a curious reader looks at
const HIDDEN_FACTOR = 15; // a hidden tab reads every five minutes, which bounds what it has to remember
const SETTLE_MS = 1_000; // after a run ended: its last events have come by then
/** Texts that wait together, or come faster than anybody reads, come joined; whole contents are fetched by reference. */
const LEAN: SubscriptionOptions = { accumulate: true, max_rate: 50, includeContent: false };

export class Session {
  access = $state<Access>("asking");
  accessReason = $state("");
  link = $state.raw<LinkState>() as LinkState;
  runs = $state.raw<RunSummary[]>([]);
  listing = $state<Loading>("loading");
  selected = $state<string | null>(null);
  feed = $state.raw<Feed | null>(null);
  /** Goes up when the opened feed has changed; rows are plain values, not reactive ones. */
  feedVersion = $state(0);
  loading = $state<Loading>("loading");
  /** Milliseconds; once a second, for ages. */
  now = $state(Date.now());

  /** How long the last applications of events took until they were drawn: script and layout, in milliseconds. */
  readonly frames: Array<{ events: number; ms: number }> = [];

  readonly #api = new Api(document.baseURI);
  readonly #connection = new Connection(browserWorld(document.baseURI), (state) => this.#linkChanged(state));
  readonly #runs = new Runs();
  readonly #frames = new Frames(() => this.#apply());
  #token: string | null = null;
  #signedInAgain = false;
  #listPending: AgentEvent[] = [];
  #feedPending: AgentEvent[] = [];
  #endList = (): void => {};
  #endFeed = (): void => {};
  #reading = false;
  #readAgain = false;
  #readAt = 0;
  #opening = 0;

  constructor() {
    this.link = { ...this.#connection.state, phase: "connecting" }; // it is about to: nothing has failed yet
  }

  /** The summary of the opened run. */
  get run(): RunSummary | undefined {
    return this.runs.find((run) => run.run_id === this.selected);
  }

  async start(): Promise<void> {
    const address = takeAddress();
    this.#token = address.token;
    setInterval(() => this.#tick(), 1_000);
    addEventListener("hashchange", () => this.#hashChanged());
    for (const name of ["online", "visibilitychange"]) {
      (name === "online" ? window : document).addEventListener(name, () => this.#wakeUp());
    }
    if (this.#token !== null && !(await this.#signIn())) return;
    this.#connection.start();
    if (address.run !== null) this.open(address.run);
    await this.#readRuns();
  }

  /** Tries the link again at once, for who does not want to wait. */
  reconnect(): void {
    this.#connection.start();
  }

  open(run: string): void {
    if (run === this.selected && this.feed !== null) return;
    this.#endFeed();
    this.#feedPending = [];
    this.selected = run;
    this.feed = new Feed(run);
    this.loading = "loading";
    writeRun(run);
    void this.#fill(this.feed, ++this.#opening);
  }

  /** Back to the list, where there is room for one of the two only. */
  close(): void {
    this.#endFeed();
    this.#opening += 1;
    this.selected = null;
    this.feed = null;
    writeRun(null);
  }

  async #signIn(): Promise<boolean> {
    for (;;) {
      try {
        await this.#api.session(this.#token ?? "");
        this.access = "granted";
        return true;
      } catch (error) {
        if (this.#refused(error)) return false;
        this.accessReason = String((error as Error).message);
        this.listing = "failed";
        await pause(RETRY_MS);
      }
    }
  }

  #refused(error: unknown): boolean {
    if (!(error instanceof ApiError) || !error.refused) return false;
    this.access = "refused";
    this.accessReason = error.message;
    this.#connection.stop("not signed in");
    return true;
  }

  #linkChanged(state: LinkState): void {
    this.link = state;
    if (state.phase === "connected") {
      this.access = "granted";
      this.#signedInAgain = false;
    }
    if (state.phase === "refused") void this.#signInAgain(state.reason);
  }

  /** A hub that was started anew may not know the cookie; the token in memory gets a new one, once a link. */
  async #signInAgain(reason: string): Promise<void> {
    if (this.#token === null || this.#signedInAgain) {
      this.access = "refused";
      this.accessReason = reason;
      return;
    }
    this.#signedInAgain = true;
    if (await this.#signIn()) this.#connection.start();
  }

  /** Reads the list anew; asked for during a reading, once more after it. Tries again until it has succeeded. */
  async #readRuns(): Promise<void> {
    this.#readAgain = this.#reading;
    if (this.#reading) return;
    this.#reading = true;
    try {
      const { runs, position } = await this.#api.runs<RunSummary>();
      this.#endList();
      this.#listPending = [];
      this.#runs.read(runs);
      this.#endList = this.#connection.subscribe({ types: LIST_TYPES }, position, this.#listListener(), LEAN);
      this.listing = "ready";
      this.#showRuns();
    } catch (error) {
      if (this.#refused(error)) return;
      if (this.listing === "loading") this.listing = "failed";
      this.#readAgain = true;
    } finally {
      this.#reading = false;
      this.#readAt = Date.now();
    }
    if (this.#readAgain) setTimeout(() => void this.#readRuns(), RETRY_MS);
  }

  #listListener(): Listener {
    return {
      events: (events) => {
        if (events.length === 0) return;
        this.#listPending.push(...events);
        this.#frames.plan();
      },
      gap: () => void this.#readRuns(),
      newEpoch: () => void this.#readRuns(),
      caughtUp: () => {},
      refused: () => setTimeout(() => void this.#readRuns(), RETRY_MS),
    };
  }

  #showRuns(): void {
    this.runs = this.#runs.list();
    const first = sessionsOf(this.runs).map(({ tellers }) => tellers[0]!);
    const wanted = first.find((run) => run.state === "running") ?? first[0];
    const wide = matchMedia("(min-width: 900px)").matches; // below, the list is a page of its own
    if (this.selected === null && wanted !== undefined && wide) this.open(wanted.run_id);
  }

  /** Reads the run from its first event to the head, then follows from there. */
  async #fill(feed: Feed, opening: number): Promise<void> {
    let after = 0;
    let epoch: string | null = null;
    while (opening === this.#opening) {
      try {
        const page = await this.#api.page(feed.run, after);
        if (opening !== this.#opening) return;
        if (epoch !== null && page.position.epoch !== epoch) {
          epoch = null;
          after = 0;
          continue; // a new log in the middle: from its beginning; what is known is dropped
        }
        epoch = page.position.epoch;
        after = page.next;
        feed.apply(page.events, Date.now());
        this.feedVersion += 1;
        if (page.more) continue;
        this.loading = "ready";
        const since = { epoch, offset: page.next };
        this.#endFeed = this.#connection.subscribe({ runs: [feed.run] }, since, this.#feedListener(feed, opening), LEAN);
        return;
      } catch (error) {
        if (this.#refused(error) || opening !== this.#opening) return;
        this.loading = error instanceof ApiError && error.status === 404 ? "missing" : "failed";
        await pause(RETRY_MS);
      }
    }
  }

  #feedListener(feed: Feed, opening: number): Listener {
    return {
      events: (events) => {
        if (events.length === 0) return;
        this.#feedPending.push(...events);
        this.#frames.plan();
      },
      gap: (gap) => {
        this.#apply();
        feed.hubGap(gap);
        this.feedVersion += 1;
      },
      newEpoch: (position) => this.#followAnew(feed, opening, position),
      caughtUp: () => {},
      refused: () => setTimeout(() => void (opening === this.#opening && this.#fill(feed, opening)), RETRY_MS),
    };
  }

  /**
   * The hub sends what it keeps from the beginning and the feed drops what it knows: piece by piece, because pieces that
   * come joined now may be partly known.
   */
  #followAnew(feed: Feed, opening: number, position: Position): void {
    if (opening !== this.#opening) return;
    this.#endFeed();
    const listener = this.#feedListener(feed, opening);
    listener.gap({ type: "gap", id: 0, from: 0, to: position.offset, count: null, reason: "epoch" });
    this.#endFeed = this.#connection.subscribe({ runs: [feed.run] }, position, listener, { includeContent: false });
  }

  #apply(): void {
    const started = performance.now();
    const [listEvents, feedEvents] = [this.#listPending, this.#feedPending];
    this.#listPending = [];
    this.#feedPending = [];
    if (listEvents.length > 0) {
      if (this.#runs.apply(listEvents)) setTimeout(() => void this.#readRuns(), SETTLE_MS);
      this.#showRuns();
    }
    if (feedEvents.length > 0 && this.feed !== null && this.feed.apply(feedEvents, Date.now()) > 0) this.feedVersion += 1;
    // The first tick draws the rows, the second follows the feed's own scrolling to its end, which lays the page out.
    void tick().then(tick).then(() => this.#drawn(feedEvents.length, performance.now() - started));
  }

  #drawn(events: number, ms: number): void {
    this.frames.push({ events, ms });
    if (this.frames.length > FRAMES_KEPT) this.frames.shift();
  }

  #tick(): void {
    this.now = Date.now();
    if (this.feed !== null && this.loading === "ready" && this.feed.reportHoles(this.now)) this.feedVersion += 1;
    const running = this.runs.some((run) => run.state === "running");
    const due = this.now - this.#readAt > READING_MS * (document.hidden ? HIDDEN_FACTOR : 1);
    if (running && due && this.link.phase === "connected") void this.#readRuns();
  }

  #wakeUp(): void {
    if (!document.hidden && this.link.phase === "reconnecting") this.#connection.start();
  }

  #hashChanged(): void {
    const { token, run } = readAddress(location.hash);
    if (token !== null) return location.reload(); // a fresh link from the terminal: begin anew with its token
    if (run !== null) this.open(run);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
