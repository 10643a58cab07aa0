import { describe, expect, it } from "vitest";

import type { ChatSnapshot } from "../src/index.ts";
import { newName, say, settled, until, world } from "./store_world.ts";

const here = world();
const texts = ({ messages }: ChatSnapshot) => messages.map(({ content }) => content);

describe("branches", () => {
  it("shows another reply beside the old one, and goes back to it", async () => {
    const { store } = here.open();
    const first = await say(store, "Say it. script: tokens=3 seed=1");
    expect(store.regenerate()).toBe(true);
    expect(store.getSnapshot().messages[1]).toMatchObject({ status: "sending", content: "", siblingIndex: 1 });
    const second = await until(store, settled);
    expect(second.messages[1]?.siblings).toHaveLength(2);
    expect(second.messages[0]?.id).toBe(first.messages[0]?.id);
    await store.selectBranch(first.messages[1]?.id ?? "");
    const back = store.getSnapshot();
    expect(back.messages[1]).toMatchObject({ id: first.messages[1]?.id, siblingIndex: 0 });
    const kept = await here.server.send("GET", `/conversations/${back.conversationId}`);
    expect(kept.leafId).toBe(first.messages[1]?.id);
  });

  it("shows another version of a message beside the old one, the first message too", async () => {
    const { store } = here.open();
    const first = await say(store, "One. script: tokens=2");
    const second = await say(store, "Two. script: tokens=2");
    for (const at of [2, 0]) {
      const before = store.getSnapshot().messages[at];
      expect(store.edit(before?.id ?? "", `Version of ${at}. script: tokens=2`)).toBe(true);
      const edited = await until(store, settled);
      expect(edited.messages).toHaveLength(at + 2);
      expect(edited.messages[at]).toMatchObject({ content: `Version of ${at}. script: tokens=2`, siblingIndex: 1 });
      expect(edited.messages[at]?.siblings[0]).toBe(before?.id);
    }
    await store.selectBranch(first.messages[0]?.id ?? "");
    // The newest branch below the first message is that of the edit.
    expect(texts(store.getSnapshot())[2]).toBe("Version of 2. script: tokens=2");
    await store.selectBranch(second.messages[2]?.id ?? "");
    expect(texts(store.getSnapshot())).toEqual(texts(second));
    expect(store.getSnapshot().error).toBeNull();
  });

  it("loads a branch that this page never showed", async () => {
    const name = newName();
    await here.server.chat("One. script: tokens=2", name);
    await here.server.chat("Two. script: tokens=2", name);
    await here.server.chat("Other. script: tokens=2", name, { parentId: null });
    const { store } = here.open({ conversationId: name });
    const other = await until(store, settled);
    expect(texts(other)[0]).toContain("Other.");
    expect(other.messages[0]?.siblings).toHaveLength(2);
    await store.selectBranch(other.messages[0]?.siblings[0] ?? "");
    const shown = store.getSnapshot();
    expect(shown.error).toBeNull();
    expect(texts(shown).filter((_, index) => index % 2 === 0)).toEqual(["One. script: tokens=2", "Two. script: tokens=2"]);
    const kept = await here.server.send("GET", `/conversations/${name}`);
    expect(kept.leafId).toBe(shown.messages.at(-1)?.id);
  });

  it("is what a message follows that is sent at once", async () => {
    const methods: string[] = [];
    let held: Promise<void> | null = null;
    const client = {
      fetch: (async (input, init) => {
        if (init?.method === "PATCH") await held;
        methods.push(init?.method ?? "GET");
        return await fetch(input, init);
      }) satisfies typeof fetch,
    };
    const { store } = here.open({ client });
    const first = await say(store, "Say it. script: tokens=3 seed=1");
    store.regenerate();
    await until(store, settled);
    let release = (): void => {};
    held = new Promise((resolve) => {
      release = resolve;
    });
    methods.splice(0);
    const [selected, changed] = [store.selectBranch(first.messages[1]?.id ?? ""), store.change({ title: "Mine" })];
    expect(store.send("And now? script: tokens=2")).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(methods.filter((method) => method !== "GET")).toEqual([]);
    release();
    await Promise.all([selected, changed]);
    const done = await until(store, settled);
    expect(methods.filter((method) => method !== "GET")).toEqual(["PATCH", "PATCH", "POST"]);
    const { messages } = await here.server.send("GET", `/conversations/${done.conversationId}/messages`);
    expect(messages.map(({ id }: { id: string }) => id).slice(0, 2)).toEqual(first.messages.map(({ id }) => id));
    expect(messages).toHaveLength(4);
  });

  it("keeps the reply that has come, whatever was read of the conversation while it was being made", async () => {
    let held: Promise<void> | null = null;
    const client = {
      fetch: (async (input, init) => {
        const response = await fetch(input, init);
        if (init?.method === "GET" && /\/conversations\/[^/]+$/.test(String(input))) await held;
        return response;
      }) satisfies typeof fetch,
    };
    const { store, seen } = here.open({ client });
    await say(store, "Say it. script: tokens=20 delay_ms=10");
    let release = (): void => {};
    held = new Promise((resolve) => {
      release = resolve;
    });
    store.regenerate();
    const refreshed = store.refresh();
    await until(store, ({ busy }) => !busy);
    const before = seen.length;
    release();
    await refreshed;
    await until(store, settled);
    const shown = seen.slice(before).map(({ messages }) => messages[1]?.siblingIndex);
    expect(new Set(shown)).toEqual(new Set([1]));
  });

  it("does nothing while a reply is being made", async () => {
    const { store } = here.open();
    const first = await say(store, "One. script: tokens=2");
    store.send("Two. script: tokens=100 delay_ms=10");
    const id = first.messages[0]?.id ?? "";
    expect([store.regenerate(), store.edit(id, "No.")]).toEqual([false, false]);
    await store.selectBranch(id);
    expect(store.getSnapshot()).toMatchObject({ busy: true, error: null });
    await store.stop();
    await until(store, settled);
  });

  it("goes back to the reply that was shown where asking again is refused", async () => {
    let refuse = false;
    const client = {
      fetch: (async (input, init) => {
        if (!refuse || !String(input).endsWith("/regenerate")) return await fetch(input, init);
        const problem = { code: "overloaded", detail: "the server is full", retryable: true };
        return new Response(JSON.stringify(problem), {
          status: 503,
          headers: { "content-type": "application/problem+json" },
        });
      }) satisfies typeof fetch,
    };
    const { store } = here.open({ client });
    const first = await say(store, "Say it. script: tokens=3");
    refuse = true;
    store.regenerate();
    const refused = await until(store, ({ status }) => status === "error");
    expect(refused.messages.map(({ id }) => id)).toEqual(first.messages.map(({ id }) => id));
    expect(refused.messages[1]?.siblings).toHaveLength(1);
    refuse = false;
    store.retry();
    const done = await until(store, settled);
    expect(done.messages[1]?.siblings).toHaveLength(2);
  });
});

