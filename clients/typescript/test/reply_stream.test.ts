import { describe, expect, test } from "vitest";

import {
  BUSY,
  chunk,
  complete,
  DIVERGED,
  failure,
  FastClock,
  IDS,
  readAll,
  type Scripted,
  setUp,
  types,
} from "./wire.ts";

describe("a post", () => {
  test("carries the ids and a key of its own, and gives the events in their order", async () => {
    const { server, client } = setUp([{ blocks: [chunk(2, "Hel"), chunk(3, "lo."), complete(5)] }]);
    const reply = client.stream({ message: "Hi", parentId: null, temperature: 0 });
    const { events, text, error } = await readAll(reply);
    expect([types(events), text, error]).toEqual(["open chunk chunk complete", "Hello.", null]);
    const [asked] = server.asked;
    expect(asked?.body).toEqual({
      message: "Hi",
      sessionId: "s-1",
      conversationId: "c-1",
      parentId: null,
      temperature: 0,
    });
    expect(asked?.headers).toMatchObject({ "content-type": "application/json", accept: /event-stream/ });
    expect(asked?.headers["idempotency-key"]).toMatch(/^k-[0-9a-f]{32}$/);
    expect(reply).toMatchObject({
      runId: "r-1",
      messageId: "m-2",
      conversationId: "c-1",
      cursor: "r-1.0.5",
      isOver: true,
    });
  });

  test("that is cut before its answer is repeated under the same key", async () => {
    const { server, client } = setUp([
      { lost: true },
      { status: 502, body: "<html>" },
      { blocks: [], then: "cut", headers: {} },
      { ...BUSY, headers: { "retry-after": "7" } },
      { blocks: [chunk(2, "Hi"), complete(3)] },
    ]);
    const { events, text, error } = await readAll(client.stream("Hi"));
    expect([text, error]).toEqual(["Hi", null]);
    expect(types(events)).toBe("reconnecting reconnecting open reconnecting reconnecting reconnected chunk complete");
    expect(new Set(server.asked.map((asked) => asked.headers["idempotency-key"])).size).toBe(1);
    expect(server.asked.every((asked) => asked.method === "POST")).toBe(true);
    expect(server.clock.waits.filter((ms) => ms !== 1000)).toEqual([75, 150, 300, 7000]);
  });

  test.each<[string, Scripted, object]>([
    [
      "422",
      {
        status: 422,
        body: '{"code":"invalid_request","detail":"message: is blank","retryable":false,"errors":[{"field":"message","message":"is blank","nearest":null}]}',
      },
      {
        code: "invalid_request",
        status: 422,
        retryable: false,
        message: "message: is blank",
        fields: [{ field: "message", message: "is blank", nearest: null }],
      },
    ],
    [
      "429",
      {
        status: 429,
        headers: { "retry-after": "12" },
        body: '{"code":"rate_limited","detail":"4 messages a minute","retryable":true}',
      },
      { code: "rate_limited", status: 429, retryable: true, retryAfterS: 12 },
    ],
    ["503", BUSY, { code: "draining", status: 503, retryable: true }],
    [
      "a refusal as an event",
      {
        status: 401,
        blocks: ['event: error\ndata: {"error":"no key","code":"unauthenticated","retryable":false,"status":401}'],
      },
      { code: "unauthenticated", status: 401, message: "no key" },
    ],
    [
      "a page of a proxy",
      { status: 200, body: "<html>", headers: { "content-type": "text/html" } },
      { code: "not_legato", status: 200 },
    ],
    [
      "an error page",
      { status: 404, body: "<html>", headers: { "content-type": "text/html" } },
      { code: "not_legato", status: 404 },
    ],
    [
      "a redirection",
      { status: 307, headers: { location: "https://elsewhere.test" } },
      { code: "not_legato", status: 307 },
    ],
    ["nothing", { status: 204 }, { code: "not_legato", status: 204 }],
    ["data that is no JSON", { blocks: ["event: chunk\nid: r-1.0.2\ndata: <html>"] }, { code: "bad_stream" }],
  ])("that is answered with %s fails at once", async (_, answer, error) => {
    const { server, client } = setUp([answer]);
    await expect(client.stream("Hi").message()).rejects.toMatchObject(error);
    expect(server.asked).toHaveLength(1);
  });

  test("to nobody fails after a few tries", async () => {
    const { server, client } = setUp(Array.from({ length: 99 }, () => ({ lost: true })));
    const { error } = await readAll(client.stream("Hi"));
    expect([error, server.asked.length]).toEqual(["unreachable", 7]);
  });
});

