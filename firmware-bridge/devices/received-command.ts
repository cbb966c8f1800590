// received-command: one command as it came from the broker, and how its results are worded.
// Path: connection → [received-command] → commands. Touches: nothing.

import { createHash } from "node:crypto";
import type { IPublishPacket } from "mqtt-packet";
import { reasonOf } from "#contract/errors";
import { COMMAND_PROPERTY } from "#contract/properties";
import { assertTopicName } from "#contract/topics";
import type { Command, Outcome } from "../driver.ts";
import type { Publication } from "./outgoing.ts";

const ID_CHARACTERS_MAX = 128;
const PRINTABLE = /^[\x20-\x7e]+$/;
/**
 * Whoever may give a command could else have us make commands without end there, or readings and
 * documents, with the rights of the device.
 */
const OURS = /^(?:serial|sluice)\//;

export interface ReceivedCommand extends Command {
  /** The topic's end, by which its results name it. */
  readonly name: string;
  readonly isRetained: boolean;
  /** It may have come before. */
  readonly isRepeat: boolean;
  readonly qos: 0 | 1 | 2;
  readonly packetId: number;
  /** By which a repeat is known; undefined for QoS 0, which is never repeated. */
  readonly key: string | undefined;
  /** Of the cloud's command, or the publisher's correlation data where that is text. */
  readonly id: string | undefined;
  readonly responseTopic: string | undefined;
  readonly correlation: Buffer | undefined;
  /** Why its response topic is none that can be answered on. */
  readonly responseFault: string | undefined;
}

export type Progress = { readonly state: "accepted" } | Outcome;

/** `base`: as `serial/<device>/`. */
export function receivedCommand(packet: IPublishPacket, base: string): ReceivedCommand {
  const { topic, qos, dup, retain, messageId = 0, properties } = packet;
  const name = topic.slice(base.length);
  const payload = Buffer.from(packet.payload as Buffer);
  const { responseTopic, correlationData } = properties ?? {};
  const responseFault = responseTopic === undefined ? undefined : responseFaultOf(responseTopic);
  return {
    name,
    channel: name === "set" ? undefined : name.slice("set/".length),
    payload,
    isRetained: retain,
    isRepeat: dup,
    qos,
    packetId: messageId,
    key: qos === 0 ? undefined : `${messageId} ${digest(topic, payload)}`,
    id: idOf(properties),
    responseTopic: responseFault === undefined ? responseTopic : undefined,
    correlation: correlationData,
    responseFault,
  };
}

/** For the device's topic of results, and for the response topic where there is one. */
export function resultsOf(
  command: ReceivedCommand,
  progress: Progress,
  base: string,
): Publication[] {
  const { name, id, responseTopic, correlation } = command;
  const result = { command: name, ...progress, ...(id !== undefined && { id }) };
  const payload = Buffer.from(JSON.stringify(result));
  const own = { topic: `${base}result`, payload, retain: false };
  if (responseTopic === undefined) return [own];
  const properties = correlation && { correlationData: correlation };
  return [own, { topic: responseTopic, payload, retain: false, properties }];
}

function responseFaultOf(topic: string): string | undefined {
  if (OURS.test(topic)) return "what is below serial/ and sluice/ is no answer";
  try {
    assertTopicName(topic);
    return undefined;
  } catch (fault) {
    return reasonOf(fault);
  }
}

function idOf(properties: IPublishPacket["properties"]): string | undefined {
  const given = properties?.userProperties?.[COMMAND_PROPERTY];
  const [ofCloud] = Array.isArray(given) ? given : [given];
  const text = ofCloud ?? properties?.correlationData?.toString("latin1");
  const isShown = text !== undefined && text.length <= ID_CHARACTERS_MAX && PRINTABLE.test(text);
  return isShown ? text : undefined;
}

function digest(topic: string, payload: Uint8Array): string {
  return createHash("sha256").update(topic).update("\0").update(payload).digest("base64url");
}
