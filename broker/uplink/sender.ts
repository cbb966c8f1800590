// sender: hands the outbox to the landing, frame by frame, and follows what the cloud holds.
// Path: outbox → [sender] → landing. Touches: the landing that it is given.

import { reasonOf, SluiceError } from "#contract/errors";
import type { UplinkStatus } from "#contract/status";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { Addresses } from "./addresses.ts";
import { Agreement } from "./agreement.ts";
import { Bell } from "./bell.ts";
import { sendCounters } from "./counters.ts";
import { Flight } from "./flight.ts";
import type { SendLanding, SendLane } from "./send-lane.ts";
import { TokenBucket } from "./token-bucket.ts";

const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 30_000;
const STOP_REASON = "stopped on request";

export interface SenderOptions {
  readonly lanes: readonly SendLane[];
  /** Where the landing may be reached; tried in turn. */
  readonly urls: readonly string[];
  readonly connect: (url: string, lost: (why: string) => void) => Promise<SendLanding>;
  readonly probeMs: number;
  /** Frames that may be under way without their answers. */
  readonly windowFramesMax: number;
  /** undefined: as fast as the line goes. */
  readonly bytesPerSecondMax: number | undefined;
  readonly downCursor: () => string;
  /** The landing has given all lanes to this process; called again at each probe. */
  readonly holdsLanes: () => void;
  /** The steady clock by which messages expire, in milliseconds. */
  readonly clock: () => number;
  readonly log: Log;
  readonly metrics: Metrics;
}

type Mode = UplinkStatus["state"];

/**
 * connecting → online ⇄ waiting (for a retry, or for room) → connecting; fenced and stopped are
 * final. Only #setMode writes the mode.
 */
export class Sender {
  readonly #options: SenderOptions;
  readonly #addresses: Addresses;
  readonly #agreement: Agreement;
  readonly #bucket: TokenBucket | undefined;
  readonly #count: ReturnType<typeof sendCounters>;
  readonly #stop = new AbortController();
  readonly #bell = new Bell();
  #mode: Mode = "connecting";
  #why = "";
  #sinceMs = Date.now();
  #cloud: string;
  #flight: Flight | undefined;
  #lost: string | undefined;
  /** The landing had no room for the last frame. */
  #isFull = false;
  #attempt = 0;

  constructor(options: SenderOptions) {
    const { urls, lanes, bytesPerSecondMax, metrics } = options;
    this.#options = options;
    this.#addresses = new Addresses(urls);
    this.#cloud = hostOf(this.#addresses.url);
    this.#count = sendCounters(metrics);
    this.#agreement = new Agreement({ ...options, count: this.#count });
    if (bytesPerSecondMax !== undefined) {
      this.#bucket = new TokenBucket(bytesPerSecondMax, () => performance.now());
    }
    for (const lane of lanes) lane.onAppend(() => this.#bell.ring());
    metrics.gauge("sluice_uplink_online", "1 while the uplink is online.", () =>
      Number(this.#mode === "online"),
    );
    metrics.gauge(
      "sluice_uplink_under_way_frames",
      "Frames under way to the cloud.",
      () => this.#flight?.count ?? 0,
    );
  }

  /** Runs until stop() or until another writer of this gateway's lanes fences it off. */
  async run(): Promise<void> {
    while (!this.#stop.signal.aborted && this.#mode !== "fenced") {
      try {
        await this.#session();
      } catch (fault) {
        if (!(fault instanceof SluiceError)) throw fault;
        if (fault.code === "CLOUD_FENCED") this.#setMode("fenced", fault.message);
        else await this.#retryLater(reasonOf(fault));
      }
    }
  }

  stop(): void {
    this.#setMode("stopped", STOP_REASON);
    this.#stop.abort();
    this.#bell.ring();
  }

  status(): Omit<UplinkStatus, "receivedCommands"> {
    return {
      cloud: this.#cloud,
      state: this.#mode,
      why: this.#why,
      sinceMs: this.#sinceMs,
      sentMessages: this.#options.metrics.total("sluice_uplink_messages_total"),
      rewinds: this.#options.metrics.total("sluice_uplink_rewinds_total"),
    };
  }

  /** One connection, from its opening to its loss. */
  async #session(): Promise<void> {
    const { url } = this.#addresses;
    this.#cloud = hostOf(url);
    this.#setMode("connecting", this.#why);
    this.#lost = undefined;
    const landing = await this.#options.connect(url, (why) => {
      this.#lost = why;
      this.#bell.ring();
    });
    try {
      const flight = this.#newFlight(landing);
      while (!this.#stop.signal.aborted) {
        for (const lane of this.#options.lanes) await this.#agreement.probe(landing, lane);
        this.#options.holdsLanes();
        if (!this.#isFull) this.#flows();
        await this.#sendOrWaitForRoom(flight);
      }
      await landing.leave(STOP_REASON);
    } finally {
      this.#flight = undefined;
      landing.close();
    }
  }

  #newFlight(landing: SendLanding): Flight {
    const { lanes, clock } = this.#options;
    const parts = { agreement: this.#agreement, bucket: this.#bucket, bell: this.#bell };
    this.#flight = new Flight({ landing, lanes, clock, count: this.#count, ...parts });
    return this.#flight;
  }

  /** The landing takes what is sent. */
  #flows(): void {
    this.#setMode("online", "");
    this.#addresses.served();
    this.#isFull = false;
    this.#attempt = 0;
  }

