// delivery: what waits to be written to one client; order kept, a slow reader costs only itself.
// Path: routing → [delivery] → the client's socket. Touches: one Aedes client.

import type { Client } from "aedes";
import type { Settings } from "#runtime/settings-schema";
import type { ClientInternals, Deliver, Done, RoutedPacket } from "./aedes-internals.ts";

/** How many messages may be on their way into the socket at once, where their order is safe. */
const WRITES_MAX = 64;

interface Waiting {
  readonly packet: RoutedPacket;
  /** As granted to the subscription; the packet's own QoS may be higher. */
  readonly isQos0: boolean;
  readonly deliver: Deliver;
}

export interface DeliveryOptions {
  readonly limits: Settings["limits"];
  /** How many messages to a persistent session the persistence updates in order at once. */
  readonly persistentWritesMax: number;
  readonly delivered: () => void;
  readonly dropped: (labels: { reason: string }) => void;
  /** Ends the client's connection: it cannot be served in order any longer. */
  readonly disconnect: (client: Client, why: string) => void;
}

/**
 * Stands between Aedes' emitter and one client. The emitter is told at once that a message is
 * delivered, so that no reader holds up another. While the stored queue is drained, live messages
 * wait behind it; those that the drain brought as well are not sent again. Over the limit QoS 0 is
 * dropped; for QoS 1 and 2 the connection ends, and a persistent session finds them in its queue.
 */
export class Delivery {
  readonly #client: Client;
  readonly #options: DeliveryOptions;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #writes = 0;
  #drained: Set<string> | undefined = new Set();
  #newest = "";

  /** Takes over the client's delivery functions; call it before the client subscribes. */
  constructor(client: Client, options: DeliveryOptions) {
    this.#client = client;
    this.#options = options;
    const internals = client as unknown as ClientInternals;
    // Aedes drops what a faster message overtook as a repeat; repeats are told apart in #offer.
    internals.duplicates = NEVER_SEEN;
    const { deliver0, deliverQoS } = internals;
    internals.deliver0 = (packet, done) =>
      this.#offer({ packet, deliver: deliver0, isQos0: true }, done);
    internals.deliverQoS = (packet, done) => {
      // Aedes' own deliverQoS would hand QoS 0 to the deliver0 above, as a message of its own.
      const isQos0 = packet.qos === 0;
      this.#offer({ packet, deliver: isQos0 ? deliver0 : deliverQoS, isQos0 }, done);
    };
  }

  /** The drain of the stored queue brings this message. */
  drained(packet: RoutedPacket): void {
    this.#drained?.add(keyOf(packet));
  }

  /** The stored queue is drained: what waited behind it follows. */
  open(): void {
    const drained = this.#drained;
    this.#drained = undefined;
    this.#waiting = this.#waiting.filter(({ packet }) => !drained?.has(keyOf(packet)));
    this.#waitingBytes = this.#waiting.reduce((sum, { packet }) => sum + bytesOf(packet), 0);
    this.#write();
  }

  #offer(waiting: Waiting, done: Done): void {
    done();
    const { packet } = waiting;
    // Overlapping subscriptions bring one message several times in a row.
    if (packet.brokerId && keyOf(packet) === this.#newest) return;
    this.#newest = keyOf(packet);
    if (this.#client.closed) return;
    if (this.#isFull(packet)) {
      this.#overflow(waiting);
      return;
    }
    this.#waiting.push(waiting);
    this.#waitingBytes += bytesOf(packet);
    this.#write();
  }

  #isFull(packet: RoutedPacket): boolean {
    const { delivery_messages_max, delivery_bytes_max } = this.#options.limits;
    if (this.#waiting.length >= delivery_messages_max) return true;
    return this.#waiting.length > 0 && this.#waitingBytes + bytesOf(packet) > delivery_bytes_max;
  }

  #overflow({ isQos0 }: Waiting): void {
    if (isQos0) {
      this.#options.dropped({ reason: "slow-reader" });
      return;
    }
    this.#waiting = [];
    this.#options.disconnect(this.#client, "it reads more slowly than messages arrive");
  }

  #write(): void {
    if (this.#drained) return;
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      const isPersistent = !this.#client.clean && !next.isQos0;
      if (this.#writes >= (isPersistent ? this.#options.persistentWritesMax : WRITES_MAX)) return;
      this.#waiting.shift();
      this.#waitingBytes -= bytesOf(next.packet);
      this.#writes += 1;
      next.deliver(next.packet, () => {
        this.#writes -= 1;
        this.#options.delivered();
        this.#write();
      });
    }
  }
}

/** Stands in for Aedes' table of the highest number seen: reads as empty, forgets what is set. */
const NEVER_SEEN: Record<string, number> = new Proxy(Object.create(null), { set: () => true });

function keyOf(packet: RoutedPacket): string {
  return `${packet.brokerId}:${packet.brokerCounter}`;
}

function bytesOf(packet: RoutedPacket): number {
  return packet.payload.length + packet.topic.length;
}
