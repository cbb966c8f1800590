// live-link: a link whose device speaks when the test wants it, and is pulled when the test wants it.
// Path: tests → [live-link] → driver. Touches: nothing.

import { SluiceError } from "#contract/errors";
import type { Chunk, Link } from "../../firmware-bridge/driver.ts";

export class LiveLink {
  readonly link: Link;
  /** All that the device was told. */
  readonly written: Buffer[] = [];
  /** How many times of what the device said the driver has asked for. */
  taken = 0;
  takesNothing = false;
  readonly #chunks: Chunk[] = [];
  #wake: () => void = () => {};
  #unplugged = false;

  constructor() {
    this.link = {
      path: "/dev/box",
      baudRate: 115_200,
      readable: this.#read(),
      write: async (bytes) => {
        if (this.takesNothing) throw new SluiceError("LINK_FAILED", "/dev/box takes no bytes");
        this.written.push(Buffer.from(bytes));
        this.onWritten(Buffer.from(bytes));
      },
    };
  }

  /** The text of `written`. */
  get text(): string {
    return Buffer.concat(this.written).toString();
  }

  say(bytes: Uint8Array | string, receivedAtMs = Date.now()): void {
    this.#chunks.push({ bytes: Buffer.from(bytes as string), receivedAtMs });
    this.#wake();
  }

  unplug(): void {
    this.#unplugged = true;
    this.#wake();
  }

  protected onWritten(_bytes: Buffer): void {}

  async *#read(): AsyncGenerator<Chunk> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk) {
        this.taken += 1;
        yield chunk;
      } else if (this.#unplugged) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
