// links: sluice links: which links are up, which are not, and why.
// Path: main → [links] → fetch-links. Touches: stdout.

import { isWell, type LinkState, type LinkStatus, type LinksDocument } from "#contract/links";
import { printable } from "#runtime/printable";
import { type Command, readArguments, refuseMore } from "./command.ts";
import { FETCH_OPTIONS } from "./fetch-document.ts";
import { fetchLinks, LINKS_OPTIONS_USAGE } from "./fetch-links.ts";
import { formatAge, formatBytes, formatCount, formatCounted, formatTable } from "./format.ts";

export const links: Command = {
  summary: "which serial links are up, which are not, and why",
  usage: `usage: sluice links [--json] [--config FILE | --status HOST:PORT]

Says first what is wrong, with the links and with devices on a link that is up; then shows each
link of the firmware-bridge:
  state    up; absent: nothing is plugged in; failing: it cannot be had, or breaks; opening;
           lent: it is being flashed
  since    for how long it has been in that state
  device   what is plugged in
  in, out  bytes that came from it and that were written to it, since the bridge started
  frames   what its driver understood
  errors   frames that it did not understand, and failures of the link
  heard    how long ago the last byte came
What a narrow terminal has no room for is left out: from the device on, the link comes first.
Exit code 0: the bridge answered. 1: no answer. 2: bad settings or usage.

${LINKS_OPTIONS_USAGE}`,
  async run(args) {
    const { values, positionals } = readArguments(args, FETCH_OPTIONS);
    refuseMore(positionals);
    const { document, nowMs } = await fetchLinks(values);
    const { isTTY, columns } = process.stdout;
    const width = isTTY ? columns : Number.POSITIVE_INFINITY;
    const text = values.json
      ? `${JSON.stringify(document)}\n`
      : formatLinks(document, nowMs, width);
    process.stdout.write(text);
    return 0;
  },
};

const STATES: readonly LinkState[] = ["up", "lent", "opening", "absent", "failing", "stopped"];

interface Column {
  readonly title: string;
  readonly cell: (link: LinkStatus, nowMs: number) => string;
  /** Where there is no room for all, the highest goes first; 0 stays. */
  readonly spare: number;
}

const COLUMNS: readonly Column[] = [
  { title: "link", cell: ({ link }) => link, spare: 0 },
  { title: "driver", cell: ({ driver }) => driver, spare: 5 },
  { title: "state", cell: ({ state }) => state, spare: 0 },
  { title: "device", cell: ({ identity, path }) => identity ?? path, spare: 7 },
  { title: "since", cell: ({ sinceMs }, nowMs) => formatAge(nowMs - sinceMs), spare: 3 },
  { title: "in", cell: ({ bytesIn }) => formatBytes(bytesIn), spare: 4 },
  { title: "out", cell: ({ bytesOut }) => formatBytes(bytesOut), spare: 6 },
  { title: "frames", cell: ({ frames }) => formatCount(frames), spare: 2 },
  { title: "errors", cell: ({ faults, errors }) => formatCount(faults + errors), spare: 1 },
  {
    title: "heard",
    cell: ({ heardAtMs }, nowMs) =>
      heardAtMs === null ? "never" : `${formatAge(nowMs - heardAtMs)} ago`,
    spare: 0,
  },
];

const LEFT_COLUMNS: ReadonlySet<string> = new Set(["link", "driver", "state", "device"]);

/** The links as an operator reads them, in lines of at most `width` characters where that goes. */
export function formatLinks(document: LinksDocument, nowMs: number, width: number): string {
  const all = document.links;
  const title = `${printable(document.name)}: ${summary(all)}\n`;
  const troubles = all.flatMap(troublesOf);
  const why = troubles.map((it) => `  ${printable(troubleText(it, nowMs))}\n`).join("");
  if (all.length === 0) return title;
  return `${title}${why}\n${tableWithin(all, nowMs, width)}`;
}

/** `7 links: 5 up, 1 absent, 1 failing`. */
function summary(all: readonly LinkStatus[]): string {
  const counts = STATES.map((state) => [state, all.filter((it) => it.state === state).length]);
  const parts = counts.filter(([, count]) => count !== 0).map(([state, n]) => `${n} ${state}`);
  return [formatCounted(all.length, "link"), parts.join(", ")].filter((it) => it !== "").join(": ");
}

interface Trouble {
  readonly state: string;
  readonly name: string;
  readonly sinceMs: number;
  readonly why: string;
}

/** A link that is not well speaks for its devices; one that is may have silent ones. */
function troublesOf({ link, state, sinceMs, why, devices }: LinkStatus): Trouble[] {
  if (!isWell(state)) return [{ state, name: link, sinceMs, why }];
  if (state === "lent") return [];
  return devices.flatMap(({ device, why: reason, sinceMs }) =>
    reason === null ? [] : [{ state: "offline", name: device, sinceMs, why: reason }],
  );
}

function troubleText({ state, name, sinceMs, why }: Trouble, nowMs: number): string {
  return `${state.padEnd(8)} ${name} for ${formatAge(nowMs - sinceMs)}: ${why}`;
}

function tableWithin(all: readonly LinkStatus[], nowMs: number, width: number): string {
  let columns = COLUMNS;
  for (;;) {
    const table = tableOf(columns, all, nowMs);
    const widest = Math.max(...table.split("\n").map((line) => line.length));
    const most = Math.max(...columns.map(({ spare }) => spare));
    if (widest <= width || most === 0) return table;
    columns = columns.filter(({ spare }) => spare !== most);
  }
}

function tableOf(columns: readonly Column[], all: readonly LinkStatus[], nowMs: number): string {
  const rows = all.map((link) => columns.map(({ cell }) => printable(cell(link, nowMs))));
  const left = columns.filter(({ title }) => LEFT_COLUMNS.has(title)).length;
  return formatTable([columns.map(({ title }) => title), ...rows], left);
}
