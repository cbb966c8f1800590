// nmea: a GPS receiver on a serial port: sentences of gpsbabel, replayed by gpsfake's own terminal.
// Path: tests → [nmea] → receiver.py. Touches: gpsbabel, one process, a temporary folder.
//
// The program gpsfake itself feeds nobody but the gpsd that it starts, which reads the terminal
// alone. Its terminal and its replay are the Python module gps.fake, which is what is used here.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { temporaryFolder } from "../../../support/temporary-folder.ts";
import { run } from "../made.ts";
import { PeerProcess } from "../peer-process.ts";

export interface GpsReceiverOptions {
  /** A receiver's log; without it gpsbabel makes one of 10 points, the same but for the time. */
  readonly log?: string;
  /** Between two sentences. */
  readonly pauseMs?: number;
}

export class GpsReceiver {
  readonly #process: PeerProcess;
  /** The device node. */
  readonly path: string;
  /** What the receiver says over and over, without line ends: RMC, GGA, VTG and GSA. */
  readonly sentences: readonly string[];

  private constructor(process: PeerProcess, sentences: readonly string[]) {
    this.#process = process;
    this.sentences = sentences;
    [this.path = ""] = process.firstLine.split(" ");
  }

  /** A receiver that runs until `unplug`, or until the test ends. */
  static async plugIn(
    t: Pick<TestContext, "after">,
    { log = madeLog(t), pauseMs = 20 }: GpsReceiverOptions = {},
  ): Promise<GpsReceiver> {
    // Debian's Python: another one would not find Debian's gps.
    const script = join(import.meta.dirname, "receiver.py");
    const command = ["/usr/bin/python3", script, log, String(pauseMs / 1000)];
    const process = await PeerProcess.start(t, "gps.fake", command);
    return new GpsReceiver(process, readFileSync(log, "latin1").trim().split(/\r?\n/));
  }

  /** It says nothing any more, and stays plugged in. */
  fallSilent(): void {
    this.#process.tell("stop");
  }

  /** Hangs the terminal up; resolves when it is gone. */
  async unplug(): Promise<void> {
    await this.#process.end();
  }
}

/** A track through nowhere, in gpsbabel's own words. */
function madeLog(t: Pick<TestContext, "after">): string {
  const log = join(temporaryFolder(t), "track.nmea");
  run("gpsbabel", `-t -i random,points=10,seed=22 -f none -o nmea -F ${log}`.split(" "));
  return log;
}
