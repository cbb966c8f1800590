// process-metrics.test: what the process says that it takes.
// Path: test. Touches: the process, a child process.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Metrics } from "#runtime/metrics";
import { registerProcessMetrics } from "#runtime/process-metrics";

const FILE = fileURLToPath(new URL("../../../broker/runtime/process-metrics.ts", import.meta.url));

function value(text: string, name: string): number {
  const line = text.split("\n").find((it) => it.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
}

test("tells memory and processor time", () => {
  const metrics = new Metrics();
  registerProcessMetrics(metrics);
  const text = metrics.text();
  const resident = value(text, "sluice_process_resident_bytes");
  assert.ok(resident > 10e6 && resident < 10e9, `${resident}`);
  const cpu = value(text, "sluice_process_cpu_seconds_total");
  assert.ok(cpu > 0 && cpu < 3_600, `${cpu}`);
});

test("tells how late the loop ran since the last look, and forgets it then", async () => {
  const metrics = new Metrics();
  registerProcessMetrics(metrics);
  const worst = () => value(metrics.text(), 'sluice_event_loop_delay_seconds{quantile="1"}');
  assert.equal(worst(), 0);
  // Two samples, so that the next one has something to be measured from.
  await sleep(60);
  const busyUntil = performance.now() + 300;
  while (performance.now() < busyUntil);
  await sleep(30);
  const seen = worst();
  assert.ok(seen >= 0.25 && seen < 5, `${seen}`);
  assert.equal(worst(), 0);
});

test("keeps no process from ending", () => {
  const script = `import { registerProcessMetrics } from ${JSON.stringify(FILE)};
    import { Metrics } from "#runtime/metrics";
    registerProcessMetrics(new Metrics());`;
  const child = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", script], {
    timeout: 20_000,
  });
  assert.equal(child.status, 0, child.stderr.toString());
});
