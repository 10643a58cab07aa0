/**
 * What a person sends, and the replies that are read: one at a time.
 *
 * Law: what is sent is shown at once. A refused message stays, `unsent`, with its idempotency key, so that sending it
 * again can never make two turns of it.
 */

import { LegatoError, type NewConversation, newId, type Open } from "@legato/client";

import { localMessage } from "./apply.ts";
import { isLocal, localId } from "./ids.ts";
import { problemOf } from "./problem.ts";
import type { OpenStream } from "./reading.ts";
import type { Scheduler } from "./schedule.ts";
import type { Server } from "./server.ts";
import type { State } from "./state.ts";
import { put, remove, rename, withLeaf } from "./tree.ts";
import { Turn, type TurnHost } from "./turn.ts";
import type { ChatMessage, SendOptions } from "./types.ts";

/** A message that the server has not accepted yet. */
interface Draft {
  readonly text: string;
  /** Idempotency key: the same for every try. */
  readonly key: string;
  /** The reply that it follows; absent, the active branch. */
  readonly parentId?: string | null;
  readonly options: SendOptions;
  /** End of the branch that was shown before it. */
  readonly leafId: string | null;
}

/** How a reply was begun, and what is undone where the server refuses it. */
interface Begun {
  /** The user's message that was sent for it. */
  readonly echoId?: string;
  /** End of the branch that was shown before. */
  readonly leafId?: string | null;
  readonly again?: () => void;
}

export interface Around {
  readonly scheduler: Scheduler;
  readonly newConversation: () => NewConversation | null;
  /** The server has begun or ended a reply. */
  changed(): void;
  /** The server knows more of this turn than its stream tells. */
  reread(): void;
}

export class Sender {
  readonly #state: State;
  readonly #server: Server;
  readonly #around: Around;
  readonly #drafts = new Map<string, Draft>();
  /** What the reply that is being read was begun with. */
  #begun: Begun = {};
  /** The conversation was made here, and the server has taken nothing in it yet. */
  #blank = false;
  /** Nobody looks any more: a reply is left as soon as the server has accepted its message. */
  #leaving = false;

  constructor(state: State, server: Server, around: Around) {
    this.#state = state;
    this.#server = server;
    this.#around = around;
  }

