import { describe, expect, test } from "vitest";

import { ChatClient } from "../src/chat_client.ts";
import {
  BUSY,
  chunk,
  complete,
  DIVERGED,
  FastClock,
  readAll,
  type Scripted,
  ScriptedServer,
  setUp,
  types,
} from "./wire.ts";

describe("a cut", () => {
  test.each(["cut", "end"] as const)("in mid-reply (%s) is healed from the cursor on", async (then) => {
    const { server, client } = setUp([
      { blocks: [chunk(2, "a"), chunk(3, "b")], then },
      { lost: true },
      { ...BUSY, headers: { "retry-after": "3" } },
      // Repeated by the server: not handed out twice.
      { blocks: [chunk(3, "b"), chunk(4, "c"), complete(6)] },
    ]);
    const { events, text, error } = await readAll(client.stream("Hi"));
    expect([text, error]).toEqual(["abc", null]);
    expect(types(events)).toBe("open chunk chunk reconnecting reconnecting reconnecting reconnected chunk complete");
    const gets = server.asked.slice(1);
    expect(gets.map((asked) => [asked.method, asked.path, asked.headers["last-event-id"]])).toEqual(
      Array.from({ length: 3 }, () => ["GET", "/chat/stream/r-1", "r-1.0.3"]),
    );
    expect(server.clock.waits.filter((ms) => ms !== 1000)).toEqual([75, 150, 3000]);
  });

  test("inside an event is healed from before it, and what was torn is forgotten", async () => {
    const torn = chunk(3, "not whole");
    const { client } = setUp([
      { blocks: [chunk(2, "a")], torn: torn.slice(0, -9), then: "cut" },
      { blocks: [], torn: `${torn}\n`, then: "cut" },
      { blocks: [chunk(3, "b"), complete(4)] },
    ]);
    expect((await readAll(client.stream("Hi"))).text).toBe("ab");
  });

  test("before the first event asks for the run from its start", async () => {
    const { server, client } = setUp([{ blocks: [], then: "cut" }, { blocks: [chunk(2, "a"), complete(3)] }]);
    expect((await readAll(client.stream("Hi"))).text).toBe("a");
    expect(server.asked[1]).toMatchObject({ method: "GET" });
    expect(server.asked[1]?.headers).not.toHaveProperty("last-event-id");
  });

  test("after progress waits shortly again, whatever went before", async () => {
    const script = Array.from({ length: 6 }, (_, seq) => ({ blocks: [chunk(seq + 2, "x")], then: "cut" as const }));
    const { server, client } = setUp([...script, { blocks: [complete(9)] }]);
    expect((await readAll(client.stream("Hi"))).text).toBe("xxxxxx");
    expect(server.clock.waits.filter((ms) => ms !== 1000)).toEqual([75, 75, 75, 75, 75, 75]);
  });

  test("that is never healed is an error, not an end", async () => {
    const lost = Array.from({ length: 99 }, () => ({ lost: true }));
    const { server, client } = setUp([{ blocks: [chunk(2, "a")], then: "end" }, ...lost]);
    const { text, error } = await readAll(client.stream("Hi"));
    expect([text, error, server.asked.length]).toEqual(["a", "unreachable", 25]);
  });

  test("by silence is noticed, and so is an answer that never begins", async () => {
    const clock = new FastClock((ms) => ms < 10_000 || ms === 30_000 || ms === 20_000);
    const script: Scripted[] = [
      { blocks: [chunk(2, "a")], then: "silent" },
      { hangs: true },
      { blocks: [chunk(3, "b"), complete(4)] },
    ];
    const { server, client } = setUp(script, clock);
    const { text, error } = await readAll(client.stream("Hi"));
    expect([text, error, server.asked.length]).toEqual(["ab", null, 3]);
  });

  test("without a network does not count, and its end is not waited for", async () => {
    let comeBack: () => void = () => {};
    let online = false;
    const network = { isOnline: () => online, onOnline: (action: () => void) => ((comeBack = action), () => {}) };
    const server = new ScriptedServer(
      [{ lost: true }, { blocks: [chunk(2, "a"), complete(3)] }],
      new FastClock(() => false),
    );
    const client = new ChatClient("s", null, server.options({ network, retry: { maxFirstAttempts: 0 } }));
    const reading = readAll(client.stream("Hi"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(server.asked).toHaveLength(1);
    online = true;
    comeBack();
    expect((await reading).text).toBe("a");
  });

  test("while the run was not known repeats the post", async () => {
    const { server, client } = setUp([
      { blocks: [], then: "cut", headers: {} },
      { blocks: [chunk(2, "a")], then: "cut", headers: {} },
      { blocks: [complete(3)], headers: {} },
    ]);
    const reply = client.stream("Hi");
    expect((await readAll(reply)).text).toBe("a");
    expect(server.asked.map((asked) => asked.method)).toEqual(["POST", "POST", "GET"]);
    expect(reply).toMatchObject({ runId: "r-1", conversationId: "c-1" });
  });

  test("that ends in a refusal is that error", async () => {
    const gone = { status: 404, body: '{"code":"not_found","detail":"no such run"}' };
    const { client } = setUp([{ blocks: [chunk(2, "a")], then: "cut" }, gone]);
    expect(await readAll(client.stream("Hi"))).toMatchObject({ text: "a", error: "not_found" });
  });
});

describe("a cursor that diverged", () => {
  test.each<[string, Scripted]>([
    ["409", DIVERGED],
    ["204 before the end was seen", { status: 204 }],
  ])("(%s) has the reply told anew, without its cursor", async (_, answer) => {
    const { server, client } = setUp([
      { blocks: [chunk(2, "a"), chunk(3, "b")], then: "cut" },
      answer,
      { blocks: [chunk(1, "A"), complete(2)] },
    ]);
    const reply = client.stream("Hi");
    const { events, error } = await readAll(reply);
    expect([types(events), error]).toEqual(["open chunk chunk reconnecting reconnected chunk complete", null]);
    expect(events.find((event) => event.type === "reconnected")).toEqual({ type: "reconnected", restarted: true });
    expect(server.asked[2]?.headers).not.toHaveProperty("last-event-id");
  });

  test.each<[Scripted, string]>([
    [DIVERGED, "cursor_diverged"],
    [{ status: 204 }, "not_legato"],
  ])("again and again is an error: %j", async (answer, code) => {
    const round = [{ blocks: [chunk(2, "a")], then: "cut" as const }, answer];
    const { client } = setUp(Array.from({ length: 50 }, () => round).flat());
    expect((await readAll(client.stream("Hi"))).error).toBe(code);
  });
});
