import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";

import { LegatoApi } from "../../src/api.ts";
import { ChatClient } from "../../src/chat_client.ts";
import type { ChatEvent } from "../../src/events.ts";
import { foldAll } from "../../src/fold.ts";
import type { ReplyStream } from "../../src/reply_stream.ts";
import { Cutter } from "./cutter.ts";
import { LegatoServer } from "./legato.ts";

let server: LegatoServer;
beforeAll(async () => {
  server = await LegatoServer.start();
});
afterAll(async () => await server.remove());

async function eventsOf(reply: ReplyStream): Promise<ChatEvent[]> {
  const events: ChatEvent[] = [];
  for await (const event of reply) events.push(event);
  return events;
}

function clientOf(address = server.address): ChatClient {
  return new ChatClient("s-1", null, { baseUrl: address });
}

describe("a reply", () => {
  test("is the same live, followed later, and in the conversation's messages", async () => {
    const client = clientOf();
    const live = foldAll(await eventsOf(client.stream("script: seed=3 tokens=40 delay_ms=1")));
    expect(live).toMatchObject({ status: "complete", finishReason: "stop", usage: { outputTokens: 40 } });
    expect(await client.follow(live.runId as string).message()).toEqual(live);
    const api = new LegatoApi({ baseUrl: server.address });
    const { messages } = await api.conversations.messages(client.getConversationId() as string);
    const { content, parts, status, id, runId, model, usage } = messages[1] ?? {};
    expect({ content, parts, status, id, runId, model, usage }).toEqual({
      ...{ content: live.text, parts: live.parts, status: "complete", id: live.id, runId: live.runId },
      ...{ model: live.model, usage: live.usage },
    });
  });

  test("goes on from any cursor, and ends at once from the last", async () => {
    const client = clientOf();
    const events = await eventsOf(client.stream("script: seed=4 tokens=12"));
    const runId = events[0]?.type === "open" ? (events[0].runId as string) : "";
    const told = events.slice(1).map((event) => ({ event, cursor: (event as { cursor: string }).cursor }));
    for (const [index, { cursor }] of told.entries()) {
      const rest = await eventsOf(client.follow(runId, { after: cursor }));
      expect(rest.slice(1)).toEqual(told.slice(index + 1).map(({ event }) => event));
    }
    const elsewhere = await eventsOf(client.follow(runId, { after: `${runId}.0.999` }));
    expect(foldAll(elsewhere)).toEqual(foldAll(events));
    expect(elsewhere[1]).toEqual({ type: "reconnected", restarted: true });
  });

  test("by the existing integrations' four callbacks", async () => {
    const client = clientOf();
    const told: string[] = [];
    const ends: string[] = [];
    const send = (message: string): Promise<void> =>
      client.sendMessage(
        message,
        (text) => told.push(text),
        () => ends.push("complete"),
        (error) => ends.push(error),
      );
    await send("script: seed=5 tokens=20");
    await send("script: seed=6 tokens=5 fail=400@1");
    expect(told.join("")).toMatch(/5\.0.*5\.19$/s);
    expect(ends).toEqual(["complete", expect.stringContaining("refused the request")]);
    const conversation = await new LegatoApi({ baseUrl: server.address }).conversations.get(
      client.getConversationId() as string,
    );
    expect(conversation.messageCount).toBeGreaterThanOrEqual(3);
  });

  test("that is stopped is complete, and keeps its text", async () => {
    const client = clientOf();
    const events: ChatEvent[] = [];
    for await (const event of client.stream("script: seed=7 tokens=5000 delay_ms=5")) {
      events.push(event);
      if (event.type === "chunk" && event.index === 5) void client.stop();
    }
    expect(foldAll(events)).toMatchObject({ status: "stopped", finishReason: "stopped", stoppedBy: "user" });
    expect(events.length).toBeLessThan(1000);
  });

  test("goes on when its reading is given up", async () => {
    const client = clientOf();
    let runId = "";
    const reading = (async () => {
      for await (const event of client.stream("script: seed=8 tokens=60 delay_ms=5")) {
        if (event.type === "open") runId = event.runId as string;
        if (event.type === "chunk" && event.index === 3) client.abort();
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: "aborted" });
    expect((await client.follow(runId).message()).text).toMatch(/^\S.*8\.59$/s);
  });

  test("waits for those before it", async () => {
    const client = clientOf();
    const firstReply = client.stream("script: seed=1 tokens=60 delay_ms=10");
    const first = eventsOf(firstReply);
    await vi.waitFor(() => expect(firstReply.cursor).not.toBeNull(), { timeout: 10_000, interval: 5 });
    const second = await eventsOf(client.stream("script: seed=2 tokens=3"));
    expect(second.map((event) => event.type).slice(0, 2)).toEqual(["open", "queued"]);
    expect(foldAll(await first).status).toBe("complete");
  });

  test("is made once for a key, and anew for another", async () => {
    const client = clientOf();
    const request = { message: "script: seed=9 tokens=5", requestId: "k-once", conversationId: "c-once" };
    const before = server.calls;
    const first = await client.stream(request).message();
    expect(await client.stream(request).message()).toEqual(first);
    expect(server.calls).toBe(before + 1);
    await expect(client.stream({ ...request, message: "other" }).message()).rejects.toMatchObject({
      code: "idempotency_key_reused",
      status: 422,
    });
    const again = await client.regenerate(first.id as string).message();
    expect([again.text, again.id === first.id]).toEqual([first.text, false]);
  });
});

describe("connections that are cut after so many bytes", () => {
  let cutter: Cutter;
  let address: string;
  beforeAll(async () => {
    cutter = new Cutter(server.port);
    address = await cutter.listen();
  });
  afterAll(async () => await cutter.close());

  test("cost nothing: every k", async () => {
    const whole = await clientOf().stream({ message: "script: seed=11 tokens=12", requestId: "k-whole" }).message();
    // From inside the answer's head to behind the last event, in steps that meet every kind of place.
    for (let k = 1; k < 2_600; k += 67) {
      const before = server.calls;
      cutter.plan(k, k + 400, 0);
      const reply = await clientOf(address).stream("script: seed=11 tokens=12").message();
      expect([k, reply.text, reply.status, server.calls - before]).toEqual([k, whole.text, "complete", 1]);
    }
  });

  test("cost nothing: many in one reply", async () => {
    cutter.plan(0, 0, ...Array.from({ length: 40 }, (_, index) => 700 + index * 13));
    const told: string[] = [];
    const ends: string[] = [];
    await clientOf(address).sendMessage(
      "script: seed=12 tokens=300 delay_ms=1",
      (text) => told.push(text),
      () => ends.push("complete"),
      (error) => ends.push(error),
    );
    const whole = await clientOf().stream("script: seed=12 tokens=300").message();
    expect([ends, told.join("")]).toEqual([["complete"], whole.text]);
  });

  test("do not keep a stop away", async () => {
    const client = clientOf(address);
    cutter.plan(900, 0, 0);
    const events: ChatEvent[] = [];
    for await (const event of client.stream("script: seed=13 tokens=5000 delay_ms=5")) {
      events.push(event);
      if (event.type === "reconnecting" && event.attempt === 1) void client.stop();
    }
    expect(events.some((event) => event.type === "reconnecting")).toBe(true);
    expect(foldAll(events)).toMatchObject({ status: "stopped", stoppedBy: "user" });
  });
});

describe("refusals", () => {
  test("name each wrong field", async () => {
    const refused = clientOf().stream({ message: " ", temperature: 9 }).message();
    await expect(refused).rejects.toMatchObject({ code: "invalid_request", status: 422, retryable: false });
    const error = await refused.catch((thrown: unknown) => thrown as { fields: { field: string }[] });
    expect((error as { fields: { field: string }[] }).fields.map((each) => each.field).sort()).toEqual([
      "message",
      "temperature",
    ]);
  });

  test("of things that are not there", async () => {
    await expect(clientOf().follow("r-none").message()).rejects.toMatchObject({ code: "not_found", status: 404 });
    const api = new LegatoApi({ baseUrl: server.address });
    await expect(api.runs.get("r-none")).rejects.toMatchObject({ code: "not_found", status: 404 });
    await expect(api.runs.decide("r-none", "a", true)).rejects.toMatchObject({ status: 404 });
  });
});
