import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defaultClientConditions, defineConfig, type Plugin } from "vite";

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
// Its name has no hash: its address changes with what is in it.
const diagram = createHash("sha256");
for (const file of [
  "assets/diagram.html",
  "src/markdown/diagram_frame.ts",
  "src/markdown/diagram_source.ts",
  "package.json",
])
  diagram.update(readFileSync(at(file)));

const server = process.env["LEGATO_SERVER"] ?? "http://127.0.0.1:3111";
const routes =
  "^/(chat|conversations|messages|runs|search|models|me|sign-in|sign-out|admin/.+|widget/visitors)($|[/?])";

/** KaTeX names its fonts in three formats; every browser that this page runs in takes the first. */
const oneFontFormat: Plugin = {
  name: "one-font-format",
  enforce: "pre",
  transform(code, id) {
    if (!id.includes("katex.min.css")) return null;
    return code.replace(/,url\([^)]*\.(?:woff|ttf)\) ?format\("[^"]*"\)/g, "");
  },
};

export default defineConfig({
  plugins: [react(), tailwindcss(), oneFontFormat],
  // The workspaces' own sources: a build needs no build of the clients before it.
  resolve: {
    // Its browser build parses with the document, whose policy then complains about every style attribute.
    alias: {
      "hast-util-from-html-isomorphic": createRequire(import.meta.url).resolve("hast-util-from-html-isomorphic"),
    },
    conditions: ["legato-source", ...defaultClientConditions],
    dedupe: ["react", "react-dom"],
  },
  build: {
    outDir: at("../src/legato/_web"),
    emptyOutDir: true,
    target: "es2023",
    // Nothing is inlined as data: addresses, so that the policy of contents need not allow them.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1000,
    rolldownOptions: {
      input: { index: at("index.html"), widget: at("src/loader/widget.ts"), diagram: at("assets/diagram.html") },
      output: {
        entryFileNames: (chunk) => (chunk.name === "widget" ? "widget.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  define: { __DIAGRAM__: JSON.stringify(diagram.digest("hex").slice(0, 12)) },
  server: { proxy: { [routes]: { target: server } } },
  test: { environment: "jsdom", include: ["src/**/*.test.ts", "src/**/*.test.tsx"] },
} as Parameters<typeof defineConfig>[0]);
