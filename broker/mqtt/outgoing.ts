// outgoing: what one connected client is sent: QoS 0 at once, QoS 1 and 2 through a window.
// Path: session → [outgoing] → connection. Touches: the queue and the wire that it is given.

import type { Message } from "#contract/message";
import type { SessionQueue } from "#contract/session";
import { steadyNowMs } from "#runtime/clock";
import type { Settings } from "#runtime/settings-schema";
import { type Form, Publication, type PublishBytes } from "./publication.ts";
import { type Entry, MemorySource, type Source, StoredSource } from "./sources.ts";
import type { ProtocolLevel } from "./wire/packets.ts";
import { REASON } from "./wire/reason-codes.ts";

/** Packet ids are 1 to 65,535; towards a client each derives from a number of its queue. */
const PACKET_IDS = 65_535;
/** Retained messages that are sent before others have their turn. */
const REPLAY_TURN = 256;

/** The connection, as far as it is written to. */
export interface Wire {
  readonly level: ProtocolLevel;
  readonly receiveMaximum: number;
  readonly maximumPacketBytes: number;
  readonly topicAliasMaximum: number;
  readonly isBlocked: boolean;
  readonly isOpen: boolean;
  /** What the client has not taken yet. */
  readonly unsentBytes: number;
  readonly waitingPackets: number;
  publish(it: PublishBytes, packetId: number, dup: boolean): void;
  pubrel(packetId: number, reasonCode: number): void;
  end(reasonCode: number, why: string): void;
}

/** Crowded begins at this part of what may wait: the bus holds as much again by then. */
const CROWDED_SHARE = 4;

export interface OutgoingOptions {
  readonly wire: Wire;
  readonly limits: Settings["limits"];
  /** Of a session that is kept; without one what waits lies in memory. */
  readonly queue: SessionQueue | undefined;
  /** Numbers up to this one may have been sent on an earlier connection. */
  readonly sentUpTo: number;
  readonly subscriber: { mayReceive(topic: string): boolean };
  readonly count: OutgoingCounts;
  /** So much waits for the client that it is on its way to be ended. */
  readonly crowded: () => void;
}

export interface OutgoingCounts {
  readonly delivered: { add(by?: number): void };
  dropped(reason: "slow-reader" | "expired" | "too-old" | "too-large" | "not-authorized"): void;
}

/** A retained message for a new subscription. */
export interface Retained {
  readonly message: Message;
  readonly form: Form;
}

/** A message that came while retained ones were replayed. */
type Behind = Pick<Entry, "form" | "shared"> & { readonly publication: Publication };

export class Outgoing {
  readonly #options: OutgoingOptions;
  readonly #wire: Wire;
  readonly #source: Source;
  readonly #window: number;
  /** Sent and not yet acknowledged, by packet id. */
  readonly #inFlight = new Map<number, Entry>();
  #aliases: Map<string, number> | undefined;
  #sentUpTo: number;
  /** What comes while retained messages are replayed waits behind them. */
  #behind: Behind[] | undefined;
  #behindBytes = 0;
  /** What waited there and has its turn now. */
  #resuming: Behind[] = [];
  readonly #replays: (readonly Retained[])[] = [];
  #replaying = 0;
  #wakeReplay: (() => void) | undefined;

  constructor(options: OutgoingOptions) {
    const { wire, limits, queue, sentUpTo } = options;
    this.#options = options;
    this.#wire = wire;
    this.#window = Math.min(wire.receiveMaximum, limits.inflight_messages_max);
    this.#sentUpTo = sentUpTo;
    this.#source = queue
      ? new StoredSource(queue, {
          ready: () => this.pump(),
          failed: (why) => wire.end(REASON.serverBusy, why),
        })
      : new MemorySource();
  }

  get inFlightCount(): number {
    return this.#inFlight.size;
  }

  /** The highest number that was sent. */
  get sentUpTo(): number {
    return this.#sentUpTo;
  }

