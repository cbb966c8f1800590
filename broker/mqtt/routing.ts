// routing: Aedes with the order of publications kept.
// Path: session → custody → [routing] → local subscribers. Touches: persistence and emitter.

import { Readable } from "node:stream";
import { Aedes, type AedesOptions, type Client, type PublishPacket } from "aedes";
import AedesPacket from "aedes-packet";
import { reasonOf, SluiceError } from "#contract/errors";
import { filterMatches, TOPIC_LIMITS } from "#contract/topics";
import type {
  AedesInternals,
  Done,
  PacketConstructor,
  Persistence,
  RoutedPacket,
} from "./aedes-internals.ts";

const WILDCARD_FIRST = /^[+#]/;

const Packet = AedesPacket as unknown as PacketConstructor;

export interface RoutingOptions extends AedesOptions {
  readonly persistence: object;
  readonly isFilterRefused: (client: Client, filter: string) => boolean;
}

/**
 * Stores what must be kept (retained messages, queues of persistent sessions), then emits, in the
 * order in which publish() was called. Aedes emits each message as soon as its own storing ends, so
 * that one with nothing to store overtakes its predecessor (upstream #955, #994).
 */
export class Routing extends Aedes {
  /** Settles when every message before has been emitted. */
  #emitted: Promise<void> = Promise.resolve();
  /** The newest store of a retained message by topic; the next one on that topic waits for it. */
  readonly #retaining = new Map<string, Promise<void>>();

  constructor(options: RoutingOptions) {
    hideDollarTopics(options.persistence as Persistence);
    storeGrantedOnly(options.persistence as Persistence, options.isFilterRefused);
    super({ ...options, maxTopicLevels: TOPIC_LIMITS.levelsMax });
  }

  override publish(packet: PublishPacket, client: Client | Done | null, done?: Done): void {
    const sender = typeof client === "function" ? undefined : (client ?? undefined);
    const finish = typeof client === "function" ? client : done;
    this.#route(new Packet(packet, this), sender).then(
      () => finish?.(),
      (cause) => finish?.(cause),
    );
  }

  get #internals(): AedesInternals {
    return this as unknown as AedesInternals;
  }

  async #route(packet: RoutedPacket, sender: Client | undefined): Promise<void> {
    if (sender) packet.clientId = sender.id;
    const before = this.#emitted;
    const turn = Promise.withResolvers<void>();
    this.#emitted = turn.promise;
    let emission: Promise<void> | undefined;
    try {
      await this.#store(packet);
      await before;
      emission = this.#emit(packet);
    } finally {
      // What could not be stored is not emitted, and must not hold up what follows.
      before.then(turn.resolve);
    }
    await emission;
    this.emit("publish", packet, sender ?? null);
  }

  async #store(packet: RoutedPacket): Promise<void> {
    try {
      // Side by side, so that messages take equally long and stores keep their order.
      await Promise.all([
        packet.retain ? this.#retain(packet) : undefined,
        packet.qos > 0 ? this.#enqueue(packet) : undefined,
      ]);
    } catch (cause) {
      const message = `a message on ${packet.topic} cannot be stored: ${reasonOf(cause)}`;
      throw new SluiceError("STORE_FAILED", message, { cause });
    }
  }

  async #retain(packet: RoutedPacket): Promise<void> {
    const before = this.#retaining.get(packet.topic);
    const storing = (before ?? Promise.resolve())
      .catch(() => {})
      .then(() => this.#internals.persistence.storeRetained(packet));
    this.#retaining.set(packet.topic, storing);
    await storing.finally(() => {
      if (this.#retaining.get(packet.topic) === storing) this.#retaining.delete(packet.topic);
    });
  }

  async #enqueue(packet: RoutedPacket): Promise<void> {
    const { persistence } = this.#internals;
    const subscribers = await persistence.subscriptionsByTopic(packet.topic);
    // A wildcard at the front of a filter does not select $-topics [MQTT-4.7.2-1].
    const entitled = packet.topic.startsWith("$")
      ? subscribers.filter(({ topic }) => !WILDCARD_FIRST.test(topic))
      : subscribers;
    await persistence.outgoingEnqueueCombi(entitled, packet);
  }

  #emit(packet: RoutedPacket): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#internals.mq.emit(packet, (cause?: Error | null) =>
        cause ? reject(cause) : resolve(),
      );
    });
  }
}

/** Retained $-topics are not for filters with a wildcard at the front [MQTT-4.7.2-1]. */
function hideDollarTopics(persistence: Persistence): void {
  const read = persistence.createRetainedStreamCombi.bind(persistence);
  persistence.createRetainedStreamCombi = (filters) => {
    const named = filters.filter((filter) => !WILDCARD_FIRST.test(filter));
    async function* visible() {
      for await (const packet of read(filters)) {
        const isNamed = () => named.some((filter) => filterMatches(filter, packet.topic));
        if (!packet.topic.startsWith("$") || isNamed()) yield packet;
      }
    }
    return Readable.from(visible());
  };
}

/** Aedes stores all filters of a SUBSCRIBE, those too that it has just refused. */
function storeGrantedOnly(
  persistence: Persistence,
  isRefused: RoutingOptions["isFilterRefused"],
): void {
  const add = persistence.addSubscriptions.bind(persistence);
  persistence.addSubscriptions = async (client, subscriptions) => {
    const granted = subscriptions.filter(({ topic }) => !isRefused(client, topic));
    if (granted.length > 0) await add(client, granted);
  };
}
