import { expect, test } from "vitest";

import { conversationPath, parseRoute } from "./route.ts";

test.each([
  ["/", "", "", { page: "chat", conversationId: null, messageId: null }],
  ["/c/c-1", "", "", { page: "chat", conversationId: "c-1", messageId: null }],
  ["/c/c%2F%C3%A4", "", "#m=m-1", { page: "chat", conversationId: "c/ä", messageId: "m-1" }],
  ["/c/%E0%A4%A", "", "", { page: "missing" }],
  ["/admin", "", "", { page: "admin", section: "figures" }],
  ["/admin", "", "#queue", { page: "admin", section: "queue" }],
  ["/widget", "?key=lp_1", "", { page: "widget", key: "lp_1", language: null }],
  ["/widget", "?key=lp_1&lang=de", "", { page: "widget", key: "lp_1", language: "de" }],
  ["/widget", "?lang=xx", "", { page: "widget", key: "", language: null }],
  ["/nowhere", "", "", { page: "missing" }],
])("%s%s%s is read", (path, query, hash, route) => {
  expect(parseRoute(path, query, hash)).toEqual(route);
});

test.each(["c-1", "a/b", "ä b?#", "100%"])("the path of %j is read back", (id) => {
  const url = new URL(conversationPath(id, "m 1"), "http://localhost");
  expect(parseRoute(url.pathname, url.search, url.hash)).toEqual({
    page: "chat",
    conversationId: id,
    messageId: "m 1",
  });
});
