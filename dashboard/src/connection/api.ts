// The hub's HTTP calls that the page makes (docs/protocol.md, HTTP).
//
// The rule it keeps: a call gives data of the stated shape or throws `ApiError` with the hub's status; 0 means that no
// answer came at all.
import type { AgentEvent, Position } from "./messages";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }

  /** The hub does not accept who we are: trying again unchanged is of no use. */
  get refused(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

export interface EventPage {
  position: Position;
  events: AgentEvent[];
  /** The `after` of the next page; complete up to here. */
  next: number;
  more: boolean;
}

/** A text, or as much of it as was asked for. */
export interface Excerpt {
  text: string;
  whole: boolean;
}

export interface Listing<T> {
  position: Position;
  runs: T[];
}

const PAGE_EVENTS = 500; // about 250 KB of usual events: a page arrives and is drawn within a few frames
const TIMEOUT_MS = 15_000;

export class Api {
  /** `base` is where the page lives; calls go to `api/…` beside it. */
  constructor(
    readonly base: string,
    readonly fetch: typeof globalThis.fetch = globalThis.fetch.bind(globalThis),
  ) {}

  /** Exchanges a token for the session cookie. */
  async session(token: string): Promise<void> {
    await this.#call("api/session", { method: "POST", headers: { authorization: `Bearer ${token}` } });
  }

  /** All runs and the position at which that is what they were. */
  async runs<T>(): Promise<Listing<T>> {
    return (await this.#call("api/runs")).json() as Promise<Listing<T>>;
  }

  /** One page of a run's events behind the offset `after`, texts accumulated, without the contents, which `content` gives. */
  async page(run: string, after: number): Promise<EventPage> {
    const path = `api/runs/${encodeURIComponent(run)}/events?after=${after}&limit=${PAGE_EVENTS}&content=0&accumulate=1`;
    return (await this.#call(path)).json() as Promise<EventPage>;
  }

  /** Where the whole is that an event names by this reference; to be saved rather than shown with `save`. */
  contentUrl(ref: string, save = false): string {
    return new URL(`api/content/${encodeURIComponent(ref)}${save ? "?download" : ""}`, this.base).href;
  }

  /** The whole that an event names by this reference, as text; of a longer one the first `limit` bytes. */
  async content(ref: string, limit: number): Promise<Excerpt> {
    const answer = await this.#call(`api/content/${encodeURIComponent(ref)}`);
    const reader = answer.body!.getReader();
    const decoder = new TextDecoder();
    let [text, size] = ["", 0];
    try {
      while (size <= limit) {
        const { value, done } = await reader.read();
        if (done) return { text: text + decoder.decode(), whole: true };
        text += decoder.decode(value.subarray(0, limit - size), { stream: true });
        size += value.length;
      }
    } catch (error) {
      throw new ApiError(0, `it did not come whole (${String(error)})`);
    }
    await reader.cancel();
    return { text, whole: false };
  }

  async #call(path: string, init: RequestInit = {}): Promise<Response> {
    let answer: Response;
    try {
      answer = await this.fetch(new URL(path, this.base), {
        credentials: "same-origin",
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...init,
      });
    } catch (error) {
      throw new ApiError(0, `the hub does not answer (${String(error)})`);
    }
    if (!answer.ok) throw new ApiError(answer.status, await explanation(answer));
    return answer;
  }
}

async function explanation(answer: Response): Promise<string> {
  try {
    const body = (await answer.json()) as { message?: unknown };
    if (typeof body.message === "string") return body.message;
  } catch {
    // Not the hub's JSON (a proxy's page, say): the status has to speak for itself.
  }
  return `${answer.status} ${answer.statusText}`;
}
