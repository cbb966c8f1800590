// aedes-internals: the parts of Aedes 1.2 that Sluice relies on and that its types leave out.
// Path: routing, delivery, mqtt. Touches: nothing. Checked against aedes 1.2.0; pinned in the lockfile.

import type { AedesPublishPacket, Client } from "aedes";

/** Reports that a step is over, and how. */
export type Done = (error?: Error) => void;

/** A message on its way through Aedes: numbered by the broker that it entered. */
export type RoutedPacket = AedesPublishPacket & { clientId?: string };

export type Deliver = (packet: RoutedPacket, done: Done) => void;

/** What aedes-packet exports: a constructor that numbers the message with the broker's counter. */
export type PacketConstructor = new (original: object, broker: object) => RoutedPacket;

export interface Subscriber {
  readonly clientId: string;
  readonly topic: string;
  readonly qos: number;
}

/** The part of the persistence interface that publishing needs (aedes-persistence 11). */
export interface Persistence {
  storeRetained(packet: RoutedPacket): Promise<void>;
  subscriptionsByTopic(topic: string): Promise<Subscriber[]>;
  outgoingEnqueueCombi(subscribers: Subscriber[], packet: RoutedPacket): Promise<void>;
  addSubscriptions(client: Client, subscriptions: { readonly topic: string }[]): Promise<void>;
  createRetainedStreamCombi(filters: string[]): AsyncIterable<RoutedPacket>;
  incomingGetPacket(client: { id: string }, packet: { messageId?: number }): Promise<unknown>;
}

export interface Emitter {
  emit(packet: RoutedPacket, done: Done): void;
}

export interface AedesInternals {
  /** The number of the newest message. */
  counter: number;
  readonly persistence: Persistence;
  readonly mq: Emitter;
  readonly clients: Readonly<Record<string, Client>>;
}

export interface ClientInternals {
  deliver0: Deliver;
  deliverQoS: Deliver;
  duplicates: Record<string, number>;
  readonly _parser: { parse(chunk: Buffer): number };
}
