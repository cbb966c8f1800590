// wire-build: the bytes of every packet that a client can send, and of many that it must not.
// Path: wire-client → [wire-build]. Touches: nothing.

import {
  type Bytes,
  encodeProperties,
  integer,
  type Properties,
  prefixed,
  type Text,
  variable,
} from "./wire-properties.ts";

/** Protocol level: MQTT 3.1, 3.1.1, 5.0. */
export type Version = 3 | 4 | 5;
export type Qos = 0 | 1 | 2;

/** What a builder may be told to get wrong. */
export interface Malformed {
  /** The low half of the first byte. */
  readonly flags?: number;
  /** In the place of the true Remaining Length: a number, or the bytes themselves. */
  readonly remainingLength?: number | Bytes;
  /** Appended to the body. */
  readonly tail?: Bytes;
}

interface Propertied {
  /** Left away in 3.x; bytes stand for themselves, behind their length. */
  readonly properties?: Properties | Bytes;
}

export interface WillOptions extends Propertied {
  readonly topic: Text;
  readonly payload?: Text;
  readonly qos?: number;
  readonly retain?: boolean;
}

export interface ConnectOptions extends Malformed, Propertied {
  /** Default 4. */
  readonly version?: Version;
  /** In the place of the version's own. */
  readonly protocolName?: Text;
  readonly protocolLevel?: number;
  /** Default "": the broker assigns one, which needs `clean`. */
  readonly clientId?: Text;
  /** Clean Session or Clean Start; default true. */
  readonly clean?: boolean;
  /** Seconds; default 0, none. */
  readonly keepAlive?: number;
  readonly will?: WillOptions;
  readonly username?: Text;
  readonly password?: Text;
  /** In the place of those that follow from the other options. */
  readonly connectFlags?: number;
}

export interface PublishOptions extends Malformed, Propertied {
  readonly topic: Text;
  readonly payload?: Text;
  readonly qos?: number;
  readonly retain?: boolean;
  readonly dup?: boolean;
  /** With QoS 1 and 2; default 1. */
  readonly packetId?: number;
}

export interface AckOptions extends Malformed, Propertied {
  readonly packetId?: number;
  /** In 5.0 alone; left away when neither it nor `properties` is given. */
  readonly code?: number;
}

export interface FilterOptions {
  readonly filter: Text;
  readonly qos?: number;
  readonly noLocal?: boolean;
  readonly retainAsPublished?: boolean;
  readonly retainHandling?: number;
  /** In the place of the byte that follows from the other options. */
  readonly byte?: number;
}

export interface SubscribeOptions extends Malformed, Propertied {
  readonly packetId?: number;
  readonly filters: readonly FilterOptions[];
}

export interface UnsubscribeOptions extends Malformed, Propertied {
  readonly packetId?: number;
  readonly filters: readonly Text[];
}

export interface CodeOptions extends Malformed, Propertied {
  readonly code?: number;
}

/** The bytes that `hex` spells; blanks are passed over. */
export function hex(text: string): Buffer {
  const digits = text.replace(/\s+/g, "");
  const bytes = Buffer.from(digits, "hex");
  if (bytes.length * 2 !== digits.length) throw new Error(`${text} is no hex`);
  return bytes;
}

/** Any packet: type 0 to 15, flags, body. */
export function packet(type: number, flags: number, body: Bytes, wrong: Malformed = {}): Buffer {
  const whole = Buffer.concat([body, wrong.tail ?? Buffer.alloc(0)]);
  const length = wrong.remainingLength ?? whole.length;
  const lengthBytes = typeof length === "number" ? variable(length) : length;
  const first = (type << 4) | (wrong.flags ?? flags);
  return Buffer.concat([Buffer.from([first]), lengthBytes, whole]);
}

