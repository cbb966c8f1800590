// packet-bytes: packets as a client would write them, well-formed or not, and what becomes of them.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { PacketReader } from "../../../../broker/mqtt/wire/packet-reader.ts";
import type { ClientPacket, ProtocolLevel } from "../../../../broker/mqtt/wire/packets.ts";
import { WireError } from "../../../../broker/mqtt/wire/wire-error.ts";

export type Bytes = string | readonly number[] | Uint8Array;

export const LEVELS = [3, 4, 5] as const satisfies readonly ProtocolLevel[];

/** Reason codes by their numbers in MQTT 5.0 §2.4, not by the names of what is tested. */
export const CODE = {
  malformed: 0x81,
  protocolError: 0x82,
  version: 0x84,
  clientId: 0x85,
  topicName: 0x90,
  topicAlias: 0x94,
  tooLarge: 0x95,
} as const;

/** Bytes of hexadecimal digits, of numbers, or as they are. */
export function raw(...parts: readonly Bytes[]): Buffer {
  const pieces = parts.map((part) =>
    typeof part === "string" ? Buffer.from(part.replaceAll(" ", ""), "hex") : Buffer.from(part),
  );
  return Buffer.concat(pieces);
}

export function variable(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest % 128) + (rest >= 128 ? 128 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.from(bytes);
}

/** A string or binary data: two bytes of length, and the rest. */
export function field(text: string | Uint8Array): Buffer {
  const bytes = Buffer.from(text);
  return raw([bytes.length >> 8, bytes.length & 0xff], bytes);
}

/** A packet: first byte, remaining length, body. */
export function packet(first: number, ...body: readonly Bytes[]): Buffer {
  const bytes = raw(...body);
  return raw([first], variable(bytes.length), bytes);
}

/** Properties with their length in front; in 3.x nothing at all. */
export function properties(level: ProtocolLevel, ...parts: readonly Bytes[]): Buffer {
  if (level !== 5) return raw();
  const bytes = raw(...parts);
  return raw(variable(bytes.length), bytes);
}

export interface ConnectForm {
  readonly name?: string;
  readonly levelByte?: number;
  readonly flags?: number;
  readonly properties?: Bytes;
  readonly clientId?: string | Uint8Array;
  /** All behind the client id. */
  readonly rest?: Bytes;
}

export function connect(level: ProtocolLevel, form: ConnectForm = {}): Buffer {
  return packet(
    0x10,
    field(form.name ?? (level === 3 ? "MQIsdp" : "MQTT")),
    [form.levelByte ?? level, form.flags ?? 0x02, 0, 60],
    properties(level, form.properties ?? ""),
    field(form.clientId ?? "c1"),
    form.rest ?? "",
  );
}

export interface PublishParts {
  readonly qos?: number;
  readonly flags?: number;
  readonly topic?: string | Uint8Array;
  readonly id?: Bytes;
  readonly properties?: Bytes;
  readonly payload?: Bytes;
}

export function publish(level: ProtocolLevel, parts: PublishParts = {}): Buffer {
  const qos = parts.qos ?? 0;
  return packet(
    0x30 | (parts.flags ?? 0) | (qos << 1),
    field(parts.topic ?? "a/b"),
    parts.id ?? (qos > 0 ? "0007" : ""),
    properties(level, parts.properties ?? ""),
    parts.payload ?? "70",
  );
}

export const GENEROUS = { beforeConnectBytesMax: 300_000_000, bytesMax: 300_000_000 };

/** A reader whose client of that level has connected. */
export function readerOf(level: ProtocolLevel, limits = GENEROUS): PacketReader {
  const reader = new PacketReader({ ...limits, beforeConnectBytesMax: 1_000 });
  reader.push(connect(level), () => undefined);
  reader.connected();
  return reader;
}

/** A copy in memory of its own, so that a view of it can be told from another copy. */
export function alone(bytes: Buffer): Buffer {
  return Buffer.from(new Uint8Array(bytes).buffer);
}

/** What `reader` makes of the bytes. */
export function packetsOf(reader: PacketReader, ...chunks: readonly Buffer[]): ClientPacket[] {
  const packets: ClientPacket[] = [];
  for (const chunk of chunks) reader.push(chunk, (one) => packets.push(one));
  return packets;
}

/** The one packet that these bytes are, from a client of that level. */
export function read(level: ProtocolLevel, bytes: Buffer): ClientPacket {
  return only(packetsOf(readerOf(level), bytes));
}

/** The CONNECT that these bytes are. */
export function readConnect(bytes: Buffer): ClientPacket {
  return only(packetsOf(new PacketReader(GENEROUS), bytes));
}

function only(packets: ClientPacket[]): ClientPacket {
  const [first] = packets;
  assert.equal(packets.length, 1);
  assert.ok(first);
  return first;
}

/** The fault that these bytes are, from a client of that level. */
export function faultOf(level: ProtocolLevel, bytes: Buffer): WireError {
  return faultIn(() => packetsOf(readerOf(level), bytes));
}

/** The fault that these bytes are as the first of a stream. */
export function connectFaultOf(bytes: Buffer): WireError {
  return faultIn(() => packetsOf(new PacketReader(GENEROUS), bytes));
}

export function faultIn(action: () => unknown): WireError {
  try {
    action();
  } catch (fault) {
    assert.ok(fault instanceof WireError, `threw ${String(fault)}`);
    assert.ok(fault.message.length > 0);
    return fault;
  }
  throw new assert.AssertionError({ message: "nothing was refused" });
}

/** Refuses bytes from clients of these levels with this reason code. */
export function assertRefused(
  levels: readonly ProtocolLevel[],
  code: number,
  bytes: (level: ProtocolLevel) => Buffer,
): void {
  for (const level of levels) {
    assert.equal(faultOf(level, bytes(level)).reasonCode, code, `at level ${level}`);
  }
}
