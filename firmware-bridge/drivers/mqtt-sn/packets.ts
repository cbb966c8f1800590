// packets: the messages of MQTT-SN 1.2, between bytes and values.
// Path: framer → [packets] → gateway, and back. Touches: nothing.

/** Flags, TopicIdType (§5.3.4): what the two octets of a topic id are. */
export type TopicKind = "normal" | "predefined" | "short";

/** A topic as PUBLISH names it; a short name is the two octets of its id (§6.7). */
export interface TopicReference {
  readonly kind: TopicKind;
  readonly id: number;
}

/** A topic as SUBSCRIBE and UNSUBSCRIBE name it (§5.4.15). */
export type TopicChoice = TopicReference | { readonly kind: "name"; readonly name: string };

/** −1 is a PUBLISH without a connection (§6.8). */
export type QualityOfService = -1 | 0 | 1 | 2;

/** ReturnCode (§5.3.10). */
export const RETURN_CODES = {
  accepted: 0x00,
  congestion: 0x01,
  invalidTopicId: 0x02,
  notSupported: 0x03,
} as const;

interface WillTopic {
  readonly qos: QualityOfService;
  readonly retain: boolean;
  readonly topic: string;
}

type Answer = { readonly topicId: number; readonly messageId: number; readonly returnCode: number };

export interface Connect {
  readonly type: "connect";
  readonly will: boolean;
  readonly cleanSession: boolean;
  readonly protocolId: number;
  readonly durationSeconds: number;
  readonly clientId: string;
}

export interface Publish {
  readonly type: "publish";
  readonly dup: boolean;
  readonly qos: QualityOfService;
  readonly retain: boolean;
  readonly topic: TopicReference;
  readonly messageId: number;
  readonly data: Uint8Array;
}

export interface Subscribe {
  readonly type: "subscribe";
  readonly dup: boolean;
  readonly qos: QualityOfService;
  readonly messageId: number;
  readonly topic: TopicChoice;
}

export interface Unsubscribe {
  readonly type: "unsubscribe";
  readonly messageId: number;
  readonly topic: TopicChoice;
}

export interface Register {
  readonly type: "register";
  readonly topicId: number;
  readonly messageId: number;
  readonly topic: string;
}

/** All messages of §5.4; an empty will topic is `undefined`. */
export type Packet =
  | { readonly type: "advertise"; readonly gatewayId: number; readonly durationSeconds: number }
  | { readonly type: "searchgw"; readonly radius: number }
  | { readonly type: "gwinfo"; readonly gatewayId: number; readonly address: Uint8Array }
  | Connect
  | { readonly type: "connack"; readonly returnCode: number }
  | { readonly type: "willtopicreq" | "willmsgreq" | "pingresp" }
  | { readonly type: "willtopic" | "willtopicupd"; readonly will: WillTopic | undefined }
  | { readonly type: "willmsg" | "willmsgupd"; readonly message: Uint8Array }
  | Register
  | ({ readonly type: "regack" | "puback" } & Answer)
  | Publish
  | { readonly type: "pubrec" | "pubrel" | "pubcomp" | "unsuback"; readonly messageId: number }
  | Subscribe
  | ({ readonly type: "suback"; readonly qos: QualityOfService } & Answer)
  | Unsubscribe
  | { readonly type: "pingreq"; readonly clientId: string | undefined }
  | { readonly type: "disconnect"; readonly durationSeconds: number | undefined }
  | { readonly type: "willtopicresp" | "willmsgresp"; readonly returnCode: number };

export type PacketType = Packet["type"];

interface Kind {
  readonly type: PacketType;
  /** Octets behind MsgType. */
  readonly least: number;
  readonly most: number;
}

const ANY = 65_531;

