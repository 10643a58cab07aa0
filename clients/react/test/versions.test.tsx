/** Regenerating, editing and going through versions in `ChatInterface`, with the mouse and with the keyboard alone. */

import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { describe, expect, it } from "vitest";

import { ChatInterface, type ChatInterfaceProps, ENGLISH } from "../src/index.ts";
import { newName, world } from "./store_world.ts";

const here = world();
const draw = (props: ChatInterfaceProps = {}) =>
  render(<ChatInterface clientOptions={{ baseUrl: here.server.baseUrl }} {...props} />);
const field = () => screen.getByRole<HTMLTextAreaElement>("textbox", { name: ENGLISH.message });
const editor = () => screen.getByRole<HTMLTextAreaElement>("textbox", { name: ENGLISH.editing });
const at = (index: number) => screen.getAllByRole("article")[index] as HTMLElement;
const textOf = (index: number) => at(index).querySelector(".legato-message-text")?.textContent;
const button = (index: number, name: string) => within(at(index)).getByRole("button", { name });
const isOff = (element: HTMLElement) => element.getAttribute("aria-disabled") === "true";

/** Sends a message and waits for the reply's end, and until its ids are the server's. */
async function say(text: string): Promise<void> {
  fireEvent.change(field(), { target: { value: text } });
  fireEvent.keyDown(field(), { key: "Enter" });
  await ended();
}
async function ended(): Promise<void> {
  await waitFor(() => expect(screen.queryByRole("button", { name: /^Stop/ })).toBeNull());
}
/** A key press as a browser makes it: Enter on a button clicks it. */
function press(key: string): void {
  const active = document.activeElement as HTMLElement;
  const isTaken = !fireEvent.keyDown(active, { key });
  if (key === "Enter" && !isTaken && active.tagName === "BUTTON") fireEvent.click(active);
}

