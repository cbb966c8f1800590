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
import { askRedis, createRedis } from "#runtime/redis";
import type { RedisSettings, Settings } from "#runtime/settings-schema";
import { loadCheckpoint, saveCheckpoint } from "./checkpoints.ts";
import { Landing, type LandingEntry } from "./landing.ts";
import { claimPartitions, PARTITIONS, partitionOf, releasePartitions } from "./leases.ts";
import { type Presence, presenceMessage, presenceOf } from "./presence.ts";
import { Stream, type StreamCounters, streamCounters, type Taken } from "./stream.ts";

const SWEEP_MS = 1_000;
const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 5_000;
const DEAD_LETTERS = { key: "sluice:dead", countMax: 10_000 } as const;

export interface IngestOptions {
  readonly landing: RedisSettings;
  readonly cluster: RedisSettings;
  readonly settings: Settings["ingest"];
  readonly deliver: (message: Message) => Promise<void>;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** A gateway whose partition this node owns. */
interface Owned {
  readonly stream: Stream;
  presence: Presence | undefined;
}

/**
 * One loop: claim partitions, find their gateways, read behind their cursors, deliver, save. A fault
 * of either Redis ends the round; the next one begins from the saved checkpoints, because a Redis
 * that came back may have forgotten what this process remembers.
 */
export class Ingest {
  readonly #options: IngestOptions;
  /** New with each process: the fencing token of its leases. */
  readonly #node = `${hostname()}-${randomUUID()}`;
  readonly #cluster: Redis;
  readonly #count: StreamCounters;
  readonly #stop = new AbortController();
  readonly #owned = new Map<string, Owned>();
  #partitions = new Set<number>();
  #landing: Landing | undefined;
  #sweptAtMs = Number.NEGATIVE_INFINITY;
  #why: string | undefined = "connecting to the landing Redis";

