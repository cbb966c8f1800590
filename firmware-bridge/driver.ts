// driver: the words that links, drivers and devices share.
// Path: links → [driver] → drivers → devices. Touches: nothing.

/** An open, locked serial port, as a driver sees it. */
export interface Link {
  readonly path: string;
  /** What arrives, in order; ends when the port is gone. Whoever stops asking holds the port back. */
  readonly readable: AsyncIterable<Uint8Array>;
  /** Resolves when the bytes have left the machine; @throws SluiceError LINK_FAILED. */
  write(bytes: Uint8Array): Promise<void>;
}

/** What a driver says of a device: `channel` becomes the last level of the topic. */
export interface Message {
  readonly channel: string;
  readonly payload: Uint8Array;
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

/** What speaks on a link: one MQTT client of its own. */
export interface Device {
  /** Takes a message; resolves when there is room for the next. Order is kept. */
  publish(message: Message): Promise<void>;
  /** From now on the device is there, and `carryOut` gets its commands. */
  online(carryOut: CarryOut): void;
}

/** Where a driver gets the devices of its link. */
export interface Host {
  /** The link's own name, for a driver whose link is one device. */
  readonly name: string;
  /** The device of that name; the same one each time. */
  device(name: string): Device;
}

/** Speaks one protocol on one link, each time that it is up. */
export interface Driver {
  /** Resolves when the link has ended and all that it brought is handed on. */
  run(link: Link): Promise<void>;
}

/** What a codec makes of bytes: messages, and what it could not understand. */
export type Decoded =
  | { readonly kind: "message"; readonly message: Message }
  | { readonly kind: "fault"; readonly reason: string };

export type Encoded =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "refused"; readonly reason: string };

/** The pure part of a driver; it holds what a link has begun to say, so each run takes a new one. */
export interface Codec {
  decode(chunk: Uint8Array): Decoded[];
  encode(command: Command): Encoded;
}

/** Channels that would be one of the device's other topics. */
const RESERVED_CHANNELS = new Set(["availability", "result", "set"]);
const CHANNEL_CHARACTERS_MAX = 128;
// What splits or widens a topic, and what a broker may close a connection for [MQTT-1.5.3-2].
const UNSAFE_IN_CHANNEL = /[/+#\p{Control}\p{Noncharacter_Code_Point}]/gu;

/** The name as one topic level of a device; undefined when it cannot be one. */
export function channelOf(name: string): string | undefined {
  if (name.length === 0 || name.length > CHANNEL_CHARACTERS_MAX) return undefined;
  const level = name.toWellFormed().replace(UNSAFE_IN_CHANNEL, "_");
  return RESERVED_CHANNELS.has(level) ? `${level}_` : level;
}
