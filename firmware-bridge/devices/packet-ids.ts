// packet-ids: packet identifiers that outlive a connection.
// Path: window → [packet-ids] → mqtt.js. Touches: nothing.

import type { IClientOptions } from "mqtt";

const PACKET_ID_MAX = 65_535;

type IdProvider = NonNullable<IClientOptions["messageIdProvider"]>;

/** Hands out what is free, or the identifier that a message has from an earlier connection. */
export class PacketIds implements IdProvider {
  readonly #held: () => Iterable<number>;
  #taken = new Set<number>();
  #last = 0;
  #wanted: number | undefined;

  /** `held` names the identifiers of messages that will be sent again. */
  constructor(held: () => Iterable<number>) {
    this.#held = held;
  }

  /** The next packet takes `id` instead of a free one. */
  want(id: number | undefined): void {
    this.#wanted = id;
  }

  allocate(): number {
    const id = this.#wanted ?? this.#free();
    this.#wanted = undefined;
    this.#taken.add(id);
    this.#last = id;
    return id;
  }

  getLastAllocated(): number {
    return this.#last;
  }

  register(_id: number): boolean {
    return true;
  }

  deallocate(id: number): void {
    this.#taken.delete(id);
  }

  /** At each new connection: what the last one left unanswered is free again. */
  clear(): void {
    this.#taken = new Set(this.#held());
  }

  #free(): number {
    let id = this.#last;
    do id = (id % PACKET_ID_MAX) + 1;
    while (this.#taken.has(id));
    return id;
  }
}
