// drivers: every driver, by the name that settings have for it.
// Path: main → [drivers] → each driver. Touches: nothing.

import type { DriverTables, LinkSettings } from "#runtime/settings-links";
import type { Driver, Host } from "../driver.ts";
import { dsmr } from "./dsmr/dsmr.ts";
import { frames } from "./frames/frames.ts";
import type { DriverKind } from "./kind.ts";
import { lines } from "./lines/lines.ts";
import { modbusRtu } from "./modbus-rtu/modbus-rtu.ts";
import { mqtt } from "./mqtt/mqtt.ts";
import { mqttSn } from "./mqtt-sn/mqtt-sn.ts";
import { mysensors } from "./mysensors/mysensors.ts";
import { nmea } from "./nmea/nmea.ts";

const DRIVERS: Readonly<Record<string, DriverKind>> = {
  dsmr,
  frames,
  lines,
  "modbus-rtu": modbusRtu,
  mqtt,
  "mqtt-sn": mqttSn,
  mysensors,
  nmea,
};

/** The schema of each driver's own table, for the settings to be checked by. */
export const driverTables: DriverTables = Object.fromEntries(
  Object.entries(DRIVERS).map(([name, kind]) => [name, kind.settings]),
);

/** The driver of a link, with its devices at the broker from now on. */
export function createDriver(link: LinkSettings, host: Host): Driver {
  const kind = DRIVERS[link.driver];
  if (!kind) throw new Error(`no driver ${link.driver}, and the settings were checked`);
  return kind.create((link as Readonly<Record<string, unknown>>)[link.driver], host);
}
