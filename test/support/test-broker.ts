// test-broker: a plain broker to test MQTT clients with; it can be ended, and made to hold back.
// Path: tests. Touches: a loopback port or a unix socket.

import { once } from "node:events";
import { createServer, type ListenOptions, type Server, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { Aedes } from "aedes";

/** A PUBLISH as a client sent it, or as the broker did of a will. */
export interface Received {
  readonly client: string | undefined;
  readonly topic: string;
  readonly text: string;
  readonly qos: number;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly packetId: number | undefined;
}

export interface TestBrokerOptions {
  readonly listen?: ListenOptions;
  readonly tls?: TlsOptions;
  readonly password?: string;
}

export class TestBroker {
  readonly #options: TestBrokerOptions;
  readonly #received: Received[] = [];
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #aedes: Aedes | undefined;
  #listen: ListenOptions;
  #held: (() => void)[] | undefined;

  private constructor(options: TestBrokerOptions) {
    this.#options = options;
    this.#listen = options.listen ?? { host: "127.0.0.1", port: 0 };
  }

  /** A broker that runs until the test ends. */
  static async start(t: Pick<TestContext, "after">, options: TestBrokerOptions = {}) {
    const broker = new TestBroker(options);
    await broker.start();
    t.after(() => broker.stop());
    return broker;
  }

  get port(): number {
    return this.#listen.port ?? 0;
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.port}`;
  }

  /** Everything since the first start, in order. */
  get received(): readonly Received[] {
    return this.#received;
  }

  /** The payloads that were published to `topic`. */
  texts(topic: string): string[] {
    return this.#received.filter((it) => it.topic === topic).map(({ text }) => text);
  }

  get clients(): number {
    return this.#aedes?.connectedClients ?? 0;
  }

  /** Begins empty, at the address of before. */
  async start(): Promise<void> {
    const aedes = await Aedes.createBroker({
      authenticate: (_client, _name, password, done) => {
        const good = !this.#options.password || String(password) === this.#options.password;
        done(null, good);
      },
      authorizePublish: (client, packet, done) => {
        this.#record(client?.id, packet);
        if (this.#held) this.#held.push(() => done(null));
        else done(null);
      },
    });
    const handle = (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      aedes.handle(socket);
    };
    const { tls } = this.#options;
    const server = tls ? createTlsServer(tls, handle) : createServer(handle);
    server.listen(this.#listen);
    await once(server, "listening");
    const address = server.address();
    if (address && typeof address === "object") this.#listen.port = address.port;
    this.#server = server;
    this.#aedes = aedes;
  }

  /** Ends as a killed process does: nothing is said on any connection. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    this.#held = undefined;
    const closed = once(server, "close");
    server.close();
    this.cut();
    await closed;
    await new Promise<void>((resolve) => this.#aedes?.close(resolve));
  }

  /** Breaks all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Acknowledges nothing until `release`. */
  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const acknowledge of held) acknowledge();
  }

  async publish(topic: string, payload: string | Uint8Array, some: { retain?: boolean } = {}) {
    const packet = { cmd: "publish", topic, payload: Buffer.from(payload as string) } as const;
    await new Promise<void>((resolve, reject) => {
      const publication = { ...packet, qos: 1, dup: false, retain: some.retain ?? false } as const;
      this.#aedes?.publish(publication, (fault) => (fault ? reject(fault) : resolve()));
    });
  }

  #record(client: string | undefined, packet: Parameters<Aedes["publish"]>[0]): void {
    const { topic, payload, qos, retain, dup, messageId } = packet;
    const text = Buffer.from(payload as Buffer).toString("latin1");
    this.#received.push({ client, topic, text, qos, retain, dup, packetId: messageId });
  }
}
