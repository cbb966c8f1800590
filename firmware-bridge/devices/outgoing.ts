// outgoing: what one MQTT client has to say: in order, bounded, and sent again until acknowledged.
// Path: device → [outgoing] → connection → broker. Touches: the clock.

import { generate, type IPublishPacket } from "mqtt-packet";
import { backoffMs } from "#runtime/backoff";
import type { Terms } from "./client.ts";
import { isPassing, REASON } from "./reasons.ts";

const LIMITS = { retryMsLeast: 500, retryMsMost: 30_000 } as const;
/** SUBSCRIBE has the identifier above these. */
const PACKET_ID_MAX = 65_534;
export const SUBSCRIBE_ID = 65_535;
/** Messages without room, of a driver that does not wait or of timers; what comes then is dropped. */
const OVERFLOW_MAX = 10_000;
/** What is urgent and not retained: answers, of which somebody may ask for many. */
const ANSWERS_MAX = 256;
/** What messages leave of the broker's Receive Maximum to all else. */
const URGENT_SHARE = 2;
const MQTT_5 = { protocolVersion: 5 } as const;

export type PublishProperties = NonNullable<IPublishPacket["properties"]>;

export interface Publication {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain: boolean;
  readonly properties?: PublishProperties | undefined;
  /** Told once, when the broker has it or will never take it. */
  readonly settled?: (() => void) | undefined;
}

interface Entry extends Publication {
  readonly isMessage: boolean;
  /** Counts all that is entered; what comes back to a queue goes where it was. */
  readonly order: number;
  /** 0 before it is sent; sent again, it keeps its identifier [MQTT-4.4.0-1]. */
  packetId: number;
}

/** A PUBLISH that the broker will never take. */
export interface Refusal {
  readonly topic: string;
  readonly reasonCode: number;
  readonly said: string | undefined;
}

export interface OutgoingOptions {
  /** Messages that are not acknowledged yet; beyond, `publish` waits. */
  readonly messagesMax: number;
  readonly onRefused: (refusal: Refusal) => void;
  /** The broker has no room, or is on its way to have some: told at each beginning and end. */
  readonly onHeld?: (reason: Refusal | undefined) => void;
}

interface Wire {
  readonly terms: Terms;
  readonly write: (bytes: Buffer) => void;
}

/**
 * Messages, which are bounded and wait for each other, and behind them nothing; and in front of them
 * what is urgent, which is said whatever waits. When the broker refuses for want of room, nothing is
 * sent for a while, then one, and when that is taken, the rest.
 */
export class Outgoing {
  readonly #options: OutgoingOptions;
  /** By packet identifier, in the order in which they were first sent. */
  readonly #inFlight = new Map<number, Entry>();
  #urgent: Entry[] = [];
  #messages: Entry[] = [];
  /** Those that were in flight when the last connection ended, and are to be sent again. */
  #again: Entry[] = [];
  #refused: Entry[] = [];
  #overflow: { readonly entry: Entry; readonly resolve: () => void }[] = [];
  #messageCount = 0;
  #wire: Wire | undefined;
  #underWay = 0;
  #lastId = 0;
  #lastOrder = 0;
  #attempt = 0;
  #retry: NodeJS.Timeout | undefined;
  #onIdle: (() => void) | undefined;
  #isClosed = false;
  #discarded = 0;
  acknowledged = 0;
  refusedForGood = 0;

  constructor(options: OutgoingOptions) {
    this.#options = options;
  }

  /** Messages that are not acknowledged. */
  get size(): number {
    return this.#messageCount;
  }

  /** What had no room: over what may wait for it, and when it was closed. */
  get discarded(): number {
    return this.#discarded;
  }

  get hasRoom(): boolean {
    return this.#messageCount < this.#options.messagesMax && this.#overflow.length === 0;
  }

  /** Is all said and acknowledged, the urgent too? */
  get isIdle(): boolean {
    const waiting = this.#urgent.length + this.#refused.length;
    return this.#messageCount + waiting + this.#inFlight.size === 0;
  }

