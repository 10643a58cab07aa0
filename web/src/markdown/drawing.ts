/** Asks the frame for drawings. The frame, and Mermaid with it, is loaded with the first one. */

export interface Drawing {
  readonly address: string;
  readonly width: number;
  readonly height: number;
}

interface Answer {
  readonly id?: number;
  readonly ready?: boolean;
  readonly svg?: string;
  readonly width?: number;
  readonly height?: number;
}

/** After this time a diagram counts as one that cannot be drawn. */
const PATIENCE_MS = 20_000;

let frame: Promise<Window> | null = null;
let count = 0;
const waiting = new Map<number, (answer: Answer) => void>();

function open(): Promise<Window> {
  return new Promise((resolve) => {
    const element = document.createElement("iframe");
    element.src = `/assets/diagram.html?${__DIAGRAM__}`;
    element.title = "Diagram";
    element.setAttribute("aria-hidden", "true");
    element.tabIndex = -1;
    // Not `hidden`: text in it has to have a size.
    element.className = "pointer-events-none fixed top-0 -left-[200vw] h-[600px] w-[900px] opacity-0";
    addEventListener("message", (event: MessageEvent<Answer>) => {
      if (event.source !== element.contentWindow || event.origin !== location.origin) return;
      const { id, ready } = event.data;
      if (ready && element.contentWindow) resolve(element.contentWindow);
      else if (id !== undefined) waiting.get(id)?.(event.data);
    });
    document.body.append(element);
  });
}

/** @throws Error where the text is no diagram. */
export async function draw(source: string, dark: boolean): Promise<Drawing> {
  const id = ++count;
  const answer = new Promise<Answer>((resolve) => {
    waiting.set(id, resolve);
    setTimeout(() => resolve({}), PATIENCE_MS);
  });
  frame ??= open();
  void frame.then((window) => window.postMessage({ id, source, dark }, location.origin));
  const { svg, width = 600, height = 300 } = await answer;
  waiting.delete(id);
  if (!svg) throw new Error("this is no diagram");
  return {
    address: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`,
    width: Math.round(width),
    height: Math.round(height),
  };
}
