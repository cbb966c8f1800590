// receiver: what a device does with a command by its QoS: counts it, and says how it is acknowledged.
// Path: mqtt-device, sn-device → [receiver] → counter. Touches: nothing.

import { Counter } from "./counter.ts";

export class Receiver {
  readonly commands = new Counter();
  /** Taken at QoS 2, and not released yet. */
  readonly #taken = new Set<number>();

  /** Tells which packet is the answer. */
  take(qos: number, messageId: number, payload: Uint8Array | string): "puback" | "pubrec" {
    const id = Number(String(payload));
    // QoS 1 may bring it again, so the device looks whether it has been.
    const isRepeat = qos === 1 ? this.commands.has(id) : this.#taken.has(messageId);
    if (!isRepeat) this.commands.count(id);
    if (qos === 1) return "puback";
    this.#taken.add(messageId);
    return "pubrec";
  }

  /** PUBREL came. */
  release(messageId: number): void {
    this.#taken.delete(messageId);
  }

  /** The session was lost, and what was taken in it. */
  forget(): void {
    this.#taken.clear();
  }
}
