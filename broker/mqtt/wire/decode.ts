// decode: one packet of a connected client, from the first byte of its fixed header and its body.
// Path: packet-reader → [decode] → session. Touches: nothing.

import type { Subscription } from "#contract/session";
import type { Cursor } from "./cursor.ts";
import { decodePublish } from "./decode-publish.ts";
import {
  type AckPacket,
  type AuthPacket,
  type ClientPacket,
  type DisconnectPacket,
  PACKET,
  type PingPacket,
  type ProtocolLevel,
  type SubscribePacket,
  type UnsubscribePacket,
} from "./packets.ts";
import { type Allowed, PROPERTY, PropertyReader } from "./properties.ts";
import { REASON } from "./reason-codes.ts";
import { malformed, protocolError } from "./wire-error.ts";

const PINGREQ: PingPacket = Object.freeze({ type: PACKET.pingreq });

/** What a client may answer a PUBLISH with [MQTT-3.4.2-1, 3.5.2-1]. */
const ANSWERS_TO_PUBLISH: ReadonlySet<number> = new Set([
  REASON.success,
  REASON.noMatchingSubscribers,
  REASON.unspecified,
  REASON.implementationSpecific,
  REASON.notAuthorized,
  REASON.topicNameInvalid,
  REASON.packetIdentifierInUse,
  REASON.quotaExceeded,
  REASON.payloadFormatInvalid,
]);

/** What PUBREL and PUBCOMP may say [MQTT-3.6.2-1, 3.7.2-1]. */
const ANSWERS_TO_RECEIPT: ReadonlySet<number> = new Set([
  REASON.success,
  REASON.packetIdentifierNotFound,
]);

/** Why a client may leave [MQTT-3.14.2-1]. */
const DISCONNECT_REASONS: ReadonlySet<number> = new Set([
  REASON.success,
  REASON.disconnectWithWill,
  REASON.unspecified,
  REASON.malformedPacket,
  REASON.protocolError,
  REASON.implementationSpecific,
  REASON.topicNameInvalid,
  REASON.receiveMaximumExceeded,
  REASON.topicAliasInvalid,
  REASON.packetTooLarge,
  REASON.messageRateTooHigh,
  REASON.quotaExceeded,
  REASON.administrativeAction,
  REASON.payloadFormatInvalid,
]);

/** What a client may say in AUTH [MQTT-3.15.2-1]. */
const AUTH_REASONS: ReadonlySet<number> = new Set([
  REASON.continueAuthentication,
  REASON.reAuthenticate,
]);

const ALLOWED_IN_ACK: Allowed = new Set([PROPERTY.reasonString, PROPERTY.userProperty]);
const ALLOWED_IN_SUBSCRIBE: Allowed = new Set([PROPERTY.subscriptionId, PROPERTY.userProperty]);
const ALLOWED_IN_UNSUBSCRIBE: Allowed = new Set([PROPERTY.userProperty]);
const ALLOWED_IN_DISCONNECT: Allowed = new Set([
  PROPERTY.sessionExpiry,
  PROPERTY.reasonString,
  PROPERTY.userProperty,
]);
const ALLOWED_IN_AUTH: Allowed = new Set([
  PROPERTY.authenticationMethod,
  PROPERTY.authenticationData,
  PROPERTY.reasonString,
  PROPERTY.userProperty,
]);

/**
 * Reads any packet but CONNECT; payloads and properties are views of the body's bytes.
 * @throws WireError whatever is wrong with it.
 */
export function decodePacket(first: number, body: Cursor, level: ProtocolLevel): ClientPacket {
  const type = first >> 4;
  if (type === PACKET.publish) return decodePublish(first, body, level);
  assertFlags(first, level);
  switch (type) {
    case PACKET.puback:
    case PACKET.pubrec:
      return decodeAck(type, body, level, ANSWERS_TO_PUBLISH);
    case PACKET.pubrel:
    case PACKET.pubcomp:
      return decodeAck(type, body, level, ANSWERS_TO_RECEIPT);
    case PACKET.subscribe:
      return decodeSubscribe(body, level);
    case PACKET.unsubscribe:
      return decodeUnsubscribe(body, level);
    case PACKET.pingreq:
      body.finish();
      return PINGREQ;
    case PACKET.disconnect:
      return decodeDisconnect(body, level);
    case PACKET.auth:
      return decodeAuth(body, level);
    case 0:
      throw malformed("a packet has type 0, which is reserved (§2.1.2)");
    default:
      throw protocolError(`a client sent a packet of type ${type}, which only a server may`);
  }
}

/** The reserved bits beside the type [MQTT-2.2.2-2, 3.6.1-1, 3.8.1-1, 3.10.1-1; MQTT 5: 2.1.3-1]. */
function assertFlags(first: number, level: ProtocolLevel): void {
  const type = first >> 4;
  const isAsked =
    type === PACKET.pubrel || type === PACKET.subscribe || type === PACKET.unsubscribe;
  const flags = first & 0x0f;
  // In MQTT 3.1 these three are messages of QoS 1, which may be sent again with DUP (§2.1).
  const unused = isAsked && level === 3 ? flags & ~0x08 : flags;
  if (unused !== (isAsked ? 0x02 : 0)) {
    throw malformed(`a packet of type ${type} has flags ${flags} [MQTT-2.2.2-2, MQTT-2.1.3-1]`);
  }
}

