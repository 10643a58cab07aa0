import { afterAll, beforeAll, expect, test } from "vitest";

import { LegatoApi } from "../../src/api.ts";
import { ChatClient } from "../../src/chat_client.ts";
import { LegatoServer } from "./legato.ts";

let server: LegatoServer;
let api: LegatoApi;
beforeAll(async () => {
  server = await LegatoServer.start();
  api = new LegatoApi({ baseUrl: server.address });
});
afterAll(async () => await server.remove());

/** Return the id of a new conversation with one reply. */
async function talk(message: string): Promise<string> {
  const client = new ChatClient("s", null, { baseUrl: server.address });
  await client.stream(message).message();
  return client.getConversationId() as string;
}

test("conversations are made, changed, forked and deleted", async () => {
  const { conversations, messages } = api;
  const made = await conversations.create({ id: "c/ü 1", title: "First" });
  expect(made).toMatchObject({ id: "c/ü 1", title: "First", messageCount: 0, leafId: null });
  const client = new ChatClient("s", made.id, { baseUrl: server.address });
  const reply = await client.stream("script: seed=2 tokens=3").message();
  expect(await conversations.update(made.id, { title: "Second", pinned: true })).toMatchObject({ pinned: true });
  expect(await messages.feedback(reply.id as string, "up", "good")).toMatchObject({ feedback: { thumb: "up" } });
  expect(await conversations.fork(made.id, { messageId: reply.id as string })).toMatchObject({ messageCount: 2 });
  await conversations.remove(made.id);
  await expect(conversations.get(made.id)).rejects.toMatchObject({ code: "not_found" });
});

test("lists leave out what is archived or temporary", async () => {
  const { conversations } = api;
  const [plain, archived] = [await talk("one"), await talk("two")];
  const temporary = await conversations.create({ temporary: true });
  await conversations.update(archived, { archived: true });
  const listed = async (query: { archived?: boolean; pinned?: boolean }): Promise<string[]> =>
    (await conversations.list({ ...query, limit: 200 })).conversations.map(({ id }) => id);
  expect(await listed({})).toEqual(expect.arrayContaining([plain]));
  expect(await listed({})).not.toEqual(expect.arrayContaining([archived]));
  expect(await listed({ archived: true })).toEqual([archived]);
  expect(await listed({ pinned: true })).toEqual([]);
  expect([...(await listed({})), ...(await listed({ archived: true }))]).not.toContain(temporary.id);
});

test("search finds what was said", async () => {
  const id = await talk("the colour of okapis");
  const { results } = await api.search("okapis", { limit: 5 });
  expect(results[0]).toMatchObject({ conversation: { id }, at: expect.any(Number) });
  expect(results[0]?.snippet).toContain("\ue000okapis\ue001");
});

test("what is exported can be imported", async () => {
  const { conversations } = api;
  const id = await talk("script: seed=4 tokens=3");
  const document = await conversations.exportOne(id);
  expect(document).toMatchObject({ format: "legato.conversation", version: 1, messages: [{ role: "user" }, {}] });
  const copy = await conversations.importOne(document);
  expect(copy.id).not.toBe(id);
  const texts = async (of: string): Promise<string[]> =>
    (await conversations.messages(of)).messages.map(({ content }) => content);
  expect(await texts(copy.id)).toEqual(await texts(id));
  expect(await conversations.exportMarkdown(id)).toContain((await texts(id))[0]);
  const wrong = { ...document, messages: [{ ...document.messages[0], role: "robot" }] } as never;
  await expect(conversations.importOne(wrong)).rejects.toMatchObject({ code: "invalid_request", status: 422 });
});

test("the server tells its models, and who one is", async () => {
  const { models, default: chosen } = await api.models();
  expect(models.map(({ id }) => id)).toEqual(expect.arrayContaining(["scripted", "other"]));
  expect(chosen).toBe("scripted");
  expect(await api.me()).toMatchObject({ role: "admin", auth: "none", via: "local" });
});

test("the admin sees figures, queue, steps, runs and sessions", async () => {
  await talk("three");
  const { admin } = api;
  expect((await admin.figures({ by: "hour" })).total).toMatchObject({ errors: 0, stops: 0 });
  expect(await admin.queue()).toMatchObject({ dead: 0, steps: expect.any(Array) });
  expect(await admin.deadLetters({ limit: 5 })).toEqual({ deadLetters: [], nextOffset: null });
  await expect(admin.deadLetter("none")).rejects.toMatchObject({ status: 404 });
  expect((await admin.steps()).graph.nodes).toEqual(expect.any(Array));
  expect(await admin.runs()).toMatchObject({ count: expect.any(Number), runs: expect.any(Array) });
  expect(await admin.sessions({ limit: 1 })).toMatchObject({ sessions: expect.any(Array) });
});
