// packets: MQTT's control packets as values, for 3.1, 3.1.1 and 5.0 alike.
// Path: connection → [packets] → session. Touches: nothing.

import type { Qos } from "#contract/message";
import type { Subscription } from "#contract/session";

/** Protocol levels (MQTT 3.1.1 and 5.0 §3.1.2.2): 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0. */
export type ProtocolLevel = 3 | 4 | 5;

/** Control packet types (§2.1.2). */
export const PACKET = {
  connect: 1,
  connack: 2,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  suback: 9,
  unsubscribe: 10,
  unsuback: 11,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14,
  auth: 15,
} as const;

export interface ConnectPacket {
  readonly type: typeof PACKET.connect;
  readonly level: ProtocolLevel;
  readonly clientId: string;
  /** Clean Session (3.x), Clean Start (5.0). */
  readonly clean: boolean;
  readonly keepAliveSeconds: number;
  readonly username: string | undefined;
  readonly password: Uint8Array | undefined;
  readonly will: WillPart | undefined;
  /** §3.1.2.11; 0 where absent. In 3.x: 0 with clean session, else never (0xFFFFFFFF). */
  readonly sessionExpirySeconds: number;
  /** 65,535 where absent. */
  readonly receiveMaximum: number;
  /** undefined: no limit beyond the protocol's. */
  readonly maximumPacketBytes: number | undefined;
  readonly topicAliasMaximum: number;
  readonly requestResponseInformation: boolean;
  /** May reason strings and user properties stand in packets other than PUBLISH, CONNACK, DISCONNECT? */
  readonly requestProblemInformation: boolean;
  readonly authenticationMethod: string | undefined;
}

export interface WillPart {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: Qos;
  readonly retain: boolean;
  readonly delaySeconds: number;
  readonly expirySeconds: number | undefined;
  /** What is passed on as it is: see Message.properties. */
  readonly properties: Uint8Array | undefined;
}

export interface PublishPacket {
  readonly type: typeof PACKET.publish;
  /** "" only with a topic alias in 5.0. */
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: Qos;
  readonly retain: boolean;
  readonly dup: boolean;
  /** 0 with QoS 0. */
  readonly packetId: number;
  readonly topicAlias: number | undefined;
  readonly expirySeconds: number | undefined;
  /** What is passed on as it is: see Message.properties. */
  readonly properties: Uint8Array | undefined;
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP. */
export interface AckPacket {
  readonly type: 4 | 5 | 6 | 7;
  readonly packetId: number;
  /** 0 in 3.x. */
  readonly reasonCode: number;
}

export interface SubscribePacket {
  readonly type: typeof PACKET.subscribe;
  readonly packetId: number;
  /** Filters of well-formed UTF-8, in order, repeats too; ill-formed as filters they may be. */
  readonly subscriptions: readonly Subscription[];
}

export interface UnsubscribePacket {
  readonly type: typeof PACKET.unsubscribe;
  readonly packetId: number;
  readonly filters: readonly string[];
}

export interface PingPacket {
  readonly type: typeof PACKET.pingreq;
}

export interface DisconnectPacket {
  readonly type: typeof PACKET.disconnect;
  readonly reasonCode: number;
  readonly sessionExpirySeconds: number | undefined;
}

export interface AuthPacket {
  readonly type: typeof PACKET.auth;
  readonly reasonCode: number;
}

/** What a client may send. */
export type ClientPacket =
  | ConnectPacket
  | PublishPacket
  | AckPacket
  | SubscribePacket
  | UnsubscribePacket
  | PingPacket
  | DisconnectPacket
  | AuthPacket;
