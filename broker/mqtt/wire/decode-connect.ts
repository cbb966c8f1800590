// decode-connect: a CONNECT, read from its bytes, and in which version its refusal is to be said.
// Path: packet-reader → [decode-connect] → cursor. Touches: nothing.

import type { Qos } from "#contract/message";
import { NEVER_EXPIRES_SECONDS } from "#contract/session";
import type { Cursor } from "./cursor.ts";
import { type ConnectPacket, PACKET, type ProtocolLevel, type WillPart } from "./packets.ts";
import { type Allowed, Forwarded, PROPERTY, PropertyReader } from "./properties.ts";
import { REASON } from "./reason-codes.ts";
import { malformed, protocolError, WireError } from "./wire-error.ts";

const FLAG = {
  reserved: 0x01,
  clean: 0x02,
  will: 0x04,
  willRetain: 0x20,
  password: 0x40,
  username: 0x80,
} as const;

/** The bit by which mosquitto marks the level of a bridge. */
const BRIDGE_BIT = 0x80;

/** §3.1.2.11 */
const ALLOWED: Allowed = new Set([
  PROPERTY.sessionExpiry,
  PROPERTY.receiveMaximum,
  PROPERTY.maximumPacketSize,
  PROPERTY.topicAliasMaximum,
  PROPERTY.requestResponseInformation,
  PROPERTY.requestProblemInformation,
  PROPERTY.userProperty,
  PROPERTY.authenticationMethod,
  PROPERTY.authenticationData,
]);

/** §3.1.3.2 */
const ALLOWED_OF_WILL: Allowed = new Set([
  PROPERTY.willDelay,
  PROPERTY.payloadFormat,
  PROPERTY.messageExpiry,
  PROPERTY.contentType,
  PROPERTY.responseTopic,
  PROPERTY.correlationData,
  PROPERTY.userProperty,
]);

interface Head {
  readonly level: ProtocolLevel;
  readonly flags: number;
}

type ConnectProperties = Pick<
  ConnectPacket,
  | "sessionExpirySeconds"
  | "receiveMaximum"
  | "maximumPacketBytes"
  | "topicAliasMaximum"
  | "requestResponseInformation"
  | "requestProblemInformation"
  | "authenticationMethod"
>;

/**
 * Reads a CONNECT; password and will are views of its bytes.
 * @throws WireError whatever is wrong with it, with the version in which to say so.
 */
export function decodeConnect(body: Cursor): ConnectPacket {
  const level = readLevel(body);
  if (level !== 5) return readConnect(body, level);
  try {
    return readConnect(body, level);
  } catch (fault) {
    // [MQTT-3.1.4-1]: a CONNACK may tell a 5.0 client what is wrong; 3.x has no code for it.
    if (fault instanceof WireError) throw new WireError(fault.reasonCode, fault.message, level);
    throw fault;
  }
}

/** [MQTT-3.1.2-1, 3.1.2-2] */
function readLevel(body: Cursor): ProtocolLevel {
  const name = body.text("a protocol name");
  if (name !== "MQTT" && name !== "MQIsdp") {
    const reason = REASON.unsupportedProtocolVersion;
    throw new WireError(reason, "a CONNECT names another protocol than MQTT [MQTT-3.1.2-1]");
  }
  const level = body.byte();
  if (name === "MQIsdp" && level === 3) return level;
  if (name === "MQTT" && (level === 4 || level === 5)) return level;
  // A bridge of mosquitto tries again without its bit when it hears return code 1, and only then.
  const isNewer = name === "MQTT" && level > 5 && (level & BRIDGE_BIT) === 0;
  throw new WireError(
    REASON.unsupportedProtocolVersion,
    `${name} has no protocol level ${level} here [MQTT-3.1.2-2]`,
    isNewer ? 5 : 4,
  );
}

function readConnect(body: Cursor, level: ProtocolLevel): ConnectPacket {
  const head: Head = { level, flags: readFlags(body, level) };
  const clean = (head.flags & FLAG.clean) !== 0;
  const keepAliveSeconds = body.uint16();
  const properties = level === 5 ? readProperties(body) : propertiesOf3(clean);
  const clientId = readClientId(body, level, clean);
  const will = (head.flags & FLAG.will) === 0 ? undefined : readWill(body, head);
  const username = isPresent(body, head, FLAG.username) ? body.text("a user name") : undefined;
  const password = isPresent(body, head, FLAG.password) ? body.binary() : undefined;
  body.finish();
  return {
    type: PACKET.connect,
    level,
    clientId,
    clean,
    keepAliveSeconds,
    username,
    password,
    will,
    ...properties,
  };
}

function readFlags(body: Cursor, level: ProtocolLevel): number {
  const flags = body.byte();
  const hasWill = (flags & FLAG.will) !== 0;
  if (hasWill && willQosOf(flags) === 3) {
    throw malformed("a will has QoS 3 [MQTT-3.1.2-14; MQTT 5: 3.1.2-12]");
  }
  // MQTT 3.1 §3.1 leaves the reserved bit and a missing will's bits unused rather than 0.
  if (level !== 3) assertUnusedFlags(flags, hasWill);
  // 5.0 allows it: a password may be any credential (§3.1.2.9).
  if (level !== 5 && (flags & FLAG.password) !== 0 && (flags & FLAG.username) === 0) {
    throw malformed("a CONNECT has a password, but no user name [MQTT-3.1.2-22]");
  }
  return flags;
}