describe("ChatInterface", () => {
  it("asks again, and goes back and forth between the replies without losing the focus", async () => {
    draw();
    await say("Say it. script: tokens=3 seed=1");
    const first = textOf(1);
    expect(within(at(1)).queryByRole("group")).toBeNull();
    button(1, ENGLISH.regenerate).focus();
    press("Enter");
    expect(isOff(button(1, ENGLISH.regenerate))).toBe(true);
    expect(document.activeElement).toBe(button(1, ENGLISH.regenerate));
    await ended();
    expect(within(at(1)).getByRole("group", { name: "Version 2 of 2" }).textContent).toContain("2 / 2");
    const second = textOf(1);
    expect(isOff(button(1, ENGLISH.next))).toBe(true);
    button(1, ENGLISH.previous).focus();
    press("Enter");
    await waitFor(() => expect(within(at(1)).getByRole("group", { name: "Version 1 of 2" })).toBeDefined());
    expect(textOf(1)).toBe(first);
    expect(screen.getByRole("status").textContent).toBe("Version 1 of 2");
    expect(document.activeElement).toBe(button(1, ENGLISH.previous));
    // At the end of the row it does nothing, and holds the focus all the same.
    press("Enter");
    expect(textOf(1)).toBe(first);
    fireEvent.click(button(1, ENGLISH.next));
    await waitFor(() => expect(within(at(1)).getByRole("group", { name: "Version 2 of 2" })).toBeDefined());
    expect(textOf(1)).toBe(second);
  });

  it("edits with the keyboard alone, and shows both branches whole", async () => {
    draw();
    await say("One. script: tokens=2");
    await say("Two. script: tokens=2");
    button(0, ENGLISH.edit).focus();
    press("Enter");
    expect(document.activeElement).toBe(editor());
    expect(editor().value).toBe("One. script: tokens=2");
    fireEvent.change(editor(), { target: { value: "Eins. script: tokens=2" } });
    press("Enter");
    // What was edited is shown at once, alone, and the focus is where the next message is written.
    expect(textOf(0)).toBe("Eins. script: tokens=2");
    expect(screen.getAllByRole("article")).toHaveLength(2);
    expect(document.activeElement).toBe(field());
    await ended();
    expect(within(at(0)).getByRole("group", { name: "Version 2 of 2" })).toBeDefined();
    fireEvent.click(button(0, ENGLISH.previous));
    await waitFor(() => expect(screen.getAllByRole("article")).toHaveLength(4));
    expect([textOf(0), textOf(2)]).toEqual(["One. script: tokens=2", "Two. script: tokens=2"]);
  });

  it("gives an edit up with Escape, and sends none that is blank or is being composed", async () => {
    draw();
    await say("One. script: tokens=2");
    fireEvent.click(button(0, ENGLISH.edit));
    fireEvent.keyDown(editor(), { key: "Enter", isComposing: true });
    fireEvent.keyDown(editor(), { key: "Escape", isComposing: true });
    fireEvent.change(editor(), { target: { value: "  " } });
    press("Enter");
    fireEvent.click(within(editor().form as HTMLElement).getByRole("button", { name: ENGLISH.send }));
    expect(editor().value).toBe("  ");
    press("Escape");
    expect(document.activeElement).toBe(button(0, ENGLISH.edit));
    expect(textOf(0)).toBe("One. script: tokens=2");
    expect(within(at(0)).queryByRole("group")).toBeNull();
  });

  it("keeps what is being edited while another message is sent, and stops nothing with its Escape", async () => {
    draw();
    await say("One. script: tokens=2");
    fireEvent.click(button(0, ENGLISH.edit));
    fireEvent.change(editor(), { target: { value: "Half wri" } });
    fireEvent.change(field(), { target: { value: "Two. script: tokens=300 delay_ms=10" } });
    fireEvent.keyDown(field(), { key: "Enter" });
    await waitFor(() => expect(textOf(3)?.length).toBeGreaterThan(5));
    expect(editor().value).toBe("Half wri");
    fireEvent.keyDown(editor(), { key: "Enter" });
    expect(editor().value).toBe("Half wri");
    fireEvent.keyDown(editor(), { key: "Escape" });
    expect(screen.getByRole("button", { name: ENGLISH.stop })).toBeDefined();
    // From anywhere else Escape stops the reply.
    fireEvent.keyDown(button(0, ENGLISH.edit), { key: "Escape" });
    await ended();
    expect(screen.getByText(ENGLISH.stopped)).toBeDefined();
  });

  it("does nothing with its buttons while a reply is being made", async () => {
    draw();
    await say("One. script: tokens=2");
    fireEvent.change(field(), { target: { value: "Two. script: tokens=300 delay_ms=10" } });
    fireEvent.keyDown(field(), { key: "Enter" });
    fireEvent.click(button(1, ENGLISH.regenerate));
    fireEvent.click(button(0, ENGLISH.edit));
    expect(screen.queryByRole("textbox", { name: ENGLISH.editing })).toBeNull();
    expect(screen.getAllByRole("article")).toHaveLength(4);
    expect(within(at(3)).queryByRole("button", { name: ENGLISH.regenerate })).toBeNull();
    await waitFor(() => expect(textOf(3)?.length).toBeGreaterThan(5));
    fireEvent.click(screen.getByRole("button", { name: ENGLISH.stop }));
    await ended();
  });

  it("goes back to what was shown where asking again is refused, and says why", async () => {
    let refuse = false;
    const refusing = (async (input, init) => {
      if (!refuse || !String(input).endsWith("/regenerate")) return await fetch(input, init);
      return new Response("<html>", { status: 500 });
    }) satisfies typeof fetch;
    draw({ clientOptions: { baseUrl: here.server.baseUrl, fetch: refusing } });
    await say("Say it. script: tokens=3");
    const first = textOf(1);
    refuse = true;
    fireEvent.click(button(1, ENGLISH.regenerate));
    await screen.findByRole("alert");
    expect(textOf(1)).toBe(first);
    expect(within(at(1)).queryByRole("group")).toBeNull();
  });

  it("shows what the model thought, folded", async () => {
    const messages = [
      { id: "a", role: "user", content: "Why?" },
      { id: "b", role: "assistant", parentId: "a", parts: [{ type: "reasoning", text: "Hm." }, { type: "text", text: "So." }] },
    ];
    const { id } = await here.server.send("POST", "/conversations/import", {
      ...{ format: "legato.conversation", version: 1, conversation: {}, messages },
    });
    draw({ conversationId: id });
    const thought = (await screen.findByText(ENGLISH.thinking)).closest("details");
    expect([thought?.open, thought?.textContent]).toEqual([false, `${ENGLISH.thinking}Hm.`]);
    expect([...at(1).querySelectorAll(".legato-message-text")].map((each) => each.textContent)).toEqual(["Hm.", "So."]);
  });

  it.each([
    [413, "message_too_long", "shorten", []],
    [409, "conflict", "reload", [ENGLISH.reload]],
    [503, "overloaded", "retry", [ENGLISH.retry]],
  ] as const)("offers only what can help: %i %s", async (status, code, action, offered) => {
    const refusing = (async (input, init) => {
      if (!String(input).endsWith("/chat/stream")) return await fetch(input, init);
      const problem = JSON.stringify({ code, detail: "no", retryable: status === 503 });
      return new Response(problem, { status, headers: { "content-type": "application/problem+json" } });
    }) satisfies typeof fetch;
    draw({ clientOptions: { baseUrl: here.server.baseUrl, fetch: refusing } });
    await say("Say it. script: tokens=3");
    const alert = await screen.findByRole("alert");
    expect(alert.textContent).toContain(ENGLISH.help[action]);
    const names = within(alert).getAllByRole("button").map(({ textContent }) => textContent);
    expect(names).toEqual([...offered, ENGLISH.dismiss]);
    if (action === "reload") fireEvent.click(within(alert).getByRole("button", { name: ENGLISH.reload }));
    else fireEvent.click(within(alert).getByRole("button", { name: ENGLISH.dismiss }));
    expect(screen.queryByRole("alert")).toBeNull();
    // Nothing is lost: what was written is there, to be changed, sent again or taken back.
    fireEvent.click(button(0, ENGLISH.edit));
    expect(editor().value).toBe("Say it. script: tokens=3");
  });
});

