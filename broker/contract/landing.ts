// landing: what gateway and cloud agree on about the landing Redis: keys, functions, answers.
// Path: uplink → [landing] → ingest. Touches: nothing.

import { SluiceError } from "./errors.ts";
import { NAME_PATTERN } from "./topics.ts";

/** The keys of one gateway; the braces keep them in one slot of a Redis Cluster. */
export function landingKeys(gateway: string): { up: string; pos: string; down: string } {
  return { up: `{${gateway}}:up`, pos: `{${gateway}}:pos`, down: `{${gateway}}:down` };
}

/** The gateway's name in one of its keys; the only place from which the cloud takes that name. */
export function gatewayOfKey(key: string): string | undefined {
  const name = /^\{([^{}]+)\}:(?:up|pos|down)$/.exec(key)?.[1];
  return name !== undefined && NAME_PATTERN.test(name) ? name : undefined;
}

/** The Redis functions, registered by the cloud role as library `sluice`. */
export const LANDING_FUNCTIONS = {
  append: "sluice_append",
  probe: "sluice_probe",
  leave: "sluice_leave",
  command: "sluice_command",
  trim: "sluice_trim",
} as const;

/**
 * Fields of a stream entry in `{gw}:up`, and of one in `{gw}:down` (`record`).
 *
 * `sent_ms` is the gateway's steady clock when it sent the frame, in whole milliseconds: since the
 * entry's id begins with the landing's clock at the same moment, the two tell by how much the clock
 * by which the frame's messages expire is behind the cloud's. Entries of older gateways lack it.
 *
 * `total` is how many bytes of the gateway's budget were ever taken, this entry included.
 */
export const ENTRY_FIELDS = {
  lane: "lane",
  epoch: "epoch",
  frame: "frame",
  sentMs: "sent_ms",
  total: "total",
  record: "record",
} as const;

/**
 * Fields of `{gw}:pos`. Of each lane: `lane:<lane>` = `<epoch>:<seq>`, the position, and
 * `writer:<lane>`, who wrote it last. Of the gateway's byte budget: `bytes` ever appended, how many
 * of them were trimmed again, and the most that may lie there, which the cloud says.
 */
export const POS_FIELDS = {
  lanePrefix: "lane:",
  writerPrefix: "writer:",
  seenMs: "seen_ms",
  downCursor: "down_cursor",
  left: "left",
  bytes: "bytes",
  trimmed: "trimmed",
  bytesMax: "bytes_max",
} as const;

/** A frame to append: it follows `prev`, ends at `last` and is sent at `sentMs`. */
export interface AppendRequest {
  readonly lane: string;
  readonly epoch: number;
  readonly prev: number;
  readonly last: number;
  readonly frame: Uint8Array;
  readonly sentMs: number;
  /** Who sends it: two boxes with copies of one outbox differ in nothing else. */
  readonly writer: string;
}

/**
 * A question for the cloud's position in a lane, which also takes the lane: whoever is none of
 * `writers` is refused from then on.
 */
export interface ProbeRequest {
  readonly lane: string;
  readonly epoch: number;
  /** All who may have written this epoch for the outbox, newest first; the first one asks. */
  readonly writers: readonly string[];
  /** How far the gateway has carried out commands. */
  readonly downCursor: string;
}

/** Where the landing is in a lane; `seq` is the last one that it holds. */
export interface PositionAnswer {
  /** FENCED: another writer of this epoch, or a newer one, has the lane. */
  readonly status: "OK" | "DUP" | "GAP" | "FENCED";
  readonly epoch: number;
  readonly seq: number;
}

/** The landing has no room for more of this gateway now, for the reason that it says. */
export interface FullAnswer {
  readonly status: "FULL";
  readonly why: string;
}

/** How the landing answered an append or a probe. */
export type AppendAnswer = PositionAnswer | FullAnswer;

/** Reads the functions' reply `[status, epoch, seq]`, or `["FULL", bytes held, bytes at most]`. */
export function parseAppendAnswer(reply: unknown): AppendAnswer {
  if (Array.isArray(reply) && reply.length === 3) {
    const [status, ...numbers] = reply.map(String);
    const [one = Number.NaN, other = Number.NaN] = numbers.map(wholeNumber);
    const areNumbers = !Number.isNaN(one) && !Number.isNaN(other);
    if (areNumbers && status === "FULL") return { status, why: fullWhy(one, other) };
    if (areNumbers && isPositionStatus(status)) return { status, epoch: one, seq: other };
  }
  const shown = String(JSON.stringify(reply)).slice(0, 80);
  throw new SluiceError(
    "CLOUD_UNREACHABLE",
    `the landing answers ${shown}: its function library is not Sluice's`,
  );
}

function fullWhy(heldBytes: number, bytesMax: number): string {
  return (
    `the landing has no room for this gateway: it holds ${heldBytes} of ${bytesMax} bytes ` +
    "until the cloud has taken them in"
  );
}

const POSITION_STATUSES: ReadonlySet<string | undefined> = new Set(["OK", "DUP", "GAP", "FENCED"]);

function isPositionStatus(status: string | undefined): status is PositionAnswer["status"] {
  return POSITION_STATUSES.has(status);
}

function wholeNumber(text: string): number {
  return /^[0-9]{1,16}$/.test(text) && Number.isSafeInteger(Number(text))
    ? Number(text)
    : Number.NaN;
}

/** The field `sent_ms` of an entry; undefined where it is missing or no time. */
export function parseSentMs(text: string): number | undefined {
  const sentMs = wholeNumber(text);
  return Number.isNaN(sentMs) ? undefined : sentMs;
}

/** The position in `<epoch>:<seq>`, as `{gw}:pos` keeps it. */
export function parsePosition(text: string): { epoch: number; seq: number } {
  const [epoch, seq] = text.split(":").map(Number);
  return { epoch: epoch || 0, seq: seq || 0 };
}
