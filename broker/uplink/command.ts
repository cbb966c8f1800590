// command: what a cloud client asked for, as the gateway publishes it, and the answer where it does not.
// Path: downlink → [command]. Touches: nothing.

import { reasonOf, SluiceError } from "#contract/errors";
import { decodeRecord, isExpired, type Message } from "#contract/message";
import {
  COMMAND_PROPERTY,
  joinProperties,
  propertiesWithout,
  type Response,
  responseOf,
  userProperty,
} from "#contract/properties";
import { assertTopicName, GATEWAY_TOPICS } from "#contract/topics";

const COMMAND_NAMES: ReadonlySet<string> = new Set([COMMAND_PROPERTY]);

/** A command as it is published, its id in place of whatever was forged. */
export interface Command {
  readonly message: Message;
  readonly response: Response;
}

/** Why a command is not carried out, with as much of it as can be read. */
export interface Refused {
  readonly result: "expired" | "invalid";
  readonly reason: string;
  readonly topic?: string;
  readonly response?: Response;
}

/** Reads a record of the downlink. */
export function readCommand(id: string, record: Uint8Array): Command | Refused {
  let message: Message | undefined;
  try {
    const decoded = decodeRecord(record);
    if (decoded.kind !== "message") return { result: "invalid", reason: "it is a gap record" };
    message = decoded.message;
    assertTopicName(message.topic);
    if (message.topic.startsWith("$SYS/")) {
      throw new SluiceError("ACCESS_DENIED", "$SYS is the broker's own");
    }
    const given = message.properties ?? new Uint8Array();
    const own = propertiesWithout(given, COMMAND_NAMES);
    const properties = joinProperties([...own, userProperty(COMMAND_PROPERTY, id)]);
    return { message: { ...message, properties }, response: responseOf(given) };
  } catch (fault) {
    if (!(fault instanceof SluiceError)) throw fault;
    const refused = { result: "invalid", reason: reasonOf(fault) } as const;
    return message ? { ...refused, topic: message.topic } : refused;
  }
}

/** The command, or that it has expired at `nowMs` of the clock by which it does. */
export function unlessExpired({ message, response }: Command, nowMs: number): Command | Refused {
  const { topic, expiresAtMs } = message;
  if (expiresAtMs === undefined || !isExpired(expiresAtMs, nowMs)) return { message, response };
  const seconds = Math.ceil((nowMs - expiresAtMs) / 1_000);
  return { result: "expired", reason: `it expired ${seconds} s ago`, topic, response };
}

/** What the cloud is told of a command that was not carried out, where its sender listens. */
export function answerTo(id: string, refused: Refused, now: Date): Message {
  const { result, reason, topic = null, response = {} } = refused;
  const answer = { id, topic, result, reason, at: now.toISOString() };
  return {
    topic: response.topic ?? GATEWAY_TOPICS.commands,
    payload: new TextEncoder().encode(JSON.stringify(answer)),
    qos: 1,
    retain: false,
    takenAtMs: now.getTime(),
    ...(response.topic !== undefined && response.correlation
      ? { properties: response.correlation }
      : {}),
  };
}
