/** What every test of something drawn begins and ends with: strict mode, and nothing on the console. */

import { cleanup, configure } from "@testing-library/react";
import { afterEach, beforeEach, expect, vi } from "vitest";

configure({ reactStrictMode: true, asyncUtilTimeout: 20_000 });

const said: unknown[][] = [];
beforeEach(() => {
  said.length = 0;
  for (const level of ["error", "warn"] as const) vi.spyOn(console, level).mockImplementation((...words) => said.push(words));
});
afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
  expect(said).toEqual([]);
});
