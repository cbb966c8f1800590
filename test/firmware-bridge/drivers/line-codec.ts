// line-codec: what lines say to the codec of `lines`, and what it writes, in short.
// Path: tests → [line-codec] → lines. Touches: nothing.

import assert from "node:assert/strict";
import type { Decoded } from "../../../firmware-bridge/driver.ts";
import { LinesCodec, type LinesSettings } from "../../../firmware-bridge/drivers/lines/lines.ts";
import { linesSettings } from "../link-settings.ts";

export function decode(
  settings: Partial<LinesSettings>,
  ...chunks: (string | Uint8Array)[]
): Decoded[] {
  const codec = new LinesCodec(linesSettings(settings));
  return chunks.flatMap((chunk) => codec.decode(Buffer.from(chunk as string)));
}

/** The messages as `channel=payload`, faults as `! reason`. */
export function told(decoded: readonly Decoded[]): string[] {
  return decoded.map((it) => {
    if (it.kind !== "message") return it.kind === "fault" ? `! ${it.reason}` : "about";
    return `${it.message.channel}=${Buffer.from(it.message.payload).toString("latin1")}`;
  });
}

export function says(
  settings: Partial<LinesSettings>,
  ...chunks: (string | Uint8Array)[]
): string[] {
  return told(decode(settings, ...chunks));
}

export function encode(
  settings: Partial<LinesSettings>,
  channel: string | undefined,
  payload: string | Uint8Array,
) {
  const codec = new LinesCodec(linesSettings(settings));
  const encoded = codec.encode({ channel, payload: Buffer.from(payload as string) });
  return encoded.kind === "bytes" ? Buffer.from(encoded.bytes).toString("latin1") : encoded;
}

export const refused = (reason: RegExp, encoded: unknown) => {
  const { kind, reason: why } = encoded as { kind: string; reason: string };
  assert.equal(kind, "refused", `${encoded}`);
  assert.match(why, reason);
};
