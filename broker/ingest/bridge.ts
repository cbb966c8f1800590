// bridge: what a gateway's message becomes in the cluster: its topic, properties and expiry there.
// Path: stream → [bridge]. Touches: nothing.

import { SluiceError } from "#contract/errors";
import { type Message, moveExpiry } from "#contract/message";
import {
  BRIDGE_PROPERTIES,
  COMMAND_PROPERTY,
  joinProperties,
  propertiesWithout,
  userProperty,
} from "#contract/properties";
import { assertTopicName, cloudTopic, NAME_PATTERN, TOPIC_LIMITS } from "#contract/topics";
import type { LandingEntry } from "./landing.ts";

/** What all messages of an entry have in common. */
export interface Origin {
  readonly gateway: string;
  /** The user properties gateway, lane, epoch and sequence but for its value, as wire bytes. */
  readonly properties: Uint8Array;
  /** How far the cloud's clock is ahead of the gateway's, in milliseconds. */
  readonly aheadMs: number;
}

const LENGTH_BYTES = 2;
/** What a device may not say in the cluster. */
const RESERVED_NAMES: ReadonlySet<string> = new Set([
  ...Object.values(BRIDGE_PROPERTIES),
  COMMAND_PROPERTY,
]);

/** @throws SluiceError FRAME_INVALID when gateway, lane or epoch cannot be what it says. */
export function originOf({ gateway, id, lane, epoch, sentMs }: LandingEntry): Origin {
  // Neither may hold a slash or a wildcard: the topics are the gateway's own by construction.
  assertName("gateway", gateway);
  assertName("lane", lane);
  if (!Number.isSafeInteger(epoch) || epoch < 0) {
    throw new SluiceError("FRAME_INVALID", `entry with epoch ${epoch}`);
  }
  const properties = joinProperties([
    userProperty(BRIDGE_PROPERTIES.gateway, gateway),
    userProperty(BRIDGE_PROPERTIES.lane, lane),
    userProperty(BRIDGE_PROPERTIES.epoch, String(epoch)),
    userProperty(BRIDGE_PROPERTIES.sequence, "").slice(0, -LENGTH_BYTES),
  ]);
  // The landing gave the entry its id when the gateway had just sent it.
  const aheadMs = sentMs === undefined ? 0 : Number(id.split("-")[0]) - sentMs;
  return { gateway, properties, aheadMs };
}

function assertName(what: string, name: string): void {
  if (NAME_PATTERN.test(name)) return;
  const shown = JSON.stringify(name.slice(0, 80));
  throw new SluiceError("FRAME_INVALID", `entry with ${what} ${shown}, which is no name`);
}

/**
 * The message as the cluster's subscribers get it; BRIDGE_PROPERTIES say where it comes from.
 * @throws SluiceError TOPIC_INVALID or FRAME_INVALID for what no subscriber may receive.
 */
export function bridgedMessage(origin: Origin, sequence: number, message: Message): Message {
  const topic = bridgedTopic(origin.gateway, message.topic);
  const own = message.properties && propertiesWithout(message.properties, RESERVED_NAMES);
  const properties = propertiesOf(own, origin.properties, String(sequence));
  // No Local is about the cluster's own clients: the publisher's name means somebody else here.
  const { payload, qos, retain, takenAtMs, expiresAtMs } = moveExpiry(message, origin.aheadMs);
  const bridged = { topic, payload, qos, retain, takenAtMs, properties };
  return expiresAtMs === undefined ? bridged : { ...bridged, expiresAtMs };
}

/** The prefix adds levels to what the gateway may use all of, and bytes to what MQTT can carry. */
function bridgedTopic(gateway: string, local: string): string {
  assertTopicName(local);
  const topic = cloudTopic(gateway, local);
  const { bytesMax } = TOPIC_LIMITS;
  if (topic.length * 3 > bytesMax && Buffer.byteLength(topic) > bytesMax) {
    throw new SluiceError(
      "TOPIC_INVALID",
      `under from/ its topic is longer than ${bytesMax} bytes`,
    );
  }
  return topic;
}

/** All of it in one piece of memory: this is done for each message. */
function propertiesOf(
  own: readonly Uint8Array[] | undefined,
  origin: Uint8Array,
  sequence: string,
): Uint8Array {
  const ownBytes = own ? own.reduce((sum, { length }) => sum + length, 0) : 0;
  const bytes = Buffer.allocUnsafe(ownBytes + origin.length + LENGTH_BYTES + sequence.length);
  let at = 0;
  for (const property of own ?? []) {
    bytes.set(property, at);
    at += property.length;
  }
  bytes.set(origin, at);
  at = bytes.writeUInt16BE(sequence.length, at + origin.length);
  // Digits are one byte each.
  for (let digit = 0; digit < sequence.length; digit += 1) {
    bytes[at + digit] = sequence.charCodeAt(digit);
  }
  return bytes;
}
