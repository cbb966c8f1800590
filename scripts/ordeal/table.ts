// table: what a torture found, for people.
// Path: main → [table]. Touches: nothing.

import type { Findings, Promised } from "./findings.ts";
import { FAULT_NAMES } from "./schedule.ts";
import type { TroubleTally } from "./trouble.ts";

export interface Outcome {
  readonly seed: number;
  readonly seconds: number;
  readonly gateways: number;
  readonly promised: readonly (Promised & { readonly refused: ReadonlySet<number> })[];
  readonly tally: TroubleTally;
  readonly rewinds: number;
  readonly sessionsLost: number;
  readonly findings: Findings;
}

/** Two tables of Markdown: what came of the messages, and which faults there were. */
export function tableOf(outcome: Outcome): string {
  return [...messageLines(outcome), "", ...faultLines(outcome.tally)].join("\n");
}

function messageLines({ seed, seconds, gateways, promised, ...rest }: Outcome): string[] {
  const { findings, tally, rewinds, sessionsLost } = rest;
  const acknowledged = (qos: number) =>
    sum(promised.filter((it) => it.qos === qos).map((it) => it.acknowledged.size));
  const kills = [...tally.kills].map(([part, count]) => `${part} ${count}`).sort();
  const title = `seed ${seed}, ${seconds} s, ${gateways} gateways`;
  return rows([
    [title, ""],
    ["---", "---"],
    ["messages acknowledged, QoS 1 and 2", `${acknowledged(1)} and ${acknowledged(2)}`],
    ["messages refused", String(sum(promised.map(({ refused }) => refused.size)))],
    ["records in the landing", String(findings.landedRecords)],
    ["kills", `${sum([...tally.kills.values()])}: ${kills.join(", ")}`],
    ["rewinds", String(rewinds)],
    ["**lost**", String(findings.lost)],
    ["**sequences twice in the landing**", String(findings.landedTwice)],
    ["**sequences missing in the landing**", String(findings.landedNever)],
    ["sessions lost", String(sessionsLost)],
    ["sent again by a device and taken twice, QoS 1", String(findings.takenTwice)],
    ["repeated at the consumers", String(findings.repeatedToConsumers)],
    ["repeated at the gateways' sessions", String(findings.repeatedToSessions)],
    ["gap records (messages in them)", `${findings.gapRecords} (${findings.gapMessages})`],
    ["epochs", String(findings.epochs)],
  ]);
}

function faultLines({ faults }: TroubleTally): string[] {
  const found = FAULT_NAMES.flatMap((name) => {
    const { times, ms } = faults.get(name) ?? { times: 0, ms: 0 };
    return times > 0 ? [[name, String(times), (ms / 1_000).toFixed(1)]] : [];
  });
  return rows([["fault", "times", "seconds"], ["---", "---", "---"], ...found]);
}

function rows(cells: readonly (readonly string[])[]): string[] {
  return cells.map((row) => `| ${row.join(" | ")} |`);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
