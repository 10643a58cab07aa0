import { describe, expect, test } from "vitest";

import { ChatClient, type ChatRequest, isLegatoError } from "../src/chat_client.ts";
import { headerId, newId } from "../src/ids.ts";
import { chunk, complete, failure, FastClock, ScriptedServer, type Scripted } from "./wire.ts";

/** All that the callbacks of one message were told, in order. */
async function send(client: ChatClient, onChunk: (text: string) => void = () => {}): Promise<string[]> {
  const told: string[] = [];
  await client.sendMessage(
    "Hi",
    (text) => {
      told.push(text);
      onChunk(text);
    },
    () => told.push("<complete>"),
    (error) => told.push(`<error> ${error}`),
  );
  return told;
}

function setUp(script: readonly Scripted[], clock?: FastClock): { server: ScriptedServer; client: ChatClient } {
  const server = new ScriptedServer(script, clock);
  return { server, client: new ChatClient(undefined, null, server.options({ retry: { maxAttempts: 3 } })) };
}

const DIVERGED = { status: 409, body: '{"code":"cursor_diverged","detail":"no such place"}' };
const CUT = { blocks: [chunk(2, "Hel"), chunk(3, "lo")], then: "cut" as const };

describe("sendMessage ends in exactly one callback", () => {
  test.each<[string, Scripted[], string[]]>([
    ["at the end", [{ blocks: [chunk(2, "Hi"), complete(3)] }], ["Hi", "<complete>"]],
    ["healed", [CUT, { blocks: [chunk(4, "."), complete(5)] }], ["Hel", "lo", ".", "<complete>"]],
    ["a failed reply", [{ blocks: [chunk(2, "Hi"), failure(3)] }], ["Hi", "<error> the model is away"]],
    [
      "refused",
      [{ status: 422, body: '{"code":"invalid_request","detail":"message: is blank"}' }],
      ["<error> message: is blank"],
    ],
    ["nobody there", Array.from({ length: 9 }, () => ({ lost: true })), ["<error> no server answers at http://server.test"]],
    [
      "cut for good",
      [CUT, ...Array.from({ length: 9 }, () => ({ lost: true }))],
      ["Hel", "lo", "<error> the server at http://server.test was lost and has not come back; the reply may be there when it is"],
    ],
    [
      "told anew, and longer",
      [CUT, DIVERGED, { blocks: [chunk(2, "Hello"), chunk(3, " you"), complete(4)] }],
      ["Hel", "lo", " you", "<complete>"],
    ],
    [
      "told anew, and another",
      [CUT, DIVERGED, { blocks: [chunk(2, "Hallo"), complete(4)] }],
      ["Hel", "lo", "<error> the server has another text of this reply than the one that was shown: load it anew"],
    ],
    [
      "told anew, and shorter",
      [CUT, DIVERGED, { blocks: [chunk(2, "Hell"), complete(4)] }],
      ["Hel", "lo", "<error> the server has another text of this reply than the one that was shown: load it anew"],
    ],
  ])("%s", async (_, script, told) => {
    expect(await send(setUp(script).client)).toEqual(told);
  });

  test("where a callback throws", async () => {
    const { client } = setUp([{ blocks: [chunk(2, "a"), chunk(3, "b"), complete(4)] }]);
    const broken = (): void => {
      throw new Error("no place to show it");
    };
    expect(await send(client, broken)).toEqual(["a", "<error> no place to show it"]);
  });

  test("and no second where that one throws", async () => {
    const { client } = setUp([{ blocks: [complete(2)] }]);
    const told: string[] = [];
    const onComplete = (): void => {
      told.push("complete");
      throw new Error("mine");
    };
    await expect(
      client.sendMessage(
        "Hi",
        () => {},
        onComplete,
        () => told.push("error"),
      ),
    ).rejects.toThrow("mine");
    expect(told).toEqual(["complete"]);
  });

  test("after abort", async () => {
    const { client } = setUp([{ blocks: [chunk(2, "a")], then: "silent" }], new FastClock(() => false));
    expect(await send(client, () => client.abort())).toEqual(["a", "<error> reading was given up; the reply goes on"]);
  });
});

