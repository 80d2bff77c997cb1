// A client of the hub for browsers and for node (22 or later), without a framework. docs/clients.md has the rules that it
// keeps and an example that runs; this is its whole public surface.
//
//   Connection(world, changed, token?)   the link: start(), stop(), subscribe(filter, since, listener, options), state
//   browserWorld(base)                   the world of a browser or of node, for a hub's page at `base`
//   Listener                             events, gap, newEpoch, caughtUp, refused
//   Api(base)                            the HTTP calls: session(token), runs(), page(run, after), content(ref, limit)
//   identity(event)                      what to drop known events by when a new log began
export { Api, ApiError, type EventPage, type Excerpt, type Listing } from "./api";
export { browserWorld } from "./browser";
export { Connection, type LinkState, type Phase, type Socket, type World } from "./connection";
export { identity, type AgentEvent, type Filter, type HubGap, type Position, type Since } from "./messages";
export type { Listener, SubscriptionOptions } from "./subscription";
