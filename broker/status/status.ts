// status: the HTTP server that says how the broker is: page, health, readiness, metrics.
// Path: gateway, cloud → [status] → operator, Prometheus, cli. Touches: one listening address.

import { createHash } from "node:crypto";
import type { StatusDocument } from "#contract/status";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { registerProcessMetrics } from "#runtime/process-metrics";
import {
  jsonAnswer,
  metricsAnswer,
  type Route,
  readyAnswer,
  type StatusServer,
  serveStatus,
  textAnswer,
} from "#runtime/status-server";
import { PAGE_HTML, PAGE_SCRIPT, PAGE_STYLE } from "./page.ts";

export interface StatusOptions {
  readonly address: string;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Asked anew for each look. */
  readonly document: () => StatusDocument;
}

/**
 * Serves /, /status.json, /metrics, /healthz and /readyz until it is closed.
 * @throws SluiceError LISTEN_FAILED when the address cannot be had.
 */
export function startStatus(options: StatusOptions): Promise<StatusServer> {
  const { address, metrics, log } = options;
  registerProcessMetrics(metrics);
  const routes = routesOf(options);
  return serveStatus({ address, table: "[status]", routes, headers: HEADERS, log });
}

function routesOf({ document, metrics }: StatusOptions): ReadonlyMap<string, Route> {
  return new Map<string, Route>([
    ["/", () => ({ status: 200, type: "text/html; charset=utf-8", body: PAGE_HTML })],
    ["/status.json", () => jsonAnswer(document())],
    ["/metrics", () => metricsAnswer(metrics)],
    // That an answer comes at all is the answer: the event loop runs.
    ["/healthz", () => textAnswer(200, "ok")],
    [
      "/readyz",
      () => {
        const { ready, reasons } = document();
        return readyAnswer(ready, reasons);
      },
    ],
  ]);
}

const HEADERS = {
  "Content-Security-Policy": [
    "default-src 'none'",
    `script-src '${sourceHash(PAGE_SCRIPT)}'`,
    `style-src '${sourceHash(PAGE_STYLE)}'`,
    "img-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; "),
} as const;

function sourceHash(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