function assertUnusedFlags(flags: number, hasWill: boolean): void {
  if ((flags & FLAG.reserved) !== 0) {
    throw malformed("a CONNECT has its reserved flag set [MQTT-3.1.2-3]");
  }
  if (hasWill) return;
  if (willQosOf(flags) !== 0) {
    throw malformed("a CONNECT has a will QoS, but no will [MQTT-3.1.2-13; MQTT 5: 3.1.2-11]");
  }
  if ((flags & FLAG.willRetain) !== 0) {
    throw malformed("a CONNECT has will retain, but no will [MQTT-3.1.2-15; MQTT 5: 3.1.2-13]");
  }
}

function willQosOf(flags: number): number {
  return (flags >> 3) & 0x03;
}

function readClientId(body: Cursor, level: ProtocolLevel, clean: boolean): string {
  const clientId = body.text("a client identifier");
  if (clientId !== "" || level === 5 || (level === 4 && clean)) return clientId;
  const why =
    level === 3
      ? "a client identifier is empty (MQTT 3.1 §3.1)"
      : "an empty client identifier is to have a session that is kept [MQTT-3.1.3-8]";
  throw new WireError(REASON.clientIdentifierNotValid, why, level);
}

/**
 * Is the field of that flag there? MQTT 3.1 §3.1: where a packet ends before the user name or the
 * password that its flags announce, its length takes precedence, for the sake of older clients.
 */
function isPresent(body: Cursor, { level, flags }: Head, flag: number): boolean {
  return (flags & flag) !== 0 && (level !== 3 || body.left > 0);
}

function propertiesOf3(clean: boolean): ConnectProperties {
  return {
    sessionExpirySeconds: clean ? 0 : NEVER_EXPIRES_SECONDS,
    receiveMaximum: 65_535,
    maximumPacketBytes: undefined,
    topicAliasMaximum: 0,
    requestResponseInformation: false,
    requestProblemInformation: true,
    authenticationMethod: undefined,
  };
}

function readProperties(body: Cursor): ConnectProperties {
  const reader = new PropertyReader(body.properties(), ALLOWED, "a CONNECT");
  const numbers = new Map<number, number>();
  let authenticationMethod: string | undefined;
  let hasAuthenticationData = false;
  while (reader.next()) {
    numbers.set(reader.id, reader.number);
    if (reader.id === PROPERTY.authenticationMethod) authenticationMethod = reader.text();
    if (reader.id === PROPERTY.authenticationData) hasAuthenticationData = true;
  }
  if (hasAuthenticationData && authenticationMethod === undefined) {
    throw protocolError("a CONNECT has authentication data, but no method (§3.1.2.11.10)");
  }
  return {
    sessionExpirySeconds: numbers.get(PROPERTY.sessionExpiry) ?? 0,
    receiveMaximum: numbers.get(PROPERTY.receiveMaximum) ?? 65_535,
    maximumPacketBytes: numbers.get(PROPERTY.maximumPacketSize),
    topicAliasMaximum: numbers.get(PROPERTY.topicAliasMaximum) ?? 0,
    requestResponseInformation: numbers.get(PROPERTY.requestResponseInformation) === 1,
    requestProblemInformation: numbers.get(PROPERTY.requestProblemInformation) !== 0,
    authenticationMethod,
  };
}

function readWill(body: Cursor, { level, flags }: Head): WillPart {
  const properties = level === 5 ? readWillProperties(body) : NO_WILL_PROPERTIES;
  const topic = body.topicName("a will topic");
  if (topic === "") {
    throw new WireError(REASON.topicNameInvalid, "a will topic is empty [MQTT-4.7.3-1]");
  }
  return {
    topic,
    payload: body.binary(),
    qos: willQosOf(flags) as Qos,
    retain: (flags & FLAG.willRetain) !== 0,
    ...properties,
  };
}

type WillProperties = Pick<WillPart, "delaySeconds" | "expirySeconds" | "properties">;

const NO_WILL_PROPERTIES: WillProperties = {
  delaySeconds: 0,
  expirySeconds: undefined,
  properties: undefined,
};

function readWillProperties(body: Cursor): WillProperties {
  const reader = new PropertyReader(body.properties(), ALLOWED_OF_WILL, "a will");
  const forwarded = new Forwarded();
  let delaySeconds = 0;
  let expirySeconds: number | undefined;
  while (reader.next()) {
    if (reader.id === PROPERTY.willDelay) delaySeconds = reader.number;
    else if (reader.id === PROPERTY.messageExpiry) expirySeconds = reader.number;
    else forwarded.keep(reader.from, reader.to);
  }
  return { delaySeconds, expirySeconds, properties: forwarded.in(body.bytes) };
}
