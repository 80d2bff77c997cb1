// The little of Markdown that makes an agent's text good to read: code blocks, headings, lists, tables as they stand,
// inline code and bold.
//
// The rule it keeps: it sorts text into blocks and spans and makes no HTML; every character that is not a mark is kept,
// and links stay text, so nothing in a text can do anything.

export interface Span {
  style: "plain" | "code" | "bold";
  text: string;
}
export type Block =
  | { kind: "code"; language: string; text: string }
  | { kind: "heading"; spans: Span[] }
  | { kind: "item"; mark: string; indent: number; spans: Span[] }
  | { kind: "paragraph"; spans: Span[] };

const FENCE = /^\s*(```+|~~~+)\s*([\w+#.-]*)/;
const HEADING = /^#{1,6}\s+(.*)$/;
const ITEM = /^(\s*)([-*+•]|\d{1,3}[.)])\s+(.*)$/;
const SPAN = /(`+)([^`]+?)\1|\*\*([^*\n]+?)\*\*/g;

export function blocks(text: string): Block[] {
  const found: Block[] = [];
  const lines = text.split("\n");
  let paragraph: string[] = [];
  const flush = (): void => {
    if (paragraph.length > 0) found.push({ kind: "paragraph", spans: spans(paragraph.join("\n")) });
    paragraph = [];
  };
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index]!;
    const fence = FENCE.exec(line);
    const preformatted = fence ? fenced(lines, index, fence[1]!) : table(lines, index);
    if (preformatted > 0) {
      flush();
      const inner = fence ? lines.slice(index + 1, index + preformatted) : lines.slice(index, index + preformatted);
      if (fence && closes(inner.at(-1), fence[1]!)) inner.pop();
      found.push({ kind: "code", language: fence?.[2] ?? "", text: inner.join("\n") });
      index += preformatted - 1;
      continue;
    }
    const heading = HEADING.exec(line);
    const item = ITEM.exec(line);
    if (heading || item || line.trim() === "") flush();
    if (heading) found.push({ kind: "heading", spans: spans(heading[1]!) });
    else if (item) found.push({ kind: "item", mark: item[2]!, indent: Math.min(4, item[1]!.length >> 1), spans: spans(item[3]!) });
    else if (line.trim() !== "") paragraph.push(line);
  }
  flush();
  return found;
}

/** How many lines a fenced block takes, its fences included; one that is not closed (yet) runs to the end. */
function fenced(lines: readonly string[], from: number, mark: string): number {
  for (let index = from + 1; index < lines.length; index++) if (closes(lines[index], mark)) return index - from + 1;
  return lines.length - from;
}

function closes(line: string | undefined, mark: string): boolean {
  return line !== undefined && line.trim().startsWith(mark) && line.trim().replaceAll(mark[0]!, "") === "";
}

function table(lines: readonly string[], from: number): number {
  let index = from;
  while (index < lines.length && lines[index]!.trimStart().startsWith("|")) index++;
  return index - from > 1 ? index - from : 0; // a single line with a bar is a sentence
}

export function spans(text: string): Span[] {
  const found: Span[] = [];
  let last = 0;
  for (const match of text.matchAll(SPAN)) {
    if (match.index > last) found.push({ style: "plain", text: text.slice(last, match.index) });
    found.push(match[2] !== undefined ? { style: "code", text: match[2] } : { style: "bold", text: match[3]! });
    last = match.index + match[0].length;
  }
  if (last < text.length) found.push({ style: "plain", text: text.slice(last) });
  return found;
}
