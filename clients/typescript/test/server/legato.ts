/** A real Legato server with the scripted model: a folder and a port of its own, ended by its own process. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const START_MS = 45_000;
const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));

/** The Python that the server runs on: PYTHON_OF_LEGATO, or that of the checkout's environment. */
function python(): string {
  const found = process.env["PYTHON_OF_LEGATO"] ?? join(ROOT, ".venv", "bin", "python");
  if (!existsSync(found)) throw new Error(`no Python at ${found}: make the environment, or set PYTHON_OF_LEGATO`);
  return found;
}

export class LegatoServer {
  readonly folder = mkdtempSync(join(tmpdir(), "legato-client-"));
  readonly port: number;
  readonly #settings: Record<string, string>;
  readonly #command: readonly string[];
  #process: ChildProcess | null = null;
  #log = "";

  private constructor(port: number, settings: Record<string, string>, command: readonly string[]) {
    this.port = port;
    this.#settings = settings;
    this.#command = command;
    const script = `script = { journal = ${JSON.stringify(join(this.folder, "journal"))} }`;
    const models = ["scripted", "other"].map((name) => `[models.${name}]\nprovider = "scripted"\n${script}\n`);
    writeFileSync(join(this.folder, "legato.toml"), models.join("\n"));
  }

  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** How often the model was asked. */
  get calls(): number {
    const journal = join(this.folder, "journal");
    return existsSync(journal) ? readFileSync(journal, "utf8").split("\n").length - 1 : 0;
  }

  /**
   * Start a server.
   *
   * @param settings As LEGATO_… variables, without that prefix, in lower case.
   * @param command What Python runs before `serve`.
   */
  static async start(
    settings: Record<string, string> = {},
    command: readonly string[] = ["-m", "legato"],
  ): Promise<LegatoServer> {
    const server = new LegatoServer(await freePort(), settings, command);
    await server.launch();
    return server;
  }

  /** Start it again, on the same folder and port, and wait until it answers. */
  async launch(): Promise<void> {
    const inherited = Object.entries(process.env).filter(([name]) => !/^(LEGATO_|OPENAI_)|PROXY/i.test(name));
    const own = {
      model: "scripted",
      durability: "process",
      titles: "words",
      port: String(this.port),
      ...this.#settings,
    };
    const settings = Object.entries(own).map(([name, value]) => [`LEGATO_${name.toUpperCase()}`, value]);
    const started = spawn(python(), [...this.#command, "serve"], {
      cwd: this.folder,
      env: { ...Object.fromEntries([...inherited, ...settings]), LEGATO_DATA_DIR: join(this.folder, "data") },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = started;
    for (const stream of [started.stdout, started.stderr]) stream.on("data", (data) => (this.#log += String(data)));
    const until = Date.now() + START_MS;
    while (Date.now() < until && started.exitCode === null) {
      const answers = await fetch(`${this.address}/chat/stream/none`).then(
        () => true,
        () => false,
      );
      if (answers) return;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    throw new Error(`the server does not answer:\n${this.#log}`);
  }

  /** End it at once, as a crash does. */
  async kill(): Promise<void> {
    const running = this.#process;
    this.#process = null;
    if (running === null || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once("exit", resolve));
    running.kill("SIGKILL");
    await ended;
  }

  /** Lose all data, as a disk does; only while it does not run. */
  forget(): void {
    rmSync(join(this.folder, "data"), { recursive: true, force: true });
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