export function connectPacket(options: ConnectOptions = {}): Buffer {
  const { version = 4, will, username, password } = options;
  const properties = (some: Propertied) => propertiesOf(version, some);
  const parts = [
    prefixed(options.protocolName ?? (version === 3 ? "MQIsdp" : "MQTT")),
    integer(options.protocolLevel ?? version, 1),
    integer(options.connectFlags ?? connectFlagsOf(options), 1),
    integer(options.keepAlive ?? 0, 2),
    properties(options),
    prefixed(options.clientId ?? ""),
  ];
  if (will) parts.push(properties(will), prefixed(will.topic), prefixed(will.payload ?? ""));
  if (username !== undefined) parts.push(prefixed(username));
  if (password !== undefined) parts.push(prefixed(password));
  return packet(1, 0, Buffer.concat(parts), options);
}

function connectFlagsOf({ clean = true, will, username, password }: ConnectOptions): number {
  const bits = [
    [clean, 0x02],
    [will !== undefined, 0x04],
    [will?.retain === true, 0x20],
    [password !== undefined, 0x40],
    [username !== undefined, 0x80],
  ] as const;
  return bits.reduce((flags, [on, bit]) => flags | (on ? bit : 0), (will?.qos ?? 0) << 3);
}

export function publishPacket(options: PublishOptions, version: Version = 4): Buffer {
  const { topic, payload = "", qos = 0, retain, dup } = options;
  const flags = (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0);
  const body = Buffer.concat([
    prefixed(topic),
    qos > 0 ? integer(options.packetId ?? 1, 2) : Buffer.alloc(0),
    propertiesOf(version, options),
    Buffer.from(payload as string),
  ]);
  return packet(3, flags, body, options);
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP. */
export function ackPacket(
  name: "puback" | "pubrec" | "pubrel" | "pubcomp",
  options: AckOptions,
  version: Version = 4,
): Buffer {
  const type = { puback: 4, pubrec: 5, pubrel: 6, pubcomp: 7 }[name];
  const body = Buffer.concat([integer(options.packetId ?? 1, 2), endOf(version, options)]);
  return packet(type, name === "pubrel" ? 2 : 0, body, options);
}

export function subscribePacket(options: SubscribeOptions, version: Version = 4): Buffer {
  const filters = options.filters.flatMap((one) => {
    const { qos = 0, noLocal, retainAsPublished, retainHandling = 0 } = one;
    const bits = qos | (noLocal ? 4 : 0) | (retainAsPublished ? 8 : 0) | (retainHandling << 4);
    return [prefixed(one.filter), integer(one.byte ?? bits, 1)];
  });
  const start = [integer(options.packetId ?? 1, 2), propertiesOf(version, options)];
  return packet(8, 2, Buffer.concat([...start, ...filters]), options);
}

export function unsubscribePacket(options: UnsubscribeOptions, version: Version = 4): Buffer {
  const start = [integer(options.packetId ?? 1, 2), propertiesOf(version, options)];
  return packet(10, 2, Buffer.concat([...start, ...options.filters.map(prefixed)]), options);
}

export function pingreqPacket(options: Malformed = {}): Buffer {
  return packet(12, 0, Buffer.alloc(0), options);
}

export function disconnectPacket(options: CodeOptions = {}, version: Version = 4): Buffer {
  return packet(14, 0, endOf(version, options), options);
}

/** MQTT 5.0 alone has it. */
export function authPacket(options: CodeOptions = {}): Buffer {
  return packet(15, 0, endOf(5, options), options);
}

function propertiesOf(version: Version, { properties = {} }: Propertied): Buffer {
  return version === 5 ? encodeProperties(properties) : Buffer.alloc(0);
}

/** Reason code and properties, which both may be left away (§3.4.2.1). */
function endOf(version: Version, { code, properties }: CodeOptions): Buffer {
  if (version !== 5 || (code === undefined && properties === undefined)) return Buffer.alloc(0);
  const first = integer(code ?? 0, 1);
  return properties === undefined ? first : Buffer.concat([first, encodeProperties(properties)]);
}