  /** QoS 0: now or not at all. */
  send(publication: Publication, form: Form): void {
    if (this.#behind) this.#waitBehind({ publication, form, shared: undefined });
    else if (this.#isFull()) this.#options.count.dropped("slow-reader");
    else this.#write(publication, form, 0, false);
  }

  /** QoS 1 or 2 for a session that ends with its connection: waits here for its turn. */
  offer(publication: Publication, form: Form, shared?: string): void {
    if (this.#behind) {
      this.#waitBehind({ publication, form, shared });
      return;
    }
    const { delivery_messages_max, delivery_bytes_max } = this.#options.limits;
    const source = this.#source as MemorySource;
    if (!source.isWaiting && this.#hasRoom && !this.#inFlight.has(packetIdOf(source.next))) {
      this.#start(source.pass(publication, form, shared));
      return;
    }
    const isFull = source.count >= delivery_messages_max || source.bytes >= delivery_bytes_max;
    // Over the limit, too: what came by a shared subscription is another member's then.
    source.push(publication, form, shared);
    if (isFull) this.#wire.end(REASON.quotaExceeded, "it reads more slowly than messages arrive");
    else this.pump();
    const { count, bytes } = source;
    const isCrowded =
      count * CROWDED_SHARE > delivery_messages_max || bytes * CROWDED_SHARE > delivery_bytes_max;
    if (isCrowded) this.#options.crowded();
  }

  /** Its stored queue holds more. */
  poke(): void {
    this.#source.poke();
    this.pump();
  }

  /** Sends what the window has room for. */
  pump(): void {
    // What lies in a stored queue comes behind the retained messages, too.
    const isHeld = this.#behind !== undefined && this.#options.queue !== undefined;
    while (!isHeld && this.#hasRoom) {
      const entry = this.#source.peek();
      if (!entry || this.#inFlight.has(packetIdOf(entry.number))) break;
      this.#source.shift();
      this.#start(entry);
    }
    this.#wakeReplay?.();
  }

  get #hasRoom(): boolean {
    return this.#inFlight.size < this.#window && !this.#wire.isBlocked && this.#wire.isOpen;
  }

  /** PUBACK. False: it does not fit what is in flight. */
  puback(packetId: number): boolean {
    const sent = this.#inFlight.get(packetId);
    if (!sent) return true;
    if (sent.form.qos !== 1) return false;
    this.#finish(packetId, sent);
    return true;
  }

  /** PUBREC; a reason code of failure ends the delivery (MQTT 5.0 §4.3.3). */
  pubrec(packetId: number, reasonCode: number): boolean {
    const sent = this.#inFlight.get(packetId);
    if (!sent) {
      // A PUBREC of failure ends it, known or not [MQTT-4.3.3-4].
      if (reasonCode >= REASON.unspecified) return true;
      this.#wire.pubrel(packetId, REASON.packetIdentifierNotFound);
      return true;
    }
    if (sent.form.qos !== 2) return false;
    if (reasonCode >= REASON.unspecified) this.#finish(packetId, sent);
    else void this.#release(packetId, sent);
    return true;
  }

  pubcomp(packetId: number): boolean {
    const sent = this.#inFlight.get(packetId);
    if (!sent) return true;
    if (!sent.isReleased) return false;
    this.#finish(packetId, sent);
    return true;
  }

  /**
   * Sends retained messages at the client's own pace, in front of all that comes meanwhile, so that
   * none arrives after a newer one on its topic.
   */
  replay(retained: readonly Retained[]): void {
    if (retained.length === 0) return;
    const { retained_messages_max } = this.#options.limits;
    if (this.#replays.length > 0 && this.#replaying + retained.length > retained_messages_max) {
      this.#wire.end(REASON.quotaExceeded, "it asks for retained messages faster than it reads");
      return;
    }
    this.#replaying += retained.length;
    this.#replays.push(retained);
    this.#behind ??= [];
    if (this.#replays.length === 1) void this.#runReplays();
  }

  /** The connection is over: what of it is another member's now, if it came by a shared subscription. */
  end(): Entry[] {
    const waiting = [...this.#resuming, ...(this.#behind ?? [])];
    const behind = waiting.map((it) => ({ ...it, number: 0, isReleased: false }));
    this.#resuming = [];
    this.#behind = undefined;
    this.#wakeReplay?.();
    const unacknowledged = [...this.#inFlight.values()].filter(({ form }) => form.qos === 1);
    return [...unacknowledged, ...this.#source.rest(), ...behind].filter(
      ({ shared }) => shared !== undefined,
    );
  }

  async #runReplays(): Promise<void> {
    for (let next = this.#replays[0]; next; next = this.#replays[0]) {
      await this.#runReplay(next);
      this.#replays.shift();
      this.#replaying -= next.length;
    }
    this.#resuming = this.#behind ?? [];
    this.#behind = undefined;
    this.#behindBytes = 0;
    for (let next = this.#resuming.shift(); next; next = this.#resuming.shift()) {
      const { publication, form, shared } = next;
      if (form.qos === 0) this.send(publication, form);
      else this.offer(publication, form, shared);
    }
    this.pump();
  }

  async #runReplay(retained: readonly Retained[]): Promise<void> {
    let inTurn = 0;
    for (const { message, form } of retained) {
      if (++inTurn > REPLAY_TURN) {
        inTurn = 0;
        await new Promise((resolve) => setImmediate(resolve));
      }
      while (this.#wire.isOpen && (this.#wire.isBlocked || this.#source.isWaiting)) {
        await new Promise<void>((resolve) => {
          this.#wakeReplay = resolve;
        });
      }
      if (!this.#wire.isOpen) return;
      this.#replayOne(new Publication(message), form);
    }
  }

  #replayOne(publication: Publication, form: Form): void {
    if (form.qos === 0) {
      this.#write(publication, form, 0, false);
    } else {
      (this.#source as MemorySource).push(publication, form);
      this.pump();
    }
  }

  #waitBehind(waiting: Behind): void {
    const { delivery_messages_max, delivery_bytes_max } = this.#options.limits;
    const { payload, topic } = waiting.publication.message;
    const bytes = this.#behindBytes + payload.length + topic.length;
    const count = this.#behind?.length ?? 0;
    const isFull = count >= delivery_messages_max || bytes > delivery_bytes_max;
    if (isFull && waiting.form.qos === 0) {
      this.#options.count.dropped("slow-reader");
      return;
    }
    // Over the limit, too: what came by a shared subscription is another member's then.
    this.#behind?.push(waiting);
    this.#behindBytes = bytes;
    if (isFull) this.#wire.end(REASON.quotaExceeded, "it reads more slowly than messages arrive");
  }

  #isFull(): boolean {
    if (!this.#wire.isBlocked) return false;
    const { delivery_messages_max, delivery_bytes_max } = this.#options.limits;
    return (
      this.#wire.waitingPackets >= delivery_messages_max ||
      this.#wire.unsentBytes >= delivery_bytes_max
    );
  }

  #start(entry: Entry): void {
    const packetId = packetIdOf(entry.number);
    const isRepeat = entry.number <= this.#sentUpTo;
    this.#sentUpTo = Math.max(this.#sentUpTo, entry.number);
    this.#inFlight.set(packetId, entry);
    if (entry.publication === undefined) {
      this.#wire.pubrel(packetId, REASON.success);
      return;
    }
    const reason = this.#reasonToDrop(entry.publication, isRepeat);
    if (reason !== undefined) this.#options.count.dropped(reason);
    const isSent =
      reason === undefined && this.#write(entry.publication, entry.form, packetId, isRepeat);
    if (!isSent) {
      this.#inFlight.delete(packetId);
      this.#source.remove(entry);
      return;
    }
    this.#source.sent(entry);
  }

  #reasonToDrop({ message, isExpired }: Publication, isRepeat: boolean) {
    if (!this.#options.subscriber.mayReceive(message.topic)) return "not-authorized";
    // What was sent before is sent again, however old it is by now [MQTT-4.3.3-7].
    if (isRepeat) return undefined;
    if (isExpired) return "expired";
    const ageMs = steadyNowMs() - message.takenAtMs;
    const isOld = ageMs > this.#options.limits.queue_seconds_max * 1_000;
    return this.#options.queue && isOld ? "too-old" : undefined;
  }

  /** False: the client takes no packet as long as this one [MQTT-3.1.2-24, 3.1.2-25]. */
  #write(publication: Publication, form: Form, packetId: number, dup: boolean): boolean {
    const it =
      this.#wire.topicAliasMaximum > 0
        ? this.#withAlias(publication, form)
        : publication.bytes(this.#wire.level, form);
    if (it.bytes.length > this.#wire.maximumPacketBytes) {
      this.#options.count.dropped("too-large");
      return false;
    }
    this.#wire.publish(it, packetId, dup);
    this.#options.count.delivered.add();
    return true;
  }

  /** The first topics of the connection get its aliases; with them they need not be said again. */
  #withAlias(publication: Publication, form: Form): PublishBytes {
    const { level, topicAliasMaximum } = this.#wire;
    const { topic } = publication.message;
    this.#aliases ??= new Map();
    const known = this.#aliases.get(topic);
    if (known !== undefined) {
      return publication.encode(level, form, { topicAlias: known, topicIsKnown: true });
    }
    if (this.#aliases.size >= topicAliasMaximum) return publication.bytes(level, form);
    const topicAlias = this.#aliases.size + 1;
    const it = publication.encode(level, form, { topicAlias, topicIsKnown: false });
    // One that is too long to be sent has told the client nothing.
    if (it.bytes.length <= this.#wire.maximumPacketBytes) this.#aliases.set(topic, topicAlias);
    return it;
  }

  async #release(packetId: number, sent: Entry): Promise<void> {
    try {
      if (!sent.isReleased) await this.#source.release(sent);
    } catch {
      // Unreleased it is delivered once more, under the same id, at the next connection.
      this.#wire.end(REASON.serverBusy, "its queue cannot be written");
      return;
    }
    sent.isReleased = true;
    this.#wire.pubrel(packetId, REASON.success);
  }

  #finish(packetId: number, entry: Entry): void {
    this.#inFlight.delete(packetId);
    this.#source.remove(entry);
    this.pump();
  }
}

function packetIdOf(number: number): number {
  return ((number - 1) % PACKET_IDS) + 1;
}
