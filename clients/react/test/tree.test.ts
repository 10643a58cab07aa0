import { describe, expect, it } from "vitest";

import { EMPTY_TREE, newestLeaf, pathTo, put, remove, rename, type Tree, withLeaf } from "../src/tree.ts";
import { message } from "./messages.ts";

const ids = (tree: Tree, leafId: string | null = tree.leafId) => pathTo(tree, leafId).map((each) => each.id);

/** u1 → a1 → u2 → a2, and a second reply to u1 with its own u3 → a3. */
function twoBranches(): Tree {
  return put(EMPTY_TREE, [
    message("u1", null, 1),
    message("a1", "u1", 2, { siblings: ["a1", "b1"] }),
    message("u2", "a1", 3),
    message("a2", "u2", 4),
    message("b1", "u1", 2, { siblings: ["a1", "b1"] }),
    message("u3", "b1", 3),
    message("a3", "u3", 4),
  ]);
}

describe("the tree of messages", () => {
  it("gives the branch of a leaf, oldest first, from the oldest message that is known", () => {
    const tree = twoBranches();
    expect(ids(tree, "a2")).toEqual(["u1", "a1", "u2", "a2"]);
    expect(ids(tree, "a3")).toEqual(["u1", "b1", "u3", "a3"]);
    expect(ids(put(EMPTY_TREE, [message("u9", "a8", 9), message("a9", "u9", 10)]), "a9")).toEqual(["u9", "a9"]);
    expect(ids(tree, null)).toEqual([]);
  });

  it("places siblings in the server's order, and those that only this page knows behind them", () => {
    const tree = put(twoBranches(), [message("local-1", "u1", 2, { siblings: [], role: "assistant" })]);
    const places = ["a1", "b1", "local-1"].map((id) => tree.nodes.get(id));
    expect(places.map((each) => each?.siblingIndex)).toEqual([0, 1, 2]);
    for (const each of places) expect(each?.siblings).toBe(places[0]?.siblings);
    expect(places[0]?.siblings).toEqual(["a1", "b1", "local-1"]);
  });

  it("keeps the object of every message that did not change", () => {
    const before = twoBranches();
    const again = put(before, [message("u1", null, 1), message("a2", "u2", 4, { content: "more" })]);
    for (const [id, node] of before.nodes) {
      if (id !== "a2") expect(again.nodes.get(id)).toBe(node);
    }
    expect(again.nodes.get("a2")?.content).toBe("more");
  });

  it("changes only the siblings of a message that is new", () => {
    const before = twoBranches();
    const after = put(before, [message("c1", "u1", 2, { siblings: ["a1", "b1", "c1"] })]);
    const changed = [...before.nodes].filter(([id, node]) => after.nodes.get(id) !== node).map(([id]) => id);
    expect(changed).toEqual(["a1", "b1"]);
  });

  it("gives a message the server's id everywhere, and keeps its key", () => {
    const local = put(EMPTY_TREE, [
      message("local-u", null, 1, { siblings: [], role: "user" }),
      message("local-a", "local-u", 2, { siblings: [] }),
    ]);
    const named = rename(rename(withLeaf(local, "local-a"), "local-u", "u1"), "local-a", "a1");
    expect(ids(named)).toEqual(["u1", "a1"]);
    expect(pathTo(named, "a1").map((each) => each.key)).toEqual(["local-u", "local-a"]);
    expect(named.nodes.get("u1")?.siblings).toEqual(["u1"]);
    expect(named.nodes.size).toBe(2);
  });

  it("makes one message of a local one and the server's, whichever is known first", () => {
    const both = put(EMPTY_TREE, [
      message("local-u", null, 1, { siblings: [], role: "user" }),
      message("local-a", "local-u", 2, { siblings: [] }),
      message("u1", null, 1),
    ]);
    const named = rename(withLeaf(both, "local-a"), "local-u", "u1");
    expect(named.nodes.get("u1")?.siblings).toEqual(["u1"]);
    expect(ids(named)).toEqual(["u1", "local-a"]);
    expect(named.nodes.get("u1")?.key).toBe("local-u");
  });

  it("moves a message whose parent turns out to be another", () => {
    const tree = put(twoBranches(), [message("u3", "a2", 5)]);
    expect(ids(tree, "a3")).toEqual(["u1", "a1", "u2", "a2", "u3", "a3"]);
    expect(tree.groups.get("b1")).toEqual([]);
  });

  it("forgets a message with all below it, and ends the branch before it", () => {
    const tree = remove(withLeaf(twoBranches(), "a3"), "b1");
    expect([...tree.nodes.keys()]).toEqual(["u1", "a1", "u2", "a2"]);
    expect(tree.leafId).toBe("u1");
    expect(tree.nodes.get("a1")?.siblings).toEqual(["a1"]);
  });

  it("finds the newest message below another", () => {
    const tree = twoBranches();
    expect(newestLeaf(tree, "u1")?.id).toBe("a3");
    expect(newestLeaf(tree, "a1")?.id).toBe("a2");
    expect(newestLeaf(tree, "nothing")).toBeNull();
  });
});
