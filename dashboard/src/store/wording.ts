// Numbers as people read them: spans, ages, sizes, tokens, money.
//
// The rule it keeps: no number claims more than it knows; an ETA is a range in minutes, and absent without a basis.
import type { ProgressUpdate } from "../generated/events";

/** `840 ms`, `3.2 s`, `4 min 05 s`, `2 h 10 min` */
export function span(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** How long ago, without false precision: `now`, `12 s`, `4 min`, `3 h`, `2 d`. */
export function age(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 3) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function bytes(count: number): string {
  if (count < 1024) return `${count} bytes`;
  if (count < 1024 * 1024) return `${(count / 1024).toFixed(1)} KiB`;
  return `${(count / 1024 / 1024).toFixed(1)} MiB`;
}

/** `812`, `12.4k`, `1.3M` */
export function short(count: number): string {
  if (count < 1000) return String(count);
  if (count < 999_500) return `${(count / 1000).toFixed(count < 99_950 ? 1 : 0)}k`;
  return `${(count / 1_000_000).toFixed(1)}M`;
}

export function dollars(amount: number): string {
  return `$${amount.toFixed(amount !== 0 && Math.abs(amount) < 0.1 ? 4 : 2)}`;
}

/** `about 2–5 min left`, or nothing when there is no basis. */
export function eta(progress: Pick<ProgressUpdate, "eta_s" | "eta_range_s">): string {
  const [low, high] = progress.eta_range_s ?? [];
  if (low !== undefined && high !== undefined) {
    const from = minutes(low);
    const to = minutes(high);
    if (high < 60) return "under a minute left";
    return from === to ? `about ${to} min left` : `about ${from}–${to} min left`;
  }
  if (progress.eta_s === undefined) return "";
  return progress.eta_s < 60 ? "under a minute left" : `about ${minutes(progress.eta_s)} min left`;
}

function minutes(seconds: number): number {
  return Math.max(1, Math.round(seconds / 60));
}

/** The clock time of an RFC 3339 stamp where the reader is: `14:03:07`. */
export function clock(timestamp: string): string {
  const at = new Date(timestamp);
  return Number.isNaN(at.getTime()) ? "" : at.toTimeString().slice(0, 8);
}
