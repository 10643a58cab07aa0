import { defaultClientConditions, defineConfig } from "vite";

const server = process.env["LEGATO_SERVER"] ?? "http://127.0.0.1:3111";

export default defineConfig({
  // Inside this repository the packages' sources are used; elsewhere leave this line out.
  resolve: { conditions: ["legato-source", ...defaultClientConditions] },
  // The page and the server are one origin, as they are behind a real proxy.
  server: { proxy: { "^/(chat|conversations|messages|runs)($|[/?])": { target: server } } },
  build: { outDir: "../dist/example", emptyOutDir: true },
});
