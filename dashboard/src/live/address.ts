// What the page's address says: `#token=…` once, `#run=…` always.
//
// The rule it keeps: a token leaves the address bar (and so the history) before anything else happens.

export interface Address {
  token: string | null;
  run: string | null;
}

export function readAddress(hash: string): Address {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  return { token: fields.get("token"), run: fields.get("run") };
}

/** Takes the token out of the address bar and hands it over. */
export function takeAddress(): Address {
  const address = readAddress(location.hash);
  if (address.token !== null) writeRun(address.run);
  return address;
}

export function writeRun(run: string | null): void {
  const hash = run === null ? "" : `#run=${encodeURIComponent(run)}`;
  history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
}
