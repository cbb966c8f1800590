// wire-error: what is wrong with bytes that came from a client, as MQTT names it.
// Path: wire → [wire error] → connection. Touches: nothing.

import type { ProtocolLevel } from "./packets.ts";
import { REASON } from "./reason-codes.ts";

/** Bytes that end their connection: why, in MQTT 5.0's reason code and in words. */
export class WireError extends Error {
  readonly reasonCode: number;
  /** Of a CONNECT that failed: in which version the refusal must be said; undefined: in none. */
  readonly refusalLevel: ProtocolLevel | undefined;

  constructor(reasonCode: number, message: string, refusalLevel?: ProtocolLevel) {
    super(message);
    this.name = "WireError";
    this.reasonCode = reasonCode;
    this.refusalLevel = refusalLevel;
  }
}

/** Bytes that cannot be read as the specification says (MQTT 5.0 §1.2, Malformed Packet). */
export function malformed(message: string): WireError {
  return new WireError(REASON.malformedPacket, message);
}

/** Bytes that can be read, and say what may not be said (MQTT 5.0 §1.2, Protocol Error). */
export function protocolError(message: string): WireError {
  return new WireError(REASON.protocolError, message);
}
