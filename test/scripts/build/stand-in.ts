// stand-in: a small program that needs of a build what the real ones need.
// Path: build.test → [stand-in]. Touches: LevelDB in the folder that is its argument.

import { ClassicLevel } from "classic-level";
import { createLog } from "#runtime/log";
import { VERSION } from "#runtime/version";

async function main(): Promise<void> {
  const [folder] = process.argv.slice(2);
  if (!folder) throw new Error("no folder named");
  const level = new ClassicLevel(folder);
  await level.put("version", VERSION);
  const version = await level.get("version");
  await level.close();
  const { LinuxBinding } = await import("@serialport/bindings-cpp");
  const { WebSocketServer } = await import("ws");
  const parts = [typeof LinuxBinding.list, typeof WebSocketServer];
  createLog({ level: "info", process: "stand-in" }).info({ version, parts }, "done");
}

void main();
