// outbox: what is in our custody for the cloud and not yet safe there.
// Path: mqtt → store → [outbox] → uplink. Touches: the store that it is given.

import { encodeMessage, type Message } from "#contract/message";
import type { LaneStatus } from "#contract/status";
import { filterMatches } from "#contract/topics";
import type { Settings } from "#runtime/settings-schema";
import { Lane, type LaneStore, type LaneWrite } from "./lane.ts";

const TRIM_MS = 1_000;

type Forward = NonNullable<Settings["uplink"]>["forward"][number];

/** The lanes of one gateway, and the rules that say which message goes into which. */
export class Outbox {
  /** In the order of the settings, which is the order in which the uplink serves them. */
  readonly lanes: readonly Lane[];
  readonly #forwards: readonly Forward[];
  readonly #timer: NodeJS.Timeout;
  #trimming: Promise<void> = Promise.resolve();

  private constructor(lanes: readonly Lane[], forwards: readonly Forward[]) {
    this.lanes = lanes;
    this.#forwards = forwards;
    this.#timer = setInterval(() => this.#trim(), TRIM_MS);
  }

  static async open(
    store: LaneStore,
    settings: Settings["outbox"],
    forwards: readonly Forward[],
  ): Promise<Outbox> {
    const tail = {
      tailBytesMax: settings.tail_bytes_max,
      tailSecondsMax: settings.tail_seconds_max,
    };
    const lanes: Lane[] = [];
    for (const { name, bytes_max } of settings.lanes) {
      lanes.push(await Lane.open(name, store, { ...tail, bytesMax: bytes_max }));
    }
    return new Outbox(lanes, forwards);
  }

  /**
   * The write that takes a message into custody for the cloud, synced from QoS 1 on; undefined when
   * no rule forwards it. It must be committed (see Lane.write).
   * @throws SluiceError OUTBOX_FULL; nothing has changed.
   */
  write(message: Message): LaneWrite | undefined {
    return this.#laneOf(message)?.write(encodeMessage(message), message.qos > 0);
  }

  status(): LaneStatus[] {
    return this.lanes.map((lane) => lane.status());
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#trimming;
  }

  #laneOf(message: Message): Lane | undefined {
    const rule = this.#forwards.find(({ filter }) => filterMatches(filter, message.topic));
    if (!rule || (message.qos === 0 && !rule.qos0)) return undefined;
    return this.lanes.find(({ name }) => name === rule.lane);
  }

  #trim(): void {
    // A trim that fails is tried again a second later; what it left behind does no harm.
    this.#trimming = this.#trimming
      .then(async () => {
        for (const lane of this.lanes) await lane.trimTail();
      })
      .catch(() => {});
  }
}