/** MsgType (§5.2.2), and how long what is behind it may be (§5.4). */
const KINDS: ReadonlyMap<number, Kind> = new Map(
  (
    [
      [0x00, "advertise", 3, 3],
      [0x01, "searchgw", 1, 1],
      [0x02, "gwinfo", 1, ANY],
      [0x04, "connect", 4, ANY],
      [0x05, "connack", 1, 1],
      [0x06, "willtopicreq", 0, 0],
      [0x07, "willtopic", 0, ANY],
      [0x08, "willmsgreq", 0, 0],
      [0x09, "willmsg", 0, ANY],
      [0x0a, "register", 5, ANY],
      [0x0b, "regack", 5, 5],
      [0x0c, "publish", 5, ANY],
      [0x0d, "puback", 5, 5],
      [0x0e, "pubcomp", 2, 2],
      [0x0f, "pubrec", 2, 2],
      [0x10, "pubrel", 2, 2],
      [0x12, "subscribe", 4, ANY],
      [0x13, "suback", 6, 6],
      [0x14, "unsubscribe", 4, ANY],
      [0x15, "unsuback", 2, 2],
      [0x16, "pingreq", 0, ANY],
      [0x17, "pingresp", 0, 0],
      [0x18, "disconnect", 0, 2],
      [0x1a, "willtopicupd", 0, ANY],
      [0x1b, "willtopicresp", 1, 1],
      [0x1c, "willmsgupd", 0, ANY],
      [0x1d, "willmsgresp", 1, 1],
    ] as const
  ).map(([code, type, least, most]) => [code, { type, least, most }]),
);

const CODES = Object.fromEntries([...KINDS].map(([code, { type }]) => [type, code])) as Readonly<
  Record<PacketType, number>
>;

const TOPIC_KINDS = ["normal", "predefined", "short"] as const;

/** Why bytes are no message. */
export interface Malformed {
  readonly type: "malformed";
  readonly reason: string;
}

/** Can a message of this type have so many octets behind its MsgType? */
export function isPlausible(code: number, octets: number): boolean {
  const kind = KINDS.get(code);
  return kind !== undefined && octets >= kind.least && octets <= kind.most;
}

/** Reads one message with its length, which must be the whole of `bytes`. */
export function decodePacket(bytes: Uint8Array): Packet | Malformed {
  const start = bytes[0] === 0x01 ? 3 : 1;
  const length = start === 3 ? ((bytes[1] ?? 0) << 8) | (bytes[2] ?? 0) : bytes[0];
  if (length !== bytes.length) return malformed(`its length says ${length}`);
  const code = bytes[start];
  const kind = code === undefined ? undefined : KINDS.get(code);
  if (!kind) return malformed(`no message has type ${code}`);
  const body = bytes.subarray(start + 1);
  if (body.length < kind.least || body.length > kind.most) {
    return malformed(`${kind.type} has ${body.length} octets`);
  }
  return decodeBody(kind.type, new Reader(body)) ?? malformed(`${kind.type} holds what it may not`);
}

function malformed(reason: string): Malformed {
  return { type: "malformed", reason };
}

function decodeBody(type: PacketType, from: Reader): Packet | undefined {
  switch (type) {
    case "advertise":
      return { type, gatewayId: from.octet(), durationSeconds: from.word() };
    case "searchgw":
      return { type, radius: from.octet() };
    case "gwinfo":
      return { type, gatewayId: from.octet(), address: from.rest() };
    case "connect":
      return decodeConnect(from);
    case "connack":
    case "willtopicresp":
    case "willmsgresp":
      return { type, returnCode: from.octet() };
    case "willtopicreq":
    case "willmsgreq":
    case "pingresp":
      return { type };
    case "willtopic":
    case "willtopicupd":
      return decodeWillTopic(type, from);
    case "willmsg":
    case "willmsgupd":
      return { type, message: from.rest() };
    case "register":
      return decodeRegister(from);
    case "regack":
    case "puback":
      return { type, ...answerFrom(from) };
    case "publish":
      return decodePublish(from);
    case "pubcomp":
    case "pubrec":
    case "pubrel":
    case "unsuback":
      return { type, messageId: from.word() };
    case "suback":
      return { type, qos: qosOf(from.octet()), ...answerFrom(from) };
    case "subscribe":
    case "unsubscribe":
      return decodeSubscribing(type, from);
    case "pingreq":
      return decodePingreq(from);
    case "disconnect":
      return decodeDisconnect(from);
  }
}

