// codec: a line of the MySensors serial protocol, and the message that it is.
// Path: link → [codec] → network, and back. Touches: nothing.

/** `node;child;command;ack;type;payload` (serial API 2.x). */
export interface SensorMessage {
  /** 0 is the gateway itself, 255 who has no id yet, or all. */
  readonly node: number;
  /** 255 is the node itself. */
  readonly child: number;
  /** One of COMMAND. */
  readonly command: number;
  /** To a node: wants the message back. From a node: is such a message that comes back. */
  readonly ack: boolean;
  /** Means something else for each command. */
  readonly type: number;
  readonly payload: Uint8Array;
}

/** Stands for the gateway's radio, where all share one address. */
export const EVERYBODY = 255;
/** As a child: the node itself. */
export const ITSELF = 255;

export const CODEC_LIMITS = {
  /** What fits a radio message of 32 bytes (MAX_PAYLOAD). */
  payloadBytesMax: 25,
} as const;

const FIELD_MAX = 255;
const COMMAND_MAX = 4;
const SEMICOLON = 0x3b;
const FIELDS = 5;

/** The message of a line without its line end; undefined when it is none. */
export function parseLine(line: Uint8Array): SensorMessage | undefined {
  const fields: number[] = [];
  let from = 0;
  while (fields.length < FIELDS) {
    const end = line.indexOf(SEMICOLON, from);
    const value = end < 0 ? undefined : parseField(line.subarray(from, end));
    if (value === undefined) return undefined;
    fields.push(value);
    from = end + 1;
  }
  const [node = 0, child = 0, command = 0, ack = 0, type = 0] = fields;
  if (command > COMMAND_MAX || ack > 1) return undefined;
  // A payload may hold semicolons, as V_POSITION's does.
  return { node, child, command, ack: ack === 1, type, payload: line.subarray(from) };
}

/** The line of a message, with its line end; its payload must hold none. */
export function serialiseLine(message: SensorMessage): Uint8Array {
  const { node, child, command, ack, type, payload } = message;
  const head = `${node};${child};${command};${ack ? 1 : 0};${type};`;
  return Buffer.concat([Buffer.from(head), payload, Buffer.from("\n")]);
}

function parseField(bytes: Uint8Array): number | undefined {
  if (bytes.length === 0 || bytes.length > 3) return undefined;
  let value = 0;
  for (const byte of bytes) {
    if (byte < 0x30 || byte > 0x39) return undefined;
    value = value * 10 + byte - 0x30;
  }
  return value > FIELD_MAX ? undefined : value;
}
