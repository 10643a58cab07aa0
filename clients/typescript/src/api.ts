/** The server's JSON API, with types. Each call is one request, and throws a LegatoError for whatever is no success. */

import { AdminApi } from "./api_admin.ts";
import type {
  ConversationChange,
  ConversationDocument,
  ConversationOut,
  ConversationPage,
  ConversationQuery,
  ForkRequest,
  Me,
  MessageOut,
  MessagePage,
  MessageQuery,
  Models,
  NewConversation,
  PageQuery,
  RunOut,
  SearchPage,
  SignedInPage,
  SignInWays,
  UsageQuery,
  UsageReport,
  Visitor,
} from "./api_types.ts";
import { type ClientOptions, type Settings, settle } from "./options.ts";
import { pathOf, pathTo } from "./query.ts";
import { decide, send, sendForText } from "./send.ts";

export class LegatoApi {
  readonly conversations: ConversationsApi;
  readonly messages: MessagesApi;
  readonly runs: RunsApi;
  readonly admin: AdminApi;
  readonly #settings: Settings;

  constructor(options?: ClientOptions) {
    this.#settings = settle(options);
    this.conversations = new ConversationsApi(this.#settings);
    this.messages = new MessagesApi(this.#settings);
    this.runs = new RunsApi(this.#settings);
    this.admin = new AdminApi(this.#settings);
  }

  /** Find conversations by their titles and texts, the caller's own alone. */
  async search(text: string, query: PageQuery = {}): Promise<SearchPage> {
    const path = pathOf("/search", { q: text, ...query });
    return (await send(this.#settings, { method: "GET", path })) as SearchPage;
  }

  async models(): Promise<Models> {
    return (await send(this.#settings, { method: "GET", path: "/models" })) as Models;
  }

  /** What calls of models have used and cost: one's own, for admins anybody's. */
  async usage(query: UsageQuery = {}): Promise<UsageReport> {
    return (await send(this.#settings, { method: "GET", path: pathOf("/usage", { ...query }) })) as UsageReport;
  }

  /** Throws `unauthenticated` where the server wants a credential and there is none. */
  async me(): Promise<Me> {
    return (await send(this.#settings, { method: "GET", path: "/me" })) as Me;
  }

  /** Turn a key into a session cookie that no script can read. */
  async signIn(key: string): Promise<Me> {
    return (await send(this.#settings, { method: "POST", path: "/sign-in", body: { key } })) as Me;
  }

  /** Turn the name and the password of an account into such a cookie. */
  async signInWithPassword(name: string, password: string): Promise<Me> {
    return (await send(this.#settings, { method: "POST", path: "/sign-in", body: { name, password } })) as Me;
  }

  /** How one can sign in; needs no credential. */
  async signInWays(): Promise<SignInWays> {
    return (await send(this.#settings, { method: "GET", path: "/sign-in" })) as SignInWays;
  }

  /**
   * Begin to sign in at the issuer: the browser has to go to the location.
   *
   * @param to Path of the page to come back to.
   */
  async goToIssuer(to: string): Promise<{ readonly location: string }> {
    const found = await send(this.#settings, { method: "POST", path: "/sign-in/issuer", body: { to } });
    return found as { readonly location: string };
  }

  async signOut(): Promise<void> {
    await send(this.#settings, { method: "POST", path: "/sign-out" });
  }

  /** Change the password of the account that this page is signed in with; its other pages are signed out. */
  async changePassword(current: string, password: string): Promise<void> {
    await send(this.#settings, { method: "PUT", path: "/me/password", body: { current, password } });
  }

  /** List the pages that are signed in as the caller, the newest first. */
  async signedInPages(): Promise<readonly SignedInPage[]> {
    const found = (await send(this.#settings, { method: "GET", path: "/me/sessions" })) as {
      readonly sessions: readonly SignedInPage[];
    };
    return found.sessions;
  }

  /** Sign one page out, or without an id all of them, this one too. */
  async signOutPage(id?: string): Promise<void> {
    const path = id === undefined ? "/me/sessions" : pathTo("me", "sessions", id);
    await send(this.#settings, { method: "DELETE", path });
  }

  /** Become a visitor, with a publishable key as the credential. */
  async visit(): Promise<Visitor> {
    return (await send(this.#settings, { method: "POST", path: "/widget/visitors" })) as Visitor;
  }
}

export class ConversationsApi {
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** List conversations, the one with the latest message first. */
  async list(query: ConversationQuery = {}): Promise<ConversationPage> {
    const path = pathOf("/conversations", { ...query });
    return (await send(this.#settings, { method: "GET", path })) as ConversationPage;
  }

  async create(conversation: NewConversation = {}): Promise<ConversationOut> {
    const parts = { method: "POST", path: "/conversations", body: conversation };
    return (await send(this.#settings, parts)) as ConversationOut;
  }

  async get(id: string): Promise<ConversationOut> {
    return (await send(this.#settings, { method: "GET", path: pathTo("conversations", id) })) as ConversationOut;
  }

  async update(id: string, change: ConversationChange): Promise<ConversationOut> {
    const parts = { method: "PATCH", path: pathTo("conversations", id), body: change };
    return (await send(this.#settings, parts)) as ConversationOut;
  }

  /** Delete a conversation with all that belongs to it. */
  async remove(id: string): Promise<void> {
    await send(this.#settings, { method: "DELETE", path: pathTo("conversations", id) });
  }

  /** Copy a conversation up to a message into a new one. */
  async fork(id: string, request: ForkRequest = {}): Promise<ConversationOut> {
    const parts = { method: "POST", path: pathTo("conversations", id, "fork"), body: request };
    return (await send(this.#settings, parts)) as ConversationOut;
  }

  /** List the messages of a branch, oldest first. */
  async messages(id: string, query: MessageQuery = {}): Promise<MessagePage> {
    const path = pathOf(pathTo("conversations", id, "messages"), { ...query });
    return (await send(this.#settings, { method: "GET", path })) as MessagePage;
  }

  /** Return a conversation with all its branches, to be kept or imported elsewhere. */
  async exportOne(id: string): Promise<ConversationDocument> {
    const path = pathTo("conversations", id, "export");
    return (await send(this.#settings, { method: "GET", path })) as ConversationDocument;
  }

  /** Return the active branch as Markdown. */
  async exportMarkdown(id: string): Promise<string> {
    const path = pathOf(pathTo("conversations", id, "export"), { as: "markdown" });
    return await sendForText(this.#settings, { method: "GET", path });
  }

  /** Make a new conversation of an exported one; 422 names what is wrong in it. */
  async importOne(document: ConversationDocument): Promise<ConversationOut> {
    const parts = { method: "POST", path: "/conversations/import", body: document };
    return (await send(this.#settings, parts)) as ConversationOut;
  }
}

export class MessagesApi {
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** Say whether a reply was good; `null` takes that back. The reason has 2,000 characters at most. */
  async feedback(id: string, thumb: "up" | "down" | null, reason?: string): Promise<MessageOut> {
    const body = { thumb, ...(reason !== undefined && { reason }) };
    const parts = { method: "PUT", path: pathTo("messages", id, "feedback"), body };
    return (await send(this.#settings, parts)) as MessageOut;
  }
}

export class RunsApi {
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  async get(id: string): Promise<RunOut> {
    return (await send(this.#settings, { method: "GET", path: pathTo("runs", id) })) as RunOut;
  }

  /** Stop a reply; what it said is kept. One that has ended stays as it is. */
  async stop(id: string): Promise<void> {
    await send(this.#settings, { method: "POST", path: `${pathTo("chat", "stream", id)}/stop` });
  }

  /** Decide on a tool call that waits for a person. */
  async decide(id: string, callId: string, granted: boolean, reason?: string): Promise<void> {
    await decide(this.#settings, id, callId, granted, reason);
  }
}
