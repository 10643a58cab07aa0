import { expect, test } from "vitest";

import { LegatoApi } from "../src/api.ts";
import { retryAfter } from "../src/http.ts";
import { ScriptedServer } from "./wire.ts";

type Call = (api: LegatoApi) => Promise<unknown>;

const DOCUMENT = {
  format: "legato.conversation",
  version: 1,
  exportedAt: 1,
  conversation: { title: "t" },
  messages: [],
} as const;

test.each<[string, Call, unknown]>([
  ["GET /conversations", (api) => api.conversations.list(), null],
  [
    "GET /conversations?cursor=a+b&limit=5&archived=true&pinned=false",
    (api) => api.conversations.list({ cursor: "a b", limit: 5, archived: true, pinned: false }),
    null,
  ],
  ["POST /conversations", (api) => api.conversations.create({ temporary: true }), { temporary: true }],
  ["GET /conversations/c%2F%C3%BC", (api) => api.conversations.get("c/ü"), null],
  [
    "PATCH /conversations/c",
    (api) => api.conversations.update("c", { archived: true, title: null }),
    { archived: true, title: null },
  ],
  ["DELETE /conversations/c", (api) => api.conversations.remove("c"), null],
  ["POST /conversations/c/fork", (api) => api.conversations.fork("c", { messageId: "m" }), { messageId: "m" }],
  [
    "GET /conversations/c/messages?leafId=m&cursor=0",
    (api) => api.conversations.messages("c", { leafId: "m", cursor: 0 }),
    null,
  ],
  ["GET /conversations/c/export", (api) => api.conversations.exportOne("c"), null],
  ["GET /conversations/c/export?as=markdown", (api) => api.conversations.exportMarkdown("c"), null],
  ["POST /conversations/import", (api) => api.conversations.importOne(DOCUMENT), DOCUMENT],
  ["GET /search?q=a%26b&limit=3", (api) => api.search("a&b", { limit: 3 }), null],
  [
    "PUT /messages/m/feedback",
    (api) => api.messages.feedback("m", "down", "wrong"),
    { thumb: "down", reason: "wrong" },
  ],
  ["PUT /messages/m/feedback", (api) => api.messages.feedback("m", null), { thumb: null }],
  ["GET /runs/r", (api) => api.runs.get("r"), null],
  ["POST /chat/stream/r/stop", (api) => api.runs.stop("r"), null],
  ["POST /chat/stream/r/approvals/a", (api) => api.runs.decide("r", "a", true), { granted: true }],
  ["GET /models", (api) => api.models(), null],
  ["GET /usage?by=model&owner=*", (api) => api.usage({ by: "model", owner: "*" }), null],
  ["GET /me", (api) => api.me(), null],
  ["POST /sign-in", (api) => api.signIn("lk_1"), { key: "lk_1" }],
  ["POST /sign-out", (api) => api.signOut(), null],
  ["POST /widget/visitors", (api) => api.visit(), null],
  ["GET /admin/figures?from=1&by=day", (api) => api.admin.figures({ from: 1, by: "day" }), null],
  ["GET /admin/queue", (api) => api.admin.queue(), null],
  ["GET /admin/dead-letters?step=a", (api) => api.admin.deadLetters({ step: "a" }), null],
  ["GET /admin/dead-letters/7", (api) => api.admin.deadLetter("7"), null],
  ["POST /admin/dead-letters/7/redrive", (api) => api.admin.redrive("7"), null],
  ["DELETE /admin/dead-letters/7", (api) => api.admin.discard("7"), null],
  ["GET /admin/steps", (api) => api.admin.steps(), null],
  ["GET /admin/runs", (api) => api.admin.runs(), null],
  ["GET /admin/budgets", (api) => api.admin.budgets(), null],
  [
    "PUT /admin/budgets",
    (api) => api.admin.setBudget({ per: "server", period: "day", limitUsd: "1" }),
    { per: "server", period: "day", limitUsd: "1" },
  ],
  [
    "DELETE /admin/budgets?per=server&period=day",
    (api) => api.admin.removeBudget({ per: "server", period: "day" }),
    null,
  ],
  ["GET /admin/audit?owner=ann&cursor=7", (api) => api.admin.audit({ owner: "ann", cursor: 7 }), null],
  ["GET /admin/audit/verify", (api) => api.admin.auditVerdict(), null],
  ["GET /admin/sessions?limit=3", (api) => api.admin.sessions({ limit: 3 }), null],
])("%s", async (line, call, body) => {
  const server = new ScriptedServer([{ body: '{"ok":true}' }]);
  await call(new LegatoApi(server.options({ headers: { Authorization: "Bearer lk_1" } })));
  const [asked] = server.asked;
  expect(`${asked?.method} ${asked?.path}`).toBe(line);
  expect(asked?.body).toEqual(body);
  expect(asked?.headers["authorization"]).toBe("Bearer lk_1");
  expect(asked?.headers["content-type"]).toBe(body === null ? undefined : "application/json");
});

test.each([
  [{ lost: true }, { code: "unreachable", retryable: true }],
  [{ body: "<html>" }, { code: "not_legato" }],
  [
    { status: 502, body: "<html>" },
    { code: "not_legato", status: 502, retryable: true },
  ],
  [{ status: 307 }, { code: "not_legato", status: 307 }],
  [
    { status: 404, body: '{"code":"not_found","title":"Not Found"}' },
    { code: "not_found", message: "Not Found" },
  ],
  [
    { status: 401, body: '{"code":"unauthenticated","detail":"no key"}' },
    { code: "unauthenticated", status: 401 },
  ],
])("what is no success is an error: %j", async (answer, error) => {
  const api = new LegatoApi(new ScriptedServer([answer]).options());
  await expect(api.me()).rejects.toMatchObject({ name: "LegatoError", ...error });
});

test("an answer without a body is nothing", async () => {
  const server = new ScriptedServer([{ status: 204 }]);
  await expect(new LegatoApi(server.options()).signOut()).resolves.toBeUndefined();
});

test.each([
  ["7", 7],
  ["0", 0],
  ["1.5", 1.5],
  ["Sun, 22 Nov 2026 10:00:30 GMT", 30],
  ["Sun, 22 Nov 2026 09:00:00 GMT", 0],
  ["soon", null],
  [null, null],
])("Retry-After %s is %s s", (header, seconds) => {
  expect(retryAfter(header, Date.UTC(2026, 10, 22, 10, 0, 0))).toBe(seconds);
});
