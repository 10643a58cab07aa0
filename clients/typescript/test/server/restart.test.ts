import { afterEach, describe, expect, test, vi } from "vitest";

import { LegatoApi } from "../../src/api.ts";
import { ChatClient, isLegatoError } from "../../src/chat_client.ts";
import type { LegatoError } from "../../src/errors.ts";
import type { ChatEvent } from "../../src/events.ts";
import { foldAll } from "../../src/fold.ts";
import { LegatoServer } from "./legato.ts";

let server: LegatoServer | null = null;
afterEach(async () => {
  await server?.remove();
  server = null;
});

describe("a server that is killed in mid-reply and started again on its data", () => {
  test("finishes the reply, and its reader sees each token once", async () => {
    server = await LegatoServer.start();
    const client = new ChatClient("s", null, { baseUrl: server.address });
    const events: ChatEvent[] = [];
    let restarted: Promise<void> | null = null;
    for await (const event of client.stream("script: seed=21 tokens=120 delay_ms=8")) {
      events.push(event);
      if (event.type === "chunk" && event.index === 30) restarted = server.kill().then(() => server?.launch());
    }
    await restarted;
    const message = foldAll(events);
    const types = new Set(events.map((event) => event.type));
    expect([...types].sort()).toEqual(["chunk", "complete", "open", "reconnected", "reconnecting"]);
    expect(message).toMatchObject({ status: "complete", finishReason: "stop" });
    const tokens = [...message.text.matchAll(/21\.(\d+)/g)].map((found) => Number(found[1]));
    expect(tokens).toEqual(Array.from({ length: 120 }, (_, index) => index));
    // The epoch of the cursor tells that another process went on.
    expect(message.cursor).toMatch(/\.[1-9][0-9]*\.[0-9]+$/);
    const { messages } = await new LegatoApi({ baseUrl: server.address }).conversations.messages(
      client.getConversationId() as string,
    );
    expect(messages.map((each) => each.content)).toEqual([expect.any(String), message.text]);
  });

  test("before its first byte: the post is repeated under its key, and makes one turn", async () => {
    server = await LegatoServer.start();
    const { address } = server;
    await server.kill();
    const client = new ChatClient("s", null, { baseUrl: address, retry: { maxFirstAttempts: 100 } });
    const reading = client.stream("script: seed=22 tokens=10").message();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await server.launch();
    expect((await reading).text).toMatch(/22\.9\s*$/);
    const api = new LegatoApi({ baseUrl: address });
    expect(await api.conversations.get(client.getConversationId() as string)).toMatchObject({ messageCount: 2 });
  });

  test("on other data: its reader gets an error, not an end", async () => {
    server = await LegatoServer.start();
    const client = new ChatClient("s", null, { baseUrl: server.address });
    const told: string[] = [];
    const ends: string[] = [];
    const other = server;
    let restarted: Promise<void> | null = null;
    await client.sendMessage(
      "script: seed=23 tokens=400 delay_ms=10",
      (text) => {
        told.push(text);
        if (told.length === 20) {
          restarted = other.kill().then(async () => {
            other.forget();
            await other.launch();
          });
        }
      },
      () => ends.push("complete"),
      (error) => ends.push(error),
    );
    await restarted;
    expect(ends).toHaveLength(1);
    expect(ends).not.toContain("complete");
  });
});

test("429 of a rate limit says when to come back, and a full server is 503", async () => {
  server = await LegatoServer.start({ rate_limit: "2/minute", max_readers: "2" });
  const { address } = server;
  const client = (): ChatClient => new ChatClient("s", null, { baseUrl: address });
  const long = [client(), client()];
  const replies = long.map((each) => each.stream("script: seed=1 tokens=4000 delay_ms=10")[Symbol.asyncIterator]());
  for (const reply of replies) expect((await reply.next()).value).toMatchObject({ type: "open" });
  await expect(client().stream("Hi").message()).rejects.toMatchObject({
    ...{ code: "overloaded", status: 503, retryable: true, retryAfterS: 5 },
  });
  for (const each of long) each.abort();
  await Promise.allSettled(replies.map((reply) => reply.next()));
  // The server notices a closed connection in its own time.
  const refusal = await vi.waitFor(
    async () => {
      const error = await client()
        .stream("Hi")
        .message()
        .catch((thrown: unknown) => thrown);
      if (isLegatoError(error, "overloaded")) throw error;
      return error;
    },
    { timeout: 10_000, interval: 50 },
  );
  expect(refusal).toMatchObject({ code: "rate_limited", status: 429, retryable: true });
  expect((refusal as LegatoError).retryAfterS).toBeGreaterThanOrEqual(1);
});