describe("resuming", () => {
  it("joins a reply that is being made when it is mounted, and tells its page the id only once it is there", async () => {
    const told: string[] = [];
    const { unmount } = draw({ onConversation: (id) => told.push(id) });
    expect(told).toEqual([]);
    fireEvent.change(field(), { target: { value: "Talk. script: tokens=150 delay_ms=10" } });
    fireEvent.keyDown(field(), { key: "Enter" });
    await waitFor(() => expect(textOf(1)?.length).toBeGreaterThan(10));
    expect(told).toHaveLength(1);
    const [conversationId] = told;
    unmount();
    draw({ conversationId: conversationId as string });
    await screen.findByRole("button", { name: ENGLISH.stop });
    const joined = textOf(1)?.length ?? 0;
    await waitFor(() => expect(textOf(1)?.length).toBeGreaterThan(joined));
    await ended();
    const { messages } = await here.server.send("GET", `/conversations/${conversationId}/messages`);
    expect(messages).toHaveLength(2);
    await waitFor(() => expect(textOf(1)).toBe(messages[1].content));
  });

  it("does not tell a wish for an id, and tells another one of another conversation", async () => {
    const [wished, other] = [newName(), newName()];
    await here.server.chat("Elsewhere. script: tokens=2", other);
    const told: string[] = [];
    const clientOptions = { baseUrl: here.server.baseUrl };
    const page = (conversationId: string) => (
      <ChatInterface {...{ conversationId, clientOptions }} onConversation={(id) => told.push(id)} />
    );
    const { rerender } = render(page(wished));
    await waitFor(() => expect(screen.getByText(ENGLISH.empty)).toBeDefined());
    expect(told).toEqual([]);
    await say("Now. script: tokens=2");
    expect(told).toEqual([wished]);
    rerender(page(other));
    await screen.findByText("Elsewhere. script: tokens=2");
    expect(told).toEqual([wished, other]);
  });
});

describe("two of them on one conversation", () => {
  it("show the same messages, and the reply of one grows in the other", async () => {
    const conversationId = newName();
    const clientOptions = { baseUrl: here.server.baseUrl };
    const one = () => <ChatInterface {...{ conversationId, clientOptions }} />;
    const { container } = render(
      <>
        {one()}
        {one()}
      </>,
    );
    const [left, right] = [...container.querySelectorAll("section")] as [HTMLElement, HTMLElement];
    const write = (side: HTMLElement, text: string): void => {
      const area = within(side).getByRole("textbox", { name: ENGLISH.message });
      fireEvent.change(area, { target: { value: text } });
      fireEvent.keyDown(area, { key: "Enter" });
    };
    await waitFor(() => expect(within(right).getByText(ENGLISH.empty)).toBeDefined());
    write(left, "Talk. script: tokens=120 delay_ms=10");
    await waitFor(() => expect(within(right).getByRole("button", { name: ENGLISH.stop })).toBeDefined());
    await ended();
    const texts = (side: HTMLElement) => [...side.querySelectorAll(".legato-message-text")].map((each) => each.textContent);
    await waitFor(() => expect(texts(right)).toEqual(texts(left)));
    expect(texts(left)).toHaveLength(2);
    write(right, "More. script: tokens=3");
    await waitFor(() => expect(texts(left)).toHaveLength(4));
    await ended();
    await waitFor(() => expect(texts(left)).toEqual(texts(right)));
  });
});
