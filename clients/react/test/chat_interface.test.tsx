import { readFileSync } from "node:fs";
import { join } from "node:path";

import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { describe, expect, it } from "vitest";

import { ChatInterface, type ChatInterfaceProps, ENGLISH } from "../src/index.ts";
import { newName, world } from "./store_world.ts";

const here = world();
const draw = (props: ChatInterfaceProps = {}) =>
  render(<ChatInterface clientOptions={{ baseUrl: here.server.baseUrl }} {...props} />);
const field = () => screen.getByRole<HTMLTextAreaElement>("textbox", { name: ENGLISH.message });
const type = (text: string) => fireEvent.change(field(), { target: { value: text } });
const ended = () => waitFor(() => expect(screen.queryByRole("button", { name: /^Stop/ })).toBeNull());

describe("ChatInterface", () => {
  it("sends with Enter, shows the message at once and the whole reply in the end", async () => {
    draw();
    type("Hello! script: tokens=5");
    fireEvent.keyDown(field(), { key: "Enter" });
    expect(field().value).toBe("");
    const log = screen.getByRole("log");
    expect(within(log).getByText("Hello! script: tokens=5")).toBeDefined();
    await ended();
    const reply = log.querySelector('[data-role="assistant"] .legato-message-text');
    expect(reply?.textContent?.length).toBeGreaterThan(20);
  });

  it("begins a new line with Shift+Enter, and sends nothing while a character is composed", () => {
    draw();
    type("Hello!");
    fireEvent.keyDown(field(), { key: "Enter", shiftKey: true });
    fireEvent.keyDown(field(), { key: "Enter", isComposing: true });
    expect(field().value).toBe("Hello!");
    expect(screen.getByText(ENGLISH.empty)).toBeDefined();
  });

  it("stops with its button, and with Escape, and leaves the focus in the field", async () => {
    draw();
    for (const stop of ["button", "Escape"]) {
      type("Talk. script: tokens=2000 delay_ms=10");
      fireEvent.click(screen.getByRole("button", { name: ENGLISH.send }));
      await waitFor(() => expect(screen.getByRole("log").textContent).toMatch(/\.3/));
      if (stop === "button") fireEvent.click(screen.getByRole("button", { name: ENGLISH.stop }));
      else fireEvent.keyDown(field(), { key: "Escape" });
      await ended();
      expect(document.activeElement).toBe(field());
    }
    expect(screen.getAllByText(ENGLISH.stopped)).toHaveLength(2);
  });

  it("says a reply to a screen reader once it is whole, and no part of it before", async () => {
    draw();
    const said: string[] = [];
    const status = screen.getByRole("status");
    const watch = new MutationObserver(() => said.push(status.textContent ?? ""));
    watch.observe(status, { childList: true, characterData: true, subtree: true });
    type("Talk. script: tokens=40 delay_ms=10");
    fireEvent.click(screen.getByRole("button", { name: ENGLISH.send }));
    await ended();
    const reply = document.querySelector('[data-role="assistant"] .legato-message-text')?.textContent;
    await waitFor(() => expect(said.at(-1)).toBe(reply));
    expect([...new Set(said)]).toEqual([ENGLISH.replying, reply]);
    expect(screen.getByRole("log").getAttribute("aria-live")).toBe("off");
    watch.disconnect();
  });

  it("asks a person about a tool call", async () => {
    draw();
    type('Do it. script: tool=delete_file:{"name":"a.txt"}@1 tokens=3');
    fireEvent.click(screen.getByRole("button", { name: ENGLISH.send }));
    fireEvent.click(await screen.findByRole("button", { name: ENGLISH.deny }));
    await ended();
    expect(document.querySelector(".legato-tool")?.getAttribute("data-status")).toBe("failed");
  });

  it("says what helps where a message cannot be sent, and keeps the message", async () => {
    draw({ clientOptions: { baseUrl: "http://127.0.0.1:9", retry: { maxFirstAttempts: 0 } } });
    type("Hello!");
    fireEvent.click(screen.getByRole("button", { name: ENGLISH.send }));
    const alert = await screen.findByRole("alert");
    expect(alert.textContent).toContain(ENGLISH.help.retry);
    expect(screen.getByText(ENGLISH.unsent)).toBeDefined();
    fireEvent.click(screen.getByRole("button", { name: ENGLISH.discard }));
    expect(screen.queryByText("Hello!")).toBeNull();
    expect(screen.queryByRole("alert")).toBeNull();
  });

  it("shows a conversation that is there, in other words too", async () => {
    const conversationId = newName();
    await here.server.chat("Hallo! script: tokens=2", conversationId);
    const { container } = draw({ conversationId, className: "mine", strings: { send: "Senden", you: "Sie" } });
    await screen.findByText("Hallo! script: tokens=2");
    expect(screen.getByRole("button", { name: "Senden" })).toBeDefined();
    expect(container.querySelector("section")?.className).toBe("legato-chat mine");
    expect(screen.getByText("Sie")).toBeDefined();
  });

  it("holds under a strict Content-Security-Policy: no style attribute, no style element, no HTML from text", async () => {
    const { container } = draw();
    type("<img src=x onerror=alert(1)> script: tokens=3");
    fireEvent.click(screen.getByRole("button", { name: ENGLISH.send }));
    await ended();
    expect(container.querySelectorAll("[style], style, script, img")).toHaveLength(0);
    const css = readFileSync(join(import.meta.dirname, "../src/style.css"), "utf8");
    expect(css).not.toMatch(/url\(|@import/);
  });
});
