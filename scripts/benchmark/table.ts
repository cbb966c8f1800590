// table: the figures of all runs, as Markdown.
// Path: main → [table]. Touches: nothing.

import type { Run } from "./bench.ts";
import type { BrokerName } from "./brokers.ts";
import type { Figure, Goal, Scenario } from "./scenario.ts";

const REFERENCE = "mosquitto";
const OURS = "sluice";

/** What else a scenario may tell, for information. */
const ASIDE: readonly (readonly [key: string, words: string])[] = [
  ["deliveriesPerSecond", "deliveries/s"],
  ["p50Ms", "p50 ms"],
  ["p99Ms", "p99 ms"],
  ["rssMib", "RSS MiB"],
  ["brokerBusyPercent", "broker busy %"],
  ["loadBusyPercent", "load busy %"],
];

/** What is to be reached, for information what else was seen, and what the names stand for. */
export function tablesOf(
  scenarios: readonly Scenario[],
  brokers: readonly BrokerName[],
  runs: readonly Run[],
  seconds: number,
): string {
  const ratioHeads = brokers
    .filter((name) => name !== REFERENCE && brokers.includes(REFERENCE))
    .map((name) => `${name} ÷ ${REFERENCE}`);
  const main = scenarios.flatMap((scenario) =>
    scenario.figures.map((figure) => mainRow(scenario, figure, brokers, runs, seconds)),
  );
  const aside = scenarios.flatMap((scenario) =>
    brokers.map((broker) => asideRow(scenario, broker, runs)),
  );
  return [
    ...markdown(["scenario", "figure", ...brokers, ...ratioHeads, "goal", ""], main),
    "",
    ...markdown(
      ["scenario", "broker", ...ASIDE.map(([, words]) => words)],
      aside.filter((row) => row.slice(2).some((cell) => cell !== "")),
    ),
    "",
    ...scenarios.map(({ name, about }) => `- ${name}: ${about}`),
  ].join("\n");
}

function mainRow(
  { name }: Scenario,
  figure: Figure,
  brokers: readonly BrokerName[],
  runs: readonly Run[],
  seconds: number,
): string[] {
  const seen = (broker: BrokerName) => valuesOf(runs, name, broker, figure.key);
  const ratios = brokers
    .filter((broker) => broker !== REFERENCE && brokers.includes(REFERENCE))
    .map((broker) => [broker, ratioOf(seen(broker), seen(REFERENCE))] as const);
  const ours = new Map(ratios).get(OURS);
  const { goal, words } = figure;
  return [
    name,
    typeof words === "string" ? words : words(seconds),
    ...brokers.map((broker) => shown(median([...seen(broker).values()]))),
    // What is judged by its own number may be 0, or less: no ratio says anything of it.
    ...ratios.map(([, ratio]) => (goal && "most" in goal ? "" : shown(ratio))),
    goal ? goalWords(goal) : "",
    goal ? verdict(goal, median([...seen(OURS).values()]), ours) : "",
  ];
}

function asideRow({ name }: Scenario, broker: BrokerName, runs: readonly Run[]): string[] {
  const cells = ASIDE.map(([key]) =>
    shown(median([...valuesOf(runs, name, broker, key).values()])),
  );
  return [name, broker, ...cells];
}

/** The figure of each repeat that has one. */
function valuesOf(
  runs: readonly Run[],
  scenario: string,
  broker: BrokerName,
  key: string,
): Map<number, number> {
  const values = new Map<number, number>();
  for (const run of runs) {
    const value = run.figures?.[key];
    if (run.scenario !== scenario || run.broker !== broker || value === undefined) continue;
    values.set(run.repeat, value);
  }
  return values;
}

/** The median of the ratios of runs that followed each other: a busy minute hits both alike. */
function ratioOf(
  values: ReadonlyMap<number, number>,
  references: ReadonlyMap<number, number>,
): number | undefined {
  const ratios = [...values].flatMap(([repeat, value]) => {
    const reference = references.get(repeat);
    return reference ? [value / reference] : [];
  });
  return median(ratios);
}

/** undefined without any values. */
export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const above = sorted[Math.floor(middle)];
  const below = sorted[Math.ceil(middle) - 1];
  return above === undefined || below === undefined ? undefined : (above + below) / 2;
}

function goalWords(goal: Goal): string {
  if ("least" in goal) return `≥ ${goal.least}`;
  return "most" in goal ? `≤ ${goal.most}` : `≤ ${goal.timesMosquitto} × ${REFERENCE}`;
}

function verdict(goal: Goal, value: number | undefined, ratio: number | undefined): string {
  const judged = "timesMosquitto" in goal ? ratio : value;
  if (judged === undefined) return "not measured";
  return isReached(goal, judged) ? "reached" : "not reached";
}

function isReached(goal: Goal, judged: number): boolean {
  if ("least" in goal) return judged >= goal.least;
  return judged <= ("most" in goal ? goal.most : goal.timesMosquitto);
}

/** Three digits that count; nothing where there is no figure. */
function shown(value: number | undefined): string {
  if (value === undefined) return "";
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)];
}
