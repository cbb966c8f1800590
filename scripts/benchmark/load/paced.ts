// paced: numbered messages at an even pace, which come again until they are acknowledged.
// Path: load/main → [paced] → connection. Touches: what that touches, stdout.

import { setTimeout as sleep } from "node:timers/promises";
import { BenchFailure } from "../failure.ts";
import { type Figures, type PacedJob, RUNNING } from "../job.ts";
import { LoadConnection, Turn } from "./connection.ts";
import { type MessageTemplate, messageTemplate } from "./packets.ts";
import { reaches } from "./reaches.ts";
import { Samples } from "./samples.ts";

const TOPIC = "bench/in/paced";
const TICK_MS = 1;
const RECONNECT_MS = 100;
const PACKET_IDS = 65_535;

export async function runPaced(job: PacedJob): Promise<Figures> {
  const paced = new Paced(job);
  await paced.connect();
  process.stdout.write(`${RUNNING}\n`);
  const timer = setInterval(() => paced.sendDue(), TICK_MS);
  await reaches(() => paced.acknowledged, job.messages, "messages were acknowledged");
  clearInterval(timer);
  return { p50Ms: paced.latencyMs.quantile(0.5), p99Ms: paced.latencyMs.quantile(0.99) };
}

class Paced {
  readonly latencyMs = new Samples();
  acknowledged = 0;
  readonly #job: PacedJob;
  readonly #template: MessageTemplate;
  readonly #turn = new Turn();
  /** Numbers of what is not acknowledged, in their order. */
  readonly #open = new Set<number>();
  #startMs = 0;
  #sent = 0;
  #connection: LoadConnection | undefined;

  constructor(job: PacedJob) {
    this.#job = job;
    const { payloadBytes } = job;
    this.#template = messageTemplate({ topic: TOPIC, qos: 1, retain: false, payloadBytes });
  }

  async connect(): Promise<void> {
    this.#connection = await LoadConnection.open(this.#job.port, "bench-paced", this.#turn, {
      acknowledged: (packetId) => this.#settle(packetId),
      lost: () => void this.#reconnect(),
    });
    this.#startMs ||= performance.now();
    this.#send([...this.#open]);
  }

  /** A message is due at its time, also when those before it are late. */
  sendDue(): void {
    const { messages, messagesPerSecond } = this.#job;
    const passed = ((performance.now() - this.#startMs) / 1_000) * messagesPerSecond;
    const due = Math.min(messages, Math.floor(passed));
    const numbers = Array.from({ length: due - this.#sent }, (_, index) => this.#sent + index);
    this.#sent = due;
    for (const number of numbers) this.#open.add(number);
    if (this.#open.size >= PACKET_IDS) throw new BenchFailure("no packet id is left");
    this.#send(numbers);
  }

  #send(numbers: readonly number[]): void {
    if (numbers.length === 0) return;
    const { bytes, packetIdAt, payloadAt } = this.#template;
    const all = Buffer.allocUnsafe(bytes.length * numbers.length);
    let at = 0;
    for (const number of numbers) {
      bytes.copy(all, at);
      all.writeUInt16BE((number % PACKET_IDS) + 1, at + packetIdAt);
      all.writeUInt32BE(number, at + payloadAt);
      at += bytes.length;
    }
    this.#connection?.send(all);
  }

  /** They are acknowledged in their order [MQTT-4.6.0-2]. */
  #settle(packetId: number): void {
    const [number] = this.#open;
    if (number === undefined || (number % PACKET_IDS) + 1 !== packetId) {
      throw new BenchFailure(`an acknowledgement for ${packetId} is out of its order`);
    }
    this.#open.delete(number);
    this.acknowledged += 1;
    const dueAtMs = this.#startMs + ((number + 1) / this.#job.messagesPerSecond) * 1_000;
    this.latencyMs.add(performance.now() - dueAtMs);
  }

  async #reconnect(): Promise<void> {
    this.#connection = undefined;
    while (!this.#connection) {
      await sleep(RECONNECT_MS);
      // Nobody listens yet: it is tried until the whole load takes too long.
      await this.connect().catch(() => {});
    }
  }
}
