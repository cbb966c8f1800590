// control: the unix socket at which `sluice flash` hands an image over and hears how it goes.
// Path: cli → [control] → flasher. Touches: a unix socket.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { reasonOf, SluiceError } from "#contract/errors";
import { type FlashEvent, isFinal, SIGNATURE_HEADER } from "#contract/flash";
import { listenOn } from "#runtime/listen";
import type { Log } from "#runtime/log";
import type { Flasher } from "./flasher.ts";

export interface ControlOptions {
  /** Of the socket; its owner and group may flash. */
  readonly path: string;
  readonly imageBytesMax: number;
  readonly flasher: Flasher;
  readonly log: Log;
}

const LIMITS = {
  connectionsMax: 8,
  headerBytesMax: 8 * 1024,
  headersMsMax: 3_000,
  requestMsMax: 60_000,
} as const;

/**
 * Takes `POST /flash/<link>` with the image as its body and the signature in a header, and answers
 * with the flash's events, one a line, until a final one. The right to do so is the socket's mode.
 * @throws SluiceError LISTEN_FAILED
 */
export async function serveControl(options: ControlOptions): Promise<{ close(): Promise<void> }> {
  const control = new Control(options);
  const server = createServer({
    maxHeaderSize: LIMITS.headerBytesMax,
    headersTimeout: LIMITS.headersMsMax,
    requestTimeout: LIMITS.requestMsMax,
    connectionsCheckingInterval: LIMITS.headersMsMax / 3,
  });
  server.maxConnections = LIMITS.connectionsMax;
  server.on("request", (request, response) => void control.answer(request, response));
  server.on("checkContinue", (request, response) => void control.answer(request, response, true));
  await listenOn(server, `unix:${options.path}`, "[bridge] control");
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        // Who waits for an end has heard it: the flasher is stopped first.
        server.closeIdleConnections();
        setTimeout(() => server.closeAllConnections(), 500).unref();
      }),
  };
}

class Control {
  readonly #options: ControlOptions;
  /** One image at a time is taken into memory. */
  #isTaking = false;

  constructor(options: ControlOptions) {
    this.#options = options;
  }

  async answer(request: IncomingMessage, response: ServerResponse, isAsking = false) {
    const link = linkOf(request);
    const tell = (event: FlashEvent) => tellTo(response, event);
    response.setHeader("Content-Type", "application/x-ndjson").setHeader("Connection", "close");
    try {
      this.#assertTakable(request, link);
      if (isAsking) response.writeContinue();
      const bytes = await this.#take(request);
      const header = request.headers[SIGNATURE_HEADER];
      const signature = typeof header === "string" ? Buffer.from(header, "base64") : undefined;
      await this.#options.flasher.flash(link, { bytes, signature }, tell);
    } catch (fault) {
      if (!(fault instanceof SluiceError)) this.#options.log.error({ err: fault }, "flash failed");
      tell({ state: "refused", link, reason: reasonOf(fault) });
    }
  }

  /** Before any of the image is taken. */
  #assertTakable(request: IncomingMessage, link: string): void {
    const { imageBytesMax, flasher } = this.#options;
    if (link === "") throw refused(`${request.method} ${request.url} is none of the requests here`);
    flasher.assertFree(link);
    if (Number(request.headers["content-length"] ?? Number.NaN) > imageBytesMax) {
      throw refused(`the image is larger than image_bytes_max = ${imageBytesMax}`);
    }
    if (this.#isTaking) throw refused("another image is being handed over; try again");
  }

  async #take(request: IncomingMessage): Promise<Buffer> {
    const { imageBytesMax } = this.#options;
    const chunks: Buffer[] = [];
    let bytes = 0;
    this.#isTaking = true;
    try {
      for await (const chunk of request) {
        bytes += chunk.length;
        if (bytes > imageBytesMax) {
          throw refused(`the image is larger than image_bytes_max = ${imageBytesMax}`);
        }
        chunks.push(chunk);
      }
      return Buffer.concat(chunks);
    } finally {
      this.#isTaking = false;
    }
  }
}

/** The link of `POST /flash/<link>`; empty when it is another request. */
function linkOf({ method, url = "" }: IncomingMessage): string {
  const [, link = ""] = /^\/flash\/([A-Za-z0-9._-]{1,63})$/.exec(url) ?? [];
  return method === "POST" ? link : "";
}

/** Whoever has gone hears nothing, and who does not read no progress; the flash goes on. */
function tellTo(response: ServerResponse, event: FlashEvent): void {
  if (response.destroyed || response.writableEnded) return;
  if (event.state === "progress" && response.writableNeedDrain) return;
  response.write(`${JSON.stringify(event)}\n`);
  if (isFinal(event)) response.end();
}

function refused(message: string): SluiceError {
  return new SluiceError("FLASH_REFUSED", message);
}
