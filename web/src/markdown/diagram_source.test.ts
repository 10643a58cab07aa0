import { expect, test } from "vitest";

import { defused, withoutTags } from "./diagram_source.ts";

test.each([
  ['A["<img src=x onerror=y>"]', 'A["#lt;img src=x onerror=y>"]'],
  ["A[</b>]", "A[#lt;/b>]"],
  ["A <--> B", "A <--> B"],
  ["A <|-- B", "A <|-- B"],
  ["<<interface>> Shape", "<<interface>> Shape"],
  ["A[one<br>two<br/>three]", "A[one<br>two<br/>three]"],
])("%j becomes %j", (source, harmless) => {
  expect(withoutTags(source)).toBe(harmless);
});

test.each([
  ["<img src=x onerror=y>", "&lt;img src=x -onerror=y>"],
  ["<svg/onload=x>", "<svg/-onload=x>"],
  ['<g class="a"onclick=x>', '<g class="a"-onclick=x>'],
  ["</SCRIPT >", "&lt;/SCRIPT >"],
  ["<tspan>on = 1</tspan><image/>", "<tspan>on = 1</tspan>&lt;image/>"],
])("%j is written as %j", (html, harmless) => {
  expect(defused(html)).toBe(harmless);
});
