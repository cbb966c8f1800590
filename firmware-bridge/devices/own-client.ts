// own-client: the bridge's own MQTT client: it shows broken frames, and clears what is left behind.
// Path: devices → [own-client] → broker. Touches: the network, by connection.ts; the clock.

import * as v from "valibot";
import { assertTopicName, NAME_PATTERN } from "#contract/topics";
import type { Log } from "#runtime/log";
import type { BrokerDoor } from "../driver.ts";
import { Connection, mendOf } from "./connection.ts";
import { retainedTopicsOf } from "./device.ts";
import { documentTopic } from "./document.ts";
import { Outgoing } from "./outgoing.ts";
import { reasonWords } from "./reasons.ts";

const LIMITS = {
  /** For drivers that read from their memory which devices they have. */
  graceMs: 10_000,
  documentsMax: 10_000,
} as const;

const Leftover = v.object({
  bridge: v.string(),
  name: v.pipe(v.string(), v.regex(NAME_PATTERN)),
  channels: v.array(v.object({ name: v.string(), retain: v.optional(v.literal(true)) })),
});

type Leftover = v.InferOutput<typeof Leftover>;

export interface OwnClientOptions {
  readonly clientId: string;
  readonly door: BrokerDoor;
  /** The gateway's name, which stands in the documents that are its. */
  readonly bridge: string;
  readonly discoveryPrefix: string | undefined;
  readonly isKnown: (device: string) => boolean;
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

  constructor(options: OwnClientOptions) {
    const { clientId, door, log } = options;
    this.#options = options;
    this.#outgoing = new Outgoing({
      messagesMax: 1,
      onRefused: ({ topic, reasonCode, said }) => {
        const mend = mendOf("publish", topic, door.username, clientId);
        log.warn({ topic, why: reasonWords(reasonCode, said), mend }, "not cleared");
      },
    });
    this.#connection = new Connection({
      clientId,
      door,
      isKept: false,
      outgoing: this.#outgoing,
      filters: [{ filter: documentTopic("+"), qos: 0 }],
      log: log.child({ client: clientId }),
      onConnected: () => {
        this.#sweep ??= setTimeout(() => this.#clear(), options.graceMs ?? LIMITS.graceMs);
      },
      onMessage: ({ retain, topic, payload }) => {
        if (retain) this.#find(topic, payload);
      },
    });
    this.#connection.start();
  }

  /** QoS 0, not retained; false when there is no connection. */
  shout(topic: string, payload: Buffer): boolean {
    return this.#connection.shout(topic, payload);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#sweep);
    this.#outgoing.close();
    await this.#connection.close();
  }

  #find(topic: string, payload: Buffer | string): void {
    const document = leftoverOf(payload);
    if (document?.bridge !== this.#options.bridge || topic !== documentTopic(document.name)) return;
    if (this.#found.size < LIMITS.documentsMax) this.#found.set(document.name, document);
  }

  /** Once: what is removed while the bridge runs, its own client clears. */
  #clear(): void {
    this.#connection.unsubscribe();
    for (const document of this.#found.values()) {
      if (this.#options.isKnown(document.name)) continue;
      this.#options.log.info({ device: document.name }, "cleared what the broker retained of it");
      for (const topic of retainedTopicsOf(document, this.#options.discoveryPrefix)) {
        if (canBeCleared(topic)) {
          this.#outgoing.say({ topic, payload: new Uint8Array(), retain: true });
        }
      }
    }
    this.#found.clear();
  }
}

/** Whatever stands there: others may publish below that topic, too. */
function leftoverOf(payload: Buffer | string): Leftover | undefined {
  try {
    const document = v.safeParse(Leftover, JSON.parse(payload.toString()));
    return document.success ? document.output : undefined;
  } catch {
    return undefined;
  }
}

function canBeCleared(topic: string): boolean {
  try {
    assertTopicName(topic);
    return true;
  } catch {
    return false;
  }
}