describe("an edit that is refused", () => {
  it("stays as unsent beside the old version, and taking it back shows the old branch", async () => {
    let refuse = false;
    const client = {
      fetch: (async (input, init) => {
        if (!refuse || !String(input).endsWith("/chat/stream")) return await fetch(input, init);
        const problem = { code: "message_too_long", detail: "the message is too long", retryable: false };
        return new Response(JSON.stringify(problem), {
          status: 413,
          headers: { "content-type": "application/problem+json" },
        });
      }) satisfies typeof fetch,
    };
    const { store } = here.open({ client });
    const first = await say(store, "One. script: tokens=2");
    refuse = true;
    expect(store.edit(first.messages[0]?.id ?? "", "Too long.")).toBe(true);
    const refused = await until(store, ({ status }) => status === "error");
    expect(refused.error).toMatchObject({ code: "message_too_long", action: "shorten" });
    const [unsent] = refused.messages;
    expect(unsent).toMatchObject({ content: "Too long.", status: "unsent", siblingIndex: 1 });
    await store.selectBranch(first.messages[0]?.id ?? "");
    expect(texts(store.getSnapshot())).toEqual(texts(first));
    await store.selectBranch(unsent?.id ?? "");
    expect(texts(store.getSnapshot())).toEqual(["Too long."]);
    expect(store.discard(unsent?.id ?? "")).toBe("Too long.");
    expect(store.getSnapshot().messages.map(({ id }) => id)).toEqual(first.messages.map(({ id }) => id));
    store.edit(first.messages[0]?.id ?? "", "Too long again.");
    const again = await until(store, ({ status }) => status === "error");
    refuse = false;
    expect(store.edit(again.messages[0]?.id ?? "", "Short. script: tokens=2")).toBe(true);
    const done = await until(store, settled);
    expect(texts(done)[0]).toBe("Short. script: tokens=2");
    expect(done.messages[0]?.siblings).toHaveLength(2);
  });
});

