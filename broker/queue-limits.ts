// queue-limits: how much the queue of one kept session may hold, and the count of what it could not.
// Path: [queue limits] → gateway | cloud. Touches: the metrics that it is given.

import type { Metrics } from "#runtime/metrics";
import type { Settings } from "#runtime/settings-schema";

/** As the stores of both roles ask for them. */
export function queueLimits({ limits }: Pick<Settings, "limits">, metrics: Metrics) {
  const dropped = metrics.counter(
    "sluice_queue_dropped_total",
    "Messages that a kept session's queue had no room for.",
  );
  return {
    queueMessagesMax: limits.queue_messages_max,
    queueBytesMax: limits.queue_bytes_max,
    dropped: (_clientId: string, count: number) => dropped({}, count),
  };
}
