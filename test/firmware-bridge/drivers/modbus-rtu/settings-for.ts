// settings-for: settings of the driver as a file's defaults make them.
// Path: tests → [settings-for]. Touches: nothing.

import * as v from "valibot";
import { ModbusTable } from "../../../../firmware-bridge/drivers/modbus-rtu/settings.ts";
import type {
  ModbusSettings,
  RegisterSettings,
} from "../../../../firmware-bridge/drivers/modbus-rtu/settings-schema.ts";

type Table = v.InferInput<typeof ModbusTable>;
export type RegisterInput = Table["slaves"][number]["registers"][number];

/** The table as the driver gets it; throws with what is wrong with it. */
export function modbusSettings(table: Table): ModbusSettings {
  return v.parse(ModbusTable, table);
}

export function registerSettings(some: Partial<RegisterInput>): RegisterSettings {
  const register = { channel: "x", address: 0, ...some };
  const table = modbusSettings({ slaves: [{ device: "meter", registers: [register] }] });
  const [settings] = table.slaves[0]?.registers ?? [];
  if (!settings) throw new Error("the table has one register");
  return settings;
}
