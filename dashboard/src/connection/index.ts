// A client of the hub for browsers, without a framework: use it from your own page like this.
//
//   const api = new Api(document.baseURI);
//   await api.session(token);                                   // once; afterwards the cookie speaks
//   const link = new Connection(browserWorld(document.baseURI), (state) => show(state));
//   link.start();
//   const end = link.subscribe({ runs: ["7f3a"] }, "start", {
//     events: (events, position) => …,                           // in order, nothing twice on one log
//     gap: (gap) => …,                                           // what will not come, and why
//     newEpoch: () => …,                                         // a new log: known events may come again, drop them by identity()
//     caughtUp: () => …,
//   });
export { Api, ApiError, type EventPage, type Excerpt, type Listing } from "./api";
export { browserWorld } from "./browser";
export { Connection, type LinkState, type Phase, type Socket, type World } from "./connection";
export { identity, type AgentEvent, type Filter, type HubGap, type Position, type Since } from "./messages";
export type { Listener } from "./subscription";
