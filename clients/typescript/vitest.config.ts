import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Real servers are started on a machine that may be busy.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Two at a time: each file may hold a server of its own.
    maxWorkers: 2,
  },
});
