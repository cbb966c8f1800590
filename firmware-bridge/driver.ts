// driver: the words that links, drivers and devices share.
// Path: links → [driver] → drivers → devices. Touches: nothing.

import type { Duplex } from "node:stream";
import type { Log } from "#runtime/log";

/** What one read of a link gave. */
export interface Chunk {
  readonly bytes: Uint8Array;
  /** When it came, in ms of Unix time. */
  readonly receivedAtMs: number;
}

/** What came in one datagram. */
export interface Datagram extends Chunk {
  /** `host:port` of who sent it. */
  readonly peer: string;
}

/** A link on which each message stands alone and says who sent it. */
export interface Datagrams {
  /** What arrives, in order; ends when the link is gone. */
  readonly received: AsyncIterable<Datagram>;
  /** Resolves when the bytes have left; `peer` is `host:port`; @throws SluiceError LINK_FAILED. */
  send(peer: string, bytes: Uint8Array): Promise<void>;
}

/** An open link that is ours alone, as a driver sees it. */
export interface Link {
  /** As the settings name it. */
  readonly path: string;
  /** Undefined where the link is no serial line. */
  readonly baudRate: number | undefined;
  /** What arrives, in order; ends when the link is gone. Whoever stops asking holds it back. */
  readonly readable: AsyncIterable<Chunk>;
  /** Resolves when the bytes have left the machine; @throws SluiceError LINK_FAILED. */
  write(bytes: Uint8Array): Promise<void>;
  /** Only of an address `udp://…`; its readable gives nothing, and ends with the link. */
  readonly datagrams?: Datagrams;
}

/** What a driver says of a device. */
export interface Message {
  /** The topic's end: one level, or several with `/` between them, each made by channelOf. */
  readonly channel: string;
  readonly payload: Uint8Array;
  /** When the link gave it, in ms of Unix time; without it, now. */
  readonly receivedAtMs?: number;
}

/** What somebody wants of a device: to the whole of it, or to one of its channels. */
export interface Command {
  readonly channel: string | undefined;
  readonly payload: Uint8Array;
}

export type Outcome =
  | { readonly state: "done" }
  | { readonly state: "failed"; readonly reason: string };

/** Carries one command out; a device asks for the next only when it has the outcome. */
export type CarryOut = (command: Command) => Promise<Outcome>;

/** What is known of one channel of a device. */
export interface Channel {
  readonly name: string;
  /** As "°C" or "kWh". */
  readonly unit?: string;
  readonly kind?: "number" | "boolean" | "text";
  /** Takes commands on `…/set/<name>`. */
  readonly writable?: boolean;
  /** How its messages are told, unless the settings say otherwise. */
  readonly policy?: Policy;
}

/** Which of a channel's messages are told, and how; without one, all of them, not retained. */
export interface Policy {
  readonly retain?: boolean;
  /** At most one message in this time; the newest of it is told at its end. */
  readonly throttleMs?: number;
  /** A number is told when it is further than this from the one told last; 0: when its bytes differ. */
  readonly deadBand?: number;
  /** What was told last is told again after this time. */
  readonly heartbeatMs?: number;
}

/** What is known of a device beyond its name. */
export interface About {
  readonly model?: string;
  readonly firmware?: string;
  readonly channels?: readonly Channel[];
}

/** What speaks on a link: one MQTT client of its own. */
export interface Device {
  readonly name: string;
  /** Takes a message, in order; what it returns resolves when there is room for the next. */
  publish(message: Message): Promise<void> | undefined;
  /** From now on the device is there, and `carryOut` gets its commands. */
  online(carryOut: CarryOut): void;
  /** Until the next `online`; the end of its link does the same. */
  offline(reason: string): void;
  /** Learned later than `Host.device`; replaces what was said before under the same keys. */
  describe(about: About): void;
}

/** The way to the broker for what speaks MQTT, or nearly so, by itself. */
export interface BrokerDoor {
  /** A new stream to the broker, still connecting. */
  readonly open: () => Duplex;
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** A small file of a driver's own, for what it must know after a restart. */
export interface Memory {
  /** What was written last, a JSON value; undefined when there is none that can be read. */
  read(): Promise<unknown>;
  /** Resolves when it is on disk, whole; @throws SluiceError MEMORY_FAILED. */
  write(value: unknown): Promise<void>;
}

/** What a driver has around it, as long as the process lives. */
export interface Host {
  /** The link's own name. */
  readonly name: string;
  /** The device of a link that is one device. */
  readonly deviceName: string;
  readonly log: Log;
  readonly door: BrokerDoor;
  readonly memory: Memory;
  /**
   * The device of that name; the same one each time. Drivers name all they know when created.
   * @throws SluiceError SETTINGS_INVALID when another link has it.
   */
  device(name: string, about?: About): Device;
  /** Counts frames that were understood. */
  countFrames(count: number): void;
  /** Counts a frame that was not, and tells it, with its bytes, as seldom as is useful. */
  fault(reason: string, frame?: Uint8Array): void;
}

/** Speaks one protocol on one link, each time that it is up. */
export interface Driver {
  /**
   * Resolves when the link has ended and all that it brought is handed on; @throws SluiceError
   * when it cannot go on: the link is then closed, and tried again later.
   */
  run(link: Link): Promise<void>;
}

/** What a codec makes of bytes: messages, what it learned, and what it could not understand. */
export type Decoded =
  | { readonly kind: "message"; readonly message: Message }
  | { readonly kind: "about"; readonly about: About }
  | { readonly kind: "fault"; readonly reason: string; readonly frame?: Uint8Array };

export type Encoded =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "refused"; readonly reason: string };

/** The pure part of a driver; it holds what a link has begun to say, so each run takes a new one. */
export interface Codec {
  decode(chunk: Uint8Array): Decoded[];
  encode(command: Command): Encoded;
}

/** Channels that would be one of the device's other topics. */
const RESERVED_CHANNELS = new Set(["availability", "debug", "result", "set"]);
const CHANNEL_CHARACTERS_MAX = 128;
// What splits or widens a topic, and what a broker may close a connection for [MQTT-1.5.3-2].
const UNSAFE_IN_CHANNEL = /[/+#\p{Control}\p{Noncharacter_Code_Point}]/gu;

/** The name as one topic level of a device; undefined when it cannot be one. */
export function channelOf(name: string): string | undefined {
  if (name.length === 0 || name.length > CHANNEL_CHARACTERS_MAX) return undefined;
  const level = name.toWellFormed().replace(UNSAFE_IN_CHANNEL, "_");
  return RESERVED_CHANNELS.has(level) ? `${level}_` : level;
}
