// test-broker: the broker's own MQTT part to test clients with; it can be ended, and made to hold back.
// Path: tests. Touches: loopback ports or a unix socket, a temporary folder.
//
// In front of it is a proxy, which sees packet identifiers and DUP, and can cut connections.

import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, createServer, type ListenOptions, type Server, type Socket } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { type IPublishPacket, type Packet, parser } from "mqtt-packet";
import { SluiceError } from "#contract/errors";
import type { Message } from "#contract/message";
import type { Custody, Taken, Taking } from "#contract/session";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { hashPassword } from "#runtime/passwords";
import { parseSettings } from "#runtime/settings";
import type { Settings } from "#runtime/settings-schema";
import { putUser } from "#runtime/users";
import { Mqtt } from "../../broker/mqtt/mqtt.ts";
import { Store } from "../../broker/store/store.ts";
import { temporaryFolder } from "./temporary-folder.ts";

/** A PUBLISH as a client sent it, or as the broker did of a will. */
export interface Received {
  readonly client: string | undefined;
  readonly topic: string;
  readonly text: string;
  readonly qos: number;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly packetId: number | undefined;
  readonly properties: IPublishPacket["properties"];
}

export interface TestBrokerOptions {
  readonly listen?: ListenOptions;
  readonly tls?: TlsOptions;
  /** Of the users, who alone are let in; without any everybody is. */
  readonly users?: Readonly<Record<string, string>>;
  readonly rights?: Settings["access"]["rights"];
  readonly limits?: Partial<Settings["limits"]>;
}

type Watched = IPublishPacket & { readonly client: string };

export class TestBroker {
  readonly #options: TestBrokerOptions;
  readonly #folder: string;
  readonly #received: Received[] = [];
  readonly #sockets = new Set<Socket>();
  /** What clients sent and the broker has not looked at yet. */
  #watched: Watched[] = [];
  #server: Server | undefined;
  #mqtt: Mqtt | undefined;
  #store: Store | undefined;
  #listen: ListenOptions;
  #held: (() => void)[] | undefined;
  #isFull = false;
  readonly acknowledged: { readonly client: string; readonly packet: Packet }[] = [];

  private constructor(options: TestBrokerOptions, folder: string) {
    this.#options = options;
    this.#folder = folder;
    this.#listen = options.listen ?? { host: "127.0.0.1", port: 0 };
  }

  /** A broker that runs until the test ends. */
  static async start(t: Pick<TestContext, "after">, options: TestBrokerOptions = {}) {
    const broker = new TestBroker(options, temporaryFolder(t));
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
    return this.#sockets.size;
  }

  /** At the address of before, with what it had before. */
  async start(): Promise<void> {
    const store = await Store.open(this.#folder);
    const sessions = await store.sessions();
    const defaults = parseSettings('role = "gateway"', "test");
    const mqtt = await Mqtt.start({
      settings: {
        listeners: defaults.listeners.map((it) => ({ ...it, address: "127.0.0.1:0" })),
        limits: { ...defaults.limits, ...this.#options.limits },
        access: {
          ...defaults.access,
          anonymous: this.#options.users ? "never" : "loopback",
          users_file: await this.#usersFile(),
          rights: this.#options.rights ?? [],
        },
      },
      brokerId: "gw-001",
      store: sessions,
      custody: this.#custody((taking) =>
        store.take(sessions.write(taking), undefined)?.then((): Taken => "taken"),
      ),
      unavailable: () => undefined,
      log: createLog({ level: "error", process: "test" }),
      metrics: new Metrics(),
    });
    this.#mqtt = mqtt;
    this.#store = store;
    await this.#open(Number(new URL(mqtt.addresses[0] ?? "").port));
  }

  /** Ends as a killed process does: nothing is said on any connection. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = once(server, "close");
    server.close();
    this.cut();
    await closed;
    this.release();
    await this.#mqtt?.close();
    await this.#store?.close();
    this.#watched = [];
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

  /** Refuses all that clients publish, as for a lane that is full, until it is told otherwise. */
  fill(isFull: boolean): void {
    this.#isFull = isFull;
  }

  /** `command`: the id of a command of the cloud that it comes by. */
  async publish(
    topic: string,
    payload: string | Uint8Array,
    { command, ...some }: Partial<Message> & { readonly command?: string } = {},
  ) {
    const bytes = Buffer.from(payload as string);
    const message = { topic, payload: bytes, qos: 1, retain: false, publisher: "" } as const;
    await this.#mqtt?.publish({ ...message, takenAtMs: Date.now(), ...some }, command);
  }

  async #usersFile(): Promise<string> {
    const file = join(this.#folder, "users");
    writeFileSync(file, "", { mode: 0o600 });
    for (const [name, password] of Object.entries(this.#options.users ?? {})) {
      putUser(file, name, await hashPassword(Buffer.from(password)));
    }
    return file;
  }

  #custody(take: (taking: Taking) => Promise<Taken> | undefined): Custody {
    return {
      take: (taking) => {
        if (this.#isFull && taking.message.publisher !== "") {
          throw new SluiceError("OUTBOX_FULL", "the lane is full");
        }
        this.#record(taking.message);
        const held = this.#held;
        if (!held) return take(taking);
        return new Promise<void>((resolve) => held.push(resolve)).then(
          () => take(taking) ?? "taken",
        );
      },
      queue: (message, queues) =>
        take({ message: { ...message, retain: false }, queues })?.then(() => {}),
    };
  }

  #record({ topic, payload, qos, retain, publisher }: Message): void {
    const text = Buffer.from(payload).toString("latin1");
    const index = this.#watched.findIndex(
      (it) => it.client === publisher && it.topic === topic && `${text}` === latin1(it.payload),
    );
    const [watched] = index < 0 ? [] : this.#watched.splice(index, 1);
    const { dup = false, messageId, properties } = watched ?? {};
    const client = watched?.client;
    this.#received.push({ client, topic, text, qos, retain, dup, packetId: messageId, properties });
  }

  async #open(port: number): Promise<void> {
    const handle = (socket: Socket) => this.#pass(socket, port);
    const { tls } = this.#options;
    const server = tls ? createTlsServer(tls, handle) : createServer(handle);
    server.listen(this.#listen);
    await once(server, "listening");
    const address = server.address();
    if (address && typeof address === "object") this.#listen.port = address.port;
    this.#server = server;
  }

  #pass(socket: Socket, port: number): void {
    const inner = connect(port, "127.0.0.1");
    const packets = parser({ protocolVersion: 5 });
    let client = "";
    packets.on("packet", (packet) => {
      if (packet.cmd === "connect") client = packet.clientId;
      else if (packet.cmd === "publish") this.#watched.push({ ...packet, client });
      else this.acknowledged.push({ client, packet });
    });
    packets.on("error", () => socket.destroy());
    this.#sockets.add(socket);
    socket.on("data", (chunk) => {
      packets.parse(Buffer.from(chunk));
      inner.write(chunk);
    });
    inner.on("data", (chunk) => socket.write(chunk));
    inner.on("error", () => {});
    socket.on("error", () => {});
    inner.on("close", () => socket.end());
    socket.on("close", () => {
      this.#sockets.delete(socket);
      inner.destroy();
    });
  }
}

function latin1(payload: string | Buffer): string {
  return Buffer.from(payload as string).toString("latin1");
}
