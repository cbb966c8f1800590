// sources: where the QoS 1 and 2 messages for one client wait: in memory, or in its stored queue.
// Path: session → [sources] → outgoing. Touches: the queue that it is given.

import { reasonOf } from "#contract/errors";
import type { QueuedMessage, SessionQueue } from "#contract/session";
import { type Form, Publication } from "./publication.ts";

/** Entries that were taken and are still held, before they are let go. */
const TAKEN_MAX = 1_024;
/** What a stored queue hands over at once. */
const READ_COUNT_MAX = 256;
const READ_BYTES_MAX = 262_144;

/** One message that waits for its turn or its acknowledgement; numbers grow. */
export interface Entry {
  readonly number: number;
  /** undefined: the client has it (PUBREC), or it need not be sent again. */
  publication: Publication | undefined;
  readonly form: Form;
  /** The shared subscription that it came by. */
  readonly shared: string | undefined;
  /** QoS 2: PUBREC came, PUBCOMP is missing. */
  isReleased: boolean;
}

export interface Source {
  /** The next one, if it is at hand; otherwise `ready` tells when. */
  peek(): Entry | undefined;
  shift(): void;
  poke(): void;
  sent(entry: Entry): void;
  /** QoS 2: PUBREC came; resolves when that is durable. */
  release(entry: Entry): Promise<void>;
  remove(entry: Entry): void;
  /** Are there any that wait in memory? */
  readonly isWaiting: boolean;
  /** Those that wait in memory and will be lost with the connection. */
  rest(): Entry[];
}

/** Of a session that ends with its connection: in memory, and never sent twice. */
export class MemorySource implements Source {
  #entries: Entry[] = [];
  #at = 0;
  #bytes = 0;
  #number = 0;

  get count(): number {
    return this.#entries.length - this.#at;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isWaiting(): boolean {
    return this.count > 0;
  }

  /** The number that the next one will have. */
  get next(): number {
    return this.#number + 1;
  }

  push(publication: Publication, form: Form, shared?: string): void {
    this.#bytes += bytesOf(publication);
    this.#entries.push(this.pass(publication, form, shared));
  }

  /** Gives a number to what need not wait. */
  pass(publication: Publication, form: Form, shared?: string): Entry {
    this.#number += 1;
    return { number: this.#number, publication, form, shared, isReleased: false };
  }

  peek(): Entry | undefined {
    return this.#entries[this.#at];
  }

  shift(): void {
    const publication = this.#entries[this.#at]?.publication;
    if (publication) this.#bytes -= bytesOf(publication);
    this.#at += 1;
    if (this.#at === this.#entries.length) {
      this.#entries.length = 0;
      this.#at = 0;
    } else if (this.#at > TAKEN_MAX) {
      this.#entries = this.#entries.slice(this.#at);
      this.#at = 0;
    }
  }

  poke(): void {}

  sent(entry: Entry): void {
    // Another member of a shared subscription may have to be sent it.
    if (entry.shared === undefined) entry.publication = undefined;
  }

  async release(): Promise<void> {}

  remove(): void {}

  rest(): Entry[] {
    return this.#entries.slice(this.#at);
  }
}

interface Listener {
  readonly ready: () => void;
  readonly failed: (why: string) => void;
}

/** Of a session that is kept: read from its stored queue piece by piece, from the beginning. */
export class StoredSource implements Source {
  readonly #queue: SessionQueue;
  readonly #listener: Listener;
  #ready: Entry[] = [];
  #after = 0;
  #mayHoldMore = true;
  #isReading = false;

  constructor(queue: SessionQueue, listener: Listener) {
    this.#queue = queue;
    this.#listener = listener;
  }

  get isWaiting(): boolean {
    return false;
  }

  peek(): Entry | undefined {
    if (this.#ready.length === 0 && this.#mayHoldMore && !this.#isReading) void this.#read();
    return this.#ready[0];
  }

  shift(): void {
    this.#ready.shift();
  }

  poke(): void {
    this.#mayHoldMore = true;
  }

  sent(entry: Entry): void {
    // The queue keeps it until it is acknowledged.
    entry.publication = undefined;
  }

  async release(entry: Entry): Promise<void> {
    await this.#queue.release(entry.number);
  }

  remove(entry: Entry): void {
    // One that cannot be removed comes again: at QoS 1 that may be, and a release is kept.
    this.#queue.remove(entry.number, false).catch(() => {});
  }

  rest(): Entry[] {
    return [];
  }

  async #read(): Promise<void> {
    this.#isReading = true;
    this.#mayHoldMore = false;
    try {
      const read = await this.#queue.read(this.#after, READ_COUNT_MAX, READ_BYTES_MAX);
      const last = read.at(-1);
      if (last) {
        this.#after = last.number;
        this.#mayHoldMore = true;
      }
      for (const queued of read) this.#ready.push(entryOf(queued));
    } catch (fault) {
      this.#listener.failed(reasonOf(fault));
      return;
    } finally {
      this.#isReading = false;
    }
    if (this.#ready.length > 0 || this.#mayHoldMore) this.#listener.ready();
  }
}

function entryOf({ number, message, qos, retain, subscriptionIds, shared }: QueuedMessage): Entry {
  const publication = message && new Publication(message);
  const form = { qos, retain, subscriptionIds };
  return { number, publication, form, shared, isReleased: message === undefined };
}

function bytesOf({ message }: Publication): number {
  return message.payload.length + message.topic.length;
}
