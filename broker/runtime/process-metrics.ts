// process-metrics: what the process takes: memory, processor time, and how late its loop runs.
// Path: status of every service → [process-metrics] → metrics. Touches: the process.

import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Metrics } from "./metrics.ts";

/** How often the loop is sampled; a finer sampling would wake an idle board more often. */
const SAMPLE_MS = 20;

/** Adds the process's own metrics; the loop's delay is that since the last scrape. */
export function registerProcessMetrics(metrics: Metrics): void {
  metrics.gauge("sluice_process_resident_bytes", "Memory that the process holds.", () =>
    process.memoryUsage.rss(),
  );
  metrics.gauge("sluice_process_cpu_seconds_total", "Processor time used since the start.", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  const delay = monitorEventLoopDelay({ resolution: SAMPLE_MS });
  delay.enable();
  metrics.gauges(
    "sluice_event_loop_delay_seconds",
    "How late the event loop ran since the last scrape; quantile 1 is the worst.",
    () => {
      const late = (ns: number) =>
        delay.count === 0 ? 0 : Math.max(0, ns / 1e9 - SAMPLE_MS / 1e3);
      const [p99, worst] = [late(delay.percentile(99)), late(delay.max)];
      delay.reset();
      return [
        [{ quantile: "0.99" }, p99],
        [{ quantile: "1" }, worst],
      ];
    },
  );
}
