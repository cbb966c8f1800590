// flash: sluice flash: brings an image onto the device of a link, and shows how far it is.
// Path: main → [flash] → send-image → firmware-bridge. Touches: the settings, files, stdout.

import { existsSync, readFileSync } from "node:fs";
import { reasonOf, SluiceError } from "#contract/errors";
import type { FlashEvent } from "#contract/flash";
import { printable } from "#runtime/printable";
import { EXIT } from "#runtime/process";
import { readSettings, SETTINGS_PATH } from "#runtime/settings";
import { type Command, readArguments, refuseMore } from "./command.ts";
import { FlashScreen } from "./flash-screen.ts";
import { sendImage } from "./send-image.ts";

const OPTIONS = {
  signature: { type: "string" },
  config: { type: "string" },
  control: { type: "string" },
  json: { type: "boolean" },
} as const;

/** The longest, ECDSA over 521 bits in base64, has 190. */
const SIGNATURE_BYTES_MAX = 1_024;

export const flash: Command = {
  summary: "bring an image onto the device of a link",
  usage: `usage: sluice flash LINK FILE [--signature FILE] [--json] [--config FILE | --control PATH]

Takes the port of LINK from its driver, runs the programmer that the settings name for it, and
gives the port back. The link needs a table [links.flash], and the settings a table [flash].
Ended with Ctrl-C, it shows no more; the flash goes on to its end.
Exit code 0: flashed. 1: failed, and the link stays failing. 2: refused, and nothing was changed.

  --signature FILE  the image's detached signature; default FILE.sig, where there is one
  --json            each event as it is, one a line
  --config FILE     the settings, whose [bridge] control says where to ask; default ${SETTINGS_PATH}
  --control PATH    the socket to ask at, without a settings file`,
  async run(args) {
    const { values, positionals } = readArguments(args, OPTIONS);
    const [link, file, ...more] = positionals;
    if (link === undefined) throw new SluiceError("USAGE", "the link is missing");
    if (file === undefined) throw new SluiceError("USAGE", "the image's file is missing");
    refuseMore(more);
    const image = { bytes: readFile(file), signature: signatureOf(file, values.signature) };
    const path = values.control ?? readSettings(values.config ?? SETTINGS_PATH).bridge.control;
    const screen = new FlashScreen(process.stdout);
    const end = await sendImage(path, link, image, (event) => {
      if (values.json) process.stdout.write(`${JSON.stringify(event)}\n`);
      else screen.show(event);
    });
    if (!values.json) screen.end();
    return exitCode(end);
  },
};

function readFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new SluiceError("USAGE", `${path} cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

function signatureOf(file: string, named: string | undefined): Buffer | undefined {
  const path = named ?? `${file}.sig`;
  if (named === undefined && !existsSync(path)) return undefined;
  const signature = readFile(path);
  if (signature.length <= SIGNATURE_BYTES_MAX) return signature;
  throw new SluiceError("USAGE", `${path} is no signature: it has ${signature.length} bytes`);
}

/** Says on stderr why not. */
function exitCode(end: FlashEvent): number {
  if (end.state !== "failed" && end.state !== "refused") return EXIT.stopped;
  process.stderr.write(`sluice: flash ${end.state}: ${printable(end.reason)}\n`);
  return end.state === "failed" ? EXIT.failed : EXIT.refused;
}