  /** Sends a message behind the active branch; returns whether it was taken. */
  send(text: string, options: SendOptions): boolean {
    if (this.#state.busy || text.trim() === "") return false;
    const leafId = this.#anchor();
    return this.#post(localId(), leafId, { text, key: newId("k-"), options, leafId });
  }

  /** Sends another version of a message of the user, as its sibling; returns whether it was taken. */
  edit(messageId: string, text: string, options: SendOptions): boolean {
    const { busy, tree } = this.#state;
    const node = tree.nodes.get(messageId);
    if (busy || text.trim() === "" || node?.role !== "user") return false;
    const { parentId } = node;
    const draft = this.#drafts.get(messageId);
    const key = newId("k-");
    if (draft === undefined) return this.#post(localId(), parentId, { text, key, options, parentId, leafId: tree.leafId });
    this.#drop(messageId, draft);
    return this.#post(localId(), parentId, { ...draft, text, key, options });
  }

  /** Asks for another reply to the same message, by default the last; returns whether it was taken. */
  regenerate(messageId: string | undefined, options: SendOptions): boolean {
    const { busy, tree } = this.#state;
    const reply = tree.nodes.get(messageId ?? tree.leafId ?? "");
    if (busy || reply?.role !== "assistant" || isLocal(reply.id)) return false;
    return this.#regenerate(reply, newId("k-"), options);
  }

  /** Sends an unsent message again; returns whether there is such a one. */
  resend(messageId: string): boolean {
    const draft = this.#drafts.get(messageId);
    const node = this.#state.tree.nodes.get(messageId);
    if (this.#state.busy || draft === undefined || node === undefined) return false;
    return this.#post(messageId, node.parentId, draft);
  }

  /** Takes an unsent message back; returns its text, null where there is no such message. */
  discard(messageId: string): string | null {
    const draft = this.#drafts.get(messageId);
    if (draft === undefined || this.#state.busy) return null;
    this.#drop(messageId, draft);
    this.#state.forgive();
    this.#state.emit();
    return draft.text;
  }

  /** Reads a reply that is being made already. */
  follow(runId: string, node: ChatMessage): void {
    if (this.#state.busy) return;
    this.#begin({ ...node, runId }, (signal) => this.#server.follow(runId, signal), {});
  }

  /** Stops the reply that is being read; one that was never answered is taken back. */
  async stop(): Promise<void> {
    const state = this.#state;
    const { turn } = state;
    if (turn === null || state.stopping) return;
    if (!turn.opened && turn.connection === "reconnecting") {
      turn.abort();
      return this.#refused(turn, null);
    }
    state.stopping = true;
    state.emit();
    try {
      await turn.stop();
    } catch (error) {
      state.fail(problemOf(error, "stop", Date.now()), () => void this.stop());
      state.stopping = false;
      state.emit();
    }
  }

  /** Lets go of the reply; it goes on. A message that is on its way arrives first. */
  leave(): void {
    this.#leaving = true;
    if (!this.#state.turn?.opened) return;
    this.#release(this.#state.turn);
    this.#state.emit();
  }

  /** Somebody looks again. */
  stay(): void {
    this.#leaving = false;
  }

  /** Shows a message of the user and the place of its reply, and sends it. */
  #post(echoId: string, parentId: string | null, draft: Draft): boolean {
    const state = this.#state;
    const { nodes } = state.tree;
    const timestamp = Date.now();
    const known = nodes.get(echoId);
    const echo: ChatMessage =
      known !== undefined
        ? { ...known, status: "sending" }
        : localMessage({
            id: echoId,
            role: "user",
            content: draft.text,
            parent: nodes.get(parentId ?? ""),
            parentId,
            timestamp,
            metadata: draft.options.metadata ?? null,
          });
    this.#drafts.set(echoId, draft);
    state.tree = put(state.tree, [echo]);
    const open: OpenStream = async (signal) => {
      await this.#makeConversation();
      return this.#server.send({ ...draft, conversationId: state.conversationId }, signal);
    };
    return this.#ask(echo, open, { echoId, leafId: echoId, again: () => void this.resend(echoId) });
  }

  #regenerate(reply: ChatMessage, key: string, options: SendOptions): boolean {
    const { nodes, leafId } = this.#state.tree;
    const question = nodes.get(reply.parentId ?? "");
    const again = (): void => void (this.#state.busy || this.#regenerate(reply, key, options));
    if (question === undefined) return false;
    return this.#ask(question, (signal) => this.#server.regenerate(reply.id, key, options, signal), { leafId, again });
  }

  /** Begins a reply to a message of the tree. */
  #ask(question: ChatMessage, open: OpenStream, begun: Begun): boolean {
    const state = this.#state;
    const [id, timestamp] = [localId(), Date.now()];
    const place = { parent: question, parentId: question.id, timestamp };
    const blank = localMessage({ id, role: "assistant", content: "", ...place });
    state.epoch += 1;
    state.tree = withLeaf(put(state.tree, [blank]), id);
    state.forgive();
    this.#begin(state.tree.nodes.get(id) ?? blank, open, begun);
    return true;
  }

  #begin(node: ChatMessage, open: OpenStream, begun: Begun): void {
    const host: TurnHost = {
      opened: (turn, event) => this.#opened(turn, event),
      changed: () => this.#state.emit(),
      ended: (turn, error) => this.#ended(turn, error),
    };
    this.#begun = begun;
    this.#state.turn = new Turn(node, open, this.#around.scheduler, host);
    this.#state.emit();
  }

  async #makeConversation(): Promise<void> {
    const state = this.#state;
    if (state.conversationId !== null) return;
    const settings = this.#around.newConversation();
    if (settings === null) return;
    state.conversation = await this.#server.create(settings);
    state.conversationId = state.conversation.id;
    this.#blank = true;
  }

  /** Deletes a conversation whose first message was refused: nobody would ever find it again. */
  #unmake(): void {
    const state = this.#state;
    const id = state.conversationId;
    if (!this.#blank || id === null) return;
    this.#blank = false;
    [state.conversation, state.conversationId] = [null, null];
    // Where that fails too it stays, empty and unlisted.
    this.#server.remove(id).catch(() => undefined);
  }

  #opened(turn: Turn, event: Open): void {
    const state = this.#state;
    const { echoId } = this.#begun;
    state.conversationId ??= event.conversationId;
    this.#blank = false;
    if (state.load === "missing") state.load = "ready";
    if (echoId !== undefined) {
      this.#drafts.delete(echoId);
      const echo = state.tree.nodes.get(echoId);
      if (echo !== undefined) state.tree = put(state.tree, [{ ...echo, status: "complete" }]);
      if (event.runId !== null) void this.#nameEcho(echoId, event.runId);
    }
    this.#name(turn, event.messageId);
    // Of one that was just made the title is not known either: it is the first message's words.
    if (!state.conversation?.messageCount) this.#around.reread();
    if (this.#leaving) this.#release(turn);
    this.#around.changed();
    state.emit();
  }

  /** Gives the reply the server's id. */
  #name(turn: Turn, id: string | null): void {
    const { id: before } = turn.message;
    if (id === null || id === before) return;
    this.#state.tree = rename(this.#state.tree, before, id);
    turn.rebase(this.#state.tree.nodes.get(id));
  }

  /** Gives the user's message the server's id, which the stream does not tell. */
  async #nameEcho(echoId: string, runId: string): Promise<void> {
    const state = this.#state;
    try {
      const { userMessageId } = await this.#server.run(runId);
      state.tree = rename(state.tree, echoId, userMessageId);
    } catch {
      // Once the reply has ended its turn is read again, which tells the id too.
      return;
    }
    const { turn } = state;
    turn?.rebase(state.tree.nodes.get(turn.message.id));
    state.emit();
  }

