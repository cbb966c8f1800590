// main: the process sluice-firmware-bridge, which makes an MQTT client of every serial device.
// Path: device ── links → drivers → devices ──MQTT──▶ broker, and commands the other way.
// Touches: the settings, systemd; all else by the folders that it wires.

import type { LinksDocument } from "#contract/links";
import { within } from "#runtime/backoff";
import { createLog, type Log } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { openNotify } from "#runtime/notify";
import { runService, type Service, settingsFromArguments } from "#runtime/process";
import type { LinkSettings } from "#runtime/settings-links";
import type { Settings } from "#runtime/settings-schema";
import { VERSION } from "#runtime/version";
import { Devices } from "./devices/devices.ts";
import { createDriver, driverTables } from "./drivers/drivers.ts";
import { type FlashOptions, startFlash } from "./flash/flash.ts";
import { FlashDoor } from "./flash-door.ts";
import { linkStatus } from "./link-status.ts";
import { LinkSupervisor } from "./links/links.ts";
import { startStatus } from "./status/status.ts";

const USAGE = `usage: sluice-firmware-bridge [--config FILE] [--check-config]
  --config FILE   the settings; default /etc/sluice/sluice.toml
  --check-config  only check the settings, drivers included: exit code 0 when they are good, else 2`;
/** For the drivers to hand on what the ports had brought; the devices get the rest of the time. */
const HAND_ON_MS_MAX = 2_000;

/** A link of the settings, and what keeps it. */
interface Kept {
  readonly settings: LinkSettings;
  readonly host: ReturnType<Devices["host"]>;
  readonly supervisor: LinkSupervisor;
}

async function main(): Promise<void> {
  const settings = settingsFromArguments(USAGE, driverTables);
  const log = createLog({ level: settings.log.level, process: "sluice-firmware-bridge" });
  await runService(log, () => start(settings, log), settings, driverTables);
}

async function start(settings: Settings, log: Log): Promise<Service> {
  const flashDoor = new FlashDoor(settings.flash);
  // By systemd, where its user may write: the data folder is the broker's alone.
  const data = process.env.STATE_DIRECTORY ?? settings.data;
  const devices = new Devices({ ...settings, data }, log, flashDoor.listener);
  const notify = await openNotify(() => true);
  // Without links there is nothing to do, but to be there when the settings have some.
  const idle = setInterval(() => {}, 60_000);
  const tellStatus = () => {
    const up = links.filter(({ supervisor }) => supervisor.mode === "up").length;
    notify.status(`${up} of ${links.length} links up`);
  };
  const links = settings.links.map((link) => keep(link, devices, tellStatus));
  for (const { supervisor } of links) supervisor.start();
  const metrics = new Metrics();
  const flash = startFlashing(settings, links, {
    client: flashDoor.client(devices),
    metrics,
    log,
  });
  const status = startStatus({
    address: settings.bridge.status.address,
    metrics,
    log,
    document: documentOf(settings, links),
  });
  log.info({ links: links.length, broker: settings.bridge.broker }, "started");
  notify.ready();
  return {
    async stop() {
      notify.stopping();
      // First: a port that is lent comes back when its programmer has ended.
      await flash?.stop();
      const stopped = Promise.all(links.map(({ supervisor }) => supervisor.stop()));
      await within(HAND_ON_MS_MAX, stopped);
      await devices.stop();
      await stopped;
      await status.close();
      notify.close();
      clearInterval(idle);
    },
  };
}

function keep(settings: LinkSettings, devices: Devices, onMode: () => void): Kept {
  const host = devices.host(settings);
  const driver = createDriver(settings, host);
  devices.assertMeant(settings, host);
  const supervisor = new LinkSupervisor({
    settings,
    driver,
    log: host.log,
    onMode(mode, why) {
      if (mode === "absent" || mode === "failing" || mode === "lent") host.offline(why);
      onMode();
    },
  });
  return { settings, host, supervisor };
}

/** Undefined where no link is to be flashed. */
function startFlashing(
  { flash: settings, bridge }: Settings,
  all: readonly Kept[],
  { client, metrics, log }: Pick<FlashOptions, "client" | "log"> & { readonly metrics: Metrics },
): ReturnType<typeof startFlash> | undefined {
  const links = all.flatMap(({ settings: { flash }, host: { name }, supervisor }) =>
    flash ? [{ name, settings: flash, lend: supervisor.lend.bind(supervisor) }] : [],
  );
  if (!settings || links.length === 0) return undefined;
  const count = metrics.counter("sluice_flash_total", "Flashes, by link and what became of them.");
  return startFlash({
    settings,
    control: bridge.control,
    links,
    client,
    log,
    onEvent({ link, state: outcome }) {
      if (outcome !== "progress") count({ link, outcome });
    },
  });
}

function documentOf({ name }: Settings, links: readonly Kept[]): () => LinksDocument {
  const startedAtMs = Date.now();
  return () => ({
    name,
    version: VERSION,
    startedAtMs,
    links: links.map((link) => linkStatus(link.settings, link.supervisor, link.host)),
  });
}

void main();
