// own-client: the bridge's own MQTT client: it shows broken frames, and clears what is left behind.
// Path: devices → [own-client] → broker. Touches: the network, by connection.ts; the clock.

import type { IPublishPacket } from "mqtt-packet";
import * as v from "valibot";
import { NAME_PATTERN } from "#contract/topics";
import type { Log } from "#runtime/log";
import { type BrokerDoor, channelOf } from "../driver.ts";
import { Connection, mendOf } from "./connection.ts";
import { retainedTopicsOf } from "./device.ts";
import { CHANNELS_MAX, documentTopic } from "./document.ts";
import { Outgoing, type Publication } from "./outgoing.ts";
import type { OwnDevices } from "./own-devices.ts";
import { reasonWords } from "./reasons.ts";

const LIMITS = {
  /** For the broker's documents, and for drivers that read from their memory which devices they have. */
  graceMs: 10_000,
  documentsMax: 10_000,
} as const;

const DOCUMENTS = documentTopic("+");

const Leftover = v.object({
  bridge: v.string(),
  name: v.pipe(v.string(), v.regex(NAME_PATTERN)),
  channels: v.array(v.object({ name: v.string(), retain: v.optional(v.literal(true)) })),
});

type Leftover = v.InferOutput<typeof Leftover>;

/** What the bridge itself is told, beside the documents of its devices. */
export interface Listener {
  readonly filter: string;
  /** The message is acknowledged when it returns. */
  readonly hear: (packet: IPublishPacket) => void;
}

export interface OwnClientOptions {
  readonly clientId: string;
  readonly door: BrokerDoor;
  /** The gateway's name, which stands in the documents that are its. */
  readonly bridge: string;
  readonly discoveryPrefix: string | undefined;
  /** There is such a device now. */
  readonly isKnown: (device: string) => boolean;
  readonly ownDevices: Pick<OwnDevices, "has" | "forget">;
  readonly listener: Listener | undefined;
  readonly log: Log;
  readonly graceMs?: number;
}

export class OwnClient {
  readonly #options: OwnClientOptions;
  readonly #outgoing: Outgoing;
  readonly #connection: Connection;
  /** Documents of ours whose devices nobody had named when they came. */
  readonly #found = new Map<string, Leftover>();
  #sweep: NodeJS.Timeout | undefined;
  #isSwept = false;

  constructor(options: OwnClientOptions) {
    const { clientId, door, listener, log } = options;
    const listened = listener ? [{ filter: listener.filter, qos: 1 } as const] : [];
    this.#options = options;
    this.#outgoing = new Outgoing({
      messagesMax: 1,
      onRefused: ({ topic, reasonCode, said }) => {
        const mend = mendOf("publish", topic, door.username, clientId);
        log.warn({ topic, why: reasonWords(reasonCode, said), mend }, "not published");
      },
    });
    this.#connection = new Connection({
      clientId,
      door,
      isKept: false,
      outgoing: this.#outgoing,
      filters: [{ filter: DOCUMENTS, qos: 0 }, ...listened],
      log: log.child({ client: clientId }),
      onConnected: () => this.#sweepLater(),
      onMessage: (packet) => this.#hear(packet),
    });
    this.#connection.start();
  }

  /** QoS 0, not retained; false when there is no connection. */
  shout(topic: string, payload: Buffer): boolean {
    return this.#connection.shout(topic, payload);
  }

  /** QoS 1. */
  say(publication: Publication): void {
    this.#outgoing.say(publication);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#sweep);
    this.#outgoing.close();
    await this.#connection.close();
  }

  #hear(packet: IPublishPacket): void {
    const { topic, qos, retain, payload, messageId = 0 } = packet;
    if (topic.startsWith(documentTopic(""))) {
      if (retain) this.#find(topic, payload);
      // Somebody has that device now.
      else this.#found.delete(topic.slice(documentTopic("").length));
      return;
    }
    this.#options.listener?.hear(packet);
    if (qos > 0) this.#connection.acknowledge("puback", messageId);
  }

  /** Anew with each connection and each document: a broker may be slow. */
  #sweepLater(): void {
    clearTimeout(this.#sweep);
    if (this.#isSwept) return;
    const ms = this.#options.graceMs ?? LIMITS.graceMs;
    this.#sweep = setTimeout(() => void this.#clear(), ms);
  }

  #find(topic: string, payload: Buffer | string): void {
    this.#sweepLater();
    const document = leftoverOf(payload);
    if (document?.bridge !== this.#options.bridge || topic !== documentTopic(document.name)) return;
    if (this.#found.size < LIMITS.documentsMax) this.#found.set(document.name, document);
  }

  /** Once: while the bridge runs, no device is taken away. */
  async #clear(): Promise<void> {
    // The next connection brings what this one did not.
    if (!this.#connection.connected) return;
    this.#isSwept = true;
    this.#connection.unsubscribe(DOCUMENTS);
    for (const document of this.#found.values()) {
      // One after the other: a device may turn up meanwhile.
      if (await this.#isLeftBehind(document)) await this.#clearAll(document);
    }
    this.#found.clear();
  }

  /** A document may be forged: it has to be of a device that was ours. */
  async #isLeftBehind({ name }: Leftover): Promise<boolean> {
    return (await this.#options.ownDevices.has(name)) && !this.#options.isKnown(name);
  }

  /** Resolves when the broker has nothing of it any more. */
  async #clearAll(document: Leftover): Promise<void> {
    this.#options.log.info({ device: document.name }, "cleared what the broker retained of it");
    const topics = retainedTopicsOf(document, this.#options.discoveryPrefix);
    const payload = new Uint8Array();
    const cleared = topics.map(
      (topic) =>
        new Promise<void>((settled) => {
          this.#outgoing.say({ topic, payload, retain: true, settled });
        }),
    );
    await Promise.all(cleared);
    this.#options.ownDevices.forget(document.name);
  }
}

/** Whatever stands there: others may publish below that topic, too. */
function leftoverOf(payload: Buffer | string): Leftover | undefined {
  try {
    const { success, output } = v.safeParse(Leftover, JSON.parse(payload.toString()));
    if (!success) return undefined;
    const channels = output.channels.slice(0, CHANNELS_MAX).filter(({ name }) => isChannel(name));
    return { ...output, channels };
  } catch {
    return undefined;
  }
}

/** Levels as drivers make them: none of them leads to another of the device's topics. */
function isChannel(name: string): boolean {
  return name.split("/").every((level) => channelOf(level) === level);
}
