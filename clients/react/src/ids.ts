/** Ids of what the server has not named yet. */

import { newId } from "@legato/client";

const LOCAL = "local-";

/** Returns an id for a message that has none of the server's yet. */
export function localId(): string {
  return newId(LOCAL);
}

/** Whether an id is none of the server's. */
export function isLocal(id: string): boolean {
  return id.startsWith(LOCAL);
}