  constructor(options: IngestOptions) {
    this.#options = options;
    this.#count = streamCounters(options.metrics);
    this.#cluster = createRedis(options.cluster, "strict");
    this.#cluster.on("error", () => {
      // Each command says so too, to the loop that knows what to do.
    });
    this.#cluster.on("close", () => this.#owned.clear());
    options.metrics.gauge(
      "sluice_ingest_partitions_owned",
      "Partitions that this node owns.",
      () => this.#partitions.size,
    );
  }

  /** Runs until stop(). */
  async run(): Promise<void> {
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

  async stop(): Promise<void> {
    this.#stop.abort();
    await releasePartitions(this.#cluster, this.#node).catch(() => {});
    this.#landing?.close();
    this.#cluster.disconnect();
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

  status(): IngestStatus {
    const gateways: GatewayStatus[] = [...this.#owned].map(([gateway, { stream, presence }]) => ({
      gateway,
      state: presence?.state ?? "offline",
      why: presence?.why ?? "not heard yet",
      ingestedMessages: stream.messages,
    }));
    return { partitionsOwned: this.#partitions.size, partitions: PARTITIONS, gateways };
  }

  async #round(): Promise<void> {
    this.#landing ??= await this.#connect();
    if (performance.now() - this.#sweptAtMs >= SWEEP_MS) await this.#sweep(this.#landing);
    this.#setWhy(undefined);
    const streams = new Map([...this.#owned].map(([name, { stream }]) => [name, stream]));
    const cursors = new Map([...streams].map(([name, { cursor }]) => [name, cursor]));
    if (cursors.size === 0) return wait(SWEEP_MS, this.#stop.signal);
    for (const entry of await this.#landing.read(cursors)) {
      // Leases are renewed between entries too, however long a batch takes.
      if (performance.now() - this.#sweptAtMs >= SWEEP_MS) await this.#sweep(this.#landing);
      // What was read of the others is read again too: no cursor has passed it yet.
      if ((await this.#take(entry, streams.get(entry.gateway))) === "again") return;
    }
  }

  /** An entry is for the stream that it was read for: a newer one begins at its own checkpoint. */
  async #take(entry: LandingEntry, stream: Stream | undefined): Promise<Taken> {
    const isOurs = stream !== undefined && this.#owned.get(entry.gateway)?.stream === stream;
    if (!isOurs || this.#stop.signal.aborted) return "gone";
    const taken = await stream.take(entry);
    if (taken === "gone") this.#owned.delete(entry.gateway);
    return taken;
  }

  async #connect(): Promise<Landing> {
    const landing = await Landing.connect(this.#options.landing);
    const policy = await landing.evictionPolicy();
    if (policy !== undefined && policy !== "noeviction") {
      this.#options.log.error({ policy }, "landing Redis: set maxmemory-policy noeviction");
    }
    this.#owned.clear();
    return landing;
  }

  /** Renews leases, takes up new gateways, drops lost ones, and looks after each. */
  async #sweep(landing: Landing): Promise<void> {
    this.#sweptAtMs = performance.now();
    const leaseMs = this.#options.settings.lease_seconds * 1_000;
    this.#partitions = await claimPartitions(this.#cluster, this.#node, leaseMs);
    const isOurs = (gateway: string) => this.#partitions.has(partitionOf(gateway));
    for (const gateway of this.#owned.keys()) if (!isOurs(gateway)) this.#owned.delete(gateway);
    for (const gateway of await landing.gateways()) {
      if (!isOurs(gateway)) continue;
      if (!this.#owned.has(gateway)) await this.#takeUp(landing, gateway);
      await this.#lookAfter(landing, gateway);
    }
  }

  async #takeUp(landing: Landing, gateway: string): Promise<void> {
    const checkpoint = await loadCheckpoint(this.#cluster, gateway);
    const stream: Stream = new Stream({
      gateway,
      checkpoint,
      deliver: this.#options.deliver,
      save: async (cursor, lane, position) => {
        // The cluster Redis went away meanwhile, and may have forgotten what was delivered.
        if (this.#owned.get(gateway)?.stream !== stream) return false;
        return saveCheckpoint(this.#cluster, this.#node, gateway, cursor, lane, position);
      },
      bury: (entry, reason) => this.#bury(entry, reason),
      clock: steadyNowMs,
      log: this.#options.log,
      count: this.#count,
    });
    stream.rewindBehind(await landing.newestId(gateway));
    this.#owned.set(gateway, { stream, presence: undefined });
    this.#options.log.info({ gateway, cursor: stream.cursor }, "takes in this gateway's frames");
  }

  async #lookAfter(landing: Landing, gateway: string): Promise<void> {
    const owned = this.#owned.get(gateway);
    if (!owned) return;
    const { gateway_silent_seconds_max, tail_seconds_max } = this.#options.settings;
    const { silentMs, left, downCursor } = await landing.seen(gateway);
    const presence = presenceOf(silentMs, left, gateway_silent_seconds_max * 1_000);
    if (presence.state !== owned.presence?.state) {
      await this.#options.deliver(presenceMessage(gateway, presence, Date.now()));
      owned.presence = presence;
    }
    await landing.trim(gateway, owned.stream.cursor, tail_seconds_max * 1_000, downCursor);
  }

  async #bury(entry: LandingEntry, reason: string): Promise<void> {
    const { gateway, lane, epoch, frame } = entry;
    const fields = { gateway, lane, epoch: String(epoch), reason, frame: Buffer.from(frame) };
    const { key, countMax } = DEAD_LETTERS;
    await askRedis("cluster Redis", () =>
      this.#cluster.xadd(key, "MAXLEN", "~", countMax, "*", ...Object.entries(fields).flat()),
    );
  }

  #failed(why: string): void {
    this.#setWhy(why);
    this.#landing?.close();
    this.#landing = undefined;
    this.#owned.clear();
    this.#sweptAtMs = Number.NEGATIVE_INFINITY;
  }

  #setWhy(why: string | undefined): void {
    if (why !== this.#why)
      this.#options.log.info({ why: why ?? "" }, why ? "ingest waits" : "ingest runs");
    this.#why = why;
  }
}
