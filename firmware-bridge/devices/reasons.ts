// reasons: MQTT 5.0's reason codes of failure in words (§2.4), and which of them a wait may mend.
// Path: client, outgoing → [reasons]. Touches: nothing.

export const REASON = {
  notAuthorized: 0x87,
  failed: 0x80,
} as const;

const WORDS: Readonly<Record<number, string>> = {
  128: "unspecified error",
  129: "malformed packet",
  130: "protocol error",
  131: "implementation specific error",
  132: "protocol version not supported",
  133: "client identifier not valid",
  134: "bad user name or password",
  135: "not authorized",
  136: "server unavailable",
  137: "server busy",
  138: "banned",
  139: "server shutting down",
  140: "bad authentication method",
  141: "keep alive timeout",
  142: "session taken over",
  143: "topic filter invalid",
  144: "topic name invalid",
  145: "packet identifier in use",
  147: "receive maximum exceeded",
  148: "topic alias invalid",
  149: "packet too large",
  150: "message rate too high",
  151: "quota exceeded",
  152: "administrative action",
  153: "payload format invalid",
  154: "retain not supported",
  155: "QoS not supported",
  156: "use another server",
  157: "server moved",
  158: "shared subscriptions not supported",
  159: "connection rate exceeded",
  160: "maximum connect time",
  161: "subscription identifiers not supported",
  162: "wildcard subscriptions not supported",
};

/** As "not authorized", or "not authorized: the broker's own words". */
export function reasonWords(code: number, said?: string): string {
  const words = WORDS[code] ?? `reason code ${code}`;
  return said ? `${words}: ${said}` : words;
}

/**
 * Refusals of a PUBLISH that may be over later: unspecified and implementation specific ones (a disk
 * that takes nothing), an identifier in use, a full quota. All others stay as they are.
 */
const PASSING: ReadonlySet<number> = new Set([0x80, 0x83, 0x89, 0x91, 0x96, 0x97]);

export function isPassing(code: number): boolean {
  return PASSING.has(code);
}
