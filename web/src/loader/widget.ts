/**
 * The line that a shop puts into its page:
 * <script src="https://chat.example/widget.js" data-key="lp_…" data-label="Ask us" async></script>
 *
 * A button in a shadow root, which no style of the page reaches, opens the chat in a frame of the chat server's own.
 * Styles are set property by property: the page's policy of contents may forbid style elements.
 */
(() => {
  const script = document.currentScript as HTMLScriptElement | null;
  const { key = "", label = "Chat", color = "#0f6a62", lang = "" } = script?.dataset ?? {};

  if (!script || !key.startsWith("lp_"))
    console.error("Legato: data-key takes a publishable key, lp_…; a secret key never belongs in a page");
  else {
    const origin = new URL(script.src).origin;
    const host = document.createElement("div");
    const button = document.createElement("button");
    let frame: HTMLIFrameElement | undefined;
    let ready = false;

    const style = (element: HTMLElement, rules: Partial<CSSStyleDeclaration>): void =>
      void Object.assign(element.style, rules);
    const show = (open: boolean): void => {
      if (open && !frame) {
        frame = document.createElement("iframe");
        frame.title = label;
        frame.allow = "clipboard-write";
        frame.src = `${origin}/widget?key=${encodeURIComponent(key)}${lang ? `&lang=${encodeURIComponent(lang)}` : ""}`;
        // A browser tells nobody why a frame stays empty.
        frame.onload = () =>
          setTimeout(
            () =>
              ready ||
              console.warn(
                "Legato: the chat did not open. Its key must be good, and list this page's origin: " +
                  `legato keys create --name NAME --publishable --origin ${location.origin}`,
              ),
            10_000,
          );
        style(frame, {
          position: "fixed",
          right: "16px",
          bottom: "84px",
          width: "min(400px, calc(100vw - 32px))",
          height: "min(640px, calc(100vh - 100px))",
          border: "0",
          borderRadius: "16px",
          boxShadow: "0 8px 40px rgb(0 0 0 / 0.25)",
          zIndex: "2147483646",
          colorScheme: "light dark",
        });
        // A phone's bars hide a part of 100vh; a browser that does not know dvh keeps the height above.
        frame.style.height = "min(640px, calc(100dvh - 100px))";
        root.append(frame);
      }
      if (frame) frame.style.display = open ? "block" : "none";
      button.setAttribute("aria-expanded", String(open));
      if (open) frame?.focus();
      else button.focus();
    };

    const root = host.attachShadow({ mode: "open" });
    button.textContent = label;
    button.setAttribute("aria-expanded", "false");
    style(button, {
      position: "fixed",
      right: "16px",
      bottom: "16px",
      padding: "0 24px",
      height: "52px",
      border: "0",
      borderRadius: "26px",
      background: color,
      color: "#fff",
      font: "600 16px system-ui, sans-serif",
      boxShadow: "0 4px 20px rgb(0 0 0 / 0.25)",
      cursor: "pointer",
      zIndex: "2147483647",
    });
    button.onclick = () => show(button.getAttribute("aria-expanded") !== "true");
    addEventListener("message", ({ origin: from, source, data }) => {
      if (from !== origin || source !== frame?.contentWindow) return;
      if (data === "legato:ready") ready = true;
      if (data === "legato:close") show(false);
    });
    root.append(button);
    document.body.append(host);
  }
})();
