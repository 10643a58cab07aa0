import { describe, expect, it } from "vitest";

import type { ChatSnapshot } from "../src/index.ts";
import { newName, say, settled, until, world } from "./store_world.ts";

const here = world();
const statuses = (seen: ChatSnapshot[]) =>
  seen.map(({ status }) => status).filter((status, index, all) => status !== all[index - 1]);
const texts = ({ messages }: ChatSnapshot) => messages.map(({ content }) => content);

describe("sending", () => {
  it("shows the message before the server has answered, and then under the server's ids", async () => {
    const { store, seen } = here.open();
    expect(store.send("Hello! script: tokens=5")).toBe(true);
    const at_once = store.getSnapshot();
    expect(at_once.messages.map(({ role, status }) => [role, status])).toEqual([
      ["user", "sending"],
      ["assistant", "sending"],
    ]);
    expect(at_once).toMatchObject({ status: "submitting", busy: true, conversationId: null });
    const done = await until(store, settled);
    expect(statuses(seen)).toEqual(["submitting", "streaming", "idle"]);
    const { messages } = await here.server.send("GET", `/conversations/${done.conversationId}/messages`);
    expect(done.messages.map(({ id }) => id)).toEqual(messages.map(({ id }: { id: string }) => id));
    expect(texts(done)).toEqual(messages.map(({ content }: { content: string }) => content));
    expect(done.messages.map(({ key }) => key)).toEqual(at_once.messages.map(({ key }) => key));
    expect(done.messages[1]).toMatchObject({ status: "complete", finishReason: "stop", siblingIndex: 0, depth: 2 });
    expect(done.messages[1]?.usage?.outputTokens).toBe(5);
  });

  it("takes no second message, and no blank one, while the first is on its way", async () => {
    const { store } = here.open();
    expect([store.send("  \n"), store.send("One. script: tokens=3"), store.send("Two.")]).toEqual([false, true, false]);
    const done = await until(store, settled);
    expect(done.messages).toHaveLength(2);
    const conversation = await here.server.send("GET", `/conversations/${done.conversationId}`);
    expect(conversation.messageCount).toBe(2);
  });

  it("never takes text back while it streams, and changes one message alone", async () => {
    const { store, seen } = here.open();
    await say(store, "First. script: tokens=3");
    seen.length = 0;
    store.send("Second. script: tokens=60 delay_ms=10");
    const done = await until(store, settled);
    const streaming = seen.filter(({ messages }) => messages.at(-1)?.status === "running");
    expect(streaming.length).toBeGreaterThan(5);
    const history = streaming[0]?.history;
    for (const [index, snapshot] of streaming.entries()) {
      expect(snapshot.history).toBe(history);
      const before = streaming[index - 1]?.messages.at(-1)?.content ?? "";
      expect(snapshot.messages.at(-1)?.content.startsWith(before)).toBe(true);
    }
    expect(done.messages[0]).toBe(history?.[0]);
    expect(done.messages).toHaveLength(4);
  });

  it("stops the reply and keeps what it said", async () => {
    const { store } = here.open();
    store.send("Talk. script: tokens=2000 delay_ms=10");
    await until(store, ({ messages }) => (messages[1]?.content.length ?? 0) > 20);
    const stopped = store.stop();
    expect(store.getSnapshot().stopping).toBe(true);
    await stopped;
    const done = await until(store, settled);
    expect(done.messages[1]).toMatchObject({ status: "stopped", finishReason: "stopped" });
    expect(done.messages[1]?.content.length).toBeGreaterThan(20);
    expect(done.stopping).toBe(false);
  });

  it("stops a reply that was asked to stop before the server had answered", async () => {
    const { store } = here.open();
    store.send("Talk. script: tokens=2000 delay_ms=10");
    await store.stop();
    const done = await until(store, settled);
    expect(done.messages[1]?.status).toBe("stopped");
  });

  it("shows a reply's own failure in its message, and asks again", async () => {
    const { store } = here.open();
    const failed = await say(store, "Break. script: fail=401@1 tokens=3");
    expect(failed.messages[1]).toMatchObject({ status: "failed", error: { code: "upstream_refused" } });
    expect(failed.error).toBeNull();
    expect(store.regenerate()).toBe(true);
    const done = await until(store, settled);
    expect(done.messages[1]?.siblings).toHaveLength(2);
  });

  it("makes the conversation as the page wants it", async () => {
    const newConversation = () => ({ systemPrompt: "Be brief.", temporary: true });
    const { store } = here.open({ newConversation });
    const done = await say(store, "Hello! script: tokens=2");
    const kept = await here.server.send("GET", `/conversations/${done.conversationId}`);
    expect(kept).toMatchObject({ systemPrompt: "Be brief.", temporary: true, messageCount: 2 });
  });

  it("says that a conversation is not there, and makes it with the first message", async () => {
    const { store } = here.open({ conversationId: newName() });
    await until(store, ({ load }) => load === "missing");
    expect(store.getSnapshot().error).toBeNull();
    const done = await say(store, "Hello! script: tokens=2");
    expect(done).toMatchObject({ load: "ready" });
    expect(done.messages).toHaveLength(2);
  });
});