  /** Enters a message, at once or when there is room for it, which is when the promise resolves. */
  publish(publication: Publication): Promise<void> | undefined {
    const entry = this.#entryOf(publication, true);
    if (this.#isClosed || this.#overflow.length >= OVERFLOW_MAX) {
      this.#discarded += 1;
      return undefined;
    }
    if (this.hasRoom) {
      this.#enter(entry);
      this.#pump();
      return undefined;
    }
    return new Promise((resolve) => this.#overflow.push({ entry, resolve }));
  }

  /**
   * Never waits behind messages. What was retained on its topic and has to wait is not said any
   * more; of what is not retained only so many wait, and the rest is let go.
   */
  say(publication: Publication): void {
    const entry = this.#entryOf(publication, false);
    this.#dropOlder(entry);
    if (!publication.retain && this.#urgent.length >= ANSWERS_MAX) {
      this.#discarded += 1;
      publication.settled?.();
      return;
    }
    this.#urgent.push(entry);
    this.#pump();
  }

  /** A connection is up: what was in flight goes first, in its order [MQTT-4.6.0-1]. */
  connected(terms: Terms, write: (bytes: Buffer) => void): void {
    this.#wire = { terms, write };
    this.#underWay = 0;
    this.#again = [...this.#inFlight.values()];
    this.#resume();
  }

  disconnected(): void {
    this.#wire = undefined;
    clearTimeout(this.#retry);
    this.#retry = undefined;
  }

  /** PUBACK came. */
  puback(packetId: number, reasonCode: number, said: string | undefined): void {
    const entry = this.#inFlight.get(packetId);
    if (!entry) return;
    this.#inFlight.delete(packetId);
    this.#underWay -= 1;
    if (reasonCode < REASON.failed) {
      this.acknowledged += 1;
      if (this.#attempt > 0 && !this.#retry) this.#roomAgain();
      if (!entry.isMessage) this.#dropOlder(entry);
      this.#finish(entry);
    } else {
      this.#refuse(entry, { topic: entry.topic, reasonCode, said });
    }
    this.#pump();
  }

  /** Resolves when it is idle; only who asked last is told. */
  async idle(): Promise<void> {
    if (this.isIdle) return;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
  }

  /** Lets go of those who wait for room: there will be none. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#discarded += this.#overflow.length;
    for (const { resolve } of this.#overflow.splice(0)) resolve();
  }

  #enter(entry: Entry): void {
    this.#messageCount += 1;
    this.#messages.push(entry);
  }

  /** Else what was refused for a while would in the end stand where this stands. */
  #dropOlder({ topic, retain, order }: Entry): void {
    if (!retain) return;
    const isOlder = (it: Entry) =>
      !it.isMessage && it.retain && it.topic === topic && it.order < order;
    const older = [...this.#refused, ...this.#urgent].filter(isOlder);
    if (older.length === 0) return;
    this.#refused = this.#refused.filter((it) => !isOlder(it));
    this.#urgent = this.#urgent.filter((it) => !isOlder(it));
    for (const { settled } of older) settled?.();
  }

  #pump(): void {
    const wire = this.#wire;
    if (!wire || this.#retry) return;
    for (let entry = this.#next(wire); entry; entry = this.#next(wire)) this.#send(entry, wire);
  }

  /** After a refusal one alone, then all that the broker allows [MQTT-3.3.4-7]. */
  #next({ terms }: Wire): Entry | undefined {
    const most = this.#attempt > 0 ? 1 : terms.receiveMaximum;
    if (this.#underWay >= most) return undefined;
    const first = this.#again.shift() ?? this.#urgent.shift();
    if (first) return first;
    if (most > URGENT_SHARE && this.#underWay >= most - URGENT_SHARE) return undefined;
    return this.#messages.shift();
  }

  #send(entry: Entry, { terms, write }: Wire): void {
    const isAgain = entry.packetId !== 0;
    if (!isAgain) entry.packetId = this.#freeId();
    const bytes = encode(entry, isAgain && terms.sessionPresent);
    if (bytes.length > terms.maximumPacketBytes) {
      this.#inFlight.delete(entry.packetId);
      // [MQTT-3.2.2-15]
      this.#giveUp(entry, { topic: entry.topic, reasonCode: 0x95, said: `${bytes.length} bytes` });
      return;
    }
    this.#inFlight.set(entry.packetId, entry);
    this.#underWay += 1;
    write(bytes);
  }

  #refuse(entry: Entry, refusal: Refusal): void {
    if (!isPassing(refusal.reasonCode)) {
      this.#giveUp(entry, refusal);
      return;
    }
    entry.packetId = 0;
    this.#refused.push(entry);
    if (this.#retry || this.#isClosed) return;
    if (this.#attempt === 0) this.#options.onHeld?.(refusal);
    const ms = backoffMs(this.#attempt++, LIMITS.retryMsLeast, LIMITS.retryMsMost);
    this.#retry = setTimeout(() => this.#resume(), ms);
  }

  /** What was refused for want of room has its place again. */
  #resume(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    const refused = this.#refused;
    this.#refused = [];
    if (refused.length > 0) {
      this.#messages = inOrder(this.#messages, refused.filter(isMessage));
      this.#urgent = inOrder(
        this.#urgent,
        refused.filter((it) => !isMessage(it)),
      );
    }
    this.#pump();
  }

  #roomAgain(): void {
    this.#attempt = 0;
    this.#options.onHeld?.(undefined);
  }

  #giveUp(entry: Entry, refusal: Refusal): void {
    this.refusedForGood += 1;
    this.#options.onRefused(refusal);
    this.#finish(entry);
  }

  #finish({ isMessage, settled }: Entry): void {
    settled?.();
    if (isMessage) this.#makeRoom();
    if (this.isIdle) this.#onIdle?.();
  }

  /** Sent is what gets it by whoever goes on: here each would be a call within the last. */
  #makeRoom(): void {
    this.#messageCount -= 1;
    const next = this.#overflow.shift();
    if (!next) return;
    this.#enter(next.entry);
    next.resolve();
  }

  #entryOf(publication: Publication, isMessage: boolean): Entry {
    const { topic, payload, retain, properties, settled } = publication;
    this.#lastOrder += 1;
    const order = this.#lastOrder;
    return { topic, payload, retain, properties, settled, isMessage, order, packetId: 0 };
  }

  #freeId(): number {
    do this.#lastId = (this.#lastId % PACKET_ID_MAX) + 1;
    while (this.#inFlight.has(this.#lastId));
    return this.#lastId;
  }
}

function isMessage(entry: Entry): boolean {
  return entry.isMessage;
}

function inOrder(waiting: readonly Entry[], refused: readonly Entry[]): Entry[] {
  return [...refused, ...waiting].sort((a, b) => a.order - b.order);
}

function encode({ topic, payload, retain, properties, packetId }: Entry, dup: boolean): Buffer {
  const { buffer, byteOffset, byteLength } = payload;
  const packet: IPublishPacket = {
    cmd: "publish",
    topic,
    payload: Buffer.from(buffer, byteOffset, byteLength),
    qos: 1,
    dup,
    retain,
    messageId: packetId,
  };
  if (properties) packet.properties = properties;
  return generate(packet, MQTT_5);
}