function decodeConnect(from: Reader): Packet | undefined {
  const flags = from.octet();
  const protocolId = from.octet();
  const durationSeconds = from.word();
  const clientId = from.text();
  if (clientId === undefined) return undefined;
  const will = (flags & 0x08) !== 0;
  const cleanSession = (flags & 0x04) !== 0;
  return { type: "connect", will, cleanSession, protocolId, durationSeconds, clientId };
}

/** §5.4.7: a message without flags and topic takes the will back. */
function decodeWillTopic(type: "willtopic" | "willtopicupd", from: Reader): Packet | undefined {
  if (from.left === 0) return { type, will: undefined };
  const flags = from.octet();
  const topic = from.text();
  if (topic === undefined || topic === "") return undefined;
  return { type, will: { qos: qosOf(flags), retain: (flags & 0x10) !== 0, topic } };
}

function decodeRegister(from: Reader): Packet | undefined {
  const topicId = from.word();
  const messageId = from.word();
  const topic = from.text();
  return topic === undefined ? undefined : { type: "register", topicId, messageId, topic };
}

function answerFrom(from: Reader): Answer {
  return { topicId: from.word(), messageId: from.word(), returnCode: from.octet() };
}

function decodePublish(from: Reader): Packet | undefined {
  const flags = from.octet();
  const kind = TOPIC_KINDS[flags & 0x03];
  const topic = { kind, id: from.word() };
  const messageId = from.word();
  // 0b11 is reserved (§5.3.4).
  if (topic.kind === undefined) return undefined;
  return {
    type: "publish",
    dup: (flags & 0x80) !== 0,
    qos: qosOf(flags),
    retain: (flags & 0x10) !== 0,
    topic: { kind: topic.kind, id: topic.id },
    messageId,
    data: from.rest(),
  };
}

function decodeSubscribing(
  type: "subscribe" | "unsubscribe",
  from: Reader,
): Subscribe | Unsubscribe | undefined {
  const flags = from.octet();
  const messageId = from.word();
  const topic = topicChoice(TOPIC_KINDS[flags & 0x03], from);
  if (!topic) return undefined;
  if (type === "unsubscribe") return { type, messageId, topic };
  return { type, dup: (flags & 0x80) !== 0, qos: qosOf(flags), messageId, topic };
}

/** §5.4.15: 0b00 is a topic's name here, the others are an id or a short name. */
function topicChoice(kind: TopicKind | undefined, from: Reader): TopicChoice | undefined {
  if (kind === undefined) return undefined;
  if (kind !== "normal") return from.left === 2 ? { kind, id: from.word() } : undefined;
  const name = from.text();
  return name === undefined ? undefined : { kind: "name", name };
}

function decodePingreq(from: Reader): Packet | undefined {
  if (from.left === 0) return { type: "pingreq", clientId: undefined };
  const clientId = from.text();
  return clientId === undefined ? undefined : { type: "pingreq", clientId };
}

function decodeDisconnect(from: Reader): Packet | undefined {
  if (from.left === 1) return undefined;
  return { type: "disconnect", durationSeconds: from.left === 0 ? undefined : from.word() };
}

/** Flags, QoS (§5.3.4). */
function qosOf(flags: number): QualityOfService {
  const bits = (flags >> 5) & 0x03;
  return bits === 3 ? -1 : (bits as 0 | 1 | 2);
}

/** The message with its length (§5.2.1): one octet, or three when it has more than 255. */
export function encodePacket(packet: Packet): Buffer {
  const body = encodeBody(packet);
  const code = CODES[packet.type];
  const length = messageOctets(body.length);
  if (length <= 255) return Buffer.concat([Buffer.of(length, code), body]);
  return Buffer.concat([Buffer.of(0x01, ...word(length), code), body]);
}

/** How long a message is that has so many octets behind its MsgType. */
export function messageOctets(bodyOctets: number): number {
  const short = bodyOctets + 2;
  return short <= 255 ? short : short + 2;
}