describe("without a network", () => {
  /** A network with a switch. */
  function cut() {
    const waiting = new Set<() => void>();
    const network = {
      online: false,
      isOnline: () => network.online,
      onOnline(action: () => void) {
        waiting.add(action);
        return () => void waiting.delete(action);
      },
      back() {
        network.online = true;
        for (const action of [...waiting]) action();
      },
    };
    const client = {
      network,
      fetch: (async (input, init) => {
        if (!network.online) throw new TypeError("no network");
        return await fetch(input, init);
      }) satisfies typeof fetch,
    };
    return { network, client };
  }

  it("a message waits, and is sent once the network is back", async () => {
    const { network, client } = cut();
    const { store } = here.open({ client });
    store.send("Hello! script: tokens=2");
    const waits = await until(store, ({ status }) => status === "reconnecting");
    expect(waits.messages.map(({ status }) => status)).toEqual(["sending", "sending"]);
    network.back();
    const done = await until(store, settled);
    expect(done.messages).toHaveLength(2);
    expect(done.error).toBeNull();
  });

  it("a message that waits can be taken back", async () => {
    const { network, client } = cut();
    const { store } = here.open({ client });
    store.send("Hello!");
    await until(store, ({ status }) => status === "reconnecting");
    await store.stop();
    const { messages, status, error } = store.getSnapshot();
    expect([messages.map((message) => message.status), status, error]).toEqual([["unsent"], "idle", null]);
    expect(store.discard(messages[0]?.id ?? "")).toBe("Hello!");
    network.back();
    expect((await say(store, "Another. script: tokens=1")).messages).toHaveLength(2);
  });
});

