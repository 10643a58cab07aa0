/** What else happens to a conversation: in other tabs of this browser, to the network, to this page's focus. */

/** Told to other tabs: look at this conversation again. */
export interface Changed {
  readonly conversationId: string;
}

export interface Surroundings {
  /** Another tab began, ended or changed something in this conversation. */
  changed(conversationId: string): void;
  /** The page is looked at again. */
  seen(): void;
  /** The network came back, or went. */
  network(online: boolean): void;
}

/** Listens from its making until `close`. Without a browser it hears nothing. */
export class Tabs {
  readonly #channel: BroadcastChannel | null;
  readonly #stop = new AbortController();

  /** @param server Names the server: only tabs of the same one speak with each other. */
  constructor(server: string, surroundings: Surroundings) {
    this.#channel = typeof BroadcastChannel === "function" ? new BroadcastChannel(`legato ${server}`) : null;
    // Node keeps a process alive for an open channel; a browser has no such method.
    (this.#channel as unknown as { unref?: () => void } | null)?.unref?.();
    const { signal } = this.#stop;
    this.#channel?.addEventListener(
      "message",
      (event: MessageEvent<unknown>) => {
        const id = (event.data as Partial<Changed> | null)?.conversationId;
        if (typeof id === "string") surroundings.changed(id);
      },
      { signal },
    );
    if (typeof window === "undefined") return;
    window.addEventListener("online", () => surroundings.network(true), { signal });
    window.addEventListener("offline", () => surroundings.network(false), { signal });
    window.addEventListener("focus", () => surroundings.seen(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || surroundings.seen(), { signal });
  }

  /** Tells the other tabs that a conversation changed. */
  tell(conversationId: string): void {
    const changed: Changed = { conversationId };
    this.#channel?.postMessage(changed);
  }

  close(): void {
    this.#stop.abort();
    this.#channel?.close();
  }
}

/** Whether the browser has a network; true where nobody can tell. */
export function isOnline(): boolean {
  return typeof navigator === "undefined" || navigator.onLine !== false;
}
