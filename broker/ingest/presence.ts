// presence: says on from/<gateway>/sluice/status whether a gateway is heard, and why not.
// Path: landing → [presence] → bus. Touches: what it is given.

import type { Message } from "#contract/message";
import { cloudTopic, GATEWAY_TOPICS } from "#contract/topics";

export interface Presence {
  readonly state: "online" | "offline";
  readonly why: string;
}

/** What a gateway counts as that was heard `silentMs` ago and, perhaps, said why it left. */
export function presenceOf(silentMs: number, left: string, silentMsMax: number): Presence {
  if (left !== "") return { state: "offline", why: left };
  if (silentMs <= silentMsMax) return { state: "online", why: "" };
  return { state: "offline", why: `nothing heard for more than ${silentMsMax / 1_000} s` };
}

/** The retained message that tells it. */
export function presenceMessage(gateway: string, presence: Presence, nowMs: number): Message {
  return {
    topic: cloudTopic(gateway, GATEWAY_TOPICS.status),
    payload: new TextEncoder().encode(JSON.stringify({ ...presence, at: new Date(nowMs) })),
    qos: 1,
    retain: true,
    takenAtMs: nowMs,
  };
}