describe("long conversations", () => {
  it.each([
    ["without branches", 0],
    ["with more messages in other branches than in the active one", 40],
  ])("shows the newest part first and older parts on demand, %s", async (_, others) => {
    const name = newName();
    for (let turn = 0; turn < 30; turn += 1) await here.server.chat(`Turn ${turn}. script: tokens=1`, name);
    const { messages } = await here.server.send("GET", `/conversations/${name}/messages?limit=200`);
    for (let turn = 0; turn < others; turn += 1) {
      await here.server.chat(`Aside ${turn}. script: tokens=1`, name, { parentId: messages[1].id });
    }
    await here.server.send("PATCH", `/conversations/${name}`, { leafId: messages.at(-1).id });
    const all = messages.map(({ id }: { id: string }) => id);
    const { store } = here.open({ conversationId: name, pageSize: 20 });
    let shown = await until(store, settled);
    expect(shown.messages.map(({ id }) => id)).toEqual(all.slice(-shown.messages.length));
    expect(shown.messages.length).toBeGreaterThanOrEqual(20);
    expect(shown.messages.length).toBeLessThan(40);
    const newest = shown.messages;
    while (shown.hasOlder) {
      const before = shown.messages.length;
      await Promise.all([store.loadOlder(), store.loadOlder()]);
      shown = store.getSnapshot();
      expect(shown.messages.length).toBe(Math.min(60, before + 20));
    }
    expect(shown.messages.map(({ id }) => id)).toEqual(all);
    expect(shown.messages.map(({ depth }) => depth)).toEqual(all.map((_: string, index: number) => index + 1));
    expect(shown.messages.slice(-newest.length)).toEqual(newest);
    expect(shown.messages.at(-1)).toBe(newest.at(-1));
  });
});

describe("feedback", () => {
  it("is shown at once, kept by the server, and taken back where it is refused", async () => {
    let refuse = false;
    const client = {
      fetch: (async (input, init) => {
        if (!refuse || init?.method !== "PUT") return await fetch(input, init);
        throw new TypeError("no network");
      }) satisfies typeof fetch,
    };
    const { store } = here.open({ client });
    const { messages } = await say(store, "Say it. script: tokens=3");
    const id = messages[1]?.id ?? "";
    const given = store.feedback(id, "down", "too short");
    expect(store.getMessage(id)?.feedback).toMatchObject({ thumb: "down", reason: "too short" });
    await given;
    refuse = true;
    await store.feedback(id, "up");
    expect(store.getMessage(id)?.feedback).toMatchObject({ thumb: "down", reason: "too short" });
    expect(store.getSnapshot().error).toMatchObject({ during: "feedback" });
  });

  it("is what was said last, however long the first takes", async () => {
    let first = true;
    const client = {
      fetch: (async (input, init) => {
        if (init?.method === "PUT" && first) {
          first = false;
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        return await fetch(input, init);
      }) satisfies typeof fetch,
    };
    const { store, seen } = here.open({ client });
    const { messages, conversationId } = await say(store, "Say it. script: tokens=3");
    const id = messages[1]?.id ?? "";
    const before = seen.length;
    await Promise.all([store.feedback(id, "down"), store.feedback(id, "down", "too short")]);
    const shown = seen.slice(before + 1).map((each) => each.messages[1]?.feedback?.reason);
    expect(new Set(shown)).toEqual(new Set(["too short"]));
    const kept = await here.server.send("GET", `/conversations/${conversationId}/messages`);
    expect(kept.messages[1].feedback).toMatchObject({ thumb: "down", reason: "too short" });
  });
});

describe("tools", () => {
  it("shows a call that waits for a person, and goes on with the decision", async () => {
    const { store } = here.open();
    store.send('Do it. script: tool=delete_file:{"name":"a.txt"}@1 tokens=3');
    const asked = await until(store, ({ messages }) => messages[1]?.tools[0]?.approval?.status === "asked");
    const call = asked.messages[1]?.tools[0];
    expect(call).toMatchObject({ name: "delete_file", arguments: '{"name":"a.txt"}', output: null });
    await store.decide(call?.callId ?? "", true);
    const done = await until(store, settled);
    expect(done.messages[1]?.tools[0]).toMatchObject({ status: "done", output: "a.txt is gone" });
    expect(done.messages[1]?.tools[0]?.approval?.status).toBe("granted");
    await store.decide(call?.callId ?? "", false);
    expect(store.getSnapshot().error).toMatchObject({ during: "approval", code: "conflict" });
  });
});
