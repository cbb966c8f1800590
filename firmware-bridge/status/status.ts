// status: the HTTP server that says how the links and their devices are.
// Path: links, devices → [status] → operator, Prometheus, cli. Touches: one listening address.

import { isWell, type LinksDocument } from "#contract/links";
import { PatientServer } from "#runtime/listen";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { registerProcessMetrics } from "#runtime/process-metrics";
import {
  jsonAnswer,
  metricsAnswer,
  type Route,
  readyAnswer,
  serveStatus,
  textAnswer,
} from "#runtime/status-server";
import { registerLinkMetrics } from "./link-metrics.ts";

export interface StatusOptions {
  /** host:port, unix:/path, or "none". */
  readonly address: string;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Asked anew for each look. */
  readonly document: () => LinksDocument;
}

/**
 * Serves /links, /metrics, /healthz and /readyz until it is closed. The devices matter more than
 * this page: an address that cannot be had is told in the log, and tried again.
 */
export function startStatus(options: StatusOptions): { close(): Promise<void> } {
  const { address, metrics, log } = options;
  if (address === "none") return { close: () => Promise.resolve() };
  registerProcessMetrics(metrics);
  const routes = routesOf(options);
  const open = async () => {
    const server = await serveStatus({ address, table: "[bridge.status]", routes, log });
    log.debug({ address: server.address }, "status is served");
    return server;
  };
  return new PatientServer(open, log);
}

function routesOf({ document, metrics }: StatusOptions): ReadonlyMap<string, Route> {
  // One look tells of one moment, in all its families.
  let seen: LinksDocument["links"] = [];
  registerLinkMetrics(metrics, () => seen);
  return new Map<string, Route>([
    ["/links", () => jsonAnswer(document())],
    [
      "/metrics",
      () => {
        seen = document().links;
        return metricsAnswer(metrics);
      },
    ],
    // That an answer comes at all is the answer: the event loop runs.
    ["/healthz", () => textAnswer(200, "ok")],
    ["/readyz", () => readiness(document())],
  ]);
}

/** Ready is who has all the links that the settings name. */
function readiness({ links }: LinksDocument) {
  const troubled = links.filter(({ state }) => !isWell(state));
  const reasons = troubled.map(({ link, state, why }) => `${link} ${state}: ${why}`);
  return readyAnswer(troubled.length === 0, reasons);
}