  async #sendOrWaitForRoom(flight: Flight): Promise<void> {
    try {
      await this.#sendUntilProbe(flight);
    } catch (fault) {
      if (!(fault instanceof SluiceError && fault.code === "CLOUD_FULL")) throw fault;
      this.#isFull = true;
      await this.#waiting(fault.message);
    }
  }

  /** Sends what there is, waits for more, returns when the next probe is due. */
  async #sendUntilProbe(flight: Flight): Promise<void> {
    const dueAtMs = performance.now() + this.#options.probeMs;
    while (!this.#stop.signal.aborted) {
      if (this.#lost !== undefined) throw new SluiceError("CLOUD_UNREACHABLE", this.#lost);
      if ((await flight.settle()) > 0) this.#flows();
      const leftMs = dueAtMs - performance.now();
      if (leftMs <= 0) break;
      // Of a landing that was full one frame finds out.
      const waitMs = await flight.send(this.#isFull ? 1 : this.#options.windowFramesMax);
      if (flight.count === 0 && waitMs === Number.POSITIVE_INFINITY) this.#flows();
      await this.#bell.heard(Math.min(leftMs, waitMs));
    }
    await flight.land();
  }

  async #retryLater(why: string): Promise<void> {
    const haveAllFailed = this.#addresses.failed();
    if (haveAllFailed) return this.#waiting(why);
    // The next address need not wait for long, but a broken one must not be a busy loop either.
    this.#setMode("waiting", why);
    await wait(backoffMs(0, RETRY_MS_LEAST, RETRY_MS_MOST), this.#stop.signal);
  }

  async #waiting(why: string): Promise<void> {
    if (this.#stop.signal.aborted) return;
    const delayMs = backoffMs(this.#attempt++, RETRY_MS_LEAST, RETRY_MS_MOST);
    this.#setMode("waiting", why);
    await wait(delayMs, this.#stop.signal);
  }

  #setMode(next: Mode, why: string): void {
    if (this.#mode === "stopped" || (this.#mode === next && this.#why === why)) return;
    // Retries of one failure are one change to an operator.
    const isNews =
      next === "online" || next === "fenced" || (next === "waiting" && why !== this.#why);
    const cloud = this.#cloud;
    if (isNews) this.#options.log.info({ from: this.#mode, to: next, why, cloud }, "uplink mode");
    this.#mode = next;
    this.#why = why;
    this.#sinceMs = Date.now();
  }
}

function hostOf(url: string): string {
  return new URL(url).host;
}
