// A socket, a clock and timers for tests, which own them.
import type { Socket, World } from "./connection";

/** A socket whose other end is the test. */
export class FakeSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  readonly sent: Array<Record<string, unknown>> = [];
  closed = false;
  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }
  close(): void {
    this.closed = true;
  }
  receive(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  fail(code: number, reason = ""): void {
    this.onclose?.({ code, reason });
  }
  last(): Record<string, unknown> {
    return this.sent.at(-1)!;
  }
}

/** Time passes when the test says so; `chance` is what every throw of dice gives. */
export class FakeWorld implements World {
  readonly sockets: FakeSocket[] = [];
  time = 0;
  chance = 0.5;
  #timers: Array<{ at: number; call: () => void }> = [];
  open(): FakeSocket {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket;
  }
  now(): number {
    return this.time;
  }
  random(): number {
    return this.chance;
  }
  after(ms: number, call: () => void): () => void {
    const timer = { at: this.time + ms, call };
    this.#timers.push(timer);
    return () => (this.#timers = this.#timers.filter((other) => other !== timer));
  }
  pass(ms: number): void {
    const until = this.time + ms;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.time = next.at;
      next.call();
    }
    this.time = until;
  }
  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }
}
