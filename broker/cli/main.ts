// main: sluice, the operator's command.
// Path: [main] → status, outbox, links, flash, user, tail. Touches: the process.

import { SluiceError } from "#contract/errors";
import { EXIT } from "#runtime/process";
import { VERSION } from "#runtime/version";
import { type Command, nearest } from "./command.ts";
import { flash } from "./flash.ts";
import { links } from "./links.ts";
import { outbox } from "./outbox.ts";
import { status } from "./status.ts";
import { tail } from "./tail.ts";
import { user } from "./user.ts";

const COMMANDS: ReadonlyMap<string, Command> = new Map([
  ["status", status],
  ["outbox", outbox],
  ["links", links],
  ["flash", flash],
  ["user", user],
  ["tail", tail],
]);

const SUMMARIES = [...COMMANDS].map(([name, it]) => `  ${name.padEnd(10)}${it.summary}\n`).join("");

const USAGE = `usage: sluice COMMAND [OPTION…]

${SUMMARIES}
  --help     this, and with a command its options
  --version  the version

Exit code 0: done. 1: failed. 2: bad settings or usage, and nothing was changed.`;

/** Faults of who calls: nothing was changed. */
const REFUSED_CODES = new Set(["CERTIFICATE_UNREADABLE", "SETTINGS_INVALID", "USAGE"]);

async function run([name, ...args]: readonly string[]): Promise<number> {
  if (name === "--version") return print(`sluice ${VERSION}`);
  if (name === "--help" || name === "-h" || name === "help") return print(USAGE);
  const command = COMMANDS.get(name ?? "");
  if (!command) throw unknownCommand(name);
  const end = args.indexOf("--");
  const options = end < 0 ? args : args.slice(0, end);
  if (options.includes("--help") || options.includes("-h")) return print(command.usage);
  return command.run(args);
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return EXIT.stopped;
}

function unknownCommand(name: string | undefined): SluiceError {
  const known = [...COMMANDS.keys()];
  if (name === undefined)
    return new SluiceError("USAGE", `a command is missing: ${known.join(", ")}`);
  const near = nearest(name, known);
  return new SluiceError("USAGE", `no command ${JSON.stringify(name)}; did you mean ${near}?`);
}

function refuse(fault: unknown): void {
  if (!(fault instanceof SluiceError)) throw fault;
  const help = fault.code === "USAGE" ? "\nsluice --help tells more" : "";
  process.stderr.write(`sluice: ${fault.message}${help}\n`);
  process.exitCode = REFUSED_CODES.has(fault.code) ? EXIT.refused : EXIT.failed;
}

function main(): void {
  // `sluice tail | head` ends the pipe before it ends us.
  process.stdout.on("error", (fault: NodeJS.ErrnoException) => {
    if (fault.code !== "EPIPE") throw fault;
    process.exit(EXIT.stopped);
  });
  run(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
  }, refuse);
}

main();
