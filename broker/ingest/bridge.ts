// bridge: what a gateway's message becomes in the cluster: its topic, properties and expiry there.
// Path: stream → [bridge]. Touches: nothing.

import { type Message, moveExpiry } from "#contract/message";
import {
  BRIDGE_PROPERTIES,
  joinProperties,
  propertiesWithout,
  userProperty,
} from "#contract/properties";
import { assertTopicName, cloudTopic } from "#contract/topics";
import type { LandingEntry } from "./landing.ts";

/** What all messages of an entry have in common. */
export interface Origin {
  readonly gateway: string;
  /** The user properties that name gateway, lane and epoch, as wire bytes. */
  readonly properties: Uint8Array;
  /** How far the cloud's clock is ahead of the gateway's, in milliseconds. */
  readonly aheadMs: number;
}

const BRIDGE_NAMES: ReadonlySet<string> = new Set(Object.values(BRIDGE_PROPERTIES));

/** @throws SluiceError FRAME_INVALID when the lane's name cannot stand in a property. */
export function originOf({ gateway, id, lane, epoch, sentMs }: LandingEntry): Origin {
  const properties = joinProperties([
    userProperty(BRIDGE_PROPERTIES.gateway, gateway),
    userProperty(BRIDGE_PROPERTIES.lane, lane),
    userProperty(BRIDGE_PROPERTIES.epoch, String(epoch)),
  ]);
  // The landing gave the entry its id when the gateway had just sent it.
  const aheadMs = sentMs === undefined ? 0 : Number(id.split("-")[0]) - sentMs;
  return { gateway, properties, aheadMs };
}

/**
 * The message as the cluster's subscribers get it; BRIDGE_PROPERTIES say where it comes from.
 * @throws SluiceError TOPIC_INVALID or FRAME_INVALID for what no subscriber may receive.
 */
export function bridgedMessage(origin: Origin, sequence: number, message: Message): Message {
  const topic = cloudTopic(origin.gateway, message.topic);
  assertTopicName(topic);
  const own = message.properties ? propertiesWithout(message.properties, BRIDGE_NAMES) : [];
  const properties = joinProperties([
    ...own,
    origin.properties,
    userProperty(BRIDGE_PROPERTIES.sequence, String(sequence)),
  ]);
  // No Local is about the cluster's own clients: the publisher's name means somebody else here.
  const { publisher: _, ...bridged } = moveExpiry(message, origin.aheadMs);
  return { ...bridged, topic, properties };
}
