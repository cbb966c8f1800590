// topics: topic names and filters by MQTT 3.1.1 clause 4.7, and the two prefixes of the cluster.
// Path: mqtt, uplink, ingest, firmware-bridge. Touches: nothing.

import { SluiceError } from "./errors.ts";

export const TOPIC_LIMITS = { bytesMax: 65_535, levelsMax: 100 } as const;

/** What a gateway or a device may be called, so that its name can stand in a topic and in a key. */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const FROM = "from/";
const TO = "to/";

/** Refuses, with TOPIC_INVALID, what cannot be published to [MQTT-3.3.2-2, 4.7.1-1, 4.7.3-1, 4.7.3-2]. */
export function assertTopicName(topic: string): void {
  assertTopicText(topic);
  if (/[+#]/.test(topic)) {
    throw new SluiceError("TOPIC_INVALID", `topic ${shown(topic)} holds a wildcard`);
  }
}

/** Refuses, with TOPIC_INVALID, what cannot be subscribed to [MQTT-4.7.1-2, 4.7.1-3, 4.7.3-1]. */
export function assertTopicFilter(filter: string): void {
  assertTopicText(filter);
  const levels = filter.split("/");
  levels.forEach((level, index) => {
    const last = index === levels.length - 1;
    if (level.includes("#") && (level !== "#" || !last)) {
      throw new SluiceError("TOPIC_INVALID", `${shown(filter)}: # must be the last level`);
    }
    if (level.includes("+") && level !== "+") {
      throw new SluiceError("TOPIC_INVALID", `${shown(filter)}: + must be a whole level`);
    }
  });
}

function assertTopicText(text: string): void {
  const fault = topicTextFault(text);
  if (fault !== undefined) {
    throw new SluiceError("TOPIC_INVALID", `topic ${shown(text)} ${fault}`);
  }
}

/** What a message may quote of a topic: as long as one is, a log line is not. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function topicTextFault(text: string): string | undefined {
  if (text.length === 0) return "is empty";
  if (text.includes("\u0000")) return "holds U+0000";
  if (!text.isWellFormed()) return "holds a lone surrogate";
  // No UTF-16 unit becomes more than three bytes, so most topics need not be encoded to be counted.
  if (text.length * 3 > TOPIC_LIMITS.bytesMax && utf8Bytes(text) > TOPIC_LIMITS.bytesMax) {
    return `is longer than ${TOPIC_LIMITS.bytesMax} bytes`;
  }
  if (text.split("/").length > TOPIC_LIMITS.levelsMax) {
    return `has more than ${TOPIC_LIMITS.levelsMax} levels`;
  }
  return undefined;
}

function utf8Bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Does `filter` select `topic`? Wildcards at the front do not select `$…` [MQTT-4.7.2-1]. */
export function filterMatches(filter: string, topic: string): boolean {
  if (topic.startsWith("$") && /^[+#]/.test(filter)) return false;
  // The rule that most gateways have, asked for each message.
  if (filter === "#") return true;
  const filterLevels = filter.split("/");
  const topicLevels = topic.split("/");
  for (const [index, level] of filterLevels.entries()) {
    if (level === "#") return true;
    if (index >= topicLevels.length) return false;
    if (level !== "+" && level !== topicLevels[index]) return false;
  }
  return filterLevels.length === topicLevels.length;
}

/** Does `wide` select every topic that `narrow` selects? Both are well-formed filters. */
export function filterCovers(wide: string, narrow: string): boolean {
  // A wildcard at the front selects no `$…`, which a literal does [MQTT-4.7.2-1].
  if (narrow.startsWith("$") && /^[+#]/.test(wide)) return false;
  const wideLevels = wide.split("/");
  const narrowLevels = narrow.split("/");
  for (const [index, level] of wideLevels.entries()) {
    if (level === "#") return true;
    const other = narrowLevels[index];
    if (other === undefined || other === "#") return false;
    if (level !== "+" && level !== other) return false;
  }
  return wideLevels.length === narrowLevels.length;
}

/** The cluster's name for the gateway's local topic: `from/<gateway>/<topic>`. */
export function cloudTopic(gateway: string, topic: string): string {
  return `${FROM}${gateway}/${topic}`;
}

/** Reads `to/<gateway>/<topic>`; undefined for every other topic. */
export function parseCommandTopic(topic: string): { gateway: string; topic: string } | undefined {
  if (!topic.startsWith(TO)) return undefined;
  const end = topic.indexOf("/", TO.length);
  if (end < 0) return undefined;
  const gateway = topic.slice(TO.length, end);
  const local = topic.slice(end + 1);
  return NAME_PATTERN.test(gateway) && local.length > 0 ? { gateway, topic: local } : undefined;
}

/**
 * Topics on which a gateway speaks for itself, in the cluster under its own prefix: whether it is
 * heard, and what became of commands that were not carried out.
 */
export const GATEWAY_TOPICS = { status: "sluice/status", commands: "sluice/commands" } as const;

/** Is this a topic on which nobody but the gateway itself may speak? */
export function isGatewayTopic(topic: string): boolean {
  return topic === GATEWAY_TOPICS.status || topic === GATEWAY_TOPICS.commands;
}

/** Is this one of the topics that only ingest may publish to? */
export function isFromTopic(topic: string): boolean {
  return topic.startsWith(FROM);
}

/** Is this a topic that carries commands to a gateway? */
export function isToTopic(topic: string): boolean {
  return topic.startsWith(TO);
}
