// Work gathered and done once a frame.
//
// The rule it keeps: however many messages come, the page is drawn at most once a frame; in a hidden tab, where no frame
// comes, it still keeps up, a few times a second.

const HIDDEN_MS = 250; // browsers slow timers of hidden tabs down further; this is what we ask for

export class Frames {
  readonly #work: () => void;
  #planned = false;

  constructor(work: () => void) {
    this.#work = work;
  }

  /** Plans one call of the work, unless one is planned. */
  plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    const run = (): void => {
      if (!this.#planned) return;
      this.#planned = false;
      this.#work();
    };
    if (document.hidden) setTimeout(run, HIDDEN_MS);
    else requestAnimationFrame(run);
    // A tab that is hidden in between never gets its frame.
    if (!document.hidden) setTimeout(() => document.hidden && run(), HIDDEN_MS);
  }
}
