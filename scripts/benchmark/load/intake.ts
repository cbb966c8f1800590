// intake: publishers of QoS 1 at full speed, and what an acknowledgement costs the broker.
// Path: load/main → [intake] → publisher. Touches: what that touches, /proc of the broker.

import { setTimeout as sleep } from "node:timers/promises";
import { cpuUs, rssBytes } from "../cost.ts";
import { BenchFailure } from "../failure.ts";
import type { Figures, FillJob, IntakeJob } from "../job.ts";
import { Turn } from "./connection.ts";
import { becomesWarm, eachOf } from "./live.ts";
import { Publisher } from "./publisher.ts";
import { reaches } from "./reaches.ts";
import { Samples } from "./samples.ts";

export async function runIntake(job: IntakeJob): Promise<Figures> {
  const intake = await Intake.connect(job);
  intake.start();
  await becomesWarm(job);
  const seen = intake.since();
  await sleep(job.seconds * 1_000);
  return seen();
}

export async function runFill(job: FillJob): Promise<Figures> {
  const { messages, publishers } = job;
  if (messages % publishers !== 0) throw new BenchFailure(`${messages} for ${publishers} each`);
  const intake = await Intake.connect(job, messages / publishers);
  const seen = intake.since();
  intake.start();
  await reaches(() => intake.done, messages, "messages were acknowledged");
  return seen();
}

class Intake {
  readonly #pid: number;
  readonly #publishers: Publisher[];
  readonly #latencyMs = new Samples();

  private constructor(job: IntakeJob | FillJob, messagesMax: number | undefined) {
    const turn = new Turn();
    this.#pid = job.pid;
    this.#publishers = Array.from({ length: job.publishers }, (_, number) => {
      return new Publisher({
        ...job,
        ...{ number, turn, qos: 1, retain: false },
        topics: [{ topic: `bench/in/${number}`, deliveries: 0 }],
        ...(messagesMax === undefined ? {} : { messagesMax }),
        onDone: (tookMs) => this.#latencyMs.add(tookMs),
      });
    });
  }

  static async connect(job: IntakeJob | FillJob, messagesMax?: number): Promise<Intake> {
    const intake = new Intake(job, messagesMax);
    await eachOf(intake.#publishers, (publisher) => publisher.connect());
    return intake;
  }

  start(): void {
    for (const publisher of this.#publishers) publisher.start();
  }

  get done(): number {
    return this.#publishers.reduce((sum, { done }) => sum + done, 0);
  }

  /** Begins to measure; what it returns tells what was seen up to its call. */
  since(): () => Figures {
    this.#latencyMs.clear();
    const before = { done: this.done, atMs: performance.now(), cpuUs: cpuUs(this.#pid) };
    const ownBefore = process.cpuUsage();
    return () => {
      const done = this.done - before.done;
      const tookMs = performance.now() - before.atMs;
      const usedUs = cpuUs(this.#pid) - before.cpuUs;
      const own = process.cpuUsage(ownBefore);
      if (done === 0) throw new BenchFailure("no message was acknowledged");
      return {
        cpuUsPerMessage: usedUs / done,
        messagesPerSecond: (done / tookMs) * 1_000,
        p50Ms: this.#latencyMs.quantile(0.5),
        p99Ms: this.#latencyMs.quantile(0.99),
        rssMib: rssBytes(this.#pid) / 2 ** 20,
        brokerBusyPercent: (usedUs / tookMs) * 0.1,
        loadBusyPercent: ((own.user + own.system) / tookMs) * 0.1,
      };
    };
  }
}
