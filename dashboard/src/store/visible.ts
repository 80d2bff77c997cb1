// Text of an agent, fit to be read.
//
// The rule it keeps: agent output is hostile text. It stays text (text nodes only), nothing in it is invisible or turns
// the reading direction, and nothing is left out but colour codes, which carry no text.

/* eslint-disable no-control-regex */
const COLOUR = /\x1b\[[0-9;:]*m/g;
const HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const ANY_HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/;

export function visible(text: string): string {
  if (!ANY_HIDDEN.test(text)) return text;
  return text.replaceAll("\r\n", "\n").replace(COLOUR, "").replace(HIDDEN, picture);
}

/** Control pictures (U+2400…) for C0 controls and DEL, the code point's name for the rest. */
function picture(character: string): string {
  const code = character.codePointAt(0)!;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}
