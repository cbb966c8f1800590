// status: sluice status: what is wrong, and what was lost, if anything.
// Path: main → [status] → fetch-status. Touches: stdout.

import type {
  GatewayStatus,
  IngestStatus,
  LaneStatus,
  StatusDocument,
  UplinkStatus,
} from "#contract/status";
import { printable } from "#runtime/printable";
import { type Command, readArguments, refuseMore } from "./command.ts";
import { FETCH_OPTIONS } from "./fetch-document.ts";
import { fetchStatus, STATUS_OPTIONS_USAGE } from "./fetch-status.ts";
import { formatAge, formatBytes, formatCount, formatCounted, formatShare } from "./format.ts";

const GATEWAYS_SHOWN_MAX = 10;

export const status: Command = {
  summary: "how the broker is, in a few lines",
  usage: `usage: sluice status [--json] [--config FILE | --status HOST:PORT]

Tells what is wrong with the broker and what was lost, if anything.
Exit code 0: ready. 1: not ready, or no answer. 2: bad settings or usage.

${STATUS_OPTIONS_USAGE}`,
  async run(args) {
    const { values, positionals } = readArguments(args, FETCH_OPTIONS);
    refuseMore(positionals);
    const { document, nowMs } = await fetchStatus(values);
    const text = values.json ? `${JSON.stringify(document)}\n` : formatStatus(document, nowMs);
    process.stdout.write(text);
    return document.ready ? 0 : 1;
  },
};

/** A line's word and its text; a word is not repeated. */
type Line = readonly [word: string, text: string];

/** The document as an operator reads it. */
export function formatStatus(document: StatusDocument, nowMs: number): string {
  const up = formatAge(nowMs - document.startedAtMs);
  const connections = formatCounted(document.connections, "connection");
  const lines: Line[] = [
    [document.role, `Sluice ${document.version}, up ${up}, ${connections}`],
    ...document.reasons.map((reason): Line => ["wrong", reason]),
    ...(document.uplink ? uplinkLines(document.uplink, nowMs) : []),
    ...(document.outbox ?? []).map((lane): Line => ["outbox", laneText(lane, nowMs)]),
    ...(document.outbox ? lostLines(document.outbox) : []),
    ...(document.ingest ? ingestLines(document.ingest) : []),
  ];
  const title = `${printable(document.name)}: ${document.ready ? "ready" : "NOT READY"}\n`;
  return title + lines.map((line, index) => aligned(line, lines[index - 1])).join("");
}

function aligned([word, text]: Line, before: Line | undefined): string {
  const shown = before?.[0] === word ? "" : word;
  return `  ${printable(shown.padEnd(9) + text)}\n`;
}

function uplinkLines(uplink: UplinkStatus, nowMs: number): Line[] {
  const why = uplink.why === "" ? "" : `: ${uplink.why}`;
  const sent = `${formatCounted(uplink.sentMessages, "message")} sent`;
  const commands = `${formatCounted(uplink.receivedCommands, "command")} received`;
  const rewinds = formatCounted(uplink.rewinds, "rewind");
  return [
    ["uplink", `${uplink.state} for ${formatAge(nowMs - uplink.sinceMs)}${why}`],
    ["uplink", `${uplink.cloud}, ${sent}, ${commands}, ${rewinds}`],
  ];
}

function laneText(lane: LaneStatus, nowMs: number): string {
  const waiting = `${lane.lane}: ${formatCount(lane.waitingMessages)} waiting`;
  const share = formatShare(lane.waitingBytes, lane.bytesMax);
  const bytes = `${formatBytes(lane.waitingBytes)} of ${formatBytes(lane.bytesMax)} (${share})`;
  const oldest = lane.oldestWaitingAtMs;
  if (oldest === null) return `${waiting}, ${bytes}`;
  const out = `${formatCount(Math.round(lane.leavingPerSecond))} leave a second`;
  return `${waiting}, ${bytes}, oldest ${formatAge(nowMs - oldest)}, ${out}`;
}

function lostLines(lanes: readonly LaneStatus[]): Line[] {
  const losses = lanes.flatMap(({ lane, dropped }) =>
    Object.entries(dropped).map(([reason, count]): Line => {
      const what = `${formatCounted(count, "message")} of lane ${lane}, ${reason}`;
      return ["lost", `${what}: gap records stand for them`];
    }),
  );
  return losses.length === 0 ? [["lost", "nothing"]] : losses;
}

function ingestLines({ partitions, partitionsOwned, gateways, deadLetters }: IngestStatus): Line[] {
  const offline = gateways.filter((gateway) => gateway.state === "offline");
  const online = gateways.length - offline.length;
  // One that is over its budget is heard for a while yet.
  const troubled = gateways.filter(({ state, why }) => state === "offline" || why !== "");
  return [
    ["ingest", `${partitionsOwned} of ${partitions} partitions`],
    ["gateways", `${formatCount(online)} online, ${formatCount(offline.length)} offline`],
    ...firstOf("gateways", troubled.map(troubleText), "offline"),
    ...firstOf(
      "lost",
      gateways.map(lossText).filter((text) => text !== ""),
      "with losses",
    ),
    ...(deadLetters > 0 ? [["lost", deadLettersText(deadLetters)] as const] : []),
  ];
}

/** The first of many, and how many more there are. */
function firstOf(word: string, texts: readonly string[], more: string): Line[] {
  const hidden = texts.length - GATEWAYS_SHOWN_MAX;
  return [
    ...texts.slice(0, GATEWAYS_SHOWN_MAX).map((text): Line => [word, text]),
    ...(hidden > 0 ? [[word, `and ${formatCount(hidden)} more ${more}`] as const] : []),
  ];
}

function troubleText({ gateway, state, why }: GatewayStatus): string {
  return `${gateway} ${state}${why === "" ? "" : `: ${why}`}`;
}

/** What of a gateway's messages did not reach the cluster; empty when all did. */
function lossText({ gateway, missingMessages, lostMessages, deadLetters }: GatewayStatus): string {
  const missing = Object.entries(missingMessages).map(
    ([reason, count]) => `${formatCounted(count, "message")} (${reason})`,
  );
  const lost = lostMessages > 0 ? [`${formatCounted(lostMessages, "message")} (unexplained)`] : [];
  const dead = deadLetters > 0 ? [formatCounted(deadLetters, "dead letter")] : [];
  const losses = [...missing, ...lost, ...dead];
  return losses.length === 0 ? "" : `${gateway}: ${losses.join(", ")}`;
}

function deadLettersText(count: number): string {
  return `${formatCounted(count, "dead letter")} kept for all gateways: XRANGE sluice:dead - +`;
}
