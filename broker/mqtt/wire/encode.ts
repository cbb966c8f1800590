// encode: the packets that a server sends, as bytes.
// Path: session → [encode] → stream. Touches: nothing.

import { varintBytes, writeVarint } from "#contract/bytes";
import { SluiceError } from "#contract/errors";
import type { Message, Qos } from "#contract/message";
import { type AckPacket, PACKET, type ProtocolLevel } from "./packets.ts";
import { PROPERTY } from "./properties.ts";
import { REASON, returnCodeOf } from "./reason-codes.ts";

/** A string's length takes two bytes (§1.5.4), a remaining length four of seven bits (§2.1.4). */
const LIMITS = { textBytesMax: 65_535, remainingBytesMax: 268_435_455 } as const;

const DUP = 0x08;
const RETAIN = 0x01;
/** The flags of PUBREL [MQTT-3.6.1-1]. */
const PUBREL_FLAGS = 0x02;
/** A refused filter in 3.1.1 (§3.9.3); MQTT 3.1 has no code of its own for it. */
const SUBSCRIBE_FAILURE = 0x80;

/** PINGRESP, whole. */
export const PINGRESP: Buffer = Buffer.of(PACKET.pingresp << 4, 0);

/** What a CONNACK may tell a client of 5.0 (§3.2.2.3); what is left out is not sent. */
export interface ConnackProperties {
  readonly sessionExpirySeconds?: number | undefined;
  readonly receiveMaximum?: number | undefined;
  readonly maximumPacketBytes?: number | undefined;
  readonly assignedClientId?: string | undefined;
  readonly topicAliasMaximum?: number | undefined;
  readonly reasonString?: string | undefined;
  readonly serverKeepAliveSeconds?: number | undefined;
  readonly responseInformation?: string | undefined;
  readonly serverReference?: string | undefined;
}

export interface ConnackForm {
  readonly sessionPresent: boolean;
  /** Of 5.0; 3.x gets the return code that comes nearest. */
  readonly reasonCode: number;
  /** Not sent in 3.x. */
  readonly properties?: ConnackProperties | undefined;
}

/** CONNACK, in the words of the client's version. */
export function encodeConnack(level: ProtocolLevel, form: ConnackForm): Buffer {
  const isRefused = form.reasonCode !== REASON.success;
  // MQTT 3.1 leaves the byte unused; a refusal has no session [MQTT-3.2.2-4; MQTT 5: 3.2.2-6].
  const present = form.sessionPresent && !isRefused && level !== 3 ? 1 : 0;
  if (level !== 5) return packet(PACKET.connack, [present, returnCodeOf(form.reasonCode)]);
  const properties = block(connackProperties(form.properties ?? {}));
  return packet(PACKET.connack, [present, form.reasonCode], properties);
}

