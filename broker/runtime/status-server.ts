// status-server: the HTTP server of a service's status: short answers, made anew for each look.
// Path: status of every service → [status-server] → operator, Prometheus, cli. Touches: one address.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { listenOn } from "./listen.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";

export interface StatusServerOptions {
  /** host:port or unix:/path. */
  readonly address: string;
  /** The table of the settings that has the address, as `[status]`. */
  readonly table: string;
  /** What there is at each path. */
  readonly routes: ReadonlyMap<string, Route>;
  /** Go with each answer, beside those that any has. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly log: Log;
}

export interface StatusServer {
  /** Where it listens: host and port, the port that was given where the settings say 0. */
  readonly address: string;
  close(): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

export type Route = () => Answer;

const LIMITS = {
  connectionsMax: 64,
  headerBytesMax: 8 * 1024,
  headersMsMax: 3_000,
  requestMsMax: 10_000,
  idleMsMax: 5_000,
  silentMsMax: 30_000,
} as const;

const TEXT = "text/plain; charset=utf-8";

/** Plain text, with a line end. */
export function textAnswer(status: number, text: string): Answer {
  return { status, type: TEXT, body: `${text}\n` };
}

/** A JSON value on one line. */
export function jsonAnswer(value: unknown): Answer {
  return { status: 200, type: "application/json", body: `${JSON.stringify(value)}\n` };
}

/** Prometheus' text format. */
export function metricsAnswer(metrics: Metrics): Answer {
  return { status: 200, type: "text/plain; version=0.0.4; charset=utf-8", body: metrics.text() };
}

/** 200 when there is nothing that keeps the service from being ready, else 503 with what it is. */
export function readyAnswer(ready: boolean, reasons: readonly string[]): Answer {
  if (ready) return textAnswer(200, "ready");
  const lines = reasons.length > 0 ? reasons : ["not ready"];
  return textAnswer(503, lines.map((line) => line.replace(/\s+/g, " ")).join("\n"));
}

/**
 * Serves the routes until it is closed.
 * @throws SluiceError LISTEN_FAILED when the address cannot be had.
 */
export async function serveStatus(options: StatusServerOptions): Promise<StatusServer> {
  const server = createServer(
    {
      maxHeaderSize: LIMITS.headerBytesMax,
      headersTimeout: LIMITS.headersMsMax,
      requestTimeout: LIMITS.requestMsMax,
      keepAliveTimeout: LIMITS.idleMsMax,
      connectionsCheckingInterval: LIMITS.headersMsMax / 3,
    },
    (request, response) => send(request, response, answer(request, options), options.headers),
  );
  server.maxConnections = LIMITS.connectionsMax;
  server.timeout = LIMITS.silentMsMax;
  await listenOn(server, options.address, `${options.table} address`);
  return {
    address: addressOf(server),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answer(request: IncomingMessage, { routes, log }: StatusServerOptions): Answer {
  const [path = ""] = (request.url ?? "").split("?");
  const route = routes.get(path);
  if (!route) return textAnswer(404, "not found");
  if (request.method !== "GET" && request.method !== "HEAD") {
    return textAnswer(405, "allowed: GET, HEAD");
  }
  try {
    return route();
  } catch (fault) {
    log.error({ path, err: fault }, "status cannot be told");
    return textAnswer(500, "status cannot be told; see the log");
  }
}

const HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
} as const;

function send(
  request: IncomingMessage,
  response: ServerResponse,
  it: Answer,
  headers: StatusServerOptions["headers"],
): void {
  response.writeHead(it.status, {
    ...HEADERS,
    ...headers,
    ...(it.status === 405 ? { Allow: "GET, HEAD" } : {}),
    "Content-Type": it.type,
    "Content-Length": Buffer.byteLength(it.body),
  });
  response.end(request.method === "HEAD" ? undefined : it.body);
}

function addressOf(server: Server): string {
  const it = server.address() as AddressInfo | string;
  if (typeof it === "string") return `unix:${it}`;
  return it.family === "IPv6" ? `[${it.address}]:${it.port}` : `${it.address}:${it.port}`;
}
