import { afterEach, describe, expect, test, vi } from "vitest";

import { addressOf, checkAddress, unreachable } from "../src/address.ts";
import { ChatClient } from "../src/chat_client.ts";
import { LegatoError } from "../src/errors.ts";
import { LegatoApi } from "../src/api.ts";
import { ScriptedServer } from "./wire.ts";

afterEach(() => vi.unstubAllGlobals());
const inPage = (origin: string): void => void vi.stubGlobal("location", { origin });
const faultOf = (baseUrl: string): string | null => {
  try {
    checkAddress(baseUrl);
    return null;
  } catch (error) {
    return (error as LegatoError).message;
  }
};

describe("an address is named", () => {
  test.each([
    ["http://localhost:3111", "http://localhost:3111"],
    ["https://user:secret@chat.example/legato/?key=secret#secret", "https://chat.example/legato"],
    ["user:secret@chat.example?key=secret", "chat.example"],
    ["ftp://user:secret@chat.example/x", "ftp://chat.example/x"],
  ])("%s: %s", (baseUrl, named) => {
    expect(addressOf(baseUrl)).toBe(named);
    expect(unreachable(baseUrl, true, null).message).toContain(`the server at ${named} was lost`);
    expect(unreachable(baseUrl, false, null).message).toBe(`no server answers at ${named}`);
  });

  test("relative to the page", () => {
    inPage("https://shop.example");
    expect([addressOf(""), addressOf("/chat")]).toEqual(["https://shop.example", "https://shop.example/chat"]);
    expect(unreachable("", false, null).message).toBe("no server answers at https://shop.example");
  });

  test("with what else it may be, where a page is of another origin", () => {
    inPage("https://shop.example");
    expect(unreachable("https://chat.example", false, null).message).toBe(
      "no server answers at https://chat.example, or it lets no page of https://shop.example in: its LEGATO_ALLOWED_ORIGINS",
    );
  });
});

describe("an address that is none", () => {
  test.each([
    ["http://localhost:3111", null],
    ["https://chat.example/legato", null],
    ["localhost:3111", 'baseUrl "localhost:3111" is no address of a server: http://localhost:3111 perhaps'],
    ["chat.example", 'baseUrl "chat.example" is no address of a server: http://chat.example perhaps'],
    ["ws://chat.example", 'baseUrl "ws://chat.example" is no address of a server: http://chat.example perhaps'],
    ["", "baseUrl has no page here to be relative to: give http://HOST:PORT"],
    ["http://me:secret@chat.example", /has a name and a password.*send them in headers/],
    ["http://chat.example/?key=secret", "baseUrl ends in a query or a fragment: give http://chat.example alone"],
  ])("%s: %s", (baseUrl, fault) => {
    const said = faultOf(baseUrl);
    if (fault instanceof RegExp) expect(said).toMatch(fault);
    else expect(said).toBe(fault);
    expect(said ?? "").not.toContain("secret");
  });

  test("is told at once, and nothing is tried", async () => {
    const server = new ScriptedServer([]);
    const options = server.options({ baseUrl: "localhost:3111" });
    const wanted = { code: "bad_address", retryable: false, message: expect.stringMatching(/http:..localhost:3111/) };
    const client = new ChatClient("s", null, options);
    await expect(client.stream("Hi").message()).rejects.toMatchObject(wanted);
    await expect(client.follow("r-1").message()).rejects.toMatchObject(wanted);
    await expect(new LegatoApi(options).me()).rejects.toMatchObject(wanted);
    const told: string[] = [];
    const say = (kind: string) => (words?: string) => void told.push(`${kind} ${words}`);
    await client.sendMessage("Hi", say("chunk"), say("complete"), say("error"));
    expect(told).toEqual([expect.stringMatching(/^error baseUrl "localhost/)]);
    expect(server.asked).toEqual([]);
  });

  test("of a page is the page's own", () => {
    inPage("https://shop.example");
    expect([faultOf(""), faultOf("/chat")]).toEqual([null, null]);
  });
});
