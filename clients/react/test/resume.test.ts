import { describe, expect, it } from "vitest";

import { type ChatSnapshot, SLICE_CHARS } from "../src/index.ts";
import { newName, ownWorld, say, settled, until } from "./store_world.ts";

const here = ownWorld();
const reply = ({ messages }: ChatSnapshot) => messages.at(-1)?.content ?? "";

/** The reply never gets shorter, and never says anything else than before. */
function onlyGrows(seen: ChatSnapshot[]): boolean {
  const shown = seen.map(reply);
  return shown.every((text, index) => text.startsWith(shown[index - 1] ?? ""));
}

describe("a reply that goes on", () => {
  it("is joined by a page that is opened in the middle of it", async () => {
    const name = newName();
    const other = here.server.chat("Talk. script: tokens=150 delay_ms=10", name);
    await new Promise((done) => setTimeout(done, 500));
    const { store, seen } = here.open({ conversationId: name });
    const joined = await until(store, ({ status }) => status === "streaming");
    expect(reply(joined).length).toBeGreaterThan(0);
    const done = await until(store, settled);
    await other;
    expect(onlyGrows(seen)).toBe(true);
    expect(new Set(seen.map((snapshot) => reply(snapshot).length)).size).toBeGreaterThan(5);
    const { messages } = await here.server.send("GET", `/conversations/${name}/messages`);
    expect(reply(done)).toBe(messages[1].content);
  });

  it("grows in another tab too, and both end alike", async () => {
    const name = newName();
    const [one, two] = [here.open({ conversationId: name }), here.open({ conversationId: name })];
    await Promise.all([one, two].map(({ store }) => until(store, ({ load }) => load === "missing")));
    one.store.send("Talk. script: tokens=120 delay_ms=10");
    await until(two.store, ({ status }) => status === "streaming");
    const growing = await until(two.store, (snapshot) => reply(snapshot).length > 50);
    expect(growing.busy).toBe(true);
    const [first, second] = await Promise.all([one, two].map(({ store }) => until(store, settled)));
    expect(second?.messages.map(({ id, content }) => [id, content])).toEqual(
      first?.messages.map(({ id, content }) => [id, content]),
    );
    expect(onlyGrows(two.seen)).toBe(true);
  });

  it("is stopped from another tab", async () => {
    const { store } = here.open();
    store.send("Talk. script: tokens=2000 delay_ms=10");
    const { conversationId } = await until(store, ({ status }) => status === "streaming");
    const other = here.open({ conversationId }).store;
    await until(other, ({ status }) => status === "streaming");
    await other.stop();
    for (const each of [store, other]) expect((await until(each, settled)).messages[1]?.status).toBe("stopped");
  });

  it("goes on when its page goes, and is there when the page comes back", async () => {
    const { store, detach, seen } = here.open();
    store.send("Talk. script: tokens=100 delay_ms=10");
    await until(store, (snapshot) => reply(snapshot).length > 20);
    detach();
    await new Promise((done) => setTimeout(done, 100));
    const left = seen.length;
    await new Promise((done) => setTimeout(done, 300));
    expect(seen).toHaveLength(left);
    expect(store.getSnapshot().busy).toBe(false);
    const again = store.attach();
    const done = await until(store, settled);
    again();
    expect(done.messages[1]).toMatchObject({ status: "complete", finishReason: "stop" });
    expect(onlyGrows(seen)).toBe(true);
  });

  it("is begun although its page goes at once", async () => {
    const name = newName();
    const { store, detach } = here.open({ conversationId: name });
    await until(store, ({ load }) => load === "missing");
    store.send("Talk. script: tokens=3");
    detach();
    const other = here.open({ conversationId: name }).store;
    await until(other, ({ load }) => load !== "loading");
    for (let tries = 0; tries < 50 && other.getSnapshot().messages.length < 2; tries += 1) {
      await new Promise((done) => setTimeout(done, 50));
      await other.refresh();
    }
    expect((await until(other, settled)).messages).toHaveLength(2);
  });

  it("costs nothing to be unmounted and mounted again at once", async () => {
    const { store, detach, seen } = here.open();
    store.send("Talk. script: tokens=50 delay_ms=10");
    await until(store, ({ status }) => status === "streaming");
    detach();
    const again = store.attach();
    const done = await until(store, settled);
    again();
    expect(seen.every(({ busy, messages }) => busy || messages[1]?.status === "complete")).toBe(true);
    expect(done.messages).toHaveLength(2);
  });

  it("is shown in slices where 40 kB of it come at once", async () => {
    const name = newName();
    const script = "script: tokens=4000 stall=3900@1";
    const other = here.server.chat(`Talk. ${script}`, name, { maxTokens: 5000 });
    await new Promise((done) => setTimeout(done, 1_000));
    const { store, seen } = here.open({ conversationId: name });
    await until(store, (snapshot) => reply(snapshot).length > 40_000);
    const lengths = seen.filter(({ busy }) => busy).map((snapshot) => reply(snapshot).length);
    const steps = lengths.map((length, index) => length - (lengths[index - 1] ?? 0));
    expect(Math.max(...steps)).toBeLessThanOrEqual(SLICE_CHARS);
    expect(steps.filter((step) => step > 0).length).toBeGreaterThanOrEqual(20);
    await store.stop();
    await other;
  });

  it("that another device made is shown when the page reads again", async () => {
    const { store } = here.open();
    const first = await say(store, "One. script: tokens=2");
    await here.server.chat("Two. script: tokens=2", first.conversationId ?? "");
    await store.refresh();
    const both = store.getSnapshot();
    expect(both.messages).toHaveLength(4);
    expect(both.messages[0]).toBe(first.messages[0]);
    expect(both.messages[1]).toBe(first.messages[1]);
  });
});

