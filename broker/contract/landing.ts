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
} as const;

/**
 * Fields of a stream entry in `{gw}:up`, and of one in `{gw}:down` (`record`).
 *
 * `sent_ms` is the gateway's steady clock when it sent the frame, in whole milliseconds: since the
 * entry's id begins with the landing's clock at the same moment, the two tell by how much the clock
 * by which the frame's messages expire is behind the cloud's. Entries of older gateways lack it.
 */
export const ENTRY_FIELDS = {
  lane: "lane",
  epoch: "epoch",
  frame: "frame",
  sentMs: "sent_ms",
  record: "record",
} as const;

/** Fields of `{gw}:pos` beside one `lane:<lane>` = `<epoch>:<seq>` per lane. */
export const POS_FIELDS = {
  lanePrefix: "lane:",
  seenMs: "seen_ms",
  downCursor: "down_cursor",
  left: "left",
} as const;

/** How the landing answered an append or a probe; `seq` is the last one that it holds. */
export interface AppendAnswer {
  readonly status: "OK" | "DUP" | "GAP" | "FENCED";
  readonly epoch: number;
  readonly seq: number;
}

/** Reads the functions' reply `[status, epoch, seq]`. */
export function parseAppendAnswer(reply: unknown): AppendAnswer {
  if (Array.isArray(reply) && reply.length === 3) {
    const [status, ...numbers] = reply.map(String);
    const [epoch = Number.NaN, seq = Number.NaN] = numbers.map(wholeNumber);
    if (status === "OK" || status === "DUP" || status === "GAP" || status === "FENCED") {
      if (!Number.isNaN(epoch) && !Number.isNaN(seq)) return { status, epoch, seq };
    }
  }
  const shown = String(JSON.stringify(reply)).slice(0, 80);
  throw new SluiceError(
    "CLOUD_UNREACHABLE",
    `the landing answers ${shown}: its function library is not Sluice's`,
  );
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