describe("ids", () => {
  test("are made, and one conversation goes on", async () => {
    const { server, client } = setUp([{ blocks: [complete(2)] }, { blocks: [complete(2)] }]);
    expect(client.getSessionId()).toMatch(/^s-[0-9a-f]{32}$/);
    expect(client.getConversationId()).toBeNull();
    await send(client);
    const ids = { conversationId: client.getConversationId(), sessionId: client.getSessionId() };
    expect(ids.conversationId).toMatch(/^c-[0-9a-f]{32}$/);
    await send(client);
    expect(server.asked.map((asked) => asked.body)).toMatchObject([ids, ids]);
  });

  test("of another conversation do not change the client's own", async () => {
    const { server, client } = setUp([{ blocks: [complete(2)] }, { blocks: [complete(2)] }]);
    await client.stream({ message: "Hi", conversationId: "c-other", sessionId: "s-other" }).message();
    await client.follow("r-1").message();
    expect(server.asked[0]?.body).toMatchObject({ conversationId: "c-other", sessionId: "s-other" });
    expect(client.getConversationId()).toBeNull();
  });

  test("that are undefined are the client's own", async () => {
    const { server, client } = setUp([{ blocks: [complete(2)] }]);
    const asked = { message: "Hi", conversationId: undefined, sessionId: undefined } as unknown as ChatRequest;
    await client.stream(asked).message();
    expect(Object.keys(server.asked[0]?.body ?? {}).sort()).toEqual(["conversationId", "message", "sessionId"]);
  });

  test("two messages at once begin one conversation", async () => {
    const { server, client } = setUp([{ blocks: [complete(2)] }, { blocks: [complete(2)] }]);
    await Promise.all([send(client), send(client)]);
    expect(new Set(server.asked.map((asked) => asked.body?.["conversationId"])).size).toBe(1);
  });

  test("that are given are kept", () => {
    const client = new ChatClient("mine", "ours");
    expect([client.getSessionId(), client.getConversationId()]).toEqual(["mine", "ours"]);
  });

  test("never come twice, and are read from headers as they were", () => {
    expect(new Set(Array.from({ length: 1000 }, () => newId())).size).toBe(1000);
    expect([headerId("a%20b"), headerId("%zz"), headerId(null), headerId("")]).toEqual(["a b", "%zz", null, null]);
  });
});

describe("requests", () => {
  test("carry the headers of the moment", async () => {
    const server = new ScriptedServer([CUT, { blocks: [chunk(4, "."), complete(5)] }]);
    let count = 0;
    const headers = (): Record<string, string> => ({ Authorization: `Bearer ${(count += 1)}` });
    await send(new ChatClient("s", null, server.options({ headers, baseUrl: "http://server.test/" })));
    expect(server.asked.map((asked) => asked.headers["authorization"])).toEqual(["Bearer 1", "Bearer 2"]);
  });

  test("whose headers cannot be had are not made", async () => {
    const server = new ScriptedServer([]);
    const headers = (): Promise<never> => Promise.reject(new Error("signed out"));
    const client = new ChatClient("s", null, server.options({ headers }));
    await expect(client.stream("Hi").message()).rejects.toMatchObject({ code: "headers_failed" });
    await expect(client.decide("r", "c", true)).rejects.toSatisfy((error) => isLegatoError(error, "headers_failed"));
  });

  test("regenerate and decide have addresses of their own", async () => {
    const server = new ScriptedServer([{ blocks: [complete(2)] }, { body: "{}" }]);
    const client = new ChatClient("s", "c-1", server.options());
    await client.regenerate("m/1", { model: "other", requestId: "k" }).message();
    await client.decide("r-1", "call/1", false, "not that one");
    expect(server.asked.map(({ path, body }) => [path, body])).toEqual([
      ["/messages/m%2F1/regenerate", { sessionId: "s", model: "other" }],
      ["/chat/stream/r-1/approvals/call%2F1", { granted: false, reason: "not that one" }],
    ]);
    expect(server.asked[0]?.headers["idempotency-key"]).toBe("k");
  });
});

describe("stop", () => {
  test("is repeated until the server has it", async () => {
    const reading: Scripted = { blocks: [chunk(2, "a")], then: "silent" };
    const { server, client } = setUp([reading, { lost: true }, { status: 503, body: "" }, { status: 202, body: "{}" }]);
    for await (const event of client.stream("Hi")) {
      if (event.type !== "chunk") continue;
      await client.stop();
      break;
    }
    expect(server.asked.slice(1).map((asked) => `${asked.method} ${asked.path}`)).toEqual(
      Array.from({ length: 3 }, () => "POST /chat/stream/r-1/stop"),
    );
  });

  test("that is refused is an error, and one of nothing is none", async () => {
    const { client } = setUp([
      { blocks: [chunk(2, "a")], then: "silent" },
      { status: 403, body: '{"code":"forbidden"}' },
    ]);
    await client.stop();
    const reply = client.stream("Hi");
    for await (const event of reply) {
      if (event.type !== "chunk") continue;
      await expect(reply.stop()).rejects.toMatchObject({ code: "forbidden", status: 403 });
      break;
    }
    await reply.stop();
  });

  test("before the run is known waits for it", async () => {
    const { server, client } = setUp([{ blocks: [complete(2)] }]);
    const reading = client.stream("Hi").message();
    const stopping = client.stop();
    await Promise.all([reading, stopping]);
    expect(server.asked.filter((asked) => asked.path.endsWith("/stop")).length).toBeLessThanOrEqual(1);
  });
});
