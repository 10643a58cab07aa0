import type { ConversationOut } from "@legato/client";
import { beforeEach, expect, test, vi } from "vitest";

import { ConversationList } from "./list_store.ts";

const asked = vi.hoisted(() => [] as ((conversations: readonly unknown[]) => void)[]);

vi.mock("../app/server.ts", () => ({
  api: {
    conversations: {
      list: () =>
        new Promise((answer) => asked.push((conversations) => answer({ conversations, nextCursor: null }))),
    },
  },
}));

const named = (title: string): ConversationOut =>
  ({ id: "a", title, archived: true, pinned: false, messageCount: 2, lastMessageAt: 1 }) as unknown as ConversationOut;
const titles = (list: ConversationList): string[] => list.snapshot().conversations.map(({ title }) => title);

beforeEach(() => void asked.splice(0));

test("a page that was asked for before a change takes nothing of it back", async () => {
  const list = new ConversationList(true);
  const done = list.refresh();
  await vi.waitFor(() => expect(asked).toHaveLength(1));
  list.change(named("new"));
  asked[0]?.([named("old")]);
  await done;
  expect(titles(list)).toEqual(["new"]);
});

test("what was deleted meanwhile does not come back, and what was made stays", async () => {
  const list = new ConversationList(true);
  list.put(named("old"));
  const done = list.refresh();
  await vi.waitFor(() => expect(asked).toHaveLength(1));
  list.forget("a");
  asked[0]?.([named("old")]);
  await done;
  expect(titles(list)).toEqual([]);

  const again = list.refresh();
  await vi.waitFor(() => expect(asked).toHaveLength(2));
  list.change(named("made"));
  asked[1]?.([]);
  await again;
  expect(titles(list)).toEqual(["made"]);
});

test("whoever asks at once gets one answer; whoever asks while one is under way, another", async () => {
  const list = new ConversationList(true);
  const done = Promise.all([list.refresh(), list.refresh()]);
  await vi.waitFor(() => expect(asked).toHaveLength(1));
  void list.refresh();
  asked[0]?.([named("old")]);
  await vi.waitFor(() => expect(asked).toHaveLength(2));
  asked[1]?.([named("new")]);
  await done;
  expect(titles(list)).toEqual(["new"]);
  expect(asked).toHaveLength(2);
});
