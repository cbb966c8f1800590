// wire-read: the packets that a broker sends, decoded, and refused where a broker must not send them.
// Path: wire-client → [wire-read]. Touches: nothing.

import type { Qos, Version } from "./wire-build.ts";
import { type Properties, Reader } from "./wire-properties.ts";

/** What a broker may send. */
export type PacketName =
  | "connack"
  | "publish"
  | "puback"
  | "pubrec"
  | "pubrel"
  | "pubcomp"
  | "suback"
  | "unsuback"
  | "pingresp"
  | "disconnect"
  | "auth";

/** A packet as it came; what its kind does not have is 0, false or empty. */
export interface Packet {
  readonly name: PacketName;
  /** Of PUBLISH, the acknowledgements, SUBACK and UNSUBACK. */
  readonly packetId: number;
  readonly dup: boolean;
  readonly qos: Qos;
  readonly retain: boolean;
  readonly topic: string;
  /** As UTF-8. */
  readonly payload: string;
  readonly payloadBytes: Buffer;
  /** Of CONNACK. */
  readonly sessionPresent: boolean;
  /** CONNACK's return code, or the reason code of 5.0; 0 where it was left away. */
  readonly code: number;
  /** Of SUBACK, and of UNSUBACK in 5.0. */
  readonly codes: readonly number[];
  readonly properties: Properties;
  /** The whole packet. */
  readonly bytes: Buffer;
}

const NAMES: Readonly<Record<number, PacketName>> = {
  2: "connack",
  3: "publish",
  4: "puback",
  5: "pubrec",
  6: "pubrel",
  7: "pubcomp",
  9: "suback",
  11: "unsuback",
  13: "pingresp",
  14: "disconnect",
  15: "auth",
};

const EMPTY: Omit<Packet, "name" | "bytes"> = {
  packetId: 0,
  dup: false,
  qos: 0,
  retain: false,
  topic: "",
  payload: "",
  payloadBytes: Buffer.alloc(0),
  sessionPresent: false,
  code: 0,
  codes: [],
  properties: {},
};

/** The first packet in `bytes`, if all of it is there; throws if no broker may send it. */
export function readPacket(bytes: Buffer, version: Version): Packet | undefined {
  const end = endOf(bytes);
  if (end === undefined || end.at + end.length > bytes.length) return undefined;
  const whole = bytes.subarray(0, end.at + end.length);
  const type = whole.readUInt8(0) >> 4;
  const flags = whole.readUInt8(0) & 15;
  const name = NAMES[type];
  if (!name || (version !== 5 && (name === "disconnect" || name === "auth"))) {
    throw new Error(`a broker never sends type ${type}: ${whole.toString("hex")}`);
  }
  // [MQTT-2.2.2-1]
  if (name !== "publish" && flags !== (name === "pubrel" ? 2 : 0)) {
    throw new Error(`${name} with the flags ${flags}`);
  }
  const reader = new Reader(whole.subarray(end.at));
  const fields = fieldsOf(name, flags, reader, version);
  if (reader.left > 0) throw new Error(`${name} with ${reader.left} bytes too many`);
  return { ...EMPTY, name, bytes: whole, ...fields };
}

/** Where the body begins, and how long it is; undefined while that is not known. */
function endOf(bytes: Buffer): { at: number; length: number } | undefined {
  const last = bytes.subarray(1, 5).findIndex((byte) => byte < 128);
  if (last < 0) {
    if (bytes.length >= 5) throw new Error("a Remaining Length of more than four bytes");
    return undefined;
  }
  const at = last + 2;
  return { at, length: new Reader(bytes.subarray(1, at)).variable() };
}

function fieldsOf(
  name: PacketName,
  flags: number,
  reader: Reader,
  version: Version,
): Partial<Packet> {
  switch (name) {
    case "connack":
      return readConnack(reader, version);
    case "publish":
      return readPublish(flags, reader, version);
    case "suback":
      return readCodes(reader, version);
    case "unsuback":
      return version === 5 ? readCodes(reader, version) : { packetId: readId(reader) };
    case "pingresp":
      return {};
    case "disconnect":
    case "auth":
      return readEnd(reader);
    default:
      return { packetId: readId(reader), ...(version === 5 ? readEnd(reader) : {}) };
  }
}

function readConnack(reader: Reader, version: Version): Partial<Packet> {
  const flags = reader.integer(1);
  if (flags > 1) throw new Error(`CONNACK with the acknowledge flags ${flags} [MQTT-2.2.2-1]`);
  const code = reader.integer(1);
  const properties = version === 5 ? reader.properties() : {};
  return { sessionPresent: flags === 1, code, properties };
}

function readPublish(flags: number, reader: Reader, version: Version): Partial<Packet> {
  const qos = (flags >> 1) & 3;
  if (qos === 3) throw new Error("PUBLISH with QoS 3 [MQTT-3.3.1-4]");
  const topic = reader.text();
  if (/[+#]/.test(topic)) throw new Error(`PUBLISH to ${topic} [MQTT-3.3.2-2]`);
  const packetId = qos > 0 ? readId(reader) : 0;
  const properties = version === 5 ? reader.properties() : {};
  const payloadBytes = reader.take(reader.left);
  return {
    ...{ dup: (flags & 8) > 0, qos: qos as Qos, retain: (flags & 1) > 0 },
    ...{ topic, packetId, properties, payloadBytes, payload: payloadBytes.toString() },
  };
}

function readCodes(reader: Reader, version: Version): Partial<Packet> {
  const packetId = readId(reader);
  const properties = version === 5 ? reader.properties() : {};
  return { packetId, properties, codes: [...reader.take(reader.left)] };
}

function readEnd(reader: Reader): Partial<Packet> {
  const code = reader.left > 0 ? reader.integer(1) : 0;
  return { code, properties: reader.left > 0 ? reader.properties() : {} };
}

function readId(reader: Reader): number {
  const id = reader.integer(2);
  if (id === 0) throw new Error("packet id 0 [MQTT-2.3.1-1]");
  return id;
}
