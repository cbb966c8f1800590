// decode-publish: a PUBLISH of a client, read from its bytes.
// Path: packet-reader → decode → [decode-publish] → cursor. Touches: nothing.

import type { Qos } from "#contract/message";
import type { Cursor } from "./cursor.ts";
import { PACKET, type ProtocolLevel, type PublishPacket } from "./packets.ts";
import { type Allowed, Forwarded, PROPERTY, PropertyReader } from "./properties.ts";
import { malformed, protocolError } from "./wire-error.ts";

const DUP = 0x08;
const RETAIN = 0x01;

/** §3.3.2.3 */
const ALLOWED: Allowed = new Set([
  PROPERTY.payloadFormat,
  PROPERTY.messageExpiry,
  PROPERTY.contentType,
  PROPERTY.responseTopic,
  PROPERTY.correlationData,
  PROPERTY.subscriptionId,
  PROPERTY.topicAlias,
  PROPERTY.userProperty,
]);

interface PublishProperties {
  topicAlias: number | undefined;
  expirySeconds: number | undefined;
  forwarded: Uint8Array | undefined;
}

const NONE: Readonly<PublishProperties> = {
  topicAlias: undefined,
  expirySeconds: undefined,
  forwarded: undefined,
};

/**
 * Reads a PUBLISH; payload and properties are views of its bytes.
 * @throws WireError whatever is wrong with it.
 */
export function decodePublish(first: number, body: Cursor, level: ProtocolLevel): PublishPacket {
  const qos = (first >> 1) & 0x03;
  const dup = (first & DUP) !== 0;
  if (qos === 3) throw malformed("a PUBLISH has QoS 3 [MQTT-3.3.1-4]");
  if (dup && qos === 0) throw malformed("a PUBLISH with QoS 0 has DUP set [MQTT-3.3.1-2]");
  const topic = body.topicName("a topic name");
  const packetId = qos === 0 ? 0 : body.packetId();
  const properties = level === 5 ? readProperties(body) : NONE;
  if (topic === "" && properties.topicAlias === undefined) {
    // §3.3.2.3.4: a Protocol Error in 5.0.
    throw protocolError("a PUBLISH names no topic [MQTT-4.7.3-1]");
  }
  return {
    type: PACKET.publish,
    topic,
    payload: body.rest(),
    qos: qos as Qos,
    retain: (first & RETAIN) !== 0,
    dup,
    packetId,
    topicAlias: properties.topicAlias,
    expirySeconds: properties.expirySeconds,
    properties: properties.forwarded,
  };
}

function readProperties(body: Cursor): Readonly<PublishProperties> {
  const fields = body.properties();
  if (fields.left === 0) return NONE;
  const reader = new PropertyReader(fields, ALLOWED, "a PUBLISH");
  const forwarded = new Forwarded();
  const read: PublishProperties = { ...NONE };
  while (reader.next()) {
    if (reader.id === PROPERTY.topicAlias) read.topicAlias = reader.number;
    else if (reader.id === PROPERTY.messageExpiry) read.expirySeconds = reader.number;
    else if (reader.id === PROPERTY.subscriptionId) {
      throw protocolError("a client's PUBLISH has a subscription identifier [MQTT-3.3.4-6]");
    } else forwarded.keep(reader.from, reader.to);
  }
  read.forwarded = forwarded.in(body.bytes);
  return read;
}
