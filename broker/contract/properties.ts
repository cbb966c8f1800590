// properties: MQTT 5.0 properties as raw bytes: what is added to them, and what is left out.
// Path: mqtt, uplink, ingest → [properties]. Touches: nothing.

import { ByteReader } from "./bytes.ts";
import { SluiceError } from "./errors.ts";
import { type Message, readText } from "./message.ts";

/**
 * The user properties (MQTT 5.0 §3.3.2.3.7) by which a consumer of the cluster tells where a bridged
 * message comes from, and a repeat from a new one. They stand behind the publisher's own, once each;
 * nobody else can set them: what a device sent under these names is left out.
 * - `sluice-gateway`: the gateway's name.
 * - `sluice-lane`: the lane of its outbox that the message came by.
 * - `sluice-epoch`: the epoch of that outbox, a decimal number; messages of an older one are over.
 * - `sluice-sequence`: the message's place in lane and epoch, a decimal number that grows by one,
 *   over messages that expired or were dropped too. Under the same gateway, lane and epoch a
 *   sequence that was seen before is a repeat.
 */
export const BRIDGE_PROPERTIES = {
  gateway: "sluice-gateway",
  lane: "sluice-lane",
  epoch: "sluice-epoch",
  sequence: "sluice-sequence",
} as const;

/**
 * The user property by which a subscriber on a gateway knows a command of the cloud: its id, which
 * no other command of this gateway has. Nobody else can set it.
 */
export const COMMAND_PROPERTY = "sluice-command";

/**
 * The user property by which the firmware-bridge says when a device's message came from its port:
 * a time as in ISO 8601, UTC with milliseconds. Of other publishers it is their own word.
 */
export const RECEIVED_PROPERTY = "sluice-received";

/** The properties that are passed on with a PUBLISH (MQTT 5.0 §2.2.2.2). */
const PROPERTY = {
  payloadFormat: 0x01,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  user: 0x26,
} as const;

const LENGTH_BYTES = 2;
const TEXT_BYTES_MAX = 65_535;

const encoder = new TextEncoder();

/**
 * A user property (MQTT 5.0 §3.3.2.3.7) in wire bytes.
 * @throws SluiceError FRAME_INVALID for text that MQTT cannot carry: over 65,535 bytes of UTF-8,
 * with U+0000 or with a lone surrogate [MQTT-1.5.4-1, MQTT-1.5.4-2].
 */
export function userProperty(name: string, value: string): Uint8Array {
  return joinProperties([Uint8Array.of(PROPERTY.user), wireText(name), wireText(value)]);
}

function wireText(text: string): Uint8Array {
  const bytes = encoder.encode(text);
  if (bytes.length > TEXT_BYTES_MAX) {
    throw new SluiceError(
      "FRAME_INVALID",
      `a property's text has ${bytes.length} bytes, MQTT carries ${TEXT_BYTES_MAX}`,
    );
  }
  if (!text.isWellFormed()) {
    throw new SluiceError("FRAME_INVALID", "a property's text holds a lone surrogate");
  }
  assertNoNull(text);
  const wire = new Uint8Array(LENGTH_BYTES + bytes.length);
  wire[0] = bytes.length >> 8;
  wire[1] = bytes.length & 0xff;
  wire.set(bytes, LENGTH_BYTES);
  return wire;
}

/** All of the parts' bytes, one behind the other. */
export function joinProperties(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * Views of the properties in Message.properties, each of its own, in order, but for the user
 * properties with one of `names`.
 * @throws SluiceError FRAME_INVALID when the bytes are not properties that may be passed on: a
 * subscriber that received them would have to end its connection.
 */
export function propertiesWithout(
  properties: Uint8Array,
  names: ReadonlySet<string>,
): Uint8Array[] {
  const reader = new ByteReader(properties);
  const seen = new Set<number>();
  const kept: Uint8Array[] = [];
  while (reader.left > 0) {
    const from = properties.length - reader.left;
    const userName = readProperty(reader, seen);
    if (userName !== undefined && names.has(userName)) continue;
    kept.push(properties.subarray(from, properties.length - reader.left));
  }
  return kept;
}

const COMMAND_NAMES: ReadonlySet<string> = new Set([COMMAND_PROPERTY]);
const COMMAND_BYTES = encoder.encode(COMMAND_PROPERTY);

/** The message without what only a command of the cloud may say. @throws as propertiesWithout. */
export function withoutCommandId(message: Message): Message {
  const { properties } = message;
  // Few messages have properties, and hardly any this one: those need not be taken apart.
  if (!properties || !holds(properties, COMMAND_BYTES)) return message;
  return { ...message, properties: joinProperties(propertiesWithout(properties, COMMAND_NAMES)) };
}

function holds(bytes: Uint8Array, wanted: Uint8Array): boolean {
  const [first = 0] = wanted;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return true;
  }
  return false;
}

/** Where a request is to be answered (MQTT 5.0 §4.10). */
export interface Response {
  readonly topic?: string;
  /** The Correlation Data, as the wire bytes of that property. */
  readonly correlation?: Uint8Array;
}

/** @throws SluiceError FRAME_INVALID when the bytes are not properties that may be passed on. */
export function responseOf(properties: Uint8Array): Response {
  const response: { -readonly [Name in keyof Response]: Response[Name] } = {};
  for (const property of propertiesWithout(properties, NO_NAMES)) {
    const reader = new ByteReader(property);
    const id = reader.byte();
    if (id === PROPERTY.responseTopic) response.topic = takeText(reader);
    if (id === PROPERTY.correlationData) response.correlation = property;
  }
  return response;
}

const NO_NAMES: ReadonlySet<string> = new Set();

/** Reads one property, and answers with the name if it is a user property. */
function readProperty(reader: ByteReader, seen: Set<number>): string | undefined {
  const id = reader.byte();
  if (id === PROPERTY.user) {
    const name = takeText(reader);
    takeText(reader);
    return name;
  }
  // All but user properties may stand there once (MQTT 5.0 §3.3.2.3).
  if (seen.has(id)) throw new SluiceError("FRAME_INVALID", `holds property ${id} twice`);
  seen.add(id);
  readValue(reader, id);
  return undefined;
}

function readValue(reader: ByteReader, id: number): void {
  if (id === PROPERTY.payloadFormat) {
    const format = reader.byte();
    if (format > 1) throw new SluiceError("FRAME_INVALID", `holds payload format ${format}`);
  } else if (id === PROPERTY.contentType) {
    takeText(reader);
  } else if (id === PROPERTY.responseTopic) {
    // [MQTT-3.3.2-14, MQTT-4.7.3-1]
    if (!/^[^+#]+$/.test(takeText(reader))) {
      throw new SluiceError("FRAME_INVALID", "holds a response topic that is empty or a filter");
    }
  } else if (id === PROPERTY.correlationData) {
    takeBinary(reader);
  } else {
    throw new SluiceError("FRAME_INVALID", `holds property ${id}, which is not passed on`);
  }
}

function takeText(reader: ByteReader): string {
  const text = readText(takeBinary(reader));
  assertNoNull(text);
  return text;
}

function takeBinary(reader: ByteReader): Uint8Array {
  return reader.take(reader.byte() * 0x100 + reader.byte());
}

function assertNoNull(text: string): void {
  if (text.includes("\u0000")) {
    throw new SluiceError("FRAME_INVALID", "a property's text holds U+0000");
  }
}