  #ended(turn: Turn, error: unknown): void {
    const state = this.#state;
    if (state.turn !== turn) return;
    if (!turn.opened && this.#begun.again !== undefined) return this.#refused(turn, error);
    this.#name(turn, turn.replyId);
    state.conversationId ??= turn.conversationId;
    // What was read while the reply was being made may not have it yet.
    state.epoch += 1;
    this.#release(turn);
    if (error !== null) state.fail(problemOf(error, "follow", Date.now()), () => this.#around.reread());
    else this.#around.reread();
    this.#around.changed();
    state.emit();
  }

  /** The server has not taken what was sent: what was there before is shown again, with the message as unsent. */
  #refused(turn: Turn, error: unknown): void {
    const state = this.#state;
    const { echoId, leafId, again } = this.#begun;
    [state.turn, state.stopping] = [null, false];
    state.tree = remove(state.tree, turn.message.id);
    const echo = state.tree.nodes.get(echoId ?? "");
    if (echo !== undefined) state.tree = put(state.tree, [{ ...echo, status: "unsent" }]);
    state.tree = withLeaf(state.tree, leafId ?? state.tree.leafId);
    if (error !== null) state.fail(problemOf(error, "send", Date.now()), again ?? null);
    if (isRefusal(error)) this.#unmake();
    state.emit();
  }

  /** Ends the reading; what was read stays in the tree. */
  #release(turn: Turn): void {
    const state = this.#state;
    turn.abort();
    [state.turn, state.stopping] = [null, false];
    state.tree = put(state.tree, [turn.message]);
  }

  /** Returns the message that a new one is to follow: the end of the branch, unsent ones aside. */
  #anchor(): string | null {
    const { nodes, leafId } = this.#state.tree;
    const leaf = nodes.get(leafId ?? "");
    return leaf !== undefined && this.#drafts.has(leaf.id) ? leaf.parentId : (leaf?.id ?? null);
  }

  #drop(messageId: string, draft: Draft): void {
    const { leafId } = this.#state.tree;
    this.#drafts.delete(messageId);
    const tree = remove(this.#state.tree, messageId);
    this.#state.tree = leafId === messageId ? withLeaf(tree, draft.leafId) : tree;
  }
}

/** Whether the server has surely not taken a message: after a cut, or signed out since, it may have. */
function isRefusal(error: unknown): boolean {
  const status = error instanceof LegatoError ? (error.status ?? 0) : 0;
  return status >= 400 && status < 500 && status !== 401 && status !== 403;
}
