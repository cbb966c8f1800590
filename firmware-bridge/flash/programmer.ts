// programmer: which program flashes a link, with which arguments, and which images it takes.
// Path: settings → [programmer] → run. Touches: the folders that programs lie in.

import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { SluiceError } from "#contract/errors";
import type { LinkFlashSettings } from "#runtime/settings-flash";

/** One program, as the settings of a link want it run. */
export interface Programmer {
  readonly program: "avrdude" | "esptool";
  /** The image's name in the folder that the program runs in. */
  readonly imageName: string;
  /** It locks the port by itself, so that ours must let go of the lock for it. */
  readonly takesLock: boolean;
  /** All of its arguments: made here alone, of values that the settings' check let through. */
  args(port: string): readonly string[];
  /** Why it is no image for this program; undefined when it is. */
  faultOf(image: Uint8Array): string | undefined;
}

export function programmerOf(settings: LinkFlashSettings): Programmer {
  return settings.programmer === "avrdude" ? avrdude(settings) : esptool(settings);
}

/** Boot loaders erase page by page as they write, and refuse to erase the chip, themselves on it. */
const BOOT_LOADERS: readonly string[] = ["arduino", "wiring", "avr109", "urclock"];

function avrdude({ part = "", protocol, baud_rate }: LinkFlashSettings): Programmer {
  const imageName = "image.hex";
  const noErase = BOOT_LOADERS.includes(protocol) ? ["-D"] : [];
  return {
    program: "avrdude",
    imageName,
    takesLock: false,
    args: (port) => [
      ...["-c", protocol, "-p", part, "-b", String(baud_rate), "-P", port, ...noErase],
      // By name alone: avrdude splits this at each colon, and a path may have some.
      ...["-U", `flash:w:${imageName}:i`],
    ],
    faultOf: (image) => (isIntelHex(image) ? undefined : "it is no Intel HEX file"),
  };
}

/** Its words are those of esptool 4, which 5 still takes. */
function esptool({ chip, baud_rate, offset = 0 }: LinkFlashSettings): Programmer {
  const imageName = "image.bin";
  return {
    program: "esptool",
    imageName,
    takesLock: true,
    args: (port) => [
      ...["--chip", chip, "--port", port, "--baud", String(baud_rate)],
      ...["--before", "default_reset", "--after", "hard_reset"],
      ...["write_flash", `0x${offset.toString(16)}`, imageName],
    ],
    faultOf: (image) => (image.length > 0 ? undefined : "it is empty"),
  };
}

/** Does it begin with a record: a colon, then count, address, type, data and checksum in hex? */
function isIntelHex(image: Uint8Array): boolean {
  const begin = Buffer.from(image.subarray(0, 12)).toString("latin1");
  return /^:[0-9a-f]{10}/i.test(begin);
}

/** Where the program lies; @throws SluiceError FLASH_REFUSED that names the Debian package. */
export async function findProgram(
  { program }: Pick<Programmer, "program">,
  searchPath: string,
): Promise<string> {
  for (const folder of searchPath.split(delimiter).filter((it) => it.startsWith("/"))) {
    const path = join(folder, program);
    if (await isExecutable(path)) return path;
  }
  const message = `${program} is not installed; install it: apt-get install ${program}`;
  throw new SluiceError("FLASH_REFUSED", message);
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
