/** The renderer of formulas, with its style sheet and fonts. Loaded when a text first seems to hold a formula. */
import "katex/dist/katex.min.css";

import { createMathPlugin } from "@streamdown/math";

const made = createMathPlugin({ errorColor: "var(--danger)" });
const [katex, options] = made.rehypePlugin as unknown as [unknown, object];

/** What LaTeX itself would not take is drawn all the same, or shown as it is: no word of it in the console. */
export const plugin = {
  ...made,
  rehypePlugin: [katex, { ...options, strict: "ignore", trust: false }] as typeof made.rehypePlugin,
};
