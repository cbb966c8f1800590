// status: the HTTP server that says how the broker is: page, health, readiness, metrics.
// Path: gateway, cloud → [status] → operator, Prometheus, cli. Touches: one listening address.

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { reasonOf, SluiceError } from "#contract/errors";
import type { StatusDocument } from "#contract/status";
import { parseAddress } from "#runtime/address";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { PAGE_HTML, PAGE_SCRIPT, PAGE_STYLE } from "./page.ts";
import { registerProcessMetrics } from "./process-metrics.ts";

export interface StatusOptions {
  readonly address: string;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Asked anew for each look. */
  readonly document: () => StatusDocument;
}

export interface StatusServer {
  /** Where it listens: host and port, the port that was given where the settings say 0. */
  readonly address: string;
  close(): Promise<void>;
}

const LIMITS = {
  connectionsMax: 64,
  headerBytesMax: 8 * 1024,
  headersMsMax: 3_000,
  requestMsMax: 10_000,
  idleMsMax: 5_000,
  silentMsMax: 30_000,
} as const;

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

type Route = () => Answer;

const TEXT = "text/plain; charset=utf-8";

/**
 * Serves /, /status.json, /metrics, /healthz and /readyz until it is closed.
 * @throws SluiceError LISTEN_FAILED when the address cannot be had.
 */
export async function startStatus(options: StatusOptions): Promise<StatusServer> {
  registerProcessMetrics(options.metrics);
  const routes = routesOf(options);
  const server = createServer(
    {
      maxHeaderSize: LIMITS.headerBytesMax,
      headersTimeout: LIMITS.headersMsMax,
      requestTimeout: LIMITS.requestMsMax,
      keepAliveTimeout: LIMITS.idleMsMax,
      connectionsCheckingInterval: LIMITS.headersMsMax / 3,
    },
    (request, response) => send(request, response, answer(request, routes, options.log)),
  );
  server.maxConnections = LIMITS.connectionsMax;
  server.timeout = LIMITS.silentMsMax;
  await listen(server, options.address);
  return {
    address: addressOf(server),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function routesOf({ document, metrics }: StatusOptions): ReadonlyMap<string, Route> {
  return new Map<string, Route>([
    ["/", () => ({ status: 200, type: "text/html; charset=utf-8", body: PAGE_HTML })],
    [
      "/status.json",
      () => ({ status: 200, type: "application/json", body: `${JSON.stringify(document())}\n` }),
    ],
    [
      "/metrics",
      () => ({
        status: 200,
        type: `text/plain; version=0.0.4; charset=utf-8`,
        body: metrics.text(),
      }),
    ],
    // That an answer comes at all is the answer: the event loop runs.
    ["/healthz", () => ({ status: 200, type: TEXT, body: "ok\n" })],
    ["/readyz", () => readiness(document())],
  ]);
}

function readiness({ ready, reasons }: StatusDocument): Answer {
  if (ready) return { status: 200, type: TEXT, body: "ready\n" };
  const lines = reasons.length > 0 ? reasons : ["not ready"];
  const body = lines.map((line) => `${line.replace(/\s+/g, " ")}\n`).join("");
  return { status: 503, type: TEXT, body };
}

function answer(request: IncomingMessage, routes: ReadonlyMap<string, Route>, log: Log): Answer {
  const [path = ""] = (request.url ?? "").split("?");
  const route = routes.get(path);
  if (!route) return { status: 404, type: TEXT, body: "not found\n" };
  if (request.method !== "GET" && request.method !== "HEAD") {
    return { status: 405, type: TEXT, body: "allowed: GET, HEAD\n" };
  }
  try {
    return route();
  } catch (fault) {
    log.error({ path, err: fault }, "status cannot be told");
    return { status: 500, type: TEXT, body: "status cannot be told; see the log\n" };
  }
}

const HEADERS = {
  "Cache-Control": "no-store",
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
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
} as const;

function sourceHash(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

function send(request: IncomingMessage, response: ServerResponse, it: Answer): void {
  response.writeHead(it.status, {
    ...HEADERS,
    ...(it.status === 405 ? { Allow: "GET, HEAD" } : {}),
    "Content-Type": it.type,
    "Content-Length": Buffer.byteLength(it.body),
  });
  response.end(request.method === "HEAD" ? undefined : it.body);
}

function listen(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === "EADDRINUSE";
      const why = isTaken ? "another process listens there" : reasonOf(cause);
      const message = `[status] address ${address} cannot be listened on: ${why}`;
      reject(new SluiceError("LISTEN_FAILED", message, { cause }));
    });
    server.listen(parseAddress(address), resolve);
  });
}

function addressOf(server: Server): string {
  const it = server.address() as AddressInfo | string;
  if (typeof it === "string") return `unix:${it}`;
  return it.family === "IPv6" ? `[${it.address}]:${it.port}` : `${it.address}:${it.port}`;
}
