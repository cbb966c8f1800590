// ingest: moves frames from the landing to the cluster's subscribers, commands to the landing.
// Path: landing Redis → [ingest] → bus. Touches: the landing Redis, the cluster Redis.

import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Redis } from "ioredis";
import { SluiceError } from "#contract/errors";
import { encodeMessage, type Message } from "#contract/message";
import type { GatewayStatus, IngestStatus } from "#contract/status";
import { parseCommandTopic } from "#contract/topics";
import { backoffMs, wait } from "#runtime/backoff";
import { steadyNowMs } from "#runtime/clock";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { createRedis } from "#runtime/redis";
import type { RedisSettings, Settings } from "#runtime/settings-schema";
import { Budget } from "./budget.ts";
import { loadCheckpoint, saveCheckpoint } from "./checkpoints.ts";
import { GatewayCounts, type IngestMetrics, ingestMetrics } from "./counts.ts";
import { bury, countDeadLetters } from "./dead-letters.ts";
import { Landing, type LandingEntry } from "./landing.ts";
import { claimPartitions, PARTITIONS, partitionOf, releasePartitions } from "./leases.ts";
import { type Presence, presenceMessage, presenceOf } from "./presence.ts";
import { checkRedis, type RedisFault } from "./redis-check.ts";
import { type Publish, Stream } from "./stream.ts";

const SWEEP_MS = 1_000;
const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 5_000;
/** How often what both Redis are set to is looked at. */
const CHECK_MS = 10_000;
/** How long what is on its way may take once the broker stops. */
const STOP_MS_MAX = 3_000;
/** How many gateways are looked after at a time. */
const TENDED_MAX = 64;
/** One delivery during which leases were renewed so often is stuck: another node shall take over. */
const RENEWALS_MAX = 60;

export interface IngestOptions {
  readonly landing: RedisSettings;
  readonly cluster: RedisSettings;
  readonly settings: Settings["ingest"];
  /** A new publisher into the cluster, see Stream. */
  readonly publisher: () => Publish;
  /** A moment for clients that cannot keep up; undefined: none needs it. */
  readonly hold: () => Promise<void> | undefined;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** A gateway whose partition this node owns. */
interface Owned {
  readonly stream: Stream;
  presence: Presence | undefined;
  /** The newest id that the landing gave out for it. */
  newestId: string;
}

/** What was read of the landing, and behind which cursors. */
interface Read {
  readonly entries: ReadonlyMap<string, readonly LandingEntry[]>;
  readonly cursors: ReadonlyMap<string, string>;
}

/**
 * One loop: claim partitions, find their gateways, read behind their cursors, deliver, save; the
 * next entries are read while those before are delivered, and gateways do not wait for each other
 * within a round. A fault of either Redis ends the round; the next one begins from the saved
 * checkpoints, because a Redis that came back may have forgotten what this process remembers.
 */
export class Ingest {
  readonly #options: IngestOptions;
  /** New with each process: the fencing token of its leases. */
  readonly #node = `${hostname()}-${randomUUID()}`;
  readonly #cluster: Redis;
  readonly #metrics: IngestMetrics;
  readonly #budget: Budget;
  readonly #stop = new AbortController();
  readonly #owned = new Map<string, Owned>();
  #running: Promise<void> | undefined;
  #partitions = new Set<number>();
  #landing: Landing | undefined;
  #ahead: Promise<Read> | undefined;
  #sweptAtMs = Number.NEGATIVE_INFINITY;
  #checkedAtMs = Number.NEGATIVE_INFINITY;
  /** When the leases run out, by this process's own clock, unless they are renewed. */
  #leasedUntilMs = Number.NEGATIVE_INFINITY;
  #faults: readonly RedisFault[] = [];
  #deadLetters = 0;
  #why: string | undefined = "connecting to the landing Redis";

