/** `node examples/stream.ts [address]`: the events of a reply, and the reply that they make. */

import { ChatClient, EMPTY_REPLY, fold, LegatoError } from "@legato/client";

const client = new ChatClient("session-1", null, { baseUrl: process.argv[2] ?? "http://localhost:3111" });
let reply = EMPTY_REPLY;
try {
  for await (const event of client.stream({ message: "Hello!", temperature: 0.2 })) {
    reply = fold(reply, event);
    if (event.type === "chunk") process.stdout.write(event.content);
    if (event.type === "reconnecting") console.error(`cut; again in ${Math.round(event.delayMs)} ms`);
  }
  console.log(`\n${reply.status}: ${reply.finishReason ?? reply.error?.message}`, reply.usage);
} catch (error) {
  if (!(error instanceof LegatoError)) throw error;
  console.error(`${error.message} (${error.code}); try again: ${error.retryable}`, error.retryAfterS);
}
