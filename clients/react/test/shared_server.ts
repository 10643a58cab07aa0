/** One server for all files of tests, of all projects, but for those that end theirs. */

import type { TestProject } from "vitest/node";

import { LegatoServer } from "./legato_server.ts";

declare module "vitest" {
  interface ProvidedContext {
    baseUrl: string;
  }
}

// Each project loads this module anew, in one process.
const shared = globalThis as { legatoOfTests?: Promise<LegatoServer> };

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  shared.legatoOfTests ??= LegatoServer.start();
  const server = await shared.legatoOfTests;
  project.provide("baseUrl", server.baseUrl);
  return () => server.remove();
}
