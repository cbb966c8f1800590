// main: sluice-broker: reads the settings, starts the role.
// Path: [main] → gateway | cloud. Touches: the process.

import { createLog } from "#runtime/log";
import { runService, settingsFromArguments } from "#runtime/process";
import { startCloud } from "./cloud.ts";
import { startGateway } from "./gateway.ts";

const USAGE = `usage: sluice-broker [--config FILE] [--check-config]
  --config FILE   the settings; default /etc/sluice/sluice.toml
  --check-config  only check the settings: exit code 0 when they are good, else 2`;

function main(): void {
  const settings = settingsFromArguments(USAGE);
  const log = createLog({ level: settings.log.level, process: "sluice-broker" });
  const start = settings.role === "gateway" ? startGateway : startCloud;
  void runService(log, () => start(settings, log), settings);
}

main();
