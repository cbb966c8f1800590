// wills: the wills of clients whose sessions stay, which outlive their connections (§6.3).
// Path: client → [wills]. Touches: the driver's memory.

import * as v from "valibot";
import { reasonOf } from "#contract/errors";
import type { Log } from "#runtime/log";
import type { Memory } from "../../driver.ts";
import type { Will } from "./broker-session.ts";

const Remembered = v.array(
  v.strictObject({
    clientId: v.string(),
    topic: v.string(),
    payload: v.string(),
    qos: v.picklist([0, 1, 2]),
    retain: v.boolean(),
  }),
);

export class Wills {
  readonly #memory: Memory;
  readonly #countMax: number;
  readonly #log: Log;
  #wills: Promise<Map<string, Will>> | undefined;

  constructor(memory: Memory, countMax: number, log: Log) {
    this.#memory = memory;
    this.#countMax = countMax;
    this.#log = log;
  }

  async of(clientId: string): Promise<Will | undefined> {
    return (await this.#all()).get(clientId);
  }

  /** Keeps the will, or that there is none; the oldest makes room. */
  async set(clientId: string, will: Will | undefined): Promise<void> {
    const wills = await this.#all();
    // Most clients tell the same will each time, and flash wears.
    if (areSame(wills.get(clientId), will)) return;
    wills.delete(clientId);
    if (will) wills.set(clientId, will);
    for (const oldest of [...wills.keys()].slice(0, -this.#countMax)) wills.delete(oldest);
    await this.#write(wills);
  }

  #all(): Promise<Map<string, Will>> {
    this.#wills ??= this.#memory.read().then(readWills);
    return this.#wills;
  }

  /** A disk that is full keeps no client from its session; its will stands at the broker. */
  async #write(wills: ReadonlyMap<string, Will>): Promise<void> {
    const remembered = [...wills].map(([clientId, { payload, ...will }]) => {
      return { clientId, ...will, payload: Buffer.from(payload).toString("base64") };
    });
    try {
      await this.#memory.write(remembered);
    } catch (fault) {
      this.#log.warn({ why: reasonOf(fault) }, "wills are kept until a restart only");
    }
  }
}

function areSame(one: Will | undefined, other: Will | undefined): boolean {
  if (!one || !other) return one === other;
  const isSamePayload = Buffer.from(one.payload).equals(other.payload);
  const { topic, qos, retain } = one;
  return isSamePayload && topic === other.topic && qos === other.qos && retain === other.retain;
}

function readWills(remembered: unknown): Map<string, Will> {
  const { success, output } = v.safeParse(Remembered, remembered);
  if (!success) return new Map();
  return new Map(
    output.map(({ clientId, payload, ...will }) => {
      return [clientId, { ...will, payload: Buffer.from(payload, "base64") }];
    }),
  );
}
