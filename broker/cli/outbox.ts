// outbox: sluice outbox: what waits for the cloud, lane by lane.
// Path: main → [outbox] → fetch-status. Touches: stdout.

import { droppedMessages, type LaneStatus } from "#contract/status";
import { printable } from "#runtime/printable";
import { type Command, readArguments, refuseMore } from "./command.ts";
import { FETCH_OPTIONS } from "./fetch-document.ts";
import { fetchStatus, STATUS_OPTIONS_USAGE } from "./fetch-status.ts";
import {
  formatAge,
  formatBytes,
  formatCount,
  formatCounted,
  formatShare,
  formatTable,
} from "./format.ts";

export const outbox: Command = {
  summary: "what waits for the cloud, lane by lane",
  usage: `usage: sluice outbox [--json] [--config FILE | --status HOST:PORT]

Shows each lane of the outbox:
  waiting   messages that the cloud does not hold yet, their bytes and the age of the oldest
  in, out   messages a second that were taken into custody, and that the cloud took, of late
  limit     what the lane may hold, and how far it is filled
  full      what becomes of a message that does not fit
  last      last sequence taken into custody
  position  last sequence that the cloud is known to hold
  tail      messages that the cloud took and that are kept to rewind into
  dropped   messages that gap records stand for, and below the table why

${STATUS_OPTIONS_USAGE}`,
  async run(args) {
    const { values, positionals } = readArguments(args, FETCH_OPTIONS);
    refuseMore(positionals);
    const { document, nowMs } = await fetchStatus(values);
    const lanes = document.outbox ?? [];
    if (values.json) process.stdout.write(`${JSON.stringify(lanes)}\n`);
    else if (lanes.length > 0) process.stdout.write(formatOutbox(lanes, nowMs));
    else
      process.stdout.write(`${printable(`${document.name} (${document.role})`)} has no outbox\n`);
    return 0;
  },
};

const TITLES = [
  "lane",
  "waiting",
  "bytes",
  "oldest",
  "in/s",
  "out/s",
  "limit",
  "filled",
  "full",
  "last",
  "position",
  "tail",
  "dropped",
];

/** The lanes as an operator reads them. */
export function formatOutbox(lanes: readonly LaneStatus[], nowMs: number): string {
  const table = formatTable([TITLES, ...lanes.map((lane) => row(lane, nowMs))]);
  return table + lanes.flatMap(dropLines).join("");
}

function row(lane: LaneStatus, nowMs: number): string[] {
  const oldest = lane.oldestWaitingAtMs;
  return [
    printable(lane.lane),
    formatCount(lane.waitingMessages),
    formatBytes(lane.waitingBytes),
    oldest === null ? "-" : formatAge(nowMs - oldest),
    formatCount(Math.round(lane.arrivingPerSecond)),
    formatCount(Math.round(lane.leavingPerSecond)),
    formatBytes(lane.bytesMax),
    formatShare(lane.waitingBytes, lane.bytesMax),
    lane.whenFull,
    formatCount(lane.lastSeq),
    formatCount(lane.position),
    `${formatCount(lane.tailMessages)} (${formatBytes(lane.tailBytes)})`,
    formatCount(droppedMessages(lane)),
  ];
}

/** Why messages of the lane were dropped, a line each. */
function dropLines({ lane, dropped }: LaneStatus): string[] {
  return Object.entries(dropped).map(([reason, count]) => {
    const what = `${lane}: ${formatCounted(count, "message")} dropped`;
    return `${printable(`${what}: ${reason}`)}\n`;
  });
}
