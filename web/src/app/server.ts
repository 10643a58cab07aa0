/** The one way to the server: the client that everybody else has too. */
import { type ClientOptions, LegatoApi } from "@legato/client";

export const clientOptions: ClientOptions = {
  // A deletion outlives its page: what could be undone is deleted when the page is left.
  fetch: (input, init) => fetch(input, init?.method === "DELETE" ? { ...init, keepalive: true } : init),
};

export const api = new LegatoApi(clientOptions);
