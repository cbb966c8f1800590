// serial-wire: a serial port whose other end is a TCP port, for clients that know no serial ports.
// Path: tests → [serial-wire] → mosquitto's clients. Touches: socat, a pseudo-terminal.

import type { TestContext } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { PeerProcess } from "./peer-process.ts";

/** Takes one client; the serial port hangs up when that client closes its connection. */
export class SerialWire {
  readonly #socat: PeerProcess;
  /** The device node. */
  readonly path: string;
  /** The TCP port on 127.0.0.1. */
  readonly port: number;

  private constructor(socat: PeerProcess, path: string, port: number) {
    this.#socat = socat;
    this.path = path;
    this.port = port;
  }

  /** A wire that is plugged in until `unplug`, or until the test ends. */
  static async open(t: Pick<TestContext, "after">): Promise<SerialWire> {
    const command = ["socat", "-d", "-d", "PTY,raw,echo=0", "TCP-LISTEN:0,bind=127.0.0.1"];
    const socat = PeerProcess.begin(t, "socat", command);
    const said = /PTY is (\S+).*listening on \S+ 127\.0\.0\.1:(\d+)/s;
    const match = await waitFor("socat listens", () => said.exec(socat.errors));
    return new SerialWire(socat, match[1] ?? "", Number(match[2]));
  }

  /** Hangs the terminal up, and the client; resolves when both are gone. */
  async unplug(): Promise<void> {
    await this.#socat.end();
  }
}
