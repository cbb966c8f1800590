// simulated-device: a thermometer with a lamp that speaks lines of key=value on a pty.
// Path: [simulated-device] → pty → firmware-bridge. Touches: a pty, by `script`; a symbolic link.
//
//   node simulated-device.ts --port LINK [--interval-ms 1000]

import { spawn } from "node:child_process";
import { readFileSync, rmSync, symlinkSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

// Node opens no pty. script(1) does, gives its near end to this shell, and the far end to us. What
// the shell opened stays open, so that the port is there whether or not a bridge has it.
const HOLD_PTY = 'stty raw -echo; tty > "$NAME_FILE"; exec sleep infinity';

const UNREAD_BYTES_MAX = 65_536;

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "serial-port" },
    "interval-ms": { type: "string", default: "1000" },
  },
});

const link = values.port;
const nameFile = `${link}.name`;
let intervalMs = Number(values["interval-ms"]);
let lamp = "off";
let count = 0;

rmSync(link, { force: true });
rmSync(nameFile, { force: true });
const pty = spawn(
  "setpriv",
  ["--pdeathsig", "KILL", "--", "script", "-qfe", "-c", HOLD_PTY, "/dev/null"],
  { env: { ...process.env, NAME_FILE: nameFile }, stdio: ["pipe", "pipe", "inherit"] },
);
pty.once("exit", () => end(1));
process.once("SIGTERM", () => end(0));
process.once("SIGINT", () => end(0));

/** As on a real port, what nobody reads is lost once the buffers are full. */
function say(line: string): void {
  if (pty.stdin.writableLength < UNREAD_BYTES_MAX) pty.stdin.write(`${line}\n`);
}

/** What a command asks for, done; the state that it leads to is the answer. */
function obey(line: string): string {
  const [key, value = ""] = line.trim().split("=", 2);
  if (key === "led" && (value === "on" || value === "off")) {
    lamp = value;
    return `led=${lamp}`;
  }
  if (key === "interval" && Number(value) >= 1) {
    intervalMs = Number(value);
    return `interval=${intervalMs}`;
  }
  return "error=unknown-command";
}

function measurement(): string {
  count += 1;
  const temperature = (21.5 + 2 * Math.sin(count / 30)).toFixed(1);
  return `temperature=${temperature} humidity=${40 + (count % 10)} count=${count}`;
}

function end(code: number): void {
  rmSync(link, { force: true });
  rmSync(nameFile, { force: true });
  process.exit(code);
}

/** The pty's path, once the shell has put its line discipline into raw mode and told it. */
async function ptyPath(): Promise<string> {
  for (;;) {
    const path = readIfThere(nameFile).trim();
    if (path.startsWith("/dev/")) return path;
    await sleep(10);
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

const path = await ptyPath();
rmSync(nameFile, { force: true });
symlinkSync(path, link);
process.stdout.write(`${path} is at ${link}\n`);
createInterface({ input: pty.stdout }).on("line", (line) => {
  process.stdout.write(`command: ${line}\n`);
  say(obey(line));
});
for (;;) {
  say(measurement());
  await sleep(intervalMs);
}
