// stream-driver: runs a codec on a link that is one device.
// Path: link → codec → [stream-driver] → device; and commands the other way. Touches: nothing.

import type {
  About,
  Codec,
  Command,
  Decoded,
  Device,
  Driver,
  Host,
  Link,
  Outcome,
} from "../driver.ts";

export class StreamDriver implements Driver {
  readonly #createCodec: () => Codec;
  readonly #host: Host;
  readonly #device: Device;

  constructor(createCodec: () => Codec, host: Host, about?: About) {
    this.#createCodec = createCodec;
    this.#host = host;
    this.#device = host.device(host.deviceName, about);
  }

  async run(link: Link): Promise<void> {
    const codec = this.#createCodec();
    this.#device.online((command) => carryOut(codec, link, command));
    for await (const { bytes, receivedAtMs } of link.readable) {
      for (const decoded of codec.decode(bytes)) {
        const full = this.#handOn(decoded, receivedAtMs);
        if (full) await full;
      }
    }
  }

  #handOn(decoded: Decoded, receivedAtMs: number): Promise<void> | undefined {
    switch (decoded.kind) {
      case "fault":
        this.#host.fault(decoded.reason, decoded.frame);
        return undefined;
      case "about":
        this.#device.describe(decoded.about);
        return undefined;
      case "message":
        this.#host.countFrames(1);
        return this.#device.publish({ ...decoded.message, receivedAtMs });
    }
  }
}

async function carryOut(codec: Codec, link: Link, command: Command): Promise<Outcome> {
  const encoded = codec.encode(command);
  if (encoded.kind === "refused") return { state: "failed", reason: encoded.reason };
  await link.write(encoded.bytes);
  return { state: "done" };
}
