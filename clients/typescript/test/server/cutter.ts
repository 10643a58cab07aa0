/** A proxy that cuts connections: each after so many bytes from the server. */

import { connect, createServer, type Server, type Socket } from "node:net";

export class Cutter {
  /** Bytes from the server after which the next connections are cut, one each; then none is. */
  #cuts: number[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(port: number) {
    this.#server = createServer((client) => {
      const server = connect(port, "127.0.0.1");
      const both = [client, server];
      for (const socket of both) this.#sockets.add(socket);
      const end = (): void => both.forEach((socket) => socket.destroy());
      for (const socket of both) socket.on("error", end).on("close", end);
      let left = this.#cuts.shift() ?? Infinity;
      client.pipe(server);
      server.on("data", (data) => {
        const passed = data.subarray(0, Math.min(data.length, left));
        left -= passed.length;
        if (left > 0) client.write(passed);
        // What was passed arrives before the cut.
        else client.write(passed, () => client.resetAndDestroy());
      });
    });
  }

  /** Say after how many bytes the next connections are cut; those that are kept open are ended. */
  plan(...cuts: number[]): void {
    this.#cuts = cuts;
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  async close(): Promise<void> {
    this.plan();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
