// send-image: hands an image to the firmware-bridge, and hears how it goes.
// Path: flash → [send-image] → the firmware-bridge's control socket. Touches: a unix socket.

import { request as ask, type ClientRequest, type IncomingMessage } from "node:http";
import { createInterface } from "node:readline";
import { reasonOf, SluiceError } from "#contract/errors";
import { type FlashEvent, isFinal, SIGNATURE_HEADER } from "#contract/flash";

export interface SignedImage {
  readonly bytes: Buffer;
  readonly signature: Buffer | undefined;
}

/**
 * Resolves with the event that ends the flash.
 * @throws SluiceError BRIDGE_UNREACHABLE when nobody answers at `path`, or stops answering.
 */
export async function sendImage(
  path: string,
  link: string,
  image: SignedImage,
  onEvent: (event: FlashEvent) => void,
): Promise<FlashEvent> {
  const { bytes, signature } = image;
  const request = ask({
    socketPath: path,
    method: "POST",
    path: `/flash/${encodeURIComponent(link)}`,
    agent: false,
    headers: {
      // What is refused at once need not be sent.
      Expect: "100-continue",
      "Content-Length": bytes.length,
      ...(signature ? { [SIGNATURE_HEADER]: signature.toString("base64") } : {}),
    },
  });
  request.once("continue", () => request.end(bytes));
  request.flushHeaders();
  const response = await answerTo(request).catch((cause) => {
    throw unreachable(path, cause);
  });
  const end = await eventsOf(response, onEvent).catch((cause) => {
    throw new SluiceError("BRIDGE_UNREACHABLE", `${reasonOf(cause)}; ${LOST}`, { cause });
  });
  request.destroy();
  if (end) return end;
  throw new SluiceError("BRIDGE_UNREACHABLE", `the firmware-bridge stopped answering; ${LOST}`);
}

const LOST = "how the flash ended, journalctl -u sluice-firmware-bridge tells";

function answerTo(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once("response", resolve).on("error", reject);
  });
}

async function eventsOf(
  response: IncomingMessage,
  onEvent: (event: FlashEvent) => void,
): Promise<FlashEvent | undefined> {
  for await (const line of createInterface({ input: response, crlfDelay: Infinity })) {
    const event: FlashEvent = JSON.parse(line);
    onEvent(event);
    if (isFinal(event)) return event;
  }
  return undefined;
}

const MENDS: Readonly<Record<string, string>> = {
  ENOENT:
    "is the service running, with a [flash] table and a link that has [links.flash]? " +
    "systemctl status sluice-firmware-bridge",
  ECONNREFUSED: "is the service running? systemctl status sluice-firmware-bridge",
  EACCES: "only root and members of its group may flash: usermod -aG sluice-bridge NAME",
};

function unreachable(path: string, cause: unknown): SluiceError {
  const mend = MENDS[(cause as NodeJS.ErrnoException).code ?? ""];
  const hint = mend === undefined ? "" : `; ${mend}`;
  const message = `no answer from the firmware-bridge at ${path}: ${reasonOf(cause)}${hint}`;
  return new SluiceError("BRIDGE_UNREACHABLE", message, { cause });
}
