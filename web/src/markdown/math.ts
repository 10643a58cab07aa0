/** The renderer of formulas, with its style sheet and fonts. Loaded when a text first seems to hold a formula. */
import "katex/dist/katex.min.css";

import { createMathPlugin } from "@streamdown/math";

export const plugin = createMathPlugin({ errorColor: "var(--danger)" });
