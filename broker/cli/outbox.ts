// outbox: sluice outbox: what waits for the cloud, lane by lane.
// Path: main → [outbox] → fetch-status. Touches: stdout.

import type { LaneStatus } from "#contract/status";
import { printable } from "#runtime/printable";
import { type Command, readArguments, refuseMore } from "./command.ts";
import { fetchStatus, STATUS_OPTIONS, STATUS_OPTIONS_USAGE } from "./fetch-status.ts";
import { formatAge, formatBytes, formatCount, formatShare, formatTable } from "./format.ts";

export const outbox: Command = {
  summary: "what waits for the cloud, lane by lane",
  usage: `usage: sluice outbox [--json] [--config FILE | --status HOST:PORT]

Shows each lane of the outbox:
  waiting   messages that the cloud does not hold yet, their bytes and the age of the oldest
  limit     what the lane may hold, and how far it is filled
  last      last sequence taken into custody
  position  last sequence that the cloud is known to hold
  tail      messages that the cloud took and that are kept to rewind into
  dropped   messages lost to the limit, for which gap records stand

${STATUS_OPTIONS_USAGE}`,
  async run(args) {
    const { values, positionals } = readArguments(args, STATUS_OPTIONS);
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
  "limit",
  "filled",
  "last",
  "position",
  "tail",
];

/** The lanes as an operator reads them. */
export function formatOutbox(lanes: readonly LaneStatus[], nowMs: number): string {
  return formatTable([[...TITLES, "dropped"], ...lanes.map((lane) => row(lane, nowMs))]);
}

function row(lane: LaneStatus, nowMs: number): string[] {
  const oldest = lane.oldestWaitingAtMs;
  return [
    printable(lane.lane),
    formatCount(lane.waitingMessages),
    formatBytes(lane.waitingBytes),
    oldest === null ? "-" : formatAge(nowMs - oldest),
    formatBytes(lane.bytesMax),
    formatShare(lane.waitingBytes, lane.bytesMax),
    formatCount(lane.lastSeq),
    formatCount(lane.position),
    `${formatCount(lane.tailMessages)} (${formatBytes(lane.tailBytes)})`,
    formatCount(lane.droppedMessages),
  ];
}
