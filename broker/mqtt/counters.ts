// counters: what the clients' packets are counted as; plain additions on the way of a message.
// Path: mqtt → [counters] → client. Touches: the metrics that it is given.

import type { Metrics } from "#runtime/metrics";
import type { IncomingCounts } from "./incoming.ts";
import type { OutgoingCounts } from "./outgoing.ts";
import { reasonName } from "./wire/reason-codes.ts";

export interface Counters {
  readonly incoming: IncomingCounts;
  readonly outgoing: OutgoingCounts;
  ended(reasonCode: number): void;
  subscriptionRefused(reasonCode: number): void;
}

export function countersOf(metrics: Metrics): Counters {
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
  const ended = metrics.counter(
    "sluice_connections_ended_total",
    "Connections that the broker ended, by reason.",
  );
  const unsubscribed = metrics.counter(
    "sluice_subscriptions_refused_total",
    "Filters that were not granted, by reason.",
  );
  return {
    ended: (reasonCode) => ended({ reason: reasonName(reasonCode) }),
    subscriptionRefused: (reasonCode) => unsubscribed({ reason: reasonName(reasonCode) }),
    incoming: {
      received: ["0", "1", "2"].map(received),
      refused: (reasonCode) => refused({ reason: reasonName(reasonCode) }),
    },
    outgoing: {
      delivered: metrics.tally("sluice_messages_delivered_total", "PUBLISH packets to clients."),
      dropped: (reason) => dropped({ reason }),
    },
  };
}
