/** `node examples/naive.ts [address]`: a reply through the four arguments that existing integrations use. */

import { ChatClient } from "@legato/client";

const client = new ChatClient("session-1", null, { baseUrl: process.argv[2] ?? "http://localhost:3111" });
await client.sendMessage(
  "Hello!",
  (text) => process.stdout.write(text),
  () => console.log("\ncomplete"),
  (error) => console.error(`\n${error}`),
);
