/**
 * Draws diagrams in a frame of its own: Mermaid needs inline styles, which the page's policy does not allow.
 *
 * Takes `{id, source, dark}` from the page that holds it and answers `{id, svg, width, height}` or `{id, failed: true}`.
 */
import mermaid from "mermaid";

import { defused, withoutTags } from "./diagram_source.ts";

// Mermaid undoes entities and writes the result as HTML here and there: what is written so holds nothing to run or fetch.
const html = Object.getOwnPropertyDescriptor(Element.prototype, "innerHTML");
if (html?.set) {
  const write = html.set;
  Object.defineProperty(Element.prototype, "innerHTML", {
    ...html,
    set(this: Element, text: unknown) {
      write.call(this, defused(String(text)));
    },
  });
}
const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (this: Element, name: string, value: string): void {
  if (!/^on/i.test(name)) setAttribute.call(this, name, value);
};
// A node that is a picture is none: nothing is fetched.
Object.defineProperty(HTMLImageElement.prototype, "src", { set: () => undefined });

interface Question {
  readonly id: number;
  readonly source: string;
  readonly dark: boolean;
}

async function draw({ id, source, dark }: Question): Promise<object> {
  try {
    mermaid.initialize({
      startOnLoad: false,
      securityLevel: "strict",
      suppressErrorRendering: true,
      // Words as words: no HTML inside a diagram.
      htmlLabels: false,
      flowchart: { htmlLabels: false },
      secure: [
        "secure",
        "securityLevel",
        "startOnLoad",
        "maxTextSize",
        "maxEdges",
        "htmlLabels",
        "flowchart",
        "fontFamily",
        "themeCSS",
      ],
      theme: dark ? "dark" : "neutral",
      fontFamily: "system-ui, sans-serif",
    });
    const { svg } = await mermaid.render(`diagram${id}`, withoutTags(source));
    const root = new DOMParser().parseFromString(svg, "text/html").querySelector("svg");
    if (!root) return { id, failed: true };
    const [, , width = 600, height = 300] = (root.getAttribute("viewBox") ?? "").split(/[\s,]+/).map(Number);
    // As an image it has no room to fill: it has a size.
    root.setAttribute("width", String(width));
    root.setAttribute("height", String(height));
    root.removeAttribute("style");
    for (const element of root.querySelectorAll("*"))
      for (const { name, value } of [...element.attributes])
        if (/^on/i.test(name) || (/(^|:)(href|src)$/i.test(name) && !/^(#|data:image\/)/i.test(value)))
          element.removeAttribute(name);
    return { id, svg: new XMLSerializer().serializeToString(root), width, height };
  } catch {
    return { id, failed: true };
  }
}

// Mermaid draws in one place: one diagram after the other.
let last: Promise<unknown> = Promise.resolve();

addEventListener("message", (event: MessageEvent<Question>) => {
  if (event.source !== parent || event.origin !== location.origin) return;
  const question = event.data;
  last = last.then(async () => parent.postMessage(await draw(question), location.origin));
});

parent.postMessage({ ready: true }, location.origin);
