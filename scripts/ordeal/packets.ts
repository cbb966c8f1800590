// packets: the few bytes of MQTT 3.1.1 and 5.0 that a device needs, made without the broker's code.
// Path: device → [packets]. Touches: nothing.

export type Version = 4 | 5;

export const TYPES = {
  connack: 2,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
} as const;

/** From 0x80 on a reason code says no (MQTT 5.0 §2.4). */
export const REFUSED_FROM = 0x80;

const SESSION_SECONDS = 86_400;

/** A CONNECT that asks for the session of before, and for no keep alive. */
export function connectPacket(version: Version, clientId: string): Buffer {
  const keepAlive = [0, 0];
  const properties = version === 5 ? [5, 0x11, ...bytes32(SESSION_SECONDS)] : [];
  const noFlags = 0;
  const head = [...prefixed("MQTT"), version, noFlags, ...keepAlive, ...properties];
  return packet(0x10, [...head, ...prefixed(clientId)]);
}

export interface Publish {
  readonly version: Version;
  readonly topic: string;
  readonly payload: string;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly isAgain: boolean;
  readonly packetId: number;
}

export function publishPacket(publish: Publish): Buffer {
  const { version, topic, payload, qos, packetId } = publish;
  const first = 0x30 | (publish.isAgain ? 8 : 0) | (qos << 1) | (publish.retain ? 1 : 0);
  const properties = version === 5 ? [0] : [];
  const id = qos > 0 ? [packetId >> 8, packetId & 0xff] : [];
  const head = [...prefixed(topic), ...id, ...properties];
  return packet(first, [...head, ...Buffer.from(payload)]);
}

export function pubrelPacket(packetId: number): Buffer {
  return packet(0x62, [packetId >> 8, packetId & 0xff]);
}

/** A packet from the broker: of an acknowledgement its packet id and code, of CONNACK its flags. */
export interface Answer {
  readonly type: number;
  readonly packetId: number;
  readonly code: number;
  readonly sessionPresent: boolean;
}

/** The whole packets at the beginning of `bytes`, and how many bytes they are. */
export function readAnswers(bytes: Buffer): { answers: Answer[]; length: number } {
  const answers: Answer[] = [];
  let at = 0;
  for (;;) {
    const size = remainingLength(bytes, at + 1);
    if (!size || bytes.length < size.from + size.length) return { answers, length: at };
    answers.push(
      answerOf((bytes[at] ?? 0) >> 4, bytes.subarray(size.from, size.from + size.length)),
    );
    at = size.from + size.length;
  }
}

function answerOf(type: number, body: Buffer): Answer {
  const [first = 0, second = 0, third = 0] = body;
  if (type === TYPES.connack) {
    return { type, packetId: 0, code: second, sessionPresent: (first & 1) === 1 };
  }
  // Without a reason code all is well (MQTT 5.0 §3.4.2.1); 3.1.1 has none.
  return { type, packetId: (first << 8) | second, code: third, sessionPresent: false };
}

function remainingLength(
  bytes: Buffer,
  from: number,
): { from: number; length: number } | undefined {
  let length = 0;
  for (let digit = 0; digit < 4; digit += 1) {
    const byte = bytes[from + digit];
    if (byte === undefined) return undefined;
    length += (byte & 0x7f) << (7 * digit);
    if (byte < 0x80) return { from: from + digit + 1, length };
  }
  throw new Error("the broker sent a length that is none");
}

function packet(first: number, body: readonly number[]): Buffer {
  const length: number[] = [];
  let left = body.length;
  do {
    length.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    left >>= 7;
  } while (left > 0);
  return Buffer.from([first, ...length, ...body]);
}

function prefixed(text: string): number[] {
  const bytes = Buffer.from(text);
  return [bytes.length >> 8, bytes.length & 0xff, ...bytes];
}

function bytes32(number: number): number[] {
  return [24, 16, 8, 0].map((shift) => (number >> shift) & 0xff);
}
