import { createServer, type Server } from "node:http";

import { afterAll, beforeAll, expect, test } from "vitest";

import { LegatoApi } from "../src/api.ts";
import { ChatClient } from "../src/chat_client.ts";

/** Something else than Legato, on a real socket. */
let elsewhere: Server;
let baseUrl: string;
const asked: string[] = [];

beforeAll(async () => {
  elsewhere = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    if (request.url === "/there") response.end("no Legato");
    else response.writeHead(302, { location: "/there" }).end();
  });
  await new Promise<void>((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
  baseUrl = `http://127.0.0.1:${(elsewhere.address() as { port: number }).port}`;
});
afterAll(async () => await new Promise((resolve) => elsewhere.close(resolve)));

test("a redirection is not followed: it would lose the body, or give the key to somebody else", async () => {
  const wanted = { code: "not_legato", status: 302, message: /redirects elsewhere/ };
  const said = { ...wanted, message: expect.stringMatching(wanted.message) };
  await expect(new ChatClient("s", null, { baseUrl }).stream("Hi").message()).rejects.toMatchObject(said);
  await expect(new LegatoApi({ baseUrl }).me()).rejects.toMatchObject(said);
  expect(asked).toEqual(["POST /chat/stream", "GET /me"]);
});
