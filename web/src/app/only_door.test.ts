// @vitest-environment node
/** The page reaches the server only through the client: nothing else in web/src talks to the network. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";

import { parseAst } from "vite";
import { expect, test } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const DOOR = "app/server.ts";
/** Ways out of a page, however they are reached: `fetch(…)`, `window.fetch`, `window["fetch"]`, `const ask = fetch`. */
const WAYS_OUT: ReadonlySet<string> = new Set([
  "fetch",
  "XMLHttpRequest",
  "EventSource",
  "WebSocket",
  "WebTransport",
  "RTCPeerConnection",
  "sendBeacon",
  "importScripts",
  "Worker",
  "SharedWorker",
  "serviceWorker",
]);

interface Node {
  readonly type: string;
  readonly [name: string]: unknown;
}

/** Returns what in a module's text leads to the network, in the order in which it is written. */
function waysOut(text: string): string[] {
  const found: string[] = [];
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(visit);
    if (typeof value !== "object" || value === null || !("type" in value)) return;
    const node = value as Node;
    const name = node["name"] ?? node["value"];
    if ((node.type === "Identifier" || node.type === "Literal") && WAYS_OUT.has(String(name))) found.push(String(name));
    if (node.type === "ImportExpression" || /^(Import|Export).*Declaration$/.test(node.type)) {
      const source = node["source"] as Node | null;
      if (source !== null && source !== undefined && !isOwn(source["value"])) found.push(node.type);
    }
    Object.values(node).forEach(visit);
  };
  visit(parseAst(text, { lang: "tsx" }).body);
  return found;
}

/** Whether a module comes with the page: a relative path or a package's name, written out. */
function isOwn(source: unknown): boolean {
  return typeof source === "string" && !/^(\/|[a-z][a-z+.-]*:)/i.test(source);
}

test.each([
  ["const f = async () => await fetch('/x')", ["fetch"]],
  ["const ask = fetch", ["fetch"]],
  ["globalThis.fetch('/x')", ["fetch"]],
  ["window['fetch']('/x')", ["fetch"]],
  ["const { fetch: ask } = window", ["fetch"]],
  ["new XMLHttpRequest()", ["XMLHttpRequest"]],
  ["new EventSource('/x')", ["EventSource"]],
  ["new window.WebSocket('ws://x')", ["WebSocket"]],
  ["navigator.sendBeacon('/x')", ["sendBeacon"]],
  ["new Worker('/x')", ["Worker"]],
  ["import('https://elsewhere.example/x.js')", ["ImportExpression"]],
  ["import('//elsewhere.example/x.js')", ["ImportExpression"]],
  ["const where = './x'; import(where)", ["ImportExpression"]],
  ["import { x } from 'https://elsewhere.example/x.js'", ["ImportDeclaration"]],
  ["export * from '/x.js'", ["ExportAllDeclaration"]],
  ["const a = <img onLoad={() => fetch('/x')} />", ["fetch"]],
  ["// fetch()\nconst words = 'models fetch'; export { words }", []],
  ["import { api } from './server.ts'; import('../markdown/math.ts'); import 'katex'; prefetch()", []],
])("in %j it finds %j", (text, ways) => {
  expect(waysOut(text)).toEqual(ways);
});

test("nothing but the one door talks to the network", () => {
  const files = readdirSync(ROOT, { recursive: true, encoding: "utf8" })
    .map((name) => relative(ROOT, join(ROOT, name)).replaceAll("\\", "/"))
    .filter((name) => /\.tsx?$/.test(name) && !/\.test\.tsx?$/.test(name) && !name.endsWith(".d.ts"));
  expect(files).toContain(DOOR);
  expect(files.length).toBeGreaterThan(50);
  const open = files.map((name) => [name, waysOut(readFileSync(join(ROOT, name), "utf8"))]).filter(([, ways]) => ways?.length);
  expect(open).toEqual([[DOOR, ["fetch", "fetch"]]]);
});
