// modbus-rtu: the slaves of a Modbus line, or of a device with Modbus TCP, as devices.
// Path: link → line → [modbus-rtu] → slave → device. Touches: the clock.

import { SluiceError } from "#contract/errors";
import type { Driver, Host, Link } from "../../driver.ts";
import type { DriverKind } from "../kind.ts";
import { blocksOf } from "./blocks.ts";
import type { Line } from "./line.ts";
import { type Idle, LineQueue } from "./line-queue.ts";
import { periodOf } from "./register.ts";
import { RtuLine } from "./rtu-line.ts";
import { Poll, Schedule } from "./schedule.ts";
import { ModbusTable } from "./settings.ts";
import type { ModbusSettings } from "./settings-schema.ts";
import { Slave } from "./slave.ts";
import { TcpLine } from "./tcp-line.ts";

/** Missed polls are told in the log at most so often. */
const MISSED_LOG_MS_LEAST = 60_000;

export const modbusRtu: DriverKind<ModbusSettings> = {
  settings: ModbusTable,
  create: (settings, host) => new ModbusDriver(settings, host),
};

class ModbusDriver implements Driver {
  readonly #settings: ModbusSettings;
  readonly #host: Host;
  readonly #slaves: readonly Slave[];
  readonly #schedule: Schedule<Slave>;
  #missed = 0;
  #missedToldAtMs = Number.NEGATIVE_INFINITY;

  constructor(settings: ModbusSettings, host: Host) {
    this.#settings = settings;
    this.#host = host;
    this.#slaves = settings.slaves.map((it) => new Slave(it, settings.silent_ms_max, host));
    this.#schedule = new Schedule(this.#slaves.flatMap((slave) => pollsOf(slave, settings)));
  }

  async run(link: Link): Promise<void> {
    const line = this.#lineOn(link);
    const queue = new LineQueue((unit) => line.heldUntilMs(unit));
    this.#schedule.restart(performance.now());
    for (const slave of this.#slaves) slave.begin({ line, queue });
    const asking = queue.run(() => this.#next(line));
    const hearing = hear(link, line);
    try {
      await Promise.race([hearing, asking]);
    } finally {
      line.end();
      queue.end();
      hearing.catch(() => {});
      await asking.catch(onlyLinkFailed);
      await Promise.all(this.#slaves.map((slave) => slave.handOn()));
    }
  }

  #lineOn(link: Link): Line {
    const settings = this.#settings;
    const Kind = settings.framing === "tcp" ? TcpLine : RtuLine;
    return new Kind(link, {
      timeoutMs: settings.timeout_ms,
      gapMs: settings.gap_ms,
      turnaroundMs: settings.turnaround_ms,
      retriesMax: settings.retries_max,
      hasEcho: settings.echo,
      fault: (reason, frame) => this.#host.fault(reason, frame),
    });
  }

  #next(line: Line): Idle {
    const next = this.#schedule.next(performance.now(), (slave) => slave.heldUntilMs());
    return "poll" in next ? { run: () => this.#poll(line, next.poll) } : next;
  }

  async #poll(line: Line, poll: Poll<Slave>): Promise<void> {
    const { owner, block } = poll;
    const passed = poll.take(performance.now());
    if (owner.isAnswering) this.#countMissed(passed);
    const polled = await owner.poll(line, block);
    const nowMs = performance.now();
    if (polled === "worked") poll.worked();
    else if (polled === "refused") poll.rest(nowMs);
    else if (polled === "split") this.#schedule.split(poll, nowMs);
    // What was not read is due still, as soon as the slave may be asked.
    else if (polled === "missed") poll.dueAtMs -= poll.everyMs;
  }

  #countMissed(count: number): void {
    this.#missed += count;
    const nowMs = performance.now();
    if (count === 0 || nowMs - this.#missedToldAtMs < MISSED_LOG_MS_LEAST) return;
    this.#missedToldAtMs = nowMs;
    this.#host.log.warn({ missedPolls: this.#missed }, "the line is too slow for its periods");
  }
}

async function hear(link: Link, line: Line): Promise<void> {
  for await (const { bytes, receivedAtMs } of link.readable) line.receive(bytes, receivedAtMs);
}

/** A poll for each block; registers share one when they have the same period. */
function pollsOf(slave: Slave, settings: ModbusSettings): Poll<Slave>[] {
  const { registers, merge_gap_registers, read_registers_max } = slave.settings;
  const limits = { gapMax: merge_gap_registers, registersMax: read_registers_max };
  const polled = registers.filter(({ poll }) => poll);
  const periods = Map.groupBy(polled, (register) => periodOf(register, settings));
  return [...periods].flatMap(([everyMs, group]) =>
    blocksOf(group, limits).map((block) => new Poll(slave, block, everyMs)),
  );
}

function onlyLinkFailed(fault: unknown): void {
  if (!(fault instanceof SluiceError)) throw fault;
}
