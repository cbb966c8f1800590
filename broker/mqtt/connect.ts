// connect: what a CONNECT asks for, and what its CONNACK answers.
// Path: client → [connect] → sessions. Touches: nothing.

import type { Will } from "#contract/session";
import type { Settings } from "#runtime/settings-schema";
import type { Peer } from "./reception.ts";
import type { Asked } from "./sessions.ts";
import { encodeConnack } from "./wire/encode.ts";
import type { ConnectPacket, ProtocolLevel } from "./wire/packets.ts";
import { REASON } from "./wire/reason-codes.ts";

/** What the client takes and understands, for as long as it is connected. */
export interface Terms {
  readonly level: ProtocolLevel;
  readonly receiveMaximum: number;
  readonly maximumPacketBytes: number;
  readonly topicAliasMaximum: number;
  readonly requestProblemInformation: boolean;
  /** As the server decides (MQTT 5.0 §3.2.2.3.14); a client of 3.x keeps its own. */
  readonly keepAliveSeconds: number;
}

/** Those of a client that has said nothing yet. */
export const NO_TERMS: Terms = {
  level: 4,
  receiveMaximum: 1,
  maximumPacketBytes: Number.POSITIVE_INFINITY,
  topicAliasMaximum: 0,
  requestProblemInformation: false,
  keepAliveSeconds: 0,
};

type Limits = Settings["limits"];

/** Of the packet itself nothing is kept: it holds a password, and is a view of all it came with. */
export function termsOf(packet: ConnectPacket, limits: Limits): Terms {
  const { level, keepAliveSeconds } = packet;
  const most = limits.keepalive_seconds_max;
  const isOver = keepAliveSeconds === 0 ? most < 65_535 : keepAliveSeconds > most;
  return {
    level,
    receiveMaximum: packet.receiveMaximum,
    maximumPacketBytes: packet.maximumPacketBytes ?? Number.POSITIVE_INFINITY,
    topicAliasMaximum: packet.topicAliasMaximum,
    requestProblemInformation: packet.requestProblemInformation,
    keepAliveSeconds: level === 5 && isOver ? most : keepAliveSeconds,
  };
}

/** The session that the client asks for; `clientId` is its own or the one that it is given. */
export function askedBy(
  packet: ConnectPacket,
  clientId: string,
  { certificateName }: Peer,
  limits: Limits,
): Asked {
  return {
    identity: { clientId, user: packet.username, certificateName },
    clean: packet.clean,
    expirySeconds: Math.min(packet.sessionExpirySeconds, limits.session_seconds_max),
    will: willOf(packet, clientId),
  };
}

/** The CONNACK that welcomes; in 5.0 it says what differs from what was asked for (§3.2.2.3). */
export function encodeWelcome(
  packet: ConnectPacket,
  { clientId, expirySeconds }: { clientId: string; expirySeconds: number },
  sessionPresent: boolean,
  limits: Limits,
): Buffer {
  const welcome = { sessionPresent, reasonCode: REASON.success };
  if (packet.level < 5) return encodeConnack(packet.level, welcome);
  const { keepAliveSeconds } = termsOf(packet, limits);
  const isCut = expirySeconds !== packet.sessionExpirySeconds;
  const isOurs = keepAliveSeconds !== packet.keepAliveSeconds;
  return encodeConnack(packet.level, {
    ...welcome,
    properties: {
      receiveMaximum: limits.receive_messages_max,
      maximumPacketBytes: limits.packet_bytes_max,
      topicAliasMaximum: limits.topic_aliases_max,
      ...(isCut ? { sessionExpirySeconds: expirySeconds } : {}),
      ...(packet.clientId === "" ? { assignedClientId: clientId } : {}),
      ...(isOurs ? { serverKeepAliveSeconds: keepAliveSeconds } : {}),
    },
  });
}

/** The CONNACK that refuses, in its forms from the longest: with the reason in words, and without. */
export function encodeRefusal(
  level: ProtocolLevel,
  reasonCode: number,
  why: string,
  serverReference?: string,
): Buffer[] {
  const refusal = { sessionPresent: false, reasonCode };
  const brief = encodeConnack(level, refusal);
  if (level < 5) return [brief];
  const reference = serverReference === undefined ? {} : { serverReference };
  const properties = { reasonString: why, ...reference };
  return [encodeConnack(level, { ...refusal, properties }), brief];
}

function willOf({ will }: ConnectPacket, publisher: string): Will | undefined {
  if (!will) return undefined;
  const { topic, payload, qos, retain, delaySeconds, expirySeconds, properties } = will;
  // Bytes of its own: a view would keep all that came in with it.
  const own = { payload: new Uint8Array(payload), properties: new Uint8Array(properties ?? []) };
  const message = { topic, payload: own.payload, qos, retain, takenAtMs: 0, publisher };
  return {
    message: properties === undefined ? message : { ...message, properties: own.properties },
    delaySeconds,
    ...(expirySeconds === undefined ? {} : { expirySeconds }),
  };
}
