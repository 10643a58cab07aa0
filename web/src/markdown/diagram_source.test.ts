import { expect, test } from "vitest";

import { withoutTags } from "./diagram_source.ts";

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
