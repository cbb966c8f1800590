// counters: what the uplink counts of what it sends.
// Path: sender → [counters] → status. Touches: the metrics that it is given.

import type { Metrics } from "#runtime/metrics";

export type SendCounters = ReturnType<typeof sendCounters>;

export function sendCounters(metrics: Metrics) {
  return {
    messages: metrics.counter("sluice_uplink_messages_total", "Messages that the cloud took."),
    frames: metrics.counter("sluice_uplink_frames_total", "Frames that the cloud took."),
    expired: metrics.counter(
      "sluice_uplink_expired_total",
      "Messages that expired before the cloud took them, as gap records.",
    ),
    rewinds: metrics.counter("sluice_uplink_rewinds_total", "Rewinds into the tail."),
    lost: metrics.counter(
      "sluice_uplink_lost_total",
      "Messages lost beyond the tail, as gap records.",
    ),
    epochs: metrics.counter(
      "sluice_uplink_epochs_total",
      "New epochs: the disk went back in time, or another box had a copy of it.",
    ),
    full: metrics.counter("sluice_uplink_full_total", "Frames that the landing had no room for."),
  };
}
