// packets: the bytes of MQTT 3.1.1 that a load consists of, made beforehand.
// Path: load → [packets]. Touches: nothing.

const CONNECT = 0x10;
const PUBLISH = 0x30;
const SUBSCRIBE = 0x82;
const CLEAN_SESSION = 0x02;
const PROTOCOL_LEVEL = 4;
/** The longest there is: nobody pings. */
const KEEP_ALIVE_SECONDS = 65_535;

export const DISCONNECT = Buffer.from([0xe0, 0]);

/** A CONNECT, with a clean session unless one is to be kept. */
export function connectPacket(clientId: string, keepsSession = false): Buffer {
  const flags = Buffer.from([PROTOCOL_LEVEL, keepsSession ? 0 : CLEAN_SESSION]);
  return packet(CONNECT, [text("MQTT"), flags, word(KEEP_ALIVE_SECONDS), text(clientId)]);
}

export function subscribePacket(packetId: number, filter: string, qos: 0 | 1): Buffer {
  return packet(SUBSCRIBE, [word(packetId), text(filter), Buffer.from([qos])]);
}

/** What a message is made of; the payload begins with PAYLOAD_MARK_BYTES to tell which it is. */
export interface MessageOptions {
  readonly topic: string;
  readonly qos: 0 | 1;
  readonly retain: boolean;
  readonly payloadBytes: number;
}

/** Publisher and slot, 2 bytes each. */
export const PAYLOAD_MARK_BYTES = 4;

export interface MessageTemplate {
  readonly bytes: Buffer;
  /** Where the packet id stands; meaningless with QoS 0. */
  readonly packetIdAt: number;
  readonly payloadAt: number;
}

/** A PUBLISH, of which packet id and mark are still to be written. */
export function messageTemplate(options: MessageOptions): MessageTemplate {
  const { topic, qos, retain, payloadBytes } = options;
  const payload = Buffer.alloc(Math.max(payloadBytes, PAYLOAD_MARK_BYTES), "x");
  const type = PUBLISH | (qos << 1) | (retain ? 1 : 0);
  const bytes = packet(type, [text(topic), ...(qos > 0 ? [word(0)] : []), payload]);
  const payloadAt = bytes.length - payload.length;
  return { bytes, packetIdAt: payloadAt - 2, payloadAt };
}

/** The PUBACKs of `packetIds`, in one piece. */
export function pubacks(packetIds: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(packetIds.length * 4);
  let at = 0;
  for (const packetId of packetIds) {
    at = bytes.writeUInt16BE(0x4002, at);
    at = bytes.writeUInt16BE(packetId, at);
  }
  return bytes;
}

function packet(type: number, parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([type, ...remainingLength(body.length)]), body]);
}

/** MQTT 3.1.1 §2.2.3. */
function remainingLength(length: number): number[] {
  const bytes = [];
  let rest = length;
  do {
    const more = rest > 127;
    bytes.push((rest % 128) | (more ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([word(bytes.length), bytes]);
}

function word(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}