describe("what was asked for and could not be done", () => {
  it("keeps a refused message as unsent, says what helps, and sends it again", async () => {
    const name = newName();
    let refuse = true;
    const client = {
      fetch: (async (input, init) => {
        // A proxy in front of the server says that it is full.
        if (refuse && init?.method === "POST" && String(input).endsWith("/chat/stream")) {
          const problem = { code: "rate_limited", detail: "too many messages", retryable: true };
          const headers = { "content-type": "application/problem+json", "retry-after": "3" };
          return new Response(JSON.stringify(problem), { status: 429, headers });
        }
        return await fetch(input, init);
      }) satisfies typeof fetch,
    };
    const { store } = here.open({ conversationId: name, client });
    await until(store, ({ load }) => load === "missing");
    store.send("Hello! script: tokens=2");
    const before = Date.now();
    const refused = await until(store, ({ status }) => status === "error");
    expect(refused.error).toMatchObject({ code: "rate_limited", action: "wait", during: "send", status: 429 });
    expect(refused.error?.retryAt).toBeGreaterThan(before + 2_000);
    expect(refused.messages.map(({ status }) => status)).toEqual(["unsent"]);
    refuse = false;
    store.retry();
    const done = await until(store, settled);
    expect(done.messages.map(({ status }) => status)).toEqual(["complete", "complete"]);
    expect(done.error).toBeNull();
  });

  it("leaves no empty conversation behind a first message that was refused", async () => {
    let refuse = true;
    const asked: string[] = [];
    const client = {
      fetch: (async (input, init) => {
        const path = new URL(String(input)).pathname;
        asked.push(`${init?.method} ${path}`);
        if (refuse && path === "/chat/stream") {
          const problem = { code: "message_too_long", detail: "too long", retryable: false };
          return new Response(JSON.stringify(problem), {
            status: 413,
            headers: { "content-type": "application/problem+json" },
          });
        }
        return await fetch(input, init);
      }) satisfies typeof fetch,
    };
    const { store } = here.open({ client, newConversation: () => ({ retention: "keep" }) });
    store.send("Hello! script: tokens=2");
    const refused = await until(store, ({ status }) => status === "error");
    expect(refused).toMatchObject({ conversationId: null, conversation: null });
    expect(refused.messages.map(({ status }) => status)).toEqual(["unsent"]);
    refuse = false;
    store.retry();
    const done = await until(store, (now) => settled(now) && now.conversation?.messageCount === 2);
    expect(done.conversation?.retention).toBe("keep");
    const gone = asked.find((each) => each.startsWith("DELETE "))?.slice("DELETE /conversations/".length);
    expect(gone).toBeDefined();
    expect(gone).not.toBe(done.conversationId);
    const { conversations } = await here.server.send("GET", "/conversations");
    const listed = conversations.map(({ id }: { id: string }) => id);
    expect(listed).toContain(done.conversationId);
    expect(listed).not.toContain(gone);
  });

  it("makes one turn of a message whose answer was lost, however often it is sent again", async () => {
    let lose = 2;
    const keys: (string | null)[] = [];
    const client = {
      retry: { maxFirstAttempts: 0 },
      fetch: (async (input, init) => {
        const response = await fetch(input, init);
        if (init?.method !== "POST" || !String(input).endsWith("/chat/stream")) return response;
        keys.push(new Headers(init.headers).get("idempotency-key"));
        if (lose-- > 0) {
          await response.body?.cancel();
          throw new TypeError("the connection was lost");
        }
        return response;
      }) satisfies typeof fetch,
    };
    const { store } = here.open({ client });
    store.send("Once. script: tokens=4");
    for (let tries = 0; tries < 2; tries += 1) {
      const failed = await until(store, ({ status }) => status === "error");
      expect(failed.error).toMatchObject({ code: "unreachable", action: "retry" });
      const [unsent] = failed.messages;
      expect(unsent?.status).toBe("unsent");
      store.retry(unsent?.id);
    }
    const done = await until(store, settled);
    expect(keys).toHaveLength(3);
    expect(new Set(keys).size).toBe(1);
    const { messages } = await here.server.send("GET", `/conversations/${done.conversationId}/messages`);
    expect(messages).toHaveLength(2);
    expect(done.messages).toHaveLength(2);
  });

  it("takes an unsent message back, and sends another in its place", async () => {
    const client = { baseUrl: "http://127.0.0.1:9", retry: { maxFirstAttempts: 0 } };
    const { store } = here.open({ client });
    store.send("Lost.");
    const failed = await until(store, ({ status }) => status === "error");
    const [unsent] = failed.messages;
    expect(store.discard(unsent?.id ?? "")).toBe("Lost.");
    expect(store.getSnapshot()).toMatchObject({ messages: [], status: "idle", error: null });
  });

  it("asks for headers at each request, never for those of an earlier moment", async () => {
    const sent: (string | null)[] = [];
    const { baseUrl } = here.server;
    const spy = (async (input, init) => {
      if (init?.method === "POST") sent.push(new Headers(init.headers).get("x-test"));
      return await fetch(input, init);
    }) satisfies typeof fetch;
    const { store } = here.open({ client: { headers: { "X-Test": "one" }, fetch: spy } });
    await say(store, "Hello! script: tokens=1");
    expect(sent).toEqual(["one"]);
    sent.length = 0;
    store.configure({ client: { baseUrl, headers: () => ({ "X-Test": "two" }) } });
    await say(store, "Hello! script: tokens=1");
    expect(sent).toEqual(["two"]);
  });
});
