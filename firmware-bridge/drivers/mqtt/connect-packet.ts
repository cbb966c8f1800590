// connect-packet: reads what matters of a CONNECT packet, adds a login to it, and refuses it.
// Path: packet-framer → [connect-packet] → mqtt. Touches: nothing.

/** What a CONNECT says of who connects (MQTT 3.1.1 and 5.0 clause 3.1). */
export interface ConnectFacts {
  /** 3 for MQTT 3.1, 4 for 3.1.1, 5 for 5.0. */
  readonly version: number;
  readonly clientId: string;
  readonly hasLogin: boolean;
}

/** The protocol version's high bit, which mosquitto sets on connections between brokers. */
const BRIDGE_BIT = 0x80;
const FLAG_USERNAME = 0x80;
const FLAG_PASSWORD = 0x40;
const KEEP_ALIVE_BYTES = 2;
const LENGTH_BYTES_MAX = 4;

/** Of a whole CONNECT packet; undefined where it ends too soon. */
export function readConnect(packet: Uint8Array): ConnectFacts | undefined {
  const bytes = Buffer.from(packet.buffer, packet.byteOffset, packet.byteLength);
  const flagsAt = flagsOf(bytes);
  const level = bytes[flagsAt - 1];
  const flags = bytes[flagsAt];
  if (level === undefined || flags === undefined) return undefined;
  const version = level & ~BRIDGE_BIT;
  const clientIdAt = afterProperties(bytes, flagsAt + 1 + KEEP_ALIVE_BYTES, version);
  if (clientIdAt === undefined || clientIdAt + 2 > bytes.length) return undefined;
  const end = clientIdAt + 2 + bytes.readUInt16BE(clientIdAt);
  if (end > bytes.length) return undefined;
  const clientId = bytes.toString("utf8", clientIdAt + 2, end);
  return { version, clientId, hasLogin: (flags & (FLAG_USERNAME | FLAG_PASSWORD)) !== 0 };
}

/**
 * A packet without a login, with one: the two fields are the last of the payload [MQTT-3.1.3-1], so
 * that all else stays byte for byte as it was.
 */
export function withLogin(packet: Uint8Array, username: string, password?: string): Uint8Array {
  const bytes = Buffer.from(packet);
  const flagsAt = flagsOf(bytes);
  const added = FLAG_USERNAME | (password === undefined ? 0 : FLAG_PASSWORD);
  bytes[flagsAt] = (bytes[flagsAt] ?? 0) | added;
  const body = [bytes.subarray(readLength(bytes).end), field(username)];
  if (password !== undefined) body.push(field(password));
  const length = body.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([bytes.subarray(0, 1), writeLength(length), ...body]);
}

/** Why a CONNECT is not handed on: return code of 3.1.1 (clause 3.2.2.3), reason code of 5.0 (3.2.2.2). */
export const REFUSALS = {
  clientId: [0x02, 0x85],
  busy: [0x03, 0x89],
} as const;

/** CONNACK that refuses, in the words of the version. */
export function connackOf([code, code5]: readonly [number, number], version: number): Uint8Array {
  return version >= 5
    ? Uint8Array.of(0x20, 3, 0, code5, 0) // no properties
    : Uint8Array.of(0x20, 2, 0, code);
}

/** The remaining length behind a packet's first byte (clause 2.2.3); `end` is where the rest begins. */
export function readLength(bytes: Uint8Array, at = 1): { value: number; end: number } {
  let value = 0;
  for (let index = 0; index < LENGTH_BYTES_MAX; index += 1) {
    const byte = bytes[at + index];
    if (byte === undefined) return { value: PARTIAL, end: at };
    value += (byte & 0x7f) * 128 ** index;
    if (byte < 0x80) return { value, end: at + index + 1 };
  }
  return { value: MALFORMED, end: at };
}

/** The bytes end within the length. */
export const PARTIAL = -1;
/** It has more than four bytes [MQTT-1.5.5-1]. */
export const MALFORMED = -2;

/** Where the connect flags stand: behind the protocol's name and version. */
function flagsOf(bytes: Buffer): number {
  const nameAt = readLength(bytes).end;
  const nameBytes = nameAt + 2 <= bytes.length ? bytes.readUInt16BE(nameAt) : 0;
  return nameAt + 2 + nameBytes + 1;
}

function afterProperties(bytes: Uint8Array, at: number, version: number): number | undefined {
  if (version < 5) return at;
  const { value, end } = readLength(bytes, at);
  return value < 0 ? undefined : end + value;
}

function field(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function writeLength(length: number): Buffer {
  const bytes: number[] = [];
  let left = length;
  do {
    const low = left % 128;
    left = Math.floor(left / 128);
    bytes.push(left > 0 ? low | 0x80 : low);
  } while (left > 0);
  return Buffer.from(bytes);
}
