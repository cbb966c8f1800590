// bus: how what one broker says reaches every broker of the cluster, in one order for all.
// Path: mqtt → [bus] → cluster Redis → the other brokers. Touches: the cluster Redis.

import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { filterMatches } from "#contract/topics";
import type { Metrics } from "#runtime/metrics";
import { BUS_KEY, type BusPacket, idOf } from "./bus-entry.ts";
import { BusPublisher, type Done } from "./bus-publisher.ts";
import { BusReader } from "./bus-reader.ts";
import { BUS_LIMITS, BusWindow } from "./bus-window.ts";

const TICK_MS = 1_000;
/** A Redis that owes an answer for so long is not there any more; XREAD answers sooner. */
const ANSWER_MS_MAX = 10_000;

type Listener = (packet: BusPacket, done: () => void) => void;

interface Listening {
  readonly topic: string;
  /** What stands in front of the filter's first wildcard: most packets need no closer look. */
  readonly start: string;
  readonly listener: Listener;
}

export interface BusOptions {
  /** Both `strict`, and nobody else's; the reader waits in XREAD. */
  readonly publisher: Redis;
  readonly reader: Redis;
  /** Hears of what is no broker's packet, with the reason. */
  readonly foreign: (why: unknown) => void;
  /** Packets were missed, though the connection held: begin() must come next. */
  readonly lost: (why: string) => void;
  /** Redis answers nothing, and no connection ends: they must be opened anew. */
  readonly silent: () => void;
  readonly metrics: Metrics;
}

/**
 * A Redis stream with the surface of an mqemitter. All brokers append to it and read it, their own
 * packets included, each behind a cursor of its own: a connection that breaks and comes back misses
 * nothing, and repeats nothing, as long as the stream holds what came meanwhile.
 */
export class Bus {
  readonly #options: BusOptions;
  readonly #publisher: BusPublisher;
  readonly #reader: BusReader;
  readonly #window = new BusWindow();
  readonly #listeners: Listening[] = [];
  readonly #begun = Promise.withResolvers<void>();
  readonly #ticking: NodeJS.Timeout;
  #following: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: BusOptions) {
    this.#options = options;
    const { metrics, foreign, lost } = options;
    const count = busCounters(metrics);
    this.#publisher = new BusPublisher({
      redis: options.publisher,
      writer: randomUUID(),
      cursor: () => this.#reader.cursor,
      onRewritten: () => lost("the cluster Redis has another stream"),
    });
    this.#reader = new BusReader({
      redis: options.reader,
      heard: (packet) => {
        count.packets.add();
        this.#hear(packet);
      },
      passed: (place, bytes) => {
        count.bytes.add(bytes);
        this.#window.add(place, bytes, performance.now());
      },
      repeated: () => count.repeats.add(),
      foreign,
    });
    this.#registerGauges(metrics);
    this.#ticking = setInterval(() => this.#tick(performance.now()), TICK_MS).unref();
  }

  /** `done` runs when nothing that comes from now on can be missed. */
  on(topic: string, listener: Listener, done?: () => void): this {
    this.#listeners.push({ topic, start: topic.split(/[+#]/, 1)[0] ?? "", listener });
    if (done) void this.#begun.promise.then(done);
    return this;
  }

  removeListener(topic: string, listener: Listener, done?: () => void): void {
    const at = this.#listeners.findIndex((it) => it.topic === topic && it.listener === listener);
    if (at >= 0) this.#listeners.splice(at, 1);
    if (done) setImmediate(done);
  }

  emit(packet: BusPacket, done: Done = () => {}): void {
    if (this.#isClosed) done(new Error("the bus is closed"));
    else this.#publisher.emit(packet, done);
  }

  /** Stops listening; `done` runs when all that was emitted is in the stream, if Redis is there. */
  close(done: () => void): void {
    this.#isClosed = true;
    clearInterval(this.#ticking);
    this.#reader.stop();
    void this.#publisher.settled().then(done);
  }

  /** The connections are there: listens from here on, whatever came before. */
  async begin(): Promise<void> {
    this.#reader.stop();
    await this.#following;
    this.#window.clear();
    await this.#reader.passOver();
    this.#goOn();
    this.#begun.resolve();
  }

  /** The connections are there again. False: packets were missed, and begin() must come next. */
  async resume(): Promise<boolean> {
    // A reader whose own connection held is still at it.
    if (!this.#following && !(await this.#reader.catchUp())) return false;
    this.#goOn();
    return true;
  }

  #goOn(): void {
    this.#publisher.resume();
    if (this.#isClosed) return;
    this.#following ??= this.#reader.follow().then((ended) => {
      this.#following = undefined;
      if (ended === "hole") this.#options.lost("the bus has lost what this broker had not read");
    });
  }

  #hear(packet: BusPacket): void {
    for (const { topic, start, listener } of this.#listeners) {
      const isWanted =
        topic === "#" || (packet.topic.startsWith(start) && filterMatches(topic, packet.topic));
      if (isWanted) listener(packet, ignored);
    }
  }

  #tick(nowMs: number): void {
    this.#trim(nowMs);
    for (const { askedAtMs = nowMs } of [this.#publisher, this.#reader]) {
      if (nowMs - askedAtMs > ANSWER_MS_MAX) this.#options.silent();
    }
  }

  #trim(nowMs: number): void {
    const first = this.#window.cut(nowMs);
    if (!first) return;
    // Every broker does the same: what hinders one of them does not hinder the next.
    this.#options.publisher.xtrim(BUS_KEY, "MINID", idOf(first)).catch(() => {});
  }

  /** Entries that this broker has written and not read. */
  #lag(): number {
    const { newest } = this.#publisher;
    const { series, place } = this.#reader.cursor;
    return newest?.series === series ? Math.max(0, newest.place - place) : 0;
  }

  #registerGauges(metrics: Metrics): void {
    const gauge = (name: string, help: string, read: () => number) =>
      metrics.gauge(`sluice_${name}`, help, read);
    gauge("bus_lag_entries", "Written by this broker and not read back yet.", () => this.#lag());
    const waiting = "What the cluster Redis has not answered yet.";
    gauge("bus_waiting_bytes", waiting, () => this.#publisher.waitingBytes);
    gauge(
      "bus_kept_bytes",
      "What this broker has read and the bus keeps.",
      () => this.#window.bytes,
    );
    gauge("limit_bus_kept_bytes", "The limit: their bytes.", () => BUS_LIMITS.keptBytesMax);
  }
}

function ignored(): void {}

function busCounters(metrics: Metrics) {
  return {
    packets: metrics.tally("sluice_bus_packets_total", "Packets heard on the cluster's bus."),
    bytes: metrics.tally("sluice_bus_bytes_total", "Bytes read from the cluster's bus."),
    repeats: metrics.tally(
      "sluice_bus_repeats_total",
      "Entries of the bus that a broken connection made a broker write twice; heard once.",
    ),
  };
}
