// publisher: sends prepared messages, so many at a time, and knows which of them are done.
// Path: jobs → [publisher] → connection. Touches: what connection touches.

import { LoadConnection, type Turn } from "./connection.ts";
import { type MessageTemplate, messageTemplate } from "./packets.ts";

export interface PublisherOptions {
  readonly number: number;
  readonly port: number;
  readonly turn: Turn;
  readonly qos: 0 | 1;
  readonly retain: boolean;
  readonly payloadBytes: number;
  readonly window: number;
  /** It publishes to each in its turn, and so many subscribers have to get it. */
  readonly topics: readonly { readonly topic: string; readonly deliveries: number }[];
  /** Ends by itself after that many; undefined: goes on until it is stopped. */
  readonly messagesMax?: number;
  /** Told of each message that is done, and how long it took. */
  readonly onDone?: (tookMs: number) => void;
}

/**
 * A closed loop: a message holds one of `window` slots from when it is sent until it has been
 * acknowledged (QoS 1) and delivered to everybody. The slot stands in its payload, and is its
 * packet id but for one, which is never 0 [MQTT-2.3.1-1].
 */
export class Publisher {
  /** Messages that are done. */
  done = 0;
  readonly #options: PublisherOptions;
  readonly #templates: readonly MessageTemplate[];
  /** What each slot's message still waits for. */
  readonly #missing: Int32Array;
  readonly #sentAtMs: Float64Array;
  readonly #free: Int32Array;
  #freeCount: number;
  #sent = 0;
  #isWaiting = false;
  #isStopped = false;
  #connection: LoadConnection | undefined;
  readonly #fill = (): void => this.#sendAll();

  constructor(options: PublisherOptions) {
    const { window, topics } = options;
    this.#options = options;
    this.#templates = topics.map(({ topic }) => messageTemplate({ ...options, topic }));
    this.#missing = new Int32Array(window);
    this.#sentAtMs = new Float64Array(window);
    this.#free = Int32Array.from({ length: window }, (_, slot) => slot);
    this.#freeCount = window;
  }

  async connect(): Promise<void> {
    const { port, number, turn } = this.#options;
    this.#connection = await LoadConnection.open(port, `bench-p${number}`, turn, {
      acknowledged: (packetId) => this.settle(packetId - 1),
    });
  }

  /** Publishes from now on. */
  start(): void {
    this.#wake();
  }

  /** Publishes no more; what is under way still becomes done. */
  stop(): void {
    this.#isStopped = true;
  }

  close(): void {
    this.#connection?.close();
  }

  get underWay(): number {
    return this.#options.window - this.#freeCount;
  }

  /** When the message in the slot was sent, in ms of performance.now(). */
  sentAtMs(slot: number): number {
    return this.#sentAtMs[slot] ?? 0;
  }

  /** One of those that the slot's message waits for has come. */
  settle(slot: number): void {
    const missing = (this.#missing[slot] ?? 0) - 1;
    this.#missing[slot] = missing;
    if (missing > 0) return;
    if (missing < 0) throw new Error(`slot ${slot} was settled once too often`);
    this.#free[this.#freeCount++] = slot;
    this.done += 1;
    this.#options.onDone?.(performance.now() - this.sentAtMs(slot));
    this.#wake();
  }

  #wake(): void {
    if (this.#isWaiting || this.#isStopped) return;
    this.#isWaiting = true;
    this.#options.turn.add(this.#fill);
  }

  /** Fills the window, in one write. */
  #sendAll(): void {
    this.#isWaiting = false;
    const { messagesMax = Number.POSITIVE_INFINITY } = this.#options;
    const count = Math.min(this.#freeCount, messagesMax - this.#sent);
    if (this.#isStopped || count === 0) return;
    const chosen = Array.from({ length: count }, () => this.#sent++ % this.#templates.length);
    const length = chosen.reduce((sum, index) => sum + this.#bytesOf(index), 0);
    const bytes = Buffer.allocUnsafe(length);
    const nowMs = performance.now();
    let at = 0;
    for (const index of chosen) at = this.#write(bytes, at, index, nowMs);
    this.#connection?.send(bytes);
  }

  #bytesOf(index: number): number {
    return this.#templates[index]?.bytes.length ?? 0;
  }

  #write(bytes: Buffer, at: number, index: number, nowMs: number): number {
    const template = this.#templates[index];
    const topic = this.#options.topics[index];
    const slot = this.#free[--this.#freeCount];
    if (!template || !topic || slot === undefined) throw new Error("a slot too few");
    template.bytes.copy(bytes, at);
    if (this.#options.qos > 0) bytes.writeUInt16BE(slot + 1, at + template.packetIdAt);
    bytes.writeUInt16BE(this.#options.number, at + template.payloadAt);
    bytes.writeUInt16BE(slot, at + template.payloadAt + 2);
    this.#missing[slot] = topic.deliveries + this.#options.qos;
    this.#sentAtMs[slot] = nowMs;
    return at + template.bytes.length;
  }
}
