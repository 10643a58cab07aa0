import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

const older = (name: string): string => fileURLToPath(new URL(`../react-18/node_modules/${name}`, import.meta.url));

/** What is drawn is tested with both Reacts; the testing library is inlined so that it meets the same one. */
const drawn = (version: string, alias: { find: RegExp; replacement: string }[]) => ({
  extends: true as const,
  resolve: { alias },
  test: {
    name: `react ${version}`,
    environment: "jsdom",
    include: ["test/**/*.test.tsx"],
    setupFiles: ["test/setup.ts"],
    env: { REACT: version },
    server: { deps: { inline: [/@testing-library/] } },
  },
});

export default defineConfig({
  resolve: { conditions: ["legato-source"] },
  ssr: { resolve: { conditions: ["legato-source"] } },
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    globalSetup: "test/shared_server.ts",
    projects: [
      { extends: true, test: { name: "store", environment: "node", include: ["test/**/*.test.ts"] } },
      drawn("19", []),
      drawn("18", [
        // Its CommonJS build would load React past the aliases.
        {
          find: /^@testing-library\/react$/,
          replacement: fileURLToPath(
            new URL("../../node_modules/@testing-library/react/dist/@testing-library/react.esm.js", import.meta.url),
          ),
        },
        { find: /^react$/, replacement: older("react") },
        { find: /^react\/(.*)/, replacement: older("react/$1") },
        { find: /^react-dom$/, replacement: older("react-dom") },
        { find: /^react-dom\/(.*)/, replacement: older("react-dom/$1") },
      ]),
    ],
  },
});
