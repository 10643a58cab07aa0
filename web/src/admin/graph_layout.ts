/** Places a graph of steps in columns: what causes stands left of what is caused. Pure. */
import type { GraphNode, Steps as StepsOf } from "@legato/client";

type Graph = StepsOf["graph"];

export interface Placed {
  readonly node: GraphNode;
  readonly x: number;
  readonly y: number;
}

export interface Layout {
  readonly nodes: readonly Placed[];
  readonly edges: readonly { readonly key: string; readonly path: string }[];
  readonly width: number;
  readonly height: number;
}

export const NODE_WIDTH = 184;
export const NODE_HEIGHT = 44;
const GAP_X = 52;
const GAP_Y = 16;

/** The column of each node: one more than the farthest of those before it. Circles are cut where they close. */
export function columnsOf({ nodes, edges }: Graph): Map<string, number> {
  const before = new Map<string, string[]>(nodes.map(({ id }) => [id, []]));
  for (const { from, to } of edges) if (before.has(from)) before.get(to)?.push(from);
  const columns = new Map<string, number>();
  const open = new Set<string>();
  const column = (id: string): number => {
    const known = columns.get(id);
    if (known !== undefined) return known;
    open.add(id);
    let most = 0;
    for (const each of before.get(id) ?? []) if (!open.has(each)) most = Math.max(most, column(each) + 1);
    open.delete(id);
    columns.set(id, most);
    return most;
  };
  for (const { id } of nodes) column(id);
  return columns;
}

export function layoutOf(graph: Graph): Layout {
  const columns = columnsOf(graph);
  const rows = new Map<number, GraphNode[]>();
  for (const node of graph.nodes) {
    const column = columns.get(node.id) ?? 0;
    rows.set(column, [...(rows.get(column) ?? []), node]);
  }
  const places = new Map<string, Placed>();
  const most = Math.max(0, ...[...rows.values()].map((each) => each.length));
  const height = most * (NODE_HEIGHT + GAP_Y) + GAP_Y;
  for (const column of [...rows.keys()].sort((a, b) => a - b)) {
    const here = rows.get(column) ?? [];
    // Beside what comes before it, so that few lines cross.
    const pull = new Map(
      here.map((node) => {
        const from = graph.edges
          .filter(({ to }) => to === node.id)
          .map(({ from: id }) => places.get(id)?.y ?? height / 2);
        return [node.id, from.length ? from.reduce((sum, y) => sum + y, 0) / from.length : 0];
      }),
    );
    here.sort((a, b) => (pull.get(a.id) ?? 0) - (pull.get(b.id) ?? 0) || (a.label < b.label ? -1 : 1));
    const top = (height - here.length * (NODE_HEIGHT + GAP_Y) + GAP_Y) / 2;
    here.forEach((node, at) =>
      places.set(node.id, { node, x: GAP_Y + column * (NODE_WIDTH + GAP_X), y: top + at * (NODE_HEIGHT + GAP_Y) }),
    );
  }
  const edges = graph.edges.flatMap(({ from, to }) => {
    const [a, b] = [places.get(from), places.get(to)];
    if (!a || !b) return [];
    const [x1, y1, x2, y2] = [a.x + NODE_WIDTH, a.y + NODE_HEIGHT / 2, b.x, b.y + NODE_HEIGHT / 2];
    const bend = Math.max(32, Math.abs(x2 - x1) / 2);
    return [{ key: `${from} ${to}`, path: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }];
  });
  const width = GAP_Y * 2 + Math.max(1, rows.size) * (NODE_WIDTH + GAP_X) - GAP_X;
  return { nodes: [...places.values()], edges, width, height };
}
