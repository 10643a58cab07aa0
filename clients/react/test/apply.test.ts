import { type ChatEvent, EMPTY_REPLY, LegatoError } from "@legato/client";
import { describe, expect, it } from "vitest";

import { foldEvents, messageOfRow, overlay } from "../src/apply.ts";
import { actionFor, problemOf } from "../src/problem.ts";
import type { ProblemAction } from "../src/types.ts";
import { BranchView } from "../src/view.ts";
import { EMPTY_TREE, put, withLeaf } from "../src/tree.ts";
import { message, row } from "./messages.ts";

const from = { conversationId: "c", cursor: null };
const chunk = (content: string): ChatEvent => ({ type: "chunk", content, index: 1, ...from });

describe("messages", () => {
  it("are the same whether a reply was read live or from the server's list", () => {
    const call = { callId: "t1", name: "clock", ...from };
    const events: ChatEvent[] = [
      { type: "tool", status: "called", arguments: "{}", ...call },
      { type: "approval", status: "asked", arguments: "{}", until: 5, ...call },
      { type: "approval", status: "granted", arguments: "{}", by: "me", reason: null, ...call },
      { type: "tool", status: "done", output: "noon", elapsedMs: 7, ...call },
      chunk("It is "),
      chunk("noon."),
    ];
    const live = overlay(message("a1", "u1", 2), foldEvents(EMPTY_REPLY, events));
    const parts = [
      { type: "tool-call", callId: "t1", name: "clock", arguments: "{}", approval: "granted" },
      { type: "tool-result", callId: "t1", name: "clock", output: "noon", isError: false, elapsedMs: 7 },
      { type: "text", text: "It is noon." },
    ] as const;
    const kept = messageOfRow(row("a1", "u1", { content: "It is noon.", parts }), 2);
    expect(live.parts).toEqual(kept.parts);
    expect(live.content).toBe(kept.content);
    const shown = ({ approval, ...call }: (typeof kept.tools)[number]) => ({ ...call, approval: approval?.status });
    expect(live.tools.map(shown)).toEqual(kept.tools.map(shown));
  });
});

describe("the view of a branch", () => {
  it("changes one message and keeps the array before the last turn while a reply grows", () => {
    const all = [1, 2, 3].flatMap((turn) => [
      message(`u${turn}`, turn === 1 ? null : `a${turn - 1}`, turn * 2 - 1),
      message(`a${turn}`, `u${turn}`, turn * 2),
    ]);
    const tree = withLeaf(put(EMPTY_TREE, all), "a3");
    const view = new BranchView();
    const [one, two] = ["x", "xy"].map((content) => view.of(tree, { ...message("a3", "u3", 6), content }));
    expect(one?.history).toBe(two?.history);
    expect(one?.messages.map(({ id }) => id)).toEqual(["u1", "a1", "u2", "a2", "u3", "a3"]);
    expect(one?.lastTurn.map(({ content }) => content)).toEqual(["text of u3", "x"]);
    expect(two?.messages.slice(0, 5)).toEqual(one?.messages.slice(0, 5));
    expect(two?.messages[5]?.content).toBe("xy");
    // A tree that changed elsewhere leaves it too.
    expect(view.of(put(tree, [message("a9", "u2", 4)]), null).history.slice(0, 3)).toEqual(one?.history.slice(0, 3));
  });
});

describe("problems", () => {
  it.each<[string, boolean, number | null, ProblemAction]>([
    ["unauthenticated", false, null, "sign_in"],
    ["rate_limited", true, 3, "wait"],
    ["conversation_busy", true, 5, "wait"],
    ["unreachable", true, null, "retry"],
    ["message_too_long", false, null, "shorten"],
    ["upstream_auth", false, null, "configure"],
    ["not_found", false, null, "reload"],
    ["invalid_request", false, null, "none"],
  ])("with the code %s say what helps", (code, retryable, retryAfterS, action) => {
    const problem = problemOf(new LegatoError("words", { code, retryable, retryAfterS }), "send", 1_000);
    expect(problem).toMatchObject({ code, action, message: "words", during: "send" });
    expect(problem.retryAt).toBe(retryAfterS === null ? null : 1_000 + retryAfterS * 1_000);
    expect(actionFor(code, retryable, retryAfterS !== null)).toBe(action);
  });
});
