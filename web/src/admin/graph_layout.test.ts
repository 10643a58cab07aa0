import { expect, test } from "vitest";

import { columnsOf, layoutOf } from "./graph_layout.ts";
import type { Steps as StepsOf } from "@legato/client";

type Graph = StepsOf["graph"];

const graph = (ids: string, ...edges: string[]): Graph => ({
  nodes: [...ids].map((id) => ({ id, kind: "step", label: id, flow: null, builtIn: false })),
  edges: edges.map(([from = "", to = ""]) => ({ from, to })),
});

test.each([
  ["a chain", graph("abc", "ab", "bc"), { a: 0, b: 1, c: 2 }],
  ["two ways, of which the farther counts", graph("abc", "ab", "bc", "ac"), { a: 0, b: 1, c: 2 }],
  ["an edge from nowhere", graph("a", "xa"), { a: 0 }],
])("columns of %s", (_, given, columns) => {
  expect(Object.fromEntries(columnsOf(given))).toEqual(columns);
});

test("a circle is cut where it closes", () => {
  const columns = [...columnsOf(graph("abc", "ab", "bc", "ca")).values()];
  expect(columns.sort()).toEqual([0, 1, 2]);
});

test("no two nodes share a place, and every edge is drawn", () => {
  const layout = layoutOf(graph("abcdef", "ac", "bc", "cd", "ce", "df", "ef"));
  expect(new Set(layout.nodes.map(({ x, y }) => `${x} ${y}`)).size).toBe(6);
  expect(layout.edges).toHaveLength(6);
});
