// The browser, or node, as the connection's world: its WebSocket, clock, chance and timers.
import type { Socket, World } from "./connection";

/** A world whose sockets go to `ws` beside the page at `base`. */
export function browserWorld(base: string): World {
  const address = new URL("ws", base);
  address.protocol = address.protocol.replace("http", "ws");
  return {
    open: () => new WebSocket(address, "agentpipe.v1") as Socket,
    now: () => Date.now(),
    random: () => Math.random(),
    after: (ms, call) => {
      const timer = setTimeout(call, ms);
      return () => clearTimeout(timer);
    },
  };
}
