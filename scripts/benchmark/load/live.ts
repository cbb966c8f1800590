// live: publishers and subscribers at full speed, and what one delivery costs the broker.
// Path: load/main → [live] → publisher, connection. Touches: what those touch, /proc of the broker.

import { setTimeout as sleep } from "node:timers/promises";
import { cpuUs, rssBytes } from "../cost.ts";
import { BenchFailure } from "../failure.ts";
import type { Figures, LiveJob } from "../job.ts";
import { LoadConnection, Turn } from "./connection.ts";
import { Publisher } from "./publisher.ts";
import { Samples } from "./samples.ts";
import { castOf } from "./shapes.ts";

const DRAIN_MS_MAX = 5_000;
/** A broker that is compiled while it runs is warm by work, not by the clock. */
const WARM_CPU_SHARE = 0.8;
const WARM_TIMES_MAX = 3;
const CONNECTIONS_AT_ONCE = 50;

export async function runLive(job: LiveJob): Promise<Figures> {
  const load = await LiveLoad.connect(job);
  await load.warmUp();
  const figures = await load.measure();
  await load.drain();
  return figures;
}

class LiveLoad {
  readonly #job: LiveJob;
  readonly #publishers: Publisher[];
  readonly #latencyMs = new Samples();
  #delivered = 0;

  private constructor(job: LiveJob, publishers: Publisher[]) {
    this.#job = job;
    this.#publishers = publishers;
  }

  static async connect(job: LiveJob): Promise<LiveLoad> {
    const { port, qos } = job;
    const cast = castOf(job.shape);
    const turn = new Turn();
    const publishers = cast.publishers.map(
      (topics, number) => new Publisher({ ...job, number, topics, turn, retain: false }),
    );
    const load = new LiveLoad(job, publishers);
    const events = { delivered: load.#deliver.bind(load) };
    await eachOf([...cast.filters.entries()], async ([number, filter]) => {
      const subscriber = await LoadConnection.open(port, `bench-s${number}`, turn, events);
      await subscriber.subscribe(filter, qos);
    });
    await eachOf(publishers, (publisher) => publisher.connect());
    return load;
  }

  async warmUp(): Promise<void> {
    for (const publisher of this.#publishers) publisher.start();
    await becomesWarm(this.#job);
  }

  async measure(): Promise<Figures> {
    const { pid, seconds } = this.#job;
    this.#latencyMs.clear();
    const before = { delivered: this.#delivered, atMs: performance.now(), cpuUs: cpuUs(pid) };
    const ownBefore = process.cpuUsage();
    await sleep(seconds * 1_000);
    const delivered = this.#delivered - before.delivered;
    const tookMs = performance.now() - before.atMs;
    const usedUs = cpuUs(pid) - before.cpuUs;
    const own = process.cpuUsage(ownBefore);
    if (delivered === 0) throw new BenchFailure("no message was delivered");
    return {
      cpuUsPerDelivery: usedUs / delivered,
      deliveriesPerSecond: (delivered / tookMs) * 1_000,
      p50Ms: this.#latencyMs.quantile(0.5),
      p99Ms: this.#latencyMs.quantile(0.99),
      rssMib: rssBytes(pid) / 2 ** 20,
      brokerBusyPercent: (usedUs / tookMs) * 0.1,
      loadBusyPercent: ((own.user + own.system) / tookMs) * 0.1,
    };
  }

  /** What is under way must arrive: a broker that loses messages is not fast. */
  async drain(): Promise<void> {
    for (const publisher of this.#publishers) publisher.stop();
    const endAtMs = performance.now() + DRAIN_MS_MAX;
    const underWay = () => this.#publishers.reduce((sum, { underWay: count }) => sum + count, 0);
    while (underWay() > 0) {
      if (performance.now() > endAtMs) {
        throw new BenchFailure(`${underWay()} messages never arrived, or were not acknowledged`);
      }
      await sleep(10);
    }
  }

  #deliver(bytes: Buffer, payloadAt: number): void {
    const publisher = this.#publishers[bytes.readUInt16BE(payloadAt)];
    const slot = bytes.readUInt16BE(payloadAt + 2);
    if (!publisher) throw new BenchFailure("a message came that nobody sent");
    this.#delivered += 1;
    this.#latencyMs.add(performance.now() - publisher.sentAtMs(slot));
    publisher.settle(slot);
  }
}

/** Waits while the broker works, until it is as fast as it gets. */
export async function becomesWarm({
  pid,
  warmSeconds,
}: Pick<LiveJob, "pid" | "warmSeconds">): Promise<void> {
  const goalUs = cpuUs(pid) + warmSeconds * WARM_CPU_SHARE * 1e6;
  const endAtMs = performance.now() + warmSeconds * WARM_TIMES_MAX * 1_000;
  await sleep(warmSeconds * 1_000);
  while (cpuUs(pid) < goalUs && performance.now() < endAtMs) await sleep(20);
}

/** Does it for each, some at once. */
export async function eachOf<T>(all: readonly T[], does: (one: T) => Promise<void>): Promise<void> {
  const left = all.values();
  const work = async () => {
    for (const one of left) await does(one);
  };
  await Promise.all(Array.from({ length: CONNECTIONS_AT_ONCE }, work));
}