function decodeAck(
  type: AckPacket["type"],
  body: Cursor,
  level: ProtocolLevel,
  reasons: ReadonlySet<number>,
): AckPacket {
  const packetId = body.packetId();
  // §3.4.2.1: what is left out is a success without properties.
  if (level !== 5 || body.left === 0) {
    body.finish();
    return { type, packetId, reasonCode: REASON.success };
  }
  const reasonCode = readReason(body, reasons, "an acknowledgement");
  if (body.left > 0) skipProperties(body, ALLOWED_IN_ACK, "an acknowledgement");
  body.finish();
  return { type, packetId, reasonCode };
}

function readReason(body: Cursor, reasons: ReadonlySet<number>, place: string): number {
  const reason = body.byte();
  if (!reasons.has(reason)) throw protocolError(`${place} has reason code ${reason} of no client`);
  return reason;
}

function skipProperties(body: Cursor, allowed: Allowed, place: string): void {
  const reader = new PropertyReader(body.properties(), allowed, place);
  while (reader.next()) {
    // next() checks each; none of them changes what the packet does.
  }
}

function decodeSubscribe(body: Cursor, level: ProtocolLevel): SubscribePacket {
  const packetId = body.packetId();
  const id = level === 5 ? readSubscriptionId(body) : undefined;
  if (body.left === 0) throw protocolError("a SUBSCRIBE has no filter [MQTT-3.8.3-3; 5: 3.8.3-2]");
  const subscriptions: Subscription[] = [];
  while (body.left > 0) {
    const filter = body.text("a topic filter");
    const options = level === 5 ? readOptions(body, filter) : readGrant(body, level);
    subscriptions.push(id === undefined ? { filter, ...options } : { filter, ...options, id });
  }
  return { type: PACKET.subscribe, packetId, subscriptions };
}

function readSubscriptionId(body: Cursor): number | undefined {
  const reader = new PropertyReader(body.properties(), ALLOWED_IN_SUBSCRIBE, "a SUBSCRIBE");
  let id: number | undefined;
  while (reader.next()) {
    if (reader.id === PROPERTY.subscriptionId) id = reader.number;
  }
  return id;
}

type Options = Omit<Subscription, "filter" | "id">;

/** The Requested QoS of 3.x: the upper six bits are reserved in 3.1.1, unused in 3.1. */
function readGrant(body: Cursor, level: ProtocolLevel): Options {
  const byte = body.byte();
  const qos = level === 3 ? byte & 0x03 : byte;
  if (qos > 2) throw malformed(`a filter asks for QoS ${qos} [MQTT-3.8.3-4]`);
  return {
    qos: qos as Subscription["qos"],
    noLocal: false,
    retainAsPublished: false,
    retainHandling: 0,
  };
}

/** Subscription Options, §3.8.3.1. */
function readOptions(body: Cursor, filter: string): Options {
  const byte = body.byte();
  const qos = byte & 0x03;
  const noLocal = (byte & 0x04) !== 0;
  const retainHandling = (byte >> 4) & 0x03;
  if ((byte & 0xc0) !== 0) throw malformed("a filter has reserved options set [MQTT-3.8.3-5]");
  if (qos === 3) throw protocolError("a filter asks for QoS 3 (§3.8.3.1)");
  if (retainHandling === 3) throw protocolError("a filter has retain handling 3 (§3.8.3.1)");
  if (noLocal && filter.startsWith("$share/")) {
    throw protocolError("a shared subscription has No Local set [MQTT-3.8.3-4]");
  }
  return {
    qos: qos as Subscription["qos"],
    noLocal,
    retainAsPublished: (byte & 0x08) !== 0,
    retainHandling: retainHandling as Subscription["retainHandling"],
  };
}

function decodeUnsubscribe(body: Cursor, level: ProtocolLevel): UnsubscribePacket {
  const packetId = body.packetId();
  if (level === 5) skipProperties(body, ALLOWED_IN_UNSUBSCRIBE, "an UNSUBSCRIBE");
  if (body.left === 0) throw protocolError("an UNSUBSCRIBE has no filter [MQTT-3.10.3-2]");
  const filters: string[] = [];
  while (body.left > 0) filters.push(body.text("a topic filter"));
  return { type: PACKET.unsubscribe, packetId, filters };
}

function decodeDisconnect(body: Cursor, level: ProtocolLevel): DisconnectPacket {
  let reasonCode: number = REASON.success;
  let sessionExpirySeconds: number | undefined;
  if (level === 5 && body.left > 0)
    reasonCode = readReason(body, DISCONNECT_REASONS, "a DISCONNECT");
  if (level === 5 && body.left > 0) {
    const reader = new PropertyReader(body.properties(), ALLOWED_IN_DISCONNECT, "a DISCONNECT");
    while (reader.next()) {
      if (reader.id === PROPERTY.sessionExpiry) sessionExpirySeconds = reader.number;
    }
  }
  body.finish();
  return { type: PACKET.disconnect, reasonCode, sessionExpirySeconds };
}

function decodeAuth(body: Cursor, level: ProtocolLevel): AuthPacket {
  if (level !== 5) throw malformed("a packet has type 15, which is reserved in 3.x (§2.2.1)");
  // §3.15.2.1: what is left out is Success, which a client has none to say.
  if (body.left === 0) throw protocolError("a client's AUTH says Success [MQTT-3.15.2-1]");
  const reasonCode = readReason(body, AUTH_REASONS, "an AUTH");
  const reader = new PropertyReader(body.properties(), ALLOWED_IN_AUTH, "an AUTH");
  let hasMethod = false;
  while (reader.next()) {
    if (reader.id === PROPERTY.authenticationMethod) hasMethod = true;
  }
  if (!hasMethod) throw protocolError("an AUTH has no authentication method (§3.15.2.2.2)");
  body.finish();
  return { type: PACKET.auth, reasonCode };
}
