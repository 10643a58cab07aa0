import { expect, test } from "vitest";

import { normaliseMath } from "./math_text.ts";

test.each([
  ["Euler: $e^{i\\pi} = -1$.", "Euler: $$e^{i\\pi} = -1$$."],
  ["\\(a+b\\) and \\(c\\)", "$$a+b$$ and $$c$$"],
  ["\\[\nx^2\n\\]", "\n$$\nx^2\n$$\n"],
  ["$x$ and $y$", "$$x$$ and $$y$$"],
])("%j becomes %j", (text, formula) => {
  expect(normaliseMath(text)).toBe(formula);
});

test.each([
  "costs $5 and $10",
  "$$x$$",
  "`$x$` in code",
  "```sh\necho $HOME and $PATH$\n```",
  "```sh\nunfinished $x$ fence",
  "\\$escaped\\$",
  "nothing at all",
])("%j stays as it is", (text) => {
  expect(normaliseMath(text)).toBe(text);
});

test("a formula beside code is found, the code is left alone", () => {
  expect(normaliseMath("$a$\n\n```\n$b$\n```\n\n$c$")).toBe("$$a$$\n\n```\n$b$\n```\n\n$$c$$");
});
