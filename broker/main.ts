// main: sluice-broker: reads the settings, starts the role.
// Path: [main] → gateway | cloud. Touches: the process.

import { setFlagsFromString } from "node:v8";
import { createLog, type Log } from "#runtime/log";
import { runService, type Service, settingsFromArguments } from "#runtime/process";
import type { Settings } from "#runtime/settings-schema";

const USAGE = `usage: sluice-broker [--config FILE] [--check-config]
  --config FILE   the settings; default /etc/sluice/sluice.toml
  --check-config  only check the settings: exit code 0 when they are good, else 2`;

/** Each role loads only its own half: a small board has little memory. */
async function start(settings: Settings, log: Log): Promise<Service> {
  if (settings.role === "cloud") return (await import("./cloud.ts")).startCloud(settings, log);
  return (await import("./gateway.ts")).startGateway(settings, log);
}

function main(): void {
  // Young objects stay in a little space: it grows to many MB in a burst and is not given back, which
  // costs a small board more than the collections do (V8's own flag, read at each growth).
  setFlagsFromString("--semi-space-growth-factor=1");
  const settings = settingsFromArguments(USAGE);
  const log = createLog({ level: settings.log.level, process: "sluice-broker" });
  void runService(log, () => start(settings, log), settings);
}

main();
