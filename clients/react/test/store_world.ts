/** Stores on a real server, and waiting for what they show. */

import { afterAll, afterEach, beforeAll, inject } from "vitest";

import { type ChatMessage, type ChatSnapshot, type ConversationOptions, ConversationStore } from "../src/index.ts";
import { LegatoServer, Reached } from "./legato_server.ts";

const WAIT_MS = 30_000;

export interface World<Server extends Reached = Reached> {
  readonly server: Server;
  /** Makes a store that is attached until the test's end. */
  open(options?: ConversationOptions): Opened;
}

export interface Opened {
  readonly store: ConversationStore;
  /** Every snapshot so far, oldest first. */
  readonly seen: ChatSnapshot[];
  readonly detach: () => void;
}

let names = 0;

/** Returns an id of a conversation that no other test has. */
export function newName(): string {
  names += 1;
  return `c-${process.pid}-${names}`;
}

/** The server that files share. */
export function world(): World {
  const server = new Reached(inject("baseUrl"));
  return worldOn(() => server);
}

/** A server for the tests of one file, which may end it and start it again. */
export function ownWorld(): World<LegatoServer> {
  let server: LegatoServer | null = null;
  beforeAll(async () => {
    server = await LegatoServer.start();
  });
  afterAll(() => server?.remove());
  return worldOn(() => {
    if (server === null) throw new Error("the server is not there yet");
    return server;
  });
}

function worldOn<Server extends Reached>(find: () => Server): World<Server> {
  const detaches: (() => void)[] = [];
  afterEach(() => {
    for (const detach of detaches.splice(0)) detach();
  });
  return {
    get server() {
      return find();
    },
    open(options = {}) {
      const { client, ...rest } = options;
      const store = new ConversationStore({ client: { baseUrl: this.server.baseUrl, ...client }, ...rest });
      const seen: ChatSnapshot[] = [];
      store.subscribe(() => seen.push(store.getSnapshot()));
      const detach = store.attach();
      detaches.push(detach);
      return { store, seen, detach };
    },
  };
}

/** Waits until a snapshot is as it should be, and returns it. */
export function until(store: ConversationStore, holds: (snapshot: ChatSnapshot) => boolean): Promise<ChatSnapshot> {
  const { stack } = new Error("never came");
  return new Promise((resolve, reject) => {
    const stop = store.subscribe(check);
    const timer = setTimeout(() => {
      stop();
      const { messages, ...rest } = store.getSnapshot();
      reject(new Error(`it did not come about: ${JSON.stringify({ ...rest, history: [], messages }, null, 1)}\n${stack}`));
    }, WAIT_MS);
    function check(): void {
      const snapshot = store.getSnapshot();
      if (!holds(snapshot)) return;
      clearTimeout(timer);
      stop();
      resolve(snapshot);
    }
    check();
  });
}

/** A reply has ended, and its turn was read again. */
export function settled({ status, messages, conversation, load }: ChatSnapshot): boolean {
  const open = ["sending", "running", "queued"];
  const last = messages.at(-1);
  return (
    load === "ready" &&
    status === "idle" &&
    messages.every((message) => !open.includes(message.status) && !message.id.startsWith("local-")) &&
    (last === undefined || conversation?.leafId === last.id)
  );
}

/** Sends a message and waits for the whole reply, and for what only a read after its end tells. */
export async function say(store: ConversationStore, text: string): Promise<ChatSnapshot> {
  if (!store.send(text)) throw new Error(`${text} was not taken`);
  const told = ({ status, firstTokenMs }: ChatMessage) => status !== "complete" || firstTokenMs !== null;
  return await until(store, (now) => settled(now) && now.messages.slice(-1).every(told));
}
