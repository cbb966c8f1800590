// stand-in: a program in avrdude's place, which plays avrdude's own output, and links to flash.
// Path: tests. Touches: a temporary folder, child processes.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { FlashEvent } from "#contract/flash";
import type { LinkFlashSettings } from "#runtime/settings-flash";
import { Flasher, type FlasherOptions } from "../../../firmware-bridge/flash/flasher.ts";
import { programmerOf } from "../../../firmware-bridge/flash/programmer.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { capturedLog } from "../captured-log.ts";

export const AVRDUDE: LinkFlashSettings = {
  programmer: "avrdude",
  baud_rate: 57_600,
  part: "m328p",
  protocol: "arduino",
  chip: "auto",
  offset: undefined,
};

/** A folder of programs that take the places of real ones, and of what they saw. */
export class StandIn {
  readonly folder: string;

  constructor(t: TestContext) {
    this.folder = temporaryFolder(t);
  }

  /** `print` goes to stderr bit by bit; then `end` is run by the shell. */
  install(program: "avrdude" | "esptool", print: readonly string[], end: string): void {
    const says = print.map((text) => `printf '%s' '${text.replaceAll("'", `'\\''`)}' >&2\n`);
    const script = `#!/bin/sh
printf '%s\\n' "$@" > "${this.#path("args")}"
env | sort > "${this.#path("env")}"
pwd > "${this.#path("cwd")}"
cat image.* > "${this.#path("image")}"
stat -c %a . image.* > "${this.#path("modes")}"
echo $$ > "${this.#path("pid.new")}" && mv "${this.#path("pid.new")}" "${this.#path("pid")}"
${says.join("")}${end}
`;
    writeFileSync(join(this.folder, program), script, { mode: 0o755 });
  }

  get hasRun(): boolean {
    return existsSync(this.#path("pid"));
  }

  saw(what: "args" | "env" | "cwd" | "image" | "modes" | "pid"): string {
    return readFileSync(this.#path(what), "utf8");
  }

  #path(name: string): string {
    return join(this.folder, name);
  }
}

/** A flasher whose one link, "box", is lent as a port's supervisor lends it. */
export function flasherOf(t: TestContext, some: Partial<FlasherOptions> = {}) {
  const standIn = new StandIn(t);
  const { log } = capturedLog();
  const lent: string[] = [];
  const flasher = new Flasher({
    links: new Map([
      [
        "box",
        {
          programmer: programmerOf(AVRDUDE),
          async lend(use, lock) {
            lent.push(lock);
            return use("/dev/ttyUSB0").finally(() => lent.push("back"));
          },
        },
      ],
    ]),
    key: undefined,
    secondsMax: 20,
    searchPath: `${standIn.folder}:/usr/bin:/bin`,
    log,
    ...some,
  });
  t.after(() => flasher.stop());
  const events: FlashEvent[] = [];
  return { flasher, standIn, lent, events, tell: (event: FlashEvent) => void events.push(event) };
}
