// return-codes: what the broker's MQTT 5 reason codes are in MQTT-SN (§5.3.10).
// Path: client → [return-codes]. Touches: nothing.

import { RETURN_CODES } from "./packets.ts";

/** Worth a later try: unavailable, busy, in use, quota exceeded, connection rate exceeded. */
const CONGESTION: ReadonlySet<number> = new Set([0x88, 0x89, 0x91, 0x93, 0x96, 0x97, 0x9f]);
const TOPIC_NAME_INVALID = 0x90;

/** From 0x80 on they are refusals (MQTT 5.0, §2.4). */
export function isRefusal(reasonCode: number | undefined): boolean {
  return (reasonCode ?? 0) >= 0x80;
}

export function returnCodeOf(reasonCode: number | undefined): number {
  if (reasonCode === undefined || reasonCode < 0x80) return RETURN_CODES.accepted;
  if (CONGESTION.has(reasonCode)) return RETURN_CODES.congestion;
  if (reasonCode === TOPIC_NAME_INVALID) return RETURN_CODES.invalidTopicId;
  return RETURN_CODES.notSupported;
}

/** CONNACK's: the older form's 1 to 5 are refusals, too. */
export function connectReturnCodeOf(reasonCode: number): number {
  if (reasonCode === 0) return RETURN_CODES.accepted;
  if (reasonCode < 0x80) return RETURN_CODES.notSupported;
  return returnCodeOf(reasonCode);
}
