// gate: a TCP port that leads to another one, and can be turned, held up and slammed.
// Path: cloud brokers, a replica → [gate] → landing Redis. Touches: loopback sockets.

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/**
 * open → held by hold(): nothing passes, as on a link that is slow beyond measure; → shut by shut():
 * all connections break with what they held, and no new ones are let in; both → open by open().
 */
export class Gate {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target: number;
  #state: "open" | "held" | "shut" = "open";

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async listen(port: number, target: number): Promise<Gate> {
    const gate = new Gate(target);
    gate.#server.listen(port, "127.0.0.1");
    await once(gate.#server, "listening");
    return gate;
  }

  /** Leads to `target` from now on, or to where it did; who went elsewhere is cut off. */
  open(target = this.#target): void {
    const isTurned = target !== this.#target;
    this.#target = target;
    this.#state = "open";
    if (isTurned) this.#cut();
    else for (const socket of this.#sockets) socket.resume();
  }

  hold(): void {
    this.#state = "held";
    for (const socket of this.#sockets) socket.pause();
  }

  shut(): void {
    this.#state = "shut";
    this.#cut();
  }

  async close(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#cut();
    await closed;
  }

  #cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(near: Socket): void {
    if (this.#state === "shut") {
      near.destroy();
      return;
    }
    const far = connect({ port: this.#target, host: "127.0.0.1" });
    this.#pass(near, far);
    this.#pass(far, near);
    if (this.#state === "held") for (const socket of [near, far]) socket.pause();
  }

  #pass(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on("data", (chunk) => {
      if (to.write(chunk)) return;
      from.pause();
      to.once("drain", () => this.#state !== "held" && from.resume());
    });
    from.on("error", () => {});
    from.on("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}