function encodeBody(packet: Packet): Buffer {
  switch (packet.type) {
    case "advertise":
      return Buffer.of(packet.gatewayId, ...word(packet.durationSeconds));
    case "searchgw":
      return Buffer.of(packet.radius);
    case "gwinfo":
      return Buffer.of(packet.gatewayId, ...packet.address);
    case "connect":
      return encodeConnect(packet);
    case "connack":
    case "willtopicresp":
    case "willmsgresp":
      return Buffer.of(packet.returnCode);
    case "willtopicreq":
    case "willmsgreq":
    case "pingresp":
      return Buffer.of();
    case "willtopic":
    case "willtopicupd":
      return packet.will ? encodeWillTopic(packet.will) : Buffer.of();
    case "willmsg":
    case "willmsgupd":
      return Buffer.from(packet.message);
    case "register":
      return withText([...word(packet.topicId), ...word(packet.messageId)], packet.topic);
    case "regack":
    case "puback":
      return Buffer.of(...answer(packet));
    case "publish":
      return encodePublish(packet);
    case "pubcomp":
    case "pubrec":
    case "pubrel":
    case "unsuback":
      return Buffer.of(...word(packet.messageId));
    case "suback":
      return Buffer.of(qosBits(packet.qos), ...answer(packet));
    case "subscribe":
    case "unsubscribe":
      return encodeSubscribing(packet);
    case "pingreq":
      return Buffer.from(packet.clientId ?? "");
    case "disconnect":
      return packet.durationSeconds === undefined
        ? Buffer.of()
        : Buffer.of(...word(packet.durationSeconds));
  }
}

function encodeConnect(packet: Connect): Buffer {
  const flags = (packet.will ? 0x08 : 0) | (packet.cleanSession ? 0x04 : 0);
  return withText([flags, packet.protocolId, ...word(packet.durationSeconds)], packet.clientId);
}

function encodeWillTopic(will: WillTopic): Buffer {
  return withText([qosBits(will.qos) | (will.retain ? 0x10 : 0)], will.topic);
}

function encodePublish(packet: Publish): Buffer {
  const { dup, qos, retain, topic, messageId, data } = packet;
  const flags =
    (dup ? 0x80 : 0) | qosBits(qos) | (retain ? 0x10 : 0) | TOPIC_KINDS.indexOf(topic.kind);
  return Buffer.concat([Buffer.of(flags, ...word(topic.id), ...word(messageId)), data]);
}

function encodeSubscribing(packet: Subscribe | Unsubscribe): Buffer {
  const { topic, messageId } = packet;
  const own = packet.type === "subscribe" ? qosBits(packet.qos) | (packet.dup ? 0x80 : 0) : 0;
  if (topic.kind === "name") return withText([own, ...word(messageId)], topic.name);
  const flags = own | TOPIC_KINDS.indexOf(topic.kind);
  return Buffer.of(flags, ...word(messageId), ...word(topic.id));
}

function answer({ topicId, messageId, returnCode }: Answer): number[] {
  return [...word(topicId), ...word(messageId), returnCode];
}

function qosBits(qos: QualityOfService): number {
  return (qos & 0x03) << 5;
}

function word(value: number): [number, number] {
  return [value >> 8, value & 0xff];
}

function withText(octets: readonly number[], text: string): Buffer {
  return Buffer.concat([Buffer.from(octets), Buffer.from(text)]);
}

const UTF_8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Text of these bytes; undefined when they are not UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return UTF_8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Takes fields from the front; the caller has checked that they are there. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  octet(): number {
    const octet = this.#bytes[this.#at] ?? 0;
    this.#at += 1;
    return octet;
  }

  word(): number {
    return (this.octet() << 8) | this.octet();
  }

  rest(): Uint8Array {
    const rest = this.#bytes.subarray(this.#at);
    this.#at = this.#bytes.length;
    return rest;
  }

  text(): string | undefined {
    return textOf(this.rest());
  }
}