  constructor(options: IngestOptions) {
    this.#options = options;
    this.#metrics = ingestMetrics(options.metrics);
    this.#budget = new Budget({
      gatewayBytesMax: options.settings.gateway_bytes_max,
      nowMs: () => performance.now(),
      switchedOff: (gateway) => this.#metrics.switchedOff({ gateway }),
      log: options.log,
    });
    this.#cluster = createRedis(options.cluster, "strict");
    this.#cluster.on("error", () => {
      // Each command says so too, to the loop that knows what to do.
    });
    this.#cluster.on("close", () => this.#owned.clear());
    this.#registerGauges();
  }

  /** Runs until stop(). */
  run(): Promise<void> {
    this.#running = this.#run();
    return this.#running;
  }

  /** Ends when what is on its way is saved, so that the next owner repeats nothing of it. */
  async stop(): Promise<void> {
    this.#stop.abort();
    const over = new AbortController();
    const ended = this.#running?.catch(() => {});
    await Promise.race([ended, wait(STOP_MS_MAX, over.signal)]);
    over.abort();
    await releasePartitions(this.#cluster, this.#node).catch(() => {});
    this.#landing?.close();
    this.#cluster.disconnect();
  }

  async #run(): Promise<void> {
    await this.#cluster.connect().catch(() => {});
    let attempt = 0;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#round();
        attempt = 0;
      } catch (fault) {
        if (!(fault instanceof SluiceError)) throw fault;
        this.#failed(fault.message);
        await wait(backoffMs(attempt++, RETRY_MS_LEAST, RETRY_MS_MOST), this.#stop.signal);
      }
    }
  }

  /** Takes a client's message to `to/<gateway>/…`; resolves when the landing has it. */
  async takeCommand(message: Message): Promise<void> {
    const command = parseCommandTopic(message.topic);
    if (!command) {
      throw new SluiceError("TOPIC_INVALID", `${message.topic} is not to/<gateway>/<topic>`);
    }
    if (!this.#landing) throw new SluiceError("CLOUD_UNREACHABLE", this.#why ?? "no landing");
    // No Local is about the cluster's own clients: the publisher's name means somebody else there.
    const { publisher: _, ...unnamed } = message;
    const record = encodeMessage({ ...unnamed, topic: command.topic });
    await this.#landing.command(command.gateway, record, this.#options.settings.commands_max);
  }

  /** Why frames are not taken in now; undefined when they are. */
  unavailable(): string | undefined {
    return this.#why;
  }

  /** What is wrong, though frames are taken in: what either Redis may lose, and why. */
  warnings(): readonly string[] {
    return this.#faults.map(({ why }) => why);
  }

  status(): IngestStatus {
    const gateways = [...this.#owned].map(([gateway, owned]) => this.#statusOf(gateway, owned));
    const { size: partitionsOwned } = this.#partitions;
    return { partitionsOwned, partitions: PARTITIONS, deadLetters: this.#deadLetters, gateways };
  }

  #statusOf(gateway: string, { stream, presence, newestId }: Owned): GatewayStatus {
    const { counts } = stream;
    return {
      gateway,
      state: presence?.state ?? "offline",
      why: this.#budget.offWhy(gateway) ?? presence?.why ?? "not heard yet",
      behindMs: behindMs(stream.cursor, newestId),
      ingestedMessages: counts.messages,
      repeatedMessages: counts.repeats,
      missingMessages: Object.fromEntries(counts.gaps),
      lostMessages: counts.lost,
      deadLetters: counts.deadLetters,
    };
  }

  async #round(): Promise<void> {
    this.#landing ??= await this.#connect();
    const landing = this.#landing;
    if (performance.now() - this.#sweptAtMs >= SWEEP_MS) await this.#sweep(landing);
    this.#setWhy(undefined);
    const ahead = this.#ahead;
    this.#ahead = undefined;
    const read = await (ahead ?? this.#read(landing, new Map()));
    if (read.entries.size === 0) return;
    this.#ahead = this.#read(landing, read.entries);
    // It is awaited by the next round, if there is one.
    this.#ahead.catch(() => {});
    await this.#renewing(landing, this.#takeAll(read));
  }

  /** Reads behind the cursors, or behind `taking`, which is on its way already. */
  async #read(
    landing: Landing,
    taking: ReadonlyMap<string, readonly LandingEntry[]>,
  ): Promise<Read> {
    const cursors = new Map<string, string>();
    for (const [gateway, { stream }] of this.#owned) {
      const cursor = taking.get(gateway)?.at(-1)?.id ?? stream.cursor;
      if (stream.isDue) cursors.set(gateway, cursor);
    }
    if (cursors.size > 0) return { entries: await landing.read(cursors), cursors };
    await wait(RETRY_MS_LEAST, this.#stop.signal);
    return { entries: new Map(), cursors };
  }

  /** Leases are renewed meanwhile, however long it takes. */
  async #renewing(landing: Landing, work: Promise<void>): Promise<void> {
    let isOver = false;
    const ending = work.finally(() => {
      isOver = true;
    });
    ending.catch(() => {});
    try {
      for (let renewal = 0; renewal < RENEWALS_MAX; renewal += 1) {
        await settledWithin(ending, this.#sweptAtMs + SWEEP_MS - performance.now());
        if (isOver) break;
        await this.#sweep(landing);
      }
    } finally {
      // What is on its way ends before anything begins anew.
      await ending;
    }
  }

  /** Each gateway's entries for itself; what one is in trouble with is no other's. */
  async #takeAll({ entries, cursors }: Read): Promise<void> {
    const taking = [...entries].map(([gateway, some]) =>
      this.#take(gateway, some, cursors.get(gateway)),
    );
    for (const outcome of await Promise.allSettled(taking)) {
      if (outcome.status === "rejected") throw outcome.reason;
    }
  }

  async #take(
    gateway: string,
    entries: readonly LandingEntry[],
    cursor: string | undefined,
  ): Promise<void> {
    const stream = this.#owned.get(gateway)?.stream;
    // Read for a stream that was replaced since, or that went back: it reads them again.
    if (!stream || stream.cursor !== cursor) return;
    const taken = await stream.take(entries);
    if (taken === "gone" && this.#owned.get(gateway)?.stream === stream) this.#drop(gateway);
  }

  async #connect(): Promise<Landing> {
    const landing = await Landing.connect(this.#options.landing);
    this.#owned.clear();
    this.#checkedAtMs = Number.NEGATIVE_INFINITY;
    return landing;
  }

  /** Renews leases, takes up new gateways, drops lost ones, and looks after each. */
  async #sweep(landing: Landing): Promise<void> {
    await this.#claim();
    const isOurs = (gateway: string) => this.#partitions.has(partitionOf(gateway));
    for (const gateway of this.#owned.keys()) if (!isOurs(gateway)) this.#drop(gateway);
    const gateways = (await landing.gateways()).filter(isOurs);
    for (let at = 0; at < gateways.length; at += TENDED_MAX) {
      const some = gateways.slice(at, at + TENDED_MAX);
      await Promise.all(some.map((gateway) => this.#tend(landing, gateway)));
    }
    if (performance.now() - this.#checkedAtMs >= CHECK_MS) await this.#check(landing);
  }

  async #claim(): Promise<void> {
    const nowMs = performance.now();
    this.#sweptAtMs = nowMs;
    const leaseMs = this.#options.settings.lease_seconds * 1_000;
    // Somebody else may have come further in between: what is remembered here is old.
    if (nowMs >= this.#leasedUntilMs) this.#owned.clear();
    this.#partitions = await claimPartitions(this.#cluster, this.#node, leaseMs);
    // By the time before it was asked for: in Redis the lease lasts longer than that.
    this.#leasedUntilMs = nowMs + leaseMs;
  }

  async #tend(landing: Landing, gateway: string): Promise<void> {
    if (!this.#owned.has(gateway)) await this.#takeUp(landing, gateway);
    await this.#lookAfter(landing, gateway);
    await this.#budget.look(landing, gateway);
  }

  async #takeUp(landing: Landing, gateway: string): Promise<void> {
    const checkpoint = await loadCheckpoint(this.#cluster, gateway);
    const isOurs = () =>
      this.#owned.get(gateway)?.stream === stream &&
      performance.now() < this.#leasedUntilMs &&
      !this.#stop.signal.aborted;
    const stream: Stream = new Stream({
      gateway,
      checkpoint,
      publisher: this.#options.publisher,
      hold: this.#options.hold,
      isOurs,
      save: async (reached) => {
        // The cluster Redis went away meanwhile, and may have forgotten what was delivered.
        if (this.#owned.get(gateway)?.stream !== stream) return false;
        return saveCheckpoint(this.#cluster, this.#node, gateway, reached);
      },
      bury: (letter) => bury(this.#cluster, letter, Date.now()),
      clock: steadyNowMs,
      log: this.#options.log,
      counts: new GatewayCounts(gateway, this.#metrics),
    });
    const newestId = await landing.newestId(gateway);
    stream.rewindBehind(newestId);
    this.#owned.set(gateway, { stream, presence: undefined, newestId });
    this.#options.log.info({ gateway, cursor: stream.cursor }, "takes in this gateway's frames");
  }

  #drop(gateway: string): void {
    this.#owned.delete(gateway);
    this.#budget.forget(gateway);
  }

  async #lookAfter(landing: Landing, gateway: string): Promise<void> {
    const owned = this.#owned.get(gateway);
    if (!owned) return;
    const { gateway_silent_seconds_max, tail_seconds_max, gateway_bytes_max } =
      this.#options.settings;
    const { silentMs, left, downCursor } = await landing.seen(gateway);
    const presence = presenceOf(silentMs, left, gateway_silent_seconds_max * 1_000);
    if (presence.state !== owned.presence?.state) {
      await this.#options.publisher()(presenceMessage(gateway, presence, Date.now()));
      owned.presence = presence;
    }
    owned.newestId = await landing.newestId(gateway);
    await landing.trim(gateway, {
      upToId: owned.stream.doneUpTo,
      tailMs: tail_seconds_max * 1_000,
      downCursor,
      bytesMax: gateway_bytes_max,
    });
  }

  /** Looks at what both Redis are set to: somebody may have mended it, or changed it. */
  async #check(landing: Landing): Promise<void> {
    this.#checkedAtMs = performance.now();
    const both = [landing.checked(), checkRedis("cluster Redis", this.#cluster)];
    const faults = (await Promise.all(both)).flat();
    const { log } = this.#options;
    for (const { level, why } of faultsOnlyIn(faults, this.#faults)) {
      log[level]({ why }, "a Redis is not set as it must be");
    }
    for (const { why } of faultsOnlyIn(this.#faults, faults)) {
      log.info({ why }, "a Redis is set as it must be, once more");
    }
    this.#faults = faults;
    this.#deadLetters = await countDeadLetters(this.#cluster);
  }

  #failed(why: string): void {
    this.#setWhy(why);
    this.#landing?.close();
    this.#landing = undefined;
    this.#ahead = undefined;
    this.#owned.clear();
    this.#sweptAtMs = Number.NEGATIVE_INFINITY;
  }

  #setWhy(why: string | undefined): void {
    if (why !== this.#why)
      this.#options.log.info({ why: why ?? "" }, why ? "ingest waits" : "ingest runs");
    this.#why = why;
  }

  #registerGauges(): void {
    const { metrics } = this.#options;
    metrics.gauge(
      "sluice_ingest_partitions_owned",
      "Partitions that this node owns.",
      () => this.#partitions.size,
    );
    metrics.gauges(
      "sluice_ingest_behind_seconds",
      "How far behind the landing's newest entry the cluster is.",
      () =>
        [...this.#owned].map(([gateway, { stream, newestId }]) => [
          { gateway },
          behindMs(stream.cursor, newestId) / 1_000,
        ]),
    );
    metrics.gauge(
      "sluice_ingest_dead_letters",
      "Dead letters that are kept, of all gateways.",
      () => this.#deadLetters,
    );
  }
}

/** How much older than the landing's newest entry what the cluster has is, by the landing's clock. */
function behindMs(cursor: string, newestId: string): number {
  const msOf = (id: string) => Number(id.split("-")[0]);
  return msOf(cursor) === 0 ? 0 : Math.max(0, msOf(newestId) - msOf(cursor));
}

function faultsOnlyIn(some: readonly RedisFault[], others: readonly RedisFault[]): RedisFault[] {
  return some.filter(({ why }) => !others.some((it) => it.why === why));
}

/** Resolves when the work has settled, or after `ms`: an abort for each batch would cost more. */
function settledWithin(work: Promise<void>, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, ms));
    const settled = () => {
      clearTimeout(timer);
      resolve();
    };
    work.then(settled, settled);
  });
}
