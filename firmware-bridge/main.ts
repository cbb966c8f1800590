// main: the process sluice-firmware-bridge, which makes an MQTT client of every serial device.
// Path: device ── links → drivers → devices ──MQTT──▶ broker, and commands the other way.
// Touches: the settings, systemd; all else by the folders that it wires.

import { wait } from "#runtime/backoff";
import { createLog, type Log } from "#runtime/log";
import { openNotify } from "#runtime/notify";
import { runService, type Service, settingsFromArguments } from "#runtime/process";
import type { Settings } from "#runtime/settings-schema";
import { Devices } from "./devices/devices.ts";
import { createDriver, driverTables } from "./drivers/drivers.ts";
import { LinkSupervisor } from "./links/links.ts";

const USAGE = "usage: sluice-firmware-bridge [--config FILE] [--check-config]";
/** For the drivers to hand on what the ports had brought; the devices get the rest of the time. */
const HAND_ON_MS_MAX = 2_000;

async function main(): Promise<void> {
  const settings = settingsFromArguments(USAGE, driverTables);
  const log = createLog({ level: settings.log.level, process: "sluice-firmware-bridge" });
  await runService(log, () => start(settings, log), settings, driverTables);
}

async function start(settings: Settings, log: Log): Promise<Service> {
  const devices = new Devices(settings, log);
  const notify = await openNotify(() => true);
  // Without links there is nothing to do, but to be there when the settings have some.
  const idle = setInterval(() => {}, 60_000);
  const tellStatus = () => {
    const up = supervisors.filter(({ mode }) => mode === "up").length;
    notify.status(`${up} of ${supervisors.length} links up`);
  };
  const supervisors = settings.links.map((link) => {
    const host = devices.host(link);
    return new LinkSupervisor({
      settings: link,
      driver: createDriver(link, host),
      log,
      onMode(mode, why) {
        if (mode === "absent" || mode === "failing" || mode === "lent") host.offline(why);
        tellStatus();
      },
    });
  });
  for (const supervisor of supervisors) supervisor.start();
  log.info({ links: supervisors.length, broker: settings.bridge.broker }, "started");
  notify.ready();
  return {
    async stop() {
      notify.stopping();
      const stopped = Promise.all(supervisors.map((supervisor) => supervisor.stop()));
      await Promise.race([stopped, wait(HAND_ON_MS_MAX)]);
      await devices.stop();
      await stopped;
      notify.close();
      clearInterval(idle);
    },
  };
}

void main();
