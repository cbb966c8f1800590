// objects: what the objects of P1 telegrams mean, by their OBIS codes (IEC 62056-61).
// Path: telegram → [objects] → dsmr. Touches: nothing.

/** How the value of an object is written. */
export type ValueKind = "number" | "text" | "hex" | "time";

export interface Meaning {
  readonly channel: string;
  readonly kind: ValueKind;
  /** As the telegram has it; without one, the value stands alone. */
  readonly unit?: string;
}

const number = (channel: string, unit?: string): Meaning =>
  unit === undefined ? { channel, kind: "number" } : { channel, kind: "number", unit };
const text = (channel: string): Meaning => ({ channel, kind: "text" });
const hex = (channel: string): Meaning => ({ channel, kind: "hex" });

/**
 * By code. DSMR: P1 companion standard 5.0.2, table 6-4, and its predecessors. Belgium: e-MUCS-P1
 * 1.7.1. "Delivered" is what the client draws, "returned" what goes back, as in those texts.
 */
export const MEANINGS: Readonly<Record<string, Meaning>> = {
  "1-3:0.2.8": text("version"),
  "0-0:96.1.4": text("version"),
  "0-0:1.0.0": { channel: "time", kind: "time" },
  "0-0:96.1.1": hex("equipment_id"),
  "0-0:96.1.2": hex("ean"),
  "1-0:1.8.0": number("energy_delivered", "kWh"),
  "1-0:1.8.1": number("energy_delivered_tariff1", "kWh"),
  "1-0:1.8.2": number("energy_delivered_tariff2", "kWh"),
  "1-0:2.8.0": number("energy_returned", "kWh"),
  "1-0:2.8.1": number("energy_returned_tariff1", "kWh"),
  "1-0:2.8.2": number("energy_returned_tariff2", "kWh"),
  "1-0:3.8.0": number("reactive_energy_delivered", "kvarh"),
  "1-0:4.8.0": number("reactive_energy_returned", "kvarh"),
  "0-0:96.14.0": number("tariff"),
  "1-0:1.7.0": number("power_delivered", "kW"),
  "1-0:2.7.0": number("power_returned", "kW"),
  "1-0:3.7.0": number("reactive_power_delivered", "kvar"),
  "1-0:4.7.0": number("reactive_power_returned", "kvar"),
  "1-0:1.4.0": number("power_average", "kW"),
  "1-0:1.6.0": number("power_peak_month", "kW"),
  "0-0:17.0.0": number("power_threshold", "kW"),
  "1-0:31.4.0": number("current_threshold", "A"),
  "0-0:96.3.10": number("breaker"),
  "0-0:96.7.21": number("power_failures"),
  "0-0:96.7.9": number("long_power_failures"),
  "0-0:96.13.0": hex("message"),
  "0-0:96.13.1": hex("message_code"),
  ...phase(1),
  ...phase(2),
  ...phase(3),
};

/** The objects of phase L1 are those of 21 to 40, of L2 those of 41 to 60, and so on. */
function phase(line: 1 | 2 | 3): Readonly<Record<string, Meaning>> {
  const first = 20 * line;
  return {
    [`1-0:${first + 12}.7.0`]: number(`voltage_l${line}`, "V"),
    [`1-0:${first + 11}.7.0`]: number(`current_l${line}`, "A"),
    [`1-0:${first + 1}.7.0`]: number(`power_delivered_l${line}`, "kW"),
    [`1-0:${first + 2}.7.0`]: number(`power_returned_l${line}`, "kW"),
    [`1-0:${first + 3}.7.0`]: number(`reactive_power_delivered_l${line}`, "kvar"),
    [`1-0:${first + 4}.7.0`]: number(`reactive_power_returned_l${line}`, "kvar"),
    [`1-0:${first + 12}.32.0`]: number(`voltage_sags_l${line}`),
    [`1-0:${first + 12}.36.0`]: number(`voltage_swells_l${line}`),
  };
}

/** What a meter behind the electricity meter measures, by its device type (EN 13757-3, table 3). */
export const METER_TYPES: Readonly<
  Record<number, { readonly name: string; readonly unit: string }>
> = {
  2: { name: "electricity", unit: "kWh" },
  3: { name: "gas", unit: "m3" },
  4: { name: "heat", unit: "GJ" },
  6: { name: "hot_water", unit: "m3" },
  7: { name: "water", unit: "m3" },
  10: { name: "cooling", unit: "GJ" },
  11: { name: "cooling", unit: "GJ" },
  12: { name: "heat", unit: "GJ" },
};

/** The unit as people write it. */
export function writtenUnit(unit: string): string {
  return unit === "m3" ? "m³" : unit;
}
