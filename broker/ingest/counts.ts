// counts: what became of each gateway's messages, for the metrics and for the status.
// Path: stream → [counts] → metrics, status. Touches: nothing.

import type { Metrics } from "#runtime/metrics";

/** Reasons come from gateways, and each takes a place in the metrics; the rest count as "other". */
const REASONS_MAX = 8;
const OTHER_REASON = "other";

export type IngestMetrics = ReturnType<typeof ingestMetrics>;

export function ingestMetrics(metrics: Metrics) {
  const counter = (name: string, help: string) =>
    metrics.counter(`sluice_ingest_${name}_total`, help);
  return {
    messages: counter("messages", "Messages taken into the cluster."),
    repeats: counter("repeats", "Messages that the cluster had already."),
    gaps: counter("gaps", "Messages that gap records stand for."),
    expired: counter(
      "expired",
      "Messages that expired on the gateway, or before the cluster took them.",
    ),
    lost: counter("lost", "Messages that the landing does not have."),
    failures: counter("failures", "Tries to hand on a record or a frame that failed."),
    deadLetters: counter("dead_letters", "Records and frames that could not be handed on."),
    switchedOff: counter("users_switched_off", "Gateways' users switched off: over their budget."),
  };
}

/** Of one gateway, since this node took it up. */
export class GatewayCounts {
  readonly #gateway: string;
  readonly #metrics: IngestMetrics;
  readonly #gaps = new Map<string, number>();
  #messages = 0;
  #repeats = 0;
  #lost = 0;
  #deadLetters = 0;

  constructor(gateway: string, metrics: IngestMetrics) {
    this.#gateway = gateway;
    this.#metrics = metrics;
  }

  /** Messages that gap records stand for, by reason. */
  get gaps(): ReadonlyMap<string, number> {
    return this.#gaps;
  }

  get messages(): number {
    return this.#messages;
  }

  get repeats(): number {
    return this.#repeats;
  }

  get lost(): number {
    return this.#lost;
  }

  get deadLetters(): number {
    return this.#deadLetters;
  }

  addMessages(lane: string, count: number): void {
    this.#messages += count;
    this.#metrics.messages({ gateway: this.#gateway, lane }, count);
  }

  addRepeats(lane: string, count: number): void {
    this.#repeats += count;
    this.#metrics.repeats({ gateway: this.#gateway, lane }, count);
  }

  addExpired(lane: string, count: number): void {
    this.#metrics.expired({ gateway: this.#gateway, lane }, count);
  }

  addGap(lane: string, told: string, count: number): void {
    const isCounted = this.#gaps.has(told) || this.#gaps.size < REASONS_MAX;
    const reason = isCounted ? told : OTHER_REASON;
    this.#gaps.set(reason, (this.#gaps.get(reason) ?? 0) + count);
    this.#metrics.gaps({ gateway: this.#gateway, lane, reason }, count);
  }

  addLost(lane: string, count: number): void {
    this.#lost += count;
    this.#metrics.lost({ gateway: this.#gateway, lane }, count);
  }

  addFailure(): void {
    this.#metrics.failures({ gateway: this.#gateway });
  }

  addDeadLetter(): void {
    this.#deadLetters += 1;
    this.#metrics.deadLetters({ gateway: this.#gateway });
  }
}
