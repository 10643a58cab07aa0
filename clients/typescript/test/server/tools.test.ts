import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test } from "vitest";

import { ChatClient } from "../../src/chat_client.ts";
import { fold } from "../../src/fold.ts";
import { EMPTY_REPLY, openApprovals } from "../../src/message.ts";
import { LegatoApi } from "../../src/api.ts";
import { LegatoServer } from "./legato.ts";

let server: LegatoServer;
beforeAll(async () => {
  server = await LegatoServer.start({}, [fileURLToPath(new URL("../../../../tests/tool_server.py", import.meta.url))]);
});
afterAll(async () => await server.remove());

test.each([
  [true, { status: "done", output: "asked for b", approval: { status: "granted", by: "local" } }],
  [false, { status: "failed", approval: { status: "denied", reason: "not that one" } }],
])("a tool waits for a person, who says %s", async (granted, wanted) => {
  const client = new ChatClient("s", null, { baseUrl: server.address });
  let message = EMPTY_REPLY;
  const tools = 'tool=search:{"query":"a"}@1 tool=ask:{"key":"b"}@1';
  for await (const event of client.stream(`script: seed=31 tokens=6 upto=2@1 ${tools}`)) {
    message = fold(message, event);
    const [call] = openApprovals(message);
    if (event.type !== "approval" || call === undefined) continue;
    expect(call).toMatchObject({ name: "ask", arguments: '{"key":"b"}', status: "called", output: null });
    const runId = message.runId as string;
    await client.decide(runId, call.callId, granted, granted ? undefined : "not that one");
    await expect(client.decide(runId, call.callId, granted)).rejects.toMatchObject({ status: 409, code: "conflict" });
  }
  expect(message).toMatchObject({ status: "complete", finishReason: "stop" });
  expect(message.tools).toMatchObject([
    { name: "search", status: "done", output: "found data: a", approval: null },
    { name: "ask", ...wanted },
  ]);
  expect(message.tools.every((call) => typeof call.elapsedMs === "number")).toBe(true);
  // What was folded live is what the server keeps.
  const { messages } = await new LegatoApi({ baseUrl: server.address }).conversations.messages(
    client.getConversationId() as string,
  );
  expect(messages[1]).toMatchObject({ content: message.text, parts: message.parts, id: message.id });
});
