// scale: the codec of weighing scales that say lines as "ST,GS,+0012.34kg".
// Path: link → stream-driver → [scale] → device. Touches: nothing.

import * as v from "valibot";
import { whole } from "#runtime/settings-values";
import type { Codec, Command, Decoded, Encoded } from "../../../firmware-bridge/driver.ts";
import { LineSplitter, TOO_LONG } from "../../../firmware-bridge/drivers/framing/line-splitter.ts";
import { codecDriver } from "../../../firmware-bridge/drivers/kind.ts";

const Settings = v.strictObject({ line_bytes_max: v.optional(whole(20, 1_024), 64) });
const WEIGHT = /^(ST|US),(?:GS|NT),([+-]) *([0-9.]+) *kg$/;

export const scale = codecDriver(
  Settings,
  ({ line_bytes_max }) => new ScaleCodec(line_bytes_max),
  () => ({
    channels: [
      { name: "weight", unit: "kg", kind: "number" },
      { name: "stable", kind: "boolean" },
      { name: "tare", writable: true },
    ],
  }),
);

class ScaleCodec implements Codec {
  readonly #splitter: LineSplitter;

  constructor(lineBytesMax: number) {
    this.#splitter = new LineSplitter("crlf", lineBytesMax);
  }

  decode(chunk: Uint8Array): Decoded[] {
    return this.#splitter.push(chunk).flatMap((line): Decoded[] => {
      if (line === TOO_LONG) return [{ kind: "fault", reason: "a line is too long" }];
      const [, stable, sign, weight = ""] = WEIGHT.exec(String(line)) ?? [];
      if (!sign) return [{ kind: "fault", reason: "a line is no weight", frame: line }];
      return [
        message("weight", sign === "-" ? `-${Number(weight)}` : `${Number(weight)}`),
        message("stable", String(stable === "ST")),
      ];
    });
  }

  encode({ channel }: Command): Encoded {
    if (channel === "tare") return { kind: "bytes", bytes: Buffer.from("T\r\n") };
    return { kind: "refused", reason: "a scale takes no command but tare" };
  }
}

function message(channel: string, text: string): Decoded {
  return { kind: "message", message: { channel, payload: Buffer.from(text) } };
}