describe("follow", () => {
  test("goes on behind a cursor", async () => {
    const { server, client } = setUp([{ blocks: [chunk(4, "c"), complete(5)] }]);
    const { events } = await readAll(client.follow("r-1", { after: "r-1.0.3" }));
    expect(types(events)).toBe("open chunk complete");
    expect(server.asked[0]).toMatchObject({ method: "GET", headers: { "last-event-id": "r-1.0.3" } });
  });

  test("from the end ends at once", async () => {
    const { client } = setUp([{ status: 204 }]);
    expect(await readAll(client.follow("r-1", { after: "r-1.0.5" }))).toEqual({ events: [], text: "", error: null });
  });

  test("from a cursor that is none begins anew", async () => {
    const { client } = setUp([DIVERGED, { blocks: [chunk(2, "a"), complete(5)] }]);
    const { events } = await readAll(client.follow("r-1", { after: "r-9.0.3" }));
    expect(types(events)).toBe("open reconnected chunk complete");
  });

  test("takes ids as they are", async () => {
    const { server, client } = setUp([
      { blocks: [complete(5)], headers: { "x-conversation-id": "na%C3%AFve%20/%25" } },
    ]);
    const reply = client.follow("r/ü 1");
    await readAll(reply);
    expect(server.asked[0]?.path).toBe("/chat/stream/r%2F%C3%BC%201");
    expect(reply.conversationId).toBe("naïve /%");
  });
});

test("an error without an id in a stream is no end of the reply", async () => {
  const away = 'event: error\ndata: {"error":"away","code":"overloaded","retryable":true}';
  const script = [
    { blocks: [chunk(2, "a")], torn: `${away}\n\n${chunk(9, "x")}\n\n` },
    { blocks: [chunk(3, "b"), failure(4)] },
  ];
  const { client } = setUp(script);
  const { events, text, error } = await readAll(client.stream("Hi"));
  expect([text, error, events.at(-1)?.type]).toEqual(["ab", null, "error"]);
});

test("what follows the end is not told", async () => {
  const { client } = setUp([{ blocks: [complete(2), chunk(3, "x"), failure(4)] }]);
  expect(types((await readAll(client.stream("Hi"))).events)).toBe("open complete");
});

test("events of another run are an error", async () => {
  const { client } = setUp([{ blocks: [chunk(2, "a", "r-2")] }]);
  expect((await readAll(client.stream("Hi"))).error).toBe("bad_stream");
});

describe("abort", () => {
  test.each<[string, Scripted[]]>([
    ["before the answer", [{ hangs: true }]],
    ["in mid-reply", [{ blocks: [chunk(2, "a")], then: "silent" }]],
    ["while it waits", [{ lost: true }]],
  ])("%s ends the reading at once", async (_, script) => {
    const { client } = setUp(script, new FastClock(() => false));
    const reply = client.stream("Hi");
    const reading = readAll(reply);
    await new Promise((resolve) => setTimeout(resolve, 20));
    client.abort();
    expect((await reading).error).toBe("aborted");
    expect(reply.isOver).toBe(true);
    reply.abort();
  });

  test("before it was read sends nothing, and so does a signal", async () => {
    const { server, client } = setUp([]);
    const [first, second] = [client.stream("Hi"), client.stream("Hi", { signal: AbortSignal.abort() })];
    first.abort();
    expect([(await readAll(first)).error, (await readAll(second)).error]).toEqual(["aborted", "aborted"]);
    expect(server.asked).toHaveLength(0);
  });

  test("by leaving the loop closes the connection", async () => {
    const { client } = setUp([{ blocks: [chunk(2, "a"), chunk(3, "b")], then: "silent" }]);
    const reply = client.stream("Hi");
    for await (const event of reply) if (event.type === "chunk") break;
    expect(reply).toMatchObject({ isOver: true, cursor: "r-1.0.2" });
  });
});

test("a reply is read once", async () => {
  const { client } = setUp([{ blocks: [complete(2)], headers: IDS }]);
  const reply = client.stream("Hi");
  await readAll(reply);
  expect(() => reply[Symbol.asyncIterator]()).toThrow(TypeError);
});
