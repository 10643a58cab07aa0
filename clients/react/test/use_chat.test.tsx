import { act, render, renderHook, waitFor } from "@testing-library/react";
import { memo, useEffect, version } from "react";
import { describe, expect, it } from "vitest";

import { type Chat, type ChatMessage, type ConversationOptions, useChat } from "../src/index.ts";
import { newName, settled, world } from "./store_world.ts";

const here = world();
const draw = (options: ConversationOptions = {}) =>
  renderHook((props: ConversationOptions) => useChat(props), {
    initialProps: { client: { baseUrl: here.server.baseUrl }, ...options },
  });

describe("useChat", () => {
  it("runs in the React that it is tested with", () => {
    expect(version.split(".")[0]).toBe(process.env["REACT"]);
  });

  it("shows a reply, once, in strict mode", async () => {
    const { result } = draw();
    act(() => void result.current.send("Hello! script: tokens=5"));
    expect(result.current.messages).toHaveLength(2);
    await waitFor(() => expect(settled(result.current)).toBe(true));
    const { messageCount } = await here.server.send("GET", `/conversations/${result.current.conversationId}`);
    expect(messageCount).toBe(2);
  });

  it("takes one of two sends in the same moment", async () => {
    const { result } = draw();
    const taken: boolean[] = [];
    act(() => {
      taken.push(result.current.send("One. script: tokens=2"), result.current.send("One. script: tokens=2"));
    });
    expect(taken).toEqual([true, false]);
    await waitFor(() => expect(settled(result.current)).toBe(true));
    expect(result.current.messages).toHaveLength(2);
  });

  it("has the same actions at every rendering, which know the present state", async () => {
    const { result } = draw();
    const { send, regenerate, stop } = result.current;
    act(() => void send("Hello! script: tokens=2"));
    await waitFor(() => expect(settled(result.current)).toBe(true));
    expect([result.current.send, result.current.regenerate, result.current.stop]).toEqual([send, regenerate, stop]);
    // Held since the first rendering, and yet it knows the reply that has come since.
    act(() => void regenerate());
    await waitFor(() => expect(result.current.messages[1]?.siblings).toHaveLength(2));
    await waitFor(() => expect(settled(result.current)).toBe(true));
  });

  it("draws only the message that changed", async () => {
    const drawn: string[] = [];
    const Item = memo(function Item({ message }: { message: ChatMessage }) {
      useEffect(() => void drawn.push(message.key));
      return <p>{message.content}</p>;
    });
    let chat: Chat | null = null;
    function Page() {
      chat = useChat({ client: { baseUrl: here.server.baseUrl } });
      return chat.messages.map((message) => <Item key={message.key} message={message} />);
    }
    render(<Page />);
    const now = () => chat as unknown as Chat;
    act(() => void now().send("One. script: tokens=2"));
    await waitFor(() => expect(settled(now())).toBe(true));
    act(() => void now().send("Two. script: tokens=80 delay_ms=10"));
    await waitFor(() => expect(now().status).toBe("streaming"));
    await waitFor(() => expect(now().messages[3]?.content.length).toBeGreaterThan(20));
    const settledKeys = now().history.map(({ key }) => key);
    drawn.length = 0;
    await waitFor(() => expect(drawn.length).toBeGreaterThan(10));
    expect(settledKeys).toHaveLength(2);
    expect(drawn.filter((key) => settledKeys.includes(key))).toEqual([]);
    await act(async () => await now().stop());
    await waitFor(() => expect(settled(now())).toBe(true));
  });

  it("keeps its conversation where the page learns its id, and changes it where another is given", async () => {
    const name = newName();
    await here.server.chat("Elsewhere. script: tokens=2", name);
    const { result, rerender } = draw();
    const client = { baseUrl: here.server.baseUrl };
    act(() => void result.current.send("Hello! script: tokens=20 delay_ms=10"));
    await waitFor(() => expect(result.current.conversationId).not.toBeNull());
    const { store } = result.current;
    rerender({ client, conversationId: result.current.conversationId });
    expect(result.current.store).toBe(store);
    await waitFor(() => expect(settled(result.current)).toBe(true));
    rerender({ client, conversationId: name });
    expect(result.current.store).not.toBe(store);
    await waitFor(() => expect(result.current.messages[0]?.content).toContain("Elsewhere."));
    rerender({ client, conversationId: null });
    expect(result.current.messages).toEqual([]);
  });

  it("leaves the reply alone when it is unmounted, and joins it when it is mounted again", async () => {
    const { result, unmount } = draw();
    act(() => void result.current.send("Talk. script: tokens=100 delay_ms=10"));
    await waitFor(() => expect(result.current.status).toBe("streaming"));
    const { conversationId } = result.current;
    unmount();
    const again = draw({ conversationId });
    await waitFor(() => expect(again.result.current.status).toBe("streaming"));
    await waitFor(() => expect(settled(again.result.current)).toBe(true));
    expect(again.result.current.messages[1]).toMatchObject({ status: "complete", finishReason: "stop" });
  });

  it("says when the network goes and comes back", async () => {
    const { result } = draw();
    act(() => void window.dispatchEvent(new Event("offline")));
    expect(result.current.online).toBe(false);
    act(() => void window.dispatchEvent(new Event("online")));
    expect(result.current.online).toBe(true);
  });

  it("reads again when the page is looked at again", async () => {
    const name = newName();
    await here.server.chat("One. script: tokens=2", name);
    const { result } = draw({ conversationId: name });
    await waitFor(() => expect(settled(result.current)).toBe(true));
    await here.server.chat("Two. script: tokens=2", name);
    act(() => void window.dispatchEvent(new Event("focus")));
    await waitFor(() => expect(result.current.messages).toHaveLength(4));
  });
});
