// counters: what the clients' packets are counted as; plain additions on the way of a message.
// Path: mqtt → [counters] → client. Touches: the metrics that it is given.

import type { Metrics } from "#runtime/metrics";
import type { IncomingCounts } from "./incoming.ts";
import type { OutgoingCounts } from "./outgoing.ts";

export function countersOf(metrics: Metrics): {
  readonly incoming: IncomingCounts;
  readonly outgoing: OutgoingCounts;
} {
  const received = (qos: string) =>
    metrics.tally("sluice_messages_received_total", "PUBLISH packets from clients.", { qos });
  const refused = metrics.counter(
    "sluice_publishes_refused_total",
    "PUBLISH packets refused, by reason.",
  );
  const dropped = metrics.counter(
    "sluice_messages_dropped_total",
    "Messages dropped on their way to a client, by reason.",
  );
  return {
    incoming: {
      received: ["0", "1", "2"].map(received),
      refused: (reason) => refused({ reason }),
    },
    outgoing: {
      delivered: metrics.tally("sluice_messages_delivered_total", "PUBLISH packets to clients."),
      dropped: (reason) => dropped({ reason }),
    },
  };
}
