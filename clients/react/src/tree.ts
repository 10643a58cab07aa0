/**
 * The messages of a conversation as a tree.
 *
 * Pure: every function returns a new tree, in which all messages that did not change are the same objects.
 * Law: `siblings` of all messages with one parent is one array, and a message is at `siblingIndex` in it.
 */

import type { ChatMessage } from "./types.ts";

export interface Tree {
  /** All known messages by id. */
  readonly nodes: ReadonlyMap<string, ChatMessage>;
  /** Ids of the messages below each parent; "" stands for the root. */
  readonly groups: ReadonlyMap<string, readonly string[]>;
  /** Last message of the active branch. */
  readonly leafId: string | null;
}

export const EMPTY_TREE: Tree = { nodes: new Map(), groups: new Map(), leafId: null };

/** Returns the known end of the branch that ends in `leafId`, oldest first; it begins where a parent is unknown. */
export function pathTo(tree: Tree, leafId: string | null): readonly ChatMessage[] {
  const path: ChatMessage[] = [];
  for (let node = find(tree, leafId); node !== undefined; node = find(tree, node.parentId)) path.push(node);
  return path.reverse();
}

/**
 * Returns the tree with messages added or replaced.
 *
 * Siblings that a message names come first, in its order; ones that only this tree knows follow. A message keeps the
 * key under which it is known, and its object where nothing of it changed.
 */
export function put(tree: Tree, messages: readonly ChatMessage[]): Tree {
  if (messages.length === 0) return tree;
  const nodes = new Map(tree.nodes);
  const groups = new Map(tree.groups);
  const touched = new Set<string>();
  for (const message of messages) {
    const before = nodes.get(message.id);
    const parent = message.parentId ?? "";
    if (before !== undefined && before.parentId !== message.parentId) {
      const left = before.parentId ?? "";
      groups.set(
        left,
        (groups.get(left) ?? []).filter((id) => id !== message.id),
      );
      touched.add(left);
    }
    groups.set(parent, mergeIds(message.siblings, [...(groups.get(parent) ?? []), message.id]));
    touched.add(parent);
    nodes.set(message.id, settled(before, message));
  }
  for (const parent of touched) place(nodes, groups, parent, tree);
  return { nodes, groups, leafId: tree.leafId };
}

/** Returns the tree with another end of the active branch. */
export function withLeaf(tree: Tree, leafId: string | null): Tree {
  return leafId === tree.leafId ? tree : { ...tree, leafId };
}

/** Returns the tree in which a message has another id, everywhere; where that id is known already, the two become one. */
export function rename(tree: Tree, from: string, to: string): Tree {
  const node = tree.nodes.get(from);
  if (node === undefined || from === to) return tree;
  const nodes = new Map<string, ChatMessage>();
  for (const [id, each] of tree.nodes) {
    if (id === to) continue;
    const named = id === from ? { ...(tree.nodes.get(to) ?? each), id: to, key: node.key } : each;
    nodes.set(named.id, named.parentId === from ? { ...named, parentId: to } : named);
  }
  const groups = new Map<string, readonly string[]>();
  for (const [parent, ids] of tree.groups) {
    const named = ids.includes(from) ? [...new Set(ids.map((id) => (id === from ? to : id)))] : ids;
    const name = parent === from ? to : parent;
    groups.set(name, mergeIds(groups.get(name) ?? [], named));
  }
  for (const parent of groups.keys()) place(nodes, groups, parent, tree);
  return { nodes, groups, leafId: tree.leafId === from ? to : tree.leafId };
}

/** Returns the tree without a message and all below it; the active branch then ends before it. */
export function remove(tree: Tree, id: string): Tree {
  const node = tree.nodes.get(id);
  if (node === undefined) return tree;
  const nodes = new Map(tree.nodes);
  const groups = new Map(tree.groups);
  let leafId = tree.leafId;
  const drop = (each: string): void => {
    for (const child of groups.get(each) ?? []) drop(child);
    groups.delete(each);
    nodes.delete(each);
    if (leafId === each) leafId = node.parentId;
  };
  drop(id);
  const parent = node.parentId ?? "";
  groups.set(
    parent,
    (groups.get(parent) ?? []).filter((each) => each !== id),
  );
  place(nodes, groups, parent, tree);
  return { nodes, groups, leafId };
}

/** Returns the newest known message without children at or below `id`; null where `id` itself is not known. */
export function newestLeaf(tree: Tree, id: string): ChatMessage | null {
  let node = tree.nodes.get(id);
  while (node !== undefined) {
    const children = (tree.groups.get(node.id) ?? []).filter((child) => tree.nodes.has(child));
    const last = children.at(-1);
    if (last === undefined) return node;
    node = tree.nodes.get(last);
  }
  return null;
}

/** Whether two JSON values say the same. */
export function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  return names.every(
    (name) => name in b && same((a as Record<string, unknown>)[name], (b as Record<string, unknown>)[name]),
  );
}

function find(tree: Tree, id: string | null): ChatMessage | undefined {
  return id === null ? undefined : tree.nodes.get(id);
}

function mergeIds(first: readonly string[], more: readonly string[]): readonly string[] {
  const ids = [...new Set([...first, ...more])];
  return ids;
}

function settled(before: ChatMessage | undefined, after: ChatMessage): ChatMessage {
  if (before === undefined) return after;
  const placed = { ...after, key: before.key, siblings: before.siblings, siblingIndex: before.siblingIndex };
  return same(before, placed) ? before : placed;
}

/** Gives all messages below `parent` one array of siblings: the one from before, if it says the same. */
function place(
  nodes: Map<string, ChatMessage>,
  groups: Map<string, readonly string[]>,
  parent: string,
  before: Tree,
): void {
  const known = before.groups.get(parent);
  const now = groups.get(parent) ?? [];
  const ids = known !== undefined && same(known, now) ? known : now;
  groups.set(parent, ids);
  ids.forEach((id, index) => {
    const node = nodes.get(id);
    if (node !== undefined && (node.siblings !== ids || node.siblingIndex !== index)) {
      nodes.set(id, { ...node, siblings: ids, siblingIndex: index });
    }
  });
}
