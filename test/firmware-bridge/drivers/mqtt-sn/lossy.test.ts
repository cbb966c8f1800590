// lossy.test: what a line that loses messages costs: time, and nothing else.
// Path: test. Touches: loopback ports, a folder, a broker's process, the clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Packet } from "../../../../firmware-bridge/drivers/mqtt-sn/packets.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { onLine, type SnDevice, startBroker, wholeFile } from "./site.ts";

const broker = await startBroker(wholeFile());
const LOST_OF_TEN = 2;
const RETRY_MS = 150;

/** The same losses in each run. */
function losses(seed: number): () => boolean {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state % 10_007) % 10 < LOST_OF_TEN;
  };
}

/** A device that says again what is not answered, as §6.13 has it, on a line that loses messages. */
class LossyDevice {
  readonly #device: SnDevice;
  readonly #isLost: () => boolean;
  readonly texts: string[] = [];
  readonly #received = new Set<number>();
  #read = 0;

  constructor(device: SnDevice, isLost: () => boolean) {
    this.#device = device;
    this.#isLost = isLost;
  }

  #say(packet: Packet): void {
    if (!this.#isLost()) this.#device.say(packet);
  }

  /** Takes what came, and looks whether it is what is waited for. */
  #take(isAnswer: (packet: Packet) => boolean): boolean {
    for (; this.#read < this.#device.told.length; this.#read += 1) {
      const packet = this.#device.told[this.#read] as Packet;
      if (this.#isLost()) continue;
      if (isAnswer(packet)) {
        this.#read += 1;
        return true;
      }
      this.#answer(packet);
    }
    return false;
  }

  #answer(packet: Packet): void {
    assert.notEqual(packet.type, "disconnect");
    if (packet.type === "register") {
      const { topicId, messageId } = packet;
      this.#say({ type: "regack", topicId, messageId, returnCode: 0 });
    } else if (packet.type === "publish") {
      const { messageId } = packet;
      if (!this.#received.has(messageId)) this.texts.push(String(packet.data));
      this.#received.add(messageId);
      this.#say({ type: "pubrec", messageId });
    } else if (packet.type === "pubrel") {
      this.#received.delete(packet.messageId);
      this.#say({ type: "pubcomp", messageId: packet.messageId });
    }
  }

  async asks(packet: Packet, isAnswer: (answer: Packet) => boolean): Promise<void> {
    let saidAtMs = Number.NEGATIVE_INFINITY;
    let said = packet;
    await waitFor(`an answer to ${packet.type}`, () => {
      if (performance.now() - saidAtMs > RETRY_MS) {
        this.#say(said);
        saidAtMs = performance.now();
        if (said.type === "publish") said = { ...said, dup: true };
      }
      return this.#take(isAnswer);
    });
  }

  /** Goes on answering until so many messages are there. */
  async hearsTexts(count: number): Promise<void> {
    const isThere = () => {
      this.#take(() => false);
      return this.texts.length >= count;
    };
    await waitFor(`${count} messages; there are ${this.texts}`, isThere, 60_000);
  }
}

async function connected(device: LossyDevice, clientId: string): Promise<number> {
  const flags = { will: false, cleanSession: true, protocolId: 1, durationSeconds: 60 };
  await device.asks({ type: "connect", ...flags, clientId }, ({ type }) => type === "connack");
  let topicId = 0;
  const register = { type: "register", topicId: 0, messageId: 1, topic: "lossy/up" } as const;
  await device.asks(register, (packet) => {
    if (packet.type === "regack") topicId = packet.topicId;
    return packet.type === "regack";
  });
  return topicId;
}

test("messages of QoS 2 reach the broker once and in order when one in five is lost", async (t) => {
  const line = onLine(t, broker);
  const device = new LossyDevice(line.device, losses(1));
  const topicId = await connected(device, "lossy-up");
  const expected = Array.from({ length: 20 }, (_, index) => `${index + 1}`);
  for (const text of expected) {
    const messageId = Number(text);
    const topic = { kind: "normal", id: topicId } as const;
    const plain = { dup: false, qos: 2, retain: false, messageId } as const;
    const data = Buffer.from(text);
    const answers = (type: Packet["type"]) => (packet: Packet) =>
      packet.type === type && "messageId" in packet && packet.messageId === messageId;
    await device.asks({ type: "publish", topic, data, ...plain }, answers("pubrec"));
    await device.asks({ type: "pubrel", messageId }, answers("pubcomp"));
  }
  await waitFor("the last", () => broker.texts("lossy/up").includes("20"));
  assert.deepEqual(broker.texts("lossy/up"), expected);
});

test("messages of QoS 2 reach the device once and in order when one in five is lost", async (t) => {
  const line = onLine(t, broker, { retries_max: 10 });
  const device = new LossyDevice(line.device, losses(2));
  await connected(device, "lossy-down");
  const topic = { kind: "name", name: "lossy/down/+" } as const;
  const subscribe = { type: "subscribe", dup: false, qos: 2, messageId: 5, topic } as const;
  await device.asks(subscribe, ({ type }) => type === "suback");
  const expected = Array.from({ length: 6 }, (_, index) => `${index + 1}`);
  for (const text of expected) await broker.publish("lossy/down/x", text, 2);
  await device.hearsTexts(expected.length);
  assert.deepEqual(device.texts, expected);
});
