/** `node examples/resume.ts [address]`: a reply that goes on while nobody reads it, and is read on from its cursor. */

import { ChatClient } from "@legato/client";

const client = new ChatClient("session-1", null, { baseUrl: process.argv[2] ?? "http://localhost:3111" });
const reply = client.stream("Hello!");
for await (const event of reply) {
  if (event.type === "chunk") break; // leaving the loop ends the reading, not the reply
}
const rest = client.follow(reply.runId ?? "", { after: reply.cursor ?? "" });
for await (const event of rest) {
  if (event.type === "chunk") process.stdout.write(event.content);
  if (event.type === "complete") console.log("\ncomplete");
}
