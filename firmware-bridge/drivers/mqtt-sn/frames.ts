// frames: where a message ends, and which wireless node it is of (MQTT-SN 1.2, §5.2.1 and §5.5).
// Path: framer, gateway → [frames] → packets. Touches: nothing.

import { isPlausible } from "./packets.ts";

const FORWARDER_ENCAPSULATION = 0xfe;
/** Length, MsgType, Ctrl: the Wireless Node Id is what follows up to Length. */
const ENCAPSULATION_OCTETS = 3;

/** How many bytes the frame at the front has: more than there are is a frame that is not whole. */
export type FrameLength = number | "invalid" | "unknown";

/** Looks at a frame's beginning; a frame with an encapsulation in front ends where its message does. */
export function frameLength(bytes: Uint8Array, messageBytesMax: number): FrameLength {
  if (bytes[0] === undefined) return "unknown";
  if (bytes[0] >= ENCAPSULATION_OCTETS && bytes[1] === FORWARDER_ENCAPSULATION) {
    const outer = bytes[0];
    const inner = messageLength(bytes.subarray(outer), messageBytesMax);
    return typeof inner === "number" ? outer + inner : inner;
  }
  return messageLength(bytes, messageBytesMax);
}

function messageLength(bytes: Uint8Array, messageBytesMax: number): FrameLength {
  const [first, second, third] = bytes;
  if (first === undefined) return "unknown";
  const octets = first === 0x01 ? 3 : 1;
  if (octets === 3 && (second === undefined || third === undefined)) return "unknown";
  const length = octets === 3 ? ((second ?? 0) << 8) | (third ?? 0) : first;
  if (length < octets + 1 || length > messageBytesMax) return "invalid";
  const code = bytes[octets];
  if (code === undefined) return "unknown";
  return isPlausible(code, length - octets - 1) ? length : "invalid";
}

/** How a forwarder marked a message of a node behind it. */
export interface Encapsulation {
  readonly control: number;
  readonly nodeId: Uint8Array;
}

/** A frame's message, and the encapsulation around it. */
export function unwrap(frame: Uint8Array): {
  readonly message: Uint8Array;
  readonly encapsulation: Encapsulation | undefined;
} {
  const outer = frame[0] ?? 0;
  if (outer < ENCAPSULATION_OCTETS || frame[1] !== FORWARDER_ENCAPSULATION) {
    return { message: frame, encapsulation: undefined };
  }
  const nodeId = frame.slice(ENCAPSULATION_OCTETS, outer);
  return { message: frame.subarray(outer), encapsulation: { control: frame[2] ?? 0, nodeId } };
}

/** The message as the forwarder of that node takes it (§5.5: Length ends with the Wireless Node Id). */
export function wrap(message: Uint8Array, { control, nodeId }: Encapsulation): Buffer {
  const outer = ENCAPSULATION_OCTETS + nodeId.length;
  return Buffer.concat([Buffer.of(outer, FORWARDER_ENCAPSULATION, control), nodeId, message]);
}
