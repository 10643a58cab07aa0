/** A real server with the scripted model for a test: a folder of its own, a free port, an end by its pid. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const START_MS = 40_000;
const ROOT = resolve(import.meta.dirname, "../../..");
/** Tools that a test's bot has, beside the scripted model. */
const BOT = `
from legato import Legato

app = Legato()

@app.tool
def opening_hours(day: str) -> str:
    """Tells the opening hours of a day."""
    return f"{day}: 9 to 17"

@app.tool(needs_approval=True)
def delete_file(name: str) -> str:
    """Deletes a file."""
    return f"{name} is gone"
`;

/** A server that runs: what tests ask of it themselves. */
export class Reached {
  readonly baseUrl: string;

  constructor(baseUrl: string) {
    this.baseUrl = baseUrl;
  }

  async send(method: string, path: string, body?: unknown): Promise<any> {
    const json = { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    const response = await fetch(this.baseUrl + path, body === undefined ? { method } : json);
    return response.status === 204 ? null : await response.json();
  }

  /** Post a message as another device would, and wait for the whole reply. */
  async chat(message: string, conversationId: string, more: object = {}): Promise<void> {
    const response = await fetch(`${this.baseUrl}/chat/stream`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ message, conversationId, ...more }),
    });
    const text = await response.text();
    if (!text.includes("event: complete")) throw new Error(`the reply did not complete: ${text.slice(0, 500)}`);
  }
}

/** A server of a test's own, which it may end and start again. */
export class LegatoServer extends Reached {
  readonly #folder = mkdtempSync(join(tmpdir(), "legato-react-"));
  readonly #port: number;
  #process: ChildProcess | null = null;

  private constructor(port: number) {
    super(`http://127.0.0.1:${port}`);
    this.#port = port;
    writeFileSync(join(this.#folder, "legato.toml"), '[models.scripted]\nprovider = "scripted"\n');
    writeFileSync(join(this.#folder, "bot.py"), BOT);
  }

  static async start(): Promise<LegatoServer> {
    const server = new LegatoServer(await freePort());
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const log = openSync(join(this.#folder, "log"), "a");
    this.#process = spawn(python(), ["-m", "legato", "serve", "bot.py"], {
      cwd: this.#folder,
      env: { ...environment(), LEGATO_PORT: String(this.#port), LEGATO_DATA_DIR: join(this.#folder, "data") },
      stdio: ["ignore", log, log],
    });
    const until = Date.now() + START_MS;
    while (!(await this.#answers())) {
      if (this.#process.exitCode !== null || Date.now() > until) {
        throw new Error(`the server did not start:\n${readFileSync(join(this.#folder, "log"), "utf8")}`);
      }
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  /** End it as a power cut would; what it has written stays. */
  async kill(): Promise<void> {
    const ended = new Promise((done) => this.#process?.once("exit", done));
    this.#process?.kill("SIGKILL");
    await ended;
  }

  async remove(): Promise<void> {
    if (this.#process?.exitCode === null && this.#process.signalCode === null) await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #answers(): Promise<boolean> {
    try {
      return (await fetch(`${this.baseUrl}/models`)).ok;
    } catch {
      return false;
    }
  }
}

/** The Python that the server runs on: PYTHON_OF_LEGATO, or that of the checkout's environment. */
function python(): string {
  const found = process.env["PYTHON_OF_LEGATO"] ?? join(ROOT, ".venv/bin/python");
  if (!existsSync(found)) throw new Error(`no Python at ${found}: make the environment, or set PYTHON_OF_LEGATO`);
  return found;
}

function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(LEGATO_|OPENAI_)|PROXY/i.test(name));
  return {
    ...Object.fromEntries(kept),
    LEGATO_MODEL: "scripted",
    LEGATO_DURABILITY: "process",
    LEGATO_TITLES: "words",
    LEGATO_RATE_LIMIT: "off",
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  return port;
}