function connackProperties(properties: ConnackProperties): Buffer[] {
  return [
    uint32(PROPERTY.sessionExpiry, properties.sessionExpirySeconds),
    uint16(PROPERTY.receiveMaximum, properties.receiveMaximum),
    uint32(PROPERTY.maximumPacketSize, properties.maximumPacketBytes),
    text(PROPERTY.assignedClientId, properties.assignedClientId),
    uint16(PROPERTY.topicAliasMaximum, properties.topicAliasMaximum),
    text(PROPERTY.reasonString, properties.reasonString),
    uint16(PROPERTY.serverKeepAlive, properties.serverKeepAliveSeconds),
    text(PROPERTY.responseInformation, properties.responseInformation),
    text(PROPERTY.serverReference, properties.serverReference),
  ];
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP; 3.x gets neither reason. */
export function encodeAck(
  type: AckPacket["type"],
  level: ProtocolLevel,
  packetId: number,
  reasonCode: number,
  reasonString?: string,
): Buffer {
  const hasReason = level === 5 && (reasonCode !== REASON.success || reasonString !== undefined);
  if (hasReason) return encodeReasonedAck(type, packetId, reasonCode, reasonString);
  const bytes = Buffer.allocUnsafe(4);
  bytes[0] = firstOf(type);
  bytes[1] = 2;
  bytes[2] = packetId >> 8;
  bytes[3] = packetId & 0xff;
  return bytes;
}

function encodeReasonedAck(
  type: AckPacket["type"],
  packetId: number,
  reasonCode: number,
  reasonString: string | undefined,
): Buffer {
  const head = [...idBytes(packetId), reasonCode];
  // §3.4.2.2.1: without properties their length is left out, too.
  if (reasonString === undefined) return packet(type, head);
  return packet(type, head, block([text(PROPERTY.reasonString, reasonString)]));
}

/** SUBACK: one code a filter, in the order of the SUBSCRIBE [MQTT-3.8.4-5; MQTT 5: 3.8.4-6]. */
export function encodeSuback(
  level: ProtocolLevel,
  packetId: number,
  reasonCodes: readonly number[],
  reasonString?: string,
): Buffer {
  if (level !== 5) {
    const codes = reasonCodes.map((code) => (code >= 0x80 ? SUBSCRIBE_FAILURE : code));
    return packet(PACKET.suback, idBytes(packetId), codes);
  }
  const properties = block([text(PROPERTY.reasonString, reasonString)]);
  return packet(PACKET.suback, idBytes(packetId), properties, reasonCodes);
}

/** UNSUBACK: one code a filter in 5.0 [MQTT-3.11.3-1], none in 3.x. */
export function encodeUnsuback(
  level: ProtocolLevel,
  packetId: number,
  reasonCodes: readonly number[],
): Buffer {
  if (level !== 5) return packet(PACKET.unsuback, idBytes(packetId));
  return packet(PACKET.unsuback, idBytes(packetId), block([]), reasonCodes);
}

export interface DisconnectForm {
  readonly reasonString?: string | undefined;
  readonly serverReference?: string | undefined;
}

/** DISCONNECT of a server: 5.0 alone has it. */
export function encodeDisconnect(reasonCode: number, form: DisconnectForm = {}): Buffer {
  const properties = [
    text(PROPERTY.reasonString, form.reasonString),
    text(PROPERTY.serverReference, form.serverReference),
  ];
  // §3.14.2.2.1: without properties their length is left out, too.
  if (properties.every((property) => property.length === 0)) {
    return packet(PACKET.disconnect, [reasonCode]);
  }
  return packet(PACKET.disconnect, [reasonCode], block(properties));
}

/** How a message is to be said to one kind of subscriber. */
export interface PublishForm {
  readonly level: ProtocolLevel;
  readonly qos: Qos;
  readonly retain: boolean;
  readonly dup: boolean;
  /** All that follow are said in 5.0 alone. */
  readonly subscriptionIds: readonly number[];
  readonly expirySeconds?: number | undefined;
  readonly topicAlias?: number | undefined;
  /** The alias stands for the topic already: the topic is left out. */
  readonly topicIsKnown?: boolean | undefined;
}

/** A PUBLISH, and where its packet id goes, which is 0 as yet; -1 with QoS 0. */
export interface EncodedPublish {
  readonly bytes: Buffer;
  readonly packetIdAt: number;
}

/**
 * PUBLISH. Its properties: the form's, then the message's own as they came [MQTT-3.3.2-17].
 * @throws SluiceError TOPIC_INVALID or PACKET_TOO_LARGE when topic or packet are longer than MQTT can say.
 */
export function encodePublish(
  message: Pick<Message, "topic" | "payload" | "properties">,
  form: PublishForm,
): EncodedPublish {
  const topic = form.topicIsKnown === true ? "" : message.topic;
  const topicBytes = Buffer.byteLength(topic);
  const own = form.level === 5 ? ownPropertyBytes(form) : 0;
  const forwarded = form.level === 5 ? message.properties : undefined;
  const propertyBytes = own + (forwarded?.length ?? 0);
  const lengthBytes = form.level === 5 ? varintBytes(propertyBytes) : 0;
  const idLength = form.qos === 0 ? 0 : 2;
  const remaining =
    2 + topicBytes + idLength + lengthBytes + propertyBytes + message.payload.length;
  assertSayable(topicBytes, remaining);

  const bytes = Buffer.allocUnsafe(1 + varintBytes(remaining) + remaining);
  bytes[0] =
    (PACKET.publish << 4) | (form.dup ? DUP : 0) | (form.qos << 1) | (form.retain ? RETAIN : 0);
  let at = writeVarint(bytes, 1, remaining);
  bytes[at] = topicBytes >> 8;
  bytes[at + 1] = topicBytes & 0xff;
  at += 2;
  bytes.write(topic, at, topicBytes, topicBytes === topic.length ? "latin1" : "utf8");
  at += topicBytes;
  const packetIdAt = form.qos === 0 ? -1 : at;
  if (form.qos !== 0) {
    bytes[at] = 0;
    bytes[at + 1] = 0;
    at += 2;
  }
  if (form.level === 5) {
    at = writeVarint(bytes, at, propertyBytes);
    if (own > 0) at = writeOwnProperties(bytes, at, form);
    if (forwarded !== undefined) bytes.set(forwarded, at);
    at += propertyBytes - own;
  }
  bytes.set(message.payload, at);
  return { bytes, packetIdAt };
}

function assertSayable(topicBytes: number, remaining: number): void {
  if (topicBytes > LIMITS.textBytesMax) {
    throw new SluiceError(
      "TOPIC_INVALID",
      `a topic of ${topicBytes} bytes is over the ${LIMITS.textBytesMax} that MQTT can say`,
    );
  }
  if (remaining > LIMITS.remainingBytesMax) {
    throw new SluiceError(
      "PACKET_TOO_LARGE",
      `a PUBLISH of ${remaining} bytes is over the ${LIMITS.remainingBytesMax} that MQTT can say`,
    );
  }
}

function ownPropertyBytes(form: PublishForm): number {
  let bytes = form.expirySeconds === undefined ? 0 : 5;
  if (form.topicAlias !== undefined) bytes += 3;
  for (const id of form.subscriptionIds) bytes += 1 + varintBytes(id);
  return bytes;
}

function writeOwnProperties(bytes: Buffer, from: number, form: PublishForm): number {
  let at = from;
  if (form.expirySeconds !== undefined) {
    bytes[at] = PROPERTY.messageExpiry;
    at = bytes.writeUInt32BE(form.expirySeconds, at + 1);
  }
  if (form.topicAlias !== undefined) {
    bytes[at] = PROPERTY.topicAlias;
    at = bytes.writeUInt16BE(form.topicAlias, at + 1);
  }
  for (const id of form.subscriptionIds) {
    bytes[at] = PROPERTY.subscriptionId;
    at = writeVarint(bytes, at + 1, id);
  }
  return at;
}

function firstOf(type: number): number {
  return (type << 4) | (type === PACKET.pubrel ? PUBREL_FLAGS : 0);
}

function idBytes(packetId: number): readonly number[] {
  return [packetId >> 8, packetId & 0xff];
}

/** A packet of the parts of its body. */
function packet(type: number, ...parts: readonly (readonly number[] | Buffer)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const head = Buffer.allocUnsafe(1 + varintBytes(body.length));
  head[0] = firstOf(type);
  writeVarint(head, 1, body.length);
  return Buffer.concat([head, body]);
}

/** Properties with their length in front. */
function block(properties: readonly Buffer[]): Buffer {
  const length = properties.reduce((sum, property) => sum + property.length, 0);
  const head = Buffer.allocUnsafe(varintBytes(length));
  writeVarint(head, 0, length);
  return Buffer.concat([head, ...properties]);
}

const NOTHING = Buffer.alloc(0);

function uint16(id: number, value: number | undefined): Buffer {
  return value === undefined ? NOTHING : Buffer.of(id, value >> 8, value & 0xff);
}

function uint32(id: number, value: number | undefined): Buffer {
  if (value === undefined) return NOTHING;
  const bytes = Buffer.of(id, 0, 0, 0, 0);
  bytes.writeUInt32BE(value, 1);
  return bytes;
}

function text(id: number, value: string | undefined): Buffer {
  if (value === undefined) return NOTHING;
  const bytes = sayable(value);
  return Buffer.concat([Buffer.of(id, bytes.length >> 8, bytes.length & 0xff), bytes]);
}

/** As much of a text as a string of MQTT may hold: without U+0000, cut between two characters. */
function sayable(value: string): Buffer {
  const bytes = Buffer.from(value.replaceAll("\u0000", "\ufffd"));
  if (bytes.length <= LIMITS.textBytesMax) return bytes;
  let end: number = LIMITS.textBytesMax;
  // 10xxxxxx goes on with a character that has begun.
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end);
}