describe("a server that goes away", () => {
  it("in mid-reply is waited for, and the reply goes on where it was", async () => {
    const { store, seen } = here.open();
    store.send("Talk. script: tokens=150 delay_ms=10 seed=3");
    await until(store, (snapshot) => reply(snapshot).length > 200);
    await here.server.kill();
    await until(store, ({ status }) => status === "reconnecting");
    expect(reply(store.getSnapshot()).length).toBeGreaterThan(200);
    await here.server.start();
    const done = await until(store, settled);
    expect(done.messages[1]).toMatchObject({ status: "complete" });
    expect(onlyGrows(seen)).toBe(true);
    const { messages } = await here.server.send("GET", `/conversations/${done.conversationId}/messages`);
    expect(reply(done)).toBe(messages[1].content);
    expect(done.error).toBeNull();
  });

  it("for too long is an error, and retrying joins the reply", async () => {
    const client = { retry: { maxAttempts: 1 } };
    const { store } = here.open({ client });
    store.send("Talk. script: tokens=150 delay_ms=10");
    await until(store, (snapshot) => reply(snapshot).length > 20);
    await here.server.kill();
    const lost = await until(store, ({ status }) => status === "error");
    expect(lost.error).toMatchObject({ code: "unreachable", during: "follow", action: "retry" });
    expect(reply(lost).length).toBeGreaterThan(20);
    await here.server.start();
    store.retry();
    const done = await until(store, settled);
    expect(done.messages[1]).toMatchObject({ status: "complete" });
    expect(done.error).toBeNull();
  });

  it("before the page could load is an error, and retrying loads it", async () => {
    const name = newName();
    await here.server.chat("One. script: tokens=2", name);
    await here.server.kill();
    const { store } = here.open({ conversationId: name });
    const failed = await until(store, ({ load }) => load === "failed");
    expect(failed.error).toMatchObject({ during: "load", action: "retry" });
    await here.server.start();
    store.retry();
    expect((await until(store, settled)).messages).toHaveLength(2);
  });
});
