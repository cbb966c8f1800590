// outbox: what is in our custody for the cloud and not yet safe there.
// Path: mqtt → store → [outbox] → uplink. Touches: the store that it is given, the free disk space.

import { encodeMessage, type Message } from "#contract/message";
import type { LaneStatus } from "#contract/status";
import { filterMatches } from "#contract/topics";
import type { Settings } from "#runtime/settings-schema";
import { diskFreeBytes } from "./disk-space.ts";
import { Lane } from "./lane.ts";
import type { LaneStore, LaneWrite } from "./lane-records.ts";
import type { LaneLimits } from "./lane-room.ts";

const TIDY_MS = 1_000;
/** What the record of a message takes beside its texts and bytes, at the most. */
const RECORD_HEAD_BYTES_MAX = 64;
/** UTF-8 bytes of one of JavaScript's characters, at the most. */
const CHARACTER_BYTES_MAX = 3;

/** As an age, in the settings: none. */
const FOREVER_SECONDS = 0xffff_ffff;

type Forward = NonNullable<Settings["uplink"]>["forward"][number];

/** Which messages go into which lane. */
interface Rule extends Omit<Forward, "lane"> {
  readonly lane: Lane | undefined;
}

export interface OutboxOptions {
  readonly store: LaneStore;
  readonly settings: Settings["outbox"];
  readonly forwards: readonly Forward[];
  /** The folder in which the store lies, for what is free there. */
  readonly folder: string;
}

/** The lanes of one gateway, and the rules that say which message goes into which. */
export class Outbox {
  /** In the order of the settings, which is the order in which the uplink serves them. */
  readonly lanes: readonly Lane[];
  readonly #rules: readonly Rule[];
  readonly #lookAtDisk: () => void;
  readonly #timer: NodeJS.Timeout;
  #tidying: Promise<void> = Promise.resolve();

  private constructor(
    lanes: readonly Lane[],
    forwards: readonly Forward[],
    lookAtDisk: () => void,
  ) {
    this.lanes = lanes;
    this.#rules = forwards.map(({ lane, ...rule }) => ({
      ...rule,
      lane: lanes.find(({ name }) => name === lane),
    }));
    this.#lookAtDisk = lookAtDisk;
    this.#timer = setInterval(() => this.#tidy(), TIDY_MS);
  }

  /** @throws SluiceError STORE_FAILED. */
  static async open({ store, settings, forwards, folder }: OutboxOptions): Promise<Outbox> {
    let freeBytes = Number.POSITIVE_INFINITY;
    const lookAtDisk = () => {
      freeBytes = diskFreeBytes(folder) ?? Number.POSITIVE_INFINITY;
    };
    lookAtDisk();
    const lanes: Lane[] = [];
    for (const lane of settings.lanes) {
      const limits = limitsOf(settings, lane);
      lanes.push(await Lane.open(lane.name, { store, limits, diskFreeBytes: () => freeBytes }));
    }
    return new Outbox(lanes, forwards, lookAtDisk);
  }

  /**
   * Resolves when there is room for the message where room is made by dropping what is older;
   * undefined, at once, when there is nothing to wait for. @throws SluiceError STORE_FAILED.
   */
  makeRoom(message: Message): Promise<void> | undefined {
    return this.#laneOf(message)?.makeRoom(recordBytesMax(message));
  }

  /**
   * The write that takes a message into custody for the cloud, synced from QoS 1 on; undefined when
   * no rule forwards it. It must be committed (see Lane.write).
   * @throws SluiceError OUTBOX_FULL; nothing has changed.
   */
  write(message: Message): LaneWrite | undefined {
    return this.#laneOf(message)?.write(encodeMessage(message), message.qos > 0);
  }

  /** The store was opened anew after a failure. @throws SluiceError STORE_FAILED. */
  async recover(): Promise<void> {
    for (const lane of this.lanes) await lane.recover();
  }

  status(): LaneStatus[] {
    return this.lanes.map((lane) => lane.status());
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#tidying;
    for (const lane of this.lanes) await lane.close();
  }

  #laneOf(message: Message): Lane | undefined {
    const rule = this.#rules.find(({ filter }) => filterMatches(filter, message.topic));
    return rule && (message.qos > 0 || rule.qos0) ? rule.lane : undefined;
  }

  #tidy(): void {
    this.#lookAtDisk();
    // What fails is tried again a second later; what it left behind does no harm.
    this.#tidying = this.#tidying
      .then(async () => {
        for (const lane of this.lanes) await lane.tidy();
      })
      .catch(() => {});
  }
}

function limitsOf(
  settings: Settings["outbox"],
  lane: Settings["outbox"]["lanes"][number],
): LaneLimits {
  return {
    tailBytesMax: settings.tail_bytes_max,
    tailSecondsMax: settings.tail_seconds_max,
    bytesMax: lane.bytes_max,
    ageSecondsMax: lane.age_seconds_max === FOREVER_SECONDS ? undefined : lane.age_seconds_max,
    diskFreeBytesMin: lane.disk_free_bytes_min,
    whenFull: lane.when_full,
  };
}

/** How long the message's record can be, without making it. */
function recordBytesMax({ topic, publisher = "", payload, properties }: Message): number {
  const texts = (topic.length + publisher.length) * CHARACTER_BYTES_MAX;
  return RECORD_HEAD_BYTES_MAX + texts + payload.length + (properties?.length ?? 0);
}
