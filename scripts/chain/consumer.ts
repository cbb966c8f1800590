// consumer: an MQTT client that shows what it receives, as any client of the cluster would.
// Path: HAProxy → [consumer] → screen. Touches: one MQTT connection.

import { readFileSync } from "node:fs";
import { connect } from "mqtt";

export interface ConsumerOptions {
  readonly url: string;
  readonly filter: string;
  /** The CA that signed the server's certificate, with mqtts. */
  readonly ca?: string;
  readonly show: (line: string) => void;
}

const PAYLOAD_CHARACTERS_MAX = 120;
const RECONNECT_MS = 1_000;

/** Connects, comes back when it is cut off, and misses nothing in between; returns what ends it. */
export function startConsumer({ url, filter, ca, show }: ConsumerOptions): () => Promise<void> {
  const client = connect(url, {
    clientId: `consumer-${process.pid}`,
    // A session that stays, so that the broker keeps what comes while we are away.
    clean: false,
    reconnectPeriod: RECONNECT_MS,
    resubscribe: false,
    ...(ca ? { ca: readFileSync(ca) } : {}),
  });
  let isConnected = false;
  let isEnding = false;
  client.on("connect", ({ sessionPresent }) => {
    isConnected = true;
    show(`-- consumer: connected to ${url}`);
    if (!sessionPresent) client.subscribe(filter, { qos: 1 });
  });
  client.on("close", () => {
    if (isConnected && !isEnding) show("-- consumer: cut off; it tries again each second");
    isConnected = false;
  });
  // The close that follows is what counts.
  client.on("error", () => {});
  client.on("message", (topic, payload, { retain }) =>
    show(`${timeOfDay()}  ${topic}  ${printable(payload)}${retain ? "  (retained)" : ""}`),
  );
  return () => {
    isEnding = true;
    return client.endAsync(true);
  };
}

function timeOfDay(): string {
  return new Date().toISOString().slice(11, 23);
}

/** What came from afar must not steer the terminal. */
function printable(payload: Buffer): string {
  const text = payload.toString("utf8").replace(/\p{Cc}/gu, "�");
  return text.length > PAYLOAD_CHARACTERS_MAX ? `${text.slice(0, PAYLOAD_CHARACTERS_MAX)}…` : text;
}
