// Writes src/generated/events.ts from `agentpipe schema`; with --check it only says whether the file is up to date.
//
// The rule it keeps: the types of the page are the payloads of agentpipe/payload.py and nothing else.
// AGENTPIPE names the command when it is neither in ../.venv/bin nor on the PATH.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const target = fileURLToPath(new URL("../src/generated/events.ts", import.meta.url));
const local = fileURLToPath(new URL("../../.venv/bin/agentpipe", import.meta.url));

function schema() {
  const command = process.env.AGENTPIPE ?? (existsSync(local) ? local : "agentpipe");
  return JSON.parse(execFileSync(command, ["schema"], { encoding: "utf8", maxBuffer: 1 << 24 }));
}

function comment(text, indent = "") {
  if (!text) return "";
  const lines = text.split("\n").map((line) => line.trim());
  while (lines.at(-1) === "") lines.pop();
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}`.trimEnd()).join("\n")}\n${indent} */\n`;
}

const PLAIN = { string: "string", integer: "number", number: "number", boolean: "boolean", null: "null" };

/** The TypeScript of one JSON Schema node, as msgspec writes them. */
function type(node) {
  if (node.$ref) return node.$ref.split("/").at(-1);
  if (node.enum) return node.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in node) return JSON.stringify(node.const);
  if (node.anyOf) return node.anyOf.map(type).join(" | ");
  if (Array.isArray(node.type)) return node.type.map((one) => type({ ...node, type: one })).join(" | ");
  if (node.type === "array") return node.items ? `Array<${type(node.items)}>` : "unknown[]";
  if (node.type === "object") {
    const values = node.additionalProperties;
    return values && typeof values === "object" ? `Record<string, ${type(values)}>` : "Record<string, unknown>";
  }
  return PLAIN[node.type] ?? "unknown";
}

function shape(name, node) {
  const required = new Set(node.required ?? []);
  const fields = Object.entries(node.properties ?? {}).map(
    ([field, value]) => `  ${/^\w+$/.test(field) ? field : JSON.stringify(field)}${required.has(field) ? "" : "?"}: ${type(value)};\n`,
  );
  return `${comment(node.description)}export interface ${name} {\n${fields.join("")}}\n`;
}

function render(document) {
  const payloads = document.allOf.map((rule) => {
    const payload = rule.then.properties.payload;
    return [rule.if.properties.type.const, payload.$ref ? type(payload) : "Record<string, unknown>"];
  });
  const shapes = Object.entries(document.$defs).map(([name, node]) => shape(name, node));
  const required = new Set(document.required);
  const envelope = Object.entries(document.properties)
    .filter(([field]) => field !== "type" && field !== "payload")
    .map(([field, value]) => `  ${field}${required.has(field) ? "" : "?"}: ${type(value)};\n`);
  return `// Made by scripts/types.mjs from \`agentpipe schema\`; do not edit. \`npm run types\` makes it anew.

${shapes.join("\n")}
/** Every type of schema agentpipe/1 and its payload. */
export interface Payloads {
${payloads.map(([name, payload]) => `  ${name}: ${payload};\n`).join("")}}

/** What every event carries besides its type and payload. */
export interface Envelope {
${envelope.join("")}}

/** One event of a known type. */
export type EventOf<T extends keyof Payloads> = Envelope & { type: T; payload: Payloads[T] };

/** One event of any known type, told apart by \`type\`. */
export type KnownEvent = { [T in keyof Payloads]: EventOf<T> }[keyof Payloads];
`;
}

const text = render(schema());
if (!process.argv.includes("--check")) {
  writeFileSync(target, text);
} else if (!existsSync(target) || readFileSync(target, "utf8") !== text) {
  console.error("src/generated/events.ts is not what `agentpipe schema` says; run `npm run types`");
  process.exit(1);
}
