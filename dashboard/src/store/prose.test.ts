import { expect, test } from "vitest";
import { blocks, spans } from "./prose";

test("sorts a text into blocks", () => {
  const text = "# Plan\nFirst `a` and **b**.\nSame paragraph.\n\n- one\n  2. two\n```py\nx = 1\n\n# no heading\n```\n| a | b |\n| - | - |\nend";
  expect(blocks(text)).toMatchObject([
    { kind: "heading", spans: [{ text: "Plan" }] },
    { kind: "paragraph", spans: [{ text: "First " }, { style: "code", text: "a" }, { text: " and " }, { style: "bold", text: "b" }, { text: ".\nSame paragraph." }] },
    { kind: "item", mark: "-", indent: 0 },
    { kind: "item", mark: "2.", indent: 1 },
    { kind: "code", language: "py", text: "x = 1\n\n# no heading" },
    { kind: "code", language: "", text: "| a | b |\n| - | - |" },
    { kind: "paragraph", spans: [{ text: "end" }] },
  ]);
});

test("a code block that is still streaming is a code block", () => {
  expect(blocks("```sh\nls -l")).toEqual([{ kind: "code", language: "sh", text: "ls -l" }]);
});

test("markup of other kinds stays text", () => {
  expect(spans("<b>x</b> [y](javascript:z) *a* `")).toEqual([{ style: "plain", text: "<b>x</b> [y](javascript:z) *a* `" }]);
});

test("takes a long text without a mark in linear time", () => {
  const started = performance.now();
  blocks(`${"*".repeat(50_000)}\n${"`".repeat(50_000)}\n${"|".repeat(50_000)}`);
  expect(performance.now() - started).toBeLessThan(2_000);
});
